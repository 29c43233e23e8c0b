//! The serdes of Rust's own types, with the bytes of Kafka's serdes. Sources: the classes of
//! `org.apache.kafka.common.serialization`.

use bytes::Bytes;
use serde_json::Value;
use uuid::Uuid;

use super::{KeyRange, Serde, SerdeError};

pub(super) struct StringSerde;
pub(super) struct I64Serde;
pub(super) struct I32Serde;
pub(super) struct U64Serde;
pub(super) struct F64Serde;
pub(super) struct BoolSerde;
pub(super) struct BytesSerde;
pub(super) struct UnitSerde;
pub(super) struct UuidSerde;

fn text(bytes: &[u8]) -> Result<&str, SerdeError> {
    std::str::from_utf8(bytes).map_err(|error| SerdeError::Text { position: error.valid_up_to() })
}

impl Serde<String> for StringSerde {
    fn serialize(&self, value: &String, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        into.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<String, SerdeError> {
        text(bytes).map(str::to_owned)
    }

    fn to_json(&self, value: &String) -> Option<Value> {
        Some(Value::from(value.as_str()))
    }

    fn from_text(&self, text: &str) -> Option<String> {
        Some(text.to_owned())
    }
}

/// The methods all numbers of fixed length share.
macro_rules! fixed_length {
    ($type:ty) => {
        fn serialize(&self, value: &$type, into: &mut Vec<u8>) -> Result<(), SerdeError> {
            into.extend_from_slice(&value.to_be_bytes());
            Ok(())
        }

        fn deserialize(&self, bytes: &[u8]) -> Result<$type, SerdeError> {
            let length = SerdeError::length(size_of::<$type>(), bytes.len());
            bytes.try_into().map(<$type>::from_be_bytes).map_err(|_| length)
        }

        fn to_json(&self, value: &$type) -> Option<Value> {
            Some(Value::from(*value))
        }

        fn from_text(&self, text: &str) -> Option<$type> {
            text.parse().ok()
        }
    };
}

/// The negative part of a range of signed integers lies behind the other part, so it is a piece of
/// its own, read first.
macro_rules! signed_ranges {
    ($type:ty) => {
        fn key_ranges(
            &self,
            from: Option<&$type>,
            to: Option<&$type>,
        ) -> Result<Vec<KeyRange>, SerdeError> {
            let (from, to) =
                (from.copied().unwrap_or(<$type>::MIN), to.copied().unwrap_or(<$type>::MAX));
            let piece = |from: $type, to: $type| {
                let bytes = |end: $type| Some(end.to_be_bytes().to_vec());
                (from <= to).then(|| KeyRange { from: bytes(from), to: bytes(to) })
            };
            Ok([piece(from, to.min(-1)), piece(from.max(0), to)].into_iter().flatten().collect())
        }
    };
}

impl Serde<i64> for I64Serde {
    fixed_length!(i64);
    signed_ranges!(i64);
}

impl Serde<i32> for I32Serde {
    fixed_length!(i32);
    signed_ranges!(i32);
}

impl Serde<u64> for U64Serde {
    fixed_length!(u64);
}

impl Serde<f64> for F64Serde {
    fixed_length!(f64);
}

impl Serde<bool> for BoolSerde {
    fn serialize(&self, value: &bool, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        into.push(u8::from(*value));
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<bool, SerdeError> {
        match bytes {
            [0] => Ok(false),
            [1] => Ok(true),
            [_] => Err(SerdeError::Malformed {
                format: "boolean",
                position: 0,
                problem: "neither 0 nor 1",
            }),
            _ => Err(SerdeError::length(1, bytes.len())),
        }
    }

    fn to_json(&self, value: &bool) -> Option<Value> {
        Some(Value::from(*value))
    }

    fn from_text(&self, text: &str) -> Option<bool> {
        text.parse().ok()
    }
}

impl Serde<Bytes> for BytesSerde {
    fn serialize(&self, value: &Bytes, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        into.extend_from_slice(value);
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Bytes, SerdeError> {
        Ok(Bytes::copy_from_slice(bytes))
    }
}

impl Serde<Vec<u8>> for BytesSerde {
    fn serialize(&self, value: &Vec<u8>, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        into.extend_from_slice(value);
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Vec<u8>, SerdeError> {
        Ok(bytes.to_vec())
    }
}

impl Serde<()> for UnitSerde {
    fn serialize(&self, (): &(), _into: &mut Vec<u8>) -> Result<(), SerdeError> {
        Err(SerdeError::Null { type_name: "()" })
    }

    fn deserialize(&self, _bytes: &[u8]) -> Result<(), SerdeError> {
        Err(SerdeError::Malformed {
            format: "void",
            position: 0,
            problem: "bytes where only null may be",
        })
    }

    fn is_null(&self, (): &()) -> bool {
        true
    }

    fn null(&self) -> Option<()> {
        Some(())
    }

    fn to_json(&self, (): &()) -> Option<Value> {
        Some(Value::Null)
    }
}

impl Serde<Uuid> for UuidSerde {
    fn serialize(&self, value: &Uuid, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        let mut buffer = Uuid::encode_buffer();
        into.extend_from_slice(value.hyphenated().encode_lower(&mut buffer).as_bytes());
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Uuid, SerdeError> {
        if bytes.len() != uuid::fmt::Hyphenated::LENGTH {
            return Err(SerdeError::length(uuid::fmt::Hyphenated::LENGTH, bytes.len()));
        }
        Uuid::try_parse(text(bytes)?).map_err(|_| SerdeError::Malformed {
            format: "uuid",
            position: 0,
            problem: "not of the hyphenated form",
        })
    }

    fn to_json(&self, value: &Uuid) -> Option<Value> {
        Some(Value::from(value.to_string()))
    }

    fn from_text(&self, text: &str) -> Option<Uuid> {
        Uuid::try_parse(text).ok()
    }
}
