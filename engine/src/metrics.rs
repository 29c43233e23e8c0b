//! Metrics: every metric family of the engine, registered here and nowhere else, and their text
//! form. Names are Kafka Streams' with `_` in place of `-`, a unit at the end and its group in
//! front (`stream-thread-metrics`, `commit-latency` becomes `stream_thread_commit_latency_seconds`).
//! Rates are counters: whoever scrapes derives them. Knows nothing of who counts.

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// The metric families of one process. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    families: Arc<Families>,
}

#[derive(Debug)]
struct Families {
    client_state: IntGaugeVec,
    alive_threads: IntGaugeVec,
    failed_threads: IntCounterVec,
    process_total: IntCounterVec,
    poll_total: IntCounterVec,
    commit_total: IntCounterVec,
    punctuate_total: IntCounterVec,
    task_created_total: IntCounterVec,
    task_closed_total: IntCounterVec,
    rewind_total: IntCounterVec,
    process_latency: HistogramVec,
    commit_latency: HistogramVec,
    commit_records: IntCounterVec,
    uncommitted_bytes: IntGaugeVec,
    task_process_total: IntCounterVec,
    task_dropped_records_total: IntCounterVec,
    task_record_lateness: HistogramVec,
    task_dead_letters_total: IntCounterVec,
    restore_records_total: IntCounterVec,
    restore_remaining_records: IntGaugeVec,
    restore_total: IntCounterVec,
    http_requests_total: IntCounterVec,
}

const APP: &[&str] = &["application"];
const THREAD: &[&str] = &["application", "thread"];
const TASK: &[&str] = &["application", "task"];
const REASON: &[&str] = &["application", "task", "reason"];
const STORE: &[&str] = &["application", "task", "store"];

/// 50 us to about 26 s, doubling.
fn latency_buckets() -> Vec<f64> {
    (0..20).map(|power| 0.000_05 * f64::from(1_u32 << power)).collect()
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    family: prometheus::Result<C>,
) -> C {
    let family = family.expect("names and labels are constants and well-formed");
    registry.register(Box::new(family.clone())).expect("each name is registered once, here");
    family
}

impl Metrics {
    /// An empty registry with every family.
    pub fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let counter = |name: &str, help: &str, labels: &[&str]| {
            register(r, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            register(r, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let histogram = |name: &str, help: &str, labels: &[&str]| {
            let opts = HistogramOpts::new(name, help).buckets(latency_buckets());
            register(r, HistogramVec::new(opts, labels))
        };
        let lateness = HistogramOpts::new(
            "stream_task_record_lateness_milliseconds",
            "how far records lag behind their task's stream time",
        )
        .buckets(vec![0.0, 10.0, 100.0, 1e3, 1e4, 6e4, 3.6e5, 3.6e6, 8.64e7]);
        let families = Families {
            client_state: gauge(
                "stream_state",
                "0 created, 1 rebalancing, 2 running, 3 pending shutdown, 4 not running, 5 error",
                APP,
            ),
            alive_threads: gauge("stream_alive_stream_threads", "stream threads that run", APP),
            failed_threads: counter("stream_failed_stream_threads", "threads that failed", APP),
            process_total: counter("stream_thread_process_total", "records processed", THREAD),
            poll_total: counter("stream_thread_poll_total", "fetches that found records", THREAD),
            commit_total: counter("stream_thread_commit_total", "transactions committed", THREAD),
            punctuate_total: counter("stream_thread_punctuate_total", "punctuations run", THREAD),
            task_created_total: counter("stream_thread_task_created_total", "tasks begun", THREAD),
            task_closed_total: counter("stream_thread_task_closed_total", "tasks closed", THREAD),
            rewind_total: counter(
                "stream_thread_rewind_total",
                "transactions lost, their tasks rewound",
                THREAD,
            ),
            process_latency: histogram(
                "stream_thread_process_latency_seconds",
                "from a record's entry into its queue to the end of its operators, waits included",
                THREAD,
            ),
            commit_latency: histogram(
                "stream_thread_commit_latency_seconds",
                "from the decision to commit until the state is written",
                THREAD,
            ),
            commit_records: counter(
                "stream_thread_commit_records_total",
                "output and changelog batches sent",
                THREAD,
            ),
            uncommitted_bytes: gauge(
                "stream_thread_uncommitted_bytes",
                "uncommitted state and outputs in memory",
                THREAD,
            ),
            task_process_total: counter("stream_task_process_total", "records processed", TASK),
            task_dropped_records_total: counter(
                "stream_task_dropped_records_total",
                "records dropped, by reason",
                REASON,
            ),
            task_record_lateness: register(r, HistogramVec::new(lateness, TASK)),
            task_dead_letters_total: counter(
                "stream_task_dead_letters_total",
                "records put on a dead letter topic, by reason",
                REASON,
            ),
            restore_records_total: counter(
                "stream_state_restore_records_total",
                "changelog records restored",
                STORE,
            ),
            restore_remaining_records: gauge(
                "stream_state_restore_remaining_records",
                "offsets between the restored position and its target",
                STORE,
            ),
            restore_total: counter("stream_state_restore_total", "restores begun", STORE),
            http_requests_total: counter(
                "http_requests_total",
                "HTTP requests by route and status",
                &["route", "status"],
            ),
        };
        Self { registry, families: Arc::new(families) }
    }

    /// The Prometheus text form (version 0.0.4) of everything.
    pub fn text(&self) -> String {
        let mut bytes = Vec::new();
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut bytes);
        encoded.expect("writing to memory does not fail");
        String::from_utf8(bytes).expect("the text form is UTF-8")
    }

    /// The metrics of one application.
    pub fn application(&self, application: &str) -> ApplicationMetrics {
        let f = &self.families;
        let l = &[application];
        ApplicationMetrics {
            state: f.client_state.with_label_values(l),
            alive_threads: f.alive_threads.with_label_values(l),
            failed_threads: f.failed_threads.with_label_values(l),
        }
    }

    /// The metrics of one stream thread.
    pub fn thread(&self, application: &str, thread: &str) -> ThreadMetrics {
        let f = &self.families;
        let l = &[application, thread];
        ThreadMetrics {
            process_total: f.process_total.with_label_values(l),
            poll_total: f.poll_total.with_label_values(l),
            commit_total: f.commit_total.with_label_values(l),
            punctuate_total: f.punctuate_total.with_label_values(l),
            task_created_total: f.task_created_total.with_label_values(l),
            task_closed_total: f.task_closed_total.with_label_values(l),
            rewind_total: f.rewind_total.with_label_values(l),
            process_latency: f.process_latency.with_label_values(l),
            commit_latency: f.commit_latency.with_label_values(l),
            commit_batches: f.commit_records.with_label_values(l),
            uncommitted_bytes: f.uncommitted_bytes.with_label_values(l),
        }
    }

    /// The metrics of one task.
    pub fn task(&self, application: &str, task: &str) -> TaskMetrics {
        let f = &self.families;
        TaskMetrics {
            process_total: f.task_process_total.with_label_values(&[application, task]),
            record_lateness: f.task_record_lateness.with_label_values(&[application, task]),
            dropped: f.task_dropped_records_total.clone(),
            dead_letters: f.task_dead_letters_total.clone(),
            application: application.into(),
            task: task.into(),
        }
    }

    /// The metrics of the restore of one store of one task.
    pub fn restore(&self, application: &str, task: &str, store: &str) -> RestoreMetrics {
        let f = &self.families;
        let l = &[application, task, store];
        RestoreMetrics {
            restores: f.restore_total.with_label_values(l),
            records: f.restore_records_total.with_label_values(l),
            remaining: f.restore_remaining_records.with_label_values(l),
        }
    }

    /// Counts an HTTP answer.
    pub fn http_request(&self, route: &str, status: u16) {
        let status = status.to_string();
        self.families.http_requests_total.with_label_values(&[route, status.as_str()]).inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Metrics of one application (`stream-metrics`).
#[derive(Debug, Clone)]
pub struct ApplicationMetrics {
    /// The lifecycle state's number.
    pub state: IntGauge,
    /// Stream threads that run.
    pub alive_threads: IntGauge,
    /// Stream threads that failed.
    pub failed_threads: IntCounter,
}

/// Metrics of one stream thread (`stream-thread-metrics`).
#[derive(Debug, Clone)]
pub struct ThreadMetrics {
    /// Records processed.
    pub process_total: IntCounter,
    /// Fetches that found records.
    pub poll_total: IntCounter,
    /// Transactions committed.
    pub commit_total: IntCounter,
    /// Punctuations run.
    pub punctuate_total: IntCounter,
    /// Tasks begun.
    pub task_created_total: IntCounter,
    /// Tasks closed.
    pub task_closed_total: IntCounter,
    /// Transactions lost, their tasks rewound.
    pub rewind_total: IntCounter,
    /// Seconds from queue entry to the end of operators.
    pub process_latency: Histogram,
    /// Seconds from the decision to commit until the state is written.
    pub commit_latency: Histogram,
    /// Batches sent to the log.
    pub commit_batches: IntCounter,
    /// Bytes of uncommitted state and outputs.
    pub uncommitted_bytes: IntGauge,
}

/// Metrics of one task (`stream-task-metrics`).
#[derive(Debug, Clone)]
pub struct TaskMetrics {
    /// Records processed.
    pub process_total: IntCounter,
    /// Milliseconds a record lags behind stream time.
    pub record_lateness: Histogram,
    dropped: IntCounterVec,
    dead_letters: IntCounterVec,
    application: Box<str>,
    task: Box<str>,
}

impl TaskMetrics {
    /// Counts a dropped record.
    pub fn dropped(&self, reason: &str, records: u64) {
        self.dropped.with_label_values(&[&*self.application, &*self.task, reason]).inc_by(records);
    }

    /// Counts a dead letter.
    pub fn dead_letter(&self, reason: &str, records: u64) {
        let labels = [&*self.application, &*self.task, reason];
        self.dead_letters.with_label_values(&labels).inc_by(records);
    }
}

/// Metrics of one store's restore (`stream-state-metrics`, `restore-*`).
#[derive(Debug, Clone)]
pub struct RestoreMetrics {
    /// Restores begun.
    pub restores: IntCounter,
    /// Changelog records restored.
    pub records: IntCounter,
    /// Offsets still to go.
    pub remaining: IntGauge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_names_what_was_counted_with_its_labels() {
        let metrics = Metrics::new();
        metrics.thread("orders", "orders-0-1").commit_total.inc_by(3);
        metrics.task("orders", "0_1").dropped("null_key", 2);
        let text = metrics.text();
        assert!(
            text.contains(
                r#"stream_thread_commit_total{application="orders",thread="orders-0-1"} 3"#
            )
        );
        assert!(text.contains(
            r#"stream_task_dropped_records_total{application="orders",reason="null_key",task="0_1"} 2"#
        ));
    }
}
