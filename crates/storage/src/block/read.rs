//! Reads the columns of a row group.

use runnel_model::{Attribute, ColumnKey, Dictionary, EventBatch, Ids, ValueType, Values};

use super::{
    Block, BlockColumn, BlockError, Contents, KeyColumns, layout,
    pages::{ChunkReader, Words},
};

impl Block {
    /// Bytes of its columns before compression, as its footer says: no less than what its distinct texts take.
    pub(crate) fn raw_bytes(&self) -> u64 {
        let groups = self.contents.metadata.row_groups().iter();
        let chunks = groups.flat_map(|group| group.columns());
        chunks.map(|chunk| u64::try_from(chunk.uncompressed_size()).unwrap_or(0)).sum()
    }
}

impl Contents {
    pub(super) fn read_keys(&self, row_group: usize) -> Result<KeyColumns, BlockError> {
        let (visitors, visitor_codes) = self.visitors(row_group)?;
        let (names, name_codes) = self.chunk(row_group, 1)?.texts()?;
        Ok(KeyColumns {
            visitors: ids_of(&visitors),
            visitor_codes,
            names: ids_of(&names),
            name_codes: name_codes.values,
            times: self.chunk(row_group, 2)?.longs()?.values,
            numbers: self.numbers(row_group)?,
        })
    }

    pub(super) fn read_identities(
        &self,
        row_group: usize,
        rows: Option<&[u32]>,
    ) -> Result<(Ids, Vec<i64>), BlockError> {
        let place = 3 + usize::from(self.layout.sequence);
        let ids = self.chunk(row_group, place)?.ids(self.layout.ids, rows)?;
        let mut sequences = self.sequences(row_group, ids.len())?;
        if let (true, Some(rows)) = (self.layout.sequence, rows) {
            sequences = rows.iter().map(|&row| sequences.get(row as usize).copied().unwrap_or(0)).collect();
        }
        Ok((ids, sequences))
    }

    pub(super) fn read_column(&self, row_group: usize, column: usize) -> Result<BlockColumn, BlockError> {
        let (_, value_type) = self.layout.columns.get(column).ok_or(BlockError::OutOfRange)?;
        let chunk = self.chunk(row_group, self.layout.dense() + column)?;
        let mut words = Dictionary::default();
        let (rows, values) = read_values(chunk, *value_type, &mut words)?;
        Ok(BlockColumn { rows, values, words })
    }

    pub(super) fn read_events(&self, row_group: usize) -> Result<(EventBatch, Vec<u64>), BlockError> {
        let (visitors, mut visitor_codes) = self.visitors(row_group)?;
        let (names, name_codes) = self.chunk(row_group, 1)?.texts()?;
        let mut name_codes = name_codes.values;
        let mut batch = EventBatch::default();
        intern(&visitors, &mut visitor_codes, &mut batch.strings);
        intern(&names, &mut name_codes, &mut batch.strings);
        batch.visitors = visitor_codes;
        batch.names = name_codes;
        batch.times = self.chunk(row_group, 2)?.longs()?.values;
        (batch.event_ids, batch.sequences) = self.read_identities(row_group, None)?;
        for (at, (selector, value_type)) in self.layout.columns.iter().enumerate() {
            let chunk = self.chunk(row_group, self.layout.dense() + at)?;
            let (rows, values) = read_values(chunk, *value_type, &mut batch.strings)?;
            if rows.is_empty() {
                continue;
            }
            let key = match selector {
                Attribute::Field(field) => ColumnKey::Field(*field),
                Attribute::Property(name) => ColumnKey::Property(batch.strings.intern(name)),
            };
            let place = batch.place(key, *value_type);
            batch.columns[place].rows = rows;
            batch.columns[place].values = values;
        }
        if batch.is_consistent() { Ok((batch, self.numbers(row_group)?)) } else { Err(BlockError::Broken) }
    }

    pub(super) fn column_bytes(&self) -> Vec<(String, u64, u64)> {
        let schema = self.metadata.file_metadata().schema_descr();
        let columns = schema.columns().iter().enumerate();
        columns
            .map(|(at, column)| {
                let chunks = self.metadata.row_groups().iter().map(|group| group.column(at));
                let bytes = chunks.map(|chunk| u64::try_from(chunk.compressed_size()).unwrap_or(0)).sum();
                let values = match at.checked_sub(self.layout.dense()) {
                    Some(place) => self.columns[place].values,
                    None => self.groups.iter().map(|group| u64::from(group.rows)).sum(),
                };
                (column.name().to_owned(), bytes, values)
            })
            .collect()
    }

    fn chunk(&self, row_group: usize, column: usize) -> Result<ChunkReader<'_>, BlockError> {
        ChunkReader::new(self, row_group, column)
    }

    /// Visitors with the promise that readers rely on: codes never fall.
    fn visitors(&self, row_group: usize) -> Result<(Words, Vec<u32>), BlockError> {
        let (words, codes) = self.chunk(row_group, 0)?.texts()?;
        if codes.values.is_sorted() {
            Ok((words, codes.values))
        } else {
            Err(BlockError::Page { column: layout::VISITOR.to_owned(), what: "visitors out of order" })
        }
    }

    fn numbers(&self, row_group: usize) -> Result<Vec<u64>, BlockError> {
        let numbers = self.chunk(row_group, self.layout.dense() - 1)?.longs()?.values;
        Ok(numbers.into_iter().map(|number| number as u64).collect())
    }

    fn sequences(&self, row_group: usize, rows: usize) -> Result<Vec<i64>, BlockError> {
        if self.layout.sequence { Ok(self.chunk(row_group, 3)?.longs()?.values) } else { Ok(vec![0; rows]) }
    }
}

fn read_values(
    chunk: ChunkReader<'_>,
    value_type: ValueType,
    strings: &mut Dictionary,
) -> Result<(Vec<u32>, Values), BlockError> {
    Ok(match value_type {
        ValueType::String => {
            let (words, codes) = chunk.texts()?;
            let (rows, mut codes) = codes.split();
            intern(&words, &mut codes, strings);
            (rows, Values::Strings(codes))
        }
        ValueType::Int => {
            let (rows, values) = chunk.longs()?.split();
            (rows, Values::Ints(values))
        }
        ValueType::Double => {
            let (rows, values) = chunk.doubles()?.split();
            (rows, Values::Doubles(values))
        }
        ValueType::Bool => {
            let (rows, values) = chunk.bools()?.split();
            (rows, Values::Bools(values))
        }
    })
}

fn ids_of(words: &Words) -> Ids {
    let mut ids = Ids::default();
    words.iter().for_each(|word| ids.push(word));
    ids
}

/// Adds a chunk's words to a dictionary and turns its codes into that dictionary's.
fn intern(words: &Words, codes: &mut [u32], strings: &mut Dictionary) {
    let known: Vec<u32> =
        words.iter().map(|word| strings.intern(std::str::from_utf8(word).unwrap_or_default())).collect();
    if known.iter().enumerate().any(|(at, &code)| at != code as usize) {
        codes.iter_mut().for_each(|code| *code = known[*code as usize]);
    }
}
