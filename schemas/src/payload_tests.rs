//! Schema and type agree, in both directions, for every payload of the catalogue.

use apache_avro::Schema;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::envelope::{EventTime, Metadata};
use crate::events::order::{Address, Money, OrderItem};
use crate::events::task::{ItemResult, Review, ReworkItem, TaskStatus};
use crate::events::work_item::{WorkItem, WorkResult};

/// Any JSON that a schema accepts; numbers stay in the range that every rule allows.
fn accepted(schema: &Schema) -> BoxedStrategy<Value> {
    match schema {
        Schema::Null => Just(Value::Null).boxed(),
        Schema::Boolean => any::<bool>().prop_map(Value::from).boxed(),
        Schema::String => "[a-z0-9 ]{1,12}".prop_map(Value::from).boxed(),
        Schema::Int | Schema::Long => (1..1000_i64).prop_map(Value::from).boxed(),
        Schema::Double => (0..=1_i32).prop_map(|number| json!(f64::from(number))).boxed(),
        Schema::TimestampMillis => prop_oneof![
            (0..=EventTime::MAX.as_millis()).prop_map(Value::from),
            (0..=EventTime::MAX.as_millis())
                .prop_map(|ms| json!(EventTime::from_millis(ms).expect("in range"))),
        ]
        .boxed(),
        Schema::Enum(symbols) => {
            prop::sample::select(symbols.symbols.clone()).prop_map(Value::from).boxed()
        }
        Schema::Array(array) => {
            prop::collection::vec(accepted(&array.items), 1..4).prop_map(Value::from).boxed()
        }
        Schema::Map(map) => prop::collection::btree_map("[a-z]{1,5}", accepted(&map.types), 0..3)
            .prop_map(|entries| Value::Object(entries.into_iter().collect()))
            .boxed(),
        Schema::Union(union) => {
            prop::strategy::Union::new(union.variants().iter().map(accepted)).boxed()
        }
        Schema::Record(record) => {
            let fields: Vec<_> = record
                .fields
                .iter()
                .map(|field| {
                    let name = field.name.clone();
                    let present = accepted(&field.schema);
                    let value = if field.default.is_some() {
                        prop::option::of(present).boxed()
                    } else {
                        present.prop_map(Some).boxed()
                    };
                    value.prop_map(move |value| value.map(|value| (name.clone(), value)))
                })
                .collect();
            fields.prop_map(|fields| Value::Object(fields.into_iter().flatten().collect())).boxed()
        }
        other => panic!("no strategy for {other:?}"),
    }
}

fn event(event_type: &str, data: Map<String, Value>) -> DomainEvent {
    let id = uuid::Uuid::from_u128(1);
    DomainEvent {
        event_id: id,
        event_type: event_type.to_owned(),
        aggregate_id: "a".to_owned(),
        aggregate_type: "Task".to_owned(),
        event_data: data,
        metadata: Metadata {
            timestamp: EventTime::from_millis(0).expect("in range"),
            version: "1.0".to_owned(),
            correlation_id: id,
            causation_id: None,
            user_id: None,
            session_id: None,
            sequence: None,
        },
    }
}

/// Rules beyond the schema, of which generated documents know nothing.
fn is_a_rule(violations: &Violations) -> bool {
    let rules = ["description", "id", "rework", "total"];
    violations.paths().iter().all(|path| rules.iter().any(|rule| path.ends_with(rule)))
}

/// The JSON of an event's payload, written back.
fn written(event: &Event) -> Map<String, Value> {
    macro_rules! each {
        ($($payload:ident)*) => {
            match event {
                Event::AgentPerformanceMetric(payload) => payload.to_event_data(),
                $(Event::$payload(payload) => payload.to_event_data(),)*
                Event::Unknown { event_type } => panic!("{event_type} is in the catalogue"),
            }
        };
    }
    each!(TaskAssigned TaskAnalyzed WorkItemCreated WorkItemCompleted WorkItemFailed WorkItemCancelled
        TaskStatusUpdated TaskErrorOccurred ReviewRequested TaskReviewed TaskCompleted
        QualityGateResult SessionStarted TaskAssignedToAgent SessionCompleted WorkflowStateChanged
        OrderCreated OrderConfirmed OrderCancelled OrderShipped OrderDelivered OrderPlaced
        InventoryReserved InventoryReservationFailed InventoryReleased PaymentCharged PaymentFailed
        PaymentRefunded ShipmentCreated ShipmentFailed ShipmentCancelled CompensationFailed)
}

fn schema_and_type_agree(event_type: &str, data: &Value) -> Result<bool, TestCaseError> {
    let data = data.as_object().expect("a record is an object").clone();
    let schema = catalogue::schema_of(event_type).expect("in the catalogue");
    let mut violations = Violations::default();
    validate::check(&data, schema, PAYLOAD, &mut violations);
    prop_assert!(violations.is_empty(), "generated from the schema: {violations}");
    let payload = match Event::of(&event(event_type, data)) {
        Ok(payload) => payload,
        Err(EventError::Invalid(violations)) if is_a_rule(&violations) => return Ok(false),
        Err(error) => return Err(TestCaseError::fail(format!("{event_type}: {error}"))),
    };
    let back = written(&payload);
    validate::check(&back, schema, PAYLOAD, &mut violations);
    prop_assert!(
        violations.is_empty(),
        "{event_type} writes what its schema refuses: {violations}"
    );
    let Schema::Record(record) = schema else { panic!("a record") };
    for name in back.keys() {
        prop_assert!(record.lookup.contains_key(name), "{event_type}.{name} is not in its schema");
    }
    prop_assert_eq!(Event::of(&event(event_type, back)).expect("written by us"), payload);
    Ok(true)
}

#[test]
fn what_a_schema_accepts_can_be_read_and_is_written_back_as_the_schema_says() {
    use proptest::test_runner::TestRunner;
    for event_type in EVENT_TYPES {
        let schema = catalogue::schema_of(event_type).expect("every type has a schema");
        let mut runner = TestRunner::deterministic();
        let mut read = 0;
        for _ in 0..200 {
            let data = accepted(schema).new_tree(&mut runner).expect("a strategy").current();
            read += u32::from(schema_and_type_agree(event_type, &data).expect("they agree"));
        }
        assert!(read > 0, "no document of {event_type} passes its rules");
    }
}

#[test]
fn every_required_field_is_reported_by_its_path_when_it_is_missing() {
    use proptest::test_runner::TestRunner;
    for event_type in EVENT_TYPES {
        let Some(Schema::Record(record)) = catalogue::schema_of(event_type) else { panic!() };
        let mut runner = TestRunner::deterministic();
        let schema = Schema::Record(record.clone());
        let whole = accepted(&schema).new_tree(&mut runner).expect("a strategy").current();
        for field in record.fields.iter().filter(|field| field.default.is_none()) {
            let mut data = whole.as_object().expect("a record").clone();
            data.remove(&field.name);
            let Err(EventError::Invalid(violations)) = Event::of(&event(event_type, data)) else {
                panic!("{event_type} without {}", field.name)
            };
            let path = format!("{PAYLOAD}.{}", field.name);
            assert!(violations.paths().contains(&path.as_str()), "{path} of {event_type}");
        }
    }
}

#[test]
fn the_session_of_the_envelope_completes_a_payload_that_leaves_it_out() {
    let data = json!({"id": "wi-1", "description": "d", "type": "testing", "taskId": "t"});
    let mut created = event("WorkItemCreated", data.as_object().expect("object").clone());
    let Err(EventError::Invalid(violations)) = Event::of(&created) else { panic!("no session") };
    assert_eq!(violations.paths(), ["$.eventData.sessionId"]);
    created.metadata.session_id = Some("s-1".to_owned());
    let Ok(Event::WorkItemCreated(created)) = Event::of(&created) else { panic!("completed") };
    assert_eq!((created.session_id.as_str(), created.attempt), ("s-1", 1));
}

#[test]
fn rules_beyond_the_schema_name_their_path() {
    let refused = |event_type: &str, data: Value| -> Vec<String> {
        let event = event(event_type, data.as_object().expect("object").clone());
        let Err(EventError::Invalid(violations)) = Event::of(&event) else { panic!("refused") };
        violations.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        refused("TaskAssigned", json!({"taskId": "t"})),
        ["$.eventData.description is missing (it may be only when agentId is given)"]
    );
    let item = json!({"id": "a", "description": "d", "type": "testing"});
    assert_eq!(
        refused(
            "TaskAnalyzed",
            json!({"taskId": "t", "workItems": [item, item], "estimatedDuration": -1})
        ),
        [
            "$.eventData.workItems[1].id is the id of an earlier item; each item needs its own",
            "$.eventData.estimatedDuration must be at least 0, found -1"
        ]
    );
    let line = json!({"productId": "p", "quantity": 0, "price": -1.5});
    assert_eq!(
        refused("order.created", json!({"orderId": "o", "items": [line], "total": 0})),
        [
            "$.eventData.items[0].quantity must be at least 1, found 0",
            "$.eventData.items[0].price must be at least 0, found -1.50"
        ]
    );
    let line = json!({"productId": "p", "quantity": 3, "price": 0.1});
    assert_eq!(
        refused("order.created", json!({"orderId": "o", "items": [line], "total": 0.31})),
        ["$.eventData.total must be the sum of the items, 0.30, found 0.31"]
    );
    let line = json!({"productId": "p", "quantity": 1, "price": 0.125});
    let found = refused("OrderCreated", json!({"customerId": "c", "items": [line]}));
    assert!(found[0].starts_with("$.eventData.items[0].price must be an amount with at most two"));
}

#[test]
fn aliases_and_the_suffix_event_lead_to_one_name() {
    for (alias, name) in [
        ("ManagerTaskAssigned", "TaskAssigned"),
        ("ManagerTaskAssignedEvent", "TaskAssigned"),
        ("TaskAssignedEvent", "TaskAssigned"),
        ("SessionCreated", "SessionStarted"),
        ("WorkflowStateUpdated", "WorkflowStateChanged"),
        ("WorkflowStateUpdatedEvent", "WorkflowStateChanged"),
        ("TaskEvent", "TaskEvent"),
        ("Event", "Event"),
    ] {
        assert_eq!(canonical_type(alias), name);
    }
}

#[test]
fn amounts_are_exact_hundredths_and_refuse_more() {
    assert_eq!(Money::from_number(99.99).map(Money::hundredths), Some(9_999));
    assert_eq!(Money::from_number(0.1 + 0.2).map(Money::hundredths), Some(30));
    assert_eq!(Money::from_number(-0.05).expect("an amount").to_string(), "-0.05");
    assert_eq!(Money::from_number(0.001), None);
    assert_eq!(Money::from_number(f64::INFINITY), None);
    assert_eq!(Money::from_number(f64::NAN), None);
    assert_eq!(Money::from_hundredths(i64::MIN), None);
    let line = OrderItem {
        product_id: "p".into(),
        quantity: 3,
        price: Money::from_number(0.1).expect("an amount"),
    };
    assert_eq!(order::total(&[line.clone(), line]).to_string(), "0.60");
}

#[test]
fn a_whole_review_round_trips() {
    let review = TaskReviewed {
        task_id: "t".into(),
        session_id: "s".into(),
        review: Review {
            approved: false,
            feedback: Some("again".into()),
            rework: vec![ReworkItem { work_item_id: "wi-1".into(), prompt: None }],
        },
        round: 1,
    };
    let read = TaskReviewed::of(&event("TaskReviewed", review.to_event_data()));
    assert_eq!(read, Ok(review));
    let asked = ReviewRequested {
        task_id: "t".into(),
        session_id: "s".into(),
        round: 0,
        results: vec![ItemResult {
            work_item_id: "wi-1".into(),
            result: WorkResult { success: true, output: "done".into() },
        }],
    };
    assert_eq!(ReviewRequested::of(&event("ReviewRequested", asked.to_event_data())), Ok(asked));
    let item = WorkItem {
        id: "wi-1".into(),
        description: "d".into(),
        kind: "testing".into(),
        prompt: None,
    };
    let analyzed = TaskAnalyzed {
        task_id: "t".into(),
        session_id: None,
        work_items: vec![item],
        estimated_duration: 3_600,
    };
    assert_eq!(TaskAnalyzed::of(&event("TaskAnalyzed", analyzed.to_event_data())), Ok(analyzed));
    assert!(TaskStatus::Failed.is_final() && !TaskStatus::InReview.is_final());
    let created = OrderCreated {
        order_id: None,
        customer_id: "c".into(),
        items: vec![],
        shipping_address: Some(Address::Text("a street".into())),
        billing_address: None,
        schema_version: 2,
    };
    assert!(OrderCreated::of(&event("OrderCreated", created.to_event_data())).is_err(), "no items");
}

#[test]
fn an_order_of_the_first_version_is_read_as_one_of_the_newest() {
    let old = json!({"customerId": "c", "address": {"city": "x"},
        "items": [{"productId": "p", "quantity": 1, "price": 2.5}]});
    let old = event("OrderCreated", old.as_object().expect("an object").clone());
    let Ok(Event::OrderCreated(created)) = Event::of(&old) else { panic!("it is one") };
    assert_eq!(created.schema_version, 2);
    assert!(
        matches!(&created.shipping_address, Some(Address::Parts(parts)) if parts["city"] == "x")
    );
    assert_eq!(created.shipping_address, created.billing_address);
}
