//! Joins of two tables by key: `KTable::join`, `left_join`, `outer_join`.

use std::sync::Arc;

use super::options::TableJoined;
use super::table::{GetterSupplier, KTable, getter};
use crate::operators::table_join::{JoinGetter, JoinResult, RowJoiner, TableJoinSide};
use crate::operators::table_node;
use crate::processor::getter::ValueGetter;
use crate::topology::Mistake;
use crate::topology::graph::{EdgeType, Graph, NewNode, Supplier, TableKind};

/// Which rows a join of two tables needs for a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    /// Both.
    Inner,
    /// The left one.
    Left,
    /// Either.
    Outer,
}

impl<'b, K: 'static, V: 'static> KTable<'b, K, V> {
    /// Joins rows with equal keys; a change of either side changes the result. Both tables must be
    /// co-partitioned. Neither need be materialised: rows are looked up through filters and
    /// mappings, down to a store.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let prices = b.table("prices", Consumed::with(string(), i64()));
    /// # let stock = b.table("stock", Consumed::with(string(), i64()));
    /// let worth = prices.join(stock, |price, n| price * n, TableJoined::named("worth"));
    /// ```
    pub fn join<R: 'static, W: 'static>(
        self,
        other: KTable<'b, K, R>,
        joiner: impl Fn(&V, &R) -> W + Send + Sync + 'static,
        joined: TableJoined,
    ) -> KTable<'b, K, W> {
        let joiner = move |l: Option<&V>, r: Option<&R>| Some(joiner(l?, r?));
        self.join_rows(JoinKind::Inner, other, joiner, joined)
    }

    /// Joins each row with the other table's row of its key, or with none.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let users = b.table("users", Consumed::with(string(), string()));
    /// # let visits = b.table("visits", Consumed::with(string(), i64()));
    /// let shown = users.left_join(
    ///     visits,
    ///     |name, n| format!("{name}: {}", n.unwrap_or(&0)),
    ///     TableJoined::named("users-visits"),
    /// );
    /// ```
    pub fn left_join<R: 'static, W: 'static>(
        self,
        other: KTable<'b, K, R>,
        joiner: impl Fn(&V, Option<&R>) -> W + Send + Sync + 'static,
        joined: TableJoined,
    ) -> KTable<'b, K, W> {
        let joiner = move |l: Option<&V>, r: Option<&R>| Some(joiner(l?, r));
        self.join_rows(JoinKind::Left, other, joiner, joined)
    }

    /// Joins rows of either table with the other's row of their key, or with none; the joiner has
    /// one row or both.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let credit = b.table("credit", Consumed::with(string(), i64()));
    /// # let debit = b.table("debit", Consumed::with(string(), i64()));
    /// let balance = credit.outer_join(
    ///     debit,
    ///     |credit, debit| credit.unwrap_or(&0) - debit.unwrap_or(&0),
    ///     TableJoined::named("balance"),
    /// );
    /// ```
    pub fn outer_join<R: 'static, W: 'static>(
        self,
        other: KTable<'b, K, R>,
        joiner: impl Fn(Option<&V>, Option<&R>) -> W + Send + Sync + 'static,
        joined: TableJoined,
    ) -> KTable<'b, K, W> {
        self.join_rows(JoinKind::Outer, other, move |l, r| Some(joiner(l, r)), joined)
    }

    /// As [`join`](Self::join), [`left_join`](Self::left_join) or [`outer_join`](Self::outer_join),
    /// by a joiner that may find that rows which are there give no row (a joiner of Kafka Streams
    /// that returns null). It is asked only where the kind of join has the rows it needs.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let limits = b.table("limits", Consumed::with(string(), i64()));
    /// # let usage = b.table("usage", Consumed::with(string(), i64()));
    /// let over = limits.join_rows(
    ///     JoinKind::Inner,
    ///     usage,
    ///     |limit, used| Some(used? - limit?).filter(|over| *over > 0),
    ///     TableJoined::named("over-limit"),
    /// );
    /// ```
    pub fn join_rows<R: 'static, W: 'static>(
        self,
        kind: JoinKind,
        other: KTable<'b, K, R>,
        joiner: impl Fn(Option<&V>, Option<&R>) -> Option<W> + Send + Sync + 'static,
        joined: TableJoined,
    ) -> KTable<'b, K, W> {
        let b = self.builder;
        if !std::ptr::eq(b, other.builder) {
            b.graph().mistakes.push(Mistake::ForeignBuilder { operator: "join" });
            // The build fails; until then the handle needs a node of its types.
            return self.filter_map_values(|_, _| None);
        }
        b.graph().check_name("join", &joined.name);
        // A side that may go without the other row tells a deletion of nothing by the old row.
        if kind != JoinKind::Inner {
            b.graph().enable_old_values(self.node, true);
        }
        if kind == JoinKind::Outer {
            b.graph().enable_old_values(other.node, true);
        }
        let joiner: RowJoiner<V, R, W> = Arc::new(move |l: Option<&V>, r: Option<&R>| {
            let has_rows = match kind {
                JoinKind::Inner => l.is_some() && r.is_some(),
                JoinKind::Left => l.is_some(),
                JoinKind::Outer => l.is_some() || r.is_some(),
            };
            if has_rows { joiner(l, r) } else { None }
        });
        let turned = Arc::clone(&joiner);
        let turned: RowJoiner<R, V, W> = Arc::new(move |r, l| turned(l, r));
        let left = getter::<K, V>(&mut b.graph(), self.node);
        let right = getter::<K, R>(&mut b.graph(), other.node);
        let result = b.graph().nodes.len() + 2;
        let stores = {
            let graph = b.graph();
            [graph.lookup_stores(self.node), graph.lookup_stores(other.node)].concat()
        };
        let needs = kind == JoinKind::Inner;
        let this = join_side(&right, &joiner, needs, result);
        let that = join_side(&left, &turned, kind != JoinKind::Outer, result);
        let output = Some(EdgeType::table::<K, W>());
        let side = |operator, parent: usize, from: EdgeType, supplier| {
            let mut new = NewNode::new(operator, vec![parent], Some(from), output, supplier);
            new.stores.clone_from(&stores);
            b.graph().add(new)
        };
        let this = side("table-join-this", self.node, EdgeType::table::<K, V>(), this);
        let that = side("table-join-other", other.node, EdgeType::table::<K, R>(), that);

        let supplier: Supplier =
            Box::new(|instance| table_node::<K, W>(JoinResult(instance.table_store())));
        let derived = move |graph: &Graph| {
            let (left, right, joiner) = (left(graph), right(graph), Arc::clone(&joiner));
            Box::new(JoinGetter { left, right, joiner }) as Box<dyn ValueGetter<K, W>>
        };
        let mut new = NewNode::new("table-join", vec![this, that], output, output, supplier);
        new.name = Some(joined.name);
        new.table = Some(self.table_info(TableKind::Join(self.node, other.node), false, derived));
        b.table_handle(new)
    }
}

/// The node of one side, which looks rows up in the other table; `result` is where both meet.
fn join_side<K: 'static, V: 'static, O: 'static, W: 'static>(
    other: &GetterSupplier<K, O>,
    joiner: &RowJoiner<V, O, W>,
    needs_other: bool,
    result: usize,
) -> Supplier {
    let (other, joiner) = (Arc::clone(other), Arc::clone(joiner));
    Box::new(move |instance| {
        table_node::<K, V>(TableJoinSide {
            other: other(instance.graph),
            joiner: Arc::clone(&joiner),
            needs_other,
            is_versioned: instance.is_parent_versioned(),
            sends_old: instance.graph.table(result).sends_old,
        })
    })
}
