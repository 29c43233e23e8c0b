//! Typed stores: what processors and operators read and write. Owns serialising around the state
//! crate's byte stores, handles into a task's store arena, and how a store's rows become changelog
//! records and come back. Knows no operator, no topology and no log.
//!
//! | store | row | changelog record |
//! |---|---|---|
//! | [`KeyValueStore`] | key -> value | key, value |
//! | [`TimestampedKeyValueStore`] | key -> timestamp, value | key, value at that timestamp |
//! | [`WindowStore`] | segment, key, start -> value | key, start, value |
//! | [`JoinWindowStore`] | segment, key, time, sequence -> value | key, time, sequence, value |
//! | [`TimestampedWindowStore`] | segment, key, start -> timestamp, value | key, start, value at that timestamp |
//! | [`SessionStore`] | segment, key, end, start -> value | key, end, start, value |
//! | [`VersionedStore`] | key, since -> value or deletion; end, since, key | key, value at since |
//! | [`JoinBuffer`] | time, key, sequence -> record | the same |
//! | [`SuppressBuffer`] | key -> time, change; time, key | key, Kafka Streams' buffered change |
//! | [`TimerStore`] | key, name -> time; time, key, name | key, name, time |

mod changelog;
pub mod error;
mod global;
mod join_buffer;
mod join_window;
mod key_value;
mod session;
mod spec;
mod suppress_buffer;
mod timers;
mod typed;
mod versioned;
mod window;

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use headwater_state::overlay::FrozenOverlay;
use headwater_state::store::StorePartition;
pub(crate) use headwater_state::store::TimerPosition;

pub use changelog::{ChangelogFormat, RestoreTarget};
pub use global::GlobalRows;
pub use join_buffer::JoinBuffer;
pub use join_window::JoinWindowStore;
pub(crate) use join_window::{WaitingKey, WaitingSerde, WaitingStore, WaitingValues};
pub use key_value::{KeyValueStore, TimestampedKeyValueStore};
pub use session::SessionStore;
pub use spec::{SessionSpec, StoreKind, StoreSpec, StoreView, Stored, WindowSpec};
pub use suppress_buffer::SuppressBuffer;
pub(crate) use timers::DueTimer;
pub use timers::{TimeDomain, TimerHandle, TimerStore};
pub use versioned::VersionedStore;
pub use window::{TimestampedWindowStore, WindowStore};

use error::NodeError;

/// One partition of one store, inside one task. Implemented by the stores of this module.
pub trait StateStore: Any + Send {
    /// The store's name.
    fn name(&self) -> &str;
    /// The bytes below.
    fn state(&self) -> &StorePartition;
    /// The bytes below, to be changed.
    fn state_mut(&mut self) -> &mut StorePartition;
    /// Of a timer store: no timer is set for a time before this, and perhaps none for a while
    /// after; `None` for other stores.
    fn no_timer_before(&self) -> Option<i64> {
        None
    }
}

/// Names a store of type `S` in every task of a topology. Copied freely.
pub struct StoreHandle<S> {
    index: usize,
    builder: u64,
    _store: PhantomData<fn() -> S>,
}

impl<S> StoreHandle<S> {
    pub(crate) fn new(index: usize, builder: u64) -> Self {
        Self { index, builder, _store: PhantomData }
    }

    /// The store's number in its topology.
    pub(crate) fn index(self) -> usize {
        self.index
    }

    /// The handle without its type, to connect the store to a processor.
    pub fn id(self) -> StoreId {
        StoreId { index: self.index, builder: self.builder }
    }
}

impl<S> Clone for StoreHandle<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for StoreHandle<S> {}

impl<S> fmt::Debug for StoreHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreHandle({})", self.index)
    }
}

/// A store of a builder, whatever its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreId {
    pub(crate) index: usize,
    pub(crate) builder: u64,
}

/// The stores of one task, by the topology's numbering; those of other subtopologies are absent.
pub struct Stores {
    slots: Vec<Option<Box<dyn StateStore>>>,
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(StateStore::name)).finish()
    }
}

impl Stores {
    pub(crate) fn new(slots: Vec<Option<Box<dyn StateStore>>>) -> Self {
        Self { slots }
    }

    pub(crate) fn get<S: StateStore>(&mut self, handle: StoreHandle<S>) -> &mut S {
        let store: &mut dyn Any = &mut **self.slots[handle.index]
            .as_mut()
            .expect("the store is not connected to this processor: name its handle there");
        store.downcast_mut().expect("a handle and its store are made together")
    }

    pub(crate) fn at(&mut self, index: usize) -> &mut dyn StateStore {
        &mut **self.slots[index].as_mut().expect("a task has the stores of its nodes")
    }

    /// See [`StateStore::no_timer_before`].
    pub(crate) fn no_timer_before(&self, index: usize) -> Option<i64> {
        self.slots[index].as_ref()?.no_timer_before()
    }

    /// The store is in this task.
    pub(crate) fn has(&self, index: usize) -> bool {
        self.slots.get(index).is_some_and(Option::is_some)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &dyn StateStore> {
        self.slots.iter().flatten().map(|s| &**s)
    }

    pub(crate) fn indexed(&self) -> impl Iterator<Item = (usize, &dyn StateStore)> {
        self.slots.iter().enumerate().filter_map(|(i, s)| s.as_deref().map(|s| (i, s)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Box<dyn StateStore>> {
        self.slots.iter_mut().flatten()
    }

    pub(crate) fn savepoint(&mut self) {
        self.iter_mut().for_each(|s| s.state_mut().savepoint());
    }

    pub(crate) fn undo(&mut self) {
        self.iter_mut().for_each(|s| s.state_mut().undo());
    }

    pub(crate) fn uncommitted_bytes(&self) -> usize {
        self.iter().map(|s| s.state().overlay().bytes()).sum()
    }

    pub(crate) fn freeze(&mut self) -> Vec<(usize, Arc<FrozenOverlay>)> {
        let slots = self.slots.iter_mut().enumerate();
        slots.filter_map(|(i, s)| s.as_mut().map(|s| (i, s.state_mut().freeze()))).collect()
    }

    pub(crate) fn rewind(&mut self) -> Result<(), NodeError> {
        for store in self.iter_mut() {
            store.state_mut().rewind().map_err(NodeError::state)?;
        }
        Ok(())
    }

    pub(crate) fn into_partitions(self) -> Vec<Box<dyn StateStore>> {
        self.slots.into_iter().flatten().collect()
    }
}
