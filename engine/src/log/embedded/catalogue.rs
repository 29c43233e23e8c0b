//! The topics of the log, in memory as on disk: names, shapes, and a topic's settings as they are
//! stored. Must not know records.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use headwater_state::database::Reader;
use headwater_state::log_table::{self, LogTable};
use serde::{Deserialize, Serialize};

use super::failure::from_state;
use super::partition::Partition;
use crate::error::ErrorClass;
use crate::log::{Cleanup, LogError, LogResult, TopicSpec};
use crate::record::TopicPartition;
use crate::time::saturating_ms;

/// Kafka's limit, so that a topology can move to Kafka with its names.
const NAME_BYTES_MAX: usize = 249;
/// Each partition costs memory and a seek at start.
const PARTITIONS_MAX: u32 = 10_000;

/// A topic with its partitions.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) spec: TopicSpec,
    pub(super) partitions: Vec<Arc<Partition>>,
}

/// All topics, by name. Topics come; none goes.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    topics: RwLock<BTreeMap<Arc<str>, Arc<Topic>>>,
}

impl Catalogue {
    /// Reads the topics of a database and finds where their partitions start and end.
    pub(super) fn load(table: &LogTable) -> LogResult<Self> {
        let reader: &dyn Reader = &**table.database();
        let catalogue = Self::default();
        for stored in table.topics(reader).map_err(|e| from_state("read topics", &e))? {
            let spec = TopicSpec {
                name: Arc::clone(&stored.name),
                partitions: stored.partitions,
                cleanup: decode_cleanup(&stored)?,
            };
            catalogue.add(table, &stored, spec)?;
        }
        Ok(catalogue)
    }

    /// Makes a topic unless there is one of its name.
    pub(super) fn create(&self, table: &LogTable, spec: TopicSpec) -> LogResult<()> {
        check_spec(&spec)?;
        if self.topic(&spec.name).is_some() {
            return Ok(());
        }
        let config = encode_cleanup(spec.cleanup);
        let stored = table
            .create_topic(&spec.name, spec.partitions, &config)
            .map_err(|e| from_state("create topic", &e))?;
        self.add(table, &stored, spec)
    }

    fn add(&self, table: &LogTable, stored: &log_table::Topic, spec: TopicSpec) -> LogResult<()> {
        let reader: &dyn Reader = &**table.database();
        let keyed = !matches!(spec.cleanup, Cleanup::Delete { .. });
        let partitions = (0..stored.partitions)
            .map(|partition| {
                let rows = stored.partition(partition);
                let name = TopicPartition::new(Arc::clone(&stored.name), partition);
                let failed = |e| from_state("find the end of a partition", &e).on(&name);
                let start = table.start_offset(reader, &rows).map_err(failed)?;
                let end = table.end_offset(reader, &rows).map_err(failed)?;
                Ok(Arc::new(Partition::new(rows, keyed, start, end)))
            })
            .collect::<LogResult<_>>()?;
        let name = Arc::clone(&spec.name);
        let topic = Arc::new(Topic { spec, partitions });
        self.topics.write().unwrap_or_else(PoisonError::into_inner).insert(name, topic);
        Ok(())
    }

    /// The topic of this name.
    pub(super) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All topics, by name.
    pub(super) fn all(&self) -> Vec<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// One partition.
    ///
    /// # Errors
    /// `Fatal`, in words, for a topic or partition that is not there.
    pub(super) fn partition(
        &self,
        name: &TopicPartition,
        operation: &'static str,
    ) -> LogResult<Arc<Partition>> {
        let refused =
            |message: String| Err(LogError::new(ErrorClass::Fatal, operation, message).on(name));
        let Some(topic) = self.topic(&name.topic) else {
            return refused(format!("unknown topic {}; create it first", name.topic));
        };
        let index = usize::try_from(name.partition).unwrap_or(usize::MAX);
        match topic.partitions.get(index) {
            Some(partition) => Ok(Arc::clone(partition)),
            None => refused(format!(
                "unknown partition {}; topic {} has {} partitions",
                name.partition, name.topic, topic.spec.partitions
            )),
        }
    }
}

fn check_spec(spec: &TopicSpec) -> LogResult<()> {
    let refused = |message: String| Err(LogError::new(ErrorClass::User, "create topic", message));
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name = &*spec.name;
    if name.is_empty() || matches!(name, "." | "..") || name.len() > NAME_BYTES_MAX {
        return refused(format!("topic name {name:?} must have 1 to {NAME_BYTES_MAX} characters"));
    }
    if !name.chars().all(legal) {
        return refused(format!(
            "topic name {name:?} may have letters, digits, dots, underscores and hyphens only"
        ));
    }
    if !(1..=PARTITIONS_MAX).contains(&spec.partitions) {
        return refused(format!(
            "topic {name} cannot have {} partitions; 1 to {PARTITIONS_MAX} are possible",
            spec.partitions
        ));
    }
    Ok(())
}

/// A topic's settings as they lie on disk.
#[derive(Serialize, Deserialize)]
struct StoredSettings {
    cleanup: StoredCleanup,
    /// Milliseconds; absent keeps records for ever.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    retention_ms: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredCleanup {
    Delete,
    Compact,
    CompactAfter,
    CompactAndDelete,
}

fn encode_cleanup(cleanup: Cleanup) -> String {
    let settings = match cleanup {
        Cleanup::Delete { retention } => StoredSettings {
            cleanup: StoredCleanup::Delete,
            retention_ms: retention.map(saturating_ms),
        },
        Cleanup::Compact => StoredSettings { cleanup: StoredCleanup::Compact, retention_ms: None },
        Cleanup::CompactAfter { lag } => StoredSettings {
            cleanup: StoredCleanup::CompactAfter,
            retention_ms: Some(saturating_ms(lag)),
        },
        Cleanup::CompactAndDelete { retention } => StoredSettings {
            cleanup: StoredCleanup::CompactAndDelete,
            retention_ms: Some(saturating_ms(retention)),
        },
    };
    serde_json::to_string(&settings).expect("two plain fields have a JSON form")
}

fn decode_cleanup(topic: &log_table::Topic) -> LogResult<Cleanup> {
    let damaged = |what: String| {
        let message = format!("settings of topic {} cannot be read: {what}", topic.name);
        LogError::new(ErrorClass::Fatal, "read topics", message)
    };
    let settings: StoredSettings =
        serde_json::from_str(&topic.config).map_err(|e| damaged(e.to_string()))?;
    let retention = match settings.retention_ms.map(u64::try_from) {
        None => None,
        Some(Ok(ms)) => Some(Duration::from_millis(ms)),
        Some(Err(_)) => return Err(damaged("the retention is negative".to_owned())),
    };
    match (settings.cleanup, retention) {
        (StoredCleanup::Delete, retention) => Ok(Cleanup::Delete { retention }),
        (StoredCleanup::Compact, _) => Ok(Cleanup::Compact),
        (StoredCleanup::CompactAndDelete, Some(retention)) => {
            Ok(Cleanup::CompactAndDelete { retention })
        }
        (StoredCleanup::CompactAfter, Some(lag)) => Ok(Cleanup::CompactAfter { lag }),
        (StoredCleanup::CompactAfter | StoredCleanup::CompactAndDelete, None) => {
            Err(damaged("it has no retention".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cleanup_policy_comes_back_from_its_stored_form() {
        let retention = Duration::from_secs(60);
        for cleanup in [
            Cleanup::Delete { retention: None },
            Cleanup::Delete { retention: Some(retention) },
            Cleanup::Compact,
            Cleanup::CompactAfter { lag: retention },
            Cleanup::CompactAndDelete { retention },
        ] {
            let config = encode_cleanup(cleanup);
            let topic = log_table::Topic { name: Arc::from("t"), id: 1, partitions: 1, config };
            assert_eq!(decode_cleanup(&topic).expect("just encoded"), cleanup);
        }
    }

    #[test]
    fn names_and_partition_counts_that_kafka_refuses_are_refused() {
        let spec = |name: &str, partitions| TopicSpec {
            name: Arc::from(name),
            partitions,
            cleanup: Cleanup::Compact,
        };
        assert!(check_spec(&spec("orders.v1_a-b", 4)).is_ok());
        for (name, partitions) in
            [("", 1), ("..", 1), ("a b", 1), ("a/b", 1), ("a", 0), ("a", PARTITIONS_MAX + 1)]
        {
            let error = check_spec(&spec(name, partitions)).expect_err("not a legal topic");
            assert_eq!(error.class, ErrorClass::User);
        }
        assert!(check_spec(&spec(&"n".repeat(NAME_BYTES_MAX + 1), 1)).is_err());
    }
}
