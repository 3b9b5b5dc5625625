//! How many visitors do something how often.

use std::{collections::BTreeMap, sync::Arc};

use runnel_contracts::{
    conversion::known,
    proto::insight::v1::{FrequencyBucket, FrequencyOf, QueryFrequencyRequest, QueryFrequencyResponse},
    refusal::{Reason, Refusal},
};
use runnel_journeys::{Journeys, View};
use runnel_kernel::{Frequency, FrequencyOf as Of, frequency};
use runnel_model::limits;

use super::{
    Scene,
    asked::{Asked, resolved, subject},
};
use crate::{
    calendar::Width,
    insight::trend::{edges, too_many},
    unobserved,
};

pub(super) async fn answer(
    journeys: &Journeys,
    scene: &Scene,
    request: QueryFrequencyRequest,
) -> Result<QueryFrequencyResponse, Refusal> {
    let Some(of) = &request.of else {
        return Err(Refusal::field(Reason::FieldMissing, "of", "of is missing."));
    };
    let per: FrequencyOf = known("per", request.per)?;
    let calendar = scene.calendar(&request.time_zone)?;
    let subjects = [subject("of", of, &scene.catalogue)?];
    let asked = Asked::new(journeys, scene.over(), &subjects, []).await?;
    let asked = Arc::new(asked);
    let days = if per == FrequencyOf::Days {
        let range = scene.spanned(asked.span_ms());
        let days = edges(&calendar, (range, scene.range), Width::Day, limits::TREND_BUCKETS);
        days.ok_or_else(|| too_many(limits::TREND_BUCKETS))?
    } else {
        Vec::new()
    };
    let range = scene.range.from_ms..scene.range.until_ms;
    let count = move |view: &View<'_>| {
        let of = match per {
            FrequencyOf::Unspecified | FrequencyOf::Times => Of::Marks,
            FrequencyOf::Sessions => Of::Sessions,
            FrequencyOf::Days => Of::Buckets(&days),
        };
        frequency(view.sessions(), &view.conversion(0), range.clone(), of)
    };
    let merge = |sum: &mut Frequency, more: Frequency| sum.merge(&more);
    let found = asked.count(journeys, count, merge).await?;
    let mut buckets: BTreeMap<u32, u64> = BTreeMap::new();
    for (times, visitors) in &found.visitors {
        *buckets.entry((*times).min(limits::FREQUENCY_TIMES)).or_default() += visitors;
    }
    let denied = asked.unobserved(journeys).await?;
    let of = &subjects[0].conversion;
    Ok(QueryFrequencyResponse {
        unobserved: unobserved::may(&denied, &asked.loaded.names, of, scene.range),
        visitors: buckets.values().sum(),
        buckets: buckets
            .into_iter()
            .map(|(times, visitors)| FrequencyBucket { times: u64::from(times), visitors })
            .collect(),
        provenance: Some(asked.provenance(asked.notes(&subjects))),
        range: Some(resolved(scene.range)),
    })
}
