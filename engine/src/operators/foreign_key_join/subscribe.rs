//! The left side: says of each change of a left row what the right side is to remember, forget and
//! answer. Knows no right row.
//!
//! Source: `SubscriptionSendProcessorSupplier`. Inner: a row without a foreign key is dropped and
//! counted, after its old subscription was ended with an answer; an update that changes the foreign
//! key ends the old subscription silently and asks the new one to answer in any case; one that does
//! not, or an insert, asks for an answer only if there is a right row; a deletion ends the
//! subscription with an answer. Left: every change but a deletion of nothing is answered exactly
//! once, one without a foreign key by whoever reads it.

use std::sync::Arc;

use super::{Asked, hash_of};
use crate::processor::drops::OnDropped;
use crate::processor::node::{Lifecycle, NodeContext, TableReceiver};
use crate::processor::{DropReason, NodeError};
use crate::record::{Change, Record};
use crate::serde::kafka_streams::Instruction;
use crate::serde::{Serde, SharedSerde};

/// The foreign key of a left row, if it names one.
pub(crate) type ForeignKey<K, V, L> = Arc<dyn Fn(&K, &V) -> Option<L> + Send + Sync>;

pub(crate) struct Subscribe<K, V, L> {
    pub(crate) foreign_key: ForeignKey<K, V, L>,
    pub(crate) left: bool,
    pub(crate) key: SharedSerde<K>,
    pub(crate) value: SharedSerde<V>,
    pub(crate) foreign: SharedSerde<L>,
    pub(crate) on_dropped: OnDropped,
}

impl<K, V, L> Lifecycle for Subscribe<K, V, L> {}

impl<K: 'static, V: 'static, L: 'static> TableReceiver<K, V> for Subscribe<K, V, L> {
    fn receive(
        &mut self,
        change: Change<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let foreign = |row: &Option<V>| row.as_ref().and_then(|r| self.foreign_of(change.key, r));
        let (old, new) = (foreign(change.old), foreign(change.new));
        if self.left {
            self.subscribe_left(change, old, new, ctx)
        } else {
            self.subscribe_inner(change, old, new, ctx)
        }
    }
}

impl<K: 'static, V: 'static, L: 'static> Subscribe<K, V, L> {
    fn foreign_of(&self, key: &K, row: &V) -> Option<L> {
        (self.foreign_key)(key, row).filter(|foreign| !self.foreign.is_null(foreign))
    }

    fn same(&self, a: Option<&L>, b: Option<&L>) -> Result<bool, NodeError> {
        let bytes = |key: Option<&L>| match key {
            Some(key) => self.foreign.to_bytes(key),
            None => Ok(None),
        };
        Ok(bytes(a)? == bytes(b)?)
    }

    fn subscribe_left(
        &self,
        change: Change<'_, K, V>,
        old: Option<L>,
        new: Option<L>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        if change.old.is_none() && change.new.is_none() {
            return Ok(());
        }
        if old.is_some() && !self.same(old.as_ref(), new.as_ref())? {
            self.send(change, &old, Instruction::DeleteKeyNoPropagate, ctx)?;
        }
        self.send(change, &new, Instruction::PropagateNullIfNoForeignValue, ctx)
    }

    fn subscribe_inner(
        &self,
        change: Change<'_, K, V>,
        old: Option<L>,
        new: Option<L>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        if change.new.is_some() && new.is_none() {
            ctx.drop_record(DropReason::NullKey, self.on_dropped, || "foreign key is null".into());
        }
        if new.is_none() {
            return match old {
                Some(_) => self.send(change, &old, Instruction::DeleteKeyAndPropagate, ctx),
                None => Ok(()),
            };
        }
        if old.is_some() && !self.same(old.as_ref(), new.as_ref())? {
            self.send(change, &old, Instruction::DeleteKeyNoPropagate, ctx)?;
            return self.send(change, &new, Instruction::PropagateNullIfNoForeignValue, ctx);
        }
        self.send(change, &new, Instruction::PropagateOnlyIfForeignValue, ctx)
    }

    fn send(
        &self,
        change: Change<'_, K, V>,
        foreign: &Option<L>,
        instruction: Instruction,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let hash = match change.new {
            Some(row) => hash_of(&self.value, row)?,
            None => None,
        };
        let primary_key = self.key.to_bytes(change.key)?;
        let primary_key =
            primary_key.ok_or_else(|| NodeError::message("a table's row has a null key"))?;
        let primary_partition = Some(i32::try_from(ctx.task.partition)?);
        let value = &Asked { instruction, hash, primary_key, primary_partition };
        let Change { timestamp, headers, .. } = change;
        ctx.forward(Record { key: foreign, value, timestamp, headers })
    }
}
