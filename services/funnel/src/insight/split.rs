//! Which values of a split get a row of their own.

use std::collections::BTreeMap;

use runnel_contracts::{
    proto::query::v1::{Split, SplitValue, split_value::Part},
    question::{selector, value_to_wire},
    refusal::{Reason, Refusal},
};
use runnel_kernel::Values;
use runnel_model::{Selector, limits};

use super::asked::Asked;

/// A split that was checked.
#[derive(Debug, Clone)]
pub(crate) struct Splitting {
    pub(crate) column: Selector,
    top: usize,
}

/// A code that stands for all values without a row of their own; no dictionary has so many values.
const OTHER: u32 = u32::MAX;

impl Splitting {
    /// Checks a split of a request.
    pub(crate) fn of(split: Option<&Split>) -> Result<Option<Splitting>, Refusal> {
        let Some(split) = split else { return Ok(None) };
        let top = match split.top as usize {
            0 => limits::BREAK_DOWN_ROWS_DEFAULT,
            asked if asked <= limits::BREAK_DOWN_ROWS => asked,
            asked => {
                let most = limits::BREAK_DOWN_ROWS;
                let text = format!("A split has at most {most} rows; {asked} were asked for.");
                return Err(Refusal::field(Reason::NumberOutOfRange, "split.top", text));
            }
        };
        Ok(Some(Splitting { column: selector("split.column", split.column.as_ref())?, top }))
    }

    /// How many values get a row of their own.
    pub(crate) fn top(&self) -> usize {
        self.top
    }

    /// The codes with a row of their own, most frequent first, equal ones by value.
    pub(crate) fn rows(&self, asked: &Asked, counts: &BTreeMap<u32, u64>) -> Vec<u32> {
        let column = asked.column(&self.column);
        let mut known: Vec<_> = counts
            .iter()
            .filter(|(code, count)| **code != 0 && **count > 0)
            .map(|(code, count)| (*count, asked.value(column, *code), *code))
            .collect();
        known.sort_by(|left, right| (right.0, &left.1).cmp(&(left.0, &right.1)));
        known.truncate(self.top);
        known.into_iter().map(|(_, _, code)| code).collect()
    }

    /// The part of a split that a code stands for.
    pub(crate) fn part(&self, asked: &Asked, code: u32) -> SplitValue {
        let part = match code {
            0 => Part::Unset(true),
            OTHER => Part::Other(true),
            code => match asked.value(asked.column(&self.column), code) {
                Some(value) => Part::Value(value_to_wire(&value)),
                None => Part::Other(true),
            },
        };
        SplitValue { part: Some(part) }
    }
}

/// The codes of a run, those without a row of their own being one.
pub(crate) fn grouped(codes: Values<'_>, rows: &[u32]) -> Vec<u32> {
    let mut own = rows.to_vec();
    own.sort_unstable();
    let group = |code: u32| if code == 0 || own.binary_search(&code).is_ok() { code } else { OTHER };
    (0..codes.len()).map(|event| group(codes.get(event).unwrap_or(0))).collect()
}

/// The codes in the order of the answer: rows, other, unset.
pub(crate) fn order(rows: &[u32]) -> impl Iterator<Item = u32> + '_ {
    rows.iter().copied().chain([OTHER, 0])
}
