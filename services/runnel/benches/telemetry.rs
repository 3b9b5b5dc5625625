//! What telemetry costs ingest: the same events in batches of 1,000 to two servers, of which one exports traces, metrics and logs to a collector.
//!
//! `cargo bench -p runnel --bench telemetry -- EVENTS`; small by default, so that it never rots. Rounds take turns, since a shared machine is not the same from
//! one minute to the next.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and stops at the first fault"
)]

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use runnel_chassis::{clock::Stopwatch, metrics::PROCESS_CPU};
use runnel_client::{
    Client,
    proto::{
        event::v1::{Event, Value, value::Kind},
        ingest::v1::AppendRequest,
    },
};
use runnel_harness::{Collector, Deployment, Extra, Placement, Stores};
use tonic::transport::Channel;

/// Events of a batch.
const BATCH: u64 = 1_000;
/// Batches under way at a time.
const SENDERS: u64 = 4;
/// Turns of each server.
const ROUNDS: u64 = 16;

fn main() {
    let events = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(64_000u64);
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(run(events));
}

/// A server, and what its events have cost so far.
struct Measured {
    what: &'static str,
    all: Deployment,
    client: Client<Channel>,
    wall: Duration,
    processor: f64,
}

impl Measured {
    async fn start(what: &'static str, variables: Vec<(String, String)>) -> Measured {
        let arguments = ["--ops-listen", "127.0.0.1:0"].map(str::to_owned).into();
        let extra = Extra { arguments, variables, ..Extra::default() };
        let binary = Path::new(env!("CARGO_BIN_EXE_runnel"));
        let all = Deployment::start_with(binary, Placement::Folder, Stores::default(), &extra).unwrap();
        let (write, _) = all.tenant("shop").await.unwrap();
        let client = Client::connect(&all.endpoint, &write).await.unwrap();
        Measured { what, all, client, wall: Duration::ZERO, processor: 0.0 }
    }

    /// Seconds of processor time that the server has taken.
    fn spent(&self) -> f64 {
        let mut stream = TcpStream::connect(self.all.processes["serve"].ops.as_ref().unwrap()).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(PROCESS_CPU)?.strip_prefix(' '));
        lines.next().unwrap().parse().unwrap()
    }

    async fn take(&mut self, batches: &[Vec<Bytes>]) {
        let (spent, watch) = (self.spent(), Stopwatch::start());
        let senders = batches.iter().map(|batches| {
            let (client, batches) = (self.client.clone(), batches.clone());
            tokio::spawn(async move {
                for batch in batches {
                    client.append_encoded(batch, "").await.unwrap();
                }
            })
        });
        for sender in senders.collect::<Vec<_>>() {
            sender.await.unwrap();
        }
        self.wall += watch.elapsed();
        self.processor += self.spent() - spent;
    }
}

/// The batches of a round, encoded, for each sender.
fn batches(round: u64, each: u64) -> Vec<Vec<Bytes>> {
    let value = |number: u64| Value { kind: Some(Kind::StringValue(format!("value {}", number % 97))) };
    let event = |number: u64| Event {
        event_id: format!("{number:032x}"),
        visitor_id: format!("visitor-{}", number % 50_021),
        time_ms: Some(1_700_000_000_000 + number as i64),
        name: ["view_item", "add_to_cart", "begin_checkout", "purchase"][number as usize % 4].into(),
        properties: [("channel".to_owned(), value(number)), ("plan".to_owned(), value(number / 7))].into(),
        ..Event::default()
    };
    let batch = |number: u64| {
        let events = (number * BATCH..(number + 1) * BATCH).map(event).collect();
        let request = AppendRequest { request_id: format!("batch-{number}"), events, validate_only: false };
        Bytes::from(request.encode_to_vec())
    };
    let of = |sender: u64| (0..each).map(move |number| (round * SENDERS + sender) * each + number);
    (0..SENDERS).map(|sender| of(sender).map(batch).collect()).collect()
}

async fn run(events: u64) {
    let collector = Collector::start().await.unwrap();
    let endpoint = vec![("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.endpoint.clone())];
    let mut servers =
        [Measured::start("telemetry off", Vec::new()).await, Measured::start("telemetry on", endpoint).await];
    let each = (events / (BATCH * SENDERS * ROUNDS)).max(1);
    // Once for nothing: names are claimed, files grow.
    for server in &mut servers {
        server.take(&batches(ROUNDS, 1)).await;
        (server.wall, server.processor) = (Duration::ZERO, 0.0);
    }
    for round in 0..ROUNDS {
        let batches = batches(round, each);
        // What one leaves behind to be compacted must not always be met by the other.
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for at in order {
            servers[at].take(&batches).await;
        }
    }
    let sent = (ROUNDS * SENDERS * each * BATCH) as f64;
    for server in &servers {
        println!(
            "{:<14} {:.0} ns an event of processor time, {:.0} ns until acknowledged; {sent} events in batches of {BATCH}, {SENDERS} at a time",
            server.what,
            server.processor * 1e9 / sent,
            server.wall.as_secs_f64() * 1e9 / sent
        );
    }
    println!("exported       {} spans", collector.spans().len());
}
