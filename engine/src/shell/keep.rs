//! `backup`, `restore` and `salvage`: the state directory's files, without starting anything. Owns what
//! is printed; knows no file.

use std::io::Write;

use super::ShellError;
use super::options::{Keeping, Settings};

#[cfg(feature = "rocksdb")]
pub(super) fn keep(
    keeping: &Keeping,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), ShellError> {
    use headwater_state::directory;

    let host = &settings.environment.host;
    let state = host.state_dir.display();
    match keeping {
        Keeping::Backup { target } => {
            let manifest = directory::backup(&host.state_dir, target)?;
            let (files, bytes) = (manifest.files.len(), manifest.bytes());
            let online = if manifest.online { ", in use" } else { "" };
            let target = target.display();
            writeln!(out, "{state}{online}: {files} files, {bytes} bytes copied to {target}")?;
        }
        Keeping::Restore { backup } => {
            let manifest = directory::restore(backup, &host.state_dir)?;
            let (files, bytes) = (manifest.files.len(), manifest.bytes());
            let backup = backup.display();
            writeln!(out, "{backup}: {files} files, {bytes} bytes restored to {state}")?;
        }
        Keeping::Salvage { target } => salvage(settings, target, out)?,
    }
    Ok(())
}

#[cfg(feature = "rocksdb")]
fn salvage(
    settings: &Settings,
    target: &std::path::Path,
    out: &mut dyn Write,
) -> Result<(), ShellError> {
    use headwater_state::database::rocks::{MemoryBudget, SharedMemory};

    let shares = crate::runtime::MemoryShares::of(settings.environment.host.memory_limit);
    let budget =
        MemoryBudget { block_cache_bytes: shares.block_cache, memtable_bytes: shares.memtables };
    let directory = &settings.environment.host.state_dir;
    let report =
        headwater_state::directory::salvage(directory, target, &SharedMemory::new(budget))?;
    if report.rebuilt {
        writeln!(out, "the database did not open: what only its catalogue knew is lost")?;
    }
    let text = |key: &Option<Vec<u8>>| match key {
        Some(key) => key.escape_ascii().to_string(),
        None => "the end".to_owned(),
    };
    let mut lost = 0;
    for family in &report.families {
        writeln!(out, "{}: {} rows", family.name, family.rows)?;
        for range in &family.lost {
            lost += 1;
            let (after, before) = (text(&range.after), text(&range.before));
            writeln!(out, "  lost between {after} and {before}: {}", range.why)?;
        }
    }
    if lost == 0 {
        return Ok(());
    }
    Err(ShellError::Salvaged { lost, target: target.display().to_string() })
}

#[cfg(not(feature = "rocksdb"))]
pub(super) fn keep(_: &Keeping, _: &Settings, _: &mut dyn Write) -> Result<(), ShellError> {
    let what = "this build has no RocksDB, so there are no files to keep".to_owned();
    Err(headwater_state::StateError::Invalid { what }.into())
}
