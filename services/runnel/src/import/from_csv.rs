//! RFC 4180: a header, commas, quotes, CR LF or LF. Cells are borrowed from the window; only cells with doubled quotes are copied.

use runnel_model::limits;

use super::{
    collect::Collector,
    encode::{RequestWriter, Value},
    fault::{FaultCause, RowFault},
    instant,
    layout::{Layout, Mapping},
    read::Halt,
    records::{RECORD_BYTES, Window, shortened, without_line_end},
    scan::find,
    typed::{check_text, check_time, of_text},
};

mod split;

use split::{Split, Splitter};

/// Reads a file to its end.
pub(super) fn read(mut window: Window, mapping: &Mapping, rows: &mut Collector<'_>) -> Result<Layout, Halt> {
    let mut splitter = Splitter::default();
    let mut line = 1;
    let layout = loop {
        match splitter.split(window.unread(), window.ended()) {
            Split::Record { length, lines, .. } => {
                let record = without_line_end(&window.unread()[..length]);
                if !record.is_empty() {
                    let layout = header(&splitter, record, mapping).map_err(|cause| Halt::at(line, cause))?;
                    window.consume(length);
                    line += lines;
                    break layout;
                }
                window.consume(length);
                line += lines;
            }
            Split::Incomplete if window.unread().len() <= RECORD_BYTES => window.fill()?,
            Split::Incomplete | Split::Unclosed => {
                let what = "it is too long, or a quote is never closed".to_owned();
                return Err(Halt::at(line, FaultCause::Header(what)));
            }
            Split::End => return Err(Halt::Fault { line: None, cause: FaultCause::Empty }),
        }
    };
    let columns = splitter.len();
    loop {
        match splitter.split(window.unread(), window.ended()) {
            Split::Record { length, lines, stray } => {
                let whole = &window.unread()[..length];
                let record = without_line_end(whole);
                if record.is_empty() {
                    window.consume(length);
                    line += lines;
                    continue;
                }
                if stray || splitter.len() != columns {
                    let ragged = || RowFault::ragged(splitter.len(), columns);
                    let fault = if stray { RowFault::quote_open() } else { ragged() };
                    // A stray quote swallows the rows after it. Only the first line is given up, so that these are read again.
                    let first = first_line(whole);
                    rows.rejected(line, fault, without_line_end(first))?;
                    let used = first.len();
                    window.consume(used);
                    line += 1;
                    continue;
                }
                let row = Row { record, splitter: &splitter, mapping, layout: &layout };
                match row.write(&mut rows.writer) {
                    Ok(()) => rows.accepted(line, Some(record))?,
                    Err(fault) => rows.rejected(line, fault, record)?,
                }
                window.consume(length);
                line += lines;
            }
            Split::Incomplete if window.unread().len() <= RECORD_BYTES => {
                window.fill().map_err(|cause| Halt::at(line, cause))?;
            }
            Split::Incomplete | Split::Unclosed => {
                let first = first_line(window.unread());
                if first.ends_with(b"\n") || window.ended() {
                    rows.rejected(line, RowFault::quote_open(), without_line_end(first))?;
                    let used = first.len();
                    window.consume(used);
                } else {
                    rows.rejected(line, RowFault::row_too_long(), &shortened(window.unread()))?;
                    window.skip_line().map_err(|cause| Halt::at(line, cause))?;
                }
                line += 1;
            }
            Split::End => break,
        }
    }
    Ok(layout)
}

fn first_line(bytes: &[u8]) -> &[u8] {
    &bytes[..find(bytes, 0, b'\n').map_or(bytes.len(), |at| at + 1)]
}

fn header(splitter: &Splitter, record: &[u8], mapping: &Mapping) -> Result<Layout, FaultCause> {
    let name = |at| {
        let cell = splitter.cell(record, at);
        match std::str::from_utf8(cell) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(FaultCause::Header(format!("column {} is not UTF-8", at + 1))),
        }
    };
    let names: Vec<String> = (0..splitter.len()).map(name).collect::<Result<_, _>>()?;
    Layout::new(&names, mapping)
}

struct Row<'a> {
    record: &'a [u8],
    splitter: &'a Splitter,
    mapping: &'a Mapping,
    layout: &'a Layout,
}

impl<'a> Row<'a> {
    /// Writes the row as an event. A fault leaves nothing behind.
    #[inline]
    fn write(&self, writer: &mut RequestWriter) -> Result<(), RowFault> {
        let Row { record, mapping, layout, .. } = *self;
        // One look at the whole row proves every cell, because what parts cells is ASCII. Only when it fails are cells looked at one by one.
        let clean = find(record, 0, 0).is_none() && std::str::from_utf8(record).is_ok();
        writer.begin();
        if let Some(at) = layout.event_id {
            let cell = self.cell(at);
            if !cell.is_empty() {
                writer.event_id(self.id("event_id", cell, clean)?);
            }
        }
        writer.visitor_id(self.required(
            "visitor",
            "visitor_id",
            layout.visitor,
            &mapping.visitor.column,
            clean,
        )?);
        let time = self.cell(layout.time);
        match instant::parse(time, mapping.unit) {
            Some(time_ms) => writer.time_ms(check_time(time_ms)?),
            None if time.is_empty() => return Err(RowFault::missing("time", &mapping.time.column)),
            None => return Err(RowFault::time(&mapping.time.column, &String::from_utf8_lossy(time))),
        }
        writer.name(self.required("name", "name", layout.name, &mapping.name.column, clean)?);
        if let Some(at) = layout.sequence {
            let cell = self.cell(at);
            if !cell.is_empty() {
                let text = String::from_utf8_lossy(cell);
                let number = text.parse().map_err(|_| RowFault::sequence(&mapping.sequence.column, &text))?;
                writer.sequence(number);
            }
        }
        for column in &layout.properties {
            let cell = self.cell(column.at);
            if cell.is_empty() {
                continue;
            }
            if clean && column.declared.is_none() && cell.len() <= limits::VALUE_BYTES {
                writer.property(&column.key, Value::Text(cell));
                continue;
            }
            let text = check_text(format_args!("properties[{}]", column.name), cell, limits::VALUE_BYTES)?;
            writer.property(&column.key, of_text(&column.name, text, column.declared)?);
        }
        writer.commit()
    }

    #[inline(always)]
    fn cell(&self, at: usize) -> &'a [u8] {
        self.splitter.cell(self.record, at)
    }

    #[inline]
    fn required(
        &self,
        what: &str,
        field: &str,
        at: usize,
        column: &str,
        clean: bool,
    ) -> Result<&'a [u8], RowFault> {
        let cell = self.cell(at);
        if cell.is_empty() { Err(RowFault::missing(what, column)) } else { self.id(field, cell, clean) }
    }

    #[inline]
    fn id(&self, field: &str, cell: &'a [u8], clean: bool) -> Result<&'a [u8], RowFault> {
        if clean && cell.len() <= limits::ID_BYTES {
            return Ok(cell);
        }
        check_text(field, cell, limits::ID_BYTES).map(str::as_bytes)
    }
}
