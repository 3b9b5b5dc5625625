//! The catalogue as one document: shown, exported, applied.

use std::{fs, io::Write as _, path::PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use comfy_table::Cell;
use runnel_contracts::proto::{
    catalog::v1::{
        ApplyCatalogRequest, ApplyCatalogResponse, CatalogAction, CatalogDocument, CatalogPart,
        FitTemplateRequest, GetCatalogRequest, ListConversionsRequest, TemplateGap,
    },
    query::v1::EventMatch,
};

use crate::{
    command::Output,
    json, render,
    target::{Target, TargetArgs},
};

const DOCUMENT: &str = "runnel.catalog.v1.CatalogDocument";

/// `runnel catalog conversions`.
#[derive(Debug, Args)]
pub(crate) struct Conversions {
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

/// `runnel catalog export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Where to write it. Default: standard output.
    file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

/// `runnel catalog apply`.
#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// A document as runnel catalog export writes it.
    #[arg(required_unless_present = "template")]
    file: Option<PathBuf>,
    /// A template instead: shop, saas, content or leads, matched to the events that there are.
    #[arg(long, conflicts_with = "file")]
    template: Option<String>,
    /// Delete what the document does not have.
    #[arg(long)]
    prune: bool,
    /// Only show what would change.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

/// Shows the first 1,000 conversions.
pub(super) async fn conversions(target: &Target, output: Output) -> anyhow::Result<()> {
    let request = ListConversionsRequest { page_size: 1_000, page_token: String::new() };
    let listed = target.client.catalog().list_conversions(request).await?.into_inner();
    if output == Output::Json {
        render::print(json::to_json("runnel.catalog.v1.ListConversionsResponse", &listed)?);
        return Ok(());
    }
    let mut rows = render::table(&["conversion", "role", "stage", "version", "description"]);
    for one in &listed.conversions {
        let name = |text: &str| text.rsplit('_').next().unwrap_or_default().to_lowercase();
        let stage = if one.stage == 0 { String::new() } else { name(one.stage().as_str_name()) };
        rows.add_row(vec![
            Cell::new(&one.name),
            Cell::new(name(one.role().as_str_name())),
            Cell::new(stage),
            render::number(one.version),
            Cell::new(&one.description),
        ]);
    }
    render::print(rows);
    Ok(())
}

/// Writes the document.
pub(super) async fn export(export: &Export, target: &Target) -> anyhow::Result<()> {
    let catalog = target.client.catalog().get_catalog(GetCatalogRequest {}).await?.into_inner();
    let text = json::to_short_json(DOCUMENT, &catalog.document.unwrap_or_default())?;
    match &export.file {
        None => render::print(text),
        Some(path) => {
            let written = fs::File::create(path).and_then(|mut file| writeln!(file, "{text}"));
            written.with_context(|| format!("{} cannot be written", path.display()))?;
        }
    }
    Ok(())
}

/// Applies a document or a template.
pub(super) async fn apply(apply: &Apply, target: &Target, output: Output) -> anyhow::Result<()> {
    let (document, missing) = match (&apply.template, &apply.file) {
        (Some(template), _) => {
            let request = FitTemplateRequest { template: template.clone() };
            let fitted = target.client.catalog().fit_template(request).await?.into_inner();
            (fitted.document.unwrap_or_default(), fitted.missing)
        }
        (None, Some(path)) => {
            let text =
                fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
            let read = json::from_json(DOCUMENT, &text);
            (read.with_context(|| format!("{} is no catalogue", path.display()))?, Vec::new())
        }
        (None, None) => bail!("say what to apply: a file, or --template shop"),
    };
    let request = ApplyCatalogRequest {
        document: Some(document),
        prune: apply.prune,
        dry_run: apply.dry_run,
        expected_version: None,
    };
    let applied = target.client.catalog().apply_catalog(request).await?.into_inner();
    render::print(match output {
        Output::Json => json::to_json("runnel.catalog.v1.ApplyCatalogResponse", &applied)?,
        Output::Table => changes(&applied, &missing, apply.dry_run)?,
    });
    Ok(())
}

/// What changed, line by line.
fn changes(applied: &ApplyCatalogResponse, missing: &[TemplateGap], dry_run: bool) -> anyhow::Result<String> {
    let mut lines = Vec::new();
    let mut counts = [0; 5];
    for change in &applied.changes {
        counts[change.action as usize % counts.len()] += 1;
        let part = match change.part() {
            CatalogPart::Settings => "settings",
            CatalogPart::Conversion | CatalogPart::Unspecified => "conversion",
            CatalogPart::Funnel => "funnel",
        };
        let sign = match change.action() {
            CatalogAction::Added => '+',
            CatalogAction::Changed => '~',
            CatalogAction::Removed => '-',
            CatalogAction::Unchanged | CatalogAction::Unspecified => continue,
        };
        lines.push(format!("{sign} {part} {}{}", change.name, matched(change.after.as_ref())));
        if change.action() == CatalogAction::Changed {
            let text = |document: &Option<CatalogDocument>| {
                json::to_short_json(DOCUMENT, &document.clone().unwrap_or_default())
            };
            lines.extend(difference(&text(&change.before)?, &text(&change.after)?));
        }
    }
    if !missing.is_empty() {
        lines.push(String::new());
        lines.push("Not in your events; send one of these names to have them:".to_owned());
        for gap in missing {
            lines.push(format!("  {:<20} {} ({})", gap.name, gap.description, gap.event_names.join(", ")));
        }
        lines.push(String::new());
    }
    let [_, unchanged, added, changed, removed] = counts;
    let would = if dry_run { "would be " } else { "" };
    lines.push(format!(
        "{added} {would}added, {changed} {would}changed, {removed} {would}removed, {unchanged} as they were; definitions version {}",
        applied.version
    ));
    Ok(lines.join("\n"))
}

/// The events of a conversion, in brackets.
fn matched(after: Option<&CatalogDocument>) -> String {
    use runnel_contracts::proto::catalog::v1::rule::Rule;
    let rule = after.and_then(|one| one.conversions.first()?.rule.as_ref()?.rule.as_ref());
    let name =
        |one: &EventMatch| if one.event.is_empty() { "any event".to_owned() } else { one.event.clone() };
    match rule {
        Some(Rule::Event(event)) => {
            format!(" ({})", event.any_of.iter().map(name).collect::<Vec<_>>().join(", "))
        }
        Some(Rule::Progress(progress)) => {
            format!(" ({})", progress.event.as_ref().map(name).unwrap_or_default())
        }
        Some(Rule::Session(_) | Rule::Visit(_)) | None => String::new(),
    }
}

/// Lines that only one of two documents has, in their order.
fn difference(before: &str, after: &str) -> Vec<String> {
    let (before, after): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same = before.iter().zip(&after).take_while(|(left, right)| left == right).count();
    let (left, right) = (&before[same..], &after[same..]);
    let end = left.iter().rev().zip(right.iter().rev()).take_while(|(left, right)| left == right).count();
    let gone = left[..left.len() - end].iter().map(|line| format!("    - {}", line.trim_start()));
    let new = right[..right.len() - end].iter().map(|line| format!("    + {}", line.trim_start()));
    gone.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_shown() {
        let shown = difference("{\n a\n b\n c\n}", "{\n a\n x\n y\n c\n}");
        assert_eq!(shown, ["    - b", "    + x", "    + y"]);
        assert!(difference("a\nb", "a\nb").is_empty());
    }
}
