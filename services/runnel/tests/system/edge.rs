//! The edge under callers who do what no client library does. Each case is run against a socket and against the same services in this process: the answers are the same.

use std::{future::Future, path::Path, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use runnel::node::{Node, NodeOptions};
use runnel_chassis::{Clock, Upstream, serve};
use runnel_client::{
    Client,
    proto::{
        event::v1::Event,
        funnel::v1::{FunnelDefinition, QueryFunnelRequest, Step, query_funnel_request::Funnel},
        ingest::v1::{
            AppendRequest, AppendResponse, AppendStreamRequest, AppendStreamResponse,
            append_stream_request::{Batch, Message as Asked, Open},
            append_stream_response::Message as Answered,
        },
    },
};
use runnel_gateway::{Allowances, EdgeOptions, Origins};
use runnel_model::TenantName;
use runnel_storage::KeyKind;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt;

const APPEND: &str = "/runnel.ingest.v1.IngestService/Append";
const STREAM: &str = "/runnel.ingest.v1.IngestService/AppendStream";
const QUERY: &str = "/runnel.funnel.v1.FunnelService/QueryFunnel";

/// What came back.
#[derive(Debug)]
struct Answer {
    http: StatusCode,
    headers: HeaderMap,
    status: Option<Status>,
    data: Bytes,
}

impl Answer {
    fn code(&self) -> Option<Code> {
        self.status.as_ref().map(Status::code)
    }

    fn reason(&self) -> String {
        let details = self.status.as_ref().and_then(StatusExt::get_details_error_info);
        details.map(|info| info.reason).unwrap_or_default()
    }

    fn wait(&self) -> Option<Duration> {
        self.status.as_ref().and_then(StatusExt::get_details_retry_info).and_then(|retry| retry.retry_delay)
    }
}

/// What is wrong, with which method, further headers, pieces of the body, and the reason for which it is refused.
type Case<'a> = (&'a str, &'a str, Vec<(&'static str, &'a str)>, Vec<Bytes>, &'a str);

/// Where calls go.
enum Target {
    Process(Upstream),
    Socket(h2::client::SendRequest<Bytes>),
}

impl Target {
    /// Sends a request whose body is these pieces, and then ends or, when `open`, says nothing more.
    async fn call(&self, request: Request<()>, pieces: Vec<Bytes>, open: bool) -> Answer {
        match self {
            Target::Process(edge) => {
                let pieces = tokio_stream::iter(pieces).map_ok();
                let frames: Box<dyn tokio_stream::Stream<Item = _> + Send + Unpin> = if open {
                    Box::new(tokio_stream::StreamExt::merge(pieces, tokio_stream::pending()))
                } else {
                    Box::new(pieces)
                };
                let response = edge.answer(request.map(|()| Body::new(StreamBody::new(frames)))).await;
                let (parts, body) = response.into_parts();
                let collected = body.collect().await.unwrap();
                let trailers = collected.trailers().cloned();
                answer(parts.status, parts.headers, trailers, collected.to_bytes())
            }
            Target::Socket(sender) => {
                let mut sender = sender.clone().ready().await.unwrap();
                let (response, mut stream) = sender.send_request(request, false).unwrap();
                let sending = async {
                    for piece in pieces {
                        if send(&mut stream, piece).await.is_err() {
                            return;
                        }
                    }
                    if open {
                        std::future::pending::<()>().await;
                    }
                    drop(stream.send_data(Bytes::new(), true));
                };
                let receiving = async {
                    let (parts, mut body) = response.await.unwrap().into_parts();
                    let mut data = BytesMut::new();
                    while let Some(Ok(piece)) = body.data().await {
                        drop(body.flow_control().release_capacity(piece.len()));
                        data.put(piece);
                    }
                    let trailers = body.trailers().await.ok().flatten();
                    answer(parts.status, parts.headers, trailers, data.freeze())
                };
                tokio::pin!(sending, receiving);
                tokio::select! {
                    answer = &mut receiving => answer,
                    () = &mut sending => receiving.await,
                }
            }
        }
    }
}

/// Sends as much as the peer takes.
async fn send(stream: &mut h2::SendStream<Bytes>, mut piece: Bytes) -> Result<(), h2::Error> {
    while !piece.is_empty() {
        stream.reserve_capacity(piece.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.ok_or(h2::Reason::CANCEL)??;
        let part = piece.split_to(room.min(piece.len()));
        stream.send_data(part, false)?;
    }
    Ok(())
}

fn answer(http: StatusCode, headers: HeaderMap, trailers: Option<HeaderMap>, data: Bytes) -> Answer {
    let status = Status::from_header_map(&headers).or_else(|| Status::from_header_map(&trailers?));
    Answer { http, headers, status, data }
}

/// Pieces as frames of a body.
trait Frames: tokio_stream::Stream<Item = Bytes> + Sized {
    fn map_ok(self) -> impl tokio_stream::Stream<Item = Result<Frame<Bytes>, Status>> + Unpin
    where
        Self: Unpin,
    {
        tokio_stream::StreamExt::map(self, |piece| Ok(Frame::data(piece)))
    }
}

impl<S: tokio_stream::Stream<Item = Bytes>> Frames for S {}

/// A node with a tenant, in this process and behind a socket.
struct World {
    node: Node,
    address: std::net::SocketAddr,
    write: String,
    read: String,
    other: String,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start(edge: EdgeOptions) -> World {
        let folder = tempfile::tempdir().unwrap();
        let browsers = edge.origins.any();
        let options = NodeOptions { edge, ..NodeOptions::default() };
        let node = Node::open(folder.path(), options, Clock::default()).await.unwrap();
        let mut keys = Vec::new();
        for (name, kind) in [("shop", KeyKind::Write), ("shop", KeyKind::Read), ("other", KeyKind::Write)] {
            let tenant = TenantName::parse(name).unwrap();
            node.ensure_tenant(&tenant).await.unwrap();
            let made = node.keys().create(&tenant, kind, "", None, node.clock().now_ms()).await.unwrap();
            keys.push(made.0.reveal().to_owned());
        }
        let listener = serve::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let options = serve::ServeOptions { browsers, ..Default::default() };
        tokio::spawn(serve::serve(listener, node.edge(), options, std::future::pending()));
        let [write, read, other] = keys.try_into().unwrap();
        World { node, address, write, read, other, _folder: folder }
    }

    async fn socket(&self) -> Target {
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Target::Socket(sender)
    }

    async fn targets(&self) -> [(&'static str, Target); 2] {
        [("in process", Target::Process(self.node.edge())), ("by socket", self.socket().await)]
    }

    fn request(&self, path: &str, key: &str, headers: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::post(format!("http://{}{path}", self.address)).body(()).unwrap();
        let bearer = format!("Bearer {key}");
        let standard = [("content-type", "application/grpc"), ("te", "trailers"), ("authorization", &bearer)];
        for (name, value) in standard.iter().chain(headers) {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        request
    }
}

/// A message with its prefix.
fn framed(flag: u8, message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.len() + 5);
    bytes.put_u8(flag);
    bytes.put_u32(message.len() as u32);
    bytes.put(message);
    bytes.freeze()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn events(count: usize, from: usize) -> Vec<Event> {
    let event = |at| Event {
        visitor_id: format!("v{at}"),
        name: "a".into(),
        time_ms: Some(1_700_000_000_000),
        event_id: format!("e{at}"),
        ..Event::default()
    };
    (from..from + count).map(event).collect()
}

fn batch(count: usize, from: usize) -> Vec<u8> {
    AppendRequest { events: events(count, from), ..AppendRequest::default() }.encode_to_vec()
}

fn accepted(answer: &Answer) -> u32 {
    assert_eq!(answer.code(), Some(Code::Ok), "{answer:?}");
    AppendResponse::decode(&answer.data[5..]).unwrap().accepted
}

#[tokio::test(flavor = "multi_thread")]
async fn only_grpc_comes_in() {
    let world = World::start(EdgeOptions::default()).await;
    let body = || vec![framed(0, &batch(1, 0))];
    for (place, target) in world.targets().await {
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json",
            "application/grpc-web+proto",
        ] {
            let request = world.request(APPEND, &world.write, &[("content-type", kind)]);
            let answer = target.call(request, body(), false).await;
            assert_eq!(
                (answer.http, answer.code()),
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, None),
                "{place} {kind}"
            );
        }
        let request = world.request(APPEND, &world.write, &[("origin", "https://evil.example")]);
        let answer = target.call(request, body(), false).await;
        assert_eq!(answer.http, StatusCode::FORBIDDEN, "{place}");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
        let request = world.request("/runnel.ingest.v1.IngestService/Nothing", &world.write, &[]);
        assert_eq!(target.call(request, body(), false).await.code(), Some(Code::Unimplemented), "{place}");
        let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        let answer = target.call(world.request(reflection, "", &[]), vec![], false).await;
        assert_eq!(answer.code(), Some(Code::Unimplemented), "{place}");
        let answer = target.call(world.request(APPEND, &world.write, &[]), body(), false).await;
        assert_eq!(accepted(&answer), 1, "{place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_bounded_before_they_are_decoded() {
    let world = World::start(EdgeOptions::default()).await;
    let empties = vec![[0x12, 0]; 2_000_000].concat();
    let steps = FunnelDefinition { steps: vec![Step::default(); 100_000], ..FunnelDefinition::default() };
    let query = QueryFunnelRequest { funnel: Some(Funnel::Inline(steps)), ..QueryFunnelRequest::default() };
    let mut declared = BytesMut::from(&[0][..]);
    declared.put_u32(100_000_000);
    let zeros = vec![0; 100 << 20];
    let (zipped, squeezed) = (gzip(&zeros), zstd::encode_all(&zeros[..], 3).unwrap());
    assert!(zipped.len() < 200_000 && squeezed.len() < 20_000);
    let (gzip_on, zstd_on) = (("grpc-encoding", "gzip"), ("grpc-encoding", "zstd"));
    let small = framed(0, &batch(1, 0));
    let cases: Vec<Case<'_>> = vec![
        ("a length of 100 MB", APPEND, vec![], vec![declared.freeze()], "MESSAGE_TOO_LARGE"),
        ("a gzip bomb", APPEND, vec![gzip_on], vec![framed(1, &zipped)], "MESSAGE_TOO_LARGE"),
        ("a zstd bomb", APPEND, vec![zstd_on], vec![framed(1, &squeezed)], "MESSAGE_TOO_LARGE"),
        ("a bomb of events", APPEND, vec![], vec![framed(0, &empties)], "BATCH_TOO_LONG"),
        ("a gzip bomb of events", APPEND, vec![gzip_on], vec![framed(1, &gzip(&empties))], "BATCH_TOO_LONG"),
        ("a bomb of steps", QUERY, vec![], vec![framed(0, &query.encode_to_vec())], "ELEMENTS_TOO_MANY"),
        (
            "an unknown encoding",
            APPEND,
            vec![("grpc-encoding", "br")],
            vec![small.clone()],
            "ENCODING_UNSUPPORTED",
        ),
        ("damaged gzip", APPEND, vec![gzip_on], vec![framed(1, b"nonsense")], "ENCODING_UNSUPPORTED"),
        ("gzip that nobody announced", APPEND, vec![], vec![framed(1, &zipped)], "MESSAGE_MALFORMED"),
        ("a strange flag", APPEND, vec![], vec![framed(7, b"")], "MESSAGE_MALFORMED"),
        ("no message", APPEND, vec![], vec![], "MESSAGE_MALFORMED"),
        ("two messages", APPEND, vec![], vec![small.clone(), small.clone()], "MESSAGE_MALFORMED"),
        ("a message cut short", APPEND, vec![], vec![small.slice(..small.len() - 1)], "MESSAGE_MALFORMED"),
        ("a message that is none", APPEND, vec![], vec![framed(0, &[0x0a, 0xff])], "MESSAGE_MALFORMED"),
        ("no time", APPEND, vec![("grpc-timeout", "1n")], vec![small.clone()], "DEADLINE_PASSED"),
    ];
    for (place, target) in world.targets().await {
        for (what, path, headers, pieces, reason) in &cases {
            let key = if *path == QUERY { &world.read } else { &world.write };
            let answer = target.call(world.request(path, key, headers), pieces.clone(), false).await;
            assert_eq!(answer.reason(), *reason, "{what}, {place}: {answer:?}");
        }
        // The connection goes on; a message in many small pieces, or compressed, is as good as any.
        let crumbs = small.chunks(7).map(Bytes::copy_from_slice).collect();
        let answer = target.call(world.request(APPEND, &world.write, &[]), crumbs, false).await;
        assert_eq!(accepted(&answer), 1, "{place}");
        for (header, bytes) in
            [(gzip_on, gzip(&batch(500, 0))), (zstd_on, zstd::encode_all(&batch(500, 0)[..], 3).unwrap())]
        {
            let request = world.request(APPEND, &world.write, &[header]);
            assert_eq!(accepted(&target.call(request, vec![framed(1, &bytes)], false).await), 500, "{place}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded_message_by_message() {
    let world = World::start(EdgeOptions::default()).await;
    let message = |message| framed(0, &AppendStreamRequest { message: Some(message) }.encode_to_vec());
    let open = message(Asked::Open(Open { stream_id: "s".into() }));
    let batch = |sequence, count| message(Asked::Batch(Batch { sequence, events: events(count, 0) }));
    for (place, target) in world.targets().await {
        let request = || world.request(STREAM, &world.write, &[]);
        let good = vec![open.clone(), batch(1, 10), batch(2, 10)];
        let answer = target.call(request(), good.clone(), false).await;
        assert_eq!(answer.code(), Some(Code::Ok), "{place}: {answer:?}");
        let bad = [good.clone(), vec![batch(3, 10_001)]].concat();
        let answer = target.call(request(), bad, false).await;
        assert_eq!(
            (answer.code(), answer.reason().as_str()),
            (Some(Code::InvalidArgument), "BATCH_TOO_LONG"),
            "{place}"
        );
        let huge = [good, vec![Bytes::from_static(&[0, 0xff, 0, 0, 0])]].concat();
        assert_eq!(target.call(request(), huge, true).await.reason(), "MESSAGE_TOO_LARGE", "{place}");
    }
}

/// A stream that was opened and sent one batch, whose client goes on saying nothing until it is told what to send.
async fn idle_stream(
    world: &World,
    id: &str,
    events: Vec<Event>,
) -> (mpsc::Sender<AppendStreamRequest>, tonic::Streaming<AppendStreamResponse>) {
    let (say, said) = mpsc::channel(4);
    let client = Client::connect(&format!("http://{}", world.address), &world.write).await.unwrap();
    let open = Asked::Open(Open { stream_id: id.to_owned() });
    for message in [open, Asked::Batch(Batch { sequence: 1, events })] {
        say.send(AppendStreamRequest { message: Some(message) }).await.unwrap();
    }
    let answers = client.ingest().append_stream(ReceiverStream::new(said)).await.unwrap();
    let mut answers = answers.into_inner();
    answers.message().await.unwrap().unwrap();
    let Some(Answered::Ack(_)) = answers.message().await.unwrap().unwrap().message else { panic!("no ack") };
    (say, answers)
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_wait_take_no_room_and_strangers_little() {
    let world = World::start(EdgeOptions { room_bytes: 1 << 20, ..EdgeOptions::default() }).await;
    let mut streams = Vec::new();
    for number in 0..8 {
        streams.push(idle_stream(&world, &format!("s{number}"), events(5_000, 5_000 * number)).await);
    }
    for (place, target) in world.targets().await {
        let append =
            target.call(world.request(APPEND, &world.write, &[]), vec![framed(0, &batch(9_000, 0))], false);
        assert_eq!(accepted(&append.await), 9_000, "{place}");
        let check = world.request("/grpc.health.v1.Health/Check", "", &[]);
        let answer = target.call(check, vec![framed(0, &[0; 5_000])], false).await;
        assert_eq!(answer.reason(), "MESSAGE_TOO_LARGE", "{place}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_held_back_sends_little_ahead() {
    let allowances = Allowances { events: 1, ..Allowances::default() };
    let world = World::start(EdgeOptions { allowances, ..EdgeOptions::default() }).await;
    let Target::Socket(mut sender) = world.socket().await else { unreachable!() };
    let (_response, mut body) = sender.send_request(world.request(STREAM, &world.write, &[]), false).unwrap();
    let message = |message| framed(0, &AppendStreamRequest { message: Some(message) }.encode_to_vec());
    send(&mut body, message(Asked::Open(Open { stream_id: "s".into() }))).await.unwrap();
    // The first batch is what the tenant may send at once. For the second one it has to wait, so nothing behind that is read.
    for sequence in [1, 2] {
        let batch = Batch { sequence, events: events(10_000, 10_000 * sequence as usize) };
        send(&mut body, message(Asked::Batch(batch))).await.unwrap();
    }
    let mut ahead = 0;
    let more = Bytes::from_static(&[0; 16 << 10]);
    while let Ok(sent) = tokio::time::timeout(Duration::from_secs(2), send(&mut body, more.clone())).await {
        sent.unwrap();
        ahead += more.len();
        assert!(ahead <= 640 << 10, "{ahead} bytes lie in the server's memory");
    }
    assert!(ahead > 0);
    // Another call on the same connection is answered.
    let socket = Target::Socket(sender);
    let answer = socket.call(world.request(APPEND, &world.other, &[]), vec![framed(0, &batch(1, 0))], false);
    assert_eq!(accepted(&answer.await), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_key_is_revoked() {
    let world = World::start(EdgeOptions::default()).await;
    let (say, mut answers) = idle_stream(&world, "s", events(1, 0)).await;
    let id = world.write.split('_').nth(2).unwrap();
    let shop = TenantName::parse("shop").unwrap();
    world.node.keys().revoke(&shop, id, world.node.clock().now_ms()).await.unwrap().unwrap();
    let ended = async {
        for sequence in 2.. {
            let batch = Asked::Batch(Batch { sequence, events: events(1, sequence as usize) });
            let sent = say.send(AppendStreamRequest { message: Some(batch) }).await;
            match answers.message().await {
                Ok(Some(_)) if sent.is_ok() => tokio::time::sleep(Duration::from_millis(500)).await,
                Ok(_) => panic!("the stream ended well"),
                Err(status) => return status,
            }
        }
        unreachable!("batches have no end")
    };
    let status = tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap();
    assert_eq!(status.get_details_error_info().unwrap().reason, "KEY_INVALID", "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stalls_is_cut_off() {
    let world = World::start(EdgeOptions::default()).await;
    let mut declared = BytesMut::from(&[0][..]);
    declared.put_u32(1_000_000);
    let declared = declared.freeze();
    let [process, socket] = world.targets().await;
    let stalled = |target: Target| {
        let (request, declared) = (world.request(APPEND, &world.write, &[]), declared.clone());
        async move { target.call(request, vec![declared], true).await.reason() }
    };
    let silent = async {
        let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
        // The server greets, and hears nothing.
        stream.read_to_end(&mut Vec::new()).await
    };
    let patience = Duration::from_secs(40);
    let (process, socket, silent) =
        tokio::time::timeout(patience, async { tokio::join!(stalled(process.1), stalled(socket.1), silent) })
            .await
            .unwrap();
    assert_eq!((process.as_str(), socket.as_str()), ("REQUEST_STALLED", "REQUEST_STALLED"));
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_nothing_loses_the_connection() {
    let world = World::start(EdgeOptions::default()).await;
    let stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let (response, mut body) = sender.send_request(world.request(STREAM, &world.write, &[]), false).unwrap();
    let message = |message| framed(0, &AppendStreamRequest { message: Some(message) }.encode_to_vec());
    let wrong = Event { name: "a".into(), ..Event::default() };
    send(&mut body, message(Asked::Open(Open { stream_id: "s".into() }))).await.unwrap();
    // Each event without a visitor is told about: more than the client's closed window takes.
    let refused = Batch { sequence: 1, events: vec![wrong; 10_000] };
    send(&mut body, message(Asked::Batch(refused))).await.unwrap();
    let _unread = response.await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), connection).await;
    assert!(ended.is_ok(), "the connection is still open");
    // Others never noticed.
    let socket = world.socket().await;
    let answer = socket.call(world.request(APPEND, &world.write, &[]), vec![framed(0, &batch(1, 0))], false);
    assert_eq!(accepted(&answer.await), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tenant_has_its_own_budget() {
    let allowances = Allowances { events: 200, ..Allowances::default() };
    let world = World::start(EdgeOptions { allowances, ..EdgeOptions::default() }).await;
    for (place, target) in world.targets().await {
        let append = |key: &str| {
            target.call(world.request(APPEND, key, &[]), vec![framed(0, &batch(5_000, 0))], false)
        };
        let mut wait = None;
        for _ in 0..4 {
            let answer = append(&world.write).await;
            if answer.reason() == "RATE_LIMITED" {
                wait = answer.wait();
            }
        }
        // 5,000 events at 200 a second: the next batch fits after seconds, and the answer says after how many.
        let wait = wait.unwrap_or_else(|| panic!("nothing was refused {place}"));
        assert!(wait > Duration::from_millis(100) && wait <= Duration::from_secs(60), "{place}: {wait:?}");
    }
    let socket = world.socket().await;
    let answer =
        socket.call(world.request(APPEND, &world.other, &[]), vec![framed(0, &batch(5_000, 0))], false);
    assert_eq!(accepted(&answer.await), 5_000);
}

/// Says something over HTTP/1.1, as a browser would, and hears what comes back.
fn browser(
    address: std::net::SocketAddr,
    method: &str,
    headers: &str,
    body: Vec<u8>,
) -> impl Future<Output = String> + use<> {
    let head = format!(
        "{method} {APPEND} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    async move {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).to_lowercase()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_call_from_named_origins_only() {
    let origins = Origins::parse(["https://console.example"]).unwrap();
    let world = World::start(EdgeOptions { origins, ..EdgeOptions::default() }).await;
    let with = |origin: &str, kind: &str| {
        format!("origin: {origin}\r\ncontent-type: {kind}\r\nauthorization: Bearer {}\r\n", world.write)
    };
    let call = |origin: &str, kind: &str| {
        browser(world.address, "POST", &with(origin, kind), framed(0, &batch(3, 0)).to_vec())
    };
    let answer = call("https://console.example", "application/grpc-web+proto").await;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    assert!(answer.contains("access-control-allow-origin: https://console.example"), "{answer}");
    assert!(answer.contains("grpc-status:0"), "{answer}");
    let preflight = browser(world.address, "OPTIONS", "origin: https://console.example\r\n", vec![]).await;
    assert!(
        preflight.starts_with("http/1.1 204") && preflight.contains("access-control-allow-methods: post"),
        "{preflight}"
    );
    for origin in ["https://evil.example", "null", "https://console.example.evil", "http://console.example"] {
        for method in ["POST", "OPTIONS"] {
            let answer =
                browser(world.address, method, &with(origin, "application/grpc-web+proto"), vec![]).await;
            assert!(answer.starts_with("http/1.1 403"), "{origin}: {answer}");
            assert!(!answer.contains("access-control"), "{origin}: {answer}");
        }
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        assert!(call("https://console.example", kind).await.starts_with("http/1.1 415"), "{kind}");
    }
}

#[test]
fn mistakes_in_the_configuration_are_all_said() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let said = std::process::Command::new(env!("CARGO_BIN_EXE_runnel"))
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--allowed-origins",
            "*,https://fine.example,null",
            "--data-dir",
        ])
        .arg(Path::new(&data))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        said.contains("* is no origin") && said.contains("null is no origin") && !said.contains("fine"),
        "{said}"
    );
}
