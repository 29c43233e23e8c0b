//! Runs conformance scenarios: builds a scenario's topology in the DSL, pipes its trace through the
//! test driver, and gives outputs and stores as the scenario format wants them. Knows the format;
//! judges nothing, a checker compares.

mod compare;
mod functions;
mod joins;
mod nodes;
mod processors;
mod values;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use headwater::config::{OnError, StreamsConfig};
use headwater::dsl::StreamsBuilder;
use headwater::store::StoreKind;
use headwater::task::TaskError;
use headwater::testing::{StoredRow, TopologyTestDriver};
use serde_json::{Value as Json, json};

pub use compare::difference;
use nodes::Nodes;
use values::{key_json, value_json};

/// Why a scenario has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// It uses something that is not built yet.
    Unsupported(String),
    /// It cannot be read, or running it failed.
    Failed(String),
}

impl NoAnswer {
    fn failed(why: impl ToString) -> Self {
        Self::Failed(why.to_string())
    }
}

/// The answer to a scenario.
///
/// # Errors
/// [`NoAnswer`] says why there is none.
pub fn answer(scenario: &Json) -> Result<Json, NoAnswer> {
    answer_with(scenario, |_| Ok(()))
}

/// As [`answer`], with `between` done to the driver after each step.
///
/// # Errors
/// As [`answer`].
pub fn answer_with(
    scenario: &Json,
    mut between: impl FnMut(&mut TopologyTestDriver) -> Result<(), TaskError>,
) -> Result<Json, NoAnswer> {
    if scenario["format"] != json!(1) {
        return Err(NoAnswer::failed("the scenario is not of format 1"));
    }
    let builder = StreamsBuilder::new();
    let cached = scenario["config"]["cache_max_bytes"].as_i64().unwrap_or(0) > 0;
    let mut nodes = Nodes::new(&builder, cached);
    for node in scenario["topology"].as_array().into_iter().flatten() {
        nodes.add(node)?;
    }
    let (observations, stores, outputs) = nodes.finish();
    let topology = builder.build().map_err(NoAnswer::failed)?;
    let config = StreamsConfig { on_error: OnError::DropHere, ..StreamsConfig::new("conformance") };
    let start = scenario["config"]["wall_clock_start_ms"].as_i64().unwrap_or(0);
    let mut driver =
        TopologyTestDriver::with(&topology, &config, start).map_err(NoAnswer::failed)?;
    let mut written: BTreeMap<String, Vec<Json>> = BTreeMap::new();
    for (step, input) in scenario["input"].as_array().into_iter().flatten().enumerate() {
        run_step(&mut driver, input)?;
        between(&mut driver).map_err(NoAnswer::failed)?;
        for (topic, windowed) in &outputs {
            for record in driver.take(topic) {
                let key = key_json(record.key.as_deref(), *windowed).map_err(NoAnswer::failed)?;
                let value = value_json(record.value.as_deref()).map_err(NoAnswer::failed)?;
                let timestamp = record.timestamp;
                let line =
                    json!({"key": key, "value": value, "timestamp": timestamp, "step": step});
                written.entry(topic.clone()).or_default().push(line);
            }
        }
        for (name, key, value) in observations.lock().expect("one thread").drain(..) {
            let line = json!({"key": key, "value": value, "timestamp": null, "step": step});
            written.entry(format!("observe:{name}")).or_default().push(line);
        }
    }
    let mut kept = BTreeMap::new();
    for store in stores {
        let kind = topology.stores().iter().find(|s| *s.name == *store).map(|s| s.kind);
        let rows = match kind {
            Some(StoreKind::Versioned(_)) => versions(scenario, &driver, &store)?,
            _ => store_rows(&driver, &store)?,
        };
        kept.insert(store, rows);
    }
    Ok(json!({"outputs": written, "stores": kept}))
}

fn run_step(driver: &mut TopologyTestDriver, step: &Json) -> Result<(), NoAnswer> {
    if let Some(ms) = step["advance_wall_clock_ms"].as_u64() {
        return driver.advance_wall_clock(Duration::from_millis(ms)).map_err(NoAnswer::failed);
    }
    let topic = step["topic"].as_str().ok_or_else(|| NoAnswer::failed("a step has no topic"))?;
    let key = step["key"].as_str().map(str::as_bytes);
    let value = values::encode_json(&step["value"]);
    let time = step["timestamp"].as_i64();
    let time = time.ok_or_else(|| NoAnswer::failed("a step has no timestamp"))?;
    let headers = headwater::record::Headers::empty();
    driver.pipe(topic, key, value.as_deref(), time, headers).map_err(NoAnswer::failed)
}

/// The latest version of each key, and those as of each time that the scenario probes.
fn versions(
    scenario: &Json,
    driver: &TopologyTestDriver,
    store: &str,
) -> Result<Vec<Json>, NoAnswer> {
    let mut entries = Vec::new();
    let mut keys = BTreeSet::new();
    for input in scenario["input"].as_array().into_iter().flatten() {
        keys.extend(input["key"].as_str());
    }
    let mut show = |row: StoredRow, as_of: &Json| {
        let key = String::from_utf8_lossy(&row.key).into_owned();
        let value = value_json(Some(&row.value)).map_err(NoAnswer::failed)?;
        let timestamp = row.timestamp;
        entries.push(json!({"key": key, "value": value, "timestamp": timestamp, "as_of": as_of}));
        Ok(())
    };
    for row in driver.rows(store) {
        show(row, &Json::Null)?;
    }
    for probe in scenario["config"]["versioned_probes"].as_array().into_iter().flatten() {
        let time = probe.as_i64().ok_or_else(|| NoAnswer::failed("a probe is no time"))?;
        for key in &keys {
            if let Some(row) = driver.row_as_of(store, key.as_bytes(), time) {
                show(row, probe)?;
            }
        }
    }
    Ok(entries)
}

fn store_rows(driver: &TopologyTestDriver, store: &str) -> Result<Vec<Json>, NoAnswer> {
    let rows = driver.rows(store).into_iter().map(|row| {
        let key = String::from_utf8_lossy(&row.key).into_owned();
        let value = value_json(Some(&row.value)).map_err(NoAnswer::failed)?;
        let key = match row.window {
            None => json!(key),
            Some(w) => json!({"key": key, "start": w.start, "end": w.end}),
        };
        Ok(match row.timestamp {
            None => json!({"key": key, "value": value}),
            Some(time) => json!({"key": key, "value": value, "timestamp": time}),
        })
    });
    rows.collect()
}
