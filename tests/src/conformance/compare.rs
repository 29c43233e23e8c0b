//! Compares an answer with what a scenario expects, by the scenario format's own rules: outputs one
//! by one, in total order or per key, stores as sets.

use std::collections::BTreeMap;

use serde_json::Value as Json;

/// The first difference between a scenario's expectation and an answer.
pub fn difference(scenario: &Json, answer: &Json) -> Option<String> {
    let expected = &scenario["expected"];
    let empty = Vec::new();
    let list = |json: &Json| -> Vec<Json> { json.as_array().unwrap_or(&empty).clone() };
    for (topic, records) in expected["outputs"].as_object().into_iter().flatten() {
        let actual = list(&answer["outputs"][topic]);
        let per_key = scenario["compare"][topic]["order"] == "per-key";
        let found = match per_key {
            false => records_differ(&list(records), &actual),
            true => keys_differ(&list(records), &actual),
        };
        if let Some(found) = found {
            return Some(format!("topic {topic}, {found}"));
        }
    }
    for (topic, records) in answer["outputs"].as_object().into_iter().flatten() {
        if expected["outputs"][topic].is_null() && !list(records).is_empty() {
            return Some(format!("topic {topic} is no output of this scenario"));
        }
    }
    for (store, entries) in expected["stores"].as_object().into_iter().flatten() {
        let (mut want, mut got) = (list(entries), list(&answer["stores"][store]));
        want.sort_by_key(Json::to_string);
        got.sort_by_key(Json::to_string);
        if want != got {
            return Some(format!("store {store}: expected {want:?}, got {got:?}"));
        }
    }
    None
}

fn records_differ(want: &[Json], got: &[Json]) -> Option<String> {
    for at in 0..want.len().max(got.len()) {
        let (w, g) = (want.get(at), got.get(at));
        let same = |field: &str| w.map(|w| &w[field]) == g.map(|g| &g[field]);
        if w.is_none()
            || g.is_none()
            || !["key", "value", "timestamp", "step"].iter().all(|f| same(f))
        {
            return Some(format!("record {at}: expected {w:?}, got {g:?}"));
        }
    }
    None
}

fn keys_differ(want: &[Json], got: &[Json]) -> Option<String> {
    let by_key = |records: &[Json]| {
        let mut keys: BTreeMap<String, Vec<Json>> = BTreeMap::new();
        for record in records {
            keys.entry(record["key"].to_string()).or_default().push(record.clone());
        }
        keys
    };
    let (want, got) = (by_key(want), by_key(got));
    let none = Vec::new();
    let keys = want.keys().chain(got.keys());
    keys.into_iter().find_map(|key| {
        let found = records_differ(want.get(key).unwrap_or(&none), got.get(key).unwrap_or(&none));
        found.map(|found| format!("key {key}, {found}"))
    })
}
