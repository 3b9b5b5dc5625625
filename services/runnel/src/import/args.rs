//! What can be said on the command line.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, ValueEnum};
use runnel_model::limits;

/// Which events to read, and what their columns mean.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// Files to import, plain or gzip, one after the other; `-` reads the standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Format of all files; otherwise told by each file's name, or else by its content. Exports of other products have to be named; --dry-run shows what becomes of their fields
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Column that says who did it [default: visitor_id]
    #[arg(long, value_name = "COLUMN")]
    pub visitor: Option<String>,
    /// Column that says when it happened: RFC 3339 with an offset, or a whole number in --time-unit [default: occurred_at]
    #[arg(long, value_name = "COLUMN")]
    pub time: Option<String>,
    /// Column that says what happened [default: name]
    #[arg(long, value_name = "COLUMN")]
    pub name: Option<String>,
    /// Column that identifies the event; without one the content does [default: event_id, if there is one]
    #[arg(long, value_name = "COLUMN")]
    pub event_id: Option<String>,
    /// Column with a whole number that orders events of one millisecond [default: sequence, if there is one]
    #[arg(long, value_name = "COLUMN")]
    pub sequence: Option<String>,
    /// Unit of times that are whole numbers since 1970-01-01T00:00:00Z
    #[arg(long, value_enum, value_name = "UNIT", default_value_t = TimeUnit::Ms)]
    pub time_unit: TimeUnit,
    /// Time zone of a Mixpanel project made before 2023, whose exports count seconds on its clocks, for example US/Pacific [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub project_time_zone: Option<String>,
    /// Type of a property, for example price=double; CSV columns are strings otherwise
    #[arg(long = "property-type", value_name = "NAME=TYPE")]
    pub property_types: Vec<TypedProperty>,
    /// Column to leave out; may be given several times
    #[arg(long, value_name = "COLUMN")]
    pub ignore: Vec<String>,
    /// Most events of one request
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=limits::BATCH_EVENTS as i64))]
    pub batch: u32,
    /// Requests that may be under way at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub in_flight: u32,
    /// Where rejected rows go [default: FILE.rejects beside each file; made only when a row is rejected]
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,
    /// Check everything, on the server too, and store nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Exit with 1 when any row was rejected; otherwise only faults of whole files do
    #[arg(long)]
    pub strict: bool,
}

impl ImportArgs {
    /// Arguments with every default.
    #[must_use]
    pub fn new(files: Vec<PathBuf>) -> ImportArgs {
        ImportArgs {
            files,
            format: None,
            visitor: None,
            time: None,
            name: None,
            event_id: None,
            sequence: None,
            time_unit: TimeUnit::Ms,
            project_time_zone: None,
            property_types: Vec::new(),
            ignore: Vec::new(),
            batch: 5_000,
            in_flight: 8,
            rejects: None,
            dry_run: false,
            strict: false,
        }
    }
}

/// How events are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// RFC 4180 with a header
    Csv,
    /// One JSON object a line
    Ndjson,
    /// Parquet with flat columns
    Parquet,
    /// Google Analytics 4: a table events_* of its BigQuery export, as newline-delimited JSON
    Ga4,
    /// Mixpanel: events of its raw export API
    Mixpanel,
    /// Kissmetrics: files of its data export
    Kissmetrics,
    /// PostHog: events of a batch or file export as JSONLines
    Posthog,
    /// Segment: files that its S3 destination wrote
    Segment,
}

impl Format {
    /// The format that a file's name tells: the ending, after an ending `.gz` is taken off.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Format> {
        let lower = name.to_ascii_lowercase();
        let stem = lower.strip_suffix(".gz").unwrap_or(&lower);
        match stem.rsplit_once('.')?.1 {
            "csv" => Some(Format::Csv),
            "ndjson" | "jsonl" | "json" => Some(Format::Ndjson),
            "parquet" | "pq" => Some(Format::Parquet),
            _ => None,
        }
    }
}

/// Unit of a time that is a whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TimeUnit {
    /// Seconds
    S,
    /// Milliseconds
    Ms,
    /// Microseconds
    Us,
}

/// Type of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyType {
    /// Text.
    String,
    /// A whole number.
    Int,
    /// A finite number.
    Double,
    /// True or false.
    Bool,
}

impl PropertyType {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PropertyType::String => "string",
            PropertyType::Int => "int",
            PropertyType::Double => "double",
            PropertyType::Bool => "bool",
        }
    }
}

/// A property and its type, as `NAME=TYPE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedProperty {
    /// The property.
    pub name: String,
    /// Its type.
    pub property_type: PropertyType,
}

/// The text is not `NAME=TYPE`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write NAME=TYPE with one of the types string, int, double, bool, for example price=double")]
pub struct TypedPropertyError;

impl FromStr for TypedProperty {
    type Err = TypedPropertyError;

    fn from_str(text: &str) -> Result<TypedProperty, TypedPropertyError> {
        let (name, type_name) = text.rsplit_once('=').ok_or(TypedPropertyError)?;
        let all = [PropertyType::String, PropertyType::Int, PropertyType::Double, PropertyType::Bool];
        let property_type =
            all.into_iter().find(|known| known.name() == type_name).ok_or(TypedPropertyError)?;
        if name.is_empty() {
            return Err(TypedPropertyError);
        }
        Ok(TypedProperty { name: name.to_owned(), property_type })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        import: ImportArgs,
    }

    #[test]
    fn the_command_line_is_read() {
        let line = "x a.csv.gz - --visitor user --property-type price=double --property-type a=b=int --ignore b --batch 7";
        let read = Command::try_parse_from(line.split(' ')).unwrap_or_else(|fault| panic!("{fault}")).import;
        assert_eq!(read.files, [PathBuf::from("a.csv.gz"), PathBuf::from("-")]);
        assert_eq!((read.visitor.as_deref(), read.batch, read.in_flight), (Some("user"), 7, 8));
        assert_eq!(
            read.property_types[1],
            TypedProperty { name: "a=b".into(), property_type: PropertyType::Int }
        );
        for bad in [
            "x",
            "x a --batch 10001",
            "x a --batch 0",
            "x a --property-type price",
            "x a --property-type p=float",
        ] {
            assert!(Command::try_parse_from(bad.split(' ')).is_err(), "{bad}");
        }
    }

    #[test]
    fn products_are_formats() {
        for (name, format) in [
            ("ga4", Format::Ga4),
            ("mixpanel", Format::Mixpanel),
            ("kissmetrics", Format::Kissmetrics),
            ("posthog", Format::Posthog),
            ("segment", Format::Segment),
        ] {
            let line = ["x", "a.json", "--format", name];
            let read = Command::try_parse_from(line).unwrap_or_else(|fault| panic!("{fault}")).import;
            assert_eq!(read.format, Some(format), "{name}");
        }
    }

    #[test]
    fn names_tell_formats() {
        for (name, format) in [
            ("events.csv", Some(Format::Csv)),
            ("events.CSV.GZ", Some(Format::Csv)),
            ("a.jsonl.gz", Some(Format::Ndjson)),
            ("a.parquet", Some(Format::Parquet)),
            ("events.gz", None),
            ("-", None),
        ] {
            assert_eq!(Format::of_name(name), format, "{name}");
        }
    }
}
