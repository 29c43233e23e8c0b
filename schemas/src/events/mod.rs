//! The event catalogue: which payload an event type carries.
//!
//! Owns the step from an envelope to a typed event. It must not know topics or keys. A type this
//! catalogue does not know is an answer, not an error: topics carry several types, and a reader
//! takes what it understands.
//!
//! A payload is first checked against its Avro schema ([`crate::catalogue`]), which reports every
//! offending path at once, then read, then held against the rules that a schema cannot say.

pub mod agent_performance_metric;
pub mod analytics_rollup;
pub mod bus;
pub mod order;
pub mod quality;
pub mod session;
pub mod task;
pub mod work_item;

use std::borrow::Cow;
use std::sync::LazyLock;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::catalogue;
use crate::envelope::DomainEvent;
use crate::upcast::Upcasters;
use crate::validate;
use crate::violation::{EventError, Violations};
pub use agent_performance_metric::AgentPerformanceMetric;
pub use analytics_rollup::AnalyticsRollup;
pub use bus::{
    CompensationFailed, InventoryReleased, InventoryReservationFailed, InventoryReserved,
    OrderPlaced, PaymentCharged, PaymentFailed, PaymentRefunded, ShipmentCancelled,
    ShipmentCreated, ShipmentFailed,
};
pub use order::{OrderCancelled, OrderConfirmed, OrderCreated, OrderDelivered, OrderShipped};
pub use quality::QualityGateResult;
pub use session::{SessionCompleted, SessionStarted, TaskAssignedToAgent, WorkflowStateChanged};
pub use task::{
    ReviewRequested, TaskAnalyzed, TaskAssigned, TaskCompleted, TaskErrorOccurred, TaskReviewed,
    TaskStatusUpdated,
};
pub use work_item::{WorkItemCancelled, WorkItemCompleted, WorkItemCreated, WorkItemFailed};

/// The JSON path of a payload in its envelope.
const PAYLOAD: &str = "$.eventData";

/// A payload of the catalogue: its JSON is the `eventData` of an envelope.
pub trait Payload: Serialize + DeserializeOwned {
    /// The event type it travels under.
    const EVENT_TYPE: &'static str;

    /// Reports to `violations` what the schema cannot say; paths begin with `$.eventData`.
    fn rules(&self, _violations: &mut Violations) {}

    /// Reads the payload of `event`, brought to the newest version of its type. A `sessionId` that the
    /// payload leaves out is the envelope's.
    ///
    /// # Errors
    /// [`EventError::Invalid`] with every offending path. Send the record to the dead letters.
    fn of(event: &DomainEvent) -> Result<Self, EventError> {
        let mut violations = Violations::default();
        let data = newest(Self::EVENT_TYPE, with_session(event));
        let payload = Self::read_at(PAYLOAD, &data, &mut violations);
        violations.finish(payload)
    }

    /// Reads a payload that lies at `path` of some document; `None` when something was reported.
    fn read_at(path: &str, data: &Map<String, Value>, violations: &mut Violations) -> Option<Self> {
        let before = violations.len();
        let schema = catalogue::schema_of(Self::EVENT_TYPE).expect("every payload has its file");
        validate::check(data, schema, path, violations);
        if violations.len() > before {
            return None;
        }
        // The types say a little more than the schemas, such as two decimals of an amount.
        match serde_path_to_error::deserialize::<_, Self>(Value::Object(data.clone())) {
            Ok(payload) => {
                payload.rules(violations);
                violations.rebase(before, PAYLOAD, path);
                Some(payload)
            }
            Err(error) => {
                let path = format!("{path}.{}", error.path());
                violations.push(path, error.into_inner().to_string());
                None
            }
        }
    }

    /// The payload as the `eventData` of an envelope.
    fn to_event_data(&self) -> Map<String, Value> {
        match serde_json::to_value(self).expect("text keys and finite numbers only") {
            Value::Object(object) => object,
            _ => unreachable!("a struct becomes an object"),
        }
    }
}

/// The payload in the newest version of its type.
pub(crate) fn newest<'d>(
    event_type: &str,
    data: Cow<'d, Map<String, Value>>,
) -> Cow<'d, Map<String, Value>> {
    static UPCASTERS: LazyLock<Upcasters> = LazyLock::new(Upcasters::platform);
    if UPCASTERS.knows(event_type) {
        Cow::Owned(UPCASTERS.apply(event_type, data.into_owned()))
    } else {
        data
    }
}

/// The payload, completed by the envelope's session where the schema knows one.
fn with_session(event: &DomainEvent) -> Cow<'_, Map<String, Value>> {
    const SESSION: &str = "sessionId";
    let missing = event.event_data.get(SESSION).is_none_or(Value::is_null);
    match &event.metadata.session_id {
        Some(session) if missing => {
            let mut data = event.event_data.clone();
            data.insert(SESSION.to_owned(), Value::String(session.clone()));
            Cow::Owned(data)
        }
        _ => Cow::Borrowed(&event.event_data),
    }
}

macro_rules! catalogue {
    ($($(#[$doc:meta])* $payload:ident,)*) => {
        /// The typed payload of an event.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Event {
            /// What an agent took, cost or reached.
            AgentPerformanceMetric(AgentPerformanceMetric),
            $($(#[$doc])* $payload($payload),)*
            /// A type this catalogue does not know.
            Unknown {
                /// The type's name as it came.
                event_type: String,
            },
        }

        impl Event {
            /// Reads the payload of `event` as its type asks for.
            ///
            /// # Errors
            /// [`EventError::Invalid`] with every offending path, when the type is known and its
            /// payload is not of its shape. Send the record to the dead letters.
            pub fn of(event: &DomainEvent) -> Result<Self, EventError> {
                match canonical_type(&event.event_type) {
                    AgentPerformanceMetric::EVENT_TYPE => {
                        AgentPerformanceMetric::of(event).map(Self::AgentPerformanceMetric)
                    }
                    $($payload::EVENT_TYPE => $payload::of(event).map(Self::$payload),)*
                    _ => Ok(Self::Unknown { event_type: event.event_type.clone() }),
                }
            }
        }

        /// Every type that [`Event::of`] knows.
        pub const EVENT_TYPES: &[&str] =
            &[AgentPerformanceMetric::EVENT_TYPE, $($payload::EVENT_TYPE,)*];
    };
}

catalogue! {
    /// A task is given to the manager agent.
    TaskAssigned,
    /// The manager agent split a task.
    TaskAnalyzed,
    /// A work item is given to the worker agents.
    WorkItemCreated,
    /// A worker agent finished a work item.
    WorkItemCompleted,
    /// A worker agent could not finish one.
    WorkItemFailed,
    /// A work item is withdrawn.
    WorkItemCancelled,
    /// A task moved on.
    TaskStatusUpdated,
    /// A task met an error.
    TaskErrorOccurred,
    /// The manager agent is asked to judge results.
    ReviewRequested,
    /// The manager agent judged them.
    TaskReviewed,
    /// A task ended well.
    TaskCompleted,
    /// A quality gate judged a work item.
    QualityGateResult,
    /// A session began.
    SessionStarted,
    /// A session's task is given to an agent.
    TaskAssignedToAgent,
    /// A session ended.
    SessionCompleted,
    /// A session's workflow moved on.
    WorkflowStateChanged,
    /// A customer ordered.
    OrderCreated,
    /// An order is certain.
    OrderConfirmed,
    /// An order is off.
    OrderCancelled,
    /// An order left.
    OrderShipped,
    /// An order arrived.
    OrderDelivered,
    /// The bus event `order.created`.
    OrderPlaced,
    /// The bus event `inventory.reserved`.
    InventoryReserved,
    /// The bus event `inventory.reservation-failed`.
    InventoryReservationFailed,
    /// The bus event `inventory.released`.
    InventoryReleased,
    /// The bus event `payment.charged`.
    PaymentCharged,
    /// The bus event `payment.failed`.
    PaymentFailed,
    /// The bus event `payment.refunded`.
    PaymentRefunded,
    /// The bus event `shipment.created`.
    ShipmentCreated,
    /// The bus event `shipment.failed`.
    ShipmentFailed,
    /// The bus event `shipment.cancelled`.
    ShipmentCancelled,
    /// The bus event `compensation.failed`.
    CompensationFailed,
}

/// The catalogue's name of a type. Producers may append `Event` to it, and older ones use other
/// names for three of them.
pub fn canonical_type(event_type: &str) -> &str {
    let name = match event_type.strip_suffix("Event") {
        // A type of the catalogue whose own name ends so.
        _ if event_type == "TaskEvent" => event_type,
        Some(name) if !name.is_empty() => name,
        _ => event_type,
    };
    match name {
        "ManagerTaskAssigned" => TaskAssigned::EVENT_TYPE,
        "SessionCreated" => SessionStarted::EVENT_TYPE,
        "WorkflowStateUpdated" => WorkflowStateChanged::EVENT_TYPE,
        _ => name,
    }
}

#[cfg(test)]
#[path = "../payload_tests.rs"]
mod payload_tests;
#[cfg(test)]
#[path = "../event_tests.rs"]
mod tests;
