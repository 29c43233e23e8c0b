//! Reading topics and windows over HTTP, from a process on the embedded log.
//!
//! Owns the paging and the JSON of answers. It must not judge what it reads.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::LogRecord;

/// Rows asked for at a time.
const PAGE: usize = 1_000;

/// A process to read from.
#[derive(Debug)]
pub struct Http {
    agent: ureq::Agent,
    base: String,
}

impl Http {
    /// The process at `base`, such as `http://127.0.0.1:8080`.
    pub fn new(base: &str) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        Self { agent: config.into(), base: base.trim_end_matches('/').to_owned() }
    }

    /// The answer of `GET path`.
    ///
    /// # Errors
    /// In words: no connection, a status other than 200 with the problem's detail, or no JSON.
    pub fn get(&self, path: &str) -> Result<Value, String> {
        let wrong = |error: ureq::Error| format!("GET {path}: {error}");
        let mut response = self.agent.get(format!("{}{path}", self.base)).call().map_err(wrong)?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(64 << 20).read_to_string();
        let body = body.map_err(wrong)?;
        match serde_json::from_str(&body) {
            Ok(body) if status == 200 => Ok(body),
            _ => Err(format!("GET {path}: status {status}: {body}")),
        }
    }

    /// Every synced record of a topic, partition by partition, each in offset order.
    ///
    /// # Errors
    /// As [`Http::get`], and when the topic does not exist.
    pub fn topic(&self, topic: &str) -> Result<Vec<LogRecord>, String> {
        let all = self.get("/topics")?;
        let topics = all["items"].as_array().into_iter().flatten();
        let found = topics.into_iter().find(|item| item["name"] == topic);
        let found = found.ok_or_else(|| format!("there is no topic {topic}"))?;
        let mut records = Vec::new();
        for partition in 0..found["partitions"].as_u64().unwrap_or(0) {
            self.partition(topic, partition, &mut records)?;
        }
        Ok(records)
    }

    fn partition(
        &self,
        topic: &str,
        partition: u64,
        into: &mut Vec<LogRecord>,
    ) -> Result<(), String> {
        let path =
            format!("/topics/{topic}/records?encoding=base64&limit={PAGE}&partition={partition}");
        let mut page = self.get(&path)?;
        loop {
            let Value::Array(items) = page["items"].take() else {
                return Err(format!("GET {path}: no items"));
            };
            for item in &items {
                into.push(record(item).ok_or_else(|| format!("GET {path}: no record: {item}"))?);
            }
            let (next, end) = (page["nextOffset"].as_i64(), page["endOffset"].as_i64());
            let (Some(next), Some(end)) = (next, end) else {
                return Err(format!("GET {path}: no offsets"));
            };
            if next >= end {
                return Ok(());
            }
            page = self.get(&format!("{path}&offset={next}"))?;
        }
    }

    /// A key's windows in a store: start and value, by start.
    ///
    /// # Errors
    /// As [`Http::get`].
    pub fn windows(&self, store: &str, key: &str) -> Result<Vec<(i64, Value)>, String> {
        let path = format!("/stores/{store}/windows/{}?limit={PAGE}", escaped(key));
        let mut page = self.get(&path)?;
        let mut windows = Vec::new();
        loop {
            let Value::Array(items) = page["items"].take() else {
                return Err(format!("GET {path}: no items"));
            };
            for mut item in items {
                let start = item["window"]["start"].as_i64();
                let start = start.ok_or_else(|| format!("GET {path}: no window: {item}"))?;
                windows.push((start, item["value"].take()));
            }
            let Some(cursor) = page["nextCursor"].as_str().map(str::to_owned) else {
                return Ok(windows);
            };
            page = self.get(&format!("{path}&cursor={cursor}"))?;
        }
    }
}

fn record(item: &Value) -> Option<LogRecord> {
    let headers = item["headers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let headers = headers.iter().map(|header| {
        Some((
            header["name"].as_str()?.to_owned(),
            bytes(header, "valueBase64")?.unwrap_or_default(),
        ))
    });
    Some(LogRecord {
        partition: u32::try_from(item["partition"].as_u64()?).ok()?,
        offset: item["offset"].as_i64()?,
        timestamp: item["timestamp"].as_i64()?,
        key: bytes(item, "keyBase64")?,
        value: bytes(item, "valueBase64")?,
        headers: headers.collect::<Option<_>>()?,
    })
}

/// The bytes of a field; an absent field is null.
fn bytes(item: &Value, name: &str) -> Option<Option<Vec<u8>>> {
    match &item[name] {
        Value::Null => Some(None),
        Value::String(text) => STANDARD.decode(text).ok().map(Some),
        _ => None,
    }
}

/// A key as one segment of a path.
fn escaped(key: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    key.bytes()
        .map(
            |byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") },
        )
        .collect()
}
