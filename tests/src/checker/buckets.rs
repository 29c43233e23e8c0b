//! The sketch's buckets from its documented formula, by walking from 1 boundary by boundary.
//!
//! It must not share anything with the sketch it checks.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Ratio of neighbouring boundaries.
const GAMMA: f64 = 1.01 / 0.99;

/// At and below the boundary of this index, a magnitude is zero.
const ZERO_INDEX: i64 = -1_024;

/// Most buckets kept per sign.
const KEPT_MAX: usize = 1_024;

/// Index of the bucket of a positive number, and the bucket's upper boundary.
fn bucket(magnitude: f64) -> (i64, f64) {
    let (mut index, mut upper) = (0, 1.0);
    while upper < magnitude {
        upper *= GAMMA;
        index += 1;
    }
    if index > 0 {
        return (index, upper);
    }
    loop {
        let lower = upper / GAMMA;
        if magnitude > lower || index == ZERO_INDEX {
            return (index, upper);
        }
        (index, upper) = (index - 1, lower);
    }
}

/// All values of one metric in one window, by bucket.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    zero: u64,
    /// Index of each bucket -> its count and upper boundary.
    positive: BTreeMap<i64, (u64, f64)>,
    negative: BTreeMap<i64, (u64, f64)>,
}

impl Distribution {
    /// Counts a value.
    pub fn add(&mut self, value: f64) {
        let (index, upper) = bucket(value.abs());
        if value == 0.0 || index <= ZERO_INDEX {
            self.zero += 1;
            return;
        }
        let side = if value > 0.0 { &mut self.positive } else { &mut self.negative };
        side.entry(index).or_insert((0, upper)).0 += 1;
        if side.len() > KEPT_MAX {
            let (_, (folded, _)) = side.pop_first().expect("not empty");
            side.first_entry().expect("not empty").get_mut().0 += folded;
        }
    }

    /// The value at `thousandths` of the way; 0 when there is none.
    pub fn quantile(&self, thousandths: u64) -> f64 {
        let middle = |upper: f64| 2.0 * upper / (GAMMA + 1.0);
        let mut all: Vec<(f64, u64)> =
            self.negative.values().rev().map(|(count, upper)| (-middle(*upper), *count)).collect();
        all.push((0.0, self.zero));
        all.extend(self.positive.values().map(|(count, upper)| (middle(*upper), *count)));
        let total: u64 = all.iter().map(|(_, count)| count).sum();
        let mut left = total.saturating_sub(1) * thousandths / 1_000;
        for (value, count) in all {
            if left < count {
                return value;
            }
            left -= count;
        }
        0.0
    }

    /// The sketch's JSON form.
    pub fn to_json(&self) -> Value {
        let side = |side: &BTreeMap<i64, (u64, f64)>| -> Vec<(i64, u64)> {
            side.iter().map(|(index, (count, _))| (*index, *count)).collect()
        };
        json!({
            "zero": self.zero,
            "positive": side(&self.positive),
            "negative": side(&self.negative),
        })
    }
}
