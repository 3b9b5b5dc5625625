//! `runnel serve`: all services in one process, over a data folder or a shared database.

use std::path::PathBuf;

use clap::Args;
use runnel_chassis::{
    Clock, Metrics,
    serve::{listen, serve},
};
use runnel_journeys::JourneysOptions;

use crate::{
    command::Output,
    lifecycle::{Lifecycle, OpsArgs},
    listen::{EdgeArgs, ListenArgs},
    mistakes::Mistakes,
    node::{Node, NodeOptions},
    parts, render,
    store::{CompactionArgs, PepperArgs, PostgresArgs, RedisArgs},
};

/// Options of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where everything is kept. Made when it is not there.
    #[arg(long, env = "RUNNEL_DATA_DIR", required_unless_present = "postgres", conflicts_with = "postgres")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) postgres: PostgresArgs,
    #[command(flatten)]
    pub(crate) compaction: CompactionArgs,
    #[command(flatten)]
    pub(crate) redis: RedisArgs,
    #[command(flatten)]
    pub(crate) pepper: PepperArgs,
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    #[command(flatten)]
    pub(crate) edge: EdgeArgs,
    /// Megabytes that journeys may take in memory.
    #[arg(long, env = "RUNNEL_MEMORY_MB", default_value = "4096", value_parser = clap::value_parser!(u64).range(16..))]
    pub(crate) memory_mb: u64,
    #[command(flatten)]
    pub(crate) ops: OpsArgs,
}

/// Serves until asked to stop.
pub(crate) async fn run(args: ServeArgs, output: Output, metrics: Metrics) -> anyhow::Result<()> {
    let mut mistakes = Mistakes::default();
    args.listen.check(&mut mistakes);
    args.redis.check(&mut mistakes);
    args.edge.check(&mut mistakes);
    if args.data_dir.is_none() {
        args.postgres.check(&mut mistakes);
        mistakes.look("--pepper-file", args.pepper.read());
    }
    mistakes.told()?;
    let edge = args.edge.options(args.redis.open().await?)?;
    let serving = args.listen.for_clients(edge.origins.any());
    let mut lifecycle = Lifecycle::begin(&args.ops, &metrics).await?;
    let listener = listen(args.listen.listen).await?;
    let address = listener.local_addr()?;
    let budget_bytes = usize::try_from(args.memory_mb.saturating_mul(1 << 20)).unwrap_or(usize::MAX);
    let journeys = JourneysOptions { budget_bytes, ..JourneysOptions::default() };
    let options = NodeOptions {
        journeys,
        edge,
        compaction: args.compaction.options(),
        reflection: args.edge.reflection,
        health: Some(lifecycle.health()),
        metrics,
        ..NodeOptions::default()
    };
    let node = match &args.data_dir {
        Some(dir) => Node::open(dir, options, Clock::default()).await?,
        None => {
            let pepper = args.pepper.read()?;
            Node::over(args.postgres.open().await?, pepper, options, Clock::default()).await?
        }
    };
    lifecycle.needs_store(node.store());
    let operator_key = node.first_operator_key().await?;
    let stop = lifecycle.serving();
    render::listening(output, address, lifecycle.ops, operator_key);
    let ending = node.end_watching_when_stopping();
    let served = serve(listener, parts::cancellable(node.edge()), serving, stop).await;
    ending.abort();
    node.close().await;
    Ok(served?)
}
