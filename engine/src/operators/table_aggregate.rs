//! `KTable::group_by` and what follows it: each row is sent to its group as a change, and the group
//! takes the old row out of its aggregate and the new one in.
//!
//! Source: `KTableRepartitionMap`, `KTableAggregate`, `KTableReduce`. A row that is not there, or
//! whose group or grouped value is null, counts as absent. Old and new in the same group travel as
//! one change; else the removal is sent first. In the group the subtractor runs if there is an old
//! value and an aggregate, then the adder if there is a new value; one result for each change, also
//! when nothing was there to be removed. The time is the greater of the change's and the stored one,
//! where something was stored.

use std::sync::Arc;

use super::table_store::TableStore;
use crate::processor::NodeError;
use crate::processor::node::{Lifecycle, NodeContext, NodeInit, StreamReceiver, TableReceiver};
use crate::record::{Change, Record};
use crate::serde::kafka_streams::{decode_change, encode_change};
use crate::serde::{Serde, SerdeError, SharedSerde};

/// What a row becomes in its group: the group's key and the grouped value.
pub(crate) type Selector<K, V, L, W> = Arc<dyn Fn(&K, &V) -> (L, W) + Send + Sync>;

/// A change of one row on its way to its group.
pub(crate) struct Grouping<W> {
    pub(crate) old: Option<W>,
    pub(crate) new: Option<W>,
}

/// Changes as a repartition topic holds them, by the grouped values' serde.
pub(crate) struct GroupingSerde<W>(pub(crate) SharedSerde<W>);

impl<W: 'static> Serde<Grouping<W>> for GroupingSerde<W> {
    fn serialize(&self, value: &Grouping<W>, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        let bytes = |row: &Option<W>| match row {
            Some(row) => self.0.to_bytes(row),
            None => Ok(None),
        };
        encode_change(bytes(&value.old)?.as_deref(), bytes(&value.new)?.as_deref(), into)
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Grouping<W>, SerdeError> {
        let change = decode_change(bytes)?;
        let row = |bytes: Option<&[u8]>| bytes.map(|b| self.0.decode(Some(b))).transpose();
        Ok(Grouping { old: row(change.old)?, new: row(change.new)? })
    }
}

/// Sends each row to its group.
pub(crate) struct TableGroup<K, V, L, W> {
    pub(crate) selector: Selector<K, V, L, W>,
    pub(crate) key: SharedSerde<L>,
    pub(crate) value: SharedSerde<W>,
    /// The table keeps versions: a change that is older than another of its key is no news.
    pub(crate) is_versioned: bool,
}

impl<K, V, L, W> Lifecycle for TableGroup<K, V, L, W> {}

impl<K: 'static, V: 'static, L: 'static, W: 'static> TableGroup<K, V, L, W> {
    fn select(&self, key: &K, row: &Option<V>) -> Option<(L, W)> {
        let (group, value) = (self.selector)(key, row.as_ref()?);
        (!self.key.is_null(&group) && !self.value.is_null(&value)).then_some((group, value))
    }
}

impl<K, V, L, W> TableReceiver<K, V> for TableGroup<K, V, L, W>
where
    K: 'static,
    V: 'static,
    L: 'static,
    W: 'static,
{
    fn receive(
        &mut self,
        change: Change<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        if self.is_versioned && ctx.task.is_out_of_order {
            return Ok(());
        }
        let Change { key, timestamp, headers, .. } = change;
        let mut send = |group: &L, old: Option<W>, new: Option<W>| {
            let value = &Grouping { old, new };
            ctx.forward(Record { key: group, value, timestamp, headers })
        };
        match (self.select(key, change.old), self.select(key, change.new)) {
            (Some((from, old)), Some((to, new))) => {
                if self.key.to_bytes(&from)? == self.key.to_bytes(&to)? {
                    return send(&to, Some(old), Some(new));
                }
                send(&from, Some(old), None)?;
                send(&to, None, Some(new))
            }
            (Some((from, old)), None) => send(&from, Some(old), None),
            (None, Some((to, new))) => send(&to, None, Some(new)),
            (None, None) => Ok(()),
        }
    }
}

/// Puts a grouped value into an aggregate; `None` is "nothing stored".
pub(crate) type Adder<K, W, A> =
    Arc<dyn Fn(&K, &W, Option<A>) -> Result<A, NodeError> + Send + Sync>;
/// Takes a grouped value out of an aggregate.
pub(crate) type Subtractor<K, W, A> = Arc<dyn Fn(&K, &W, A) -> Result<A, NodeError> + Send + Sync>;

/// What a table's groups compute.
pub(crate) struct TableAggregation<K, W, A> {
    pub(crate) adder: Adder<K, W, A>,
    pub(crate) subtractor: Subtractor<K, W, A>,
}

impl<K, W, A> Clone for TableAggregation<K, W, A> {
    fn clone(&self) -> Self {
        Self { adder: Arc::clone(&self.adder), subtractor: Arc::clone(&self.subtractor) }
    }
}

/// One row for each group.
pub(crate) struct TableAggregate<K, W, A> {
    pub(crate) aggregation: TableAggregation<K, W, A>,
    pub(crate) store: TableStore<K, A>,
    pub(crate) result: SharedSerde<A>,
}

impl<K: 'static, W: 'static, A: 'static> Lifecycle for TableAggregate<K, W, A> {
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        self.store.init(ctx)
    }

    fn flush(&mut self, ctx: &mut NodeContext<'_>) -> Result<(), NodeError> {
        self.store.flush(ctx)
    }
}

impl<K: 'static, W: 'static, A: 'static> StreamReceiver<K, Grouping<W>>
    for TableAggregate<K, W, A>
{
    fn receive(
        &mut self,
        record: Record<'_, K, Grouping<W>>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let Record { key, value: Grouping { old, new }, timestamp: caused_at, headers } = record;
        let stored = self.store.get(key, ctx)?;
        let before = match (self.store.sends_old(), &stored) {
            (true, Some(_)) => self.store.get(key, ctx)?.map(|(aggregate, _)| aggregate),
            _ => None,
        };
        let timestamp = caused_at.max(stored.as_ref().map_or(caused_at, |(_, time)| *time));
        let mut aggregate = stored.map(|(aggregate, _)| aggregate);
        aggregate = match (old, aggregate) {
            (Some(old), Some(so_far)) => {
                let left = (self.aggregation.subtractor)(key, old, so_far)?;
                Some(left).filter(|left| !self.result.is_null(left))
            }
            (_, aggregate) => aggregate,
        };
        if let Some(new) = new {
            let sum = (self.aggregation.adder)(key, new, aggregate)?;
            aggregate = Some(sum).filter(|sum| !self.result.is_null(sum));
        }
        let change = Change { key, old: &before, new: &aggregate, timestamp, headers };
        self.store.write(change, caused_at, ctx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serde::serdes;

    #[test]
    fn a_change_has_the_bytes_of_kafka_streams() {
        let serde = GroupingSerde(serdes::string()).shared();
        let bytes = |old: Option<&str>, new: Option<&str>| {
            let change = Grouping { old: old.map(str::to_owned), new: new.map(str::to_owned) };
            serde.to_bytes(&change).expect("it has bytes").expect("it is not null")
        };
        assert_eq!(bytes(Some("a"), None), b"a\x00");
        assert_eq!(bytes(None, Some("b")), b"b\x01");
        let both = bytes(Some("a"), Some("bc"));
        assert_eq!(both, b"\x04bca\x02");
        let read = serde.decode(Some(&both)).expect("it reads");
        assert_eq!((read.old.as_deref(), read.new.as_deref()), (Some("a"), Some("bc")));
    }
}
