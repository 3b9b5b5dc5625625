//! `runnel import` on the command line.

use std::io::IsTerminal;

use clap::Args;

use crate::{
    command::Output,
    import::{self, ImportArgs},
    render,
    target::TargetArgs,
};

/// Imports event files. Rows that are refused are written to a rejects file and counted by reason; they do not fail the import unless --strict.
#[derive(Debug, Args)]
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
