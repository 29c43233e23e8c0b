//! What must be so at every moment: the rows of a local store are what the committed records of its
//! changelog before its position make, and that position never goes back while the disk keeps what
//! was written. Shares nothing with the restore but byte formats.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use headwater_state::database::{Database, Direction, Family, ScanRange};
use headwater_state::layout::data_prefix;
use headwater_state::positions::StorePositions;

use crate::log::OffsetQuery;
use crate::log::sim::{SimCluster, SimRecord};
use crate::record::TopicPartition;
use crate::runtime::{Board, StoreHandle};
use crate::store::StoreKind;
use crate::task::changelog_topic;

/// The rows of one store-partition: store key to stored value.
pub type StoreRows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Process, store and partition.
type Place = (String, String, u32);

/// The positions seen so far.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    seen: BTreeMap<Place, i64>,
}

impl Prefixes {
    /// What was not synced on this process's disk may be gone.
    pub(super) fn power_lost(&mut self, process: &str) {
        self.seen.retain(|(of, _, _), _| of != process);
    }

    /// Looks at every open store of a process.
    ///
    /// # Errors
    /// What is wrong with the first one that is.
    pub(super) fn check(
        &mut self,
        process: &str,
        application: &str,
        board: &Board,
        cluster: &SimCluster,
    ) -> Result<(), String> {
        for store in board.stores() {
            let changelog = changelog_topic(application, &store);
            for handle in board.store(&store) {
                let partition = handle.partition;
                let positions = StorePositions::read(&*handle.database, &handle.family, partition);
                let positions = positions.map_err(|e| e.to_string())?;
                let Some(position) = positions.changelog else { continue };
                let key = (process.to_owned(), store.to_string(), partition);
                let before = self.seen.insert(key, position).unwrap_or(position);
                if position < before {
                    return Err(format!(
                        "{store}-{partition} of {process} went back from {before} to {position}"
                    ));
                }
                let of = TopicPartition::new(Arc::clone(&changelog), partition);
                if cluster.offset(&of, OffsetQuery::LastStable) < position {
                    // Committed, but its marker is still on its way.
                    continue;
                }
                let history = &cluster.history(&changelog)[usize_of(partition)];
                compare(&handle, &positions, history).map_err(|difference| {
                    format!("{store}-{partition} of {process} at {position}: {difference}")
                })?;
            }
        }
        Ok(())
    }
}

fn usize_of(partition: u32) -> usize {
    usize::try_from(partition).expect("a partition's number is small")
}

/// Reads a store-partition's rows off its database.
pub(super) fn rows(database: &dyn Database, family: &Family, partition: u32) -> StoreRows {
    let prefix = data_prefix(partition);
    let range = ScanRange::prefix(&prefix);
    let mut cursor = database.scan(family, range, Direction::Forward).expect("memory reads");
    let mut rows = StoreRows::new();
    while let Some((key, value)) = cursor.next().expect("memory reads") {
        rows.insert(key[prefix.len()..].to_vec(), value.to_vec());
    }
    rows
}

/// How many bytes of a row's key its changelog does not have, for kinds whose rows are known here.
fn key_skips(kind: &StoreKind) -> Option<usize> {
    if matches!(kind, StoreKind::KeyValue | StoreKind::TimestampedKeyValue) {
        return Some(0);
    }
    if matches!(kind, StoreKind::Timers(_)) {
        return Some(1);
    }
    // The row begins with its segment.
    matches!(kind, StoreKind::Window(_) | StoreKind::TimestampedWindow(_)).then_some(8)
}

/// Every timer, and nothing else, has a row in the order of time.
fn compare_by_time(rows: &StoreRows) -> Result<(), String> {
    let timers = rows.iter().filter(|(key, _)| key[0] == 0);
    let expected: BTreeSet<_> =
        timers.map(|(k, time)| [&[0x80], &time[..], &k[1..]].concat()).collect();
    let found: BTreeSet<_> = rows.keys().filter(|key| key[0] == 0x80).cloned().collect();
    match expected.symmetric_difference(&found).next() {
        None => Ok(()),
        Some(row) => Err(format!("row {row:?} has no timer, or is missing for one")),
    }
}

fn compare(
    handle: &StoreHandle,
    positions: &StorePositions,
    history: &[SimRecord],
) -> Result<(), String> {
    let kind = &handle.spec.kind;
    let Some(skipped) = key_skips(kind) else { return Ok(()) };
    let position = positions.changelog.unwrap_or(0);
    let mut expected = StoreRows::new();
    for record in history.iter().filter(|record| record.offset < position) {
        let key = record.key.clone().ok_or("a changelog record has no key")?;
        match &record.value {
            None => expected.remove(&key),
            Some(value) if kind.is_timestamped() => {
                expected.insert(key, [&record.timestamp.to_be_bytes()[..], value].concat())
            }
            Some(value) => expected.insert(key, value.clone()),
        };
    }
    let expired = |key: &[u8]| {
        let start = key.len().checked_sub(12).and_then(|at| key[at..].first_chunk::<8>());
        match (kind.window(), start, positions.observed_ms) {
            (Some(window), Some(start), Some(observed)) => {
                i64::from_be_bytes(*start) <= observed.saturating_sub(window.retention_ms)
            }
            _ => false,
        }
    };
    let mut found = rows(&*handle.database, &handle.family, handle.partition);
    if matches!(kind, StoreKind::Timers(_)) {
        compare_by_time(&found)?;
        found.retain(|key, _| key[0] == 0);
    }
    let found: StoreRows =
        found.into_iter().map(|(key, row)| (key[skipped..].to_vec(), row)).collect();
    for key in expected.keys().chain(found.keys()) {
        let (expected, found) = (expected.get(key), found.get(key));
        if expected != found && !expired(key) {
            return Err(format!("row {key:?} must be {expected:?} and is {found:?}"));
        }
    }
    Ok(())
}
