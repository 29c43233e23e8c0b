//! What every typed store is made of: bytes of the state crate with the serdes of their keys and
//! values. A null key has no place in any store. Knows no layout.

use std::sync::Arc;

use headwater_state::store::StorePartition;

use super::error::NodeError;
use crate::serde::SharedSerde;

/// What one partition of a store is opened with.
pub(crate) struct Opening<K, V> {
    pub(crate) name: Arc<str>,
    pub(crate) state: StorePartition,
    pub(crate) key: SharedSerde<K>,
    pub(crate) value: SharedSerde<V>,
}

/// A store of bytes with the serdes of what lies in it.
pub(super) struct Typed<B, K, V> {
    pub(super) bytes: B,
    pub(super) keys: Keys<K>,
    pub(super) value: SharedSerde<V>,
    pub(super) value_buffer: Vec<u8>,
}

impl<K, V> Opening<K, V> {
    /// The store over these bytes.
    pub(super) fn over<B>(self, bytes: impl FnOnce(StorePartition) -> B) -> Typed<B, K, V> {
        let Self { name, state, key, value } = self;
        let (bytes, keys) = (bytes(state), Keys::new(name, key));
        Typed { bytes, keys, value, value_buffer: Vec::new() }
    }

    /// The store over these bytes, if they can be opened.
    pub(super) fn try_over<B>(
        self,
        bytes: impl FnOnce(StorePartition) -> headwater_state::error::Result<B>,
    ) -> Result<Typed<B, K, V>, NodeError> {
        let Typed { bytes, keys, value, value_buffer } = self.over(bytes);
        Ok(Typed { bytes: bytes.map_err(NodeError::state)?, keys, value, value_buffer })
    }
}

/// Encodes the keys of one store.
pub(super) struct Keys<K> {
    store: Arc<str>,
    serde: SharedSerde<K>,
    buffer: Vec<u8>,
}

impl<K> Keys<K> {
    pub(super) fn new(store: Arc<str>, serde: SharedSerde<K>) -> Self {
        Self { store, serde, buffer: Vec::new() }
    }

    /// The store's name.
    pub(super) fn store(&self) -> &Arc<str> {
        &self.store
    }
}

impl<K: 'static> Keys<K> {
    /// The key's bytes, until the next call.
    pub(super) fn encode(&mut self, key: &K) -> Result<&[u8], NodeError> {
        self.buffer.clear();
        match self.serde.encode(key, &mut self.buffer)? {
            Some(_) => Ok(&self.buffer),
            None => Err(NodeError::message(format!("store `{}` takes no null key", self.store))),
        }
    }

    pub(super) fn decode(&self, bytes: &[u8]) -> Result<K, NodeError> {
        Ok(self.serde.decode(Some(bytes))?)
    }
}
