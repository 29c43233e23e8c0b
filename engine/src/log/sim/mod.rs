//! The simulated log: in memory, with transactions, faults and a virtual clock.
