//! The writer: the one actor that gives out offsets and writes to the database. Must not sync, and
//! must not know what a record holds.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use headwater_state::StateError;
use headwater_state::database::{BatchPart, Reader};
use headwater_state::log_table::{LogBatch, LogPartition};

use super::command::{Append, Command, Commit, Rewrite, Write};
use super::failure::from_state;
use super::partition::Partition;
use super::{Condition, Shared, lock, overtaken};
use crate::actor::{Actor, Bell, Mailbox, Next, Promise};
use crate::error::ErrorClass;
use crate::log::{Committed, CommittedOffset, LogError, LogResult, StateBatch};
use crate::record::TopicPartition;
use crate::time::Now;

/// At most so many commits and appends, or about so many bytes, are one write.
const GROUP_MAX: usize = 64;
const GROUP_BYTES: usize = 4 << 20;
/// How soon a full disk is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

pub(super) struct Writer {
    shared: Arc<Shared>,
    commands: Mailbox<Command>,
    appends: Mailbox<Append>,
    /// Who owns each transactional id.
    owners: BTreeMap<Arc<str>, u64>,
    /// Commits that a full disk refused, to be written before anything else, and when.
    held: VecDeque<Commit>,
    retry_at: Duration,
}

/// Something to write: a transaction or an append.
enum Entry {
    Commit(Commit),
    Append(Append),
}

/// Where the records of one entry come to lie.
struct Placed {
    /// The first offset of each of its writes.
    firsts: Vec<i64>,
    ends: Vec<(TopicPartition, i64)>,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        commands: Mailbox<Command>,
        appends: Mailbox<Append>,
    ) -> Self {
        let (owners, held) = (BTreeMap::new(), VecDeque::new());
        Self { shared, commands, appends, owners, held, retry_at: Duration::ZERO }
    }

    /// Takes what can be written together, and the call that comes after it. A commit with state
    /// ends the group: each is checked against the state on disk, which includes the one before.
    fn gather(&mut self) -> (Vec<Entry>, Option<Command>) {
        let (mut group, mut bytes) = (Vec::new(), 0);
        while group.len() < GROUP_MAX && bytes < GROUP_BYTES {
            match self.commands.take() {
                Some(Command::Commit(commit)) => {
                    let Some(commit) = self.owned(commit) else { continue };
                    bytes += commit.writes.iter().map(Write::bytes).sum::<usize>();
                    let last = !commit.state.is_empty();
                    group.push(Entry::Commit(commit));
                    if last {
                        break;
                    }
                }
                Some(other) => return (group, Some(other)),
                None => break,
            }
        }
        while group.len() < GROUP_MAX && bytes < GROUP_BYTES {
            let Some(append) = self.take_append() else { break };
            bytes += append.bytes();
            group.push(Entry::Append(append));
        }
        (group, None)
    }

    fn take_append(&self) -> Option<Append> {
        let append = self.appends.take()?;
        self.shared.append_bytes.fetch_sub(append.bytes(), Ordering::Relaxed);
        Some(append)
    }

    /// The commit, unless its producer lost its id.
    fn owned(&self, commit: Commit) -> Option<Commit> {
        if self.owners.get(&commit.id) == Some(&commit.producer) {
            return Some(commit);
        }
        let message = format!("another producer initialised transactional id {}", commit.id);
        let error = LogError::new(ErrorClass::Fenced, "commit transaction", message);
        commit.promise.fulfil(Err(error));
        None
    }

    /// Writes the group at once; if that is refused, each by itself, so that one cannot harm the
    /// others.
    fn write(&mut self, group: Vec<Entry>, now: Now) {
        if group.is_empty() {
            return;
        }
        match self.write_at_once(&group, now) {
            Ok(placed) => self.answer(group, placed),
            Err(error) if group.len() == 1 => {
                for entry in group {
                    self.refuse(entry, &error, now);
                }
            }
            Err(_) => {
                for entry in group {
                    match entry {
                        Entry::Commit(commit) if !self.held.is_empty() => {
                            self.held.push_back(commit);
                        }
                        entry => self.write(vec![entry], now),
                    }
                }
            }
        }
    }

    /// One atomic write of all entries. Offsets are given out here, and given out again if the write
    /// is refused.
    fn write_at_once(&self, group: &[Entry], now: Now) -> Result<Vec<Placed>, StateError> {
        let mut ends = BTreeMap::new();
        let mut rows: Vec<Box<dyn BatchPart + '_>> = Vec::new();
        let mut placed = Vec::with_capacity(group.len());
        for entry in group {
            placed.push(self.place(entry, now, &mut ends, &mut rows));
        }
        let parts: Vec<&dyn BatchPart> = rows.iter().map(|row| &**row).collect();
        let stateless = StateBatch::default();
        let state = group.iter().find_map(Entry::state).unwrap_or(&stateless);
        let mut unsynced = lock(&self.shared.unsynced);
        state.write(&self.shared.leases, &**self.shared.table.database(), &parts)?;
        let mut waiting = Vec::new();
        for (partition, end) in ends.into_values() {
            waiting.extend(partition.publish_written(end));
            unsynced.touch(partition);
        }
        let first = unsynced.wrote();
        drop(unsynced);
        if first {
            self.shared.bells.syncer.ring();
        }
        for (_, bell) in waiting {
            bell.ring();
        }
        Ok(placed)
    }

    fn place<'e>(
        &self,
        entry: &'e Entry,
        now: Now,
        ends: &mut BTreeMap<LogPartition, (Arc<Partition>, i64)>,
        rows: &mut Vec<Box<dyn BatchPart + 'e>>,
    ) -> Placed {
        let mut placed = Placed { firsts: Vec::new(), ends: Vec::new() };
        for write in entry.writes() {
            let partition = &write.partition;
            let (_, end) = ends
                .entry(partition.rows.clone())
                .or_insert_with(|| (Arc::clone(partition), partition.bounds().end));
            placed.firsts.push(*end);
            for (batch, offsets) in &write.batches {
                // What a retention counts from: a record from the future is as old as its append.
                let time = batch.max_timestamp().unwrap_or(now.wall_ms).min(now.wall_ms);
                let row =
                    LogBatch { offsets: *offsets, max_timestamp_ms: time, payload: batch.bytes() };
                rows.push(Box::new(self.shared.table.append(&partition.rows, *end, row)));
                *end += i64::from(*offsets);
            }
            let place = (partition.name.clone(), *end);
            match placed.ends.iter_mut().find(|(name, _)| *name == place.0) {
                Some(known) => *known = place,
                None => placed.ends.push(place),
            }
        }
        if let Entry::Commit(commit) = entry {
            for (partition, offset) in &commit.offsets {
                let row = self.shared.table.commit_offset(&partition.rows, &commit.group, offset);
                rows.push(Box::new(row));
            }
        }
        placed
    }

    fn answer(&self, group: Vec<Entry>, placed: Vec<Placed>) {
        let mut appended = Vec::new();
        for (entry, placed) in group.into_iter().zip(placed) {
            match entry {
                Entry::Commit(commit) => {
                    let committed = Committed { state: None, ends: placed.ends };
                    commit.promise.fulfil(Ok(committed));
                }
                Entry::Append(append) => appended.push((append.promise, placed.firsts)),
            }
        }
        if !appended.is_empty() {
            lock(&self.shared.unsynced).demand(appended);
            self.shared.bells.syncer.ring();
        }
    }

    fn refuse(&mut self, entry: Entry, error: &StateError, now: Now) {
        match entry {
            Entry::Append(append) => append.refuse(&from_state("append", error)),
            Entry::Commit(commit) if matches!(error, StateError::Full { .. }) => {
                tracing::warn!(%error, "commits wait until there is space on the disk");
                *lock(&self.shared.condition) = Condition::Waiting(error.to_string());
                self.retry_at = now.monotonic.saturating_add(RETRY_AFTER);
                self.held.push_back(commit);
            }
            Entry::Commit(commit) => {
                let mut error = from_state("commit transaction", error);
                if error.class == ErrorClass::Retry {
                    // The state went with the request, so only a new transaction can try again.
                    error.class = ErrorClass::Abort;
                }
                commit.promise.fulfil(Err(error));
            }
        }
    }

    /// Tries what a full disk refused. True when nothing is held any more.
    fn retry(&mut self, now: Now) -> bool {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return true;
        }
        for commit in held {
            if self.held.is_empty() {
                self.write(vec![Entry::Commit(commit)], now);
            } else {
                self.held.push_back(commit);
            }
        }
        let free = self.held.is_empty();
        if free {
            tracing::info!("there is space on the disk again");
            let mut condition = lock(&self.shared.condition);
            if matches!(*condition, Condition::Waiting(_)) {
                *condition = Condition::Well;
            }
        }
        free
    }

    fn run(&mut self, command: Command) {
        match command {
            Command::Commit(_) => unreachable!("commits are gathered"),
            Command::Initialise { id, producer, promise } => {
                self.owners.insert(id, producer);
                promise.fulfil(Ok(()));
            }
            Command::CreateTopics { topics, promise } => {
                let created = self.sequenced(|shared| {
                    let create = |spec| shared.catalogue.create(&shared.table, spec);
                    topics.into_iter().try_for_each(create)
                });
                promise.fulfil(created);
            }
            Command::DeleteRecords { before, promise } => {
                let deleted = before.iter().try_for_each(|(p, offset)| self.delete(p, *offset));
                promise.fulfil(deleted);
            }
            Command::Rewrite { partition, rows, promise } => {
                promise.fulfil(self.rewrite(&partition, &rows));
            }
            Command::Committed { group, partitions, promise } => {
                let read = |name: &TopicPartition| self.committed(&group, name);
                promise.fulfil(partitions.iter().map(read).collect());
            }
        }
    }

    fn committed(&self, group: &str, name: &TopicPartition) -> LogResult<Option<CommittedOffset>> {
        let partition = self.shared.catalogue.partition(name, "read committed offsets")?;
        let table = &self.shared.table;
        let reader: &dyn Reader = &**table.database();
        let offset = table
            .committed_offset(reader, &partition.rows, group)
            .map_err(|e| from_state("read committed offsets", &e).on(name))?;
        Ok(offset.map(|offset| CommittedOffset {
            next_offset: offset.next_offset,
            metadata: offset.metadata,
        }))
    }

    /// Writes something other than records, in the order of all writes.
    fn sequenced<T>(&self, write: impl FnOnce(&Shared) -> LogResult<T>) -> LogResult<T> {
        let mut unsynced = lock(&self.shared.unsynced);
        let written = write(&self.shared);
        let first = unsynced.wrote();
        drop(unsynced);
        if first {
            self.shared.bells.syncer.ring();
        }
        written
    }

    fn delete(&self, partition: &Partition, start: i64) -> LogResult<()> {
        let failed = |e| from_state("delete records", &e).on(&partition.name);
        if start <= partition.bounds().start {
            return Ok(());
        }
        self.sequenced(|shared| {
            let truncation = shared.table.truncate(&partition.rows, start).map_err(failed)?;
            shared.table.database().write(&[&truncation]).map_err(failed)
        })?;
        partition.publish_start(start);
        for behind in overtaken(&self.shared.table, partition)? {
            tracing::warn!(
                partition = %partition.name, group = behind.group, committed = behind.committed,
                start = behind.start, "records were deleted that a group has not read"
            );
        }
        Ok(())
    }

    fn rewrite(&self, partition: &Partition, rows: &[Rewrite]) -> LogResult<()> {
        let start = partition.bounds().start;
        let parts: Vec<Box<dyn BatchPart + '_>> = rows
            .iter()
            .filter(|row| row.base_offset + i64::from(row.offsets) > start)
            .map(|row| self.rewritten(partition, row))
            .collect();
        let parts: Vec<&dyn BatchPart> = parts.iter().map(|part| &**part).collect();
        self.sequenced(|shared| {
            let written = shared.table.database().write(&parts);
            written.map_err(|e| from_state("compact", &e).on(&partition.name))
        })
    }

    fn rewritten<'r>(&self, partition: &Partition, row: &'r Rewrite) -> Box<dyn BatchPart + 'r> {
        let table = &self.shared.table;
        match &row.payload {
            None => Box::new(table.remove(&partition.rows, row.base_offset)),
            Some(payload) => {
                let batch = LogBatch {
                    offsets: row.offsets,
                    max_timestamp_ms: row.max_timestamp_ms,
                    payload,
                };
                Box::new(table.replace(&partition.rows, row.base_offset, batch))
            }
        }
    }

    /// Answers everything that waits with the failure of the log.
    fn refuse_all(&mut self, error: &LogError) {
        for commit in self.held.drain(..) {
            commit.promise.fulfil(Err(error.clone()));
        }
        while let Some(command) = self.commands.take() {
            command.refuse(error);
        }
        while let Some(append) = self.take_append() {
            append.refuse(error);
        }
    }

    /// The end: nothing is queued and nothing can be any more.
    fn end(&mut self) -> Next {
        let mut closed = self.shared.closed.write().unwrap_or_else(PoisonError::into_inner);
        *closed = true;
        drop(closed);
        self.refuse_all(&LogError::new(ErrorClass::Fatal, "use log", "the log is closed"));
        lock(&self.shared.unsynced).writer_ended();
        self.shared.bells.syncer.ring();
        Next::Done
    }
}

impl Actor for Writer {
    fn name(&self) -> &str {
        "log-writer"
    }

    fn bell(&self) -> Bell {
        self.shared.bells.writer.clone()
    }

    fn step(&mut self, now: Now) -> Next {
        let closing = self.shared.closing();
        if let Some(error) = self.shared.failure() {
            self.refuse_all(&error);
            return if closing { self.end() } else { Next::Wait };
        }
        if !self.held.is_empty() && (now.monotonic < self.retry_at || !self.retry(now)) {
            while let Some(append) = self.take_append() {
                append.refuse(&LogError::new(ErrorClass::Retry, "append", "the disk is full"));
            }
            return if closing { self.end() } else { Next::WakeAt(self.retry_at) };
        }
        let (group, command) = self.gather();
        let idle = group.is_empty() && command.is_none();
        self.write(group, now);
        if let Some(command) = command {
            self.run(command);
        }
        match (idle, closing) {
            (false, _) => Next::Again,
            (true, true) => self.end(),
            (true, false) => Next::Wait,
        }
    }
}

impl Entry {
    fn writes(&self) -> &[Write] {
        match self {
            Self::Commit(commit) => &commit.writes,
            Self::Append(append) => &append.writes,
        }
    }

    /// The state that goes with it, if it has any.
    fn state(&self) -> Option<&StateBatch> {
        match self {
            Self::Commit(commit) => Some(&commit.state).filter(|state| !state.is_empty()),
            Self::Append(_) => None,
        }
    }
}

/// An append that is written, and its answer once it is synced.
pub(super) type Appended = (Promise<LogResult<Vec<i64>>>, Vec<i64>);
