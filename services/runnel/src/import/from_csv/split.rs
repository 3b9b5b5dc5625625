//! Parts one record into cells.

use crate::import::scan::{csv_marks, find};

/// What stands at the beginning of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Split {
    /// A record of this length, line end included, over this many lines.
    Record {
        length: usize,
        lines: u64,
        /// Text follows a closing quote inside a cell of several lines: a stray quote has swallowed what is there.
        stray: bool,
    },
    /// The beginning of a record; more bytes are needed.
    Incomplete,
    /// A record whose quote is not closed before the end.
    Unclosed,
    /// Nothing, and nothing follows.
    End,
}

/// Where a cell is.
#[derive(Clone, Copy, Debug)]
struct Cell {
    start: usize,
    end: usize,
    /// In the scratch space, because it is not in one piece in the record.
    copied: bool,
}

/// Parts records into cells; space is reused from record to record.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    cells: Vec<Cell>,
    scratch: Vec<u8>,
    /// A closing quote was followed by text.
    tail: bool,
}

impl Splitter {
    /// How many cells the record has.
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// A cell of the record that was parted last; empty when there is none.
    #[inline(always)]
    pub(super) fn cell<'a>(&'a self, record: &'a [u8], at: usize) -> &'a [u8] {
        let Some(cell) = self.cells.get(at) else { return &[] };
        let from = if cell.copied { self.scratch.as_slice() } else { record };
        from.get(cell.start..cell.end).unwrap_or_default()
    }

    /// Parts the record at the beginning of `bytes`. `ended` says that nothing follows them.
    #[inline]
    pub(super) fn split(&mut self, bytes: &[u8], ended: bool) -> Split {
        self.cells.clear();
        self.scratch.clear();
        self.tail = false;
        let (mut start, mut at, mut quoted) = (0, 0, false);
        'words: while at < bytes.len() {
            let mut marks = csv_marks(bytes, at);
            while marks != 0 {
                let here = at + (marks.trailing_zeros() / 8) as usize;
                marks &= marks - 1;
                match bytes[here] {
                    b',' => {
                        self.cells.push(Cell { start, end: here, copied: false });
                        start = here + 1;
                    }
                    b'\n' => {
                        self.push_last(bytes, start, here);
                        return self.record(bytes, here + 1, quoted);
                    }
                    _ if here == start => {
                        quoted = true;
                        match self.quoted(bytes, here + 1, ended) {
                            Err(split) => return split,
                            Ok((length, true)) => return self.record(bytes, length, true),
                            Ok((next, false)) => {
                                (start, at) = (next, next);
                                // A comma that ends the file is followed by one more, empty, cell.
                                continue 'words;
                            }
                        }
                    }
                    // A quote inside a plain cell stands for itself.
                    _ => {}
                }
            }
            at += 8;
        }
        match (ended, bytes.is_empty()) {
            (false, _) => Split::Incomplete,
            (true, true) => Split::End,
            (true, false) => {
                self.push_last(bytes, start, bytes.len());
                self.record(bytes, bytes.len(), quoted)
            }
        }
    }

    fn push_last(&mut self, bytes: &[u8], start: usize, end: usize) {
        let end = if end > start && bytes[end - 1] == b'\r' { end - 1 } else { end };
        self.cells.push(Cell { start, end, copied: false });
    }

    fn record(&self, bytes: &[u8], length: usize, quoted: bool) -> Split {
        let lines = if quoted {
            let ends = bytes[..length].iter().filter(|&&byte| byte == b'\n').count();
            ends + usize::from(!bytes[..length].ends_with(b"\n"))
        } else {
            1
        };
        Split::Record { length, lines: lines as u64, stray: self.tail && lines > 1 }
    }

    /// Adds the cell whose first byte behind the quote is at `from`. Returns where the next cell starts, or the record's length and true.
    fn quoted(&mut self, bytes: &[u8], from: usize, ended: bool) -> Result<(usize, bool), Split> {
        let (mut from, copied_from) = (from, self.scratch.len());
        let first = from;
        let mut search = from;
        let close = loop {
            let Some(quote) = find(bytes, search, b'"') else {
                return Err(if ended { Split::Unclosed } else { Split::Incomplete });
            };
            match bytes.get(quote + 1) {
                Some(b'"') => {
                    self.scratch.extend_from_slice(&bytes[from..=quote]);
                    from = quote + 2;
                    search = from;
                }
                None if !ended => return Err(Split::Incomplete),
                _ => break quote,
            }
        };
        // Between the closing quote and the end of the cell nothing should stand; what does is part of the text, as in other readers.
        let mut end = close + 1;
        while end < bytes.len() && bytes[end] != b',' && bytes[end] != b'\n' {
            end += 1;
        }
        if end == bytes.len() && !ended {
            return Err(Split::Incomplete);
        }
        let last = bytes.get(end) != Some(&b',');
        let mut tail = &bytes[close + 1..end];
        if last {
            tail = tail.strip_suffix(b"\r").unwrap_or(tail);
        }
        if from == first && tail.is_empty() {
            self.cells.push(Cell { start: first, end: close, copied: false });
        } else {
            self.scratch.extend_from_slice(&bytes[from..close]);
            self.scratch.extend_from_slice(tail);
            self.tail |= !tail.is_empty();
            self.cells.push(Cell { start: copied_from, end: self.scratch.len(), copied: true });
        }
        Ok((if last { (end + 1).min(bytes.len()) } else { end + 1 }, last))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(bytes: &[u8], chunk: usize) -> Vec<Vec<Vec<u8>>> {
        let (mut splitter, mut records) = (Splitter::default(), Vec::new());
        let (mut start, mut end) = (0, chunk.min(bytes.len()));
        loop {
            match splitter.split(&bytes[start..end], end == bytes.len()) {
                Split::Record { length, .. } => {
                    let record = &bytes[start..start + length];
                    let cells: Vec<_> =
                        (0..splitter.len()).map(|at| splitter.cell(record, at).to_vec()).collect();
                    if cells != [b""] || record.contains(&b'"') {
                        records.push(cells);
                    }
                    start += length;
                }
                Split::Incomplete => end = (end + chunk).min(bytes.len()),
                Split::Unclosed | Split::End => return records,
            }
        }
    }

    fn oracle(bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
        let records = reader.byte_records().map(|record| record.unwrap());
        records.map(|record| record.iter().map(<[u8]>::to_vec).collect()).collect()
    }

    proptest! {
        #[test]
        fn splits_as_the_csv_crate_does(
            pieces in proptest::collection::vec(
                prop_oneof![
                    "[a-c,\n ]{0,12}",
                    Just("\"a,b\"".to_owned()),
                    Just("\"a\"\"b\"".to_owned()),
                    Just("\"\"".to_owned()),
                    Just("\"line\nbreak\"".to_owned()),
                    Just("\"tail\"x".to_owned()),
                    Just("in\"side".to_owned()),
                    Just("\r\n".to_owned()),
                    Just("\n".to_owned()),
                    Just(",".to_owned()),
                    Just("long text without anything special".to_owned()),
                ],
                0..40,
            ),
            chunk in 1usize..64,
        ) {
            let text = pieces.concat();
            // A quote that is open at the end is a fault of its own here.
            let open = matches!(last_split(text.as_bytes()), Split::Unclosed);
            prop_assume!(!open);
            prop_assert_eq!(all(text.as_bytes(), chunk), oracle(text.as_bytes()));
        }
    }

    fn last_split(bytes: &[u8]) -> Split {
        let (mut splitter, mut start) = (Splitter::default(), 0);
        loop {
            match splitter.split(&bytes[start..], true) {
                Split::Record { length, .. } => start += length,
                other => return other,
            }
        }
    }

    #[test]
    fn lines_are_counted_inside_quotes() {
        let mut splitter = Splitter::default();
        let text = b"a,\"b\n\nc\",d\nnext";
        assert_eq!(splitter.split(text, false), Split::Record { length: 11, lines: 3, stray: false });
        assert_eq!(splitter.cell(text, 1), b"b\n\nc");
        assert_eq!(splitter.split(b"a,\"b\n", true), Split::Unclosed);
        assert_eq!(splitter.split(b"a,\"b\"", true), Split::Record { length: 5, lines: 1, stray: false });
        assert_eq!(splitter.split(b"", true), Split::End);
    }
}
