//! Follows a tenant of whom something is watched: goes from moment to moment, as events come and as turns come, and tells what changed.

use std::{sync::Arc, time::Duration};

use runnel_chassis::Clock;
use runnel_contracts::{
    proto::query::v1::Revision,
    refusal::{Reason, Refusal},
};
use runnel_definitions::{
    catalogue::Catalogue,
    posed,
    refusal::{counting, stopped, unavailable},
};
use runnel_journeys::{Journeys, Loaded};
use runnel_model::{TenantName, limits};
use runnel_storage::compute;
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    time::Instant,
};

use super::{
    advance::{Change, Moment, Watched, advance},
    cursor::Cursor,
    due::Due,
    topic::{Asked, CHANGES, Step, Told, Topic},
    what::{Tally, What},
};

/// Bursts of commits are told together after this long.
const GATHERED: Duration = Duration::from_millis(20);
/// When a tenant whose store did not answer is looked at again.
const AGAIN: Duration = Duration::from_millis(250);
/// How far clocks of processes may lie apart, in milliseconds.
const SKEW_MS: i64 = 10_000;
/// How long something is followed that nobody watches any more, so that a watcher who comes back finds what it missed.
const LINGERS: Duration = Duration::from_secs(60);
/// How long a store may not answer before those who watch are told.
const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody wants to watch something.
pub(super) struct Subscribe {
    pub(super) asked: Asked,
    pub(super) cursor: Option<Cursor>,
    pub(super) reply: oneshot::Sender<Result<Subscription, Refusal>>,
}

/// What a watcher begins with.
pub(super) struct Subscription {
    /// Everything that `tally` counts is told up to here.
    pub(super) now: Cursor,
    pub(super) moment: Moment,
    pub(super) what: Arc<What>,
    pub(super) tally: Tally,
    /// The steps between the watcher's cursor and now; `None` when they are not at hand.
    pub(super) missed: Option<Vec<Arc<Step>>>,
    /// What is told from now on.
    pub(super) listen: broadcast::Receiver<Arc<Step>>,
}

/// A tenant as it was last looked at.
#[derive(Debug, Clone)]
struct Known {
    moment: Moment,
    /// The version of the tenant's definitions.
    definition: u64,
}

impl Known {
    fn revision(&self) -> Revision {
        let Loaded { sequence, people, erasure, .. } = &*self.moment.loaded;
        Revision {
            sequence: *sequence,
            definition: self.definition,
            alias: people.version(),
            erasure: *erasure,
        }
    }

    fn cursor(&self, what: u64) -> Cursor {
        Cursor { as_of_ms: self.moment.as_of_ms, revision: self.revision(), what }
    }
}

/// Something that is followed.
struct Followed {
    topic: Arc<Topic>,
    /// When somebody was last there, and when everybody was last told something.
    watched: Instant,
    told: Instant,
    /// The version of the identities that was told.
    alias: u64,
}

/// A topic as it was and as it is now understood, while a step is made.
struct Turned {
    was: Arc<What>,
    is: Arc<What>,
    before: u64,
    after: u64,
}

/// Follows one tenant.
pub(super) struct Follower {
    pub(super) tenant: TenantName,
    pub(super) journeys: Journeys,
    pub(super) clock: Clock,
    pub(super) asked: mpsc::Receiver<Subscribe>,
    /// At least so often is looked for what no batch brings: identities, definitions, erasures.
    pub(super) looked: Duration,
    followed: Vec<Followed>,
    known: Option<Known>,
    due: Due,
}

impl Follower {
    pub(super) fn new(
        tenant: TenantName,
        journeys: Journeys,
        clock: Clock,
        asked: mpsc::Receiver<Subscribe>,
        looked: Duration,
    ) -> Follower {
        let (followed, known, due) = (Vec::new(), None, Due::default());
        Follower { tenant, journeys, clock, asked, looked, followed, known, due }
    }

    /// Goes on until nobody watches anything any more.
    pub(super) async fn run(mut self) {
        let (mut rest, mut failing) = (None, None);
        while let Some(asked) = self.wait(rest.take()).await {
            self.leave(&asked);
            if self.followed.is_empty() && asked.is_empty() {
                // Whoever comes now starts another follower, also who has just come.
                return;
            }
            let Err(refusal) = self.step(asked).await else {
                failing = None;
                continue;
            };
            let reason = refusal.reason.name();
            tracing::debug!(reason, "what is watched could not be brought up to date");
            let passes = matches!(refusal.reason, Reason::StoreUnavailable | Reason::ShuttingDown);
            if !passes || failing.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                self.end(&refusal);
            }
            rest = Some(AGAIN);
        }
    }

    /// Leaves what nobody has watched for a while, or for the longest time where there are many.
    fn leave(&mut self, asked: &[Subscribe]) {
        self.followed.retain_mut(|one| {
            if one.topic.is_watched() {
                one.watched = Instant::now();
            }
            one.watched.elapsed() < LINGERS
        });
        let most = limits::WATCHED.saturating_sub(asked.len());
        while self.followed.len() > most {
            let needed = |one: &Followed| {
                one.topic.is_watched() || asked.iter().any(|subscribe| subscribe.asked == one.topic.asked)
            };
            let unwatched = self.followed.iter().enumerate().filter(|(_, one)| !needed(one));
            let Some((longest, _)) = unwatched.min_by_key(|(_, one)| one.watched) else { return };
            self.followed.remove(longest);
        }
    }

    /// Tells everybody that nothing can be told any more.
    fn end(&mut self, refusal: &Refusal) {
        for followed in self.followed.drain(..) {
            if let Some(known) = &self.known {
                over(&followed.topic, known, refusal.clone());
            }
        }
    }

    /// Waits until there is something to do, at least so long; tells who wants to watch something. `None`: the server stops.
    async fn wait(&mut self, least: Option<Duration>) -> Option<Vec<Subscribe>> {
        if let Some(least) = least {
            tokio::time::sleep(least).await;
        }
        let mut first = None;
        if let Some(Known { moment, .. }) = &self.known {
            let until_turn = self.due.next_ms().map(|turn_ms| {
                let ahead_ms = turn_ms.saturating_sub(self.clock.now_ms());
                Duration::from_millis(ahead_ms.max(0).unsigned_abs())
                    .clamp(GATHERED.min(self.looked), self.looked)
            });
            let committed = async {
                if self.journeys.store().wait_beyond(&self.tenant, moment.loaded.sequence).await.is_err() {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(GATHERED).await;
            };
            tokio::select! {
                biased;
                asked = self.asked.recv() => first = Some(asked?),
                () = committed => {}
                () = tokio::time::sleep(until_turn.unwrap_or(self.looked)) => {}
            }
        } else if let Ok(asked) = tokio::time::timeout(self.looked, self.asked.recv()).await {
            first = Some(asked?);
        }
        let mut asked: Vec<Subscribe> = first.into_iter().collect();
        while let Ok(more) = self.asked.try_recv() {
            asked.push(more);
        }
        Some(asked)
    }

    /// Goes on to now, and lets in who wants to watch something.
    async fn step(&mut self, asked: Vec<Subscribe>) -> Result<(), Refusal> {
        let mut waiting = Vec::new();
        let stepped = self.go_on(asked, &mut waiting).await;
        for (subscribe, topic) in waiting {
            let answer = match &stepped {
                Ok(()) => self.subscription(&topic, subscribe.cursor.as_ref()).ok_or_else(stopped),
                Err(refusal) => Err(refusal.clone()),
            };
            drop(subscribe.reply.send(answer));
        }
        stepped
    }

    async fn go_on(
        &mut self,
        asked: Vec<Subscribe>,
        waiting: &mut Vec<(Subscribe, Arc<Topic>)>,
    ) -> Result<(), Refusal> {
        let store = self.journeys.store().clone();
        let ahead = |known: &Known| known.moment.as_of_ms > self.clock.now_ms().saturating_add(SKEW_MS);
        if self.known.as_ref().is_some_and(ahead) {
            // The clock was wrong. Those who watch begin anew.
            (self.known, self.followed) = (None, Vec::new());
            self.due.forget();
        }
        let version = store.definition_version(&self.tenant).await.map_err(|fault| unavailable(&fault));
        let (definition, changed) = match version {
            Ok(version) => (version, self.known.as_ref().is_none_or(|known| known.definition != version)),
            Err(refusal) => return refuse(asked, refusal),
        };
        let is_followed = |asked: &Asked| self.followed.iter().any(|one| one.topic.asked == *asked);
        let catalogue = match changed || asked.iter().any(|one| !is_followed(&one.asked)) {
            true => match Catalogue::read(&store, &self.tenant).await {
                Ok(catalogue) => Some(catalogue),
                Err(refusal) => return refuse(asked, refusal),
            },
            false => None,
        };
        let mut turned = match self.turn(catalogue.as_ref().filter(|_| changed)).await {
            Ok(turned) => turned,
            Err(refusal) => return refuse(asked, refusal),
        };
        let mut fresh: Vec<Arc<Topic>> = Vec::new();
        for subscribe in asked {
            let known = self.followed.iter().map(|one| &one.topic).chain(&fresh);
            let known = known.into_iter().find(|topic| topic.asked == subscribe.asked).cloned();
            let topic = match (known, &catalogue) {
                (Some(topic), _) => Ok(topic),
                _ if self.followed.len() + fresh.len() >= limits::WATCHED => {
                    let most = limits::WATCHED;
                    let text =
                        format!("At most {most} segments and funnels of a tenant are watched at a time.");
                    Err(Refusal::new(Reason::LimitReached, text))
                }
                (None, None) => Err(stopped()),
                (None, Some(catalogue)) => {
                    let what = subscribe.asked.check(&store, &self.tenant, catalogue).await;
                    what.map(|what| Arc::new(Topic::new(subscribe.asked.clone(), what)))
                        .inspect(|topic| fresh.push(topic.clone()))
                }
            };
            match topic {
                Ok(topic) => waiting.push((subscribe, topic)),
                Err(refusal) => drop(subscribe.reply.send(Err(refusal))),
            }
        }
        let whats: Vec<Arc<What>> =
            turned.iter().map(|one| one.is.clone()).chain(fresh.iter().map(|topic| topic.what().0)).collect();
        let Some(settings) = whats.first().map(|what| what.settings().clone()) else { return Ok(()) };
        let columns = whats.iter().flat_map(|what| what.selectors()).collect();
        let (loaded, _) = posed::loaded(&self.journeys, &self.tenant, columns, &settings, false).await?;
        let known = self.known.clone();
        // Time never goes back, also for those who come from a process whose clock is a little ahead.
        let clock_ms = self.clock.now_ms();
        let cursors =
            waiting.iter().filter_map(|(subscribe, _)| subscribe.cursor.map(|cursor| cursor.as_of_ms));
        let cursors = cursors.filter(|as_of_ms| *as_of_ms <= clock_ms.saturating_add(SKEW_MS));
        let told = known.iter().map(|known| known.moment.as_of_ms);
        let as_of_ms = cursors.chain(told).fold(clock_ms, i64::max);
        let now = Known { moment: Moment { loaded, as_of_ms }, definition };
        let known = known.unwrap_or_else(|| now.clone());
        let mut due = std::mem::take(&mut self.due);
        due.watch(whats.iter().flat_map(|what| what.durations_ms()));
        let mut tallies: Vec<Tally> = self.followed.iter().map(|one| one.topic.tally()).collect();
        let (from, to) = (known.moment.clone(), now.moment.clone());
        let (pool, fresh_whats) = (self.journeys.pool().clone(), whats[turned.len()..].to_vec());
        let work = move || {
            pool.install(|| {
                let mut watched: Vec<Watched<'_>> = Vec::new();
                for (one, tally) in turned.iter().zip(&mut tallies) {
                    let redefined = one.before != one.after;
                    watched.push(Watched { was: &one.was, is: &one.is, redefined, tally });
                }
                let told = advance(&from, &to, &mut watched, &mut due)?;
                drop(watched);
                let counted = fresh_whats.iter().map(|what| {
                    let brought = what.before(&to.loaded, to.as_of_ms)?;
                    brought.count(&to.loaded).map_err(|fault| counting(&fault))
                });
                let counted: Vec<Result<Tally, Refusal>> = counted.collect();
                Ok::<_, Refusal>((told, tallies, counted, due, turned))
            })
        };
        let (told, tallies, counted, due, back) = compute(work).await.map_err(|_| stopped())??;
        (self.due, turned) = (due, back);
        let joined: Vec<&Arc<Topic>> = waiting.iter().map(|(_, topic)| topic).collect();
        self.tell((&known, &now), &joined, turned.into_iter().zip(told.into_iter().zip(tallies)));
        for (topic, counted) in fresh.into_iter().zip(counted) {
            match counted {
                Ok(tally) => {
                    topic.begin(now.cursor(topic.what().1), tally);
                    let (watched, told) = (Instant::now(), Instant::now());
                    let alias = now.moment.loaded.people.version();
                    self.followed.push(Followed { topic, watched, told, alias });
                }
                Err(refusal) => {
                    for (subscribe, _) in waiting.extract_if(.., |(_, asked)| Arc::ptr_eq(asked, &topic)) {
                        drop(subscribe.reply.send(Err(refusal.clone())));
                    }
                }
            }
        }
        self.known = Some(now);
        Ok(())
    }

    /// What is followed, as it was understood and as it is with these definitions. What cannot be watched any more is told so, and left.
    async fn turn(&mut self, catalogue: Option<&Catalogue>) -> Result<Vec<Turned>, Refusal> {
        let mut turned = Vec::new();
        let store = self.journeys.store().clone();
        let mut at = 0;
        while let Some(Followed { topic, .. }) = self.followed.get(at) {
            let (was, before) = topic.what();
            let is = match catalogue {
                None => Ok(was.clone()),
                Some(catalogue) => match topic.asked.check(&store, &self.tenant, catalogue).await {
                    Ok(what) => Ok(Arc::new(what)),
                    Err(refusal) if refusal.reason == Reason::StoreUnavailable => return Err(refusal),
                    Err(refusal) => Err(refusal),
                },
            };
            match is {
                Ok(is) => {
                    let after = if Arc::ptr_eq(&was, &is) { before } else { is.fingerprint() };
                    // What reads the same is held once, with the lists that it names.
                    let is = if after == before { was.clone() } else { is };
                    turned.push(Turned { was, is, before, after });
                    at += 1;
                }
                Err(refusal) => {
                    let followed = self.followed.remove(at);
                    if let Some(known) = &self.known {
                        over(&followed.topic, known, refusal);
                    }
                }
            }
        }
        Ok(turned)
    }

    /// Tells everybody what changed; where somebody joined, also that nothing did, so that what is told next begins there.
    fn tell(
        &mut self,
        (known, now): (&Known, &Known),
        joined: &[&Arc<Topic>],
        told: impl Iterator<Item = (Turned, (Result<Vec<Change>, Refusal>, Tally))>,
    ) {
        let erased = known.moment.loaded.erasure != now.moment.loaded.erasure;
        let told: Vec<_> = told.collect();
        let mut lost = Vec::new();
        for (at, (Turned { is, before, after, .. }, (told, tally))) in told.into_iter().enumerate() {
            let followed = &mut self.followed[at];
            let changes = match told {
                Ok(changes) => changes,
                Err(refusal) => {
                    over(&followed.topic, known, refusal);
                    lost.push(at);
                    continue;
                }
            };
            let quiet = changes.is_empty() && before == after && !erased;
            let is_joined = joined.iter().any(|topic| Arc::ptr_eq(topic, &followed.topic));
            if quiet && !is_joined && followed.told.elapsed() < self.looked {
                // What is told next begins where this began: nothing that is told changed in between.
                followed.topic.keep(tally);
                continue;
            }
            followed.told = Instant::now();
            let told = if changes.len() > CHANGES { Told::TooMuch } else { Told::Changes(changes) };
            followed.topic.redefine(is.clone(), after);
            let people = &now.moment.loaded.people;
            let people = (people.version() != followed.alias).then(|| people.clone());
            followed.alias = now.moment.loaded.people.version();
            let step = Step { until: now.cursor(after), told, tally, legend: is.legend(), people };
            followed.topic.tell(step, erased);
        }
        for at in lost.into_iter().rev() {
            self.followed.remove(at);
        }
    }

    /// What a watcher of a topic begins with; `None` when the topic was left.
    fn subscription(&self, topic: &Arc<Topic>, cursor: Option<&Cursor>) -> Option<Subscription> {
        let known = self.known.as_ref()?;
        let followed = self.followed.iter().find(|one| Arc::ptr_eq(&one.topic, topic))?;
        let (what, fingerprint) = followed.topic.what();
        Some(Subscription {
            missed: cursor.and_then(|cursor| followed.topic.since(cursor)),
            now: known.cursor(fingerprint),
            moment: known.moment.clone(),
            what,
            tally: followed.topic.tally(),
            listen: followed.topic.listen(),
        })
    }
}

/// Refuses everybody who waits.
fn refuse(asked: Vec<Subscribe>, refusal: Refusal) -> Result<(), Refusal> {
    for subscribe in asked {
        drop(subscribe.reply.send(Err(refusal.clone())));
    }
    Err(refusal)
}

/// Tells everybody that something cannot be watched any more.
fn over(topic: &Topic, known: &Known, refusal: Refusal) {
    let (what, fingerprint) = topic.what();
    let until = known.cursor(fingerprint);
    let (told, tally) = (Told::Over(refusal), topic.tally());
    topic.tell(Step { until, told, tally, legend: what.legend(), people: None }, false);
}
