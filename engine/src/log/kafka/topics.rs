//! Topics in Kafka's words: a [`TopicSpec`] as the settings of a new topic, and back. The settings
//! are those that Kafka Streams gives its internal topics (`InternalTopicConfig` and its
//! subclasses). Calls nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::log::{Cleanup, TopicSpec};

/// Segment size of topics that are purged after use, so that purging frees space soon (50 MiB, as
/// `RepartitionTopicConfig`).
const PURGED_SEGMENT_BYTES: &str = "52428800";

/// The settings of a topic that is created for this specification.
pub(super) fn settings(spec: &TopicSpec) -> Vec<(&'static str, String)> {
    // The engine's records carry their own time; a broker must not put its own in its place.
    let mut settings = vec![("message.timestamp.type", "CreateTime".to_owned())];
    match spec.cleanup {
        Cleanup::Delete { retention: Some(retention) } => {
            settings.push(("cleanup.policy", "delete".to_owned()));
            settings.push(("retention.ms", retention.as_millis().to_string()));
        }
        Cleanup::Delete { retention: None } => {
            settings.push(("cleanup.policy", "delete".to_owned()));
            settings.push(("retention.ms", "-1".to_owned()));
            settings.push(("segment.bytes", PURGED_SEGMENT_BYTES.to_owned()));
        }
        Cleanup::Compact => settings.push(("cleanup.policy", "compact".to_owned())),
        Cleanup::CompactAfter { lag } => {
            settings.push(("cleanup.policy", "compact".to_owned()));
            settings.push(("min.compaction.lag.ms", lag.as_millis().to_string()));
        }
        Cleanup::CompactAndDelete { retention } => {
            settings.push(("cleanup.policy", "compact,delete".to_owned()));
            settings.push(("retention.ms", retention.as_millis().to_string()));
        }
    }
    settings
}

/// What a topic's settings mean. Without a policy it is Kafka's default, `delete`; a retention that
/// is negative or missing is for ever.
pub(super) fn cleanup(settings: &BTreeMap<String, String>) -> Cleanup {
    let policy = settings.get("cleanup.policy").map_or("delete", String::as_str);
    let time = |name: &str| {
        let text = settings.get(name).and_then(|text| text.parse::<u64>().ok());
        text.map(Duration::from_millis)
    };
    let retention = time("retention.ms");
    let lag = time("min.compaction.lag.ms").filter(|lag| !lag.is_zero());
    let has = |word: &str| policy.split(',').any(|part| part.trim() == word);
    match (has("compact"), has("delete"), retention) {
        (true, true, Some(retention)) => Cleanup::CompactAndDelete { retention },
        (true, _, _) => lag.map_or(Cleanup::Compact, |lag| Cleanup::CompactAfter { lag }),
        (false, _, retention) => Cleanup::Delete { retention },
    }
}

/// What would harm the engine's records in a topic of its own, one sentence each.
pub(super) fn harmful(topic: &str, settings: &BTreeMap<String, String>) -> Vec<String> {
    let is = |name: &str| settings.get(name).map(String::as_str);
    let mut wrong = Vec::new();
    if let Some(found) = is("message.timestamp.type").filter(|found| *found != "CreateTime") {
        wrong.push(format!(
            "internal topic '{topic}': message.timestamp.type is {found}, CreateTime is needed, \
             because records carry the time that windows are cut by; set it to CreateTime"
        ));
    }
    if let Some(found) = is("retention.bytes").filter(|found| *found != "-1") {
        let deletes = is("cleanup.policy").is_none_or(|policy| policy.contains("delete"));
        if deletes {
            wrong.push(format!(
                "internal topic '{topic}': retention.bytes is {found}, -1 is needed, because \
                 records that are still to be read would be deleted by size; set it to -1"
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn spec(cleanup: Cleanup) -> TopicSpec {
        TopicSpec { name: "t".into(), partitions: 1, cleanup }
    }

    #[test]
    fn what_is_created_is_what_is_described() {
        let all = [
            Cleanup::Delete { retention: None },
            Cleanup::Delete { retention: Some(DAY) },
            Cleanup::Compact,
            Cleanup::CompactAndDelete { retention: DAY },
        ];
        for expected in all {
            let settings = settings(&spec(expected))
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            assert_eq!(cleanup(&settings), expected);
        }
    }

    #[test]
    fn a_topic_that_is_purged_after_use_has_small_segments_and_no_retention() {
        let settings = settings(&spec(Cleanup::Delete { retention: None }));
        assert!(settings.contains(&("segment.bytes", "52428800".to_owned())));
        assert!(settings.contains(&("retention.ms", "-1".to_owned())));
    }

    #[test]
    fn a_topic_that_changes_or_loses_records_is_named_with_setting_found_and_wanted() {
        let settings = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
        };
        let wrong = harmful(
            "app-x-changelog",
            &settings(&[
                ("message.timestamp.type", "LogAppendTime"),
                ("retention.bytes", "1000"),
                ("cleanup.policy", "compact,delete"),
            ]),
        );
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].contains("'app-x-changelog': message.timestamp.type is LogAppendTime"));
        let compacted = [("retention.bytes", "1000"), ("cleanup.policy", "compact")];
        assert_eq!(harmful("t", &settings(&compacted)), [""; 0]);
        assert_eq!(harmful("t", &settings(&[("retention.bytes", "-1")])), [""; 0]);
    }

    #[test]
    fn compaction_without_a_limit_in_time_is_compaction() {
        let settings = BTreeMap::from([
            ("cleanup.policy".to_owned(), "compact, delete".to_owned()),
            ("retention.ms".to_owned(), "-1".to_owned()),
        ]);
        assert_eq!(cleanup(&settings), Cleanup::Compact);
    }
}
