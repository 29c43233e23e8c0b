//! The runtime, end to end: whole applications on a log, stepped on one thread under a virtual
//! clock unless a test says otherwise.

mod runtime {
    mod at_least_once;
    mod beside;
    mod crash_table;
    mod embedded;
    mod faults;
    mod faulty;
    mod host;
    mod joins;
    #[cfg(feature = "rocksdb")]
    mod quarantine;
    mod rebalance;
    mod refused;
    mod restore;
    mod takeover;
    mod topics;
    mod unheld;
    mod world;
}
