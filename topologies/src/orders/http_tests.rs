//! Orders over a real host: placed, fulfilled, asked for, called off, refused.

use std::ffi::OsString;
use std::sync::Arc;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use headwater::error::BoxError;
use headwater::shell::{Command, Process, Program, run_with};
use headwater::time::SystemClock;
use serde_json::{Value, json};

use super::fulfillment::FulfillmentOptions;
use super::services::Simulated;
use super::*;
use crate::client::{Client, ClientError};

const WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);

/// Runs the applications in a directory of their own while `check` asks them.
fn run(name: &str, check: fn(&Process) -> Result<(), BoxError>) {
    let mut applications = vec![aggregate_application(), projection_application()];
    let services = Arc::new(Simulated::flawless(1));
    applications.extend(orchestrated(FulfillmentOptions::default(), services));
    let program = Program {
        name: "orders",
        about: "Takes orders",
        applications,
        commands: vec![Command { name: "check", about: "Runs the test", run: check }],
    };
    let directory = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
    let line = format!("orders check --http 127.0.0.1:0 --state-dir {}", directory.display());
    let mut printed = Vec::new();
    let code = run_with(&program, line.split(' ').map(OsString::from), &mut printed);
    std::fs::remove_dir_all(&directory).expect("it was made");
    assert_eq!(code, 0, "{}", String::from_utf8_lossy(&printed));
}

fn client(process: &Process) -> Result<Client, BoxError> {
    let address = process.address().ok_or("no address")?;
    let client = Client::new(&format!("http://{address}"));
    client.wait_until_ready(&SystemClock::new(), &|| false)?;
    Ok(client)
}

/// Asks until the answer is as it is to be.
fn until(client: &Client, path: &str, what: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + WITHIN;
    loop {
        let last = client.get_json(path);
        match &last {
            Ok(answer) if what(answer) => return answer.clone(),
            Ok(_) | Err(ClientError::Refused { status: 404, .. }) => {}
            Err(error) => panic!("{path}: {error}"),
        }
        assert!(Instant::now() < deadline, "{path} is still {last:?}");
        park_timeout(LOOK);
    }
}

fn items(client: &Client, path: &str) -> Vec<Value> {
    let page = client.get_json(path).expect("a page");
    page["items"].as_array().expect("items").clone()
}

/// The status and the words of a refusal.
fn refusal(answer: Result<Value, ClientError>) -> (u16, String) {
    match answer {
        Err(ClientError::Refused { status, detail, .. }) => (status, detail),
        other => panic!("{other:?} is no refusal"),
    }
}

fn order(customer: &str, id: &str) -> Value {
    let line = |product, price| json!({"productId": product, "quantity": 2, "price": price});
    json!({"orderId": id, "customerId": customer, "items": [line("pen", 1.25), line("ink", 9.5)]})
}

#[test]
fn an_order_is_placed_fulfilled_found_and_called_off_over_http() {
    run("orders-placed", place_and_call_off);
}

fn place_and_call_off(process: &Process) -> Result<(), BoxError> {
    let client = client(process)?;
    let ada = json!([{"key": "ada", "value": {"name": "Ada"}}]);
    client.post("/topics/customers/records", &ada)?;
    until(&client, "/apps/order-projection/stores/order-customers/keys/ada", |row| {
        row["value"]["name"] == "Ada"
    });
    for (customer, id) in [("ada", "first"), ("ada", "second"), ("bob", "third")] {
        let placed = client.post("/orders", &order(customer, id))?;
        assert_eq!(placed["orderId"], *id);
        let command = placed["commandId"].as_str().ok_or("no command")?;
        let reply = until(&client, &format!("/orders/{id}/commands/{command}"), |_| true);
        assert_eq!(reply["reply"]["type"], "CommandAccepted", "{reply}");
        let path = format!("/orders/{id}/fulfillment");
        let saga = until(&client, &path, |saga| saga["saga"]["state"] == "COMPLETED");
        assert_eq!(saga["saga"]["completedSteps"].as_array().map(Vec::len), Some(4));
        let path = format!("/orders/{id}");
        until(&client, &path, |found| found["order"]["status"] == "confirmed");
    }
    let found = client.get_json("/orders/first")?;
    let seen = &found["order"];
    assert_eq!((&seen["customerName"], &seen["total"]), (&json!("Ada"), &json!(21.5)));
    assert_eq!((&seen["version"], &seen["items"][0]["productName"]), (&json!(2), &Value::Null));
    assert!(!found["asOf"].as_array().ok_or("no position")?.is_empty(), "{found}");
    // A name that comes later is shown from then on.
    let pen = json!([{"key": "pen", "value": {"name": "Pen"}}]);
    client.post("/topics/products/records", &pen)?;
    until(&client, "/orders/first", |found| found["order"]["items"][0]["productName"] == "Pen");
    lists(&client)?;
    let called_off = json!({"type": "CancelOrder", "payload": {"reason": "mind"}});
    client.post("/orders/second/commands", &called_off)?;
    until(&client, "/orders/second/fulfillment", |saga| saga["saga"]["state"] == "FAILED");
    until(&client, "/orders?status=cancelled", |page| page["items"][0]["id"] == "second");
    assert_eq!(items(&client, "/orders?customerId=ada&status=confirmed").len(), 1);
    Ok(())
}

/// Orders by customer and by status, page by page.
fn lists(client: &Client) -> Result<(), BoxError> {
    assert_eq!(items(client, "/orders?status=confirmed").len(), 3);
    assert_eq!(items(client, "/orders").len(), 3);
    assert!(items(client, "/orders?status=shipped").is_empty());
    assert!(items(client, "/orders?customerId=ad").is_empty(), "a name is not a prefix");
    let (mut found, mut path) = (Vec::new(), "/orders?customerId=ada&limit=1".to_owned());
    loop {
        let page = client.get_json(&path)?;
        let rows = page["items"].as_array().ok_or("no items")?;
        found.extend(rows.iter().map(|order| order["id"].clone()));
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        path = format!("/orders?customerId=ada&limit=1&cursor={cursor}");
    }
    assert_eq!(found, ["first", "second"], "by their creation");
    Ok(())
}

#[test]
fn what_cannot_be_an_order_is_refused_over_http_and_a_refused_command_says_why() {
    run("orders-refused", refuse);
}

fn refuse(process: &Process) -> Result<(), BoxError> {
    let client = client(process)?;
    let (status, why) = refusal(client.post("/orders", &json!({"customerId": "c", "items": []})));
    assert!(status == 400 && why.contains("$.payload.items"), "{status} {why}");
    let (status, why) = refusal(client.post("/orders/first/commands", &json!({"type": "Paint"})));
    assert!(status == 400 && why.contains("Paint"), "{status} {why}");
    for (path, expected) in [
        ("/orders/nobody", 404),
        ("/orders/nobody/fulfillment", 404),
        ("/orders?status=painted", 400),
        ("/orders?colour=red", 400),
    ] {
        assert_eq!(refusal(client.get_json(path)).0, expected, "{path}");
    }
    let sent = client.post("/orders/first/commands", &json!({"type": "ShipOrder"}))?;
    let command = sent["commandId"].as_str().ok_or("no command")?;
    let reply = until(&client, &format!("/orders/first/commands/{command}"), |_| true);
    assert_eq!(reply["reply"]["code"], "NOT_FOUND", "{reply}");
    assert_eq!(refusal(client.get_json("/orders/first/commands/none")).0, 404);
    assert_eq!(refusal(client.get_json("/orders/first")).0, 404);
    Ok(())
}
