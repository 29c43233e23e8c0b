//! A task's database that is damaged on disk, on real files: it is moved aside and kept, the task is
//! restored from its changelog, and the application goes on as if nothing had been.

use std::fs;
use std::path::Path;

use headwater::config::StreamsConfig;
use headwater::log::sim::SimConfig;
use headwater::runtime::{Streams, StreamsState};
use headwater_state::database::rocks::{MemoryBudget, SharedMemory};
use headwater_state::directory::Storage;

use super::beside::Beside;
use super::embedded::word_count;

/// The task with the store of the counts of `to`, which lie in one of two partitions.
const TASKS: [&str; 2] = ["1_0", "1_1"];

fn start(world: &mut Beside, path: &Path) -> Streams {
    let budget = MemoryBudget { block_cache_bytes: 1 << 20, memtable_bytes: 1 << 20 };
    let storage = Storage::Files { path: path.to_owned(), memory: SharedMemory::new(budget) };
    let streams = world.start_on("one", storage, StreamsConfig::new("wc"), word_count());
    world.until("running", |_| streams.state() == StreamsState::Running);
    streams
}

/// Overwrites the middle of the database's catalogue.
fn damage(database: &Path) {
    let files = fs::read_dir(database).expect("the task has a database");
    let mut names = files.map(|file| file.expect("readable").path());
    let is_catalogue =
        |path: &Path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("MANIFEST"));
    let catalogue = names.find(|path| is_catalogue(path)).expect("a database has a catalogue");
    let mut bytes = fs::read(&catalogue).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xa5);
    fs::write(&catalogue, bytes).expect("writable");
}

#[test]
fn a_damaged_database_is_moved_aside_and_its_task_restored_from_the_changelog() {
    let folder = tempfile::tempdir().expect("a folder for state");
    let mut world = Beside::new(SimConfig::calm(1), &["lines", "word-counts"]);
    let streams = start(&mut world, folder.path());
    world.append("lines", "to be or not to be", 1);
    world.until("counted", |world| world.records("word-counts").len() == 6);
    streams.stop();
    world.until("stopped", |_| streams.state() == StreamsState::NotRunning);
    drop(streams);
    world.end("one");
    for task in TASKS {
        damage(&folder.path().join("wc").join(task));
    }

    let streams = start(&mut world, folder.path());
    world.append("lines", "to be", 2);
    world.until("counted on", |world| world.records("word-counts").len() == 8);
    let last = |word: &[u8]| {
        let records = world.records("word-counts").into_iter();
        let mut of = records.filter(|record| record.key.as_deref() == Some(word));
        of.next_back().and_then(|record| record.value)
    };
    assert_eq!(last(b"to"), Some(3_i64.to_be_bytes().to_vec()), "as if nothing had been");
    assert_eq!(streams.state(), StreamsState::Running);
    let text = world.metrics.text();
    for task in TASKS {
        let aside = folder.path().join("wc").join(format!("{task}.damaged-1"));
        assert!(fs::read_dir(&aside).is_ok_and(|mut files| files.next().is_some()), "it is kept");
        let counted =
            format!("stream_state_quarantined_total{{application=\"wc\",task=\"{task}\"}} 1");
        assert!(text.lines().any(|line| line == counted), "{text}");
    }
}
