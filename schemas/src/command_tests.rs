//! Commands are read, written and refused with every path.

use proptest::prelude::*;

use super::*;

const ID: &str = "4b7a1c9e-2f43-4c56-9a0e-5a3b8b1f0d11";

fn document(command_type: &str, payload: Value) -> Value {
    json!({
        "id": ID, "type": command_type, "aggregateId": "s-1", "payload": payload,
        "metadata": {"userId": "u", "correlationId": ID, "timestamp": "2026-01-05T10:00:00.000Z"},
    })
}

fn parse(document: &Value) -> Result<SessionCommand, EventError> {
    SessionCommand::parse(&serde_json::to_vec(document).expect("json"))
}

fn paths(document: &Value) -> Vec<String> {
    let Err(EventError::Invalid(violations)) = parse(document) else { panic!("invalid") };
    violations.paths().into_iter().map(str::to_owned).collect()
}

#[test]
fn every_command_is_read_and_written_back() {
    let done = json!({"workItemId": "w", "taskId": "t", "sessionId": "s-1", "executionTime": 5,
        "completedAt": 7, "attempt": 1, "result": {"success": true, "output": "done"}});
    for (command_type, payload) in [
        ("StartSession", json!({"userId": "u", "taskDescription": "d"})),
        ("StartSession", json!({"userId": "u", "taskDescription": "d", "ifAbsent": true})),
        ("AssignTaskToAgent", json!({"taskId": "t", "agentType": "worker"})),
        ("RecordWorkItemCompleted", done),
        ("CompleteSession", json!({})),
        ("CompleteSession", json!({"reason": "r"})),
        ("ArchiveSession", json!({})),
    ] {
        let command = parse(&document(command_type, payload)).expect("valid");
        assert_eq!(command.request.command_type(), command_type);
        assert_eq!(SessionCommand::parse(&command.to_json()), Ok(command));
    }
}

#[test]
fn every_command_to_an_order_or_a_service_is_read_and_written_back() {
    let items = json!([{"productId": "p", "quantity": 2, "price": 2.5}]);
    for (command_type, payload) in [
        ("CreateOrder", json!({"customerId": "c", "items": items})),
        (
            "CreateOrder",
            json!({"customerId": "c", "items": items, "orderId": "s-1",
                               "shippingAddress": "x"}),
        ),
        ("ConfirmOrder", json!({})),
        ("CancelOrder", json!({"reason": "r"})),
        ("ShipOrder", json!({})),
        ("ShipOrder", json!({"shipmentId": "h"})),
        ("DeliverOrder", json!({})),
        ("ArchiveOrder", json!({})),
    ] {
        let document = document(command_type, payload).to_string();
        let command = OrderCommand::parse(document.as_bytes()).expect("valid");
        assert_eq!(command.request.command_type(), command_type);
        assert_eq!(OrderCommand::parse(&command.to_json()), Ok(command));
    }
    for (command_type, payload, topic) in [
        ("ReserveInventory", json!({"items": items}), Some("inventory.commands")),
        ("ReleaseInventory", json!({}), Some("inventory.commands")),
        ("ChargePayment", json!({"customerId": "c", "amount": 5.25}), Some("payment.commands")),
        ("RefundPayment", json!({"paymentId": "p"}), Some("payment.commands")),
        ("RefundPayment", json!({}), Some("payment.commands")),
        ("CreateShipment", json!({"items": items}), Some("shipping.commands")),
        ("CancelShipment", json!({"shipmentId": "h"}), Some("shipping.commands")),
        ("PaintShipment", json!({}), None),
    ] {
        let document = document(command_type, payload).to_string();
        let command = ServiceCommand::parse(document.as_bytes()).expect("valid");
        assert_eq!(command.request.command_type(), command_type);
        assert_eq!(command.request.topic().map(|topic| &*topic.name), topic);
        assert_eq!(ServiceCommand::parse(&command.to_json()), Ok(command));
    }
}

#[test]
fn an_order_of_the_first_version_has_its_one_address_for_both_purposes() {
    let items = json!([{"productId": "p", "quantity": 2, "price": 2.5}]);
    let payload = json!({"customerId": "c", "items": items, "address": "x"});
    let command = OrderCommand::parse(document("CreateOrder", payload).to_string().as_bytes());
    let OrderRequest::CreateOrder(created) = command.expect("valid").request else {
        panic!("its request")
    };
    assert_eq!(created.schema_version, 2);
    assert!(created.shipping_address.is_some());
    assert_eq!(created.shipping_address, created.billing_address);
}

#[test]
fn every_offending_path_of_a_command_to_an_order_or_a_service_is_named() {
    let order = |command_type, payload| {
        let parsed = OrderCommand::parse(document(command_type, payload).to_string().as_bytes());
        let Err(EventError::Invalid(violations)) = parsed else { panic!("invalid") };
        violations.paths().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let line = |quantity: i32, price: f64| json!([{"productId": "p", "quantity": quantity, "price": price}]);
    assert_eq!(order("CreateOrder", json!({})), ["$.payload.customerId", "$.payload.items"]);
    assert_eq!(
        order("CreateOrder", json!({"customerId": "", "items": line(1, 1.0)})),
        ["$.payload.customerId"]
    );
    assert_eq!(
        order("CreateOrder", json!({"customerId": "c", "items": line(0, -1.0)})),
        ["$.payload.items[0].quantity", "$.payload.items[0].price"]
    );
    assert_eq!(
        order("CreateOrder", json!({"customerId": "c", "items": line(1, 0.001)})),
        ["$.payload.items[0].price"]
    );
    assert_eq!(
        order("CreateOrder", json!({"customerId": "c", "items": line(i32::MAX, 9_999_999.0)})),
        ["$.payload.items"]
    );
    assert_eq!(
        order("CreateOrder", json!({"customerId": "c", "items": line(1, 1.0), "orderId": "other"})),
        ["$.payload.orderId"]
    );
    assert_eq!(
        order("CreateOrder", json!({"customerId": "c", "items": line(1, 1.0), "schemaVersion": 3})),
        ["$.payload.schemaVersion"]
    );
    assert_eq!(order("CancelOrder", json!({})), ["$.payload.reason"]);
    let service = |command_type, payload| {
        let parsed = ServiceCommand::parse(document(command_type, payload).to_string().as_bytes());
        let Err(EventError::Invalid(violations)) = parsed else { panic!("invalid") };
        violations.paths().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(service("ReserveInventory", json!({"items": []})), ["$.payload.items"]);
    assert_eq!(
        service("ChargePayment", json!({"amount": -1})),
        ["$.payload.customerId", "$.payload.amount"]
    );
}

#[test]
fn a_work_item_takes_the_session_of_its_command() {
    let payload = json!({"workItemId": "w", "taskId": "t", "executionTime": 5, "completedAt": 7,
                         "sessionId": "another", "result": {"success": true, "output": ""}});
    let command = parse(&document("RecordWorkItemCompleted", payload)).expect("valid");
    let SessionRequest::RecordWorkItemCompleted(done) = command.request else {
        panic!("its request")
    };
    assert_eq!(done.session_id, "s-1");
}

#[test]
fn every_offending_path_of_a_command_is_named() {
    assert_eq!(
        paths(&json!({"id": "x", "type": "StartSession", "aggregateId": "", "expectedVersion": -1,
                      "payload": {"userId": "u".repeat(129)}, "metadata": {}})),
        [
            "$.id",
            "$.aggregateId",
            "$.expectedVersion",
            "$.metadata.correlationId",
            "$.metadata.timestamp",
            "$.payload.userId",
            "$.payload.taskDescription"
        ]
    );
    assert_eq!(
        paths(&document("AssignTaskToAgent", json!({"agentType": "cook"}))),
        ["$.payload.taskId", "$.payload.agentType"]
    );
    assert_eq!(
        paths(&document("RecordWorkItemCompleted", json!({"workItemId": "w", "result": {}}))),
        [
            "$.payload.taskId",
            "$.payload.result.success",
            "$.payload.result.output",
            "$.payload.completedAt",
            "$.payload.executionTime"
        ]
    );
    assert_eq!(paths(&json!([])), ["$"]);
}

#[test]
fn an_invalid_command_can_be_answered_when_it_says_who_asks() {
    let id: Uuid = ID.parse().expect("a uuid");
    let invalid = document("StartSession", json!({}));
    let bytes = serde_json::to_vec(&invalid).expect("json");
    assert_eq!(SessionCommand::reply_address(&bytes), Some((id, id)));
    assert_eq!(SessionCommand::reply_address(b"{}"), None);
    assert_eq!(SessionCommand::reply_address(b"not json"), None);
}

#[test]
fn replies_have_a_type_and_a_code() {
    let rejected = Reply::CommandRejected {
        command_id: ID.parse().expect("a uuid"),
        code: RejectionCode::InactiveSession,
        message: "m".into(),
    };
    assert_eq!(
        serde_json::to_value(&rejected).expect("json"),
        json!({"type": "CommandRejected", "commandId": ID, "code": "INACTIVE_SESSION", "message": "m"})
    );
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _answer = SessionCommand::parse(&bytes);
        let _address = SessionCommand::reply_address(&bytes);
    }
}
