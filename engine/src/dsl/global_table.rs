//! `GlobalKTable`: a table of which every process has all rows, and joins with it.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::builder::StreamsBuilder;
use super::options::{Joined, Materialized};
use super::stream::KStream;
use crate::operators::global_join::{GlobalJoin, KeyMapper};
use crate::operators::row_join::{Joiner, RowJoin};
use crate::operators::stream_node;
use crate::serde::SharedSerde;
use crate::store::{StoreKind, StoreSpec};
use crate::topology::Mistake;
use crate::topology::graph::Supplier;

/// A table of which every process keeps all rows, whatever partitions it works on: a stream joins it
/// by any key, without co-partitioning. It is read up to the end before tasks start, and followed
/// from then on; it is no part of transactions, so a join sees the rows of the moment.
///
/// Source: `org.apache.kafka.streams.kstream.GlobalKTable`.
pub struct GlobalKTable<'b, K, V> {
    builder: &'b StreamsBuilder,
    /// Its number in the topology.
    table: usize,
    key: SharedSerde<K>,
    value: SharedSerde<V>,
}

impl<K, V> Clone for GlobalKTable<'_, K, V> {
    fn clone(&self) -> Self {
        let (key, value) = (self.key.clone(), self.value.clone());
        Self { builder: self.builder, table: self.table, key, value }
    }
}

impl<K, V> fmt::Debug for GlobalKTable<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GlobalKTable({})", self.table)
    }
}

impl StreamsBuilder {
    /// Reads a topic as a global table, kept in a named store that can be queried: a record sets its
    /// key's row, a null value deletes it, a null key is skipped.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// let countries =
    ///     b.global_table("countries", string(), Materialized::with("countries-store", string()));
    /// let named = b.stream("visits", Consumed::with(string(), string())).join_global(
    ///     &countries,
    ///     |_, country| Some(country.clone()),
    ///     |user, _, name| format!("{user} from {name}"),
    ///     Joined::with("visits-countries", string(), string()),
    /// );
    /// ```
    pub fn global_table<K: 'static, V: 'static>(
        &self,
        topic: &str,
        key: SharedSerde<K>,
        materialized: Materialized<V>,
    ) -> GlobalKTable<'_, K, V> {
        let Materialized { name, value, .. } = materialized;
        let kind = StoreKind::TimestampedKeyValue;
        let spec = StoreSpec::new(name.as_str(), kind, key.clone(), value.clone());
        let table = self.graph().add_global(topic, spec);
        GlobalKTable { builder: self, table, key, value }
    }
}

impl<'b, K: 'static, V: 'static> KStream<'b, K, V> {
    /// Joins each record with the row of the global table whose key `mapper` gives; a record without
    /// one is left out. The result has the record's key and time.
    pub fn join_global<G: 'static, T: 'static, W: 'static>(
        self,
        table: &GlobalKTable<'b, G, T>,
        mapper: impl Fn(&K, &V) -> Option<G> + Send + Sync + 'static,
        joiner: impl Fn(&K, &V, &T) -> W + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<'b, K, W> {
        let joiner = move |key: &K, value: &V, row: Option<&T>| row.map(|r| joiner(key, value, r));
        self.global_join(table, false, mapper, joiner, joined)
    }

    /// Joins each record with the row of the global table whose key `mapper` gives, or with none.
    pub fn left_join_global<G: 'static, T: 'static, W: 'static>(
        self,
        table: &GlobalKTable<'b, G, T>,
        mapper: impl Fn(&K, &V) -> Option<G> + Send + Sync + 'static,
        joiner: impl Fn(&K, &V, Option<&T>) -> W + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<'b, K, W> {
        let joiner = move |key: &K, value: &V, row: Option<&T>| Some(joiner(key, value, row));
        self.global_join(table, true, mapper, joiner, joined)
    }

    fn global_join<G: 'static, T: 'static, W: 'static>(
        self,
        table: &GlobalKTable<'b, G, T>,
        left: bool,
        mapper: impl Fn(&K, &V) -> Option<G> + Send + Sync + 'static,
        joiner: impl Fn(&K, &V, Option<&T>) -> Option<W> + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<'b, K, W> {
        if !self.has_builder("global join", table.builder) {
            return KStream { builder: self.builder, node: usize::MAX, _types: PhantomData };
        }
        let Joined { name, key: _, value, on_dropped, grace_ms } = joined;
        if grace_ms.is_some() {
            let node = name.clone();
            self.builder.graph().mistakes.push(Mistake::NotVersioned { node });
        }
        let mapper: KeyMapper<K, V, G> = Arc::new(mapper);
        let joiner: Joiner<K, V, T, W> = Arc::new(joiner);
        let (number, row_key, row) = (table.table, table.key.clone(), table.value.clone());
        let supplier: Supplier = Box::new(move |_| {
            stream_node::<K, V>(GlobalJoin {
                table: number,
                mapper: Arc::clone(&mapper),
                row_key: row_key.clone(),
                row: row.clone(),
                rows: RowJoin {
                    joiner: Arc::clone(&joiner),
                    left,
                    value: value.clone(),
                    on_dropped,
                },
            })
        });
        let operator = if left { "global-left-join" } else { "global-join" };
        let mut new = self.new_node::<K, W>(operator, false, supplier);
        new.name = Some(name);
        new.joins_null_keys = left;
        self.builder.stream_handle(new)
    }
}
