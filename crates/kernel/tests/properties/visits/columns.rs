//! Owned columns of journeys, as sessions, marks and reports read them.

use runnel_kernel::{Amounts, Slice, Values};

use crate::journeys::{self, Journeys, Widths};

/// One event of a test.
#[derive(Debug, Clone, Default)]
pub(crate) struct Event {
    pub(crate) time: i64,
    pub(crate) off_site: bool,
    pub(crate) page: bool,
    pub(crate) marked: bool,
    /// Marked in another way, such as a return.
    pub(crate) again: bool,
    /// Code of the item, the split, the page or the currency, as a test needs it.
    pub(crate) code: u32,
    /// Code of the amount.
    pub(crate) amount: u32,
}

/// Codes, one per event, in some width.
#[derive(Debug, Clone)]
enum Codes {
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
}

impl Codes {
    /// At least so wide (0 to 2), and as wide as the codes need.
    fn new(codes: impl Iterator<Item = u32> + Clone, width: u32) -> Self {
        let most = codes.clone().max().unwrap_or(0);
        match width.max(most.checked_ilog2().unwrap_or(0) / 8) {
            0 => Self::U8(codes.map(|code| code as u8).collect()),
            1 => Self::U16(codes.map(|code| code as u16).collect()),
            _ => Self::U32(codes.collect()),
        }
    }

    fn values(&self) -> Values<'_> {
        match self {
            Self::U8(codes) => Values::U8(codes),
            Self::U16(codes) => Values::U16(codes),
            Self::U32(codes) => Values::U32(codes),
        }
    }
}

/// Journeys of some visitors with every column of their events.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    pub(crate) journeys: Journeys,
    pub(crate) wide_times: bool,
    pub(crate) off_site: Vec<u64>,
    pub(crate) page: Vec<u64>,
    pub(crate) marked: Vec<u64>,
    pub(crate) again: Vec<u64>,
    codes: Codes,
    amounts: Codes,
}

impl Columns {
    /// `width` is the least width of the codes, 0 to 2. Columns end after `length` events, though there may be more.
    pub(crate) fn new(visitors: &[Vec<Event>], width: u32, length: usize) -> Self {
        let events: Vec<&Event> = visitors.iter().flatten().take(length).collect();
        let bits = |holds: fn(&Event) -> bool| {
            let mut words = vec![0; events.len().div_ceil(64)];
            for (at, event) in events.iter().enumerate() {
                words[at / 64] |= u64::from(holds(event)) << (at % 64);
            }
            words
        };
        let timed = |event: &Event| journeys::Event { time: event.time, ..Default::default() };
        let timed: Vec<Vec<_>> = visitors.iter().map(|visitor| visitor.iter().map(timed).collect()).collect();
        Self {
            journeys: Journeys::new(&timed),
            wide_times: false,
            off_site: bits(|event| event.off_site),
            page: bits(|event| event.page),
            marked: bits(|event| event.marked),
            again: bits(|event| event.again),
            codes: Codes::new(events.iter().map(|event| event.code), width),
            amounts: Codes::new(events.iter().map(|event| event.amount), width),
        }
    }

    pub(crate) fn slice(&self) -> Slice<'_> {
        self.journeys.slice(Widths { wide_kinds: false, wide_times: self.wide_times })
    }

    pub(crate) fn codes(&self) -> Values<'_> {
        self.codes.values()
    }

    /// Amounts in the currency of the event's code.
    pub(crate) fn amounts<'a>(&'a self, micros: &'a [i64]) -> Amounts<'a> {
        Amounts { micros, codes: self.amounts.values(), currencies: self.codes() }
    }
}
