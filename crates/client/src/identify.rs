//! Who is who, said until it is answered.

use runnel_contracts::proto::identity::v1::{Identification, IdentifyRequest, IdentifyResponse};
use tokio::time::{Instant, sleep, timeout};

use crate::{Client, Refusal, Transport};

impl<S: Transport> Client<S> {
    /// Says that anonymous ids belong to known ones, 1 to 1,000 at a time, and says it again when the answer is lost or the server asks for patience: repeats are
    /// harmless. The answer holds a verdict on each.
    pub async fn identify(&self, identifications: Vec<Identification>) -> Result<IdentifyResponse, Refusal> {
        let spread = identifications.first().map(|first| first.anonymous_id.clone()).unwrap_or_default();
        let request = IdentifyRequest { identifications };
        let started = Instant::now();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut identity = self.identity();
            let answer = timeout(self.policy.attempt_timeout, identity.identify(request.clone())).await;
            let refusal = match answer {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => Refusal::from(status),
                Err(_) => Refusal::timed_out(self.policy.attempt_timeout),
            };
            match self.policy.wait(&spread, attempts, &refusal, started.elapsed()) {
                Some(wait) => sleep(wait).await,
                None => return Err(refusal),
            }
        }
    }
}
