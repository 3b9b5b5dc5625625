//! One watcher: where it begins, and what it is told.

use std::{
    collections::HashSet,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use runnel_contracts::{
    conversion::known,
    proto::{
        query::v1::Revision,
        segmentation::v1::{ChangeCause as Cause, FunnelChangeKind as Kind, Lagged},
    },
    refusal::{Reason, Refusal},
};
use runnel_definitions::refusal::{counting, loading, stopped};
use runnel_journeys::{Journeys, Loaded};
use runnel_model::{Identities, TenantName, limits};
use runnel_storage::compute;
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::Instant,
};
use tonic::Status;

use super::{
    advance::{Change, Moment, Watched, advance, of_shard},
    cursor::Cursor,
    due::Due,
    follower::Subscription,
    topic::{CHANGES, Step, Told},
    what::{Legend, Tally, What},
};

/// Most changes of a message.
const TOGETHER: usize = 500;
/// Totals come at least so often where a request does not say, in milliseconds.
const TOTALS_MS: i64 = 10_000;
/// Watchers that wait for journeys of before.
const WAITING: usize = 64;
/// How long such are kept for others who ask for the same.
const HELD: Duration = Duration::from_secs(5);
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

    /// Whether a change is told, wherever it is of somebody who is asked for.
    fn takes(&self, change: &Change) -> bool {
        let asked = self.causes.is_empty() || self.causes.contains(&change.cause);
        asked && (self.kinds.is_empty() || self.kinds.contains(&change.kind()))
    }

    /// Those who are told of, by who is who; `None`: all.
    fn visitors(&self, people: &Identities) -> Visitors {
        let ids = self.ids.iter().map(|id| people.visitor(id).to_owned());
        (!self.ids.is_empty()).then(|| ids.collect())
    }
}

/// Of whom a watcher is told; `None`: of all.
type Visitors = Option<HashSet<String>>;

fn is_of(visitors: &Visitors, visitor: &str) -> bool {
    visitors.as_ref().is_none_or(|visitors| visitors.contains(visitor))
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
    /// What is needed of what is watched, as it is understood now.
    pub(super) legend: Arc<Legend>,
}

/// Whoever reads journeys of before: one at a time, and not more than wait for it; others begin anew.
#[derive(Debug, Default)]
pub(super) struct Looking {
    waiting: AtomicUsize,
    /// What was read last, which many may ask for after a restart.
    last: tokio::sync::Mutex<Option<(TenantName, Revision, Weak<Loaded>)>>,
}

/// A place among those who wait.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Looking {
    fn wait(&self) -> Option<Waits<'_>> {
        let waits = Waits(&self.waiting);
        (self.waiting.fetch_add(1, Ordering::AcqRel) < WAITING).then_some(waits)
    }
}

/// Sends to one watcher.
pub(super) struct Watcher<T> {
    pub(super) tenant: TenantName,
    pub(super) journeys: Journeys,
    pub(super) wishes: Wishes,
    pub(super) looking: Arc<Looking>,
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
        let (legend, visitors) = (what.legend(), self.wishes.visitors(&moment.loaded.people));
        self.begin((now, moment), &what, tally, missed, &visitors).await?;
        let (mut until, mut totals) = (now, Instant::now());
        loop {
            let step = tokio::select! {
                biased;
                step = listen.recv() => step,
                () = self.parts.closed() => return Err(Ended::Gone),
            };
            let step = match step {
                Ok(step) if matches!(step.told, Told::TooMuch) => {
                    return self.lag(until.show(), until, &step.legend).await;
                }
                Ok(step) => step,
                Err(RecvError::Lagged(_)) => return self.lag(until.show(), until, &legend).await,
                Err(RecvError::Closed) => return Err(stopped().into()),
            };
            if let Some(people) = &step.people
                && self.wishes.visitors(people) != visitors
            {
                // Who is told of is somebody else now: what was told of them does not add up any more.
                return self.lag(String::new(), until, &legend).await;
            }
            let due = totals.elapsed() >= self.wishes.totals_every;
            if due {
                totals = Instant::now();
            }
            self.step(&step, due, &visitors).await?;
            until = step.until;
        }
    }

    /// Tells what happened since the watcher's cursor, or how everything stands.
    async fn begin(
        &self,
        (now, moment): (Cursor, Moment),
        what: &Arc<What>,
        tally: Tally,
        missed: Option<Vec<Arc<Step>>>,
        visitors: &Visitors,
    ) -> Result<(), Ended> {
        let missed = missed.filter(|steps| !steps.iter().any(|step| matches!(step.told, Told::TooMuch)));
        // Of whom was told, by who was who then, is not known any more.
        let others = |cursor: Cursor| visitors.is_some() && cursor.revision.alias != now.revision.alias;
        let cursor = self.wishes.cursor.filter(|cursor| !others(*cursor));
        if let (Some(_), Some(missed)) = (cursor, missed) {
            for step in missed {
                self.step(&step, false, visitors).await?;
            }
            return self.send(Vec::new(), Some(tally), (false, true), now, &what.legend()).await;
        }
        if let Some(cursor) = cursor
            && let Some(mut changes) = self.catch_up(cursor, now, &moment, what).await?
        {
            changes.retain(|change| is_of(visitors, &change.visitor) && self.wishes.takes(change));
            return self.send(changes, Some(tally), (false, true), now, &what.legend()).await;
        }
        let everybody = self.wishes.everybody;
        self.send(Vec::new(), Some(tally), (true, !everybody), now, &what.legend()).await?;
        if everybody {
            self.snapshot(now, moment, what, visitors).await?;
        }
        Ok(())
    }

    /// Tells how everybody stands who stands anywhere, one shard after the other.
    async fn snapshot(
        &self,
        now: Cursor,
        moment: Moment,
        what: &Arc<What>,
        visitors: &Visitors,
    ) -> Result<(), Ended> {
        let (loaded, legend, shards) = (moment.loaded.clone(), what.legend(), moment.loaded.shards.len());
        for shard in 0..shards {
            let (pool, moment, what_is) = (self.journeys.pool().clone(), moment.clone(), what.clone());
            let work = move || {
                pool.install(|| {
                    let brought = what_is.before(&moment.loaded, moment.as_of_ms)?;
                    of_shard(&brought, &moment, shard).map_err(|fault| counting(&fault))
                })
            };
            let mut found = compute(work).await.map_err(|_| stopped())??;
            found.retain(|visitor, _| is_of(visitors, visitor));
            let mut changes = Vec::new();
            for (visitor, stands) in found {
                let visitor = Arc::<str>::from(visitor);
                changes.extend(stands.units.into_iter().map(|unit| Change {
                    visitor: visitor.clone(),
                    before: None,
                    after: Some(unit),
                    cause: Cause::Snapshot,
                    at_ms: now.as_of_ms,
                    value: None,
                }));
            }
            what.price(&loaded, &mut changes);
            let last = shard + 1 == shards;
            if last || !changes.is_empty() {
                self.send(changes, None, (false, last), now, &legend).await?;
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
        let loaded = match was.sequence == is.sequence {
            true => moment.loaded.clone(),
            false => match self.earlier(was, &moment.loaded).await? {
                Some(loaded) => loaded,
                None => return Ok(None),
            },
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

    /// The journeys up to a number; `None` where too many wait for such, or the reader is gone.
    async fn earlier(&self, was: Revision, like: &Arc<Loaded>) -> Result<Option<Arc<Loaded>>, Refusal> {
        let Some(_waits) = self.looking.wait() else { return Ok(None) };
        let mut last = self.looking.last.lock().await;
        if self.parts.is_closed() {
            return Ok(None);
        }
        let has_all = |loaded: &Arc<Loaded>| {
            loaded.settings == like.settings
                && like.columns.iter().all(|(one, _)| loaded.column(one).is_some())
        };
        if let Some((tenant, revision, loaded)) = &*last
            && (tenant, revision.sequence) == (&self.tenant, was.sequence)
            && let Some(loaded) = loaded.upgrade().filter(has_all)
        {
            return Ok(Some(loaded));
        }
        let loaded = self.journeys.until(&self.tenant, was.sequence, like).await;
        let loaded = Arc::new(loaded.map_err(|fault| loading(&fault))?);
        *last = Some((self.tenant.clone(), was, Arc::downgrade(&loaded)));
        // The next ones may ask for the same.
        let held = loaded.clone();
        tokio::spawn(async move {
            tokio::time::sleep(HELD).await;
            drop(held);
        });
        Ok(Some(loaded))
    }

    /// Tells of a step, with totals where they are due.
    async fn step(&self, step: &Step, due: bool, visitors: &Visitors) -> Result<(), Ended> {
        let totals = due.then(|| step.tally.clone());
        match &step.told {
            Told::Changes(changes) => {
                let takes = |change: &&Change| is_of(visitors, &change.visitor) && self.wishes.takes(change);
                let changes: Vec<Change> = changes.iter().filter(takes).cloned().collect();
                if changes.is_empty() && totals.is_none() {
                    return Ok(());
                }
                self.send(changes, totals, (false, true), step.until, &step.legend).await
            }
            Told::Over(refusal) => Err(refusal.clone().into()),
            Told::TooMuch => Ok(()),
        }
    }

    /// Tells where to go on from; the stream ends.
    async fn lag(&self, from: String, until: Cursor, legend: &Arc<Legend>) -> Result<(), Ended> {
        let part = Part {
            changes: Vec::new(),
            totals: None,
            lagged: Some(Lagged { resync_from: from.clone() }),
            reset: false,
            cursor: from,
            until,
            legend: legend.clone(),
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
        legend: &Arc<Legend>,
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
                legend: legend.clone(),
            };
            self.parts.send(Ok((self.message)(part))).await.map_err(|_| Ended::Gone)?;
            if last {
                return Ok(());
            }
        }
    }
}
