//! The reading side's processor: an event changes its session's row, and the rows that lead to it.
//!
//! Owns the five stores' agreement. It must not know what an event means to a session.

use headwater::processor::{NodeError, Processor, ProcessorContext};
use headwater::record::Record;
use headwater::store::{KeyValueStore, StoreHandle};

use super::items::{ItemModel, ItemStatus, about, after, item_key};
use super::view::{SessionFold, SessionReadModel, SessionStatus};
use super::{start_key, user_key};
use crate::platform_event::PlatformEvent;

/// An event changes its session's row.
pub(super) struct Project {
    pub(super) folds: StoreHandle<KeyValueStore<String, SessionFold>>,
    pub(super) models: StoreHandle<KeyValueStore<String, SessionReadModel>>,
    pub(super) by_start: StoreHandle<KeyValueStore<String, String>>,
    pub(super) by_user: StoreHandle<KeyValueStore<String, String>>,
    pub(super) items: StoreHandle<KeyValueStore<String, ItemModel>>,
}

type Context<'c, 't> = ProcessorContext<'c, 't, String, SessionReadModel>;

impl Project {
    /// Brings the work items up to an event: the one it is about, or those that its task leaves behind.
    fn project_items(
        &self,
        session: &str,
        event: &PlatformEvent,
        fold: &SessionFold,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        if let Some((item, task)) = about(&event.payload) {
            let key = item_key(item, session, task);
            let known = ctx.store(self.items).get(&key)?;
            let time = event.event.metadata.timestamp;
            if let Some(item) = after(known, session, &event.payload, time) {
                ctx.store(self.items).put(&key, &item)?;
            }
        }
        for (task, item) in fold.left_behind(event) {
            let key = item_key(item, session, task);
            let known = ctx.store(self.items).get(&key)?;
            if let Some(item) = known.and_then(|item| item.ended(ItemStatus::Failed)) {
                ctx.store(self.items).put(&key, &item)?;
            }
        }
        Ok(())
    }
}

impl Processor<String, PlatformEvent, String, SessionReadModel> for Project {
    fn process(
        &mut self,
        record: Record<'_, String, PlatformEvent>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        let mut fold = ctx.store(self.folds).get(record.key)?.unwrap_or_default();
        let is_new = fold.take(record.value);
        self.project_items(record.key, record.value, &fold, ctx)?;
        if !is_new {
            return Ok(());
        }
        ctx.store(self.folds).put(record.key, &fold)?;
        let Some(model) = &fold.model else { return Ok(()) };
        ctx.store(self.models).put(record.key, model)?;
        let start = start_key(model.start_time.as_millis(), record.key);
        ctx.store(self.by_start).put(&start, record.key)?;
        let user = user_key(&model.user_id, record.key);
        if model.status == SessionStatus::Active {
            ctx.store(self.by_user).put(&user, record.key)?;
        } else {
            ctx.store(self.by_user).delete(&user)?;
        }
        ctx.forward(record.with_value(model))
    }
}
