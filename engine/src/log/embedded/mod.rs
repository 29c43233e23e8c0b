//! The durable log of one process, on the state crate's tables.
