//! The branch-free pass over one visitor of many events.

use std::hint::select_unpredictable;

use crate::plan::Plan;
use crate::slice::{INSTANT_BOUND_MS, Slice};

/// Before every instant, by more than any window.
const NEVER: i64 = i64::MIN / 2;

/// A stored instant.
pub(super) trait Instant: Copy {
    /// Milliseconds since the slice's epoch.
    fn ms(self) -> i64;
}

impl Instant for u32 {
    #[inline(always)]
    fn ms(self) -> i64 {
        i64::from(self)
    }
}

impl Instant for i64 {
    #[inline(always)]
    fn ms(self) -> i64 {
        self.clamp(-INSTANT_BOUND_MS, INSTANT_BOUND_MS)
    }
}

/// The instants and durations of a question, in milliseconds since the slice's epoch.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub(super) epoch_ms: i64,
    pub(super) from: i64,
    pub(super) until: i64,
    pub(super) window: i64,
    /// Events at or after this instant are invisible.
    pub(super) visible_until: i64,
    /// The earliest entry that is open: its window reaches `as_of`.
    pub(super) open_from: i64,
    /// The earliest entry that is not followed for its whole window.
    pub(super) young_from: i64,
    /// Whether no entry of the slice and range is.
    pub(super) grown: bool,
    /// Whether every event of the slice is visible.
    pub(super) all_visible: bool,
    /// Whether every event of the slice lies in the range of entries.
    pub(super) all_inside: bool,
    /// Whether no entry of the slice and range is open.
    pub(super) mature: bool,
}

impl Bounds {
    pub(super) fn new(plan: &Plan, slice: &Slice<'_>, epoch_ms: i64) -> Self {
        let question = plan.question();
        let epoch_ms = epoch_ms.clamp(-INSTANT_BOUND_MS, INSTANT_BOUND_MS);
        let never_open = question.as_of_ms >= plan.steps_until_ms;
        let open_from = if never_open { i64::MAX } else { question.as_of_ms - question.window_ms - epoch_ms };
        let (oldest_ms, newest_ms) = slice.layout().span_ms;
        let newest = newest_ms.clamp(-INSTANT_BOUND_MS, INSTANT_BOUND_MS) - epoch_ms;
        let young_from = plan.visible_until_ms - question.window_ms + 1 - epoch_ms;
        Self {
            young_from,
            grown: newest < young_from || question.until_ms - epoch_ms <= young_from,
            all_visible: newest_ms < plan.visible_until_ms,
            all_inside: oldest_ms >= question.from_ms && newest_ms < question.until_ms,
            epoch_ms,
            from: question.from_ms - epoch_ms,
            until: question.until_ms - epoch_ms,
            window: question.window_ms,
            visible_until: plan.visible_until_ms - epoch_ms,
            open_from,
            mature: open_from >= question.until_ms - epoch_ms || newest < open_from,
        }
    }

    /// How many of a visitor's events are visible. They are the first ones.
    #[inline(always)]
    pub(super) fn visible<T: Instant>(&self, times: &[T]) -> usize {
        match times.last() {
            Some(last) if !self.all_visible && last.ms() >= self.visible_until => {
                times.partition_point(|time| time.ms() < self.visible_until)
            }
            _ => times.len(),
        }
    }

    /// The places, as bits, of those of a visitor's events that lie in the range of entries; of at most 64.
    #[inline(always)]
    pub(super) fn inside<T: Instant>(&self, times: &[T]) -> u64 {
        let (Some(first), Some(last)) = (times.first(), times.last()) else {
            return 0;
        };
        if first.ms() >= self.from && last.ms() < self.until {
            return u64::MAX;
        }
        let before = |instant: i64| {
            let place = times.partition_point(|time| time.ms() < instant) as u32;
            1u64.checked_shl(place).map_or(u64::MAX, |bit| bit - 1)
        };
        before(self.until) & !before(self.from)
    }
}

/// The chain that is chosen for a visitor. Places are those of the slice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// 1 or higher.
    pub(super) level: usize,
    /// Place of the chosen entry.
    pub(super) entry: u32,
    /// Place of the completion.
    pub(super) completion: u32,
    /// Place of the first entry.
    pub(super) first: u32,
    /// Place of the earliest completion of the chain from the first entry, if there is one of this level and wherever it lies.
    pub(super) first_completion: Option<u32>,
}

/// One visitor's columns.
#[derive(Clone, Copy)]
pub(super) struct Scan<'a, T> {
    /// Step codes: 0 for no step, or step + 1.
    pub(super) codes: &'a [u8],
    pub(super) times: &'a [T],
    /// Place of its first event in the slice.
    pub(super) base: u32,
}

impl<T: Instant> Scan<'_, T> {
    fn code(&self, place: usize) -> usize {
        self.codes.get(place).copied().map_or(0, usize::from)
    }

    fn time(&self, place: usize) -> i64 {
        self.times.get(place).map_or(0, |time| time.ms())
    }

    /// The furthest chain, and whether the newest entry is open; `None` without an entry. Puts the places of the chain's
    /// steps into `places`.
    pub(super) fn furthest(
        &self,
        bounds: &Bounds,
        steps: usize,
        places: &mut [u32; 32],
    ) -> Option<(Found, bool)> {
        let stop = if bounds.mature { steps } else { usize::MAX };
        let (level, completion, newest) = match steps {
            0..=6 => self.level::<8>(bounds, stop),
            7..=14 => self.level::<16>(bounds, stop),
            _ => self.level::<64>(bounds, stop),
        };
        if level == 0 {
            return None;
        }
        let entry = self.entry(bounds, level, completion);
        let first = self.first_entry(bounds);
        let first_completion = self.follow(first, level, places);
        self.follow(entry, level, places);
        let place = |place: usize| self.base + place as u32;
        let found = Found {
            level,
            entry: place(entry),
            completion: place(completion),
            first: place(first),
            first_completion: first_completion.map(place),
        };
        Some((found, newest >= bounds.open_from))
    }

    /// The furthest level, the place of its earliest completion, and the newest entry, scanning no further than the first
    /// chain of level `stop`. At most `SLOTS - 2` levels.
    ///
    /// One chain entry per level, the newest overwriting (SEMANTICS.md §2): exact, because a later chain at a level has a
    /// later entry.
    fn level<const SLOTS: usize>(&self, bounds: &Bounds, stop: usize) -> (usize, usize, i64) {
        let Bounds { from, until, window, .. } = *bounds;
        let span = (until - from) as u64;
        // Slot 0 holds the current event as a possible entry. An event of code 0 serves no step: it reads the last
        // slot, which is never written, and so follows nothing.
        let mut slots = [NEVER; SLOTS];
        let (mut level, mut completion) = (0, 0);
        for (place, (code, time)) in self.codes.iter().zip(self.times).enumerate() {
            let time = time.ms();
            let code = usize::from(*code);
            slots[0] = select_unpredictable((time.wrapping_sub(from) as u64) < span, time, NEVER);
            let entry = slots[code.wrapping_sub(1) % SLOTS];
            let follows = entry >= time - window;
            // The slot is written either way, so that no load waits to learn where the last store went.
            let slot = &mut slots[code % SLOTS];
            *slot = select_unpredictable(follows, entry, *slot);
            let further = follows & (code > level);
            level = select_unpredictable(further, code, level);
            completion = select_unpredictable(further, place, completion);
            if level >= stop {
                break;
            }
        }
        (level, completion, slots[1])
    }

    /// Place of the latest entry whose chain reaches `level` at place `completion`. It is found from the end, by the latest
    /// event of each step before the next.
    fn entry(&self, bounds: &Bounds, level: usize, completion: usize) -> usize {
        let mut wanted = level;
        for place in (0..=completion).rev() {
            if self.code(place) == wanted && (wanted > 1 || self.enters(bounds, place)) {
                wanted -= 1;
                if wanted == 0 {
                    return place;
                }
            }
        }
        completion
    }

    fn enters(&self, bounds: &Bounds, place: usize) -> bool {
        self.code(place) == 1 && (bounds.from..bounds.until).contains(&self.time(place))
    }

    /// Place of the first entry in the range, known to exist.
    fn first_entry(&self, bounds: &Bounds) -> usize {
        (0..self.times.len()).find(|place| self.enters(bounds, *place)).unwrap_or(0)
    }

    /// Places of the steps of the earliest chain from an entry, as many of `levels` as there are. Answers that of the last
    /// if all are there.
    fn follow(&self, entry: usize, levels: usize, places: &mut [u32; 32]) -> Option<usize> {
        let mut reached = 0;
        for place in entry..self.times.len() {
            places[reached % 32] = self.base + place as u32;
            reached += usize::from(self.code(place) == reached + 1);
            if reached >= levels {
                return Some(place);
            }
        }
        None
    }
}
