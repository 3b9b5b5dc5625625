//! What is watched: who comes into a segment and who leaves it, how visitors move through a funnel, as it happens.
//!
//! ```text
//! journal ── journeys ─┬─ moment before ─┐
//!                      └─ moment now ────┴─ advance ── step ── topic ─┬─ watcher ── stream
//!            turns ──────────────────────────┘ due                     └─ watcher ── stream
//! ```
//! One follower a tenant that is watched, in every process whose watchers there are. It keeps nothing that is not in the store: how visitors stood before is asked of the
//! journeys of before, which are immutable, and when they may stand otherwise is told from their events. A cursor says what everything told so far is about; with it any
//! process goes on, if need be from journeys that it reads up to where the cursor is. Why hot state has no part in it: docs/decisions/0010-watching.md.

mod advance;
mod cursor;
mod due;
mod follower;
mod tell;
mod topic;
mod watch;
mod what;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use runnel_chassis::Clock;
use runnel_contracts::{
    proto::segmentation::v1::{
        WatchFunnelRequest, WatchFunnelResponse, WatchSegmentRequest, WatchSegmentResponse,
    },
    refusal::{Reason, Refusal},
};
use runnel_definitions::refusal::stopped;
use runnel_journeys::Journeys;
use runnel_model::{TenantName, limits};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use tracing::Instrument;

use self::{
    follower::{Follower, Subscribe, Subscription},
    topic::Asked,
    watch::{Looking, Part, Watcher, Wishes},
    what::FROM_THE_FIRST_MS,
};

/// Most tenants that are followed at a time.
const FOLLOWED: usize = 1_000;
/// How often a follower is looked for.
const ATTEMPTS: usize = 3;
/// Those who begin to watch a tenant at the same time.
const JOINING: usize = 64;
/// Messages of a stream that wait for their reader.
const PARTS: usize = 16;

/// Everything that is watched. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    journeys: Journeys,
    clock: Clock,
    looked: Duration,
    /// Ways to the followers; `None` once the server stops.
    followers: Mutex<Option<BTreeMap<TenantName, mpsc::Sender<Subscribe>>>>,
    looking: Arc<Looking>,
}

/// A stream's messages.
pub(crate) type Parts<T> = mpsc::Receiver<Result<T, Status>>;

impl Live {
    pub(crate) fn new(journeys: Journeys, clock: Clock, looked: Duration) -> Live {
        let followers = Mutex::new(Some(BTreeMap::new()));
        Live { inner: Arc::new(Inner { journeys, clock, looked, followers, looking: Arc::default() }) }
    }

    /// Streams who comes into a segment and who leaves it.
    pub(crate) async fn segment(
        &self,
        tenant: TenantName,
        request: WatchSegmentRequest,
    ) -> Result<Parts<WatchSegmentResponse>, Refusal> {
        let WatchSegmentRequest { segment, cursor, members, totals_every_ms, visitor_ids, causes } = request;
        let wishes = Wishes::new(&cursor, members, totals_every_ms, visitor_ids, (&causes, &[]))?;
        let asked = Asked::Segment(segment.unwrap_or_default());
        self.watch(tenant, asked, wishes, tell::segment).await
    }

    /// Streams how visitors move through a funnel.
    pub(crate) async fn funnel(
        &self,
        tenant: TenantName,
        request: WatchFunnelRequest,
    ) -> Result<Parts<WatchFunnelResponse>, Refusal> {
        let WatchFunnelRequest {
            funnel,
            from_ms,
            cursor,
            units,
            totals_every_ms,
            visitor_ids,
            causes,
            kinds,
            values,
        } = request;
        let from_ms = from_ms.unwrap_or(FROM_THE_FIRST_MS);
        if !limits::TIME_RANGE_MS.contains(&from_ms) {
            let text = format!("from_ms lies in the years 1 to 9999; it is {from_ms}.");
            return Err(Refusal::field(Reason::EventTimeOutOfRange, "from_ms", text));
        }
        let wishes = Wishes::new(&cursor, units, totals_every_ms, visitor_ids, (&causes, &kinds))?;
        let asked = Asked::Funnel(funnel.unwrap_or_default(), from_ms, values);
        self.watch(tenant, asked, wishes, tell::funnel).await
    }

    async fn watch<T: Send + 'static>(
        &self,
        tenant: TenantName,
        asked: Asked,
        wishes: Wishes,
        message: fn(Part) -> T,
    ) -> Result<Parts<T>, Refusal> {
        let subscription = self.subscribe(&tenant, asked, &wishes).await?;
        let (parts, answer) = mpsc::channel(PARTS);
        let (journeys, looking) = (self.inner.journeys.clone(), self.inner.looking.clone());
        let watcher = Watcher { tenant, journeys, wishes, looking, parts, message };
        tokio::spawn(watcher.run(subscription).in_current_span());
        Ok(answer)
    }

    /// Asks the tenant's follower, of which there is one from now on.
    async fn subscribe(
        &self,
        tenant: &TenantName,
        asked: Asked,
        wishes: &Wishes,
    ) -> Result<Subscription, Refusal> {
        for _ in 0..ATTEMPTS {
            let follower = self.follower(tenant)?;
            let (reply, answer) = oneshot::channel();
            let subscribe = Subscribe { asked: asked.clone(), cursor: wishes.cursor, reply };
            if follower.send(subscribe).await.is_ok()
                && let Ok(answer) = answer.await
            {
                return answer;
            }
            // A follower that nobody needed any more has just left.
        }
        Err(stopped())
    }

    fn follower(&self, tenant: &TenantName) -> Result<mpsc::Sender<Subscribe>, Refusal> {
        let mut followers = self.inner.followers.lock().unwrap_or_else(PoisonError::into_inner);
        let followers = followers.as_mut().ok_or_else(stopped)?;
        if let Some(follower) = followers.get(tenant).filter(|follower| !follower.is_closed()) {
            return Ok(follower.clone());
        }
        followers.retain(|_, follower| !follower.is_closed());
        if followers.len() >= FOLLOWED {
            let text = format!("{FOLLOWED} tenants are watched here and no more can be.");
            return Err(Refusal::new(Reason::Overloaded, text).retry_after(Duration::from_secs(1)));
        }
        let (sender, asked) = mpsc::channel(JOINING);
        followers.insert(tenant.clone(), sender.clone());
        let Inner { journeys, clock, looked, .. } = &*self.inner;
        let follower = Follower::new(tenant.clone(), journeys.clone(), clock.clone(), asked, *looked);
        tokio::spawn(follower.run());
        Ok(sender)
    }

    /// Ends every stream; their readers go on elsewhere with their cursors.
    pub(crate) fn close(&self) {
        drop(self.inner.followers.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
