//! Files of rejected rows: `<line>\t<reason>: <sentence>\t<row as it was read>`, made only when a row is rejected.
//!
//! A row over several lines is written on one, with its line breaks as `\n` and `\r`. Where all files share one rejects file and there are several, the line is
//! preceded by the file: `<file>:<line>`.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use super::collect::Reject;

/// Writes rejected rows.
pub(super) struct Rejects {
    /// One file for all.
    shared: Option<PathBuf>,
    files: Vec<PathBuf>,
    /// The file that is open, with the index of the input that it belongs to; one for all has index 0.
    open: Option<(usize, PathBuf, BufWriter<File>)>,
    made: Vec<PathBuf>,
}

/// A rejects file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("rejected rows cannot be written to {}: {source}; name another file with --rejects", path.display())]
pub struct RejectsError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl Rejects {
    pub(super) fn new(files: &[PathBuf], shared: Option<&Path>) -> Rejects {
        Rejects { shared: shared.map(Path::to_owned), files: files.to_vec(), open: None, made: Vec::new() }
    }

    /// Writes a row of the input number `file`.
    pub(super) fn write(&mut self, file: usize, reject: &Reject) -> Result<(), RejectsError> {
        let label = match (&self.shared, self.files.len()) {
            (Some(_), 2..) => format!("{}:{}", super::read::name(&self.files[file]), reject.line),
            _ => reject.line.to_string(),
        };
        let (path, writer) = self.writer(file)?;
        line(writer, &label, reject).map_err(|source| RejectsError { path: path.to_owned(), source })
    }

    /// Ends writing; the files that were made.
    pub(super) fn finish(mut self) -> Result<Vec<PathBuf>, RejectsError> {
        self.close()?;
        Ok(self.made)
    }

    fn close(&mut self) -> Result<(), RejectsError> {
        match self.open.take() {
            Some((_, path, mut writer)) => writer.flush().map_err(|source| RejectsError { path, source }),
            None => Ok(()),
        }
    }

    fn writer(&mut self, file: usize) -> Result<(&Path, &mut BufWriter<File>), RejectsError> {
        let index = if self.shared.is_some() { 0 } else { file };
        if self.open.as_ref().is_none_or(|(open, ..)| *open != index) {
            self.close()?;
            let path = match &self.shared {
                Some(path) => path.clone(),
                None => beside(&self.files[file]),
            };
            // Verdicts on one file can come after the next file has begun; then its rejects file is continued.
            let again = self.made.contains(&path);
            let opened = if again { File::options().append(true).open(&path) } else { File::create(&path) };
            let opened = opened.map_err(|source| RejectsError { path: path.clone(), source })?;
            if !again {
                self.made.push(path.clone());
            }
            self.open = Some((index, path, BufWriter::new(opened)));
        }
        match &mut self.open {
            Some((_, path, writer)) => Ok((path, writer)),
            None => Err(RejectsError { path: PathBuf::new(), source: io::ErrorKind::NotFound.into() }),
        }
    }
}

fn beside(file: &Path) -> PathBuf {
    let mut name =
        if file.as_os_str() == "-" { "standard-input".into() } else { file.as_os_str().to_owned() };
    name.push(".rejects");
    PathBuf::from(name)
}

fn line(writer: &mut impl Write, label: &str, reject: &Reject) -> io::Result<()> {
    let message = reject.message.replace(['\t', '\n', '\r'], " ");
    write!(writer, "{label}\t{}: {message}\t", reject.reason)?;
    for piece in reject.original.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
        match piece.split_last() {
            Some((b'\n', text)) => {
                writer.write_all(text)?;
                writer.write_all(b"\\n")?;
            }
            Some((b'\r', text)) => {
                writer.write_all(text)?;
                writer.write_all(b"\\r")?;
            }
            _ => writer.write_all(piece)?,
        }
    }
    writer.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reject(line: u64, original: &str) -> Reject {
        Reject { line, reason: "R".into(), message: "No\tgood.".into(), original: original.into() }
    }

    #[test]
    fn each_input_has_its_file_and_only_when_needed() {
        let folder = tempfile::tempdir().unwrap();
        let inputs: Vec<PathBuf> =
            ["a.csv", "b.csv", "c.csv"].iter().map(|name| folder.path().join(name)).collect();
        let mut rejects = Rejects::new(&inputs, None);
        rejects.write(0, &reject(2, "x,\"y\r\nz\"")).unwrap();
        rejects.write(2, &reject(3, "q")).unwrap();
        rejects.write(0, &reject(9, "late")).unwrap();
        let made = rejects.finish().unwrap();
        assert_eq!(made, [folder.path().join("a.csv.rejects"), folder.path().join("c.csv.rejects")]);
        let text = std::fs::read_to_string(&made[0]).unwrap();
        assert_eq!(text, "2\tR: No good.\tx,\"y\\r\\nz\"\n9\tR: No good.\tlate\n");
    }

    #[test]
    fn a_shared_file_names_the_inputs() {
        let folder = tempfile::tempdir().unwrap();
        let shared = folder.path().join("all");
        let mut rejects = Rejects::new(&["a".into(), "b".into()], Some(&shared));
        rejects.write(0, &reject(2, "x")).unwrap();
        rejects.write(1, &reject(3, "y")).unwrap();
        rejects.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&shared).unwrap(), "a:2\tR: No good.\tx\nb:3\tR: No good.\ty\n");
        let mut nowhere = Rejects::new(&["a".into()], Some(&folder.path().join("no/such")));
        assert!(nowhere.write(0, &reject(1, "x")).unwrap_err().to_string().contains("--rejects"));
    }
}
