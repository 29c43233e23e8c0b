//! `KTable::suppress` and its options.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::table::{GetterSupplier, KTable, getter};
use crate::operators::suppress::{Bound, Policy, Suppress, SuppressGetter, WindowEnd};
use crate::operators::table_node;
use crate::processor::getter::ValueGetter;
use crate::record::Windowed;
use crate::serde::SharedSerde;
use crate::store::{StoreHandle, StoreKind, StoreSpec};
use crate::time::saturating_ms;
use crate::topology::Mistake;
use crate::topology::graph::{EdgeType, Graph, NewNode, Supplier, Table, TableKind};

/// Which changes of a table wait, and for how long. The name is that of the buffer they wait in: a
/// store with a changelog, so that what waits survives a restart.
///
/// Source: `org.apache.kafka.streams.kstream.Suppressed` (KIP-328).
pub struct Suppressed<K, V> {
    name: String,
    value: SharedSerde<V>,
    window_end: Option<WindowEnd<K>>,
    limit_ms: i64,
    bound: Bound,
}

impl<K, V> fmt::Debug for Suppressed<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suppressed").field("name", &self.name).finish_non_exhaustive()
    }
}

const UNBOUNDED: Bound = Bound { records: u64::MAX, bytes: u64::MAX };

impl<K: 'static, V: 'static> Suppressed<Windowed<K>, V> {
    /// The result of each window, once it has closed, and no update before. What a window had and
    /// lost again is never seen.
    pub fn until_window_closes(name: &str, value: SharedSerde<V>) -> Self {
        let window_end: WindowEnd<Windowed<K>> = Arc::new(|key| key.window.end);
        let name = name.to_owned();
        Self { name, value, window_end: Some(window_end), limit_ms: 0, bound: UNBOUNDED }
    }
}

impl<K: 'static, V: 'static> Suppressed<K, V> {
    /// At most one change of each key in each time of this length, in stream time: the latest.
    pub fn until_time_limit(name: &str, limit: Duration, value: SharedSerde<V>) -> Self {
        let (name, limit_ms) = (name.to_owned(), saturating_ms(limit));
        Self { name, value, window_end: None, limit_ms, bound: UNBOUNDED }
    }

    /// No more keys than this wait. Over it the earliest go early; if they wait for their windows
    /// to close, which cannot be early, the record fails.
    #[must_use]
    pub fn max_records(mut self, records: u64) -> Self {
        self.bound.records = records;
        self
    }

    /// No more bytes than this wait, in keys and changes; over it, as
    /// [`max_records`](Self::max_records).
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.bound.bytes = bytes;
        self
    }
}

impl<'b, K: 'static, V: 'static> KTable<'b, K, V> {
    /// Holds changes back: until their window closes, or for a time. A change of a key that waits
    /// takes the place of the one before it.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # use std::time::Duration;
    /// # let b = StreamsBuilder::new();
    /// # let clicks = b.stream("clicks", Consumed::with(string(), string()));
    /// let minute = TimeWindows::tumbling(Duration::from_secs(60), Duration::from_secs(5));
    /// let finals = clicks
    ///     .group_by_key(Grouped::with("by-user", string(), string()))
    ///     .windowed_by(minute)
    ///     .count(Materialized::count("clicks-per-minute"))
    ///     .suppress(Suppressed::until_window_closes("final-clicks", i64()));
    /// ```
    #[must_use]
    pub fn suppress(self, suppressed: Suppressed<K, V>) -> Self {
        let Suppressed { name, value, window_end, limit_ms, bound } = suppressed;
        let b = self.builder;
        let mut graph = b.graph();
        graph.check_duration("time limit of suppress", &name, limit_ms, 0);
        let wait_ms = match (&window_end, graph.closes_after_ms(self.node)) {
            (None, _) => limit_ms,
            (Some(_), Some(closes_after_ms)) => closes_after_ms,
            (Some(_), None) => {
                graph.mistakes.push(Mistake::NoWindows { node: name.clone() });
                0
            }
        };
        graph.enable_old_values(self.node, true);
        let key = graph.key_serde::<K>(self.node);
        let kind = StoreKind::SuppressBuffer;
        let store = graph.add_store(StoreSpec::new(name.as_str(), kind, key.clone(), value));
        let parent: GetterSupplier<K, V> = getter(&mut graph, self.node);
        let lookups = graph.lookup_stores(self.node);
        drop(graph);
        let policy = Policy { window_end, wait_ms, bound };
        let supplier: Supplier = Box::new(move |instance| {
            table_node::<K, V>(Suppress {
                policy: policy.clone(),
                buffer: StoreHandle::new(store, 0),
                sends_old: instance.sends_old(),
                clock: None,
            })
        });
        let rows: GetterSupplier<K, V> = Arc::new(move |graph: &Graph| {
            let (parent, buffer) = (parent(graph), StoreHandle::new(store, 0));
            Box::new(SuppressGetter { parent, buffer }) as Box<dyn ValueGetter<K, V>>
        });
        let edge = Some(EdgeType::table::<K, V>());
        let mut new = NewNode::new("suppress", vec![self.node], edge, edge, supplier);
        new.name = Some(name);
        new.stores = [vec![store], lookups].concat();
        new.clocks = 1;
        new.table = Some(Table {
            kind: TableKind::Suppressed,
            store: None,
            sends_old: false,
            key_serde: Box::new(key),
            force: None,
            getter: Box::new(rows),
        });
        b.table_handle(new)
    }
}
