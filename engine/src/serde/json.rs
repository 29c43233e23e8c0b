//! JSON by the types' own `serde` implementations, bounded in size and depth.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};

use super::{Serde, SerdeError};

/// Largest JSON document that is read or written, in bytes.
pub const JSON_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Depth is bounded by the parser, which refuses more than 128 levels.
pub(super) struct JsonSerde<T>(pub(super) PhantomData<fn() -> T>);

impl<T: Serialize + DeserializeOwned + 'static> Serde<T> for JsonSerde<T> {
    fn serialize(&self, value: &T, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        let start = into.len();
        let mut serializer = serde_json::Serializer::new(&mut *into);
        serde_path_to_error::serialize(value, &mut serializer).map_err(json_error)?;
        check_size(into.len() - start)
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<T, SerdeError> {
        check_size(bytes.len())?;
        // The path costs time, so it is looked for only once reading has failed.
        serde_json::from_slice(bytes).map_err(|error| explain::<T>(bytes, &error))
    }

    fn to_json(&self, value: &T) -> Option<serde_json::Value> {
        serde_json::to_value(value).ok()
    }

    fn from_text(&self, text: &str) -> Option<T> {
        let as_document = || serde_json::from_str(text).ok();
        let as_string = || serde_json::from_value(serde_json::Value::from(text)).ok();
        if text.len() > JSON_BYTES_MAX { None } else { as_document().or_else(as_string) }
    }
}

fn explain<T: DeserializeOwned>(bytes: &[u8], error: &serde_json::Error) -> SerdeError {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(error) => json_error(error),
        // The value itself can be read, so the error lies behind it.
        Ok(_) => SerdeError::Json { path: ".".to_owned(), message: error.to_string() },
    }
}

fn json_error(error: serde_path_to_error::Error<serde_json::Error>) -> SerdeError {
    SerdeError::Json { path: error.path().to_string(), message: error.into_inner().to_string() }
}

fn check_size(found: usize) -> Result<(), SerdeError> {
    if found > JSON_BYTES_MAX {
        return Err(SerdeError::Limit { what: "json document", found, limit: JSON_BYTES_MAX });
    }
    Ok(())
}
