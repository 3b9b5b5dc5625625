//! Text of one row a line: finds the lines, leaves out those that are empty, and rejects those that are too long.

use super::{
    collect::{Collector, Stopped},
    fault::{FaultCause, RowFault},
    read::Halt,
    records::{RECORD_BYTES, Window, shortened, without_line_end},
    scan::find,
};

/// What is done with a line: its text without line end, and its number from 1.
type Take<'t> = dyn FnMut(&[u8], u64, &mut Collector<'_>) -> Result<(), Stopped> + 't;

/// Hands on every line to the end of the file.
pub(super) fn read(mut window: Window, rows: &mut Collector<'_>, take: &mut Take<'_>) -> Result<(), Halt> {
    let (mut line, mut looked, mut events) = (1, 0, false);
    if window.look_ahead(1_024)?.trim_ascii_start().starts_with(b"[") {
        return Err(Halt::at(line, FaultCause::JsonArray));
    }
    loop {
        let Some(length) = find(window.unread(), looked, b'\n').map(|at| at + 1) else {
            looked = window.unread().len();
            if looked > RECORD_BYTES {
                rows.rejected(line, RowFault::row_too_long(), &shortened(window.unread()))?;
                window.skip_line().map_err(|cause| Halt::at(line, cause))?;
                (line, looked) = (line + 1, 0);
            } else if !window.ended() {
                window.fill().map_err(|cause| Halt::at(line, cause))?;
            } else if looked == 0 {
                break;
            } else {
                events |= one(window.unread(), line, rows, take)?;
                window.consume(looked);
                looked = 0;
            }
            continue;
        };
        events |= one(&window.unread()[..length], line, rows, take)?;
        window.consume(length);
        (line, looked) = (line + 1, 0);
    }
    if events { Ok(()) } else { Err(FaultCause::Empty.into()) }
}

/// Hands on one line; whether it had anything on it.
fn one(line: &[u8], number: u64, rows: &mut Collector<'_>, take: &mut Take<'_>) -> Result<bool, Stopped> {
    let line = without_line_end(line);
    if line.trim_ascii().is_empty() {
        return Ok(false);
    }
    take(line, number, rows).map(|()| true)
}
