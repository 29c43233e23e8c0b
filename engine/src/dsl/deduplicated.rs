//! `KStream::deduplicate` and its options.

use std::sync::Arc;
use std::time::Duration;

use super::options::Repartitioned;
use super::stream::KStream;
use crate::operators::deduplicate::{Deduplicate, Span};
use crate::operators::stream_node;
use crate::processor::drops::OnDropped;
use crate::serde::{SharedSerde, serdes};
use crate::store::{StoreHandle, StoreKind, StoreSpec, WindowSpec};
use crate::time::saturating_ms;
use crate::topology::graph::Supplier;

/// How a stream is deduplicated: the name of the store of ids, serdes, and times.
#[derive(Debug)]
pub struct Deduplicated<K, V, I> {
    name: String,
    key: SharedSerde<K>,
    value: SharedSerde<V>,
    id: SharedSerde<I>,
    span: Span,
    on_dropped: OnDropped,
}

impl<K: 'static, V: 'static, I: 'static> Deduplicated<K, V, I> {
    /// Records of one id at most `within` apart, in their own time, are duplicates. The serdes of
    /// key and value are for the repartition topic it may need.
    pub fn within(
        name: &str,
        within: Duration,
        key: SharedSerde<K>,
        value: SharedSerde<V>,
        id: SharedSerde<I>,
    ) -> Self {
        let within_ms = saturating_ms(within);
        let span = Span { within_ms, grace_ms: within_ms };
        Self { name: name.to_owned(), key, value, id, span, on_dropped: OnDropped::Count }
    }

    /// How long behind stream time a record may be; by default as long as duplicates are apart. A
    /// later one is dropped, because what it repeats may be forgotten.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.span.grace_ms = saturating_ms(grace);
        self
    }

    /// What happens to duplicates, late records and records without an id, beyond counting them.
    #[must_use]
    pub fn on_dropped(mut self, on_dropped: OnDropped) -> Self {
        self.on_dropped = on_dropped;
        self
    }
}

impl<'b, K: 'static, V: 'static> KStream<'b, K, V> {
    /// Of records with one id within a time, forwards the first that arrives and drops the others,
    /// counted as `duplicate`. Ids are known by partition: duplicates must have one key, by which
    /// the stream is repartitioned first if its key was changed. A restart forgets no id.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # use std::time::Duration;
    /// # let b = StreamsBuilder::new();
    /// # let payments = b.stream("payments", Consumed::with(string(), string()));
    /// let once = payments.deduplicate(
    ///     |_, payment| payment.clone(),
    ///     Deduplicated::within("seen", Duration::from_secs(600), string(), string(), string()),
    /// );
    /// ```
    #[must_use]
    pub fn deduplicate<I: 'static>(
        self,
        id_of: impl Fn(&K, &V) -> I + Send + Sync + 'static,
        deduplicated: Deduplicated<K, V, I>,
    ) -> Self {
        let Deduplicated { name, key, value, id, span, on_dropped } = deduplicated;
        let stream = if self.key_changed() {
            self.repartition(Repartitioned::with(&name, key, value))
        } else {
            self
        };
        let mut graph = self.builder.graph();
        graph.check_duration("time between duplicates", &name, span.within_ms, 0);
        graph.check_duration("grace of deduplicate", &name, span.grace_ms, 0);
        let kept = span.within_ms.saturating_add(span.grace_ms).saturating_add(1);
        let kind = StoreKind::Window(WindowSpec { size_ms: span.within_ms, retention_ms: kept });
        let spec = StoreSpec::new(name.as_str(), kind, id.clone(), serdes::i64());
        let store = graph.add_store(spec);
        drop(graph);
        let id_of = Arc::new(id_of);
        let supplier: Supplier = Box::new(move |_| {
            stream_node::<K, V>(Deduplicate {
                id_of: Arc::clone(&id_of),
                id: id.clone(),
                span,
                seen: StoreHandle::new(store, 0),
                on_dropped,
                clock: None,
            })
        });
        let mut new = stream.new_node::<K, V>("deduplicate", false, supplier);
        new.stores = vec![store];
        new.clocks = 1;
        self.builder.stream_handle(new)
    }
}
