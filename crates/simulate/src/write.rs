//! Files: CSV and NDJSON in the schema that `runnel import` expects by default.

use std::io;

use crate::text::{push_hex, push_padded, push_uint, push_value};
use crate::{Event, Property};

/// Bytes gathered before they are written.
const CHUNK: usize = 1 << 16;

/// Writes events as RFC 4180 CSV with a header: `event_id, visitor_id, occurred_at` (RFC 3339, milliseconds, UTC)`, name, sequence`, then the
/// properties in the order of [`Property::ALL`]. Empty means absent. Returns the number of rows. Memory does not grow with the events.
///
/// # Errors
/// `out` fails.
pub fn write_csv(out: &mut impl io::Write, events: impl IntoIterator<Item = Event>) -> io::Result<u64> {
    let mut lines = Lines::default();
    lines.bytes.extend_from_slice(b"event_id,visitor_id,occurred_at,name,sequence");
    for property in Property::ALL {
        lines.bytes.push(b',');
        lines.bytes.extend_from_slice(property.as_str().as_bytes());
    }
    lines.bytes.push(b'\n');
    for event in events {
        lines.identity(&event, [b"", b",", b",", b","]);
        lines.bytes.push(b',');
        if let Some(sequence) = event.sequence() {
            push_uint(&mut lines.bytes, u64::from(sequence));
        }
        let mut column = 0;
        for (property, value) in event.properties() {
            // Properties come in the order of the columns.
            for _ in column..=property as usize {
                lines.bytes.push(b',');
            }
            column = property as usize + 1;
            push_value(&mut lines.bytes, value);
        }
        for _ in column..Property::ALL.len() {
            lines.bytes.push(b',');
        }
        lines.end(out)?;
    }
    lines.finish(out)
}

/// Writes events as NDJSON, one flat object a line with the keys of [`write_csv`]; what is absent is left out. Returns the number of lines.
///
/// # Errors
/// `out` fails.
pub fn write_ndjson(out: &mut impl io::Write, events: impl IntoIterator<Item = Event>) -> io::Result<u64> {
    let mut lines = Lines::default();
    for event in events {
        lines.identity(
            &event,
            [b"{\"event_id\":\"", b"\",\"visitor_id\":\"", b"\",\"occurred_at\":\"", b"\",\"name\":\""],
        );
        lines.bytes.push(b'"');
        if let Some(sequence) = event.sequence() {
            lines.bytes.extend_from_slice(b",\"sequence\":");
            push_uint(&mut lines.bytes, u64::from(sequence));
        }
        for (property, value) in event.properties() {
            lines.bytes.extend_from_slice(b",\"");
            lines.bytes.extend_from_slice(property.as_str().as_bytes());
            lines.bytes.extend_from_slice(b"\":");
            let quote: &[u8] = if value.is_text() { b"\"" } else { b"" };
            lines.bytes.extend_from_slice(quote);
            push_value(&mut lines.bytes, value);
            lines.bytes.extend_from_slice(quote);
        }
        lines.bytes.push(b'}');
        lines.end(out)?;
    }
    lines.finish(out)
}

/// Lines not yet written.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    count: u64,
    /// The last day formatted, and how.
    day: i64,
    date: Vec<u8>,
}

impl Lines {
    /// The four columns that every event has, each after its own opening.
    fn identity(&mut self, event: &Event, opening: [&[u8]; 4]) {
        let bytes = &mut self.bytes;
        bytes.extend_from_slice(opening[0]);
        let id = event.event_id().0;
        push_hex(bytes, (id >> 96) as u64, 8);
        for shift in [80, 64, 48] {
            bytes.push(b'-');
            push_hex(bytes, (id >> shift) as u64 & 0xffff, 4);
        }
        bytes.push(b'-');
        push_hex(bytes, id as u64 & 0xffff_ffff_ffff, 12);
        bytes.extend_from_slice(opening[1]);
        bytes.extend_from_slice(b"v-");
        push_hex(bytes, event.visitor.0, 10);
        bytes.extend_from_slice(opening[2]);
        self.instant(event.time_ms);
        self.bytes.extend_from_slice(opening[3]);
        self.bytes.extend_from_slice(event.name.as_str().as_bytes());
    }

    fn instant(&mut self, time_ms: i64) {
        let (day, ms) = (time_ms.div_euclid(86_400_000), time_ms.rem_euclid(86_400_000) as u64);
        if self.date.is_empty() || day != self.day {
            let (year, month, of_month) = civil(day);
            self.day = day;
            self.date.clear();
            push_padded(&mut self.date, year, 4);
            self.date.push(b'-');
            push_padded(&mut self.date, month, 2);
            self.date.push(b'-');
            push_padded(&mut self.date, of_month, 2);
            self.date.push(b'T');
        }
        self.bytes.extend_from_slice(&self.date);
        push_padded(&mut self.bytes, ms / 3_600_000, 2);
        self.bytes.push(b':');
        push_padded(&mut self.bytes, ms / 60_000 % 60, 2);
        self.bytes.push(b':');
        push_padded(&mut self.bytes, ms / 1_000 % 60, 2);
        self.bytes.push(b'.');
        push_padded(&mut self.bytes, ms % 1_000, 3);
        self.bytes.push(b'Z');
    }

    fn end(&mut self, out: &mut impl io::Write) -> io::Result<()> {
        self.bytes.push(b'\n');
        self.count += 1;
        if self.bytes.len() >= CHUNK {
            out.write_all(&self.bytes)?;
            self.bytes.clear();
        }
        Ok(())
    }

    fn finish(self, out: &mut impl io::Write) -> io::Result<u64> {
        out.write_all(&self.bytes)?;
        out.flush()?;
        Ok(self.count)
    }
}

/// Year, month and day of a day since the epoch, in the proleptic Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date
/// algorithms", `civil_from_days`), for days from year 0 on.
fn civil(day: i64) -> (u64, u64, u64) {
    let shifted = (day + 719_468).max(0) as u64;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, of_month)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;

    #[test]
    fn dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(20_458), (2026, 1, 5));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(47_540), (2100, 2, 28));
        assert_eq!(civil(47_541), (2100, 3, 1));
    }

    #[test]
    fn fast_text_is_display() {
        let values = [
            Value::Str("email"),
            Value::Product(7),
            Value::Page(199),
            Value::Int(-12),
            Value::Int(120),
            Value::Float(0.75),
            Value::Float(1.0),
            Value::Cents(5),
            Value::Cents(40_799),
            Value::Bool(false),
        ];
        for value in values {
            let mut bytes = Vec::new();
            push_value(&mut bytes, value);
            assert_eq!(String::from_utf8(bytes).unwrap(), value.to_string());
        }
    }
}
