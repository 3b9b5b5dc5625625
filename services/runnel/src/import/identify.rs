//! Sends who is who, again and again as long as the server cannot be reached: repeats are harmless.

use runnel_client::{
    Client, Refusal, Transport,
    proto::identity::v1::{Identification, IdentificationOutcome, IdentifyRequest},
};
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

/// What became of each identification.
pub(super) async fn send<S: Transport>(
    client: &Client<S>,
    identifications: Vec<Identification>,
) -> Result<Vec<IdentificationOutcome>, Refusal> {
    let spread = identifications.first().map(|first| first.anonymous_id.clone()).unwrap_or_default();
    let request = IdentifyRequest { identifications };
    let (policy, started) = (client.policy(), Instant::now());
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut identity = client.identity();
        let answer = timeout(policy.attempt_timeout, identity.identify(request.clone())).await;
        let refusal = match answer {
            Ok(Ok(response)) => return Ok(response.into_inner().outcomes),
            Ok(Err(status)) => Refusal::from(status),
            Err(_) => Refusal::from(Status::deadline_exceeded("the server did not answer in time")),
        };
        match policy.wait(&spread, attempt, &refusal, started.elapsed()) {
            Some(wait) => sleep(wait).await,
            None => return Err(refusal),
        }
    }
}
