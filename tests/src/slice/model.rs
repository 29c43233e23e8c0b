//! What the application of the broker proofs must write, recomputed record by record from its
//! input. Knows Kafka Streams' rule of lateness and nothing of the engine.

use std::collections::{BTreeMap, BTreeSet};

use super::{GRACE, WINDOW};

/// One input record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    /// The key.
    pub key: String,
    /// The value; no two records have the same.
    pub number: i64,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
}

/// Everything that is derived from an input.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// How many records each key has.
    pub counts: BTreeMap<String, i64>,
    /// How many records in time each `(key, window start)` has.
    pub windows: BTreeMap<(String, i64), i64>,
    /// The numbers of each bucket.
    pub buckets: BTreeMap<String, BTreeSet<i64>>,
    /// How many records came too late for their window.
    pub late: u64,
}

/// The bucket of a number.
#[must_use]
pub fn bucket(number: i64) -> String {
    format!("bucket-{}", number.rem_euclid(16))
}

impl Expected {
    /// Derives everything. Each partition has a clock of its own.
    #[must_use]
    pub fn of(partitions: &[Vec<Number>]) -> Self {
        let millis = |duration: std::time::Duration| {
            i64::try_from(duration.as_millis()).expect("short durations")
        };
        let (window, grace) = (millis(WINDOW), millis(GRACE));
        let mut expected = Self::default();
        for records in partitions {
            let mut clock = i64::MIN;
            for Number { key, number, timestamp } in records {
                clock = clock.max(*timestamp);
                *expected.counts.entry(key.clone()).or_default() += 1;
                expected.buckets.entry(bucket(*number)).or_default().insert(*number);
                let start = timestamp - timestamp.rem_euclid(window);
                // A window takes records while its end lies behind stream time less the grace.
                if start + window > clock - grace {
                    *expected.windows.entry((key.clone(), start)).or_default() += 1;
                } else {
                    expected.late += 1;
                }
            }
        }
        expected
    }

    /// What is wrong with the outputs, each a key's values in the order they were written.
    #[must_use]
    pub fn judge(&self, counts: &Values, windows: &Values, totals: &Values) -> Vec<String> {
        let mut wrong = Vec::new();
        let counting = |wrong: &mut Vec<String>, what: &str, expected: Values, found: &Values| {
            let keys: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
            for key in keys {
                let (expected, found) = (expected.get(key), found.get(key));
                if expected != found {
                    wrong.push(format!("{what} of {key}: {}", difference(expected, found)));
                }
            }
        };
        let to = |last: i64| (1..=last).collect::<Vec<_>>();
        let expected = self.counts.iter().map(|(key, count)| (key.clone(), to(*count))).collect();
        counting(&mut wrong, "counts", expected, counts);
        let window =
            |((key, start), count): (&(String, i64), &i64)| (format!("{key}@{start}"), to(*count));
        counting(&mut wrong, "windows", self.windows.iter().map(window).collect(), windows);
        for key in self.buckets.keys().chain(totals.keys()).collect::<BTreeSet<_>>() {
            let expected = self.buckets.get(key).cloned().unwrap_or_default();
            let found = totals.get(key).map_or(&[][..], Vec::as_slice);
            wrong.extend(judge_total(key, expected, found));
        }
        wrong
    }
}

/// The values of each key, in the order they were written.
pub type Values = BTreeMap<String, Vec<i64>>;

/// A running sum is right when its steps are the bucket's numbers, each once, in any order.
fn judge_total(bucket: &str, mut left: BTreeSet<i64>, found: &[i64]) -> Option<String> {
    let mut before = 0;
    for (index, total) in found.iter().enumerate() {
        let step = total - before;
        if !left.remove(&step) {
            return Some(format!("totals of {bucket}: value {index} adds {step}, not to be added"));
        }
        before = *total;
    }
    (!left.is_empty()).then(|| format!("totals of {bucket}: {} numbers are missing", left.len()))
}

fn difference(expected: Option<&Vec<i64>>, found: Option<&Vec<i64>>) -> String {
    let (expected, found) =
        (expected.map_or(&[][..], Vec::as_slice), found.map_or(&[][..], Vec::as_slice));
    let same = expected.iter().zip(found).take_while(|(e, f)| e == f).count();
    format!(
        "{} values, expected {}; the first {same} are right, then {:?} instead of {:?}",
        found.len(),
        expected.len(),
        &found[same..found.len().min(same + 3)],
        &expected[same..expected.len().min(same + 3)],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(key: &str, number: i64, timestamp: i64) -> Number {
        Number { key: key.to_owned(), number, timestamp }
    }

    fn values(of: &[(&str, &[i64])]) -> Values {
        of.iter().map(|(key, values)| ((*key).to_owned(), values.to_vec())).collect()
    }

    #[test]
    fn a_record_is_late_once_stream_time_has_passed_the_grace() {
        let partition = [
            number("a", 1, 1_000),
            number("a", 2, 14_999),
            number("a", 3, 9_000), // The window ends at 10 s, and 14.999 s less 5 s is before it.
            number("a", 4, 15_000),
            number("a", 5, 9_000), // Now it is not.
        ];
        let expected = Expected::of(&[partition.to_vec()]);
        assert_eq!(expected.late, 1);
        assert_eq!(expected.windows[&("a".to_owned(), 0)], 2);
        assert_eq!(expected.counts["a"], 5);
    }

    #[test]
    fn a_lost_a_doubled_and_a_foreign_result_are_found() {
        let expected = Expected::of(&[vec![number("a", 16, 0), number("a", 32, 0)]]);
        let right = values(&[("a", &[1, 2])]);
        let windows = values(&[("a@0", &[1, 2])]);
        let totals = values(&[("bucket-0", &[32, 48])]);
        assert_eq!(expected.judge(&right, &windows, &totals), [""; 0]);
        for wrong in [values(&[("a", &[1])]), values(&[("a", &[1, 1, 2])]), values(&[("b", &[1])])]
        {
            assert!(!expected.judge(&wrong, &windows, &totals).is_empty());
        }
        for wrong in [&[16][..], &[16, 16, 48], &[16, 32]] {
            let totals = values(&[("bucket-0", wrong)]);
            assert_eq!(expected.judge(&right, &windows, &totals).len(), 1, "{wrong:?}");
        }
    }
}
