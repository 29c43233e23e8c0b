//! What a simulated run reads: records drawn from its seed, in the order they arrive. Knows neither
//! topology nor cluster.

use std::ops::Range;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::record::{Headers, RecordBatch, RecordBatchBuilder, TopicPartition};
use crate::serde::SerdeError;
use crate::serde::kafka_streams::partition_for;
use crate::testing::TestInput;

/// Other draws of the same seed are other numbers.
const SALT: u64 = 0x0069_6e70_7574_7300;

/// A record that arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition, below [`Inputs::partitions`].
    pub partition: u32,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// The key's bytes, or null.
    pub key: Option<Vec<u8>>,
    /// The value's bytes, or null.
    pub value: Option<Vec<u8>>,
}

/// The records of one run. They arrive in the order they are added, a few at a time, while
/// everything goes wrong; what follows [`settle`](Inputs::settle) waits until all before is
/// processed.
#[derive(Debug)]
pub struct Inputs {
    seed: u64,
    partitions: u32,
    rng: ChaCha8Rng,
    stages: Vec<Vec<Input>>,
}

impl Inputs {
    pub(super) fn new(seed: u64, partitions: u32) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed ^ SALT);
        Self { seed, partitions, rng, stages: vec![Vec::new()] }
    }

    /// The seed of the run.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How many partitions each topic has that the application does not own.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// A number drawn from the seed.
    ///
    /// # Panics
    /// If the range is empty.
    pub fn draw(&mut self, range: Range<u64>) -> u64 {
        self.rng.random_range(range)
    }

    /// Adds a typed record, in the partition of its key (the first one for null).
    ///
    /// # Errors
    /// The serde refuses the key or the value.
    pub fn pipe<K: 'static, V: 'static>(
        &mut self,
        to: &TestInput<K, V>,
        key: &K,
        value: &V,
        timestamp: i64,
    ) -> Result<(), SerdeError> {
        let (key, value) = to.encode(key, value)?;
        let partition = key.as_deref().map_or(0, |key| partition_for(key, self.partitions));
        self.push(Input { topic: to.topic().into(), partition, timestamp, key, value });
        Ok(())
    }

    /// Adds a record as it is.
    pub fn push(&mut self, input: Input) {
        self.stages.last_mut().expect("there is always one").push(input);
    }

    /// What is added from now on arrives when everything before is processed: a table is filled
    /// before what is joined with it, say.
    pub fn settle(&mut self) {
        self.stages.push(Vec::new());
    }

    /// The stages in order; none is empty.
    pub(super) fn stages(self) -> Vec<Vec<Input>> {
        self.stages.into_iter().filter(|stage| !stage.is_empty()).collect()
    }
}

/// Records that arrive together, as the log takes them: consecutive ones of one partition.
pub(super) fn batches(inputs: &[Input]) -> Vec<(TopicPartition, RecordBatch)> {
    let same = |a: &Input, b: &Input| (&a.topic, a.partition) == (&b.topic, b.partition);
    let batch = |inputs: &[Input]| {
        let mut batch = RecordBatchBuilder::new();
        for input in inputs {
            let (key, value) = (input.key.as_deref(), input.value.as_deref());
            batch.append(input.timestamp, key, value, Headers::empty()).expect("small records");
        }
        let to = TopicPartition::new(Arc::clone(&inputs[0].topic), inputs[0].partition);
        (to, RecordBatch::new(0, batch.finish()).expect("just built"))
    };
    inputs.chunk_by(same).map(batch).collect()
}
