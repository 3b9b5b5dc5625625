//! What a tenant may use in a second: events, bytes and questions. Counted for all gateways together where they share a hot store.

use std::time::Duration;

use runnel_chassis::{Caller, Clock, Metrics};
use runnel_contracts::refusal::{Reason, Refusal};
use runnel_model::limits;
use runnel_storage::hot::{Budgets, Charge, Limit, OverBudget};

use super::message::Message;
use crate::methods::{Load, Method};

/// Seconds of its rate that a tenant may use at once after a pause.
const BURST_SECONDS: u64 = 5;
/// Longest pause that a stream's client is held back at a time.
const PAUSE: Duration = Duration::from_secs(1);

/// What a tenant may use in a second, on average; 0 is any number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowances {
    /// Events.
    pub events: u64,
    /// Bytes of messages, after decompression.
    pub bytes: u64,
    /// Questions.
    pub questions: u64,
}

/// Charges tenants for their calls.
#[derive(Clone, Debug)]
pub(super) struct Charger {
    budgets: Budgets,
    allowances: Allowances,
    clock: Clock,
    metrics: Metrics,
}

impl Charger {
    pub(super) fn new(budgets: Budgets, allowances: Allowances, clock: Clock, metrics: Metrics) -> Charger {
        Charger { budgets, allowances, clock, metrics }
    }

    /// Charges for a message, or refuses it and says when there is enough again.
    pub(super) async fn charge(
        &self,
        caller: &Caller,
        method: &Method,
        message: &Message,
    ) -> Result<(), Refusal> {
        let Allowances { events, bytes, questions } = self.allowances;
        let question = u64::from(matches!(method.load, Load::Question | Load::Effects | Load::Follow));
        let charges = [
            ("events", message.events as u64, events, limits::BATCH_EVENTS as u64),
            ("bytes", message.bytes as u64, bytes, limits::MESSAGE_BYTES as u64),
            ("questions", question, questions, 1),
        ];
        let charges: Vec<Charge> = charges
            .into_iter()
            .filter(|(_, amount, rate, _)| *rate > 0 && *amount > 0)
            .map(|(kind, amount, rate, least)| {
                // Any single call fits into a full bucket.
                let burst = rate.saturating_mul(BURST_SECONDS).max(least);
                Charge { kind, amount, limit: Limit::new(rate, burst) }
            })
            .collect();
        let taken = self.budgets.take(&caller.tenant, &charges, self.clock.now_ms()).await;
        taken.map_err(|(Charge { kind, amount, limit }, over)| {
            let wait = match over {
                OverBudget::Wait { ms } => Duration::from_millis(ms),
                OverBudget::Never => PAUSE,
            };
            self.metrics.edge_throttled(kind);
            let text =
                format!("The tenant may use {} {kind} a second; this call has {amount} more.", limit.rate());
            Refusal::new(Reason::RateLimited, text).retry_after(wait)
        })
    }

    /// Charges for a message as soon as there is enough.
    pub(super) async fn wait(&self, caller: &Caller, method: &Method, message: &Message) {
        while let Err(refusal) = self.charge(caller, method, message).await {
            tokio::time::sleep(refusal.retry_after.unwrap_or(PAUSE).min(PAUSE)).await;
        }
    }
}
