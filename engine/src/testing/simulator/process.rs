//! One simulated process: its actors while it lives, and its disk for ever.

use headwater_state::database::memory::MemoryDisk;

use super::Slot;
use crate::actor::{Actor, Next};
use crate::log::sim::Process;

pub(super) struct Instance {
    disk: MemoryDisk,
    life: Option<Life>,
}

struct Life {
    process: Process,
    slots: Vec<Slot>,
}

impl Instance {
    pub(super) fn new() -> Self {
        Self { disk: MemoryDisk::new(), life: None }
    }

    pub(super) fn disk(&self) -> &MemoryDisk {
        &self.disk
    }

    pub(super) fn start(
        &mut self,
        name: &str,
        boot: impl FnOnce(&Process, &MemoryDisk) -> Vec<Box<dyn Actor>>,
    ) {
        assert!(self.life.is_none(), "{name} is alive");
        let process = Process::new(name);
        let slots = boot(&process, &self.disk).into_iter().map(Slot::new).collect();
        self.life = Some(Life { process, slots });
    }

    pub(super) fn process(&self) -> &Process {
        &self.life.as_ref().expect("the process is alive").process
    }

    /// Nothing of the process runs again, not even while its actors are dropped.
    pub(super) fn kill(&mut self, keep_unsynced: usize) {
        let Some(Life { process, slots }) = self.life.take() else { return };
        process.kill();
        self.disk.crash(keep_unsynced);
        drop(slots);
    }

    pub(super) fn is_alive(&self) -> bool {
        self.life.is_some()
    }

    pub(super) fn is_running(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.process.is_running())
    }

    pub(super) fn has_ended(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.slots.iter().all(|s| s.wish == Next::Done))
    }

    pub(super) fn slots(&self) -> &[Slot] {
        self.life.as_ref().map_or(&[], |life| &life.slots)
    }

    pub(super) fn slots_mut(&mut self) -> &mut [Slot] {
        self.life.as_mut().map_or(&mut [], |life| &mut life.slots)
    }

    pub(super) fn running_slots(&mut self) -> &mut [Slot] {
        match &mut self.life {
            Some(life) if life.process.is_running() => &mut life.slots,
            _ => &mut [],
        }
    }
}
