//! `runnel erase`, and what `runnel export` writes of a person: a person's rights.

use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};

use clap::Args;
use runnel_contracts::proto::{
    event::v1::Event,
    subject::v1::{
        EraseRequest, ErasureState, ExportSubjectRequest, ExportSubjectResponse, GetErasureRequest,
        GetErasureResponse,
    },
};
use tonic::Streaming;

use crate::{
    command::Output,
    export::NewFile,
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
pub(crate) async fn export(
    visitor: &str,
    to: Option<&Path>,
    target: &Target,
    output: Output,
) -> anyhow::Result<()> {
    let request = ExportSubjectRequest { visitor_id: visitor.to_owned() };
    let mut parts = target.client.subject().export_subject(request).await?.into_inner();
    let Some(path) = to else {
        write(&mut parts, &mut io::stdout().lock()).await?;
        return Ok(());
    };
    let mut file = NewFile::create(path)?;
    let events = write(&mut parts, &mut file).await?;
    file.finish()?;
    render::print(match output {
        Output::Json => serde_json::json!({ "events": events, "file": path }).to_string(),
        Output::Table => format!("{} events in {}.", render::thousands(events), path.display()),
    });
    Ok(())
}

/// Writes a line for who is who, one for the lists that the person is on, where there are some, and one for each event, and counts the events.
async fn write(parts: &mut Streaming<ExportSubjectResponse>, out: &mut dyn Write) -> anyhow::Result<u64> {
    let mut events = 0;
    while let Some(part) = parts.message().await? {
        if let Some(identity) = &part.identity {
            writeln!(out, "{}", json::to_line("runnel.identity.v1.GetIdentityResponse", identity)?)?;
        }
        if !part.lists.is_empty() {
            let lists = ExportSubjectResponse { lists: part.lists, ..ExportSubjectResponse::default() };
            writeln!(out, "{}", json::to_line("runnel.subject.v1.ExportSubjectResponse", &lists)?)?;
        }
        for event in &part.events {
            writeln!(out, "{}", json::to_line::<Event>("runnel.event.v1.Event", event)?)?;
            events += 1;
        }
    }
    out.flush()?;
    Ok(events)
}
