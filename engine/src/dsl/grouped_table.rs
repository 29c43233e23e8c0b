//! `KGroupedTable`: a table whose rows are sent to groups, to be aggregated there.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use super::options::{Consumed, Grouped, Materialized};
use super::stream::KStream;
use super::table::{KTable, aggregate_table, getter_of};
use crate::operators::table_aggregate::{
    Grouping, GroupingSerde, Selector, TableAggregate, TableAggregation, TableGroup,
};
use crate::operators::{stream_node, table_node};
use crate::processor::NodeError;
use crate::serde::{Serde, SharedSerde};
use crate::store::StoreKind;
use crate::topology::graph::{EdgeType, NewNode, Supplier};

/// A grouped table. Its rows go through one repartition topic, `<application>-<name>-repartition`,
/// which all its aggregations share.
///
/// Source: `org.apache.kafka.streams.kstream.KGroupedTable`.
pub struct KGroupedTable<'b, K, V> {
    /// What sends the rows, before the repartition topic.
    grouped: KStream<'b, K, Grouping<V>>,
    /// The repartitioned rows, once something needs them.
    partitioned: Cell<Option<KStream<'b, K, Grouping<V>>>>,
    name: String,
    key: SharedSerde<K>,
    value: SharedSerde<V>,
}

impl<K, V> fmt::Debug for KGroupedTable<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KGroupedTable({})", self.name)
    }
}

impl<'b, K: 'static, V: 'static> KTable<'b, K, V> {
    /// Sends each row to a group, by key and value that `selector` gives; a row that changes its
    /// group is taken out of the old one first. Where the group or the grouped value stands for
    /// null, the row belongs to no group.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let city_of = b.table("city-of-user", Consumed::with(string(), string()));
    /// let users_per_city = city_of
    ///     .group_by(
    ///         |user, city| (city.clone(), user.clone()),
    ///         Grouped::with("by-city", string(), string()),
    ///     )
    ///     .count(Materialized::count("users-per-city"));
    /// ```
    pub fn group_by<L: 'static, W: 'static>(
        self,
        selector: impl Fn(&K, &V) -> (L, W) + Send + Sync + 'static,
        grouped: Grouped<L, W>,
    ) -> KGroupedTable<'b, L, W> {
        // A row leaves its group by its old value, so the table must know it.
        self.builder.graph().enable_old_values(self.node, true);
        let Grouped { name, key, value, on_dropped: _ } = grouped;
        let selector = Arc::new(selector);
        let (own_key, own_value) = (key.clone(), value.clone());
        let supplier: Supplier = Box::new(move |instance| {
            table_node::<K, V>(TableGroup {
                is_versioned: instance.is_parent_versioned(),
                selector: Arc::clone(&selector) as Selector<K, V, L, W>,
                key: own_key.clone(),
                value: own_value.clone(),
            })
        });
        let input = Some(EdgeType::table::<K, V>());
        let output = Some(EdgeType::stream::<L, Grouping<W>>());
        let new = NewNode::new("table-group", vec![self.node], input, output, supplier);
        let grouped = self.builder.stream_handle(new);
        KGroupedTable { grouped, partitioned: Cell::new(None), name, key, value }
    }
}

impl<'b, K: 'static, V: 'static> KGroupedTable<'b, K, V> {
    fn partitioned(&self) -> KStream<'b, K, Grouping<V>> {
        if let Some(stream) = self.partitioned.get() {
            return stream;
        }
        let (stream, value) = (self.grouped, GroupingSerde(self.value.clone()).shared());
        let topic = stream.builder.graph().add_repartition(&self.name, None);
        stream.sink("repartition-sink", topic.clone(), self.key.clone(), value.clone(), true);
        let stream = stream.builder.source(topic, Consumed::with(self.key.clone(), value));
        self.partitioned.set(Some(stream));
        stream
    }

    /// The number of rows of each group. A group that has become empty counts 0.
    pub fn count(&self, materialized: Materialized<i64>) -> KTable<'b, K, i64> {
        let none = || NodeError::message("the count is out of an i64's range");
        let aggregation = TableAggregation {
            adder: Arc::new(move |_, _, n: Option<i64>| {
                n.unwrap_or(0).checked_add(1).ok_or_else(none)
            }),
            subtractor: Arc::new(move |_, _, n: i64| n.checked_sub(1).ok_or_else(none)),
        };
        self.add("table-count", aggregation, materialized)
    }

    /// The first value of each group, then `adder(so far, value)` for each row that comes and
    /// `subtractor(so far, value)` for each that goes.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let balances = b.table("balances", Consumed::with(string(), i64()));
    /// let total = balances
    ///     .group_by(|_, n| ("all".to_owned(), *n), Grouped::with("total", string(), i64()))
    ///     .reduce(|so_far, n| so_far + n, |so_far, n| so_far - n, Materialized::with("sum", i64()));
    /// ```
    pub fn reduce(
        &self,
        adder: impl Fn(&V, &V) -> V + Send + Sync + 'static,
        subtractor: impl Fn(&V, &V) -> V + Send + Sync + 'static,
        materialized: Materialized<V>,
    ) -> KTable<'b, K, V> {
        let serde = self.value.clone();
        let aggregation = TableAggregation {
            adder: Arc::new(move |_, value, so_far: Option<V>| match so_far {
                Some(so_far) => Ok(adder(&so_far, value)),
                // A copy through the serde asks no Clone.
                None => Ok(serde.decode(serde.to_bytes(value)?.as_deref())?),
            }),
            subtractor: Arc::new(move |_, value, so_far: V| Ok(subtractor(&so_far, value))),
        };
        self.add("table-reduce", aggregation, materialized)
    }

    /// `initializer()` for each group, then `adder(key, value, so far)` for each row that comes and
    /// `subtractor(key, value, so far)` for each that goes. An aggregate that its serde takes for
    /// null deletes the group's row.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let stock = b.table("stock", Consumed::with(string(), i64()));
    /// let per_shelf = stock
    ///     .group_by(|item, n| (item[..1].to_owned(), *n), Grouped::with("by-shelf", string(), i64()))
    ///     .aggregate(
    ///         || 0,
    ///         |_, n, so_far| so_far + n,
    ///         |_, n, so_far| so_far - n,
    ///         Materialized::with("per-shelf", i64()),
    ///     );
    /// ```
    pub fn aggregate<A: 'static>(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        adder: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        subtractor: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        materialized: Materialized<A>,
    ) -> KTable<'b, K, A> {
        let aggregation = TableAggregation {
            adder: Arc::new(move |key, value, so_far: Option<A>| {
                Ok(adder(key, value, so_far.unwrap_or_else(&initializer)))
            }),
            subtractor: Arc::new(move |key, value, so_far| Ok(subtractor(key, value, so_far))),
        };
        self.add("table-aggregate", aggregation, materialized)
    }

    fn add<A: 'static>(
        &self,
        operator: &'static str,
        aggregation: TableAggregation<K, V, A>,
        materialized: Materialized<A>,
    ) -> KTable<'b, K, A> {
        let stream = self.partitioned();
        let builder = stream.builder;
        let spec = materialized.store(StoreKind::TimestampedKeyValue, self.key.clone());
        let (store, result) = (builder.graph().add_store(spec), materialized.value);
        let supplier: Supplier = Box::new(move |instance| {
            stream_node::<K, Grouping<V>>(TableAggregate {
                aggregation: aggregation.clone(),
                store: instance.table_store().expect("an aggregation has a store"),
                result: result.clone(),
            })
        });
        let node = builder.graph().nodes.len();
        let mut new = stream.new_node::<K, A>(operator, false, supplier);
        aggregate_table(&mut new, store, self.key.clone(), getter_of::<K, A>(node));
        builder.table_handle(new)
    }
}
