//! Membership of one: this instance owns every task from the start. Used by the embedded log, by
//! tests, and on Kafka where the transactional id alone fences a second instance.

use std::sync::Arc;

use super::{MemberId, Membership, MembershipEvent, TaskSpace};
use crate::actor::Bell;
use crate::log::{Identity, LogError};
use crate::record::TaskId;
use crate::time::Now;

/// Owns every task of the space.
#[derive(Debug)]
pub struct Single {
    group: Arc<str>,
    space: TaskSpace,
    assigned: bool,
}

impl Single {
    /// Membership of the only instance of the group `application_id`.
    pub fn new(application_id: impl Into<Arc<str>>, space: TaskSpace) -> Self {
        Self { group: application_id.into(), space, assigned: false }
    }
}

impl Membership for Single {
    fn poll(&mut self, _now: Now) -> Result<Option<MembershipEvent>, LogError> {
        if std::mem::replace(&mut self.assigned, true) {
            return Ok(None);
        }
        let tasks = self.space.tasks().collect();
        Ok(Some(MembershipEvent::Assigned { tasks, member: MemberId::from(""), epoch: -1 }))
    }

    fn acknowledge(&mut self) {}

    fn identity(&self, _task: TaskId) -> Option<Identity> {
        Some(Identity { group: Arc::clone(&self.group), member: "".into(), epoch: -1 })
    }

    fn leave(&mut self) {}

    fn listen(&mut self, bell: Bell) {
        bell.ring();
    }
}
