//! The runner on the test driver: from a request's bytes to the answer's.

use std::collections::BTreeSet;
use std::sync::Mutex;

use headwater::record::Headers;
use headwater::testing::TopologyTestDriver;
use headwater_schemas::headers;
use serde_json::json;

use super::*;
use crate::agents::{Behaviour, Simulated};

/// Agents that note which steps they are asked for.
struct Noted {
    agents: Simulated,
    begun: Mutex<Vec<Uuid>>,
    withdrawn: Mutex<Vec<Uuid>>,
}

impl Agents for Noted {
    fn ask(&self, work: &Work, now_ms: i64) -> Option<Outcome> {
        self.begun.lock().expect("one thread").push(work.step_id);
        self.agents.ask(work, now_ms)
    }

    fn admit(&self, work: &Work, waited_ms: i64) -> Result<(), AgentError> {
        self.agents.admit(work, waited_ms)
    }

    fn withdraw(&self, step_id: Uuid) {
        self.withdrawn.lock().expect("one thread").push(step_id);
    }
}

struct Bench {
    driver: TopologyTestDriver,
    agents: Arc<Noted>,
}

impl Bench {
    fn new(behaviour: Behaviour) -> Self {
        let agents = Arc::new(Noted {
            agents: Simulated(behaviour),
            begun: Mutex::default(),
            withdrawn: Mutex::default(),
        });
        let builder = StreamsBuilder::new();
        let port: Arc<dyn Agents> = Arc::<Noted>::clone(&agents);
        topology(&builder, &port, Policy::default());
        let topology = builder.build().expect("the topology has no mistakes");
        Self { driver: TopologyTestDriver::new(&topology).expect("it starts"), agents }
    }

    fn ask(&mut self, step: u128, event_type: &str, data: Value) {
        let topic = topic_of(event_type);
        let event = json!({"eventId": Uuid::from_u128(step), "eventType": event_type,
            "aggregateId": "t", "aggregateType": "Task", "eventData": data,
            "metadata": {"timestamp": 1, "version": "1.0", "sessionId": "s",
                         "correlationId": Uuid::from_u128(9)}});
        let value = event.to_string();
        let piped =
            self.driver.pipe(&topic.name, Some(b"s"), Some(value.as_bytes()), 1, Headers::empty());
        piped.expect("a request");
    }

    fn item(&mut self, step: u128, attempt: i32) {
        let data = json!({"id": "w", "description": "d", "type": "testing", "taskId": "t",
                          "attempt": attempt});
        self.ask(step, "WorkItemCreated", data);
    }

    fn wait(&mut self, ms: u64) {
        self.driver.advance_wall_clock(Duration::from_millis(ms)).expect("it goes on");
    }

    fn answers(&mut self) -> Vec<DomainEvent> {
        let answers = self.driver.take(&AGENT_RESPONSES.name);
        let read = |value: Option<Vec<u8>>| DomainEvent::parse(&value.expect("an event"));
        answers.into_iter().map(|record| read(record.value).expect("an event")).collect()
    }

    fn rows(&self, store: &str) -> usize {
        self.driver.rows(store).len()
    }
}

#[test]
fn an_agent_answers_under_the_step_that_asked() {
    let mut bench = Bench::new(Behaviour::flawless(1));
    bench.ask(1, "TaskAssigned", json!({"taskId": "t", "description": "d"}));
    assert!(bench.answers().is_empty(), "nobody works inside the transaction");
    bench.wait(20);
    let records = bench.driver.take(&AGENT_RESPONSES.name);
    let header = |name| records[0].headers.last(name).and_then(|header| header.value.clone());
    assert_eq!(header(headers::EVENT_TYPE).as_deref(), Some(&b"TaskAnalyzed"[..]));
    assert_eq!(records[0].key.as_deref(), Some(&b"s"[..]));
    let answer = DomainEvent::parse(records[0].value.as_deref().expect("an event"));
    let answer = answer.expect("an event");
    assert_eq!(answer.event_id, Uuid::new_v5(&Uuid::from_u128(1), b"1"));
    assert_eq!(answer.metadata.causation_id, Some(Uuid::from_u128(1)));
    assert_eq!(answer.metadata.correlation_id, Uuid::from_u128(9));
    assert_eq!((bench.rows(WORK_STORE), bench.rows(ANSWER_STORE)), (0, 1));
}

#[test]
fn an_execution_is_told_as_a_metric() {
    let mut bench =
        Bench::new(Behaviour { fastest_ms: 15, slowest_ms: 15, ..Behaviour::flawless(1) });
    bench.item(1, 1);
    bench.wait(20);
    let metrics = bench.driver.take(&MONITORING_EVENTS.name);
    let event = DomainEvent::parse(metrics[0].value.as_deref().expect("an event"));
    let data = event.expect("an event").event_data;
    assert_eq!((&data["metric"], &data["value"]), (&json!("execution_time_ms"), &json!(15.0)));
    assert_eq!((&data["agentType"], &data["success"]), (&json!("worker"), &json!(true)));
}

#[test]
fn a_failure_is_an_event_that_says_whether_another_try_may_help() {
    let mut bench = Bench::new(Behaviour { failures: 1_000, ..Behaviour::flawless(1) });
    bench.item(1, 2);
    bench.ask(2, "TaskAssigned", json!({"taskId": "t", "description": "d"}));
    bench.ask(3, "ReviewRequested", json!({"taskId": "t", "round": 0, "results": []}));
    bench.wait(20);
    let answers = bench.answers();
    let told = |kind: &str, field: &str| {
        let found = answers.iter().filter(|answer| answer.event_type == kind);
        found.map(|answer| answer.event_data[field].clone()).collect::<Vec<_>>()
    };
    assert_eq!(told("WorkItemFailed", "attempt"), [json!(2)]);
    assert_eq!(told("WorkItemFailed", "retryable"), [json!(true)]);
    assert_eq!(told("TaskErrorOccurred", "stage"), [json!("analysis"), json!("review")]);
    assert_eq!(told("TaskErrorOccurred", "errorCode")[0], json!("AGENT_REPORTED"));
}

#[test]
fn an_answered_step_is_answered_again_and_not_executed_again() {
    let mut bench = Bench::new(Behaviour::flawless(1));
    bench.item(1, 1);
    bench.wait(20);
    let (first, begun) = (bench.answers(), bench.agents.begun.lock().expect("one thread").len());
    bench.item(1, 1);
    assert_eq!(bench.answers(), first);
    bench.wait(20);
    assert!(bench.answers().is_empty());
    assert_eq!(bench.agents.begun.lock().expect("one thread").len(), begun);
}

#[test]
fn a_request_that_comes_twice_before_its_answer_is_one_piece_of_work() {
    let mut bench =
        Bench::new(Behaviour { fastest_ms: 500, slowest_ms: 500, ..Behaviour::flawless(1) });
    bench.item(1, 1);
    bench.item(1, 1);
    assert_eq!(bench.rows(WORK_STORE), 1);
    bench.wait(600);
    assert_eq!(bench.answers().len(), 1);
}

#[test]
fn work_under_way_survives_a_restart_and_a_move() {
    let mut bench =
        Bench::new(Behaviour { fastest_ms: 500, slowest_ms: 500, ..Behaviour::flawless(1) });
    bench.item(1, 1);
    bench.wait(20);
    bench.driver.restart().expect("it starts");
    bench.item(2, 2);
    bench.wait(20);
    bench.driver.move_task().expect("it starts");
    assert!(bench.answers().is_empty());
    bench.wait(600);
    let answered: BTreeSet<_> =
        bench.answers().iter().filter_map(|answer| answer.metadata.causation_id).collect();
    assert_eq!(answered, BTreeSet::from([1, 2].map(Uuid::from_u128)));
    bench.driver.restart().expect("it starts");
    bench.wait(600);
    assert!(bench.answers().is_empty(), "once is enough");
}

#[test]
fn a_cancelled_item_is_withdrawn_and_never_answered() {
    let mut bench =
        Bench::new(Behaviour { fastest_ms: 500, slowest_ms: 500, ..Behaviour::flawless(1) });
    bench.item(1, 1);
    bench.ask(2, "WorkItemCancelled", json!({"workItemId": "w", "taskId": "t", "reason": "r"}));
    bench.wait(600);
    assert!(bench.answers().is_empty());
    assert_eq!(*bench.agents.withdrawn.lock().expect("one thread"), [Uuid::from_u128(1)]);
    assert_eq!(bench.rows(WORK_STORE), 0);
}

#[test]
fn a_request_that_cannot_be_read_is_a_dead_letter() {
    let mut bench = Bench::new(Behaviour::flawless(1));
    bench.ask(1, "WorkItemCreated", json!({"id": "w"}));
    bench.wait(20);
    assert!(bench.answers().is_empty());
    assert_eq!(bench.driver.take(&AGENT_TASKS_WORKER.dead_letters().name).len(), 1);
}

#[test]
fn work_that_the_agents_have_no_room_for_goes_to_the_retry_topic_and_others_go_on() {
    let refusing = Behaviour { unwilling: 500, ..Behaviour::flawless(1) };
    let mut bench = Bench::new(refusing);
    for step in 1..=100 {
        bench.item(step, 1);
    }
    let retries = bench.driver.take(&AGENT_TASKS_WORKER.retries().name);
    let header = |name| retries[0].headers.last(name).and_then(|header| header.value.clone());
    assert_eq!(header(headers::RETRY_AT).as_deref(), Some(&b"1000"[..]));
    let why = header(headers::ERROR_MESSAGE).expect("a reason");
    assert_eq!(&*why, b"RETRIABLE_EXCEPTION: 1 pieces of work wait already");
    assert!((30..70).contains(&retries.len()), "{}", retries.len());
    bench.wait(20);
    assert_eq!(bench.answers().len() + retries.len(), 100);
    assert!(bench.driver.take(&AGENT_TASKS_WORKER.dead_letters().name).is_empty());
}

#[test]
fn what_asks_for_no_work_is_never_refused() {
    let mut bench = Bench::new(Behaviour { unwilling: 1_000, ..Behaviour::flawless(1) });
    bench.ask(2, "WorkItemCancelled", json!({"workItemId": "w", "taskId": "t", "reason": "r"}));
    assert!(bench.driver.take(&AGENT_TASKS_WORKER.retries().name).is_empty());
}

#[test]
fn a_thousand_pieces_of_work_are_answered_in_one_go() {
    let mut bench = Bench::new(Behaviour::flawless(1));
    for step in 1..=1_000 {
        bench.item(step, 1);
    }
    bench.wait(20);
    assert_eq!(bench.answers().len(), 1_000);
}
