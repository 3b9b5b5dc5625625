//! What can be wrong with a row, and with a file.

use std::{fmt, io};

use runnel_contracts::refusal::Reason;
use runnel_model::limits;

/// A fault of one row: the row is rejected, the import goes on. Where the server has the same reason it has the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RowFault {
    /// Stable upper-case name.
    pub(super) reason: &'static str,
    /// A sentence.
    pub(super) message: String,
}

impl RowFault {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> RowFault {
        RowFault { reason, message: message.into() }
    }

    pub(super) fn missing(what: &str, column: &str) -> RowFault {
        RowFault::new(
            Reason::FieldMissing.name(),
            format!("The {what} is missing: the column {column:?} is empty or absent."),
        )
    }

    pub(super) fn too_long(field: impl fmt::Display, length: usize, most: usize) -> RowFault {
        RowFault::new(
            Reason::TextTooLong.name(),
            format!("{field} has at most {most} bytes; it has {length}."),
        )
    }

    pub(super) fn not_utf8(field: impl fmt::Display, valid: usize) -> RowFault {
        RowFault::new(Reason::TextNotUtf8.name(), format!("{field} is not UTF-8 from byte {valid} on."))
    }

    pub(super) fn nul(field: impl fmt::Display) -> RowFault {
        RowFault::new(Reason::TextHasNul.name(), format!("{field} holds a NUL character."))
    }

    pub(super) fn time(column: &str, text: &str) -> RowFault {
        let shown: String = text.chars().take(60).collect();
        let form = "write RFC 3339 with an offset, such as 2017-08-01T07:00:40.000Z, or a whole number in --time-unit";
        RowFault::new("TIME_MALFORMED", format!("{column:?} is not a time: {shown:?}; {form}."))
    }

    pub(super) fn time_out_of_range(time_ms: i64) -> RowFault {
        let text = format!(
            "A time lies in the years 1 to 9999; this one is {time_ms} ms since 1970; check --time-unit."
        );
        RowFault::new(Reason::EventTimeOutOfRange.name(), text)
    }

    pub(super) fn sequence(column: &str, text: &str) -> RowFault {
        let shown: String = text.chars().take(60).collect();
        RowFault::new(
            "SEQUENCE_MALFORMED",
            format!("{column:?} is not a whole number of 64 bits: {shown:?}."),
        )
    }

    pub(super) fn ragged(found: usize, header: usize) -> RowFault {
        RowFault::new("ROW_RAGGED", format!("The row has {found} fields; the header has {header}."))
    }

    pub(super) fn quote_open() -> RowFault {
        RowFault::new(
            "QUOTE_UNCLOSED",
            "A quote is opened and not closed before a comma or the end of the line.",
        )
    }

    pub(super) fn row_too_long() -> RowFault {
        let text = format!("A row has at most {} bytes; this one is longer.", limits::MESSAGE_BYTES);
        RowFault::new("ROW_TOO_LONG", text)
    }

    pub(super) fn not_finite(name: &str) -> RowFault {
        RowFault::new(
            Reason::NumberNotFinite.name(),
            format!("The property {name:?} is infinite, too large or not a number."),
        )
    }

    pub(super) fn value_type(name: &str, text: &str, wanted: &str) -> RowFault {
        let shown: String = text.chars().take(60).collect();
        RowFault::new(
            "VALUE_TYPE",
            format!("The property {name:?} is declared as {wanted}; {shown:?} is not one."),
        )
    }

    pub(super) fn nested(name: &str) -> RowFault {
        let text = format!(
            "The property {name:?} is an object or an array; properties are flat. Flatten it or give --ignore {name}."
        );
        RowFault::new("VALUE_NESTED", text)
    }

    pub(super) fn json(at: usize, what: &str) -> RowFault {
        RowFault::new("JSON_MALFORMED", format!("The line is not a JSON object: {what} at byte {}.", at + 1))
    }

    pub(super) fn event_too_large(length: usize) -> RowFault {
        let text = format!("An event has at most {} bytes; this one has {length}.", limits::EVENT_BYTES);
        RowFault::new(Reason::EventTooLarge.name(), text)
    }

    pub(super) fn too_many_properties(count: usize) -> RowFault {
        let text = format!("An event has at most {} properties; this one has {count}.", limits::PROPERTIES);
        RowFault::new(Reason::PropertiesTooMany.name(), text)
    }
}

/// A file cannot be read, or not to its end. What came before was imported.
#[derive(Debug)]
pub struct FileFault {
    /// The file as it was named.
    pub file: String,
    /// The line or row where reading stopped, from 1, where one is to blame.
    pub line: Option<u64>,
    /// What is wrong, and what to do.
    pub cause: FaultCause,
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}, line {line}: {}", self.file, self.cause),
            None => write!(f, "{}: {}", self.file, self.cause),
        }
    }
}

impl std::error::Error for FileFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// What is wrong with a file as a whole.
#[derive(Debug, thiserror::Error)]
pub enum FaultCause {
    /// It cannot be opened.
    #[error("the file cannot be opened ({0}); check its name and permissions")]
    Open(#[source] io::Error),
    /// It cannot be read on.
    #[error(
        "the file cannot be read further ({0}); rows before this are imported; repeat the import when it can be read"
    )]
    Read(#[source] io::Error),
    /// The gzip stream ends early.
    #[error(
        "the gzip stream ends too early, the file is truncated; rows before this are imported; fetch the whole file and import it again, nothing counts twice"
    )]
    TruncatedGzip,
    /// The gzip stream is damaged.
    #[error(
        "the gzip stream is damaged ({0}); rows before this are imported; fetch the file again and import it again, nothing counts twice"
    )]
    DamagedGzip(#[source] io::Error),
    /// There is nothing in it.
    #[error("the file is empty; a CSV file starts with a header, every other format with an event")]
    Empty,
    /// It is UTF-16.
    #[error("the file is UTF-16; convert it to UTF-8, for example with iconv -f UTF-16 -t UTF-8")]
    Utf16,
    /// The header lacks columns.
    #[error("the header has no column {missing}; columns found: {found}")]
    ColumnsMissing {
        /// Each missing column and the flag that names another.
        missing: String,
        /// What there is.
        found: String,
    },
    /// The header cannot be read.
    #[error("the header cannot be read: {0}; the first line of a CSV file names its columns in UTF-8")]
    Header(String),
    /// Two columns have one name.
    #[error("the column {0:?} appears twice in the header; rename one of them")]
    ColumnTwice(String),
    /// A column's name cannot be a property's name.
    #[error("column {at} of the header has {what}; rename it, or leave it out with --ignore {name:?}")]
    ColumnName {
        /// Its position, from 1.
        at: usize,
        /// Its name.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// A type is declared for what does not exist.
    #[error("--property-type names {name:?}, which is not a property of this file; properties: {found}")]
    PropertyUnknown {
        /// The name.
        name: String,
        /// What there is.
        found: String,
    },
    /// It is a JSON array.
    #[error("the file is one JSON array; one object a line is needed: convert it with jq -c '.[]'")]
    JsonArray,
    /// It is Parquet under another name.
    #[error("the file is Parquet; give --format parquet")]
    IsParquet,
    /// It is not Parquet.
    #[error(
        "the file is not Parquet, or is damaged or truncated ({0}); give --format, or fetch the file again"
    )]
    NotParquet(#[source] parquet::errors::ParquetError),
    /// A Parquet column has a type that no property has.
    #[error(
        "the column {name:?} has the type {kind}, which {purpose} cannot have; leave it out with --ignore {name}, or convert it"
    )]
    ColumnType {
        /// The column.
        name: String,
        /// Its type.
        kind: String,
        /// What it is used for.
        purpose: &'static str,
    },
    /// Compressed or piped Parquet is too large.
    #[error(
        "Parquet that is piped or compressed with gzip is held in memory, at most {most} bytes; unpack the file and import that"
    )]
    TooLarge {
        /// The limit.
        most: u64,
    },
}

impl FaultCause {
    /// The cause of a failed read.
    pub(super) fn of_read(fault: io::Error, gzip: bool) -> FaultCause {
        match fault.kind() {
            io::ErrorKind::UnexpectedEof if gzip => FaultCause::TruncatedGzip,
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData if gzip => {
                FaultCause::DamagedGzip(fault)
            }
            _ => FaultCause::Read(fault),
        }
    }
}
