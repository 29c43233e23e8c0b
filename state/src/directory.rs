//! One process's state directory: its lock, its identity, and the databases in it.
//!
//! Owns what must be right before a byte of state is touched: no other process uses the directory,
//! and it was made for this mode, these applications and this cluster. Embedded, there is one
//! database with a family `<application>/<store>` per store; beside a Kafka cluster there is one
//! database per task, `<application>/<task>`, with files of its own to open, drop and set aside.
//!
//! Must not know what is in the databases.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::database::Database;
use crate::database::memory::MemoryDisk;
use crate::error::{Mode, Result, StateError};

#[cfg(feature = "rocksdb")]
mod backup;
#[cfg(feature = "rocksdb")]
mod files;
#[cfg(feature = "rocksdb")]
mod salvage;

#[cfg(feature = "rocksdb")]
pub use backup::{BackupFile, BackupManifest, backup, restore};
#[cfg(feature = "rocksdb")]
pub use salvage::{SalvageReport, salvage};

/// The newest directory format this version reads, and the one it writes.
pub const FORMAT: u32 = 1;
/// The database of embedded mode.
const EMBEDDED_DATABASE: &str = "data";
/// What marks a task's database as set aside.
const DAMAGED: &str = ".damaged-";

/// Where databases are kept.
#[derive(Debug, Clone)]
pub enum Storage {
    /// On a disk in memory, for tests and the simulator.
    Memory(MemoryDisk),
    /// In files under a path.
    #[cfg(feature = "rocksdb")]
    Files {
        /// The directory; created when it is not there.
        path: PathBuf,
        /// Memory shared by all databases of the process.
        memory: crate::database::rocks::SharedMemory,
    },
}

impl Storage {
    fn path(&self) -> PathBuf {
        match self {
            Self::Memory(_) => PathBuf::from("memory"),
            #[cfg(feature = "rocksdb")]
            Self::Files { path, .. } => path.clone(),
        }
    }
}

/// What a state directory was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Embedded or beside a cluster.
    pub mode: Mode,
    /// The applications whose state it holds. Others may join them later.
    pub applications: BTreeSet<String>,
    /// The cluster's id; `None` in embedded mode, and where its brokers do not tell one.
    pub cluster: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct IdentityFile {
    format: u32,
    mode: Mode,
    applications: BTreeSet<String>,
    cluster: Option<String>,
    /// Absent before the directory was asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<String>,
}

/// Only what every format has.
#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

/// An open, locked state directory. Dropping it gives the lock back.
#[derive(Debug)]
pub struct StateDirectory {
    storage: Storage,
    identity: Identity,
    process: Option<String>,
    _lock: Lock,
}

#[derive(Debug)]
enum Lock {
    Memory(MemoryDisk),
    #[cfg(feature = "rocksdb")]
    File {
        _file: std::fs::File,
    },
}

impl Drop for Lock {
    fn drop(&mut self) {
        match self {
            Self::Memory(disk) => disk.unlock(),
            #[cfg(feature = "rocksdb")]
            Self::File { .. } => {}
        }
    }
}

impl StateDirectory {
    /// Locks the directory and checks, or on first use records, what it was made for.
    ///
    /// # Errors
    /// `Locked`, `NewerFormat`, `WrongMode`, `WrongIdentity` (each says the way out), `Corruption`
    /// of the identity file, `Invalid` application names, `Io` or `Full`.
    pub fn open(storage: Storage, wanted: Identity) -> Result<Self> {
        for application in &wanted.applications {
            check_name("application id", application)?;
        }
        let lock = lock(&storage)?;
        let mut directory = Self { storage, identity: wanted, process: None, _lock: lock };
        directory.check_identity()?;
        Ok(directory)
    }

    /// What the directory is recorded to be made for.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The name of the process that this directory belongs to: `fresh` at the first call, the same
    /// ever after. By it a group knows the process again when it comes back.
    ///
    /// # Errors
    /// `Io` or `Full`: the name could not be kept.
    pub fn process(&mut self, fresh: impl FnOnce() -> String) -> Result<String> {
        if let Some(process) = &self.process {
            return Ok(process.clone());
        }
        let process = fresh();
        self.process = Some(process.clone());
        self.write_identity()?;
        Ok(process)
    }

    fn check_identity(&mut self) -> Result<()> {
        let wanted = &self.identity;
        let mut applications = wanted.applications.clone();
        if let Some(found) = self.read_identity()? {
            let path = self.storage.path();
            if found.mode != wanted.mode {
                let (found, wanted) = (found.mode, wanted.mode);
                return Err(StateError::WrongMode { path, found, wanted });
            }
            if let (Some(found), Some(wanted)) = (&found.cluster, &wanted.cluster)
                && found != wanted
            {
                let (found, wanted) = (found.clone(), wanted.clone());
                return Err(StateError::WrongIdentity { path, what: "cluster", found, wanted });
            }
            if !found.applications.is_empty() && found.applications.is_disjoint(&applications) {
                let names = |names: &BTreeSet<String>| {
                    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
                };
                return Err(StateError::WrongIdentity {
                    path,
                    what: "application",
                    found: names(&found.applications),
                    wanted: names(&applications),
                });
            }
            self.process = found.process;
            applications.extend(found.applications.iter().cloned());
            // Once known, a cluster stays recorded.
            let cluster = found.cluster.clone().or_else(|| wanted.cluster.clone());
            let same = applications == found.applications && cluster == found.cluster;
            self.identity.cluster = cluster;
            if same {
                self.identity.applications = applications;
                return Ok(());
            }
        }
        self.identity.applications = applications;
        self.write_identity()
    }

    fn read_identity(&self) -> Result<Option<IdentityFile>> {
        let bytes = match &self.storage {
            Storage::Memory(disk) => disk.identity(),
            #[cfg(feature = "rocksdb")]
            Storage::Files { path, .. } => files::read_identity(path)?,
        };
        let Some(bytes) = bytes else { return Ok(None) };
        let place = || format!("identity file of {}", self.storage.path().display());
        let damaged = |error: serde_json::Error| StateError::corrupt(place(), error.to_string());
        let AnyFormat { format } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if format > FORMAT {
            return Err(StateError::NewerFormat {
                what: format!("state directory {}", self.storage.path().display()),
                found: format,
                supported: FORMAT,
            });
        }
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    fn write_identity(&self) -> Result<()> {
        let file = IdentityFile {
            format: FORMAT,
            mode: self.identity.mode,
            applications: self.identity.applications.clone(),
            cluster: self.identity.cluster.clone(),
            process: self.process.clone(),
        };
        let mut bytes = serde_json::to_vec_pretty(&file).expect("names are valid JSON");
        bytes.push(b'\n');
        match &self.storage {
            Storage::Memory(disk) => {
                disk.set_identity(bytes);
                Ok(())
            }
            #[cfg(feature = "rocksdb")]
            Storage::Files { path, .. } => files::write_identity(path, &bytes),
        }
    }

    /// The one database of embedded mode.
    ///
    /// # Errors
    /// `Corruption` names what is damaged; nothing is set aside. `Locked`, `Io`, `Full`.
    ///
    /// # Panics
    /// In Kafka mode: there the databases are the tasks'.
    pub fn embedded(&self) -> Result<Arc<dyn Database>> {
        assert_eq!(self.identity.mode, Mode::Embedded, "a Kafka directory has a database per task");
        self.open_database(EMBEDDED_DATABASE)
    }

    /// A task's database, created when it is not there.
    ///
    /// # Errors
    /// `Corruption`: see [`StateDirectory::quarantine`]. `Locked` while it is open already;
    /// `Invalid` names; `Io`, `Full`.
    ///
    /// # Panics
    /// In embedded mode: there is one database for all.
    pub fn task(&self, application: &str, task: &str) -> Result<Arc<dyn Database>> {
        let name = self.task_name(application, task)?;
        self.open_database(&name)
    }

    /// The tasks of an application that have a database here, sorted.
    ///
    /// # Errors
    /// `Invalid` names, `Io`.
    pub fn tasks(&self, application: &str) -> Result<Vec<String>> {
        let mut tasks = self.database_names(application)?;
        tasks.retain(|task| !task.contains(DAMAGED));
        Ok(tasks)
    }

    /// Sets a task's damaged database aside, so that the task can be restored into a fresh one. The
    /// database must be closed. Returns the name it has now, for the operator.
    ///
    /// # Errors
    /// `Invalid` names, `Locked`, `Io`.
    ///
    /// # Panics
    /// In embedded mode, which sets nothing aside by itself.
    pub fn quarantine(&self, application: &str, task: &str) -> Result<String> {
        let from = self.task_name(application, task)?;
        let to = self.aside(application, task)?;
        match &self.storage {
            Storage::Memory(disk) => disk.rename(&from, &to)?,
            #[cfg(feature = "rocksdb")]
            Storage::Files { path, .. } => files::rename(path, &from, &to)?,
        }
        tracing::warn!(database = %from, aside = %to, "a damaged database was set aside");
        Ok(to)
    }

    /// Keeps a copy of a task's open database as [`StateDirectory::quarantine`] would keep the
    /// database itself, for what is about to be emptied. Returns its name, for the operator.
    ///
    /// # Errors
    /// `Invalid` names, `Io`, `Full`.
    ///
    /// # Panics
    /// In embedded mode, which sets nothing aside by itself.
    pub fn copy_aside(
        &self,
        application: &str,
        task: &str,
        database: &dyn Database,
    ) -> Result<String> {
        self.task_name(application, task)?;
        let to = self.aside(application, task)?;
        match &self.storage {
            Storage::Memory(_) => database.checkpoint(std::path::Path::new(&to))?,
            #[cfg(feature = "rocksdb")]
            Storage::Files { path, .. } => database.checkpoint(&path.join(&to))?,
        }
        Ok(to)
    }

    /// A free name for what is set aside.
    fn aside(&self, application: &str, task: &str) -> Result<String> {
        let taken = self.database_names(application)?;
        let aside = (1u32..)
            .map(|number| format!("{task}{DAMAGED}{number}"))
            .find(|name| !taken.contains(name))
            .expect("a free number exists");
        Ok(format!("{application}/{aside}"))
    }

    /// Deletes a task's database. It must be closed.
    ///
    /// # Errors
    /// `Invalid` names, `Io`.
    ///
    /// # Panics
    /// In embedded mode.
    pub fn remove_task(&self, application: &str, task: &str) -> Result<()> {
        let name = self.task_name(application, task)?;
        match &self.storage {
            Storage::Memory(disk) => {
                disk.remove(&name);
                Ok(())
            }
            #[cfg(feature = "rocksdb")]
            Storage::Files { path, .. } => files::remove(path, &name),
        }
    }

    fn task_name(&self, application: &str, task: &str) -> Result<String> {
        assert_eq!(self.identity.mode, Mode::Kafka, "embedded mode has one database for all tasks");
        check_name("application id", application)?;
        check_name("task", task)?;
        Ok(format!("{application}/{task}"))
    }

    fn database_names(&self, application: &str) -> Result<Vec<String>> {
        check_name("application id", application)?;
        match &self.storage {
            Storage::Memory(disk) => {
                let prefix = format!("{application}/");
                let names = disk.databases();
                Ok(names
                    .iter()
                    .filter_map(|name| name.strip_prefix(&prefix))
                    .map(str::to_owned)
                    .collect())
            }
            #[cfg(feature = "rocksdb")]
            Storage::Files { path, .. } => files::directories(&path.join(application)),
        }
    }

    fn open_database(&self, name: &str) -> Result<Arc<dyn Database>> {
        match &self.storage {
            Storage::Memory(disk) => Ok(disk.open(name)?),
            #[cfg(feature = "rocksdb")]
            Storage::Files { path, memory } => {
                Ok(crate::database::rocks::RocksDatabase::open(&path.join(name), memory)?)
            }
        }
    }
}

fn lock(storage: &Storage) -> Result<Lock> {
    match storage {
        Storage::Memory(disk) if disk.lock() => Ok(Lock::Memory(disk.clone())),
        Storage::Memory(_) => Err(StateError::Locked {
            path: storage.path(),
            holder: "another host of this process".into(),
        }),
        #[cfg(feature = "rocksdb")]
        Storage::Files { path, .. } => Ok(Lock::File { _file: files::lock(path)? }),
    }
}

/// Names become directories; Kafka allows the same characters in a group or topic.
fn check_name(what: &str, name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 249 || name.starts_with('.') || !name.chars().all(allowed) {
        return Err(StateError::Invalid {
            what: format!(
                "{what} {name:?} is not a name: 1 to 249 of a-z, A-Z, 0-9, '.', '_', '-', not \
                 beginning with '.'"
            ),
        });
    }
    Ok(())
}
