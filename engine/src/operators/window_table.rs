//! The store behind a windowed table, as its operator uses it: read a row, write a row and send the
//! change on: at once, at the next flush when cached, or when the window closes. Knows no kind of
//! window beyond its size.
//!
//! Source of emission on window close (KIP-825): `AbstractKStreamTimeWindowAggregateProcessor`. When
//! the close time has grown, the windows that closed since the last emission are sent on by start,
//! then key, with their own time and without an old row. Windows past the store's retention are lost.

use std::sync::Arc;

use crate::processor::drops::OnDropped;
use crate::processor::getter::ValueGetter;
use crate::processor::node::{NodeContext, NodeInit};
use crate::processor::state::{ClockId, TaskState};
use crate::processor::{DropReason, NodeError};
use crate::record::{Change, Headers, Record, Window, Windowed};
use crate::serde::SharedSerde;
use crate::store::{StateStore, StoreHandle, TimestampedWindowStore};

/// So many windows are taken out of the store at once when they close.
const CLOSING_PAGE: usize = 256;

/// When changes of a windowed table are sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emission {
    /// At once.
    Update,
    /// At the next flush.
    Flush,
    /// When the window closes.
    Close,
}

impl Emission {
    pub(crate) fn of(closing: bool, cached: bool) -> Self {
        match (closing, cached) {
            (true, _) => Self::Close,
            (false, true) => Self::Flush,
            (false, false) => Self::Update,
        }
    }
}

/// A windowed table's store of rows by key and window, with the clock of the operator that writes it.
pub(crate) struct WindowTable<K, V> {
    handle: StoreHandle<TimestampedWindowStore<K, V>>,
    key: SharedSerde<K>,
    size_ms: i64,
    emission: Emission,
    sends_old: bool,
    on_dropped: OnDropped,
    lane: usize,
    clock_name: Arc<str>,
    clock: Option<ClockId>,
    emitted: Option<ClockId>,
    key_buffer: Vec<u8>,
}

/// The new row of a window, and what caused it.
pub(crate) struct WindowRow<'r, V> {
    pub(crate) old: Option<V>,
    pub(crate) new: Option<V>,
    pub(crate) timestamp: i64,
    pub(crate) caused_at: i64,
    pub(crate) headers: &'r Headers,
}

impl<K: 'static, V: 'static> WindowTable<K, V> {
    /// The store with this number, whose rows have this key serde and windows this size.
    pub(crate) fn new(
        store: usize,
        key: SharedSerde<K>,
        size_ms: i64,
        emission: Emission,
        sends_old: bool,
        on_dropped: OnDropped,
    ) -> Self {
        Self {
            handle: StoreHandle::new(store, 0),
            key,
            size_ms,
            emission,
            sends_old,
            on_dropped,
            lane: usize::MAX,
            clock_name: "".into(),
            clock: None,
            emitted: None,
            key_buffer: Vec::new(),
        }
    }

    /// The same, written by an operator whose clock has this name.
    pub(crate) fn with_clock(self, clock_name: Arc<str>) -> Self {
        Self { clock_name, ..self }
    }

    pub(crate) fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        self.clock = Some(ctx.task.clock(&self.clock_name));
        match self.emission {
            Emission::Update => {}
            Emission::Flush => self.lane = ctx.task.cache_of(self.handle.index()),
            Emission::Close => {
                // Clocks go by the store's name, which its user gave, never by a node's.
                let store = ctx.task.stores.get(self.handle).name();
                let name: Arc<str> = format!("{store}/emitted").into();
                self.emitted = Some(ctx.task.clock(&name));
            }
        }
        Ok(())
    }

    pub(crate) fn sends_old(&self) -> bool {
        self.sends_old
    }

    /// The operator's clock, moved up to this time.
    pub(crate) fn observe(&self, timestamp: i64, ctx: &mut NodeContext<'_>) -> i64 {
        ctx.task.observe(self.clock.expect("init ran"), timestamp)
    }

    /// The window of the table that begins here.
    pub(crate) fn window(&self, start: i64) -> Window {
        Window { start, end: start.saturating_add(self.size_ms) }
    }

    /// The table's rows.
    pub(crate) fn rows<'c>(
        &self,
        ctx: &'c mut NodeContext<'_>,
    ) -> &'c mut TimestampedWindowStore<K, V> {
        ctx.task.stores.get(self.handle)
    }

    /// An own copy of a record's key, for keys of windows; `None` if it is null, which drops it.
    pub(crate) fn own_key<W>(
        &mut self,
        record: Record<'_, K, W>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<Option<K>, NodeError> {
        self.key_buffer.clear();
        let Some(key) = self.key.encode(record.key, &mut self.key_buffer)? else {
            ctx.drop_record(DropReason::NullKey, self.on_dropped, || "key is null".into());
            return Ok(None);
        };
        // Windowed<K> owns its key; reading it back asks no Clone of K.
        Ok(Some(self.key.decode(Some(key))?))
    }

    /// Drops the current record for a window that had closed by `closed`.
    pub(crate) fn drop_late(&self, window: Window, closed: i64, ctx: &mut NodeContext<'_>) {
        ctx.drop_record(DropReason::Late, self.on_dropped, || {
            let Window { start, end } = window;
            format!("window from {start} to {end} had closed: stream time - grace is {closed}")
        });
    }

    pub(crate) fn on_dropped(&self) -> OnDropped {
        self.on_dropped
    }

    /// Writes a window's new row and sends the change on when it is time.
    pub(crate) fn write(
        &mut self,
        key: &Windowed<K>,
        row: WindowRow<'_, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let start = key.window.start;
        let WindowRow { old, new, timestamp, caused_at, headers } = row;
        if self.emission == Emission::Flush {
            self.touch(&key.key, start, caused_at, headers, ctx)?;
        }
        let store = ctx.task.stores.get(self.handle);
        if !store.put(&key.key, start, new.as_ref(), timestamp)? {
            ctx.drop_record(DropReason::Expired, self.on_dropped, || {
                format!("window at {start} is past the store's retention: its row is not kept")
            });
        }
        match self.emission {
            Emission::Update => {
                let old = if self.sends_old { old } else { None };
                let (old, new) = (&old, &new);
                ctx.forward_change(Change { key, old, new, timestamp, headers })
            }
            Emission::Flush | Emission::Close => Ok(()),
        }
    }

    fn touch(
        &mut self,
        key: &K,
        start: i64,
        caused_at: i64,
        headers: &Headers,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        self.key_buffer.clear();
        self.key.encode(key, &mut self.key_buffer)?;
        self.key_buffer.extend_from_slice(&start.to_be_bytes());
        let before = if ctx.task.caches[self.lane].contains(&self.key_buffer) {
            None
        } else {
            ctx.task.stores.get(self.handle).row(key, start)?
        };
        ctx.task.caches[self.lane].touch(&self.key_buffer, before, caused_at, headers);
        Ok(())
    }

    /// Sends on one change for each window touched since the last flush.
    pub(crate) fn flush(&mut self, ctx: &mut NodeContext<'_>) -> Result<(), NodeError> {
        if self.emission != Emission::Flush {
            return Ok(());
        }
        for (key, touched) in ctx.task.caches[self.lane].take() {
            let (key, start) = key.split_at(key.len() - 8);
            let start = i64::from_be_bytes(start.try_into().expect("eight bytes were split off"));
            let key = self.key.decode(Some(key))?;
            let store = ctx.task.stores.get(self.handle);
            let now = store.fetch(&key, start)?;
            let change = touched.change(now, self.sends_old, |row| store.decode_row(row))?;
            if let Some((old, new, timestamp)) = change {
                let key = Windowed { key, window: self.window(start) };
                let (old, new, headers) = (&old, &new, &touched.headers);
                ctx.forward_change(Change { key: &key, old, new, timestamp, headers })?;
            }
        }
        Ok(())
    }

    /// If the table emits on close: sends on every window that ends by `closed` and was not sent.
    pub(crate) fn emit_closed(
        &mut self,
        closed: i64,
        headers: &Headers,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let Some(emitted) = self.emitted else { return Ok(()) };
        let before = ctx.task.time_of(emitted);
        if closed <= before {
            return Ok(());
        }
        ctx.task.observe(emitted, closed);
        loop {
            let to = closed.saturating_sub(self.size_ms);
            let page = ctx.task.stores.get(self.handle).take_closing(to, CLOSING_PAGE)?;
            if page.is_empty() {
                return Ok(());
            }
            for (key, start, row) in page {
                let key = Windowed { key, window: self.window(start) };
                // A restored store lists windows again that were sent on before.
                let Some((value, timestamp)) = row.filter(|_| key.window.end > before) else {
                    continue;
                };
                let (old, new) = (&None, &Some(value));
                ctx.forward_change(Change { key: &key, old, new, timestamp, headers })?;
            }
        }
    }
}

/// Looks rows up in a windowed table's store.
pub(crate) struct WindowGetter<K, V>(pub(crate) StoreHandle<TimestampedWindowStore<K, V>>);

impl<K: 'static, V: 'static> ValueGetter<Windowed<K>, V> for WindowGetter<K, V> {
    fn get(
        &mut self,
        key: &Windowed<K>,
        task: &mut TaskState,
    ) -> Result<Option<(V, i64)>, NodeError> {
        task.stores.get(self.0).fetch(&key.key, key.window.start)
    }
}
