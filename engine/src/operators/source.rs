//! Stream sources: read a topic's raw records and lend them on, typed. A record whose bytes or time
//! cannot be read fails; a null that its type refuses is dropped with a named reason.

use std::sync::Arc;

use crate::processor::drops::OnDropped;
use crate::processor::node::{Lifecycle, NodeContext, RawReceiver};
use crate::processor::{DropReason, NodeError};
use crate::record::batch::RawRecord;
use crate::record::{Headers, Record};
use crate::serde::{SerdeError, SharedSerde};
use crate::time;

/// Gives a record its time: from key, value, the time the log has, and the greatest time read from
/// the partition before (-1 at first).
pub(crate) type Extractor<K, V> = Arc<dyn Fn(&K, &V, i64, i64) -> i64 + Send + Sync>;

/// What stream and table sources share: serdes, time, nulls.
pub(crate) struct Reading<K, V> {
    pub(crate) topic: Arc<str>,
    pub(crate) key: SharedSerde<K>,
    pub(crate) value: SharedSerde<V>,
    pub(crate) extractor: Option<Extractor<K, V>>,
    pub(crate) on_dropped: OnDropped,
}

impl<K: 'static, V: 'static> Reading<K, V> {
    /// The record's time, by the extractor or as the log has it.
    pub(crate) fn timestamp(
        &self,
        raw: &RawRecord<'_>,
        partition_time: i64,
    ) -> Result<i64, NodeError> {
        let timestamp = match &self.extractor {
            None => raw.timestamp,
            Some(extract) => {
                let (key, value) = (self.key.decode(raw.key)?, self.value.decode(raw.value)?);
                extract(&key, &value, raw.timestamp, partition_time)
            }
        };
        if time::is_usable(timestamp) {
            return Ok(timestamp);
        }
        Err(NodeError::message(format!(
            "timestamp {timestamp} of a record of topic {} is negative or too far in the future; set a timestamp extractor for such records",
            self.topic
        )))
    }

    /// A field's typed value; `None` if it was dropped for being null.
    pub(crate) fn field<T: 'static>(
        &self,
        serde: &SharedSerde<T>,
        bytes: Option<&[u8]>,
        field: &'static str,
        reason: DropReason,
        ctx: &mut NodeContext<'_>,
    ) -> Result<Option<T>, NodeError> {
        match serde.decode(bytes) {
            Ok(value) => Ok(Some(value)),
            Err(SerdeError::Null { type_name }) => {
                ctx.drop_record(reason, self.on_dropped, || {
                    format!("{field} is null and {type_name} takes none")
                });
                Ok(None)
            }
            Err(error) => Err(NodeError::message(format!("{field} cannot be read: {error}"))),
        }
    }
}

pub(crate) struct Source<K, V>(pub(crate) Reading<K, V>);

impl<K: 'static, V: 'static> Lifecycle for Source<K, V> {}

impl<K: 'static, V: 'static> RawReceiver for Source<K, V> {
    fn timestamp(&self, raw: &RawRecord<'_>, partition_time: i64) -> Result<i64, NodeError> {
        self.0.timestamp(raw, partition_time)
    }

    fn receive(
        &mut self,
        raw: &RawRecord<'_>,
        timestamp: i64,
        headers: &Headers,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let reading = &self.0;
        let Some(key) = reading.field(&reading.key, raw.key, "key", DropReason::NullKey, ctx)?
        else {
            return Ok(());
        };
        let value =
            reading.field(&reading.value, raw.value, "value", DropReason::NullValue, ctx)?;
        let Some(value) = value else { return Ok(()) };
        ctx.forward(Record { key: &key, value: &value, timestamp, headers })
    }
}
