//! What can go wrong with state, and what the caller should do about it.
//!
//! Owns the one error enum of this crate. Must not know tasks or topologies: a message names
//! stores, partitions, families, files and offsets, which is all that is known here.

use std::fmt;
use std::path::PathBuf;

/// What this crate's operations return.
pub type Result<T> = std::result::Result<T, StateError>;

/// What the caller should do with a [`StateError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// Nothing was written; the same call may succeed later (for example when space is freed).
    Retry,
    /// The process cannot go on with this state; a person has to act.
    Fatal,
    /// Somebody else owns the store-partition now; discard what was not committed.
    Fenced,
    /// Bytes on disk are damaged; set them aside and restore, or salvage.
    Damaged,
}

/// Which log a state directory belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Log and stores together in one database; no broker.
    Embedded,
    /// A database per task beside a Kafka cluster that holds changelogs.
    Kafka,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Kafka => "kafka",
        })
    }
}

/// A failed operation on state. Ask [`StateError::class`] what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The operating system or the storage engine failed; a write was refused whole.
    #[error("{doing} failed: {message}")]
    Io {
        /// What was attempted, with its path where there is one.
        doing: String,
        /// What the system said.
        message: String,
    },
    /// The disk is full. The batch was refused whole; it may be written again after space is freed.
    #[error("no space left on disk while {doing}; nothing of it was written: free space and retry")]
    Full {
        /// What was attempted.
        doing: String,
    },
    /// Bytes on disk are not what was written.
    #[error("damaged data in {place}: {what}")]
    Corruption {
        /// The family, topic-partition or file that is hit.
        place: String,
        /// What is wrong with it.
        what: String,
    },
    /// The writer's lease on a store-partition was taken over; its batch was refused whole.
    #[error(
        "stale lease on store {store} partition {partition}: generation {held} is held, {current} \
         is current; discard what was not committed"
    )]
    StaleLease {
        /// The store.
        store: String,
        /// Its partition.
        partition: u32,
        /// The generation the writer holds.
        held: u64,
        /// The generation that owns the store-partition now.
        current: u64,
    },
    /// A batch would move a position backwards; it was refused whole.
    #[error("position of {place} would go back from {from} to {to}; the batch was refused")]
    PositionWentBack {
        /// The store-partition or input partition.
        place: String,
        /// The position on disk.
        from: i64,
        /// The position in the batch.
        to: i64,
    },
    /// The data was written by a newer version of this software.
    #[error(
        "{what} has format {found}, this version supports up to {supported}; run the newer \
         version, or restore a backup made before the upgrade"
    )]
    NewerFormat {
        /// The directory, family or value.
        what: String,
        /// The format found.
        found: u32,
        /// The newest format this version reads.
        supported: u32,
    },
    /// The directory belongs to the other mode.
    #[error(
        "state directory {} was made for {found} mode, this process runs in {wanted} mode; use \
         another directory, or start with the settings it was made with",
        path.display()
    )]
    WrongMode {
        /// The directory.
        path: PathBuf,
        /// The mode it was made for.
        found: Mode,
        /// The mode of this process.
        wanted: Mode,
    },
    /// The directory belongs to another cluster or to other applications.
    #[error(
        "state directory {} belongs to {what} {found}, this process is {wanted}; use another \
         directory, or move this one away to start from the log",
        path.display()
    )]
    WrongIdentity {
        /// The directory.
        path: PathBuf,
        /// What differs: `cluster` or `application`.
        what: &'static str,
        /// What the directory records.
        found: String,
        /// What this process is.
        wanted: String,
    },
    /// Another process, or another handle of this one, uses the directory or database.
    #[error(
        "{} is in use by {holder}; stop it, or give this process a directory of its own",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who holds it, for example `process 4711`.
        holder: String,
    },
    /// The family does not exist in this database, for example because it was dropped.
    #[error("no family {family} in database {database}")]
    NoFamily {
        /// The family asked for.
        family: String,
        /// The database.
        database: String,
    },
    /// The handle outlived its database (a crash in a test, or a use after close).
    #[error("database {database} is closed")]
    Closed {
        /// The database.
        database: String,
    },
    /// The storage engine gave up after a failed write and takes no more. Nothing acknowledged is
    /// lost; opening the database again recovers it.
    #[error("database {database} stopped after a failed write ({message}); restart the process")]
    Stopped {
        /// The database.
        database: String,
        /// What the storage engine said.
        message: String,
    },
    /// A name, size or option that cannot be stored.
    #[error("{what}")]
    Invalid {
        /// What is wrong and what is allowed.
        what: String,
    },
}

impl StateError {
    /// What the caller should do.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Io { .. } | Self::Full { .. } => ErrorClass::Retry,
            Self::Corruption { .. } => ErrorClass::Damaged,
            Self::StaleLease { .. } => ErrorClass::Fenced,
            Self::PositionWentBack { .. }
            | Self::NewerFormat { .. }
            | Self::WrongMode { .. }
            | Self::WrongIdentity { .. }
            | Self::Locked { .. }
            | Self::NoFamily { .. }
            | Self::Closed { .. }
            | Self::Stopped { .. }
            | Self::Invalid { .. } => ErrorClass::Fatal,
        }
    }

    /// An operating-system error, told apart by kind: a full disk is [`StateError::Full`].
    #[cfg_attr(not(feature = "rocksdb"), expect(dead_code, reason = "only files fail this way"))]
    pub(crate) fn io(doing: impl Into<String>, error: &std::io::Error) -> Self {
        let doing = doing.into();
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::Full { doing }
            }
            _ => Self::Io { doing, message: error.to_string() },
        }
    }

    pub(crate) fn corrupt(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Corruption { place: place.into(), what: what.into() }
    }
}
