//! Headwater's state: bytes on disk and the rules that keep them true.
//!
//! This crate owns databases and their key layouts, the uncommitted overlay, positions, leases,
//! the state directory with its lock and identity, and the tables of the embedded log. It must
//! not know records, serdes, topologies or Kafka: keys and values are bytes, times are
//! milliseconds since the epoch, and what they mean is the engine's concern.
//!
//! The layers, from the disk upwards:
//!
//! | module | owns |
//! |---|---|
//! | [`database`] | families, atomic batches, scans, consistent views; a RocksDB engine and a memory engine that can crash to any prefix of its unsynced writes |
//! | [`directory`] | one process's directory: lock, identity, which databases there are |
//! | [`layout`] | how keys and values are written |
//! | [`lease`], [`positions`], [`commit`] | who may write, how far a store has come, and the unit written at once |
//! | [`overlay`] | uncommitted writes of one store-partition, with savepoint and undo |
//! | [`store`] | overlay and database seen as one: key-value and window stores over bytes |
//! | [`log_table`] | tables of the embedded log |

pub mod commit;
pub mod database;
pub mod directory;
pub mod error;
pub mod layout;
pub mod lease;
pub mod log_table;
pub mod overlay;
pub mod positions;
pub mod store;

pub use error::{ErrorClass, Result, StateError};
