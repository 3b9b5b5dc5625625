//! What an import came to.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use comfy_table::{CellAlignment, Table, presets};
use runnel_client::proto::{
    identity::v1::{IdentificationOutcome, IdentityVerdict},
    ingest::v1::{AppendResponse, Verdict},
};
use serde::{Serialize, Serializer};
use serde_json::json;

use super::{exports::Mapped, fault::FileFault};

/// Counts of an import, and what was wrong.
#[derive(Debug, Default)]
pub struct Summary {
    /// Files that were read, to their end or not.
    pub files: u64,
    /// Rows that were read, headers and empty lines aside.
    pub rows: u64,
    /// Events stored by this import; in a dry run, events that would be.
    pub accepted: u64,
    /// Events whose request an earlier import had sent already; nothing was stored again.
    pub stored_before: u64,
    /// Events that repeat another event of their request. Repeats over requests are found when events are read; they never count twice.
    pub duplicate: u64,
    /// Events with the identity of another event of their request and other content; the first is stored.
    pub conflict: u64,
    /// Accepted events that lie more than an hour ahead of the server's clock.
    pub ahead: u64,
    /// Rows that were understood and are no events: they say who is who, or something about a person.
    pub rows_without_event: u64,
    /// Different pairs of ids that belong together by what the rows say; sent, or in a dry run to be sent.
    pub identifications: u64,
    /// What the server made of them.
    pub identified: BTreeMap<&'static str, u64>,
    /// Properties of another product's events that were left out, because they are nested, too long or too many.
    pub properties_left_out: u64,
    /// What becomes of which field of another product's export; in a dry run only.
    pub mapping: Vec<Mapped>,
    /// Rejected rows by reason, those rejected here and those refused by the server.
    pub rejected: BTreeMap<String, u64>,
    /// Files that could not be read, or not to their end.
    pub faults: Vec<FileFault>,
    /// Where the rejected rows are.
    pub rejects_files: Vec<PathBuf>,
    /// Why the first identification was rejected; empty when none was.
    pub identification_refused: String,
    /// What else a user should know.
    pub notes: Vec<String>,
    /// Nothing was stored because only a check was asked for.
    pub dry_run: bool,
    /// A rejected row counts as a failure.
    pub strict: bool,
    /// How long it took.
    pub elapsed: Duration,
}

impl Summary {
    /// Rejected rows.
    #[must_use]
    pub fn rejected_rows(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Rows a second.
    #[must_use]
    pub fn events_per_second(&self) -> f64 {
        self.rows as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Whether the command succeeded: every file was read to its end and, under `--strict`, no row was rejected.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.faults.is_empty() && !(self.strict && self.rejected_rows() > 0)
    }

    pub(super) fn reject(&mut self, reason: &str) {
        match self.rejected.get_mut(reason) {
            Some(count) => *count += 1,
            None => {
                self.rejected.insert(reason.to_owned(), 1);
            }
        }
    }

    pub(super) fn add(&mut self, response: &AppendResponse, stored_before: bool) {
        let accepted = u64::from(response.accepted);
        if stored_before {
            self.stored_before += accepted;
        } else {
            self.accepted += accepted;
        }
        self.duplicate += u64::from(response.duplicate);
        self.conflict += u64::from(response.conflict);
        let ahead = response.verdicts.iter().filter(|verdict| verdict.verdict() == Verdict::AcceptedFuture);
        self.ahead += ahead.count() as u64;
    }

    /// Counts what became of an identification; the first that was rejected is quoted.
    pub(super) fn identified(&mut self, outcome: &IdentificationOutcome) {
        let name = match outcome.verdict() {
            IdentityVerdict::Linked => "linked",
            IdentityVerdict::AlreadyLinked => "already_linked",
            IdentityVerdict::Taken => "taken",
            IdentityVerdict::Known => "known",
            IdentityVerdict::Rejected | IdentityVerdict::Unspecified => "rejected",
        };
        let count = self.identified.entry(name).or_default();
        *count += 1;
        if name == "rejected" && *count == 1 {
            self.identification_refused = format!("{}: {}", outcome.reason, outcome.message);
        }
    }

    fn mapping_table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["field", "becomes", "rows"]);
        for mapped in &self.mapping {
            table.add_row([mapped.from.clone(), mapped.to.clone(), grouped(mapped.rows)]);
        }
        if let Some(column) = table.column_mut(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn json(&self) -> serde_json::Value {
        let fault = |fault: &FileFault| json!({"file": fault.file, "line": fault.line, "fault": fault.cause.to_string()});
        json!({
            "files": self.files,
            "rows": self.rows,
            "accepted": self.accepted,
            "stored_before": self.stored_before,
            "duplicate": self.duplicate,
            "conflict": self.conflict,
            "ahead": self.ahead,
            "rows_without_event": self.rows_without_event,
            "identifications": self.identifications,
            "identifications_by_verdict": self.identified,
            "identification_refused": self.identification_refused,
            "properties_left_out": self.properties_left_out,
            "mapping": self.mapping,
            "rejected": self.rejected_rows(),
            "rejected_by_reason": self.rejected,
            "faults": self.faults.iter().map(fault).collect::<Vec<_>>(),
            "rejects_files": self.rejects_files,
            "notes": self.notes,
            "dry_run": self.dry_run,
            "seconds": self.elapsed.as_secs_f64(),
            "events_per_second": self.events_per_second().round(),
        })
    }
}

/// As JSON: every count, the reasons, the faults and the speed.
impl Serialize for Summary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json().serialize(serializer)
    }
}

/// A table, with rejects files, notes and faults below it.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        let accepted = if self.dry_run { "would be accepted" } else { "accepted" };
        let mut rows = vec![
            ("files".to_owned(), self.files),
            ("rows read".to_owned(), self.rows),
            (accepted.to_owned(), self.accepted),
        ];
        for (label, count) in [
            ("stored by an earlier import", self.stored_before),
            ("duplicate", self.duplicate),
            ("conflict", self.conflict),
            ("more than an hour ahead", self.ahead),
            ("rejected", self.rejected_rows()),
        ] {
            if count > 0 || label == "rejected" {
                rows.push((label.to_owned(), count));
            }
        }
        rows.extend(self.rejected.iter().map(|(reason, count)| (format!("  {reason}"), *count)));
        let identifications =
            if self.dry_run { "identifications to be sent" } else { "identifications sent" };
        for (label, count) in [
            ("rows that are no events", self.rows_without_event),
            ("properties left out", self.properties_left_out),
            (identifications, self.identifications),
        ] {
            if count > 0 {
                rows.push((label.to_owned(), count));
            }
        }
        rows.extend(
            self.identified
                .iter()
                .map(|(verdict, count)| (format!("  {}", verdict.replace('_', " ")), *count)),
        );
        for (label, count) in rows {
            table.add_row([label, grouped(count)]);
        }
        table.add_row(["seconds".to_owned(), format!("{:.2}", self.elapsed.as_secs_f64())]);
        table.add_row(["events per second".to_owned(), grouped(self.events_per_second().round() as u64)]);
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "{table}")?;
        if !self.mapping.is_empty() {
            write!(f, "\n{}", self.mapping_table())?;
        }
        if !self.identification_refused.is_empty() {
            write!(f, "\nidentification rejected: {}", self.identification_refused)?;
        }
        self.rejects_files.iter().try_for_each(|path| write!(f, "\nrejected rows: {}", path.display()))?;
        self.notes.iter().try_for_each(|note| write!(f, "\nnote: {note}"))?;
        self.faults.iter().try_for_each(|fault| write!(f, "\nfault: {fault}"))
    }
}

/// A number with a comma every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_show_what_there_is() {
        let mut summary = Summary { files: 1, rows: 1_234_567, accepted: 1_234_560, ..Summary::default() };
        summary.elapsed = Duration::from_secs(2);
        (0..7).for_each(|_| summary.reject("ROW_RAGGED"));
        let table = summary.to_string();
        assert!(
            table.contains("1,234,567") && table.contains("ROW_RAGGED") && !table.contains("conflict"),
            "{table}"
        );
        assert_eq!(summary.json()["rejected_by_reason"]["ROW_RAGGED"], 7);
        assert!(summary.succeeded());
        summary.strict = true;
        assert!(!summary.succeeded());
        assert_eq!(["0", "999", "1,000", "12,345,678"], [0, 999, 1_000, 12_345_678].map(grouped).as_slice());
    }
}
