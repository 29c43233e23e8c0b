//! `KTable::to_stream`: every change as a record of key and new row; a deletion is `None`.

use crate::processor::NodeError;
use crate::processor::node::{Lifecycle, NodeContext, TableReceiver};
use crate::record::{Change, Record};

pub(crate) struct ToStream;

impl Lifecycle for ToStream {}

impl<K: 'static, V: 'static> TableReceiver<K, V> for ToStream {
    fn receive(
        &mut self,
        change: Change<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let Change { key, new, timestamp, headers, .. } = change;
        ctx.forward(Record { key, value: new, timestamp, headers })
    }
}
