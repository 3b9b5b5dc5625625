//! A batch into a journal row.

use std::cell::RefCell;

use bytes::Bytes;
use prost::Message;
use runnel_contracts::proto::journal::v1::{Batch, Booleans, Column, Doubles, Indices, Integers, column};
use runnel_model::{ColumnKey, ContentSum, EventBatch, Values};
use xxhash_rust::xxh3::xxh3_64;

use super::{FORMAT, HEAD, MARK, MESSAGE_BYTES, TAIL};
use crate::AdmitError;

/// Fast enough to stay behind the network, and the row is soon rewritten into a block.
const LEVEL: i32 = 1;

thread_local! {
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

/// Encodes a consistent batch. Gives the row and the length of the message before compression.
pub(crate) fn encode(batch: &EventBatch, sum: ContentSum) -> Result<(Bytes, u64), AdmitError> {
    let message = message(batch, sum);
    let length = message.encoded_len();
    if length > MESSAGE_BYTES {
        return Err(AdmitError::TooLarge { bytes: length as u64, limit: MESSAGE_BYTES as u64 });
    }
    let mut raw = Vec::with_capacity(length);
    message.encode_raw(&mut raw);
    let bound = zstd::zstd_safe::compress_bound(raw.len());
    let mut row = vec![0; HEAD + bound + TAIL];
    row[..4].copy_from_slice(&MARK);
    row[4..8].copy_from_slice(&FORMAT.to_le_bytes());
    row[8..HEAD].copy_from_slice(&(raw.len() as u32).to_le_bytes());
    let compressed = compress(&raw, &mut row[HEAD..HEAD + bound]).map_err(AdmitError::Compression)?;
    row.truncate(HEAD + compressed);
    let checksum = xxh3_64(&row);
    row.extend_from_slice(&checksum.to_le_bytes());
    row.shrink_to_fit();
    Ok((Bytes::from(row), raw.len() as u64))
}

fn compress(raw: &[u8], into: &mut [u8]) -> std::io::Result<usize> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(zstd::bulk::Compressor::new(LEVEL)?),
        };
        compressor.compress_to_buffer(raw, into)
    })
}

fn message(batch: &EventBatch, sum: ContentSum) -> Batch {
    let words = batch.strings.iter();
    let ids = &batch.event_ids;
    let mut order: Vec<usize> = (0..batch.columns.len()).collect();
    order.sort_by_key(|&at| {
        let column = &batch.columns[at];
        let field = match column.key {
            ColumnKey::Field(field) => field.number(),
            ColumnKey::Property(_) => 0,
        };
        (field, batch.property_name(column.key), column.values.value_type())
    });
    let mut before = 0i64;
    Batch {
        format_version: FORMAT,
        strings: Bytes::copy_from_slice(batch.strings.text().as_bytes()),
        string_lengths: words.map(|word| word.len() as u32).collect(),
        visitors: batch.visitors.clone(),
        time_deltas: batch
            .times
            .iter()
            .map(|&time| time.wrapping_sub(std::mem::replace(&mut before, time)))
            .collect(),
        names: batch.names.clone(),
        event_ids: Bytes::copy_from_slice(ids.bytes()),
        event_id_lengths: (0..ids.len()).map(|row| ids.get(row).len() as u32).collect(),
        sequences: if batch.sequences.iter().all(|&sequence| sequence == 0) {
            Vec::new()
        } else {
            batch.sequences.clone()
        },
        columns: order.into_iter().map(|at| column_message(&batch.columns[at])).collect(),
        content_sum: Bytes::copy_from_slice(&sum.0.to_le_bytes()),
    }
}

fn column_message(column: &runnel_model::Column) -> Column {
    let (field, name) = match column.key {
        ColumnKey::Field(field) => (field.number(), 0),
        ColumnKey::Property(name) => (0, name),
    };
    let mut before = 0u32;
    Column {
        field,
        name,
        row_deltas: column
            .rows
            .iter()
            .map(|&row| row.wrapping_sub(std::mem::replace(&mut before, row)))
            .collect(),
        values: Some(match &column.values {
            Values::Strings(values) => column::Values::Strings(Indices { values: values.clone() }),
            Values::Ints(values) => column::Values::Ints(Integers { values: values.clone() }),
            Values::Doubles(values) => column::Values::Doubles(Doubles { values: values.clone() }),
            Values::Bools(values) => column::Values::Bools(Booleans { values: values.clone() }),
        }),
    }
}
