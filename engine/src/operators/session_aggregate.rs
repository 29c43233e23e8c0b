//! `SessionWindowedKStream::count`, `reduce` and `aggregate`: one row per key and session.
//!
//! Source: `KStreamSessionWindowAggregate`. A null key is dropped and does not move the operator's
//! clock; a null value is aggregated. A record finds the readable sessions of its key within a gap
//! of its time, by end; its session spans them and the record. It is late, and dropped, if that
//! session's `end < clock - grace - gap`. Otherwise each session found is removed and a tombstone
//! sent on for it at its end, also when the bounds stay as they are, and then the new session at its
//! end. A session of the record's time alone takes the place of an equal one without a tombstone.
//!
//! When cached, one change for each session touched is sent on at the flush, and sessions that
//! retention hides are extended as well (`CachingSessionStore`).

use std::sync::Arc;

use super::aggregate::Aggregation;
use super::window_table::Emission;
use crate::processor::drops::OnDropped;
use crate::processor::getter::ValueGetter;
use crate::processor::node::{Lifecycle, NodeContext, NodeInit, StreamReceiver};
use crate::processor::state::{ClockId, TaskState};
use crate::processor::{DropReason, NodeError};
use crate::record::{Change, Headers, Record, Window, Windowed};
use crate::serde::{Serde, SharedSerde};
use crate::store::{SessionStore, StateStore, StoreHandle};

/// So many sessions are taken out of the store at once when they close.
const CLOSING_PAGE: usize = 256;

/// Sessions: records of a key within a gap of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sessions {
    pub(crate) gap_ms: i64,
    pub(crate) grace_ms: i64,
}

/// Merges the aggregate so far, if there is one, with that of a session.
pub(crate) type Merge<K, A> = Arc<dyn Fn(&K, Option<A>, A) -> Result<A, NodeError> + Send + Sync>;

pub(crate) struct SessionAggregate<K, V, A> {
    pub(crate) aggregation: Aggregation<K, V, A>,
    pub(crate) merge: Merge<K, A>,
    pub(crate) sessions: Sessions,
    pub(crate) store: StoreHandle<SessionStore<K, A>>,
    pub(crate) key: SharedSerde<K>,
    pub(crate) result: SharedSerde<A>,
    pub(crate) on_dropped: OnDropped,
    pub(crate) sends_old: bool,
    pub(crate) emission: Emission,
    pub(crate) clock_name: Arc<str>,
    pub(crate) clocks: Option<Clocks>,
    pub(crate) lane: usize,
    pub(crate) key_buffer: Vec<u8>,
}

/// The operator's clock, and how far it has emitted if it emits on close.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clocks {
    time: ClockId,
    emitted: Option<ClockId>,
}

impl<K: 'static, V: 'static, A: 'static> Lifecycle for SessionAggregate<K, V, A> {
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        let emitted = (self.emission == Emission::Close).then(|| {
            let store = ctx.task.stores.get(self.store).name();
            let name: Arc<str> = format!("{store}/emitted").into();
            ctx.task.clock(&name)
        });
        self.clocks = Some(Clocks { time: ctx.task.clock(&self.clock_name), emitted });
        if self.emission == Emission::Flush {
            self.lane = ctx.task.cache_of(self.store.index());
        }
        Ok(())
    }

    fn flush(&mut self, ctx: &mut NodeContext<'_>) -> Result<(), NodeError> {
        if self.emission != Emission::Flush {
            return Ok(());
        }
        for (key, touched) in ctx.task.caches[self.lane].take() {
            let (rest, end) = key.split_last_chunk::<8>().expect("touch wrote the end last");
            let (key, start) = rest.split_last_chunk::<8>().expect("and the start before it");
            let window =
                Window { start: i64::from_be_bytes(*start), end: i64::from_be_bytes(*end) };
            let key = Windowed { key: self.key.decode(Some(key))?, window };
            let store = ctx.task.stores.get(self.store);
            let now = store.fetch_hidden(&key.key, window)?.map(|value| (value, window.end));
            let row = |row: &[u8]| Ok((store.decode_row(row)?, window.end));
            if let Some((old, new, _)) = touched.change(now, self.sends_old, row)? {
                let (old, new, headers) = (&old, &new, &touched.headers);
                let timestamp = window.end;
                ctx.forward_change(Change { key: &key, old, new, timestamp, headers })?;
            }
        }
        Ok(())
    }
}

impl<K: 'static, V: 'static, A: 'static> SessionAggregate<K, V, A> {
    /// The aggregate as the user's functions see it: in a reduction, null is "nothing yet".
    fn merged(&self, aggregate: A) -> Option<A> {
        let is_reduction = self.aggregation.initial.is_none();
        Some(aggregate).filter(|a| !(is_reduction && self.result.is_null(a)))
    }

    /// Removes the sessions that the record's session takes in, and tells of it.
    fn remove(
        &mut self,
        key: Windowed<K>,
        old: Option<A>,
        headers: &Headers,
        ctx: &mut NodeContext<'_>,
    ) -> Result<Windowed<K>, NodeError> {
        self.write(&key, old, None, headers, ctx)?;
        Ok(key)
    }

    fn write(
        &mut self,
        key: &Windowed<K>,
        old: Option<A>,
        new: Option<A>,
        headers: &Headers,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let timestamp = key.window.end;
        if self.emission == Emission::Flush {
            self.touch(key, headers, ctx)?;
        }
        let store = ctx.task.stores.get(self.store);
        if !store.put(&key.key, key.window, new.as_ref())? {
            ctx.drop_record(DropReason::Expired, self.on_dropped, || {
                format!("the session that ends at {timestamp} is past the store's retention")
            });
        }
        if self.emission != Emission::Update {
            return Ok(());
        }
        let old = old.filter(|_| self.sends_old);
        let (old, new) = (&old, &new);
        ctx.forward_change(Change { key, old, new, timestamp, headers })
    }

    fn touch(
        &mut self,
        key: &Windowed<K>,
        headers: &Headers,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        self.key_buffer.clear();
        self.key.encode(&key.key, &mut self.key_buffer)?;
        self.key_buffer.extend_from_slice(&key.window.start.to_be_bytes());
        self.key_buffer.extend_from_slice(&key.window.end.to_be_bytes());
        let before = if ctx.task.caches[self.lane].contains(&self.key_buffer) {
            None
        } else {
            ctx.task.stores.get(self.store).row(&key.key, key.window)?
        };
        ctx.task.caches[self.lane].touch(&self.key_buffer, before, key.window.end, headers);
        Ok(())
    }

    /// If the table emits on close: sends on every session that ended before `closed` and was not
    /// sent, by end, start and key.
    fn emit_closed(
        &mut self,
        closed: i64,
        headers: &Headers,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let Some(emitted) = self.clocks.expect("init ran").emitted else { return Ok(()) };
        let before = ctx.task.time_of(emitted);
        if closed <= before {
            return Ok(());
        }
        ctx.task.observe(emitted, closed);
        loop {
            let page = ctx.task.stores.get(self.store).take_closing(closed - 1, CLOSING_PAGE)?;
            if page.is_empty() {
                return Ok(());
            }
            for (key, row) in page {
                // A restored store lists sessions again that were sent on before.
                let Some(value) = row.filter(|_| key.window.end >= before) else { continue };
                let (old, new, timestamp) = (&None, &Some(value), key.window.end);
                ctx.forward_change(Change { key: &key, old, new, timestamp, headers })?;
            }
        }
    }

    fn update(
        &mut self,
        record: Record<'_, K, V>,
        key: K,
        closed: i64,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let (at, gap) = (record.timestamp, self.sessions.gap_ms);
        let alone = Window { start: at, end: at };
        let (from, to) = (at.saturating_sub(gap), at.saturating_add(gap));
        let cached = self.emission == Emission::Flush;
        let store = ctx.task.stores.get(self.store);
        let find = |store: &mut SessionStore<K, A>| match cached {
            true => store.find_hidden(record.key, from, to),
            false => store.find(record.key, from, to),
        };
        // Merging takes the aggregates; their old rows are told of from a second read.
        let old_rows = if self.sends_old { find(store)? } else { Vec::new() };
        let (mut session, mut aggregate, mut found) = (alone, None, Vec::new());
        for (window, value) in find(store)? {
            session.start = session.start.min(window.start);
            session.end = session.end.max(window.end);
            found.push(window);
            aggregate = self.merged((self.merge)(record.key, aggregate, value)?);
        }
        if session.end < closed {
            ctx.drop_record(DropReason::Late, self.on_dropped, || {
                let Window { start, end } = session;
                format!("session from {start} to {end} had closed: stream time - grace - gap is {closed}")
            });
            return Ok(());
        }
        let mut key = Windowed { key, window: session };
        if session != alone {
            let mut old_rows = old_rows.into_iter();
            for window in found {
                key.window = window;
                let old = old_rows.next().map(|(_, value)| value);
                key = self.remove(key, old, record.headers, ctx)?;
            }
        }
        key.window = session;
        let new = (self.aggregation.step)(record.key, record.value, aggregate)?;
        let new = if self.result.is_null(&new) { None } else { Some(new) };
        self.write(&key, None, new, record.headers, ctx)
    }
}

impl<K: 'static, V: 'static, A: 'static> StreamReceiver<K, V> for SessionAggregate<K, V, A> {
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        self.key_buffer.clear();
        let Some(key) = self.key.encode(record.key, &mut self.key_buffer)? else {
            ctx.drop_record(DropReason::NullKey, self.on_dropped, || "key is null".into());
            return Ok(());
        };
        // Windowed<K> owns its key; reading it back asks no Clone of K.
        let key = self.key.decode(Some(key))?;
        let clock = self.clocks.expect("init ran").time;
        let stream_time = ctx.task.observe(clock, record.timestamp);
        let closed = stream_time - self.sessions.grace_ms - self.sessions.gap_ms;
        self.update(record, key, closed, ctx)?;
        self.emit_closed(closed, record.headers, ctx)
    }
}

/// Looks rows up in a session table's store; a row's time is its session's end.
pub(crate) struct SessionGetter<K, V>(pub(crate) StoreHandle<SessionStore<K, V>>);

impl<K: 'static, V: 'static> ValueGetter<Windowed<K>, V> for SessionGetter<K, V> {
    fn get(
        &mut self,
        key: &Windowed<K>,
        task: &mut TaskState,
    ) -> Result<Option<(V, i64)>, NodeError> {
        let found = task.stores.get(self.0).fetch(&key.key, key.window)?;
        Ok(found.map(|value| (value, key.window.end)))
    }
}
