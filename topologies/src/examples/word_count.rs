//! Word count: how often has each word been seen?
//!
//! ```text
//! lines -> words -> group by word (repartition) -> count (store `counts`) -> word-counts
//! ```

use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder};
use headwater::serde::serdes::{i64, optional, string};

/// Adds the topology to `b`.
pub fn topology(b: &StreamsBuilder) {
    b.stream("lines", Consumed::with(string(), string()))
        .flat_map_values(|_, line| words(line))
        .group_by(|_, word| word.clone(), Grouped::with("words", string(), string()))
        .count(Materialized::count("counts"))
        .to_stream()
        .to("word-counts", Produced::with(string(), optional(i64())));
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use headwater::testing::{TestInput, TestOutput, TopologyTestDriver};

    use super::*;

    #[test]
    fn every_word_is_counted_as_it_comes() {
        let b = StreamsBuilder::new();
        topology(&b);
        let mut driver =
            TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts");
        let lines = TestInput::new("lines", string(), string());
        for line in ["to be or", "not to be"] {
            lines.pipe(&mut driver, &"k".into(), &line.into(), 1).expect("it is processed");
        }
        let counts = TestOutput::new("word-counts", string(), optional(i64()));
        let seen: Vec<_> = counts
            .read(&mut driver)
            .expect("it can be read")
            .into_iter()
            .map(|r| (r.key, r.value.unwrap_or(0)))
            .collect();
        let expected = [("to", 1), ("be", 1), ("or", 1), ("not", 1), ("to", 2), ("be", 2)];
        assert_eq!(seen, expected.map(|(word, n)| (word.to_owned(), n)));
    }
}
