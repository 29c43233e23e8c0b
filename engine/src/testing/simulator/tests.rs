//! The simulator, with actors that only count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use headwater_state::database::{BatchPart, BatchSink, Database, Family, FamilyKind, Reader};

use super::*;
use crate::actor::{Address, Mailbox, mailbox};
use crate::time::Now;

/// Sends a number on, one higher, until it is high enough.
struct Player {
    name: String,
    inbox: Mailbox<u64>,
    partner: Address<u64>,
    seen: Arc<AtomicU64>,
}

const LAST: u64 = 40;

impl Actor for Player {
    fn name(&self) -> &str {
        &self.name
    }

    fn bell(&self) -> Bell {
        self.inbox.bell()
    }

    fn step(&mut self, _now: Now) -> Next {
        let Some(number) = self.inbox.take() else { return Next::Wait };
        self.seen.store(number, Ordering::SeqCst);
        if number < LAST {
            self.partner.send(number + 1).expect("one message at a time");
        }
        Next::Again
    }
}

/// Wakes every ten milliseconds and counts.
struct Ticker {
    bell: Bell,
    ticks: Arc<AtomicU64>,
    next: Duration,
}

impl Ticker {
    fn boxed(ticks: &Arc<AtomicU64>) -> Box<dyn Actor> {
        Box::new(Self { bell: Bell::new(), ticks: Arc::clone(ticks), next: Duration::ZERO })
    }
}

impl Actor for Ticker {
    fn name(&self) -> &str {
        "ticker"
    }

    fn bell(&self) -> Bell {
        self.bell.clone()
    }

    fn step(&mut self, now: Now) -> Next {
        if now.monotonic >= self.next {
            self.ticks.fetch_add(1, Ordering::SeqCst);
            self.next = now.monotonic + Duration::from_millis(10);
        }
        Next::WakeAt(self.next)
    }
}

/// Two players of one ball, and the highest number seen.
fn players() -> (Vec<Box<dyn Actor>>, Arc<AtomicU64>) {
    let seen = Arc::new(AtomicU64::new(0));
    let (to_left, left) = mailbox(1, Bell::new());
    let (to_right, right) = mailbox(1, Bell::new());
    to_left.send(1).expect("an empty mailbox");
    let player = |name: &str, inbox, partner| -> Box<dyn Actor> {
        Box::new(Player { name: name.to_owned(), inbox, partner, seen: Arc::clone(&seen) })
    };
    (vec![player("left", left, to_right), player("right", right, to_left)], seen)
}

fn run(seed: u64) -> (u64, u64) {
    let mut simulator = Simulator::new(seed, 0);
    let (actors, seen) = players();
    simulator.start("a", |_, _| actors);
    let ticks = Arc::new(AtomicU64::new(0));
    simulator.add(Ticker::boxed(&ticks));
    let finished = |_: &Simulator| seen.load(Ordering::SeqCst) == LAST;
    simulator.run_until(10_000, finished).expect("the ball gets there");
    (simulator.trace_hash(), simulator.steps())
}

#[test]
fn two_runs_of_a_seed_are_the_same_run() {
    assert_eq!(run(7), run(7));
    let hashes: std::collections::BTreeSet<u64> = (0..20).map(|seed| run(seed).0).collect();
    assert_eq!(hashes.len(), 20, "another seed is another run");
}

#[test]
fn when_nothing_can_run_the_error_names_the_seed() {
    let mut simulator = Simulator::new(99, 0);
    let (actors, seen) = players();
    simulator.start("a", |_, _| actors);
    let error = simulator.run_until(10_000, |_| false).expect_err("the ball is out");
    assert_eq!(seen.load(Ordering::SeqCst), LAST);
    assert!(error.to_string().starts_with("seed 99, step "), "{error}");
    assert!(error.message.contains("nothing can run"), "{error}");
}

#[test]
fn when_nobody_has_work_the_clock_moves_to_the_next_wake() {
    let mut simulator = Simulator::new(1, 1_000);
    let ticks = Arc::new(AtomicU64::new(0));
    simulator.add(Ticker::boxed(&ticks));
    simulator.run_until(100, |_| ticks.load(Ordering::SeqCst) == 11).expect("it ticks");
    assert!(simulator.clock().now().wall_ms >= 1_100);
}

#[test]
fn a_paused_process_is_not_stepped_and_goes_on_where_it_was() {
    let mut simulator = Simulator::new(1, 0);
    let (inside, outside) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    simulator.add(Ticker::boxed(&outside));
    simulator.start("a", |_, _| vec![Ticker::boxed(&inside)]);
    simulator.run_until(100, |_| inside.load(Ordering::SeqCst) == 3).expect("it ticks");
    simulator.pause("a");
    let until = outside.load(Ordering::SeqCst) + 10;
    simulator.run_until(100, |_| outside.load(Ordering::SeqCst) == until).expect("it ticks");
    assert_eq!(inside.load(Ordering::SeqCst), 3);
    simulator.resume("a");
    simulator.run_until(100, |_| inside.load(Ordering::SeqCst) == 4).expect("it ticks again");
}

#[test]
fn a_stalled_actor_is_not_stepped_while_the_others_of_its_process_are() {
    let mut simulator = Simulator::new(1, 0);
    let ticks = Arc::new(AtomicU64::new(0));
    let (mut actors, ball) = players();
    actors.push(Ticker::boxed(&ticks));
    simulator.start("a", |_, _| actors);
    assert_eq!(simulator.actors("a"), ["left", "right", "ticker"]);
    simulator.stall("a", "ticker", Duration::from_millis(500));
    simulator.run_until(1_000, |_| ball.load(Ordering::SeqCst) == LAST).expect("they play");
    assert_eq!(ticks.load(Ordering::SeqCst), 0);
    simulator.run_until(1_000, |_| ticks.load(Ordering::SeqCst) == 1).expect("it goes on");
    assert!(simulator.clock().now().monotonic >= Duration::from_millis(500));
}

/// Writes one row.
struct Row(Family, u8);

impl BatchPart for Row {
    fn replay(&self, sink: &mut dyn BatchSink) {
        sink.put(&self.0, &[self.1], b"row");
    }
}

/// Ten rows, the first four synced, then the end of the process. How many are left at the next start.
fn rows_left(seed: u64, end: impl FnOnce(&mut Simulator)) -> usize {
    let mut simulator = Simulator::new(seed, 0);
    simulator.start("a", |_, disk| {
        let database = disk.open("data").expect("a new disk");
        let family = database.family("rows", FamilyKind::State).expect("a new family");
        for number in 0..10 {
            database.write(&[&Row(family.clone(), number)]).expect("written");
            if number == 3 {
                database.sync().expect("synced");
            }
        }
        Vec::new()
    });
    end(&mut simulator);
    assert!(!simulator.is_alive("a"));
    let mut left = 0;
    simulator.start("a", |_, disk| {
        let database = disk.open("data").expect("the lock died with its process");
        if let Some(family) = database.find_family("rows") {
            let row = |number: u8| database.get(&family, &[number]).expect("readable");
            left = (0..10).take_while(|&number| row(number).is_some()).count();
        }
        Vec::new()
    });
    left
}

#[test]
fn a_killed_process_keeps_what_it_wrote() {
    assert_eq!(rows_left(1, |simulator| simulator.kill("a")), 10);
}

#[test]
fn a_power_loss_keeps_what_was_synced_and_a_prefix_of_the_rest() {
    let left: Vec<usize> =
        (0..40).map(|seed| rows_left(seed, |simulator| simulator.lose_power("a"))).collect();
    assert!(left.iter().all(|rows| (4..=10).contains(rows)), "{left:?}");
    assert!(left.iter().any(|rows| *rows < 10), "some seed loses some: {left:?}");
}
