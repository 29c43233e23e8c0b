//! Failures a test injects into a memory disk. Must not know what is being written.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::{Result, StateError};

/// A way for the disk to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No space left.
    Full,
    /// The device answers with an error.
    Io,
}

impl Fault {
    fn error(self, doing: &str) -> StateError {
        match self {
            Self::Full => StateError::Full { doing: doing.to_owned() },
            Self::Io => StateError::Io { doing: doing.to_owned(), message: "injected".into() },
        }
    }
}

#[derive(Debug, Default)]
struct Plan {
    writes: Option<Fault>,
    syncs: Option<Fault>,
    /// A write that fails once, after this many that do not.
    write_later: Option<(usize, Fault)>,
    damaged: BTreeSet<String>,
}

/// What fails on a memory disk, until told otherwise. Clones switch the same disk.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    plan: Arc<Mutex<Plan>>,
}

impl Faults {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().expect("no panic happens while faults are locked")
    }

    /// Every write fails with this from now on; `None` heals.
    pub fn fail_writes(&self, fault: Option<Fault>) {
        self.plan().writes = fault;
    }

    /// Every sync fails with this from now on; `None` heals.
    pub fn fail_syncs(&self, fault: Option<Fault>) {
        self.plan().syncs = fault;
    }

    /// After `writes` further successes one write fails.
    pub fn fail_write_after(&self, writes: usize, fault: Fault) {
        self.plan().write_later = Some((writes, fault));
    }

    /// Every read of this family reports damage from now on.
    pub fn damage(&self, family: &str) {
        self.plan().damaged.insert(family.to_owned());
    }

    /// Takes every fault away.
    pub fn heal(&self) {
        *self.plan() = Plan::default();
    }

    pub(super) fn check_write(&self, doing: &str) -> Result<()> {
        let mut plan = self.plan();
        if let Some(fault) = plan.writes {
            return Err(fault.error(doing));
        }
        match plan.write_later.take() {
            Some((0, fault)) => Err(fault.error(doing)),
            later => {
                plan.write_later = later.map(|(writes, fault)| (writes - 1, fault));
                Ok(())
            }
        }
    }

    pub(super) fn check_sync(&self) -> Result<()> {
        self.plan().syncs.map_or(Ok(()), |fault| Err(fault.error("syncing")))
    }

    pub(super) fn check_read(&self, family: &str) -> Result<()> {
        if self.plan().damaged.contains(family) {
            return Err(StateError::corrupt(format!("family {family}"), "injected damage"));
        }
        Ok(())
    }
}
