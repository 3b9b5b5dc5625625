//! Where a stream of changes stands: what everything told so far is about. It says enough to go on from, in any process.

use runnel_contracts::{
    proto::query::v1::Revision,
    refusal::{Reason, Refusal},
};

/// An instant of what is watched, and what was known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    /// In milliseconds since the Unix epoch.
    pub(super) as_of_ms: i64,
    /// The batches and identities that were known.
    pub(super) revision: Revision,
    /// What was watched, as it was understood.
    pub(super) what: u64,
}

impl Cursor {
    /// Reads what [`Cursor::show`] wrote; `None` for a stream that begins.
    pub(super) fn parse(text: &str) -> Result<Option<Cursor>, Refusal> {
        if text.is_empty() {
            return Ok(None);
        }
        let mut parts = text.split('.');
        let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
        let mut read = || {
            let as_of_ms = number()?.cast_signed();
            let (sequence, definition, alias, erasure) = (number()?, number()?, number()?, number()?);
            let revision = Revision { sequence, definition, alias, erasure };
            Some(Cursor { as_of_ms, revision, what: number()? })
        };
        read().filter(|cursor| cursor.show() == text).map(Some).ok_or_else(|| {
            let text = "The cursor is none of a stream of changes.";
            Refusal::field(Reason::PageTokenInvalid, "cursor", text)
        })
    }

    /// For the next call.
    pub(super) fn show(&self) -> String {
        let Revision { sequence, definition, alias, erasure } = self.revision;
        let as_of_ms = self.as_of_ms.cast_unsigned();
        format!("{as_of_ms:x}.{sequence:x}.{definition:x}.{alias:x}.{erasure:x}.{:x}", self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        let revision = Revision { sequence: 7, definition: 3, alias: u64::MAX, erasure: 0 };
        for as_of_ms in [i64::MIN, -1, 0, 1_700_000_000_000] {
            let cursor = Cursor { as_of_ms, revision, what: 0xfeed };
            assert_eq!(Cursor::parse(&cursor.show()).unwrap(), Some(cursor));
        }
        assert_eq!(Cursor::parse("").unwrap(), None);
        for bad in
            ["x", "1.2.3.4.5", "1.2.3.4.5.6.7", "01.2.3.4.5.6", "1.2.3.4.5.+6", "1.2.3.4.5.11111111111111111"]
        {
            assert_eq!(Cursor::parse(bad).unwrap_err().reason, Reason::PageTokenInvalid, "{bad}");
        }
    }
}
