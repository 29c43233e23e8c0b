//! The smallest application with a store, for tests about the cluster it runs on: counts the values
//! of each key. What it is told about the cluster is the caller's business.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use headwater::config::{GroupConfig, HostConfig, KafkaConfig, MembershipKind, StreamsConfig};
use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder};
use headwater::runtime::{Application, Host, HostError};
use headwater::serde::serdes::{i64, optional, string};
use headwater::topology::Topology;

/// Keys and values, both text.
pub const INPUT: &str = "counted-input";
/// The running count of each key, as text and a big-endian number.
pub const OUTPUT: &str = "counted-output";
/// The store, and so a part of the changelog's name.
pub const STORE: &str = "counts";

/// What it does: the input, a repartition topic, the store, the output.
pub fn add_to(builder: &StreamsBuilder) {
    builder
        .stream(INPUT, Consumed::with(string(), string()))
        .group_by(|_, word| word.clone(), Grouped::with("by-word", string(), string()))
        .count(Materialized::count(STORE))
        .to_stream()
        .to(OUTPUT, Produced::with(string(), optional(i64())));
}

/// The same, checked.
///
/// # Panics
/// Never: it is sound.
#[must_use]
pub fn topology() -> Arc<Topology> {
    let builder = StreamsBuilder::new();
    add_to(&builder);
    builder.build().expect("the topology is sound")
}

/// A process that has all tasks to itself, so that a restart under another name waits for nobody.
#[must_use]
pub fn alone(kafka: KafkaConfig) -> KafkaConfig {
    let group = GroupConfig { membership: MembershipKind::Single, ..kafka.group.clone() };
    KafkaConfig { group, ..kafka }
}

/// Settings of the process: this cluster, this folder, no HTTP, little memory.
#[must_use]
pub fn host_config(kafka: Option<KafkaConfig>, state: &Path) -> HostConfig {
    HostConfig {
        state_dir: state.to_owned(),
        kafka,
        memory_limit: 64 << 20,
        http: None,
        stop_timeout: Duration::from_secs(60),
        ..HostConfig::default()
    }
}

/// Starts it under an application id of the caller's, with its state here.
///
/// # Errors
/// As [`Host::start`].
pub fn start(kafka: KafkaConfig, config: StreamsConfig, state: &Path) -> Result<Host, HostError> {
    let application = Application { topology: topology(), config };
    Host::start(host_config(Some(kafka), state), vec![application])
}

/// Why it fails, at start or while it runs.
///
/// # Panics
/// When it ends without a failure. It is the test runner's time that bounds the wait.
#[must_use]
pub fn failure(kafka: KafkaConfig, config: StreamsConfig, state: &Path) -> String {
    match start(kafka, config, state) {
        Err(error) => error.to_string(),
        Ok(host) => host.wait().expect_err("it cannot run").to_string(),
    }
}
