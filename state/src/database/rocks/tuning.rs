//! How RocksDB is set up: what every database has, and what each kind of family is tuned for.

use rocksdb::{BlockBasedOptions, DBCompressionType, DBRecoveryMode, LogLevel, Options};

use super::SharedMemory;
use crate::database::FamilyKind;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// The write-ahead log is never shorter than this before old families are flushed to free it.
const WAL_BYTES_MIN: usize = 64 * MIB;

fn bytes(count: usize) -> u64 {
    u64::try_from(count).expect("a size fits u64")
}

pub(super) fn database_options(memory: &SharedMemory) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_write_buffer_manager(&memory.write_buffers);
    // A torn tail is what a power loss leaves: recovery stops before it. A log file that was synced
    // and is gone or short is damage, and found by the manifest.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_track_and_verify_wals_in_manifest(true);
    // Bounds how much a restart replays.
    options.set_max_total_wal_size(bytes((2 * memory.budget.memtable_bytes).max(WAL_BYTES_MIN)));
    options.set_max_background_jobs(2);
    options.set_avoid_unnecessary_blocking_io(true);
    // Background writes trickle out instead of making a later fsync pay for all of them.
    options.set_bytes_per_sync(bytes(MIB));
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(MIB);
    options.set_stats_dump_period_sec(0);
    options
}

pub(super) fn family_options(kind: FamilyKind, memory: &SharedMemory) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&memory.cache);
    table.set_format_version(6);
    // Indexes and filters count against the one cache, so memory stays bounded.
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    let memtable_bytes = memory.budget.memtable_bytes;
    match kind {
        FamilyKind::State => {
            table.set_block_size(8 * KIB);
            table.set_bloom_filter(10.0, false);
            options.set_compression_type(DBCompressionType::Lz4);
            options.set_write_buffer_size((memtable_bytes / 4).clamp(MIB, 64 * MIB));
            // Many tasks have small memtables: the first write must not take a megabyte.
            options.set_arena_block_size(64 * KIB);
            options.set_level_compaction_dynamic_level_bytes(true);
        }
        FamilyKind::Log => {
            // Batches go to blob files once and are not rewritten by compactions; what is merged is
            // their keys. A truncated front frees its files as soon as its keys are merged away.
            table.set_block_size(32 * KIB);
            options.set_enable_blob_files(true);
            options.set_min_blob_size(bytes(KIB));
            options.set_blob_file_size(bytes(64 * MIB));
            options.set_enable_blob_gc(true);
            options.set_compression_type(DBCompressionType::None);
            options.set_blob_compression_type(DBCompressionType::None);
            options.set_write_buffer_size((memtable_bytes / 2).clamp(MIB, 128 * MIB));
        }
        FamilyKind::Meta => {
            options.set_write_buffer_size(MIB);
            options.set_arena_block_size(16 * KIB);
        }
    }
    options.set_block_based_table_factory(&table);
    options
}

/// The name a family has on disk.
pub(super) fn disk_name(name: &str, kind: FamilyKind) -> String {
    let kind = match kind {
        FamilyKind::State => 's',
        FamilyKind::Log => 'l',
        FamilyKind::Meta => 'm',
    };
    format!("{kind}:{name}")
}

/// The kind and name of a family on disk; `None` for RocksDB's own default one.
pub(super) fn parse_name(disk_name: &str) -> Option<(FamilyKind, &str)> {
    let (kind, name) = disk_name.split_once(':')?;
    let kind = match kind {
        "s" => FamilyKind::State,
        "l" => FamilyKind::Log,
        "m" => FamilyKind::Meta,
        _ => return None,
    };
    Some((kind, name))
}
