//! `Option<T>` from the serde of `T`: `None` is null.

use super::{KeyRange, Serde, SerdeError, SharedSerde};

pub(super) struct OptionalSerde<T: 'static>(pub(super) SharedSerde<T>);

impl<T: 'static> Serde<Option<T>> for OptionalSerde<T> {
    fn serialize(&self, value: &Option<T>, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        match value {
            Some(value) => self.0.serialize(value, into),
            None => Err(SerdeError::Null { type_name: std::any::type_name::<T>() }),
        }
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Option<T>, SerdeError> {
        self.0.deserialize(bytes).map(Some)
    }

    fn is_null(&self, value: &Option<T>) -> bool {
        value.as_ref().is_none_or(|value| self.0.is_null(value))
    }

    fn null(&self) -> Option<Option<T>> {
        Some(None)
    }

    fn to_json(&self, value: &Option<T>) -> Option<serde_json::Value> {
        match value {
            Some(value) => self.0.to_json(value),
            None => Some(serde_json::Value::Null),
        }
    }

    fn from_text(&self, text: &str) -> Option<Option<T>> {
        self.0.from_text(text).map(Some)
    }

    fn key_ranges(
        &self,
        from: Option<&Option<T>>,
        to: Option<&Option<T>>,
    ) -> Result<Vec<KeyRange>, SerdeError> {
        // A null end has no place among the bytes and reads as an open one.
        self.0.key_ranges(from.and_then(Option::as_ref), to.and_then(Option::as_ref))
    }
}
