//! What an audit found, as text and as JSON. Owns the words; finds nothing itself.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::record::{Place, TaskId};

/// What an audit has looked at and found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The application.
    pub application: Arc<str>,
    /// The topics that were read, from their beginnings to their ends at that time.
    pub topics: Vec<Arc<str>>,
    /// Records read.
    pub records: u64,
    /// Those without a stamp: of before the audit was on, or another program's.
    pub unstamped: u64,
    /// Those of other applications.
    pub foreign: u64,
    /// What was judged, by task.
    pub tasks: Vec<TaskReport>,
    /// What is wrong. Empty: nothing of what could be judged.
    pub findings: Vec<Finding>,
    /// What could not be judged, and why.
    pub notes: Vec<String>,
}

/// What was judged of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskReport {
    /// The task.
    pub task: TaskId,
    /// The first transaction of which everything had to be there.
    pub first: u64,
    /// The last one; before `first` if there is none.
    pub last: u64,
    /// The task's records.
    pub records: usize,
    /// Transactions that were committed after the audit began; a later audit judges them.
    pub later: usize,
    /// The committed offsets say how the last transaction must be. If not, records missing at its
    /// end cannot be noticed.
    pub committed: bool,
}

/// Something that exactly-once does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The task.
    pub task: TaskId,
    /// Its transaction (of several that are missing, the first).
    pub transaction: u64,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Nothing of it is there, nor of those up to `to`.
    Missing {
        /// The last one that is missing.
        to: u64,
        /// A record of the transaction before.
        after: Option<Place>,
    },
    /// Some of its records are there and some are not.
    Torn {
        /// How many it has.
        expected: u64,
        /// The missing ones.
        missing: Vec<u64>,
        /// So many more are missing.
        more: usize,
        /// The record before the first missing one, or the first that is there.
        near: Place,
    },
    /// A record is there more than once.
    Twice {
        /// The record.
        index: u64,
        /// Where, and which life of the task wrote it.
        places: Vec<(Place, i64)>,
    },
    /// Two lives of the task have both committed it.
    TwoLives {
        /// When they began, in milliseconds of the wall clock.
        epochs: Vec<i64>,
        /// A record of the later one.
        place: Place,
    },
    /// It has a record that was not committed with it.
    TooMany {
        /// The record.
        index: u64,
        /// How many were committed.
        expected: u64,
        /// Where it is.
        place: Place,
    },
    /// A record stands behind one that was written after it.
    OutOfOrder {
        /// Where.
        place: Place,
    },
}

impl Problem {
    /// One word, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing",
            Self::Torn { .. } => "torn",
            Self::Twice { .. } => "twice",
            Self::TwoLives { .. } => "two-lives",
            Self::TooMany { .. } => "too-many",
            Self::OutOfOrder { .. } => "out-of-order",
        }
    }

    fn places(&self) -> Vec<&Place> {
        match self {
            Self::Missing { after, .. } => after.iter().collect(),
            Self::Twice { places, .. } => places.iter().map(|(place, _)| place).collect(),
            Self::Torn { near: place, .. }
            | Self::TwoLives { place, .. }
            | Self::TooMany { place, .. }
            | Self::OutOfOrder { place } => vec![place],
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, transaction, problem } = self;
        if let Problem::Missing { to, after } = problem {
            if to == transaction {
                write!(f, "task {task}: transaction {transaction} is missing")?;
            } else {
                write!(f, "task {task}: transactions {transaction} to {to} are missing")?;
            }
            return after.as_ref().map_or(Ok(()), |place| write!(f, ", after {place}"));
        }
        write!(f, "task {task}, transaction {transaction}: ")?;
        match problem {
            Problem::Missing { .. } => Ok(()),
            Problem::Torn { expected, missing, more, near } => {
                let count = missing.len() + more;
                let are = if count == 1 { "is" } else { "are" };
                let rest = if *more > 0 { ", ..." } else { "" };
                let named = list(missing);
                write!(f, "torn, of {expected} records {count} {are} missing: {named}{rest}")?;
                write!(f, "; near {near}")
            }
            Problem::Twice { index, places } => {
                let at: Vec<String> = places
                    .iter()
                    .map(|(place, epoch)| format!("{place} (epoch {epoch})"))
                    .collect();
                let (count, at) = (places.len(), at.join(" and "));
                write!(f, "record {index} is there {count} times: {at}")
            }
            Problem::TwoLives { epochs, place } => write!(
                f,
                "two lives of the task have written it, epochs {}; the later at {place}",
                list(epochs)
            ),
            Problem::TooMany { index, expected, place } => {
                write!(f, "record {index} is beyond the {expected} that were committed: {place}")
            }
            Problem::OutOfOrder { place } => write!(f, "out of order at {place}"),
        }
    }
}

fn list(numbers: &[impl ToString]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Report {
    /// Nothing is wrong with what could be judged.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Everything that was read was judged: nothing was committed after the audit began, and the
    /// committed offsets say how the last transaction of every task must be.
    pub fn is_complete(&self) -> bool {
        self.tasks.iter().all(|task| task.later == 0 && (task.committed || task.records == 0))
    }

    /// For people: a verdict, what was judged, each finding and each note on a line.
    pub fn text(&self) -> String {
        let verdict = match self.findings.len() {
            0 => "clean".to_owned(),
            1 => "1 finding".to_owned(),
            count => format!("{count} findings"),
        };
        let transactions: u64 =
            self.tasks.iter().map(|t| (t.last + 1).saturating_sub(t.first)).sum();
        let stamped: usize = self.tasks.iter().map(|task| task.records).sum();
        let mut text = format!(
            "audit of {}: {verdict}\n{} topics, {} records read, {stamped} of this application's \
             {} tasks in {transactions} transactions\n",
            self.application,
            self.topics.len(),
            self.records,
            self.tasks.len(),
        );
        for finding in &self.findings {
            writeln!(text, "FOUND {finding}").expect("text takes text");
        }
        for note in &self.notes {
            writeln!(text, "note: {note}").expect("text takes text");
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> Json {
        let task = |task: &TaskReport| {
            json!({
                "task": task.task.to_string(),
                "firstTransaction": task.first,
                "lastTransaction": task.last,
                "records": task.records,
                "laterTransactions": task.later,
                "lastIsKnown": task.committed,
            })
        };
        let finding = |finding: &Finding| {
            let place = |place: &&Place| {
                json!({
                    "topic": &*place.partition.topic,
                    "partition": place.partition.partition,
                    "offset": place.offset,
                })
            };
            json!({
                "kind": finding.problem.kind(),
                "task": finding.task.to_string(),
                "transaction": finding.transaction,
                "places": finding.problem.places().iter().map(place).collect::<Vec<_>>(),
                "text": finding.to_string(),
            })
        };
        json!({
            "application": &*self.application,
            "clean": self.is_clean(),
            "topics": self.topics.iter().map(|topic| &**topic).collect::<Vec<_>>(),
            "records": self.records,
            "unstamped": self.unstamped,
            "foreign": self.foreign,
            "tasks": self.tasks.iter().map(task).collect::<Vec<_>>(),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}
