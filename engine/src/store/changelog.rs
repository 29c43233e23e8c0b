//! How a store's rows become changelog records and come back. The records have Kafka Streams' bytes;
//! the rows are ours. Knows no log.

use headwater_state::StateError;
use headwater_state::layout::{timestamped, window};
use headwater_state::store::{StorePartition, WindowStore};

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
}

/// A row as a changelog record: key, value (`None` deletes), timestamp if the row has one.
pub(crate) type ChangelogRecord<'a> = (&'a [u8], Option<&'a [u8]>, Option<i64>);

impl ChangelogFormat {
    /// The changelog record of a row.
    ///
    /// # Errors
    /// The row is damaged.
    pub(crate) fn record<'a>(
        self,
        store_key: &'a [u8],
        value: Option<&'a [u8]>,
    ) -> Result<ChangelogRecord<'a>, StateError> {
        let key = match self {
            ChangelogFormat::KeyValue | ChangelogFormat::TimestampedKeyValue => store_key,
            ChangelogFormat::Window | ChangelogFormat::TimestampedWindow => {
                window::changelog_key(store_key)?
            }
        };
        match (self, value) {
            (_, None) => Ok((key, None, None)),
            (ChangelogFormat::KeyValue | ChangelogFormat::Window, value) => Ok((key, value, None)),
            (_, Some(stored)) => match timestamped::decode(stored) {
                Some((timestamp, value)) => Ok((key, Some(value), Some(timestamp))),
                None => Ok((key, Some(stored), None)),
            },
        }
    }

    /// Applies a changelog record to a store-partition that is being restored.
    ///
    /// # Errors
    /// The record's key is none of this format, or the state failed.
    pub fn restore(
        self,
        target: &mut RestoreTarget,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp: i64,
    ) -> Result<(), StateError> {
        let mut row = Vec::new();
        let value = match (self, value) {
            (
                ChangelogFormat::TimestampedKeyValue | ChangelogFormat::TimestampedWindow,
                Some(v),
            ) => {
                timestamped::encode(timestamp, v, &mut row);
                Some(&*row)
            }
            (_, value) => value,
        };
        match (target, value) {
            (RestoreTarget::Window(store), value) => store.apply_changelog(key, value).map(|_| ()),
            (RestoreTarget::KeyValue(state), Some(value)) => state.put(key, value),
            (RestoreTarget::KeyValue(state), None) => state.delete(key),
        }
    }
}

/// A store-partition that is being restored.
#[derive(Debug)]
pub enum RestoreTarget {
    /// Rows by key.
    KeyValue(StorePartition),
    /// Rows by key and window.
    Window(WindowStore),
}
