//! What is watched adds up to what is asked, whatever happens and wherever the stream goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use runnel_contracts::proto::{
    funnel::v1::{Exclusion, FunnelDefinition, UnitState},
    query::v1::Revision,
    segmentation::v1::{
        ChangeCause, Condition, CountSegmentRequest, FunnelChangeKind, GetVisitorRequest, SegmentDefinition,
        SegmentRef, VisitorUnit, WatchFunnelRequest, WatchFunnelResponse, WatchSegmentRequest,
        WatchSegmentResponse, WatchedFunnel, condition::Node, segment_ref,
        segmentation_service_server::SegmentationService, watched_funnel,
    },
};
use runnel_definitions::saved;
use runnel_harness::Random;
use runnel_model::Secret;
use runnel_storage::Identification;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tonic::{Code, Status};

use crate::{
    random::{condition, duration, event, funnel},
    slow::Saved,
    world::{LISTS, SECOND, START, World},
};

/// Who belongs, by what was told.
#[derive(Debug, Default)]
struct Segment {
    members: BTreeSet<String>,
    cursor: String,
    causes: BTreeSet<i32>,
    resets: usize,
    ids: BTreeSet<String>,
}

/// How visitors stand, by what was told.
#[derive(Debug, Default)]
struct Funnel {
    units: BTreeMap<String, VisitorUnit>,
    cursor: String,
    kinds: BTreeSet<i32>,
    resets: usize,
}

/// What does not depend on when it is told, and by which definition.
fn plain(unit: &VisitorUnit) -> VisitorUnit {
    VisitorUnit { ends_ms: None, label: String::new(), ..unit.clone() }
}

type Told<T> = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

impl Segment {
    fn take(&mut self, told: WatchSegmentResponse) {
        if told.reset {
            self.members.clear();
            self.ids.clear();
            self.resets += 1;
        }
        for change in told.changes {
            let was = match change.member {
                true => !self.members.insert(change.visitor_id.clone()),
                false => self.members.remove(&change.visitor_id),
            };
            assert_eq!(was, !change.member, "{change:?} changes something");
            assert!(self.ids.insert(change.id.clone()), "{change:?} has an id of its own");
            self.causes.insert(change.cause);
        }
        if !told.cursor.is_empty() {
            self.cursor = told.cursor;
        }
    }
}

impl Funnel {
    fn take(&mut self, told: WatchFunnelResponse) {
        if told.reset {
            self.units.clear();
            self.resets += 1;
        }
        for change in told.changes {
            let before = match &change.after {
                Some(after) => self.units.insert(change.visitor_id.clone(), plain(after)),
                None => self.units.remove(&change.visitor_id),
            };
            assert_eq!(before, change.before.as_ref().map(plain), "{change:?} goes on from what was told");
            self.kinds.insert(change.kind);
        }
        if !told.cursor.is_empty() {
            self.cursor = told.cursor;
        }
    }
}

/// One tenant whose segment and funnel are watched by name.
struct Watched {
    world: World,
    segment: Segment,
    funnel: Funnel,
    of_segment: Told<WatchSegmentResponse>,
    of_funnel: Told<WatchFunnelResponse>,
}

async fn of_segment(world: &World, cursor: &str) -> Told<WatchSegmentResponse> {
    let request = WatchSegmentRequest {
        segment: named(),
        cursor: cursor.to_owned(),
        members: true,
        totals_every_ms: Some(100),
        ..WatchSegmentRequest::default()
    };
    world.service.watch_segment(world.request(request)).await.unwrap().into_inner()
}

async fn of_funnel(world: &World, cursor: &str) -> Told<WatchFunnelResponse> {
    let request = WatchFunnelRequest {
        funnel: Some(WatchedFunnel { funnel: Some(watched_funnel::Funnel::Name("funnel".to_owned())) }),
        cursor: cursor.to_owned(),
        units: true,
        totals_every_ms: Some(100),
        ..WatchFunnelRequest::default()
    };
    world.service.watch_funnel(world.request(request)).await.unwrap().into_inner()
}

fn named() -> Option<SegmentRef> {
    Some(SegmentRef { segment: Some(segment_ref::Segment::Name("segment".to_owned())) })
}

async fn define_segment(world: &World, random: &mut Random) {
    let definition = SegmentDefinition {
        condition: Some(condition(random, 0, &Saved::new())),
        ..SegmentDefinition::default()
    };
    let now_ms = world.clock.now_ms();
    saved::save(&world.store, &world.tenant, ("segment", &definition), None, now_ms).await.unwrap();
}

async fn define_funnel(world: &World, random: &mut Random) {
    let mut definition: FunnelDefinition = funnel(random);
    for step in definition.steps.iter_mut().skip(1) {
        step.max_ms = (random.below(4) == 0).then(|| duration(random));
    }
    if random.below(3) == 0 {
        let exclusion = Exclusion { event: Some(event(random)), ..Exclusion::default() };
        definition.exclusions.push(exclusion);
    }
    let now_ms = world.clock.now_ms();
    saved::save(&world.store, &world.tenant, ("funnel", &definition), None, now_ms).await.unwrap();
}

impl Watched {
    async fn new(random: &mut Random) -> Watched {
        let mut world = World::new().await;
        world.append(random).await;
        define_segment(&world, random).await;
        define_funnel(&world, random).await;
        let (of_segment, of_funnel) = (of_segment(&world, "").await, of_funnel(&world, "").await);
        let (segment, funnel) = (Segment::default(), Funnel::default());
        Watched { world, segment, funnel, of_segment, of_funnel }
    }

    /// Something happens.
    async fn happen(&mut self, random: &mut Random) {
        let world = &mut self.world;
        let now_ms = world.clock.now_ms();
        match random.below(22) {
            0..7 => world.append(random).await,
            7 => world.repeat(random).await,
            8..12 => {
                let later_ms = now_ms
                    + [1, 37, SECOND, duration(random), 2 * duration(random)][random.below(5) as usize];
                world.clock.set(later_ms);
            }
            12 | 13 => {
                // Two of them have no events; lists may name them all the same.
                let id = |random: &mut Random| format!("visitor-{}", random.below(27));
                let (anonymous, known) = (id(random), id(random));
                let said = Identification { anonymous, known, at_ms: now_ms };
                drop(world.store.identify(&world.tenant, vec![said], now_ms).await);
            }
            14 => {
                let id = format!("visitor-{}", random.below(25));
                world.store.erase(&world.tenant, &id, Secret([9; 32]), now_ms).await.unwrap();
            }
            15 => drop(world.store.carry_out_erasures(&world.tenant, now_ms).await.unwrap()),
            16 => world.compact().await,
            17 => define_segment(world, random).await,
            18 => define_funnel(world, random).await,
            19 | 20 => world.change_list(random).await,
            _ => {
                world.restart().await;
                self.of_segment = of_segment(&self.world, &self.segment.cursor).await;
                self.of_funnel = of_funnel(&self.world, &self.funnel.cursor).await;
            }
        }
        // A stream that breaks off goes on where it was.
        if random.below(8) == 0 {
            self.of_segment = of_segment(&self.world, &self.segment.cursor).await;
        }
    }

    /// What is known now.
    async fn head(&self) -> Revision {
        let World { store, tenant, .. } = &self.world;
        let listing = store.list(tenant, u64::MAX).await.unwrap();
        let definition = store.definition_version(tenant).await.unwrap();
        Revision { sequence: listing.sequence, definition, alias: listing.alias, erasure: listing.erasure }
    }

    /// Takes in everything that is told up to now, and compares it with the answers of the same instant.
    async fn compare(&mut self, what: &str) {
        let (now_ms, head) = (self.world.clock.now_ms(), self.head().await);
        loop {
            let told = timeout(Duration::from_secs(60), self.of_segment.next()).await.expect(what);
            let told = told.expect(what).expect(what);
            let (totals, is_now) = (told.totals, (told.as_of_ms, told.revision) == (now_ms, Some(head)));
            let whole = !told.cursor.is_empty();
            self.segment.take(told);
            if let (Some(totals), true, true) = (totals, is_now, whole) {
                assert_eq!(totals.members, self.segment.members.len() as u64, "{what}");
                let request = CountSegmentRequest { segment: named(), as_of_ms: Some(now_ms) };
                let counted =
                    self.world.service.count_segment(self.world.request(request)).await.expect(what);
                assert_eq!(counted.into_inner().visitors, totals.visitors, "{what}");
            }
            if is_now && whole {
                break;
            }
        }
        let mut members = self.world.streamed(named().unwrap(), now_ms).await.expect(what);
        members.sort();
        assert_eq!(self.segment.members.iter().cloned().collect::<Vec<_>>(), members, "{what}");
        loop {
            let told = timeout(Duration::from_secs(60), self.of_funnel.next()).await.expect(what);
            let told = told.expect(what).expect(what);
            let (totals, is_now) =
                (told.totals.clone(), (told.as_of_ms, told.revision) == (now_ms, Some(head)));
            let whole = !told.cursor.is_empty();
            self.funnel.take(told);
            if let (Some(totals), true, true) = (totals, is_now, whole) {
                let mut counts: BTreeMap<(u32, i32), u64> = BTreeMap::new();
                for unit in self.funnel.units.values() {
                    let step = if unit.state() == UnitState::Removed { 0 } else { unit.step };
                    *counts.entry((step, unit.state)).or_default() += 1;
                }
                let totals: BTreeMap<_, _> =
                    totals.standings.iter().map(|one| ((one.step, one.state), one.units)).collect();
                assert_eq!(totals, counts, "{what}");
            }
            if is_now && whole {
                break;
            }
        }
        for number in 0..25 {
            let visitor_id = format!("visitor-{number}");
            let request = GetVisitorRequest {
                visitor_id: visitor_id.clone(),
                as_of_ms: Some(now_ms),
                funnels: vec!["funnel".to_owned()],
                ..GetVisitorRequest::default()
            };
            let answer = self.world.service.get_visitor(self.world.request(request)).await.expect(what);
            let answer = answer.into_inner();
            let units: Vec<VisitorUnit> = answer.funnels[0].units.iter().map(plain).collect();
            let told: Vec<VisitorUnit> = match answer.visitor_id == visitor_id {
                true => self.funnel.units.get(&visitor_id).into_iter().cloned().collect(),
                false => {
                    assert!(
                        !self.funnel.units.contains_key(&visitor_id),
                        "{visitor_id} is somebody else, {what}"
                    );
                    self.funnel.units.get(&answer.visitor_id).into_iter().cloned().collect()
                }
            };
            assert_eq!(told, units, "{visitor_id}, {what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_watched_adds_up_to_what_is_asked() {
    let cases: u64 = std::env::var("RUNNEL_CASES").map_or(5_000, |cases| cases.parse().unwrap());
    let (mut causes, mut kinds) = (BTreeSet::new(), BTreeSet::new());
    let (mut steps, mut resets) = (0, 0);
    for seed in 0..cases.div_ceil(500) {
        let mut random = Random(seed + 1);
        let mut watched = Watched::new(&mut random).await;
        watched.compare(&format!("seed {seed}, at first")).await;
        for step in 0..40 {
            let times = 1 + random.below(3);
            for _ in 0..times {
                watched.happen(&mut random).await;
            }
            watched.compare(&format!("seed {seed}, step {step}")).await;
            steps += 1;
        }
        causes.extend(watched.segment.causes);
        kinds.extend(watched.funnel.kinds);
        resets += watched.segment.resets + watched.funnel.resets;
    }
    println!("{steps} steps, {resets} resets");
    assert!(resets < steps, "{resets} resets in {steps} steps");
    let told = |cause: ChangeCause| causes.contains(&(cause as i32));
    use ChangeCause::{Definition, Erasure, Event, Identity, Late, Snapshot, Time};
    for cause in [Event, Time, Late, Identity, Erasure, Definition, Snapshot] {
        assert!(told(cause), "{cause:?} was never told");
    }
    use FunnelChangeKind::{Advanced, Converted, Dropped, Entered, Excluded, Reopened, Restated};
    for kind in [Entered, Advanced, Converted, Dropped, Excluded, Reopened, Restated] {
        assert!(kinds.contains(&(kind as i32)), "{kind:?} was never told");
    }
}

/// An id that is on a list and has no events becomes somebody's, who gets no event by that.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_on_a_list_without_an_event_is_told() {
    let mut random = Random(1);
    let mut world = World::new().await;
    world.append(&mut random).await;
    world.clock.set(START + 86_400_000);
    let now_ms = world.clock.now_ms();
    let mail = BTreeSet::from(["mail".to_owned()]);
    world.store.put_list_members(&world.tenant, LISTS[0], mail, now_ms).await.unwrap();
    let condition = Some(Condition { node: Some(Node::List(LISTS[0].to_owned())) });
    let definition = SegmentDefinition { condition, ..SegmentDefinition::default() };
    saved::save(&world.store, &world.tenant, ("segment", &definition), None, now_ms).await.unwrap();
    let mut told = of_segment(&world, "").await;
    let mut segment = Segment::default();
    segment.take(told.next().await.unwrap().unwrap());
    assert_eq!(segment.members, BTreeSet::new());
    let known = world.visitors.keys().next().unwrap().clone();
    let said = Identification { anonymous: "mail".to_owned(), known: known.clone(), at_ms: now_ms };
    world.store.identify(&world.tenant, vec![said], now_ms).await.unwrap();
    let more = timeout(Duration::from_secs(60), async {
        while segment.members.is_empty() {
            segment.take(told.next().await.unwrap().unwrap());
        }
    });
    more.await.expect("somebody is told of");
    assert_eq!(segment.members, BTreeSet::from([known]));
    assert_eq!(segment.causes, BTreeSet::from([ChangeCause::Identity as i32]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_watched_is_refused() {
    let mut random = Random(1);
    let watched = Watched::new(&mut random).await;
    let world = &watched.world;
    let segment = |request: WatchSegmentRequest| async move {
        world.service.watch_segment(world.request(request)).await.map(drop).unwrap_err().code()
    };
    let request = WatchSegmentRequest { segment: named(), ..WatchSegmentRequest::default() };
    let nobody = SegmentRef { segment: Some(segment_ref::Segment::Name("nothing".to_owned())) };
    assert_eq!(
        segment(WatchSegmentRequest { segment: None, ..request.clone() }).await,
        Code::InvalidArgument
    );
    assert_eq!(
        segment(WatchSegmentRequest { segment: Some(nobody), ..request.clone() }).await,
        Code::NotFound
    );
    let foreign = WatchSegmentRequest { cursor: "soon".to_owned(), ..request.clone() };
    assert_eq!(segment(foreign).await, Code::InvalidArgument);
    let often = WatchSegmentRequest { totals_every_ms: Some(99), ..request.clone() };
    assert_eq!(segment(often).await, Code::InvalidArgument);
    let many = WatchSegmentRequest { visitor_ids: vec![String::new(); 1_001], ..request.clone() };
    assert_eq!(segment(many).await, Code::InvalidArgument);
    assert_eq!(segment(WatchSegmentRequest { causes: vec![77], ..request }).await, Code::InvalidArgument);
}
