//! `runnel gateway`, `ingest`, `funnel`, `segmentation`: one service a process, over a shared database; and `migrate`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use runnel_chassis::{
    Clock, ContextSigner, Network, Upstream,
    serve::{asked_to_stop, listen, serve},
};
use runnel_gateway::{Edge, Keys, Routes};
use runnel_ingest::Ingest;
use runnel_journeys::{Journeys, JourneysOptions};
use runnel_storage::{CompactOptions, Hot};

use crate::{
    command::Output,
    listen::{EdgeArgs, ListenArgs, PeerArgs},
    node::first_operator_key,
    parts, render,
    store::{PepperArgs, PostgresArgs, secret},
};

/// What every service needs.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    #[command(flatten)]
    listen: ListenArgs,
    /// A file with the secret by which services know calls of the gateway: 32 bytes, or 64 hexadecimal digits, the same for all.
    #[arg(long, env = "RUNNEL_CONTEXT_KEY_FILE", value_name = "FILE")]
    context_key_file: PathBuf,
}

/// Options of `gateway`.
#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    postgres: PostgresArgs,
    #[command(flatten)]
    pepper: PepperArgs,
    /// The ingest service. All addresses of the name are used.
    #[arg(long, env = "RUNNEL_INGEST", value_name = "http://HOST:PORT")]
    ingest: String,
    /// The funnel service. All addresses of the name are used, one of them for a tenant.
    #[arg(long, env = "RUNNEL_FUNNEL", value_name = "http://HOST:PORT")]
    funnel: String,
    #[command(flatten)]
    peer: PeerArgs,
    #[command(flatten)]
    edge: EdgeArgs,
}

/// Options of `ingest`.
#[derive(Debug, Args)]
pub(crate) struct IngestArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    postgres: PostgresArgs,
}

/// Options of `funnel`.
#[derive(Debug, Args)]
pub(crate) struct FunnelArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    postgres: PostgresArgs,
    /// Megabytes that journeys may take in memory.
    #[arg(long, env = "RUNNEL_MEMORY_MB", default_value = "4096", value_parser = clap::value_parser!(u64).range(16..))]
    memory_mb: u64,
}

/// Options of `segmentation`.
#[derive(Debug, Args)]
pub(crate) struct SegmentationArgs {
    #[command(flatten)]
    common: CommonArgs,
}

/// Options of `migrate`.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    postgres: PostgresArgs,
}

/// Serves until asked to stop, and says where.
async fn run(
    common: &CommonArgs,
    output: Output,
    operator_key: Option<String>,
    service: Upstream,
    browsers: bool,
) -> anyhow::Result<()> {
    let listener = listen(common.listen.listen).await?;
    let stop = asked_to_stop();
    render::listening(output, listener.local_addr()?, operator_key);
    Ok(serve(listener, service, common.listen.options(browsers), stop).await?)
}

fn signer(common: &CommonArgs) -> anyhow::Result<ContextSigner> {
    Ok(ContextSigner::new(secret(&common.context_key_file)?))
}

/// A service, and health beside it.
async fn with_health(service: Upstream) -> Upstream {
    let health = parts::health().await;
    Upstream::new(tower::service_fn(move |request: http::Request<tonic::body::Body>| {
        let mut to = if request.uri().path().starts_with("/grpc.health.v1.") {
            health.clone()
        } else {
            service.clone()
        };
        async move { tower::Service::call(&mut to, request).await }
    }))
}

/// The gateway: who is calling, may they, and where to.
pub(crate) async fn gateway(args: GatewayArgs, output: Output) -> anyhow::Result<()> {
    let (signer, pepper, clock) = (signer(&args.common)?, args.pepper.read()?, Clock::default());
    let edge = args.edge.options(Hot::process())?;
    let ingest = Network::new("ingest", &args.ingest, args.peer.tls())?;
    let funnel = Network::new("funnel", &args.funnel, args.peer.tls())?;
    let store = args.postgres.open().await?;
    let keys = Keys::new(store.clone(), pepper);
    let operator_key = first_operator_key(&store, &keys, &clock).await?;
    let routes = Routes {
        ingest: ingest.upstream(),
        funnel: funnel.upstream(),
        admin: parts::admin(store.clone(), keys.clone(), signer.clone(), clock.clone()),
        health: parts::health().await,
        reflection: if args.edge.reflection { Some(parts::reflection()?) } else { None },
    };
    let browsers = edge.origins.any();
    let edge = Edge::new(routes, keys, signer, clock, edge).service();
    let served = run(&args.common, output, operator_key, edge, browsers).await;
    store.close().await;
    served
}

/// Ingest: admits, appends, compacts.
pub(crate) async fn ingest(args: IngestArgs, output: Output) -> anyhow::Result<()> {
    let (signer, clock) = (signer(&args.common)?, Clock::default());
    let store = args.postgres.open().await?;
    let compaction =
        tokio::spawn(runnel_ingest::compact::run(store.clone(), clock.clone(), CompactOptions::default()));
    let service = Upstream::new(Ingest::new(store.clone(), signer, clock).server());
    let served = run(&args.common, output, None, with_health(service).await, false).await;
    compaction.abort();
    drop(compaction.await);
    store.close().await;
    served
}

/// Funnel: answers questions from journeys in memory.
pub(crate) async fn funnel(args: FunnelArgs, output: Output) -> anyhow::Result<()> {
    let (signer, clock) = (signer(&args.common)?, Clock::default());
    let store = args.postgres.open().await?;
    let budget_bytes = usize::try_from(args.memory_mb.saturating_mul(1 << 20)).unwrap_or(usize::MAX);
    let options = JourneysOptions { budget_bytes, ..JourneysOptions::default() };
    let journeys = Journeys::new(store.clone(), options).context("the threads for counting did not start")?;
    let service = parts::funnel(journeys, signer, clock);
    let served = run(&args.common, output, None, with_health(service).await, false).await;
    store.close().await;
    served
}

/// Segmentation: health, for now.
pub(crate) async fn segmentation(args: SegmentationArgs, output: Output) -> anyhow::Result<()> {
    signer(&args.common)?;
    run(&args.common, output, None, parts::health().await, false).await
}

/// Brings the schema of a database up to date and says so.
pub(crate) async fn migrate(args: MigrateArgs, output: Output) -> anyhow::Result<()> {
    args.postgres.open().await?.close().await;
    if output == Output::Table {
        render::print("The schema is up to date.");
    }
    Ok(())
}
