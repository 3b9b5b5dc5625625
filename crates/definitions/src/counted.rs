//! Steps of which only counts by day are known, as definitions say them.

use runnel_contracts::{
    conversion::known,
    proto::{
        event::v1::OffSite,
        funnel::v1::{CountedStep, FunnelDefinition},
    },
    refusal::{Reason, Refusal},
};
use runnel_model::limits;

/// Checks what a definition says of such steps, and of the names of ratios.
pub fn check(definition: &FunnelDefinition) -> Result<(), Refusal> {
    if definition.counted.len() > limits::COUNTED_STEPS {
        let text = format!(
            "A funnel has at most {} counted steps; this one has {}.",
            limits::COUNTED_STEPS,
            definition.counted.len()
        );
        return Err(Refusal::field(Reason::FunnelInvalid, "definition.counted", text));
    }
    let metrics = definition.steps.iter().map(|step| &step.metric).enumerate();
    let metrics = metrics.map(|(at, metric)| (format!("definition.steps[{at}].metric"), metric));
    let counted = definition.counted.iter().map(|step| &step.metric).enumerate();
    let counted = counted.map(|(at, metric)| (format!("definition.counted[{at}].metric"), metric));
    for (field, metric) in metrics.chain(counted) {
        if metric.len() > limits::METRIC_BYTES {
            let text = format!(
                "The name of a ratio has at most {} bytes; it has {}.",
                limits::METRIC_BYTES,
                metric.len()
            );
            return Err(Refusal::field(Reason::TextTooLong, field, text));
        }
    }
    for (at, step) in definition.counted.iter().enumerate() {
        what(&format!("definition.counted[{at}].what"), step.what)?;
    }
    Ok(())
}

/// What a step is called that has no label.
pub fn label(step: &CountedStep) -> String {
    let name = OffSite::try_from(step.what).unwrap_or_default().as_str_name();
    name.trim_start_matches("OFF_SITE_").to_lowercase()
}

/// What happened away from the site; `at` is the field that says it.
pub fn what(at: &str, number: i32) -> Result<OffSite, Refusal> {
    match known::<OffSite>(at, number)? {
        OffSite::Unspecified => Err(Refusal::field(Reason::FieldMissing, at, format!("{at} is missing."))),
        what => Ok(what),
    }
}
