//! Who comes back.

use std::sync::Arc;

use runnel_contracts::{
    conversion::known,
    proto::{
        insight::v1::{Cohort, Interval, QueryRetentionRequest, QueryRetentionResponse},
        query::v1::{EventMatch, TimeRange},
    },
    refusal::Refusal,
};
use runnel_definitions::rate::share;
use runnel_journeys::{Journeys, View};
use runnel_kernel::{Retention, retention};
use runnel_model::limits;

use super::{
    Scene,
    asked::{Asked, Subject, resolved, subject},
    trend::{edges, too_many},
};
use crate::{calendar::Width, unobserved};

pub(super) async fn answer(
    journeys: &Journeys,
    scene: &Scene,
    request: QueryRetentionRequest,
) -> Result<QueryRetentionResponse, Refusal> {
    let width = Width::of(known::<Interval>("interval", request.interval)?);
    let calendar = scene.calendar(&request.time_zone)?;
    let any = EventMatch::default();
    let first = request.first.as_ref().unwrap_or(&any);
    let again = request.again.as_ref().unwrap_or(first);
    let subjects = [subject("first", first, &scene.catalogue)?, subject("again", again, &scene.catalogue)?];
    let asked = Asked::new(journeys, scene.over(), &subjects, []).await?;
    let asked = Arc::new(asked);
    let range = scene.spanned(asked.span_ms());
    let most = limits::RETENTION_BUCKETS;
    let edges = edges(&calendar, (range, scene.range), width, most).ok_or_else(|| too_many(most))?;
    let told = edges.clone();
    let count =
        move |view: &View<'_>| retention(view.slice(), &view.conversion(0), &view.conversion(1), &told);
    let merge = |sum: &mut Retention, more: Retention| sum.merge(&more);
    let found = asked.count(journeys, count, merge).await?;
    let cohort = |(bucket, (size, returned)): (&[i64], (&u64, &Vec<u64>))| Cohort {
        bucket: Some(TimeRange { from_ms: Some(bucket[0]), until_ms: Some(bucket[1]) }),
        visitors: *size,
        again: returned.iter().filter_map(|came| share(*came, *size)).collect(),
    };
    let denied = asked.unobserved(journeys).await?;
    let may = |of: &Subject| unobserved::may(&denied, &asked.loaded.names, &of.conversion, range);
    let unobserved = if first == again { may(&subjects[0]) } else { subjects.iter().map(may).sum() };
    Ok(QueryRetentionResponse {
        unobserved,
        cohorts: edges.windows(2).zip(found.sizes.iter().zip(&found.returned)).map(cohort).collect(),
        time_zone: calendar.name().to_owned(),
        provenance: Some(asked.provenance(asked.notes(&subjects))),
        range: Some(resolved(range)),
    })
}
