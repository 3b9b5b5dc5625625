//! Steps of which only counts by day are known: they come before the first step of a funnel, and give ratios and costs.

use std::collections::BTreeMap;

use runnel_contracts::{
    proto::{
        catalog::v1::DailyCount,
        event::v1::Money,
        funnel::v1::{CountedResult, CountedStep, QueryFunnelResponse},
    },
    refusal::Refusal,
};
use runnel_definitions::funnel::Range;
use runnel_model::{TenantName, limits};
use runnel_storage::Store;

use crate::{answer::amount, calendar::Calendar, catalog::daily};

/// Days that are read at a time.
const DAYS: usize = 1_000;

fn counts(step: &CountedStep, one: &DailyCount) -> bool {
    let fits = |asked: &str, found: &str| asked.is_empty() || asked == found;
    step.what == one.what
        && fits(&step.source, &one.source)
        && fits(&step.medium, &one.medium)
        && fits(&step.campaign, &one.campaign)
}

/// Adds the counted steps to an answer whose funnel has some, over the days that begin in its range; where that has no beginning, from the day on that `begins_ms` lies in.
pub(crate) async fn tell(
    store: &Store,
    tenant: &TenantName,
    zone: &str,
    (range, begins_ms): (Range, Option<i64>),
    answer: &mut QueryFunnelResponse,
) -> Result<(), Refusal> {
    let Some(definition) = answer.resolved.as_ref().filter(|definition| !definition.counted.is_empty())
    else {
        return Ok(());
    };
    let calendar = Calendar::of("settings.time_zone", zone)?;
    let until = calendar.first_date(range.until_ms.min(range.as_of_ms));
    // Where no beginning was given, clicks count from the day on of which there are events.
    let from_ms =
        if range.from_ms == *limits::TIME_RANGE_MS.start() { begins_ms } else { Some(range.from_ms) };
    let mut from = from_ms.and_then(|from_ms| match from_ms == range.from_ms {
        true => calendar.first_date(from_ms),
        false => calendar.date(from_ms),
    });
    let mut sums = vec![Sum::default(); definition.counted.len()];
    let (mut first, mut last, mut all) = (None, None, Sum::default());
    loop {
        let (counts, more) = daily::between(store, tenant, (from, until), DAYS).await?;
        for one in &counts {
            let steps = definition.counted.iter().zip(&mut sums);
            let mut of_some = false;
            for (_, sum) in steps.filter(|(step, _)| self::counts(step, one)) {
                sum.add(one);
                of_some = true;
            }
            if of_some {
                // Once, however many steps it belongs to.
                all.add(one);
                first.get_or_insert_with(|| one.date.clone());
                last = Some(one.date.clone());
            }
        }
        from = counts.last().and_then(|last| last.date.parse::<jiff::civil::Date>().ok()?.tomorrow().ok());
        if !more || from.is_none() {
            break;
        }
    }
    let cost = all.cost;
    let mut previous: Option<u64> = None;
    let mut results = Vec::new();
    for (step, sum) in definition.counted.iter().zip(sums) {
        results.push(CountedResult {
            label: step.label.clone(),
            count: sum.count,
            of_previous: previous.and_then(|previous| ratio(sum.count, previous)),
            cost: money(&sum.cost, 1)?,
            metric: step.metric.clone(),
            cost_each: Vec::new(),
        });
        previous = Some(sum.count);
    }
    for (at, step) in answer.steps.iter_mut().enumerate() {
        if at == 0 {
            step.of_counted = previous.and_then(|previous| ratio(step.reached, previous));
        }
        if step.reached > 0 {
            step.cost_each = money(&cost, step.reached)?;
        }
    }
    for result in results.iter_mut().filter(|result| result.count > 0) {
        result.cost_each = money(&cost, result.count)?;
    }
    answer.counted = results;
    answer.counted_cost = money(&cost, 1)?;
    let note = match first.zip(last) {
        Some((first, last)) => format!("Counted steps are of whole days, from {first} to {last}."),
        None => "There are no daily counts of the counted steps in the range.".to_owned(),
    };
    answer.provenance.get_or_insert_default().notes.push(note);
    Ok(())
}

/// Sums over days.
#[derive(Debug, Clone, Default)]
struct Sum {
    count: u64,
    /// Millionths by currency.
    cost: BTreeMap<String, i128>,
}

impl Sum {
    fn add(&mut self, one: &DailyCount) {
        self.count = self.count.saturating_add(one.count);
        if let Some(Money { micros, currency }) = &one.cost {
            *self.cost.entry(currency.clone()).or_default() += i128::from(*micros);
        }
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Sums by currency, shared out among so many.
fn money(sums: &BTreeMap<String, i128>, among: u64) -> Result<Vec<Money>, Refusal> {
    sums.iter().map(|(currency, sum)| amount(currency.clone(), sum / i128::from(among))).collect()
}
