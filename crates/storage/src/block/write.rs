//! Writes a block, row group by row group.

use std::ops::Range;

use bytes::Bytes;
use parquet::{
    errors::Result as ParquetResult,
    file::{metadata::KeyValue, properties::WriterProperties, writer::SerializedFileWriter},
};
use runnel_model::{ContentSum, Ids, Values};

use super::{
    Block, BlockError, FORMAT,
    chunk::{ChunkValues, ChunkWriter},
    layout::Layout,
};

/// Level 3 takes some 12 % off what level 1 leaves, for 20 ns an event.
const LEVEL: i32 = 3;

/// One row group's events, sorted. Texts are indices into the words beside them.
#[derive(Default)]
pub(crate) struct GroupColumns<'a> {
    pub(crate) shards: Range<usize>,
    pub(crate) visitors: Vec<&'a str>,
    pub(crate) visitor_codes: Vec<u32>,
    pub(crate) names: Vec<&'a str>,
    pub(crate) name_codes: Vec<u32>,
    pub(crate) times: Vec<i64>,
    pub(crate) sequences: Vec<i64>,
    pub(crate) ids: Ids,
    pub(crate) numbers: Vec<i64>,
    /// As many as the layout has, in its order.
    pub(crate) columns: Vec<GroupColumn<'a>>,
}

/// A sparse column of a row group.
pub(crate) struct GroupColumn<'a> {
    pub(crate) rows: Vec<u32>,
    pub(crate) values: Values,
    pub(crate) words: Vec<&'a str>,
}

/// What is noted in a block's footer, beside what the writer knows itself.
pub(crate) struct Footer<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) first_sequence: u64,
    pub(crate) last_sequence: u64,
}

/// Stands in the footer until the sum is known, which is when the written bytes were read again.
pub(super) const NO_SUM: &[u8; 32] = b"________________________________";

impl Footer<'_> {
    /// Notes the sum of the events in a block's footer.
    pub(crate) fn seal(bytes: Bytes, sum: ContentSum) -> Result<Bytes, BlockError> {
        let mut bytes = Vec::from(bytes);
        let key = b"runnel.content_sum";
        let at = bytes.windows(key.len()).rposition(|window| window == key);
        let at = at.ok_or(BlockError::Foreign("no sum"))? + key.len();
        let place = bytes[at..].windows(NO_SUM.len()).position(|window| window == NO_SUM);
        let place = at + place.ok_or(BlockError::Foreign("no place for the sum"))?;
        bytes[place..place + NO_SUM.len()].copy_from_slice(format!("{:032x}", sum.0).as_bytes());
        let bytes = Bytes::from(bytes);
        let block = Block::open(bytes.clone())?;
        if block.content_sum() == sum {
            Ok(bytes)
        } else {
            Err(BlockError::Foreign("another sum than was noted"))
        }
    }
}

pub(crate) struct BlockWriter {
    file: SerializedFileWriter<Vec<u8>>,
    layout: Layout,
    chunks: ChunkWriter,
    shards: Vec<Range<usize>>,
    events: u64,
}

impl BlockWriter {
    pub(crate) fn new(layout: Layout) -> ParquetResult<BlockWriter> {
        let properties = WriterProperties::builder()
            .set_created_by("runnel".to_owned())
            .set_write_path_in_schema(true)
            .build();
        let file = SerializedFileWriter::new(Vec::new(), layout.schema()?, properties.into())?;
        Ok(BlockWriter { file, layout, chunks: ChunkWriter::new(LEVEL)?, shards: Vec::new(), events: 0 })
    }

    /// Events written so far.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn write(&mut self, group: &GroupColumns<'_>) -> ParquetResult<()> {
        let rows = group.times.len();
        let mut dense = vec![
            ChunkValues::Texts { words: &group.visitors, codes: &group.visitor_codes },
            ChunkValues::Texts { words: &group.names, codes: &group.name_codes },
            ChunkValues::Rising(&group.times),
        ];
        if self.layout.sequence {
            dense.push(ChunkValues::Ints(&group.sequences));
        }
        dense.push(ChunkValues::EventIds(&group.ids, self.layout.ids));
        dense.push(ChunkValues::Ints(&group.numbers));
        let sparse = group.columns.iter().map(|column| {
            let values = match &column.values {
                Values::Strings(codes) => ChunkValues::Texts { words: &column.words, codes },
                Values::Ints(numbers) => ChunkValues::Ints(numbers),
                Values::Doubles(numbers) => ChunkValues::Doubles(numbers),
                Values::Bools(truths) => ChunkValues::Bools(truths),
            };
            (Some(&column.rows[..]), values)
        });
        let all = dense.into_iter().map(|values| (None, values)).chain(sparse);
        let schema = self.file.schema_descr().columns().to_vec();
        let mut row_group = self.file.next_row_group()?;
        for (column, (present, values)) in schema.iter().zip(all) {
            let (bytes, close) = self.chunks.write(column, rows, present, &values)?;
            row_group.append_column(&bytes, close)?;
        }
        row_group.close()?;
        self.shards.push(group.shards.clone());
        self.events += rows as u64;
        Ok(())
    }

    pub(crate) fn finish(mut self, footer: &Footer<'_>) -> ParquetResult<Bytes> {
        let shards: Vec<String> =
            self.shards.iter().map(|shards| format!("{}-{}", shards.start, shards.end)).collect();
        for (key, value) in [
            ("runnel.format", FORMAT.to_string()),
            ("runnel.tenant", footer.tenant.to_owned()),
            ("runnel.events", self.events.to_string()),
            ("runnel.first_sequence", footer.first_sequence.to_string()),
            ("runnel.last_sequence", footer.last_sequence.to_string()),
            ("runnel.content_sum", NO_SUM.iter().map(|&byte| char::from(byte)).collect()),
            ("runnel.shards", shards.join(" ")),
        ] {
            self.file.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        Ok(Bytes::from(self.file.into_inner()?))
    }
}
