//! The application that the broker proofs crash: counts by key, counts by key and window with late
//! records, sums behind a repartition topic. What it must have written is [`model`]'s business,
//! which shares no code with the engine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use headwater::config::{Environment, HostConfig, StreamsConfig};
use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder, TimeWindows};
use headwater::runtime::{Application, Host, HostError};
use headwater::serde::serdes::{i64, optional, string};
use headwater::topology::Topology;

#[cfg(feature = "kafka")]
pub mod judge;
#[cfg(feature = "kafka")]
pub mod load;
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
/// The internal topic between the two subtopologies.
pub const REPARTITION: &str = "slice-by-bucket-repartition";
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

/// Starts the application on a broker, with its state here. Every process of it has the same place in
/// the group: one runs after the other, maybe with other state.
///
/// # Errors
/// As [`Host::start`].
pub fn start(broker: &str, state: &Path) -> Result<Host, HostError> {
    start_with(broker, state, &[("KAFKA_INSTANCE_ID", APPLICATION)])
}

/// Starts the application with these variables of the environment.
///
/// # Errors
/// As [`Host::start`].
pub fn start_with(
    broker: &str,
    state: &Path,
    variables: &[(&str, &str)],
) -> Result<Host, HostError> {
    let own = [("KAFKA_BROKERS", broker), ("STATE_DIR", &*state.to_string_lossy())];
    let all = variables.iter().chain(&own).map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
    let environment = Environment::parse(all)?;
    let host = HostConfig { memory_limit: 64 << 20, http: None, ..environment.host.clone() };
    let purge_interval = Duration::from_secs(1);
    let mut config = StreamsConfig { purge_interval, ..StreamsConfig::new(APPLICATION) };
    environment.apply(&mut config);
    Host::start(host, vec![Application { topology: topology(), config }])
}
