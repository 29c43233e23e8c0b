//! The right side: remembers who subscribed, and answers subscriptions and changes of right rows.
//! Knows no left row but by key and hash.
//!
//! Source: `SubscriptionReceiveProcessorSupplier`, `SubscriptionJoinProcessorSupplier`,
//! `ForeignTableJoinProcessorSupplier`. An answer to a subscription has the greater of its time and
//! the right row's; an answer to a right row's change has that change's time, and goes to each left
//! row in the order of the left keys' bytes.

use super::{Answer, Asked, SubscriptionStore};
use crate::processor::drops::OnDropped;
use crate::processor::getter::ValueGetter;
use crate::processor::node::{Lifecycle, NodeContext, StreamReceiver, TableReceiver};
use crate::processor::{DropReason, NodeError};
use crate::record::{Change, Record};
use crate::serde::SharedSerde;
use crate::serde::kafka_streams::{CombinedKey, Instruction};
use crate::store::StoreHandle;

/// How many subscriptions are taken at a time when a right row changes.
const PAGE: usize = 64;

/// Answers subscriptions.
pub(crate) struct AnswerSubscription<L, O> {
    pub(crate) store: StoreHandle<SubscriptionStore>,
    pub(crate) rows: Box<dyn ValueGetter<L, O>>,
    pub(crate) foreign: SharedSerde<L>,
    pub(crate) value: SharedSerde<O>,
    pub(crate) on_dropped: OnDropped,
}

impl<L, O> Lifecycle for AnswerSubscription<L, O> {}

impl<L: 'static, O: 'static> StreamReceiver<Option<L>, Asked> for AnswerSubscription<L, O> {
    fn receive(
        &mut self,
        record: Record<'_, Option<L>, Asked>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let Record { key: foreign, value: asked, timestamp, .. } = record;
        let answers_null = asked.instruction == Instruction::PropagateNullIfNoForeignValue;
        let found = match foreign {
            None if !answers_null => {
                ctx.drop_record(DropReason::NullKey, self.on_dropped, || {
                    "foreign key is null".into()
                });
                return Ok(());
            }
            None => None,
            Some(foreign) => {
                self.remember(foreign, asked, timestamp, ctx)?;
                self.rows.get(foreign, ctx.task)?
            }
        };
        let timestamp = timestamp.max(found.as_ref().map_or(timestamp, |(_, time)| *time));
        let row = match (asked.instruction, found) {
            (Instruction::DeleteKeyNoPropagate, _)
            | (Instruction::PropagateOnlyIfForeignValue, None) => return Ok(()),
            (Instruction::DeleteKeyAndPropagate, _) | (_, None) => None,
            (_, Some((row, _))) => self.value.to_bytes(&row)?,
        };
        let value = &answer(asked, row);
        ctx.forward(Record { key: &asked.primary_key, value, timestamp, headers: record.headers })
    }
}

impl<L: 'static, O: 'static> AnswerSubscription<L, O> {
    fn remember(
        &self,
        foreign: &L,
        asked: &Asked,
        timestamp: i64,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let mut key = prefix(&self.foreign, foreign)?;
        key.extend_from_slice(&asked.primary_key);
        let store = ctx.task.stores.get(self.store);
        match asked.instruction {
            Instruction::DeleteKeyNoPropagate | Instruction::DeleteKeyAndPropagate => {
                store.delete(&key)
            }
            Instruction::PropagateNullIfNoForeignValue
            | Instruction::PropagateOnlyIfForeignValue => store.put(&key, asked, timestamp),
        }
    }
}

fn prefix<L: 'static>(serde: &SharedSerde<L>, foreign: &L) -> Result<Vec<u8>, NodeError> {
    let bytes = serde.to_bytes(foreign)?;
    let bytes = bytes.ok_or_else(|| NodeError::message("a table's row has a null key"))?;
    let mut prefix = Vec::new();
    CombinedKey { foreign_key: &bytes, primary_key: &[] }.encode(&mut prefix)?;
    Ok(prefix)
}

fn answer(asked: &Asked, foreign_value: Option<Vec<u8>>) -> Answer {
    let Asked { hash, primary_partition, .. } = *asked;
    Answer { hash, foreign_value, primary_partition }
}

/// Answers every subscription to a right row that changes.
pub(crate) struct AnswerChange<L, O> {
    pub(crate) store: StoreHandle<SubscriptionStore>,
    pub(crate) foreign: SharedSerde<L>,
    pub(crate) value: SharedSerde<O>,
}

impl<L, O> Lifecycle for AnswerChange<L, O> {}

impl<L: 'static, O: 'static> TableReceiver<L, O> for AnswerChange<L, O> {
    fn receive(
        &mut self,
        change: Change<'_, L, O>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let prefix = prefix(&self.foreign, change.key)?;
        let row = match change.new {
            Some(row) => self.value.to_bytes(row)?,
            None => None,
        };
        let Change { timestamp, headers, .. } = change;
        let mut after = None;
        loop {
            let store = ctx.task.stores.get(self.store);
            let page = store.prefix_page(&prefix, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (_, asked) in &page {
                let value = &answer(asked, row.clone());
                ctx.forward(Record { key: &asked.primary_key, value, timestamp, headers })?;
            }
        }
    }
}
