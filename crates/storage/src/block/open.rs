//! Reads a block's footer and checks that it describes the block.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use runnel_model::{ContentSum, SHARDS};

use super::{BlockError, ColumnInfo, Contents, FORMAT, Layout, RowGroup, pages::guarded, write::NO_SUM};

impl Contents {
    pub(crate) fn open(bytes: Bytes) -> Result<Contents, BlockError> {
        let metadata = guarded(|| ParquetMetaDataReader::new().parse_and_finish(&bytes))?;
        let footer = Footer { metadata: &metadata };
        let format = footer.number("runnel.format", "no format")?;
        if format > u64::from(FORMAT) {
            return Err(BlockError::Newer { found: format.min(u64::from(u32::MAX)) as u32, known: FORMAT });
        }
        let layout = Layout::of_schema(metadata.file_metadata().schema_descr())?;
        let groups = footer.groups()?;
        let events: u64 = groups.iter().map(|group| u64::from(group.rows)).sum();
        if footer.number("runnel.events", "no number of events")? != events {
            return Err(BlockError::Foreign("another number of events than its footer says"));
        }
        footer.check_chunks(&layout, bytes.len())?;
        let columns = footer.columns(&layout);
        let sum = footer.text("runnel.content_sum", "no sum")?;
        let sum = if sum.as_bytes() == NO_SUM { Ok(0) } else { u128::from_str_radix(sum, 16) }
            .map_err(|_| BlockError::Foreign("a sum of another form"))?;
        let tenant = footer.text("runnel.tenant", "no tenant")?.to_owned();
        Ok(Contents {
            bytes: Arc::new(bytes),
            layout,
            groups,
            columns,
            tenant,
            content_sum: ContentSum(sum),
            metadata,
        })
    }
}

struct Footer<'a> {
    metadata: &'a ParquetMetaData,
}

impl<'a> Footer<'a> {
    fn text(&self, key: &str, missing: &'static str) -> Result<&'a str, BlockError> {
        let notes = self.metadata.file_metadata().key_value_metadata();
        notes
            .and_then(|notes| notes.iter().find(|note| note.key == key))
            .and_then(|note| note.value.as_deref())
            .ok_or(BlockError::Foreign(missing))
    }

    fn number(&self, key: &str, missing: &'static str) -> Result<u64, BlockError> {
        self.text(key, missing)?.parse().map_err(|_| BlockError::Foreign(missing))
    }

    fn groups(&self) -> Result<Vec<RowGroup>, BlockError> {
        let shards = self.text("runnel.shards", "no shards")?;
        let ranges: Option<Vec<Range<usize>>> = shards
            .split_whitespace()
            .map(|range| {
                let (start, end) = range.split_once('-')?;
                let range = start.parse().ok()?..end.parse().ok()?;
                (range.start < range.end && range.end <= SHARDS).then_some(range)
            })
            .collect();
        let ranges = ranges.ok_or(BlockError::Foreign("shards of another form"))?;
        let groups = self.metadata.row_groups();
        if ranges.len() != groups.len() {
            return Err(BlockError::Foreign("another number of row groups than its footer says"));
        }
        let rows = groups.iter().map(|group| u32::try_from(group.num_rows()).ok().filter(|&rows| rows > 0));
        ranges
            .into_iter()
            .zip(rows)
            .map(|(shards, rows)| {
                let rows = rows.ok_or(BlockError::Foreign("a row group of an impossible size"))?;
                Ok(RowGroup { rows, shards })
            })
            .collect()
    }

    /// Every chunk lies within the file. The library takes this for granted.
    fn check_chunks(&self, layout: &Layout, length: usize) -> Result<(), BlockError> {
        let expected = layout.dense() + layout.columns.len();
        for group in self.metadata.row_groups() {
            let inside = group.columns().iter().all(|chunk| {
                let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
                let (start, size) = (u64::try_from(start), u64::try_from(chunk.compressed_size()));
                matches!((start, size), (Ok(start), Ok(size))
                    if start.checked_add(size).is_some_and(|end| end <= length as u64))
            });
            if group.num_columns() != expected || !inside {
                return Err(BlockError::Foreign("columns beyond its end"));
            }
        }
        Ok(())
    }

    fn columns(&self, layout: &Layout) -> Vec<ColumnInfo> {
        let dense = layout.dense();
        let count = |at: usize| -> u64 {
            let groups = self.metadata.row_groups().iter();
            groups
                .map(|group| {
                    let nulls = group
                        .column(dense + at)
                        .statistics()
                        .and_then(|statistics| statistics.null_count_opt());
                    (group.num_rows() as u64).saturating_sub(nulls.unwrap_or(0))
                })
                .sum()
        };
        let columns = layout.columns.iter().enumerate();
        columns
            .map(|(at, (selector, value_type))| ColumnInfo {
                selector: selector.clone(),
                value_type: *value_type,
                values: count(at),
            })
            .collect()
    }
}
