//! The built-in serdes. Their bytes are those of Kafka's own serdes of the same name, so that any
//! Kafka client reads what we write.
//!
//! **Order of integer keys.** Kafka writes signed integers as two's complement, big-endian, and so
//! do [`i64()`] and [`i32()`]: by bytes, -1 lies behind every positive number. Scans of a whole
//! store go by bytes, as in Kafka Streams. A *range* read goes by value: the range is cut at zero by
//! [`Serde::key_ranges`] and its negative part is read first. (Kafka Streams answers a range from
//! -5 to 5 with nothing and a warning.) [`u64()`] has one order only, that of its values. [`f64()`]
//! has no useful order: negative numbers lie behind the positive ones and backwards.

use std::marker::PhantomData;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

pub use super::json::JSON_BYTES_MAX;
use super::json::JsonSerde;
use super::optional::OptionalSerde;
use super::primitives::{
    BoolSerde, BytesSerde, F64Serde, I32Serde, I64Serde, StringSerde, U64Serde, UnitSerde,
    UuidSerde,
};
use super::{DefaultSerde, Serde, SharedSerde};

macro_rules! built_in {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $serde:expr;)*) => {$(
        $(#[$doc])*
        pub fn $name() -> SharedSerde<$type> {
            $serde.shared()
        }
    )*};
}

built_in! {
    /// Text as UTF-8 (Kafka's `StringSerializer`).
    string: String = StringSerde;
    /// 8 bytes, big-endian, two's complement (Kafka's `LongSerializer`).
    i64: i64 = I64Serde;
    /// 4 bytes, big-endian, two's complement (Kafka's `IntegerSerializer`).
    i32: i32 = I32Serde;
    /// 8 bytes, big-endian. Kafka has none; for numbers below 2^63 its `LongSerializer` is the same.
    u64: u64 = U64Serde;
    /// 8 bytes, big-endian, IEEE 754 (Kafka's `DoubleSerializer`).
    f64: f64 = F64Serde;
    /// One byte, 1 or 0 (Kafka's `BooleanSerializer`); other bytes are refused.
    bool: bool = BoolSerde;
    /// Bytes as they are (Kafka's `ByteArraySerializer`).
    bytes: Bytes = BytesSerde;
    /// Bytes as they are, in a vector (Kafka's `ByteArraySerializer`).
    byte_vec: Vec<u8> = BytesSerde;
    /// Always null (Kafka's `VoidSerializer`); any byte is refused.
    unit: () = UnitSerde;
    /// The 36 characters of the hyphenated form, lower case (Kafka's `UUIDSerializer`).
    uuid: Uuid = UuidSerde;
}

/// JSON by the type's own `serde` implementations; at most [`JSON_BYTES_MAX`] bytes and 128 levels.
/// Fields are written in the order of the type, so equal values have equal bytes unless the type
/// holds a map without an order.
pub fn json<T: Serialize + DeserializeOwned + 'static>() -> SharedSerde<T> {
    JsonSerde(PhantomData).shared()
}

/// `Option<T>` from the serde of `T`: `None` is null, `Some` has the bytes of `inner`.
///
/// ```
/// use headwater::serde::serdes;
///
/// let serde = serdes::optional(serdes::i64());
/// assert_eq!(serde.decode(None), Ok(None));
/// assert_eq!(serde.decode(Some(&[0, 0, 0, 0, 0, 0, 0, 7])), Ok(Some(7)));
/// ```
pub fn optional<T: 'static>(inner: impl Serde<T>) -> SharedSerde<Option<T>> {
    OptionalSerde(inner.shared()).shared()
}

macro_rules! default_serde {
    ($($type:ty = $name:ident;)*) => {$(
        impl DefaultSerde for $type {
            fn default_serde() -> SharedSerde<Self> {
                $name()
            }
        }
    )*};
}

default_serde! {
    String = string;
    i64 = i64;
    i32 = i32;
    u64 = u64;
    f64 = f64;
    bool = bool;
    Bytes = bytes;
    Vec<u8> = byte_vec;
    () = unit;
    Uuid = uuid;
    serde_json::Value = json;
}

impl<T: DefaultSerde> DefaultSerde for Option<T> {
    fn default_serde() -> SharedSerde<Self> {
        optional(T::default_serde())
    }
}
