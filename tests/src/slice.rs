//! The application that the broker proofs crash: counts by key, counts by key and window with late
//! records, sums behind a repartition topic. What it must have written is [`model`]'s business,
//! which shares no code with the engine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use headwater::config::{HostConfig, KafkaConfig, StreamsConfig};
use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder, TimeWindows};
use headwater::runtime::{Application, Host, HostError};
use headwater::serde::serdes::{i64, optional, string};
use headwater::topology::Topology;

pub mod model;

/// The application id.
pub const APPLICATION: &str = "slice";
/// Keys and numbers.
pub const INPUT: &str = "slice-input";
/// The running count of each key.
pub const COUNTS: &str = "slice-counts";
/// The running count of each key and window, under `key@start`.
pub const WINDOWS: &str = "slice-windows";
/// The running sum of each bucket of numbers.
pub const TOTALS: &str = "slice-totals";
/// The stores.
pub const STORES: [&str; 3] = ["counts", "windows", "totals"];
/// Length of a window.
pub const WINDOW: Duration = Duration::from_secs(10);
/// How long after its end a window accepts records.
pub const GRACE: Duration = Duration::from_secs(5);
/// Partitions of every topic.
pub const PARTITIONS: u16 = 4;

fn topology() -> Arc<Topology> {
    let builder = StreamsBuilder::new();
    let numbers = builder.stream(INPUT, Consumed::with(string(), i64()));
    let by_key = numbers.group_by_key(Grouped::with("by-key", string(), i64()));
    by_key
        .count(Materialized::count("counts"))
        .to_stream()
        .to(COUNTS, Produced::with(string(), optional(i64())));
    by_key
        .windowed_by(TimeWindows::tumbling(WINDOW, GRACE))
        .count(Materialized::count("windows").retention(Duration::from_secs(86_400)))
        .to_stream()
        .map(|key, count| (format!("{}@{}", key.key, key.window.start), *count))
        .to(WINDOWS, Produced::with(string(), optional(i64())));
    numbers
        .group_by(|_, number| model::bucket(*number), Grouped::with("by-bucket", string(), i64()))
        .aggregate(|| 0, |_, number, total| total + number, Materialized::with("totals", i64()))
        .to_stream()
        .to(TOTALS, Produced::with(string(), optional(i64())));
    builder.build().expect("the topology is sound")
}

/// Starts the application on a broker, with its state here.
///
/// # Errors
/// As [`Host::start`].
pub fn start(broker: &str, state: &Path) -> Result<Host, HostError> {
    let kafka = KafkaConfig { brokers: vec![broker.to_owned()], ..KafkaConfig::default() };
    let config = HostConfig {
        state_dir: state.to_owned(),
        kafka: Some(kafka),
        memory_limit: 64 << 20,
        http: None,
        ..HostConfig::default()
    };
    let application = Application { topology: topology(), config: StreamsConfig::new(APPLICATION) };
    Host::start(config, vec![application])
}
