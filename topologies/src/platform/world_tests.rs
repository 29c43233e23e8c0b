//! Every topology of the platform at once, stepped by hand, with simulated agents of a seed, and
//! tasks that are restarted and moved: each user's task has one outcome, and every view says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use headwater::query::{Parameters, Route};
use headwater::testing::{TestBytes, TopologyTestDriver};
use headwater_schemas::envelope::DomainEvent;
use headwater_schemas::topics::{
    AGENT_RESPONSES, AGENT_TASKS_MANAGER, AGENT_TASKS_WORKER, QUALITY_GATES, SESSION_COMMANDS,
    SESSION_EVENTS, TASK_COMPLETED, Topic,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};

use super::*;
use crate::agents::{Behaviour, Simulated};
use crate::retry::delay::Totals;
use crate::saga::{SagaState, Timing};
use crate::workflow::WorkflowRecord;

const TOPICS: [&Topic; 7] = [
    &AGENT_TASKS_MANAGER,
    &AGENT_TASKS_WORKER,
    &AGENT_RESPONSES,
    &TASK_COMPLETED,
    &QUALITY_GATES,
    &SESSION_COMMANDS,
    &SESSION_EVENTS,
];

/// Which applications read a topic; the analytics read none of these.
fn readers(topic: &str) -> &'static [&'static str] {
    match topic {
        "agent.tasks.manager" => &[workflow::APPLICATION, runner::APPLICATION],
        "agent.tasks.worker" => &[runner::APPLICATION],
        "agent.responses" | "quality.gates" => &[workflow::APPLICATION],
        "task.completed" => &[quality::topology::APPLICATION],
        "session.commands" => &[session::AGGREGATE],
        "session.events" => &[session::AGGREGATE, session::PROJECTION],
        other => panic!("nobody reads {other}"),
    }
}

struct World {
    drivers: BTreeMap<&'static str, TopologyTestDriver>,
    rng: ChaCha8Rng,
    tasks: TasksRoute,
    /// Ids of gates' results and of what sessions were told.
    told: BTreeSet<(String, String)>,
    ends: BTreeMap<String, Vec<String>>,
    now: i64,
}

impl World {
    fn new(seed: u64) -> Self {
        let options = WorkflowOptions {
            analysis_ms: 2_000,
            item_ms: 2_000,
            review_ms: 2_000,
            quality_ms: 2_000,
            saga: Timing { backoff_ms: 100, ..Timing::default() },
            ..WorkflowOptions::default()
        };
        let behaviour = Behaviour {
            seed,
            failures: 120,
            fatal: 20,
            hangs: 30,
            busy: 60,
            unwilling: 30,
            rejections: 150,
            poor: 80,
            ..Behaviour::default()
        };
        let mut drivers = BTreeMap::new();
        for application in applications(Arc::new(Simulated(behaviour)), options, Policy::default())
        {
            let builder = StreamsBuilder::new();
            (application.topology)(&builder);
            let topology = builder.build().expect("the topology has no mistakes");
            let driver = TopologyTestDriver::new(&topology).expect("it starts");
            drivers.insert(application.id, driver);
        }
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let tasks = TasksRoute(Arc::new(Publisher::new("test")));
        let (told, ends) = (BTreeSet::new(), BTreeMap::new());
        Self { drivers, rng, tasks, told, ends, now: 0 }
    }

    fn give(&mut self, task: u64) {
        let body = json!({"id": format!("t{task}"), "sessionId": format!("s{}", task / 3),
            "userId": "u", "description": "d"});
        let asked = Parameters::default();
        let taken = self.tasks.take(body.to_string().as_bytes(), &asked, self.now);
        for record in taken.expect("a task").records {
            for reader in readers(&record.topic) {
                let driver = self.drivers.get_mut(reader).expect("it runs");
                let (key, value) = (Some(&*record.key), Some(&*record.value));
                driver
                    .pipe(&record.topic, key, value, record.timestamp, &record.headers)
                    .expect("it goes on");
            }
        }
        self.settle();
    }

    /// Carries records from writers to readers until there are none.
    fn settle(&mut self) {
        let names: Vec<_> = self.drivers.keys().copied().collect();
        loop {
            let mut moved = false;
            for writer in &names {
                for topic in TOPICS {
                    let driver = self.drivers.get_mut(writer).expect("it runs");
                    let aside = [topic.retries(), topic.dead_letters()];
                    let failed = aside.each_ref().map(|topic| driver.take(&topic.name));
                    for (topic, records) in aside.iter().zip(failed) {
                        moved |= !records.is_empty();
                        self.set_aside(topic, records);
                    }
                    let driver = self.drivers.get_mut(writer).expect("it runs");
                    for record in driver.take(&topic.name) {
                        moved = true;
                        if *writer != retry::RETRIES {
                            self.note(topic, record.value.as_deref().expect("a document"));
                        }
                        // A driver has read back what it wrote itself.
                        for reader in readers(&topic.name).iter().filter(|r| *r != writer) {
                            let driver = self.drivers.get_mut(reader).expect("it runs");
                            let (key, value) = (record.key.as_deref(), record.value.as_deref());
                            driver
                                .pipe(&topic.name, key, value, record.timestamp, &record.headers)
                                .expect("it goes on");
                        }
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// Gives failed records to whoever retries or keeps them.
    fn set_aside(&mut self, topic: &Topic, records: Vec<TestBytes>) {
        let application =
            if topic.name.ends_with(".retry") { retry::RETRIES } else { retry::MANAGER };
        for record in records {
            assert!(topic.name.starts_with("agent.tasks."), "{}: {record:?}", topic.name);
            let driver = self.drivers.get_mut(application).expect("it runs");
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            driver
                .pipe(&topic.name, key, value, record.timestamp, &record.headers)
                .expect("it goes on");
        }
    }

    /// What came to be tried again, how much of it went back, and how much was given up.
    fn retries(&self) -> Totals {
        let stores = runner::GUARDED.iter().map(|topic| format!("retries.{}", topic.name));
        let rows = stores.flat_map(|store| self.rows(retry::RETRIES, &store));
        let read = |row| serde_json::from_value::<Totals>(row).expect("totals");
        rows.map(read).fold(Totals::default(), Totals::and)
    }

    fn note(&mut self, topic: &'static Topic, value: &[u8]) {
        let Ok(event) = DomainEvent::parse(value) else { return };
        let id = (topic.name.to_string(), event.event_id.to_string());
        assert!(self.told.insert(id), "{} {} twice", event.event_type, event.event_id);
        let status = event.event_data.get("status").and_then(Value::as_str);
        if let ("TaskStatusUpdated", Some(status @ ("COMPLETED" | "FAILED"))) =
            (event.event_type.as_str(), status)
        {
            self.ends.entry(event.aggregate_id).or_default().push(status.to_owned());
        }
    }

    fn wait(&mut self, ms: u64) {
        self.now += i64::try_from(ms).expect("small");
        for driver in self.drivers.values_mut() {
            driver.advance_wall_clock(Duration::from_millis(ms)).expect("it goes on");
        }
        self.settle();
    }

    /// A process dies behind a commit, or hands its task over.
    fn disturb(&mut self) {
        let at = self.rng.random_range(0..self.drivers.len());
        let driver = self.drivers.values_mut().nth(at).expect("one of them");
        let done = if self.rng.random() { driver.restart() } else { driver.move_task() };
        done.expect("it starts");
    }

    fn rows(&self, application: &str, store: &str) -> Vec<Value> {
        let rows = self.drivers[application].rows(store);
        rows.iter().map(|row| serde_json::from_slice(&row.value).expect("json")).collect()
    }

    fn sagas(&self) -> Vec<WorkflowRecord> {
        let rows = self.rows(workflow::APPLICATION, workflow::STORE);
        rows.into_iter().map(|row| serde_json::from_value(row).expect("a saga")).collect()
    }
}

#[test]
fn each_task_has_one_outcome_and_workflow_log_and_session_agree_on_it() {
    let (mut completed, mut failed, mut all) = (0, 0, Totals::default());
    for seed in 1..=5 {
        let mut world = World::new(seed);
        for task in 0..30 {
            world.give(task);
            if task % 3 == 2 {
                let ms = world.rng.random_range(0..400);
                world.wait(ms);
                world.disturb();
            }
        }
        for _ in 0..400 {
            if world.sagas().iter().all(|saga| saga.state.is_final()) {
                break;
            }
            world.wait(250);
            if world.rng.random_range(0..4) == 0 {
                world.disturb();
            }
        }
        let sagas = world.sagas();
        assert_eq!(sagas.len(), 30, "seed {seed}");
        let mut expected = BTreeMap::new();
        for saga in &sagas {
            let (end, shown) = match saga.state {
                SagaState::Completed => ("COMPLETED", "completed"),
                SagaState::Failed => ("FAILED", "failed"),
                state => panic!("seed {seed}: {} is {state:?}", saga.saga_id),
            };
            assert_eq!(world.ends[&saga.saga_id], [end], "seed {seed}");
            expected.insert(saga.saga_id.clone(), shown.to_owned());
        }
        let mut views = BTreeMap::new();
        for session in world.rows(session::PROJECTION, session::STORE) {
            assert_ne!(session["status"], "active", "seed {seed}: {session}");
            for task in session["activeTasks"].as_array().expect("tasks") {
                let text = |name: &str| task[name].as_str().unwrap_or_default().to_owned();
                views.insert(text("taskId"), text("status"));
            }
        }
        assert_eq!(views, expected, "seed {seed}");
        // Whatever is refused for ever is refused for the last time by now.
        for _ in 0..10 {
            world.wait(5_000);
            world.disturb();
        }
        let totals = world.retries();
        assert_eq!((totals.waiting(), totals.taken), (0, totals.sent_back + totals.given_up));
        let letters = world.rows(retry::MANAGER, retry::manager::LETTERS).len();
        assert_eq!(u64::try_from(letters), Ok(totals.given_up), "seed {seed}");
        all = all.and(totals);
        completed += expected.values().filter(|status| *status == "completed").count();
        failed += expected.values().filter(|status| *status == "failed").count();
    }
    assert!(completed > 50 && failed > 10, "{completed} completed, {failed} failed");
    assert!(all.sent_back > 20 && all.given_up > 5, "{all:?}");
}
