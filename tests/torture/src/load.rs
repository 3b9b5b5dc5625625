//! Senders and a reader that go on whatever breaks, and check whatever they are told.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use runnel_client::{
    Client, Refusal, RetryPolicy,
    proto::{event::v1::Event, segmentation::v1::CountOpenSessionsRequest},
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tonic::transport::Channel;

use crate::checker::{Ledger, Random, STEPS, Seen, allowed};

/// Senders at a time.
const SENDERS: u64 = 4;
/// How long a call may take before its sender gives up.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take until everything is acknowledged once nothing breaks any more.
const RECOVERY: Duration = Duration::from_secs(60);

/// The first instant of all events, in milliseconds since 1970.
const START_MS: i64 = 1_700_000_000_000;

/// The batch of a number: some visitors, each with a first event, and two thirds of them with further ones behind it.
fn batch(number: u64) -> Vec<Event> {
    let visitors = 1 + Random(number).below(60);
    let event = |visitor: u64, step: usize| Event {
        event_id: format!("{}-{number}-{visitor}", STEPS[step]),
        visitor_id: format!("v-{number}-{visitor}"),
        time_ms: Some(START_MS + (number * 1_000 + visitor) as i64 + step as i64 * 500),
        name: STEPS[step].into(),
        ..Event::default()
    };
    let steps = |visitor: u64| 0..=((number + visitor) % 3) as usize;
    (0..visitors).flat_map(|visitor| steps(visitor).map(move |step| event(visitor, step))).collect()
}

/// The numbers of batches: the next one, and those that had no answer.
#[derive(Debug, Default)]
struct Batches {
    next: AtomicU64,
    again: Mutex<Vec<u64>>,
}

impl Batches {
    /// The next batch to send: one without an answer, or a new one.
    fn next(&self, new: bool) -> Option<u64> {
        let again = self.again.lock().unwrap().pop();
        again.or_else(|| new.then(|| self.next.fetch_add(1, Ordering::SeqCst)))
    }

    fn again(&self, number: u64) {
        self.again.lock().unwrap().push(number);
    }
}

/// What a load came to.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    /// Batches, all of them acknowledged in the end.
    pub batches: u64,
    /// Calls without an answer.
    pub unsure: u64,
    /// Reads that were checked while things broke.
    pub reads: u64,
}

/// A load on one tenant.
pub(crate) struct Load {
    writer: Client<Channel>,
    reader: Client<Channel>,
    ledger: Arc<Ledger>,
    batches: Arc<Batches>,
    stop: Arc<AtomicBool>,
    quiet: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    reading: JoinHandle<()>,
}

impl Load {
    /// Begins. Calls go to `endpoint`.
    pub(crate) fn start(endpoint: &str, (write, read): (&str, &str), seed: u64) -> Load {
        let connect =
            |key: &str| Client::connect_lazy(endpoint, key).unwrap().with_policy(RetryPolicy::never());
        let (writer, reader) = (connect(write), connect(read));
        let (ledger, batches) = (Arc::new(Ledger::default()), Arc::new(Batches::default()));
        let (stop, quiet) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let tasks = (0..SENDERS)
            .map(|sender| {
                let random = Random(seed.wrapping_mul(31) + sender);
                tokio::spawn(send(connect(write), ledger.clone(), batches.clone(), stop.clone(), random))
            })
            .collect();
        let reading = tokio::spawn(watch(connect(read), ledger.clone(), quiet.clone()));
        Load { writer, reader, ledger, batches, stop, quiet, tasks, reading }
    }

    /// Nothing breaks any more: waits until everything is acknowledged, and checks that exactly that is there.
    pub(crate) async fn settle(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            timeout(RECOVERY, task)
                .await
                .expect("everything is acknowledged soon after the last fault")
                .unwrap();
        }
        self.quiet.store(true, Ordering::Relaxed);
        self.reading.await.unwrap();
        self.ledger.settle(&self.writer, &self.reader).await;
        Tally {
            batches: self.batches.next.load(Ordering::SeqCst),
            unsure: self.ledger.unsure.load(Ordering::Relaxed),
            reads: self.ledger.reads.load(Ordering::Relaxed),
        }
    }
}

/// Asks until all is quiet.
async fn watch(client: Client<Channel>, ledger: Arc<Ledger>, quiet: Arc<AtomicBool>) {
    let mut seen = Seen::default();
    while !quiet.load(Ordering::Relaxed) {
        if timeout(PATIENCE, ledger.read(&client, &mut seen)).await.is_err() {
            continue;
        }
        // All events are of years ago.
        match timeout(PATIENCE, client.segmentation().count_open_sessions(CountOpenSessionsRequest {})).await
        {
            Ok(Ok(answer)) => assert_eq!(answer.into_inner().open_sessions, 0),
            Ok(Err(status)) => allowed(&Refusal::from(status)),
            Err(_) => {}
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Sends batches until told to stop and every one of them has its answer. Some are sent again though they have, as they were or in other batches.
async fn send(
    client: Client<Channel>,
    ledger: Arc<Ledger>,
    batches: Arc<Batches>,
    stop: Arc<AtomicBool>,
    mut random: Random,
) {
    let mut last = None;
    loop {
        let new = !stop.load(Ordering::Relaxed);
        let Some(number) = batches.next(new) else { return };
        let events = batch(number);
        ledger.send(&events);
        let sent = client.append(events.clone(), Some(format!("batch-{number}")));
        match timeout(PATIENCE, sent).await {
            Ok(Ok(_)) => {
                ledger.acknowledge(&events);
                match (random.below(10), last.replace(number)) {
                    (0, _) => {
                        let again = client.append(events, Some(format!("batch-{number}")));
                        if let Ok(Ok(again)) = timeout(PATIENCE, again).await {
                            assert!(again.response.repeated, "a repeated request is known");
                        }
                    }
                    (1, Some(before)) => {
                        let mixed = [events, batch(before)].concat();
                        let _ =
                            timeout(PATIENCE, client.append(mixed, Some(format!("mix-{number}-{before}"))))
                                .await;
                    }
                    _ => {}
                }
            }
            Ok(Err(error)) => {
                ledger.unsure(Some(error.refusal()));
                batches.again(number);
                sleep(Duration::from_millis(20)).await;
            }
            Err(_) => {
                ledger.unsure(None);
                batches.again(number);
            }
        }
    }
}
