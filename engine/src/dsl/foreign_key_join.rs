//! Joins of two tables by a foreign key: `KTable::foreign_key_join`, `foreign_key_left_join`.

use std::sync::Arc;

use super::options::{Consumed, Tabled};
use super::stream::KStream;
use super::table::{KTable, getter};
use crate::operators::foreign_key_join::{
    Answer, AnswerChange, AnswerSubscription, Asked, ForeignJoiner, ForeignKey, MessageSerde,
    Resolve, Subscribe, SubscriptionStore,
};
use crate::operators::{stream_node, table_node};
use crate::processor::drops::OnDropped;
use crate::serde::{Serde, SharedSerde, serdes};
use crate::store::{StoreHandle, StoreKind, StoreSpec};
use crate::topology::Mistake;
use crate::topology::graph::{EdgeType, NewNode, Supplier};

/// How two tables are joined by a foreign key: the name from which the two internal topics and the
/// store of subscriptions are named, and the serdes of both tables' rows and of the result.
#[derive(Debug)]
pub struct ForeignKeyJoined<V, O, W> {
    name: String,
    value: SharedSerde<V>,
    other: SharedSerde<O>,
    result: SharedSerde<W>,
    on_dropped: OnDropped,
    cached: bool,
}

impl<V: 'static, O: 'static, W: 'static> ForeignKeyJoined<V, O, W> {
    /// Joined under this name. Equal left rows must have equal bytes by `value`, which tells an
    /// answer that was overtaken by a change (so no map without an order).
    pub fn with(
        name: &str,
        value: SharedSerde<V>,
        other: SharedSerde<O>,
        result: SharedSerde<W>,
    ) -> Self {
        let (on_dropped, cached) = (OnDropped::Count, false);
        Self { name: name.to_owned(), value, other, result, on_dropped, cached }
    }

    /// What happens to a record of an inner join whose row names no foreign key.
    #[must_use]
    pub fn on_dropped(mut self, on_dropped: OnDropped) -> Self {
        self.on_dropped = on_dropped;
        self
    }

    /// Should the result have to keep rows without a store of its own, it emits on commit: see
    /// [`Materialized::cached`](super::Materialized::cached).
    #[must_use]
    pub fn cached(mut self) -> Self {
        self.cached = true;
        self
    }
}

/// A join by foreign key, before it is taken apart into nodes.
struct ForeignKeyJoin<K, V, L, O, W> {
    left: bool,
    foreign_key: ForeignKey<K, V, L>,
    joiner: ForeignJoiner<V, O, W>,
    joined: ForeignKeyJoined<V, O, W>,
    key: SharedSerde<K>,
    foreign: SharedSerde<L>,
}

impl<'b, K: 'static, V: 'static> KTable<'b, K, V> {
    /// Joins each row with the row of `other` whose key it names; a change of either side changes
    /// the result. The tables need not be co-partitioned: they talk through the internal topics
    /// `<application>-<name>-subscription-registration-topic` and `..-subscription-response-topic`.
    /// A row that names no key has no result.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let album_of_track = b.table("tracks", Consumed::with(string(), string()));
    /// # let albums = b.table("albums", Consumed::with(string(), i64()));
    /// let year_of_track = album_of_track.foreign_key_join(
    ///     albums,
    ///     |_, album| Some(album.clone()),
    ///     |album, year| format!("{album}, {year}"),
    ///     ForeignKeyJoined::with("tracks-albums", string(), i64(), string()),
    /// );
    /// ```
    pub fn foreign_key_join<L: 'static, O: 'static, W: 'static>(
        self,
        other: KTable<'b, L, O>,
        foreign_key: impl Fn(&K, &V) -> Option<L> + Send + Sync + 'static,
        joiner: impl Fn(&V, &O) -> W + Send + Sync + 'static,
        joined: ForeignKeyJoined<V, O, W>,
    ) -> KTable<'b, K, W> {
        let joiner = move |row: &V, other: Option<&O>| {
            joiner(row, other.expect("an inner join has both rows"))
        };
        self.join_by(other, false, foreign_key, joiner, joined)
    }

    /// Joins each row with the row of `other` whose key it names, or with none if it names none or
    /// there is no such row. See [`foreign_key_join`](Self::foreign_key_join).
    pub fn foreign_key_left_join<L: 'static, O: 'static, W: 'static>(
        self,
        other: KTable<'b, L, O>,
        foreign_key: impl Fn(&K, &V) -> Option<L> + Send + Sync + 'static,
        joiner: impl Fn(&V, Option<&O>) -> W + Send + Sync + 'static,
        joined: ForeignKeyJoined<V, O, W>,
    ) -> KTable<'b, K, W> {
        self.join_by(other, true, foreign_key, joiner, joined)
    }

    fn join_by<L: 'static, O: 'static, W: 'static>(
        self,
        other: KTable<'b, L, O>,
        left: bool,
        foreign_key: impl Fn(&K, &V) -> Option<L> + Send + Sync + 'static,
        joiner: impl Fn(&V, Option<&O>) -> W + Send + Sync + 'static,
        joined: ForeignKeyJoined<V, O, W>,
    ) -> KTable<'b, K, W> {
        let b = self.builder;
        if !std::ptr::eq(b, other.builder) {
            let operator = "foreign-key join";
            b.graph().mistakes.push(Mistake::ForeignBuilder { operator });
            // The build fails; until then the handle needs a node of its types.
            return self.filter_map_values(|_, _| None);
        }
        // A left row ends its subscription by its old value; and both sides are looked up.
        b.graph().enable_old_values(other.node, true);
        b.graph().enable_old_values(self.node, true);
        let key = b.graph().key_serde::<K>(self.node);
        let foreign = b.graph().key_serde::<L>(other.node);
        let (foreign_key, joiner) = (Arc::new(foreign_key), Arc::new(joiner));
        let join = ForeignKeyJoin { left, foreign_key, joiner, joined, key, foreign };
        let asked = join.subscribe(self);
        let answered = join.respond(other, asked);
        join.resolve(self, answered)
    }
}

impl<K: 'static, V: 'static, L: 'static, O: 'static, W: 'static> ForeignKeyJoin<K, V, L, O, W> {
    /// The left side's subscriptions, as the right side reads them.
    fn subscribe<'b>(&self, table: KTable<'b, K, V>) -> KStream<'b, Option<L>, Asked> {
        let b = table.builder;
        let (foreign_key, left) = (Arc::clone(&self.foreign_key), self.left);
        let (key, value, foreign) =
            (self.key.clone(), self.joined.value.clone(), self.foreign.clone());
        let on_dropped = self.joined.on_dropped;
        let supplier: Supplier = Box::new(move |_| {
            table_node::<K, V>(Subscribe {
                foreign_key: Arc::clone(&foreign_key),
                left,
                key: key.clone(),
                value: value.clone(),
                foreign: foreign.clone(),
                on_dropped,
            })
        });
        let input = Some(EdgeType::table::<K, V>());
        let output = Some(EdgeType::stream::<Option<L>, Asked>());
        let new = NewNode::new("foreign-key-subscribe", vec![table.node], input, output, supplier);
        let asked: KStream<'b, Option<L>, Asked> = b.stream_handle(new);
        let name = format!("{}-subscription-registration-topic", self.joined.name);
        let topic = b.graph().add_internal_topic(&name);
        let key = serdes::optional(self.foreign.clone());
        let value: SharedSerde<Asked> = MessageSerde.shared();
        let sink = "subscription-sink";
        asked.sink(sink, topic.clone(), key.clone(), value.clone(), false);
        b.source(topic, Consumed::with(key, value))
    }

    /// The right side's answers, as the left side reads them.
    fn respond<'b>(
        &self,
        table: KTable<'b, L, O>,
        asked: KStream<'b, Option<L>, Asked>,
    ) -> KStream<'b, K, Answer> {
        let b = table.builder;
        let rows = getter::<L, O>(&mut b.graph(), table.node);
        let store = b.graph().add_store(StoreSpec::new(
            format!("{}-subscription-store", self.joined.name),
            StoreKind::TimestampedKeyValue,
            serdes::byte_vec(),
            Serde::<Asked>::shared(MessageSerde),
        ));
        let handle = StoreHandle::<SubscriptionStore>::new(store, 0);
        let (foreign, value) = (self.foreign.clone(), self.joined.other.clone());
        let on_dropped = self.joined.on_dropped;
        let supplier: Supplier = Box::new(move |instance| {
            stream_node::<Option<L>, Asked>(AnswerSubscription {
                store: handle,
                rows: rows(instance.graph),
                foreign: foreign.clone(),
                value: value.clone(),
                on_dropped,
            })
        });
        let output = EdgeType::stream::<Vec<u8>, Answer>();
        let mut new = asked.new_node::<Vec<u8>, Answer>("foreign-key-answer", false, supplier);
        new.stores = b.graph().lookup_stores(table.node);
        new.stores.push(store);
        let answers = b.graph().add(new);

        let (foreign, value) = (self.foreign.clone(), self.joined.other.clone());
        let supplier: Supplier = Box::new(move |_| {
            table_node::<L, O>(AnswerChange {
                store: handle,
                foreign: foreign.clone(),
                value: value.clone(),
            })
        });
        let input = Some(EdgeType::table::<L, O>());
        let parents = vec![table.node];
        let mut new = NewNode::new("foreign-key-change", parents, input, Some(output), supplier);
        new.stores = vec![store];
        let changes = b.graph().add(new);

        let name = format!("{}-subscription-response-topic", self.joined.name);
        let topic = b.graph().add_internal_topic(&name);
        let value: SharedSerde<Answer> = MessageSerde.shared();
        let partition = Arc::new(|answer: &Answer| answer.primary_partition);
        KStream::sink_of(
            b,
            "response-sink",
            vec![answers, changes],
            topic.clone(),
            (serdes::byte_vec(), value.clone()),
            partition,
        );
        b.source(topic, Consumed::with(self.key.clone(), value))
    }

    /// The result.
    fn resolve<'b>(
        self,
        table: KTable<'b, K, V>,
        answered: KStream<'b, K, Answer>,
    ) -> KTable<'b, K, W> {
        let b = table.builder;
        let rows = getter::<K, V>(&mut b.graph(), table.node);
        let ForeignKeyJoined { name, value, other, result, on_dropped, cached } = self.joined;
        let (joiner, left, row) = (self.joiner, self.left, result.clone());
        let supplier: Supplier = Box::new(move |instance| {
            stream_node::<K, Answer>(Resolve {
                rows: rows(instance.graph),
                joiner: Arc::clone(&joiner),
                left,
                value: value.clone(),
                other: other.clone(),
                result: row.clone(),
            })
        });
        let mut new = answered.new_node::<K, Option<W>>("foreign-key-resolve", false, supplier);
        new.stores = b.graph().lookup_stores(table.node);
        let resolved: KStream<'b, K, Option<W>> = b.stream_handle(new);
        let tabled = Tabled::with(&name, self.key, result).on_dropped(on_dropped);
        resolved.to_table(if cached { tabled.cached() } else { tabled }).named(&name)
    }
}
