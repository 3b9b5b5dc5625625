//! The promises that every answer keeps, checked on one answer.

use runnel_contracts::{
    proto::funnel::v1::{Check, QueryFunnelResponse, Totals, VerifyResponse},
    refusal::Refusal,
};
use runnel_definitions::{
    posed::Posed,
    refusal::{counting, stopped},
};
use runnel_journeys::{CountError, Journeys};
use runnel_kernel::Counts;
use runnel_storage::compute;
use std::sync::Arc;

use crate::ask::Counted;

/// Checks an answer, and counts again visitor by visitor without the fast path.
pub(crate) async fn verify(
    journeys: &Journeys,
    posed: Arc<Posed>,
    counted: &Counted,
    answer: QueryFunnelResponse,
) -> Result<VerifyResponse, Refusal> {
    let pool = journeys.pool().clone();
    let again = compute(move || pool.install(|| one_by_one(&posed))).await;
    let again = again.map_err(|_| stopped())?.map_err(|fault| counting(&fault))?;
    let mut checks = promises(&answer);
    let equal = again == counted.counts;
    checks.push(Check {
        promise: "Counting visitor by visitor gives the same answer.".to_owned(),
        holds: equal,
        detail: format!("{} units and {} units", again.levels.units(), counted.counts.levels.units()),
    });
    Ok(VerifyResponse { holds: checks.iter().all(|check| check.holds), checks, answer: Some(answer) })
}

/// The sum over what each visitor is told by an explanation.
fn one_by_one(posed: &Posed) -> Result<Counts, CountError> {
    let mut sum = Counts::empty(&posed.plan);
    for (run, skip) in posed.loaded.runs() {
        let columns = posed.derived.columns(run, skip)?;
        let predicates = columns.predicates();
        let slice = run.slice(skip)?;
        for visitor in 0..slice.visitors() {
            for outcome in posed.plan.outcomes(&slice, &columns.kernel(&predicates), visitor)? {
                sum.record(&posed.plan, &outcome);
            }
        }
    }
    Ok(sum)
}

fn promises(answer: &QueryFunnelResponse) -> Vec<Check> {
    let check =
        |promise: &str, holds: bool, detail: String| Check { promise: promise.to_owned(), holds, detail };
    let totals = answer.totals.clone().unwrap_or_default();
    let definition = answer.resolved.clone().unwrap_or_default();
    let states = |totals: &Totals| totals.converted + totals.dropped + totals.excluded + totals.open;
    let mut checks = vec![check(
        "The states sum to the entries.",
        states(&totals) == totals.entered,
        format!("{} and {}", states(&totals), totals.entered),
    )];
    if !definition.open {
        let required = answer.steps.iter().zip(&definition.steps).filter(|(_, step)| !step.optional);
        let reached: Vec<u64> = required.map(|(result, _)| result.reached).collect();
        let falls = reached.windows(2).all(|pair| pair[0] >= pair[1]);
        checks.push(check("The steps of a closed funnel never rise.", falls, format!("{reached:?}")));
    }
    let ended: u64 = answer.steps.iter().map(|step| step.dropped + step.excluded + step.open).sum();
    checks.push(check(
        "What ended at each step and what converted sums to the entries.",
        ended + totals.converted == totals.entered,
        format!("{ended} + {} and {}", totals.converted, totals.entered),
    ));
    for (what, parts) in [
        ("rows of the break-down", answer.rows.iter().map(|row| row.totals.clone()).collect::<Vec<_>>()),
        ("buckets of the trend", answer.trend.iter().map(|bucket| bucket.totals.clone()).collect()),
    ] {
        if parts.is_empty() {
            continue;
        }
        let sum = |count: fn(&Totals) -> u64| parts.iter().flatten().map(count).sum::<u64>();
        let all = [
            sum(|part| part.entered),
            sum(|part| part.converted),
            sum(|part| part.dropped),
            sum(|part| part.excluded),
            sum(|part| part.open),
        ];
        let total = [totals.entered, totals.converted, totals.dropped, totals.excluded, totals.open];
        checks.push(check(
            &format!("The {what} sum to the total."),
            all == total,
            format!("{all:?} and {total:?}"),
        ));
    }
    checks
}
