//! `runnel gateway`, `ingest`, `funnel`, `segmentation`: one service a process, over a shared database; and `migrate`.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::Context;
use clap::Args;
use runnel_chassis::{
    Clock, ContextSigner, Metrics, Network, Observe, Upstream,
    serve::{ServeOptions, listen, serve},
};
use runnel_gateway::{Edge, Keys, Routes};
use runnel_journeys::{Journeys, JourneysOptions};
use runnel_segmentation::{Segmentation, SegmentationOptions};
use runnel_storage::Store;
use tower::Layer;

use crate::{
    command::Output,
    lifecycle::{Lifecycle, OpsArgs},
    listen::{EdgeArgs, ListenArgs, PeerArgs},
    mistakes::Mistakes,
    node::first_operator_key,
    parts, render,
    store::{CompactionArgs, PepperArgs, PostgresArgs, RedisArgs, secret},
};

/// What every service needs.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    #[command(flatten)]
    listen: ListenArgs,
    /// A file with the secret by which services know calls of the gateway: 32 bytes, or 64 hexadecimal digits, the same for all.
    #[arg(long, env = "RUNNEL_CONTEXT_KEY_FILE", value_name = "FILE")]
    context_key_file: PathBuf,
    #[command(flatten)]
    ops: OpsArgs,
}

/// Options of `gateway`.
#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    postgres: PostgresArgs,
    #[command(flatten)]
    redis: RedisArgs,
    #[command(flatten)]
    pepper: PepperArgs,
    /// The ingest service. All addresses of the name are used.
    #[arg(long, env = "RUNNEL_INGEST", value_name = "http://HOST:PORT")]
    ingest: String,
    /// The funnel service. All addresses of the name are used, one of them for a tenant.
    #[arg(long, env = "RUNNEL_FUNNEL", value_name = "http://HOST:PORT")]
    funnel: String,
    /// The segmentation service. All addresses of the name are used, one of them for a tenant.
    #[arg(long, env = "RUNNEL_SEGMENTATION", value_name = "http://HOST:PORT")]
    segmentation: String,
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
    #[command(flatten)]
    compaction: CompactionArgs,
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
    #[command(flatten)]
    postgres: PostgresArgs,
    #[command(flatten)]
    redis: RedisArgs,
    /// Megabytes that journeys may take in memory.
    #[arg(long, env = "RUNNEL_MEMORY_MB", default_value = "4096", value_parser = clap::value_parser!(u64).range(16..))]
    memory_mb: u64,
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
    lifecycle: &Lifecycle,
    operator_key: Option<String>,
    service: Upstream,
    options: ServeOptions,
) -> anyhow::Result<()> {
    let listener = listen(common.listen.listen).await?;
    let stop = lifecycle.serving();
    render::listening(output, listener.local_addr()?, lifecycle.ops, operator_key);
    Ok(serve(listener, parts::cancellable(service), options, stop).await?)
}

impl CommonArgs {
    /// Looks for mistakes.
    fn check(&self, mistakes: &mut Mistakes) {
        self.listen.check(mistakes);
        mistakes.look("--context-key-file", secret(&self.context_key_file));
    }
}

/// Tells all mistakes in what every service behind the gateway needs.
fn check(common: &CommonArgs, postgres: &PostgresArgs, redis: Option<&RedisArgs>) -> anyhow::Result<()> {
    let mut mistakes = Mistakes::default();
    common.check(&mut mistakes);
    postgres.check(&mut mistakes);
    redis.iter().for_each(|redis| redis.check(&mut mistakes));
    mistakes.told()
}

fn signer(common: &CommonArgs) -> anyhow::Result<ContextSigner> {
    Ok(ContextSigner::new(secret(&common.context_key_file)?))
}

/// A service, and health beside it.
fn with_health(service: Upstream, lifecycle: &Lifecycle) -> Upstream {
    let health = lifecycle.health();
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
pub(crate) async fn gateway(args: GatewayArgs, output: Output, metrics: Metrics) -> anyhow::Result<()> {
    let mut mistakes = Mistakes::default();
    args.common.check(&mut mistakes);
    args.postgres.check(&mut mistakes);
    args.redis.check(&mut mistakes);
    mistakes.look("--pepper-file", args.pepper.read());
    let services =
        [("--ingest", &*args.ingest), ("--funnel", &args.funnel), ("--segmentation", &args.segmentation)];
    args.peer.check(services, &mut mistakes);
    args.edge.check(&mut mistakes);
    mistakes.told()?;
    let lifecycle = Lifecycle::begin(&args.common.ops, &metrics).await?;
    let (signer, pepper, clock) = (signer(&args.common)?, args.pepper.read()?, Clock::default());
    let hot = args.redis.open().await?;
    parts::watch_hot(&hot, &metrics);
    let edge = args.edge.options(hot)?;
    let ingest = Network::new("ingest", &args.ingest, args.peer.tls())?;
    let funnel = Network::new("funnel", &args.funnel, args.peer.tls())?;
    let segmentation = Network::new("segmentation", &args.segmentation, args.peer.tls())?;
    // Without its database the gateway still answers best: that the store does not answer, and when to try again.
    // Whether the services answer is seen once, at the start: later on one of them that is gone must not take away the others.
    for (what, service) in [("ingest", ingest.clone()), ("funnel", funnel.clone())] {
        let seen = AtomicBool::new(false);
        lifecycle.readiness().needs(what, move || {
            seen.fetch_or(service.is_connected(), Ordering::Relaxed);
            seen.load(Ordering::Relaxed)
        });
    }
    let store = args.postgres.open().await?;
    let keys = Keys::new(store.clone(), pepper);
    let operator_key = first_operator_key(&store, &keys, &clock).await?;
    let (ingest, segmentation) = (ingest.upstream(), segmentation.upstream());
    let routes = Routes {
        effects: parts::effects(
            ingest.clone(),
            segmentation.clone(),
            signer.clone(),
            clock.clone(),
            &metrics,
        ),
        ingest,
        funnel: funnel.upstream(),
        segmentation,
        admin: parts::admin(store.clone(), keys.clone(), signer.clone(), clock.clone()),
        health: lifecycle.health(),
        reflection: if args.edge.reflection { Some(parts::reflection()?) } else { None },
    };
    let options = args.common.listen.for_clients(edge.origins.any());
    let edge = Edge::new(routes, keys, signer, clock, &metrics, edge).service();
    let edge = Upstream::new(Observe::new("gateway", &metrics).layer(edge));
    let served = run(&args.common, output, &lifecycle, operator_key, edge, options).await;
    store.close().await;
    served
}

/// Ingest: admits, appends, compacts.
pub(crate) async fn ingest(args: IngestArgs, output: Output, metrics: Metrics) -> anyhow::Result<()> {
    check(&args.common, &args.postgres, None)?;
    let mut lifecycle = Lifecycle::begin(&args.common.ops, &metrics).await?;
    let (signer, clock) = (signer(&args.common)?, Clock::default());
    let store = args.postgres.open().await?;
    lifecycle.needs_store(&store);
    let service = parts::ingest(store.clone(), signer, clock.clone(), &metrics);
    let options = args.compaction.options();
    let compaction = tokio::spawn(runnel_ingest::compact::run(store.clone(), clock, options, metrics));
    let (service, options) = (with_health(service, &lifecycle), args.common.listen.for_gateways());
    let served = run(&args.common, output, &lifecycle, None, service, options).await;
    compaction.abort();
    drop(compaction.await);
    store.close().await;
    served
}

/// Funnel: answers questions from journeys in memory.
pub(crate) async fn funnel(args: FunnelArgs, output: Output, metrics: Metrics) -> anyhow::Result<()> {
    check(&args.common, &args.postgres, None)?;
    let mut lifecycle = Lifecycle::begin(&args.common.ops, &metrics).await?;
    let (signer, clock) = (signer(&args.common)?, Clock::default());
    let store = args.postgres.open().await?;
    lifecycle.needs_store(&store);
    let journeys = journeys(&store, args.memory_mb)?;
    parts::watch_journeys(&journeys, &metrics);
    let retention = tokio::spawn(runnel_funnel::retain(journeys.clone(), clock.clone()));
    let service = parts::funnel(journeys, signer, clock, &metrics);
    let (service, options) = (with_health(service, &lifecycle), args.common.listen.for_gateways());
    let served = run(&args.common, output, &lifecycle, None, service, options).await;
    retention.abort();
    drop(retention.await);
    store.close().await;
    served
}

/// Segmentation: who is there at this moment.
pub(crate) async fn segmentation(
    args: SegmentationArgs,
    output: Output,
    metrics: Metrics,
) -> anyhow::Result<()> {
    check(&args.common, &args.postgres, Some(&args.redis))?;
    let mut lifecycle = Lifecycle::begin(&args.common.ops, &metrics).await?;
    let (signer, clock) = (signer(&args.common)?, Clock::default());
    let hot = args.redis.open().await?;
    parts::watch_hot(&hot, &metrics);
    let store = args.postgres.open().await?;
    lifecycle.needs_store(&store);
    let journeys = journeys(&store, args.memory_mb)?;
    parts::watch_journeys(&journeys, &metrics);
    let options = SegmentationOptions::default();
    let segmentation = Segmentation::new(journeys, hot, signer, clock, metrics.clone(), options);
    let service = with_health(parts::segmentation(&segmentation, &metrics), &lifecycle);
    let options = args.common.listen.for_gateways();
    let ending = tokio::spawn(parts::end_watching_when_stopping(segmentation.clone()));
    let served = run(&args.common, output, &lifecycle, None, service, options).await;
    ending.abort();
    segmentation.close().await;
    store.close().await;
    served
}

/// Journeys within so many megabytes.
fn journeys(store: &Store, memory_mb: u64) -> anyhow::Result<Journeys> {
    let budget_bytes = usize::try_from(memory_mb.saturating_mul(1 << 20)).unwrap_or(usize::MAX);
    let options = JourneysOptions { budget_bytes, ..JourneysOptions::default() };
    Journeys::new(store.clone(), options).context("the threads for counting did not start")
}

/// Brings the schema of a database up to date and says so.
pub(crate) async fn migrate(args: MigrateArgs, output: Output) -> anyhow::Result<()> {
    args.postgres.open().await?.close().await;
    if output == Output::Table {
        render::print("The schema is up to date.");
        if !args.postgres.names_users() {
            render::print(
                "No user but the owner was named (--postgres-ingest and so on), so none was given rights.",
            );
        }
    }
    Ok(())
}
