//! The key half of every typed store: one serde, one buffer, no null. Knows no layout.

use std::sync::Arc;

use super::error::NodeError;
use crate::serde::SharedSerde;

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
