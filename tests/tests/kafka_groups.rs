//! Several processes of one application share its tasks by a consumer group, on a real broker: a
//! process joins, leaves for a restart, is killed, or is stopped for so long that others take over,
//! and nothing is lost, doubled or restored without need. Processes are children of the test; what
//! they wrote and kept is compared with a recomputation.

use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use headwater_tests::child::{Child, signal};
use headwater_tests::kafka_broker::{FAST_GROUPS, KafkaBroker};
use headwater_tests::proof;
use headwater_tests::slice::judge::{Outputs, stores};
use headwater_tests::slice::load::Load;
use headwater_tests::slice::model::Expected;
use headwater_tests::slice::{self, COUNTS, INPUT, PARTITIONS, TOTALS, WINDOWS};
use rdkafka::consumer::{BaseConsumer, Consumer};

const SOON: Duration = Duration::from_secs(60);
/// Of the test's groups, under both protocols.
const SESSION: Duration = Duration::from_secs(3);
/// Of every transaction.
const TRANSACTION: Duration = Duration::from_secs(10);
/// Two subtopologies of four partitions.
const TASKS: usize = 8;
/// Two processes, a broker and a load are enough for one machine at a time.
static ONE: Mutex<()> = Mutex::new(());

/// One process of the application; its state outlives it.
struct Instance {
    name: &'static str,
    state: tempfile::TempDir,
    settings: Vec<(&'static str, &'static str)>,
    child: Option<Child>,
    /// What its lives have said and nobody waited for.
    said: Vec<String>,
}

impl Instance {
    fn new(name: &'static str, settings: &[(&'static str, &'static str)]) -> Self {
        let state = tempfile::tempdir().expect("a folder for state");
        Self { name, state, settings: settings.to_vec(), child: None, said: Vec::new() }
    }

    fn start(&mut self, broker: &KafkaBroker) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slice"));
        command.arg(broker.address()).arg(self.state.path());
        command.envs(self.settings.iter().copied());
        self.child = Some(Child::start(self.name, &command));
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().unwrap_or_else(|| panic!("{} runs", self.name))
    }

    /// Waits until it runs so many tasks, and nothing else happens to it meanwhile.
    fn has_tasks(&mut self, tasks: usize) {
        let wanted = format!("tasks {tasks}");
        let mut said = std::mem::take(&mut self.said);
        let heard = std::cell::RefCell::new(&mut said);
        self.child().wait_for_line(SOON, |line| {
            heard.borrow_mut().push(line.to_owned());
            assert!(!line.starts_with("failed:") && !line.contains(" ERROR headwater"), "{line}");
            line == wanted
        });
        self.said = said;
    }

    /// What it has said since it was asked last.
    fn news(&mut self) -> Vec<String> {
        let mut said = std::mem::take(&mut self.said);
        if let Some(child) = &mut self.child {
            said.extend(child.new_lines());
        }
        said
    }

    fn kill(&mut self) {
        self.news();
        self.child.take().expect("it runs").kill();
    }

    /// Its last words, if it fails.
    fn ends_by_itself(&mut self) -> String {
        let mut child = self.child.take().expect("it runs");
        let status = child.wait(SOON);
        assert!(!status.success(), "{} fails: {status}", self.name);
        child.log_tail()
    }

    fn stop(&mut self) {
        let status = self.child.take().expect("it runs").terminate(SOON);
        assert!(status.success(), "{} stops in order: {status}", self.name);
    }
}

impl Drop for Instance {
    /// What both have said is needed to see what went wrong.
    fn drop(&mut self) {
        if let Some(child) = self.child.as_ref().filter(|_| std::thread::panicking()) {
            proof::say(&format!("{} has said:\n{}", self.name, child.log_tail()));
        }
    }
}

fn about<'l>(lines: &'l [String], what: &[&str]) -> Vec<&'l String> {
    lines.iter().filter(|line| what.iter().any(|what| line.contains(what))).collect()
}

/// Lines that say that a task's work was thrown away or its members moved.
const DISTURBED: [&str; 4] = ["transaction lost", "Revoked {", "Lost {", "Assigned {"];

fn wait(time: Duration) {
    let deadline = Instant::now() + time;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        park_timeout(left);
    }
}

/// Runs two processes under load, then compares everything that they wrote and keep.
fn prove(
    name: &str,
    settings: &[(&'static str, &'static str)],
    story: impl FnOnce(&KafkaBroker, &mut Instance, &mut Instance),
) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(broker) = KafkaBroker::start(&FAST_GROUPS) else { return };
    for topic in [INPUT, COUNTS, WINDOWS, TOTALS] {
        broker.create_topic(topic, PARTITIONS, &[]);
    }
    let load = Load::start(&broker, 1);
    let (mut a, mut b) = (Instance::new("a", settings), Instance::new("b", settings));
    story(&broker, &mut a, &mut b);
    let input = load.stop();
    let expected = Expected::of(&input);
    a.stop();
    b.stop();
    let address = broker.address();
    let start = |instance: &Instance| {
        slice::start_with(&address, instance.state.path(), &instance.settings).expect("it starts")
    };
    let hosts = [start(&a), start(&b)];
    let outputs = Outputs::read(&broker, &expected);
    assert_eq!(outputs.judge(&expected), [""; 0], "{name}");
    stores(&[&hosts[0], &hosts[1]], &expected);
    assert_eq!(purged(&broker), usize::from(PARTITIONS), "what is read and committed is deleted");
    for host in hosts {
        host.stop();
        host.wait().expect("it stops in order");
    }
    let records = input.iter().map(Vec::len).sum::<usize>();
    let late = expected.late;
    proof::say(&format!("{name}: {records} records, {late} late; 0 lost, 0 doubled, stores equal"));
    broker.stop();
}

/// Partitions of the repartition topic that have lost their first records.
fn purged(broker: &KafkaBroker) -> usize {
    let consumer: BaseConsumer = broker.client().create().expect("a consumer can be made");
    let begins_later = |partition: &i32| {
        let ends = consumer.fetch_watermarks(slice::REPARTITION, *partition, SOON);
        ends.expect("the repartition topic is there").0 > 0
    };
    (0..i32::from(PARTITIONS)).filter(begins_later).count()
}

#[test]
fn processes_share_tasks_and_take_over_from_each_other_under_the_classic_protocol() {
    let settings = [("KAFKA_SESSION_TIMEOUT_MS", "3000")];
    prove("classic group", &settings, |broker, a, b| {
        a.start(broker);
        a.has_tasks(TASKS);
        a.news();

        b.start(broker);
        a.has_tasks(TASKS / 2);
        b.has_tasks(TASKS / 2);
        assert_eq!(about(&a.news(), &["transaction lost"]), [""; 0], "the barrier commits");

        // A restart within the session is nobody else's business, and nothing is restored.
        b.news();
        a.stop();
        a.start(broker);
        a.has_tasks(TASKS / 2);
        assert_eq!(about(&b.news(), &DISTURBED), [""; 0], "nobody else notices a restart");
        let news = a.news();
        let restores = about(&news, &[" restore "]);
        assert!(!restores.is_empty(), "{news:?}");
        for line in restores {
            let empty = line.contains("from=0 to=0 ");
            assert!(empty || line.contains("the store's position"), "state is kept: {line}");
        }

        b.kill();
        let killed = Instant::now();
        a.has_tasks(TASKS);
        proof::say(&format!("a killed process was replaced after {:?}", killed.elapsed()));

        let twin = [("KAFKA_SESSION_TIMEOUT_MS", "3000"), ("KAFKA_INSTANCE_ID", "twin")];
        let (mut older, mut younger) = (Instance::new("c", &twin), Instance::new("d", &twin));
        older.start(broker);
        older.has_tasks(TASKS / 2);
        younger.start(broker);
        younger.has_tasks(TASKS / 2);
        let said = older.ends_by_itself();
        assert!(said.contains("failed: ") && said.contains("instance twin"), "{said}");
        younger.kill();
        a.has_tasks(TASKS / 2);
        a.has_tasks(TASKS);

        b.start(broker);
        b.has_tasks(TASKS / 2);
        a.has_tasks(TASKS / 2);

        // Silent for longer than its session and its transaction, it is a zombie.
        let pid = a.child().pid();
        signal(pid, "STOP");
        b.has_tasks(TASKS);
        wait(TRANSACTION + SESSION);
        a.news();
        signal(pid, "CONT");
        b.has_tasks(TASKS / 2);
        a.has_tasks(TASKS / 2);
        assert_ne!(about(&a.news(), &["Lost {"]), [""; 0], "the zombie is told");
        wait(Duration::from_secs(1));
    });
}

#[test]
fn processes_of_several_threads_share_tasks_under_the_brokers_protocol() {
    let settings = [("KAFKA_GROUP_PROTOCOL", "consumer"), ("THREADS", "2")];
    prove("KIP-848 group", &settings, |broker, a, b| {
        a.start(broker);
        a.has_tasks(TASKS);
        b.start(broker);
        b.has_tasks(TASKS / 2);
        a.has_tasks(TASKS / 2);

        // The coordinator holds the place of a killed process until its session is over.
        b.kill();
        b.start(broker);
        b.has_tasks(TASKS / 2);
        a.news();
        wait(Duration::from_secs(1));
        b.kill();
        a.has_tasks(TASKS);
        b.start(broker);
        b.has_tasks(TASKS / 2);
        wait(Duration::from_secs(1));
    });
}
