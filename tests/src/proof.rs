//! Repeated proofs: the same code runs a fixed fraction of its seeds in `make test` and all of them
//! in `make soak`. This module says which seeds; what one run does is the suite's business.

use std::ops::RangeInclusive;

/// The seeds that a repeated proof runs now.
///
/// - `HEADWATER_SEED=n`: that seed alone (`make sim SEED=n`).
/// - `HEADWATER_FIRST_SEED=a HEADWATER_RUNS=n`: a part of the full size (`make soak`).
/// - neither: seeds 1 to `fraction` (`make test`).
///
/// Prints the range, so that every log names its seeds.
#[must_use]
pub fn seeds(name: &str, fraction: u64) -> RangeInclusive<u64> {
    let range = choose(
        fraction,
        number("HEADWATER_SEED"),
        number("HEADWATER_FIRST_SEED"),
        number("HEADWATER_RUNS"),
    );
    say(&format!(
        "{name}: seeds {} to {}; replay one with HEADWATER_SEED=n",
        range.start(),
        range.end()
    ));
    range
}

fn choose(
    fraction: u64,
    one: Option<u64>,
    first: Option<u64>,
    runs: Option<u64>,
) -> RangeInclusive<u64> {
    if let Some(seed) = one {
        return seed..=seed;
    }
    let first = first.unwrap_or(1);
    first..=first + runs.unwrap_or(fraction).max(1) - 1
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not '{text}'")))
}

/// Prints one line to the test's log.
#[expect(clippy::print_stderr, reason = "a test's log is its standard error")]
pub fn say(line: &str) {
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fraction_runs_unless_told_otherwise() {
        assert_eq!(choose(20, None, None, None), 1..=20);
    }

    #[test]
    fn one_seed_goes_before_a_part() {
        assert_eq!(choose(20, Some(7), Some(100), Some(50)), 7..=7);
    }

    #[test]
    fn a_part_of_the_soak_starts_at_its_first_seed() {
        assert_eq!(choose(20, None, Some(101), Some(50)), 101..=150);
    }
}
