//! The command line.

use std::{process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use runnel_chassis::{
    Metrics,
    observe::{self, LogFormat},
};

use tonic::Code;

use crate::{
    ask, catalog, demo, doctor, export, import_command, keys, retention, serve, services, subject, watch,
};

/// Micro-conversion analytics: send events, ask where visitors get to and where they leave.
#[derive(Debug, Parser)]
#[command(name = "runnel", version, about, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How results are printed.
    #[arg(long, value_enum, global = true, default_value = "table", env = "RUNNEL_OUTPUT")]
    output: Output,
    /// How log lines look; RUNNEL_LOG sets what is logged, for example info.
    #[arg(long, value_enum, global = true, default_value = "text", env = "RUNNEL_LOG_FORMAT")]
    log_format: LogFormatArg,
}

const EXAMPLES: &str = "Examples:
  runnel demo
  runnel import events.csv.gz --data-dir ./data --tenant shop
  runnel ask funnel --data-dir ./data --tenant shop --steps view_item,add_to_cart,purchase --window 24h
  runnel catalog apply --template shop --data-dir ./data --tenant shop
  runnel ask conversions --data-dir ./data --tenant shop
  runnel serve --data-dir ./data --listen 127.0.0.1:7070";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve everything in one process, over a data folder or a shared database.
    Serve(serve::ServeArgs),
    /// Start with a simulated shop, show its funnel, and stay up.
    Demo(demo::DemoArgs),
    /// Import event files: CSV, NDJSON or Parquet, or exports of GA4, Mixpanel, Kissmetrics, PostHog or Segment; also gzip.
    Import(import_command::ImportCommand),
    /// Ask a question.
    #[command(subcommand)]
    Ask(ask::AskCommand),
    /// See who comes into a segment and who leaves it, or how visitors move through a funnel, as it happens.
    #[command(subcommand)]
    Watch(watch::WatchCommand),
    /// See which events and properties there are, and say which of them matter.
    #[command(subcommand)]
    Catalog(catalog::CatalogCommand),
    /// Erase a person: every id, every event up to now, everywhere.
    Erase(subject::EraseArgs),
    /// Write to a file what is kept of a person, or what ad networks may be told: audiences and conversions.
    Export(export::ExportArgs),
    /// See or say for how long events are kept.
    Retention(retention::RetentionArgs),
    /// Make, list and revoke keys.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Check a data folder: sizes, counts, damage.
    Doctor(doctor::DoctorArgs),
    /// Serve the gateway alone: who is calling, may they, and where to.
    Gateway(services::GatewayArgs),
    /// Serve ingest alone: admits, appends and compacts events.
    Ingest(services::IngestArgs),
    /// Serve funnels alone: answers questions.
    Funnel(services::FunnelArgs),
    /// Serve segmentation alone: counts who is there at this moment.
    Segmentation(services::SegmentationArgs),
    /// Bring the schema of a shared database up to date.
    Migrate(services::MigrateArgs),
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For a person.
    Table,
    /// JSON by protobuf's mapping.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormatArg {
    /// For a person.
    Text,
    /// One JSON object a line.
    Json,
}

impl Command {
    /// What a server is called where its telemetry goes; `None` for commands that end by themselves.
    fn service(&self) -> Option<&'static str> {
        match self {
            Command::Serve(_) => Some("serve"),
            Command::Gateway(_) => Some("gateway"),
            Command::Ingest(_) => Some("ingest"),
            Command::Funnel(_) => Some("funnel"),
            Command::Segmentation(_) => Some("segmentation"),
            _ => None,
        }
    }

    /// Does it. `false` when it found something wrong.
    async fn run(self, output: Output, metrics: Metrics) -> anyhow::Result<bool> {
        match self {
            Command::Serve(args) => serve::run(args, output, metrics).await.map(|()| true),
            Command::Demo(args) => demo::run(args, output).await.map(|()| true),
            Command::Import(args) => import_command::run(args, output).await,
            Command::Ask(command) => ask::run(command, output).await.map(|()| true),
            Command::Watch(command) => watch::run(command, output).await.map(|()| true),
            Command::Catalog(command) => catalog::run(command, output).await.map(|()| true),
            Command::Erase(args) => subject::erase(args, output).await.map(|()| true),
            Command::Export(args) => export::run(args, output).await.map(|()| true),
            Command::Retention(args) => retention::run(args, output).await.map(|()| true),
            Command::Keys(command) => keys::run(command, output).await.map(|()| true),
            Command::Doctor(args) => doctor::run(args, output).await,
            Command::Gateway(args) => services::gateway(args, output, metrics).await.map(|()| true),
            Command::Ingest(args) => services::ingest(args, output, metrics).await.map(|()| true),
            Command::Funnel(args) => services::funnel(args, output, metrics).await.map(|()| true),
            Command::Segmentation(args) => services::segmentation(args, output, metrics).await.map(|()| true),
            Command::Migrate(args) => services::migrate(args, output).await.map(|()| true),
        }
    }
}

/// Runs a command to its end. Errors are printed with their causes.
pub fn run(cli: Cli) -> ExitCode {
    let format = if cli.log_format == LogFormatArg::Json { LogFormat::Json } else { LogFormat::Text };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(fault) => return fail(&anyhow::Error::new(fault).context("the runtime did not start")),
    };
    let entered = runtime.enter();
    let telemetry = match observe::start(format, cli.command.service()) {
        Ok(telemetry) => telemetry,
        Err(fault) => return fail(&fault.into()),
    };
    drop(entered);
    let result = runtime.block_on(cli.command.run(cli.output, telemetry.metrics().clone()));
    telemetry.shut_down();
    // What nobody waits for any more, such as a large count, does not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => fail(&fault),
    }
}

/// What a server said; of its own faults also what it calls the call.
fn told(status: &tonic::Status) -> String {
    use tonic_types::StatusExt as _;
    let details = status.get_error_details();
    let id = details.error_info().and_then(|info| info.metadata.get("request_id"));
    match (status.code(), id) {
        (Code::Internal | Code::DataLoss | Code::Unknown, Some(id)) => {
            format!("{} The request was {id}.", status.message())
        }
        _ => status.message().to_owned(),
    }
}

/// An error with its causes, each of which is said once.
pub(crate) fn with_causes(fault: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in fault.chain() {
        let part = match cause.downcast_ref::<tonic::Status>() {
            Some(status) => told(status),
            None => cause.to_string(),
        };
        if !text.contains(&part) {
            text = if text.is_empty() { part } else { format!("{text}: {part}") };
        }
    }
    text
}

#[expect(clippy::print_stderr, reason = "errors of a command go to standard error")]
fn fail(fault: &anyhow::Error) -> ExitCode {
    eprintln!("error: {}", with_causes(fault));
    ExitCode::FAILURE
}
