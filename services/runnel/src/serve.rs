//! `runnel serve`: all services in one process over a data folder.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use runnel_chassis::{
    Clock,
    serve::{asked_to_stop, listen, serve},
};
use runnel_journeys::JourneysOptions;

use crate::{
    command::Output,
    node::{Node, NodeOptions},
    render,
};

/// Options of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where everything is kept. Made when it is not there.
    #[arg(long, env = "RUNNEL_DATA_DIR")]
    pub(crate) data_dir: PathBuf,
    /// Where to listen. Port 0 takes a free one.
    #[arg(long, env = "RUNNEL_LISTEN", default_value = "127.0.0.1:7070")]
    pub(crate) listen: SocketAddr,
    /// Megabytes that journeys may take in memory.
    #[arg(long, env = "RUNNEL_MEMORY_MB", default_value = "4096", value_parser = clap::value_parser!(u64).range(16..))]
    pub(crate) memory_mb: u64,
    /// Answer gRPC reflection, for exploring with tools.
    #[arg(long, env = "RUNNEL_REFLECTION")]
    pub(crate) reflection: bool,
}

/// Serves until asked to stop.
pub(crate) async fn run(args: ServeArgs, output: Output) -> anyhow::Result<()> {
    let listener = listen(args.listen).await?;
    let address = listener.local_addr()?;
    let budget_bytes = usize::try_from(args.memory_mb.saturating_mul(1 << 20)).unwrap_or(usize::MAX);
    let journeys = JourneysOptions { budget_bytes, ..JourneysOptions::default() };
    let options = NodeOptions { journeys, reflection: args.reflection, ..NodeOptions::default() };
    let node = Node::open(&args.data_dir, options, Clock::default()).await?;
    let stop = asked_to_stop();
    let operator_key = node.first_operator_key().await?;
    match output {
        Output::Json => {
            let mut line = serde_json::json!({ "listening": address.to_string() });
            if let Some(key) = operator_key {
                line["operatorKey"] = key.into();
            }
            render::print(line);
        }
        Output::Table => {
            if let Some(key) = operator_key {
                render::print(format!("The operator's admin key, shown only now: {key}"));
            }
            render::print(format!("Listening on {address}. Stop with Ctrl-C."));
        }
    }
    let served = serve(listener, node.edge(), stop).await;
    node.close().await;
    Ok(served?)
}
