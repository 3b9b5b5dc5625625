//! Writes one column of one row group: an optional dictionary page and data pages, each compressed.
//!
//! Pages are put together here rather than by the Parquet library's column writers because our columns are dictionary coded already: writing codes costs a few
//! nanoseconds a value, hashing every text again would cost ten times that.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use bytes::Bytes;
use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    column::{
        page::{CompressedPage, Page, PageWriter},
        writer::ColumnCloseResult,
    },
    errors::{ParquetError, Result},
    file::{
        metadata::ColumnChunkMetaData,
        statistics::Statistics,
        writer::{SerializedPageWriter, TrackedWrite},
    },
    schema::types::ColumnDescPtr,
};
use runnel_model::Ids;

use super::{delta, ids::IdForm, rle};

/// Events of a data page. Few enough for event ids that reading some skips most pages.
const PAGE_ROWS: usize = 65_536;
const ID_PAGE_ROWS: usize = 8_192;

/// The values of a column, one for each row that has one.
pub(crate) enum ChunkValues<'a> {
    /// Texts, as indices into distinct words.
    Texts { words: &'a [&'a str], codes: &'a [u32] },
    /// Numbers that follow each other closely.
    Rising(&'a [i64]),
    /// Numbers.
    Ints(&'a [i64]),
    /// Fractional numbers.
    Doubles(&'a [f64]),
    /// Truth values.
    Bools(&'a [bool]),
    /// Event ids.
    EventIds(&'a Ids, IdForm),
}

/// Writes chunks with one compressor.
pub(crate) struct ChunkWriter {
    compressor: zstd::bulk::Compressor<'static>,
    level: ZstdLevel,
    page: Vec<u8>,
    numbers: HashMap<u64, u32, BuildHasherDefault<Mixer>>,
}

/// A chunk as it goes into a file.
pub(crate) type Written = (Bytes, ColumnCloseResult);

struct Dictionary {
    page: Vec<u8>,
    entries: usize,
    codes: Option<Vec<u32>>,
}

impl ChunkWriter {
    pub(crate) fn new(level: i32) -> Result<ChunkWriter> {
        let compressor =
            zstd::bulk::Compressor::new(level).map_err(|error| ParquetError::External(Box::new(error)))?;
        Ok(ChunkWriter {
            compressor,
            level: ZstdLevel::try_new(level)?,
            page: Vec::new(),
            numbers: HashMap::default(),
        })
    }

    /// Writes a chunk of `rows` rows. `present` lists the rows that have a value, of an optional column.
    pub(crate) fn write(
        &mut self,
        column: &ColumnDescPtr,
        rows: usize,
        present: Option<&[u32]>,
        values: &ChunkValues<'_>,
    ) -> Result<Written> {
        let mut sink = TrackedWrite::new(Vec::new());
        let mut pages = SerializedPageWriter::new(&mut sink);
        let mut encodings = vec![Encoding::RLE];
        let (mut compressed, mut uncompressed) = (0, 0);
        let mut dictionary_at = None;
        let dictionary = self.dictionary(values);
        if let Some(dictionary) = &dictionary {
            let page = Page::DictionaryPage {
                buf: self.compress(&dictionary.page)?,
                num_values: dictionary.entries as u32,
                encoding: Encoding::PLAIN,
                is_sorted: false,
            };
            let spec = pages.write_page(CompressedPage::new(page, dictionary.page.len()))?;
            dictionary_at = Some(spec.offset as i64);
            compressed += spec.compressed_size;
            uncompressed += spec.uncompressed_size;
            encodings.extend([Encoding::PLAIN, Encoding::RLE_DICTIONARY]);
        }
        let step = if matches!(values, ChunkValues::EventIds(..)) { ID_PAGE_ROWS } else { PAGE_ROWS };
        let mut data_at = None;
        for start in (0..rows.max(1)).step_by(step) {
            let end = rows.min(start + step);
            let mut page = std::mem::take(&mut self.page);
            page.clear();
            let range = match present {
                None => start..end,
                Some(present) => {
                    let before = |row: usize| present.partition_point(|&at| (at as usize) < row);
                    let range = before(start)..before(end);
                    page.extend([0; 4]);
                    rle::encode_present(&present[range.clone()], start as u32, end - start, &mut page);
                    let length = (page.len() - 4) as u32;
                    page[..4].copy_from_slice(&length.to_le_bytes());
                    range
                }
            };
            let encoding = encode(values, dictionary.as_ref(), range, &mut page)?;
            if !encodings.contains(&encoding) {
                encodings.push(encoding);
            }
            let data = Page::DataPage {
                buf: self.compress(&page)?,
                num_values: (end - start) as u32,
                encoding,
                def_level_encoding: Encoding::RLE,
                rep_level_encoding: Encoding::RLE,
                statistics: None,
            };
            let spec = pages.write_page(CompressedPage::new(data, page.len()))?;
            data_at.get_or_insert(spec.offset as i64);
            compressed += spec.compressed_size;
            uncompressed += spec.uncompressed_size;
            self.page = page;
        }
        pages.close()?;
        let mut metadata = ColumnChunkMetaData::builder(column.clone())
            .set_encodings(encodings)
            .set_compression(Compression::ZSTD(self.level))
            .set_num_values(rows as i64)
            .set_total_compressed_size(compressed as i64)
            .set_total_uncompressed_size(uncompressed as i64)
            .set_data_page_offset(data_at.unwrap_or_default())
            .set_dictionary_page_offset(dictionary_at);
        if let Some(statistics) = statistics(values, rows, present) {
            metadata = metadata.set_statistics(statistics);
        }
        let close = ColumnCloseResult {
            bytes_written: compressed as u64,
            rows_written: rows as u64,
            metadata: metadata.build()?,
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        Ok((Bytes::from(sink.into_inner()?), close))
    }

    fn compress(&mut self, page: &[u8]) -> Result<Bytes> {
        let compressed =
            self.compressor.compress(page).map_err(|error| ParquetError::External(Box::new(error)))?;
        Ok(Bytes::from(compressed))
    }

    /// The dictionary of a column that is better off with one.
    fn dictionary(&mut self, values: &ChunkValues<'_>) -> Option<Dictionary> {
        match values {
            ChunkValues::Texts { words, .. } => {
                let mut page = Vec::with_capacity(words.iter().map(|word| 4 + word.len()).sum());
                for word in *words {
                    page.extend_from_slice(&(word.len() as u32).to_le_bytes());
                    page.extend_from_slice(word.as_bytes());
                }
                Some(Dictionary { page, entries: words.len(), codes: None })
            }
            ChunkValues::Ints(numbers) => self.number_dictionary(numbers.iter().map(|&number| number as u64)),
            ChunkValues::Doubles(numbers) => {
                self.number_dictionary(numbers.iter().map(|number| number.to_bits()))
            }
            _ => None,
        }
    }

    fn number_dictionary(&mut self, numbers: impl ExactSizeIterator<Item = u64>) -> Option<Dictionary> {
        let limit = (numbers.len() / 4).min(1 << 16);
        self.numbers.clear();
        let mut page = Vec::new();
        let mut codes = Vec::with_capacity(numbers.len());
        for number in numbers {
            let next = self.numbers.len() as u32;
            let code = *self.numbers.entry(number).or_insert(next);
            if code == next {
                if next as usize >= limit {
                    return None;
                }
                page.extend_from_slice(&number.to_le_bytes());
            }
            codes.push(code);
        }
        (!codes.is_empty()).then_some(Dictionary { page, entries: self.numbers.len(), codes: Some(codes) })
    }
}

fn encode(
    values: &ChunkValues<'_>,
    dictionary: Option<&Dictionary>,
    range: std::ops::Range<usize>,
    page: &mut Vec<u8>,
) -> Result<Encoding> {
    if let Some(dictionary) = dictionary {
        let codes = match (values, &dictionary.codes) {
            (ChunkValues::Texts { codes, .. }, _) => codes,
            (_, Some(codes)) => &codes[..],
            _ => &[],
        };
        let width = rle::width(dictionary.entries);
        page.push(width as u8);
        rle::encode_codes(&codes[range], width, page);
        return Ok(Encoding::RLE_DICTIONARY);
    }
    Ok(match values {
        ChunkValues::Texts { .. } => Encoding::RLE_DICTIONARY,
        ChunkValues::Rising(numbers) | ChunkValues::Ints(numbers) => {
            delta::encode(&numbers[range], page);
            Encoding::DELTA_BINARY_PACKED
        }
        ChunkValues::Doubles(numbers) => {
            page.extend(numbers[range].iter().flat_map(|number| number.to_bits().to_le_bytes()));
            Encoding::PLAIN
        }
        ChunkValues::Bools(truths) => {
            let truths = &truths[range];
            let start = page.len();
            page.resize(start + truths.len().div_ceil(8), 0);
            for (at, &truth) in truths.iter().enumerate() {
                page[start + at / 8] |= u8::from(truth) << (at % 8);
            }
            Encoding::PLAIN
        }
        ChunkValues::EventIds(ids, IdForm::Text) => {
            let lengths: Vec<i64> = range.clone().map(|row| ids.get(row).len() as i64).collect();
            delta::encode(&lengths, page);
            range.for_each(|row| page.extend_from_slice(ids.get(row)));
            Encoding::DELTA_LENGTH_BYTE_ARRAY
        }
        ChunkValues::EventIds(ids, form) => {
            for row in range {
                if !form.pack(ids.get(row), page) {
                    return Err(ParquetError::General("an event id has another form".to_owned()));
                }
            }
            Encoding::PLAIN
        }
    })
}

/// The number of nulls of optional columns; the extremes of the event time, which lets other readers skip row groups.
fn statistics(values: &ChunkValues<'_>, rows: usize, present: Option<&[u32]>) -> Option<Statistics> {
    let nulls = present.map(|present| (rows - present.len()) as u64);
    match values {
        ChunkValues::Rising(times) => {
            let extremes = (times.iter().min().copied(), times.iter().max().copied());
            Some(Statistics::int64(extremes.0, extremes.1, None, Some(0), false))
        }
        ChunkValues::Texts { .. } => {
            nulls.map(|nulls| Statistics::byte_array(None, None, None, Some(nulls), false))
        }
        ChunkValues::Ints(_) => nulls.map(|nulls| Statistics::int64(None, None, None, Some(nulls), false)),
        ChunkValues::Doubles(_) => {
            nulls.map(|nulls| Statistics::double(None, None, None, Some(nulls), false))
        }
        ChunkValues::Bools(_) => nulls.map(|nulls| Statistics::boolean(None, None, None, Some(nulls), false)),
        ChunkValues::EventIds(..) => None,
    }
}

/// A hasher for whole numbers that need no protection from crafted keys: the table lives for one chunk and is given up when it grows.
#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }
}
