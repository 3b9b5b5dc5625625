//! The journeys of some visitors as columns, and the columns derived from them for one question.
//!
//! The layout stays behind [`Slice`]: only this module indexes its columns, so that a lane-transposed layout
//! can be added without touching a loop that asks for `kind(event)` and `time(event)`.

use std::fmt;
use std::ops::Range;

/// Instants beyond this many milliseconds either side of the epoch are read as this bound, so that
/// sums of an instant and a duration cannot overflow.
pub const INSTANT_BOUND_MS: i64 = 1 << 60;

/// Codes of the event names, one per event.
#[derive(Debug, Clone, Copy)]
pub enum Kinds<'a> {
    /// At most 256 names.
    U8(&'a [u8]),
    /// At most 65,536 names.
    U16(&'a [u16]),
}

/// Instants of the events, one per event, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub enum Times<'a> {
    /// Milliseconds since an epoch of the slice; spans 49 days.
    Narrow {
        /// The instant that 0 stands for.
        epoch_ms: i64,
        /// Milliseconds since it.
        since_epoch_ms: &'a [u32],
    },
    /// Milliseconds since 1970-01-01 UTC.
    Wide(&'a [i64]),
}

/// The raw columns of a [`Slice`], unchecked.
#[derive(Debug, Clone, Copy)]
pub struct Layout<'a> {
    /// `visitors + 1` offsets; the events of visitor `v` are `offsets[v]..offsets[v + 1]`.
    pub offsets: &'a [u32],
    /// One code per event.
    pub kinds: Kinds<'a>,
    /// One instant per event; inside a visitor sorted by (time, sequence, event id).
    pub times: Times<'a>,
    /// No event comes before the first instant or after the second, in milliseconds since 1970-01-01 UTC.
    pub span_ms: (i64, i64),
    /// One word per visitor: bit `kind & 63` is set for every kind present.
    pub kind_sets: &'a [u64],
    /// One bit per event (bit `e & 63` of word `e >> 6`): it shares its millisecond with the event before it, of the
    /// same visitor.
    pub ties: &'a [u64],
    /// One bit per visitor: it must not be looked at, because a newer slice holds it.
    pub skip: Option<&'a [u64]>,
}

/// The journeys of some visitors as columns: sorted by visitor; inside a visitor by (time, sequence, event id).
#[derive(Debug, Clone, Copy)]
pub struct Slice<'a> {
    layout: Layout<'a>,
    visitors: usize,
    events: usize,
}

/// Why a [`Layout`] is not a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliceError {
    /// There must be at least one offset, the first must be 0, and offsets must not fall.
    Offsets {
        /// Index of the first offset that breaks the rule.
        index: usize,
    },
    /// A column does not have the length that the offsets imply.
    Length {
        /// Name of the column.
        column: &'static str,
        /// Its length, in elements.
        got: usize,
        /// The least (for bit columns) or exact length that it must have.
        want: usize,
    },
}

impl fmt::Display for SliceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offsets { index } => write!(f, "offset {index} is missing, not 0 at the start, or falls"),
            Self::Length { column, got, want } => {
                write!(f, "column {column} has {got} elements where {want} are needed")
            }
        }
    }
}

impl std::error::Error for SliceError {}

/// Number of 64-bit words that hold `bits` bits.
pub(crate) fn words(bits: usize) -> usize {
    bits.div_ceil(64)
}

/// Reads bit `index` of a bit column; bits past its end are 0.
#[inline]
pub(crate) fn bit(column: &[u64], index: usize) -> bool {
    column.get(index >> 6).is_some_and(|word| word >> (index & 63) & 1 != 0)
}

fn length(column: &'static str, got: usize, want: usize, exact: bool) -> Result<(), SliceError> {
    if if exact { got == want } else { got >= want } {
        Ok(())
    } else {
        Err(SliceError::Length { column, got, want })
    }
}

impl<'a> Slice<'a> {
    /// Checks that lengths agree and offsets rise, so that no loop over the slice can leave its columns.
    /// The order of events inside a visitor, `span_ms`, `kind_sets` and `ties` are the caller's promise: if it is
    /// broken the answer is wrong, but nothing panics.
    pub fn new(layout: Layout<'a>) -> Result<Self, SliceError> {
        let offsets = layout.offsets;
        if offsets.first() != Some(&0) {
            return Err(SliceError::Offsets { index: 0 });
        }
        if let Some(index) = offsets.windows(2).position(|pair| pair[0] > pair[1]) {
            return Err(SliceError::Offsets { index: index + 1 });
        }
        let visitors = offsets.len() - 1;
        let events = offsets[visitors] as usize;
        let kinds = match layout.kinds {
            Kinds::U8(kinds) => kinds.len(),
            Kinds::U16(kinds) => kinds.len(),
        };
        length("kinds", kinds, events, true)?;
        let times = match layout.times {
            Times::Narrow { since_epoch_ms, .. } => since_epoch_ms.len(),
            Times::Wide(times) => times.len(),
        };
        length("times", times, events, true)?;
        length("kind_sets", layout.kind_sets.len(), visitors, true)?;
        length("ties", layout.ties.len(), words(events), false)?;
        if let Some(skip) = layout.skip {
            length("skip", skip.len(), words(visitors), false)?;
        }
        Ok(Self { layout, visitors, events })
    }

    /// Number of visitors, skipped ones included.
    pub fn visitors(&self) -> usize {
        self.visitors
    }

    /// Number of events, those of skipped visitors included.
    pub fn events(&self) -> usize {
        self.events
    }

    /// The events of a visitor; empty for a visitor that the slice does not have.
    #[inline]
    pub fn range(&self, visitor: usize) -> Range<usize> {
        match self.layout.offsets.get(visitor..visitor.saturating_add(2)) {
            Some([start, end]) => *start as usize..*end as usize,
            _ => 0..0,
        }
    }

    /// Code of an event's name. Panics if the slice has no such event.
    #[inline]
    pub fn kind(&self, event: usize) -> u16 {
        match self.layout.kinds {
            Kinds::U8(kinds) => u16::from(kinds[event]),
            Kinds::U16(kinds) => kinds[event],
        }
    }

    /// Instant of an event in milliseconds. Panics if the slice has no such event.
    #[inline]
    pub fn time(&self, event: usize) -> i64 {
        match self.layout.times {
            Times::Narrow { epoch_ms, since_epoch_ms } => {
                epoch_ms.clamp(-INSTANT_BOUND_MS, INSTANT_BOUND_MS) + i64::from(since_epoch_ms[event])
            }
            Times::Wide(times) => times[event].clamp(-INSTANT_BOUND_MS, INSTANT_BOUND_MS),
        }
    }

    /// Set of a visitor's kinds, folded to 64 bits; empty for a visitor that the slice does not have.
    #[inline]
    pub fn kind_set(&self, visitor: usize) -> u64 {
        self.layout.kind_sets.get(visitor).copied().unwrap_or(0)
    }

    /// A bit per visitor whose last event is at `instant_ms` or later.
    pub(crate) fn visitors_since(&self, instant_ms: i64) -> Vec<u64> {
        let mut since = vec![0; words(self.visitors)];
        if self.layout.span_ms.1 < instant_ms {
            return since;
        }
        for visitor in 0..self.visitors {
            let last = self.range(visitor).next_back();
            let holds = last.is_some_and(|event| self.time(event) >= instant_ms);
            since[visitor >> 6] |= u64::from(holds) << (visitor & 63);
        }
        since
    }

    /// Whether a visitor must not be looked at.
    #[inline]
    pub fn skipped(&self, visitor: usize) -> bool {
        self.layout.skip.is_some_and(|skip| bit(skip, visitor))
    }

    /// The checked columns, for the loops that are specialised on their widths.
    pub(crate) fn layout(&self) -> Layout<'a> {
        self.layout
    }
}

/// Codes of values, one per event, as narrow as they fit.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// Codes below 256.
    U8(&'a [u8]),
    /// Codes below 65,536.
    U16(&'a [u16]),
    /// Any codes.
    U32(&'a [u32]),
    /// Code 0 of so many events.
    Unset(usize),
}

impl Values<'_> {
    /// Number of events.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(codes) => codes.len(),
            Self::U16(codes) => codes.len(),
            Self::U32(codes) => codes.len(),
            Self::Unset(events) => *events,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Code of an event; `None` past the end.
    #[inline(always)]
    pub fn get(&self, event: usize) -> Option<u32> {
        match self {
            Self::U8(codes) => codes.get(event).copied().map(u32::from),
            Self::U16(codes) => codes.get(event).copied().map(u32::from),
            Self::U32(codes) => codes.get(event).copied(),
            Self::Unset(events) => (event < *events).then_some(0),
        }
    }
}

/// Columns derived for one question, aligned with the slice's events.
#[derive(Debug, Clone, Copy, Default)]
pub struct Columns<'a> {
    /// A bit per event, one column per predicate index used by the question's rules.
    pub predicates: &'a [&'a [u64]],
    /// Code of the held tuple of each event; 0 means that a held property is missing.
    pub hold: Option<Values<'a>>,
    /// Code of the break-down value of each event; 0 is unset.
    pub break_down: Option<Values<'a>>,
    /// A bit per event: it belongs to the direct scope. `None` means that every event does.
    pub scope: Option<&'a [u64]>,
    /// A bit per event: it is off the site, so it opens and extends no session. `None` means that none is.
    pub off_site: Option<&'a [u64]>,
}
