//! One visitor: where it stands, and what it did.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use moka::future::Cache;
use runnel_contracts::{
    proto::{
        catalog::v1::Stage,
        event::v1::Money,
        funnel::v1::{FunnelDefinition, TrendInterval, UnitState},
        query::v1 as query,
        segmentation::v1::{
            Condition, Conditions, GetVisitorRequest, GetVisitorResponse, InStage, ListTimelineRequest,
            ListTimelineResponse, SegmentDefinition, TimelineEntry, VisitorConversion, VisitorFunnel,
            VisitorSegment, VisitorSession, VisitorUnit, condition::Node,
        },
    },
    refusal::{Reason, Refusal},
};
use runnel_definitions::{
    catalogue::Catalogue,
    funnel::{self, Range},
    members::{Members, selectors},
    posed::{self, Posed},
    refusal::{counting, loading, stopped, unavailable},
    saved::{self, Named, Saved, foreign_token, page_size},
    segment::{self, Checked},
    worth::Priced,
};
use runnel_journeys::{CountError, Happens, Journeys, Loaded, Marks, MarksFor, PredicateError, View};
use runnel_kernel::{Session, State, UnitOutcome};
use runnel_model::{Dimension, Selector, TenantName, Value, Worth, limits};
use runnel_storage::compute;
use tracing::Instrument;

/// The rungs of the ladder of intent, and the one beside it.
const STAGES: [Stage; 4] = [Stage::Interest, Stage::Engagement, Stage::Willingness, Stage::Negative];

/// Questions that are kept at hand, and for how long: a database that was put back to an earlier state may give the same version to other definitions.
const AT_HAND: u64 = 256;
const BELIEVED: Duration = Duration::from_secs(60);

/// Answers questions about single visitors. Clones share one.
#[derive(Clone, Debug)]
pub(crate) struct Visitors {
    journeys: Journeys,
    /// Questions that ask for no list, which changes without them, by the definitions that they are made of.
    questions: Cache<Key, Arc<Questions>>,
}

/// Of which tenant, by which version of its definitions, in which names. One without names is a timeline's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    tenant: TenantName,
    definition: u64,
    names: Option<Names>,
}

/// Segments and funnels, as they were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Names {
    segments: Vec<String>,
    funnels: Vec<String>,
}

/// What is asked of visitors, checked: sessions and the conversions of the catalogue, and what has a name.
#[derive(Debug)]
struct Questions {
    /// The version of the tenant's definitions.
    definition: u64,
    marks: MarksFor,
    /// Names of conversions, in the order of the marks.
    conversions: Vec<String>,
    stages: Option<Checked>,
    segments: Vec<(Named<SegmentDefinition>, Checked)>,
    funnels: Vec<(Named<FunnelDefinition>, funnel::Checked)>,
}

/// What is asked about a visitor.
struct Asked {
    id: String,
    as_of_ms: i64,
    questions: Arc<Questions>,
    /// Whether what is at stake in funnels is told.
    values: bool,
}

fn session(dimension: Dimension) -> Selector {
    Selector::Session(dimension)
}

impl Questions {
    fn new(definition: u64, catalogue: &Catalogue) -> Questions {
        let conversions = catalogue.conversions.values().map(|known| Happens::from(known.conversion.clone()));
        Questions {
            definition,
            marks: MarksFor {
                conversions: conversions.collect(),
                settings: catalogue.settings.clone(),
                pages: false,
            },
            conversions: catalogue.conversions.keys().cloned().collect(),
            stages: None,
            segments: Vec::new(),
            funnels: Vec::new(),
        }
    }

    /// Whether they stay the same for as long as the definitions do.
    fn lasts(&self) -> bool {
        let on_list = |condition: &segment::Asked| matches!(condition, segment::Asked::OnList(_));
        !self.segments.iter().any(|(_, checked)| checked.conditions.iter().any(on_list))
    }

    /// Whatever is looked at.
    fn columns(&self) -> BTreeSet<Selector> {
        let mut columns = self.marks.selectors();
        columns.extend([Dimension::Channel, Dimension::Device, Dimension::FirstChannel].map(session));
        columns.extend(self.stages.iter().flat_map(selectors));
        columns.extend(self.segments.iter().flat_map(|(_, checked)| selectors(checked)));
        columns.extend(self.funnels.iter().flat_map(|(_, checked)| checked.columns.selectors()));
        columns
    }
}

impl Asked {
    /// Whatever is looked at.
    fn columns(&self) -> BTreeSet<Selector> {
        let mut columns = self.questions.columns();
        let (amount, currency) = Worth::OfEvent.columns();
        columns.extend(amount.into_iter().chain(currency).filter(|_| self.values));
        columns
    }
}

/// The id of the visitor that is asked for.
fn present(visitor_id: String) -> Result<String, Refusal> {
    if visitor_id.is_empty() {
        return Err(Refusal::field(Reason::FieldMissing, "visitor_id", "visitor_id is missing."));
    }
    Ok(visitor_id)
}

/// A definition of which the parts are the stages, in their order.
fn stages() -> SegmentDefinition {
    let stage = |stage: Stage| InStage { stage: stage as i32, within_ms: None };
    let part = |one| Condition { node: Some(Node::InStage(stage(one))) };
    let any = Node::Any(Conditions { parts: STAGES.map(part).to_vec() });
    SegmentDefinition { condition: Some(Condition { node: Some(any) }), ..SegmentDefinition::default() }
}

/// The journey of one visitor, with what is told of it.
struct Alone {
    loaded: Arc<Loaded>,
    marks: Marks,
}

impl Alone {
    fn new(loaded: Loaded, asked: &Asked) -> Result<Alone, Refusal> {
        let loaded = Arc::new(loaded);
        let bad = |fault: PredicateError| {
            Refusal::field(Reason::PredicateInvalid, "conversion", format!("{fault}."))
        };
        let marks = asked.questions.marks.derive(&loaded, asked.as_of_ms).map_err(bad)?;
        Ok(Alone { loaded, marks })
    }

    fn view(&self) -> Result<View<'_>, CountError> {
        Ok(self.marks.view(self.loaded.shards[0].base(), None)?)
    }

    /// What an event has in a column, as text; empty when it has nothing.
    fn text(&self, dimension: Dimension, event: usize) -> String {
        let run = self.loaded.shards[0].base();
        let value = self.loaded.column(&session(dimension)).and_then(|column| {
            let code = run.columns.get(column)?.values().get(event)?;
            self.loaded.columns[column].1.value(code)
        });
        value.as_ref().map(Value::show).unwrap_or_default()
    }
}

/// The events that have a bit.
fn marked(bits: &[u64], events: usize) -> impl DoubleEndedIterator<Item = usize> {
    (0..events).filter(move |event| bits.get(event / 64).is_some_and(|word| word >> (event % 64) & 1 == 1))
}

impl Visitors {
    pub(crate) fn new(journeys: Journeys) -> Visitors {
        let questions = Cache::builder().max_capacity(AT_HAND).time_to_live(BELIEVED).build();
        Visitors { journeys, questions }
    }

    /// A saved definition, which `field` names.
    async fn named<D: Saved>(
        &self,
        tenant: &TenantName,
        field: &str,
        name: &str,
    ) -> Result<Named<D>, Refusal> {
        saved::find(self.journeys.store(), tenant, name, 0).await?.ok_or_else(|| {
            Refusal::field(Reason::NotFound, field, format!("There is no {} {name:?}.", D::WHAT))
        })
    }

    /// The journey of the visitor that is asked about.
    async fn alone(&self, tenant: &TenantName, asked: &Asked) -> Result<Loaded, Refusal> {
        let (columns, settings) = (asked.columns(), &asked.questions.marks.settings);
        let alone = self.journeys.alone(tenant, &asked.id, &columns, settings);
        alone.instrument(tracing::info_span!("journeys")).await.map_err(|fault| loading(&fault))
    }

    /// What is asked, by the tenant's definitions as they are.
    async fn questions(&self, tenant: &TenantName, names: Option<Names>) -> Result<Arc<Questions>, Refusal> {
        let definition = self.journeys.store().definition_version(tenant).await;
        let definition = definition.map_err(|fault| unavailable(&fault))?;
        let key = Key { tenant: tenant.clone(), definition, names };
        if let Some(known) = self.questions.get(&key).await {
            return Ok(known);
        }
        // Definitions that change meanwhile have another version, for which they are read again.
        let questions = Arc::new(self.read(tenant, definition, key.names.as_ref()).await?);
        if questions.lasts() {
            self.questions.insert(key, questions.clone()).await;
        }
        Ok(questions)
    }

    async fn read(
        &self,
        tenant: &TenantName,
        definition: u64,
        names: Option<&Names>,
    ) -> Result<Questions, Refusal> {
        let store = self.journeys.store();
        let catalogue = Catalogue::read(store, tenant).await?;
        let mut questions = Questions::new(definition, &catalogue);
        let Some(Names { segments, funnels }) = names else { return Ok(questions) };
        questions.stages = Some(segment::check(store, tenant, &catalogue, "stage", &stages()).await?);
        for (at, name) in segments.iter().enumerate() {
            let field = format!("segments[{at}]");
            let named: Named<SegmentDefinition> = self.named(tenant, &field, name).await?;
            let checked = segment::check(store, tenant, &catalogue, &field, &named.definition).await?;
            questions.segments.push((named, checked));
        }
        for (at, name) in funnels.iter().enumerate() {
            let field = format!("funnels[{at}]");
            let named: Named<FunnelDefinition> = self.named(tenant, &field, name).await?;
            let checked = funnel::check(&named.definition, None, TrendInterval::Unspecified, &catalogue)?;
            questions.funnels.push((named, checked));
        }
        Ok(questions)
    }

    pub(crate) async fn get(
        &self,
        tenant: &TenantName,
        request: GetVisitorRequest,
        now_ms: i64,
    ) -> Result<GetVisitorResponse, Refusal> {
        let as_of_ms = funnel::range(None, request.as_of_ms, now_ms)?.as_of_ms;
        for (field, names) in [("segments", &request.segments), ("funnels", &request.funnels)] {
            if names.len() > limits::ASKED_OF_A_VISITOR {
                let (most, count) = (limits::ASKED_OF_A_VISITOR, names.len());
                let text = format!("At most {most} {field} are asked for at a time; here are {count}.");
                return Err(Refusal::field(Reason::NumberOutOfRange, field, text));
            }
        }
        let GetVisitorRequest { visitor_id, segments, funnels, values, .. } = request;
        let id = present(visitor_id)?;
        let questions = self.questions(tenant, Some(Names { segments, funnels })).await?;
        let asked = Asked { id, as_of_ms, questions, values };
        let loaded = self.alone(tenant, &asked).await?;
        let told = move || {
            let alone = Alone::new(loaded, &asked)?;
            let mut answer = tell(&alone, &asked)?;
            answer.visitor_id = alone.loaded.people.visitor(&asked.id).to_owned();
            answer.provenance = Some(provenance(&alone.loaded, &asked)?);
            Ok(answer)
        };
        compute(told).await.map_err(|_| stopped())?
    }

    pub(crate) async fn timeline(
        &self,
        tenant: &TenantName,
        request: ListTimelineRequest,
        now_ms: i64,
    ) -> Result<ListTimelineResponse, Refusal> {
        let size = page_size(request.page_size)?;
        let token = Token::parse(&request.page_token)?;
        let as_of_ms = match (&token, request.as_of_ms) {
            (Some(token), Some(asked)) if token.as_of_ms != asked => return Err(foreign_token()),
            (Some(token), _) => token.as_of_ms,
            (None, asked) => funnel::range(None, asked, now_ms)?.as_of_ms,
        };
        let id = present(request.visitor_id)?;
        let asked = Asked { id, as_of_ms, questions: self.questions(tenant, None).await?, values: false };
        let loaded = self.alone(tenant, &asked).await?;
        let told = move || {
            let alone = Alone::new(loaded, &asked)?;
            let mut answer = page(&alone, &asked, token, size).map_err(|fault| counting(&fault))?;
            answer.visitor_id = alone.loaded.people.visitor(&asked.id).to_owned();
            answer.provenance = Some(provenance(&alone.loaded, &asked)?);
            Ok(answer)
        };
        compute(told).await.map_err(|_| stopped())?
    }
}

/// As of when, with a remark where not everything is kept.
fn provenance(loaded: &Loaded, asked: &Asked) -> Result<query::Provenance, Refusal> {
    let kept = posed::kept(loaded, *limits::TIME_RANGE_MS.start())?;
    Ok(posed::provenance(loaded, asked.questions.definition, asked.as_of_ms, kept.into_iter().collect()))
}

/// Where the visitor stands.
fn tell(alone: &Alone, asked: &Asked) -> Result<GetVisitorResponse, Refusal> {
    let failed = |fault: CountError| counting(&fault);
    let run = alone.loaded.shards[0].base();
    let questions = &*asked.questions;
    let view = alone.view().map_err(failed)?;
    let existing: Vec<usize> = marked(&view.every(), run.events()).collect();
    let sessions: Vec<Session> = view.sessions().of_visitor(0).collect();
    let conversions = questions.conversions.iter().enumerate().filter_map(|(at, name)| {
        let marks = view.conversion(at);
        let times: Vec<i64> = marked(&marks, run.events()).map(|event| run.time(event)).collect();
        let (first_ms, last_ms) = (*times.first()?, *times.last()?);
        Some(VisitorConversion { name: name.clone(), times: times.len() as u64, first_ms, last_ms })
    });
    let mut answer = GetVisitorResponse {
        events: existing.len() as u64,
        sessions: sessions.len() as u64,
        first_ms: existing.first().map(|event| run.time(*event)),
        last_ms: existing.last().map(|event| run.time(*event)),
        session: sessions.last().map(|last| VisitorSession {
            started_ms: run.time(last.first),
            last_ms: run.time(last.last),
            events: u64::from(last.events),
            number: sessions.len() as u64,
            open: asked.as_of_ms
                <= run.time(last.last).saturating_add(questions.marks.settings.session_gap_ms),
            channel: alone.text(Dimension::Channel, last.first),
            device: alone.text(Dimension::Device, last.first),
        }),
        first_channel: sessions
            .first()
            .map(|first| alone.text(Dimension::FirstChannel, first.first))
            .unwrap_or_default(),
        conversions: conversions.collect(),
        ..GetVisitorResponse::default()
    };
    let holds = |bits: &[u64]| bits.first().is_some_and(|word| word & 1 == 1);
    if let Some(stages) = &questions.stages {
        let members = Members::new(alone.loaded.clone(), stages.clone(), asked.as_of_ms)?;
        let found = members.of(run, None).map_err(failed)?;
        let stage = STAGES.iter().zip(&stages.told).find(|(_, (_, who))| holds(&found.of(who)));
        answer.stage = stage.map_or(Stage::Unspecified, |(stage, _)| *stage) as i32;
    }
    for (named, checked) in &questions.segments {
        let members = Members::new(alone.loaded.clone(), checked.clone(), asked.as_of_ms)?;
        let member = holds(&members.of(run, None).map_err(failed)?.members);
        answer.segments.push(VisitorSegment { name: named.name.clone(), version: named.version, member });
    }
    let priced = asked.values.then(|| Priced::new(&Worth::OfEvent, &alone.loaded));
    for (named, checked) in &questions.funnels {
        let from_ms = *limits::TIME_RANGE_MS.start();
        let range = Range { from_ms, until_ms: asked.as_of_ms, as_of_ms: asked.as_of_ms };
        let posed = Posed::new(alone.loaded.clone(), checked, range, questions.definition)?;
        let units = outcomes(&posed).map_err(failed)?;
        let value = |unit: &UnitOutcome| {
            let range_ms = unit.entry_ms..=unit.completion_ms;
            let (currency, micros) = priced.as_ref()?.latest(&alone.loaded, (run, 0), &range_ms)?;
            Some(Money { micros, currency })
        };
        let unit =
            |unit: &UnitOutcome| VisitorUnit { value: value(unit), ..told(checked, unit, asked.as_of_ms) };
        let units = units.iter().map(unit).collect();
        answer.funnels.push(VisitorFunnel { name: named.name.clone(), version: named.version, units });
    }
    Ok(answer)
}

/// What a funnel counts of the only visitor.
fn outcomes(posed: &Posed) -> Result<Vec<UnitOutcome>, CountError> {
    let run = posed.loaded.shards[0].base();
    let columns = posed.derived.columns(run, None)?;
    let predicates = columns.predicates();
    Ok(posed.plan.outcomes(&run.slice(None)?, &columns.kernel(&predicates), 0)?)
}

fn told(checked: &funnel::Checked, unit: &UnitOutcome, as_of_ms: i64) -> VisitorUnit {
    let steps = &checked.resolved().steps;
    let required = steps.iter().enumerate().filter(|(_, step)| !step.optional);
    let furthest = required.map(|(at, _)| at).nth(unit.level.saturating_sub(1)).unwrap_or(0);
    let state = match unit.state {
        _ if unit.removed => UnitState::Removed,
        State::Converted => UnitState::Converted,
        State::Dropped => UnitState::Dropped,
        State::Excluded => UnitState::Excluded,
        State::Open => UnitState::Open,
    };
    let ends_ms = unit.entry_ms.saturating_add(checked.choices.window_ms);
    VisitorUnit {
        step: furthest as u32 + 1,
        label: steps.get(furthest).map(|step| step.label.clone()).unwrap_or_default(),
        state: state as i32,
        entered_ms: unit.entry_ms,
        step_ms: unit.completion_ms,
        // Another entry may keep it open when the furthest chain is over.
        ends_ms: (state == UnitState::Open && ends_ms >= as_of_ms).then_some(ends_ms),
        value: None,
    }
}

/// Where a page of a timeline ended.
struct Token {
    as_of_ms: i64,
    /// The instant of its last entry, and how many entries of that instant were told.
    time_ms: i64,
    told: usize,
}

impl Token {
    /// Reads what [`Token::show`] wrote; `None` for the first page.
    fn parse(text: &str) -> Result<Option<Token>, Refusal> {
        if text.is_empty() {
            return Ok(None);
        }
        let numbers: Option<Vec<i64>> = text.split(':').map(|part| part.parse().ok()).collect();
        match numbers.as_deref() {
            Some([as_of_ms, time_ms, told]) if *told >= 0 => {
                Ok(Some(Token { as_of_ms: *as_of_ms, time_ms: *time_ms, told: *told as usize }))
            }
            _ => Err(foreign_token()),
        }
    }

    fn show(&self) -> String {
        format!("{}:{}:{}", self.as_of_ms, self.time_ms, self.told)
    }
}

/// The next entries behind a token, the latest first.
fn page(
    alone: &Alone,
    asked: &Asked,
    token: Option<Token>,
    size: usize,
) -> Result<ListTimelineResponse, CountError> {
    let run = alone.loaded.shards[0].base();
    let view = alone.view()?;
    let conversions: Vec<Vec<u64>> =
        (0..asked.questions.conversions.len()).map(|at| view.conversion(at)).collect();
    let off_site = alone.loaded.column(&runnel_journeys::off_site());
    let is_off_site = |event: usize| {
        let codes = off_site.and_then(|column| run.columns.get(column));
        codes.is_some_and(|codes| codes.values().get(event).unwrap_or(0) != 0)
    };
    let mut ordinals = view.sessions().ordinals(0);
    let sessions: Vec<Option<u32>> = (0..run.events()).map(|event| ordinals.of(event)).collect();
    let mut left = token.as_ref().map_or(0, |token| token.told);
    let behind = |event: &usize| match &token {
        None => true,
        Some(token) if run.time(*event) == token.time_ms && left > 0 => {
            left -= 1;
            false
        }
        Some(token) => run.time(*event) <= token.time_ms,
    };
    let mut events: Vec<usize> =
        marked(&view.every(), run.events()).rev().filter(behind).take(size + 1).collect();
    let more = events.len() > size;
    events.truncate(size);
    let next = events.last().filter(|_| more).map(|last| {
        let time_ms = run.time(*last);
        let here = events.iter().filter(|event| run.time(**event) == time_ms).count();
        let before = token.as_ref().filter(|token| token.time_ms == time_ms).map_or(0, |token| token.told);
        Token { as_of_ms: asked.as_of_ms, time_ms, told: here + before }.show()
    });
    let entries = events.iter().map(|event| TimelineEntry {
        time_ms: run.time(*event),
        event: alone.loaded.names.name(run.kind(*event)),
        session: sessions[*event].map_or(0, |number| u64::from(number) + 1),
        off_site: is_off_site(*event),
        conversions: asked
            .questions
            .conversions
            .iter()
            .zip(&conversions)
            .filter(|(_, marks)| marks[event / 64] >> (event % 64) & 1 == 1)
            .map(|(name, _)| name.clone())
            .collect(),
    });
    Ok(ListTimelineResponse {
        entries: entries.collect(),
        next_page_token: next.unwrap_or_default(),
        ..ListTimelineResponse::default()
    })
}
