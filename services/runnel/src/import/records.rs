//! A window on a stream: what was read and not yet used.

use std::io::Read;

use super::fault::FaultCause;

/// How much is read at a time.
const CHUNK: usize = 256 * 1024;
/// The longest row, in bytes. The window holds at most about twice as much.
pub(super) const RECORD_BYTES: usize = runnel_model::limits::MESSAGE_BYTES;

/// Unused bytes of a stream, and the stream.
pub(super) struct Window {
    reader: Box<dyn Read + Send>,
    gzip: bool,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
}

impl Window {
    /// A window on `reader`, which unpacks gzip or not; that decides how its errors are understood.
    pub(super) fn new(reader: Box<dyn Read + Send>, gzip: bool) -> Window {
        Window { reader, gzip, buffer: vec![0; CHUNK], start: 0, end: 0, ended: false }
    }

    /// What was read and not used.
    #[inline]
    pub(super) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Whether nothing follows what is unread.
    #[inline]
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Uses up `length` bytes.
    #[inline]
    pub(super) fn consume(&mut self, length: usize) {
        self.start = (self.start + length).min(self.end);
    }

    /// Reads at least one more byte, or finds the end.
    pub(super) fn fill(&mut self) -> Result<(), FaultCause> {
        if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            if self.end > self.buffer.len() / 2 {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
        }
        while !self.ended {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(read) => {
                    self.end += read;
                    break;
                }
                Err(fault) if fault.kind() == std::io::ErrorKind::Interrupted => {}
                Err(fault) => return Err(FaultCause::of_read(fault, self.gzip)),
            }
        }
        Ok(())
    }

    /// Reads until `length` bytes are unread, or the end.
    pub(super) fn look_ahead(&mut self, length: usize) -> Result<&[u8], FaultCause> {
        while !self.ended && self.unread().len() < length {
            self.fill()?;
        }
        Ok(self.unread())
    }

    /// Everything that is left; `None` when it is more than `most` bytes.
    pub(super) fn rest(mut self, most: u64) -> Result<Option<Vec<u8>>, FaultCause> {
        let mut all = self.unread().to_vec();
        let limit = most.saturating_sub(all.len() as u64) + 1;
        (&mut self.reader)
            .take(limit)
            .read_to_end(&mut all)
            .map_err(|fault| FaultCause::of_read(fault, self.gzip))?;
        Ok((all.len() as u64 <= most).then_some(all))
    }

    /// Uses up everything up to and including the next line feed; how many bytes that were.
    pub(super) fn skip_line(&mut self) -> Result<usize, FaultCause> {
        let mut skipped = 0;
        loop {
            if let Some(at) = super::scan::find(self.unread(), 0, b'\n') {
                self.consume(at + 1);
                return Ok(skipped + at + 1);
            }
            skipped += self.unread().len();
            self.consume(usize::MAX - self.start);
            if self.ended {
                return Ok(skipped);
            }
            self.fill()?;
        }
    }
}

/// A row without its line end.
#[inline]
pub(super) fn without_line_end(row: &[u8]) -> &[u8] {
    let row = row.strip_suffix(b"\n").unwrap_or(row);
    row.strip_suffix(b"\r").unwrap_or(row)
}

/// What is kept of a row that is too long to be kept.
pub(super) fn shortened(row: &[u8]) -> Vec<u8> {
    let mut kept = row[..row.len().min(1_024)].to_vec();
    kept.extend_from_slice(" …".as_bytes());
    kept
}
