//! The Avro schema of each event type, as the files in `avro/` say it.
//!
//! Owns the parsed schemas and their versions. It must not know the types that carry the payloads
//! in Rust (see [`crate::events`], whose tests hold both against each other) nor any registry.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use apache_avro::Schema;

/// One version of one event type's schema.
#[derive(Debug)]
pub struct SchemaVersion {
    /// The event type, `OrderCreated`.
    pub event_type: &'static str,
    /// From 1, as in the payload's `schemaVersion` where it has one.
    pub version: u32,
    /// The `.avsc` file's text, which is what a registry gets.
    pub text: &'static str,
    /// The same, parsed.
    pub schema: Schema,
}

/// The registry subject of an event type: topics carry several types, so a subject is a type's.
pub fn subject(event_type: &str) -> String {
    format!("{event_type}-value")
}

/// The newest schema of an event type, by its canonical name; `None` when there is none.
pub fn schema_of(event_type: &str) -> Option<&'static Schema> {
    newest(event_type).map(|entry| &entry.schema)
}

/// The newest version of an event type's schema.
pub fn newest(event_type: &str) -> Option<&'static SchemaVersion> {
    versions(event_type).last()
}

/// Every version of an event type's schema, oldest first; empty for an unknown type.
pub fn versions(event_type: &str) -> &'static [SchemaVersion] {
    CATALOGUE.get(event_type).map_or(&[], Vec::as_slice)
}

/// Every event type that has a schema, by name.
pub fn event_types() -> impl Iterator<Item = &'static str> {
    CATALOGUE.keys().copied()
}

/// Every schema of every version.
pub fn schemas() -> impl Iterator<Item = &'static Schema> {
    CATALOGUE.values().flatten().map(|entry| &entry.schema)
}

static CATALOGUE: LazyLock<BTreeMap<&'static str, Vec<SchemaVersion>>> = LazyLock::new(|| {
    let mut catalogue = BTreeMap::<_, Vec<_>>::new();
    for (event_type, version, text) in FILES {
        let schema = Schema::parse_str(text).expect("a test parses every file");
        let versions = catalogue.entry(event_type).or_default();
        versions.push(SchemaVersion { event_type, version, text, schema });
    }
    catalogue
});

macro_rules! files {
    ($($event_type:literal $version:literal $file:literal,)*) => {
        [$(($event_type, $version, include_str!(concat!("../avro/", $file, ".avsc")))),*]
    };
}

/// Event type, version, file; the versions of a type in ascending order.
const FILES: [(&str, u32, &str); 36] = files![
    "AgentPerformanceMetric" 1 "AgentPerformanceMetric",
    "OrderCancelled" 1 "OrderCancelled",
    "OrderConfirmed" 1 "OrderConfirmed",
    "OrderCreated" 1 "OrderCreated.v1",
    "OrderCreated" 2 "OrderCreated",
    "OrderDelivered" 1 "OrderDelivered",
    "OrderShipped" 1 "OrderShipped",
    "QualityGateResult" 1 "QualityGateResult",
    "ReviewRequested" 1 "ReviewRequested",
    "SessionCompleted" 1 "SessionCompleted",
    "SessionStarted" 1 "SessionStarted",
    "TaskAnalyzed" 1 "TaskAnalyzed",
    "TaskAssigned" 1 "TaskAssigned",
    "TaskAssignedToAgent" 1 "TaskAssignedToAgent",
    "TaskCompleted" 1 "TaskCompleted",
    "TaskErrorOccurred" 1 "TaskErrorOccurred",
    "TaskEvent" 1 "TaskEvent.v1",
    "TaskEvent" 2 "TaskEvent.v2",
    "TaskReviewed" 1 "TaskReviewed",
    "TaskStatusUpdated" 1 "TaskStatusUpdated",
    "WorkItemCancelled" 1 "WorkItemCancelled",
    "WorkItemCompleted" 1 "WorkItemCompleted",
    "WorkItemCreated" 1 "WorkItemCreated",
    "WorkItemFailed" 1 "WorkItemFailed",
    "WorkflowStateChanged" 1 "WorkflowStateChanged",
    "compensation.failed" 1 "compensation.failed",
    "inventory.released" 1 "inventory.released",
    "inventory.reservation-failed" 1 "inventory.reservation-failed",
    "inventory.reserved" 1 "inventory.reserved",
    "order.created" 1 "order.created",
    "payment.charged" 1 "payment.charged",
    "payment.failed" 1 "payment.failed",
    "payment.refunded" 1 "payment.refunded",
    "shipment.cancelled" 1 "shipment.cancelled",
    "shipment.created" 1 "shipment.created",
    "shipment.failed" 1 "shipment.failed",
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_schema_file_is_parsed_and_belongs_to_the_platforms_namespace() {
        for schema in schemas() {
            let Schema::Record(record) = schema else { panic!("a record") };
            assert_eq!(record.name.namespace(), Some("com.company.events"));
            assert!(record.doc.is_some(), "{} says what happened", record.name);
        }
    }

    #[test]
    fn the_catalogue_names_every_file_of_the_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("avro");
        let on_disk = std::fs::read_dir(folder).expect("the folder").count();
        assert_eq!(on_disk, FILES.len());
        assert_eq!(schemas().count(), FILES.len());
    }

    #[test]
    fn versions_count_up_from_one() {
        for event_type in event_types() {
            let found: Vec<u32> = versions(event_type).iter().map(|entry| entry.version).collect();
            let expected: Vec<u32> = (1..).take(found.len()).collect();
            assert_eq!(found, expected, "of {event_type}");
        }
        assert_eq!(newest("OrderCreated").map(|entry| entry.version), Some(2));
        assert!(versions("NoSuchEvent").is_empty());
        assert_eq!(subject("TaskEvent"), "TaskEvent-value");
    }
}
