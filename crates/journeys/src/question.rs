//! From conditions and column names to the bit and code columns that the kernel reads, and a run of the kernel over all journeys.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use rayon::prelude::*;
use regex::{Regex, RegexBuilder};
use runnel_kernel::{Columns, Counts, Plan, RunError, Values};
use runnel_model::{
    Conversion, Operator, Predicate, Selector, Settings, Value, ValueRef, compare_numbers, values_equal,
};

use crate::{
    loaded::Loaded,
    marks::{Happens, Marks, MarksFor, is_off_site},
    run::{Run, ValueColumn},
    seen::off_site,
};

/// The codes of a column that is not loaded.
const NONE: Values<'_> = Values::U8(&[]);

/// Memory that one compiled regular expression may take, in bytes.
const REGEX_MEMORY: usize = 1 << 20;

/// What a question needs to know of events beside their names and times.
#[derive(Debug, Clone, Default)]
pub struct ColumnsFor {
    /// Conditions, in the order of the kernel's predicate indices.
    pub conditions: Vec<Condition>,
    /// How sessions are told, for conversions.
    pub settings: Settings,
    /// Whether the plan asks for sessions.
    pub sessions: bool,
    /// Conversions that nothing of may lie between steps that follow each other directly; `None`: no event may.
    pub scope: Option<Vec<Conversion>>,
    /// Held columns.
    pub hold: Vec<Selector>,
    /// The column of a break-down.
    pub break_down: Option<Selector>,
}

/// What an event must satisfy.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// Its columns are so.
    Where(Predicate),
    /// A conversion happens at it, and counts.
    Happens(Happens),
}

/// A condition cannot be evaluated.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PredicateError {
    /// The regular expression is none, or too large.
    #[error("the regular expression {pattern:?} cannot be used: {fault}")]
    Regex {
        /// The expression.
        pattern: String,
        /// What is wrong with it.
        fault: String,
    },
}

/// Why counting failed.
#[derive(Debug, thiserror::Error)]
pub enum CountError {
    /// The kernel refused.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A run's columns do not fit together.
    #[error(transparent)]
    Slice(#[from] runnel_kernel::SliceError),
}

impl ColumnsFor {
    /// Every column that must be loaded.
    #[must_use]
    pub fn selectors(&self) -> BTreeSet<Selector> {
        let mut selectors: BTreeSet<Selector> = self.hold.iter().chain(&self.break_down).cloned().collect();
        for condition in &self.conditions {
            if let Condition::Where(predicate) = condition {
                predicate.columns(&mut |selector| selectors.extend([selector.clone()]));
            }
        }
        if let Some(marks) = self.marks() {
            selectors.extend(marks.selectors());
        }
        selectors.extend(self.sessions.then(off_site));
        selectors
    }

    /// The conversions among the conditions, in their order, then those of the scope, if there are any.
    fn marks(&self) -> Option<MarksFor> {
        let happens = |condition: &Condition| match condition {
            Condition::Where(_) => None,
            Condition::Happens(happens) => Some(happens.clone()),
        };
        let mut conversions: Vec<_> = self.conditions.iter().filter_map(happens).collect();
        conversions.extend(self.scope.iter().flatten().cloned().map(Happens::from));
        let settings = self.settings.clone();
        (!conversions.is_empty()).then_some(MarksFor { conversions, settings, pages: false })
    }

    /// Resolves names and constants against loaded journeys, each distinct value being tested once. Events at or after `as_of_ms` do not exist.
    pub fn derive(&self, loaded: &Loaded, as_of_ms: i64) -> Result<Derived, PredicateError> {
        let place = |selector: &Selector| loaded.column(selector).unwrap_or(usize::MAX);
        let test = |condition: &Condition| match condition {
            Condition::Where(predicate) => compile(predicate, loaded).map(Some),
            Condition::Happens(_) => Ok(None),
        };
        Ok(Derived {
            conditions: self.conditions.iter().map(test).collect::<Result<_, _>>()?,
            marks: self.marks().map(|marks| marks.derive(loaded, as_of_ms)).transpose()?,
            scope: self.scope.as_ref().map(Vec::len),
            off_site: self.sessions.then(|| compile(&is_off_site(), loaded)).transpose()?,
            hold: self.hold.iter().map(place).collect(),
            break_down: self.break_down.as_ref().map(place),
        })
    }
}

/// A question's needs, resolved against loaded journeys.
#[derive(Debug)]
pub struct Derived {
    /// `None` is the next one of the conversions.
    conditions: Vec<Option<Test>>,
    marks: Option<Marks>,
    /// How many conversions make the scope.
    scope: Option<usize>,
    off_site: Option<Test>,
    hold: Vec<usize>,
    break_down: Option<usize>,
}

/// A condition as tests of value codes.
#[derive(Debug)]
pub(crate) enum Test {
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
    Code { column: usize, holds: Vec<bool> },
}

/// The columns of one run, owned.
#[derive(Debug)]
pub struct RunColumns<'a> {
    predicates: Vec<Vec<u64>>,
    scope: Option<Vec<u64>>,
    off_site: Option<Vec<u64>>,
    hold: Option<Held<'a>>,
    break_down: Option<Values<'a>>,
}

/// Codes of what is held.
#[derive(Debug)]
enum Held<'a> {
    One(Values<'a>),
    Tuples(Vec<u32>),
}

impl Derived {
    /// Derives the columns of a run; those of skipped visitors say nothing.
    pub fn columns<'a>(
        &self,
        run: &'a Run,
        skip: Option<&'a [u64]>,
    ) -> Result<RunColumns<'a>, runnel_kernel::SliceError> {
        let hold = match self.hold.as_slice() {
            [] => None,
            [one] => Some(Held::One(codes(run, *one))),
            several => {
                let several: Vec<_> = several.iter().map(|column| codes(run, *column)).collect();
                Some(Held::Tuples(tuples(&several)))
            }
        };
        let view = self.marks.as_ref().map(|marks| marks.view(run, skip)).transpose()?;
        let mut happen = (0..).map_while(|at| Some(view.as_ref()?.conversion(at)));
        let predicates = self.conditions.iter().map(|condition| match condition {
            Some(test) => test.bits(run),
            None => happen.next().unwrap_or_default(),
        });
        let predicates = predicates.collect();
        let scope = self.scope.map(|conversions| {
            let mut scope = vec![0; run.events().div_ceil(64)];
            for marks in happen.take(conversions) {
                scope.iter_mut().zip(marks).for_each(|(word, more)| *word |= more);
            }
            scope
        });
        Ok(RunColumns {
            predicates,
            scope,
            off_site: self.off_site.as_ref().map(|test| test.bits(run)),
            hold,
            break_down: self.break_down.map(|column| codes(run, column)),
        })
    }

    /// Runs a plan and its matured form, if that is another one, over all journeys, in parallel over runs. The sums do not
    /// depend on the order.
    pub fn count(&self, loaded: &Loaded, plan: &Plan) -> Result<(Counts, Option<Counts>), CountError> {
        let runs: Vec<_> = loaded.runs().filter(|(run, _)| run.events() > 0).collect();
        runs.into_par_iter()
            .map(|(run, skip)| {
                let columns = self.columns(run, skip)?;
                let predicates = columns.predicates();
                Ok(plan.run_with_matured(&run.slice(skip)?, &columns.kernel(&predicates))?)
            })
            .try_reduce_with(|(mut counts, mut matured), (more, more_matured)| {
                counts.merge(&more);
                matured.iter_mut().zip(&more_matured).for_each(|(matured, more)| matured.merge(more));
                Ok((counts, matured))
            })
            .unwrap_or_else(|| Ok((Counts::empty(plan), plan.matured().as_ref().map(Counts::empty))))
    }
}

impl RunColumns<'_> {
    /// The bit columns as slices.
    #[must_use]
    pub fn predicates(&self) -> Vec<&[u64]> {
        self.predicates.iter().map(Vec::as_slice).collect()
    }

    /// The columns as the kernel reads them.
    #[must_use]
    pub fn kernel<'a>(&'a self, predicates: &'a [&'a [u64]]) -> Columns<'a> {
        let hold = self.hold.as_ref().map(|held| match held {
            Held::One(values) => *values,
            Held::Tuples(codes) => Values::U32(codes),
        });
        Columns {
            predicates,
            hold,
            break_down: self.break_down,
            scope: self.scope.as_deref(),
            off_site: self.off_site.as_deref(),
        }
    }
}

/// The codes of a column; empty for one that is not loaded.
pub(crate) fn codes(run: &Run, column: usize) -> Values<'_> {
    run.columns.get(column).map_or(NONE, ValueColumn::values)
}

/// Codes of tuples: equal tuples have equal codes, 0 where a part is missing.
fn tuples(columns: &[Values<'_>]) -> Vec<u32> {
    let mut codes: HashMap<Vec<u32>, u32> = HashMap::new();
    let events = columns.first().map_or(0, Values::len);
    let mut tuple = Vec::with_capacity(columns.len());
    (0..events)
        .map(|event| {
            tuple.clear();
            tuple.extend(columns.iter().map(|codes| codes.get(event).unwrap_or(0)));
            if tuple.contains(&0) {
                return 0;
            }
            let next = codes.len() as u32 + 1;
            *codes.entry_ref(&tuple).or_insert(next)
        })
        .collect()
}

impl Test {
    /// A bit per event that passes.
    pub(crate) fn bits(&self, run: &Run) -> Vec<u64> {
        let combine = |tests: &[Test], with: fn(u64, u64) -> u64| {
            let mut parts = tests.iter().map(|test| test.bits(run));
            let mut first = parts.next().unwrap_or_default();
            parts.for_each(|part| {
                first.iter_mut().zip(part).for_each(|(word, other)| *word = with(*word, other))
            });
            first
        };
        match self {
            Test::All(tests) => combine(tests, |left, right| left & right),
            Test::Any(tests) => combine(tests, |left, right| left | right),
            Test::Not(test) => test.bits(run).into_iter().map(|word| !word).collect(),
            Test::Code { column, holds } => codes(run, *column).holding(holds),
        }
    }
}

/// A condition as tests of codes.
pub(crate) fn compile(predicate: &Predicate, loaded: &Loaded) -> Result<Test, PredicateError> {
    Ok(match predicate {
        Predicate::All(parts) => {
            Test::All(parts.iter().map(|part| compile(part, loaded)).collect::<Result<_, _>>()?)
        }
        Predicate::Any(parts) => {
            Test::Any(parts.iter().map(|part| compile(part, loaded)).collect::<Result<_, _>>()?)
        }
        Predicate::Not(part) => Test::Not(Box::new(compile(part, loaded)?)),
        Predicate::Compare { column, operator, values } => {
            let regex = match (operator, values.first()) {
                (Operator::Regex, Some(Value::String(pattern))) => Some(self::regex(pattern)?),
                _ => None,
            };
            let missing = matches!(operator, Operator::NotEqual | Operator::NotIn | Operator::Missing);
            let place = loaded.column(column).unwrap_or(usize::MAX);
            let holds = match loaded.columns.get(place) {
                Some((_, dictionary)) => {
                    dictionary.test(missing, |value| holds(*operator, value, values, regex.as_ref()))
                }
                None => vec![missing],
            };
            Test::Code { column: place, holds }
        }
    })
}

/// Whether a condition's regular expression can be used. To be asked before a question is admitted.
pub fn regex(pattern: &str) -> Result<Regex, PredicateError> {
    RegexBuilder::new(pattern)
        .size_limit(REGEX_MEMORY)
        .build()
        .map_err(|fault| PredicateError::Regex { pattern: pattern.to_owned(), fault: fault.to_string() })
}

/// What a comparison says about a value that is there.
fn holds(operator: Operator, value: ValueRef<'_>, constants: &[Value], regex: Option<&Regex>) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let equal = || constants.iter().any(|constant| values_equal(value, constant.as_ref()));
    let order = || constants.first().and_then(|constant| compare_numbers(value, constant.as_ref()));
    let text = |test: fn(&str, &str) -> bool| match (value, constants.first()) {
        (ValueRef::String(value), Some(Value::String(constant))) => test(value, constant),
        _ => false,
    };
    match operator {
        Operator::Equal | Operator::In => equal(),
        Operator::NotEqual | Operator::NotIn => !equal(),
        Operator::Less => order() == Some(Less),
        Operator::LessOrEqual => matches!(order(), Some(Less | Equal)),
        Operator::Greater => order() == Some(Greater),
        Operator::GreaterOrEqual => matches!(order(), Some(Greater | Equal)),
        Operator::Prefix => text(|value, constant| value.starts_with(constant)),
        Operator::Contains => text(|value, constant| value.contains(constant)),
        Operator::Regex => {
            matches!((value, regex), (ValueRef::String(value), Some(regex)) if regex.is_match(value))
        }
        Operator::Exists => true,
        Operator::Missing => false,
    }
}
