//! The contract of the log seam, run on every log.

mod log_contract {
    mod embedded;
    #[cfg(feature = "kafka")]
    mod kafka;
    mod sim;
}
