//! The left side again: joins an answer with the left row of now. Knows no topic.
//!
//! Source: `ResponseJoinProcessorSupplier`. An answer whose hash is not that of the row of now is
//! stale: a later one is under way. Without a left row, or in an inner join without a right one, the
//! result is a deletion.

use std::sync::Arc;

use super::{Answer, hash_of};
use crate::processor::drops::OnDropped;
use crate::processor::getter::ValueGetter;
use crate::processor::node::{Lifecycle, NodeContext, StreamReceiver};
use crate::processor::{DropReason, NodeError};
use crate::record::Record;
use crate::serde::{Serde, SharedSerde};

/// Joins a left row with the right row it names, if there is one.
pub(crate) type ForeignJoiner<V, O, W> = Arc<dyn Fn(&V, Option<&O>) -> W + Send + Sync>;

pub(crate) struct Resolve<K, V, O, W> {
    pub(crate) rows: Box<dyn ValueGetter<K, V>>,
    pub(crate) joiner: ForeignJoiner<V, O, W>,
    pub(crate) left: bool,
    pub(crate) value: SharedSerde<V>,
    pub(crate) other: SharedSerde<O>,
    pub(crate) result: SharedSerde<W>,
}

impl<K, V, O, W> Lifecycle for Resolve<K, V, O, W> {}

impl<K, V, O, W> StreamReceiver<K, Answer> for Resolve<K, V, O, W>
where
    K: 'static,
    V: 'static,
    O: 'static,
    W: 'static,
{
    fn receive(
        &mut self,
        record: Record<'_, K, Answer>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let row = self.rows.get(record.key, ctx.task)?.map(|(row, _)| row);
        let hash = match &row {
            Some(row) => hash_of(&self.value, row)?,
            None => None,
        };
        if hash != record.value.hash {
            ctx.drop_record(DropReason::Stale, OnDropped::Count, || {
                "the left row has changed since it asked".into()
            });
            return Ok(());
        }
        let other = match &record.value.foreign_value {
            Some(bytes) => Some(self.other.decode(Some(bytes))?),
            None => None,
        };
        let joined = match row {
            Some(row) if self.left || other.is_some() => {
                let joined = (self.joiner)(&row, other.as_ref());
                Some(joined).filter(|joined| !self.result.is_null(joined))
            }
            _ => None,
        };
        ctx.forward(record.with_value(&joined))
    }
}
