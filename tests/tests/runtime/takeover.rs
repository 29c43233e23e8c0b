//! Two processes of one application without a group: the newer one runs, the older one stops at once
//! and for good, and keeps its state.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use headwater::actor::{Actor, Next};
use headwater::config::StreamsConfig;
use headwater::log::sim::{Process, SimCluster, SimConfig};
use headwater::log::{Cleanup, TopicSpec};
use headwater::membership::single::Single;
use headwater::metrics::Metrics;
use headwater::record::batch::{RecordBatch, RecordBatchBuilder};
use headwater::record::{Headers, TopicPartition};
use headwater::runtime::{StateHome, Streams, StreamsParts, StreamsState};
use headwater::time::{Clock as _, VirtualClock};
use headwater_state::database::memory::MemoryDisk;
use headwater_state::directory::{Identity, StateDirectory, Storage};
use headwater_state::error::Mode;
use headwater_state::lease::Leases;

use super::embedded::word_count;

/// A simulated cluster and the processes beside it.
struct Pair {
    cluster: SimCluster,
    clock: VirtualClock,
    actors: Vec<Option<Box<dyn Actor>>>,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let cluster = SimCluster::new(SimConfig::calm(seed));
        for name in ["lines", "word-counts"] {
            let cleanup = Cleanup::Delete { retention: None };
            cluster.create_topic(TopicSpec { name: name.into(), partitions: 2, cleanup });
        }
        let clock = VirtualClock::new(1_700_000_000_000);
        let actors = vec![Some(Box::new(cluster.clone()) as Box<dyn Actor>)];
        Self { cluster, clock, actors }
    }

    /// Starts a process with a state directory of its own.
    fn start(&mut self, name: &str, disk: &MemoryDisk) -> Streams {
        let applications = BTreeSet::from(["wc".to_owned()]);
        let identity = Identity { mode: Mode::Kafka, applications, cluster: None };
        let directory = StateDirectory::open(Storage::Memory(disk.clone()), identity);
        let (streams, actors) = Streams::build(StreamsParts {
            topology: word_count(),
            config: StreamsConfig { threads: 2, ..StreamsConfig::new("wc") },
            instance: "0".to_owned(),
            log: Arc::new(self.cluster.connect(&Process::new(name))),
            home: StateHome::PerTask(Arc::new(directory.expect("a fresh directory"))),
            leases: Leases::new(),
            join: Box::new(|space| Ok(Box::new(Single::new("wc", space)))),
            metrics: Metrics::new(),
            overlay_bytes: 1 << 20,
            queue_bytes: 1 << 20,
            create_topics: None,
        })
        .expect("a valid configuration");
        self.actors.extend(actors.into_iter().map(Some));
        streams
    }

    fn append(&self, words: &str) {
        let mut batch = RecordBatchBuilder::new();
        batch.append(1, Some(b"k"), Some(words.as_bytes()), Headers::empty()).expect("small");
        let batch = RecordBatch::new(0, batch.finish()).expect("well-formed");
        self.cluster.append(&TopicPartition::new("lines", 0), &batch);
    }

    fn outputs(&self) -> usize {
        self.cluster.committed_records("word-counts").iter().map(Vec::len).sum()
    }

    fn round(&mut self) {
        for slot in &mut self.actors {
            if slot.as_mut().is_some_and(|actor| actor.step(self.clock.now()) == Next::Done) {
                *slot = None;
            }
        }
        self.clock.advance(Duration::from_millis(1));
    }

    fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        for _ in 0..60_000 {
            if so(self) {
                return;
            }
            self.round();
        }
        panic!("not so after 60,000 rounds: {what}");
    }
}

#[test]
fn of_two_processes_without_a_group_the_newer_runs_and_the_older_stops_with_its_state() {
    for seed in 0..10 {
        let mut pair = Pair::new(seed);
        let (old_disk, new_disk) = (MemoryDisk::new(), MemoryDisk::new());
        let old = pair.start("old", &old_disk);
        pair.append("to be or not to be");
        pair.until("the old one counts", |pair| pair.outputs() == 6);
        let new = pair.start("new", &new_disk);
        for words in 1..=10 {
            pair.append("to be");
            pair.until("counted once", |pair| pair.outputs() == 6 + 2 * words);
        }
        pair.until("the old one has stopped", |_| old.state() == StreamsState::Error);
        assert_eq!(new.state(), StreamsState::Running, "seed {seed}");
        let why = old.board().failure().expect("it says why");
        for part in ["application wc", "transactional id wc-0-", "stop the other one"] {
            assert!(why.contains(part), "{part}: {why}");
        }
        assert!(!old_disk.databases().is_empty(), "its state stays");
    }
}

#[test]
fn two_processes_without_a_group_that_start_together_do_not_fence_each_other_for_ever() {
    for seed in 0..10 {
        let mut pair = Pair::new(seed);
        let one = pair.start("one", &MemoryDisk::new());
        let other = pair.start("other", &MemoryDisk::new());
        for words in 1..=10 {
            pair.append("to be");
            pair.until("counted once", |pair| pair.outputs() == 2 * words);
        }
        let states = [one.state(), other.state()];
        let running = states.iter().filter(|state| **state == StreamsState::Running).count();
        assert!(running >= 1, "seed {seed}: {states:?}");
        for _ in 0..1_000 {
            pair.round();
        }
        assert_eq!([one.state(), other.state()], states, "seed {seed}");
    }
}
