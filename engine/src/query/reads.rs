//! Reads of committed state: one key, a range of keys over all partitions, the windows of a key.
//! Owns the order of rows and how a listing goes on; knows nothing of HTTP.
//!
//! Each page is read from one snapshot per partition; a later page may show a later state. A row
//! that is there all the time shows exactly once.

use headwater_state::database::Direction;
use headwater_state::layout::timestamped;
use headwater_state::positions::{TaskPositions, tasks_family};
use headwater_state::store::{Committed, Rows, WindowReads, WindowRetention};
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::cursor::{self, Fingerprint};
use super::encoding::put_either;
use super::error::{Problem, QueryError};
use super::merge::Merge;
use super::port::{ApplicationInfo, CommittedPartition, QueryTarget, StoreInfo};
use crate::record::{TaskId, Window};
use crate::serde::KeyRange;
use crate::serde::kafka_streams::partition_for;
use crate::store::{StoreKind, StoreView, WindowSpec};

/// A page ends when its rows have this many bytes, whatever its limit.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// One committed row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The partition it lies in.
    pub partition: u32,
    /// The key's bytes.
    pub key: Vec<u8>,
    /// The window, of window stores; milliseconds.
    pub window: Option<Window>,
    /// The time of its last change in milliseconds, of stores that keep one.
    pub timestamp: Option<i64>,
    /// The value's bytes, without the timestamp.
    pub value: Vec<u8>,
}

impl Row {
    /// The row as JSON by the store's serdes; bytes without a JSON form are base64, in `keyBase64`
    /// and `valueBase64`.
    pub(super) fn to_json(&self, view: Option<&dyn StoreView>) -> Json {
        let mut shown = Map::new();
        put_either(&mut shown, "key", view.and_then(|v| v.key_to_json(&self.key)), &self.key);
        if let Some(window) = self.window {
            shown.insert("window".into(), json!({ "start": window.start, "end": window.end }));
        }
        let value = view.and_then(|v| v.value_to_json(&self.value));
        put_either(&mut shown, "value", value, &self.value);
        if let Some(timestamp) = self.timestamp {
            shown.insert("timestamp".into(), Json::from(timestamp));
        }
        shown.insert("partition".into(), Json::from(self.partition));
        Json::Object(shown)
    }
}

/// An input position that an answer stands for: every record before `offset` is in it, none after.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct AsOf {
    /// The input topic.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// The offset of the first record that is not in the answer.
    pub offset: i64,
}

/// Part of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// Asks for the next page; `None` on the last.
    pub next_cursor: Option<String>,
    /// The positions of the partitions that were read, where the state holds them.
    pub as_of: Vec<AsOf>,
}

/// Which part of a listing is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest<'a> {
    /// Rows at most.
    pub limit: usize,
    /// The `next_cursor` of the page before.
    pub cursor: Option<&'a str>,
}

/// The stores of one application.
pub struct StoreQueries<'q> {
    target: &'q dyn QueryTarget,
    application: &'q ApplicationInfo,
}

impl std::fmt::Debug for StoreQueries<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoreQueries({})", self.application.application_id)
    }
}

impl<'q> StoreQueries<'q> {
    pub(super) fn new(target: &'q dyn QueryTarget, application: &'q ApplicationInfo) -> Self {
        Self { target, application }
    }

    /// One store.
    ///
    /// # Errors
    /// `UnknownStore`.
    pub fn store(&self, name: &str) -> Result<StoreQuery<'q>, QueryError> {
        let Some(info) = self.application.store(name) else {
            let id = &self.application.application_id;
            let known: Vec<&str> = self.application.stores.iter().map(|s| &*s.spec.name).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let detail = format!("application `{id}` has no store `{name}`; it has: {known}");
            return Err(QueryError::new(Problem::UnknownStore, detail));
        };
        Ok(StoreQuery { target: self.target, application: self.application, info })
    }
}

/// One store, to be read.
pub struct StoreQuery<'q> {
    target: &'q dyn QueryTarget,
    application: &'q ApplicationInfo,
    info: &'q StoreInfo,
}

impl std::fmt::Debug for StoreQuery<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoreQuery({})", self.info.spec.name)
    }
}

impl StoreQuery<'_> {
    /// The store's keys and values as text and JSON.
    pub fn view(&self) -> &dyn StoreView {
        &*self.info.spec.view
    }

    /// The bytes of the key that a text stands for.
    ///
    /// # Errors
    /// `InvalidKey` when it stands for none, or the store's keys have no text form.
    pub fn key(&self, text: &str) -> Result<Vec<u8>, QueryError> {
        self.view().key_from_text(text).ok_or_else(|| self.no_key(text))
    }

    fn no_key(&self, text: &str) -> QueryError {
        let (name, shown) = (&self.info.spec.name, text.chars().take(64).collect::<String>());
        let detail = format!(
            "`{shown}` is no key of store `{name}`; give a key as its serde writes it as text, or \
             its bytes as base64 with encoding=base64"
        );
        QueryError::new(Problem::InvalidKey, detail)
    }

    /// The ranges of bytes between two keys, both included, in the order of the keys' values; an
    /// absent end is open.
    ///
    /// # Errors
    /// `InvalidKey`, as [`key`](Self::key).
    pub fn key_ranges(
        &self,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<Vec<KeyRange>, QueryError> {
        let wrong = || {
            let is_wrong = |text: &&str| self.view().key_from_text(text).is_none();
            self.no_key(from.filter(is_wrong).or(to).unwrap_or_default())
        };
        self.view().key_ranges(from, to).ok_or_else(wrong)
    }

    /// The row of a key, with what it stands for.
    ///
    /// # Errors
    /// `NotFound` without a row; `WrongStoreKind` for window stores; `Unavailable` when the key's
    /// partition is not here now; `Failed` when it cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<(Row, Vec<AsOf>), QueryError> {
        self.must_be_windowed(false)?;
        let found = self.partition_of(key)?;
        match committed(&found).get(key)? {
            Some(stored) => {
                let row = self.row(found.partition, key, None, &stored)?;
                Ok((row, self.as_of(&[found])?))
            }
            None => {
                let name = &self.info.spec.name;
                Err(QueryError::not_found(format!("store `{name}` has no row of this key")))
            }
        }
    }

    /// The rows of these ranges, one range after the other, each in the order of the keys' bytes
    /// over all partitions.
    ///
    /// # Errors
    /// `InvalidCursor`; `WrongStoreKind` for window stores; `Unavailable` when a partition is not
    /// here now; `Failed` when one cannot be read.
    pub fn range(&self, ranges: &[KeyRange], page: PageRequest<'_>) -> Result<Page, QueryError> {
        self.must_be_windowed(false)?;
        let ends = ranges.iter().flat_map(|range| [&range.from, &range.to]);
        let ends: Vec<&[u8]> = ends.map(|end| end.as_deref().unwrap_or_default()).collect();
        let question = self.fingerprint("range", &ends);
        let mut after = page.cursor.map(|text| RangePosition::read(question, text)).transpose()?;
        let partitions = self.all_partitions()?;
        let stores: Vec<Committed<'_>> = partitions.iter().map(committed).collect();
        let begin = after.as_ref().map_or(0, |position| position.range);
        let (mut rows, mut shown) = (Filling::new(page.limit), begin);
        for (index, range) in ranges.iter().enumerate().skip(begin) {
            let after = after.take().map(|position| (position.key, position.partition));
            let mut merged = Merge::new(&stores, range, after.as_ref())?;
            while let Some((partition, key, stored)) = merged.current() {
                if rows.is_full() {
                    let position = rows.last().map(|row| RangePosition::of(shown, row));
                    let next_cursor = position.map(|position| position.write(question));
                    return Ok(rows.page(next_cursor, self.as_of(&partitions)?));
                }
                rows.push(self.row(partition, key, None, stored)?);
                shown = index;
                merged.advance()?;
            }
        }
        Ok(rows.page(None, self.as_of(&partitions)?))
    }

    /// A key's windows with starts from `from` to `to`, both included, in milliseconds, by start.
    /// Windows past the store's retention do not show.
    ///
    /// # Errors
    /// `InvalidCursor`; `WrongStoreKind` for stores without windows; `Unavailable` when the key's
    /// partition is not here now; `Failed` when it cannot be read.
    pub fn windows(
        &self,
        key: &[u8],
        from: i64,
        to: i64,
        page: PageRequest<'_>,
    ) -> Result<Page, QueryError> {
        let spec = self.must_be_windowed(true)?;
        let bounds = [key, &from.to_be_bytes(), &to.to_be_bytes()];
        let question = self.fingerprint("windows", &bounds);
        let from = match page.cursor {
            None => from,
            Some(text) => {
                let position = cursor::decode(question, text)?;
                let last = <[u8; 8]>::try_from(position).map_err(|_| cursor::damaged())?;
                from.max(i64::from_be_bytes(last).saturating_add(1))
            }
        };
        let found = self.partition_of(key)?;
        let retention = WindowRetention::of(&*found.reader, &found.family, spec.retention_ms)?;
        let rows = committed(&found);
        let reads = WindowReads::committed(&rows, retention)?;
        let mut windows = reads.fetch_range(key, from, to, Direction::Forward)?;
        let mut filling = Filling::new(page.limit);
        let mut next_cursor = None;
        while windows.advance()? {
            let last = filling.last().and_then(|row| row.window).map(|window| window.start);
            // A join's store has several rows of one start; a page ends behind them all.
            if let (true, Some(last)) = (filling.is_full(), last)
                && last != windows.start_ms()
            {
                next_cursor = Some(cursor::encode(question, &last.to_be_bytes()));
                break;
            }
            let start = windows.start_ms();
            let window = Window { start, end: start.saturating_add(spec.size_ms) };
            filling.push(self.row(found.partition, key, Some(window), windows.value())?);
        }
        drop(windows);
        let as_of = self.as_of(std::slice::from_ref(&found))?;
        Ok(filling.page(next_cursor, as_of))
    }

    fn fingerprint(&self, question: &str, parts: &[&[u8]]) -> Fingerprint {
        let (application, store) = (&self.application.application_id, &self.info.spec.name);
        let mut all = vec![question.as_bytes(), application.as_bytes(), store.as_bytes()];
        all.extend_from_slice(parts);
        Fingerprint::of(&all)
    }

    /// The store's windows; an error unless it has some just if `windowed`.
    fn must_be_windowed(&self, windowed: bool) -> Result<WindowSpec, QueryError> {
        let name = &self.info.spec.name;
        let kind = self.info.spec.kind;
        let is_by_key = matches!(kind, StoreKind::KeyValue | StoreKind::TimestampedKeyValue);
        let detail = match (kind.window(), windowed) {
            (Some(spec), true) => return Ok(spec),
            (None, false) if is_by_key => return Ok(WindowSpec { size_ms: 0, retention_ms: 0 }),
            (None, _) if matches!(kind, StoreKind::Session(_)) => {
                format!("store `{name}` keeps sessions, which cannot be asked for yet")
            }
            (None, _) if !is_by_key => format!("store `{name}` keeps an operator's own rows"),
            (Some(_), false) => {
                format!("store `{name}` keeps windows; ask /stores/{name}/windows/{{key}}")
            }
            (None, _) => {
                format!("store `{name}` keeps no windows; ask /stores/{name}/keys/{{key}}")
            }
        };
        Err(QueryError::new(Problem::WrongStoreKind, detail))
    }

    fn count(&self) -> Result<u32, QueryError> {
        let (application, store) = (&self.application.application_id, &self.info.spec.name);
        let count = self.target.partitions(application, store).filter(|count| *count > 0);
        count.ok_or_else(|| {
            let detail = format!("store `{store}` is not open yet; try again, see /health/ready");
            QueryError::new(Problem::Unavailable, detail)
        })
    }

    fn committed(&self, partition: Option<u32>) -> Vec<CommittedPartition> {
        let (application, store) = (&self.application.application_id, &self.info.spec.name);
        self.target.committed(application, store, partition)
    }

    fn partition_of(&self, key: &[u8]) -> Result<CommittedPartition, QueryError> {
        let partition = partition_for(key, self.count()?);
        let found = self.committed(Some(partition));
        let found = found.into_iter().find(|found| found.partition == partition);
        found.ok_or_else(|| self.absent(partition))
    }

    /// Every partition, by number.
    fn all_partitions(&self) -> Result<Vec<CommittedPartition>, QueryError> {
        let count = self.count()?;
        let mut found = self.committed(None);
        found.sort_by_key(|found| found.partition);
        found.dedup_by_key(|found| found.partition);
        let is_here = |partition: &u32| found.iter().any(|f| f.partition == *partition);
        match (0..count).find(|partition| !is_here(partition)) {
            None => Ok(found),
            Some(missing) => Err(self.absent(missing)),
        }
    }

    fn absent(&self, partition: u32) -> QueryError {
        let name = &self.info.spec.name;
        let detail = format!(
            "partition {partition} of store `{name}` is not open on this instance; it may be \
             restoring (see /tasks): try again"
        );
        QueryError::new(Problem::Unavailable, detail)
    }

    fn row(
        &self,
        partition: u32,
        key: &[u8],
        window: Option<Window>,
        stored: &[u8],
    ) -> Result<Row, QueryError> {
        let (timestamp, value) = if self.info.spec.kind.is_timestamped() {
            let (timestamp, value) = timestamped::decode(stored).ok_or_else(|| {
                let (name, bytes) = (&self.info.spec.name, stored.len());
                let detail = format!(
                    "a row of store `{name}` partition {partition} has {bytes} bytes, no \
                     timestamp: it is damaged"
                );
                QueryError::new(Problem::Failed, detail)
            })?;
            (Some(timestamp), value)
        } else {
            (None, stored)
        };
        Ok(Row { partition, key: key.to_vec(), window, timestamp, value: value.to_vec() })
    }

    /// The input positions of the tasks behind these partitions, where the snapshots hold them.
    fn as_of(&self, partitions: &[CommittedPartition]) -> Result<Vec<AsOf>, QueryError> {
        // A global table's rows are behind no task.
        let Some(subtopology) = self.info.subtopology else { return Ok(Vec::new()) };
        let family = tasks_family(&self.application.application_id);
        let mut all = Vec::new();
        for CommittedPartition { partition, reader, .. } in partitions {
            let Some(family) = reader.find_family(&family) else { continue };
            let task = TaskId { subtopology, partition: *partition };
            let positions = TaskPositions::read(&**reader, &family, &task.to_string())?;
            for ((topic, partition), input) in positions.unwrap_or_default().inputs {
                all.push(AsOf { topic, partition, offset: input.next_offset });
            }
        }
        all.sort();
        Ok(all)
    }
}

fn committed(partition: &CommittedPartition) -> Committed<'_> {
    let CommittedPartition { partition, reader, family } = partition;
    Committed { reader: &**reader, family, partition: *partition }
}

/// A page being filled.
struct Filling {
    rows: Vec<Row>,
    limit: usize,
    bytes: usize,
}

impl Filling {
    fn new(limit: usize) -> Self {
        Self { rows: Vec::new(), limit, bytes: 0 }
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= self.limit || self.bytes >= PAGE_BYTES_MAX
    }

    fn push(&mut self, row: Row) {
        self.bytes += row.key.len() + row.value.len();
        self.rows.push(row);
    }

    fn last(&self) -> Option<&Row> {
        self.rows.last()
    }

    fn page(self, next_cursor: Option<String>, as_of: Vec<AsOf>) -> Page {
        Page { rows: self.rows, next_cursor, as_of }
    }
}

/// The last row shown of a listing of ranges.
struct RangePosition {
    /// Which range it was in.
    range: usize,
    partition: u32,
    key: Vec<u8>,
}

impl RangePosition {
    fn of(range: usize, row: &Row) -> Self {
        Self { range, partition: row.partition, key: row.key.clone() }
    }

    fn write(&self, question: Fingerprint) -> String {
        let range = u32::try_from(self.range).expect("a listing has few ranges");
        let mut position = range.to_be_bytes().to_vec();
        position.extend_from_slice(&self.partition.to_be_bytes());
        position.extend_from_slice(&self.key);
        cursor::encode(question, &position)
    }

    fn read(question: Fingerprint, text: &str) -> Result<Self, QueryError> {
        let position = cursor::decode(question, text)?;
        let ([range, partition], key) = match position.as_chunks::<4>() {
            _ if position.len() < 8 => return Err(cursor::damaged()),
            (words, _) => ([words[0], words[1]], position[8..].to_vec()),
        };
        let range = usize::try_from(u32::from_be_bytes(range)).map_err(|_| cursor::damaged())?;
        Ok(Self { range, partition: u32::from_be_bytes(partition), key })
    }
}
