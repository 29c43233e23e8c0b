//! What an order accepts, refuses and remembers; and random traces against a plain model.

use headwater_schemas::commands::Reply;
use headwater_schemas::events::OrderCreated;
use proptest::prelude::*;

use super::*;

fn time(ms: i64) -> EventTime {
    EventTime::from_millis(ms).expect("in range")
}

fn command(number: u128, request: OrderRequest) -> OrderCommand {
    OrderCommand {
        id: Uuid::from_u128(number),
        aggregate_id: "o".into(),
        request,
        expected_version: None,
        user_id: Some("u".into()),
        correlation_id: Uuid::from_u128(99),
        timestamp: time(i64::try_from(number).expect("small")),
    }
}

fn create() -> OrderRequest {
    let item = |product: &str, quantity, hundredths| OrderItem {
        product_id: product.into(),
        quantity,
        price: Money::from_hundredths(hundredths).expect("small"),
    };
    OrderRequest::CreateOrder(OrderCreated {
        order_id: None,
        customer_id: "c".into(),
        items: vec![item("p", 3, 10), item("q", 1, 9_999)],
        shipping_address: None,
        billing_address: None,
        schema_version: 2,
    })
}

fn cancel() -> OrderRequest {
    OrderRequest::CancelOrder { reason: "r".into() }
}

fn ship() -> OrderRequest {
    OrderRequest::ShipOrder { shipment_id: Some("h".into()) }
}

const CONFIRM: OrderRequest = OrderRequest::ConfirmOrder;
const DELIVER: OrderRequest = OrderRequest::DeliverOrder;

/// An order that has taken these commands.
fn order(requests: &[OrderRequest]) -> OrderRow {
    let mut row = OrderRow::default();
    for (number, request) in (1..).zip(requests) {
        let (events, _) = row.execute(&command(number, request.clone()));
        assert_eq!(events.len(), 1, "{request:?} is accepted");
    }
    row
}

/// The status after a command to an order that has taken `before`, or the code of its refusal.
fn after(before: &[OrderRequest], request: OrderRequest) -> Result<OrderStatus, RejectionCode> {
    let mut row = order(before);
    match row.execute(&command(100, request)) {
        (events, Reply::CommandAccepted { version, .. }) => {
            assert_eq!(events[0].metadata.sequence, Some(version));
            Ok(row.order.expect("it exists").status)
        }
        (events, Reply::CommandRejected { code, .. }) => {
            assert!(events.is_empty(), "a refusal changes nothing");
            Err(code)
        }
    }
}

#[test]
fn an_order_is_created_pending_with_the_exact_sum_of_its_items() {
    let row = order(&[create()]);
    let created = row.order.expect("it exists");
    assert_eq!((created.status, created.version), (OrderStatus::Pending, 1));
    assert_eq!(created.total.to_string(), "100.29");
    assert_eq!((created.created_at, created.updated_at), (time(1), time(1)));
}

#[test]
fn an_order_is_created_once() {
    assert_eq!(after(&[create()], create()), Err(RejectionCode::Conflict));
    assert_eq!(after(&[create(), cancel()], create()), Err(RejectionCode::Conflict));
}

#[test]
fn only_a_pending_order_is_confirmed() {
    use OrderStatus::Confirmed;
    use RejectionCode::InvalidState;
    assert_eq!(after(&[create()], CONFIRM), Ok(Confirmed));
    for before in [
        &[create(), CONFIRM][..],
        &[create(), CONFIRM, ship()],
        &[create(), CONFIRM, ship(), DELIVER],
        &[create(), cancel()],
    ] {
        assert_eq!(after(before, CONFIRM), Err(InvalidState), "{before:?}");
    }
}

#[test]
fn an_order_is_cancelled_until_it_is_shipped_and_once() {
    use OrderStatus::Cancelled;
    use RejectionCode::InvalidState;
    assert_eq!(after(&[create()], cancel()), Ok(Cancelled));
    assert_eq!(after(&[create(), CONFIRM], cancel()), Ok(Cancelled));
    assert_eq!(after(&[create(), CONFIRM, ship()], cancel()), Err(InvalidState));
    assert_eq!(after(&[create(), CONFIRM, ship(), DELIVER], cancel()), Err(InvalidState));
    assert_eq!(after(&[create(), cancel()], cancel()), Err(InvalidState));
}

#[test]
fn only_a_confirmed_order_is_shipped_and_only_a_shipped_one_delivered() {
    use OrderStatus::{Delivered, Shipped};
    use RejectionCode::InvalidState;
    assert_eq!(after(&[create()], ship()), Err(InvalidState));
    assert_eq!(after(&[create(), CONFIRM], ship()), Ok(Shipped));
    assert_eq!(after(&[create(), CONFIRM, ship()], ship()), Err(InvalidState));
    assert_eq!(after(&[create(), CONFIRM], DELIVER), Err(InvalidState));
    assert_eq!(after(&[create(), CONFIRM, ship()], DELIVER), Ok(Delivered));
    assert_eq!(after(&[create(), CONFIRM, ship(), DELIVER], DELIVER), Err(InvalidState));
}

#[test]
fn a_command_to_an_order_that_is_not_there_is_refused() {
    for request in [CONFIRM, cancel(), ship(), DELIVER] {
        assert_eq!(after(&[], request), Err(RejectionCode::NotFound));
    }
    let unknown = OrderRequest::Unknown { command_type: "PaintOrder".into() };
    assert_eq!(after(&[], unknown.clone()), Err(RejectionCode::UnknownCommand));
    assert_eq!(after(&[create()], unknown), Err(RejectionCode::UnknownCommand));
}

#[test]
fn of_two_commands_that_expect_one_version_the_second_is_a_conflict() {
    let mut row = order(&[create()]);
    let expecting = |number, request, version| OrderCommand {
        expected_version: Some(version),
        ..command(number, request)
    };
    let mut code = |command| match row.execute(&command).1 {
        Reply::CommandRejected { code, message, .. } => Some((code, message)),
        Reply::CommandAccepted { .. } => None,
    };
    assert_eq!(code(expecting(2, CONFIRM, 1)), None);
    let (found, message) = code(expecting(3, cancel(), 1)).expect("refused");
    assert_eq!(found, RejectionCode::Conflict);
    assert_eq!(message, "order o has version 2, the command expects 1");
    assert_eq!(code(expecting(4, cancel(), 2)), None);
    assert_eq!(after(&[], create()), Ok(OrderStatus::Pending));
}

#[test]
fn an_event_carries_the_request_that_asked_and_the_command_that_caused_it() {
    let mut row = OrderRow::default();
    let (events, _) = row.execute(&command(1, create()));
    let event = &events[0];
    assert_eq!(event.metadata.correlation_id, Uuid::from_u128(99));
    assert_eq!(event.metadata.causation_id, Some(Uuid::from_u128(1)));
    assert_eq!(event.metadata.user_id.as_deref(), Some("u"));
    assert_eq!((event.record_key(), event.aggregate_type.as_str()), ("o", "Order"));
    assert_eq!(event.event_data["schemaVersion"], 2);
}

#[test]
fn a_repeated_command_gets_its_answer_again() {
    let mut row = OrderRow::default();
    let first = row.execute(&command(1, create()));
    let refused = row.execute(&command(2, create()));
    let before = row.clone();
    assert_eq!(row.execute(&command(1, create())), (vec![], first.1));
    assert_eq!(row.execute(&command(2, create())), refused);
    assert_eq!(row, before);
}

/// What becomes of a status, in the plainest terms; `None`: there is no order.
fn model(status: Option<&str>, request: &OrderRequest) -> Result<&'static str, RejectionCode> {
    let Some(status) = status else {
        return match request {
            OrderRequest::CreateOrder(_) => Ok("pending"),
            OrderRequest::Unknown { .. } => Err(RejectionCode::UnknownCommand),
            _ => Err(RejectionCode::NotFound),
        };
    };
    match (status, request) {
        (_, OrderRequest::Unknown { .. }) => Err(RejectionCode::UnknownCommand),
        (_, OrderRequest::CreateOrder(_)) => Err(RejectionCode::Conflict),
        ("pending", OrderRequest::ConfirmOrder) => Ok("confirmed"),
        ("pending" | "confirmed", OrderRequest::CancelOrder { .. }) => Ok("cancelled"),
        ("confirmed", OrderRequest::ShipOrder { .. }) => Ok("shipped"),
        ("shipped", OrderRequest::DeliverOrder) => Ok("delivered"),
        _ => Err(RejectionCode::InvalidState),
    }
}

fn requests() -> impl Strategy<Value = OrderRequest> {
    (0..10_u8).prop_map(|kind| match kind {
        0 | 1 => create(),
        2 | 3 => CONFIRM,
        4 => cancel(),
        5 | 6 => ship(),
        7 | 8 => DELIVER,
        _ => OrderRequest::Unknown { command_type: "PaintOrder".into() },
    })
}

proptest! {
    #[test]
    fn every_trace_of_commands_is_answered_as_a_plain_model_answers_it(
        trace in prop::collection::vec((requests(), 0..3_u8, prop::option::of(0..6_i64)), 0..40),
    ) {
        let (mut row, mut status, mut version) = (OrderRow::default(), None, 0_i64);
        let mut told = Vec::new();
        for (number, (request, repeats, expected_version)) in (1_u128..).zip(trace) {
            let command = OrderCommand { expected_version, ..command(number, request) };
            let (events, reply) = row.execute(&command);
            told.extend(events);
            let unknown = matches!(command.request, OrderRequest::Unknown { .. });
            let conflict = expected_version.is_some_and(|expected| expected != version);
            let expected = match model(status, &command.request) {
                Err(code) if unknown => Err(code),
                _ if conflict => Err(RejectionCode::Conflict),
                Ok(next) => {
                    status = Some(next);
                    version += 1;
                    Ok(version)
                }
                Err(code) => Err(code),
            };
            let answer = match &reply {
                Reply::CommandAccepted { version, .. } => Ok(*version),
                Reply::CommandRejected { code, .. } => Err(*code),
            };
            prop_assert_eq!(answer, expected);
            for _ in 0..repeats {
                prop_assert_eq!(row.execute(&command), (vec![], reply.clone()), "a repeat");
            }
        }
        prop_assert_eq!(row.order.as_ref().map(|order| order.status.word()), status);
        // The events alone make the same order.
        let mut folded = OrderRow::default();
        for (sequence, event) in (1..).zip(&told) {
            prop_assert_eq!(event.metadata.sequence, Some(sequence));
            let payload = Event::of(event).expect("written by us");
            folded.apply(&event.aggregate_id, &payload, event.metadata.timestamp);
        }
        prop_assert_eq!(folded.order, row.order);
    }
}
