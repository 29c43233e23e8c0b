//! Keys and values of scenarios: strings, integers, null, windowed keys; their bytes and JSON.

use headwater::record::Windowed;
use headwater::serde::{Serde, SerdeError, SharedSerde};
use serde_json::{Value as Json, json};

/// A key: a string or null.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(pub(super) Option<String>);

/// A value: an integer, a string or null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Val {
    Null,
    Int(i64),
    Str(String),
}

impl Val {
    pub(super) fn is_null(&self) -> bool {
        matches!(self, Val::Null)
    }

    /// The decimal form of an integer, a string itself, `null`.
    pub(super) fn text(&self) -> String {
        match self {
            Val::Null => "null".into(),
            Val::Int(n) => n.to_string(),
            Val::Str(s) => s.clone(),
        }
    }

    /// An integer itself, 0 for null.
    pub(super) fn number(&self) -> i64 {
        match self {
            Val::Int(n) => *n,
            _ => 0,
        }
    }

    pub(super) fn json(&self) -> Json {
        match self {
            Val::Null => Json::Null,
            Val::Int(n) => json!(n),
            Val::Str(s) => json!(s),
        }
    }
}

/// A key as functions of scenarios see it.
pub(super) trait ScenarioKey: Clone + Send + Sync + 'static {
    /// `str(key)`, or `None` for null.
    fn text(&self) -> Option<String>;
    /// The key inside a windowed key, a plain key itself.
    fn inner(&self) -> Key;
    fn json(&self) -> Json;
    fn serde() -> SharedSerde<Self>;
}

impl ScenarioKey for Key {
    fn text(&self) -> Option<String> {
        self.0.clone()
    }

    fn inner(&self) -> Key {
        self.clone()
    }

    fn json(&self) -> Json {
        json!(self.0)
    }

    fn serde() -> SharedSerde<Self> {
        KeySerde.shared()
    }
}

impl ScenarioKey for Windowed<Key> {
    fn text(&self) -> Option<String> {
        let key = self.key.0.as_deref().unwrap_or("null");
        Some(format!("{key}@{}/{}", self.window.start, self.window.end))
    }

    fn inner(&self) -> Key {
        self.key.clone()
    }

    fn json(&self) -> Json {
        json!({"key": self.key.0, "start": self.window.start, "end": self.window.end})
    }

    fn serde() -> SharedSerde<Self> {
        WindowedSerde.shared()
    }
}

struct KeySerde;

impl Serde<Key> for KeySerde {
    fn serialize(&self, key: &Key, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        into.extend_from_slice(key.0.as_deref().unwrap_or_default().as_bytes());
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Key, SerdeError> {
        let text = std::str::from_utf8(bytes);
        let text = text.map_err(|e| SerdeError::Text { position: e.valid_up_to() })?;
        Ok(Key(Some(text.to_owned())))
    }

    fn is_null(&self, key: &Key) -> bool {
        key.0.is_none()
    }

    fn null(&self) -> Option<Key> {
        Some(Key(None))
    }
}

/// Windowed keys with both ends, so that outputs show them.
struct WindowedSerde;

impl Serde<Windowed<Key>> for WindowedSerde {
    fn serialize(&self, key: &Windowed<Key>, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        KeySerde.serialize(&key.key, into)?;
        into.extend_from_slice(&key.window.start.to_be_bytes());
        into.extend_from_slice(&key.window.end.to_be_bytes());
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Windowed<Key>, SerdeError> {
        let at = bytes.len().checked_sub(16).ok_or(SerdeError::length(16, bytes.len()))?;
        let (key, times) = bytes.split_at(at);
        let time = |from: usize| {
            let eight = times[from..from + 8].try_into().expect("sixteen bytes were split off");
            i64::from_be_bytes(eight)
        };
        let window = headwater::record::Window { start: time(0), end: time(8) };
        Ok(Windowed { key: KeySerde.deserialize(key)?, window })
    }

    fn is_null(&self, key: &Windowed<Key>) -> bool {
        key.key.0.is_none()
    }
}

struct ValSerde;

impl Serde<Val> for ValSerde {
    fn serialize(&self, value: &Val, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        match value {
            Val::Null => {}
            Val::Int(n) => {
                into.push(b'i');
                into.extend_from_slice(&n.to_be_bytes());
            }
            Val::Str(s) => {
                into.push(b's');
                into.extend_from_slice(s.as_bytes());
            }
        }
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Val, SerdeError> {
        match bytes.split_first() {
            Some((b'i', rest)) => {
                let rest = rest.try_into().map_err(|_| SerdeError::length(8, rest.len()))?;
                Ok(Val::Int(i64::from_be_bytes(rest)))
            }
            Some((b's', rest)) => Ok(Val::Str(String::from_utf8_lossy(rest).into_owned())),
            _ => Err(SerdeError::other("a value begins with i or s")),
        }
    }

    fn is_null(&self, value: &Val) -> bool {
        value.is_null()
    }

    fn null(&self) -> Option<Val> {
        Some(Val::Null)
    }
}

/// The serde of values.
pub(super) fn val() -> SharedSerde<Val> {
    ValSerde.shared()
}

/// A value of a scenario.
pub(super) fn parse(json: &Json) -> Val {
    match json {
        Json::Number(n) => n.as_i64().map_or(Val::Null, Val::Int),
        Json::String(s) => Val::Str(s.clone()),
        _ => Val::Null,
    }
}

/// The bytes of a value of a scenario; `None` for null.
pub(super) fn encode_json(json: &Json) -> Option<Vec<u8>> {
    val().to_bytes(&parse(json)).ok().flatten()
}

/// A value's bytes as JSON.
pub(super) fn value_json(bytes: Option<&[u8]>) -> Result<Json, SerdeError> {
    Ok(val().decode(bytes)?.json())
}

/// A key's bytes as JSON.
pub(super) fn key_json(bytes: Option<&[u8]>, windowed: bool) -> Result<Json, SerdeError> {
    match (bytes, windowed) {
        (None, _) => Ok(Json::Null),
        (bytes, false) => Ok(Key::serde().decode(bytes)?.json()),
        (bytes, true) => Ok(<Windowed<Key>>::serde().decode(bytes)?.json()),
    }
}
