//! From conversions to marks: for each conversion a bit column that says at which events of a run it happens.

use std::{cell::OnceCell, collections::BTreeSet, ops::Range};

use runnel_kernel::{Per, Sessions, Slice, SliceError, Threshold, Values, members::AsOf};
use runnel_model::{
    Conversion, Counting, EventMatch, Operator, Predicate, Rule, Selector, SessionThreshold, Settings, Value,
    Visit,
};

use crate::{
    loaded::Loaded,
    question::{PredicateError, Test, codes, compile},
    run::{KindColumn, Run},
    seen::off_site,
};

/// A conversion to be marked.
#[derive(Debug, Clone, PartialEq)]
pub struct Happens {
    /// When it happens.
    pub conversion: Conversion,
    /// Only each visitor's first happening in this range of milliseconds; `None`: every one that counts.
    pub first_in: Option<Range<i64>>,
}

impl From<Conversion> for Happens {
    fn from(conversion: Conversion) -> Happens {
        Happens { conversion, first_in: None }
    }
}

/// Conversions, and what says where sessions begin.
#[derive(Debug, Clone, Default)]
pub struct MarksFor {
    /// The conversions, in the order in which they are asked for later.
    pub conversions: Vec<Happens>,
    /// How sessions and pages are told.
    pub settings: Settings,
    /// Whether pages are asked for beside what conversions need of them.
    pub pages: bool,
}

impl MarksFor {
    /// Every column that must be loaded.
    #[must_use]
    pub fn selectors(&self) -> BTreeSet<Selector> {
        let mut selectors = BTreeSet::from([off_site()]);
        for happens in &self.conversions {
            happens.conversion.columns(&mut selectors);
        }
        let counts_pages =
            |one: &Happens| matches!(one.conversion.rule, Rule::Session(SessionThreshold::Pages(_)));
        if self.pages || self.conversions.iter().any(counts_pages) {
            self.settings.pages.iter().for_each(|page| page.columns(&mut selectors));
        }
        selectors
    }

    /// Resolves names and constants against loaded journeys. Events at or after `as_of_ms` do not exist.
    pub fn derive(&self, loaded: &Loaded, as_of_ms: i64) -> Result<Marks, PredicateError> {
        let compiled = |Happens { conversion, first_in }: &Happens| {
            let rule = match &conversion.rule {
                Rule::Event(any_of) => Compiled::Event(matcher(any_of, loaded)?),
                Rule::Session(threshold) => Compiled::Session(*threshold),
                Rule::Visit(visit) => Compiled::Visit(*visit),
                Rule::Progress { event, progress, at_least, item } => Compiled::Progress {
                    reached: matcher(&[reaching(event, progress, *at_least)], loaded)?,
                    item: item.as_ref().map(|item| loaded.column(item).unwrap_or(usize::MAX)),
                },
            };
            Ok((rule, conversion.counting, first_in.clone()))
        };
        Ok(Marks {
            conversions: self.conversions.iter().map(compiled).collect::<Result<_, _>>()?,
            pages: matcher(&self.settings.pages, loaded)?,
            off_site: compile(&is_off_site(), loaded)?,
            gap_ms: self.settings.session_gap_ms,
            as_of_ms,
        })
    }
}

/// Whether an event is off the site.
pub(crate) fn is_off_site() -> Predicate {
    Predicate::Compare { column: off_site(), operator: Operator::Exists, values: Vec::new() }
}

/// The events that tell of enough progress.
fn reaching(event: &EventMatch, progress: &Selector, at_least: f64) -> EventMatch {
    let enough = Predicate::Compare {
        column: progress.clone(),
        operator: Operator::GreaterOrEqual,
        values: vec![Value::Double(at_least.to_bits())],
    };
    let condition = match event.condition.clone() {
        Some(condition) => Predicate::All(vec![condition, enough]),
        None => enough,
    };
    EventMatch { event: event.event.clone(), condition: Some(condition) }
}

/// Conversions, resolved against loaded journeys.
#[derive(Debug)]
pub struct Marks {
    conversions: Vec<(Compiled, Counting, Option<Range<i64>>)>,
    pages: Matcher,
    off_site: Test,
    gap_ms: i64,
    as_of_ms: i64,
}

#[derive(Debug)]
enum Compiled {
    Event(Matcher),
    Session(SessionThreshold),
    Visit(Visit),
    Progress { reached: Matcher, item: Option<usize> },
}

/// Matches of single events as tests of codes.
#[derive(Debug, Default)]
struct Matcher {
    /// For every code of a name whether all its events match.
    kinds: Vec<bool>,
    /// Whether every event matches.
    every: bool,
    /// A name, if one is given, and what its events must pass.
    tested: Vec<(Option<u16>, Test)>,
}

/// A name that never occurred matches nothing.
fn matcher(any_of: &[EventMatch], loaded: &Loaded) -> Result<Matcher, PredicateError> {
    let mut matcher = Matcher { kinds: vec![false; loaded.names.len()], ..Matcher::default() };
    for one in any_of {
        let kind = match &one.event {
            None => None,
            Some(name) => match loaded.names.find(name) {
                Some(kind) => Some(kind),
                None => continue,
            },
        };
        match (kind, &one.condition) {
            (kind, Some(condition)) => matcher.tested.push((kind, compile(condition, loaded)?)),
            // A name that was met since is that of no event of these journeys.
            (Some(kind), None) => {
                if let Some(all) = matcher.kinds.get_mut(usize::from(kind)) {
                    *all = true;
                }
            }
            (None, None) => matcher.every = true,
        }
    }
    Ok(matcher)
}

impl Matcher {
    fn marks(&self, run: &Run) -> Vec<u64> {
        if self.every {
            return vec![u64::MAX; run.events().div_ceil(64)];
        }
        let mut marks = match self.kinds.contains(&true) {
            true => of_kinds(run, &self.kinds),
            false => vec![0; run.events().div_ceil(64)],
        };
        for (kind, test) in &self.tested {
            let mut passed = test.bits(run);
            if let Some(kind) = kind {
                let mut wanted = vec![false; usize::from(*kind) + 1];
                wanted[usize::from(*kind)] = true;
                passed.iter_mut().zip(of_kinds(run, &wanted)).for_each(|(word, named)| *word &= named);
            }
            marks.iter_mut().zip(passed).for_each(|(word, more)| *word |= more);
        }
        marks
    }
}

fn of_kinds(run: &Run, wanted: &[bool]) -> Vec<u64> {
    match &run.kinds {
        KindColumn::U8(kinds) => Values::U8(kinds),
        KindColumn::U16(kinds) => Values::U16(kinds),
    }
    .holding(wanted)
}

impl Marks {
    /// The sessions of a run, from which its marks are made. Skipped visitors have neither.
    pub fn view<'a>(&'a self, run: &'a Run, skip: Option<&'a [u64]>) -> Result<View<'a>, SliceError> {
        let slice = run.slice(skip)?;
        let as_of = AsOf::new(slice, self.as_of_ms);
        Ok(View { marks: self, run, as_of, sessions: OnceCell::new() })
    }
}

/// The sessions of one run, and the marks of conversions in it.
#[derive(Debug)]
pub struct View<'a> {
    marks: &'a Marks,
    run: &'a Run,
    as_of: AsOf<'a>,
    /// Made when somebody asks for them.
    sessions: OnceCell<Sessions<'a>>,
}

impl<'a> View<'a> {
    /// The journeys, as the kernel reads them.
    #[must_use]
    pub fn slice(&self) -> &Slice<'a> {
        self.as_of.slice()
    }

    /// The same as of the instant before which events exist.
    #[must_use]
    pub fn as_of(&self) -> &AsOf<'a> {
        &self.as_of
    }

    /// The sessions.
    #[must_use]
    pub fn sessions(&self) -> &Sessions<'a> {
        self.sessions.get_or_init(|| {
            let mut off_site = self.marks.off_site.bits(self.run);
            // What does not exist yet opens and extends no session, as if it were off the site.
            if let Some(existing) = self.as_of.existing() {
                off_site.iter_mut().zip(existing).for_each(|(word, existing)| *word |= !existing);
            }
            Sessions::new(*self.slice(), Some(&off_site), self.marks.gap_ms)
        })
    }

    /// A bit per event that exists.
    #[must_use]
    pub fn every(&self) -> Vec<u64> {
        let every = || vec![u64::MAX; self.run.events().div_ceil(64)];
        self.as_of.existing().map_or_else(every, <[u64]>::to_vec)
    }

    /// A bit per event that is a page.
    #[must_use]
    pub fn pages(&self) -> Vec<u64> {
        self.exist(self.marks.pages.marks(self.run))
    }

    /// A bit per event at which a conversion happens and counts; none for one that was not asked for.
    #[must_use]
    pub fn conversion(&self, at: usize) -> Vec<u64> {
        let Some((rule, counting, first_in)) = self.marks.conversions.get(at) else { return Vec::new() };
        let marks = match rule {
            Compiled::Event(matcher) => self.exist(matcher.marks(self.run)),
            Compiled::Session(SessionThreshold::DurationMs(ms)) => {
                self.sessions().reaching(Threshold::DurationMs(*ms))
            }
            Compiled::Session(SessionThreshold::Events(count)) => {
                self.sessions().reaching(Threshold::Events(*count))
            }
            Compiled::Session(SessionThreshold::Pages(count)) => {
                self.sessions().reaching(Threshold::Matching { count: *count, which: &self.pages() })
            }
            Compiled::Visit(Visit::Number(number)) => self.sessions().nth_visit(*number),
            Compiled::Visit(Visit::ReturningWithinMs(ms)) => self.sessions().returning(*ms),
            Compiled::Progress { reached, item } => {
                let reached = self.exist(reached.marks(self.run));
                self.sessions().first_per_item(&reached, item.map(|column| self.codes(column)))
            }
        };
        let marks = match counting {
            Counting::EveryTime => marks,
            Counting::OnceASession => self.sessions().once(&marks, Per::Session),
            Counting::OnceAVisitor => self.sessions().once(&marks, Per::Visitor),
        };
        match first_in {
            None => marks,
            Some(range) => self.sessions().once(&self.within(marks, range), Per::Visitor),
        }
    }

    /// The marks in a range of milliseconds.
    fn within(&self, mut marks: Vec<u64>, range: &Range<i64>) -> Vec<u64> {
        let (first_ms, last_ms) = self.run.span_ms;
        if range.start > first_ms || range.end <= last_ms {
            for (at, word) in marks.iter_mut().enumerate() {
                let mut left = *word;
                while left != 0 {
                    let bit = left.trailing_zeros() as usize;
                    let event = at * 64 + bit;
                    if event >= self.run.events() || !range.contains(&self.run.time(event)) {
                        *word &= !(1 << bit);
                    }
                    left &= left - 1;
                }
            }
        }
        marks
    }

    /// The codes of a loaded column; empty for one that is not loaded.
    #[must_use]
    pub fn codes(&self, column: usize) -> Values<'a> {
        codes(self.run, column)
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> &'a Run {
        self.run
    }

    fn exist(&self, mut marks: Vec<u64>) -> Vec<u64> {
        if let Some(existing) = self.as_of.existing() {
            marks.iter_mut().zip(existing).for_each(|(word, existing)| *word &= existing);
        }
        marks
    }
}
