//! The memory that all databases of a process share.

use headwater_state::database::rocks::{MemoryBudget, RocksDatabase, SharedMemory};

use crate::{Op, state_family, write};

#[test]
fn memtables_of_all_databases_together_stay_within_their_budget() {
    let memtable_bytes = 4 << 20;
    let memory = SharedMemory::new(MemoryBudget { block_cache_bytes: 1 << 20, memtable_bytes });
    let directory = tempfile::tempdir().expect("a directory");
    let databases: Vec<_> = (0..6)
        .map(|n| {
            RocksDatabase::open(&directory.path().join(n.to_string()), &memory).expect("opens")
        })
        .collect();
    // One after the other, so that most of the memory is in databases nobody writes any more.
    let mut number = 0u64;
    for database in &databases {
        let family = state_family(&**database);
        for _ in 0..50 {
            let ops: Vec<Op> = (0..64)
                .map(|_| {
                    number += 1;
                    Op::Put(number.to_be_bytes().to_vec(), vec![7; 1_000])
                })
                .collect();
            write(&**database, &family, &ops);
            let (_, used) = memory.used();
            assert!(used <= memtable_bytes, "{used} of {memtable_bytes} bytes after a write");
        }
    }
    let mut rows = 0;
    for database in &databases {
        rows += crate::rows(&**database, &state_family(&**database)).len();
    }
    assert_eq!(u64::try_from(rows).expect("few"), number);
}
