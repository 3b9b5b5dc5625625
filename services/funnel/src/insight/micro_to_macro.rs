//! Which micro-conversions go before a macro-conversion, and by how much.

use std::sync::Arc;

use runnel_contracts::{
    proto::{
        catalog::v1::Role,
        funnel::v1::{FunnelDefinition, Profile, Step, TrendInterval},
        insight::v1::{MicroToMacro, QueryMicroToMacroRequest, QueryMicroToMacroResponse},
        query::v1::EventMatch,
    },
    refusal::{Reason, Refusal},
};
use runnel_definitions::rate::share;
use runnel_definitions::{
    catalogue::Known,
    funnel::{self, Alternative, Checked},
    posed::Posed,
};
use runnel_journeys::{Condition, Happens, Journeys};
use runnel_kernel::{State, counts::Levels};

use super::{
    Scene,
    asked::{Asked, resolved},
    conversions::{chosen, of},
};
use crate::{answer::quantiles, ask::count, unobserved};

/// How long after the micro-conversion the macro-conversion counts where a request does not say, in milliseconds.
const HORIZON_MS: i64 = 7 * 24 * 3_600_000;

/// Each micro-conversion is a funnel of two steps, entered once, at the visitor's first time in the range.
pub(super) async fn answer(
    journeys: &Journeys,
    scene: &Scene,
    request: QueryMicroToMacroRequest,
) -> Result<QueryMicroToMacroResponse, Refusal> {
    let goal = scene.catalogue.conversion("macro", &request.r#macro)?;
    if goal.wire.role() != Role::Macro {
        let text = format!("{:?} is a micro-conversion; name a macro-conversion.", request.r#macro);
        return Err(Refusal::field(Reason::ConversionInvalid, "macro", text));
    }
    let role = if request.micros.is_empty() { Role::Micro } else { Role::Unspecified };
    let micros = chosen(scene, &request.micros, "micros", role)?;
    let horizon_ms = request.horizon_ms.unwrap_or(HORIZON_MS);
    let subjects: Vec<_> = micros.iter().copied().chain([goal]).map(of).collect();
    // One load has the columns of all.
    let asked = Asked::new(journeys, scene.over(), &subjects, []).await?;
    let asked = Arc::new(asked);
    let denied = asked.unobserved(journeys).await?;
    let may = |of: &Known| unobserved::may(&denied, &asked.loaded.names, &of.conversion, scene.range);
    let mut answers = Vec::new();
    for known in micros {
        let step = |name: &str| Step {
            any_of: vec![EventMatch { conversion: name.to_owned(), ..EventMatch::default() }],
            ..Step::default()
        };
        let funnel = FunnelDefinition {
            steps: vec![step(&known.wire.name), step(&goal.wire.name)],
            window_ms: Some(horizon_ms),
            profile: Profile::Runnel as i32,
            ..FunnelDefinition::default()
        };
        let mut checked = funnel::check(&funnel, None, TrendInterval::Unspecified, &scene.catalogue)
            .map_err(|refusal| Refusal { field: "horizon_ms".to_owned(), ..refusal })?;
        enter_once(&mut checked, known.conversion.clone(), scene);
        let posed = Posed::new(asked.loaded.clone(), &checked, scene.range, 0)?;
        let counted = count(journeys, Arc::new(posed)).await?;
        let (all, matured) = (&counted.counts, counted.matured.as_ref().unwrap_or(&counted.counts));
        let reached = |levels: &Levels| (levels.units(), levels.at_least(2));
        let ((visitors, gone_on), (n, matured)) = (reached(&all.levels), reached(&matured.levels));
        answers.push(MicroToMacro {
            micro: Some(known.wire.clone()),
            visitors,
            reached: gone_on,
            open: all.levels.in_state(State::Open),
            matured: share(matured, n),
            time_to_macro: Some(quantiles(&all.time_to_convert)),
            unobserved: may(known),
        });
    }
    answers.sort_by(|left, right| {
        let point = |one: &MicroToMacro| one.matured.as_ref().map_or(-1.0, |rate| rate.point);
        let name = |one: &MicroToMacro| one.micro.as_ref().map(|micro| micro.name.clone());
        point(right).total_cmp(&point(left)).then_with(|| name(left).cmp(&name(right)))
    });
    let mut notes = asked.notes(&subjects);
    notes.push(
        "A micro-conversion is associated with what follows it; that does not say that it is the cause."
            .to_owned(),
    );
    Ok(QueryMicroToMacroResponse {
        macro_unobserved: may(goal),
        micros: answers,
        provenance: Some(asked.provenance(notes)),
        range: Some(resolved(scene.range)),
    })
}

/// Lets the first step be done by the visitor's first happening in the range only.
fn enter_once(checked: &mut Checked, conversion: runnel_model::Conversion, scene: &Scene) {
    let first_in = Some(scene.range.from_ms..scene.range.until_ms);
    checked.columns.conditions.push(Condition::Happens(Happens { conversion, first_in }));
    let condition = Some((checked.columns.conditions.len() - 1) as u16);
    checked.steps[0] = vec![Alternative { event: None, condition }];
}
