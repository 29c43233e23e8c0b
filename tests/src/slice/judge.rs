//! What the application of the broker proofs has written and what it keeps: outputs read with a
//! client of the test's own, rows read from the databases, both compared with the recomputation.

use std::collections::BTreeMap;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use headwater::runtime::Host;
use headwater_state::database::Direction;
use headwater_state::layout::timestamped;
use headwater_state::store::{Committed, KeyValueReads};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;

use super::model::{Expected, Values};
use super::{APPLICATION, COUNTS, PARTITIONS, STORES, TOTALS, WINDOWS};
use crate::kafka_broker::{KafkaBroker, committed_records, is_passing};

const SOON: Duration = Duration::from_secs(120);

/// The committed records of the three output topics.
#[derive(Debug, Default)]
pub struct Outputs {
    /// By topic and key, in order.
    pub topics: BTreeMap<String, Values>,
}

impl Outputs {
    /// Reads until as many are there as expected, then to the end.
    ///
    /// # Panics
    /// When they cannot be read.
    #[must_use]
    pub fn read(broker: &KafkaBroker, expected: &Expected) -> Self {
        let wanted =
            expected.counts.values().sum::<i64>() * 2 + expected.windows.values().sum::<i64>();
        let mut client = broker.client();
        client.set("enable.partition.eof", "true");
        let consumer = committed_records(client, &[COUNTS, WINDOWS, TOTALS], PARTITIONS);
        let deadline = Instant::now() + SOON;
        let (mut outputs, mut found, mut quiet) = (Self::default(), 0, 0);
        // A quiet second after the last one shows what would be too much.
        while (found < wanted || quiet < 10) && Instant::now() < deadline {
            quiet += 1;
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    (found, quiet) = (found + 1, 0);
                    outputs.add(&message);
                }
                None | Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) if is_passing(&error) => {}
                Some(Err(error)) => panic!("the outputs cannot be read: {error}"),
            }
        }
        outputs
    }

    fn add(&mut self, message: &impl Message) {
        let key = message.key_view::<str>().expect("a key").expect("text").to_owned();
        let value = message.payload().expect("a value").try_into().expect("8 bytes");
        let topic = self.topics.entry(message.topic().to_owned()).or_default();
        topic.entry(key).or_default().push(i64::from_be_bytes(value));
    }

    /// What is wrong with them, in words; the first of it.
    #[must_use]
    pub fn judge(&self, expected: &Expected) -> Vec<String> {
        let none = Values::new();
        let of = |topic: &str| self.topics.get(topic).unwrap_or(&none);
        let mut wrong = expected.judge(of(COUNTS), of(WINDOWS), of(TOTALS));
        wrong.truncate(20);
        wrong
    }
}

/// Rows by store and key.
pub type Rows = BTreeMap<(String, Vec<u8>), Vec<u8>>;

/// All rows of all stores of an application that runs in these processes; waits until they say what
/// they must.
///
/// # Panics
/// When a process fails, or they do not say it in time.
pub fn stores(hosts: &[&Host], expected: &Expected) -> Rows {
    let deadline = Instant::now() + SOON;
    loop {
        assert!(hosts.iter().all(|host| host.view().is_live()), "the application runs");
        if hosts.iter().all(|host| host.view().is_ready())
            && let Some(rows) = rows(hosts)
        {
            let wrong = judge_rows(&rows, expected);
            if wrong.is_empty() {
                return rows;
            }
            assert!(Instant::now() < deadline, "{:#?}", &wrong[..wrong.len().min(20)]);
        }
        assert!(Instant::now() < deadline, "the application is ready in time");
        park_timeout(Duration::from_millis(20));
    }
}

/// `None` while a partition is with nobody, or on its way.
fn rows(hosts: &[&Host]) -> Option<Rows> {
    let mut rows = BTreeMap::new();
    for name in STORES {
        let handles = hosts.iter().flat_map(|host| {
            let application = host.view().application(APPLICATION).expect("it is hosted");
            application.board().store(name)
        });
        let handles: Vec<_> = handles.collect();
        if handles.len() != usize::from(PARTITIONS) {
            return None;
        }
        for handle in handles {
            let view = handle.database.view().expect("the database is open");
            let committed =
                Committed { reader: &*view, family: &handle.family, partition: handle.partition };
            let mut cursor = committed.all(Direction::Forward).expect("rows");
            while let Some((key, value)) = cursor.next().expect("a row") {
                let before = rows.insert((name.to_owned(), key.to_vec()), value.to_vec());
                assert_eq!(before, None, "a key lies in one partition");
            }
        }
    }
    Some(rows)
}

/// Compares rows with the recomputation.
fn judge_rows(rows: &Rows, expected: &Expected) -> Vec<String> {
    let mut wanted: BTreeMap<(String, String), i64> = BTreeMap::new();
    for (key, count) in &expected.counts {
        wanted.insert(("counts".to_owned(), key.clone()), *count);
    }
    for ((key, start), count) in &expected.windows {
        wanted.insert(("windows".to_owned(), format!("{key}@{start}")), *count);
    }
    for (bucket, numbers) in &expected.buckets {
        wanted.insert(("totals".to_owned(), bucket.clone()), numbers.iter().sum());
    }
    let mut wrong = Vec::new();
    for ((store, key), value) in rows {
        let key = if store == "windows" {
            let (key, start, _) =
                headwater_state::layout::window::decode(key).expect("a window's key");
            format!("{}@{start}", String::from_utf8_lossy(key))
        } else {
            String::from_utf8_lossy(key).into_owned()
        };
        let (_, value) = timestamped::decode(value).expect("a time and a value");
        let found = i64::from_be_bytes(value.try_into().expect("8 bytes"));
        match wanted.remove(&(store.clone(), key.clone())) {
            Some(value) if value == found => {}
            value => wrong.push(format!("{store} {key}: {found}, expected {value:?}")),
        }
    }
    wrong.extend(wanted.into_iter().map(|(place, value)| format!("{place:?}: {value} missing")));
    wrong
}
