//! A producer of one simulated process: the seam's calls, handed to its client in the cluster. Knows
//! nothing of what the client does with them.

use super::SimCluster;
use super::client::Client;
use crate::actor::{Bell, Promise, Ticket, ticket};
use crate::error::ErrorClass;
use crate::log::{CommitRequest, Committed, LogError, LogResult, TransactionalProducer};
use crate::record::{RecordBatch, RecordPrint, TopicPartition};

#[derive(Debug)]
pub(super) struct SimProducer {
    cluster: SimCluster,
    client: u64,
    bell: Bell,
}

impl SimProducer {
    pub(super) fn new(cluster: SimCluster, client: u64, bell: Bell) -> Self {
        Self { cluster, client, bell }
    }

    /// Lets the client do something, then sends what it wants to send.
    fn with_client<T>(&self, f: impl FnOnce(&mut Client) -> T) -> T {
        let mut cluster = self.cluster.lock();
        let answer =
            f(cluster.clients.get_mut(&self.client).expect("it lives as long as its producer"));
        cluster.pump(self.client);
        drop(cluster);
        self.cluster.bell.ring();
        answer
    }

    fn start<T>(&self, f: impl FnOnce(&mut Client, Promise<T>)) -> Ticket<T> {
        let (promise, ticket) = ticket(self.bell.clone());
        self.with_client(|client| f(client, promise));
        ticket
    }
}

impl Drop for SimProducer {
    fn drop(&mut self) {
        // Requests on their way still arrive; answers find nobody.
        let client = self.cluster.lock().clients.remove(&self.client);
        drop(client);
    }
}

impl TransactionalProducer for SimProducer {
    fn initialise(&mut self) -> Ticket<LogResult<()>> {
        self.start(Client::initialise)
    }

    fn begin(&mut self) -> LogResult<()> {
        self.with_client(Client::begin)
    }

    fn send(&mut self, to: &TopicPartition, records: &RecordBatch) -> LogResult<()> {
        let (queue_bytes, max_record_bytes) = {
            let config = &self.cluster.lock().config;
            (config.queue_bytes, config.max_record_bytes)
        };
        for record in records.records() {
            let record = record.map_err(|error| {
                LogError::new(ErrorClass::User, "produce", error.to_string()).on(to)
            })?;
            let size = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            if size > max_record_bytes {
                let message = format!(
                    "a record of {size} bytes is too large, {max_record_bytes} are allowed"
                );
                let print = RecordPrint::of(record.key, record.value);
                return Err(LogError::refusal("produce", to, print, message));
            }
        }
        self.with_client(|client| {
            if client.queued_bytes() >= queue_bytes {
                let message = "the producer's queue is full; send again when its bell rang";
                return Err(LogError::new(ErrorClass::Retry, "produce", message).on(to));
            }
            client.send(to, records)
        })
    }

    fn commit(&mut self, request: CommitRequest) -> Ticket<LogResult<Committed>> {
        self.start(|client, promise| client.commit(request, promise))
    }

    fn abort(&mut self) -> Ticket<LogResult<()>> {
        self.start(Client::abort)
    }
}
