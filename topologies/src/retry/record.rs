//! Records as they lie in a topic: kept in a store, sent on unchanged but for headers, and the
//! serdes for both.
//!
//! Owns the form in which a record is kept. It must not know why it is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use headwater::dsl::Consumed;
use headwater::record::{Header, Headers, Record};
use headwater::serde::{Serde, SerdeError, SharedSerde, serdes};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A key as it lies in a topic, or null.
pub(super) type RawKey = Option<Vec<u8>>;

/// A value as it lies in a topic, or null.
pub(super) type RawValue = Option<Vec<u8>>;

/// Bytes in a JSON row: as text where they are text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Blob {
    /// They are UTF-8.
    Text(String),
    /// They are not: base64.
    Base64(String),
}

impl Blob {
    fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(STANDARD.encode(bytes)),
        }
    }

    /// The bytes; none of text that is no base64.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.as_bytes().to_vec(),
            Self::Base64(text) => STANDARD.decode(text).unwrap_or_default(),
        }
    }
}

/// A record, kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptRecord {
    /// Its key; `None` is null.
    pub key: Option<Blob>,
    /// Its value; `None` is null.
    pub value: Option<Blob>,
    /// Its headers, in order.
    pub headers: Vec<(String, Option<Blob>)>,
    /// Its time in milliseconds.
    pub timestamp: i64,
}

impl KeptRecord {
    pub(super) fn of(record: &Record<'_, RawKey, RawValue>) -> Self {
        let header =
            |header: &Header| (header.name.to_string(), header.value.as_deref().map(Blob::of));
        Self {
            key: record.key.as_deref().map(Blob::of),
            value: record.value.as_deref().map(Blob::of),
            headers: record.headers.iter().map(header).collect(),
            timestamp: record.timestamp,
        }
    }

    pub(super) fn raw_key(&self) -> RawKey {
        self.key.as_ref().map(Blob::bytes)
    }

    pub(super) fn raw_value(&self) -> RawValue {
        self.value.as_ref().map(Blob::bytes)
    }

    pub(super) fn raw_headers(&self) -> Headers {
        let header = |(name, value): &(String, Option<Blob>)| Header {
            name: name.as_str().into(),
            value: value.as_ref().map(|value| value.bytes().into()),
        };
        self.headers.iter().map(header).collect()
    }
}

/// The text of a header's last value; `None` if there is none, or it is no text.
pub(super) fn header(headers: &Headers, name: &str) -> Option<String> {
    let value = headers.last(name)?.value.as_deref()?;
    std::str::from_utf8(value).ok().map(str::to_owned)
}

/// The headers without those of these names.
pub(super) fn without(headers: &Headers, names: &[&str]) -> Headers {
    headers.iter().filter(|header| !names.contains(&&*header.name)).cloned().collect()
}

/// The headers with these set.
pub(super) fn with(headers: &Headers, set: &[(&str, String)]) -> Headers {
    let names: Vec<&str> = set.iter().map(|(name, _)| *name).collect();
    let mut all = without(headers, &names);
    for (name, value) in set {
        all.append(*name, Some(value.clone().into_bytes().into()));
    }
    all
}

/// What two records of one key and value have in common, in every process.
pub(super) fn print(key: &RawKey, value: &RawValue) -> Uuid {
    let mut bytes = Vec::new();
    for part in [key, value] {
        let length = part.as_ref().map_or(u64::MAX, |part| u64::try_from(part.len()).unwrap_or(0));
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(part.as_deref().unwrap_or_default());
    }
    Uuid::new_v5(&Uuid::NAMESPACE_OID, &bytes)
}

pub(super) fn raw() -> SharedSerde<Option<Vec<u8>>> {
    serdes::optional(serdes::byte_vec())
}

/// Reads a topic's records as they are.
pub(super) fn raw_records() -> Consumed<RawKey, RawValue> {
    Consumed::with(raw(), raw())
}

/// A value and the topic it goes to. In the topic it is the value alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Routed {
    pub(super) topic: String,
    pub(super) value: RawValue,
}

/// Writes the value of what is [`Routed`].
pub(super) fn routed() -> SharedSerde<Routed> {
    RoutedSerde.shared()
}

struct RoutedSerde;

impl Serde<Routed> for RoutedSerde {
    fn serialize(&self, routed: &Routed, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        into.extend_from_slice(routed.value.as_deref().unwrap_or_default());
        Ok(())
    }

    fn deserialize(&self, _: &[u8]) -> Result<Routed, SerdeError> {
        Err(SerdeError::other("what was sent on is read as a record of its topic"))
    }

    fn is_null(&self, routed: &Routed) -> bool {
        routed.value.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_record_comes_back_byte_for_byte() {
        let mut headers = Headers::new();
        headers.append("text", Some("one".into()));
        headers.append("bytes", Some(vec![0, 255].into()));
        headers.append("null", None);
        for (key, value) in [
            (None, Some(b"{}".to_vec())),
            (Some(b"k".to_vec()), None),
            (Some(vec![255]), Some(vec![0, 159])),
        ] {
            let record = Record { key: &key, value: &value, timestamp: 7, headers: &headers };
            let json = serde_json::to_vec(&KeptRecord::of(&record)).expect("json");
            let kept: KeptRecord = serde_json::from_slice(&json).expect("its own");
            assert_eq!((kept.raw_key(), kept.raw_value(), kept.timestamp), (key, value, 7));
            assert_eq!(kept.raw_headers(), headers);
        }
    }

    #[test]
    fn prints_tell_key_from_value_and_null_from_nothing() {
        let some = |text: &str| Some(text.as_bytes().to_vec());
        let prints = [
            print(&some("ab"), &some("c")),
            print(&some("a"), &some("bc")),
            print(&None, &some("abc")),
            print(&some(""), &some("abc")),
            print(&some("ab"), &None),
        ];
        let distinct: std::collections::BTreeSet<_> = prints.iter().collect();
        assert_eq!(distinct.len(), prints.len());
        assert_eq!(prints[0], print(&some("ab"), &some("c")));
    }

    #[test]
    fn a_header_that_is_set_replaces_all_of_its_name() {
        let mut headers = Headers::new();
        headers.append("a", Some("1".into()));
        headers.append("b", Some("2".into()));
        headers.append("a", Some("3".into()));
        let set = with(&headers, &[("a", "4".to_owned())]);
        assert_eq!((set.len(), header(&set, "a").as_deref()), (2, Some("4")));
        assert_eq!(header(&without(&set, &["a"]), "a"), None);
    }
}
