//! Uncommitted writes of one store-partition: ordered, in memory, in front of the database.
//!
//! Owns layers of writes. The *active* one takes new writes; [`Overlay::freeze`] hands it over
//! for a commit as a [`FrozenOverlay`], and new writes go to a fresh active layer while the commit
//! is under way. Reads see active over frozen over database. Nothing here reaches the database
//! unless a commit takes it there, so an abort is [`Overlay::discard`].
//!
//! ```text
//!            put/delete        freeze            release_frozen (batch written)
//!   (empty) ───────────► active ──────► frozen ───────────► settled, now in the database
//!                          ▲              │                    │
//!                          └── discard ───┴────────────────────┴─► (empty): abort, fence, unknown
//! ```
//!
//! The *settled* layer is the last one committed, kept to be read: most keys come again soon, and
//! asking the database costs many times as much. It is right as long as nobody else writes the
//! store-partition, which its lease is for, and the next commit replaces it.
//!
//! Each key remembers when it was touched last, because caches are forwarded in that order. One
//! savepoint can be set, and undone to, at a cost proportional to what changed since.
//! Must not know partitions, families or what keys mean.

use std::collections::{BTreeMap, HashMap, btree_map};
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::database::{Direction, ScanRange};

mod cursor;
#[cfg(test)]
mod tests;

pub(crate) use cursor::MergeCursor;

/// Memory of one entry besides its key's and value's bytes: slot, index entry and allocations.
const ENTRY_OVERHEAD_BYTES: usize = 128;

/// What an overlay knows about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// It was written.
    Value(&'a [u8]),
    /// It was deleted, by itself or in a range.
    Deleted,
    /// Nothing: ask the database.
    Unknown,
}

#[derive(Debug)]
struct Slot {
    key: Bytes,
    value: Vec<u8>,
    live: bool,
    touched: u64,
}

impl Slot {
    fn bytes(&self) -> usize {
        ENTRY_OVERHEAD_BYTES + self.key.len() + self.value.len()
    }

    fn value(&self) -> Option<&[u8]> {
        self.live.then_some(self.value.as_slice())
    }
}

/// One layer: entries in slots, and deleted ranges below them.
///
/// Most layers are read and written by key alone, so entries are found by hash. Nothing ever walks
/// the hash map: its order reaches no output. The ordered index is made by the first scan of the
/// layer and kept up from then on.
#[derive(Debug, Default)]
struct Layer {
    slots: Vec<Slot>,
    by_key: HashMap<Bytes, u32>,
    in_order: OnceLock<BTreeMap<Bytes, u32>>,
    /// Disjoint deleted ranges, from (inclusive) -> to (exclusive). Entries win over them.
    ranges: BTreeMap<Bytes, Bytes>,
    bytes: usize,
}

impl Layer {
    fn slot_of(&self, key: &[u8]) -> Option<usize> {
        self.by_key.get(key).map(|slot| index(*slot))
    }

    fn insert(&mut self, entry: Slot) {
        let slot = u32::try_from(self.slots.len()).expect("an overlay is flushed long before");
        self.bytes += entry.bytes();
        self.by_key.insert(entry.key.clone(), slot);
        if let Some(in_order) = self.in_order.get_mut() {
            in_order.insert(entry.key.clone(), slot);
        }
        self.slots.push(entry);
    }

    /// Takes back the newest insertion.
    fn remove_last(&mut self) {
        let entry = self.slots.pop().expect("an inserted entry has a slot");
        self.bytes -= entry.bytes();
        self.by_key.remove(&entry.key);
        if let Some(in_order) = self.in_order.get_mut() {
            in_order.remove(&entry.key);
        }
    }

    fn in_order(&self) -> &BTreeMap<Bytes, u32> {
        self.in_order.get_or_init(|| {
            let entries = self.slots.iter().zip(0..);
            entries.map(|(entry, slot)| (entry.key.clone(), slot)).collect()
        })
    }

    fn get(&self, key: &[u8]) -> Found<'_> {
        match self.slot_of(key) {
            Some(slot) => self.slots[slot].value().map_or(Found::Deleted, Found::Value),
            None if self.deletes(key) => Found::Deleted,
            None => Found::Unknown,
        }
    }

    fn deletes(&self, key: &[u8]) -> bool {
        if self.ranges.is_empty() {
            return false;
        }
        let below = (Bound::Unbounded, Bound::Included(key));
        self.ranges.range::<[u8], _>(below).next_back().is_some_and(|(_, to)| key < &to[..])
    }

    fn entries(&self, range: &ScanRange) -> btree_map::Range<'_, Bytes, u32> {
        let to = match &range.to {
            Some(to) if *to <= range.from => Bound::Excluded(&range.from[..]),
            Some(to) => Bound::Excluded(&to[..]),
            None => Bound::Unbounded,
        };
        self.in_order().range::<[u8], _>((Bound::Included(&range.from[..]), to))
    }

    fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.ranges.is_empty()
    }
}

fn index(slot: u32) -> usize {
    usize::try_from(slot).expect("a slot number fits the address space")
}

/// How to take one change back.
#[derive(Debug)]
enum Undo {
    /// The entry did not exist. Entries are undone newest first, so it is the last slot.
    Inserted,
    /// The entry had this value, kept in the arena, and this time of last touch.
    Changed { slot: u32, value: std::ops::Range<usize>, live: bool, touched: u64 },
    /// `added` replaced the ranges in `removed`.
    Range { added: Bytes, removed: Vec<(Bytes, Bytes)> },
}

/// The changes since the savepoint.
#[derive(Debug, Default)]
struct Savepoint {
    set: bool,
    /// Entries touched later than this have been saved already.
    touched: u64,
    changes: Vec<Undo>,
    /// Old values, back to back: overwriting an entry allocates nothing.
    arena: Vec<u8>,
}

/// The uncommitted writes of one store-partition. See the module's page.
#[derive(Debug, Default)]
pub struct Overlay {
    active: Layer,
    frozen: Option<Arc<FrozenOverlay>>,
    settled: Option<Arc<FrozenOverlay>>,
    savepoint: Savepoint,
    /// Counts touches; the greatest `touched` of any slot.
    clock: u64,
}

impl Overlay {
    /// An overlay that knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known about a key.
    pub fn get(&self, key: &[u8]) -> Found<'_> {
        let below = [&self.frozen, &self.settled].into_iter().flatten();
        let layers = std::iter::once(&self.active).chain(below.map(|frozen| &frozen.layer));
        layers
            .map(|layer| layer.get(key))
            .find(|found| *found != Found::Unknown)
            .unwrap_or(Found::Unknown)
    }

    /// Sets a key, which becomes the one touched last.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.set(key, Some(value));
    }

    /// Deletes a key, which becomes the one touched last. Remembered even when nothing is there,
    /// because the database may have it.
    pub fn delete(&mut self, key: &[u8]) {
        self.set(key, None);
    }

    fn set(&mut self, key: &[u8], value: Option<&[u8]>) {
        match self.active.slot_of(key) {
            Some(slot) => self.change(slot, value),
            None => self.insert(key, value),
        }
    }

    fn insert(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.clock += 1;
        self.active.insert(Slot {
            key: Bytes::copy_from_slice(key),
            value: value.unwrap_or_default().to_vec(),
            live: value.is_some(),
            touched: self.clock,
        });
        if self.savepoint.set {
            self.savepoint.changes.push(Undo::Inserted);
        }
    }

    fn change(&mut self, slot: usize, value: Option<&[u8]>) {
        self.clock += 1;
        let entry = &mut self.active.slots[slot];
        if self.savepoint.set && entry.touched <= self.savepoint.touched {
            let start = self.savepoint.arena.len();
            self.savepoint.arena.extend_from_slice(&entry.value);
            self.savepoint.changes.push(Undo::Changed {
                slot: u32::try_from(slot).expect("slots are numbered in u32"),
                value: start..self.savepoint.arena.len(),
                live: entry.live,
                touched: entry.touched,
            });
        }
        let value_bytes = value.map_or(0, <[u8]>::len);
        self.active.bytes = self.active.bytes + value_bytes - entry.value.len();
        entry.value.clear();
        entry.value.extend_from_slice(value.unwrap_or_default());
        entry.live = value.is_some();
        entry.touched = self.clock;
    }

    /// Deletes every key from `from` (inclusive) to `to` (exclusive), also those only the database
    /// has. Entries in the range stay as deleted entries, touched in key order, so that a changelog
    /// sees a tombstone for each.
    pub fn delete_range(&mut self, from: &[u8], to: &[u8]) {
        let range = ScanRange { from: from.to_vec(), to: Some(to.to_vec()) };
        if range.is_empty() {
            return;
        }
        let hit: Vec<u32> = self.active.entries(&range).map(|(_, slot)| *slot).collect();
        for slot in hit {
            self.change(index(slot), None);
        }
        self.add_range(Bytes::copy_from_slice(from), Bytes::copy_from_slice(to));
    }

    fn add_range(&mut self, mut from: Bytes, mut to: Bytes) {
        let ranges = &mut self.active.ranges;
        let mut removed = Vec::new();
        // Only ranges that begin at or before `to` can touch; walk down until one ends before `from`.
        while let Some((start, end)) = ranges.range(..=to.clone()).next_back() {
            if *end < from {
                break;
            }
            let (start, end) = (start.clone(), end.clone());
            ranges.remove(&start);
            from = from.min(start.clone());
            to = to.max(end.clone());
            removed.push((start, end));
        }
        self.active.bytes += ENTRY_OVERHEAD_BYTES + from.len() + to.len();
        for (start, end) in &removed {
            self.active.bytes -= ENTRY_OVERHEAD_BYTES + start.len() + end.len();
        }
        ranges.insert(from.clone(), to);
        if self.savepoint.set {
            self.savepoint.changes.push(Undo::Range { added: from, removed });
        }
    }

    /// Marks the present as what [`Overlay::undo`] returns to, forgetting an earlier mark.
    pub fn savepoint(&mut self) {
        self.savepoint.set = true;
        self.savepoint.touched = self.clock;
        self.savepoint.changes.clear();
        self.savepoint.arena.clear();
    }

    /// The entries touched since the savepoint, in no order that means anything; `None` is a deletion.
    /// All of the active layer without one.
    pub fn touched(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let since = if self.savepoint.set { self.savepoint.touched } else { 0 };
        let touched = self.active.slots.iter().filter(move |slot| slot.touched > since);
        touched.map(|slot| (&slot.key[..], slot.value()))
    }

    /// Takes back every change since the savepoint, which stays set. Without one, nothing happens:
    /// a freeze or discard ends it.
    pub fn undo(&mut self) {
        while let Some(change) = self.savepoint.changes.pop() {
            match change {
                Undo::Inserted => self.active.remove_last(),
                Undo::Changed { slot, value, live, touched } => {
                    let entry = &mut self.active.slots[index(slot)];
                    self.active.bytes = self.active.bytes + value.len() - entry.value.len();
                    entry.value.clear();
                    entry.value.extend_from_slice(&self.savepoint.arena[value]);
                    entry.live = live;
                    entry.touched = touched;
                }
                Undo::Range { added, removed } => self.undo_range(&added, removed),
            }
        }
        self.savepoint.arena.clear();
        if self.savepoint.set {
            self.clock = self.savepoint.touched;
        }
    }

    fn undo_range(&mut self, added: &Bytes, removed: Vec<(Bytes, Bytes)>) {
        let to = self.active.ranges.remove(added).expect("an added range is there until undone");
        self.active.bytes -= ENTRY_OVERHEAD_BYTES + added.len() + to.len();
        for (from, to) in removed {
            self.active.bytes += ENTRY_OVERHEAD_BYTES + from.len() + to.len();
            self.active.ranges.insert(from, to);
        }
    }

    /// Hands everything written since the last freeze over for a commit; new writes start a fresh
    /// layer and the savepoint ends. The frozen layer is read through until
    /// [`Overlay::release_frozen`].
    ///
    /// # Panics
    /// When the previous frozen layer was neither released nor discarded: commits do not overlap.
    pub fn freeze(&mut self) -> Arc<FrozenOverlay> {
        assert!(self.frozen.is_none(), "one commit of a store-partition at a time");
        self.end_savepoint();
        let frozen = Arc::new(FrozenOverlay { layer: std::mem::take(&mut self.active) });
        self.frozen = Some(Arc::clone(&frozen));
        frozen
    }

    /// The frozen layer's batch is in the database: it is under commit no more, and settled.
    pub fn release_frozen(&mut self) {
        let committed = self.frozen.take().filter(|frozen| !frozen.is_empty());
        if committed.is_some() {
            self.settled = committed;
        }
    }

    /// Forgets all layers and the savepoint: nothing happened that is not in the database.
    pub fn discard(&mut self) {
        self.end_savepoint();
        self.active = Layer::default();
        self.frozen = None;
        self.settled = None;
    }

    fn end_savepoint(&mut self) {
        self.savepoint.set = false;
        self.savepoint.changes.clear();
        self.savepoint.arena.clear();
    }

    /// The layer under commit, if any.
    pub fn frozen(&self) -> Option<&Arc<FrozenOverlay>> {
        self.frozen.as_ref()
    }

    /// Whether nothing was written since the last freeze.
    pub fn is_clean(&self) -> bool {
        self.active.is_empty()
    }

    /// Entries written since the last freeze.
    pub fn len(&self) -> usize {
        self.active.slots.len()
    }

    /// Whether nothing is uncommitted.
    pub fn is_empty(&self) -> bool {
        self.active.is_empty() && self.frozen.as_ref().is_none_or(|frozen| frozen.is_empty())
    }

    /// Memory used by what is uncommitted. The settled layer comes on top: at most as much as one
    /// commit had.
    pub fn bytes(&self) -> usize {
        self.active.bytes + self.frozen.as_ref().map_or(0, |frozen| frozen.bytes())
    }

    /// Memory used by the settled layer.
    pub fn settled_bytes(&self) -> usize {
        self.settled.as_ref().map_or(0, |settled| settled.bytes())
    }
}

/// What one commit takes to the database: immutable, shared with whoever writes it.
#[derive(Debug)]
pub struct FrozenOverlay {
    layer: Layer,
}

impl FrozenOverlay {
    /// Entries in key order; `None` is a deletion.
    pub fn in_key_order(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.layer.in_order().values().map(|slot| self.entry(*slot))
    }

    /// Entries in the order of their last touch; `None` is a deletion.
    pub fn in_touch_order(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let mut order: Vec<&Slot> = self.layer.slots.iter().collect();
        order.sort_unstable_by_key(|slot| slot.touched);
        order.into_iter().map(|slot| (&slot.key[..], slot.value()))
    }

    fn entry(&self, slot: u32) -> (&[u8], Option<&[u8]>) {
        let slot = &self.layer.slots[index(slot)];
        (&slot.key, slot.value())
    }

    /// Deleted ranges, disjoint and in order, from (inclusive) to (exclusive). They come before the
    /// entries.
    pub fn ranges(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.layer.ranges.iter().map(|(from, to)| (&from[..], &to[..]))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.layer.slots.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.layer.is_empty()
    }

    /// Memory used.
    pub fn bytes(&self) -> usize {
        self.layer.bytes
    }
}

impl Overlay {
    /// A scan of what is uncommitted over a cursor of the database, whose keys have `prefix_bytes` bytes in
    /// front of the store key.
    pub(crate) fn merge<'a>(
        &'a self,
        range: &ScanRange,
        direction: Direction,
        base: Box<dyn crate::database::Cursor + 'a>,
        prefix_bytes: usize,
    ) -> MergeCursor<'a> {
        let frozen = self.frozen.as_ref().map(|frozen| &frozen.layer);
        MergeCursor::new(&self.active, frozen, range, direction, base, prefix_bytes)
    }
}
