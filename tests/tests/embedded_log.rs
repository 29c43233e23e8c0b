//! What the embedded log promises beyond the contract of all logs: commits that are one write with
//! their state, prefixes after a power loss, full and failing disks, retention, compaction.

mod embedded_log {
    mod commits;
    mod compaction;
    mod disk_trouble;
    mod power_loss;
    mod published;
    mod retention;
    mod threads;
}
