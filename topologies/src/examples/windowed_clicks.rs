//! Windowed clicks: how many clicks has each user made in each minute?
//!
//! ```text
//! clicks -> group by user -> minutes, grace 10 s -> count (store `clicks-per-minute`) -> click-counts
//! ```

use std::time::Duration;

use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder, TimeWindows};
use headwater::serde::kafka_streams::time_windowed;
use headwater::serde::serdes::{i64, optional, string};

const MINUTE: Duration = Duration::from_secs(60);

/// Adds the topology to `b`.
pub fn topology(b: &StreamsBuilder) {
    b.stream("clicks", Consumed::with(string(), string()))
        .group_by_key(Grouped::with("by-user", string(), string()))
        .windowed_by(TimeWindows::tumbling(MINUTE, Duration::from_secs(10)))
        .count(Materialized::count("clicks-per-minute").retention(Duration::from_secs(3600)))
        .to_stream()
        .to("click-counts", Produced::with(time_windowed(string(), 60_000), optional(i64())));
}

#[cfg(test)]
mod tests {
    use headwater::testing::{TestInput, TestOutput, TopologyTestDriver};

    use super::*;

    #[test]
    fn a_click_counts_in_its_minute_until_the_grace_is_over() {
        let b = StreamsBuilder::new();
        topology(&b);
        let mut driver =
            TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts");
        let clicks = TestInput::new("clicks", string(), string());
        for time in [1_000, 61_000, 2_000, 70_000, 3_000] {
            clicks.pipe(&mut driver, &"ann".into(), &"/".into(), time).expect("it is processed");
        }
        let counts =
            TestOutput::new("click-counts", time_windowed(string(), 60_000), optional(i64()));
        let seen: Vec<_> = counts
            .read(&mut driver)
            .expect("it can be read")
            .into_iter()
            .map(|r| (r.key.window.start, r.value))
            .collect();
        // The click at 3 s comes at 70 s, when the first minute and its grace are over.
        assert_eq!(seen, [(0, Some(1)), (60_000, Some(1)), (0, Some(2)), (60_000, Some(2))]);
    }
}
