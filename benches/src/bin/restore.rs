//! What it costs to bring changelog records into a store: batches of a turn each, as a short restore
//! writes them, beside sorted files, as a long one does. The log is left out. Each way restores the
//! same records into an empty database of its own; the time ends when every file is written, so that
//! what the first leaves in memory is counted too. One JSON line.
#![expect(clippy::print_stdout, reason = "a bench prints its result")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use headwater_state::commit::StateBatch;
use headwater_state::database::Database;
use headwater_state::database::rocks::{MemoryBudget, RocksDatabase, SharedMemory};
use headwater_state::lease::Leases;
use headwater_state::store::StorePartition;
use serde_json::{Value, json};

const MIB: usize = 1 << 20;

/// Restores records in two ways.
#[derive(Parser)]
struct Arguments {
    /// Records of the changelog.
    #[arg(long, default_value_t = 1_000_000)]
    records: u32,
    /// Different keys among them.
    #[arg(long, default_value_t = 500_000)]
    keys: u32,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// Rows collected for a file, in MiB.
    #[arg(long, default_value_t = 16)]
    bulk_mib: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let (batches, rows) = restore(&arguments, false)?;
    let (files, same) = restore(&arguments, true)?;
    assert_eq!(rows, same, "both ways end with the same rows");
    let line = json!({
        "bench": "restore",
        "records": arguments.records,
        "keys": arguments.keys,
        "value_bytes": arguments.value_bytes,
        "batches": figures(batches, arguments.records),
        "sorted_files": figures(files, arguments.records),
        "times_faster": batches.as_secs_f64() / files.as_secs_f64(),
    });
    println!("{line}");
    Ok(())
}

fn figures(took: Duration, records: u32) -> Value {
    json!({
        "records_per_second": (f64::from(records) / took.as_secs_f64()).round(),
        "seconds": took.as_secs_f64(),
    })
}

/// The time it took, and a sum over all rows.
fn restore(arguments: &Arguments, sorted: bool) -> Result<(Duration, u64), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let budget = MemoryBudget { block_cache_bytes: 77 * MIB, memtable_bytes: 51 * MIB };
    let rocks = RocksDatabase::open(folder.path(), &SharedMemory::new(budget))?;
    let database: Arc<dyn Database> = Arc::<RocksDatabase>::clone(&rocks);
    let leases = Leases::new();
    let mut store = StorePartition::open(Arc::clone(&database), leases.grant("app/s", 0))?;
    let turn = if sorted { arguments.bulk_mib * MIB } else { MIB };
    let mut value = vec![b'v'; arguments.value_bytes.max(4)];
    let started = Instant::now();
    for number in 0..arguments.records {
        // Multiplying by an odd number visits the keys in no order, each as often as the others.
        let key = (number % arguments.keys).wrapping_mul(2_654_435_761).to_be_bytes();
        value[..4].copy_from_slice(&number.to_be_bytes());
        store.put(&key, &value)?;
        if store.overlay().bytes() >= turn || number + 1 == arguments.records {
            store.freeze();
            let commit = store.commit(Some(i64::from(number) + 1));
            if sorted {
                commit.ingest(&leases, &*database)?;
                store.committed(&commit);
                store.rewind()?;
            } else {
                let batch = StateBatch { stores: vec![commit], tasks: Vec::new() };
                batch.write(&leases, &*database, &[])?;
                store.committed(&batch.stores[0]);
            }
        }
    }
    rocks.flush()?;
    let took = started.elapsed();
    let family = store.family().clone();
    let range = headwater_state::database::ScanRange::prefix(&[headwater_state::layout::DATA]);
    let mut cursor =
        database.scan(&family, range, headwater_state::database::Direction::Forward)?;
    let mut sum = 0_u64;
    while let Some((_, value)) = cursor.next()? {
        sum += value[..4].iter().map(|byte| u64::from(*byte)).sum::<u64>() + 1;
    }
    Ok((took, sum))
}
