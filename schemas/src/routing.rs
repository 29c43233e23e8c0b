//! Which topic an event type belongs on.
//!
//! Owns the route table. It must not know who reads a topic, nor its partitions (see
//! [`crate::topics`]); the key is [`crate::envelope::DomainEvent::record_key`].

use crate::events::canonical_type;
use crate::topics::{
    AGENT_RESPONSES, AGENT_TASKS_MANAGER, AGENT_TASKS_WORKER, DEFAULT_EVENTS, MONITORING_EVENTS,
    ORDERS, QUALITY_GATES, SESSION_EVENTS, Topic,
};

/// The topic of an event type, under any of its names; types without a route of their own go to
/// `default.events`.
pub fn topic_of(event_type: &str) -> &'static Topic {
    match canonical_type(event_type) {
        "TaskAssigned" | "ReviewRequested" => &AGENT_TASKS_MANAGER,
        "WorkItemCreated" | "WorkItemCancelled" => &AGENT_TASKS_WORKER,
        "TaskAnalyzed" | "TaskReviewed" | "TaskErrorOccurred" | "WorkItemCompleted"
        | "WorkItemFailed" => &AGENT_RESPONSES,
        "SessionStarted"
        | "TaskAssignedToAgent"
        | "SessionCompleted"
        | "WorkflowStateChanged"
        | "TaskStatusUpdated"
        | "TaskCompleted" => &SESSION_EVENTS,
        "QualityGateResult" => &QUALITY_GATES,
        "AgentPerformanceMetric" => &MONITORING_EVENTS,
        "OrderCreated"
        | "OrderConfirmed"
        | "OrderCancelled"
        | "OrderShipped"
        | "OrderDelivered"
        | "order.created"
        | "inventory.reserved"
        | "inventory.reservation-failed"
        | "inventory.released"
        | "payment.charged"
        | "payment.failed"
        | "payment.refunded"
        | "shipment.created"
        | "shipment.failed"
        | "shipment.cancelled"
        | "compensation.failed" => &ORDERS,
        _ => &DEFAULT_EVENTS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EVENT_TYPES;

    #[test]
    fn every_known_event_has_a_route_of_its_own_and_the_rest_goes_to_the_default() {
        for event_type in EVENT_TYPES {
            assert_ne!(topic_of(event_type).name, DEFAULT_EVENTS.name, "{event_type}");
        }
        assert_eq!(topic_of("SessionArchived").name, "default.events");
        assert_eq!(topic_of("").name, "default.events");
    }

    #[test]
    fn an_alias_takes_the_route_of_its_type() {
        assert_eq!(topic_of("ManagerTaskAssigned").name, "agent.tasks.manager");
        assert_eq!(topic_of("WorkItemCreatedEvent").name, "agent.tasks.worker");
        assert_eq!(topic_of("SessionCreated").name, "session.events");
        assert_eq!(topic_of("TaskCompleted").name, "session.events");
        assert_eq!(topic_of("QualityGateResult").name, "quality.gates");
    }
}
