//! Operators: what each verb of the DSL does with a record or a change. One file each, with its
//! node and, for tables, its value getter. Know nodes and stores; must not know the graph that
//! makes them beyond what an [`Instance`](crate::topology::graph::Instance) tells, nor any log.

pub(crate) mod aggregate;
pub(crate) mod choose;
pub(crate) mod deduplicate;
pub(crate) mod filter;
pub(crate) mod flat_map_values;
pub(crate) mod foreign_key_join;
pub(crate) mod global_join;
pub(crate) mod map;
pub(crate) mod map_values;
pub(crate) mod merge;
pub(crate) mod peek;
pub(crate) mod process;
pub(crate) mod row_join;
pub(crate) mod select_key;
pub(crate) mod session_aggregate;
pub(crate) mod sink;
pub(crate) mod sliding_aggregate;
pub(crate) mod source;
pub(crate) mod split;
pub(crate) mod stream_join;
pub(crate) mod stream_table_join;
pub(crate) mod suppress;
pub(crate) mod table_aggregate;
pub(crate) mod table_filter;
pub(crate) mod table_join;
pub(crate) mod table_map_values;
pub(crate) mod table_source;
pub(crate) mod table_store;
pub(crate) mod to_stream;
pub(crate) mod to_table;
pub(crate) mod versioned_join;
pub(crate) mod window_table;
pub(crate) mod windowed_aggregate;

use crate::processor::node::{Node, StreamCell, StreamReceiver, TableCell, TableReceiver};

/// A node behind a stream edge.
pub(crate) fn stream_node<K: 'static, V: 'static>(
    receiver: impl StreamReceiver<K, V> + 'static,
) -> Box<dyn Node> {
    Box::new(StreamCell::<K, V>(Box::new(receiver)))
}

/// A node behind a table edge.
pub(crate) fn table_node<K: 'static, V: 'static>(
    receiver: impl TableReceiver<K, V> + 'static,
) -> Box<dyn Node> {
    Box::new(TableCell::<K, V>(Box::new(receiver)))
}
