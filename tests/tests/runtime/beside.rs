//! Processes beside a simulated cluster, each with a disk of its own, stepped round by round. They
//! run without a group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use headwater::actor::{Actor, Next};
use headwater::config::StreamsConfig;
use headwater::log::sim::{Process, SimCluster, SimConfig, SimRecord};
use headwater::log::{Cleanup, TopicSpec};
use headwater::membership::single::Single;
use headwater::metrics::Metrics;
use headwater::record::batch::{RecordBatch, RecordBatchBuilder};
use headwater::record::{Headers, TopicPartition};
use headwater::runtime::{StateHome, Streams, StreamsParts};
use headwater::time::{Clock as _, VirtualClock};
use headwater::topology::Topology;
use headwater_state::database::memory::MemoryDisk;
use headwater_state::directory::{Identity, StateDirectory, Storage};
use headwater_state::error::Mode;
use headwater_state::lease::Leases;

/// A simulated cluster and the processes beside it.
pub(crate) struct Beside {
    pub(crate) cluster: SimCluster,
    pub(crate) metrics: Metrics,
    clock: VirtualClock,
    processes: BTreeMap<String, Process>,
    actors: Vec<(String, Option<Box<dyn Actor>>)>,
}

impl Beside {
    /// A cluster with these topics, of two partitions each.
    pub(crate) fn new(config: SimConfig, topics: &[&str]) -> Self {
        let cluster = SimCluster::new(config);
        for name in topics {
            let cleanup = Cleanup::Delete { retention: None };
            cluster.create_topic(TopicSpec { name: (*name).into(), partitions: 2, cleanup });
        }
        let clock = VirtualClock::new(1_700_000_000_000);
        let own: Box<dyn Actor> = Box::new(cluster.clone());
        let actors = vec![("cluster".to_owned(), Some(own))];
        let (metrics, processes) = (Metrics::new(), BTreeMap::new());
        Self { cluster, metrics, clock, processes, actors }
    }

    /// Starts a process.
    pub(crate) fn start(
        &mut self,
        name: &str,
        disk: &MemoryDisk,
        config: StreamsConfig,
        topology: Arc<Topology>,
    ) -> Streams {
        self.start_on(name, Storage::Memory(disk.clone()), config, topology)
    }

    /// Starts a process with its state there.
    pub(crate) fn start_on(
        &mut self,
        name: &str,
        storage: Storage,
        config: StreamsConfig,
        topology: Arc<Topology>,
    ) -> Streams {
        let group = config.application_id.clone();
        let applications = BTreeSet::from([group.clone()]);
        let identity = Identity { mode: Mode::Kafka, applications, cluster: None };
        let directory = StateDirectory::open(storage, identity);
        let process = Process::new(name);
        self.processes.insert(name.to_owned(), process.clone());
        let (streams, actors) = Streams::build(StreamsParts {
            topology,
            config,
            instance: "0".to_owned(),
            log: Arc::new(self.cluster.connect(&process)),
            home: StateHome::PerTask(Arc::new(directory.expect("the disk is free"))),
            leases: Leases::new(),
            join: Box::new(move |space| Ok(Box::new(Single::new(group, space)))),
            metrics: self.metrics.clone(),
            overlay_bytes: 1 << 20,
            queue_bytes: 1 << 20,
            create_topics: None,
        })
        .expect("a valid configuration");
        self.actors.extend(actors.into_iter().map(|actor| (name.to_owned(), Some(actor))));
        streams
    }

    /// The process dies; its disk keeps what was written.
    pub(crate) fn kill(&mut self, name: &str, disk: &MemoryDisk) {
        self.end(name);
        disk.crash(usize::MAX);
    }

    /// The process is no more.
    pub(crate) fn end(&mut self, name: &str) {
        self.processes.remove(name).expect("it runs").kill();
        self.actors.retain(|(of, _)| of != name);
    }

    /// Appends a record to the first partition.
    pub(crate) fn append(&self, topic: &str, value: &str, timestamp: i64) {
        let mut batch = RecordBatchBuilder::new();
        let value = Some(value.as_bytes());
        batch.append(timestamp, Some(b"k"), value, Headers::empty()).expect("small");
        let batch = RecordBatch::new(0, batch.finish()).expect("well-formed");
        self.cluster.append(&TopicPartition::new(topic, 0), &batch);
    }

    /// Every committed record of a topic, partition after partition.
    pub(crate) fn records(&self, topic: &str) -> Vec<SimRecord> {
        self.cluster.committed_records(topic).into_iter().flatten().collect()
    }

    /// The values of those records, as text.
    pub(crate) fn values(&self, topic: &str) -> Vec<String> {
        let text = |record: SimRecord| {
            String::from_utf8(record.value.unwrap_or_default()).expect("values are text")
        };
        self.records(topic).into_iter().map(text).collect()
    }

    pub(crate) fn round(&mut self) {
        for (_, slot) in &mut self.actors {
            if slot.as_mut().is_some_and(|actor| actor.step(self.clock.now()) == Next::Done) {
                *slot = None;
            }
        }
        self.clock.advance(Duration::from_millis(1));
    }

    pub(crate) fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        for _ in 0..60_000 {
            if so(self) {
                return;
            }
            self.round();
        }
        panic!("not so after 60,000 rounds: {what}; {:#?}", self.cluster.trace());
    }
}
