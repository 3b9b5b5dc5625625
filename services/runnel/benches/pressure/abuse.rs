//! Peers that take nothing, and messages that are larger than they look.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use runnel_chassis::clock::Stopwatch;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use crate::{World, load::quantile};

const APPEND: &str = "/runnel.ingest.v1.IngestService/Append";
const NAMES: &str = "/runnel.catalog.v1.CatalogService/ListEventNames";

pub(crate) async fn run(seconds: f64) {
    let world = World::start(false, &[]).await;
    bombs(&world).await;
    stalled(&world, if seconds > 5.0 { 1_000 } else { 50 }).await;
}

async fn connect(
    world: &World,
    window: u32,
) -> (h2::client::SendRequest<Bytes>, tokio::task::JoinHandle<()>) {
    let address = world.deployment.endpoint.trim_start_matches("http://");
    let stream = TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window);
    let (sender, connection) = builder.handshake(stream).await.unwrap();
    (sender, tokio::spawn(async move { drop(connection.await) }))
}

fn request(world: &World, path: &str, key: &str, encoding: Option<&'static str>) -> Request<()> {
    let mut request = Request::post(format!("{}{path}", world.deployment.endpoint));
    for (name, value) in [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("authorization", &format!("Bearer {key}")),
    ] {
        request = request.header(name, value);
    }
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    request.body(()).unwrap()
}

fn framed(flag: u8, length: usize, message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.len() + 5);
    bytes.put_u8(flag);
    bytes.put_u32(length as u32);
    bytes.put(message);
    bytes.freeze()
}

/// A kind of bomb: what it is, its encoding, its bytes, whether the body ends.
type Bomb = (&'static str, Option<&'static str>, Bytes, bool);

async fn bombs(world: &World) {
    let zeros = vec![0; 100 << 20];
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    let (packed, zstd) = (gzip(&zeros), zstd::bulk::compress(&zeros, 3).unwrap());
    // Empty events: two bytes each on the wire, hundreds in memory.
    let empty = gzip(&[0x12, 0x00].repeat(2_000_000));
    let bombs: [Bomb; 5] = [
        ("100 MiB that are only announced", None, framed(0, 100 << 20, &[]), false),
        ("100 MiB of zeros in gzip", Some("gzip"), framed(1, packed.len(), &packed), true),
        ("100 MiB of zeros in zstd", Some("zstd"), framed(1, zstd.len(), &zstd), true),
        ("2,000,000 empty events in gzip", Some("gzip"), framed(1, empty.len(), &empty), true),
        ("1 MiB announced, nothing sent", None, framed(0, 1 << 20, &[]), false),
    ];
    for bomb in bombs {
        let before = world.resident("gateway");
        // The last one is given up after 10 s, alone as well.
        let mut alone = Vec::new();
        for _ in 0..if bomb.3 { 20 } else { 1 } {
            alone.extend(blow(world, &bomb, 1).await.0);
        }
        let (mut took, answered, most) = blow(world, &bomb, 100).await;
        println!(
            "a bomb               {}: alone p99 {:.1} ms; {answered} of 100 at a time refused, p50 {:.0} ms, p99 {:.0} ms, {:+.0} MiB",
            bomb.0,
            quantile(&mut alone, 0.99),
            quantile(&mut took, 0.5),
            quantile(&mut took, 0.99),
            most - before
        );
    }
}

/// So many of a kind at a time: how long each took, how many were answered, and the most megabytes that the gateway had meanwhile.
async fn blow(world: &World, (_, encoding, bytes, ends): &Bomb, many: usize) -> (Vec<Duration>, u32, f64) {
    let (sender, _connection) = connect(world, 65_535).await;
    let mut calls = JoinSet::new();
    for _ in 0..many {
        let request = request(world, APPEND, &world.write, *encoding);
        let (sender, bytes, ends) = (sender.clone(), bytes.clone(), *ends);
        calls.spawn(async move {
            let mut sender = sender.ready().await.unwrap();
            let took = Stopwatch::start();
            let (response, mut stream) = sender.send_request(request, false).unwrap();
            drop(stream.send_data(bytes, ends));
            let answered = timeout(Duration::from_secs(20), response).await;
            (took.elapsed(), answered.is_ok())
        });
    }
    let (mut took, mut answered, mut most) = (Vec::new(), 0, 0f64);
    while let Some(done) = calls.join_next().await {
        let (elapsed, was_answered) = done.unwrap();
        took.push(elapsed);
        answered += u32::from(was_answered);
        most = world.resident("gateway").max(most);
    }
    (took, answered, most)
}

async fn stalled(world: &World, readers: usize) {
    let before = world.resident("gateway");
    let (mut connections, mut refused) = (Vec::new(), 0);
    for _ in 0..readers {
        // A window that takes no byte of any answer.
        let (sender, connection) = connect(world, 0).await;
        let mut sender = sender.ready().await.unwrap();
        let request = request(world, NAMES, &world.read, None);
        let (response, mut stream) = sender.send_request(request, false).unwrap();
        drop(stream.send_data(framed(0, 0, &[]), true));
        // Those for whom there is no room are told so at once, and wait for nothing.
        let answer = response.await.unwrap();
        match answer.headers().contains_key("grpc-status") {
            true => refused += 1,
            false => connections.push((connection, answer, sender)),
        }
    }
    let watch = Stopwatch::start();
    let mut most = world.resident("gateway");
    while connections.iter().any(|(connection, ..)| !connection.is_finished())
        && watch.elapsed() < Duration::from_secs(90)
    {
        tokio::time::sleep(Duration::from_millis(100)).await;
        most = world.resident("gateway").max(most);
    }
    let left = connections.iter().filter(|(connection, ..)| !connection.is_finished()).count();
    println!(
        "stalled readers      {readers}: {refused} refused at once, {} answered, {:+.0} MiB; all of these but {left} closed after {:.0} s",
        connections.len(),
        most - before,
        watch.elapsed().as_secs_f64()
    );
}
