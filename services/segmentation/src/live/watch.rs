//! One watcher: where it begins, and what it is told.

use std::{collections::HashSet, sync::Arc, time::Duration};

use runnel_contracts::{
    conversion::known,
    proto::segmentation::v1::{ChangeCause as Cause, FunnelChangeKind as Kind, Lagged},
    refusal::{Reason, Refusal},
};
use runnel_definitions::refusal::{counting, loading, stopped};
use runnel_journeys::Journeys;
use runnel_model::{Identities, TenantName, limits};
use runnel_storage::compute;
use tokio::{
    sync::{Semaphore, broadcast::error::RecvError, mpsc},
    time::Instant,
};
use tonic::Status;

use super::{
    advance::{Change, Moment, Watched, advance, of_shard},
    cursor::Cursor,
    due::Due,
    follower::Subscription,
    topic::{CHANGES, Step, Told},
    what::{Tally, What},
};

/// Most changes of a message.
const TOGETHER: usize = 500;
/// Totals come at least so often where a request does not say, in milliseconds.
const TOTALS_MS: i64 = 10_000;
/// A cursor of longer ago than this, in milliseconds, begins anew.
const BEHIND_MS: i64 = 24 * 3_600_000;

/// How somebody wants to be told.
#[derive(Debug)]
pub(super) struct Wishes {
    pub(super) cursor: Option<Cursor>,
    /// Everybody who stands somewhere is told after a reset.
    pub(super) everybody: bool,
    totals_every: Duration,
    /// Only these, by any of their ids; empty: all.
    ids: HashSet<String>,
    /// Only changes of these causes; empty: all.
    causes: Vec<Cause>,
    /// Only changes of these kinds; empty: all.
    kinds: Vec<Kind>,
}

impl Wishes {
    /// Checks what a request says.
    pub(super) fn new(
        cursor: &str,
        everybody: bool,
        totals_every_ms: Option<i64>,
        ids: Vec<String>,
        (causes, kinds): (&[i32], &[i32]),
    ) -> Result<Wishes, Refusal> {
        let every_ms = totals_every_ms.unwrap_or(TOTALS_MS);
        let bounds = limits::TOTALS_EVERY_MS;
        if !bounds.contains(&every_ms) {
            let (least, most) = (bounds.start(), bounds.end());
            let text = format!("totals_every_ms is {least} to {most} milliseconds; it is {every_ms}.");
            return Err(Refusal::field(Reason::NumberOutOfRange, "totals_every_ms", text));
        }
        if ids.len() > limits::WATCHED_VISITORS {
            let (most, count) = (limits::WATCHED_VISITORS, ids.len());
            let text = format!("At most {most} visitors are told of alone; here are {count}.");
            return Err(Refusal::field(Reason::NumberOutOfRange, "visitor_ids", text));
        }
        let causes = causes.iter().enumerate();
        let causes = causes.map(|(at, cause)| known::<Cause>(&format!("causes[{at}]"), *cause));
        let kinds = kinds.iter().enumerate();
        let kinds = kinds.map(|(at, kind)| known::<Kind>(&format!("kinds[{at}]"), *kind));
        Ok(Wishes {
            cursor: Cursor::parse(cursor)?,
            everybody,
            totals_every: Duration::from_millis(every_ms.unsigned_abs()),
            ids: ids.into_iter().collect(),
            causes: causes.collect::<Result<_, _>>()?,
            kinds: kinds.collect::<Result<_, _>>()?,
        })
    }

    /// Whether a change of a visitor is told of, by who is who.
    fn is_of(&self, visitor: &str, people: &Identities) -> bool {
        self.ids.is_empty()
            || self.ids.contains(visitor)
            || self.ids.iter().any(|id| people.visitor(id) == visitor)
    }

    /// Whether a change is told.
    fn takes(&self, change: &Change, people: &Identities) -> bool {
        let asked = self.causes.is_empty() || self.causes.contains(&change.cause);
        let kinds = self.kinds.is_empty() || self.kinds.contains(&change.kind());
        asked && kinds && self.is_of(&change.visitor, people)
    }
}

/// What one message says.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) changes: Vec<Change>,
    pub(super) totals: Option<Tally>,
    pub(super) lagged: Option<Lagged>,
    pub(super) reset: bool,
    /// Where everything is told up to, if this is the last message about it.
    pub(super) cursor: String,
    pub(super) until: Cursor,
    /// What is watched, as it is understood now.
    pub(super) what: Arc<What>,
}

/// Sends to one watcher.
pub(super) struct Watcher<T> {
    pub(super) tenant: TenantName,
    pub(super) journeys: Journeys,
    pub(super) wishes: Wishes,
    /// Whoever reads journeys of before, one at a time.
    pub(super) looking: Arc<Semaphore>,
    pub(super) parts: mpsc::Sender<Result<T, Status>>,
    /// Makes a message.
    pub(super) message: fn(Part) -> T,
}

/// Why no more is sent: the reader is gone, or was told why.
enum Ended {
    Gone,
    Refused(Refusal),
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Ended {
        Ended::Refused(refusal)
    }
}

impl<T> Watcher<T> {
    /// Tells what there is to tell, until the reader is gone or cannot follow.
    pub(super) async fn run(self, subscription: Subscription) {
        if let Err(Ended::Refused(refusal)) = self.tell(subscription).await {
            drop(self.parts.send(Err(refusal.into())).await);
        }
    }

    async fn tell(&self, subscription: Subscription) -> Result<(), Ended> {
        let Subscription { now, moment, what, tally, missed, mut listen } = subscription;
        self.begin(now, moment, &what, tally, missed).await?;
        let (mut until, mut totals) = (now, Instant::now());
        loop {
            let step = tokio::select! {
                step = listen.recv() => step,
                () = self.parts.closed() => return Err(Ended::Gone),
            };
            let step = match step {
                Ok(step) if matches!(step.told, Told::TooMuch) => return self.lag(until, &step.what).await,
                Ok(step) => step,
                Err(RecvError::Lagged(_)) => return self.lag(until, &what).await,
                Err(RecvError::Closed) => return Err(stopped().into()),
            };
            let due = totals.elapsed() >= self.wishes.totals_every;
            if due {
                totals = Instant::now();
            }
            self.step(&step, due).await?;
            until = step.until;
        }
    }

    /// Tells what happened since the watcher's cursor, or how everything stands.
    async fn begin(
        &self,
        now: Cursor,
        moment: Moment,
        what: &Arc<What>,
        tally: Tally,
        missed: Option<Vec<Arc<Step>>>,
    ) -> Result<(), Ended> {
        let missed = missed.filter(|steps| !steps.iter().any(|step| matches!(step.told, Told::TooMuch)));
        if let Some(missed) = missed {
            for step in missed {
                self.step(&step, false).await?;
            }
            return self.send(Vec::new(), Some(tally), (false, true), now, what).await;
        }
        if let Some(cursor) = self.wishes.cursor
            && let Some(mut changes) = self.catch_up(cursor, now, &moment, what).await?
        {
            changes.retain(|change| self.wishes.takes(change, &moment.loaded.people));
            return self.send(changes, Some(tally), (false, true), now, what).await;
        }
        let everybody = self.wishes.everybody;
        self.send(Vec::new(), Some(tally), (true, !everybody), now, what).await?;
        if everybody {
            self.snapshot(now, moment, what).await?;
        }
        Ok(())
    }

    /// Tells how everybody stands who stands anywhere, one shard after the other.
    async fn snapshot(&self, now: Cursor, moment: Moment, what: &Arc<What>) -> Result<(), Ended> {
        let shards = moment.loaded.shards.len();
        for shard in 0..shards {
            let (pool, moment, what_is) = (self.journeys.pool().clone(), moment.clone(), what.clone());
            let people = moment.loaded.people.clone();
            let work = move || {
                pool.install(|| {
                    let brought = what_is.before(&moment.loaded, moment.as_of_ms)?;
                    of_shard(&brought, &moment, shard).map_err(|fault| counting(&fault))
                })
            };
            let mut found = compute(work).await.map_err(|_| stopped())??;
            found.retain(|visitor, _| self.wishes.is_of(visitor, &people));
            let mut changes = Vec::new();
            for (visitor, stands) in found {
                let visitor = Arc::<str>::from(visitor);
                changes.extend(stands.units.into_iter().map(|unit| Change {
                    visitor: visitor.clone(),
                    before: None,
                    after: Some(unit),
                    cause: Cause::Snapshot,
                    at_ms: now.as_of_ms,
                }));
            }
            let last = shard + 1 == shards;
            if last || !changes.is_empty() {
                self.send(changes, None, (false, last), now, what).await?;
            }
        }
        Ok(())
    }

    /// What changed since a cursor that this process may know nothing of; `None` where that cannot be told.
    async fn catch_up(
        &self,
        cursor: Cursor,
        now: Cursor,
        moment: &Moment,
        what: &Arc<What>,
    ) -> Result<Option<Vec<Change>>, Refusal> {
        let (was, is) = (cursor.revision, now.revision);
        let same = (cursor.what, was.alias, was.erasure) == (now.what, is.alias, is.erasure);
        let behind_ms = now.as_of_ms.saturating_sub(cursor.as_of_ms);
        if !same || was.sequence > is.sequence || !(0..=BEHIND_MS).contains(&behind_ms) {
            return Ok(None);
        }
        let _looking = self.looking.acquire().await.map_err(|_| stopped())?;
        let loaded = match was.sequence == is.sequence {
            true => moment.loaded.clone(),
            false => {
                let until = self.journeys.until(&self.tenant, was.sequence, &moment.loaded).await;
                Arc::new(until.map_err(|fault| loading(&fault))?)
            }
        };
        if (loaded.people.version(), loaded.erasure) != (was.alias, was.erasure) {
            return Ok(None);
        }
        let from = Moment { loaded, as_of_ms: cursor.as_of_ms };
        let (pool, to, what) = (self.journeys.pool().clone(), moment.clone(), what.clone());
        let work = move || {
            pool.install(|| {
                let (mut due, mut tally) = (Due::default(), Tally::default());
                due.watch(what.durations_ms().into_iter());
                let mut watched = [Watched { was: &what, is: &what, redefined: false, tally: &mut tally }];
                advance(&from, &to, &mut watched, &mut due)
            })
        };
        let told = compute(work).await.map_err(|_| stopped())??;
        let changes = told.into_iter().next().unwrap_or_else(|| Ok(Vec::new()))?;
        Ok((changes.len() <= CHANGES).then_some(changes))
    }

    /// Tells of a step, with totals where they are due.
    async fn step(&self, step: &Step, due: bool) -> Result<(), Ended> {
        let totals = due.then(|| step.tally.clone());
        match &step.told {
            Told::Changes(changes) => {
                let takes = |change: &&Change| self.wishes.takes(change, &step.people);
                let changes: Vec<Change> = changes.iter().filter(takes).cloned().collect();
                if changes.is_empty() && totals.is_none() {
                    return Ok(());
                }
                self.send(changes, totals, (false, true), step.until, &step.what).await
            }
            Told::Over(refusal) => Err(refusal.clone().into()),
            Told::TooMuch => Ok(()),
        }
    }

    /// Tells where to go on from; the stream ends.
    async fn lag(&self, until: Cursor, what: &Arc<What>) -> Result<(), Ended> {
        let part = Part {
            changes: Vec::new(),
            totals: None,
            lagged: Some(Lagged { resync_from: until.show() }),
            reset: false,
            cursor: until.show(),
            until,
            what: what.clone(),
        };
        drop(self.parts.send(Ok((self.message)(part))).await);
        Err(Ended::Gone)
    }

    /// Sends messages about one instant: whether they begin anew, and whether everything is told with them.
    async fn send(
        &self,
        changes: Vec<Change>,
        mut totals: Option<Tally>,
        (mut reset, whole): (bool, bool),
        until: Cursor,
        what: &Arc<What>,
    ) -> Result<(), Ended> {
        let mut changes = changes.into_iter().peekable();
        loop {
            let some: Vec<Change> = changes.by_ref().take(TOGETHER).collect();
            let last = changes.peek().is_none();
            let part = Part {
                changes: some,
                totals: totals.take(),
                lagged: None,
                reset: std::mem::take(&mut reset),
                cursor: if last && whole { until.show() } else { String::new() },
                until,
                what: what.clone(),
            };
            self.parts.send(Ok((self.message)(part))).await.map_err(|_| Ended::Gone)?;
            if last {
                return Ok(());
            }
        }
    }
}
