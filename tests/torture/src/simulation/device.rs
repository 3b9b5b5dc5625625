//! A sender: it keeps what it has to send until that is acknowledged, whatever happens, and sends much of it more than once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use runnel_chassis::Clock;
use runnel_client::{
    BatchOutcome, Batcher, BatcherSettings, Client, RetryPolicy,
    proto::{
        event::v1::Event,
        ingest::v1::{AppendResponse, Verdict},
    },
};
use tokio::time::{sleep, timeout};

use super::{
    cluster::NOW_MS,
    events::{Events, Kind},
    network::Outside,
    trace::Trace,
};
use crate::checker::{Ledger, Random, Seen, days, identity};

/// What a device knows of one event.
#[derive(Debug, Clone)]
pub(super) struct Noted {
    pub(super) event: Event,
    pub(super) kind: Kind,
}

/// A request that was sent, and will be sent again.
#[derive(Debug, Clone)]
struct Sent {
    id: String,
    events: Vec<Noted>,
    /// How many of its events were refused.
    rejected: u32,
    /// The true time when it was sent first.
    first_ms: i64,
}

/// A receipt is kept for 7 days; clocks that differ take hours of that, and what is on its way some more.
const RECEIPT_MS: i64 = 6 * 24 * 3_600_000;

/// A sender.
pub(super) struct Device {
    name: String,
    client: Client<Outside>,
    ledger: Arc<Ledger>,
    trace: Arc<Trace>,
    clock: Clock,
    random: Random,
    events: Events,
    /// Not acknowledged yet.
    outbox: Vec<Noted>,
    /// Requests without an answer.
    unanswered: Vec<Sent>,
    /// Requests with an answer.
    answered: Vec<Sent>,
    requests: Arc<AtomicU64>,
}

impl Device {
    pub(super) fn new(
        name: String,
        client: Client<Outside>,
        ledger: Arc<Ledger>,
        trace: Arc<Trace>,
        clock: Clock,
        mut random: Random,
    ) -> Device {
        let policy = RetryPolicy {
            attempt_timeout: Duration::from_millis(1_000 + random.below(4_000)),
            patience: Duration::from_secs(1 + random.below(20)),
            attempts: 1 + random.below(8) as u32,
            ..RetryPolicy::default()
        };
        let events = Events::new(name.clone(), Random(random.below(u64::MAX)));
        let client = client.with_policy(policy);
        let requests = Arc::new(AtomicU64::new(0));
        let (outbox, unanswered, answered) = Default::default();
        Device { name, client, ledger, trace, clock, random, events, outbox, unanswered, answered, requests }
    }

    /// A new request.
    fn request(&self, events: Vec<Noted>) -> Sent {
        let id = format!("r-{}-{}", self.name, self.requests.fetch_add(1, Ordering::Relaxed));
        Sent { id, events, rejected: 0, first_ms: self.clock.now_ms() }
    }

    /// Does so many things, then sends until all of it is acknowledged.
    pub(super) async fn run(mut self, operations: u64) {
        for _ in 0..operations {
            sleep(Duration::from_millis(self.random.below(400))).await;
            match self.random.below(10) {
                0..=3 => self.send_new().await,
                4 | 5 => self.batch().await,
                6 => self.repeat_unanswered().await,
                7 => self.repeat_answered().await,
                8 => self.restart().await,
                _ => self.alter().await,
            }
        }
        self.drain().await;
    }

    /// Everything that was sent is sent until it is acknowledged.
    pub(super) async fn drain(&mut self) {
        while !self.outbox.is_empty() || !self.unanswered.is_empty() {
            if self.unanswered.is_empty() {
                let mut events = std::mem::take(&mut self.outbox);
                let batch = take_batch(&mut events, usize::MAX);
                self.outbox = events;
                self.send(self.request(batch)).await;
            } else {
                self.repeat_unanswered().await;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn draw_events(&mut self) -> Vec<Noted> {
        (0..1 + self.random.below(8)).map(|_| self.events.draw(&mut self.random)).collect()
    }

    async fn send_new(&mut self) {
        let events = self.draw_events();
        self.send(self.request(events)).await;
    }

    /// What was acknowledged once is sent again, as it was or among other events (A4, A8).
    async fn repeat_answered(&mut self) {
        if self.answered.is_empty() {
            return;
        }
        let at = self.random.below(self.answered.len() as u64) as usize;
        let Sent { id, mut events, rejected, first_ms } = self.answered[at].clone();
        if self.random.below(2) == 0 {
            self.trace.counted("requests repeated", format_args!("{} repeats {id}", self.name));
            match self.client.append(bare(&events), Some(id.clone())).await {
                Ok(again) => {
                    // A receipt that is gone is no harm: the events are stored again, and count once.
                    let kept = self.clock.now_ms() - first_ms < RECEIPT_MS;
                    assert!(again.response.repeated || !kept, "{id}: a receipt is kept for 7 days");
                    assert!(
                        !kept || again.response.rejected == rejected,
                        "{id}: a repeat has the first outcome"
                    );
                    self.acknowledge(&events, &again.response);
                }
                Err(error) => self.ledger.unsure(Some(error.refusal())),
            }
        } else {
            self.trace.counted("events sent again", format_args!("{} sends {id} among others", self.name));
            events.extend(self.draw_events());
            shuffle(&mut events, &mut self.random);
            self.send(self.request(events)).await;
        }
    }

    /// What had no answer is sent again, as it was.
    async fn repeat_unanswered(&mut self) {
        if !self.unanswered.is_empty() {
            let at = self.random.below(self.unanswered.len() as u64) as usize;
            let sent = self.unanswered.swap_remove(at);
            self.trace.counted("requests repeated", format_args!("{} repeats {}", self.name, sent.id));
            self.send(sent).await;
        }
    }

    /// The device forgets which requests it had sent; what was not acknowledged goes into new ones, in another order (A5).
    async fn restart(&mut self) {
        self.trace.counted("senders restarted", format_args!("{} restarts", self.name));
        let mut events = std::mem::take(&mut self.outbox);
        for sent in std::mem::take(&mut self.unanswered) {
            events.extend(sent.events);
        }
        shuffle(&mut events, &mut self.random);
        while !events.is_empty() {
            let batch = take_batch(&mut events, 1 + self.random.below(7) as usize);
            self.send(self.request(batch)).await;
        }
    }

    /// Sends an event's identity with another content (A7).
    async fn alter(&mut self) {
        let Some(altered) = self.events.alter(&mut self.random) else { return };
        self.trace
            .counted("contents altered", format_args!("{} alters {}", self.name, altered.event.event_id));
        self.send(self.request(vec![altered])).await;
    }

    fn note(&self, events: &[Noted]) {
        let valid = events.iter().filter(|noted| noted.kind == Kind::Valid);
        self.ledger.send(valid.map(|noted| &noted.event));
        let doubtful = events.iter().filter(|noted| noted.kind == Kind::Doubtful);
        doubtful.for_each(|noted| self.ledger.send_doubtful(&noted.event));
    }

    /// One request, given up at some moment or not.
    async fn send(&mut self, mut sent: Sent) {
        let Sent { id, events, .. } = &sent;
        self.note(events);
        self.trace.step(format_args!("{} sends {id}, {} events", self.name, events.len()));
        let call = self.client.append(bare(events), Some(id.clone()));
        let outcome = match self.random.below(4) {
            0 => timeout(Duration::from_millis(self.random.below(150)), call).await,
            _ => Ok(call.await),
        };
        match outcome {
            Ok(Ok(appended)) => {
                let response = appended.response;
                self.trace.step(format_args!("{id} is number {}", response.sequence));
                self.acknowledge(events, &response);
                sent.rejected = response.rejected;
                self.answered.push(sent);
            }
            Ok(Err(error)) => {
                self.trace.counted("requests unanswered", format_args!("{id} is unanswered: {error}"));
                self.ledger.unsure(Some(error.refusal()));
                self.unanswered.push(sent);
            }
            Err(_) => {
                self.trace.counted("requests given up", format_args!("{id} is given up"));
                self.ledger.unsure(None);
                self.unanswered.push(sent);
            }
        }
    }

    /// The verdicts: what must be refused is refused with a reason, and everything else is stored (A9).
    fn acknowledge(&self, events: &[Noted], response: &AppendResponse) {
        let mut accepted = Vec::new();
        for (at, noted) in events.iter().enumerate() {
            let verdict = response.verdicts.iter().find(|verdict| verdict.index as usize == at);
            let rejected = verdict.filter(|verdict| verdict.verdict() == Verdict::Rejected);
            match (noted.kind, rejected) {
                (Kind::Invalid, Some(verdict)) => {
                    self.trace.count("events refused");
                    assert!(!verdict.reason.is_empty() && !verdict.field.is_empty(), "A9: {verdict:?}");
                }
                (Kind::Doubtful, Some(_)) => {}
                (Kind::Valid | Kind::Doubtful, None) => accepted.push(&noted.event),
                (kind, _) => panic!("A9: {kind:?} event {at} of {response:?}"),
            }
        }
        self.ledger.acknowledge(accepted);
    }

    /// Sends events one by one through a batcher, which is closed in time or abandoned.
    async fn batch(&mut self) {
        let mut left: BTreeMap<String, Noted> = BTreeMap::new();
        for noted in self.draw_events() {
            // Outcomes name events by their ids.
            if let Some(before) = left.insert(noted.event.event_id.clone(), noted) {
                self.note(std::slice::from_ref(&before));
                self.outbox.push(before);
            }
        }
        let events: Vec<Noted> = left.values().cloned().collect();
        self.note(&events);
        self.trace.counted("batchers", format_args!("{} batches {} events", self.name, events.len()));
        let final_ones: Arc<Mutex<Vec<BatchOutcome>>> = Arc::default();
        let (outcomes, requests, name) = (final_ones.clone(), self.requests.clone(), self.name.clone());
        let settings = BatcherSettings {
            batch_events: 1 + self.random.below(6) as usize,
            linger: Duration::from_millis(self.random.below(100)),
            in_flight: 1 + self.random.below(3) as usize,
            on_outcome: Some(Arc::new(move |outcome| outcomes.lock().unwrap().push(outcome))),
            ids: Arc::new(move || format!("b-{name}-{}", requests.fetch_add(1, Ordering::Relaxed))),
            ..BatcherSettings::default()
        };
        let first_ms = self.clock.now_ms();
        let batcher = Batcher::start(self.client.clone(), settings);
        for noted in &events {
            batcher.send(noted.event.clone()).await.unwrap();
        }
        let patience = match self.random.below(2) {
            0 => Duration::from_millis(self.random.below(300)),
            _ => Duration::from_secs(60),
        };
        if batcher.close(patience).await.is_err() {
            self.trace.counted("batchers abandoned", format_args!("{} abandons its batcher", self.name));
        }
        let outcomes = std::mem::take(&mut *final_ones.lock().unwrap());
        for outcome in outcomes {
            match outcome.result {
                Ok(appended) => {
                    let batch = outcome.event_ids.iter();
                    let batch: Vec<Noted> = batch.map(|id| left.remove(id).unwrap()).collect();
                    self.acknowledge(&batch, &appended.response);
                    let rejected = appended.response.rejected;
                    self.answered.push(Sent { id: outcome.request_id, events: batch, rejected, first_ms });
                }
                Err(error) => self.ledger.unsure(Some(error.refusal())),
            }
        }
        self.outbox.extend(left.into_values());
    }
}

fn shuffle(events: &mut [Noted], random: &mut Random) {
    for at in (1..events.len()).rev() {
        events.swap(at, random.below(at as u64 + 1) as usize);
    }
}

/// Takes some events, but no two contents of one identity: in one batch, those would be told apart by their places.
fn take_batch(events: &mut Vec<Noted>, most: usize) -> Vec<Noted> {
    let mut batch: Vec<Noted> = Vec::new();
    for noted in std::mem::take(events) {
        let other =
            |known: &Noted| identity(&known.event) == identity(&noted.event) && known.event != noted.event;
        if batch.len() < most && !batch.iter().any(other) {
            batch.push(noted);
        } else {
            events.push(noted);
        }
    }
    batch
}

/// The events as they are sent.
fn bare(events: &[Noted]) -> Vec<Event> {
    events.iter().map(|noted| noted.event.clone()).collect()
}

/// Asks questions of all kinds, one after the other, until it is stopped.
pub(super) async fn read(
    writer: Client<Outside>,
    reader: Client<Outside>,
    ledger: Arc<Ledger>,
    trace: Arc<Trace>,
    mut random: Random,
) {
    let mut seen = Seen::default();
    loop {
        sleep(Duration::from_millis(random.below(500))).await;
        let patience = Duration::from_millis(if random.below(5) == 0 { random.below(100) } else { 20_000 });
        let answered = match random.below(8) {
            0 => timeout(patience, ledger.read_report(&writer, &mut seen)).await,
            1 => timeout(patience, ledger.read_tone(&reader, "plain", &mut seen)).await,
            2 => timeout(patience, ledger.read_tone(&reader, "altered", &mut seen)).await,
            3 => timeout(patience, days::read(&reader, NOW_MS - 24 * 3_600_000)).await.map(|is_stored| {
                if is_stored {
                    trace.count("stored counts read");
                }
            }),
            _ => timeout(patience, ledger.read(&reader, &mut seen)).await,
        };
        match answered {
            Ok(()) => trace.counted("reads", format_args!("a read: {seen:?}")),
            Err(_) => trace.counted("reads given up", format_args!("a read is given up")),
        }
    }
}
