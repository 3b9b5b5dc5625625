//! A step of journal rows: they become blocks, together, in halves, or not at all.

use std::{collections::HashMap, error::Error};

use bytes::Bytes;
use runnel_failpoints::hit;
use tracing::warn;

use super::{CompactError, CompactionReport, round::Round};
use crate::{
    Unavailable,
    backend::{Inputs, JournalInput, Purpose::Compaction},
    merge::{self, Merged, StoredRow},
};

/// Journal rows that are merged together, and their bytes.
type Part = (Vec<JournalInput>, Vec<StoredRow>);

impl Round {
    /// Makes blocks of journal rows. Where that fails, or would be too much for one swap, of their halves; a single row that makes it fail goes to quarantine. What is
    /// left when the round is full, or behind a row that only a newer program can read, stays as it is.
    pub(super) async fn compact_rows(
        &self,
        rows: Vec<JournalInput>,
    ) -> Result<CompactionReport, CompactError> {
        let mut report = CompactionReport::default();
        let stored = self.fetch(&rows).await?;
        let mut parts: Vec<Part> = vec![(rows, stored)];
        while let Some((mut rows, mut stored)) = parts.pop() {
            let (tenant, inputs, erasing) = (self.tenant.clone(), stored.clone(), self.erasing.clone());
            let merged = self.blocking(move || merge::merge_rows(tenant.as_str(), &inputs, &erasing)).await?;
            let too_much = match &merged {
                Ok(merged) => merged.dropped.rows() > self.merges.bounds.swap_rows,
                Err(_) => true,
            };
            match merged {
                _ if too_much && rows.len() > 1 => {
                    let behind = (rows.split_off(rows.len() / 2), stored.split_off(stored.len() / 2));
                    parts.extend([behind, (rows, stored)]);
                }
                Ok(merged) => {
                    drop(stored);
                    for (sequence, reason) in &merged.broken {
                        self.quarantine(*sequence, reason, &mut report).await?;
                    }
                    rows.retain(|row| merged.broken.iter().all(|(sequence, _)| *sequence != row.sequence));
                    if let Some(newer) = merged.newer {
                        rows.retain(|row| row.sequence < newer);
                        parts.clear();
                        if self.merges.memory.is_newer(&self.tenant, newer) {
                            warn!(tenant = %self.tenant, sequence = newer, "a newer program wrote a journal row and has to compact it");
                        }
                    }
                    self.commit_rows(&rows, merged, &mut report).await?;
                    if self.is_full() {
                        break;
                    }
                }
                Err(reason) => {
                    for row in &rows {
                        self.quarantine(row.sequence, &reason, &mut report).await?;
                    }
                }
            }
        }
        Ok(report)
    }

    pub(super) async fn fetch(&self, rows: &[JournalInput]) -> Result<Vec<StoredRow>, Unavailable> {
        let sequences: Vec<u64> = rows.iter().map(|row| row.sequence).collect();
        let mut payloads: HashMap<u64, Bytes> =
            self.backend.payloads(Compaction, &self.tenant, &sequences).await?.into_iter().collect();
        hit("drn.after_fetch").await?;
        let stored = rows.iter().map(|row| StoredRow {
            number: row.sequence,
            events: row.events,
            payload: payloads.remove(&row.sequence),
        });
        Ok(stored.collect())
    }

    async fn commit_rows(
        &self,
        rows: &[JournalInput],
        merged: Merged,
        report: &mut CompactionReport,
    ) -> Result<(), CompactError> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
        let inputs = Inputs::Rows {
            first: first.sequence,
            last: last.sequence,
            rows: rows.len() as u64,
            bytes: rows.iter().map(|row| row.bytes).sum(),
            events: rows.iter().map(|row| row.events).sum(),
        };
        match self.commit(inputs, merged, report).await {
            Ok(swapped) => {
                if swapped.is_some() {
                    report.inputs += rows.len() as u64;
                    self.merges.memory.rows_swapped(&self.tenant);
                }
                Ok(())
            }
            Err(error) => {
                self.merges.memory.rows_failed(&self.tenant, rows.len());
                Err(error.into())
            }
        }
    }

    async fn quarantine(
        &self,
        sequence: u64,
        reason: &(dyn Error + Sync),
        report: &mut CompactionReport,
    ) -> Result<(), Unavailable> {
        let text = with_causes(reason);
        warn!(tenant = %self.tenant, sequence, reason = text, "a journal row goes to quarantine");
        if self.backend.quarantine(&self.tenant, sequence, text, Some(self.now_ms())).await? {
            report.quarantined += 1;
        }
        Ok(())
    }
}

/// An error and what caused it.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    text
}
