//! Versioned rows of one memory database.
//!
//! Owns which versions a row keeps: the newest one, and those the last sync or a pinned view may
//! still need. Must not know locks or faults.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use crate::database::{Family, ScanRange};

/// One operation of a batch.
#[derive(Debug)]
pub(super) enum Change {
    Row { key: Bytes, value: Option<Bytes> },
    Range { from: Vec<u8>, to: Vec<u8> },
}

/// Versions of a row, oldest first: the batch that wrote it and the value, `None` when deleted.
type Versions = Vec<(u64, Option<Bytes>)>;

#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: BTreeMap<Bytes, Versions>,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn get(&self, key: &[u8], sequence: u64) -> Option<Bytes> {
        visible(self.rows.get(key)?, sequence).cloned()
    }

    pub(super) fn range(
        &self,
        range: &ScanRange,
        sequence: u64,
        backward: bool,
        limit: usize,
    ) -> Vec<(Bytes, Bytes)> {
        if range.is_empty() {
            return Vec::new();
        }
        let to = range.to.as_ref().map_or(Bound::Unbounded, |to| Bound::Excluded(&to[..]));
        let rows = self.rows.range::<[u8], _>((Bound::Included(&range.from[..]), to));
        let live = |(key, versions): (&Bytes, &Versions)| {
            visible(versions, sequence).map(|value| (key.clone(), value.clone()))
        };
        if backward {
            rows.rev().filter_map(live).take(limit).collect()
        } else {
            rows.filter_map(live).take(limit).collect()
        }
    }
}

/// The value as of a batch.
fn visible(versions: &Versions, sequence: u64) -> Option<&Bytes> {
    let (_, value) = versions.iter().rev().find(|(batch, _)| *batch <= sequence)?;
    value.as_ref()
}

/// All families of a database.
#[derive(Debug, Default)]
pub(super) struct Tables {
    names: BTreeMap<String, Family>,
    rows: BTreeMap<u32, Rows>,
    next_family: u32,
    /// The last batch written.
    pub(super) sequence: u64,
    synced: u64,
    /// For every unsynced batch its number over the whole disk, oldest first. The last of them is
    /// batch `sequence`.
    unsynced: VecDeque<u64>,
    /// Views by the batch they show.
    pins: BTreeMap<u64, usize>,
    /// Rows that may have versions nobody needs.
    stale: Vec<(u32, Bytes)>,
    /// The process that used this is gone; what survived is elsewhere.
    pub(super) crashed: bool,
}

impl Tables {
    pub(super) fn find(&self, name: &str) -> Option<Family> {
        self.names.get(name).cloned()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    /// The rows of a family, if it was not dropped and comes from this database.
    pub(super) fn family(&self, family: &Family) -> Option<&Rows> {
        let known = self.names.get(family.name())?;
        if known.id() == family.id() { self.rows.get(&family.id()) } else { None }
    }

    pub(super) fn create(&mut self, name: &str) -> Family {
        let family = Family::new(name, self.next_family);
        self.next_family += 1;
        self.names.insert(name.to_owned(), family.clone());
        self.rows.insert(family.id(), Rows::default());
        family
    }

    pub(super) fn drop_family(&mut self, family: &Family) -> bool {
        if self.family(family).is_none() {
            return false;
        }
        self.names.remove(family.name());
        self.rows.remove(&family.id());
        true
    }

    /// Applies a batch; its families exist.
    pub(super) fn apply(&mut self, order: u64, changes: Vec<(u32, Change)>) {
        self.sequence += 1;
        self.unsynced.push_back(order);
        for (family, change) in changes {
            match change {
                Change::Row { key, value } => self.set(family, key, value),
                Change::Range { from, to } => {
                    let range = ScanRange { from, to: Some(to) };
                    let rows = self.rows.get(&family).expect("the batch's families exist");
                    let hit = rows.range(&range, u64::MAX, false, usize::MAX);
                    for (key, _) in hit {
                        self.set(family, key, None);
                    }
                }
            }
        }
    }

    fn set(&mut self, family: u32, key: Bytes, value: Option<Bytes>) {
        let sequence = self.sequence;
        let horizon = self.horizon();
        let rows = self.rows.get_mut(&family).expect("the batch's families exist");
        let deleted = value.is_none();
        let versions = rows.rows.entry(key.clone()).or_default();
        match versions.last_mut() {
            Some((batch, last)) if *batch == sequence => *last = value,
            _ => versions.push((sequence, value)),
        }
        // The second version makes a row stale; further ones find it listed.
        if versions.len() == 2 || (versions.len() == 1 && deleted) {
            self.stale.push((family, key));
        }
        prune(versions, horizon);
    }

    /// Versions older than the newest one at or before this batch are needed by nobody.
    fn horizon(&self) -> u64 {
        let oldest_view = self.pins.keys().next().copied().unwrap_or(u64::MAX);
        self.synced.min(oldest_view)
    }

    pub(super) fn unsynced(&self) -> impl Iterator<Item = u64> {
        self.unsynced.iter().copied()
    }

    pub(super) fn sync(&mut self) {
        self.synced = self.sequence;
        self.unsynced.clear();
        self.sweep();
    }

    fn sweep(&mut self) {
        let horizon = self.horizon();
        for (family, key) in std::mem::take(&mut self.stale) {
            let Some(rows) = self.rows.get_mut(&family) else { continue };
            let Some(versions) = rows.rows.get_mut(&key) else { continue };
            prune(versions, horizon);
            match versions.as_slice() {
                [(batch, None)] if *batch <= horizon => {
                    rows.rows.remove(&key);
                }
                [(_, Some(_))] => {}
                _ => self.stale.push((family, key)),
            }
        }
    }

    pub(super) fn pin(&mut self, sequence: u64) {
        *self.pins.entry(sequence).or_default() += 1;
    }

    pub(super) fn unpin(&mut self, sequence: u64) {
        if let Some(count) = self.pins.get_mut(&sequence) {
            *count -= 1;
            if *count == 0 {
                self.pins.remove(&sequence);
            }
        }
    }

    /// Closes these tables and gives what a power loss leaves of them.
    pub(super) fn crash(&mut self, keep_unsynced: usize) -> Self {
        self.crashed = true;
        let kept = self.unsynced.len().min(keep_unsynced);
        let survivors = self.synced + u64::try_from(kept).expect("a count fits u64");
        self.copy_at(survivors)
    }

    /// A copy of the present, all of it synced.
    pub(super) fn copy(&self) -> Self {
        self.copy_at(self.sequence)
    }

    fn copy_at(&self, sequence: u64) -> Self {
        let rows = self.rows.iter().map(|(family, rows)| {
            let live = rows.rows.iter().filter_map(|(key, versions)| {
                let value = visible(versions, sequence)?.clone();
                Some((key.clone(), vec![(sequence, Some(value))]))
            });
            (*family, Rows { rows: live.collect() })
        });
        Self {
            names: self.names.clone(),
            rows: rows.collect(),
            next_family: self.next_family,
            sequence,
            synced: sequence,
            ..Self::default()
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        let versions = |versions: &Versions| -> usize {
            versions.iter().map(|(_, value)| value.as_ref().map_or(0, Bytes::len)).sum()
        };
        let bytes: usize = self
            .rows
            .values()
            .flat_map(|rows| &rows.rows)
            .map(|(key, row)| key.len() + versions(row))
            .sum();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// Drops the versions nobody needs: all before the newest one at or before the horizon.
fn prune(versions: &mut Versions, horizon: u64) {
    let needed = versions.partition_point(|(batch, _)| *batch <= horizon).saturating_sub(1);
    versions.drain(..needed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, value: Option<&'static str>) -> (u32, Change) {
        let value = value.map(|value| Bytes::from_static(value.as_bytes()));
        (0, Change::Row { key: Bytes::from_static(key.as_bytes()), value })
    }

    #[test]
    fn a_row_keeps_no_version_that_neither_a_view_nor_the_last_sync_needs() {
        let mut tables = Tables::default();
        let family = tables.create("f");
        for _ in 0..10 {
            tables.apply(0, vec![put("k", Some("v"))]);
            tables.sync();
        }
        assert_eq!(tables.rows[&family.id()].rows[&b"k"[..]].len(), 1);
        tables.pin(10);
        tables.apply(0, vec![put("k", None)]);
        tables.sync();
        assert_eq!(tables.rows[&family.id()].get(b"k", 10), Some(Bytes::from_static(b"v")));
        tables.unpin(10);
        tables.sync();
        assert_eq!(tables.rows[&family.id()].len(), 0, "a deleted row leaves nothing");
    }
}
