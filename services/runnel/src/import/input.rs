//! Opens files, counts what is read of them, and unpacks gzip by what they hold.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;

use super::{fault::FaultCause, progress::Meter, records::Window};

/// How much is read from a file at a time.
const CHUNK: usize = 256 * 1024;

/// An open file.
pub(super) struct Input {
    /// Its content, unpacked.
    pub(super) window: Window,
    /// The file, when it holds its content as it is.
    pub(super) plain: Option<PathBuf>,
}

/// Opens a file, or the standard input for `-`.
pub(super) fn open(path: &Path, meter: &Meter) -> Result<Input, FaultCause> {
    let standard = path.as_os_str() == "-";
    let raw: Box<dyn Read + Send> =
        if standard { Box::new(io::stdin()) } else { Box::new(File::open(path).map_err(FaultCause::Open)?) };
    let mut buffered = BufReader::with_capacity(CHUNK, Counted { raw, meter: meter.clone() });
    let head = loop {
        match buffered.fill_buf() {
            Ok(head) => break head,
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(fault) => return Err(FaultCause::of_read(fault, false)),
        }
    };
    // A pipe may give one byte first; no format that is read here starts with the first byte of gzip.
    if head.first() == Some(&0x1f) {
        let window = Window::new(Box::new(MultiGzDecoder::new(buffered)), true);
        return Ok(Input { window, plain: None });
    }
    let plain = (!standard).then(|| path.to_owned());
    Ok(Input { window: Window::new(Box::new(buffered), false), plain })
}

/// A reader that counts.
struct Counted {
    raw: Box<dyn Read + Send>,
    meter: Meter,
}

impl Read for Counted {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.raw.read(to)?;
        self.meter.add(read as u64);
        Ok(read)
    }
}
