//! Reads all files, one after the other.

use std::path::Path;

use super::{
    args::{Format, ImportArgs},
    collect::{Collector, Portion, Stopped},
    exports::{Exports, Mapped},
    fault::{FaultCause, FileFault},
    from_csv, from_ndjson,
    from_parquet::{self, Source},
    input,
    layout::Mapping,
    progress::Meter,
};

/// Most bytes of Parquet in memory.
const PARQUET_BYTES: u64 = 1 << 30;
/// The first bytes of Parquet.
const PARQUET: &[u8] = b"PAR1";
/// The first bytes of text that some programs put there.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why reading a file ended before its end.
#[derive(Debug)]
pub(super) enum Halt {
    /// It is at fault.
    Fault {
        /// Where.
        line: Option<u64>,
        /// Why.
        cause: FaultCause,
    },
    /// Nobody takes what is read.
    Stopped,
}

impl Halt {
    pub(super) fn at(line: u64, cause: FaultCause) -> Halt {
        Halt::Fault { line: Some(line), cause }
    }
}

impl From<FaultCause> for Halt {
    fn from(cause: FaultCause) -> Halt {
        Halt::Fault { line: None, cause }
    }
}

impl From<Stopped> for Halt {
    fn from(_: Stopped) -> Halt {
        Halt::Stopped
    }
}

/// What reading brought beside portions.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Files that could not be read, or not to their end.
    pub(super) faults: Vec<FileFault>,
    /// What a user should know.
    pub(super) notes: Vec<String>,
    /// What became of the fields of another product's export.
    pub(super) mapping: Vec<Mapped>,
    /// Properties in it that were left out.
    pub(super) left_out: u64,
}

/// Reads and encodes all files without sending anything; hands portions to `out`, which says whether it takes more. Returns the faults of whole files.
pub fn read_files(args: &ImportArgs, out: &mut dyn FnMut(Portion) -> bool) -> Vec<FileFault> {
    read(args, &Meter::default(), out).faults
}

pub(super) fn read(args: &ImportArgs, meter: &Meter, out: &mut dyn FnMut(Portion) -> bool) -> Report {
    let mapping = Mapping::new(args);
    let mut report = Report::default();
    let mut exports = Exports::new(args, &mapping);
    report.notes.extend(exports.as_ref().and_then(Exports::note));
    let mut rows = Collector::new(args.batch as usize, args.dry_run, out);
    let mut taken = true;
    for (index, path) in args.files.iter().enumerate() {
        rows.start_file(index);
        let file = name(path);
        let outcome = one(path, args.format, &mapping, &mut exports, meter, &mut rows);
        // What was read before a fault is imported.
        let flushed = rows.flush();
        match outcome {
            Ok(true) => {}
            Ok(false) => {
                let lack = match &exports {
                    Some(exports) => format!("is an export of {}, whose events have no ids", exports.name()),
                    None => format!("has no column {:?}", mapping.event_id.column),
                };
                report.notes.push(format!(
                    "{file} {lack}: events are told apart by their whole content, and equal rows count once"
                ));
            }
            Err(Halt::Fault { line, cause }) => report.faults.push(FileFault { file, line, cause }),
            Err(Halt::Stopped) => taken = false,
        }
        taken &= flushed.is_ok();
        if !taken {
            break;
        }
    }
    if taken {
        // Nothing comes after it, so it does not matter whether it is taken.
        let _ = rows.flush_pairs();
    }
    if let Some(exports) = exports {
        (report.mapping, report.left_out) = (exports.mapped(), exports.left_out());
    }
    report
}

/// A file as it is shown.
pub(super) fn name(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() }
}

/// Reads one file; whether its events have ids, as far as its columns tell.
fn one(
    path: &Path,
    format: Option<Format>,
    mapping: &Mapping,
    exports: &mut Option<Exports<'_>>,
    meter: &Meter,
    rows: &mut Collector<'_>,
) -> Result<bool, Halt> {
    let mut input = input::open(path, meter)?;
    let head = input.window.look_ahead(64)?;
    let is_parquet = head.starts_with(PARQUET);
    if head.is_empty() {
        return Err(FaultCause::Empty.into());
    }
    let text = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head);
    let is_object = text.trim_ascii_start().starts_with(b"{");
    let (mark, utf16) = (head.len() - text.len(), matches!(head, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]));
    let told = format.or_else(|| Format::of_name(&path.to_string_lossy()));
    let format = told.unwrap_or(match (is_parquet, is_object) {
        (true, _) => Format::Parquet,
        (false, true) => Format::Ndjson,
        (false, false) => Format::Csv,
    });
    if format != Format::Parquet {
        if is_parquet {
            return Err(FaultCause::IsParquet.into());
        }
        if utf16 {
            return Err(FaultCause::Utf16.into());
        }
        input.window.consume(mark);
    }
    match (exports, format) {
        (Some(exports), _) => exports.read(input.window, rows),
        (None, Format::Csv) => {
            from_csv::read(input.window, mapping, rows).map(|layout| layout.event_id.is_some())
        }
        (None, Format::Ndjson) => from_ndjson::read(input.window, mapping, rows).map(|()| true),
        // Of all formats that are no other product's only Parquet is left.
        (None, _) => {
            let source = match input.plain {
                Some(path) => Source::File(std::fs::File::open(path).map_err(FaultCause::Open)?),
                None => {
                    let most = FaultCause::TooLarge { most: PARQUET_BYTES };
                    Source::Memory(input.window.rest(PARQUET_BYTES)?.ok_or(most)?.into())
                }
            };
            from_parquet::read(source, mapping, meter, rows).map(|layout| layout.event_id.is_some())
        }
    }
}
