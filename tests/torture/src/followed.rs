//! Watchers of a segment and of a funnel, over streams that break and in whatever process: what they were told adds up to what is asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use runnel_client::{
    Client, Refusal, RetryPolicy, Transport, Watch, Watched,
    proto::{
        funnel::v1::{FunnelDefinition, Step, UnitState},
        query::v1::{EventMatch, Provenance, Revision},
        segmentation::v1::{
            Absent, Condition, CountSegmentRequest, FunnelTotals, Occurrence, SegmentDefinition, SegmentRef,
            SegmentTotals, StreamMembersRequest, VisitorUnit, WatchFunnelRequest, WatchFunnelResponse,
            WatchSegmentRequest, WatchSegmentResponse, WatchedFunnel, condition::Node, occurrence::What,
            segment_ref, watched_funnel,
        },
    },
};
use tokio::{
    task::AbortHandle,
    time::{sleep, timeout},
};

use crate::checker::{STEPS, allowed};

/// How long nothing may come of a stream before it is taken for lost.
const SILENCE: Duration = Duration::from_secs(5);
/// How long it may take until a watcher has heard of everything once nothing breaks any more.
const RECOVERY: Duration = Duration::from_secs(60);
/// For how long a visitor may not have gone on to belong to the segment.
const LEFT_FOR_MS: i64 = 30 * 60_000;

/// What watchers were told, over a whole run.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Changes.
    pub(crate) changes: AtomicU64,
    /// Times that a stream began anew.
    pub(crate) resets: AtomicU64,
    /// Streams that ended or broke.
    pub(crate) broken: AtomicU64,
    /// Totals that were compared with what was told.
    pub(crate) totals: AtomicU64,
}

/// The instant and the revision that everything told so far is about.
type About = (i64, Revision);

/// Who belongs, by what was told.
#[derive(Debug, Default)]
struct Members {
    members: BTreeSet<String>,
    about: Option<About>,
}

/// How visitors stand, by what was told.
#[derive(Debug, Default)]
struct Units {
    units: BTreeMap<String, VisitorUnit>,
    about: Option<About>,
}

/// A watcher of a segment and one of a funnel.
#[derive(Debug)]
pub(crate) struct Followers<S> {
    reader: Client<S>,
    told: Arc<Told>,
    members: Arc<Mutex<Members>>,
    units: Arc<Mutex<Units>>,
    watchers: [AbortHandle; 2],
}

fn matching(name: &str) -> EventMatch {
    EventMatch { event: name.to_owned(), ..EventMatch::default() }
}

/// Who kept something and did not get it done for a while.
fn segment() -> Option<SegmentRef> {
    let did = |name: &str| vec![Occurrence { what: Some(What::Event(matching(name))) }];
    let left = Absent { after: did(STEPS[1]), without: did(STEPS[2]), for_ms: LEFT_FOR_MS, within_ms: None };
    let condition = Some(Condition { node: Some(Node::Absent(left)) });
    let inline = SegmentDefinition { condition, ..SegmentDefinition::default() };
    Some(SegmentRef { segment: Some(segment_ref::Segment::Inline(inline)) })
}

/// The funnel that the reference follows as well.
fn funnel() -> Option<WatchedFunnel> {
    let step = |name: &&str| Step { any_of: vec![matching(name)], ..Step::default() };
    let steps = STEPS.iter().map(step).collect();
    let inline = FunnelDefinition { steps, ..FunnelDefinition::default() };
    Some(WatchedFunnel { funnel: Some(watched_funnel::Funnel::Inline(inline)) })
}

/// What a unit is, but for what depends on when it is told.
fn plain(unit: &VisitorUnit) -> VisitorUnit {
    VisitorUnit { ends_ms: None, label: String::new(), ..unit.clone() }
}

impl Members {
    fn take(&mut self, message: WatchSegmentResponse, told: &Told) {
        if message.reset {
            self.members.clear();
            told.resets.fetch_add(1, Ordering::Relaxed);
        }
        for change in message.changes {
            let changed = match change.member {
                true => self.members.insert(change.visitor_id.clone()),
                false => self.members.remove(&change.visitor_id),
            };
            assert!(changed, "it is told once: {change:?}");
            told.changes.fetch_add(1, Ordering::Relaxed);
        }
        // Behind a message without a cursor comes more of the same instant.
        if message.cursor.is_empty() {
            return;
        }
        if let Some(SegmentTotals { members, .. }) = message.totals {
            let found = self.members.len() as u64;
            assert_eq!(found, members, "as of {}, {:?}", message.as_of_ms, message.revision);
            told.totals.fetch_add(1, Ordering::Relaxed);
        }
        self.about = message.revision.map(|revision| (message.as_of_ms, revision));
    }
}

impl Units {
    fn take(&mut self, message: WatchFunnelResponse, told: &Told) {
        if message.reset {
            self.units.clear();
            told.resets.fetch_add(1, Ordering::Relaxed);
        }
        for change in message.changes {
            let before = match &change.after {
                Some(after) => self.units.insert(change.visitor_id.clone(), plain(after)),
                None => self.units.remove(&change.visitor_id),
            };
            assert_eq!(
                before,
                change.before.as_ref().map(plain),
                "it goes on from what was told: {change:?}"
            );
            told.changes.fetch_add(1, Ordering::Relaxed);
        }
        if message.cursor.is_empty() {
            return;
        }
        if let Some(FunnelTotals { standings, .. }) = message.totals {
            let mut found: BTreeMap<(u32, i32), u64> = BTreeMap::new();
            for unit in self.units.values() {
                let step = if unit.state() == UnitState::Removed { 0 } else { unit.step };
                *found.entry((step, unit.state)).or_default() += 1;
            }
            let totals: BTreeMap<_, _> =
                standings.iter().map(|one| ((one.step, one.state), one.units)).collect();
            assert_eq!(found, totals, "as of {}, {:?}", message.as_of_ms, message.revision);
            told.totals.fetch_add(1, Ordering::Relaxed);
        }
        self.about = message.revision.map(|revision| (message.as_of_ms, revision));
    }

    /// How many did each step.
    fn reached(&self) -> Vec<u64> {
        let so_far = |step: u32| self.units.values().filter(|unit| unit.step > step).count() as u64;
        (0..STEPS.len() as u32).map(so_far).collect()
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap()
}

impl<S: Transport> Followers<S> {
    /// Begins to watch, and goes on whatever breaks.
    pub(crate) fn start(reader: &Client<S>, told: &Arc<Told>) -> Followers<S> {
        let policy = RetryPolicy { attempt_timeout: SILENCE, patience: SILENCE, ..RetryPolicy::never() };
        let watcher = reader.clone().with_policy(policy);
        let (members, units) = (Arc::<Mutex<Members>>::default(), Arc::<Mutex<Units>>::default());
        let request = WatchSegmentRequest {
            segment: segment(),
            members: true,
            totals_every_ms: Some(500),
            ..WatchSegmentRequest::default()
        };
        let of_segment = watcher.watch_segment(request);
        let of_segment = tokio::spawn(follow(of_segment, members.clone(), told.clone(), Members::take));
        let request = WatchFunnelRequest {
            funnel: funnel(),
            units: true,
            totals_every_ms: Some(500),
            ..WatchFunnelRequest::default()
        };
        let of_funnel = watcher.watch_funnel(request);
        let of_funnel = tokio::spawn(follow(of_funnel, units.clone(), told.clone(), Units::take));
        let watchers = [of_segment.abort_handle(), of_funnel.abort_handle()];
        Followers { reader: reader.clone(), told: told.clone(), members, units, watchers }
    }

    /// Nothing breaks any more, and so many visitors did each step: soon that is what was told.
    pub(crate) async fn settle(&self, reached: &[u64]) {
        let ended = self.watchers.iter().any(AbortHandle::is_finished);
        assert!(!ended, "a watcher stopped: something that it was told does not add up");
        let settled = async {
            while !self.agrees(reached).await {
                sleep(Duration::from_millis(100)).await;
            }
        };
        let soon = timeout(RECOVERY, settled).await.is_ok();
        let about = (lock(&self.members).about, lock(&self.units).about);
        let so_far = lock(&self.units).reached();
        assert!(soon, "watchers are behind, at {about:?} with {so_far:?} of {reached:?}: {:?}", self.told);
    }

    /// Whether both watchers have heard of everything that there is now. Panics when they heard something else.
    async fn agrees(&self, reached: &[u64]) -> bool {
        let request = CountSegmentRequest { segment: segment(), as_of_ms: None };
        let Ok(counted) = self.reader.segmentation().count_segment(request).await else { return false };
        let newest = counted.into_inner().provenance.and_then(|provenance| provenance.revision);
        let (members, about) = {
            let known = lock(&self.members);
            (known.members.clone(), known.about)
        };
        let Some((as_of_ms, revision)) = about.filter(|(_, revision)| Some(*revision) == newest) else {
            return false;
        };
        let Some((listed, at)) = self.list(as_of_ms).await else { return false };
        if at != revision {
            return false;
        }
        assert_eq!(members, listed, "members as of {as_of_ms}, {revision:?}");
        let units = lock(&self.units);
        if units.about.is_none_or(|(_, revision)| Some(revision) != newest) {
            return false;
        }
        assert_eq!(units.reached(), reached, "visitors that did each step, {:?}", units.about);
        true
    }

    /// All members as of an instant, by asking.
    async fn list(&self, as_of_ms: i64) -> Option<(BTreeSet<String>, Revision)> {
        let request = StreamMembersRequest { segment: segment(), as_of_ms: Some(as_of_ms) };
        let mut parts = self.reader.segmentation().stream_members(request).await.ok()?.into_inner();
        let (mut ids, mut revision) = (BTreeSet::new(), None);
        while let Some(part) = parts.message().await.ok()? {
            ids.extend(part.visitor_ids);
            revision = revision.or(part.provenance.and_then(|Provenance { revision, .. }| revision));
        }
        Some((ids, revision?))
    }
}

impl<S> Drop for Followers<S> {
    fn drop(&mut self) {
        self.watchers.iter().for_each(AbortHandle::abort);
    }
}

/// Takes in what is told, for ever.
async fn follow<S: Transport, R: Watched, F>(
    mut watch: Watch<S, R>,
    into: Arc<Mutex<F>>,
    told: Arc<Told>,
    take: fn(&mut F, R::Told, &Told),
) {
    loop {
        match watch.next().await {
            Ok(message) => take(&mut lock(&into), message, &told),
            Err(refusal) => broken(&told, &refusal).await,
        }
    }
}

/// A stream broke. The next one goes on behind what was told.
async fn broken(told: &Told, refusal: &Refusal) {
    allowed(refusal);
    told.broken.fetch_add(1, Ordering::Relaxed);
    sleep(Duration::from_millis(20)).await;
}
