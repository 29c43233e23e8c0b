//! Quality gates: each judges a completed work item by one rule.
//!
//! Owns the gates and their verdicts. It must not know what a workflow does with a verdict, nor who
//! runs external checks. A verdict depends on the work item and the time alone, so that a second
//! judgement of the same item says the same. [`topology`] brings items and verdicts in and out.

pub mod topology;

use headwater_schemas::envelope::EventTime;
use headwater_schemas::events::{QualityGateResult, WorkItemCompleted};
use serde::{Deserialize, Serialize};

/// What a gate looks at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateKind {
    /// The agent says it succeeded. Threshold: 1.
    SuccessFlag,
    /// The output has at least so many characters.
    MinOutputLength,
    /// The agent took at most so many milliseconds.
    MaxExecutionMs,
}

/// One gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// Its id.
    pub gate_id: String,
    /// Its name for people.
    pub name: String,
    /// The types of work items it judges; empty: all.
    #[serde(default)]
    pub applies_to: Vec<String>,
    /// What it looks at.
    pub kind: GateKind,
    /// What it asks for, in the kind's unit.
    pub threshold: f64,
    /// Whether an item that does not pass has to be done again.
    pub required: bool,
}

impl Gate {
    /// Whether it judges items of this type; an item of unknown type is judged by all.
    pub fn applies(&self, kind: Option<&str>) -> bool {
        self.applies_to.is_empty()
            || kind.is_none_or(|kind| self.applies_to.iter().any(|judged| judged == kind))
    }

    /// Judges a work item. The score is 1 at the threshold or better, and falls to 0 in proportion.
    pub fn judge(&self, done: &WorkItemCompleted, now: EventTime) -> QualityGateResult {
        let (score, finding) = self.score(done);
        let passed = score >= 1.0;
        QualityGateResult {
            gate_id: self.gate_id.clone(),
            gate_name: self.name.clone(),
            work_item_id: done.work_item_id.clone(),
            task_id: done.task_id.clone(),
            session_id: done.session_id.clone(),
            passed,
            score,
            threshold: self.threshold,
            required: self.required,
            findings: if passed { Vec::new() } else { vec![finding] },
            evaluated_at: now,
            duration_ms: 0,
            attempt: done.attempt,
        }
    }

    fn score(&self, done: &WorkItemCompleted) -> (f64, String) {
        match self.kind {
            GateKind::SuccessFlag if done.result.success => (1.0, String::new()),
            GateKind::SuccessFlag => (0.0, "the agent says that it did not succeed".to_owned()),
            GateKind::MinOutputLength => {
                let length = as_number(done.result.output.chars().count());
                let score = if length >= self.threshold { 1.0 } else { length / self.threshold };
                (
                    score,
                    format!("the output has {length} characters, {} are asked for", self.threshold),
                )
            }
            GateKind::MaxExecutionMs => {
                let took = as_number(done.execution_time.max(0));
                let score =
                    if took <= self.threshold { 1.0 } else { self.threshold.max(0.0) / took };
                (score, format!("the agent took {took} ms, {} are allowed", self.threshold))
            }
        }
    }
}

/// A count as a double, exact up to 2^53.
fn as_number(count: impl ToString) -> f64 {
    count.to_string().parse().unwrap_or(f64::MAX)
}

/// The gates unless others are configured: success is required, ten minutes are advised.
pub fn default_gates() -> Vec<Gate> {
    vec![
        Gate {
            gate_id: "result-success".to_owned(),
            name: "The agent succeeded".to_owned(),
            applies_to: Vec::new(),
            kind: GateKind::SuccessFlag,
            threshold: 1.0,
            required: true,
        },
        Gate {
            gate_id: "execution-time".to_owned(),
            name: "The agent took at most ten minutes".to_owned(),
            applies_to: Vec::new(),
            kind: GateKind::MaxExecutionMs,
            threshold: 600_000.0,
            required: false,
        },
    ]
}

/// One result for each gate that applies, in the order of the gates.
pub fn judge(gates: &[Gate], done: &WorkItemCompleted, now: EventTime) -> Vec<QualityGateResult> {
    let applying = gates.iter().filter(|gate| gate.applies(done.kind.as_deref()));
    applying.map(|gate| gate.judge(done, now)).collect()
}

#[cfg(test)]
mod tests {
    use headwater_schemas::events::work_item::WorkResult;

    use super::*;

    fn done(
        success: bool,
        output: &str,
        execution_time: i64,
        kind: Option<&str>,
    ) -> WorkItemCompleted {
        WorkItemCompleted {
            work_item_id: "w".into(),
            task_id: "t".into(),
            session_id: "s".into(),
            result: WorkResult { success, output: output.into() },
            completed_at: EventTime::from_millis(1).expect("in range"),
            execution_time,
            kind: kind.map(str::to_owned),
            attempt: 1,
        }
    }

    fn verdicts(gates: &[Gate], done: &WorkItemCompleted) -> Vec<(String, bool, f64)> {
        let results = judge(gates, done, EventTime::from_millis(5).expect("in range"));
        results.into_iter().map(|result| (result.gate_id, result.passed, result.score)).collect()
    }

    fn gate(kind: GateKind, threshold: f64, applies_to: &[&str]) -> Gate {
        Gate {
            gate_id: "g".into(),
            name: "g".into(),
            applies_to: applies_to.iter().map(|&kind| kind.to_owned()).collect(),
            kind,
            threshold,
            required: true,
        }
    }

    #[test]
    fn the_default_gates_ask_for_success_and_advise_ten_minutes() {
        let both = |a, b| {
            vec![
                ("result-success".into(), a, f64::from(u8::from(a))),
                ("execution-time".into(), b, 1.0),
            ]
        };
        assert_eq!(verdicts(&default_gates(), &done(true, "", 600_000, None)), both(true, true));
        assert_eq!(verdicts(&default_gates(), &done(false, "", 0, None)), both(false, true));
        let slow = verdicts(&default_gates(), &done(true, "", 1_200_000, None));
        assert_eq!(slow[1], ("execution-time".to_owned(), false, 0.5));
        let required: Vec<bool> = default_gates().iter().map(|gate| gate.required).collect();
        assert_eq!(required, [true, false]);
    }

    #[test]
    fn a_short_output_scores_in_proportion_and_says_what_was_found() {
        let gates = [gate(GateKind::MinOutputLength, 4.0, &[])];
        assert_eq!(verdicts(&gates, &done(true, "äö", 0, None)), [("g".into(), false, 0.5)]);
        assert_eq!(verdicts(&gates, &done(true, "four", 0, None)), [("g".into(), true, 1.0)]);
        let now = EventTime::from_millis(5).expect("in range");
        let result = gates[0].judge(&done(true, "ab", 0, None), now);
        assert_eq!(result.findings, ["the output has 2 characters, 4 are asked for"]);
        assert_eq!(result.evaluated_at, now);
    }

    #[test]
    fn a_gate_judges_its_types_and_items_without_one() {
        let gates = [gate(GateKind::SuccessFlag, 1.0, &["testing"])];
        assert_eq!(verdicts(&gates, &done(true, "", 0, Some("testing"))).len(), 1);
        assert_eq!(verdicts(&gates, &done(true, "", 0, Some("implementation"))).len(), 0);
        assert_eq!(verdicts(&gates, &done(true, "", 0, None)).len(), 1);
    }
}
