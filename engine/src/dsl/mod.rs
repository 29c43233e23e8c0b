//! The typed DSL: `StreamsBuilder`, `KStream`, `KTable` and what lies between. Owns the handles and
//! their options; each verb adds a node to the graph. Knows no task, no log and no store's bytes.
//!
//! Handles are `Copy` views of a builder: using one twice is fan-out. Stateless operators take no
//! name; [`KStream::named`] names the operator just added, for display. Whatever keeps state or owns
//! an internal topic **requires** a name in its options, and nothing on disk or in a topic's name
//! derives from anything else.
//!
//! ```
//! use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder};
//! use headwater::serde::serdes::{i64, optional, string};
//!
//! let builder = StreamsBuilder::new();
//! builder
//!     .stream("lines", Consumed::with(string(), string()))
//!     .flat_map_values(|_, line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
//!     .group_by(|_, word| word.clone(), Grouped::with("words", string(), string()))
//!     .count(Materialized::count("counts"))
//!     .to_stream()
//!     .to("word-counts", Produced::with(string(), optional(i64())));
//! let topology = builder.build()?;
//! assert_eq!(topology.stores().len(), 1);
//! # Ok::<(), headwater::topology::TopologyError>(())
//! ```

mod branched;
mod builder;
mod chosen;
mod cogrouped;
mod deduplicated;
mod foreign_key_join;
mod global_table;
mod grouped;
mod grouped_table;
mod options;
mod session_windowed;
mod stream;
mod stream_join;
mod suppressed;
mod table;
mod table_join;
mod to_table;
mod windowed;

pub use branched::BranchedKStream;
pub use builder::StreamsBuilder;
pub use cogrouped::{CogroupedKStream, SessionCogroup, WindowedCogroup};
pub use deduplicated::Deduplicated;
pub use foreign_key_join::ForeignKeyJoined;
pub use global_table::GlobalKTable;
pub use grouped::KGroupedStream;
pub use grouped_table::KGroupedTable;
pub use options::{
    Consumed, Grouped, Joined, Materialized, Produced, Repartitioned, TableJoined, Tabled,
};
pub use session_windowed::{SessionWindowedKStream, SessionWindows};
pub use stream::KStream;
pub use stream_join::{JoinWindows, StreamJoined};
pub use suppressed::Suppressed;
pub use table::KTable;
pub use table_join::JoinKind;
pub use windowed::{SlidingWindows, TimeWindowedKStream, TimeWindows};
