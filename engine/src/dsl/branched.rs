//! `BranchedKStream`: a stream that is being split into branches.

use std::fmt;
use std::sync::Arc;

use super::stream::KStream;
use crate::operators::merge::Merge;
use crate::operators::split::{BranchPredicate, Split};
use crate::operators::stream_node;
use crate::topology::graph::Supplier;

/// A split stream: each record goes to the first branch that takes it, in the order in which the
/// branches were added, and to no other. A record that no branch takes ends here.
///
/// Source: `org.apache.kafka.streams.kstream.BranchedKStream` (KIP-418).
pub struct BranchedKStream<'b, K, V> {
    split: KStream<'b, K, V>,
    branches: Vec<BranchPredicate<K, V>>,
}

impl<K, V> fmt::Debug for BranchedKStream<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BranchedKStream({} branches)", self.branches.len())
    }
}

impl<'b, K: 'static, V: 'static> BranchedKStream<'b, K, V> {
    pub(super) fn new(from: KStream<'b, K, V>) -> Self {
        let new = from.new_node::<K, V>("split", false, splitting::<K, V>(Vec::new()));
        Self { split: from.builder.stream_handle(new), branches: Vec::new() }
    }

    /// The records for which the predicate holds, of those that no earlier branch took.
    pub fn branch(
        &mut self,
        predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
    ) -> KStream<'b, K, V> {
        self.branches.push(Arc::new(predicate));
        // The split is made anew with one more branch.
        let supplier = splitting(self.branches.clone());
        self.split.builder.graph().nodes[self.split.node].supplier = supplier;
        let made: Supplier = Box::new(|_| stream_node::<K, V>(Merge));
        let new = self.split.new_node::<K, V>("branch", false, made);
        self.split.builder.stream_handle(new)
    }

    /// The records that no branch took.
    pub fn default_branch(mut self) -> KStream<'b, K, V> {
        self.branch(|_, _| true)
    }
}

fn splitting<K: 'static, V: 'static>(branches: Vec<BranchPredicate<K, V>>) -> Supplier {
    Box::new(move |_| stream_node::<K, V>(Split(branches.clone())))
}

impl<'b, K: 'static, V: 'static> KStream<'b, K, V> {
    /// Splits the stream into branches: each record goes to the first branch that takes it.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let payments = b.stream("payments", Consumed::with(string(), i64()));
    /// let mut split = payments.split();
    /// let refunds = split.branch(|_, cents| *cents < 0);
    /// let large = split.branch(|_, cents| *cents > 100_000);
    /// let others = split.default_branch();
    /// ```
    pub fn split(self) -> BranchedKStream<'b, K, V> {
        BranchedKStream::new(self)
    }
}
