//! Joins of two streams: `JoinWindows`, `StreamJoined` and the verbs.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::options::Repartitioned;
use super::stream::KStream;
use crate::operators::merge::Merge;
use crate::operators::stream_join::{Reach, SideJoiner, StreamJoinSide};
use crate::operators::stream_node;
use crate::processor::drops::OnDropped;
use crate::serde::kafka_streams::JoinSide;
use crate::serde::{Serde, SharedSerde};
use crate::store::{
    JoinWindowStore, StoreHandle, StoreKind, StoreSpec, WaitingKey, WaitingSerde, WaitingStore,
    WaitingValues, WindowSpec,
};
use crate::time::saturating_ms;
use crate::topology::graph::{EdgeType, Graph, NewNode, Supplier};

/// How near to each other two records must be to be joined.
///
/// For a left record at t, right records with times in `[t - before, t + after]` match. Grace is how
/// much longer a left or outer join waits, in the join's time, before it says that there is no match.
///
/// Source: `org.apache.kafka.streams.kstream.JoinWindows` (KIP-633).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinWindows {
    reach: Reach,
}

impl JoinWindows {
    /// Records at most `difference` apart.
    pub fn of(difference: Duration, grace: Duration) -> Self {
        let ms = saturating_ms(difference);
        let grace_ms = saturating_ms(grace);
        Self { reach: Reach { before_ms: ms, after_ms: ms, grace_ms } }
    }

    /// A right record may be this much earlier than a left one.
    #[must_use]
    pub fn before(mut self, before: Duration) -> Self {
        self.reach.before_ms = saturating_ms(before);
        self
    }

    /// A right record may be this much later than a left one.
    #[must_use]
    pub fn after(mut self, after: Duration) -> Self {
        self.reach.after_ms = saturating_ms(after);
        self
    }
}

/// How two streams are joined: the name from which stores and repartition topics are named, and the
/// serdes of both.
#[derive(Debug)]
pub struct StreamJoined<K, V, O> {
    name: String,
    key: SharedSerde<K>,
    value: SharedSerde<V>,
    other: SharedSerde<O>,
    on_dropped: OnDropped,
}

impl<K: 'static, V: 'static, O: 'static> StreamJoined<K, V, O> {
    /// Joined under this name, by these serdes of the key and of both streams' values.
    pub fn with(
        name: &str,
        key: SharedSerde<K>,
        value: SharedSerde<V>,
        other: SharedSerde<O>,
    ) -> Self {
        Self { name: name.to_owned(), key, value, other, on_dropped: OnDropped::Count }
    }

    /// What happens to records that are dropped for a null key or value.
    #[must_use]
    pub fn on_dropped(mut self, on_dropped: OnDropped) -> Self {
        self.on_dropped = on_dropped;
        self
    }
}

/// What both sides of a join are made of, as the left one sees it.
struct Sides<K, V, O, W> {
    left_outer: bool,
    right_outer: bool,
    joiner: SideJoiner<K, V, O, W>,
    reach: Reach,
    joined: StreamJoined<K, V, O>,
}

/// The stores of a join, named as Kafka Streams names those of a join of this name.
struct JoinStores<K, V, O> {
    this: StoreHandle<JoinWindowStore<K, V>>,
    that: StoreHandle<JoinWindowStore<K, O>>,
    waiting: Option<StoreHandle<WaitingStore>>,
    all: Vec<usize>,
}

impl<K: 'static, V: 'static, O: 'static, W: 'static> Sides<K, V, O, W> {
    fn check(&self, graph: &mut Graph) {
        let (name, reach) = (&self.joined.name, self.reach);
        graph.check_name("join", name);
        graph.check_duration("join window before", name, reach.before_ms, 0);
        graph.check_duration("join window after", name, reach.after_ms, 0);
        graph.check_duration("join window grace", name, reach.grace_ms, 0);
    }

    fn add_stores(&self, graph: &mut Graph) -> JoinStores<K, V, O> {
        let (joined, reach) = (&self.joined, self.reach);
        let size_ms = reach.before_ms.saturating_add(reach.after_ms);
        let retention_ms = size_ms.saturating_add(reach.grace_ms);
        let kind = StoreKind::JoinWindow(WindowSpec { size_ms, retention_ms });
        let outer = |outer: bool, yes: &'static str, no: &'static str| if outer { yes } else { no };
        let named =
            |suffix: &str| -> Arc<str> { format!("{}-{suffix}-join-store", joined.name).into() };
        let (key, value) = (joined.key.clone(), joined.value.clone());
        let name = named(outer(self.right_outer, "outer-this", "this"));
        let this = graph.add_store(StoreSpec::new(name, kind, key.clone(), value));
        let name = named(outer(self.left_outer, "outer-other", "other"));
        let that = graph.add_store(StoreSpec::new(name, kind, key, joined.other.clone()));
        let waiting = self.left_outer.then(|| {
            let name = named(outer(self.right_outer, "outer-shared", "left-shared"));
            let key: SharedSerde<WaitingKey> = WaitingSerde.shared();
            let value: SharedSerde<WaitingValues> = WaitingSerde.shared();
            graph.add_store(StoreSpec::new(name, StoreKind::KeyValue, key, value))
        });
        JoinStores {
            this: StoreHandle::new(this, 0),
            that: StoreHandle::new(that, 0),
            waiting: waiting.map(|store| StoreHandle::new(store, 0)),
            all: [this, that].into_iter().chain(waiting).collect(),
        }
    }

    fn left(&self, stores: &JoinStores<K, V, O>) -> Supplier {
        let joined = &self.joined;
        side(StreamJoinSide {
            side: JoinSide::Left,
            outer: self.left_outer,
            reach: self.reach,
            joiner: Arc::clone(&self.joiner),
            own: stores.this,
            others: stores.that,
            waiting: stores.waiting,
            join: joined.name.as_str().into(),
            key: joined.key.clone(),
            value: joined.value.clone(),
            other: joined.other.clone(),
            on_dropped: joined.on_dropped,
            clocks: None,
        })
    }

    fn right(&self, stores: &JoinStores<K, V, O>) -> Supplier {
        let (joined, joiner) = (&self.joined, Arc::clone(&self.joiner));
        side(StreamJoinSide {
            side: JoinSide::Right,
            outer: self.right_outer,
            reach: self.reach,
            joiner: Arc::new(move |key: &K, right: Option<&O>, left: Option<&V>| {
                joiner(key, left, right)
            }),
            own: stores.that,
            others: stores.this,
            waiting: stores.waiting,
            join: joined.name.as_str().into(),
            key: joined.key.clone(),
            value: joined.other.clone(),
            other: joined.value.clone(),
            on_dropped: joined.on_dropped,
            clocks: None,
        })
    }
}

impl<'b, K: 'static, V: 'static> KStream<'b, K, V> {
    /// Joins records of two streams with equal keys whose times are near each other: each pair
    /// once, at the greater of both times. Both sides are kept for before + after + grace in stores
    /// of their own, whose names begin with the join's, and each is repartitioned first if its key
    /// was changed. A null key or value is dropped; a late record is joined as long as its matches
    /// are kept.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # use std::time::Duration;
    /// # let b = StreamsBuilder::new();
    /// # let views = b.stream("views", Consumed::with(string(), string()));
    /// # let clicks = b.stream("clicks", Consumed::with(string(), i64()));
    /// let minute = JoinWindows::of(Duration::from_secs(60), Duration::from_secs(10));
    /// let clicked = views.join_stream(
    ///     clicks,
    ///     |_, view, click| format!("{view}: {click}"),
    ///     minute.before(Duration::ZERO),
    ///     StreamJoined::with("views-clicks", string(), string(), i64()),
    /// );
    /// ```
    pub fn join_stream<O: 'static, W: 'static>(
        self,
        other: KStream<'b, K, O>,
        joiner: impl Fn(&K, &V, &O) -> W + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, O>,
    ) -> KStream<'b, K, W> {
        let joiner = Arc::new(move |key: &K, left: Option<&V>, right: Option<&O>| {
            let pair = left.zip(right).expect("an inner join has both");
            joiner(key, pair.0, pair.1)
        });
        let (left_outer, right_outer, reach) = (false, false, windows.reach);
        self.stream_join(other, Sides { left_outer, right_outer, joiner, reach, joined })
    }

    /// As [`join_stream`](Self::join_stream), and each left record without a match is joined with
    /// none, at its own time: when no match can come any more and grace has passed, by records of
    /// either side. A late record whose time to wait is over is joined with none at once. A left
    /// record without a key is joined with none.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # use std::time::Duration;
    /// # let b = StreamsBuilder::new();
    /// # let orders = b.stream("orders", Consumed::with(string(), i64()));
    /// # let payments = b.stream("payments", Consumed::with(string(), i64()));
    /// let unpaid = orders
    ///     .left_join_stream(
    ///         payments,
    ///         |_, due, paid| due - paid.unwrap_or(&0),
    ///         JoinWindows::of(Duration::from_secs(3600), Duration::ZERO),
    ///         StreamJoined::with("orders-payments", string(), i64(), i64()),
    ///     )
    ///     .filter(|_, open| *open > 0);
    /// ```
    pub fn left_join_stream<O: 'static, W: 'static>(
        self,
        other: KStream<'b, K, O>,
        joiner: impl Fn(&K, &V, Option<&O>) -> W + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, O>,
    ) -> KStream<'b, K, W> {
        let joiner = Arc::new(move |key: &K, left: Option<&V>, right: Option<&O>| {
            joiner(key, left.expect("a left join has the left record"), right)
        });
        let (left_outer, right_outer, reach) = (true, false, windows.reach);
        self.stream_join(other, Sides { left_outer, right_outer, joiner, reach, joined })
    }

    /// As [`left_join_stream`](Self::left_join_stream), for both sides: the joiner has one or both.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # use std::time::Duration;
    /// # let b = StreamsBuilder::new();
    /// # let sent = b.stream("sent", Consumed::with(string(), i64()));
    /// # let seen = b.stream("seen", Consumed::with(string(), i64()));
    /// let lost_or_unknown = sent
    ///     .outer_join_stream(
    ///         seen,
    ///         |_, sent, seen| sent.is_some() != seen.is_some(),
    ///         JoinWindows::of(Duration::from_secs(30), Duration::from_secs(5)),
    ///         StreamJoined::with("sent-seen", string(), i64(), i64()),
    ///     )
    ///     .filter(|_, odd| *odd);
    /// ```
    pub fn outer_join_stream<O: 'static, W: 'static>(
        self,
        other: KStream<'b, K, O>,
        joiner: impl Fn(&K, Option<&V>, Option<&O>) -> W + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, O>,
    ) -> KStream<'b, K, W> {
        let (left_outer, right_outer, reach) = (true, true, windows.reach);
        let joiner = Arc::new(joiner);
        self.stream_join(other, Sides { left_outer, right_outer, joiner, reach, joined })
    }

    fn stream_join<O: 'static, W: 'static>(
        self,
        other: KStream<'b, K, O>,
        sides: Sides<K, V, O, W>,
    ) -> KStream<'b, K, W> {
        let builder = self.builder;
        if !self.has_builder("join", other.builder) {
            return KStream { builder, node: usize::MAX, _types: PhantomData };
        }
        let StreamJoined { name, key, value, other: other_value, .. } = &sides.joined;
        let left = self.partitioned_as(&format!("{name}-left"), key, value);
        let right = other.partitioned_as(&format!("{name}-right"), key, other_value);
        sides.check(&mut builder.graph());
        let stores = sides.add_stores(&mut builder.graph());
        let mut new = left.new_node::<K, W>("stream-join-this", false, sides.left(&stores));
        new.stores.clone_from(&stores.all);
        new.clocks = 3;
        new.joins_null_keys = sides.left_outer;
        let this = builder.graph().add(new);
        let mut new = right.new_node::<K, W>("stream-join-other", false, sides.right(&stores));
        new.stores = stores.all;
        new.joins_null_keys = sides.left_outer;
        let that = builder.graph().add(new);
        let edge = Some(EdgeType::stream::<K, W>());
        let supplier: Supplier = Box::new(|_| stream_node::<K, W>(Merge));
        let mut merged = NewNode::new("stream-join", vec![this, that], edge, edge, supplier);
        merged.name = Some(sides.joined.name);
        builder.stream_handle(merged)
    }

    /// This stream, through a repartition topic of this name if its key was changed.
    fn partitioned_as(self, name: &str, key: &SharedSerde<K>, value: &SharedSerde<V>) -> Self {
        if self.key_changed() {
            self.repartition(Repartitioned::with(name, key.clone(), value.clone()))
        } else {
            self
        }
    }
}

fn side<K: 'static, V: 'static, O: 'static, W: 'static>(
    side: StreamJoinSide<K, V, O, W>,
) -> Supplier {
    Box::new(move |_| stream_node::<K, V>(side.clone()))
}
