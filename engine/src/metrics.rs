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
    client: ClientFamilies,
    thread: ThreadFamilies,
    task: TaskFamilies,
    restore: RestoreFamilies,
    http_requests_total: IntCounterVec,
}

#[derive(Debug)]
struct ClientFamilies {
    state: IntGaugeVec,
    alive_threads: IntGaugeVec,
    failed_threads: IntCounterVec,
}

#[derive(Debug)]
struct ThreadFamilies {
    process_total: IntCounterVec,
    poll_total: IntCounterVec,
    commit_total: IntCounterVec,
    punctuate_total: IntCounterVec,
    task_created_total: IntCounterVec,
    task_closed_total: IntCounterVec,
    rewind_total: IntCounterVec,
    process_latency: HistogramVec,
    commit_latency: HistogramVec,
    sent_batches_total: IntCounterVec,
    uncommitted_bytes: IntGaugeVec,
}

#[derive(Debug)]
struct TaskFamilies {
    process_total: IntCounterVec,
    dropped_records_total: IntCounterVec,
    record_lateness: HistogramVec,
    dead_letters_total: IntCounterVec,
}

#[derive(Debug)]
struct RestoreFamilies {
    records_total: IntCounterVec,
    remaining_records: IntGaugeVec,
    quarantined_total: IntCounterVec,
    calls_total: IntCounterVec,
    active_tasks: IntGaugeVec,
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

/// Registers families; each name once.
struct Registrar<'r>(&'r Registry);

impl Registrar<'_> {
    fn add<C: Collector + Clone + 'static>(&self, family: prometheus::Result<C>) -> C {
        let family = family.expect("names and labels are constants and well-formed");
        self.0.register(Box::new(family.clone())).expect("each name is registered once, here");
        family
    }

    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn latency(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).buckets(latency_buckets());
        self.add(HistogramVec::new(opts, labels))
    }

    fn client(&self) -> ClientFamilies {
        let states = "0 created, 1 rebalancing, 2 running, 3 pending shutdown, 4 not running, \
                      5 pending error, 6 error";
        let failed = "stream threads that failed";
        ClientFamilies {
            state: self.gauge("stream_state", states, APP),
            alive_threads: self.gauge(
                "stream_alive_stream_threads",
                "stream threads that run",
                APP,
            ),
            failed_threads: self.counter("stream_failed_stream_threads", failed, APP),
        }
    }

    fn thread(&self) -> ThreadFamilies {
        let counter =
            |name: &str, help| self.counter(&format!("stream_thread_{name}"), help, THREAD);
        let latency =
            |name: &str, help| self.latency(&format!("stream_thread_{name}"), help, THREAD);
        ThreadFamilies {
            process_total: counter("process_total", "records processed"),
            poll_total: counter("poll_total", "fetches that found records"),
            commit_total: counter("commit_total", "transactions committed"),
            punctuate_total: counter("punctuate_total", "punctuations run"),
            task_created_total: counter("task_created_total", "tasks begun"),
            task_closed_total: counter("task_closed_total", "tasks closed"),
            rewind_total: counter("rewind_total", "transactions lost, their tasks rewound"),
            process_latency: latency(
                "process_latency_seconds",
                "from a record's entry into its queue to the end of its operators, waits included",
            ),
            commit_latency: latency(
                "commit_latency_seconds",
                "from the decision to commit until the state is written",
            ),
            sent_batches_total: counter("sent_batches_total", "output and changelog batches sent"),
            uncommitted_bytes: self.gauge(
                "stream_thread_uncommitted_bytes",
                "uncommitted state and outputs in memory",
                THREAD,
            ),
        }
    }

    fn task(&self) -> TaskFamilies {
        let lateness = HistogramOpts::new(
            "stream_task_record_lateness_milliseconds",
            "how far records lag behind their task's stream time",
        )
        .buckets(vec![0.0, 10.0, 100.0, 1e3, 1e4, 6e4, 3.6e5, 3.6e6, 8.64e7]);
        let counter =
            |name: &str, help, labels| self.counter(&format!("stream_task_{name}"), help, labels);
        TaskFamilies {
            process_total: counter("process_total", "records processed", TASK),
            dropped_records_total: counter("dropped_records_total", "records dropped", REASON),
            record_lateness: self.add(HistogramVec::new(lateness, TASK)),
            dead_letters_total: counter("dead_letters_total", "records dead-lettered", REASON),
        }
    }

    /// Names of KIP-869.
    fn restore(&self) -> RestoreFamilies {
        let updater = |name: &str| format!("stream_state_updater_{name}");
        RestoreFamilies {
            records_total: self.counter(
                "stream_task_restore_total",
                "changelog records restored",
                STORE,
            ),
            remaining_records: self.gauge(
                "stream_task_restore_remaining_records_total",
                "offsets between the restored position and its target",
                STORE,
            ),
            quarantined_total: self.counter(
                "stream_state_quarantined_total",
                "damaged databases of tasks that were set aside",
                TASK,
            ),
            calls_total: self.counter(
                &updater("restore_call_total"),
                "batches of changelog records restored",
                APP,
            ),
            active_tasks: self.gauge(
                &updater("active_restoring_tasks"),
                "tasks whose stores are being restored",
                APP,
            ),
        }
    }
}

impl Metrics {
    /// An empty registry with every family.
    pub fn new() -> Self {
        let registry = Registry::new();
        let registrar = Registrar(&registry);
        let families = Families {
            client: registrar.client(),
            thread: registrar.thread(),
            task: registrar.task(),
            restore: registrar.restore(),
            http_requests_total: registrar.counter(
                "http_requests_total",
                "HTTP requests",
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
        let f = &self.families.client;
        let l = &[application];
        ApplicationMetrics {
            state: f.state.with_label_values(l),
            alive_threads: f.alive_threads.with_label_values(l),
            failed_threads: f.failed_threads.with_label_values(l),
        }
    }

    /// The metrics of one stream thread.
    pub fn thread(&self, application: &str, thread: &str) -> ThreadMetrics {
        let f = &self.families.thread;
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
            sent_batches: f.sent_batches_total.with_label_values(l),
            uncommitted_bytes: f.uncommitted_bytes.with_label_values(l),
        }
    }

    /// A task's damaged database was set aside.
    pub(crate) fn quarantined(&self, application: &str, task: &str) {
        self.families.restore.quarantined_total.with_label_values(&[application, task]).inc();
    }

    /// The metrics of one task.
    pub fn task(&self, application: &str, task: &str) -> TaskMetrics {
        let f = &self.families.task;
        TaskMetrics {
            process_total: f.process_total.with_label_values(&[application, task]),
            record_lateness: f.record_lateness.with_label_values(&[application, task]),
            dropped: f.dropped_records_total.clone(),
            dead_letters: f.dead_letters_total.clone(),
            application: application.into(),
            task: task.into(),
        }
    }

    /// The metrics of an application's restorer.
    pub fn restorer(&self, application: &str) -> RestorerMetrics {
        let f = &self.families.restore;
        RestorerMetrics {
            calls: f.calls_total.with_label_values(&[application]),
            active_tasks: f.active_tasks.with_label_values(&[application]),
        }
    }

    /// The metrics of the restore of one store of one task.
    pub fn restore(&self, application: &str, task: &str, store: &str) -> RestoreMetrics {
        let f = &self.families.restore;
        let l = &[application, task, store];
        RestoreMetrics {
            records: f.records_total.with_label_values(l),
            remaining: f.remaining_records.with_label_values(l),
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
    pub sent_batches: IntCounter,
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

/// Metrics of an application's restorer (`stream-state-updater-metrics`).
#[derive(Debug, Clone)]
pub struct RestorerMetrics {
    /// Batches restored.
    pub calls: IntCounter,
    /// Tasks being restored.
    pub active_tasks: IntGauge,
}

/// Metrics of one store's restore (`stream-task-metrics`, `restore-*`).
#[derive(Debug, Clone)]
pub struct RestoreMetrics {
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
