//! The embedded log, on the memory engine and on RocksDB.

mod on_the_memory_engine {
    headwater_tests::log_contract!(headwater_tests::stepped_log::SteppedLog::in_memory);
}

#[cfg(feature = "rocksdb")]
mod on_rocksdb {
    headwater_tests::log_contract!(headwater_tests::stepped_log::SteppedLog::on_rocksdb);
}
