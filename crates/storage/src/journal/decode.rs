//! A journal row into a batch.

use std::cell::RefCell;

use bytes::Bytes;
use prost::Message;
use runnel_contracts::proto::journal::v1::{Batch, Column, column};
use runnel_model::{ColumnKey, ContentSum, Dictionary, EventBatch, Field, Ids, Values};
use xxhash_rust::xxh3::xxh3_64;

use super::{FORMAT, HEAD, JournalError, MARK, MESSAGE_BYTES, TAIL};

impl JournalError {
    /// Whether the row is not damaged: a newer program wrote it, and one as new can read it. While processes are replaced one by one, older ones meet such rows.
    pub(crate) fn is_newer(&self) -> bool {
        matches!(self, JournalError::Newer { .. } | JournalError::Unknown(_))
    }
}

thread_local! {
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// A row that was read.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) batch: EventBatch,
    /// What the events' content hashes summed to at admission.
    pub(crate) content_sum: ContentSum,
}

/// Decodes a row. The checksum covers the bytes as stored. In every format it stands in the same place, so that it is looked at first and no damage passes for a newer
/// format.
pub(crate) fn decode(row: &[u8]) -> Result<Decoded, JournalError> {
    if row.len() < HEAD + TAIL || row[..4] != MARK {
        return Err(JournalError::Mark);
    }
    let (body, tail) = row.split_at(row.len() - TAIL);
    if tail != xxh3_64(body).to_le_bytes() {
        return Err(JournalError::Checksum);
    }
    let number = |at: usize| u32::from_le_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]]);
    let format = number(4);
    if format > FORMAT {
        return Err(JournalError::Newer { found: format, known: FORMAT });
    }
    let length = number(8) as usize;
    if length > MESSAGE_BYTES {
        return Err(JournalError::Compression);
    }
    let raw = decompress(&body[HEAD..], length)?;
    let message = Batch::decode(raw).map_err(JournalError::Message)?;
    if message.format_version > FORMAT {
        return Err(JournalError::Newer { found: message.format_version, known: FORMAT });
    }
    batch(message)
}

fn decompress(compressed: &[u8], length: usize) -> Result<Bytes, JournalError> {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(zstd::bulk::Decompressor::new().map_err(|_| JournalError::Compression)?),
        };
        let raw = decompressor.decompress(compressed, length).map_err(|_| JournalError::Compression)?;
        if raw.len() == length { Ok(Bytes::from(raw)) } else { Err(JournalError::Compression) }
    })
}

fn batch(message: Batch) -> Result<Decoded, JournalError> {
    let rows = message.time_deltas.len();
    let sum: [u8; 16] =
        message.content_sum.as_ref().try_into().map_err(|_| JournalError::Columns("the sum has 16 bytes"))?;
    let mut batch = EventBatch::default();
    batch.strings = dictionary(&message.strings, &message.string_lengths)?;
    batch.event_ids = ids(&message.event_ids, &message.event_id_lengths)?;
    batch.visitors = message.visitors;
    batch.names = message.names;
    let mut time = 0i64;
    batch.times = message.time_deltas;
    for delta in &mut batch.times {
        time = time.wrapping_add(*delta);
        *delta = time;
    }
    batch.sequences = if message.sequences.is_empty() { vec![0; rows] } else { message.sequences };
    for column in message.columns {
        add_column(&mut batch, column)?;
    }
    if !batch.is_consistent() {
        return Err(JournalError::Columns("lengths or indices"));
    }
    Ok(Decoded { batch, content_sum: ContentSum(u128::from_le_bytes(sum)) })
}

fn add_column(batch: &mut EventBatch, message: Column) -> Result<(), JournalError> {
    let key = match message.field {
        0 => ColumnKey::Property(message.name),
        field => ColumnKey::Field(Field::from_number(field).ok_or(JournalError::Unknown("a typed field"))?),
    };
    let values = match message.values {
        Some(column::Values::Strings(values)) => Values::Strings(values.values),
        Some(column::Values::Ints(values)) => Values::Ints(values.values),
        Some(column::Values::Doubles(values)) => Values::Doubles(values.values),
        Some(column::Values::Bools(values)) => Values::Bools(values.values),
        // Every type is written, that of a column without values too.
        None => return Err(JournalError::Unknown("values of a type")),
    };
    let mut row = 0u32;
    let mut rows = message.row_deltas;
    for delta in &mut rows {
        row = row.checked_add(*delta).ok_or(JournalError::Columns("row numbers"))?;
        *delta = row;
    }
    let place = batch.place(key, values.value_type());
    if place + 1 != batch.columns.len() || !batch.columns[place].rows.is_empty() {
        return Err(JournalError::Columns("a column occurs twice"));
    }
    batch.columns[place].rows = rows;
    batch.columns[place].values = values;
    Ok(())
}

fn dictionary(text: &[u8], lengths: &[u32]) -> Result<Dictionary, JournalError> {
    let text = std::str::from_utf8(text).map_err(|_| JournalError::Columns("a text is no UTF-8"))?;
    let mut words = Dictionary::default();
    let mut start = 0usize;
    for (at, &length) in lengths.iter().enumerate() {
        let end = start + length as usize;
        let word = text.get(start..end).ok_or(JournalError::Columns("lengths of texts"))?;
        if words.intern(word) as usize != at {
            return Err(JournalError::Columns("a text occurs twice"));
        }
        start = end;
    }
    if start == text.len() { Ok(words) } else { Err(JournalError::Columns("lengths of texts")) }
}

fn ids(bytes: &[u8], lengths: &[u32]) -> Result<Ids, JournalError> {
    let text = std::str::from_utf8(bytes).map_err(|_| JournalError::Columns("an event id is no UTF-8"))?;
    let mut ids = Ids::default();
    let mut start = 0usize;
    for &length in lengths {
        let end = start + length as usize;
        let id = text.get(start..end).ok_or(JournalError::Columns("lengths of event ids"))?;
        ids.push(id.as_bytes());
        start = end;
    }
    if start == bytes.len() { Ok(ids) } else { Err(JournalError::Columns("lengths of event ids")) }
}

#[cfg(test)]
mod tests {
    use runnel_contracts::proto::journal::v1::{Indices, column};

    use super::*;

    /// A row as a program would write it that knows what this one does not.
    fn row(column: Option<Column>, format: u32) -> Vec<u8> {
        let message = Batch {
            format_version: format,
            strings: Bytes::from_static(b"vn"),
            string_lengths: vec![1, 1],
            visitors: vec![0],
            time_deltas: vec![5],
            names: vec![1],
            event_ids: Bytes::from_static(b"e"),
            event_id_lengths: vec![1],
            sequences: Vec::new(),
            columns: column.into_iter().collect(),
            content_sum: Bytes::from_static(&[0; 16]),
        };
        let raw = message.encode_to_vec();
        let mut row = [&MARK[..], &FORMAT.to_le_bytes(), &(raw.len() as u32).to_le_bytes()].concat();
        row.extend(zstd::encode_all(&raw[..], 1).unwrap());
        row.extend(xxh3_64(&row).to_le_bytes());
        row
    }

    #[test]
    fn what_a_newer_program_wrote_is_no_damage() {
        let texts = || Some(column::Values::Strings(Indices { values: vec![0] }));
        let column = |field, values| Column { field, name: 1, row_deltas: vec![0], values };
        assert_eq!(decode(&row(Some(column(0, texts())), FORMAT)).unwrap().batch.len(), 1);
        for newer in [
            row(Some(column(999, texts())), FORMAT),
            row(Some(column(0, None)), FORMAT),
            row(None, FORMAT + 1),
        ] {
            let error = decode(&newer).unwrap_err();
            assert!(error.is_newer(), "{error}");
            let mut damaged = newer;
            damaged[20] ^= 1;
            assert!(!decode(&damaged).unwrap_err().is_newer());
        }
        let twice = column::Values::Strings(Indices { values: vec![0, 0] });
        let misfit = decode(&row(Some(column(0, Some(twice))), FORMAT)).unwrap_err();
        assert!(!misfit.is_newer(), "{misfit}");
    }
}
