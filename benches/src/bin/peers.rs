//! The engine and Kafka Streams, one after the other on one broker: the same topologies on the same
//! input, exactly-once, a commit every 100 ms, no record cache. One JSON line for each run:
//! processor time per record, resident memory, records per second, time to the first result.
//! Outputs must be equal, or there is no result.
//!
//! `--restart` measures instead what a kill -9 costs with a filled store, and how fast a lost one is
//! restored from its changelog.
#![expect(clippy::print_stdout, reason = "a bench prints its result")]

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{park_timeout, scope};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use headwater_benches::peers::engine::{EngineArguments, run as run_engine};
use headwater_benches::peers::traffic::{
    Load, Outcome, PARTITIONS, Progress, Results, fill, latencies,
};
use headwater_benches::peers::{Contestant, Kind, Setup, Task};
use headwater_tests::kafka_broker::KafkaBroker;
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(600);

/// Runs the engine and Kafka Streams side by side.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    engine: Option<Role>,
    /// Class path of the Java side; without it the engine runs alone.
    #[arg(long, env = "HEADWATER_PEERS")]
    class_path: Option<String>,
    /// Input records.
    #[arg(long, default_value_t = 500_000)]
    records: u32,
    /// Different keys.
    #[arg(long, default_value_t = 10_000)]
    keys: u32,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// Stream threads of either.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Heap of the Java side in MiB.
    #[arg(long, default_value_t = 512)]
    heap_mib: u32,
    /// What to run.
    #[arg(long, value_enum, num_args = 1.., default_values = ["pass", "count", "window"])]
    tasks: Vec<Task>,
    /// Measure restarts and restores with a store of this many MiB.
    #[arg(long)]
    restart: Option<u32>,
}

#[derive(Subcommand)]
enum Role {
    /// Runs the engine, for the parent process.
    Engine(EngineArguments),
}

fn main() {
    let arguments = Arguments::parse();
    if let Some(Role::Engine(engine)) = &arguments.engine {
        return run_engine(engine);
    }
    let Some(broker) = KafkaBroker::start(&[]) else { return };
    let folder = tempfile::tempdir().expect("a scratch folder");
    let mut kinds = vec![Kind::Headwater];
    let java = arguments.class_path.clone().filter(|path| !path.is_empty());
    kinds.extend(java.map(Kind::KafkaStreams));
    let setup = |kind: &Kind, task| Setup {
        kind: kind.clone(),
        task,
        input: "in".to_owned(),
        threads: arguments.threads,
        heap_mib: arguments.heap_mib,
        folder: folder.path().to_owned(),
    };
    broker.create_topic("in", PARTITIONS, &[]);
    if let Some(mib) = arguments.restart {
        let bytes = u64::from(mib) << 20;
        let size = u64::try_from(arguments.value_bytes).expect("small").max(1);
        let keys = u32::try_from(bytes / size).expect("fewer than 4 billion rows");
        let load = Load { records: keys, first: 0, keys, value_bytes: arguments.value_bytes };
        fill(&broker, "in", load);
        broker.create_topic("beside", PARTITIONS, &[]);
        for kind in &kinds {
            restart(&broker, &setup(kind, Task::Latest), load);
        }
        return;
    }
    let Arguments { records, keys, value_bytes, .. } = arguments;
    fill(&broker, "in", Load { records, first: 0, keys, value_bytes });
    for &task in &arguments.tasks {
        let mut before: Option<(Outcome, f64)> = None;
        for kind in &kinds {
            let setup = setup(kind, task);
            let (mut line, cost) = contest(&broker, &setup, records);
            let outcome = Results::of(&broker, &setup.application(), false).all();
            line["outputs"] = outcome.records.into();
            if let Some((theirs, engine)) = before.take() {
                let equal = theirs.records == outcome.records
                    && (task == Task::Pass || theirs.last == outcome.last);
                assert!(equal, "the outputs of {} differ: no result", task.name());
                line["processor_times_headwater"] = round(cost / engine).into();
            }
            before = Some((outcome, cost));
            println!("{line}");
        }
    }
}

fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// Runs one contestant over the whole input.
fn contest(broker: &KafkaBroker, setup: &Setup, records: u32) -> (Value, f64) {
    let application = setup.application();
    broker.create_topic(&application, PARTITIONS, &[]);
    let results = Results::of(broker, &application, true);
    let progress = Progress::of(broker, &application, &setup.input);
    let contestant = Contestant::start(setup, broker);
    assert!(results.first(LONG), "{application} gives no result");
    let first = contestant.sample();
    drop(results);
    // From the first fifth on nothing of the start is left: that part is measured.
    let (wanted, warm) = (u64::from(records), u64::from(records) / 5);
    let mut from = None;
    let deadline = Instant::now() + LONG;
    let (committed, end) = loop {
        let committed = progress.committed();
        let sample = contestant.sample();
        if committed >= warm && from.is_none() {
            from = Some((committed, sample));
        }
        if committed >= wanted {
            break (committed, sample);
        }
        assert!(Instant::now() < deadline, "{application} came to {committed} of {wanted}");
        park_timeout(Duration::from_millis(20));
    };
    contestant.stop();
    let (at, sample) = from.expect("it passed the first fifth");
    let passed = f64::from(u32::try_from(committed - at).expect("fewer than there are").max(1));
    let processor = (end.processor - sample.processor).as_secs_f64() * 1e6 / passed;
    let whole = end.processor.as_secs_f64() * 1e6 / f64::from(records);
    let line = json!({
        "bench": "peers",
        "task": setup.task.name(),
        "engine": setup.kind.name(),
        "records": records,
        "threads": setup.threads,
        "processor_us_per_record": round(processor),
        "processor_us_per_record_with_start": round(whole),
        "records_per_second": (passed / (end.wall - sample.wall).as_secs_f64()).round(),
        "first_result_ms": first.wall.as_millis(),
        "resident_mib": end.resident_mib.0,
        "resident_most_mib": end.resident_mib.1,
    });
    (line, processor)
}

/// Fills a store, kills, starts again; then loses the store, and starts again.
fn restart(broker: &KafkaBroker, setup: &Setup, load: Load) {
    let application = setup.application();
    broker.create_topic(&application, PARTITIONS, &[("retention.bytes", "67108864")]);
    let beside = format!("{application}-beside");
    broker.create_topic(&beside, PARTITIONS, &[]);
    let progress = Progress::of(broker, &application, &setup.input);
    let mut wanted = progress_of(broker, setup);
    let mut contestant = Contestant::start(setup, broker);
    let _none = contestant.restored(LONG);
    until(&progress, &application, wanted);
    // The uncommitted tail: killed while it works on these.
    fill(broker, &setup.input, Load { records: load.records / 20, first: load.records, ..load });
    contestant.kill();
    let results = Results::of(broker, &application, true);
    let mut contestant = Contestant::start(setup, broker);
    assert!(results.first(LONG), "{application} gives no result after the kill");
    let after_kill = contestant.sample();
    let (again, _) = contestant.restored(LONG);
    drop(results);
    wanted = progress_of(broker, setup);
    until(&progress, &application, wanted);
    contestant.stop();
    let kept = disk_mib(&setup.state());
    fs::remove_dir_all(setup.state()).expect("the state can be lost");
    let mut contestant = Contestant::start(setup, broker);
    let runs = AtomicBool::new(false);
    let ((restored, time), end, meanwhile) = scope(|scope| {
        let probe =
            scope.spawn(|| latencies(broker, "beside", &beside, |_| !runs.load(Ordering::SeqCst)));
        let restored = contestant.restored(LONG);
        let end = contestant.sample();
        runs.store(true, Ordering::SeqCst);
        (restored, end, probe.join().expect("the probe ends"))
    });
    let idle = latencies(broker, "beside", &beside, |count| count < 50);
    contestant.stop();
    let records = f64::from(u32::try_from(restored).expect("fewer than 4 billion"));
    let line = json!({
        "bench": "peers",
        "task": "restart",
        "engine": setup.kind.name(),
        "rows": load.keys,
        "state_mib": kept,
        "threads": setup.threads,
        "first_result_after_kill_ms": after_kill.wall.as_millis(),
        "restored_after_kill": again,
        "restored_after_loss": restored,
        "restore_ms": time.as_millis(),
        "restored_per_second": (records / time.as_secs_f64().max(0.001)).round(),
        "restore_processor_us_per_record": round(end.processor.as_secs_f64() * 1e6 / records.max(1.0)),
        "latency_ms_meanwhile": percentiles(&meanwhile),
        "latency_ms_idle": percentiles(&idle),
        "resident_most_mib": end.resident_mib.1,
    });
    println!("{line}");
}

/// Median, 99th percentile and number of sorted times; the largest, which may be the start, is left out.
fn percentiles(sorted: &[Duration]) -> Value {
    let at = |share: usize| sorted.get(sorted.len().saturating_sub(2) * share / 100);
    json!({
        "median": at(50).map(Duration::as_millis),
        "p99": at(99).map(Duration::as_millis),
        "samples": sorted.len(),
    })
}

/// How many records the input holds.
fn progress_of(broker: &KafkaBroker, setup: &Setup) -> u64 {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let consumer: BaseConsumer = broker.client().create().expect("a consumer");
    let end = |partition| {
        let ends = consumer.fetch_watermarks(&setup.input, partition, Duration::from_secs(30));
        u64::try_from(ends.expect("the input's ends").1).expect("an offset")
    };
    (0..i32::from(PARTITIONS)).map(end).sum()
}

fn until(progress: &Progress, application: &str, wanted: u64) {
    let deadline = Instant::now() + LONG;
    while progress.committed() < wanted {
        assert!(Instant::now() < deadline, "{application} does not come to {wanted}");
        park_timeout(Duration::from_millis(20));
    }
}

fn disk_mib(folder: &std::path::Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_mib(&entry.path()) << 20,
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum::<u64>() >> 20
}
