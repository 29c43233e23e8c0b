//! What an output topic told of counted states, key by key.
//!
//! Owns the rules of exactly-once output: a later state of a key has counted more than an earlier
//! one, every told state was one, the last told is the final one. It must not know what is counted.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Findings, LogRecord};

/// The states an output topic told, by key and count.
#[derive(Debug, Default)]
pub struct Told {
    /// Told states that no [`Told::state`] has matched yet.
    open: BTreeMap<String, BTreeMap<u64, Value>>,
    last: BTreeMap<String, (u64, Value)>,
    findings: Findings,
}

impl Told {
    /// Reads an output topic whose values are objects with a `count`; one key's records lie in one
    /// partition, in the order of `output`.
    pub fn read(output: &[LogRecord]) -> Self {
        let mut told = Self::default();
        for record in output {
            let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
            let value: Option<Value> =
                record.value.as_deref().and_then(|value| serde_json::from_slice(value).ok());
            let state = value.and_then(|value| Some((value["count"].as_u64()?, value)));
            let Some((count, value)) = state else {
                told.findings.note(|| format!("output {key}: no state at {}", record.offset));
                continue;
            };
            if told.last.get(&*key).is_some_and(|(last, _)| *last >= count) {
                told.findings.note(|| format!("output {key}: count {count} was told before"));
            }
            told.open.entry(key.to_string()).or_default().insert(count, value.clone());
            told.last.insert(key.into_owned(), (count, value));
        }
        told
    }

    /// Number of states told of a key.
    pub fn states(&self, key: &str) -> usize {
        self.open.get(key).map_or(0, BTreeMap::len)
    }

    /// The key went through a state; if it was told, it must have been told like this.
    pub fn state(&mut self, key: &str, count: u64, expected: impl FnOnce() -> Value) {
        let Some(shown) = self.open.get_mut(key).and_then(|open| open.remove(&count)) else {
            return;
        };
        let expected = expected();
        if shown != expected {
            self.findings.note(|| format!("output {key}: told {shown}, expected {expected}"));
        }
    }

    /// The key's final state, which must be the last one told.
    pub fn last(&mut self, key: &str, expected: &Value) {
        let told = self.last.remove(key).map(|(_, value)| value);
        if told.as_ref() != Some(expected) {
            let told = told.unwrap_or_default();
            self.findings.note(|| format!("output {key}: last told {told}, final {expected}"));
        }
    }

    /// Every told state must have been a state by now.
    pub fn nothing_else(&mut self) {
        for (key, states) in &self.open {
            for count in states.keys() {
                self.findings.note(|| format!("output {key}: count {count} never was"));
            }
        }
    }

    /// Every key that was told must have had a final state by now.
    pub fn finish(mut self) -> Findings {
        for (key, (_, value)) in &self.last {
            self.findings.note(|| format!("output {key}: told {value}, but nothing was counted"));
        }
        self.findings
    }
}
