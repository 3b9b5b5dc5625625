//! Sends a call again whose answer was lost, when it only reads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use runnel_chassis::Upstream;
use runnel_contracts::refusal::Reason;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt;

use super::{deadline::Deadline, method_of, pass::Whole};
use crate::methods::Repeat;

/// How often a call is sent at most.
const ATTEMPTS: u32 = 3;
/// The wait before the second time; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(50);
/// Calls that pay for one repeat: at most a tenth of the calls are sent again, so that repeats never make an outage worse.
const CALLS_PER_REPEAT: u32 = 10;
/// Repeats that may be saved up.
const SAVED: u32 = 20;

/// What repeats may cost. In tenths of a repeat.
#[derive(Clone, Debug)]
pub(super) struct Allowance(Arc<AtomicU32>);

impl Default for Allowance {
    fn default() -> Allowance {
        Allowance(Arc::new(AtomicU32::new(SAVED * CALLS_PER_REPEAT)))
    }
}

impl Allowance {
    fn earn(&self) {
        // Full is full.
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |saved| {
            (saved < SAVED * CALLS_PER_REPEAT).then_some(saved + 1)
        });
    }

    fn spend(&self) -> bool {
        let spent = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |saved| saved.checked_sub(CALLS_PER_REPEAT));
        spent.is_ok()
    }
}

/// Whether the service behind was lost, before or after it had the call.
fn lost(response: &Response<Body>) -> bool {
    Status::from_header_map(response.headers()).is_some_and(|status| {
        let lost = || {
            status
                .get_details_error_info()
                .is_some_and(|info| info.reason == Reason::ServiceUnavailable.name())
        };
        status.code() == Code::Unavailable && lost()
    })
}

/// Sends reads again, within the call's time and the allowance.
pub(super) async fn reads(allowance: Allowance, request: Request<Body>, next: Upstream) -> Response<Body> {
    let safe = method_of(&request).is_some_and(|method| method.repeat == Repeat::Safe);
    let (true, Some(Whole(pieces))) = (safe, request.extensions().get::<Whole>().cloned()) else {
        return next.answer(request).await;
    };
    allowance.earn();
    let deadline = request.extensions().get::<Deadline>().copied();
    let (parts, _) = request.into_parts();
    let mut pause = PAUSE;
    for _ in 1..ATTEMPTS {
        let again = Request::from_parts(parts.clone(), Body::new(pieces.clone()));
        let response = next.answer(again).await;
        let time = deadline.is_none_or(|deadline| deadline.left() > pause * 2);
        if !lost(&response) || !time || !allowance.spend() {
            return response;
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    next.answer(Request::from_parts(parts, Body::new(pieces))).await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use runnel_contracts::refusal::Refusal;

    use super::*;
    use crate::methods;

    /// A service that is lost so many times before it answers.
    fn lost_at_first(times: usize) -> (Upstream, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let service = Upstream::from_fn({
            let calls = calls.clone();
            move |_| {
                let call = calls.fetch_add(1, Ordering::Relaxed);
                let status = match call < times {
                    true => Status::from(Refusal::new(Reason::ServiceUnavailable, "gone")),
                    false => Status::ok(""),
                };
                async move { status.into_http() }
            }
        });
        (service, calls)
    }

    async fn sent(path: &str, times: usize, allowance: Allowance) -> (usize, Code) {
        let (service, calls) = lost_at_first(times);
        let mut request = Request::post(path).body(Body::empty()).unwrap();
        request.extensions_mut().insert(methods::find(path).unwrap());
        request.extensions_mut().insert(Whole(super::super::message::Pieces::default()));
        let answer = reads(allowance, request, service).await;
        let status = Status::from_header_map(answer.headers()).unwrap();
        (calls.load(Ordering::Relaxed), status.code())
    }

    #[tokio::test(start_paused = true)]
    async fn what_reads_is_sent_again_and_what_writes_never() {
        let fresh = Allowance::default;
        let query = "/runnel.funnel.v1.FunnelService/QueryFunnel";
        assert_eq!(sent(query, 1, fresh()).await, (2, Code::Ok));
        assert_eq!(sent(query, 2, fresh()).await, (3, Code::Ok));
        assert_eq!(sent(query, 9, fresh()).await, (3, Code::Unavailable));
        for write in
            ["/runnel.ingest.v1.IngestService/Append", "/runnel.funnel.v1.FunnelService/DefineFunnel"]
        {
            assert_eq!(sent(write, 1, fresh()).await, (1, Code::Unavailable));
        }
        let spent = fresh();
        while spent.spend() {}
        assert_eq!(sent(query, 1, spent).await, (1, Code::Unavailable), "an outage is not made worse");
    }

    #[test]
    fn repeats_are_at_most_a_tenth() {
        let allowance = Allowance::default();
        while allowance.spend() {}
        let mut spent = 0;
        for _ in 0..1_000 {
            allowance.earn();
            spent += u32::from(allowance.spend());
        }
        assert_eq!(spent, 100);
    }
}
