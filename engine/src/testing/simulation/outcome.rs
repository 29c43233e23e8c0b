//! What came of a run, and the check that fits most topologies: the same records through one task
//! that nothing happens to.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::inputs::Input;
use super::prefix::StoreRows;
use crate::config::StreamsConfig;
use crate::log::sim::{SimCluster, SimRecord};
use crate::record::Headers;
use crate::runtime::external_topics;
use crate::testing::TopologyTestDriver;
use crate::topology::Topology;

/// The key's bytes and what was written under it, in order: timestamp and value.
type ByKey = BTreeMap<Option<Vec<u8>>, Vec<(i64, Option<Vec<u8>>)>>;

/// Everything that a run left behind once all its records were processed.
#[derive(Debug)]
pub struct Outcome<'r> {
    pub(super) seed: u64,
    pub(super) application: &'r str,
    pub(super) partitions: u32,
    pub(super) inputs: &'r [Input],
    pub(super) cluster: &'r SimCluster,
    pub(super) stores: BTreeMap<(String, u32), StoreRows>,
}

impl Outcome<'_> {
    /// The seed of the run.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Everything that arrived, in order.
    pub fn inputs(&self) -> &[Input] {
        self.inputs
    }

    /// The application's id, of which the names of its own topics are made.
    pub fn application(&self) -> &str {
        self.application
    }

    /// The committed records of a topic, by partition, in offset order; none if it does not exist.
    pub fn records(&self, topic: &str) -> Vec<Vec<SimRecord>> {
        match self.cluster.topics().iter().any(|spec| *spec.name == *topic) {
            true => self.cluster.committed_records(topic),
            false => Vec::new(),
        }
    }

    /// The committed rows of one partition of a store, as it keeps them: store key to stored value.
    pub fn rows(&self, store: &str, partition: u32) -> Option<&StoreRows> {
        self.stores.get(&(store.to_owned(), partition))
    }

    /// Compares what was written and what the stores hold with what a fault-free run gives: every
    /// output topic by key and in order, every store row by row.
    ///
    /// A topology without repartition topics is compared partition by partition, any other one as a
    /// whole. That needs a topology whose answer depends on nothing but the order of records within
    /// each partition: no caches, no wall clock, and no two inputs of one task whose records may
    /// pass each other (see [`Inputs::settle`](super::Inputs::settle)).
    ///
    /// # Errors
    /// What differs, in words, one line each, at most ten.
    pub fn compare_with_a_faultless_run(&self, topology: &Arc<Topology>) -> Result<(), String> {
        let parts: Vec<Option<u32>> = match topology.repartition_topics(self.application).is_empty()
        {
            true => (0..self.partitions).map(Some).collect(),
            false => vec![None],
        };
        let outputs = external_topics(topology, self.application).outputs;
        let mut wrong = Vec::new();
        let mut expected: BTreeMap<Arc<str>, Vec<ByKey>> = BTreeMap::new();
        for only in parts {
            let mut driver = self.faultless_run(topology, only)?;
            for topic in &outputs {
                let sequences =
                    by_key(driver.take(topic).into_iter().map(|r| (r.key, r.timestamp, r.value)));
                expected.entry(Arc::clone(topic)).or_default().push(sequences);
            }
            self.compare_stores(topology, &driver, only, &mut wrong);
        }
        for (topic, parts) in &expected {
            let found = self.records(topic).into_iter().flatten();
            let found = by_key(found.map(|r| (r.key, r.timestamp, r.value)));
            compare_outputs(topic, parts, found, &mut wrong);
        }
        wrong.truncate(10);
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    /// The records of one partition, or all, through one task.
    fn faultless_run(
        &self,
        topology: &Arc<Topology>,
        only: Option<u32>,
    ) -> Result<TopologyTestDriver, String> {
        let config = StreamsConfig::new(self.application);
        let mut driver = TopologyTestDriver::with(topology, &config, 0).map_err(text)?;
        for input in self.inputs.iter().filter(|i| only.is_none_or(|p| i.partition == p)) {
            let (key, value) = (input.key.as_deref(), input.value.as_deref());
            let (topic, headers) = (&input.topic, Headers::empty());
            driver.pipe(topic, key, value, input.timestamp, headers).map_err(text)?;
        }
        Ok(driver)
    }

    fn compare_stores(
        &self,
        topology: &Topology,
        driver: &TopologyTestDriver,
        only: Option<u32>,
        wrong: &mut Vec<String>,
    ) {
        for store in topology.stores() {
            let expected: StoreRows = driver.stored(&store.name).into_iter().collect();
            let found = self.stores.iter().filter(|((name, partition), _)| {
                **name == *store.name && only.is_none_or(|p| *partition == p)
            });
            let found = found.flat_map(|(_, rows)| rows.clone()).collect();
            compare_maps(&store.name, &expected, &found, wrong);
        }
    }
}

fn by_key(records: impl Iterator<Item = (Option<Vec<u8>>, i64, Option<Vec<u8>>)>) -> ByKey {
    let mut found = ByKey::new();
    for (key, timestamp, value) in records {
        found.entry(key).or_default().push((timestamp, value));
    }
    found
}

/// A key that one task writes has its values in order; those of a key that several write may come
/// in any order.
fn compare_outputs(topic: &str, parts: &[ByKey], mut found: ByKey, wrong: &mut Vec<String>) {
    let mut expected = ByKey::new();
    for part in parts {
        for (key, values) in part {
            expected.entry(key.clone()).or_default().extend(values.iter().cloned());
        }
    }
    for (key, values) in &mut expected {
        if parts.iter().filter(|part| part.contains_key(key)).count() > 1 {
            values.sort();
            found.entry(key.clone()).or_default().sort();
        }
    }
    compare_maps(topic, &expected, &found, wrong);
}

fn compare_maps<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
    wrong: &mut Vec<String>,
) {
    for (key, value) in expected {
        if found.get(key) != Some(value) {
            let found = found.get(key);
            wrong.push(format!("{what}: {key:?} must be {value:?} and is {found:?}"));
        }
    }
    for (key, value) in found.iter().filter(|(key, _)| !expected.contains_key(key)) {
        wrong.push(format!("{what}: {key:?} must not be there and is {value:?}"));
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
