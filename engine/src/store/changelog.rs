//! How a store's rows become changelog records and come back. The records have Kafka Streams' bytes;
//! the rows are ours. Knows no log.

use std::fmt;
use std::sync::LazyLock;

use headwater_state::StateError;

use headwater_state::layout::{session, time_first, timestamped, versioned, window};
use headwater_state::store::{
    Buffer, SessionStore, StorePartition, VersionedStore, WindowStore, decode_buffer_key,
    decode_buffered,
};

use crate::record::Headers;
use crate::serde::kafka_streams::{BUFFER_VERSION_HEADER, BufferValue};

/// The kind of rows, which decides how a changelog record looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangelogFormat {
    /// Key and value as they are.
    KeyValue,
    /// The row's timestamp is the record's.
    TimestampedKeyValue,
    /// The record's key is `key | start | sequence`.
    Window,
    /// Both.
    TimestampedWindow,
    /// The record's key is `key | end | start`.
    Session,
    /// The record's value is a buffered change, its version in a header.
    SuppressBuffer,
    /// The record's timestamp is since when its value is valid.
    Versioned,
    /// The record's key is a key and a timer's name, its value the timer's time.
    Timers,
}

/// A row as a changelog record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ChangelogRecord<'a> {
    pub(crate) key: &'a [u8],
    /// `None` deletes.
    pub(crate) value: Option<&'a [u8]>,
    /// If the row has one.
    pub(crate) timestamp: Option<i64>,
    pub(crate) headers: &'static Headers,
}

impl ChangelogFormat {
    /// The changelog record of a row; `None` for rows that follow from others.
    ///
    /// # Errors
    /// The row is damaged.
    pub(crate) fn record<'a>(
        self,
        store_key: &'a [u8],
        value: Option<&'a [u8]>,
    ) -> Result<Option<ChangelogRecord<'a>>, StateError> {
        let plain =
            |key| ChangelogRecord { key, value, timestamp: None, headers: Headers::empty() };
        let timed = |key| match value.map(timestamped::decode) {
            Some(Some((timestamp, value))) => {
                ChangelogRecord { value: Some(value), timestamp: Some(timestamp), ..plain(key) }
            }
            _ => plain(key),
        };
        Ok(Some(match self {
            ChangelogFormat::KeyValue => plain(store_key),
            ChangelogFormat::TimestampedKeyValue => timed(store_key),
            ChangelogFormat::Window => plain(window::changelog_key(store_key)?),
            _ if time_first::is_derived(store_key) => return Ok(None),
            ChangelogFormat::TimestampedWindow => timed(window::changelog_key(store_key)?),
            ChangelogFormat::Session => plain(session::changelog_key(store_key)?),
            ChangelogFormat::Versioned => {
                // A version that left the disk is history, no deletion.
                let (Some((key, since)), Some(stored)) = (versioned::decode(store_key), value)
                else {
                    return Ok(None);
                };
                let value = versioned::decode_value(stored)?;
                ChangelogRecord { value, timestamp: Some(since), ..plain(key) }
            }
            ChangelogFormat::SuppressBuffer => {
                let Some(key) = decode_buffer_key(store_key) else { return Ok(None) };
                let value = value.map(decode_buffered).transpose()?.map(|(_, value)| value);
                let headers = if value.is_some() { buffer_version() } else { Headers::empty() };
                ChangelogRecord { key, value, timestamp: None, headers }
            }
            // A timer's row is its time and nothing else.
            ChangelogFormat::Timers => match decode_buffer_key(store_key) {
                Some(timer) => plain(timer),
                None => return Ok(None),
            },
        }))
    }
}

/// The header that says which version of [`BufferValue`] a record holds.
fn buffer_version() -> &'static Headers {
    static HEADERS: LazyLock<Headers> = LazyLock::new(|| {
        let (name, value) = BUFFER_VERSION_HEADER;
        let mut headers = Headers::default();
        headers.append(name, Some(bytes::Bytes::from_static(value)));
        headers
    });
    &HEADERS
}

/// A store-partition that is being restored: takes the records of its changelog.
pub trait RestoreTarget: fmt::Debug + Send {
    /// The bytes below.
    fn state(&self) -> &StorePartition;

    /// The bytes below, to be changed.
    fn state_mut(&mut self) -> &mut StorePartition;

    /// Applies one record.
    ///
    /// # Errors
    /// The record is none of this store's, or the state failed.
    fn apply(&mut self, key: &[u8], value: Option<&[u8]>, timestamp: i64)
    -> Result<(), StateError>;
}

/// A record's value as the row of a store that keeps times.
fn timed_row<'r>(
    timed: bool,
    value: Option<&'r [u8]>,
    timestamp: i64,
    row: &'r mut Vec<u8>,
) -> Option<&'r [u8]> {
    match value {
        Some(value) if timed => {
            timestamped::encode(timestamp, value, row);
            Some(row)
        }
        value => value,
    }
}

#[derive(Debug)]
pub(super) struct RestoreKeyValue {
    pub(super) state: StorePartition,
    pub(super) timed: bool,
}

impl RestoreTarget for RestoreKeyValue {
    fn state(&self) -> &StorePartition {
        &self.state
    }

    fn state_mut(&mut self) -> &mut StorePartition {
        &mut self.state
    }

    fn apply(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: i64,
    ) -> Result<(), StateError> {
        match timed_row(self.timed, value, timestamp, &mut Vec::new()) {
            Some(row) => self.state.put(key, row),
            None => self.state.delete(key),
        }
    }
}

#[derive(Debug)]
pub(super) struct RestoreWindow {
    pub(super) store: WindowStore,
    pub(super) timed: bool,
}

impl RestoreTarget for RestoreWindow {
    fn state(&self) -> &StorePartition {
        self.store.state()
    }

    fn state_mut(&mut self) -> &mut StorePartition {
        self.store.state_mut()
    }

    fn apply(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: i64,
    ) -> Result<(), StateError> {
        let mut row = Vec::new();
        let row = timed_row(self.timed, value, timestamp, &mut row);
        self.store.apply_changelog(key, row).map(|_| ())
    }
}

impl RestoreTarget for SessionStore {
    fn state(&self) -> &StorePartition {
        self.state()
    }

    fn state_mut(&mut self) -> &mut StorePartition {
        self.state_mut()
    }

    fn apply(&mut self, key: &[u8], value: Option<&[u8]>, _: i64) -> Result<(), StateError> {
        self.apply_changelog(key, value).map(|_| ())
    }
}

impl RestoreTarget for VersionedStore {
    fn state(&self) -> &StorePartition {
        self.state()
    }

    fn state_mut(&mut self) -> &mut StorePartition {
        self.state_mut()
    }

    fn apply(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: i64,
    ) -> Result<(), StateError> {
        self.put(key, timestamp, value).map(|_| ())
    }
}

/// A suppress buffer.
#[derive(Debug)]
pub(super) struct RestoreBuffer(pub(super) Buffer);

impl RestoreTarget for RestoreBuffer {
    fn state(&self) -> &StorePartition {
        self.0.state()
    }

    fn state_mut(&mut self) -> &mut StorePartition {
        self.0.state_mut()
    }

    fn apply(&mut self, key: &[u8], value: Option<&[u8]>, _: i64) -> Result<(), StateError> {
        let Some(value) = value else { return self.0.remove(key) };
        let held = BufferValue::decode(value).map_err(|error| StateError::Corruption {
            place: format!("changelog of store {}", self.0.state().name()),
            what: error.to_string(),
        })?;
        self.0.put(key, held.buffer_time, value)
    }
}
