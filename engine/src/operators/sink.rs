//! Sinks: write records into the task's outbox, also for repartition topics. Own the choice of the
//! partition (murmur2 of the key's bytes, as every Kafka client of the JVM).

use std::sync::Arc;

use crate::processor::drops::{OnDropped, RefusedOutput};
use crate::processor::node::{Lifecycle, NodeContext, NodeInit, StreamReceiver};
use crate::processor::{DropReason, NodeError};
use crate::record::{Record, TopicPartition};
use crate::serde::kafka_streams::partition_for;
use crate::serde::{Serde, SharedSerde};

/// The partition that a value is for, if it says.
pub(crate) type PartitionOf<V> = Arc<dyn Fn(&V) -> Option<i32> + Send + Sync>;

pub(crate) struct Sink<K, V> {
    topic: Arc<str>,
    key: SharedSerde<K>,
    value: SharedSerde<V>,
    /// A repartition topic takes no null keys.
    drops_null_keys: bool,
    /// Chooses the partition by the value; without an answer the key does.
    partition_of: Option<PartitionOf<V>>,
    lane: usize,
    partitions: u32,
    key_buffer: Vec<u8>,
    value_buffer: Vec<u8>,
}

impl<K, V> Sink<K, V> {
    pub(crate) fn new(
        topic: Arc<str>,
        key: SharedSerde<K>,
        value: SharedSerde<V>,
        drops_null_keys: bool,
    ) -> Self {
        let (key_buffer, value_buffer) = (Vec::new(), Vec::new());
        Self {
            topic,
            key,
            value,
            drops_null_keys,
            partition_of: None,
            lane: 0,
            partitions: 1,
            key_buffer,
            value_buffer,
        }
    }

    pub(crate) fn partitioned_by(mut self, partition_of: PartitionOf<V>) -> Self {
        self.partition_of = Some(partition_of);
        self
    }
}

impl<K: 'static, V: 'static> Lifecycle for Sink<K, V> {
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        self.lane = ctx.task.outbox.topic(&self.topic);
        self.partitions = ctx.task.partition_counts.get(&self.topic).copied().unwrap_or(1);
        Ok(())
    }
}

impl<K: 'static, V: 'static> StreamReceiver<K, V> for Sink<K, V> {
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        self.key_buffer.clear();
        self.value_buffer.clear();
        let key = self.key.encode(record.key, &mut self.key_buffer)?;
        if key.is_none() && self.drops_null_keys {
            ctx.drop_record(DropReason::NullKey, OnDropped::Count, || {
                format!("repartition topic {} takes no null key", self.topic)
            });
            return Ok(());
        }
        let value = self.value.encode(record.value, &mut self.value_buffer)?;
        let said = self.partition_of.as_ref().and_then(|partition| partition(record.value));
        let said = said.and_then(|partition| u32::try_from(partition).ok());
        let partition = match (said, key) {
            (Some(said), _) if said < self.partitions => said,
            (_, Some(_)) if self.partitions == 1 => 0,
            (_, Some(key)) => partition_for(self.key.partition_key(key), self.partitions),
            (_, None) => {
                let next = ctx.task.next_partition;
                ctx.task.next_partition = next.wrapping_add(1);
                next % self.partitions
            }
        };
        let (timestamp, headers) = (record.timestamp, record.headers);
        let written = ctx.task.outbox.append(self.lane, partition, timestamp, key, value, headers);
        let Err(error) = written else { return Ok(()) };
        let taken = ctx.task.take_refused(RefusedOutput {
            node: Arc::clone(ctx.name),
            to: TopicPartition::new(Arc::clone(&self.topic), partition),
            timestamp,
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            headers: headers.clone(),
            why: error.to_string(),
        });
        if taken { Ok(()) } else { Err(error.into()) }
    }
}
