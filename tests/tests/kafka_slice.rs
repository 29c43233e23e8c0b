//! Killed with -9 at any moment, on a real broker, the application has lost nothing, doubled nothing
//! and never thrown its state away. Outputs are read with a client of the test's own and compared
//! with a recomputation from the input; stores are compared with the same, and with stores that are
//! restored from the changelogs alone.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use headwater::runtime::Host;
use headwater_tests::child::Child;
use headwater_tests::kafka_broker::KafkaBroker;
use headwater_tests::proof;
use headwater_tests::slice::judge::{Outputs, stores};
use headwater_tests::slice::load::Load;
use headwater_tests::slice::model::Expected;
use headwater_tests::slice::{self, COUNTS, INPUT, PARTITIONS, TOTALS, WINDOWS};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Kills in `make test`.
const KILLS: u64 = 5;
const AT_LEAST_ONCE: [(&str, &str); 2] =
    [("PROCESSING_GUARANTEE", "at_least_once"), ("KAFKA_MEMBERSHIP", "single")];
const SOON: Duration = Duration::from_secs(120);
/// Times the broker is killed under one running application.
const BROKER_KILLS: usize = 3;

#[test]
fn an_application_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    let seeds = proof::seeds("kafka slice", KILLS);
    prove("kafka slice", *seeds.start(), |broker, state, watch| {
        for seed in seeds.clone() {
            kill_once(broker, state, seed, watch);
        }
        format!("{} kills ({} before it ran)", seeds.count(), watch.early)
    });
}

#[test]
fn a_broker_that_is_killed_under_the_application_costs_time_and_nothing_else() {
    // A lone broker of 4.3 may forget transactions when it comes back (docs/kafka.md).
    let broker = KafkaBroker::start_version("3.9.1", &[]);
    prove_on(broker, "kafka slice under broker kills", 1, |broker, state, watch| {
        let mut child = Child::start("slice", &command(broker, state));
        wait_until_it_runs(&mut child, 1, watch);
        for _ in 0..BROKER_KILLS {
            wait(Duration::from_millis(1_500));
            broker.kill();
            wait(Duration::from_millis(1_500));
            broker.restart();
        }
        wait(Duration::from_millis(1_500));
        assert!(!child.has_ended(), "it lives through it:\n{}", child.log_tail());
        child.kill();
        format!("{BROKER_KILLS} kills of the broker")
    });
}

#[test]
fn of_two_processes_without_a_group_the_newer_runs_and_the_older_stops() {
    prove("kafka slice taken over", 1, |broker, state, watch| {
        let alone = |state: &Path| {
            let mut command = command(broker, state);
            command.env("KAFKA_MEMBERSHIP", "single");
            Child::start("slice", &command)
        };
        let mut old = alone(state);
        wait_until_it_runs(&mut old, 1, watch);
        wait(Duration::from_millis(500));
        let elsewhere = tempfile::tempdir().expect("a folder for the newer one's state");
        let mut new = alone(elsewhere.path());
        wait_until_it_runs(&mut new, 1, &mut Watch::default());
        let status = old.wait(SOON);
        assert!(!status.success(), "the older one stops with a failure");
        let said = old.log_tail();
        for part in ["failed: application slice", "id slice-0-0", "stop the other one"] {
            assert!(said.contains(part), "{part}:\n{said}");
        }
        wait(Duration::from_millis(1_000));
        assert!(!new.has_ended(), "the newer one goes on:\n{}", new.log_tail());
        new.kill();
        "one takeover".to_owned()
    });
}

#[test]
fn at_least_once_an_application_that_is_killed_again_and_again_loses_nothing() {
    let Some(broker) = KafkaBroker::start(&[]) else { return };
    for topic in [INPUT, COUNTS, WINDOWS, TOTALS] {
        broker.create_topic(topic, PARTITIONS, &[]);
    }
    let state = tempfile::tempdir().expect("a folder for state");
    let load = Load::start(&broker, 7);
    for _ in 0..3 {
        let mut command = command(&broker, state.path());
        command.envs(AT_LEAST_ONCE);
        let mut child = Child::start("slice", &command);
        wait_until_it_runs(&mut child, 7, &mut Watch::default());
        wait(Duration::from_millis(1_200));
        child.kill();
    }
    let expected = Expected::of(&load.stop());
    let host = slice::start_with(&broker.address(), state.path(), &AT_LEAST_ONCE);
    let host = host.expect("it starts");
    // Repeated outputs stand in for missing ones, so their number says nothing.
    let deadline = Instant::now() + SOON;
    let counts = loop {
        let mut outputs = Outputs::read(&broker, &expected);
        let counts = outputs.topics.remove(COUNTS).unwrap_or_default();
        let reached = |key: &String| counts.get(key).and_then(|all| all.iter().max()).copied();
        let behind = expected.counts.iter().find(|(key, count)| reached(key) < Some(**count));
        let Some((key, count)) = behind else { break counts };
        assert!(Instant::now() < deadline, "{key}: {:?} of {count}", reached(key));
    };
    end(host);
    let told: usize = counts.values().map(Vec::len).sum();
    let written = usize::try_from(expected.counts.values().sum::<i64>()).expect("few");
    proof::say(&format!("kafka slice at least once: 3 kills, {written} records, {told} counts"));
    broker.stop();
}

/// Runs faults under load, then compares everything there is.
fn prove(name: &str, seed: u64, faults: impl FnOnce(&KafkaBroker, &Path, &mut Watch) -> String) {
    let broker = KafkaBroker::start(&[]);
    prove_on(broker, name, seed, faults);
}

fn prove_on(
    broker: Option<KafkaBroker>,
    name: &str,
    seed: u64,
    faults: impl FnOnce(&KafkaBroker, &Path, &mut Watch) -> String,
) {
    let Some(broker) = broker else { return };
    for topic in [INPUT, COUNTS, WINDOWS, TOTALS] {
        broker.create_topic(topic, PARTITIONS, &[]);
    }
    let state = tempfile::tempdir().expect("a folder for state");
    let load = Load::start(&broker, seed);
    let mut watch = Watch::default();
    let done = faults(&broker, state.path(), &mut watch);
    let input = load.stop();
    let expected = Expected::of(&input);

    let host = slice::start(&broker.address(), state.path()).expect("it starts");
    let outputs = Outputs::read(&broker, &expected);
    assert_eq!(outputs.judge(&expected), [""; 0], "{name}");
    let survived = stores(&[&host], &expected);
    end(host);
    // Nothing more came while it stopped.
    assert_eq!(Outputs::read(&broker, &expected).judge(&expected), [""; 0], "{name}");

    let empty = tempfile::tempdir().expect("another folder");
    let host = slice::start(&broker.address(), empty.path()).expect("it starts");
    let restored = stores(&[&host], &expected);
    end(host);
    assert_eq!(survived, restored, "{name}: what survived is what the changelogs hold");
    assert_eq!(Outputs::read(&broker, &expected).judge(&expected), [""; 0], "{name}");
    proof::say(&format!(
        "{name}: {done}, {} records, {} late, {} restores from the stores' own positions of {} \
         changelog offsets in all; 0 lost, 0 doubled, stores equal",
        input.iter().map(Vec::len).sum::<usize>(),
        expected.late,
        watch.resumed,
        watch.offsets,
    ));
    broker.stop();
}

/// What the children said about their state.
#[derive(Default)]
struct Watch {
    /// Children that were killed before they ran.
    early: u64,
    /// Restores that went on from a store's position, and of how many offsets.
    resumed: u64,
    offsets: i64,
    /// Stores that have had a position.
    known: BTreeSet<(String, String)>,
}

impl Watch {
    /// Reads one line of a child's log. A store that once had a position has one ever after.
    fn read(&mut self, line: &str, seed: u64) {
        if line.contains("failed:") || line.contains("ERROR") {
            panic!("seed {seed}: {line}");
        }
        if !line.contains(" restore ") || !line.contains("why=") {
            return;
        }
        let field = |name: &str| {
            let rest = line.split_once(&format!(" {name}=")).map(|(_, rest)| rest)?;
            rest.split_whitespace().next().map(str::to_owned)
        };
        let part = |name: &str| field(name).unwrap_or_else(|| panic!("no {name}: {line}"));
        let number = |name: &str| part(name).parse::<i64>().expect("an offset");
        let store = (part("task"), part("store"));
        if line.contains("the store's position\"") {
            self.resumed += 1;
            self.offsets += number("to") - number("from");
            self.known.insert(store);
        } else {
            assert!(!self.known.contains(&store), "seed {seed}: state was thrown away: {line}");
        }
    }
}

/// Runs the application in a process of its own and kills it: mostly while it runs, sometimes
/// while it starts.
fn kill_once(broker: &KafkaBroker, state: &Path, seed: u64, watch: &mut Watch) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut child = Child::start("slice", &command(broker, state));
    if random.random_ratio(1, 4) {
        watch.early += 1;
        wait(Duration::from_millis(random.random_range(0..1_500)));
        child.log_tail().lines().for_each(|line| watch.read(line, seed));
    } else {
        wait_until_it_runs(&mut child, seed, watch);
        wait(Duration::from_millis(random.random_range(0..2_500)));
        for line in child.log_tail().lines() {
            assert!(!line.contains("failed:"), "seed {seed}: {line}");
        }
    }
    child.kill();
}

fn command(broker: &KafkaBroker, state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slice"));
    command.arg(broker.address()).arg(state).env("KAFKA_INSTANCE_ID", slice::APPLICATION);
    command
}

fn wait_until_it_runs(child: &mut Child, seed: u64, watch: &mut Watch) {
    let watch = RefCell::new(watch);
    child.wait_for_line(SOON, |line| {
        watch.borrow_mut().read(line, seed);
        line == "running"
    });
}

fn wait(time: Duration) {
    let deadline = Instant::now() + time;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        park_timeout(left);
    }
}

fn end(host: Host) {
    host.stop();
    host.wait().expect("it stops in order");
}
