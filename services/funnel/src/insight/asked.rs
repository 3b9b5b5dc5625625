//! What every question about counts needs: what is counted, over which journeys, and what it is worth.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use runnel_contracts::{
    proto::{
        event::v1::Money,
        query::v1::{self as query, EventMatch},
    },
    refusal::{Reason, Refusal},
};
use runnel_definitions::{
    catalogue::Catalogue,
    funnel::Range,
    posed::{self, never_occurred, provenance},
    refusal::{counting, stopped},
    worth::Priced,
};
use runnel_journeys::{CountError, Happens, Journeys, Loaded, Marks, MarksFor, Unobserved, View};
use runnel_kernel::Amounts;
use runnel_model::{Conversion, Selector, TenantName, Value};
use runnel_storage::compute;

use crate::answer::amount;

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
    let label = match (&*event.conversion, &*event.event) {
        ("", "") => "any event",
        ("", name) | (name, _) => name,
    };
    Ok(Subject { label: label.to_owned(), conversion: catalogue.happening(at, event)? })
}

/// A question that was brought before the journeys of every batch that was committed before.
pub(crate) struct Asked {
    pub(crate) loaded: Arc<Loaded>,
    marks: Marks,
    worths: Vec<Priced>,
    pub(crate) range: Range,
    /// Version of the tenant's definitions.
    pub(crate) definition: u64,
    /// A remark on what is not kept.
    not_kept: Option<String>,
}

/// Whose journeys a question is about, and which of them.
#[derive(Clone, Copy)]
pub(crate) struct Over<'a> {
    pub(crate) tenant: &'a TenantName,
    pub(crate) catalogue: &'a Catalogue,
    pub(crate) range: Range,
    /// Whether visitors who are bots are left out.
    pub(crate) without_bots: bool,
}

impl Asked {
    /// Loads what the subjects need, and these columns beside it.
    pub(crate) async fn new(
        journeys: &Journeys,
        over: Over<'_>,
        subjects: &[Subject],
        columns: impl IntoIterator<Item = Selector>,
    ) -> Result<Asked, Refusal> {
        let Over { tenant, catalogue, range, without_bots } = over;
        let conversions = subjects.iter().map(|one| Happens::from(one.conversion.clone())).collect();
        let wanted = MarksFor { conversions, settings: catalogue.settings.clone(), pages: true };
        let mut selectors = wanted.selectors();
        selectors.extend(columns);
        for subject in subjects {
            let (amount, currency) = subject.conversion.worth.columns();
            selectors.extend(amount.into_iter().chain(currency));
        }
        let (loaded, definition) =
            posed::loaded(journeys, tenant, selectors, &catalogue.settings, without_bots).await?;
        let not_kept = posed::kept(&loaded, range.from_ms)?;
        let marks = wanted
            .derive(&loaded, range.as_of_ms)
            .map_err(|fault| Refusal::field(Reason::PredicateInvalid, "conversion", format!("{fault}.")))?;
        let worths = subjects.iter().map(|one| Priced::new(&one.conversion.worth, &loaded)).collect();
        Ok(Asked { loaded, marks, worths, range, definition, not_kept })
    }

    /// The earliest and the latest event, in milliseconds since the Unix epoch.
    pub(crate) fn span_ms(&self) -> Option<(i64, i64)> {
        self.loaded.span_ms()
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

    /// Counts what is in no count because consent was denied.
    pub(crate) async fn unobserved(self: &Arc<Asked>, journeys: &Journeys) -> Result<Unobserved, Refusal> {
        let (pool, asked) = (journeys.pool().clone(), self.clone());
        compute(move || pool.install(|| asked.loaded.unobserved())).await.map_err(|_| stopped())
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
    pub(crate) fn amounts<'a>(&'a self, view: &'a View<'_>, subject: usize) -> Option<Amounts<'a>> {
        self.worths.get(subject)?.amounts(view)
    }

    /// Sums by currency, for so many happenings of a subject; by currency code, where that depends on the event.
    pub(crate) fn money(
        &self,
        subject: usize,
        events: u64,
        sums: &BTreeMap<u32, i128>,
    ) -> Result<Vec<Money>, Refusal> {
        let Some(priced) = self.worths.get(subject) else { return Ok(Vec::new()) };
        let by_currency = priced.by_currency(&self.loaded, events, sums);
        let amounts = by_currency.into_iter().filter(|_| events > 0);
        amounts.map(|(currency, sum)| amount(currency, sum)).collect()
    }

    /// As of when.
    pub(crate) fn provenance(&self, mut notes: Vec<String>) -> query::Provenance {
        notes.extend(self.not_kept.clone());
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

/// A range as it was resolved.
pub(crate) fn resolved(range: Range) -> query::TimeRange {
    query::TimeRange { from_ms: Some(range.from_ms), until_ms: Some(range.until_ms) }
}
