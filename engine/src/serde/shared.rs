//! The handle under which nodes share one serde, and the serde a type has when none is named.

use std::any::type_name;
use std::fmt;
use std::sync::Arc;

use super::{KeyRange, Serde, SerdeError};

/// A serde that nodes share. Cloning it is cheap.
///
/// [`SharedSerde::encode`] and [`SharedSerde::decode`] are what record paths call: they ask the
/// serde about null and leave no partial bytes behind.
pub struct SharedSerde<T>(Arc<dyn Serde<T>>);

impl<T> SharedSerde<T> {
    pub(super) fn new(serde: impl Serde<T>) -> Self {
        Self(Arc::new(serde))
    }
}

impl<T: 'static> SharedSerde<T> {
    /// Appends the bytes of `value` and returns them, or `None` if the value stands for null.
    ///
    /// # Errors
    /// The value has no bytes; `into` is as it was.
    #[inline]
    pub fn encode<'a>(
        &self,
        value: &T,
        into: &'a mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>, SerdeError> {
        if self.0.is_null(value) {
            return Ok(None);
        }
        let start = into.len();
        match self.0.serialize(value, into) {
            Ok(()) => Ok(Some(&into[start..])),
            Err(error) => {
                into.truncate(start);
                Err(error)
            }
        }
    }

    /// The bytes of `value` in a buffer of their own, or `None` if the value stands for null.
    ///
    /// # Errors
    /// The value has no bytes.
    pub fn to_bytes(&self, value: &T) -> Result<Option<Vec<u8>>, SerdeError> {
        let mut bytes = Vec::new();
        let null = self.encode(value, &mut bytes)?.is_none();
        Ok(if null { None } else { Some(bytes) })
    }

    /// Reads bytes, or null where there are none.
    ///
    /// # Errors
    /// The bytes are no `T`; [`SerdeError::Null`] if they are null and `T` refuses it.
    #[inline]
    pub fn decode(&self, bytes: Option<&[u8]>) -> Result<T, SerdeError> {
        match bytes {
            Some(bytes) => self.0.deserialize(bytes),
            None => self.0.null().ok_or(SerdeError::Null { type_name: type_name::<T>() }),
        }
    }
}

impl<T: 'static> Serde<T> for SharedSerde<T> {
    #[inline]
    fn serialize(&self, value: &T, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        self.0.serialize(value, into)
    }

    #[inline]
    fn deserialize(&self, bytes: &[u8]) -> Result<T, SerdeError> {
        self.0.deserialize(bytes)
    }

    #[inline]
    fn is_null(&self, value: &T) -> bool {
        self.0.is_null(value)
    }

    fn null(&self) -> Option<T> {
        self.0.null()
    }

    fn to_json(&self, value: &T) -> Option<serde_json::Value> {
        self.0.to_json(value)
    }

    fn from_text(&self, text: &str) -> Option<T> {
        self.0.from_text(text)
    }

    fn key_ranges(&self, from: Option<&T>, to: Option<&T>) -> Result<Vec<KeyRange>, SerdeError> {
        self.0.key_ranges(from, to)
    }

    fn partition_key<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.0.partition_key(bytes)
    }

    fn shared(self) -> SharedSerde<T> {
        self
    }
}

impl<T> Clone for SharedSerde<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for SharedSerde<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedSerde<{}>", type_name::<T>())
    }
}

/// A type with an obvious serde, which is used where none is named.
///
/// ```
/// use headwater::serde::{DefaultSerde, SharedSerde, serdes};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Order {
///     id: String,
/// }
///
/// impl DefaultSerde for Order {
///     fn default_serde() -> SharedSerde<Self> {
///         serdes::json()
///     }
/// }
/// ```
pub trait DefaultSerde: Sized + 'static {
    /// That serde.
    fn default_serde() -> SharedSerde<Self>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serde::serdes;

    #[test]
    fn sharing_a_shared_serde_adds_no_layer() {
        let serde = serdes::string();
        let again = serde.clone().shared();
        assert!(Arc::ptr_eq(&serde.0, &again.0));
    }
}
