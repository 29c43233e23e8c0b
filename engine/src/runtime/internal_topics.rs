//! What an internal topic that exists already must be like, by what it is for. Owns the rules and
//! their wording; knows no topology and asks nobody.
//!
//! Source: `InternalTopicManager.validate` of Kafka Streams.

use std::fmt;
use std::time::Duration;

use crate::log::{Cleanup, TopicSpec};

/// What an internal topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The rows of a store.
    Changelog,
    /// Records on their way between two subtopologies.
    Repartition,
    /// Records that could not be processed.
    DeadLetters,
}

impl Role {
    /// How the topic that exists differs from what is wanted, one sentence each: topic, setting,
    /// found, wanted, what to do.
    pub(super) fn differences(self, wanted: &TopicSpec, found: &TopicSpec) -> Vec<String> {
        let mut differences = Vec::new();
        let topic = format!("internal topic '{}'", wanted.name);
        if found.partitions != wanted.partitions {
            differences.push(format!(
                "{topic} has {} partitions, the topology needs {}: reset the application, or give \
                 the inputs their old partition count back",
                found.partitions, wanted.partitions
            ));
        }
        let (has, needs) = (Policy(found.cleanup), Policy(wanted.cleanup));
        if !self.takes(found.cleanup) {
            differences.push(format!(
                "{topic}: cleanup.policy is {has}, {needs} is needed, because {}: set \
                 cleanup.policy of the topic to {needs}; if it has run like this, reset the \
                 application",
                self.why()
            ));
        } else if let (Some(has), Some(needs)) = (self.kept(found.cleanup), self.needed(wanted))
            && has < needs
        {
            let needs = if needs == Duration::MAX {
                "-1".to_owned()
            } else {
                needs.as_millis().to_string()
            };
            differences.push(format!(
                "{topic}: retention.ms is {}, {needs} at least is needed, because {}: set \
                 retention.ms of the topic to {needs}",
                has.as_millis(),
                self.why()
            ));
        }
        differences
    }

    /// The cleanup loses nothing that is still needed, if it is not too early.
    fn takes(self, cleanup: Cleanup) -> bool {
        match self {
            Self::Changelog => true,
            Self::Repartition | Self::DeadLetters => matches!(cleanup, Cleanup::Delete { .. }),
        }
    }

    /// How long a record stays, if not for ever.
    fn kept(self, cleanup: Cleanup) -> Option<Duration> {
        match cleanup {
            Cleanup::Delete { retention } => retention,
            Cleanup::CompactAndDelete { retention } => Some(retention),
            Cleanup::Compact | Cleanup::CompactAfter { .. } => None,
        }
    }

    /// How long a record must stay, if that matters.
    fn needed(self, wanted: &TopicSpec) -> Option<Duration> {
        match self {
            Self::DeadLetters => None,
            _ => Some(self.kept(wanted.cleanup).unwrap_or(Duration::MAX)),
        }
    }

    fn why(self) -> &'static str {
        match self {
            Self::Changelog => "a store is restored from it",
            Self::Repartition => "records that are still to be read would be lost",
            Self::DeadLetters => "of the failed records of one key only the last would stay",
        }
    }
}

/// A cleanup as Kafka's setting says it.
struct Policy(Cleanup);

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Cleanup::Delete { .. } => "delete",
            Cleanup::Compact | Cleanup::CompactAfter { .. } => "compact",
            Cleanup::CompactAndDelete { .. } => "compact,delete",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const FOREVER: Cleanup = Cleanup::Delete { retention: None };

    fn topic(partitions: u32, cleanup: Cleanup) -> TopicSpec {
        TopicSpec { name: "app-x".into(), partitions, cleanup }
    }

    fn differences(role: Role, wanted: Cleanup, found: Cleanup) -> Vec<String> {
        role.differences(&topic(4, wanted), &topic(4, found))
    }

    #[test]
    fn a_topic_as_it_was_created_is_taken() {
        for (role, cleanup) in [
            (Role::Changelog, Cleanup::Compact),
            (Role::Changelog, Cleanup::CompactAndDelete { retention: HOUR }),
            (Role::Repartition, FOREVER),
            (Role::DeadLetters, FOREVER),
        ] {
            assert_eq!(differences(role, cleanup, cleanup), [""; 0], "{role:?}");
        }
    }

    #[test]
    fn a_changelog_that_forgets_rows_is_named_with_what_it_keeps_and_what_it_must() {
        let short = Cleanup::Delete { retention: Some(HOUR) };
        let told = differences(Role::Changelog, Cleanup::Compact, short);
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("retention.ms is 3600000, -1 at least is needed"), "{told:?}");
        let window = Cleanup::CompactAndDelete { retention: 2 * HOUR };
        let told =
            differences(Role::Changelog, window, Cleanup::CompactAndDelete { retention: HOUR });
        assert!(told[0].contains("retention.ms is 3600000, 7200000 at least"), "{told:?}");
        assert_eq!(differences(Role::Changelog, window, Cleanup::Compact), [""; 0]);
    }

    #[test]
    fn a_repartition_topic_is_neither_compacted_nor_short_lived() {
        let told = differences(Role::Repartition, FOREVER, Cleanup::Compact);
        assert!(told[0].contains("cleanup.policy is compact, delete is needed"), "{told:?}");
        let short = Cleanup::Delete { retention: Some(HOUR) };
        let told = differences(Role::Repartition, FOREVER, short);
        assert!(told[0].contains("retention.ms is 3600000, -1 at least"), "{told:?}");
    }

    #[test]
    fn dead_letters_may_be_kept_as_long_as_the_user_likes_but_not_by_key() {
        let short = Cleanup::Delete { retention: Some(HOUR) };
        assert_eq!(differences(Role::DeadLetters, FOREVER, short), [""; 0]);
        assert_eq!(differences(Role::DeadLetters, FOREVER, Cleanup::Compact).len(), 1);
    }

    #[test]
    fn another_number_of_partitions_is_told_beside_everything_else() {
        let (wanted, found) = (topic(4, FOREVER), topic(3, Cleanup::Compact));
        let told = Role::Repartition.differences(&wanted, &found);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("has 3 partitions, the topology needs 4"), "{told:?}");
    }
}
