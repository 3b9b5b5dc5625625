//! The files of the repository, as git would commit them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// Folders that are never part of the repository.
const OUTSIDE: [&str; 5] = ["target", ".git", "__pycache__", ".pytest_cache", "node_modules"];

/// One file of the repository.
#[derive(Debug, Clone)]
pub struct File {
    /// Path from the root, with `/` between its parts.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// Its content, unless it is not UTF-8.
    pub text: Option<String>,
}

impl File {
    /// A file that exists only in a test of a rule.
    pub fn planted(path: &str, text: &str) -> Self {
        Self { path: path.into(), bytes: text.len() as u64, executable: false, text: Some(text.into()) }
    }

    /// The last part of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// What follows the last dot of the name, or nothing.
    pub fn extension(&self) -> &str {
        self.name().rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    /// The content of a Rust source file, or none for any other file.
    pub fn rust(&self) -> Option<&str> {
        self.text.as_deref().filter(|_| self.extension() == "rs")
    }
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every file below `root` that is committed or would be. Git decides what is ignored; without git every file outside
/// the build folders counts.
///
/// # Errors
/// When a folder or a file cannot be read.
pub fn files(root: &Path) -> io::Result<Vec<File>> {
    let mut paths = match tracked(root) {
        Some(paths) => paths,
        None => {
            let mut paths = Vec::new();
            walk(root, String::new(), &mut paths)?;
            paths
        }
    };
    paths.sort();
    paths.dedup();
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let place = root.join(&path);
        // A file that is tracked but deleted in the work tree is on its way out.
        let Ok(meta) = fs::symlink_metadata(&place) else { continue };
        if !meta.is_file() {
            continue;
        }
        let text = String::from_utf8(fs::read(&place)?).ok();
        files.push(File { path, bytes: meta.len(), executable: executable(&meta), text });
    }
    Ok(files)
}

fn tracked(root: &Path) -> Option<Vec<String>> {
    let listing = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let paths: Vec<String> = String::from_utf8(listing.stdout)
        .ok()?
        .split('\0')
        .filter(|path| !path.is_empty() && !path.split('/').any(|part| OUTSIDE.contains(&part)))
        .map(str::to_owned)
        .collect();
    (!paths.is_empty()).then_some(paths)
}

fn walk(folder: &Path, prefix: String, paths: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if OUTSIDE.contains(&name.as_str()) {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), format!("{path}/"), paths)?;
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

#[cfg(unix)]
fn executable(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    meta.permissions().mode() & 0o100 != 0
}

#[cfg(not(unix))]
fn executable(_: &fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_listing_find_this_file() {
        let here = "tests/tidy/src/tree.rs".to_owned();
        let mut walked = Vec::new();
        walk(&root(), String::new(), &mut walked).unwrap();
        assert!(walked.contains(&here));
        assert!(files(&root()).unwrap().iter().any(|file| file.path == here));
    }

    #[test]
    fn names_and_extensions() {
        let file = File::planted("a/b.c/run", "");
        assert_eq!((file.name(), file.extension()), ("run", ""));
        assert_eq!(File::planted("a/b.tar.gz", "").extension(), "gz");
    }
}
