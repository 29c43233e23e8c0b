//! Sinks whose topic each record chooses: `KStream::to_chosen`.

use std::sync::Arc;

use super::options::Produced;
use super::stream::KStream;
use crate::operators::choose::Choose;
use crate::operators::stream_node;
use crate::topology::graph::{Supplier, TopicName};

impl<K: 'static, V: 'static> KStream<'_, K, V> {
    /// Writes every record to the topic that `chooser` names, one of `topics`; another one fails the
    /// record.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let orders = b.stream("orders", Consumed::with(string(), i64()));
    /// orders.to_chosen(
    ///     &["small-orders", "large-orders"],
    ///     |_, cents| if *cents < 100_000 { "small-orders" } else { "large-orders" },
    ///     Produced::with(string(), i64()),
    /// );
    /// ```
    pub fn to_chosen<T: AsRef<str> + 'static>(
        self,
        topics: &[&str],
        chooser: impl Fn(&K, &V) -> T + Send + Sync + 'static,
        produced: Produced<K, V>,
    ) {
        let Produced { key, value } = produced;
        let named: Arc<[Arc<str>]> = topics.iter().map(|topic| Arc::from(*topic)).collect();
        let (topics, chooser) = (Arc::clone(&named), Arc::new(chooser));
        let supplier: Supplier = Box::new(move |_| {
            let (topics, chooser) = (Arc::clone(&topics), Arc::clone(&chooser));
            stream_node::<K, V>(Choose { topics, chooser })
        });
        let choice = self.new_node::<K, V>("choose-topic", false, supplier);
        let choice: KStream<'_, K, V> = self.builder.stream_handle(choice);
        for topic in &*named {
            let topic = TopicName::External(Arc::clone(topic));
            choice.sink("sink", topic, key.clone(), value.clone(), false);
        }
    }
}
