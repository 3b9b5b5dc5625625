//! How many calls are under way: for all tenants together, and for each.
//!
//! Nothing queues here. A call beyond the limit is refused at once, with the time after which to try again: a queue would only turn an overload into late answers.
//! While the server has room, a tenant may use half of it; the fuller it gets, the closer each tenant is kept to an equal share. The gate of appends narrows
//! when answers become slow and widens when they are quick (additive increase, multiplicative decrease), so that what is let in is answered in time.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use runnel_chassis::{Caller, Metrics, Upstream, serve::GATEWAY_STREAMS};
use runnel_contracts::refusal::{Reason, Refusal};
use runnel_model::TenantName;
use tokio::time::Instant;
use tonic::body::Body;

use super::{body::hold, method_of, refuse};
use crate::methods::Load;

/// Most calls of each kind under way.
const APPENDS: usize = 512;
/// What clients send ahead on streams that are held back is in no budget, so there are not too many of them.
const STREAMS: usize = 1_024;
const QUESTIONS: usize = 256;
const CONTROLS: usize = 256;
const PROBES: usize = 256;
const WATCHES: usize = 64;
const FOLLOWS: usize = 2_048;
// All of them fit into one connection to a service.
const ALL: usize = APPENDS + STREAMS + QUESTIONS + CONTROLS + PROBES + WATCHES + FOLLOWS;
const _: () = assert!(ALL <= GATEWAY_STREAMS as usize);

/// When a refused call may be tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Lets a call in if the server has room for it.
pub(super) async fn shed(gates: Gates, mut request: Request<Body>, next: Upstream) -> Response<Body> {
    let Some(method) = method_of(&request) else { return next.answer(request).await };
    let mut place = match gates.of(method.load).enter() {
        Ok(place) => place,
        Err(refusal) => {
            gates.metrics.edge_shed();
            return refuse(refusal);
        }
    };
    request.extensions_mut().insert(place.passed.clone());
    let response = next.answer(request).await;
    // What was refused tells nothing about how long an answer takes.
    place.refused = response.headers().contains_key("grpc-status");
    hold(response, place)
}

/// Lets a tenant's call in if the tenant has not more than its share.
pub(super) async fn share(gates: Gates, request: Request<Body>, next: Upstream) -> Response<Body> {
    let (Some(method), Some(caller)) = (method_of(&request), request.extensions().get::<Caller>()) else {
        return next.answer(request).await;
    };
    match gates.of(method.load).share(&caller.tenant) {
        Ok(share) => hold(next.answer(request).await, share),
        Err(refusal) => {
            gates.metrics.edge_throttled("calls");
            refuse(refusal)
        }
    }
}

/// How wide a gate is.
#[derive(Clone, Copy, Debug)]
struct Width {
    least: usize,
    most: usize,
    /// Answers should not take longer than this; without it the width stays.
    target: Option<Duration>,
}

/// The gates, one a kind of load.
#[derive(Clone, Debug)]
pub(super) struct Gates {
    gates: Arc<[Gate; 7]>,
    metrics: Metrics,
}

impl Gates {
    pub(super) fn new(metrics: Metrics) -> Gates {
        let fixed = |most| Gate::new(Width { least: most, most, target: None });
        let appends = Width { least: 32, most: APPENDS, target: Some(Duration::from_millis(100)) };
        let gates = [
            Gate::new(appends),
            fixed(STREAMS),
            fixed(QUESTIONS),
            fixed(CONTROLS),
            fixed(PROBES),
            fixed(WATCHES),
            fixed(FOLLOWS),
        ];
        let gates = Arc::new(gates);
        Gates { gates, metrics }
    }

    /// The gate of a kind of load.
    pub(super) fn of(&self, load: Load) -> &Gate {
        let [append, stream, question, control, probe, watch, follow] = &*self.gates;
        match load {
            Load::Append => append,
            Load::Stream => stream,
            // What takes long about it is the questions.
            Load::Question | Load::Effects => question,
            Load::Control => control,
            Load::Probe => probe,
            Load::Watch => watch,
            Load::Follow => follow,
        }
    }
}

/// A gate. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    width: Width,
    /// How many may be inside now.
    limit: AtomicUsize,
    inside: AtomicUsize,
    /// Answers since the limit was last looked at, and how many of them were late.
    answers: AtomicUsize,
    late: AtomicUsize,
    /// Calls under way of the tenants that have any.
    tenants: Mutex<HashMap<TenantName, usize>>,
}

impl Gate {
    fn new(width: Width) -> Gate {
        Gate(Arc::new(Inner {
            width,
            limit: AtomicUsize::new((width.least * 4).min(width.most)),
            inside: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
            late: AtomicUsize::new(0),
            tenants: Mutex::default(),
        }))
    }

    /// Lets a call in, if there is room for one more.
    pub(super) fn enter(&self) -> Result<Place, Refusal> {
        let inside = self.0.inside.fetch_add(1, Ordering::AcqRel);
        let place = Place { gate: self.clone(), passed: Passed::default(), refused: false };
        let limit = self.0.limit.load(Ordering::Acquire);
        if inside < limit {
            return Ok(place);
        }
        let text = format!("The server has {limit} calls of this kind under way and takes no more.");
        Err(Refusal::new(Reason::Overloaded, text).retry_after(AGAIN))
    }

    /// Lets a call of a tenant in, if the tenant has not more than its share.
    pub(super) fn share(&self, tenant: &TenantName) -> Result<Share, Refusal> {
        let (inside, limit) = (self.0.inside.load(Ordering::Acquire), self.0.limit.load(Ordering::Acquire));
        let mut tenants = self.0.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let active = tenants.len() + usize::from(!tenants.contains_key(tenant));
        // More than half is never one tenant's, so that there is always a place for the next.
        let most = if inside * 2 <= limit { limit / 2 } else { limit / active.max(2) }.max(1);
        let under_way = tenants.entry(tenant.clone()).or_default();
        if *under_way < most {
            *under_way += 1;
            return Ok(Share { gate: self.clone(), tenant: tenant.clone() });
        }
        let text = format!("The tenant has {under_way} calls of this kind under way; its share is {most}.");
        Err(Refusal::new(Reason::CallsTooMany, text).retry_after(AGAIN))
    }

    /// Looks at as many answers as may be inside: narrows when one in sixteen was late, else widens. A gate that is not a quarter full, of which one tenant can fill
    /// half, does neither: it is not what made answers late, and quick ones tell nothing about a wider one.
    fn adapt(&self, took: Duration) {
        let Inner { width, limit, answers, late, inside, .. } = &*self.0;
        let Some(target) = width.target else { return };
        let now = limit.load(Ordering::Acquire);
        let slow = late.fetch_add(usize::from(took > target), Ordering::AcqRel) + usize::from(took > target);
        if answers.fetch_add(1, Ordering::AcqRel) + 1 < now {
            return;
        }
        answers.store(0, Ordering::Release);
        late.store(0, Ordering::Release);
        if inside.load(Ordering::Acquire) * 4 < now {
            return;
        }
        let next = if slow * 16 >= now { now * 3 / 4 } else { now + 1 + now / 16 };
        limit.store(next.clamp(width.least, width.most), Ordering::Release);
    }
}

/// When a call's message was whole and went on to the service, if it did. How long its sender took before is not the service's time.
#[derive(Clone, Debug, Default)]
pub(super) struct Passed(Arc<OnceLock<Instant>>);

impl Passed {
    /// Notes that the message goes on now.
    pub(super) fn note(&self) {
        self.0.get_or_init(Instant::now);
    }
}

/// A call that was let in.
#[derive(Debug)]
pub(super) struct Place {
    gate: Gate,
    passed: Passed,
    refused: bool,
}

impl Drop for Place {
    /// A call that was given up while it waited for the service counts as one that was answered now.
    fn drop(&mut self) {
        self.gate.0.inside.fetch_sub(1, Ordering::AcqRel);
        if let (Some(passed), false) = (self.passed.0.get(), self.refused) {
            self.gate.adapt(passed.elapsed());
        }
    }
}

/// A tenant's call that was let in.
#[derive(Debug)]
pub(super) struct Share {
    gate: Gate,
    tenant: TenantName,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut tenants = self.gate.0.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = tenants.get_mut(&self.tenant) {
            *under_way -= 1;
            if *under_way == 0 {
                tenants.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantName {
        TenantName::parse(name).unwrap()
    }

    #[test]
    fn one_tenant_uses_half_and_many_have_equal_shares() {
        let gate = Gate::new(Width { least: 8, most: 8, target: None });
        let mut held = Vec::new();
        let mut take = |name: &str| {
            let place = gate.enter().map_err(|refusal| refusal.reason)?;
            let share = gate.share(&tenant(name)).map_err(|refusal| refusal.reason)?;
            held.push((place, share));
            Ok::<(), Reason>(())
        };
        for _ in 0..4 {
            take("loud").unwrap();
        }
        assert_eq!(take("loud"), Err(Reason::CallsTooMany));
        for _ in 0..4 {
            take("other").unwrap();
        }
        assert_eq!(take("third"), Err(Reason::Overloaded));
        held.clear();
        assert!(gate.0.tenants.lock().unwrap().is_empty());
        assert_eq!(gate.0.inside.load(Ordering::Acquire), 0);
    }

    #[test]
    fn late_answers_narrow_the_gate_and_quick_ones_widen_it() {
        let target = Duration::from_millis(100);
        let gate = Gate::new(Width { least: 4, most: 64, target: Some(target) });
        let limit = || gate.0.limit.load(Ordering::Acquire);
        for _ in 0..1_000 {
            gate.adapt(Duration::from_millis(101));
        }
        assert_eq!(limit(), 16, "with nothing inside");
        let mut inside: Vec<_> = (0..8).map_while(|_| gate.enter().ok()).collect();
        for _ in 0..1_000 {
            gate.adapt(Duration::from_millis(101));
        }
        assert_eq!(limit(), 4);
        inside.clear();
        for _ in 0..10_000 {
            inside.extend(gate.enter().ok());
            gate.adapt(Duration::from_millis(1));
        }
        assert_eq!(limit(), 64);
        inside.clear();
        for _ in 0..10_000 {
            gate.adapt(Duration::from_millis(1));
        }
        assert_eq!(limit(), 64);
    }
}
