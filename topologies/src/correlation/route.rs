//! `GET /correlations/{id}/trace`: the events of a request, and what caused what.
//!
//! Owns the shape of the answer. It must not know HTTP.

use std::collections::{BTreeMap, BTreeSet};

use headwater::query::{PageRequest, Parameter, Parameters, QueryError, Route, StoreQueries};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Correlation, EVENT_STORE, STORE, Seen};

/// The trace of a request.
#[derive(Debug)]
pub struct TraceRoute;

impl Route for TraceRoute {
    fn path(&self) -> &str {
        "/correlations/{id}/trace"
    }

    fn about(&self) -> &str {
        "the events of a request on all topics, and which caused which"
    }

    fn parameters(&self) -> &[Parameter] {
        &[]
    }

    fn answer(&self, asked: &Parameters, stores: &StoreQueries<'_>) -> Result<Value, QueryError> {
        let id = asked.required_text("id")?;
        let store = stores.store(STORE)?;
        let (row, as_of) = store.get(&store.key(id)?)?;
        let request: Correlation = parsed(&row.value)?;
        let store = stores.store(EVENT_STORE)?;
        // `0` follows `/`.
        let (from, to) = (format!("{id}/"), format!("{id}0"));
        let ranges = store.key_ranges(Some(&from), Some(&to))?;
        let (mut events, mut cursor) = (Vec::new(), None);
        loop {
            let page = PageRequest { limit: 1_000, cursor: cursor.as_deref() };
            let found = store.range(&ranges, page)?;
            for row in &found.rows {
                events.push(parsed::<Seen>(&row.value)?);
            }
            match found.next_cursor {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        events.sort_by_key(|seen| seen.number);
        let shown: Vec<Value> = events
            .iter()
            .map(|seen| {
                json!({"eventId": seen.event_id, "eventType": seen.event_type,
                    "causationId": seen.causation_id, "topic": seen.topic,
                    "timestamp": seen.timestamp})
            })
            .collect();
        Ok(json!({
            "correlationId": request.correlation_id, "sessionId": request.session_id,
            "firstAt": request.first_at, "lastAt": request.last_at, "status": request.status,
            "events": shown, "beyond": request.beyond, "causes": causes(&events), "asOf": as_of,
        }))
    }
}

fn parsed<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, QueryError> {
    serde_json::from_slice(bytes).map_err(|error| QueryError::failed(&error))
}

/// What caused what, as lines of a tree from its roots down, each with its `depth`: a root's cause is
/// not among the events. Effects come in the order in which they were seen. Events that claim to cause
/// each other in a circle are roots once the others are shown.
pub(super) fn causes(events: &[Seen]) -> Vec<Value> {
    let known: BTreeSet<Uuid> = events.iter().map(|seen| seen.event_id).collect();
    let mut effects: BTreeMap<Uuid, Vec<&Seen>> = BTreeMap::new();
    let mut roots = Vec::new();
    for seen in events {
        match seen.causation_id.filter(|cause| known.contains(cause)) {
            Some(cause) => effects.entry(cause).or_default().push(seen),
            None => roots.push(seen),
        }
    }
    let (mut lines, mut shown) = (Vec::new(), BTreeSet::new());
    for root in roots.into_iter().chain(events) {
        let mut open = vec![(0_u64, root)];
        while let Some((depth, seen)) = open.pop() {
            if !shown.insert(seen.event_id) {
                continue;
            }
            lines.push(json!({"depth": depth, "eventId": seen.event_id,
                "eventType": seen.event_type}));
            let next = effects.get(&seen.event_id).into_iter().flatten().rev();
            open.extend(next.map(|effect| (depth + 1, *effect)));
        }
    }
    lines
}
