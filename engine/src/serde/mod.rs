//! Serdes: how keys and values become bytes and come back. Owns the trait, the shared handle that
//! nodes hold, the built-in serdes and their errors; `kafka_streams` owns the byte formats that
//! Kafka Streams puts around keys and values. Must not know topics, stores or processors.

mod error;
mod json;
pub mod kafka_streams;
mod optional;
mod primitives;
pub mod serdes;
mod shared;
#[cfg(test)]
mod tests;

pub use error::SerdeError;
pub use shared::{DefaultSerde, SharedSerde};

/// Turns `T` into bytes and back.
///
/// The contract:
/// - `deserialize` gives back what `serialize` was given, on every machine and in every later
///   version of the program: the bytes outlive it in topics and stores.
/// - Equal values have equal bytes where `T` is a key, for partitions and stores compare bytes.
///   (Not checkable; beware of maps without an order.)
/// - Null is no value of the byte format. A null record value never reaches `serialize` or
///   `deserialize`: [`Serde::is_null`] is asked before the one, [`Serde::null`] instead of the other.
/// - Nothing panics, whatever the bytes.
///
/// Nodes hold a serde as [`SharedSerde`], which also does the asking about null.
///
/// ```
/// use headwater::serde::{Serde, SerdeError, SharedSerde};
///
/// struct Celsius(f32);
/// struct CelsiusSerde;
///
/// impl Serde<Celsius> for CelsiusSerde {
///     fn serialize(&self, value: &Celsius, into: &mut Vec<u8>) -> Result<(), SerdeError> {
///         into.extend_from_slice(&value.0.to_be_bytes());
///         Ok(())
///     }
///
///     fn deserialize(&self, bytes: &[u8]) -> Result<Celsius, SerdeError> {
///         let bytes = bytes.try_into().map_err(|_| SerdeError::length(4, bytes.len()))?;
///         Ok(Celsius(f32::from_be_bytes(bytes)))
///     }
/// }
///
/// let serde: SharedSerde<Celsius> = CelsiusSerde.shared();
/// assert_eq!(serde.decode(Some(&[0x41, 0xa4, 0, 0]))?.0, 20.5);
/// assert!(serde.decode(None).is_err());
/// # Ok::<(), SerdeError>(())
/// ```
pub trait Serde<T>: Send + Sync + 'static {
    /// Appends the bytes of a value that is not null.
    ///
    /// # Errors
    /// The value has no bytes. What was appended until then is cut off by [`SharedSerde::encode`].
    fn serialize(&self, value: &T, into: &mut Vec<u8>) -> Result<(), SerdeError>;

    /// Reads the bytes of a value that is not null.
    ///
    /// # Errors
    /// The bytes are no `T`; the error says what was found where.
    fn deserialize(&self, bytes: &[u8]) -> Result<T, SerdeError>;

    /// Whether this value stands for null, which in a topic is "no bytes" and in a table a deletion.
    fn is_null(&self, value: &T) -> bool {
        let _ = value;
        false
    }

    /// The value that stands for null; `None` if `T` refuses null.
    fn null(&self) -> Option<T> {
        None
    }

    /// The value as JSON, for answers over HTTP; `None` if the bytes are to be shown as base64.
    fn to_json(&self, value: &T) -> Option<serde_json::Value> {
        let _ = value;
        None
    }

    /// The value that a text in a URL stands for, for keys in queries; `None` if it stands for none.
    #[expect(clippy::wrong_self_convention, reason = "the serde is asked, `T` is made")]
    fn from_text(&self, text: &str) -> Option<T> {
        let _ = text;
        None
    }

    /// The ranges of bytes that together hold the keys from `from` to `to`, both included, in the
    /// order in which they are to be read; an absent end is open.
    ///
    /// One range by default: keys are in the order of their bytes. A serde whose byte order is not
    /// the order of its values splits the range so that reading the pieces one after the other goes
    /// by value (the signed integers of [`serdes`] do).
    ///
    /// # Errors
    /// An end has no bytes.
    fn key_ranges(&self, from: Option<&T>, to: Option<&T>) -> Result<Vec<KeyRange>, SerdeError> {
        let bytes = |key: Option<&T>| {
            let serialize = |key| {
                let mut bytes = Vec::new();
                self.serialize(key, &mut bytes).map(|()| bytes)
            };
            key.map(serialize).transpose()
        };
        let range = KeyRange { from: bytes(from)?, to: bytes(to)? };
        Ok(if range.is_empty() { Vec::new() } else { vec![range] })
    }

    /// The part of a key's bytes that chooses its partition: all of them, but a windowed key without
    /// its window.
    fn partition_key<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes
    }

    /// The shared handle that nodes hold.
    fn shared(self) -> SharedSerde<T>
    where
        Self: Sized,
    {
        SharedSerde::new(self)
    }
}

/// Keys by their bytes, both ends included; an absent end is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// The smallest key.
    pub from: Option<Vec<u8>>,
    /// The largest key.
    pub to: Option<Vec<u8>>,
}

impl KeyRange {
    /// Whether no key can lie in it.
    pub fn is_empty(&self) -> bool {
        matches!((&self.from, &self.to), (Some(from), Some(to)) if from > to)
    }
}
