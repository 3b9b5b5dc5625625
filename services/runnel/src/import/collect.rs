//! Collects rows into requests, with the lines that they came from.

use runnel_client::proto::identity::v1::Identification;

use super::{
    encode::{Encoded, RequestWriter},
    fault::RowFault,
    pairs::Pairs,
};

/// Rejected rows that are handed on at once.
const REJECTS: usize = 1_000;
/// Bytes of rejected rows that are handed on at once.
const REJECT_BYTES: usize = 4 * 1024 * 1024;

/// A row that was not imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Its line, or its row where a format has no lines; from 1.
    pub line: u64,
    /// Stable upper-case reason.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// The row as it was read.
    pub original: Vec<u8>,
}

/// Part of a file: a request to send, and rows that are in none.
#[derive(Debug, Default)]
pub struct Portion {
    /// Index of the file.
    pub file: usize,
    /// Rows that were read.
    pub rows: u64,
    /// The request, unless all rows were rejected.
    pub request: Option<Encoded>,
    /// The line of every event of the request.
    pub lines: Vec<u64>,
    /// Rows that were rejected while reading.
    pub rejects: Vec<Reject>,
    /// Rows that say something, for example who somebody is, and are no events.
    pub silent: u64,
    /// Who is who, by what rows said up to here; at most as many as one call takes.
    pub identifications: Vec<Identification>,
    /// The events' rows one behind the other; empty for formats without text.
    originals: Vec<u8>,
    ends: Vec<usize>,
}

impl Portion {
    /// The row of event number `index` as it was read; `None` for formats without text.
    #[must_use]
    pub fn original(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        self.originals.get(start..end)
    }
}

/// Reading ends because nobody takes what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped;

/// Fills portions and hands them on.
pub(super) struct Collector<'a> {
    pub(super) writer: RequestWriter,
    pub(super) pairs: Pairs,
    portion: Portion,
    reject_bytes: usize,
    batch: usize,
    dry_run: bool,
    out: &'a mut dyn FnMut(Portion) -> bool,
}

impl<'a> Collector<'a> {
    /// Hands portions of at most `batch` events to `out`, which says whether it takes more.
    pub(super) fn new(batch: usize, dry_run: bool, out: &'a mut dyn FnMut(Portion) -> bool) -> Collector<'a> {
        let writer = RequestWriter::new();
        let (pairs, portion) = (Pairs::default(), Portion::default());
        Collector { writer, pairs, portion, reject_bytes: 0, batch, dry_run, out }
    }

    /// All that follows belongs to this file.
    pub(super) fn start_file(&mut self, file: usize) {
        self.portion.file = file;
    }

    /// The event that the writer has was committed; `original` is its row, where there is one.
    #[inline]
    pub(super) fn accepted(&mut self, line: u64, original: Option<&[u8]>) -> Result<(), Stopped> {
        self.portion.rows += 1;
        self.portion.lines.push(line);
        if let Some(original) = original {
            self.portion.originals.extend_from_slice(original);
            self.portion.ends.push(self.portion.originals.len());
        }
        if self.writer.events() >= self.batch || self.writer.is_full() { self.flush() } else { Ok(()) }
    }

    /// A row was understood and is no event.
    pub(super) fn silent(&mut self) {
        self.portion.rows += 1;
        self.portion.silent += 1;
    }

    /// Hands on who is who: always at the end, and before that only when there is no more room for it.
    pub(super) fn flush_pairs(&mut self) -> Result<(), Stopped> {
        for identifications in self.pairs.drain() {
            self.portion.identifications = identifications;
            self.flush()?;
        }
        Ok(())
    }

    /// A row is rejected.
    pub(super) fn rejected(&mut self, line: u64, fault: RowFault, original: &[u8]) -> Result<(), Stopped> {
        self.portion.rows += 1;
        self.reject_bytes += original.len();
        let original = original.to_vec();
        self.portion.rejects.push(Reject {
            line,
            reason: fault.reason.to_owned(),
            message: fault.message,
            original,
        });
        let many = self.portion.rejects.len() >= REJECTS || self.reject_bytes >= REJECT_BYTES;
        if many { self.flush() } else { Ok(()) }
    }

    /// Hands on what there is. A file ends with it, so that no request has events of two files.
    pub(super) fn flush(&mut self) -> Result<(), Stopped> {
        let next = Portion {
            file: self.portion.file,
            lines: Vec::with_capacity(self.portion.lines.len()),
            originals: Vec::with_capacity(self.portion.originals.len() + self.portion.originals.len() / 8),
            ends: Vec::with_capacity(self.portion.ends.len()),
            ..Portion::default()
        };
        let mut portion = std::mem::replace(&mut self.portion, next);
        self.reject_bytes = 0;
        portion.request = self.writer.seal(self.dry_run);
        if (portion.rows == 0 && portion.identifications.is_empty()) || (self.out)(portion) {
            Ok(())
        } else {
            Err(Stopped)
        }
    }
}
