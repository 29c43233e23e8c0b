//! `KStream::to_table`: a stream taken for the changes of a table.

use super::options::{Repartitioned, Tabled};
use super::stream::KStream;
use super::table::{KTable, getter_of};
use crate::operators::stream_node;
use crate::operators::to_table::ToTable;
use crate::serde::serdes::optional;
use crate::store::{StoreKind, StoreSpec};
use crate::topology::graph::{EdgeType, Supplier, Table, TableKind};

impl<'b, K: 'static, V: 'static> KStream<'b, K, Option<V>> {
    /// Takes each record for the change of its key's row, `None` for the row's deletion; through the
    /// repartition topic `<application>-<name>-repartition` if the key was changed. The table keeps
    /// no rows unless [`KTable::materialized`] names a store, or something that needs them makes it
    /// keep them under the name given here. A null key is dropped.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let seen = b.stream("seen", Consumed::with(string(), string()));
    /// let last_place = seen
    ///     .map_values(|_, place| Some(place.clone()))
    ///     .to_table(Tabled::with("last-place", string(), string()));
    /// ```
    pub fn to_table(self, tabled: Tabled<K, V>) -> KTable<'b, K, V> {
        let Tabled { name, key, value, cached, on_dropped } = tabled;
        let builder = self.builder;
        builder.graph().check_name("table", &name);
        let stream = if self.key_changed() {
            self.repartition(Repartitioned::with(&name, key.clone(), optional(value.clone())))
        } else {
            self
        };
        let own_key = key.clone();
        let supplier: Supplier = Box::new(move |instance| {
            stream_node::<K, Option<V>>(ToTable {
                key: own_key.clone(),
                store: instance.table_store::<K, V>(),
                on_dropped,
            })
        });
        let own_key = key.clone();
        let force = move || {
            let kind = StoreKind::TimestampedKeyValue;
            let mut spec = StoreSpec::new(name.as_str(), kind, own_key.clone(), value.clone());
            spec.cached = cached;
            spec
        };
        let node = builder.graph().nodes.len();
        let mut new = stream.new_node::<K, V>("to-table", false, supplier);
        new.output = Some(EdgeType::table::<K, V>());
        new.table = Some(Table {
            kind: TableKind::Source,
            store: None,
            sends_old: false,
            key_serde: Box::new(key),
            force: Some(Box::new(force)),
            getter: Box::new(getter_of::<K, V>(node)),
        });
        builder.table_handle(new)
    }
}
