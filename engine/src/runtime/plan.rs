//! The plan of one application: its tasks, its internal topics and what each task needs, worked out
//! from the topology and the partition counts of the topics that exist. Owns the rules for names,
//! counts and settings of internal topics; asks no log itself.
//!
//! Sources: `InternalTopicConfig`, `RepartitionTopics`, `ChangelogTopics`,
//! `CopartitionedTopicsEnforcer`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::internal_topics::Role;
use crate::config::StreamsConfig;
use crate::log::{Cleanup, TopicSpec};
use crate::membership::TaskSpace;
use crate::record::{TaskId, TopicPartition};
use crate::store::{StoreKind, StoreSpec};
use crate::task::{changelog_topic, dead_letter_topic, store_family};
use crate::topology::{Subtopology, Topology};

/// Kafka Streams' `windowstore.changelog.additional.retention.ms`.
const WINDOW_CHANGELOG_EXTRA: Duration = Duration::from_secs(24 * 60 * 60);

/// Partition counts by topic.
pub(crate) type Counts = BTreeMap<Arc<str>, u32>;

/// One store of one task.
#[derive(Debug, Clone)]
pub(crate) struct StoreBlueprint {
    /// Its number in the topology.
    pub(crate) index: usize,
    pub(crate) spec: StoreSpec,
    /// Name of its family.
    pub(crate) family: String,
    /// Its changelog partition, where the log does not hold the state.
    pub(crate) changelog: Option<TopicPartition>,
}

/// Everything needed to open one task.
#[derive(Debug, Clone)]
pub(crate) struct Blueprint {
    pub(crate) task: TaskId,
    pub(crate) inputs: Vec<TopicPartition>,
    pub(crate) stores: Vec<StoreBlueprint>,
    /// Inputs whose records are of no use once committed.
    pub(crate) purged: BTreeSet<TopicPartition>,
}

/// The plan of one application.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) application: Arc<str>,
    pub(crate) subtopologies: Vec<Subtopology>,
    pub(crate) space: TaskSpace,
    /// Partition counts of every topic read or written.
    pub(crate) counts: Arc<Counts>,
    /// Topics to create if they are missing.
    pub(crate) internal: Vec<TopicSpec>,
    stores: Vec<StoreSpec>,
    repartitions: BTreeSet<Arc<str>>,
    holds_state: bool,
}

/// The topics that must be there before a plan can be made: everything the topology reads or writes
/// and does not own.
pub(crate) fn external_topics(topology: &Topology, application: &str) -> ExternalTopics {
    let own: BTreeSet<Arc<str>> =
        topology.repartition_topics(application).into_iter().map(|r| r.topic).collect();
    let subtopologies = topology.subtopologies(application);
    let foreign = |topics: fn(&Subtopology) -> &Vec<Arc<str>>| {
        let all = subtopologies.iter().flat_map(topics);
        all.filter(|topic| !own.contains(*topic)).cloned().collect()
    };
    let mut inputs: BTreeSet<Arc<str>> = foreign(|s| &s.inputs);
    inputs.extend(topology.globals().iter().map(|global| Arc::clone(&global.topic)));
    ExternalTopics { inputs, outputs: foreign(|s| &s.outputs) }
}

/// Topics of the user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExternalTopics {
    pub(crate) inputs: BTreeSet<Arc<str>>,
    pub(crate) outputs: BTreeSet<Arc<str>>,
}

impl ExternalTopics {
    pub(crate) fn all(&self) -> BTreeSet<Arc<str>> {
        self.inputs.union(&self.outputs).cloned().collect()
    }
}

impl Plan {
    /// Makes the plan from the partition counts of the external topics.
    ///
    /// # Errors
    /// All mistakes at once, one sentence each.
    pub(crate) fn new(
        topology: &Topology,
        config: &StreamsConfig,
        external: &Counts,
        holds_state: bool,
    ) -> Result<Self, Vec<String>> {
        let application: Arc<str> = config.application_id.as_str().into();
        let subtopologies = topology.subtopologies(&application);
        let repartitions: BTreeSet<Arc<str>> =
            topology.repartition_topics(&application).into_iter().map(|r| r.topic).collect();
        let mut counts = external.clone();
        count_repartitions(topology, config, &subtopologies, &mut counts);
        let mut mistakes = Vec::new();
        let mut partitions = Vec::new();
        for subtopology in &subtopologies {
            partitions.push(partitions_of(subtopology, &counts, &mut mistakes));
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let inputs = subtopologies.iter().map(|s| s.inputs.clone()).collect();
        let mut plan = Self {
            application,
            subtopologies,
            space: TaskSpace { partitions, inputs },
            counts: Arc::default(),
            internal: Vec::new(),
            stores: topology.stores().to_vec(),
            repartitions,
            holds_state,
        };
        plan.internal = plan.internal_topics(topology, config, &counts);
        counts.extend(plan.internal.iter().map(|t| (Arc::clone(&t.name), t.partitions)));
        plan.counts = Arc::new(counts);
        Ok(plan)
    }

    fn internal_topics(
        &self,
        topology: &Topology,
        config: &StreamsConfig,
        counts: &Counts,
    ) -> Vec<TopicSpec> {
        let mut topics: BTreeMap<Arc<str>, TopicSpec> = BTreeMap::new();
        let mut add = |name: Arc<str>, partitions: u32, cleanup: Cleanup| {
            topics.entry(Arc::clone(&name)).or_insert(TopicSpec { name, partitions, cleanup });
        };
        let forever = Cleanup::Delete { retention: None };
        for topic in &self.repartitions {
            add(Arc::clone(topic), counts[topic], forever);
        }
        for (subtopology, &partitions) in self.subtopologies.iter().zip(&self.space.partitions) {
            for topic in &subtopology.inputs {
                let configured = config.dead_letter_topic.as_deref();
                let dead = dead_letter_topic(topic, &self.application, configured);
                let cleanup = topology.declared(&dead).map_or(forever, |topic| topic.cleanup);
                add(dead, counts[topic], cleanup);
            }
            for &store in subtopology.stores.iter().filter(|_| !self.holds_state) {
                let spec = &self.stores[store];
                let name = changelog_topic(&self.application, &spec.name);
                add(name, partitions, changelog_cleanup(spec));
            }
        }
        topics.into_values().collect()
    }

    /// How many partitions are read, by all tasks together.
    pub(crate) fn input_partitions(&self) -> usize {
        let tasks = self.subtopologies.iter().zip(&self.space.partitions);
        tasks.map(|(s, &n)| s.inputs.len() * usize::try_from(n).unwrap_or(usize::MAX)).sum()
    }

    /// What one task needs.
    pub(crate) fn blueprint(&self, task: TaskId) -> Blueprint {
        let number = usize::try_from(task.subtopology).expect("a subtopology's number is small");
        let subtopology = &self.subtopologies[number];
        let inputs: Vec<_> = subtopology
            .inputs
            .iter()
            .map(|topic| TopicPartition::new(Arc::clone(topic), task.partition))
            .collect();
        let stores = subtopology.stores.iter().map(|&store| {
            let spec = self.stores[store].clone();
            let changelog = (!self.holds_state).then(|| {
                TopicPartition::new(changelog_topic(&self.application, &spec.name), task.partition)
            });
            let family = store_family(&self.application, &spec.name);
            StoreBlueprint { index: store, spec, family, changelog }
        });
        Blueprint {
            task,
            stores: stores.collect(),
            purged: inputs
                .iter()
                .filter(|input| self.repartitions.contains(&input.topic))
                .cloned()
                .collect(),
            inputs,
        }
    }

    /// Compares the internal topics with what exists after creation.
    ///
    /// # Errors
    /// All differences at once, with the way out.
    pub(crate) fn check_internal(&self, found: &[TopicSpec]) -> Result<(), Vec<String>> {
        let found: BTreeMap<_, _> = found.iter().map(|t| (&t.name, t)).collect();
        let differences = self.internal.iter().flat_map(|wanted| match found.get(&wanted.name) {
            None => vec![format!("internal topic '{}' could not be created", wanted.name)],
            Some(found) => self.role(wanted).differences(wanted, found),
        });
        let differences: Vec<_> = differences.collect();
        if differences.is_empty() { Ok(()) } else { Err(differences) }
    }

    fn role(&self, topic: &TopicSpec) -> Role {
        match topic.cleanup {
            Cleanup::Compact | Cleanup::CompactAfter { .. } | Cleanup::CompactAndDelete { .. } => {
                Role::Changelog
            }
            Cleanup::Delete { .. } if self.repartitions.contains(&topic.name) => Role::Repartition,
            Cleanup::Delete { .. } => Role::DeadLetters,
        }
    }
}

fn changelog_cleanup(spec: &StoreSpec) -> Cleanup {
    let kept = |ms: i64| {
        let kept = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        kept.saturating_add(WINDOW_CHANGELOG_EXTRA)
    };
    match (spec.kind, spec.kind.retention_ms()) {
        (StoreKind::Versioned(history_ms), _) => Cleanup::CompactAfter { lag: kept(history_ms) },
        (_, Some(retention_ms)) => Cleanup::CompactAndDelete { retention: kept(retention_ms) },
        (_, None) => Cleanup::Compact,
    }
}

/// Gives every repartition topic its count: what the topology says, else what its co-inputs have,
/// else the largest count among the inputs of its writers.
fn count_repartitions(
    topology: &Topology,
    config: &StreamsConfig,
    subtopologies: &[Subtopology],
    counts: &mut Counts,
) {
    let mut open = topology.repartition_topics(&config.application_id);
    open.retain(|r| match r.partitions.or(config.repartition_partitions) {
        Some(partitions) => {
            counts.insert(Arc::clone(&r.topic), partitions);
            false
        }
        None => true,
    });
    open.retain(|r| {
        let readers = subtopologies.iter().filter(|s| s.inputs.contains(&r.topic));
        let beside = readers.flat_map(|s| &s.inputs).filter_map(|t| counts.get(t)).max().copied();
        if let Some(partitions) = beside {
            counts.insert(Arc::clone(&r.topic), partitions);
        }
        beside.is_none()
    });
    // Chains of repartitions: each round knows at least one more, or none ever will.
    for _ in 0..open.len() {
        open.retain(|r| {
            let known = r.written_from.iter().map(|t| counts.get(t).copied());
            let Some(widest) = known.collect::<Option<Vec<_>>>().and_then(|c| c.into_iter().max())
            else {
                return true;
            };
            counts.insert(Arc::clone(&r.topic), widest);
            false
        });
    }
}

/// All inputs of a subtopology have the same count, which is the number of its tasks.
fn partitions_of(subtopology: &Subtopology, counts: &Counts, mistakes: &mut Vec<String>) -> u32 {
    let known: Vec<_> =
        subtopology.inputs.iter().filter_map(|t| counts.get(t).map(|n| (t, *n))).collect();
    for topic in subtopology.inputs.iter().filter(|t| !counts.contains_key(*t)) {
        mistakes.push(format!("topic '{topic}' has no known partition count"));
    }
    let most = known.iter().map(|(_, n)| *n).max().unwrap_or(0);
    if known.iter().any(|(_, n)| *n != most) {
        let each: Vec<_> = known.iter().map(|(t, n)| format!("'{t}' has {n}")).collect();
        mistakes.push(format!(
            "the inputs of subtopology {} are not co-partitioned: {}; give them the same number \
             of partitions, or repartition one of them in the topology",
            subtopology.id,
            each.join(", ")
        ));
    }
    most
}
