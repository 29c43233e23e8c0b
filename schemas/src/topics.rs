//! The topic catalogue: names, partitions, replication, retention.
//!
//! Owns what a topic is created with. It must not create one, and must not know who reads it.

use std::borrow::Cow;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Agent messages and metrics; key: session.
pub const MONITORING_EVENTS: Topic = Topic {
    name: Cow::Borrowed("monitoring.events"),
    partitions: 12,
    replication_factor: 2,
    cleanup: Cleanup::Delete,
    retention: Some(DAY.saturating_mul(3)),
};

/// Five-minute rollups; key: `<rolled-up key>@<window start in ms>`.
pub const ANALYTICS_AGGREGATED: Topic = Topic {
    name: Cow::Borrowed("analytics.aggregated"),
    partitions: 6,
    replication_factor: 2,
    cleanup: Cleanup::CompactAndDelete,
    retention: Some(DAY.saturating_mul(30)),
};

/// Every topic above, by name.
pub const CATALOGUE: [&Topic; 2] = [&ANALYTICS_AGGREGATED, &MONITORING_EVENTS];

/// What a topic is created with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Lower-case, dot-hierarchical.
    pub name: Cow<'static, str>,
    /// Number of partitions.
    pub partitions: u32,
    /// Replicas of each partition outside development, where it is 1.
    pub replication_factor: u16,
    /// What happens to old records.
    pub cleanup: Cleanup,
    /// How long records stay; `None`: for ever.
    pub retention: Option<Duration>,
}

/// What happens to old records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// Deleted when older than the retention.
    Delete,
    /// The newest record of each key stays.
    Compact,
    /// Both.
    CompactAndDelete,
}

impl Topic {
    /// Where records of this topic go that cannot be processed: `<name>.dlq`, kept 30 days.
    pub fn dead_letters(&self) -> Self {
        self.companion("dlq", 30)
    }

    /// Where records of this topic wait for another try: `<name>.retry`, kept 7 days.
    pub fn retries(&self) -> Self {
        self.companion("retry", 7)
    }

    fn companion(&self, suffix: &str, days: u32) -> Self {
        Self {
            name: Cow::Owned(format!("{}.{suffix}", self.name)),
            partitions: self.partitions,
            replication_factor: self.replication_factor,
            cleanup: Cleanup::Delete,
            retention: Some(DAY.saturating_mul(days)),
        }
    }

    /// The topic's settings under Kafka's names.
    pub fn settings(&self) -> [(&'static str, String); 2] {
        let cleanup = match self.cleanup {
            Cleanup::Delete => "delete",
            Cleanup::Compact => "compact",
            Cleanup::CompactAndDelete => "compact,delete",
        };
        let retention = match self.retention {
            Some(retention) => retention.as_millis().to_string(),
            None => "-1".to_owned(),
        };
        [("cleanup.policy", cleanup.to_owned()), ("retention.ms", retention)]
    }
}

/// The entry of a topic, if the catalogue has one.
pub fn find(name: &str) -> Option<&'static Topic> {
    CATALOGUE.into_iter().find(|topic| topic.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_topic_has_its_parents_partitions_and_thirty_days() {
        let topic = MONITORING_EVENTS.dead_letters();
        assert_eq!(topic.name, "monitoring.events.dlq");
        assert_eq!(topic.partitions, 12);
        assert_eq!(
            topic.settings(),
            [("cleanup.policy", "delete".to_owned()), ("retention.ms", "2592000000".to_owned())]
        );
        assert_eq!(MONITORING_EVENTS.retries().name, "monitoring.events.retry");
    }

    #[test]
    fn rollups_are_compacted_and_kept_thirty_days() {
        let topic = find("analytics.aggregated").expect("in the catalogue");
        assert_eq!(
            topic.settings(),
            [
                ("cleanup.policy", "compact,delete".to_owned()),
                ("retention.ms", "2592000000".to_owned())
            ]
        );
        assert_eq!(find("no.such.topic"), None);
    }

    #[test]
    fn the_catalogue_is_sorted_by_name_and_names_each_topic_once() {
        assert!(CATALOGUE.is_sorted_by(|left, right| left.name < right.name));
    }
}
