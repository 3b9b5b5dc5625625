//! Some thousand values of one column, and a place among them.

use parquet::{
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::{ByteArray, DataType, FixedLenByteArray, Int96},
    errors::ParquetError,
};

use super::{cell::Cell, kind::Kind};

/// Values that are not absent, in the type that the file stores.
enum Values {
    Bool(ColumnReaderImpl<parquet::data_type::BoolType>, Vec<bool>),
    Int32(ColumnReaderImpl<parquet::data_type::Int32Type>, Vec<i32>),
    Int64(ColumnReaderImpl<parquet::data_type::Int64Type>, Vec<i64>),
    Int96(ColumnReaderImpl<parquet::data_type::Int96Type>, Vec<Int96>),
    Float(ColumnReaderImpl<parquet::data_type::FloatType>, Vec<f32>),
    Double(ColumnReaderImpl<parquet::data_type::DoubleType>, Vec<f64>),
    Bytes(ColumnReaderImpl<parquet::data_type::ByteArrayType>, Vec<ByteArray>),
    Fixed(ColumnReaderImpl<parquet::data_type::FixedLenByteArrayType>, Vec<FixedLenByteArray>),
}

/// A column that is read.
pub(super) struct Column {
    kind: Kind,
    values: Values,
    /// For a column with absent values: 1 where a row has one.
    levels: Option<Vec<i16>>,
    /// Rows passed, the current one included.
    rows: usize,
    /// Values passed, the current one included.
    passed: usize,
    present: bool,
}

impl Column {
    /// A column of one row group; `nullable` says that rows may lack a value.
    pub(super) fn new(reader: ColumnReader, kind: Kind, nullable: bool) -> Column {
        let values = match reader {
            ColumnReader::BoolColumnReader(reader) => Values::Bool(reader, Vec::new()),
            ColumnReader::Int32ColumnReader(reader) => Values::Int32(reader, Vec::new()),
            ColumnReader::Int64ColumnReader(reader) => Values::Int64(reader, Vec::new()),
            ColumnReader::Int96ColumnReader(reader) => Values::Int96(reader, Vec::new()),
            ColumnReader::FloatColumnReader(reader) => Values::Float(reader, Vec::new()),
            ColumnReader::DoubleColumnReader(reader) => Values::Double(reader, Vec::new()),
            ColumnReader::ByteArrayColumnReader(reader) => Values::Bytes(reader, Vec::new()),
            ColumnReader::FixedLenByteArrayColumnReader(reader) => Values::Fixed(reader, Vec::new()),
        };
        Column { kind, values, levels: nullable.then(Vec::new), rows: 0, passed: 0, present: false }
    }

    /// Replaces what is in memory by the next `rows` rows; how many there were.
    pub(super) fn fill(&mut self, rows: usize) -> Result<usize, ParquetError> {
        (self.rows, self.passed) = (0, 0);
        let levels = &mut self.levels;
        match &mut self.values {
            Values::Bool(reader, values) => read(reader, rows, levels, values),
            Values::Int32(reader, values) => read(reader, rows, levels, values),
            Values::Int64(reader, values) => read(reader, rows, levels, values),
            Values::Int96(reader, values) => read(reader, rows, levels, values),
            Values::Float(reader, values) => read(reader, rows, levels, values),
            Values::Double(reader, values) => read(reader, rows, levels, values),
            Values::Bytes(reader, values) => read(reader, rows, levels, values),
            Values::Fixed(reader, values) => read(reader, rows, levels, values),
        }
    }

    /// Moves to the next row.
    pub(super) fn advance(&mut self) {
        self.present =
            self.levels.as_ref().is_none_or(|levels| levels.get(self.rows).is_some_and(|&level| level > 0));
        self.rows += 1;
        self.passed += usize::from(self.present);
    }

    /// The current row's value.
    pub(super) fn cell(&self) -> Cell<'_> {
        if !self.present {
            return Cell::Null;
        }
        let at = self.passed.wrapping_sub(1);
        let found = match &self.values {
            Values::Bool(_, values) => values.get(at).map(|value| Cell::Bool(*value)),
            Values::Int32(_, values) => values.get(at).map(|value| self.whole(i64::from(*value))),
            Values::Int64(_, values) => values.get(at).map(|value| self.whole(*value)),
            Values::Int96(_, values) => {
                values.get(at).map(|value| Cell::Instant { value: value.to_nanos(), digits: 9 })
            }
            Values::Float(_, values) => values.get(at).map(|value| Cell::Double(f64::from(*value))),
            Values::Double(_, values) => values.get(at).map(|value| Cell::Double(*value)),
            Values::Bytes(_, values) => values.get(at).map(|value| self.bytes(value.data())),
            Values::Fixed(_, values) => values.get(at).map(|value| self.bytes(value.data())),
        };
        found.unwrap_or(Cell::Null)
    }

    fn whole(&self, value: i64) -> Cell<'_> {
        match self.kind {
            Kind::Unsigned32 => Cell::Int(i64::from(value as u32)),
            Kind::Unsigned64 if value < 0 => Cell::Large(value as u64),
            Kind::Instant { digits } => Cell::Instant { value, digits },
            Kind::Date => Cell::Date(value),
            Kind::Decimal { scale } => Cell::decimal(i128::from(value), scale),
            _ => Cell::Int(value),
        }
    }

    fn bytes<'a>(&self, bytes: &'a [u8]) -> Cell<'a> {
        match self.kind {
            Kind::Uuid => match <[u8; 16]>::try_from(bytes) {
                Ok(bytes) => Cell::Owned(uuid(bytes)),
                Err(_) => Cell::Text(bytes),
            },
            Kind::Decimal { scale } => Cell::decimal(big_endian(bytes), scale),
            _ => Cell::Text(bytes),
        }
    }
}

fn read<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    levels: &mut Option<Vec<i16>>,
    values: &mut Vec<T::T>,
) -> Result<usize, ParquetError> {
    values.clear();
    if let Some(levels) = levels {
        levels.clear();
    }
    let mut read = 0;
    while read < rows {
        let (more, ..) = reader.read_records(rows - read, levels.as_mut(), None, values)?;
        if more == 0 {
            break;
        }
        read += more;
    }
    Ok(read)
}

/// A signed number of up to 16 bytes; of longer ones the last 16.
fn big_endian(bytes: &[u8]) -> i128 {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let start = if negative { -1 } else { 0 };
    bytes.iter().fold(start, |value: i128, &byte| (value << 8) | i128::from(byte))
}

fn uuid(bytes: [u8; 16]) -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(bytes));
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_bytes_are_numbers_and_ids() {
        assert_eq!(big_endian(&[0xff, 0xfe]), -2);
        assert_eq!(big_endian(&[0x01, 0x00]), 256);
        assert_eq!(big_endian(&[]), 0);
        assert_eq!(uuid([0xab; 16]), "abababab-abab-abab-abab-abababababab");
    }
}
