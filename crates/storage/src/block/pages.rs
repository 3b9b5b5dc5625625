//! Reads one column of one row group, page by page. Total: damaged bytes give an error, never a panic.

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::Bytes;
use parquet::{
    basic::Encoding,
    column::page::{Page, PageReader},
    errors::ParquetError,
    file::serialized_reader::SerializedPageReader,
};
use runnel_model::Ids;

use super::{BlockError, Contents, delta, ids::IdForm, rle};

/// Calls into the Parquet library, which is not written for damaged input everywhere.
pub(crate) fn guarded<T>(call: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, BlockError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(BlockError::Parquet),
        Err(_) => Err(BlockError::Broken),
    }
}

/// A data page: its rows in the row group, those that have a value, and the encoded values.
struct DataPage {
    rows: Range<usize>,
    present: Option<Vec<u32>>,
    encoding: Encoding,
    values: Bytes,
}

impl DataPage {
    /// How many values it holds.
    fn values(&self) -> usize {
        self.present.as_ref().map_or(self.rows.len(), Vec::len)
    }
}

/// A chunk that is being read.
pub(crate) struct ChunkReader<'a> {
    pages: SerializedPageReader<Bytes>,
    name: &'a str,
    optional: bool,
    rows: usize,
    next: usize,
}

/// Distinct texts of a chunk and the place of each, as they lie in its dictionary page.
pub(crate) struct Words {
    page: Bytes,
    ranges: Vec<Range<usize>>,
}

impl Words {
    /// The words in order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.ranges.iter().map(|range| &self.page[range.clone()])
    }
}

/// Values of a chunk with the rows that have one; `None` where all have.
pub(crate) struct Sparse<T> {
    pub(crate) rows: Option<Vec<u32>>,
    pub(crate) values: Vec<T>,
}

impl<T> Sparse<T> {
    /// The rows, written out.
    pub(crate) fn split(self) -> (Vec<u32>, Vec<T>) {
        let rows = self.rows.unwrap_or_else(|| (0..self.values.len() as u32).collect());
        (rows, self.values)
    }
}

impl<'a> ChunkReader<'a> {
    pub(crate) fn new(contents: &'a Contents, row_group: usize, column: usize) -> Result<Self, BlockError> {
        let group = contents.metadata.row_groups().get(row_group).ok_or(BlockError::OutOfRange)?;
        let chunk = group.columns().get(column).ok_or(BlockError::OutOfRange)?;
        let rows = contents.groups.get(row_group).ok_or(BlockError::OutOfRange)?.rows as usize;
        let pages = guarded(|| SerializedPageReader::new(contents.bytes.clone(), chunk, rows, None))?;
        let descriptor = chunk.column_descr();
        Ok(ChunkReader {
            pages,
            name: descriptor.name(),
            optional: descriptor.max_def_level() > 0,
            rows,
            next: 0,
        })
    }

    /// Texts: distinct words, and the word of each value.
    pub(crate) fn texts(mut self) -> Result<(Words, Sparse<u32>), BlockError> {
        let (page, count) = self.dictionary()?;
        let words = self.checked(words(page, count))?;
        let limit = words.ranges.len();
        let codes = self.collect(|page, codes| codes_of(page, limit, codes))?;
        Ok((words, codes))
    }

    /// Whole numbers.
    pub(crate) fn longs(self) -> Result<Sparse<i64>, BlockError> {
        self.numbers(|bits| bits as i64)
    }

    /// Fractional numbers.
    pub(crate) fn doubles(self) -> Result<Sparse<f64>, BlockError> {
        self.numbers(f64::from_bits)
    }

    /// Truth values.
    pub(crate) fn bools(self) -> Result<Sparse<bool>, BlockError> {
        let mut this = self;
        this.collect(|page, truths| {
            let count = page.values();
            if page.encoding != Encoding::PLAIN || page.values.len() != count.div_ceil(8) {
                return Err("truth values of another length");
            }
            truths.extend((0..count).map(|at| page.values[at / 8] >> (at % 8) & 1 == 1));
            Ok(())
        })
    }

    fn numbers<T: Copy>(mut self, of_bits: impl Fn(u64) -> T) -> Result<Sparse<T>, BlockError> {
        let mut dictionary: Option<Vec<T>> = None;
        let (mut codes, mut longs) = (Vec::new(), Vec::new());
        if let Some((page, count)) = self.peek_dictionary()? {
            if page.len() != count.saturating_mul(8) {
                return Err(self.damaged("a dictionary of another length"));
            }
            dictionary = Some(fixed(&page).map(&of_bits).collect());
        }
        self.collect(|page, values| match (page.encoding, &dictionary) {
            (Encoding::RLE_DICTIONARY, Some(dictionary)) => {
                codes.clear();
                codes_of(page, dictionary.len(), &mut codes)?;
                values.extend(codes.iter().map(|&code| dictionary[code as usize]));
                Ok(())
            }
            (Encoding::DELTA_BINARY_PACKED, _) => {
                longs.clear();
                delta::decode(&page.values, page.values(), &mut longs)?;
                values.extend(longs.iter().map(|&number| of_bits(number as u64)));
                Ok(())
            }
            (Encoding::PLAIN, _) if page.values.len() == page.values() * 8 => {
                values.extend(fixed(&page.values).map(&of_bits));
                Ok(())
            }
            _ => Err("an unknown encoding"),
        })
    }

    /// Event ids of all rows, or of some, ascending; pages without any of those are passed over.
    pub(crate) fn ids(mut self, form: IdForm, rows: Option<&[u32]>) -> Result<Ids, BlockError> {
        let mut ids = Ids::default();
        let mut text = Vec::new();
        let mut lengths = Vec::new();
        let mut wanted = rows.map(|rows| rows.iter().copied().peekable());
        while let Some(page) = self.page(wanted.as_mut().and_then(|wanted| wanted.peek().copied()))? {
            let chosen: Vec<usize> = match &mut wanted {
                None => (0..page.rows.len()).collect(),
                Some(wanted) => std::iter::from_fn(|| wanted.next_if(|&row| (row as usize) < page.rows.end))
                    .filter_map(|row| (row as usize).checked_sub(page.rows.start))
                    .collect(),
            };
            let decoded = match form.length() {
                Some(length) if page.values.len() == length * page.rows.len() => {
                    for row in chosen {
                        form.unpack(&page.values[row * length..(row + 1) * length], &mut text);
                        ids.push(&text);
                    }
                    Ok(())
                }
                Some(_) => Err("event ids of another length"),
                None => {
                    lengths.clear();
                    text_ids(&page, &chosen, &mut lengths, &mut ids)
                }
            };
            self.checked(decoded)?;
            if wanted.as_mut().is_some_and(|wanted| wanted.peek().is_none()) {
                break;
            }
        }
        if rows.map_or(self.rows, <[u32]>::len) == ids.len() { Ok(ids) } else { Err(BlockError::OutOfRange) }
    }

    fn collect<T>(
        &mut self,
        mut decode: impl FnMut(&DataPage, &mut Vec<T>) -> Result<(), &'static str>,
    ) -> Result<Sparse<T>, BlockError> {
        let mut rows = Vec::new();
        let mut values = Vec::with_capacity(self.rows);
        while let Some(page) = self.page(None)? {
            let before = values.len();
            self.checked(decode(&page, &mut values))?;
            if values.len() - before != page.values() {
                return Err(self.damaged("another number of values than rows"));
            }
            if let Some(present) = page.present {
                if rows.is_empty() && page.rows.start == 0 {
                    rows = present;
                } else {
                    rows.extend(present);
                }
            }
        }
        let rows = (self.optional && rows.len() < self.rows).then_some(rows);
        Ok(Sparse { rows, values })
    }

    fn dictionary(&mut self) -> Result<(Bytes, usize), BlockError> {
        self.peek_dictionary()?.ok_or_else(|| self.damaged("no dictionary"))
    }

    fn peek_dictionary(&mut self) -> Result<Option<(Bytes, usize)>, BlockError> {
        let pages = &mut self.pages;
        let next = guarded(|| pages.peek_next_page())?;
        if !next.is_some_and(|page| page.is_dict) {
            return Ok(None);
        }
        match guarded(|| pages.get_next_page())? {
            Some(Page::DictionaryPage { buf, num_values, encoding: Encoding::PLAIN, .. }) => {
                Ok(Some((buf, num_values as usize)))
            }
            _ => Err(self.damaged("an unknown dictionary")),
        }
    }

    /// The next data page; with `from`, the first that reaches that row.
    fn page(&mut self, from: Option<u32>) -> Result<Option<DataPage>, BlockError> {
        while self.next < self.rows {
            let pages = &mut self.pages;
            if let Some(from) = from {
                let levels = guarded(|| pages.peek_next_page())?.and_then(|page| page.num_levels);
                if let Some(levels) = levels
                    && levels > 0
                    && self.next + levels <= from as usize
                {
                    guarded(|| pages.skip_next_page())?;
                    self.next += levels;
                    continue;
                }
            }
            let Some(Page::DataPage { buf, num_values, encoding, .. }) = guarded(|| pages.get_next_page())?
            else {
                return Err(self.damaged("pages are missing"));
            };
            let rows = self.next..self.next + num_values as usize;
            if num_values == 0 || rows.end > self.rows {
                return Err(self.damaged("another number of rows"));
            }
            self.next = rows.end;
            let (present, values) = self.checked(levels(buf, rows.clone(), self.optional))?;
            return Ok(Some(DataPage { rows, present, encoding, values }));
        }
        Ok(None)
    }

    fn checked<T>(&self, result: Result<T, &'static str>) -> Result<T, BlockError> {
        result.map_err(|what| self.damaged(what))
    }

    fn damaged(&self, what: &'static str) -> BlockError {
        BlockError::Page { column: self.name.to_owned(), what }
    }
}

type Levels = (Option<Vec<u32>>, Bytes);

/// Splits a page into the rows that have a value and the values.
fn levels(page: Bytes, rows: Range<usize>, optional: bool) -> Result<Levels, &'static str> {
    if !optional {
        return Ok((None, page));
    }
    let length = page.get(..4).ok_or("levels are cut off")?;
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
    let end = length.checked_add(4).filter(|&end| end <= page.len()).ok_or("levels are cut off")?;
    let mut levels = Vec::new();
    rle::decode(&page[4..end], 1, rows.len(), &mut levels)?;
    let present =
        levels.iter().zip(rows).filter(|&(&level, _)| level == 1).map(|(_, row)| row as u32).collect();
    Ok((Some(present), page.slice(end..)))
}

fn codes_of(page: &DataPage, limit: usize, codes: &mut Vec<u32>) -> Result<(), &'static str> {
    if page.encoding != Encoding::RLE_DICTIONARY {
        return Err("an unknown encoding");
    }
    let (&width, packed) = page.values.split_first().ok_or("codes are cut off")?;
    let start = codes.len();
    rle::decode(packed, u32::from(width), page.values(), codes)?;
    if codes[start..].iter().all(|&code| (code as usize) < limit) {
        Ok(())
    } else {
        Err("a code beyond the dictionary")
    }
}

fn words(page: Bytes, count: usize) -> Result<Words, &'static str> {
    let mut ranges = Vec::with_capacity(count.min(page.len() / 4));
    let mut at = 0usize;
    for _ in 0..count {
        let length = page.get(at..at + 4).ok_or("a word is cut off")?;
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let range = at + 4..at + 4 + length;
        let word = page.get(range.clone()).ok_or("a word is cut off")?;
        if std::str::from_utf8(word).is_err() {
            return Err("a word is no UTF-8");
        }
        at = range.end;
        ranges.push(range);
    }
    Ok(Words { page, ranges })
}

fn text_ids(
    page: &DataPage,
    chosen: &[usize],
    lengths: &mut Vec<i64>,
    ids: &mut Ids,
) -> Result<(), &'static str> {
    if page.encoding != Encoding::DELTA_LENGTH_BYTE_ARRAY {
        return Err("an unknown encoding");
    }
    let bytes = delta::decode_some(&page.values, page.rows.len(), lengths)?;
    let text = std::str::from_utf8(bytes).map_err(|_| "an event id is no UTF-8")?;
    let mut end = 0usize;
    for length in lengths.iter_mut() {
        end = usize::try_from(*length)
            .ok()
            .and_then(|length| end.checked_add(length))
            .ok_or("lengths of ids")?;
        *length = end as i64;
    }
    for &row in chosen {
        let start = row.checked_sub(1).map_or(0, |before| lengths[before] as usize);
        let id = text.get(start..lengths[row] as usize).ok_or("event ids are cut off")?;
        ids.push(id.as_bytes());
    }
    if end == bytes.len() { Ok(()) } else { Err("event ids of another length") }
}

fn fixed(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).map(|eight| rle::load(eight, 0))
}
