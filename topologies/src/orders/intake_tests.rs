//! What is taken over HTTP, and what is refused before it is in the log.

use super::*;

fn place(body: &Value) -> Result<Taken, QueryError> {
    PlaceRoute.take(body.to_string().as_bytes(), &Parameters::default(), 7)
}

fn wish() -> Value {
    json!({"customerId": "c", "items": [{"productId": "p", "quantity": 2, "price": 1.5}]})
}

#[test]
fn a_wish_becomes_a_command_under_its_orders_key_and_the_answer_names_everything() {
    let taken = place(&wish()).expect("taken");
    let [record] = &taken.records[..] else { panic!("one record") };
    assert_eq!(record.topic, "order.commands");
    let command = OrderCommand::parse(&record.value).expect("a command");
    assert_eq!(record.key, command.aggregate_id.as_bytes());
    assert_eq!(command.request.command_type(), "CreateOrder");
    assert_eq!(taken.answer["orderId"], json!(command.aggregate_id));
    assert_eq!(taken.answer["commandId"], json!(command.id));
    assert_eq!(taken.answer["correlationId"], json!(command.correlation_id));
    assert_ne!(command.aggregate_id, {
        let again = place(&wish()).expect("taken").answer;
        again["orderId"].as_str().expect("an id").to_owned()
    });
}

#[test]
fn a_wish_may_name_its_order_and_its_request() {
    let mut body = wish();
    let correlation = Uuid::from_u128(5);
    body["orderId"] = json!("mine");
    body["correlationId"] = json!(correlation);
    let command = OrderCommand::parse(&place(&body).expect("taken").records[0].value);
    let command = command.expect("a command");
    assert_eq!((&*command.aggregate_id, command.correlation_id), ("mine", correlation));
}

#[test]
fn what_cannot_be_an_order_is_refused_with_every_path() {
    let why = |body: &Value| {
        let error = place(body).expect_err("refused");
        assert_eq!(error.problem, Problem::InvalidBody);
        error.detail
    };
    let body = json!({"customerId": "", "items": [{"productId": "p", "quantity": 0, "price": 1}]});
    assert!(why(&body).contains("$.payload.customerId"), "{}", why(&body));
    let body = json!({"customerId": "c", "items": [{"productId": "p", "quantity": 0, "price": 1}]});
    assert!(why(&body).contains("$.payload.items[0].quantity"), "{}", why(&body));
    let mut body = wish();
    body["colour"] = json!("red");
    assert!(why(&body).contains("colour"), "{}", why(&body));
    let mut body = wish();
    body["orderId"] = json!("x".repeat(129));
    assert!(why(&body).contains("$.aggregateId"), "{}", why(&body));
    assert!(why(&json!([])).contains("the body"));
}

#[test]
fn a_command_of_an_unknown_type_is_refused_by_its_name() {
    let take = |body: Value| {
        read::<Draft>(body.to_string().as_bytes()).and_then(|draft| draft.take("o", "m", 7))
    };
    let error = take(json!({"type": "PaintOrder"})).expect_err("refused");
    assert!(error.detail.contains("PaintOrder"), "{}", error.detail);
    let error = take(json!({"type": "CancelOrder"})).expect_err("refused");
    assert!(error.detail.contains("$.payload.reason"), "{}", error.detail);
    let id = Uuid::from_u128(9);
    let taken = take(json!({"type": "CancelOrder", "payload": {"reason": "r"}, "id": id,
                            "expectedVersion": 2}));
    let command = OrderCommand::parse(&taken.expect("taken").records[0].value).expect("a command");
    assert_eq!((command.id, command.expected_version), (id, Some(2)));
    assert_eq!(command.aggregate_id, "o");
}
