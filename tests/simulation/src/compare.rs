//! Comparing what is with what must be, in words.

use std::collections::BTreeMap;
use std::fmt::Debug;

use headwater::testing::Outcome;
use headwater::testing::simulation::StoreRows;

use crate::PARTITIONS;

/// A value and its time.
pub(crate) type Timed = (i64, i64);

/// Adds every difference.
pub(crate) fn maps<K: Ord + Debug, V: PartialEq + Debug>(
    what: &str,
    expected: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
    wrong: &mut Vec<String>,
) {
    for (key, value) in expected {
        if found.get(key) != Some(value) {
            let found = found.get(key);
            wrong.push(format!("{what}: {key:?} must be {value:?} and is {found:?}"));
        }
    }
    for (key, value) in found.iter().filter(|(key, _)| !expected.contains_key(key)) {
        wrong.push(format!("{what}: {key:?} must not be there and is {value:?}"));
    }
}

/// The first differences, or none.
pub(crate) fn verdict(mut wrong: Vec<String>) -> Result<(), String> {
    let count = wrong.len();
    wrong.truncate(5);
    match count {
        0 => Ok(()),
        _ => Err(format!("{count} differences, first: {}", wrong.join("\n    "))),
    }
}

/// Each key's values and times in a topic, in order; a key has one partition.
pub(crate) fn sequences(outcome: &Outcome<'_>, topic: &str) -> BTreeMap<Vec<u8>, Vec<Timed>> {
    let mut seen: BTreeMap<Vec<u8>, Vec<Timed>> = BTreeMap::new();
    for record in outcome.records(topic).iter().flatten() {
        let key = record.key.clone().unwrap_or_default();
        seen.entry(key).or_default().push((number(record.value.as_deref()), record.timestamp));
    }
    seen
}

/// All rows of a store, whose partitions must all be there.
pub(crate) fn rows(outcome: &Outcome<'_>, store: &str, wrong: &mut Vec<String>) -> StoreRows {
    let mut seen = StoreRows::new();
    for partition in 0..PARTITIONS {
        match outcome.rows(store, partition) {
            Some(rows) => seen.extend(rows.clone()),
            None => wrong.push(format!("{store}-{partition} has no owner")),
        }
    }
    seen
}

/// A row of a timestamped store: its time, then its value.
pub(crate) fn stored((value, time): Timed) -> Vec<u8> {
    [time.to_be_bytes(), value.to_be_bytes()].concat()
}

pub(crate) fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

/// Eight bytes as a number; `i64::MIN` for anything else.
pub(crate) fn number(bytes: Option<&[u8]>) -> i64 {
    let bytes = bytes.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
    bytes.map_or(i64::MIN, i64::from_be_bytes)
}
