//! Salvage of a damaged embedded directory: what can still be read goes to a new one, and a report
//! says what cannot. The damaged one is only read. Must not know what rows mean.

use std::fs;
use std::path::Path;

use super::backup::{beside, databases, publish};
use super::{EMBEDDED_DATABASE, files};
use crate::database::rocks::{SalvagedFamily, SharedMemory, salvage_database};
use crate::error::{Result, StateError};

/// What a salvage found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SalvageReport {
    /// The database could not be opened as it is; its tables were read without its catalogue, and
    /// what that alone knew (deletions that lie in lost tables, say) is gone.
    pub rebuilt: bool,
    /// By family.
    pub families: Vec<SalvagedFamily>,
}

impl SalvageReport {
    /// Everything was readable.
    pub fn is_whole(&self) -> bool {
        !self.rebuilt && self.families.iter().all(|family| family.lost.is_empty())
    }
}

/// Copies what is readable of a stopped embedded directory to `target`, which must not be there or be
/// empty.
///
/// # Errors
/// `Locked` while it is in use; `Invalid` if there is no state, if it is that of a Kafka cluster, whose
/// changelogs give everything back, or if the target is taken; `Io`, `Full`. Nothing is at the target
/// then.
pub fn salvage(directory: &Path, target: &Path, memory: &SharedMemory) -> Result<SalvageReport> {
    let what = |what: &str| StateError::Invalid { what: format!("{} {what}", directory.display()) };
    let identity =
        files::read_identity(directory)?.ok_or_else(|| what("holds no state of ours"))?;
    let names = databases(directory, &identity)?;
    let Some(name) = names.first().filter(|name| **name == Path::new(EMBEDDED_DATABASE)) else {
        return Err(what(
            "belongs to a Kafka cluster: a damaged task is restored from its changelog",
        ));
    };
    let (partial, parent) = beside(target, ".salvaging")?;
    let _lock = files::lock(directory)?;
    let (rebuilt, families) = salvage_database(
        &directory.join(name),
        &partial.join(name),
        &partial.join("copy"),
        memory,
    )?;
    drop(fs::remove_dir_all(partial.join("copy")));
    files::write_identity(&partial, &identity)?;
    publish(&partial, target, &parent)?;
    Ok(SalvageReport { rebuilt, families })
}
