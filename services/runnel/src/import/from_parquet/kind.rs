//! What a Parquet column's values mean.

use parquet::{
    basic::{ConvertedType, LogicalType, TimeUnit, Type},
    schema::types::ColumnDescriptor,
};

/// The meaning of a column's values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    /// Signed, of any width.
    Int,
    /// Unsigned 32 bits, stored in signed ones.
    Unsigned32,
    /// Unsigned 64 bits, stored in signed ones.
    Unsigned64,
    Double,
    Text,
    /// Units since 1970, of which there are 10^digits in a second.
    Instant {
        digits: u32,
    },
    /// Days since 1970.
    Date,
    /// A whole number divided by 10^scale.
    Decimal {
        scale: u32,
    },
    Uuid,
    /// What no event has, by name.
    Unfit(String),
}

impl Kind {
    /// The meaning of a flat column.
    pub(super) fn of(column: &ColumnDescriptor) -> Kind {
        let (physical, converted) = (column.physical_type(), column.converted_type());
        let unfit = || {
            let logical = column.logical_type_ref().map(|logical| format!(" ({logical:?})"));
            Kind::Unfit(format!("{physical}{}", logical.unwrap_or_default()))
        };
        let scale = || u32::try_from(column.type_scale()).unwrap_or(0);
        match (physical, column.logical_type_ref(), converted) {
            (Type::BOOLEAN, ..) => Kind::Bool,
            (Type::FLOAT | Type::DOUBLE, ..) => Kind::Double,
            (Type::INT96, ..) => Kind::Instant { digits: 9 },
            (_, Some(LogicalType::Decimal(_)), _) | (_, _, ConvertedType::DECIMAL) => {
                Kind::Decimal { scale: scale() }
            }
            (Type::INT64, Some(LogicalType::Timestamp(stamp)), _) => match stamp.unit {
                TimeUnit::MILLIS => Kind::Instant { digits: 3 },
                TimeUnit::MICROS => Kind::Instant { digits: 6 },
                TimeUnit::NANOS => Kind::Instant { digits: 9 },
            },
            (Type::INT64, _, ConvertedType::TIMESTAMP_MILLIS) => Kind::Instant { digits: 3 },
            (Type::INT64, _, ConvertedType::TIMESTAMP_MICROS) => Kind::Instant { digits: 6 },
            (Type::INT32, Some(LogicalType::Date), _) | (Type::INT32, _, ConvertedType::DATE) => Kind::Date,
            (_, Some(LogicalType::Time(_)), _) => unfit(),
            (_, _, ConvertedType::TIME_MILLIS | ConvertedType::TIME_MICROS) => unfit(),
            (Type::INT32, Some(LogicalType::Integer(int)), _) if !int.is_signed => Kind::Unsigned32,
            (Type::INT64, Some(LogicalType::Integer(int)), _) if !int.is_signed => Kind::Unsigned64,
            (Type::INT32, _, ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32) => {
                Kind::Unsigned32
            }
            (Type::INT64, _, ConvertedType::UINT_64) => Kind::Unsigned64,
            (Type::INT32 | Type::INT64, ..) => Kind::Int,
            (
                Type::BYTE_ARRAY,
                None | Some(LogicalType::String | LogicalType::Enum | LogicalType::Json),
                other,
            ) => {
                if other == ConvertedType::BSON {
                    unfit()
                } else {
                    Kind::Text
                }
            }
            (Type::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Uuid), _) if column.type_length() == 16 => {
                Kind::Uuid
            }
            _ => unfit(),
        }
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self, Kind::Text | Kind::Uuid)
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Kind::Int | Kind::Unsigned32 | Kind::Unsigned64)
    }

    pub(super) fn is_instant(&self) -> bool {
        matches!(self, Kind::Instant { .. })
    }

    /// The name that a message shows.
    pub(super) fn name(&self) -> String {
        match self {
            Kind::Bool => "boolean".to_owned(),
            Kind::Int | Kind::Unsigned32 | Kind::Unsigned64 => "integer".to_owned(),
            Kind::Double => "floating point".to_owned(),
            Kind::Text => "text".to_owned(),
            Kind::Instant { .. } => "timestamp".to_owned(),
            Kind::Date => "date".to_owned(),
            Kind::Decimal { .. } => "decimal".to_owned(),
            Kind::Uuid => "UUID".to_owned(),
            Kind::Unfit(name) => name.clone(),
        }
    }
}
