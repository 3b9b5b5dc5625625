//! Segments against whoever looks at every event of every visitor: random definitions over random events, at random instants.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::HeaderMap;
use runnel_chassis::{Caller, Clock, ContextSigner, Metrics, seal::Seal};
use runnel_contracts::proto::{
    event::v1::{Value, value::Kind},
    funnel::v1::{FunnelDefinition, Step, UnitState},
    query::v1::{Comparison, EventMatch, Operator, Predicate, Selector, predicate, selector::Column},
    segmentation::v1::{
        Absent, Condition, Conditions, CountOf, CountSegmentRequest, DefineSegmentRequest, Happened, Has,
        ListMembersRequest, Occurrence, PreviewSegmentRequest, Reached, SegmentDefinition, SegmentRef,
        StreamMembersRequest, Touch, WasMemberRequest, condition::Node, occurrence::What, reached,
        segment_ref, segmentation_service_server::SegmentationService,
    },
};
use runnel_harness::Random;
use runnel_journeys::{Journeys, JourneysOptions};
use runnel_model::{EventBatch, EventRef, Field, TenantName, ValueRef};
use runnel_segmentation::{Segmentation, SegmentationOptions};
use runnel_storage::{Admitted, CompactOptions, EmbeddedOptions, Hot, Store};
use tokio_stream::StreamExt;
use tonic::{Request, Status, metadata::MetadataMap};

const START: i64 = 1_767_225_600_000;
const SECOND: i64 = 1_000;
const GAP: i64 = 30 * 60 * SECOND;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// One event, as the slow way sees it.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    time_ms: i64,
    id: usize,
    name: usize,
    plan: Option<i64>,
    off_site: bool,
}

struct World {
    store: Store,
    tenant: TenantName,
    clock: Clock,
    signer: ContextSigner,
    service: Segmentation,
    visitors: BTreeMap<String, Vec<Event>>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let store =
            Store::open_embedded(&folder.path().join("data"), EmbeddedOptions::default()).await.unwrap();
        let tenant = TenantName::parse("shop").unwrap();
        store.create_tenant(&tenant, START).await.unwrap();
        let (clock, signer) = (Clock::fixed(START), ContextSigner::new(Seal::new([7; 32])));
        let journeys = JourneysOptions { threads: 2, ..JourneysOptions::default() };
        let service = Segmentation::new(
            Journeys::new(store.clone(), journeys).unwrap(),
            Hot::process(),
            signer.clone(),
            clock.clone(),
            Metrics::new(),
            SegmentationOptions::default(),
        );
        let visitors = BTreeMap::new();
        World { store, tenant, clock, signer, service, visitors, _folder: folder }
    }

    /// Sends some events, many of them at the same few instants.
    async fn append(&mut self, random: &mut Random) {
        let mut batch = EventBatch::default();
        for _ in 0..1 + random.below(40) {
            let number = random.below(25);
            let known: usize = self.visitors.values().map(Vec::len).sum();
            let event = Event {
                time_ms: START + random.below(60) as i64 * SECOND * [1, 60, 600][random.below(3) as usize],
                id: known,
                name: random.below(4) as usize,
                plan: (random.below(3) == 0).then(|| random.below(3) as i64),
                off_site: random.below(6) == 0,
            };
            let visitor = format!("visitor-{number}");
            let off_site = [(Field::OffSite, ValueRef::Int(2))];
            let plan = event.plan.map(|plan| [("plan", ValueRef::Int(plan))]);
            batch.push(&EventRef {
                visitor: &visitor,
                time_ms: event.time_ms,
                name: NAMES[event.name],
                event_id: &format!("{known:08}"),
                sequence: 0,
                fields: if event.off_site { &off_site } else { &[] },
                properties: plan.as_ref().map_or(&[], |plan| plan),
            });
            let events = self.visitors.entry(visitor).or_default();
            events.push(event);
            events.sort_by_key(|event| (event.time_ms, event.id));
        }
        let admitted = Admitted::new(batch, None, Bytes::new()).unwrap();
        self.store.append(&self.tenant, admitted, START).await.unwrap();
    }

    async fn compact(&self) {
        let options = CompactOptions { force: true, ..CompactOptions::default() };
        self.store.compact(&self.tenant, options, START).await.unwrap();
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let caller = Caller { tenant: self.tenant.clone(), key_id: "test".into() };
        let mut headers = HeaderMap::new();
        self.signer.sign(&caller, self.clock.now_ms(), &mut headers);
        let mut request = Request::new(message);
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        request
    }

    async fn streamed(&self, segment: SegmentRef, as_of_ms: i64) -> Result<Vec<String>, Status> {
        let request = StreamMembersRequest { segment: Some(segment), as_of_ms: Some(as_of_ms) };
        let mut parts = self.service.stream_members(self.request(request)).await?.into_inner();
        let mut ids = Vec::new();
        while let Some(part) = parts.next().await {
            ids.extend(part?.visitor_ids);
        }
        Ok(ids)
    }

    /// Page by page, with pages of three.
    async fn listed(&self, segment: SegmentRef, as_of_ms: i64) -> Vec<String> {
        let (mut ids, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListMembersRequest {
                segment: Some(segment.clone()),
                as_of_ms: page_token.is_empty().then_some(as_of_ms),
                page_size: 3,
                page_token,
            };
            let page = self.service.list_members(self.request(request)).await.unwrap().into_inner();
            assert_eq!(page.provenance.unwrap().as_of_ms, as_of_ms);
            ids.extend(page.visitor_ids);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return ids;
            }
        }
    }

    /// The slow way.
    fn expected(&self, definition: &SegmentDefinition, saved: &Saved, as_of_ms: i64) -> BTreeSet<String> {
        let belongs = |(id, events): (&String, &Vec<Event>)| {
            let sessions = sessions(events);
            let exist = events.iter().zip(sessions).filter(|(event, _)| event.time_ms < as_of_ms);
            let exist: Vec<(Event, Option<usize>)> = exist.map(|(event, at)| (event.clone(), at)).collect();
            let condition = definition.condition.as_ref().unwrap();
            (!exist.is_empty() && holds(condition, &exist, saved, as_of_ms)).then(|| id.clone())
        };
        self.visitors.iter().filter_map(belongs).collect()
    }
}

type Saved = BTreeMap<String, SegmentDefinition>;

/// The session that each event belongs to.
fn sessions(events: &[Event]) -> Vec<Option<usize>> {
    let (mut last, mut number) = (None::<i64>, 0);
    let mut found = Vec::new();
    for event in events {
        let near = last.is_some_and(|last| event.time_ms - last <= GAP);
        if event.off_site {
            found.push(near.then_some(number));
            continue;
        }
        number += usize::from(last.is_some() && !near);
        last = Some(event.time_ms);
        found.push(Some(number));
    }
    found
}

fn is(event: &Event, any_of: &[Occurrence]) -> bool {
    any_of.iter().any(|one| match &one.what {
        Some(What::Event(wanted)) => {
            let value = wanted.r#where.as_ref().and_then(|condition| match &condition.node {
                Some(predicate::Node::Comparison(comparison)) => Some(compares(comparison, event.plan)),
                _ => None,
            });
            NAMES[event.name] == wanted.event && value.unwrap_or(true)
        }
        _ => unreachable!("only events are asked for"),
    })
}

fn compares(comparison: &Comparison, plan: Option<i64>) -> bool {
    let constant = comparison.values.first().and_then(|value| match value.kind {
        Some(Kind::IntValue(number)) => Some(number),
        _ => None,
    });
    match (comparison.operator(), plan, constant) {
        (Operator::Missing, plan, _) => plan.is_none(),
        (Operator::Exists, plan, _) => plan.is_some(),
        (Operator::NotEqual, plan, constant) => plan != constant,
        (Operator::Equal, plan, constant) => plan.is_some() && plan == constant,
        (Operator::Greater, plan, constant) => plan.zip(constant).is_some_and(|(plan, than)| plan > than),
        _ => unreachable!("only these are asked for"),
    }
}

fn holds(condition: &Condition, events: &[(Event, Option<usize>)], saved: &Saved, as_of_ms: i64) -> bool {
    let near = |event: &Event, within_ms: Option<i64>| {
        within_ms.is_none_or(|within_ms| as_of_ms - event.time_ms <= within_ms)
    };
    match condition.node.as_ref().unwrap() {
        Node::All(list) => list.parts.iter().all(|part| holds(part, events, saved, as_of_ms)),
        Node::Any(list) => list.parts.iter().any(|part| holds(part, events, saved, as_of_ms)),
        Node::Not(part) => !holds(part, events, saved, as_of_ms),
        Node::Segment(name) => holds(saved[name].condition.as_ref().unwrap(), events, saved, as_of_ms),
        Node::Happened(asked) => {
            let counted =
                events.iter().filter(|(event, _)| is(event, &asked.any_of) && near(event, asked.within_ms));
            let count = match asked.count() {
                CountOf::Sessions => {
                    counted.filter_map(|(_, session)| *session).collect::<BTreeSet<_>>().len()
                }
                _ => counted.count(),
            };
            let at_least = asked.at_least.unwrap_or(u32::from(asked.at_most.is_none()));
            (at_least..=asked.at_most.unwrap_or(u32::MAX)).contains(&(count as u32))
        }
        Node::Absent(asked) => {
            let counted: Vec<&Event> =
                events.iter().map(|(event, _)| event).filter(|event| near(event, asked.within_ms)).collect();
            counted.iter().rposition(|event| is(event, &asked.after)).is_some_and(|latest| {
                as_of_ms - counted[latest].time_ms > asked.for_ms
                    && !counted[latest + 1..].iter().any(|event| is(event, &asked.without))
            })
        }
        Node::Has(asked) => {
            let comparison = asked.value.as_ref().unwrap();
            let mut valued = events.iter().filter_map(|(event, _)| event.plan);
            match asked.touch() {
                Touch::Any => events.iter().any(|(event, _)| compares(comparison, event.plan)),
                Touch::First => compares(comparison, valued.next()),
                _ => compares(comparison, valued.next_back()),
            }
        }
        Node::Reached(asked) => reached(asked, events, as_of_ms),
        Node::InStage(_) => unreachable!("the catalogue is empty"),
    }
}

/// How far a chain of the funnel's steps comes, by trying every entry, and whether one can come further.
fn reached(asked: &Reached, events: &[(Event, Option<usize>)], as_of_ms: i64) -> bool {
    let Some(reached::Funnel::Inline(funnel)) = &asked.funnel else { unreachable!("only inline") };
    let (window, last) = (funnel.window_ms.unwrap(), funnel.steps.len());
    let near = |event: &Event| asked.within_ms.is_none_or(|within_ms| as_of_ms - event.time_ms <= within_ms);
    let does = |event: &Event, step: usize| {
        let any_of = funnel.steps.get(step).into_iter().flat_map(|step| step.any_of.iter().cloned());
        let any_of: Vec<Occurrence> =
            any_of.map(|event| Occurrence { what: Some(What::Event(event)) }).collect();
        is(event, &any_of)
    };
    let (mut level, mut open) = (0, false);
    for (entry, (first, _)) in events.iter().enumerate() {
        if does(first, 0) && near(first) {
            level = level.max(depths(events, &does, (first.time_ms, window), &mut vec![entry]));
            open |= as_of_ms <= first.time_ms + window;
        }
    }
    let state = match level {
        0 => return false,
        level if level == last => UnitState::Converted,
        _ if open => UnitState::Open,
        _ => UnitState::Dropped,
    };
    let step = if asked.step == 0 { last } else { asked.step as usize };
    let not_step = if asked.not_step == 0 { usize::MAX } else { asked.not_step as usize };
    level >= step && level < not_step && (asked.states.is_empty() || asked.states().any(|one| one == state))
}

/// The most steps that a chain can do which begins with these events. Events of one instant may be taken in any order.
fn depths(
    events: &[(Event, Option<usize>)],
    does: &impl Fn(&Event, usize) -> bool,
    (first_ms, window): (i64, i64),
    chain: &mut Vec<usize>,
) -> usize {
    let mut most = chain.len();
    let last_ms = events[*chain.last().unwrap()].0.time_ms;
    for next in 0..events.len() {
        let time_ms = events[next].0.time_ms;
        let fits = time_ms >= last_ms && time_ms <= first_ms + window && !chain.contains(&next);
        if fits && does(&events[next].0, chain.len()) {
            chain.push(next);
            most = most.max(depths(events, does, (first_ms, window), chain));
            chain.pop();
        }
    }
    most
}

fn duration(random: &mut Random) -> i64 {
    (1 + random.below(30) as i64) * SECOND * [1, 60, 600][random.below(3) as usize]
}

fn comparison(random: &mut Random) -> Comparison {
    let operators =
        [Operator::Missing, Operator::Exists, Operator::NotEqual, Operator::Equal, Operator::Greater];
    let operator = operators[random.below(5) as usize];
    let constant = Value { kind: Some(Kind::IntValue(random.below(3) as i64)) };
    let values = match operator {
        Operator::Missing | Operator::Exists => Vec::new(),
        _ => vec![constant],
    };
    let column = Some(Selector { column: Some(Column::Property("plan".to_owned())) });
    Comparison { column, operator: operator as i32, values }
}

fn event(random: &mut Random) -> EventMatch {
    let condition = (random.below(4) == 0)
        .then(|| Predicate { node: Some(predicate::Node::Comparison(comparison(random))) });
    let event = NAMES[random.below(4) as usize].to_owned();
    EventMatch { event, r#where: condition, conversion: String::new() }
}

fn any_of(random: &mut Random) -> Vec<Occurrence> {
    (0..1 + random.below(2)).map(|_| Occurrence { what: Some(What::Event(event(random))) }).collect()
}

fn condition(random: &mut Random, depth: u32, saved: &Saved) -> Condition {
    let parts = |random: &mut Random| Conditions {
        parts: (0..1 + random.below(3)).map(|_| condition(random, depth + 1, saved)).collect(),
    };
    let within_ms = (random.below(2) == 0).then(|| duration(random));
    let node = match random.below(if depth < 3 { 10 } else { 6 }) {
        0 | 1 => {
            let at_least = (random.below(2) == 0).then(|| random.below(4) as u32);
            let at_most = (random.below(3) == 0).then(|| at_least.unwrap_or(0) + random.below(2) as u32);
            let count = if random.below(3) == 0 { CountOf::Sessions } else { CountOf::Unspecified };
            Node::Happened(Happened {
                any_of: any_of(random),
                at_least,
                at_most,
                within_ms,
                count: count as i32,
            })
        }
        2 => {
            let for_ms = duration(random);
            let within_ms = within_ms.map(|within_ms| within_ms + for_ms);
            Node::Absent(Absent { after: any_of(random), without: any_of(random), for_ms, within_ms })
        }
        3 => {
            let touch = [Touch::Unspecified, Touch::First, Touch::Any][random.below(3) as usize];
            Node::Has(Has { value: Some(comparison(random)), touch: touch as i32 })
        }
        4 => {
            let count = 2 + random.below(2);
            let step = |_| Step { any_of: vec![event(random)], ..Step::default() };
            let steps: Vec<Step> = (0..count).map(step).collect();
            let count = steps.len() as u32;
            let step = random.below(u64::from(count) + 1) as u32;
            let not_step = if step > 0 && step < count && random.below(2) == 0 { step + 1 } else { 0 };
            let states = [UnitState::Open, UnitState::Dropped, UnitState::Converted];
            let states = states.iter().filter(|_| random.below(3) == 0).map(|one| *one as i32).collect();
            let window_ms = Some(duration(random));
            let funnel = FunnelDefinition { steps, window_ms, ..FunnelDefinition::default() };
            let funnel = Some(reached::Funnel::Inline(funnel));
            Node::Reached(Box::new(Reached { funnel, step, not_step, states, within_ms }))
        }
        5 => match saved.keys().nth(random.below(saved.len() as u64 + 1) as usize) {
            Some(name) => Node::Segment(name.clone()),
            None => Node::Has(Has { value: Some(comparison(random)), touch: 0 }),
        },
        6 | 7 => Node::All(parts(random)),
        8 => Node::Any(parts(random)),
        _ => Node::Not(Box::new(condition(random, depth + 1, saved))),
    };
    Condition { node: Some(node) }
}

fn inline(definition: &SegmentDefinition) -> SegmentRef {
    SegmentRef { segment: Some(segment_ref::Segment::Inline(definition.clone())) }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_those_of_whom_it_holds() {
    let cases: u64 = std::env::var("RUNNEL_CASES").map_or(5_000, |cases| cases.parse().unwrap());
    let (mut some, mut none) = (0, 0);
    for seed in 0..cases.div_ceil(200) {
        let mut random = Random(seed + 1);
        let mut world = World::new().await;
        let mut saved = Saved::new();
        for step in 0..20 {
            world.append(&mut random).await;
            if random.below(5) == 0 {
                world.compact().await;
            }
            let definition = SegmentDefinition {
                condition: Some(condition(&mut random, 0, &saved)),
                ..SegmentDefinition::default()
            };
            // Often right at an event, right after it, or when it is exactly so long ago.
            let events: Vec<&Event> = world.visitors.values().flatten().collect();
            let near = events[random.below(events.len() as u64) as usize].time_ms;
            let as_of_ms =
                near + [0, 1, duration(&mut random), duration(&mut random) + 1][random.below(4) as usize];
            let what = format!("seed {seed}, step {step}, as of {as_of_ms}: {definition:#?}");
            let expected = world.expected(&definition, &saved, as_of_ms);
            let streamed = world.streamed(inline(&definition), as_of_ms).await.expect(&what);
            let found: BTreeSet<String> = streamed.iter().cloned().collect();
            assert_eq!(found, expected, "{what}");
            assert_eq!(streamed.len(), expected.len(), "each once, {what}");
            assert_eq!(world.listed(inline(&definition), as_of_ms).await, streamed, "{what}");
            let count = CountSegmentRequest { segment: Some(inline(&definition)), as_of_ms: Some(as_of_ms) };
            let count = world.service.count_segment(world.request(count)).await.unwrap().into_inner();
            let there = world.visitors.values().filter(|events| events[0].time_ms < as_of_ms).count() as u64;
            assert_eq!((count.members, count.visitors), (expected.len() as u64, there), "{what}");
            let visitor_id = format!("visitor-{}", random.below(26));
            let asked = WasMemberRequest {
                segment: Some(inline(&definition)),
                visitor_id: visitor_id.clone(),
                at_ms: Some(as_of_ms),
            };
            let told = world.service.was_member(world.request(asked)).await.unwrap().into_inner();
            assert_eq!(told.member, expected.contains(&visitor_id), "{visitor_id}, {what}");
            let earlier_ms = as_of_ms - 60 * SECOND;
            let before = world.expected(&definition, &saved, earlier_ms);
            let compare_with: Vec<String> = saved.keys().take(2).cloned().collect();
            let preview = PreviewSegmentRequest {
                segment: Some(inline(&definition)),
                as_of_ms: Some(as_of_ms),
                compare_with: compare_with.clone(),
                since_ms: Some(60 * SECOND),
                examples: 5,
            };
            let shown = world.service.preview_segment(world.request(preview)).await.unwrap().into_inner();
            let churn = shown.churn.unwrap();
            let (left, joined) =
                (before.difference(&expected).count() as u64, expected.difference(&before).count() as u64);
            let told = (churn.since_ms, churn.members_before, churn.left, churn.joined);
            assert_eq!(told, (earlier_ms, before.len() as u64, left, joined), "{what}");
            for (overlap, name) in shown.overlaps.iter().zip(&compare_with) {
                let other = world.expected(&saved[name], &saved, as_of_ms);
                let both = other.intersection(&expected).count() as u64;
                assert_eq!((overlap.members, overlap.both), (other.len() as u64, both), "{what}");
            }
            assert_eq!(shown.examples, streamed[..streamed.len().min(5)], "{what}");
            if expected.is_empty() {
                none += 1
            } else {
                some += 1
            }
            let name = format!("segment-{step}");
            let request = DefineSegmentRequest {
                name: name.clone(),
                definition: Some(definition.clone()),
                expected_version: Some(0),
            };
            // One that names others may have too many parts by now.
            if world.service.define_segment(world.request(request)).await.is_ok() && saved.len() < 4 {
                saved.insert(name, definition);
            }
        }
    }
    assert!(some > cases / 40 && none > 0, "{some} segments with members, {none} without");
}
