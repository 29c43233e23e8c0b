//! Two processes of one application without a group: the newer one runs, the older one stops at once
//! and for good, and keeps its state.

use headwater::config::StreamsConfig;
use headwater::log::sim::SimConfig;
use headwater::runtime::{Streams, StreamsState};
use headwater_state::database::memory::MemoryDisk;

use super::beside::Beside;
use super::embedded::word_count;

fn pair(seed: u64) -> Beside {
    Beside::new(SimConfig::calm(seed), &["lines", "word-counts"])
}

fn start(pair: &mut Beside, name: &str, disk: &MemoryDisk) -> Streams {
    let config = StreamsConfig { threads: 2, ..StreamsConfig::new("wc") };
    pair.start(name, disk, config, word_count())
}

fn outputs(pair: &Beside) -> usize {
    pair.records("word-counts").len()
}

#[test]
fn of_two_processes_without_a_group_the_newer_runs_and_the_older_stops_with_its_state() {
    for seed in 0..10 {
        let mut pair = pair(seed);
        let (old_disk, new_disk) = (MemoryDisk::new(), MemoryDisk::new());
        let old = start(&mut pair, "old", &old_disk);
        pair.append("lines", "to be or not to be", 1);
        pair.until("the old one counts", |pair| outputs(pair) == 6);
        let new = start(&mut pair, "new", &new_disk);
        for words in 1..=10 {
            pair.append("lines", "to be", 1);
            pair.until("counted once", |pair| outputs(pair) == 6 + 2 * words);
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
        let mut pair = pair(seed);
        let one = start(&mut pair, "one", &MemoryDisk::new());
        let other = start(&mut pair, "other", &MemoryDisk::new());
        for words in 1..=10 {
            pair.append("lines", "to be", 1);
            pair.until("counted once", |pair| outputs(pair) == 2 * words);
        }
        let states = [one.state(), other.state()];
        assert!(states.contains(&StreamsState::Running), "seed {seed}: {states:?}");
        for _ in 0..1_000 {
            pair.round();
        }
        assert_eq!([one.state(), other.state()], states, "seed {seed}");
    }
}
