//! The table of conversions.

use std::{collections::BTreeSet, sync::Arc};

use runnel_contracts::{
    conversion::known,
    proto::{
        catalog::v1::{Role, Stage},
        insight::v1::{ConversionCounts, QueryConversionsRequest, QueryConversionsResponse},
    },
    refusal::Refusal,
};
use runnel_definitions::catalogue::Known;
use runnel_definitions::rate::share;
use runnel_journeys::{Journeys, View};
use runnel_kernel::{TrendCounts, trend};

use super::{
    Scene,
    asked::{Asked, Subject, resolved},
};
use crate::unobserved;

/// Counts of every event, and of each conversion.
#[derive(Default)]
struct Found {
    all: TrendCounts,
    each: Vec<TrendCounts>,
}

pub(super) async fn answer(
    journeys: &Journeys,
    scene: &Scene,
    request: QueryConversionsRequest,
) -> Result<QueryConversionsResponse, Refusal> {
    let role: Role = known("role", request.role)?;
    let chosen = chosen(scene, &request.conversions, "conversions", role)?;
    let subjects: Vec<Subject> = chosen.iter().map(|known| of(known)).collect();
    let asked = Asked::new(journeys, scene.over(), &subjects, []).await?;
    let asked = Arc::new(asked);
    let (told, edges, count) = (asked.clone(), [scene.range.from_ms, scene.range.until_ms], subjects.len());
    let found = asked
        .count(
            journeys,
            move |view: &View<'_>| Found {
                all: trend(view.sessions(), &view.every(), &edges, None, None),
                each: (0..count)
                    .map(|at| {
                        let amounts = told.amounts(view, at);
                        trend(view.sessions(), &view.conversion(at), &edges, None, amounts)
                    })
                    .collect(),
            },
            |sum: &mut Found, more: Found| {
                sum.all.merge(&more.all);
                sum.each.resize_with(sum.each.len().max(more.each.len()), TrendCounts::default);
                sum.each.iter_mut().zip(&more.each).for_each(|(sum, more)| sum.merge(more));
            },
        )
        .await?;
    let all = found.all.cells.into_values().next().unwrap_or_default();
    let denied = asked.unobserved(journeys).await?;
    let mut each = found.each.into_iter();
    let mut conversions = Vec::new();
    for (at, known) in chosen.iter().enumerate() {
        let cell = each.next().and_then(|counts| counts.cells.into_values().next()).unwrap_or_default();
        let observed = (cell.events, cell.visitors);
        let (names, of) = (&asked.loaded.names, &known.conversion);
        let denied = unobserved::of_conversion(&denied, names, of, scene.range, observed);
        conversions.push(ConversionCounts {
            conversion: Some(known.wire.clone()),
            events: cell.events,
            visitors: cell.visitors,
            sessions: cell.sessions,
            of_visitors: share(cell.visitors, all.visitors),
            of_sessions: share(cell.sessions, all.sessions),
            values: asked.money(at, cell.events, &cell.sums)?,
            unobserved: denied.told,
            events_with_unobserved: denied.events,
            visitors_with_unobserved: denied.visitors,
        });
    }
    conversions.sort_by_key(|counts| {
        let conversion = counts.conversion.clone().unwrap_or_default();
        let rung = match conversion.stage() {
            Stage::Unspecified => 0,
            Stage::Willingness => 1,
            Stage::Engagement => 2,
            Stage::Interest => 3,
            Stage::Negative => 4,
        };
        (rung, std::cmp::Reverse(counts.visitors), conversion.name)
    });
    Ok(QueryConversionsResponse {
        conversions,
        visitors: all.visitors,
        sessions: all.sessions,
        provenance: Some(asked.provenance(asked.notes(&subjects))),
        range: Some(resolved(scene.range)),
    })
}

/// The conversions of these names, or all, of a role if one is named.
pub(super) fn chosen<'a>(
    scene: &'a Scene,
    names: &[String],
    at: &str,
    role: Role,
) -> Result<Vec<&'a Known>, Refusal> {
    let mut chosen: Vec<&Known> = if names.is_empty() {
        scene.catalogue.conversions.values().collect()
    } else {
        let names: BTreeSet<&String> = names.iter().collect();
        names.iter().map(|name| scene.catalogue.conversion(at, name)).collect::<Result<_, _>>()?
    };
    chosen.retain(|known| role == Role::Unspecified || known.wire.role() == role);
    Ok(chosen)
}

/// A conversion as something that is counted.
pub(super) fn of(known: &Known) -> Subject {
    Subject { label: known.wire.name.clone(), conversion: known.conversion.clone() }
}
