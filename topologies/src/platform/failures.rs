//! What the demonstration tells of records that failed: those tried again, and the dead letters.
//!
//! Owns what is counted and when the counts contradict each other. It must not know how they are asked
//! for.

use serde_json::Value;

/// What has become of records that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Failures {
    /// How many came to be tried again, one that fails again anew.
    taken: u64,
    sent_back: u64,
    waiting: u64,
    given_up: u64,
    /// Dead letters that ever came, are there, went back and were deleted.
    kept: u64,
    size: u64,
    retried: u64,
    purged: u64,
    /// Dead letters of each topic, as they are listed.
    listed: u64,
    /// One of them.
    example: Option<String>,
}

fn number(row: &Value, name: &str) -> u64 {
    row[name].as_u64().unwrap_or(0)
}

impl Failures {
    /// A row of `GET /retries`.
    pub(super) fn tried(&mut self, row: &Value) {
        self.taken += number(row, "taken");
        self.sent_back += number(row, "sentBack");
        self.waiting += number(row, "waiting");
        self.given_up += number(row, "givenUp");
    }

    /// A row of `GET /dlq`.
    pub(super) fn queue(&mut self, row: &Value) {
        self.kept += number(row, "kept");
        self.size += number(row, "size");
        self.retried += number(row, "retried");
        self.purged += number(row, "purged");
    }

    /// A row of `GET /dlq/{queue}`.
    pub(super) fn letter(&mut self, row: &Value) {
        self.listed += 1;
        self.example = row["id"].as_str().map(str::to_owned);
    }

    /// Where these numbers contradict each other.
    pub(super) fn disagreements(&self) -> Vec<String> {
        let Self { taken, sent_back, waiting, given_up, kept, size, retried, purged, .. } = *self;
        let sums = [
            ("records that wait for another try", waiting, 0),
            ("records tried again, by what became of them", sent_back + given_up, taken),
            ("dead letters, by what became of them", size + retried + purged, kept),
            ("dead letters listed", self.listed, size),
            // Others than those given up may have come too.
            ("records given up of which there is a letter", kept.min(given_up), given_up),
        ];
        let wrong = sums.into_iter().filter(|(_, found, expected)| found != expected);
        wrong
            .map(|(what, found, expected)| format!("{what}: {found}, expected {expected}"))
            .collect()
    }

    /// The summary's lines; `base` is the process.
    pub(super) fn lines(&self, base: &str) -> Vec<String> {
        let Self { taken, sent_back, waiting, given_up, size, retried, purged, .. } = *self;
        let mut lines = vec![
            format!(
                "  retries          {taken:>8}   {sent_back} sent back, {given_up} given up, \
                 {waiting} waiting"
            ),
            format!("  dead letters     {size:>8}   {retried} went back, {purged} deleted before"),
        ];
        if let Some(id) = &self.example {
            lines.push(format!("    send one back: POST {base}/dlq/messages/{id}/retry"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn failures_that_do_not_add_up_are_named() {
        let mut failures = Failures::default();
        failures.tried(&json!({"taken": 7, "sentBack": 5, "givenUp": 2, "waiting": 0}));
        failures.queue(&json!({"kept": 3, "size": 1, "retried": 2, "purged": 0}));
        failures.letter(&json!({"id": "a~1"}));
        assert_eq!(failures.disagreements(), [""; 0]);
        assert!(failures.lines("http://x")[2].ends_with("http://x/dlq/messages/a~1/retry"));
        failures.tried(&json!({"taken": 3, "sentBack": 0, "givenUp": 2, "waiting": 1}));
        let wrong = failures.disagreements();
        assert_eq!(wrong.len(), 3, "{wrong:?}");
    }
}
