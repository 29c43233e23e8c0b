//! `GET /analytics?key=&from=&to=`: the windows of a key, and all of them taken together.
//!
//! Owns the shape of the answer. It must not know HTTP.

use headwater::query::{
    PageRequest, Parameter, ParameterKind, Parameters, Problem, QueryError, Route, StoreQueries,
};
use headwater_schemas::envelope::EventTime;
use serde_json::{Value, json};

use super::rollup::Rollup;
use super::{STORE, rollups};

/// Windows read at a time; a day has 288.
const PAGE: usize = 500;

/// The route. `windows` are events of `analytics.aggregated`, by start; `total` merges them: its
/// percentiles are exactly those of all values together.
#[derive(Debug)]
pub struct AnalyticsRoute;

impl Route for AnalyticsRoute {
    fn path(&self) -> &str {
        "/analytics"
    }

    fn about(&self) -> &str {
        "the five-minute rollups of a key, and their total"
    }

    fn parameters(&self) -> &[Parameter] {
        const {
            &[
                Parameter::required("key", ParameterKind::Text, "the rolled-up key, a session"),
                Parameter::optional(
                    "from",
                    ParameterKind::Time,
                    "the first window start, included",
                ),
                Parameter::optional("to", ParameterKind::Time, "the last window start, included"),
            ]
        }
    }

    fn answer(&self, asked: &Parameters, stores: &StoreQueries<'_>) -> Result<Value, QueryError> {
        let (store, name) = (stores.store(STORE)?, asked.required_text("key")?);
        let (key, (from, to)) = (store.key(name)?, asked.times("from", "to")?);
        let (mut windows, mut total, mut cursor) = (Vec::new(), Rollup::default(), None);
        loop {
            let page = PageRequest { limit: PAGE, cursor: cursor.as_deref() };
            let page = store.windows(&key, from, to, page)?;
            for row in &page.rows {
                let rollup = rollups().decode(Some(&row.value));
                let rollup = rollup.map_err(|error| QueryError::failed(&error))?;
                let bounds = row.window.and_then(|window| {
                    EventTime::from_millis(window.start).zip(EventTime::from_millis(window.end))
                });
                let event = bounds.and_then(|(start, end)| rollup.event(name, start, end));
                windows.push(event.ok_or_else(|| {
                    QueryError::new(Problem::Failed, "a window of no time or no metric is damaged")
                })?);
                total.merge(&rollup);
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                let total = json!({
                    "count": total.count, "errorCount": total.error_count,
                    "metrics": total.summaries(), "updatedAt": total.updated_at,
                });
                return Ok(json!({
                    "key": name, "windows": windows, "total": total, "asOf": page.as_of,
                }));
            }
        }
    }
}
