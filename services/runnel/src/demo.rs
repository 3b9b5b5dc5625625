//! `runnel demo`: everything in one process with a simulated shop.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Args;
use runnel_chassis::{
    Clock,
    clock::Stopwatch,
    seal::{hex, random},
    serve::{ServeOptions, asked_to_stop, listen, serve},
};
use runnel_client::Client;
use runnel_contracts::proto::{
    event::v1::{Event, Value, value::Kind},
    funnel::v1::{BreakDown, FunnelDefinition, QueryFunnelRequest, Step, query_funnel_request},
    query::v1::{EventMatch, Selector, selector::Column},
};
use runnel_model::TenantName;
use runnel_simulate::{Config, Delivery, FUNNEL, FUNNEL_WINDOW_MS, Shop};
use runnel_storage::KeyKind;

use crate::{
    command::Output,
    json,
    node::{Node, NodeOptions},
    render,
    target::{Wire, over},
};

/// Options of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Print and exit instead of staying up.
    #[arg(long)]
    once: bool,
    /// Go on with more visitors from now on, six hundred times as fast as real ones, so that `runnel watch` has something to show.
    #[arg(long, conflicts_with = "once")]
    live: bool,
    /// How many visitors to simulate; each has about ten events.
    #[arg(long, default_value = "20000", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    visitors: u64,
    /// Another seed is another shop.
    #[arg(long, default_value = "7")]
    seed: u64,
    /// Where to listen. Port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Keep the data in this folder. Default: a temporary one that is removed at the end.
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

/// The days that the simulated shop spans, up to today.
const DAYS: u32 = 28;
const DAY_MS: i64 = 86_400_000;
/// Events in one append.
const BATCH: usize = 5_000;

/// Loads the shop, shows its funnel, and stays up.
pub(crate) async fn run(args: DemoArgs, output: Output) -> anyhow::Result<()> {
    let temporary = match &args.data_dir {
        Some(_) => None,
        None => Some(std::env::temp_dir().join(format!("runnel-demo-{}", hex(&random::<6>()?)))),
    };
    let dir = args.data_dir.clone().or_else(|| temporary.clone()).unwrap_or_default();
    let result = show(&args, &dir, output).await;
    if let Some(dir) = temporary {
        drop(std::fs::remove_dir_all(dir));
    }
    result
}

async fn show(args: &DemoArgs, dir: &std::path::Path, output: Output) -> anyhow::Result<()> {
    let listener = listen(args.listen).await?;
    let address = listener.local_addr()?;
    let node =
        Node::open(dir, NodeOptions { reflection: true, ..NodeOptions::default() }, Clock::default()).await?;
    let tenant = TenantName::parse("demo")?;
    node.ensure_tenant(&tenant).await?;
    let client = over(node.trusted(&tenant))?;
    let today = node.clock().now_ms().div_euclid(DAY_MS) * DAY_MS;
    let config = Config {
        start_ms: today - i64::from(DAYS) * DAY_MS,
        days: DAYS,
        ..Config::shop(args.seed, args.visitors)
    };
    let watch = Stopwatch::start();
    let sent = load(&client, config).await?;
    let loading = watch.elapsed();
    let watch = Stopwatch::start();
    let answer = client.funnel().query_funnel(question()).await?.into_inner();
    let asking = watch.elapsed();
    if output == Output::Json {
        render::print(json::to_json("runnel.funnel.v1.QueryFunnelResponse", &answer)?);
    } else {
        let (count, visitors) = (render::thousands(sent), render::thousands(args.visitors));
        render::print(format!(
            "SIMULATED DATA: a made-up shop with {visitors} visitors over {DAYS} days (seed {}).\n\
             {count} events sent over gRPC, journaled and acknowledged in {loading:.1?}; the funnel below, from cold, took {asking:.1?}.\n",
            args.seed
        ));
        render::print(render::funnel(&answer));
    }
    if !args.once {
        let more = args.live.then(|| Config::shop(args.seed.wrapping_add(1), args.visitors));
        let replaying = more.map(|shop| tokio::spawn(replay(client.clone(), node.clock().clone(), shop)));
        stay(args, &node, &tenant, address, listener).await?;
        if let Some(replaying) = replaying {
            replaying.abort();
        }
    }
    drop(client);
    node.close().await;
    Ok(())
}

async fn stay(
    args: &DemoArgs,
    node: &Node,
    tenant: &TenantName,
    address: SocketAddr,
    listener: tokio::net::TcpListener,
) -> anyhow::Result<()> {
    let key = |kind| node.keys().create(tenant, kind, "demo", None, node.clock().now_ms());
    let stop = asked_to_stop();
    let (read, _) = key(KeyKind::Read).await?;
    let (write, _) = key(KeyKind::Write).await?;
    let steps = FUNNEL.map(|name| name.as_str()).join(",");
    let watch = match args.live {
        true => format!(
            "  runnel watch funnel --steps {steps} --window 5m --from {}\n  \
             runnel watch segment --after add_to_cart --without purchase --for 3s\n\n",
            node.clock().now_ms()
        ),
        false => "\n".to_owned(),
    };
    render::print(format!(
        "\nServing on {address}. Ask the same over gRPC from another terminal:\n\n  \
         export RUNNEL_ENDPOINT=http://{address} RUNNEL_KEY={}\n  \
         runnel ask funnel --steps {steps} --window 7d --by channel\n  \
         runnel ask funnel --steps view_item,purchase --window 24h --trend day\n  \
         runnel catalog events\n\
         {watch}\
         Send events with the key {}\nStop with Ctrl-C.",
        read.reveal(),
        write.reveal()
    ));
    let ending = node.end_watching_when_stopping();
    let served = serve(listener, node.edge(), ServeOptions::default(), stop).await;
    ending.abort();
    Ok(served?)
}

/// Sends the shop's events as they would arrive: some late, some twice.
async fn load(client: &Client<Wire>, config: Config) -> anyhow::Result<u64> {
    let bar = indicatif::ProgressBar::new_spinner().with_message("sending simulated events");
    let (batches, mut ready) = tokio::sync::mpsc::channel::<Vec<Event>>(4);
    let making = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        let shop = Shop::new(config)?;
        let mut batch = Vec::with_capacity(BATCH);
        for delivery in shop.deliveries() {
            batch.push(event(&delivery));
            if batch.len() == BATCH && batches.blocking_send(std::mem::take(&mut batch)).is_err() {
                return Ok(());
            }
        }
        if !batch.is_empty() {
            drop(batches.blocking_send(batch));
        }
        Ok(())
    });
    let mut sent = 0;
    while let Some(batch) = ready.recv().await {
        sent += batch.len() as u64;
        client.append(batch, None).await.context("the simulated events were not taken")?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    making.await??;
    Ok(sent)
}

/// How many times as fast as real visitors those of the demo are that come from now on.
const SPEED: i64 = 600;
/// How often what happened is sent.
const PACE: Duration = Duration::from_millis(100);

/// Sends a shop's events as they happen, from now on. Stops with the server.
async fn replay(client: Client<Wire>, clock: Clock, shop: Config) -> anyhow::Result<()> {
    let (deliveries, mut ready) = tokio::sync::mpsc::channel::<Delivery>(BATCH);
    let start_ms = shop.start_ms;
    let making = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        let shop = Shop::new(shop)?;
        for delivery in shop.deliveries() {
            if deliveries.blocking_send(delivery).is_err() {
                break;
            }
        }
        Ok(())
    });
    let begun_ms = clock.now_ms();
    let at = |simulated_ms: i64| begun_ms + (simulated_ms - start_ms) / SPEED;
    let mut waiting = ready.recv().await;
    while waiting.is_some() {
        tokio::time::sleep(PACE).await;
        let mut batch = Vec::new();
        while let Some(delivery) = waiting.take_if(|next| at(next.arrived_ms) <= clock.now_ms()) {
            let event = event(&delivery);
            let (visitor_id, time_ms) = (format!("now-{}", event.visitor_id), event.time_ms.map(at));
            batch.push(Event { visitor_id, time_ms, ..event });
            waiting = match ready.try_recv() {
                Ok(next) => Some(next),
                Err(_) => ready.recv().await,
            };
            if batch.len() == BATCH {
                break;
            }
        }
        if !batch.is_empty() {
            client.append(batch, None).await?;
        }
    }
    making.await?
}

fn event(delivery: &Delivery) -> Event {
    let event = &delivery.event;
    let property = |(name, value): (runnel_simulate::Property, runnel_simulate::Value)| {
        let kind = match value {
            runnel_simulate::Value::Int(number) => Kind::IntValue(number),
            runnel_simulate::Value::Bool(truth) => Kind::BoolValue(truth),
            number if !number.is_text() => Kind::DoubleValue(number.as_f64().unwrap_or_default()),
            text => Kind::StringValue(text.to_string()),
        };
        (name.as_str().to_owned(), Value { kind: Some(kind) })
    };
    Event {
        event_id: event.event_id().to_string(),
        visitor_id: event.visitor.to_string(),
        time_ms: Some(event.time_ms),
        name: event.name.as_str().to_owned(),
        sequence: event.sequence().map(i64::from),
        properties: event.properties().into_iter().map(property).collect(),
        ..Event::default()
    }
}

fn question() -> QueryFunnelRequest {
    let step = |name: runnel_simulate::Name| Step {
        any_of: vec![EventMatch { event: name.as_str().to_owned(), ..EventMatch::default() }],
        ..Step::default()
    };
    let definition = FunnelDefinition {
        steps: FUNNEL.map(step).into(),
        window_ms: Some(FUNNEL_WINDOW_MS),
        ..FunnelDefinition::default()
    };
    let channel = Selector { column: Some(Column::Property("channel".to_owned())) };
    QueryFunnelRequest {
        funnel: Some(query_funnel_request::Funnel::Inline(definition)),
        break_down: Some(BreakDown { column: Some(channel), ..BreakDown::default() }),
        ..QueryFunnelRequest::default()
    }
}
