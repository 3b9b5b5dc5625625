//! What senders and readers know, and what follows from it.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use runnel_client::{
    Client, Refusal,
    proto::{
        event::v1::Event,
        funnel::v1::{
            EventMatch, FunnelDefinition, QueryFunnelRequest, QueryFunnelResponse, Step, query_funnel_request,
        },
        ingest::v1::GetIngestReportRequest,
    },
};
use tonic::{Status, transport::Channel};

/// The first instant of all events, in milliseconds since 1970.
const START_MS: i64 = 1_700_000_000_000;

/// A small seeded generator (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end.max(1)
    }
}

/// The batch of a number: some visitors, each with a first event, and a third of them with a second one behind it.
pub(crate) fn batch(number: u64) -> Vec<Event> {
    let visitors = 1 + Random(number).below(60);
    let mut events = Vec::new();
    for visitor in 0..visitors {
        let event = |name: &str, after: i64| Event {
            event_id: format!("{name}-{number}-{visitor}"),
            visitor_id: format!("v-{number}-{visitor}"),
            time_ms: Some(START_MS + number as i64 * 1_000 + visitor as i64 + after),
            name: name.into(),
            ..Event::default()
        };
        events.push(event("seen", 0));
        if converts(number, visitor) {
            events.push(event("done", 500));
        }
    }
    events
}

fn converts(number: u64, visitor: u64) -> bool {
    (number + visitor).is_multiple_of(3)
}

/// Visitors of a batch that reach each of the two steps: the plain reference.
fn reached(number: u64) -> [u64; 2] {
    let visitors = 1 + Random(number).below(60);
    [visitors, (0..visitors).filter(|visitor| converts(number, *visitor)).count() as u64]
}

/// What is known of all batches.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    inner: Mutex<Inner>,
    /// Visitors in batches that were sent, and in those that were acknowledged.
    sent: AtomicU64,
    acknowledged: AtomicU64,
    /// Calls that ended without an answer.
    pub(crate) unsure: AtomicU64,
    /// Reads that were checked.
    pub(crate) reads: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    again: Vec<u64>,
    acknowledged: BTreeSet<u64>,
}

impl Ledger {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// The number of the next batch to send: one without an answer, or a new one.
    pub(crate) fn next(&self, new: bool) -> Option<u64> {
        let mut inner = self.inner();
        if let Some(number) = inner.again.pop() {
            return Some(number);
        }
        if !new {
            return None;
        }
        inner.next += 1;
        let number = inner.next - 1;
        self.sent.fetch_add(reached(number)[0], Ordering::SeqCst);
        Some(number)
    }

    pub(crate) fn acknowledge(&self, number: u64) {
        if self.inner().acknowledged.insert(number) {
            self.acknowledged.fetch_add(reached(number)[0], Ordering::SeqCst);
        }
    }

    /// A batch whose outcome is unknown is to be sent again. No refusal: there was no answer in time.
    pub(crate) fn unsure(&self, number: u64, refusal: Option<&Refusal>) {
        refusal.into_iter().for_each(allowed);
        self.unsure.fetch_add(1, Ordering::Relaxed);
        self.inner().again.push(number);
    }

    /// One read, checked against what was known before and after it (I4), and against the highest count before (I5).
    pub(crate) async fn read(&self, reader: &Client<Channel>, highest: &mut u64) {
        let least = self.acknowledged.load(Ordering::SeqCst);
        match ask(reader).await {
            Ok(answer) => {
                let count = answer.steps[0].reached;
                let most = self.sent.load(Ordering::SeqCst);
                assert!((least..=most).contains(&count), "I4: {least} <= {count} <= {most}");
                assert!(count >= *highest, "I5: {count} after {highest}");
                *highest = count;
                self.reads.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) => allowed(&Refusal::from(status)),
        }
    }

    /// When all is quiet: exactly what was acknowledged is there, and all that was sent was acknowledged (I1, I2, I3, I7). Answers how many batches.
    pub(crate) async fn settle(&self, writer: &Client<Channel>, reader: &Client<Channel>) -> u64 {
        let (batches, want) = {
            let inner = self.inner();
            assert_eq!(
                inner.acknowledged.len() as u64,
                inner.next,
                "everything that was sent is acknowledged"
            );
            let sum = |sum: [u64; 2], number: &u64| {
                let more = reached(*number);
                [sum[0] + more[0], sum[1] + more[1]]
            };
            (inner.next, inner.acknowledged.iter().fold([0, 0], sum))
        };
        let answer = ask(reader).await.unwrap();
        let found: Vec<u64> = answer.steps.iter().map(|step| step.reached).collect();
        assert_eq!(found, want, "I7: the funnel over {batches} batches");
        let report =
            writer.ingest().get_ingest_report(GetIngestReportRequest::default()).await.unwrap().into_inner();
        assert_eq!(report.counted, want[0] + want[1], "I1, I2, I3: {report:?}");
        assert_eq!((report.quarantined, report.conflict), (0, 0), "{report:?}");
        batches
    }
}

async fn ask(reader: &Client<Channel>) -> Result<QueryFunnelResponse, Status> {
    let step = |name: &str| Step {
        any_of: vec![EventMatch { event: name.into(), r#where: None }],
        ..Step::default()
    };
    let definition =
        FunnelDefinition { steps: ["seen", "done"].map(step).into(), ..FunnelDefinition::default() };
    let request = QueryFunnelRequest {
        funnel: Some(query_funnel_request::Funnel::Inline(definition)),
        ..QueryFunnelRequest::default()
    };
    reader.funnel().query_funnel(request).await.map(tonic::Response::into_inner)
}

/// I10: while things break, a call that fails says that it may be repeated.
fn allowed(refusal: &Refusal) {
    assert!(refusal.may_be_repeated(), "I10: {refusal:?}");
}
