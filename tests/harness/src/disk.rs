//! A small disk in memory, which a test can fill.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    path::PathBuf,
    process::Command,
};

use crate::keeper::{HarnessError, other_user};

/// What is missing where none can be made.
pub const NO_DISK: &str = "the right to mount a disk";

/// A disk over a folder. Taken away when it is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Puts a disk of so many megabytes over a folder.
    pub(crate) fn mount(folder: PathBuf, megabytes: u32) -> Result<SmallDisk, HarnessError> {
        let user = other_user().unwrap_or_default();
        let options = format!("size={megabytes}m,mode=700,uid={user}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&folder).output()?;
        if !mounted.status.success() {
            return Err(HarnessError::Missing { what: NO_DISK });
        }
        Ok(SmallDisk { folder })
    }

    /// Leaves no space on it.
    pub fn fill(&self) -> Result<(), HarnessError> {
        let mut file = File::create(self.folder.join("filler"))?;
        let zeros = vec![0; 1 << 20];
        for piece in [zeros.len(), 4_096] {
            loop {
                match file.write_all(&zeros[..piece]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Frees what [`fill`](SmallDisk::fill) took.
    pub fn free(&self) -> Result<(), HarnessError> {
        Ok(std::fs::remove_file(self.folder.join("filler"))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What is still open there goes away with whoever has it open.
        drop(Command::new("umount").arg("-l").arg(&self.folder).status());
        drop(std::fs::remove_dir(&self.folder));
    }
}
