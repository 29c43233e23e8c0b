//! Options of the DSL's verbs: serdes, names, caching. By struct, never by overload.

use std::sync::Arc;
use std::time::Duration;

use crate::operators::source::Extractor;
use crate::processor::drops::OnDropped;
use crate::serde::{DefaultSerde, SharedSerde, serdes};
use crate::store::{StoreKind, StoreSpec};
use crate::time::saturating_ms;

/// How a topic is read.
pub struct Consumed<K, V> {
    pub(super) key: SharedSerde<K>,
    pub(super) value: SharedSerde<V>,
    pub(super) extractor: Option<Extractor<K, V>>,
    pub(super) on_dropped: OnDropped,
    pub(super) cached: bool,
}

impl<K, V> std::fmt::Debug for Consumed<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumed").field("on_dropped", &self.on_dropped).finish_non_exhaustive()
    }
}

impl<K: 'static, V: 'static> Consumed<K, V> {
    /// Reads keys and values by these serdes, times as the log has them.
    pub fn with(key: SharedSerde<K>, value: SharedSerde<V>) -> Self {
        Self { key, value, extractor: None, on_dropped: OnDropped::Count, cached: false }
    }

    /// Should a table read from this topic have to keep rows without a store of its own, it emits
    /// on commit: see [`Materialized::cached`].
    #[must_use]
    pub fn cached(mut self) -> Self {
        self.cached = true;
        self
    }

    /// Takes each record's time from `extractor(key, value, time in the log)`, in milliseconds.
    /// A negative time, or one too far in the future, fails the record. The record is read once
    /// more for it.
    #[must_use]
    pub fn timestamp_extractor(
        mut self,
        extractor: impl Fn(&K, &V, i64) -> i64 + Send + Sync + 'static,
    ) -> Self {
        self.extractor = Some(Arc::new(move |key, value, time, _| extractor(key, value, time)));
        self
    }

    /// What happens to records that are dropped for a null key or value.
    #[must_use]
    pub fn on_dropped(mut self, on_dropped: OnDropped) -> Self {
        self.on_dropped = on_dropped;
        self
    }
}

impl<K: DefaultSerde, V: DefaultSerde> Default for Consumed<K, V> {
    fn default() -> Self {
        Self::with(K::default_serde(), V::default_serde())
    }
}

/// How a topic is written.
#[derive(Debug)]
pub struct Produced<K, V> {
    pub(super) key: SharedSerde<K>,
    pub(super) value: SharedSerde<V>,
}

impl<K: 'static, V: 'static> Produced<K, V> {
    /// Writes keys and values by these serdes.
    pub fn with(key: SharedSerde<K>, value: SharedSerde<V>) -> Self {
        Self { key, value }
    }
}

impl<K: DefaultSerde, V: DefaultSerde> Default for Produced<K, V> {
    fn default() -> Self {
        Self::with(K::default_serde(), V::default_serde())
    }
}

/// How a stream is grouped: the name of its repartition topic, should it need one, and serdes.
#[derive(Debug)]
pub struct Grouped<K, V> {
    pub(super) name: String,
    pub(super) key: SharedSerde<K>,
    pub(super) value: SharedSerde<V>,
    pub(super) on_dropped: OnDropped,
}

impl<K: 'static, V: 'static> Grouped<K, V> {
    /// Grouped under this name, written and read back by these serdes.
    pub fn with(name: &str, key: SharedSerde<K>, value: SharedSerde<V>) -> Self {
        Self { name: name.to_owned(), key, value, on_dropped: OnDropped::Count }
    }

    /// What happens to records that the aggregation drops: null keys or values, late ones.
    #[must_use]
    pub fn on_dropped(mut self, on_dropped: OnDropped) -> Self {
        self.on_dropped = on_dropped;
        self
    }
}

/// How a stream goes through a topic of its own.
#[derive(Debug)]
pub struct Repartitioned<K, V> {
    pub(super) name: String,
    pub(super) key: SharedSerde<K>,
    pub(super) value: SharedSerde<V>,
    pub(super) partitions: Option<u32>,
}

impl<K: 'static, V: 'static> Repartitioned<K, V> {
    /// Through `<application>-<name>-repartition`.
    pub fn with(name: &str, key: SharedSerde<K>, value: SharedSerde<V>) -> Self {
        Self { name: name.to_owned(), key, value, partitions: None }
    }

    /// With this many partitions; else as many as the inputs before it have.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = Some(partitions);
        self
    }
}

/// How a stream becomes a table: a name for the store and the repartition topic it may need, and
/// serdes.
#[derive(Debug)]
pub struct Tabled<K, V> {
    pub(super) name: String,
    pub(super) key: SharedSerde<K>,
    pub(super) value: SharedSerde<V>,
    pub(super) cached: bool,
    pub(super) on_dropped: OnDropped,
}

impl<K: 'static, V: 'static> Tabled<K, V> {
    /// A table under this name, rows by these serdes.
    pub fn with(name: &str, key: SharedSerde<K>, value: SharedSerde<V>) -> Self {
        Self { name: name.to_owned(), key, value, cached: false, on_dropped: OnDropped::Count }
    }

    /// Should the table have to keep rows without a store of its own, it emits on commit: see
    /// [`Materialized::cached`].
    #[must_use]
    pub fn cached(mut self) -> Self {
        self.cached = true;
        self
    }

    /// What happens to records that are dropped for a null key.
    #[must_use]
    pub fn on_dropped(mut self, on_dropped: OnDropped) -> Self {
        self.on_dropped = on_dropped;
        self
    }
}

/// How a stream is joined with a table.
#[derive(Debug)]
pub struct Joined<K, V> {
    pub(super) name: String,
    pub(super) key: SharedSerde<K>,
    pub(super) value: SharedSerde<V>,
    pub(super) on_dropped: OnDropped,
    pub(super) grace_ms: Option<i64>,
}

impl<K: 'static, V: 'static> Joined<K, V> {
    /// Joined under this name; the stream's serdes, for the repartition topic it may need and to
    /// tell nulls.
    pub fn with(name: &str, key: SharedSerde<K>, value: SharedSerde<V>) -> Self {
        let (name, on_dropped) = (name.to_owned(), OnDropped::Count);
        Self { name, key, value, on_dropped, grace_ms: None }
    }

    /// Stream records wait for rows that come late until stream time is this far past them, in a
    /// store of the join's name; then they join, by time. The table must be
    /// [`versioned`](Materialized::versioned), with a history that is at least as long.
    ///
    /// Source: `Joined.withGracePeriod` (KIP-923).
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace_ms = Some(saturating_ms(grace));
        self
    }

    /// What happens to records that are dropped for a null key or value.
    #[must_use]
    pub fn on_dropped(mut self, on_dropped: OnDropped) -> Self {
        self.on_dropped = on_dropped;
        self
    }
}

/// How two tables are joined.
#[derive(Debug)]
pub struct TableJoined {
    pub(super) name: String,
}

impl TableJoined {
    /// Joined under this name.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned() }
    }
}

/// A named, queryable store for a table's rows, and their serde.
#[derive(Debug)]
pub struct Materialized<V> {
    pub(super) name: String,
    pub(super) value: SharedSerde<V>,
    pub(super) cached: bool,
    pub(super) retention_ms: Option<i64>,
    pub(super) history_ms: Option<i64>,
}

impl<V: 'static> Materialized<V> {
    /// Kept in the store of this name, rows by this serde.
    pub fn with(name: &str, value: SharedSerde<V>) -> Self {
        Self { name: name.to_owned(), value, cached: false, retention_ms: None, history_ms: None }
    }

    /// Emits on commit: changes are forwarded at the commit, one for each key that changed, from
    /// its row at the last commit to its row now. Without it every update is forwarded at once.
    #[must_use]
    pub fn cached(mut self) -> Self {
        self.cached = true;
        self
    }

    /// Keeps the values that each key had, and since when, for this long behind the greatest time
    /// put. A join with a stream then finds the row that was valid at the stream record's time; rows
    /// may come late. For tables read from a topic or made from a stream, or filtered or mapped;
    /// such a store is never cached.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # use std::time::Duration;
    /// # let b = StreamsBuilder::new();
    /// let prices = b.table("prices", Consumed::with(string(), i64())).materialized(
    ///     Materialized::with("price-history", i64()).versioned(Duration::from_secs(3600)),
    /// );
    /// ```
    ///
    /// Source: `Stores.persistentVersionedKeyValueStore` (KIP-889, KIP-914).
    #[must_use]
    pub fn versioned(mut self, history: Duration) -> Self {
        self.history_ms = Some(saturating_ms(history));
        self
    }

    /// How long windows can be read, in the store's time; by default their size + grace.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention_ms = Some(saturating_ms(retention));
        self
    }

    /// The store, of this kind and with these keys.
    pub(super) fn store<K: 'static>(&self, kind: StoreKind, key: SharedSerde<K>) -> StoreSpec {
        let mut spec = StoreSpec::new(self.name.as_str(), kind, key, self.value.clone());
        spec.cached = self.cached && kind.can_be_cached();
        spec
    }
}

impl Materialized<i64> {
    /// A store for counts.
    pub fn count(name: &str) -> Self {
        Self::with(name, serdes::i64())
    }
}
