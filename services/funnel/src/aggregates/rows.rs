//! Rows of cells, as they are stored and as they are looked up.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use runnel_contracts::{
    proto::{
        aggregate::v1::{AggregateCell as Wire, AggregateRow, AggregateSplit},
        insight::v1::Counts,
    },
    question::{value, value_to_wire},
    refusal::Refusal,
};
use runnel_definitions::catalogue::damaged;
use runnel_model::{Dimension, Selector, Value};

/// What counts are split by.
pub(super) const SPLITS: [AggregateSplit; 3] =
    [AggregateSplit::Unspecified, AggregateSplit::Channel, AggregateSplit::Device];

/// The column of a split.
pub(super) fn column(split: AggregateSplit) -> Option<Selector> {
    match split {
        AggregateSplit::Unspecified => None,
        AggregateSplit::Channel => Some(Selector::Session(Dimension::Channel)),
        AggregateSplit::Device => Some(Selector::Session(Dimension::Device)),
    }
}

/// Conversion, split, and value, where there is one.
pub(super) type Key = (String, i32, Option<Value>);

/// The counts of one length of time.
pub(super) type Rows = BTreeMap<Key, Counts>;

/// A cell as it is stored. The same counts give the same bytes.
pub(super) fn encode(rows: &Rows) -> Bytes {
    let rows = rows.iter().map(|((conversion, split, value), counts)| AggregateRow {
        conversion: conversion.clone(),
        split: *split,
        value: value.as_ref().map(value_to_wire),
        counts: Some(counts.clone()),
    });
    Wire { rows: rows.collect() }.encode_to_vec().into()
}

/// A stored cell.
pub(super) fn decode(body: &Bytes) -> Result<Rows, Refusal> {
    let cell = Wire::decode(body.clone()).map_err(|_| damaged())?;
    cell.rows
        .into_iter()
        .map(|row| {
            let value = row.value.as_ref().map(|found| value("value", found)).transpose();
            let value = value.map_err(|_| damaged())?;
            Ok(((row.conversion, row.split, value), row.counts.unwrap_or_default()))
        })
        .collect()
}
