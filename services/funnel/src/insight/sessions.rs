//! Sessions: how many, how long, how deep, of whom.

use std::sync::Arc;

use runnel_contracts::{
    proto::insight::v1::{
        QuerySessionsRequest, QuerySessionsResponse, SessionCounts, SessionRow, VisitNumber,
    },
    refusal::Refusal,
};
use runnel_definitions::rate::share;
use runnel_journeys::{Journeys, View};
use runnel_kernel::{Engagement, EngagementRow, Values, engagement};

use super::{
    Scene,
    asked::{Asked, resolved},
    split::{Splitting, grouped, order},
};
use crate::{answer::quantiles, unobserved};

pub(super) async fn answer(
    journeys: &Journeys,
    scene: &Scene,
    request: QuerySessionsRequest,
) -> Result<QuerySessionsResponse, Refusal> {
    let split = Splitting::of(request.split.as_ref())?;
    let columns = split.iter().map(|split| split.column.clone());
    let asked = Asked::new(journeys, scene.over(), &[], columns).await?;
    let asked = Arc::new(asked);
    let range = scene.range.from_ms..scene.range.until_ms;
    let merge = |sum: &mut Engagement, more: Engagement| sum.merge(&more);
    let over = range.clone();
    let whole = move |view: &View<'_>| engagement(view.sessions(), over.clone(), Some(&view.pages()), None);
    let total = asked.count(journeys, whole, merge).await?.rows.remove(&0).unwrap_or_default();
    let mut rows = Vec::new();
    if let Some(split) = &split {
        let column = asked.column(&split.column);
        let over = range.clone();
        let each = move |view: &View<'_>| {
            engagement(view.sessions(), over.clone(), Some(&view.pages()), Some(view.codes(column)))
        };
        let found = asked.count(journeys, each, merge).await?;
        let sizes = found.rows.iter().map(|(code, row)| (*code, row.sessions)).collect();
        let own = split.rows(&asked, &sizes);
        // Visitors are distinct within a row, so those of what has no row of its own are counted together.
        let (kept, over) = (own.clone(), range);
        let each = move |view: &View<'_>| {
            let codes = grouped(view.codes(column), &kept);
            engagement(view.sessions(), over.clone(), Some(&view.pages()), Some(Values::U32(&codes)))
        };
        let mut found = asked.count(journeys, each, merge).await?;
        for code in order(&own) {
            if let Some(row) = found.rows.remove(&code) {
                rows.push(SessionRow { value: Some(split.part(&asked, code)), counts: Some(counts(&row)) });
            }
        }
    }
    let denied = asked.unobserved(journeys).await?;
    Ok(QuerySessionsResponse {
        total: Some(counts(&total)),
        rows,
        provenance: Some(asked.provenance(Vec::new())),
        range: Some(resolved(scene.range)),
        unobserved: unobserved::of_all(&denied, &asked.loaded.names, scene.range, total.events),
    })
}

fn counts(row: &EngagementRow) -> SessionCounts {
    let numbers = row.visit_numbers.iter();
    SessionCounts {
        sessions: row.sessions,
        single_event: row.single,
        bounced: row.bounced,
        bounce_rate: share(row.bounced, row.sessions),
        events: row.events,
        pages: row.pages,
        duration: Some(quantiles(&row.duration_histogram())),
        visitors: row.visitors,
        new_visitors: row.new_visitors,
        returning_visitors: row.returning_visitors,
        recency: Some(quantiles(&row.recency_histogram())),
        visit_numbers: numbers.map(|(&number, &sessions)| VisitNumber { number, sessions }).collect(),
    }
}
