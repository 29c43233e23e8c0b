//! A reader of one simulated partition. Reads the partition at once; a rough cluster gives less than
//! there is now and then, as a fetch that has not come does.

use super::{Event, SimCluster, unknown_partition};
use crate::actor::Bell;
use crate::error::ErrorClass;
use crate::log::{Fetched, Isolation, LogError, LogResult, PartitionReader};
use crate::record::TopicPartition;

#[derive(Debug)]
pub(super) struct SimReader {
    cluster: SimCluster,
    partition: TopicPartition,
    position: i64,
    isolation: Isolation,
    bell: Bell,
}

impl SimReader {
    pub(super) fn new(
        cluster: SimCluster,
        partition: TopicPartition,
        position: i64,
        isolation: Isolation,
        bell: Bell,
    ) -> Self {
        Self { cluster, partition, position, isolation, bell }
    }
}

impl PartitionReader for SimReader {
    fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    fn take(&mut self, max_bytes: usize) -> LogResult<Fetched> {
        let mut cluster = self.cluster.lock();
        let missing = || unknown_partition("read", &self.partition);
        let partition = cluster.broker.partition(&self.partition).ok_or_else(missing)?;
        let (start, end) = (partition.start(), partition.high_watermark());
        if self.position < start || self.position > end {
            let message = format!(
                "offset {} is not in the log, which has {start} to {end}; choose where to go on",
                self.position
            );
            return Err(LogError::new(ErrorClass::Fatal, "read", message).on(&self.partition));
        }
        let visible = partition.end(self.isolation);
        let short = cluster.network.faults.short_fetch;
        let end = if visible > self.position && cluster.network.chance(short) {
            // Rung once the rest of the fetch has come.
            cluster.outgoing.push(Event::Ring(self.bell.clone()));
            let span = usize::try_from(visible - self.position).unwrap_or(usize::MAX);
            let some = i64::try_from(cluster.network.below(span)).unwrap_or(0);
            self.position + some
        } else {
            visible
        };
        let partition = cluster.broker.partition_mut(&self.partition).ok_or_else(missing)?;
        let fetched = partition.read(self.position, self.isolation, end, max_bytes);
        if fetched.batches.is_empty() && fetched.at_end {
            partition.wait(self.bell.clone());
        }
        self.position = fetched.position;
        let shortened = end < visible;
        drop(cluster);
        if shortened {
            self.cluster.bell.ring();
        }
        Ok(fetched)
    }

    fn seek(&mut self, offset: i64) {
        self.position = offset;
    }
}
