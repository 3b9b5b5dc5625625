//! `runnel erase` and `runnel export`: a person's rights.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use runnel_contracts::proto::{
    event::v1::Event,
    subject::v1::{EraseRequest, ErasureState, ExportSubjectRequest, GetErasureRequest, GetErasureResponse},
};

use crate::{
    command::Output,
    json, render,
    target::{Target, TargetArgs},
    when::show_instant,
};

/// How often an erasure is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// `runnel erase`.
#[derive(Debug, Args)]
#[command(after_help = "Everything of the person goes: all ids, who they are, and every event up to now. \
                        Needs a key of the kind erase.\n\nExample:\n  runnel erase customer-17 --data-dir ./data --tenant shop")]
pub(crate) struct EraseArgs {
    /// Any id of the person.
    visitor: String,
    /// Do not wait until the last byte is gone; answers are without the person at once.
    #[arg(long, conflicts_with = "data_dir")]
    no_wait: bool,
    #[command(flatten)]
    target: TargetArgs,
}

/// `runnel export`.
#[derive(Debug, Args)]
#[command(after_help = "Writes one JSON object a line: first which ids the person has, then the events. \
                        Needs a key of the kind erase.\n\nExample:\n  runnel export --visitor customer-17 --to customer-17.ndjson --data-dir ./data --tenant shop")]
pub(crate) struct ExportArgs {
    /// Any id of the person.
    #[arg(long)]
    visitor: String,
    /// The file to write; it must not exist. Without it, standard output.
    #[arg(long)]
    to: Option<PathBuf>,
    #[command(flatten)]
    target: TargetArgs,
}

/// Erases and tells how it went.
pub(crate) async fn erase(args: EraseArgs, output: Output) -> anyhow::Result<()> {
    let target = args.target.open(false).await?;
    let result = erase_in(&args, &target, output).await;
    target.close().await;
    result
}

async fn erase_in(args: &EraseArgs, target: &Target, output: Output) -> anyhow::Result<()> {
    let request = EraseRequest { visitor_id: args.visitor.clone() };
    let asked = target.client.subject().erase(request).await?.into_inner();
    let request = GetErasureRequest { erasure: asked.erasure };
    let progress = indicatif::ProgressBar::new_spinner().with_message("erasing");
    let erasure = loop {
        let erasure = target.client.subject().get_erasure(request).await?.into_inner();
        if args.no_wait || erasure.state() == ErasureState::Done {
            break erasure;
        }
        progress.tick();
        tokio::time::sleep(LOOK).await;
    };
    progress.finish_and_clear();
    render::print(match output {
        Output::Json => json::to_json("runnel.subject.v1.GetErasureResponse", &erasure)?,
        Output::Table => told(&erasure, asked.ids),
    });
    Ok(())
}

fn told(erasure: &GetErasureResponse, ids: u32) -> String {
    let GetErasureResponse { erasure: number, events, unreadable_events, .. } = erasure;
    let ids = if ids == 1 { "1 id".to_owned() } else { format!("{ids} ids") };
    let mut text = match erasure.state() {
        ErasureState::Done => format!(
            "Erasure {number}: {ids}, {} stored events deleted by {}.",
            render::thousands(*events),
            show_instant(erasure.done_ms)
        ),
        _ => format!("Erasure {number} of {ids} goes on; answers are without the person already."),
    };
    if *unreadable_events > 0 {
        let unreadable = render::thousands(*unreadable_events);
        text.push_str(&format!(
            "\n{unreadable} events cannot be read and may be anybody's; see runnel doctor."
        ));
    }
    text
}

/// Writes what is kept of a person.
pub(crate) async fn export(args: ExportArgs, output: Output) -> anyhow::Result<()> {
    let target = args.target.open(false).await?;
    let result = export_from(&args, &target).await;
    target.close().await;
    let events = result?;
    if let Some(path) = &args.to {
        render::print(match output {
            Output::Json => serde_json::json!({ "events": events, "file": path }).to_string(),
            Output::Table => format!("{} events in {}.", render::thousands(events), path.display()),
        });
    }
    Ok(())
}

async fn export_from(args: &ExportArgs, target: &Target) -> anyhow::Result<u64> {
    let request = ExportSubjectRequest { visitor_id: args.visitor.clone() };
    let mut out: Box<dyn Write> = match &args.to {
        Some(path) => {
            let file = File::options().write(true).create_new(true).open(path);
            Box::new(BufWriter::new(file.with_context(|| format!("{} cannot be made", path.display()))?))
        }
        None => Box::new(io::stdout().lock()),
    };
    let mut parts = match target.client.subject().export_subject(request).await {
        Ok(parts) => parts.into_inner(),
        Err(refused) => {
            // The file was made just now, and has nothing.
            args.to.as_ref().map(fs::remove_file).transpose()?;
            return Err(refused.into());
        }
    };
    let mut events = 0;
    while let Some(part) = parts.message().await? {
        if let Some(identity) = &part.identity {
            writeln!(out, "{}", json::to_line("runnel.identity.v1.GetIdentityResponse", identity)?)?;
        }
        for event in &part.events {
            writeln!(out, "{}", json::to_line::<Event>("runnel.event.v1.Event", event)?)?;
            events += 1;
        }
    }
    out.flush()?;
    Ok(events)
}
