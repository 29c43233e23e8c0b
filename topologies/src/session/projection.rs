//! The reading side's processor: an event changes its session's row, and the rows that lead to it.
//!
//! Owns the four stores' agreement. It must not know what an event means to a session.

use headwater::processor::{NodeError, Processor, ProcessorContext};
use headwater::record::Record;
use headwater::store::{KeyValueStore, StoreHandle};

use super::view::{SessionFold, SessionReadModel, SessionStatus};
use super::{start_key, user_key};
use crate::platform_event::PlatformEvent;

/// An event changes its session's row.
pub(super) struct Project {
    pub(super) folds: StoreHandle<KeyValueStore<String, SessionFold>>,
    pub(super) models: StoreHandle<KeyValueStore<String, SessionReadModel>>,
    pub(super) by_start: StoreHandle<KeyValueStore<String, String>>,
    pub(super) by_user: StoreHandle<KeyValueStore<String, String>>,
}

impl Processor<String, PlatformEvent, String, SessionReadModel> for Project {
    fn process(
        &mut self,
        record: Record<'_, String, PlatformEvent>,
        ctx: &mut ProcessorContext<'_, '_, String, SessionReadModel>,
    ) -> Result<(), NodeError> {
        let mut fold = ctx.store(self.folds).get(record.key)?.unwrap_or_default();
        if !fold.take(record.value) {
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
