//! The gates on the test driver.

use headwater::record::Headers;
use headwater::testing::TopologyTestDriver;
use serde_json::{Value, json};

use super::*;
use crate::quality::default_gates;

fn driver() -> TopologyTestDriver {
    let builder = StreamsBuilder::new();
    topology(&builder, &default_gates());
    let topology = builder.build().expect("the topology has no mistakes");
    TopologyTestDriver::new(&topology).expect("it starts")
}

fn complete(driver: &mut TopologyTestDriver, success: bool, execution_time: i64) {
    let id = Uuid::from_u128(1);
    let event = json!({"eventId": id, "eventType": "WorkItemCompleted", "aggregateId": "w",
        "aggregateType": "WorkItem", "eventData": {"workItemId": "w", "taskId": "t",
            "result": {"success": success, "output": "o"}, "completedAt": 5,
            "executionTime": execution_time, "attempt": 2},
        "metadata": {"timestamp": 7, "version": "1.0", "correlationId": id, "sessionId": "s"}});
    pipe(driver, event.to_string().as_bytes());
}

fn pipe(driver: &mut TopologyTestDriver, value: &[u8]) {
    let piped = driver.pipe(&TASK_COMPLETED.name, Some(b"s"), Some(value), 7, Headers::empty());
    piped.expect("it goes on");
}

fn results(driver: &mut TopologyTestDriver) -> Vec<Value> {
    let records = driver.take(&QUALITY_GATES.name);
    let read = |value: Option<Vec<u8>>| serde_json::from_slice(&value.expect("an event"));
    records.into_iter().map(|record| read(record.value).expect("json")).collect()
}

#[test]
fn a_completed_item_gets_one_result_of_each_gate_in_their_order() {
    let mut driver = driver();
    complete(&mut driver, true, 1_200_000);
    let results = results(&mut driver);
    let told: Vec<_> = results
        .iter()
        .map(|result| {
            let data = &result["eventData"];
            (data["gateId"].as_str(), data["passed"].as_bool(), data["required"].as_bool())
        })
        .collect();
    assert_eq!(
        told,
        [
            (Some("result-success"), Some(true), Some(true)),
            (Some("execution-time"), Some(false), Some(false)),
        ]
    );
    assert_eq!(results[0]["metadata"]["causationId"], json!(Uuid::from_u128(1)));
    assert_eq!(results[0]["eventData"]["attempt"], json!(2));
    assert_eq!(results[0]["metadata"]["sessionId"], json!("s"));
}

#[test]
fn an_item_judged_twice_gives_the_same_events() {
    let mut driver = driver();
    complete(&mut driver, false, 1);
    let first = results(&mut driver);
    driver.restart().expect("it starts");
    complete(&mut driver, false, 1);
    assert_eq!(results(&mut driver), first);
}

#[test]
fn what_is_no_completion_is_passed_over_and_what_is_none_of_ours_is_a_dead_letter() {
    let mut driver = driver();
    let id = Uuid::from_u128(3);
    let event = json!({"eventId": id, "eventType": "SessionArchived", "aggregateId": "w",
        "aggregateType": "X", "eventData": {},
        "metadata": {"timestamp": 7, "version": "1.0", "correlationId": id}});
    pipe(&mut driver, event.to_string().as_bytes());
    pipe(&mut driver, b"nonsense");
    assert!(results(&mut driver).is_empty());
    assert_eq!(driver.take(&TASK_COMPLETED.dead_letters().name).len(), 1);
}
