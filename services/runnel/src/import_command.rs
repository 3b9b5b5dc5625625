//! `runnel import` on the command line.

use std::io::IsTerminal;

use clap::Args;

use crate::{
    command::Output,
    import::{self, ImportArgs},
    render,
    target::TargetArgs,
};

const EXAMPLES: &str = "Examples:
  runnel import events.csv.gz --data-dir ./data --tenant shop --visitor user --time at
  runnel import --format ga4 events_20240501.json.gz --data-dir ./data --tenant shop --dry-run
  runnel import --format mixpanel export.jsonl --project-time-zone US/Pacific --data-dir ./data --tenant shop

Exports of other products say themselves what is where: options that name columns do not go with them, --ignore and --property-type do.
Ids that belong together by such an export are sent as identifications; over a server that takes a write key, as events do.";

/// Imports event files. Rows that are refused are written to a rejects file and counted by reason; they do not fail the import unless --strict.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ImportCommand {
    #[command(flatten)]
    import: ImportArgs,
    #[command(flatten)]
    target: TargetArgs,
}

/// Imports and prints the summary. `false` when a file could not be read to its end.
pub(crate) async fn run(command: ImportCommand, output: Output) -> anyhow::Result<bool> {
    let target = command.target.open(true).await?;
    let summary = import::run(&command.import, &target.client, std::io::stderr().is_terminal()).await;
    if let Some((node, tenant)) = &target.local {
        node.settle(tenant).await;
    }
    target.close().await;
    let summary = summary?;
    render::print(match output {
        Output::Json => serde_json::to_string_pretty(&summary)?,
        Output::Table => summary.to_string(),
    });
    Ok(summary.succeeded())
}
