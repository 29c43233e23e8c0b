//! Random traces of many sagas at once: the topology, restarted and moved, against sagas in a plain
//! map with a plain clock; and under simulated faults, where every saga ends once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use headwater::dsl::StreamsBuilder;
use headwater::record::Headers;
use headwater::serde::kafka_streams::partition_for;
use headwater::testing::{Input, Inputs, Outcome, simulate};
use headwater_schemas::envelope::DomainEvent;
use headwater_schemas::events::Event;
use headwater_schemas::routing::topic_of;
use headwater_schemas::topics::{
    AGENT_TASKS_MANAGER, AGENT_TASKS_WORKER, SESSION_EVENTS, TASK_COMPLETED,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};
use uuid::Uuid;

use super::topology::tests::{document, driver};
use super::topology::{STORE, event_time, saga_key, topology};
use super::{WorkflowOptions, WorkflowRecord, WorkflowSaga, saga, take, task_of};
use crate::platform_event::PlatformEvent;
use crate::saga::Timing;

const SESSIONS: [&str; 3] = ["s", "r", "q"];
const TASKS: [&str; 3] = ["t", "u", "v"];
const ITEMS: [&str; 3] = ["a", "b", "c"];

/// Short ones, so that a trace sees many of them.
fn options() -> WorkflowOptions {
    WorkflowOptions {
        analysis_ms: 400,
        item_ms: 700,
        review_ms: 400,
        quality_ms: 300,
        saga: Timing { backoff_ms: 50, backoff_max_ms: 200, ..Timing::default() },
        ..WorkflowOptions::default()
    }
}

/// What happens next: an event of some session, valid or late or foreign.
fn event(draw: &mut dyn FnMut(u64) -> u64) -> (&'static str, &'static str, Value) {
    let mut pick = |words: &[&'static str]| {
        let count = u64::try_from(words.len()).expect("few");
        words[usize::try_from(draw(count)).expect("few")]
    };
    let (session, task, item) = (pick(&SESSIONS), pick(&TASKS), pick(&ITEMS));
    let kinds = [
        "TaskAssigned",
        "TaskAssigned",
        "TaskAnalyzed",
        "TaskAnalyzed",
        "WorkItemCompleted",
        "WorkItemCompleted",
        "WorkItemCompleted",
        "WorkItemCompleted",
        "WorkItemFailed",
        "TaskErrorOccurred",
        "TaskReviewed",
        "TaskReviewed",
        "QualityGateResult",
        "QualityGateResult",
        "QualityGateResult",
    ];
    let kind = pick(&kinds);
    let good = pick(&["yes", "yes", "yes", "no"]) == "yes";
    let (attempt, round) = (1 + draw(3), draw(2));
    let data = match kind {
        "TaskAssigned" => json!({"taskId": task, "description": "d"}),
        "TaskAnalyzed" => {
            let count = usize::try_from(draw(4)).expect("few");
            let items: Vec<_> = ITEMS[..count]
                .iter()
                .map(|id| json!({"id": id, "description": "d", "type": "testing"}))
                .collect();
            json!({"taskId": task, "workItems": items, "estimatedDuration": 1})
        }
        "WorkItemCompleted" => json!({"workItemId": item, "taskId": task, "completedAt": 5,
            "executionTime": 7, "attempt": attempt,
            "result": {"success": good, "output": "o"}}),
        "WorkItemFailed" => json!({"workItemId": item, "taskId": task, "error": "e",
            "retryable": good, "attempt": attempt}),
        "TaskErrorOccurred" => json!({"taskId": task, "stage": "x", "errorCode": "E",
            "message": "m", "retryable": good, "attempt": 1}),
        "TaskReviewed" => json!({"taskId": task, "round": round, "review": {"approved": good}}),
        _ => json!({"gateId": "result-success", "gateName": "g", "workItemId": item,
            "taskId": task, "passed": good, "score": 1, "threshold": 1, "required": true,
            "evaluatedAt": 1, "durationMs": 0, "attempt": attempt}),
    };
    (session, kind, data)
}

/// Sagas in a map, and the time.
struct Model {
    saga: WorkflowSaga,
    sagas: BTreeMap<String, WorkflowRecord>,
    now: i64,
    emitted: usize,
}

impl Model {
    fn take(&mut self, session: &str, document: &Value) {
        let event = DomainEvent::parse(document.to_string().as_bytes()).expect("an event");
        let payload = Event::of(&event).expect("a payload");
        let event = PlatformEvent { event, payload };
        let key = saga_key(session, task_of(&event).expect("of a task"));
        let before = self.sagas.remove(&key);
        let (after, reaction) = take(&self.saga, before, &event, event_time(self.now));
        self.emitted += reaction.emitted.len();
        self.sagas.extend(after.map(|after| (key, after)));
    }

    fn wait(&mut self, ms: i64) {
        self.now += ms;
        let now = event_time(self.now);
        let due = |saga: &WorkflowSaga, record: &WorkflowRecord| {
            saga.due(record).is_some_and(|due| due <= now)
        };
        loop {
            let found = self.sagas.iter().find(|(_, record)| due(&self.saga, record));
            let Some(key) = found.map(|(key, _)| key.clone()) else { return };
            let before = self.sagas.remove(&key).expect("just found");
            let (after, reaction) = self.saga.tick(before, now);
            self.emitted += reaction.emitted.len();
            self.sagas.extend(after.map(|after| (key, after)));
        }
    }
}

#[test]
fn random_traces_of_many_sagas_leave_what_plain_sagas_in_a_map_leave() {
    let options = options();
    for seed in 0..60 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut driver = driver(&options);
        let (saga, sagas) = (saga(&options), BTreeMap::new());
        let mut model = Model { saga, sagas, now: 0, emitted: 0 };
        for step in 0..150 {
            match rng.random_range(0..20) {
                0..=3 => {
                    let ms = rng.random_range(0..300);
                    driver.advance_wall_clock(Duration::from_millis(ms)).expect("it goes on");
                    model.wait(i64::try_from(ms).expect("small"));
                }
                4 if step % 2 == 0 => driver.restart().expect("it starts"),
                4 => driver.move_task().expect("it starts"),
                _ => {
                    let (session, kind, data) = event(&mut |below| rng.random_range(0..below));
                    let document = document(session, kind, &data, None);
                    let (topic, value) = (&topic_of(kind).name, document.to_string());
                    let (key, value) = (Some(session.as_bytes()), Some(value.as_bytes()));
                    driver.pipe(topic, key, value, 1, Headers::empty()).expect("it goes on");
                    model.take(session, &document);
                }
            }
            let found: BTreeMap<String, WorkflowRecord> = driver
                .rows(STORE)
                .into_iter()
                .map(|row| {
                    let key = String::from_utf8(row.key).expect("text");
                    (key, serde_json::from_slice(&row.value).expect("a row"))
                })
                .collect();
            assert_eq!(found, model.sagas, "seed {seed}, step {step}");
        }
        // Silence: by their deadlines alone, all come to an end.
        for _ in 0..60 {
            driver.advance_wall_clock(Duration::from_millis(200)).expect("it goes on");
            model.wait(200);
        }
        assert!(model.sagas.values().all(|saga| saga.state.is_final()), "seed {seed}");
        assert_eq!(driver.rows(STORE).len(), model.sagas.len(), "seed {seed}");
        assert!(model.emitted > 20, "seed {seed} tells something");
    }
}

fn inputs(inputs: &mut Inputs) {
    for _ in 0..inputs.draw(60..140) {
        let (session, kind, data) = event(&mut |below| inputs.draw(0..below));
        let document = document(session, kind, &data, None);
        let partition = partition_for(session.as_bytes(), inputs.partitions());
        inputs.push(Input {
            topic: (&*topic_of(kind).name).into(),
            partition,
            timestamp: 1_767_607_200_000,
            key: Some(session.as_bytes().to_vec()),
            value: Some(document.to_string().into_bytes()),
        });
    }
}

/// Each task that was assigned has one saga; each saga ended once or waits for a time to come; each
/// event was told once.
fn check(outcome: &Outcome<'_>) -> Result<(), String> {
    let mut assigned = BTreeSet::new();
    for input in outcome.inputs().iter().filter(|input| *input.topic == *AGENT_TASKS_MANAGER.name) {
        let event = DomainEvent::parse(input.value.as_deref().unwrap_or_default())
            .map_err(|error| error.to_string())?;
        let task = event.event_data["taskId"].as_str().unwrap_or_default();
        assigned.insert(saga_key(event.metadata.session_id.as_deref().unwrap_or_default(), task));
    }
    let mut sagas = BTreeMap::new();
    for partition in 0..3 {
        for (key, value) in outcome.rows(STORE, partition).into_iter().flatten() {
            let saga: WorkflowRecord =
                serde_json::from_slice(value).map_err(|error| error.to_string())?;
            sagas.insert(String::from_utf8_lossy(key).into_owned(), saga);
        }
    }
    let known: BTreeSet<_> = sagas.keys().cloned().collect();
    if known != assigned {
        return Err(format!("sagas {known:?}, assigned {assigned:?}"));
    }
    let (mut ids, mut ends) = (BTreeSet::new(), BTreeMap::new());
    for topic in [&SESSION_EVENTS, &AGENT_TASKS_WORKER, &TASK_COMPLETED] {
        for record in outcome.records(&topic.name).into_iter().flatten() {
            let event = DomainEvent::parse(record.value.as_deref().unwrap_or_default())
                .map_err(|error| error.to_string())?;
            // A fact is told as often as it comes; what the workflow itself says, once a topic.
            let own = event.metadata.timestamp.as_millis() > 1;
            if own && !ids.insert((topic.name.clone(), event.event_id)) {
                return Err(format!("{} {} twice", event.event_type, event.event_id));
            }
            let status = event.event_data.get("status").and_then(Value::as_str);
            if let ("TaskStatusUpdated", Some("COMPLETED" | "FAILED")) =
                (event.event_type.as_str(), status)
            {
                let session = event.metadata.session_id.clone().unwrap_or_default();
                *ends.entry(saga_key(&session, &event.aggregate_id)).or_insert(0) += 1;
            }
        }
    }
    for (key, saga) in &sagas {
        let told = ends.get(key).copied().unwrap_or(0);
        if told != usize::from(saga.state.is_final()) {
            return Err(format!(
                "saga {key} is {:?} and its end was told {told} times",
                saga.state
            ));
        }
        if !saga.state.is_final() && saga.deadline.is_none() && saga.retry_at.is_none() {
            let waits = saga.data.work_items.iter();
            if !waits.clone().any(|item| item.deadline.or(item.retry_at).is_some()) {
                return Err(format!("saga {key} waits for nothing"));
            }
        }
    }
    Ok(())
}

#[test]
fn whatever_goes_wrong_each_saga_ends_once_and_tells_everything_once() {
    let builder = StreamsBuilder::new();
    topology(&builder, &options());
    let topology = builder.build().expect("the topology has no mistakes");
    let simulation =
        simulate(&topology, 1..=16).named("agent-workflow").inputs(inputs).check(check);
    let report = simulation.run().unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(report.seeds, 16);
    assert!(report.met.values().sum::<u64>() > 100, "{:?}", report.met);
}

#[test]
fn ids_of_what_a_saga_tells_differ() {
    let cause = Uuid::from_u128(1);
    let first = crate::saga::emission_id(cause, "t:analyse:1:0");
    assert_eq!(first, crate::saga::emission_id(cause, "t:analyse:1:0"));
    assert_ne!(first, crate::saga::emission_id(cause, "t:analyse:2:0"));
}
