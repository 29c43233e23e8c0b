//! What one node of a cluster is told: its properties, and the users that its metadata begins with.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// One node, both broker and controller.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) id: u32,
    pub(super) port: u16,
    /// The controller ports of all nodes, by id from 1.
    pub(super) controllers: Vec<u16>,
    /// Listeners beside the plain one: name, protocol, port.
    pub(super) listeners: Vec<(&'static str, &'static str, u16)>,
    /// Go before what this module says.
    pub(super) properties: Vec<(String, String)>,
    /// `--add-scram` arguments of the storage tool.
    pub(super) scram: Vec<String>,
}

impl Node {
    /// The only node of its cluster.
    pub(super) fn single() -> Self {
        Self { id: 1, port: free_port(), controllers: vec![free_port()], ..Self::default() }
    }

    /// The nodes of a cluster, with these properties.
    pub(super) fn several(count: u32, properties: &[(&str, &str)]) -> Vec<Self> {
        let controllers: Vec<u16> = (0..count).map(|_| free_port()).collect();
        let node = |id| {
            let (port, controllers) = (free_port(), controllers.clone());
            Self { id, port, controllers, properties: owned(properties), ..Self::default() }
        };
        (1..=count).map(node).collect()
    }

    /// The text of `server.properties`. The smaller deduplication buffer saves 120 MB of memory.
    pub(super) fn text(&self, folder: &Path) -> String {
        let controller = self.controllers[usize::try_from(self.id - 1).expect("few nodes")];
        let voters: Vec<String> = (1..)
            .zip(&self.controllers)
            .map(|(id, port)| format!("{id}@127.0.0.1:{port}"))
            .collect();
        let mut listeners = format!("PLAINTEXT://127.0.0.1:{}", self.port);
        let mut protocols = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT".to_owned();
        for (name, protocol, port) in &self.listeners {
            write!(listeners, ",{name}://127.0.0.1:{port}").expect("text takes text");
            write!(protocols, ",{name}:{protocol}").expect("text takes text");
        }
        let replicas = self.controllers.len();
        let in_sync = replicas.div_ceil(2);
        let mut text = format!(
            "process.roles=broker,controller\n\
             node.id={id}\n\
             controller.quorum.voters={voters}\n\
             listeners={listeners},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners={listeners}\n\
             controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=PLAINTEXT\n\
             listener.security.protocol.map={protocols}\n\
             log.dirs={data}\n\
             auto.create.topics.enable=false\n\
             log.retention.ms=-1\n\
             default.replication.factor={replicas}\n\
             min.insync.replicas={in_sync}\n\
             offsets.topic.replication.factor={replicas}\n\
             offsets.topic.num.partitions=5\n\
             transaction.state.log.replication.factor={replicas}\n\
             transaction.state.log.min.isr={in_sync}\n\
             transaction.state.log.num.partitions=5\n\
             share.coordinator.state.topic.replication.factor={replicas}\n\
             share.coordinator.state.topic.min.isr={in_sync}\n\
             group.initial.rebalance.delay.ms=0\n\
             log.cleaner.dedupe.buffer.size=8388608\n",
            id = self.id,
            voters = voters.join(","),
            data = folder.join("data").display(),
        );
        if replicas > 1 {
            // A dead broker is noticed after three seconds instead of nine.
            text.push_str(
                "broker.session.timeout.ms=3000\n\
                 broker.heartbeat.interval.ms=500\n\
                 replica.lag.time.max.ms=3000\n",
            );
        }
        for (name, value) in &self.properties {
            writeln!(text, "{name}={value}").expect("text takes text");
        }
        text
    }
}

/// Properties as a node keeps them.
pub(super) fn owned(properties: &[(&str, &str)]) -> Vec<(String, String)> {
    properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A port that is free now. It lies below the range that systems give to outgoing connections, so
/// that a broker can come back to it.
pub(super) fn free_port() -> u16 {
    static NEXT: Mutex<u32> = Mutex::new(0);
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..1000 {
        // Processes that run side by side start far apart.
        let candidate = 20_000 + (std::process::id().wrapping_mul(37) + *next) % 12_000;
        *next += 1;
        let port = u16::try_from(candidate).expect("below 32,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 20000 and 32000");
}
