//! A quantile sketch with 1 % relative error (DDSketch: Masson, Rim, Lee, VLDB 2019).
//!
//! Owns the buckets, their formula and their encodings. It must not know what is measured.
//!
//! # Which bucket a value falls into
//! Every number here is an IEEE double and every step one correctly rounded operation, so that a
//! program in any language computes the same buckets; no logarithm is involved.
//!
//! * `gamma = 1.01 / 0.99`, the double `0x3FF052BF5A814AFD`.
//! * Boundaries: `b[0] = 1`; upwards `b[i + 1] = b[i] * gamma`, one multiplication each, up to
//!   `b[2047]` (about 6.0e17); downwards `b[i - 1] = b[i] / gamma`, one division each, to
//!   `b[-1024]` (about 1.3e-9).
//! * `|x| <= b[-1024]` counts as zero. Otherwise the index of `x` is the smallest `i` with
//!   `|x| <= b[i]`; bucket `i` thus holds `(b[i - 1], b[i]]`. Negative values have buckets of
//!   their own, by magnitude. NaN, infinities and `|x| > b[2047]` are refused.
//! * A bucket stands for the value `2 * b[i] / (gamma + 1)`, in this order of operations: within
//!   1 % (and 1e-11 of rounding) of everything in it.
//!
//! # How many buckets there are
//! Each sign keeps at most [`BUCKETS_MAX`]: when one more is needed, the bucket nearest to zero is
//! added to the next larger one. What is kept therefore depends on the values alone, not on their
//! order: the `BUCKETS_MAX` largest magnitudes' buckets, the smallest of them with all counts
//! below it. 1,024 full buckets span a ratio of 7e8 between the largest and the smallest value, so
//! that measurements of one kind do not get there.
//!
//! # Quantiles
//! `quantile(m)` for `m` thousandths looks at the value of rank `(count - 1) * m / 1000`, rounded
//! down, in ascending order from rank 0.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::bytes::{DecodeError, Reader, write_number};

/// Most buckets of each sign.
pub const BUCKETS_MAX: usize = 1_024;

/// Ratio of neighbouring boundaries.
pub const GAMMA: f64 = 1.01 / 0.99;

/// Index of the lowest boundary, at and below which a magnitude counts as zero.
pub const INDEX_MIN: i16 = -1_024;

/// Index of the highest boundary, above which a value is refused.
pub const INDEX_MAX: i16 = 2_047;

/// All boundaries from `INDEX_MIN` to `INDEX_MAX`, ascending.
static BOUNDARIES: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let mut down = vec![1.0];
    for _ in INDEX_MIN..0 {
        down.push(down[down.len() - 1] / GAMMA);
    }
    down.reverse();
    let mut boundaries = down;
    for _ in 0..INDEX_MAX {
        boundaries.push(boundaries[boundaries.len() - 1] * GAMMA);
    }
    boundaries
});

/// The boundary `b[index]`.
fn boundary(index: i16) -> f64 {
    BOUNDARIES[usize::try_from(index - INDEX_MIN).expect("indices start at INDEX_MIN")]
}

/// The value is NaN, infinite or too large for any bucket. Refuse the record it came in.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{value} cannot be counted: only finite values up to 6e17 can")]
pub struct NotCountable {
    /// The refused value.
    pub value: f64,
}

/// Counts of values by bucket; see the module for the formula.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Encoded")]
pub struct Sketch {
    /// Values that count as zero.
    zero: u64,
    /// `[index, count]` of values above zero, ascending by index.
    positive: Buckets,
    /// `[index, count]` of values below zero, ascending by index (of the magnitude).
    negative: Buckets,
}

impl Sketch {
    /// Counts `value`.
    ///
    /// # Errors
    /// [`NotCountable`]; the sketch is unchanged then.
    pub fn insert(&mut self, value: f64) -> Result<(), NotCountable> {
        let magnitude = value.abs();
        if !magnitude.is_finite() || magnitude > boundary(INDEX_MAX) {
            return Err(NotCountable { value });
        }
        match i16::try_from(BOUNDARIES.partition_point(|boundary| *boundary < magnitude)) {
            Ok(0) => self.zero += 1,
            Ok(position) if value > 0.0 => self.positive.add(INDEX_MIN + position, 1),
            Ok(position) => self.negative.add(INDEX_MIN + position, 1),
            Err(_) => unreachable!("there are fewer than 2^15 boundaries"),
        }
        Ok(())
    }

    /// Adds all of `other`: the result is the sketch of both sets of values, exactly.
    pub fn merge(&mut self, other: &Self) {
        self.zero += other.zero;
        self.positive.merge(&other.positive);
        self.negative.merge(&other.negative);
    }

    /// Number of values counted.
    pub fn count(&self) -> u64 {
        self.zero + self.positive.count() + self.negative.count()
    }

    /// The value at `thousandths` of the way through the sorted values, within 1 %; `None` when
    /// nothing was counted. 500 is the median; more than 1,000 counts as 1,000.
    pub fn quantile(&self, thousandths: u32) -> Option<f64> {
        let last = self.count().checked_sub(1)?;
        let rank = u128::from(last) * u128::from(thousandths.min(1_000)) / 1_000;
        let negative = self.negative.0.iter().rev().map(|(index, count)| (-middle(*index), *count));
        let positive = self.positive.0.iter().map(|(index, count)| (middle(*index), *count));
        let mut below = 0_u128;
        for (value, count) in negative.chain([(0.0, self.zero)]).chain(positive) {
            below += u128::from(count);
            if below > rank {
                return Some(value);
            }
        }
        unreachable!("the rank is below the count")
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        write_number(self.zero, out);
        self.positive.encode(out);
        self.negative.encode(out);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let zero = reader.number()?;
        let positive = Buckets::decode(reader)?;
        let negative = Buckets::decode(reader)?;
        let encoded = Encoded { zero, positive, negative };
        Self::try_from(encoded).map_err(|reason| reader.error(reason))
    }
}

/// The value a bucket stands for.
fn middle(index: i16) -> f64 {
    2.0 * boundary(index) / (GAMMA + 1.0)
}

/// A sketch as read, before it is known to be one.
#[derive(Deserialize)]
struct Encoded {
    zero: u64,
    positive: Buckets,
    negative: Buckets,
}

impl TryFrom<Encoded> for Sketch {
    type Error = &'static str;

    fn try_from(encoded: Encoded) -> Result<Self, Self::Error> {
        let Encoded { zero, positive, negative } = encoded;
        let mut total = zero;
        for buckets in [&positive, &negative] {
            if buckets.0.len() > BUCKETS_MAX {
                return Err("a sketch has too many buckets");
            }
            if !buckets.0.is_sorted_by(|left, right| left.0 < right.0) {
                return Err("a sketch's buckets are not in order");
            }
            for (index, count) in &buckets.0 {
                if !(INDEX_MIN + 1..=INDEX_MAX).contains(index) || *count == 0 {
                    return Err("a sketch's bucket does not exist or is empty");
                }
                total = total.checked_add(*count).ok_or("a sketch counts too much")?;
            }
        }
        Ok(Self { zero, positive, negative })
    }
}

/// Non-empty buckets of one sign: (index, count), ascending by index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Buckets(Vec<(i16, u64)>);

impl Buckets {
    fn add(&mut self, index: i16, count: u64) {
        match self.0.binary_search_by_key(&index, |bucket| bucket.0) {
            Ok(position) => self.0[position].1 += count,
            Err(position) => {
                self.0.insert(position, (index, count));
                self.collapse();
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        for (index, count) in other.0.iter().rev() {
            self.add(*index, *count);
        }
    }

    /// Adds the bucket nearest to zero to the next one while there are too many.
    fn collapse(&mut self) {
        while self.0.len() > BUCKETS_MAX {
            let (_, count) = self.0.remove(0);
            self.0[0].1 += count;
        }
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|bucket| bucket.1).sum()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        write_number(u64::try_from(self.0.len()).expect("at most BUCKETS_MAX"), out);
        let mut previous = INDEX_MIN;
        for (index, count) in &self.0 {
            write_number(u64::try_from(index - previous).expect("indices ascend"), out);
            write_number(*count, out);
            previous = *index;
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = reader.number()?;
        let length = usize::try_from(length).ok().filter(|length| *length <= BUCKETS_MAX);
        let length = length.ok_or(reader.error("a sketch has too many buckets"))?;
        let mut buckets = Vec::with_capacity(length);
        let mut previous = INDEX_MIN;
        for _ in 0..length {
            let step = i16::try_from(reader.number()?).ok();
            let index = step.and_then(|step| previous.checked_add(step));
            let index = index.ok_or(reader.error("a sketch's bucket does not exist"))?;
            buckets.push((index, reader.number()?));
            previous = index;
        }
        Ok(Self(buckets))
    }
}

#[cfg(test)]
#[path = "sketch_tests.rs"]
mod tests;
