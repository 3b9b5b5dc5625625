//! What every question about counts needs: what is counted, over which journeys, and what it is worth.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use runnel_contracts::{
    conversion::event_match,
    proto::{
        event::v1::Money,
        query::v1::{self as query, EventMatch},
    },
    refusal::{Reason, Refusal},
};
use runnel_journeys::{CountError, Happens, Journeys, Loaded, Marks, MarksFor, View};
use runnel_kernel::{Amounts, Values};
use runnel_model::{Conversion, CurrencyOf, Selector, TenantName, Value, Worth};
use runnel_storage::compute;
use tracing::Instrument;

use crate::{
    ask::provenance,
    catalog::Catalogue,
    definition::{Range, patterns},
    refusal::{counting, loading, stopped, unavailable},
};

/// Something that is counted.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// The name of the event or conversion.
    pub(crate) label: String,
    /// When it happens, and what it is worth.
    pub(crate) conversion: Conversion,
}

/// An event of a request, or a conversion of the catalogue; `at` is the field that names it.
pub(crate) fn subject(at: &str, event: &EventMatch, catalogue: &Catalogue) -> Result<Subject, Refusal> {
    if event.conversion.is_empty() {
        let one = event_match(at, event)?;
        if let Some(condition) = &one.condition {
            patterns(&format!("{at}.where"), condition)?;
        }
        let label = one.event.clone().unwrap_or_else(|| "any event".to_owned());
        return Ok(Subject { label, conversion: Conversion::of_event(one) });
    }
    let field = format!("{at}.conversion");
    if !event.event.is_empty() || event.r#where.is_some() {
        let text = "Name either a conversion or an event with a condition, not both.";
        return Err(Refusal::field(Reason::ConversionInvalid, field, text));
    }
    let known = catalogue.conversion(&field, &event.conversion)?;
    Ok(Subject { label: event.conversion.clone(), conversion: known.conversion.clone() })
}

/// A question that was brought before the journeys of every batch that was committed before.
pub(crate) struct Asked {
    pub(crate) loaded: Arc<Loaded>,
    marks: Marks,
    worths: Vec<Priced>,
    pub(crate) range: Range,
    /// Version of the tenant's definitions.
    pub(crate) definition: u64,
}

/// What a conversion is worth, with columns as places.
struct Priced {
    worth: Worth,
    micros: Vec<i64>,
    amount: usize,
    currency: Option<usize>,
}

impl Asked {
    /// Loads what the subjects need, and these columns beside it.
    pub(crate) async fn new(
        journeys: &Journeys,
        tenant: &TenantName,
        catalogue: &Catalogue,
        subjects: &[Subject],
        columns: impl IntoIterator<Item = Selector>,
        range: Range,
    ) -> Result<Asked, Refusal> {
        let conversions = subjects.iter().map(|one| Happens::from(one.conversion.clone())).collect();
        let wanted = MarksFor { conversions, settings: catalogue.settings.clone(), pages: true };
        let mut selectors = wanted.selectors();
        selectors.extend(columns);
        for subject in subjects {
            let (amount, currency) = subject.conversion.worth.columns();
            selectors.extend(amount.into_iter().chain(currency));
        }
        let at = journeys.with_sessions(tenant, &selectors, &catalogue.settings);
        let at = at.instrument(tracing::info_span!("journeys"));
        let (loaded, definition) = tokio::join!(at, journeys.store().definition_version(tenant));
        let loaded = loaded.map_err(|fault| loading(&fault))?;
        let definition = definition.map_err(|fault| unavailable(&fault))?;
        let marks = wanted
            .derive(&loaded, range.as_of_ms)
            .map_err(|fault| Refusal::field(Reason::PredicateInvalid, "conversion", format!("{fault}.")))?;
        let worths = subjects.iter().map(|one| priced(&one.conversion.worth, &loaded)).collect();
        Ok(Asked { loaded, marks, worths, range, definition })
    }

    /// The earliest and the latest event, in milliseconds since the Unix epoch.
    pub(crate) fn span_ms(&self) -> Option<(i64, i64)> {
        let runs = self.loaded.runs().filter(|(run, _)| run.events() > 0);
        runs.map(|(run, _)| run.span_ms)
            .reduce(|(from, until), (first, last)| (from.min(first), until.max(last)))
    }

    /// Counts every run, in parallel, and merges the counts, whose order does not matter.
    pub(crate) async fn count<T: Default + Send + 'static>(
        self: &Arc<Asked>,
        journeys: &Journeys,
        count: impl Fn(&View<'_>) -> T + Send + Sync + 'static,
        merge: impl Fn(&mut T, T) + Send + Sync + 'static,
    ) -> Result<T, Refusal> {
        let (pool, asked, span) = (journeys.pool().clone(), self.clone(), tracing::info_span!("count"));
        let work = move || {
            let _counting = span.entered();
            pool.install(|| {
                asked
                    .loaded
                    .fold(|run, skip| Ok::<_, CountError>(count(&asked.marks.view(run, skip)?)), merge)
            })
        };
        compute(work).await.map_err(|_| stopped())?.map_err(|fault| counting(&fault))
    }

    /// The place of a loaded column.
    pub(crate) fn column(&self, selector: &Selector) -> usize {
        self.loaded.column(selector).unwrap_or(usize::MAX)
    }

    /// The value behind a code of a column.
    pub(crate) fn value(&self, column: usize, code: u32) -> Option<Value> {
        self.loaded.columns.get(column)?.1.value(code)
    }

    /// What each event is worth for a subject; `None` if that does not depend on the event.
    pub(crate) fn amounts<'a>(&'a self, view: &View<'a>, subject: usize) -> Option<Amounts<'a>> {
        let priced = self.worths.get(subject)?;
        let nowhere = Values::U8(&[]);
        (!priced.micros.is_empty()).then(|| Amounts {
            micros: &priced.micros,
            codes: view.codes(priced.amount),
            currencies: priced.currency.map_or(nowhere, |column| view.codes(column)),
        })
    }

    /// Sums by currency, for so many happenings of a subject; by currency code, where that depends on the event.
    pub(crate) fn money(
        &self,
        subject: usize,
        events: u64,
        sums: &BTreeMap<u32, i128>,
    ) -> Result<Vec<Money>, Refusal> {
        let Some(priced) = self.worths.get(subject) else { return Ok(Vec::new()) };
        let mut by_currency: BTreeMap<String, i128> = BTreeMap::new();
        match &priced.worth {
            Worth::Fixed { micros, currency } => {
                by_currency.insert(currency.clone(), i128::from(*micros) * i128::from(events));
            }
            Worth::OfProperty { currency: CurrencyOf::Fixed(currency), .. } => {
                sums.values().for_each(|sum| *by_currency.entry(currency.clone()).or_default() += sum);
            }
            Worth::OfEvent | Worth::OfProperty { .. } => {
                for (code, sum) in sums {
                    let currency = priced.currency.and_then(|column| self.value(column, *code));
                    let currency = currency.map(|value| value.show()).unwrap_or_default();
                    *by_currency.entry(currency).or_default() += sum;
                }
            }
        }
        let money = |(currency, sum): (String, i128)| {
            let too_large = |_| {
                let text = format!("The sum in {currency} does not fit into 64 bits of millionths.");
                Refusal::new(Reason::NumberOutOfRange, text)
            };
            Ok(Money { micros: i64::try_from(sum).map_err(too_large)?, currency })
        };
        by_currency.into_iter().filter(|_| events > 0).map(money).collect()
    }

    /// As of when.
    pub(crate) fn provenance(&self, notes: Vec<String>) -> query::Provenance {
        provenance(&self.loaded, self.definition, self.range.as_of_ms, notes)
    }

    /// Remarks on subjects whose events never occurred, so that a zero is never silent.
    pub(crate) fn notes(&self, subjects: &[Subject]) -> Vec<String> {
        let mut names = BTreeSet::new();
        for subject in subjects {
            subject.conversion.event_names(&mut names);
        }
        let unknown = names.iter().filter(|name| self.loaded.names.find(name).is_none());
        unknown.map(|name| never_occurred(name)).collect()
    }
}

/// A remark on an event that never occurred.
pub(crate) fn never_occurred(name: &str) -> String {
    format!("There is no event named {name:?}; runnel catalog events lists those there are.")
}

fn priced(worth: &Worth, loaded: &Loaded) -> Priced {
    let (amount, currency) = worth.columns();
    let place = |selector: Selector| loaded.column(&selector).unwrap_or(usize::MAX);
    let per_unit = if *worth == Worth::OfEvent { 1 } else { 1_000_000 };
    let amount = amount.map_or(usize::MAX, place);
    let micros = loaded.columns.get(amount).map(|(_, dictionary)| dictionary.micros(per_unit));
    Priced { worth: worth.clone(), micros: micros.unwrap_or_default(), amount, currency: currency.map(place) }
}

/// A range as it was resolved.
pub(crate) fn resolved(range: Range) -> query::TimeRange {
    query::TimeRange { from_ms: Some(range.from_ms), until_ms: Some(range.until_ms) }
}
