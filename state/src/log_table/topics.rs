//! The catalogue of the embedded log: topics with their ids, and where partitions start.
//!
//! An id is never used twice, so that a topic made anew does not see its predecessor's rows. Must
//! not know what a topic's configuration says.

use std::fmt;
use std::sync::Arc;

use super::LogTable;
use super::offsets::OFFSET;
use crate::database::{BatchPart, BatchSink, Direction, Family, Reader, ScanRange};
use crate::error::{Result, StateError};
use crate::layout::successor;
use crate::positions::codec::{Decoder, Encoder};

const VERSION: u8 = 1;
/// First byte of a topic's row, before its name.
const TOPIC: u8 = 1;
/// First byte of a partition's start offset, before topic id and partition.
const START: u8 = 2;
/// The row that holds the next topic id.
const NEXT_ID: [u8; 1] = [3];

/// A topic of the embedded log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its number in keys.
    pub id: u32,
    /// How many partitions it has.
    pub partitions: u32,
    /// Its configuration, JSON, opaque here.
    pub config: String,
}

impl Topic {
    /// One of its partitions.
    pub fn partition(&self, partition: u32) -> LogPartition {
        LogPartition { topic: Arc::clone(&self.name), topic_id: self.id, partition }
    }
}

/// A partition of the embedded log. Printed as `topic rates partition 3`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPartition {
    /// The topic's name, for people.
    pub topic: Arc<str>,
    /// The topic's number in keys.
    pub topic_id: u32,
    /// The partition's number.
    pub partition: u32,
}

impl fmt::Display for LogPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic {} partition {}", self.topic, self.partition)
    }
}

impl LogTable {
    /// All topics, by name.
    ///
    /// # Errors
    /// The reader's own; `Corruption`, `NewerFormat`.
    pub fn topics(&self, reader: &dyn Reader) -> Result<Vec<Topic>> {
        let mut cursor =
            reader.scan(&self.topics, ScanRange::prefix(&[TOPIC]), Direction::Forward)?;
        let mut topics = Vec::new();
        while let Some((key, row)) = cursor.next()? {
            topics.push(decode_topic(&String::from_utf8_lossy(&key[1..]), row)?);
        }
        Ok(topics)
    }

    /// The topic of this name.
    ///
    /// # Errors
    /// The reader's own; `Corruption`, `NewerFormat`.
    pub fn topic(&self, reader: &dyn Reader, name: &str) -> Result<Option<Topic>> {
        let row = reader.get(&self.topics, &topic_key(name))?;
        row.map(|row| decode_topic(name, &row)).transpose()
    }

    /// Makes a topic. One caller at a time.
    ///
    /// # Errors
    /// `Invalid` when there is one of this name; the database's own.
    pub fn create_topic(&self, name: &str, partitions: u32, config: &str) -> Result<Topic> {
        let reader: &dyn Reader = &*self.database;
        if self.topic(reader, name)?.is_some() {
            return Err(StateError::Invalid { what: format!("topic {name} exists") });
        }
        let id = match reader.get(&self.topics, &NEXT_ID)? {
            Some(row) => decode_next_id(&row)?,
            None => 1,
        };
        let topic = Topic { name: Arc::from(name), id, partitions, config: config.to_owned() };
        self.database.write(&[&TopicPart::Put { topics: &self.topics, topic: &topic }])?;
        Ok(topic)
    }

    /// Changes a topic's configuration or adds partitions.
    ///
    /// # Errors
    /// `Invalid` when it would lose partitions; the database's own.
    pub fn alter_topic(&self, topic: &Topic) -> Result<()> {
        let known = self.topic(&*self.database, &topic.name)?;
        let fits = |known: Topic| known.id == topic.id && known.partitions <= topic.partitions;
        if !known.is_some_and(fits) {
            return Err(StateError::Invalid {
                what: format!("topic {} cannot lose partitions or change its id", topic.name),
            });
        }
        self.database.write(&[&TopicPart::Alter { topics: &self.topics, topic }])
    }

    /// Removes a topic with all its records.
    ///
    /// # Errors
    /// The database's own.
    pub fn delete_topic(&self, topic: &Topic) -> Result<()> {
        self.database.write(&[&TopicPart::Delete { table: self, topic }])
    }
}

enum TopicPart<'t> {
    Put { topics: &'t Family, topic: &'t Topic },
    Alter { topics: &'t Family, topic: &'t Topic },
    Delete { table: &'t LogTable, topic: &'t Topic },
}

impl BatchPart for TopicPart<'_> {
    fn replay(&self, sink: &mut dyn BatchSink) {
        match self {
            Self::Put { topics, topic } => {
                sink.put(topics, &topic_key(&topic.name), &encode_topic(topic));
                let mut next_id = Encoder::new(VERSION);
                next_id.u32(topic.id + 1);
                sink.put(topics, &NEXT_ID, next_id.bytes());
            }
            Self::Alter { topics, topic } => {
                sink.put(topics, &topic_key(&topic.name), &encode_topic(topic));
            }
            Self::Delete { table, topic } => {
                let id = topic.id.to_be_bytes();
                let end = successor(&id).expect("topic ids do not run out");
                sink.delete_range(&table.log, &id, &end);
                sink.delete(&table.topics, &topic_key(&topic.name));
                for kind in [START, OFFSET] {
                    let rows = |id: &[u8]| [&[kind], id].concat();
                    sink.delete_range(&table.topics, &rows(&id), &rows(&end));
                }
            }
        }
    }
}

fn topic_key(name: &str) -> Vec<u8> {
    [&[TOPIC], name.as_bytes()].concat()
}

fn encode_topic(topic: &Topic) -> Vec<u8> {
    let mut encoder = Encoder::new(VERSION);
    encoder.u32(topic.id);
    encoder.u32(topic.partitions);
    encoder.string(&topic.config);
    encoder.bytes().to_vec()
}

fn decode_topic(name: &str, row: &[u8]) -> Result<Topic> {
    let place = || format!("catalogue row of topic {name}");
    let mut decoder = Decoder::new(row, VERSION, &place)?;
    let topic = Topic {
        name: Arc::from(name),
        id: decoder.u32()?,
        partitions: decoder.u32()?,
        config: decoder.string()?,
    };
    decoder.finish()?;
    Ok(topic)
}

fn decode_next_id(row: &[u8]) -> Result<u32> {
    let place = || "next topic id".to_owned();
    let mut decoder = Decoder::new(row, VERSION, &place)?;
    let id = decoder.u32()?;
    decoder.finish()?;
    Ok(id)
}

pub(super) fn start_key(partition: &LogPartition) -> Vec<u8> {
    [&[START][..], &super::partition_prefix(partition)].concat()
}

pub(super) fn start_row(partition: &LogPartition, start_offset: i64) -> (Vec<u8>, Vec<u8>) {
    let mut encoder = Encoder::new(VERSION);
    encoder.i64(start_offset);
    (start_key(partition), encoder.bytes().to_vec())
}

pub(super) fn decode_start(row: &[u8], partition: &LogPartition) -> Result<i64> {
    let place = || format!("start offset of {partition}");
    let mut decoder = Decoder::new(row, VERSION, &place)?;
    let start_offset = decoder.i64()?;
    decoder.finish()?;
    Ok(start_offset)
}
