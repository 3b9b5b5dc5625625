//! Writes a `runnel.journal.v1.Batch` straight from a batch's columns. Building the generated message first would copy every column, and its encoder measures
//! everything twice.

use runnel_model::{Column, ColumnKey, ContentSum, EventBatch, Values};

use super::FORMAT;

/// Wire types of Protocol Buffers.
const VARINT: u32 = 0;
const LENGTH: u32 = 2;

/// Field numbers of `Batch` and of `Column`.
mod field {
    pub(super) const FORMAT_VERSION: u32 = 1;
    pub(super) const STRINGS: u32 = 2;
    pub(super) const STRING_LENGTHS: u32 = 3;
    pub(super) const VISITORS: u32 = 4;
    pub(super) const TIME_DELTAS: u32 = 5;
    pub(super) const NAMES: u32 = 6;
    pub(super) const EVENT_IDS: u32 = 7;
    pub(super) const EVENT_ID_LENGTHS: u32 = 8;
    pub(super) const SEQUENCES: u32 = 9;
    pub(super) const COLUMNS: u32 = 10;
    pub(super) const CONTENT_SUM: u32 = 11;

    pub(super) const FIELD: u32 = 1;
    pub(super) const NAME: u32 = 2;
    pub(super) const ROW_DELTAS: u32 = 3;
    pub(super) const TEXTS: u32 = 4;
    pub(super) const INTS: u32 = 5;
    pub(super) const DOUBLES: u32 = 6;
    pub(super) const BOOLS: u32 = 7;
}

/// The encoded message of a consistent batch.
pub(super) fn write(batch: &EventBatch, sum: ContentSum) -> Vec<u8> {
    let ids = &batch.event_ids;
    let events = batch.len();
    let mut out = Vec::with_capacity(batch.strings.text().len() + ids.bytes().len() + events * 32 + 256);
    let mut scratch = Vec::with_capacity(events * 4);
    key(field::FORMAT_VERSION, VARINT, &mut out);
    varint(u64::from(FORMAT), &mut out);
    bytes(field::STRINGS, batch.strings.text().as_bytes(), &mut out);
    packed(field::STRING_LENGTHS, batch.strings.iter().map(|word| word.len() as u64), &mut scratch, &mut out);
    packed(field::VISITORS, batch.visitors.iter().map(|&code| u64::from(code)), &mut scratch, &mut out);
    let mut before = 0i64;
    let deltas =
        batch.times.iter().map(|&time| zigzag(time.wrapping_sub(std::mem::replace(&mut before, time))));
    packed(field::TIME_DELTAS, deltas, &mut scratch, &mut out);
    packed(field::NAMES, batch.names.iter().map(|&code| u64::from(code)), &mut scratch, &mut out);
    bytes(field::EVENT_IDS, ids.bytes(), &mut out);
    packed(
        field::EVENT_ID_LENGTHS,
        (0..ids.len()).map(|row| ids.get(row).len() as u64),
        &mut scratch,
        &mut out,
    );
    if batch.sequences.iter().any(|&sequence| sequence != 0) {
        packed(
            field::SEQUENCES,
            batch.sequences.iter().map(|&number| zigzag(number)),
            &mut scratch,
            &mut out,
        );
    }
    let mut message = Vec::with_capacity(events * 8);
    for column in in_order(batch) {
        message.clear();
        write_column(column, &mut scratch, &mut message);
        bytes(field::COLUMNS, &message, &mut out);
    }
    bytes(field::CONTENT_SUM, &sum.0.to_le_bytes(), &mut out);
    out
}

/// The columns by (field, name, type), so that equal batches give equal bytes.
fn in_order(batch: &EventBatch) -> Vec<&Column> {
    let mut columns: Vec<&Column> = batch.columns.iter().collect();
    columns.sort_by_key(|column| {
        let field = match column.key {
            ColumnKey::Field(field) => field.number(),
            ColumnKey::Property(_) => 0,
        };
        (field, batch.property_name(column.key), column.values.value_type())
    });
    columns
}

fn write_column(column: &Column, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    let (place, number) = match column.key {
        ColumnKey::Field(field) => (field::FIELD, field.number()),
        ColumnKey::Property(name) => (field::NAME, name),
    };
    key(place, VARINT, out);
    varint(u64::from(number), out);
    let mut before = 0u32;
    let deltas =
        column.rows.iter().map(|&row| u64::from(row.wrapping_sub(std::mem::replace(&mut before, row))));
    packed(field::ROW_DELTAS, deltas, scratch, out);
    // A message with one packed field, number 1, whose length is not known before.
    let mut values = Vec::with_capacity(column.values.len() * 2 + 16);
    let place = match &column.values {
        Values::Strings(codes) => {
            packed(1, codes.iter().map(|&code| u64::from(code)), scratch, &mut values);
            field::TEXTS
        }
        Values::Ints(numbers) => {
            packed(1, numbers.iter().map(|&number| zigzag(number)), scratch, &mut values);
            field::INTS
        }
        Values::Doubles(numbers) => {
            if !numbers.is_empty() {
                key(1, LENGTH, &mut values);
                varint(numbers.len() as u64 * 8, &mut values);
                numbers.iter().for_each(|number| values.extend_from_slice(&number.to_bits().to_le_bytes()));
            }
            field::DOUBLES
        }
        Values::Bools(truths) => {
            packed(1, truths.iter().map(|&truth| u64::from(truth)), scratch, &mut values);
            field::BOOLS
        }
    };
    bytes(place, &values, out);
}

fn key(field: u32, wire_type: u32, out: &mut Vec<u8>) {
    varint(u64::from(field << 3 | wire_type), out);
}

fn bytes(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    key(field, LENGTH, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn packed(field: u32, values: impl Iterator<Item = u64>, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    scratch.clear();
    values.for_each(|value| varint(value, scratch));
    if !scratch.is_empty() {
        bytes(field, scratch, out);
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}
