//! What a topology says of a store: name, kind, serdes, caching, changelog. Owns opening it and
//! showing its rows as JSON; knows no operator.

use std::fmt;
use std::sync::Arc;

use headwater_state::layout::{session, time_first, versioned, window};
use headwater_state::store as bytes;
use headwater_state::store::StorePartition;
use serde_json::Value as Json;

use super::StateStore;
use super::changelog::{
    ChangelogFormat, RestoreBuffer, RestoreKeyValue, RestoreTarget, RestoreWindow,
};
use super::error::NodeError;
use super::join_buffer::JoinBuffer;
use super::join_window::JoinWindowStore;
use super::key_value::{KeyValueStore, TimestampedKeyValueStore};
use super::session::SessionStore;
use super::suppress_buffer::SuppressBuffer;
use super::timers::{TimeDomain, TimerStore};
use super::typed::Opening;
use super::versioned::VersionedStore;
use super::window::{TimestampedWindowStore, WindowStore};
use crate::record::Window;
use crate::serde::{Serde, SharedSerde, serdes};

/// The kind of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// Rows by key.
    KeyValue,
    /// Rows by key, each with a timestamp.
    TimestampedKeyValue,
    /// Rows by key and window start.
    Window(WindowSpec),
    /// Rows by key and window start, each with a timestamp.
    TimestampedWindow(WindowSpec),
    /// The records of one side of a stream-stream join, by key and time, duplicates included.
    JoinWindow(WindowSpec),
    /// As [`TimestampedWindow`](Self::TimestampedWindow), and windows are found when they close.
    ClosingWindow(WindowSpec),
    /// Rows by key and session.
    Session(SessionSpec),
    /// Changes that wait, by key.
    SuppressBuffer,
    /// The values that a key had, with this history in milliseconds.
    Versioned(i64),
    /// Records of a stream that wait, by time.
    JoinBuffer,
    /// Times of this clock, by key and name.
    Timers(TimeDomain),
}

/// The windows of a window store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSpec {
    /// The windows' size in milliseconds: end = start + size.
    pub size_ms: i64,
    /// How long a window can be read, in milliseconds of the store's time.
    pub retention_ms: i64,
}

/// The sessions of a session store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionSpec {
    /// How long a session can be read after its end, in milliseconds of the store's time.
    pub retention_ms: i64,
    /// Sessions are found when they close.
    pub closing: bool,
}

impl StoreKind {
    /// The store's window, if it is a window store.
    pub fn window(&self) -> Option<WindowSpec> {
        match self {
            StoreKind::Window(spec)
            | StoreKind::TimestampedWindow(spec)
            | StoreKind::ClosingWindow(spec)
            | StoreKind::JoinWindow(spec) => Some(*spec),
            _ => None,
        }
    }

    /// Rows carry a timestamp.
    pub fn is_timestamped(&self) -> bool {
        matches!(
            self,
            StoreKind::TimestampedKeyValue
                | StoreKind::TimestampedWindow(_)
                | StoreKind::ClosingWindow(_)
        )
    }

    /// Changes can be held back until a flush. What is sent on only when it closes waits anyway, and
    /// versions are sent on one by one.
    pub(crate) fn can_be_cached(self) -> bool {
        !matches!(
            self,
            StoreKind::ClosingWindow(_)
                | StoreKind::Session(SessionSpec { closing: true, .. })
                | StoreKind::Versioned(_)
        )
    }

    /// What a store key says, if it is of a row of the store's own: key, window, and the time that
    /// retention counts from. `None` also for a damaged one.
    pub(crate) fn row_of(self, store_key: &[u8]) -> Option<(&[u8], Option<Window>, Option<i64>)> {
        match self {
            StoreKind::KeyValue | StoreKind::TimestampedKeyValue | StoreKind::JoinBuffer => {
                Some((store_key, None, None))
            }
            StoreKind::Versioned(_) => Some((versioned::decode(store_key)?.0, None, None)),
            _ if time_first::is_derived(store_key) => None,
            StoreKind::Window(spec)
            | StoreKind::TimestampedWindow(spec)
            | StoreKind::ClosingWindow(spec)
            | StoreKind::JoinWindow(spec) => {
                let (key, start, _) = window::decode(store_key).ok()?;
                let end = start.saturating_add(spec.size_ms);
                Some((key, Some(Window { start, end }), Some(start)))
            }
            StoreKind::Session(_) => {
                let (key, start, end) = session::decode(store_key).ok()?;
                Some((key, Some(Window { start, end }), Some(end)))
            }
            StoreKind::SuppressBuffer | StoreKind::Timers(_) => {
                Some((bytes::decode_buffer_key(store_key)?, None, None))
            }
        }
    }

    /// How long rows are kept, in milliseconds, if the store lets them expire.
    pub fn retention_ms(&self) -> Option<i64> {
        match self {
            StoreKind::Session(spec) => Some(spec.retention_ms),
            kind => kind.window().map(|spec| spec.retention_ms),
        }
    }

    /// How the store's changelog records look.
    pub fn changelog_format(&self) -> ChangelogFormat {
        match self {
            StoreKind::KeyValue | StoreKind::JoinBuffer => ChangelogFormat::KeyValue,
            StoreKind::Versioned(_) => ChangelogFormat::Versioned,
            StoreKind::TimestampedKeyValue => ChangelogFormat::TimestampedKeyValue,
            StoreKind::Window(_) | StoreKind::JoinWindow(_) => ChangelogFormat::Window,
            StoreKind::TimestampedWindow(_) | StoreKind::ClosingWindow(_) => {
                ChangelogFormat::TimestampedWindow
            }
            StoreKind::Session(_) => ChangelogFormat::Session,
            StoreKind::SuppressBuffer => ChangelogFormat::SuppressBuffer,
            StoreKind::Timers(_) => ChangelogFormat::Timers,
        }
    }
}

type Open = dyn Fn(StorePartition) -> Result<Box<dyn StateStore>, NodeError> + Send + Sync;

/// A store of a topology.
#[derive(Clone)]
pub struct StoreSpec {
    /// The store's name, also in its changelog topic `<application>-<name>-changelog`.
    pub name: Arc<str>,
    /// What it keeps.
    pub kind: StoreKind,
    /// Changes are forwarded at a flush, one per key.
    pub cached: bool,
    /// Its rows as text.
    pub view: Arc<dyn StoreView>,
    open: Arc<Open>,
}

impl fmt::Debug for StoreSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("StoreSpec");
        shown.field("name", &self.name).field("kind", &self.kind).field("cached", &self.cached);
        shown.finish_non_exhaustive()
    }
}

impl StoreSpec {
    /// A store of this kind, keys and values by these serdes.
    pub(crate) fn new<K: 'static, V: 'static>(
        name: impl Into<Arc<str>>,
        kind: StoreKind,
        key: SharedSerde<K>,
        value: SharedSerde<V>,
    ) -> Self {
        let name: Arc<str> = name.into();
        let view = Arc::new(SerdeView { key: key.clone(), value: value.clone() });
        let own = Arc::clone(&name);
        let open = move |state: StorePartition| -> Result<Box<dyn StateStore>, NodeError> {
            let (name, key, value) = (Arc::clone(&own), key.clone(), value.clone());
            let opening = Opening { name, state, key, value };
            Ok(match kind {
                StoreKind::KeyValue => Box::new(KeyValueStore::new(opening)),
                StoreKind::TimestampedKeyValue => Box::new(TimestampedKeyValueStore::new(opening)),
                StoreKind::Window(w) => Box::new(WindowStore::new(opening, w.retention_ms)?),
                StoreKind::TimestampedWindow(w) => {
                    Box::new(TimestampedWindowStore::new(opening, w.retention_ms)?)
                }
                StoreKind::JoinWindow(w) => {
                    Box::new(JoinWindowStore::new(opening, w.retention_ms)?)
                }
                StoreKind::ClosingWindow(w) => {
                    Box::new(TimestampedWindowStore::new(opening, w.retention_ms)?.time_first())
                }
                StoreKind::Session(s) => Box::new(SessionStore::new(opening, s)?),
                StoreKind::Versioned(history_ms) => {
                    Box::new(VersionedStore::new(opening, history_ms))
                }
                StoreKind::JoinBuffer => Box::new(JoinBuffer::new(opening)),
                StoreKind::SuppressBuffer => Box::new(SuppressBuffer::new(opening)),
                StoreKind::Timers(domain) => Box::new(TimerStore::new(opening, domain)),
            })
        };
        Self { name, kind, cached: false, view, open: Arc::new(open) }
    }

    /// Opens one partition of the store.
    pub(crate) fn open(&self, state: StorePartition) -> Result<Box<dyn StateStore>, NodeError> {
        (self.open)(state)
    }

    /// One partition of the store, to be restored from its changelog.
    ///
    /// # Errors
    /// The state below cannot be read.
    pub fn restore_target(
        &self,
        state: StorePartition,
    ) -> Result<Box<dyn RestoreTarget>, headwater_state::StateError> {
        let timed = self.kind.is_timestamped();
        Ok(match self.kind {
            StoreKind::KeyValue | StoreKind::TimestampedKeyValue | StoreKind::JoinBuffer => {
                Box::new(RestoreKeyValue { state, timed })
            }
            StoreKind::Window(w) | StoreKind::TimestampedWindow(w) | StoreKind::JoinWindow(w) => {
                let store = bytes::WindowStore::new(state, w.retention_ms)?;
                Box::new(RestoreWindow { store, timed })
            }
            StoreKind::ClosingWindow(w) => {
                let store = bytes::WindowStore::new(state, w.retention_ms)?.time_first();
                Box::new(RestoreWindow { store, timed })
            }
            StoreKind::Session(s) => {
                Box::new(bytes::SessionStore::new(state, s.retention_ms, s.closing)?)
            }
            StoreKind::Versioned(history_ms) => {
                Box::new(bytes::VersionedStore::new(state, history_ms))
            }
            StoreKind::SuppressBuffer => Box::new(RestoreBuffer(bytes::Buffer::new(state))),
            StoreKind::Timers(_) => Box::new(bytes::Timers::new(state)),
        })
    }
}

/// A store's keys and values as text, for queries.
pub trait StoreView: Send + Sync {
    /// The bytes of the key that a text stands for; `None` if it stands for none.
    fn key_from_text(&self, text: &str) -> Option<Vec<u8>>;
    /// A key as JSON; `None` if it has no text form or cannot be read.
    fn key_to_json(&self, key: &[u8]) -> Option<Json>;
    /// A value (without its timestamp) as JSON; `None` as above.
    fn value_to_json(&self, value: &[u8]) -> Option<Json>;
    /// The ranges of key bytes from one key to another, in order; see [`Serde::key_ranges`].
    fn key_ranges(
        &self,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Option<Vec<crate::serde::KeyRange>>;
}

struct SerdeView<K, V> {
    key: SharedSerde<K>,
    value: SharedSerde<V>,
}

impl<K: 'static, V: 'static> StoreView for SerdeView<K, V> {
    fn key_from_text(&self, text: &str) -> Option<Vec<u8>> {
        self.key.to_bytes(&self.key.from_text(text)?).ok().flatten()
    }

    fn key_to_json(&self, key: &[u8]) -> Option<Json> {
        self.key.to_json(&self.key.decode(Some(key)).ok()?)
    }

    fn value_to_json(&self, value: &[u8]) -> Option<Json> {
        self.value.to_json(&self.value.decode(Some(value)).ok()?)
    }

    fn key_ranges(
        &self,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Option<Vec<crate::serde::KeyRange>> {
        let key = |text: Option<&str>| match text {
            None => Some(None),
            Some(text) => self.key.from_text(text).map(Some),
        };
        self.key.key_ranges(key(from)?.as_ref(), key(to)?.as_ref()).ok()
    }
}

/// A store for processors, to be added to a builder.
///
/// ```
/// use headwater::dsl::StreamsBuilder;
/// use headwater::serde::serdes;
/// use headwater::store::Stored;
///
/// let builder = StreamsBuilder::new();
/// let seen = builder.add_store(Stored::key_value("seen", serdes::string(), serdes::i64()));
/// ```
#[derive(Debug)]
pub struct Stored<S> {
    pub(crate) spec: StoreSpec,
    _store: std::marker::PhantomData<fn() -> S>,
}

impl<K: 'static, V: 'static> Stored<KeyValueStore<K, V>> {
    /// A key-value store of this name.
    pub fn key_value(
        name: impl Into<Arc<str>>,
        key: SharedSerde<K>,
        value: SharedSerde<V>,
    ) -> Self {
        let spec = StoreSpec::new(name, StoreKind::KeyValue, key, value);
        Self { spec, _store: std::marker::PhantomData }
    }
}

impl<K: 'static, V: 'static> Stored<WindowStore<K, V>> {
    /// A window store of this name: one value for each key and start.
    pub fn window(
        name: impl Into<Arc<str>>,
        windows: WindowSpec,
        key: SharedSerde<K>,
        value: SharedSerde<V>,
    ) -> Self {
        let spec = StoreSpec::new(name, StoreKind::Window(windows), key, value);
        Self { spec, _store: std::marker::PhantomData }
    }
}

impl<K: 'static> Stored<TimerStore<K>> {
    /// Timers of this name on the task's stream time.
    ///
    /// ```
    /// # use headwater::{dsl::StreamsBuilder, serde::serdes, store::Stored};
    /// let builder = StreamsBuilder::new();
    /// let reminders = builder.add_store(Stored::stream_timers("reminders", serdes::string()));
    /// let deadlines = builder.add_store(Stored::wall_clock_timers("deadlines", serdes::string()));
    /// ```
    pub fn stream_timers(name: impl Into<Arc<str>>, key: SharedSerde<K>) -> Self {
        Self::timers(name, TimeDomain::StreamTime, key)
    }

    /// Timers of this name on the wall clock.
    pub fn wall_clock_timers(name: impl Into<Arc<str>>, key: SharedSerde<K>) -> Self {
        Self::timers(name, TimeDomain::WallClockTime, key)
    }

    fn timers(name: impl Into<Arc<str>>, domain: TimeDomain, key: SharedSerde<K>) -> Self {
        let spec = StoreSpec::new(name, StoreKind::Timers(domain), key, serdes::i64());
        Self { spec, _store: std::marker::PhantomData }
    }
}
