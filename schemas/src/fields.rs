//! Reading the fields of one JSON object while collecting every violation.
//!
//! Owns type checks, bounds and JSON paths. It must not know any event: which fields there are is
//! said by its callers.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::envelope::EventTime;
use crate::violation::Violations;

/// Longest text quoted in a reason.
const QUOTE_CHARS_MAX: usize = 40;

/// Longest identifier, in bytes.
pub(crate) const ID_BYTES_MAX: usize = 256;

/// One object of an event, its path, and the report all its violations go to.
pub(crate) struct Fields<'a, 'r> {
    object: &'a Map<String, Value>,
    path: &'r str,
    violations: &'r mut Violations,
}

impl<'a, 'r> Fields<'a, 'r> {
    pub(crate) fn new(
        object: &'a Map<String, Value>,
        path: &'r str,
        violations: &'r mut Violations,
    ) -> Self {
        Self { object, path, violations }
    }

    /// Reports that `name` is wrong; the answer of every getter that found nothing usable.
    pub(crate) fn refuse<T>(&mut self, name: &str, reason: String) -> Option<T> {
        self.violations.push(format!("{}.{name}", self.path), reason);
        None
    }

    /// The field, where JSON null counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    fn missing<T>(&mut self, name: &str) -> Option<T> {
        self.refuse(name, "is missing".to_owned())
    }

    fn wrong_type<T>(&mut self, name: &str, expected: &str, found: &Value) -> Option<T> {
        self.refuse(name, format!("must be {expected}, found {}", describe(found)))
    }

    /// A required text of 1 to `bytes_max` bytes.
    pub(crate) fn text(&mut self, name: &str, bytes_max: usize) -> Option<&'a str> {
        match self.get(name) {
            None => self.missing(name),
            Some(_) => self.optional_text(name, bytes_max),
        }
    }

    /// Like [`Fields::text`], but absence is no violation.
    pub(crate) fn optional_text(&mut self, name: &str, bytes_max: usize) -> Option<&'a str> {
        match self.get(name)? {
            Value::String(text) if text.is_empty() => {
                self.refuse(name, "must not be empty".to_owned())
            }
            Value::String(text) if text.len() > bytes_max => self
                .refuse(name, format!("has {} bytes, at most {bytes_max} are allowed", text.len())),
            Value::String(text) => Some(text),
            other => self.wrong_type(name, "a string", other),
        }
    }

    /// A required identifier.
    pub(crate) fn id(&mut self, name: &str) -> Option<String> {
        self.text(name, ID_BYTES_MAX).map(str::to_owned)
    }

    /// An optional identifier.
    pub(crate) fn optional_id(&mut self, name: &str) -> Option<String> {
        self.optional_text(name, ID_BYTES_MAX).map(str::to_owned)
    }

    /// A required UUID.
    pub(crate) fn uuid(&mut self, name: &str) -> Option<Uuid> {
        match self.get(name) {
            None => self.missing(name),
            Some(_) => self.optional_uuid(name),
        }
    }

    /// An optional UUID, in its hyphenated form.
    pub(crate) fn optional_uuid(&mut self, name: &str) -> Option<Uuid> {
        let text = self.optional_text(name, ID_BYTES_MAX)?;
        match Uuid::try_parse(text) {
            Ok(id) if text.len() == uuid::fmt::Hyphenated::LENGTH => Some(id),
            _ => self.refuse(name, format!("must be a uuid, found {}", quote(text))),
        }
    }

    /// A required point in time: ISO-8601 text or a number of milliseconds.
    pub(crate) fn time(&mut self, name: &str) -> Option<EventTime> {
        match self.get(name) {
            None => self.missing(name),
            Some(_) => self.optional_time(name),
        }
    }

    /// Like [`Fields::time`], but absence is no violation.
    pub(crate) fn optional_time(&mut self, name: &str) -> Option<EventTime> {
        let parsed = match self.get(name)? {
            Value::String(text) => EventTime::parse(text).ok_or_else(|| quote(text)),
            Value::Number(number) => {
                number.as_i64().and_then(EventTime::from_millis).ok_or_else(|| number.to_string())
            }
            other => return self.wrong_type(name, "an iso-8601 time", other),
        };
        match parsed {
            Ok(time) => Some(time),
            Err(found) => self.refuse(
                name,
                format!(
                    "must be an iso-8601 time from 1970 to 9999 (or its epoch ms), found {found}"
                ),
            ),
        }
    }

    /// A required object.
    pub(crate) fn object(&mut self, name: &str) -> Option<&'a Map<String, Value>> {
        match self.get(name) {
            None => self.missing(name),
            Some(Value::Object(object)) => Some(object),
            Some(other) => self.wrong_type(name, "an object", other),
        }
    }

    /// An optional whole number of at least 1, such as a position in a stream.
    pub(crate) fn optional_position(&mut self, name: &str) -> Option<i64> {
        let value = self.get(name)?;
        match value.as_i64() {
            Some(number) if number >= 1 => Some(number),
            _ => self.wrong_type(name, "a whole number from 1", value),
        }
    }

    /// A required number. JSON has no NaN and no infinity, so it is finite; -0 is read as 0.
    pub(crate) fn number(&mut self, name: &str) -> Option<f64> {
        match self.get(name) {
            None => self.missing(name),
            Some(value) => match value.as_f64().filter(|number| number.is_finite()) {
                Some(number) => Some(number + 0.0),
                None => self.wrong_type(name, "a finite number", value),
            },
        }
    }

    /// An optional boolean.
    pub(crate) fn optional_bool(&mut self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Value::Bool(value) => Some(*value),
            other => self.wrong_type(name, "true or false", other),
        }
    }
}

/// The kind of a JSON value, with the value itself when it is short.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quote(text),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// A text in quotes, escaped and cut, so that a hostile one cannot fill a log line.
pub(crate) fn quote(text: &str) -> String {
    let cut: String = text.chars().take(QUOTE_CHARS_MAX).collect();
    let dots = if cut.len() < text.len() { ".." } else { "" };
    format!("{cut:?}{dots}")
}
