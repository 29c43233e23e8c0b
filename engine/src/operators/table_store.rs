//! The store behind a materialised table, as its operator uses it: read a row, write a row and send
//! the change on, at once or, when cached, at the next flush. Knows no operator in particular.

use crate::processor::drops::OnDropped;
use crate::processor::getter::ValueGetter;
use crate::processor::node::{Lifecycle, NodeContext, NodeInit};
use crate::processor::state::TaskState;
use crate::processor::{DropReason, NodeError};
use crate::record::{Change, Headers};
use crate::serde::SharedSerde;
use crate::store::{StoreHandle, TimestampedKeyValueStore, VersionedStore};

/// A table's store of rows by key.
pub(crate) struct TableStore<K, V> {
    handle: StoreHandle<TimestampedKeyValueStore<K, V>>,
    /// In its place, where the table keeps versions.
    versions: Option<StoreHandle<VersionedStore<K, V>>>,
    key: SharedSerde<K>,
    cached: bool,
    sends_old: bool,
    lane: usize,
    key_buffer: Vec<u8>,
}

impl<K: 'static, V: 'static> TableStore<K, V> {
    /// The store with this number, whose rows have this key serde. `cached`: it keeps changes back
    /// until a flush; `sends_old`: someone downstream asked for old values.
    pub(crate) fn new(store: usize, key: SharedSerde<K>, cached: bool, sends_old: bool) -> Self {
        Self {
            handle: StoreHandle::new(store, 0),
            versions: None,
            key,
            cached,
            sends_old,
            lane: usize::MAX,
            key_buffer: Vec::new(),
        }
    }

    /// The same, of a store that keeps versions.
    pub(crate) fn versioned(mut self) -> Self {
        self.versions = Some(StoreHandle::new(self.handle.index(), 0));
        self
    }

    pub(crate) fn sends_old(&self) -> bool {
        self.sends_old
    }

    /// The row of a key and its time.
    pub(crate) fn get(
        &self,
        key: &K,
        ctx: &mut NodeContext<'_>,
    ) -> Result<Option<(V, i64)>, NodeError> {
        match self.versions {
            Some(versions) => ctx.task.stores.get(versions).get(key),
            None => ctx.task.stores.get(self.handle).get(key),
        }
    }

    /// Writes the change's new row and sends the change on.
    pub(crate) fn write(
        &mut self,
        change: Change<'_, K, V>,
        caused_at: i64,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        if let Some(versions) = self.versions {
            return write_version(versions, change, ctx);
        }
        if self.cached {
            self.touch(change.key, caused_at, change.headers, ctx)?;
        }
        let store = ctx.task.stores.get(self.handle);
        match change.new {
            Some(value) => store.put(change.key, value, change.timestamp)?,
            None => store.delete(change.key)?,
        }
        if self.cached { Ok(()) } else { ctx.forward_change(change) }
    }

    fn touch(
        &mut self,
        key: &K,
        caused_at: i64,
        headers: &Headers,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        self.key_buffer.clear();
        self.key.encode(key, &mut self.key_buffer)?;
        let before = if ctx.task.caches[self.lane].contains(&self.key_buffer) {
            None
        } else {
            ctx.task.stores.get(self.handle).row(key)?
        };
        ctx.task.caches[self.lane].touch(&self.key_buffer, before, caused_at, headers);
        Ok(())
    }
}

/// Writes a version and sends the change on, late ones too, unless it is older than the history.
fn write_version<K: 'static, V: 'static>(
    versions: StoreHandle<VersionedStore<K, V>>,
    change: Change<'_, K, V>,
    ctx: &mut NodeContext<'_>,
) -> Result<(), NodeError> {
    let Change { key, new, timestamp, .. } = change;
    let store = ctx.task.stores.get(versions);
    let is_out_of_order = store.knows_later(key, timestamp)?;
    if !store.put(key, new.as_ref(), timestamp)? {
        ctx.drop_record(DropReason::Expired, OnDropped::Count, || {
            format!("time {timestamp} is before the history of the versioned table")
        });
        return Ok(());
    }
    let before = std::mem::replace(&mut ctx.task.is_out_of_order, is_out_of_order);
    let sent = ctx.forward_change(change);
    ctx.task.is_out_of_order = before;
    sent
}

impl<K: 'static, V: 'static> Lifecycle for TableStore<K, V> {
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        if self.cached {
            self.lane = ctx.task.cache_of(self.handle.index());
        }
        Ok(())
    }

    /// Sends on one change for each key touched since the last flush.
    fn flush(&mut self, ctx: &mut NodeContext<'_>) -> Result<(), NodeError> {
        if !self.cached {
            return Ok(());
        }
        for (key, touched) in ctx.task.caches[self.lane].take() {
            let key = self.key.decode(Some(&key))?;
            let store = ctx.task.stores.get(self.handle);
            let now = store.get(&key)?;
            let change = touched.change(now, self.sends_old, |row| store.decode_row(row))?;
            if let Some((old, new, timestamp)) = change {
                let (old, new, headers) = (&old, &new, &touched.headers);
                ctx.forward_change(Change { key: &key, old, new, timestamp, headers })?;
            }
        }
        Ok(())
    }
}

/// A table that need not be materialised.
impl<K: 'static, V: 'static> Lifecycle for Option<TableStore<K, V>> {
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        self.as_mut().map_or(Ok(()), |store| store.init(ctx))
    }

    fn flush(&mut self, ctx: &mut NodeContext<'_>) -> Result<(), NodeError> {
        self.as_mut().map_or(Ok(()), |store| store.flush(ctx))
    }
}

/// Sends a change on, through the store if there is one.
pub(crate) fn keep_or_forward<K: 'static, V: 'static>(
    store: &mut Option<TableStore<K, V>>,
    change: Change<'_, K, V>,
    ctx: &mut NodeContext<'_>,
) -> Result<(), NodeError> {
    match store {
        Some(store) => store.write(change, change.timestamp, ctx),
        None => ctx.forward_change(change),
    }
}

/// Looks rows up in a table's store.
pub(crate) struct StoreGetter<K, V>(pub(crate) StoreHandle<TimestampedKeyValueStore<K, V>>);

impl<K: 'static, V: 'static> ValueGetter<K, V> for StoreGetter<K, V> {
    fn get(&mut self, key: &K, task: &mut TaskState) -> Result<Option<(V, i64)>, NodeError> {
        task.stores.get(self.0).get(key)
    }
}

/// Looks rows up in a versioned table's store.
pub(crate) struct VersionGetter<K, V>(pub(crate) StoreHandle<VersionedStore<K, V>>);

impl<K: 'static, V: 'static> ValueGetter<K, V> for VersionGetter<K, V> {
    fn get(&mut self, key: &K, task: &mut TaskState) -> Result<Option<(V, i64)>, NodeError> {
        task.stores.get(self.0).get(key)
    }

    fn get_as_of(
        &mut self,
        key: &K,
        time: i64,
        task: &mut TaskState,
    ) -> Result<Option<(V, i64)>, NodeError> {
        task.stores.get(self.0).get_as_of(key, time)
    }
}
