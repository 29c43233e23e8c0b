//! Backups of a state directory: plain copies of its files, with a manifest of what must be there.
//!
//! Owns what makes a copy whole. Files that RocksDB never changes once written (tables) are copied as
//! they are; the catalogue is read first and compared last, and a database whose catalogue changed
//! meanwhile is copied again; write-ahead logs are listed once, so that the newest copied one may
//! miss its end, which is what a power loss leaves, and no older one may. So a directory may be in use
//! while it is copied, and the copy is a state that it was in.
//!
//! A backup is written beside its target and renamed when it is complete and synced; so is a restored
//! directory. Must not know what databases hold.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{DAMAGED, EMBEDDED_DATABASE, FORMAT, IdentityFile, files};
use crate::error::{Mode, Result, StateError};

const MANIFEST: &str = "backup.json";
/// A busy database is copied again so many times before the backup gives up.
const ATTEMPTS: usize = 50;
const CHUNK: usize = 1 << 20;

/// What a backup consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupManifest {
    /// The format of the directory, and of this file.
    pub format: u32,
    /// The directory was in use.
    pub online: bool,
    /// Every file.
    pub files: Vec<BackupFile>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    /// Where it lies in the backup and in the directory.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its CRC-32C.
    pub checksum: u32,
}

impl BackupManifest {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// Copies a state directory, stopped or in use, to `target`, which must not be there or be empty.
///
/// # Errors
/// `Invalid` if there is no state, or the target is taken; `Io`, `Full`. Nothing is at the target then.
pub fn backup(directory: &Path, target: &Path) -> Result<BackupManifest> {
    let Some(identity) = files::read_identity(directory)? else {
        return invalid(format!("{} holds no state of ours", directory.display()));
    };
    let (partial, parent) = beside(target, ".partial")?;
    // While it is held nobody starts on the directory; who runs on it has it.
    let lock = match files::lock(directory) {
        Ok(lock) => Some(lock),
        Err(StateError::Locked { .. }) => None,
        Err(error) => return Err(error),
    };
    let mut manifest = BackupManifest { format: FORMAT, online: lock.is_none(), files: Vec::new() };
    for database in databases(directory, &identity)? {
        manifest.files.extend(copy_database(directory, &database, &partial)?);
    }
    let mut from = identity.as_slice();
    let copied = write(&mut from, &partial.join(files::IDENTITY))?;
    manifest.files.push(BackupFile { path: files::IDENTITY.into(), ..copied });
    let text = serde_json::to_vec_pretty(&manifest).expect("paths of ours are text");
    write(&mut text.as_slice(), &partial.join(MANIFEST))?;
    publish(&partial, target, &parent)?;
    Ok(manifest)
}

/// Makes a state directory of a backup, at `target`, which must not be there or be empty.
///
/// # Errors
/// `Invalid` if it is no complete backup, or the target is taken; `Corruption` names a file that is not
/// as it was; `NewerFormat`, `Io`, `Full`. Nothing is at the target then.
pub fn restore(backup: &Path, target: &Path) -> Result<BackupManifest> {
    let path = backup.join(MANIFEST);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return invalid(format!(
                "{} is no complete backup: it has no {MANIFEST}",
                backup.display()
            ));
        }
        Err(error) => return Err(failed("reading", &path)(error)),
    };
    let damaged = |what: String| StateError::corrupt(path.display().to_string(), what);
    let manifest: BackupManifest =
        serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if manifest.format > FORMAT {
        let what = format!("backup {}", backup.display());
        return Err(StateError::NewerFormat { what, found: manifest.format, supported: FORMAT });
    }
    let (partial, parent) = beside(target, ".restoring")?;
    for file in &manifest.files {
        if !file.path.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(damaged(format!("{} is no file of a backup", file.path.display())));
        }
        let from = backup.join(&file.path);
        let mut opened = File::open(&from).map_err(failed("opening", &from))?;
        let copied = write(&mut opened, &partial.join(&file.path))?;
        if (copied.bytes, copied.checksum) != (file.bytes, file.checksum) {
            let what = format!("{} bytes of other content", copied.bytes);
            return Err(StateError::corrupt(from.display().to_string(), what));
        }
    }
    publish(&partial, target, &parent)?;
    Ok(manifest)
}

fn invalid<T>(what: String) -> Result<T> {
    Err(StateError::Invalid { what })
}

fn failed<'p>(doing: &'p str, path: &'p Path) -> impl Fn(std::io::Error) -> StateError + 'p {
    move |error| StateError::io(format!("{doing} {}", path.display()), &error)
}

/// An empty folder beside the target, and the folder of both. What an interrupted attempt left there
/// goes.
pub(super) fn beside(target: &Path, suffix: &str) -> Result<(PathBuf, PathBuf)> {
    match fs::read_dir(target).map(|mut entries| entries.next().is_some()) {
        Ok(false) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Ok(true) => return invalid(format!("{} is not empty", target.display())),
        Err(error) => return Err(failed("listing", target)(error)),
    }
    let Some(name) = target.file_name() else {
        return invalid(format!("{} is no name for a directory", target.display()));
    };
    let mut name = name.to_owned();
    name.push(suffix);
    let partial = target.with_file_name(name);
    match fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(failed("removing", &partial)(error));
        }
        _ => {}
    }
    fs::create_dir_all(&partial).map_err(failed("creating", &partial))?;
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((partial, parent.unwrap_or(Path::new(".")).to_owned()))
}

/// Gives the complete folder its name.
pub(super) fn publish(partial: &Path, target: &Path, parent: &Path) -> Result<()> {
    sync_all(partial)?;
    fs::rename(partial, target).map_err(failed("renaming to", target))?;
    files::sync_directory(parent)
}

/// Syncs a folder and the folders in it; their files are synced.
fn sync_all(folder: &Path) -> Result<()> {
    for name in files::directories(folder)? {
        sync_all(&folder.join(name))?;
    }
    files::sync_directory(folder)
}

/// The databases of a directory, as paths in it.
pub(super) fn databases(directory: &Path, identity: &[u8]) -> Result<Vec<PathBuf>> {
    let place = || format!("identity file of {}", directory.display());
    let identity: IdentityFile = serde_json::from_slice(identity)
        .map_err(|error| StateError::corrupt(place(), error.to_string()))?;
    if identity.mode == Mode::Embedded {
        return Ok(vec![EMBEDDED_DATABASE.into()]);
    }
    let mut all = Vec::new();
    for application in &identity.applications {
        for task in files::directories(&directory.join(application))? {
            if !task.contains(DAMAGED) {
                all.push(Path::new(application).join(task));
            }
        }
    }
    Ok(all)
}

/// Copies a database, again until its catalogue stands still meanwhile.
fn copy_database(directory: &Path, name: &Path, to: &Path) -> Result<Vec<BackupFile>> {
    let (from, folder) = (directory.join(name), to.join(name));
    for _ in 0..ATTEMPTS {
        fs::create_dir_all(&folder).map_err(failed("creating", &folder))?;
        if let Some(mut copied) = try_copy(&from, &folder)? {
            for file in &mut copied {
                file.path = name.join(&file.path);
            }
            return Ok(copied);
        }
        fs::remove_dir_all(&folder).map_err(failed("removing", &folder))?;
    }
    Err(StateError::Io {
        doing: format!("copying {}", from.display()),
        message: format!("its catalogue changed {ATTEMPTS} times meanwhile; try when it is calmer"),
    })
}

/// The name and the bytes of the catalogue; nothing of a database that is not written yet.
fn catalogue(database: &Path) -> Result<Option<(String, Vec<u8>)>> {
    let read = || -> std::io::Result<(String, Vec<u8>)> {
        let name = fs::read_to_string(database.join("CURRENT"))?.trim_end().to_owned();
        let bytes = fs::read(database.join(&name))?;
        Ok((name, bytes))
    };
    match read() {
        Ok(catalogue) => Ok(Some(catalogue)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("reading the catalogue of", database)(error)),
    }
}

/// `None` if the database changed its catalogue meanwhile.
fn try_copy(from: &Path, to: &Path) -> Result<Option<Vec<BackupFile>>> {
    let before = catalogue(from)?;
    let Some((name, bytes)) = &before else { return Ok(Some(Vec::new())) };
    let mut listed = Vec::new();
    for entry in fs::read_dir(from).map_err(failed("listing", from))? {
        let entry = entry.map_err(failed("listing", from))?.file_name();
        let entry = entry.to_string_lossy().into_owned();
        let belongs = [".sst", ".blob", ".log"].iter().any(|suffix| entry.ends_with(suffix));
        if belongs || entry.starts_with("OPTIONS-") || entry == "IDENTITY" {
            listed.push(entry);
        }
    }
    listed.sort_unstable();
    let mut copied = Vec::new();
    for file in listed {
        let path = from.join(&file);
        let mut opened = match File::open(&path) {
            Ok(opened) => opened,
            // It is needed no more, which the catalogue says by now.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(failed("opening", &path)(error)),
        };
        copied
            .push(BackupFile { path: file.clone().into(), ..write(&mut opened, &to.join(&file))? });
    }
    for (file, content) in [(name.as_str(), bytes.clone()), ("CURRENT", format!("{name}\n").into())]
    {
        let written = write(&mut content.as_slice(), &to.join(file))?;
        copied.push(BackupFile { path: file.into(), ..written });
    }
    Ok((catalogue(from)? == before).then_some(copied))
}

/// Writes a file, synced; its size and checksum.
fn write(from: &mut dyn Read, to: &Path) -> Result<BackupFile> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(failed("creating", folder))?;
    }
    let mut file = File::create(to).map_err(failed("creating", to))?;
    let (mut bytes, mut checksum) = (0, 0);
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).map_err(failed("reading for", to))?;
        if read == 0 {
            break;
        }
        file.write_all(&chunk[..read]).map_err(failed("writing", to))?;
        checksum = crc32c::crc32c_append(checksum, &chunk[..read]);
        bytes += u64::try_from(read).expect("a chunk is small");
    }
    file.sync_all().map_err(failed("syncing", to))?;
    Ok(BackupFile { path: PathBuf::new(), bytes, checksum })
}
