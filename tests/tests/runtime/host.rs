//! A process with real threads, a real clock and its own directory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater::actor::{Bell, Poll};
use headwater::config::{HostConfig, StreamsConfig};
use headwater::log::{Isolation, Log, Purpose};
use headwater::record::batch::{RecordBatch, RecordBatchBuilder};
use headwater::record::{Headers, TopicPartition};
use headwater::runtime::{Application, Host, HostError, StreamsState};

use super::embedded::word_count;

/// Looks again until it is so; the runtime is another thread.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < deadline, "not so within 30 s: {what}");
        std::thread::yield_now();
    }
}

fn config(directory: &std::path::Path) -> HostConfig {
    HostConfig { state_dir: directory.to_owned(), http: None, ..HostConfig::default() }
}

fn application(threads: usize) -> Application {
    let config = StreamsConfig { threads, ..StreamsConfig::new("wc") };
    Application { topology: word_count(), config }
}

fn records_in(log: &dyn Log, topic: &str, partitions: u32) -> u32 {
    let mut records = 0;
    for partition in 0..partitions {
        let from = TopicPartition::new(topic, partition);
        let isolation = Isolation::ReadCommitted;
        let mut reader =
            log.reader(&from, 0, isolation, Purpose::Restore, Bell::new()).expect("it is there");
        loop {
            let fetched = reader.take(1 << 20).expect("readable");
            if fetched.batches.is_empty() {
                break;
            }
            records += fetched.batches.iter().map(RecordBatch::count).sum::<u32>();
        }
    }
    records
}

#[test]
fn a_host_with_two_threads_counts_every_word_once_and_stops_gracefully() {
    let directory = tempfile::tempdir().expect("a scratch directory");
    let host = Host::start(config(directory.path()), vec![application(2)]).expect("it starts");
    let view = host.view().clone();
    until("ready", || view.is_ready());
    let log = Arc::clone(view.embedded.as_ref().expect("embedded"));
    for partition in 0..4 {
        let mut batch = RecordBatchBuilder::new();
        for number in 0..500 {
            let (key, line) = (format!("{number}"), format!("word-{} and word", number % 50));
            batch
                .append(number, Some(key.as_bytes()), Some(line.as_bytes()), Headers::empty())
                .expect("small");
        }
        let batch = RecordBatch::new(0, batch.finish()).expect("well-formed");
        let to = TopicPartition::new("lines", partition);
        let ticket = log.append(&[(to, batch)], Bell::new());
        until("appended", || matches!(ticket.poll(), Poll::Done(Ok(_))));
    }
    until("counted", || records_in(&*log, "word-counts", 4) == 6_000);
    host.stop();
    host.wait().expect("a graceful stop");
    assert_eq!(view.applications[0].state(), StreamsState::NotRunning);
    assert_eq!(records_in(&*log, "word-counts", 4), 6_000);
}

#[test]
fn all_mistakes_of_a_process_are_told_at_once() {
    let directory = tempfile::tempdir().expect("a scratch directory");
    let wrong = Application { config: StreamsConfig::new(""), ..application(0) };
    let host = HostConfig { memory_limit: 0, ..config(directory.path()) };
    let error = Host::start(host, vec![application(0), application(1), wrong]);
    let Err(HostError::Config(error)) = error else { panic!("it refuses") };
    assert_eq!(error.mistakes.len(), 4, "{error}");
}
