//! What a conversion would match, before it is saved.

use std::sync::Arc;

use runnel_contracts::{
    proto::catalog::v1::{ConversionExample, PreviewConversionRequest, PreviewConversionResponse},
    refusal::{Reason, Refusal},
};
use runnel_definitions::{catalogue::Catalogue, funnel};
use runnel_journeys::{Journeys, View};
use runnel_kernel::{TrendCounts, trend};
use runnel_model::{TenantName, limits};

use super::conversions;
use crate::insight::asked::{Asked, Over, Subject};

/// Examples shown where a request does not say.
const EXAMPLES: usize = 10;

/// Counts and examples of one run.
#[derive(Default)]
struct Found {
    counts: TrendCounts,
    /// Latest first.
    examples: Vec<ConversionExample>,
}

/// Counts what a conversion would match, and shows the latest happenings.
pub(crate) async fn preview(
    journeys: &Journeys,
    tenant: &TenantName,
    request: PreviewConversionRequest,
    now_ms: i64,
) -> Result<PreviewConversionResponse, Refusal> {
    let Some(wire) = &request.conversion else {
        return Err(Refusal::field(Reason::FieldMissing, "conversion", "conversion is missing."));
    };
    let conversion = conversions::check("conversion", wire)?;
    let most = match request.examples as usize {
        0 => EXAMPLES,
        asked if asked <= limits::EXAMPLES => asked,
        asked => {
            let text = format!("examples is at most {}; it is {asked}.", limits::EXAMPLES);
            return Err(Refusal::field(Reason::NumberOutOfRange, "examples", text));
        }
    };
    let range = funnel::range(request.range.as_ref(), None, now_ms)?;
    let catalogue = Catalogue::read(journeys.store(), tenant).await?;
    let subjects = [Subject { label: wire.name.clone(), conversion }];
    let over = Over { tenant, catalogue: &catalogue, range, without_bots: false };
    let asked = Arc::new(Asked::new(journeys, over, &subjects, []).await?);
    let (told, edges) = (asked.clone(), [range.from_ms, range.until_ms]);
    let count = move |view: &View<'_>| {
        let marks = view.conversion(0);
        let amounts = told.amounts(view, 0);
        let counts = trend(view.sessions(), &marks, &edges, None, amounts);
        Found { counts, examples: examples(view, &marks, &told, most) }
    };
    let merge = move |sum: &mut Found, more: Found| {
        sum.counts.merge(&more.counts);
        sum.examples.extend(more.examples);
        latest(&mut sum.examples, most);
    };
    let found = asked.count(journeys, count, merge).await?;
    let cell = found.counts.cells.into_values().next().unwrap_or_default();
    Ok(PreviewConversionResponse {
        events: cell.events,
        visitors: cell.visitors,
        sessions: cell.sessions,
        values: asked.money(0, cell.events, &cell.sums)?,
        examples: found.examples,
        provenance: Some(asked.provenance(asked.notes(&subjects))),
    })
}

/// The latest happenings of a run in the range.
fn examples(view: &View<'_>, marks: &[u64], asked: &Asked, most: usize) -> Vec<ConversionExample> {
    let (run, slice) = (view.run(), view.slice());
    let mut found = Vec::new();
    for visitor in (0..slice.visitors()).filter(|visitor| !slice.skipped(*visitor)) {
        let marked = |event: &usize| marks[event / 64] >> (event % 64) & 1 == 1;
        let range = asked.range.from_ms..asked.range.until_ms;
        for event in slice.range(visitor).filter(marked).filter(|event| range.contains(&slice.time(*event))) {
            found.push(ConversionExample {
                visitor_id: String::from_utf8_lossy(run.visitors.get(visitor)).into_owned(),
                time_ms: slice.time(event),
                event: asked.loaded.names.name(slice.kind(event)),
            });
        }
        if found.len() > 1_000 + most {
            latest(&mut found, most);
        }
    }
    latest(&mut found, most);
    found
}

fn latest(examples: &mut Vec<ConversionExample>, most: usize) {
    examples.sort_by(|left, right| {
        (right.time_ms, &left.visitor_id, &left.event).cmp(&(left.time_ms, &right.visitor_id, &right.event))
    });
    examples.truncate(most);
}
