//! What the stamps of an application's outputs prove. Pure: it is given records and what each task
//! committed, and gives findings. Reads nothing.
//!
//! A task's transactions are numbered from 1 and each record says how many its predecessor has. So
//! with every partition that the task writes to at hand, all of this shows: a transaction that is
//! missing whole, one of which records are missing (torn), a record that is there twice, and a
//! transaction that two lives of a task have both committed. What the last transaction must have is
//! known from the committed offsets.

use std::collections::{BTreeMap, BTreeSet};

use super::report::{Finding, Problem, TaskReport};
use crate::record::stamp::Stamp;
use crate::record::{Place, TaskId, TopicPartition};
use crate::task::Audited;

/// Numbers of missing records and sequences that a finding names; the rest is counted.
const NAMED: usize = 20;

/// One record of a task.
#[derive(Debug, Clone, Copy)]
struct Seen {
    index: u64,
    /// The partition's number in [`Judge::partitions`].
    partition: usize,
    offset: i64,
    epoch: i64,
    previous: u64,
}

/// What is known of a task.
#[derive(Debug, Default)]
struct Task {
    transactions: BTreeMap<u64, Vec<Seen>>,
    /// By partition: the first transaction there, and the last record.
    first: BTreeMap<usize, u64>,
    last: BTreeMap<usize, (u64, u64)>,
    disordered: Vec<(u64, Seen)>,
}

/// Collects records and judges them.
#[derive(Debug, Default)]
pub(super) struct Judge {
    partitions: Vec<TopicPartition>,
    /// Partitions whose first records are gone.
    cut: BTreeSet<usize>,
    tasks: BTreeMap<TaskId, Task>,
}

impl Judge {
    /// A partition whose records come next; `cut` if its first ones are not there any more.
    pub(super) fn partition(&mut self, partition: TopicPartition, cut: bool) {
        if cut {
            self.cut.insert(self.partitions.len());
        }
        self.partitions.push(partition);
    }

    /// A stamped record of that partition, in the order of offsets.
    pub(super) fn record(&mut self, offset: i64, stamp: &Stamp) {
        let partition = self.partitions.len() - 1;
        let Stamp { epoch, sequence, index, previous, .. } = *stamp;
        let seen = Seen { index, partition, offset, epoch, previous };
        let task = self.tasks.entry(stamp.task).or_default();
        task.first.entry(partition).or_insert(sequence);
        let last = task.last.entry(partition).or_insert((sequence, index));
        if (sequence, index) < *last {
            task.disordered.push((sequence, seen));
        }
        *last = (*last).max((sequence, index));
        task.transactions.entry(sequence).or_default().push(seen);
    }

    /// The tasks of which there are records.
    pub(super) fn tasks(&self) -> impl Iterator<Item = TaskId> {
        self.tasks.keys().copied()
    }

    /// The findings and what was looked at, by task. `committed` is what each task committed last,
    /// read before the ends of the partitions; `complete` is false where records may be missing for
    /// good reason (compaction), so that only what is too much can be found.
    pub(super) fn judge(
        mut self,
        committed: &BTreeMap<TaskId, Option<Audited>>,
        complete: bool,
    ) -> (Vec<TaskReport>, Vec<Finding>) {
        let mut tasks = std::mem::take(&mut self.tasks);
        for task in committed.keys() {
            tasks.entry(*task).or_default();
        }
        let (mut reports, mut findings) = (Vec::new(), Vec::new());
        for (id, task) in tasks {
            let committed = committed.get(&id).copied().flatten();
            let judged = Judged { judge: &self, id, task: &task, committed, complete };
            judged.judge(&mut findings);
            reports.push(judged.report());
        }
        (reports, findings)
    }

    fn place(&self, seen: &Seen) -> Place {
        Place { partition: self.partitions[seen.partition].clone(), offset: seen.offset }
    }
}

/// One task before the judge.
struct Judged<'a> {
    judge: &'a Judge,
    id: TaskId,
    task: &'a Task,
    committed: Option<Audited>,
    complete: bool,
}

impl Judged<'_> {
    fn judge(&self, findings: &mut Vec<Finding>) {
        for (&sequence, seen) in &self.task.transactions {
            let mut found = |problem| {
                findings.push(Finding { task: self.id, transaction: sequence, problem });
            };
            self.repeated(seen).into_iter().for_each(&mut found);
            self.strangers(sequence, seen).into_iter().for_each(&mut found);
        }
        for (sequence, seen) in &self.task.disordered {
            let same = self.task.transactions[sequence].iter().filter(|s| s.index == seen.index);
            if same.count() == 1 {
                let problem = Problem::OutOfOrder { place: self.judge.place(seen) };
                findings.push(Finding { task: self.id, transaction: *sequence, problem });
            }
        }
        if self.complete {
            self.missing(findings);
        }
    }

    /// Records that are there more than once.
    fn repeated(&self, seen: &[Seen]) -> Vec<Problem> {
        let mut by_index: BTreeMap<u64, Vec<&Seen>> = BTreeMap::new();
        seen.iter().for_each(|s| by_index.entry(s.index).or_default().push(s));
        let twice = by_index.into_iter().filter(|(_, seen)| seen.len() > 1);
        twice
            .map(|(index, seen)| Problem::Twice {
                index,
                places: seen.iter().map(|s| (self.judge.place(s), s.epoch)).collect(),
            })
            .collect()
    }

    /// Records of another life of the task in the same transaction, or beyond its last record.
    fn strangers(&self, sequence: u64, seen: &[Seen]) -> Option<Problem> {
        let epochs: BTreeSet<i64> = seen.iter().map(|s| s.epoch).collect();
        if epochs.len() > 1 {
            let last = seen.iter().max_by_key(|s| s.epoch)?;
            let epochs = epochs.into_iter().collect();
            return Some(Problem::TwoLives { epochs, place: self.judge.place(last) });
        }
        let expected = self.expected(sequence)?;
        let beyond = seen.iter().find(|s| s.index >= expected)?;
        let (place, index) = (self.judge.place(beyond), beyond.index);
        Some(Problem::TooMany { index, expected, place })
    }

    /// How many records a transaction has, from the commit or from the transaction after it.
    fn expected(&self, sequence: u64) -> Option<u64> {
        if let Some(committed) = self.committed.filter(|c| c.sequence == sequence) {
            return Some(committed.records);
        }
        let next = self.task.transactions.get(&(sequence + 1))?;
        next.first().map(|seen| seen.previous)
    }

    fn missing(&self, findings: &mut Vec<Finding>) {
        let mut gap: Option<(u64, u64)> = None;
        for sequence in self.first()..=self.last() {
            match self.task.transactions.get(&sequence) {
                None => gap = Some((gap.map_or(sequence, |(from, _)| from), sequence)),
                Some(seen) => {
                    self.close(&mut gap, findings);
                    let problem = self.torn(sequence, seen);
                    findings.extend(problem.map(|problem| Finding {
                        task: self.id,
                        transaction: sequence,
                        problem,
                    }));
                }
            }
        }
        self.close(&mut gap, findings);
    }

    fn close(&self, gap: &mut Option<(u64, u64)>, findings: &mut Vec<Finding>) {
        if let Some((from, to)) = gap.take() {
            let before = self.task.transactions.range(..from).next_back();
            let after = before.and_then(|(_, seen)| seen.iter().max_by_key(|s| s.index));
            let problem = Problem::Missing { to, after: after.map(|seen| self.judge.place(seen)) };
            findings.push(Finding { task: self.id, transaction: from, problem });
        }
    }

    fn torn(&self, sequence: u64, seen: &[Seen]) -> Option<Problem> {
        let there: BTreeSet<u64> = seen.iter().map(|s| s.index).collect();
        let expected = self.expected(sequence).or_else(|| there.last().map(|last| last + 1))?;
        let mut missing = (0..expected).filter(|index| !there.contains(index));
        let named: Vec<u64> = missing.by_ref().take(NAMED).collect();
        let (&first, more) = (named.first()?, missing.count());
        let near = seen.iter().filter(|s| s.index < first).max_by_key(|s| s.index);
        let near = near.or_else(|| seen.iter().min_by_key(|s| s.index))?;
        Some(Problem::Torn { expected, missing: named, more, near: self.judge.place(near) })
    }

    /// The first transaction of which everything must be there.
    fn first(&self) -> u64 {
        let gone = self.judge.cut.iter().map(|partition| match self.task.first.get(partition) {
            Some(first) => *first,
            // It may have held records of any of them.
            None => self.last(),
        });
        gone.max().unwrap_or(0) + 1
    }

    /// The last transaction of which everything must be there: what was committed before the ends
    /// were asked for; what is known of if nothing says so.
    fn last(&self) -> u64 {
        let seen = self.task.transactions.keys().next_back().copied();
        self.committed.map(|c| c.sequence).or(seen).unwrap_or(0)
    }

    fn report(&self) -> TaskReport {
        let records = self.task.transactions.values().map(Vec::len).sum();
        let later = self.task.transactions.range(self.last() + 1..).count();
        TaskReport {
            task: self.id,
            first: self.first().min(self.last() + 1),
            last: self.last(),
            records,
            later,
            committed: self.committed.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: TaskId = TaskId { subtopology: 0, partition: 3 };

    /// A record: partition, sequence, index, records of the transaction before, epoch.
    type Record = (u32, u64, u64, u64, i64);

    /// Two clean transactions over two partitions: 0 and 2 | 1, then 0 | 1.
    const CLEAN: [Record; 5] =
        [(0, 1, 0, 0, 7), (0, 1, 2, 0, 7), (0, 2, 0, 3, 7), (1, 1, 1, 0, 7), (1, 2, 1, 3, 7)];

    fn judge(records: &[Record], committed: Option<(u64, u64)>, cut: &[u32]) -> Vec<String> {
        let mut judge = Judge::default();
        for partition in 0..2 {
            judge.partition(TopicPartition::new("out", partition), cut.contains(&partition));
            let here = records.iter().filter(|record| record.0 == partition);
            for (offset, (_, sequence, index, previous, epoch)) in (0..).zip(here) {
                let (sequence, index, previous, epoch) = (*sequence, *index, *previous, *epoch);
                let stamp = Stamp { application: 1, task: TASK, epoch, sequence, index, previous };
                judge.record(offset, &stamp);
            }
        }
        let committed = committed.map(|(sequence, records)| Audited { sequence, records });
        let committed = BTreeMap::from([(TASK, committed)]);
        let (_, findings) = judge.judge(&committed, true);
        findings.iter().map(ToString::to_string).collect()
    }

    fn one(records: &[Record], committed: Option<(u64, u64)>) -> String {
        let mut findings = judge(records, committed, &[]);
        assert_eq!(findings.len(), 1, "{findings:?}");
        findings.remove(0)
    }

    #[test]
    fn what_was_written_once_and_whole_is_clean() {
        assert_eq!(judge(&CLEAN, Some((2, 2)), &[]), [""; 0]);
        assert_eq!(judge(&CLEAN, None, &[]), [""; 0]);
        assert_eq!(judge(&[], Some((0, 0)), &[]), [""; 0]);
    }

    #[test]
    fn a_transaction_that_came_after_the_commit_was_read_is_not_judged() {
        let mut more = CLEAN.to_vec();
        more.insert(3, (0, 3, 1, 2, 7));
        assert_eq!(judge(&more, Some((2, 2)), &[]), [""; 0]);
    }

    #[test]
    fn of_a_task_that_had_committed_nothing_only_what_is_too_much_is_found() {
        // Its first transaction was under way when the ends were asked for: record 0 lies behind
        // one of them.
        let begun = [(1, 1, 1, 0, 7)];
        assert_eq!(judge(&begun, Some((0, 0)), &[]), [""; 0]);
        let told = one(&[(1, 1, 1, 0, 7), (1, 1, 1, 0, 7)], Some((0, 0)));
        assert!(told.contains("record 1 is there 2 times"), "{told}");
    }

    #[test]
    fn a_record_that_is_there_twice_is_found_with_both_places() {
        let mut twice = CLEAN.to_vec();
        twice.push((1, 1, 1, 0, 7));
        let told = one(&twice, Some((2, 2)));
        assert!(told.contains("task 0_3, transaction 1: record 1 is there 2 times"), "{told}");
        assert!(told.contains("out-1 offset 0") && told.contains("out-1 offset 2"), "{told}");
    }

    #[test]
    fn a_missing_record_tears_its_transaction_even_the_last_one() {
        let torn: Vec<Record> = CLEAN.into_iter().filter(|r| (r.1, r.2) != (1, 1)).collect();
        let told = one(&torn, None);
        assert!(told.contains("transaction 1: torn, of 3 records 1 is missing: 1"), "{told}");
        assert!(told.contains("out-0 offset 0"), "{told}");
        let torn: Vec<Record> = CLEAN.into_iter().filter(|r| (r.1, r.2) != (2, 1)).collect();
        let told = one(&torn, Some((2, 2)));
        assert!(told.contains("transaction 2: torn, of 2 records 1 is missing: 1"), "{told}");
        assert_eq!(judge(&torn, None, &[]), [""; 0], "nothing says that there was more");
    }

    #[test]
    fn missing_transactions_are_found_in_the_middle_at_the_beginning_and_at_the_end() {
        let gap: Vec<Record> = [(0, 1, 0, 0, 7), (0, 4, 0, 1, 7)].to_vec();
        let told = one(&gap, Some((4, 1)));
        assert!(told.contains("transactions 2 to 3 are missing, after out-0 offset 0"), "{told}");
        let told = one(&[(0, 2, 0, 1, 7)], Some((2, 1)));
        assert!(told.contains("transaction 1 is missing"), "{told}");
        let told = one(&[(0, 1, 0, 0, 7)], Some((2, 5)));
        assert!(told.contains("transaction 2 is missing, after out-0 offset 0"), "{told}");
    }

    #[test]
    fn a_zombie_that_commits_beside_its_successor_is_found() {
        // It wrote what its successor did not write again at the same places.
        let zombie = [(0, 1, 0, 0, 7), (0, 2, 0, 1, 9), (1, 2, 1, 1, 7)];
        let told = one(&zombie, Some((2, 2)));
        assert!(told.contains("transaction 2: two lives of the task have written it"), "{told}");
        assert!(told.contains("epochs 7, 9"), "{told}");
        // Alone, but longer than what was committed.
        let told = one(&[(0, 1, 0, 0, 7), (0, 1, 1, 0, 7)], Some((1, 1)));
        assert!(told.contains("record 1 is beyond the 1 that were committed"), "{told}");
    }

    #[test]
    fn a_record_that_overtook_another_is_found() {
        let told = one(&[(0, 1, 1, 0, 7), (0, 1, 0, 0, 7)], Some((1, 2)));
        assert!(told.contains("transaction 1: out of order at out-0 offset 1"), "{told}");
    }

    #[test]
    fn where_retention_has_deleted_only_what_must_be_left_is_missed() {
        let rest = [(0, 2, 0, 3, 7), (1, 1, 1, 0, 7), (1, 2, 1, 3, 7)];
        assert_eq!(judge(&rest, Some((2, 2)), &[0]), [""; 0]);
        assert_eq!(judge(&rest, Some((2, 2)), &[]).len(), 1);
        // What lies behind what was deleted is judged.
        let torn = [(0, 2, 0, 3, 7), (0, 4, 0, 1, 7), (1, 2, 1, 3, 7)];
        let told = judge(&torn, Some((4, 1)), &[0]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("transaction 3 is missing"), "{told:?}");
    }
}
