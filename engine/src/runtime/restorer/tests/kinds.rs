//! Every kind of store, restored from the same changelog by batches and by sorted files: the same
//! rows must be there.

use headwater_state::database::{Direction, ScanRange};

use super::*;
use crate::serde::kafka_streams::BufferValue;
use crate::store::{SessionSpec, WindowSpec};

const RECORDS: i64 = 6_000;
const KEYS: i64 = 1_500;
const STEP_MS: i64 = 10;
/// Nothing expires: what has may leave the disk later after one way than after the other.
const RETENTION_MS: i64 = 1_000_000;

fn kinds() -> [StoreKind; 10] {
    let window = WindowSpec { size_ms: 1_000, retention_ms: RETENTION_MS };
    let session = |closing| StoreKind::Session(SessionSpec { retention_ms: RETENTION_MS, closing });
    [
        StoreKind::KeyValue,
        StoreKind::TimestampedKeyValue,
        StoreKind::Window(window),
        StoreKind::TimestampedWindow(window),
        StoreKind::ClosingWindow(window),
        StoreKind::JoinWindow(window),
        session(false),
        session(true),
        StoreKind::Versioned(RETENTION_MS),
        StoreKind::SuppressBuffer,
    ]
}

/// The key of a changelog record, as the kind's format has it.
fn changelog_key(kind: StoreKind, number: i64) -> Vec<u8> {
    let mut key = format!("key{:04}", number % KEYS).into_bytes();
    // Several records fall into one window or session.
    let start = number / KEYS / 2 * 1_000;
    match kind {
        StoreKind::Session(_) => {
            key.extend((start + 500).to_be_bytes());
            key.extend(start.to_be_bytes());
        }
        StoreKind::JoinWindow(_) => {
            key.extend(start.to_be_bytes());
            key.extend(u32::try_from(number).expect("small").to_be_bytes());
        }
        kind if kind.window().is_some() => {
            key.extend(start.to_be_bytes());
            key.extend(0_u32.to_be_bytes());
        }
        _ => {}
    }
    key
}

fn changelog_value(kind: StoreKind, number: i64) -> Option<Vec<u8>> {
    if number % 7 == 3 {
        return None;
    }
    let text = format!("{number}-{}", "x".repeat(1_000));
    if kind != StoreKind::SuppressBuffer {
        return Some(text.into_bytes());
    }
    let held = BufferValue {
        timestamp: number * STEP_MS,
        offset: number,
        topic: "in",
        partition: 0,
        headers: Headers::default(),
        prior: None,
        old: None,
        new: Some(text.as_bytes()),
        buffer_time: number * STEP_MS,
    };
    let mut value = Vec::new();
    held.encode(&mut value).expect("small");
    Some(value)
}

fn cluster_with_changelog(kind: StoreKind) -> SimCluster {
    let cluster = SimCluster::new(SimConfig::calm(1));
    let cleanup = Cleanup::Compact;
    cluster.create_topic(TopicSpec { name: CHANGELOG.into(), partitions: 1, cleanup });
    for first in (0..RECORDS).step_by(100) {
        let mut builder = RecordBatchBuilder::new();
        for number in first..first + 100 {
            let (key, value) = (changelog_key(kind, number), changelog_value(kind, number));
            let (time, none) = (number * STEP_MS, Headers::empty());
            builder.append(time, Some(&key), value.as_deref(), none).expect("small");
        }
        let batch = RecordBatch::new(0, builder.finish()).expect("just built");
        cluster.append(&TopicPartition::new(CHANGELOG, 0), &batch);
    }
    cluster
}

type Row = (Vec<u8>, Vec<u8>);

/// The rows, the positions, and how many writes it took.
fn restore(kind: StoreKind, long: u64) -> (Vec<Row>, StorePositions, usize) {
    let (disk, clock) = (MemoryDisk::new(), VirtualClock::new(0));
    let scene = Scene::with(cluster_with_changelog(kind), disk, clock, long);
    let mut scene = Scene { kind, ..scene };
    let store = scene.restored();
    let mut cursor = store.scan(ScanRange::all(), Direction::Forward).expect("read");
    let mut rows = Vec::new();
    while cursor.advance().expect("read") {
        rows.push((cursor.key().to_vec(), cursor.value().to_vec()));
    }
    drop(cursor);
    (rows, store.positions(), scene.disk.unsynced())
}

#[test]
fn every_kind_of_store_has_the_same_rows_by_sorted_files_as_by_batches() {
    for kind in kinds() {
        let (batches, files) = (restore(kind, u64::MAX), restore(kind, 0));
        assert!(batches.0.len() > 100, "{kind:?}: {} rows", batches.0.len());
        assert_eq!(batches.1.changelog, Some(RECORDS), "{kind:?}");
        assert_eq!(files.1, batches.1, "{kind:?}");
        assert_eq!(files.0.len(), batches.0.len(), "{kind:?}");
        let differs = files.0.iter().zip(&batches.0).position(|(file, batch)| file != batch);
        assert_eq!(differs, None, "{kind:?}");
        assert!(files.2 > 1, "{kind:?}: one file proves little");
    }
}
