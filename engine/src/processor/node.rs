//! The arena: a task's nodes in one topologically sorted slice. Owns dispatch along stream edges
//! and table edges; knows no operator.
//!
//! A node may reach only the nodes after it: forwarding splits the slice, so "the graph has no
//! cycle" is a fact of the borrow checker and no cell, lock or unsafe block is needed. A record is
//! lent, never boxed; the one downcast per edge cannot fail, because `build()` checked both ends.

use std::any::Any;
use std::sync::Arc;

use super::error::NodeError;
use super::punctuation::{Punctuated, Punctuation};
use super::state::TaskState;
use super::timers::Due;
use crate::record::batch::RawRecord;
use crate::record::{Change, Headers, Record};
use crate::store::TimerPosition;

/// What every node can do, whatever its edges carry.
pub(crate) trait Lifecycle: Send {
    /// Before the first record.
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        let _ = ctx;
        Ok(())
    }

    /// A schedule of this node is due.
    fn punctuate(
        &mut self,
        punctuation: Punctuation<'_>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<Punctuated, NodeError> {
        let _ = (punctuation, ctx);
        Ok(Punctuated::Done)
    }

    /// Fires this node's next timer that is due, and gives its place; `None` if none is due.
    fn on_timer(
        &mut self,
        due: Due<'_>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<Option<TimerPosition>, NodeError> {
        let _ = (due, ctx);
        Ok(None)
    }

    /// Forwards what a cache held back; called in topology order.
    fn flush(&mut self, ctx: &mut NodeContext<'_>) -> Result<(), NodeError> {
        let _ = ctx;
        Ok(())
    }
}

/// Takes records from a stream edge.
pub(crate) trait StreamReceiver<K, V>: Lifecycle {
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError>;
}

/// Takes changes from a table edge.
pub(crate) trait TableReceiver<K, V>: Lifecycle {
    fn receive(
        &mut self,
        change: Change<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError>;
}

/// Takes raw records from a partition: a source.
pub(crate) trait RawReceiver: Lifecycle {
    /// The record's timestamp, by the source's extractor.
    fn timestamp(&self, raw: &RawRecord<'_>, partition_time: i64) -> Result<i64, NodeError>;

    fn receive(
        &mut self,
        raw: &RawRecord<'_>,
        timestamp: i64,
        headers: &Headers,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError>;
}

/// A node of any kind. Implemented by the three cells only.
pub(crate) trait Node: Any + Send {
    fn lifecycle(&mut self) -> &mut dyn Lifecycle;
    fn source(&mut self) -> Option<&mut dyn RawReceiver> {
        None
    }
}

/// A node behind a stream edge.
pub(crate) struct StreamCell<K, V>(pub(crate) Box<dyn StreamReceiver<K, V>>);

/// A node behind a table edge.
pub(crate) struct TableCell<K, V>(pub(crate) Box<dyn TableReceiver<K, V>>);

/// A source node.
pub(crate) struct SourceCell(pub(crate) Box<dyn RawReceiver>);

impl<K: 'static, V: 'static> Node for StreamCell<K, V> {
    fn lifecycle(&mut self) -> &mut dyn Lifecycle {
        &mut *self.0
    }
}

impl<K: 'static, V: 'static> Node for TableCell<K, V> {
    fn lifecycle(&mut self) -> &mut dyn Lifecycle {
        &mut *self.0
    }
}

impl Node for SourceCell {
    fn lifecycle(&mut self) -> &mut dyn Lifecycle {
        &mut *self.0
    }

    fn source(&mut self) -> Option<&mut dyn RawReceiver> {
        Some(&mut *self.0)
    }
}

/// One node's place in the arena.
pub(crate) struct Slot {
    pub(crate) name: Arc<str>,
    pub(crate) node: Box<dyn Node>,
    pub(crate) children: Box<[usize]>,
}

/// What a running node may touch: the task, and only the nodes after it.
pub(crate) struct NodeContext<'t> {
    pub(crate) task: &'t mut TaskState,
    pub(crate) name: &'t Arc<str>,
    children: &'t [usize],
    /// `rest[0]` is node number `base`.
    rest: &'t mut [Slot],
    base: usize,
}

/// Runs `body` on node number `at` of the arena, with a context that reaches the nodes after it.
pub(crate) fn with_node<R>(
    slots: &mut [Slot],
    task: &mut TaskState,
    at: usize,
    body: impl FnOnce(&mut dyn Node, &mut NodeContext<'_>) -> R,
) -> R {
    let (slot, rest) = slots[at..].split_first_mut().expect("the node is in the arena");
    task.running = at;
    let mut ctx =
        NodeContext { task, name: &slot.name, children: &slot.children, rest, base: at + 1 };
    body(&mut *slot.node, &mut ctx)
}

impl NodeContext<'_> {
    /// Lends a record to every child, in the order they were attached, each to completion.
    pub(crate) fn forward<K: 'static, V: 'static>(
        &mut self,
        record: Record<'_, K, V>,
    ) -> Result<(), NodeError> {
        for index in 0..self.children.len() {
            self.forward_to(index, record)?;
        }
        Ok(())
    }

    /// Lends a record to the child that was attached as number `index`.
    pub(crate) fn forward_to<K: 'static, V: 'static>(
        &mut self,
        index: usize,
        record: Record<'_, K, V>,
    ) -> Result<(), NodeError> {
        self.enter(index, |cell: &mut StreamCell<K, V>, ctx| cell.0.receive(record, ctx))
    }

    /// Lends a change to every child, in the order they were attached, each to completion.
    pub(crate) fn forward_change<K: 'static, V: 'static>(
        &mut self,
        change: Change<'_, K, V>,
    ) -> Result<(), NodeError> {
        for index in 0..self.children.len() {
            self.enter(index, |cell: &mut TableCell<K, V>, ctx| cell.0.receive(change, ctx))?;
        }
        Ok(())
    }

    /// Runs the child that was attached as number `index`, in a context of its own. Its failure is
    /// the handler's first.
    #[inline]
    fn enter<C: Node>(
        &mut self,
        index: usize,
        receive: impl FnOnce(&mut C, &mut NodeContext<'_>) -> Result<(), NodeError>,
    ) -> Result<(), NodeError> {
        let child = self.children[index];
        let (slot, rest) = self.rest[child - self.base..]
            .split_first_mut()
            .expect("nodes are sorted: a child comes after its parent");
        let node: &mut dyn Any = &mut *slot.node;
        let cell: &mut C = node.downcast_mut().expect("build() checked the edge's types");
        let mut ctx = NodeContext {
            task: self.task,
            name: &slot.name,
            children: &slot.children,
            rest,
            base: child + 1,
        };
        ctx.task.running = child;
        let outcome = receive(cell, &mut ctx);
        self.task.running = self.base - 1;
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => self.task.boundary(&slot.name, error),
        }
    }

    /// Drops the current record at this node: counted, logged with its place, dead-lettered when
    /// the operator asks.
    pub(crate) fn drop_record(
        &mut self,
        reason: super::DropReason,
        on_dropped: super::drops::OnDropped,
        detail: impl FnOnce() -> String,
    ) {
        let dead_letter = on_dropped == super::drops::OnDropped::DeadLetter;
        self.task.drop_record(self.name, reason, detail(), dead_letter);
    }
}

/// What a node may do before the first record.
pub(crate) struct NodeInit<'t> {
    pub(crate) task: &'t mut TaskState,
    pub(crate) name: &'t Arc<str>,
    pub(crate) node: usize,
}
