//! One partition of the simulated cluster: its records and markers in offset order, who of the
//! producers is in the middle of a transaction, and what may be read. Knows no coordinator and no
//! network.

use std::collections::BTreeMap;

use crate::actor::Bell;
use crate::log::{Fetched, Isolation};
use crate::record::{Headers, RecordBatch, RecordBatchBuilder};

/// A producer as its partitions know it: id and epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProducerEpoch {
    pub(super) id: i64,
    pub(super) epoch: i32,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Committed,
    Aborted,
}

#[derive(Debug)]
enum Content {
    Records {
        batch: RecordBatch,
        /// As it was before any compaction.
        whole: RecordBatch,
        producer: Option<i64>,
        fate: Fate,
    },
    /// A commit or abort marker, which takes one offset.
    Marker,
}

#[derive(Debug)]
struct Entry {
    next: i64,
    content: Content,
}

/// What a producer appended last, to know a second delivery of it.
#[derive(Debug, Clone, Copy)]
struct LastAppend {
    epoch: i32,
    sequence: u64,
    end: i64,
}

/// What a partition says to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appended {
    /// It is in, and ends before this offset.
    At(i64),
    /// It was in already, and ends before this offset.
    Before(i64),
    /// A batch before it is missing.
    OutOfOrder,
}

/// The log of one partition.
#[derive(Debug, Default)]
pub(super) struct PartitionLog {
    start: i64,
    next: i64,
    entries: Vec<Entry>,
    /// First offset of the open transaction of each producer.
    open: BTreeMap<i64, i64>,
    last: BTreeMap<i64, LastAppend>,
    waiting: Vec<Bell>,
}

impl PartitionLog {
    pub(super) fn start(&self) -> i64 {
        self.start
    }

    pub(super) fn high_watermark(&self) -> i64 {
        self.next
    }

    /// Nothing before it is undecided.
    pub(super) fn last_stable(&self) -> i64 {
        self.open.values().copied().min().unwrap_or(self.next)
    }

    /// Appends records that belong to no transaction.
    pub(super) fn append_plain(&mut self, records: &RecordBatch) -> i64 {
        self.push(records, None, Fate::Committed);
        self.next
    }

    /// What this batch would meet; appends nothing.
    pub(super) fn seen(&self, producer: ProducerEpoch, sequence: u64) -> Option<i64> {
        let last = self.last.get(&producer.id)?;
        let again = last.epoch == producer.epoch && sequence <= last.sequence;
        again.then_some(last.end)
    }

    /// Appends a batch of an open transaction, once.
    pub(super) fn append(
        &mut self,
        producer: ProducerEpoch,
        sequence: u64,
        records: &RecordBatch,
    ) -> Appended {
        if let Some(end) = self.seen(producer, sequence) {
            return Appended::Before(end);
        }
        let expected = match self.last.get(&producer.id) {
            Some(last) if last.epoch == producer.epoch => last.sequence + 1,
            _ => 0,
        };
        if sequence != expected {
            return Appended::OutOfOrder;
        }
        self.open.entry(producer.id).or_insert(self.next);
        self.push(records, Some(producer.id), Fate::Open);
        let last = LastAppend { epoch: producer.epoch, sequence, end: self.next };
        self.last.insert(producer.id, last);
        Appended::At(self.next)
    }

    fn push(&mut self, records: &RecordBatch, producer: Option<i64>, fate: Fate) {
        let batch = RecordBatch::new(self.next, records.bytes().clone())
            .expect("the batch was placed elsewhere before");
        self.next = batch.next_offset();
        let content = Content::Records { whole: batch.clone(), batch, producer, fate };
        self.entries.push(Entry { next: self.next, content });
        self.ring();
    }

    /// Ends the transaction of a producer by a marker.
    pub(super) fn mark(&mut self, producer: i64, commit: bool) {
        let became = if commit { Fate::Committed } else { Fate::Aborted };
        let first = self.open.remove(&producer).unwrap_or(self.next);
        let from = self.entries.partition_point(|entry| entry.next <= first);
        for entry in &mut self.entries[from..] {
            if let Content::Records { producer: Some(of), fate, .. } = &mut entry.content
                && *of == producer
                && *fate == Fate::Open
            {
                *fate = became;
            }
        }
        self.next += 1;
        self.entries.push(Entry { next: self.next, content: Content::Marker });
        self.ring();
    }

    /// Deletes everything before this offset for readers; checkers still see it.
    pub(super) fn delete_before(&mut self, offset: i64) {
        self.start = self.start.max(offset.min(self.next));
    }

    /// Keeps only the last record of each key among those that are stable; offsets stay.
    pub(super) fn compact(&mut self) {
        let stable = self.last_stable();
        let mut newest: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        for batch in self.committed().filter(|batch| batch.next_offset() <= stable) {
            for record in batch.records().map(|r| r.expect("the batch was built by a builder")) {
                if let Some(key) = record.key {
                    newest.insert(key.to_vec(), record.offset);
                }
            }
        }
        for entry in self.entries.iter_mut().filter(|entry| entry.next <= stable) {
            if let Content::Records { batch, fate: Fate::Committed, .. } = &mut entry.content {
                let kept = |offset: i64, key: Option<&[u8]>| {
                    key.is_none_or(|key| newest.get(key) == Some(&offset))
                };
                *batch = filtered(batch, kept);
            }
        }
    }

    /// Committed batches in order, stable or not.
    pub(super) fn committed(&self) -> impl Iterator<Item = &RecordBatch> {
        self.entries.iter().filter_map(|entry| match &entry.content {
            Content::Records { batch, fate: Fate::Committed, .. } => Some(batch),
            _ => None,
        })
    }

    /// Committed batches as they were before any compaction.
    pub(super) fn history(&self) -> impl Iterator<Item = &RecordBatch> {
        self.entries.iter().filter_map(|entry| match &entry.content {
            Content::Records { whole, fate: Fate::Committed, .. } => Some(whole),
            _ => None,
        })
    }

    /// Where a reader's view ends.
    pub(super) fn end(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadCommitted => self.last_stable(),
            Isolation::ReadUncommitted => self.next,
        }
    }

    /// Reads from `position`, which lies within the log, about `max_bytes` and not past `end`.
    pub(super) fn read(
        &self,
        position: i64,
        isolation: Isolation,
        end: i64,
        max_bytes: usize,
    ) -> Fetched {
        let mut fetched = Fetched { batches: Vec::new(), position, at_end: false };
        let mut bytes = 0;
        let from = self.entries.partition_point(|entry| entry.next <= position);
        for entry in self.entries[from..].iter().take_while(|entry| entry.next <= end) {
            if let Content::Records { batch, fate, .. } = &entry.content {
                let visible = match isolation {
                    Isolation::ReadCommitted => *fate == Fate::Committed,
                    Isolation::ReadUncommitted => true,
                };
                if visible && batch.count() > 0 {
                    let size = batch.bytes().len();
                    if bytes > 0 && bytes + size > max_bytes {
                        return fetched;
                    }
                    bytes += size;
                    let batch = match batch.base_offset() < position {
                        true => filtered(batch, |offset, _| offset >= position),
                        false => batch.clone(),
                    };
                    if batch.count() > 0 {
                        fetched.batches.push(batch);
                    }
                }
            }
            fetched.position = entry.next;
        }
        fetched.at_end = fetched.position >= self.end(isolation);
        fetched
    }

    /// The bell rings at the next change.
    pub(super) fn wait(&mut self, bell: Bell) {
        self.waiting.push(bell);
    }

    fn ring(&mut self) {
        for bell in self.waiting.drain(..) {
            bell.ring();
        }
    }
}

/// The records of a batch that pass, at the offsets they had.
fn filtered(batch: &RecordBatch, keep: impl Fn(i64, Option<&[u8]>) -> bool) -> RecordBatch {
    let mut builder = RecordBatchBuilder::with_capacity(batch.bytes().len());
    let mut base = None;
    for record in batch.records().map(|r| r.expect("the batch was built by a builder")) {
        if !keep(record.offset, record.key) {
            continue;
        }
        let base = *base.get_or_insert(record.offset);
        let delta = u64::try_from(record.offset - base).expect("offsets grow");
        let headers: Headers = record.headers.decode().expect("headers were encoded by us");
        builder
            .append_at(delta, record.timestamp, record.key, record.value, &headers)
            .expect("the records had these offsets before");
    }
    let base = base.unwrap_or_else(|| batch.base_offset());
    RecordBatch::new(base, builder.finish()).expect("offsets were valid before")
}
