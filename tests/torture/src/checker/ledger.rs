//! What was sent and what was acknowledged, and what every answer must therefore say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use runnel_client::{
    Client, Refusal, Transport,
    proto::{event::v1::Event, ingest::v1::GetIngestReportResponse},
};
use runnel_model::limits::SESSION_GAP_MS;

use super::{
    CANARY, Identity, allowed, ask, ask_open, ask_owners, ask_report, ask_tone,
    reference::{Reference, STEPS, Visit, identity, open},
    stranger,
};

/// What is known of all events of a tenant.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    known: Mutex<Known>,
    /// Calls that ended without an answer.
    pub(crate) unsure: AtomicU64,
    /// Reads that were checked.
    pub(crate) reads: AtomicU64,
    /// Counts of open sessions that were checked, and were not 0.
    pub(crate) sessions: AtomicU64,
    /// Answers that showed whose events are, and were checked.
    pub(crate) owners: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    /// Everything that was ever sent.
    sent: Reference,
    /// What the server said that it has.
    acknowledged: Reference,
    /// Sent, and stored or refused as the server's clock has it.
    doubtful: BTreeSet<Identity>,
}

/// The highest that a reader has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    reached: [u64; STEPS.len()],
    counted: u64,
    tones: BTreeMap<String, u64>,
}

impl Ledger {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    /// These are about to be sent.
    pub(crate) fn send<'e>(&self, events: impl IntoIterator<Item = &'e Event>) {
        let mut known = self.known();
        events.into_iter().for_each(|event| known.sent.add(event));
    }

    /// This is about to be sent, and may be refused. What is stored stays stored, whatever becomes of a copy.
    pub(crate) fn send_doubtful(&self, event: &Event) {
        let known = &mut *self.known();
        let identity = identity(event);
        if !known.acknowledged.tones().contains_key(&identity) {
            known.doubtful.insert(identity);
        }
    }

    /// The server has these.
    pub(crate) fn acknowledge<'e>(&self, events: impl IntoIterator<Item = &'e Event>) {
        let mut known = self.known();
        for event in events {
            known.doubtful.remove(&identity(event));
            known.sent.add(event);
            known.acknowledged.add(event);
        }
    }

    /// A call had no outcome. No refusal: there was no answer in time.
    pub(crate) fn unsure(&self, refusal: Option<&Refusal>) {
        refusal.into_iter().for_each(allowed);
        self.unsure.fetch_add(1, Ordering::Relaxed);
    }

    /// Everything that was sent, and what of it was acknowledged.
    pub(crate) fn references(&self) -> (Reference, Reference) {
        let known = self.known();
        (known.sent.clone(), known.acknowledged.clone())
    }

    /// Events that may be there or not.
    pub(crate) fn doubtful(&self) -> BTreeSet<Identity> {
        self.known().doubtful.clone()
    }

    /// One read of the funnel, checked against what was known before and after it (I4), and against what its reader saw before (I5).
    pub(crate) async fn read<S: Transport>(&self, reader: &Client<S>, seen: &mut Seen) {
        let least = self.known().acknowledged.reached();
        match ask(reader).await {
            Ok(found) => {
                let most = self.known().sent.reached();
                for step in 0..STEPS.len() {
                    within(STEPS[step], least[step], found[step], most[step], &mut seen.reached[step]);
                }
                self.reads.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) => allowed(&Refusal::from(status)),
        }
    }

    /// One read of the report, checked in the same way.
    pub(crate) async fn read_report<S: Transport>(&self, writer: &Client<S>, seen: &mut Seen) {
        let least = self.known().acknowledged.events();
        match ask_report(writer).await {
            Ok(report) => {
                let known = self.known();
                let most = known.sent.events() + known.doubtful.len() as u64;
                within("events", least, report.counted, most, &mut seen.counted);
                balanced(&report);
                self.reads.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) => allowed(&Refusal::from(status)),
        }
    }

    /// One read of how many picked in a tone. The first content of an identity stays its content, so the count does not go down.
    pub(crate) async fn read_tone<S: Transport>(&self, reader: &Client<S>, tone: &str, seen: &mut Seen) {
        // What has but this tone, of what was sent, is counted under it.
        let least = {
            let known = self.known();
            let sure = known.acknowledged.tones().keys();
            let alone = |identity: &&Identity| {
                let tones = known.sent.tones().get(*identity);
                tones.is_some_and(|tones| tones.len() == 1 && tones.contains(tone))
            };
            sure.filter(alone).cloned().collect::<Vec<_>>()
        };
        match ask_tone(reader, tone).await {
            Ok(found) => {
                let known = self.known();
                // An identity that got a second content while the answer was made may have had it first.
                let still = |identity: &&Identity| {
                    known.sent.tones().get(*identity).is_some_and(|tones| tones.len() == 1)
                };
                let least = least.iter().filter(still).count() as u64;
                let most = known.sent.tones().values().filter(|tones| tones.contains(tone)).count() as u64;
                within(tone, least, found, most, seen.tones.entry(tone.to_owned()).or_default());
                self.reads.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) => allowed(&Refusal::from(status)),
        }
    }

    /// One count of open sessions, checked in the same way. A session ends by itself, so what was known is looked at as of the answer's instant.
    pub(crate) async fn read_open<S: Transport>(&self, reader: &Client<S>, now_ms: i64) {
        let least = self.lately(now_ms).1;
        match ask_open(reader).await {
            Ok(answer) => {
                let most = self.lately(now_ms).0;
                let [least, most] = [least, most].map(|visits| open(&visits, answer.as_of_ms));
                let (found, source) = (answer.open_sessions, answer.source());
                assert!(
                    (least..=most).contains(&found),
                    "I4: open sessions: {least} <= {found} <= {most}, from {source:?}"
                );
                self.sessions.fetch_add(u64::from(found > 0), Ordering::Relaxed);
            }
            Err(status) => allowed(&Refusal::from(status)),
        }
    }

    /// Who was there lately, of what was sent, and of what was acknowledged.
    fn lately(&self, now_ms: i64) -> (Vec<Visit>, Vec<Visit>) {
        // The answer's instant is about now.
        let (known, since_ms) = (self.known(), now_ms - 2 * SESSION_GAP_MS);
        (known.sent.visits(since_ms), known.acknowledged.visits(since_ms))
    }

    /// One read of what shows whose events are: they are this tenant's and nobody else's (I8).
    pub(crate) async fn read_owners<S: Transport>(&self, reader: &Client<S>, tenant: &str) {
        let due = self.known().acknowledged.events() > 0;
        match ask_owners(reader).await {
            Ok(answers) => {
                for answer in answers {
                    let stranger = stranger(&answer, tenant);
                    assert_eq!(stranger, None, "I8: an answer to {tenant} shows what is another's");
                    assert!(!due || answer.contains(CANARY), "I1: nothing of {tenant} is shown: {answer}");
                }
                self.owners.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) => allowed(&Refusal::from(status)),
        }
    }

    /// When all is quiet: the sessions that are open are those of all who were there lately (I7).
    pub(crate) async fn settle_open<S: Transport>(&self, reader: &Client<S>, now_ms: i64) {
        let answer = ask_open(reader).await.unwrap();
        let expected = open(&self.lately(now_ms).0, answer.as_of_ms);
        assert_eq!(answer.open_sessions, expected, "I7: open sessions, from {:?}", answer.source());
    }

    /// When all is quiet: exactly what was acknowledged is there, and all that was sent was acknowledged (I1, I2, I3, I7).
    pub(crate) async fn settle<S: Transport>(&self, writer: &Client<S>, reader: &Client<S>) {
        let (sent, acknowledged) = self.references();
        assert_eq!(acknowledged.events(), sent.events(), "everything that was sent is acknowledged");
        assert_eq!(
            ask(reader).await.unwrap(),
            sent.reached(),
            "I7: the funnel over {} events",
            sent.events()
        );
        let report = ask_report(writer).await.unwrap();
        let most = sent.events() + self.doubtful().len() as u64;
        assert!(
            (sent.events()..=most).contains(&report.counted),
            "I1, I2, I3: {} events, {report:?}",
            sent.events()
        );
        assert_eq!(report.conflict, sent.conflicts(), "{report:?}");
        balanced(&report);
    }
}

/// I4 and I5 for one count.
fn within(what: &str, least: u64, found: u64, most: u64, highest: &mut u64) {
    assert!((least..=most).contains(&found), "I4: {what}: {least} <= {found} <= {most}");
    assert!(found >= *highest, "I5: {what}: {found} after {highest}");
    *highest = found;
}

/// A report accounts for all that was accepted, and nothing is unreadable.
fn balanced(report: &GetIngestReportResponse) {
    assert_eq!(report.counted + report.duplicate + report.conflict, report.accepted, "{report:?}");
    assert_eq!(report.quarantined, 0, "{report:?}");
}
