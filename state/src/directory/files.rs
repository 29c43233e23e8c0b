//! The state directory in a file system: lock file, identity file, database directories.
//!
//! Owns that a file is either the old one or the new one after a power loss. Must not know what an
//! identity says.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::Path;

use crate::error::{Result, StateError};

const LOCK: &str = "LOCK";
pub(super) const IDENTITY: &str = "headwater.json";
const IDENTITY_NEW: &str = "headwater.json.new";

fn failed<'p>(doing: &'p str, path: &'p Path) -> impl Fn(std::io::Error) -> StateError + 'p {
    move |error| StateError::io(format!("{doing} {}", path.display()), &error)
}

/// Takes the directory's lock, which the operating system frees when the process dies, and writes
/// the process id into it for whoever comes second.
pub(super) fn lock(directory: &Path) -> Result<File> {
    fs::create_dir_all(directory).map_err(failed("creating", directory))?;
    let path = directory.join(LOCK);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).map_err(failed("opening", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let read = file.read_to_string(&mut holder);
            let pid = read.ok().and_then(|_| holder.trim().parse::<u32>().ok());
            return Err(StateError::Locked {
                path: directory.to_owned(),
                holder: pid.map_or("another process".into(), |pid| format!("process {pid}")),
            });
        }
        Err(TryLockError::Error(error)) => return Err(failed("locking", &path)(error)),
    }
    file.set_len(0).map_err(failed("writing", &path))?;
    file.rewind().map_err(failed("writing", &path))?;
    writeln!(file, "{}", std::process::id()).map_err(failed("writing", &path))?;
    Ok(file)
}

pub(super) fn read_identity(directory: &Path) -> Result<Option<Vec<u8>>> {
    let path = directory.join(IDENTITY);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("reading", &path)(error)),
    }
}

/// Replaces the identity file: written beside it, synced, renamed, and the directory synced.
pub(super) fn write_identity(directory: &Path, bytes: &[u8]) -> Result<()> {
    let new = directory.join(IDENTITY_NEW);
    let mut file = File::create(&new).map_err(failed("writing", &new))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("writing", &new))?;
    let path = directory.join(IDENTITY);
    fs::rename(&new, &path).map_err(failed("renaming to", &path))?;
    sync_directory(directory)
}

pub(super) fn sync_directory(directory: &Path) -> Result<()> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(failed("syncing", directory))
}

pub(super) fn rename(directory: &Path, from: &str, to: &str) -> Result<()> {
    let (from, to) = (directory.join(from), directory.join(to));
    fs::rename(&from, &to).map_err(failed("setting aside", &from))?;
    to.parent().map_or(Ok(()), sync_directory)
}

pub(super) fn remove(directory: &Path, name: &str) -> Result<()> {
    let path = directory.join(name);
    match fs::remove_dir_all(&path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("removing", &path)(error)),
    }
}

/// Names of the directories in a directory, sorted; none when it is not there.
pub(super) fn directories(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("listing", directory)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("listing", directory))?;
        if entry.file_type().map_err(failed("listing", directory))?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}
