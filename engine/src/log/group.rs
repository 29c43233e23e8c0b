//! The group seam: one member of a consumer group, as the membership sees it. It speaks partitions of
//! topics; which tasks they make is not its business. A log without groups has no member to give.

use std::sync::Arc;
use std::time::Duration;

use super::{Identity, LogResult};
use crate::actor::Bell;
use crate::config::GroupProtocol;
use crate::record::TopicPartition;

/// A group to be joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRequest {
    /// The group, which is the application id.
    pub group: Arc<str>,
    /// Every topic that the application reads.
    pub topics: Vec<Arc<str>>,
    /// Names this process in the group, the same after a restart.
    pub instance: Arc<str>,
    /// The protocol.
    pub protocol: GroupProtocol,
    /// After so long without a heartbeat the member is put out (classic).
    pub session_timeout: Duration,
    /// How long giving partitions up may take before the member is put out.
    pub rebalance_timeout: Duration,
}

/// News about the partitions of this member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupEvent {
    /// These are ours, besides those of before.
    Assigned(Vec<TopicPartition>),
    /// These are asked back. They stay ours until [`GroupMember::acknowledge`].
    Revoked(Vec<TopicPartition>),
    /// These are gone already.
    Lost(Vec<TopicPartition>),
}

/// One member of a consumer group. Nothing here blocks; heartbeats are the log's business.
pub trait GroupMember: Send {
    /// The next piece of news, in order.
    ///
    /// # Errors
    /// `Fenced` when another process has this one's place, `Fatal` when the group refuses; the member
    /// is of no use any more.
    fn poll(&mut self) -> LogResult<Option<GroupEvent>>;
    /// What the last `Revoked` named is given up.
    fn acknowledge(&mut self);
    /// Who commits now; `None` while in no generation of the group.
    fn identity(&self) -> Option<Identity>;
    /// Leaves, or with a static membership goes without a word, so that it may come back.
    fn leave(&mut self);
    /// Nothing is left to be done after [`leave`](Self::leave).
    fn has_left(&self) -> bool;
    /// Rings when there may be news.
    fn listen(&mut self, bell: Bell);
}
