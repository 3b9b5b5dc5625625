//! What changed of days, weeks and months that were over.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use runnel_contracts::{
    proto::{
        aggregate::v1::{AggregateSplit, AggregateState},
        insight::v1::{
            Interval, ListRestatementsRequest, ListRestatementsResponse, RestatedCell, RestatedPart,
            Restatement, RestatementCause as Cause,
        },
        query::v1::{self as query, Dimension, Selector, SplitValue, TimeRange, selector, split_value},
    },
    question::value_to_wire,
    refusal::{Reason, Refusal},
};
use runnel_definitions::{catalogue::damaged, refusal::unavailable};
use runnel_model::{TenantName, Value, limits};
use runnel_storage::Versions;

use super::{Aggregator, Kept, rows::Rows};
use crate::calendar::{Calendar, Width};

/// Notes what differs between two makings of aggregates.
pub(super) struct Ledger<'a> {
    kept: Option<&'a Kept>,
    state: &'a AggregateState,
    made_of: Versions,
    cells: Vec<RestatedCell>,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(kept: Option<&'a Kept>, state: &'a AggregateState, made_of: Versions) -> Ledger<'a> {
        Ledger { kept, state, made_of, cells: Vec::new() }
    }

    /// Whether days begin as they did.
    fn keeps_calendar(&self) -> bool {
        self.kept.is_some_and(|kept| kept.state.time_zone == self.state.time_zone)
    }

    /// Compares what a cell was and is. Nothing is told of one that was not over when it was counted before or lies too long ago to be counted, of a conversion that was not counted then or is not now,
    /// and of days that begin otherwise than they did.
    pub(super) fn compare(
        &mut self,
        (width, start_ms): (Width, i64),
        old: &Rows,
        new: &Rows,
    ) -> Result<(), Refusal> {
        let Some(kept) = self.kept.filter(|_| self.keeps_calendar()) else { return Ok(()) };
        let until_ms = end(&kept.calendar, width, start_ms).ok_or_else(damaged)?;
        if until_ms > kept.state.as_of_ms || until_ms <= self.state.from_ms {
            return Ok(());
        }
        let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        for key in keys {
            let (before, after) = (old.get(key), new.get(key));
            let (conversion, split, value) = key;
            let version = |state: &AggregateState| {
                state.conversions.iter().find(|one| one.name == *conversion).map(|one| one.version)
            };
            let (Some(was), Some(is)) = (version(&kept.state), version(self.state)) else { continue };
            if before == after {
                continue;
            }
            self.cells.push(RestatedCell {
                conversion: conversion.clone(),
                interval: interval(width) as i32,
                bucket: Some(TimeRange { from_ms: Some(start_ms), until_ms: Some(until_ms) }),
                causes: causes(kept, self.state, self.made_of, was != is),
                part: part(*split, value.as_ref()),
                before: Some(before.cloned().unwrap_or_default()),
                after: Some(after.cloned().unwrap_or_default()),
            });
        }
        Ok(())
    }

    /// What is to be told, in pieces of bounded size.
    pub(super) fn pieces(self) -> Vec<Bytes> {
        let Some(kept) = self.kept else { return Vec::new() };
        let pieces = self.cells.chunks(limits::RESTATED_CELLS).map(|cells| Restatement {
            number: 0,
            at_ms: self.state.as_of_ms,
            before: Some(revision(kept.made_of)),
            after: Some(revision(self.made_of)),
            cells: cells.to_vec(),
        });
        pieces.map(|piece| piece.encode_to_vec().into()).collect()
    }
}

fn causes(kept: &Kept, state: &AggregateState, made_of: Versions, redefined: bool) -> Vec<i32> {
    let before = kept.made_of;
    let settings = kept.state.settings != state.settings;
    // Events from the time to come exist by now.
    let events = before.sequence != made_of.sequence || !kept.is_settled();
    let erased = kept.erased() != super::erased(made_of, state.retentions);
    let all = [
        (events, Cause::Events),
        (before.alias != made_of.alias, Cause::Identity),
        (erased, Cause::Erasure),
        (kept.state.kept_from_ms != state.kept_from_ms, Cause::Retention),
        (redefined, Cause::Definition),
        (settings, Cause::Settings),
    ];
    all.into_iter().filter(|(happened, _)| *happened).map(|(_, cause)| cause as i32).collect()
}

fn end(calendar: &Calendar, width: Width, start_ms: i64) -> Option<i64> {
    calendar.edges(start_ms, start_ms + 1, width, 1)?.last().copied()
}

fn interval(width: Width) -> Interval {
    match width {
        Width::Hour => Interval::Hour,
        Width::Day => Interval::Day,
        Width::Week => Interval::Week,
        Width::Month => Interval::Month,
    }
}

fn part(split: i32, value: Option<&Value>) -> Option<RestatedPart> {
    let dimension = match AggregateSplit::try_from(split) {
        Ok(AggregateSplit::Channel) => Dimension::Channel,
        Ok(AggregateSplit::Device) => Dimension::Device,
        _ => return None,
    };
    let part = match value {
        Some(value) => split_value::Part::Value(value_to_wire(value)),
        None => split_value::Part::Unset(true),
    };
    Some(RestatedPart {
        column: Some(Selector { column: Some(selector::Column::Dimension(dimension as i32)) }),
        value: Some(SplitValue { part: Some(part) }),
    })
}

fn revision(versions: Versions) -> query::Revision {
    let Versions { sequence, definition, alias, erasure } = versions;
    query::Revision { sequence, definition, alias, erasure }
}

/// Brings aggregates up to date, and tells what changed of them.
pub(crate) async fn list(
    aggregator: &Aggregator,
    tenant: &TenantName,
    asked: &ListRestatementsRequest,
) -> Result<ListRestatementsResponse, Refusal> {
    let size = match asked.page_size as usize {
        0 => 10,
        size if size <= limits::RESTATEMENTS_PAGE => size,
        size => {
            let text = format!("page_size is at most {}; it is {size}.", limits::RESTATEMENTS_PAGE);
            return Err(Refusal::field(Reason::NumberOutOfRange, "page_size", text));
        }
    };
    let before = match &*asked.page_token {
        "" => u64::MAX,
        token => token.parse().map_err(|_| {
            let text = "page_token is none that this method has given.";
            Refusal::field(Reason::PageTokenInvalid, "page_token", text)
        })?,
    };
    let (made_of, _) = aggregator.refresh(tenant).await?;
    let store = aggregator.journeys.store();
    let found = store.restatements(tenant, before, size + 1).await.map_err(|fault| unavailable(&fault))?;
    let more = found.len() > size;
    let mut restatements = Vec::new();
    for (number, body) in found.into_iter().take(size) {
        let told = Restatement::decode(body).map_err(|_| damaged())?;
        restatements.push(Restatement { number, ..told });
    }
    let last = restatements.last().filter(|_| more);
    let next_page_token = last.map(|last| last.number.to_string()).unwrap_or_default();
    let provenance = query::Provenance {
        definition_version: 0,
        as_of_ms: aggregator.clock.now_ms(),
        revision: Some(revision(made_of)),
        notes: Vec::new(),
    };
    Ok(ListRestatementsResponse { restatements, next_page_token, provenance: Some(provenance) })
}
