//! A tenant of whom somebody is erased all the time: whoever was is in no answer, whoever was not is in every one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use runnel_chassis::Clock;
use runnel_client::{
    Client, RetryPolicy,
    proto::{
        admin::v1::KeyKind,
        event::v1::Event,
        insight::v1::QueryConversionsRequest,
        subject::v1::{EraseRequest, ErasureState, GetErasureRequest},
    },
};
use runnel_harness::{Deployment, HarnessError};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tonic::{Status, transport::Channel};

use super::{Keys, PATIENCE, RECOVERY};

/// How many rounds later somebody is erased, so that what is to be deleted lies in blocks by then, or does not yet.
const BEHIND: u64 = 4;
const NAME: &str = "erased";

/// The keys of the tenant.
#[derive(Debug, Clone)]
pub(crate) struct ErasedKeys {
    pub(crate) keys: Keys,
    pub(crate) erase: String,
}

/// Makes the tenant.
pub(crate) async fn tenant(deployment: &Deployment) -> Result<ErasedKeys, HarnessError> {
    let keys = deployment.tenant(NAME).await?;
    Ok(ErasedKeys { keys, erase: deployment.key(NAME, KeyKind::Erase).await? })
}

/// Rounds that go on.
pub(crate) struct Erasures {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Rounds>,
}

impl Erasures {
    pub(crate) fn start(endpoint: &str, keys: &ErasedKeys) -> Erasures {
        let connect =
            |key: &str| Client::connect_lazy(endpoint, key).unwrap().with_policy(RetryPolicy::never());
        let stop = Arc::new(AtomicBool::new(false));
        let mut rounds = Rounds {
            writer: connect(&keys.keys.0),
            reader: connect(&keys.keys.1),
            eraser: connect(&keys.erase),
            count: 0,
            newest: 0,
        };
        let until = stop.clone();
        let task = tokio::spawn(async move {
            while !until.load(Ordering::Relaxed) {
                rounds.round().await;
            }
            rounds
        });
        Erasures { stop, task }
    }

    /// Nothing breaks any more: everything is deleted in the end.
    pub(crate) async fn settle(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let rounds =
            timeout(RECOVERY, self.task).await.expect("a round ends soon after the last fault").unwrap();
        rounds.settle().await;
        rounds.count
    }
}

/// Two visitors come in each round, of whom one is erased later.
struct Rounds {
    writer: Client<Channel>,
    reader: Client<Channel>,
    eraser: Client<Channel>,
    /// Rounds so far.
    count: u64,
    /// The newest erasure.
    newest: u64,
}

impl Rounds {
    async fn round(&mut self) {
        let number = self.count;
        let sent = repeat(|| async { self.append(number).await }).await;
        assert!(sent, "nobody was erased of whom this is");
        self.count += 1;
        if let Some(erased) = number.checked_sub(BEHIND) {
            let visitor_id = visitor("gone", erased);
            let answer = repeat(|| async {
                self.eraser.subject().erase(EraseRequest { visitor_id: visitor_id.clone() }).await
            });
            self.newest = answer.await.into_inner().erasure;
            if erased % 3 == 0 {
                let late = repeat(|| async { self.append(erased).await }).await;
                assert!(!late, "what comes late stays away");
            }
        }
        self.check().await;
        sleep(Duration::from_millis(20)).await;
    }

    /// Sends the events of a round. Whether all were taken.
    async fn append(&self, number: u64) -> Result<bool, Status> {
        let event = |who| Event {
            event_id: "one".to_owned(),
            visitor_id: visitor(who, number),
            time_ms: Some(1_767_225_600_000 + number as i64),
            name: "look".to_owned(),
            ..Event::default()
        };
        let sent = self.writer.append(vec![event("kept"), event("gone")], None).await;
        let sent = sent.map_err(|error| Status::unavailable(error.to_string()))?.response;
        assert_eq!(sent.accepted + sent.rejected, 2);
        assert!(
            sent.verdicts.iter().all(|verdict| verdict.reason == "SUBJECT_ERASED"),
            "{:?}",
            sent.verdicts
        );
        Ok(sent.rejected == 0)
    }

    /// Whether exactly those are there who ought to be, if there is an answer.
    async fn check(&self) {
        let expected = self.count + self.count.min(BEHIND);
        let request = QueryConversionsRequest {
            as_of_ms: Some(Clock::default().now_ms()),
            ..QueryConversionsRequest::default()
        };
        if let Ok(Ok(answer)) = timeout(PATIENCE, self.reader.insight().query_conversions(request)).await {
            assert_eq!(answer.into_inner().visitors, expected, "after {} rounds", self.count);
        }
    }

    async fn settle(&self) {
        let start = Instant::now();
        let request = GetErasureRequest { erasure: self.newest };
        let mut pending = self.newest > 0;
        while pending {
            let erasure =
                repeat(|| async { self.eraser.subject().get_erasure(request).await }).await.into_inner();
            pending = erasure.state() != ErasureState::Done;
            assert!(!pending || start.elapsed() < RECOVERY, "an erasure is not carried out: {erasure:?}");
            sleep(Duration::from_millis(100)).await;
        }
        self.check().await;
    }
}

fn visitor(who: &str, number: u64) -> String {
    format!("{who}-{number}")
}

/// Calls until there is an answer.
async fn repeat<T, F: Future<Output = Result<T, Status>>>(call: impl Fn() -> F) -> T {
    loop {
        match timeout(PATIENCE, call()).await {
            Ok(Ok(answer)) => return answer,
            _ => sleep(Duration::from_millis(20)).await,
        }
    }
}
