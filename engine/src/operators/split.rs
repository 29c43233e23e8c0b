//! `KStream::split`: each record goes to the first branch whose predicate holds for it, else to the
//! default branch if there is one, else nowhere.
//!
//! Source: `KStreamBranch` (KIP-418). Branch number n is the node's n-th child.

use std::sync::Arc;

use crate::processor::NodeError;
use crate::processor::node::{Lifecycle, NodeContext, StreamReceiver};
use crate::record::Record;

/// Whether a record belongs to a branch.
pub(crate) type BranchPredicate<K, V> = Arc<dyn Fn(&K, &V) -> bool + Send + Sync>;

pub(crate) struct Split<K, V>(pub(crate) Vec<BranchPredicate<K, V>>);

impl<K, V> Lifecycle for Split<K, V> {}

impl<K: 'static, V: 'static> StreamReceiver<K, V> for Split<K, V> {
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        match self.0.iter().position(|holds| holds(record.key, record.value)) {
            Some(branch) => ctx.forward_to(branch, record),
            None => Ok(()),
        }
    }
}
