//! The topic catalogue: names, partitions, replication, retention.
//!
//! Owns what a topic is created with. It must not create one, and must not know who reads it.

use std::borrow::Cow;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const HOUR: Duration = Duration::from_secs(60 * 60);

const fn topic(
    name: &'static str,
    partitions: u32,
    cleanup: Cleanup,
    retention: Option<Duration>,
) -> Topic {
    Topic { name: Cow::Borrowed(name), partitions, replication_factor: 2, cleanup, retention }
}

const fn days(days: u32) -> Option<Duration> {
    Some(DAY.saturating_mul(days))
}

/// What agents answer; key: session.
pub static AGENT_RESPONSES: Topic = topic("agent.responses", 3, Cleanup::Delete, days(7));

/// What the manager agent is asked to do; key: session.
pub static AGENT_TASKS_MANAGER: Topic = topic("agent.tasks.manager", 3, Cleanup::Delete, days(7));

/// What the worker agents are asked to do; key: session.
pub static AGENT_TASKS_WORKER: Topic = topic("agent.tasks.worker", 3, Cleanup::Delete, days(7));

/// Five-minute rollups; key: `<rolled-up key>@<window start in ms>`.
pub static ANALYTICS_AGGREGATED: Topic =
    topic("analytics.aggregated", 6, Cleanup::CompactAndDelete, days(30));

/// What the gateway asks; key: correlation id.
pub static API_REQUESTS: Topic = topic("api.requests", 6, Cleanup::Delete, Some(HOUR));

/// What the gateway is answered; key: correlation id.
pub static API_RESPONSES: Topic = topic("api.responses", 6, Cleanup::Delete, Some(HOUR));

/// Customers by id, the newest row of each; key: customer.
pub static CUSTOMERS: Topic = topic("customers", 3, Cleanup::Compact, None);

/// Events of types without a route.
pub static DEFAULT_EVENTS: Topic = topic("default.events", 3, Cleanup::Delete, days(7));

/// Commands for the manager of dead letters; key: the topic that the letters were read from.
pub static DLQ_COMMANDS: Topic = topic("dlq.commands", 3, Cleanup::Delete, days(7));

/// What services answer the order saga; key: order.
pub static FULFILLMENT_REPLIES: Topic = topic("fulfillment.replies", 6, Cleanup::Delete, days(7));

/// Rules of the event gateway; key: rule.
pub static GATEWAY_RULES: Topic = topic("gateway.rules", 1, Cleanup::Compact, None);

/// What the order saga asks of the inventory; key: order.
pub static INVENTORY_COMMANDS: Topic = topic("inventory.commands", 6, Cleanup::Delete, days(7));

/// Features of finished work items; key: session.
pub static ML_FEATURES: Topic = topic("ml.features", 3, Cleanup::Delete, days(7));

/// Agent messages and metrics; key: session.
pub static MONITORING_EVENTS: Topic = topic("monitoring.events", 12, Cleanup::Delete, days(3));

/// Commands for orders; key: order.
pub static ORDER_COMMANDS: Topic = topic("order.commands", 6, Cleanup::Delete, days(7));

/// What happens to orders; key: order.
pub static ORDERS: Topic = topic("orders", 6, Cleanup::Delete, days(7));

/// What the order saga asks of payment; key: order.
pub static PAYMENT_COMMANDS: Topic = topic("payment.commands", 6, Cleanup::Delete, days(7));

/// Products by id, the newest row of each; key: product.
pub static PRODUCTS: Topic = topic("products", 3, Cleanup::Compact, None);

/// What quality gates say; key: session.
pub static QUALITY_GATES: Topic = topic("quality.gates", 3, Cleanup::Delete, days(30));

/// Commands for sessions; key: session.
pub static SESSION_COMMANDS: Topic = topic("session.commands", 6, Cleanup::Delete, days(7));

/// The log of sessions, kept for ever; key: session.
pub static SESSION_EVENTS: Topic = topic("session.events", 6, Cleanup::Delete, None);

/// What the order saga asks of shipping; key: order.
pub static SHIPPING_COMMANDS: Topic = topic("shipping.commands", 6, Cleanup::Delete, days(7));

/// Finished work items that wait for quality gates; key: session.
pub static TASK_COMPLETED: Topic = topic("task.completed", 3, Cleanup::Delete, days(7));

/// Every topic above, by name.
pub static CATALOGUE: [&Topic; 23] = [
    &AGENT_RESPONSES,
    &AGENT_TASKS_MANAGER,
    &AGENT_TASKS_WORKER,
    &ANALYTICS_AGGREGATED,
    &API_REQUESTS,
    &API_RESPONSES,
    &CUSTOMERS,
    &DEFAULT_EVENTS,
    &DLQ_COMMANDS,
    &FULFILLMENT_REPLIES,
    &GATEWAY_RULES,
    &INVENTORY_COMMANDS,
    &ML_FEATURES,
    &MONITORING_EVENTS,
    &ORDER_COMMANDS,
    &ORDERS,
    &PAYMENT_COMMANDS,
    &PRODUCTS,
    &QUALITY_GATES,
    &SESSION_COMMANDS,
    &SESSION_EVENTS,
    &SHIPPING_COMMANDS,
    &TASK_COMPLETED,
];

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
    fn topics_that_one_topology_joins_have_one_number_of_partitions() {
        for joined in [
            &[&AGENT_TASKS_MANAGER, &AGENT_TASKS_WORKER, &AGENT_RESPONSES, &QUALITY_GATES][..],
            &[&SESSION_COMMANDS, &SESSION_EVENTS],
            &[&ORDER_COMMANDS, &ORDERS, &FULFILLMENT_REPLIES],
        ] {
            assert!(joined.iter().all(|topic| topic.partitions == joined[0].partitions));
        }
    }

    #[test]
    fn session_events_are_kept_for_ever() {
        let settings = SESSION_EVENTS.settings();
        assert_eq!(settings[1], ("retention.ms", "-1".to_owned()));
    }

    #[test]
    fn the_catalogue_is_sorted_by_name_and_names_each_topic_once() {
        assert!(CATALOGUE.is_sorted_by(|left, right| left.name < right.name));
    }
}
