//! How far a store and a task have come: what a commit holds besides rows.
//!
//! A store-partition's [`StorePositions`] live in the store's own family under the reserved first
//! byte, so that no flush order of the engine can part them from the rows they describe. A task's
//! [`TaskPositions`] live in a family of their own, `<application>/@tasks`, one row a task. Both
//! carry a version byte. Must not know what an operator or a topic is: names are keys here.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::database::{BatchPart, BatchSink, Family, Reader, ScanRange};
use crate::error::{Result, StateError};
use crate::layout::RESERVED;

pub(crate) mod codec;

use codec::{Decoder, Encoder};

/// Second byte of a positions row, after [`RESERVED`].
const POSITIONS: u8 = b'p';
const STORE_VERSION: u8 = 1;
const TASK_VERSION: u8 = 1;

/// The name of the family that holds an application's task rows.
pub fn tasks_family(application: &str) -> String {
    format!("{application}/@tasks")
}

/// How far a store-partition has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StorePositions {
    /// The changelog offset after the last record the rows contain; `None` without a changelog.
    pub changelog: Option<i64>,
    /// The greatest window start put, in milliseconds; `None` before the first and for stores
    /// without time.
    pub observed_ms: Option<i64>,
}

impl StorePositions {
    fn key(partition: u32) -> [u8; 6] {
        let [a, b, c, d] = partition.to_be_bytes();
        [RESERVED, POSITIONS, a, b, c, d]
    }

    /// Reads a store-partition's positions; the default when it was never committed.
    ///
    /// # Errors
    /// `NewerFormat`, `Corruption`, or the reader's own.
    pub fn read(reader: &dyn Reader, family: &Family, partition: u32) -> Result<Self> {
        let Some(row) = reader.get(family, &Self::key(partition))? else {
            return Ok(Self::default());
        };
        let place = || format!("positions of {} partition {partition}", family.name());
        let mut decoder = Decoder::new(&row, STORE_VERSION, &place)?;
        let positions =
            Self { changelog: decoder.optional_i64()?, observed_ms: decoder.optional_i64()? };
        decoder.finish()?;
        Ok(positions)
    }

    /// Puts the row into a batch.
    pub fn put(&self, family: &Family, partition: u32, sink: &mut dyn BatchSink) {
        let mut encoder = Encoder::new(STORE_VERSION);
        encoder.optional_i64(self.changelog);
        encoder.optional_i64(self.observed_ms);
        sink.put(family, &Self::key(partition), encoder.bytes());
    }

    /// Refuses a successor that would go back.
    ///
    /// # Errors
    /// `PositionWentBack`: the writer has lost track, and its batch must not be written.
    pub fn check_successor(&self, next: &Self, store: &str, partition: u32) -> Result<()> {
        let place = |what: &str| format!("{what} of store {store} partition {partition}");
        check_grows(|| place("changelog"), self.changelog, next.changelog)?;
        check_grows(|| place("observed stream time"), self.observed_ms, next.observed_ms)
    }
}

fn check_grows(place: impl Fn() -> String, from: Option<i64>, to: Option<i64>) -> Result<()> {
    match (from, to) {
        (Some(from), to) if to.is_none_or(|to| to < from) => {
            Err(StateError::PositionWentBack { place: place(), from, to: to.unwrap_or(i64::MIN) })
        }
        _ => Ok(()),
    }
}

/// Where a task stands in one input partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputPosition {
    /// The offset of the first record not processed.
    pub next_offset: i64,
    /// The greatest record time seen in the partition, in milliseconds; `None` before the first.
    pub time_ms: Option<i64>,
}

/// Everything of a task's commit that is no store's row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskPositions {
    /// By topic and partition.
    pub inputs: BTreeMap<(String, u32), InputPosition>,
    /// Each time-bound operator's clock in milliseconds, by operator name.
    pub clocks: BTreeMap<String, i64>,
    /// The next run of each stream-time punctuation in milliseconds, by name.
    pub schedules: BTreeMap<String, i64>,
    /// How far each emit-final operator has emitted, in milliseconds, by operator name.
    pub emitted: BTreeMap<String, i64>,
    /// The transaction that this commit was part of, where the log has transactions.
    pub transaction: Option<String>,
}

impl TaskPositions {
    fn key(task: &str) -> Vec<u8> {
        let mut key = vec![crate::layout::DATA];
        key.extend_from_slice(task.as_bytes());
        key
    }

    /// Reads a task's row; `None` when it never committed.
    ///
    /// # Errors
    /// `NewerFormat`, `Corruption`, or the reader's own.
    pub fn read(reader: &dyn Reader, family: &Family, task: &str) -> Result<Option<Self>> {
        match reader.get(family, &Self::key(task))? {
            Some(row) => Self::decode(&row, family, task).map(Some),
            None => Ok(None),
        }
    }

    /// Every task that committed, with its positions, by task name.
    ///
    /// # Errors
    /// As [`TaskPositions::read`].
    pub fn read_all(reader: &dyn Reader, family: &Family) -> Result<BTreeMap<String, Self>> {
        let range = ScanRange::prefix(&[crate::layout::DATA]);
        let mut cursor = reader.scan(family, range, crate::database::Direction::Forward)?;
        let mut tasks = BTreeMap::new();
        while let Some((key, row)) = cursor.next()? {
            let task = String::from_utf8_lossy(&key[1..]).into_owned();
            let positions = Self::decode(row, family, &task)?;
            tasks.insert(task, positions);
        }
        Ok(tasks)
    }

    fn decode(row: &[u8], family: &Family, task: &str) -> Result<Self> {
        let place = || format!("positions of task {task} in {}", family.name());
        let mut decoder = Decoder::new(row, TASK_VERSION, &place)?;
        let mut inputs = BTreeMap::new();
        for _ in 0..decoder.u32()? {
            let topic = decoder.string()?;
            let partition = decoder.u32()?;
            let position =
                InputPosition { next_offset: decoder.i64()?, time_ms: decoder.optional_i64()? };
            inputs.insert((topic, partition), position);
        }
        let positions = Self {
            inputs,
            clocks: decoder.times()?,
            schedules: decoder.times()?,
            emitted: decoder.times()?,
            transaction: decoder.optional_string()?,
        };
        decoder.finish()?;
        Ok(positions)
    }

    /// Puts the task's row into a batch.
    pub fn put(&self, family: &Family, task: &str, sink: &mut dyn BatchSink) {
        let mut encoder = Encoder::new(TASK_VERSION);
        encoder.len(self.inputs.len());
        for ((topic, partition), position) in &self.inputs {
            encoder.string(topic);
            encoder.u32(*partition);
            encoder.i64(position.next_offset);
            encoder.optional_i64(position.time_ms);
        }
        encoder.times(&self.clocks);
        encoder.times(&self.schedules);
        encoder.times(&self.emitted);
        encoder.optional_string(self.transaction.as_deref());
        sink.put(family, &Self::key(task), encoder.bytes());
    }

    /// Refuses a successor in which an input, a clock or emit-final progress would go back. Inputs
    /// may come and go with the topology.
    ///
    /// # Errors
    /// `PositionWentBack`.
    pub fn check_successor(&self, next: &Self, task: &str) -> Result<()> {
        for ((topic, partition), position) in &self.inputs {
            if let Some(successor) = next.inputs.get(&(topic.clone(), *partition)) {
                let place = || format!("task {task} in {topic} partition {partition}");
                check_grows(place, Some(position.next_offset), Some(successor.next_offset))?;
                let place = || format!("time of task {task} in {topic} partition {partition}");
                check_grows(place, position.time_ms, successor.time_ms)?;
            }
        }
        for (was, is) in [(&self.clocks, &next.clocks), (&self.emitted, &next.emitted)] {
            for (name, from) in was {
                if let Some(to) = is.get(name) {
                    let place = || format!("clock of {name} in task {task}");
                    check_grows(place, Some(*from), Some(*to))?;
                }
            }
        }
        Ok(())
    }
}

/// Removes a task's row, for a reset.
#[derive(Debug, Clone)]
pub struct ForgetTask {
    /// The application's task family.
    pub family: Family,
    /// The task.
    pub task: String,
}

impl BatchPart for ForgetTask {
    fn replay(&self, sink: &mut dyn BatchSink) {
        sink.delete(&self.family, &TaskPositions::key(&self.task));
    }
}

/// A family's description of itself: its format, and what its layout depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyFormat {
    /// Length of the segments of a window store's keys; `None` for other stores. It stays what it
    /// was when the family was made, because it is in every key.
    pub segment_interval_ms: Option<i64>,
}

impl FamilyFormat {
    const VERSION: u8 = 1;
    const KEY: [u8; 2] = [RESERVED, b'f'];

    /// Reads a family's format; `None` when it has none yet.
    ///
    /// # Errors
    /// `NewerFormat`, `Corruption`, or the reader's own.
    pub fn read(reader: &dyn Reader, family: &Family) -> Result<Option<Self>> {
        let Some(row) = reader.get(family, &Self::KEY)? else { return Ok(None) };
        let row: Bytes = row;
        let place = || format!("format of family {}", family.name());
        let mut decoder = Decoder::new(&row, Self::VERSION, &place)?;
        let format = Self { segment_interval_ms: decoder.optional_i64()? };
        decoder.finish()?;
        Ok(Some(format))
    }

    /// Puts the row into a batch.
    pub fn put(&self, family: &Family, sink: &mut dyn BatchSink) {
        let mut encoder = Encoder::new(Self::VERSION);
        encoder.optional_i64(self.segment_interval_ms);
        sink.put(family, &Self::KEY, encoder.bytes());
    }
}
