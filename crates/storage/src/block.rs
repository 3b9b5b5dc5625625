//! Blocks: immutable Parquet files of events sorted by visitor.
//!
//! Row groups cover aligned ranges of the 64 shards of visitors, so that a reader of some shards reads some row groups. What every event has are plain columns;
//! each property and typed field of each type is an optional column of its own. Any Parquet reader can read a block.

mod chunk;
mod delta;
mod ids;
mod layout;
mod open;
mod pages;
mod read;
mod rle;
mod write;

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use parquet::file::metadata::ParquetMetaData;
use runnel_model::{Attribute, ContentSum, Dictionary, EventBatch, Ids, ValueRef, ValueType, Values};

pub(crate) use ids::IdForm;
pub(crate) use layout::Layout;
pub(crate) use write::{BlockWriter, Footer, GroupColumn, GroupColumns};

/// The newest format that is known, and the one that is written.
const FORMAT: u32 = 1;

/// Why a block cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// Its bytes have another checksum than was noted when it was written, or parts of it are missing.
    #[error("the block's checksum does not fit its bytes")]
    Checksum,
    /// It is no Parquet file.
    #[error("the block is no Parquet file")]
    Parquet(#[source] parquet::errors::ParquetError),
    /// The Parquet library gave up on it.
    #[error("the block's Parquet structure is broken")]
    Broken,
    /// A newer program wrote it.
    #[error("the block has format {found}, this program knows {known}")]
    Newer {
        /// The block's format.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// It is a Parquet file, but not a block.
    #[error("the Parquet file is no block: {0}")]
    Foreign(&'static str),
    /// A page holds what its column cannot.
    #[error("a page of column {column} is damaged: {what}")]
    Page {
        /// The column's name.
        column: String,
        /// What is wrong.
        what: &'static str,
    },
    /// There is no such row group or column.
    #[error("the block has no such row group or column")]
    OutOfRange,
}

/// A part of a block that is read at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowGroup {
    /// Events in it.
    pub rows: u32,
    /// Shards that its visitors belong to. Row groups are in the order of shards; a shard may stretch over several.
    pub shards: Range<usize>,
}

/// A column of properties or of a typed field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnInfo {
    /// What it holds.
    pub selector: Attribute,
    /// The type of its values.
    pub value_type: ValueType,
    /// Events of the block that have a value.
    pub values: u64,
}

/// The columns that order and name events, of one row group.
#[derive(Debug, Clone, Default)]
pub struct KeyColumns {
    /// Distinct visitors in the order of their rows: by shard, then by bytes. Each is UTF-8.
    pub visitors: Ids,
    /// Position in `visitors` per event; never falls from one event to the next.
    pub visitor_codes: Vec<u32>,
    /// Distinct event names. Each is UTF-8.
    pub names: Ids,
    /// Position in `names` per event.
    pub name_codes: Vec<u32>,
    /// Milliseconds since the Unix epoch.
    pub times: Vec<i64>,
    /// Sequence number of the batch that each event came with.
    pub numbers: Vec<u64>,
}

/// The values of a column in one row group.
#[derive(Debug, Clone)]
pub struct BlockColumn {
    /// Rows that have a value, ascending.
    pub rows: Vec<u32>,
    /// Their values, as many as rows. Texts are indices into `words`.
    pub values: Values,
    /// Distinct texts.
    pub words: Dictionary,
}

impl BlockColumn {
    /// The values, one for each of `rows`.
    pub fn iter(&self) -> impl Iterator<Item = ValueRef<'_>> {
        (0..self.rows.len()).map(|at| match &self.values {
            Values::Strings(values) => ValueRef::String(self.words.get(values[at])),
            Values::Ints(values) => ValueRef::Int(values[at]),
            Values::Doubles(values) => ValueRef::Double(values[at]),
            Values::Bools(values) => ValueRef::Bool(values[at]),
        })
    }
}

/// An immutable block, in memory. Clones share its bytes. Rows are sorted by (shard, visitor, time, sequence, event id) and every identity occurs once.
#[derive(Debug, Clone)]
pub struct Block {
    contents: Arc<Contents>,
}

/// A block's bytes and what its footer says.
#[derive(Debug)]
pub(crate) struct Contents {
    bytes: Arc<Bytes>,
    metadata: ParquetMetaData,
    layout: Layout,
    groups: Vec<RowGroup>,
    columns: Vec<ColumnInfo>,
    tenant: String,
    content_sum: ContentSum,
}

impl Block {
    /// Reads a block's footer.
    pub fn open(bytes: Bytes) -> Result<Block, BlockError> {
        Ok(Block { contents: Arc::new(Contents::open(bytes)?) })
    }

    /// The tenant that it was written for.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.contents.tenant
    }

    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.contents.bytes.len()
    }

    /// The sum of its events' content hashes, as its footer says.
    #[must_use]
    pub fn content_sum(&self) -> ContentSum {
        self.contents.content_sum
    }

    /// The row groups, in order.
    #[must_use]
    pub fn row_groups(&self) -> &[RowGroup] {
        &self.contents.groups
    }

    /// The columns of properties and typed fields.
    #[must_use]
    pub fn columns(&self) -> &[ColumnInfo] {
        &self.contents.columns
    }

    /// The columns that order and name the events of a row group.
    pub fn read_keys(&self, row_group: usize) -> Result<KeyColumns, BlockError> {
        self.contents.read_keys(row_group)
    }

    /// Event ids and sequences (0 when absent) of all rows of a row group, or of some, ascending.
    pub fn read_identities(
        &self,
        row_group: usize,
        rows: Option<&[u32]>,
    ) -> Result<(Ids, Vec<i64>), BlockError> {
        self.contents.read_identities(row_group, rows)
    }

    /// The values of one of [`Block::columns`] in a row group.
    pub fn read_column(&self, row_group: usize, column: usize) -> Result<BlockColumn, BlockError> {
        self.contents.read_column(row_group, column)
    }

    /// All events of a row group. Their numbers are in [`Block::read_keys`].
    pub fn read_all(&self, row_group: usize) -> Result<EventBatch, BlockError> {
        Ok(self.contents.read_events(row_group)?.0)
    }

    /// All events of a row group, and the number of each.
    pub(crate) fn read_events(&self, row_group: usize) -> Result<(EventBatch, Vec<u64>), BlockError> {
        self.contents.read_events(row_group)
    }

    /// Its columns as they are laid out.
    pub(crate) fn layout(&self) -> &Layout {
        &self.contents.layout
    }

    /// Name, compressed bytes and number of values of each column.
    pub(crate) fn column_bytes(&self) -> Vec<(String, u64, u64)> {
        self.contents.column_bytes()
    }
}
