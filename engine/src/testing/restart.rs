//! Moves of the driver's task to another process: its stores are restored from their changelogs.
//! Knows no operator.

use headwater_state::StateError;
use headwater_state::commit::StateBatch;
use headwater_state::database::memory::MemoryDisk;
use headwater_state::lease::Leases;

use super::driver::{Parts, TASK, TopologyTestDriver};
use crate::record::TopicPartition;
use crate::store::RestoreTarget;
use crate::task::{TaskError, changelog_topic};
use crate::topology::Topology;

impl TopologyTestDriver {
    /// As [`restart`](Self::restart), but as another process does that takes the task over: on an
    /// empty disk, with its stores restored from their changelogs.
    ///
    /// # Errors
    /// As [`restart`](Self::restart).
    pub fn move_task(&mut self) -> Result<(), TaskError> {
        let from = self.commit()?;
        let restored = restore(&mut self.parts, &self.topology);
        restored.map_err(|source| TaskError::State { task: TASK, source })?;
        self.reopen(&from)
    }
}

fn restore(parts: &mut Parts, topology: &Topology) -> Result<(), StateError> {
    parts.database = MemoryDisk::new().open("moved")?;
    parts.leases = Leases::new();
    for spec in topology.stores() {
        let topic = changelog_topic(&parts.settings.application_id, &spec.name);
        let changelog = TopicPartition::new(topic, 0);
        let mut target: Box<dyn RestoreTarget> = spec.restore_target(parts.open(spec)?)?;
        for batch in parts.changelogs.get(&changelog).into_iter().flatten() {
            for record in batch.records() {
                let record = record.expect("the task's own encoding reads");
                let key = record.key.expect("a changelog's records have keys");
                target.apply(key, record.value, record.timestamp)?;
            }
        }
        target.state_mut().freeze();
        let stores = vec![target.state().commit(Some(0))];
        StateBatch { stores, tasks: vec![] }.write(&parts.leases, &*parts.database, &[])?;
    }
    Ok(())
}
