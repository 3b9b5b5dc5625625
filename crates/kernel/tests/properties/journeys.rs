//! Owned journeys, so that tests can make slices of every layout from the same events.

use runnel_kernel::{Columns, Kinds, Layout, Slice, Times, Values};

/// One event of a test.
#[derive(Debug, Clone, Default)]
pub(crate) struct Event {
    pub(crate) time: i64,
    pub(crate) kind: u16,
    pub(crate) hold: u32,
    pub(crate) value: u32,
    pub(crate) scope: bool,
    pub(crate) off_site: bool,
    pub(crate) predicates: [bool; 2],
}

/// The layouts that a slice may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Widths {
    pub(crate) wide_kinds: bool,
    pub(crate) wide_times: bool,
}

/// Journeys of some visitors, with every column that a question may need.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journeys {
    offsets: Vec<u32>,
    kinds8: Vec<u8>,
    kinds16: Vec<u16>,
    epoch_ms: i64,
    narrow: Vec<u32>,
    wide: Vec<i64>,
    kind_sets: Vec<u64>,
    ties: Vec<u64>,
    span_ms: (i64, i64),
    pub(crate) skip: Option<Vec<u64>>,
    hold: Vec<u32>,
    values8: Vec<u8>,
    values16: Vec<u16>,
    values: Vec<u32>,
    scope: Vec<u64>,
    off_site: Option<Vec<u64>>,
    predicates: Vec<Vec<u64>>,
}

impl Journeys {
    /// Columns of visitors whose events are already in order.
    pub(crate) fn new(visitors: &[Vec<Event>]) -> Self {
        let events: Vec<&Event> = visitors.iter().flatten().collect();
        let bits = |holds: &dyn Fn(&Event) -> bool| {
            let mut words = vec![0u64; events.len().div_ceil(64)];
            for (at, event) in events.iter().enumerate() {
                words[at / 64] |= u64::from(holds(event)) << (at % 64);
            }
            words
        };
        let mut ties = vec![0u64; events.len().div_ceil(64)];
        let mut offsets = vec![0];
        for (at, visitor) in visitors.iter().enumerate() {
            for (event, pair) in (offsets[at] as usize + 1..).zip(visitor.windows(2)) {
                ties[event / 64] |= u64::from(pair[0].time == pair[1].time) << (event % 64);
            }
            offsets.push(offsets[at] + visitor.len() as u32);
        }
        let epoch_ms = events.iter().map(|event| event.time).min().unwrap_or(0);
        Self {
            kinds8: events.iter().map(|event| event.kind as u8).collect(),
            kinds16: events.iter().map(|event| event.kind).collect(),
            epoch_ms,
            span_ms: (epoch_ms, events.iter().map(|event| event.time).max().unwrap_or(0)),
            narrow: events.iter().map(|event| (event.time - epoch_ms) as u32).collect(),
            wide: events.iter().map(|event| event.time).collect(),
            kind_sets: visitors
                .iter()
                .map(|visitor| visitor.iter().fold(0, |set, event| set | 1 << (event.kind & 63)))
                .collect(),
            ties,
            skip: None,
            hold: events.iter().map(|event| event.hold).collect(),
            values8: events.iter().map(|event| event.value as u8).collect(),
            values16: events.iter().map(|event| event.value as u16).collect(),
            values: events.iter().map(|event| event.value).collect(),
            scope: bits(&|event| event.scope),
            off_site: events.iter().any(|event| event.off_site).then(|| bits(&|event| event.off_site)),
            predicates: (0..2).map(|at| bits(&|event| event.predicates[at])).collect(),
            offsets,
        }
    }

    pub(crate) fn slice(&self, widths: Widths) -> Slice<'_> {
        let layout = Layout {
            offsets: &self.offsets,
            kinds: if widths.wide_kinds { Kinds::U16(&self.kinds16) } else { Kinds::U8(&self.kinds8) },
            times: if widths.wide_times {
                Times::Wide(&self.wide)
            } else {
                Times::Narrow { epoch_ms: self.epoch_ms, since_epoch_ms: &self.narrow }
            },
            span_ms: self.span_ms,
            kind_sets: &self.kind_sets,
            ties: &self.ties,
            skip: self.skip.as_deref(),
        };
        Slice::new(layout).expect("the columns fit each other")
    }

    /// Calls `with` with the columns, the scope column only if `scoped`.
    pub(crate) fn columns<T>(&self, scoped: bool, with: impl FnOnce(&Columns<'_>) -> T) -> T {
        let predicates: Vec<&[u64]> = self.predicates.iter().map(Vec::as_slice).collect();
        with(&Columns {
            predicates: &predicates,
            hold: Some(Values::U32(&self.hold)),
            break_down: Some(
                match self.values.iter().max().map_or(0, |most| most.checked_ilog2().unwrap_or(0)) / 8 {
                    // As narrow as they fit.
                    0 => Values::U8(&self.values8),
                    1 => Values::U16(&self.values16),
                    _ => Values::U32(&self.values),
                },
            ),
            scope: scoped.then_some(self.scope.as_slice()),
            off_site: self.off_site.as_deref(),
        })
    }
}
