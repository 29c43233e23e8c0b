//! What must have come of a run, recomputed from the committed input in partition order by plain
//! code. Shares nothing with the engine but byte formats, which it reads by itself.
//!
//! Where the order of records is the run's own choice (several tasks write into one repartition
//! partition) the log's order is taken as given, after a check that it is one of the orders that
//! were possible: each source partition's records in order, each once.

use std::collections::BTreeMap;

use headwater::log::sim::{SimCluster, SimRecord};
use headwater_state::database::{Database, Direction, Family, ScanRange};

use super::workload::{
    GRACE_MS, ORDERS, Order, PARTITIONS, REGIONS, REPARTITION, TOTALS, TOTALS_CHANGELOG, WINDOW_MS,
};

/// The rows of one store-partition: store key to stored value.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
/// By store and partition, once for each process that says it owns it.
pub type Stores = BTreeMap<(String, u32), Vec<Rows>>;

/// A count and the time of its row.
type Counted = (i64, i64);

/// Reads a store-partition off a database. A data row's key is `1 | partition | store key`.
pub fn rows(database: &dyn Database, family: &Family, partition: u32) -> Rows {
    let mut prefix = vec![1];
    prefix.extend_from_slice(&partition.to_be_bytes());
    let range = ScanRange::prefix(&prefix);
    let mut cursor = database.scan(family, range, Direction::Forward).expect("memory reads");
    let mut rows = Rows::new();
    while let Some((key, value)) = cursor.next().expect("memory reads") {
        rows.insert(key[prefix.len()..].to_vec(), value.to_vec());
    }
    rows
}

/// Everything that differs from what must be, in words.
pub fn compare(orders: &[Order], cluster: &SimCluster, stores: &Stores) -> Vec<String> {
    let mut wrong = Vec::new();
    compare_input(orders, &cluster.committed_records(ORDERS), &mut wrong);
    let totals = totals(orders);
    compare_sequences("totals", &totals, &cluster.committed_records(TOTALS), &mut wrong);
    let repartitioned = cluster.committed_records(REPARTITION);
    compare_repartition(orders, &repartitioned, &mut wrong);
    let regions = regions(&repartitioned);
    compare_sequences("regions", &regions, &cluster.committed_records(REGIONS), &mut wrong);

    let last = |all: &BTreeMap<Vec<u8>, Vec<Counted>>| {
        let last = |(key, counts): (&Vec<u8>, &Vec<Counted>)| {
            counts.last().map(|counted| (key.clone(), stored(*counted)))
        };
        all.iter().filter_map(last).collect::<Rows>()
    };
    compare_rows("orders-per-user", last(&totals), stores, <[u8]>::to_vec, &mut wrong);
    compare_rows("orders-per-region", last(&regions), stores, window_key, &mut wrong);
    let mut changelog = Rows::new();
    for record in cluster.committed_records(TOTALS_CHANGELOG).into_iter().flatten() {
        let (key, value) = (record.key.expect("a key"), record.value.expect("nothing is deleted"));
        let mut row = record.timestamp.to_be_bytes().to_vec();
        row.extend(value);
        changelog.insert(key, row);
    }
    compare_maps("the changelog of orders-per-user", &last(&totals), &changelog, &mut wrong);
    wrong
}

/// The input is what was appended; a check of the simulation itself.
fn compare_input(orders: &[Order], found: &[Vec<SimRecord>], wrong: &mut Vec<String>) {
    let count: usize = found.iter().map(Vec::len).sum();
    if count != orders.len() {
        wrong.push(format!("{count} orders are in the log, {} were appended", orders.len()));
    }
}

/// The counts that each user must have had, one after the other.
fn totals(orders: &[Order]) -> BTreeMap<Vec<u8>, Vec<Counted>> {
    let mut totals: BTreeMap<Vec<u8>, Vec<Counted>> = BTreeMap::new();
    for order in orders {
        count(totals.entry(order.user.clone().into_bytes()).or_default(), order.timestamp);
    }
    totals
}

/// A row's time never goes back.
fn count(counts: &mut Vec<Counted>, timestamp: i64) {
    let (count, time) = counts.last().copied().unwrap_or((0, timestamp));
    counts.push((count + 1, time.max(timestamp)));
}

/// Every order is in the repartition topic once, at its time, in the partition of its region, and
/// those of one source partition are in order.
fn compare_repartition(orders: &[Order], found: &[Vec<SimRecord>], wrong: &mut Vec<String>) {
    type Sequences = BTreeMap<(String, u32), Vec<(i64, i64)>>;
    let mut expected = Sequences::new();
    for order in orders {
        let sequence = expected.entry((order.region.clone(), order.partition)).or_default();
        sequence.push((order.id, order.timestamp));
    }
    let sources: BTreeMap<i64, u32> = orders.iter().map(|o| (o.id, o.partition)).collect();
    let mut seen = Sequences::new();
    let mut places: BTreeMap<String, u32> = BTreeMap::new();
    for (partition, records) in (0..PARTITIONS).zip(found) {
        for record in records {
            let region = text(record.key.as_deref());
            let id = number(record.value.as_deref());
            if *places.entry(region.clone()).or_insert(partition) != partition {
                wrong.push(format!("{region} is in two partitions"));
            }
            let Some(source) = sources.get(&id) else {
                wrong.push(format!("order {id} does not exist"));
                continue;
            };
            seen.entry((region, *source)).or_default().push((id, record.timestamp));
        }
    }
    compare_maps("the repartition topic", &expected, &seen, wrong);
}

/// The counts that each region and window must have had, given the repartition topic.
fn regions(repartitioned: &[Vec<SimRecord>]) -> BTreeMap<Vec<u8>, Vec<Counted>> {
    let mut regions: BTreeMap<Vec<u8>, Vec<Counted>> = BTreeMap::new();
    for records in repartitioned {
        let mut stream_time = i64::MIN;
        for record in records {
            stream_time = stream_time.max(record.timestamp);
            let start = record.timestamp - record.timestamp.rem_euclid(WINDOW_MS);
            if start + WINDOW_MS + GRACE_MS <= stream_time {
                continue;
            }
            let mut key = record.key.clone().expect("a region");
            key.extend_from_slice(&start.to_be_bytes());
            count(regions.entry(key).or_default(), record.timestamp);
        }
    }
    regions
}

/// Each key's outputs, in order, over all partitions; a key has one partition.
fn compare_sequences(
    topic: &str,
    expected: &BTreeMap<Vec<u8>, Vec<Counted>>,
    found: &[Vec<SimRecord>],
    wrong: &mut Vec<String>,
) {
    let mut seen: BTreeMap<Vec<u8>, Vec<Counted>> = BTreeMap::new();
    for record in found.iter().flatten() {
        let key = record.key.clone().unwrap_or_default();
        let counted = (number(record.value.as_deref()), record.timestamp);
        seen.entry(key).or_default().push(counted);
    }
    compare_maps(topic, expected, &seen, wrong);
}

/// A row of a timestamped store: its time, then its value.
fn stored((count, time): Counted) -> Vec<u8> {
    let mut row = time.to_be_bytes().to_vec();
    row.extend_from_slice(&count.to_be_bytes());
    row
}

/// A window store's key is `segment | key | start | sequence`; of it key and start.
fn window_key(store_key: &[u8]) -> Vec<u8> {
    store_key[8..store_key.len() - 4].to_vec()
}

fn compare_rows(
    store: &str,
    expected: Rows,
    stores: &Stores,
    key: impl Fn(&[u8]) -> Vec<u8>,
    wrong: &mut Vec<String>,
) {
    let mut seen = Rows::new();
    for partition in 0..PARTITIONS {
        let owners = stores.get(&(store.to_owned(), partition)).map_or(&[][..], Vec::as_slice);
        if owners.len() != 1 {
            wrong.push(format!("{store}-{partition} has {} owners", owners.len()));
        }
        let rows = owners.iter().flatten();
        seen.extend(rows.map(|(store_key, value)| (key(store_key), value.clone())));
    }
    compare_maps(store, &expected, &seen, wrong);
}

fn compare_maps<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
    wrong: &mut Vec<String>,
) {
    for (key, value) in expected {
        if found.get(key) != Some(value) {
            let found = found.get(key);
            wrong.push(format!("{what}: {key:?} must be {value:?} and is {found:?}"));
        }
    }
    for (key, value) in found.iter().filter(|(key, _)| !expected.contains_key(key)) {
        wrong.push(format!("{what}: {key:?} must not be there and is {value:?}"));
    }
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

fn number(bytes: Option<&[u8]>) -> i64 {
    let bytes = bytes.and_then(|bytes| bytes.first_chunk()).copied();
    bytes.map_or(i64::MIN, i64::from_be_bytes)
}
