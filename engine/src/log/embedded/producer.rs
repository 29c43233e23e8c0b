//! A transactional producer: its open transaction is memory until it commits. Must not know offsets;
//! the writer gives them out.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_state::log_table::GroupOffset;

use super::Shared;
use super::command::{Command, Commit, Write};
use super::partition::Partition;
use crate::actor::{Bell, Ticket, ticket};
use crate::error::ErrorClass;
use crate::log::{CommitRequest, Committed, LogError, LogResult, TransactionalProducer};
use crate::record::TopicPartition;
use crate::record::batch::RecordBatch;

/// Kafka's limit for the metadata of a committed offset.
const METADATA_BYTES_MAX: usize = 4_096;

/// ```text
/// New --initialise--> Ready --begin--> Open --commit | abort--> Ready
/// ```
enum State {
    New,
    Ready,
    Open(Vec<Write>),
}

pub(super) struct EmbeddedProducer {
    shared: Arc<Shared>,
    id: Arc<str>,
    number: u64,
    bell: Bell,
    state: State,
    /// Partitions written before.
    known: BTreeMap<TopicPartition, Arc<Partition>>,
}

impl EmbeddedProducer {
    pub(super) fn new(shared: Arc<Shared>, id: &str, bell: Bell) -> Self {
        let number = shared.next_handle();
        let known = BTreeMap::new();
        Self { shared, id: Arc::from(id), number, bell, state: State::New, known }
    }

    fn partition(
        &mut self,
        name: &TopicPartition,
        operation: &'static str,
    ) -> LogResult<Arc<Partition>> {
        if let Some(partition) = self.known.get(name) {
            return Ok(Arc::clone(partition));
        }
        let partition = self.shared.catalogue.partition(name, operation)?;
        self.known.insert(name.clone(), Arc::clone(&partition));
        Ok(partition)
    }

    fn take_open(&mut self, operation: &'static str) -> LogResult<Vec<Write>> {
        match std::mem::replace(&mut self.state, State::Ready) {
            State::Open(writes) => Ok(writes),
            other => {
                self.state = other;
                Err(self.misused(operation, "no transaction is open"))
            }
        }
    }

    fn misused(&self, operation: &'static str, what: &str) -> LogError {
        let message = format!("producer {}: {what}", self.id);
        LogError::new(ErrorClass::Fatal, operation, message)
    }

    fn resolve(
        &mut self,
        request: &CommitRequest,
    ) -> LogResult<Vec<(Arc<Partition>, GroupOffset)>> {
        let mut offsets = Vec::with_capacity(request.offsets.len());
        for (name, offset) in &request.offsets {
            let partition = self.partition(name, "commit transaction")?;
            let bytes = offset.metadata.len();
            if bytes > METADATA_BYTES_MAX || offset.next_offset < 0 {
                let message = format!(
                    "offset {} with {bytes} bytes of metadata is no position",
                    offset.next_offset
                );
                let error = LogError::new(ErrorClass::Fatal, "commit transaction", message);
                return Err(error.on(name));
            }
            let offset =
                GroupOffset { next_offset: offset.next_offset, metadata: offset.metadata.clone() };
            offsets.push((partition, offset));
        }
        Ok(offsets)
    }
}

impl TransactionalProducer for EmbeddedProducer {
    fn initialise(&mut self) -> Ticket<LogResult<()>> {
        self.state = State::Ready;
        let (promise, ticket) = ticket(self.bell.clone());
        let id = Arc::clone(&self.id);
        self.shared.send(Command::Initialise { id, producer: self.number, promise });
        ticket
    }

    fn begin(&mut self) -> LogResult<()> {
        match self.state {
            State::New => Err(self.misused("begin transaction", "it is not initialised")),
            State::Open(_) => Err(self.misused("begin transaction", "one is open")),
            State::Ready => {
                self.state = State::Open(Vec::new());
                Ok(())
            }
        }
    }

    fn send(&mut self, to: &TopicPartition, records: &RecordBatch) -> LogResult<()> {
        let partition = self.partition(to, "send")?;
        let State::Open(writes) = &mut self.state else {
            return Err(self.misused("send", "no transaction is open"));
        };
        writes.push(Write::checked(partition, records, &self.shared.settings, "send")?);
        Ok(())
    }

    fn commit(&mut self, request: CommitRequest) -> Ticket<LogResult<Committed>> {
        let writes = match self.take_open("commit transaction") {
            Ok(writes) => writes,
            Err(error) => return Ticket::done(Err(error)),
        };
        let offsets = match self.resolve(&request) {
            Ok(offsets) => offsets,
            Err(error) => return Ticket::done(Err(error)),
        };
        let (promise, ticket) = ticket(self.bell.clone());
        self.shared.send(Command::Commit(Commit {
            id: Arc::clone(&self.id),
            producer: self.number,
            writes,
            group: request.identity.group,
            offsets,
            state: request.state,
            promise,
        }));
        ticket
    }

    fn abort(&mut self) -> Ticket<LogResult<()>> {
        Ticket::done(self.take_open("abort transaction").map(drop))
    }
}
