//! What RocksDB's messages mean. RocksDB reports kinds as prefixes and causes as text.

use std::path::Path;

use rocksdb::ErrorKind;

use crate::database::Family;
use crate::error::StateError;

/// What an error is about.
#[derive(Debug, Clone)]
pub(super) struct Place<'p> {
    path: &'p Path,
    family: Option<String>,
}

impl<'p> Place<'p> {
    pub(super) fn database(path: &'p Path) -> Self {
        Self { path, family: None }
    }

    pub(super) fn family(self, family: &Family) -> Self {
        Self { family: Some(family.name().to_owned()), ..self }
    }

    fn name(&self) -> String {
        match &self.family {
            Some(family) => format!("family {family} of database {}", self.path.display()),
            None => format!("database {}", self.path.display()),
        }
    }

    pub(super) fn error(&self, error: rocksdb::Error, doing: &str) -> StateError {
        let kind = error.kind();
        let message = error.into_string();
        let doing = || format!("{doing} in {}", self.name());
        let says = |text: &str| message.contains(text);
        match kind {
            // A full disk first: it also shows as a corruption of what could not be written.
            _ if says("No space left") || says("Disk quota exceeded") || says("NoSpace") => {
                StateError::Full { doing: doing() }
            }
            _ if says("lock hold by current process") || says("While lock file") => {
                StateError::Locked {
                    path: self.path.to_owned(),
                    holder: "another process or handle".into(),
                }
            }
            // RocksDB gave the log up; what it acknowledged is recovered by the next opening.
            _ if says("Writer has previous error") => {
                StateError::Stopped { database: self.path.display().to_string(), message }
            }
            ErrorKind::Corruption => StateError::corrupt(self.name(), message),
            // A file the database's own catalogue names is gone or cut.
            ErrorKind::IOError if names_own_file(&message) => {
                StateError::corrupt(self.name(), message)
            }
            ErrorKind::InvalidArgument if says("MANIFEST") || says("does not exist") => {
                StateError::corrupt(self.name(), message)
            }
            _ => StateError::Io { doing: doing(), message },
        }
    }
}

fn names_own_file(message: &str) -> bool {
    let is_gone = message.contains("No such file");
    is_gone && [".sst", ".blob", ".log", "MANIFEST", "CURRENT"].iter().any(|f| message.contains(f))
}
