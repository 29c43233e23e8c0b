//! A log without applications, for a command that reads it. Owns its opening and closing; starts no
//! task.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::HostError;
use super::host::{Opened, connect};
use super::memory::MemoryShares;
use crate::actor::spawn::{Running, spawn};
use crate::config::HostConfig;
use crate::log::Log;
use crate::log::embedded::EmbeddedLog;
use crate::time::{Clock, SystemClock};
use headwater_state::directory::StateDirectory;

/// A log that was opened without applications, to be read. No task runs; dropped, it is closed.
pub struct OpenLog {
    log: Arc<dyn Log>,
    embedded: Option<Arc<EmbeddedLog>>,
    running: Vec<Running>,
    /// Holds the directory's lock.
    _directory: Option<Arc<StateDirectory>>,
}

impl fmt::Debug for OpenLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenLog").field("kind", &self.log.kind()).finish_non_exhaustive()
    }
}

impl OpenLog {
    /// Opens the log that these settings name. On Kafka no state is touched, so applications may
    /// run meanwhile; the embedded log is one process's alone, so its own must not run.
    ///
    /// # Errors
    /// As [`Host::start`](super::Host::start).
    pub fn open(config: &HostConfig, applications: BTreeSet<String>) -> Result<Self, HostError> {
        config.validate()?;
        let memory = MemoryShares::of(config.memory_limit);
        if config.kafka.is_some() {
            let (log, _cluster) = connect(config, &memory)?;
            return Ok(Self { log, embedded: None, running: Vec::new(), _directory: None });
        }
        let opened = Opened::open(config, &memory, applications)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let actors = opened.actors.into_iter();
        let running =
            actors.map(|actor| spawn(actor, Arc::clone(&clock))).collect::<io::Result<_>>()?;
        let (log, embedded) = (opened.log, opened.embedded);
        Ok(Self { log, embedded, running, _directory: Some(opened.directory) })
    }

    /// The log.
    pub fn log(&self) -> &dyn Log {
        &*self.log
    }

    /// Ends what runs behind the log.
    pub fn close(self) {
        if let Some(log) = &self.embedded {
            log.close();
        }
        for running in self.running {
            running.join();
        }
    }
}
