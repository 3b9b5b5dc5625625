//! What a server says of itself from its start to its end: alive always, ready only while calls may come, through the loss of its database and a drain.

use std::{
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use runnel_client::{
    Client,
    proto::ingest::v1::{AppendStreamRequest, append_stream_request, append_stream_request::Open},
};
use runnel_harness::{Deployment, Extra, Placement, Postgres};
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    command::runnel,
    measured::{batch, question},
    scrape::get,
    server::deployment,
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a path answers with a status.
async fn until(ops: &str, path: &str, wanted: u16) -> String {
    let asked = async {
        loop {
            let (status, body) = get(ops, path);
            if status == wanted {
                return body;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{path} is not {wanted}: {:?}", get(ops, path)))
}

async fn health(endpoint: &str) -> ServingStatus {
    let channel = Channel::from_shared(endpoint.to_owned()).unwrap().connect().await.unwrap();
    let asked = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
    asked.into_inner().status()
}

/// A process that is ended when this is dropped.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_starts_a_server_is_alive_and_not_ready() {
    // Something that accepts connections and says nothing, as a database does that is not there yet.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let ops = free.local_addr().unwrap().to_string();
    drop(free);
    let folder = tempfile::tempdir().unwrap();
    let pepper = folder.path().join("pepper");
    std::fs::write(&pepper, "5a".repeat(32)).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_runnel"))
        .args(["serve", "--listen", "127.0.0.1:0", "--ops-listen", &ops, "--pepper-file"])
        .arg(&pepper)
        .args(["--postgres", &format!("postgres://nobody@{}/none", silent.local_addr().unwrap())])
        .stdout(Stdio::null())
        .spawn();
    let _started = Started(child.unwrap());
    let listening = async {
        while TcpStream::connect(&ops).is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, listening).await.unwrap();
    assert_eq!(get(&ops, "/livez").0, 200);
    assert_eq!(get(&ops, "/startupz"), (503, "not yet or not any more: starting\n".to_owned()));
    assert_eq!(get(&ops, "/readyz").0, 503);
    assert_eq!(get(&ops, "/metrics").0, 200);
    assert_eq!(get(&ops, "/else").0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_its_database_is_alive_and_not_ready_until_it_is_back() {
    let server = Arc::new(Postgres::start("").unwrap());
    let extra = Extra {
        arguments: ["--ops-listen", "127.0.0.1:0", "--drain-delay", "1500ms"].map(str::to_owned).into(),
        ..Extra::default()
    };
    let binary = Path::new(env!("CARGO_BIN_EXE_runnel"));
    let mut all = Deployment::start_with(binary, Placement::Split, Some(server.clone()), &extra).unwrap();
    let ops = |name: &str| all.processes[name].ops.clone().unwrap();
    let (gateway, ingest, funnel) = (ops("gateway"), ops("ingest"), ops("funnel"));
    for ops in [&gateway, &ingest, &funnel, &ops("segmentation")] {
        assert_eq!(get(ops, "/livez").0, 200);
        assert_eq!(get(ops, "/startupz").0, 200);
        until(ops, "/readyz", 200).await;
    }
    let (write, read) = all.tenant("shop").await.unwrap();
    let writer = Client::connect(&all.endpoint, &write).await.unwrap();
    let reader = Client::connect(&all.endpoint, &read).await.unwrap();
    writer.append(batch(1), None).await.unwrap();
    reader.funnel().query_funnel(question()).await.unwrap();

    server.stop_at_once().unwrap();
    // Ingest always works with its database; a funnel service only when it is asked something.
    assert!(reader.funnel().query_funnel(question()).await.is_err());
    for ops in [&ingest, &funnel] {
        assert_eq!(until(ops, "/readyz", 503).await, "not yet or not any more: store\n");
        assert_eq!(get(ops, "/livez").0, 200);
        assert_eq!(get(ops, "/startupz").0, 200);
    }
    assert_eq!(get(&gateway, "/readyz").0, 200, "its upstreams answer, and it can say what is missing");
    server.start_again().unwrap();
    // Nobody asks the funnel service anything; it finds out by itself.
    for ops in [&ingest, &funnel] {
        until(ops, "/readyz", 200).await;
    }

    // A service that is gone takes none of the others away.
    let endpoint = all.endpoint.clone();
    all.processes.get_mut("funnel").unwrap().kill().unwrap();
    assert!(reader.funnel().query_funnel(question()).await.is_err());
    assert_eq!(get(&gateway, "/readyz").0, 200, "there is more than one service behind it");
    writer.append(batch(3), None).await.unwrap();
    all.processes.get_mut("funnel").unwrap().restart().unwrap();
    let found_again = async {
        while reader.funnel().query_funnel(question()).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, found_again).await.unwrap();

    assert_eq!(health(&endpoint).await, ServingStatus::Serving);
    let process = all.processes.get_mut("gateway").unwrap();
    process.signal("TERM").unwrap();
    assert_eq!(until(&gateway, "/readyz", 503).await, "not yet or not any more: draining\n");
    assert_eq!(get(&gateway, "/livez").0, 200);
    assert_eq!(health(&endpoint).await, ServingStatus::NotServing);
    writer.append(batch(2), None).await.expect("calls that still come are answered");
    assert!(process.wait().unwrap(), "it ends well");
    assert!(TcpStream::connect(&gateway).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_ends_in_time_although_its_clients_stay() {
    let mut all = deployment(Placement::Folder);
    let (write, _) = all.tenant("shop").await.unwrap();
    // A stream that its client keeps open and says nothing on, and a connection on which nobody ever answers.
    let client = Client::connect(&all.endpoint, &write).await.unwrap();
    let open = append_stream_request::Message::Open(Open { stream_id: "s".to_owned() });
    let said =
        tokio_stream::iter([AppendStreamRequest { message: Some(open) }]).chain(tokio_stream::pending());
    let mut answers = client.ingest().append_stream(said).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    let mut silent = TcpStream::connect(all.endpoint.trim_start_matches("http://")).unwrap();
    std::io::Write::write_all(&mut silent, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();

    let process = all.processes.get_mut("serve").unwrap();
    process.signal("TERM").unwrap();
    let ended = async {
        while !process.has_ended().unwrap() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(25), ended).await.expect("it ends within 25 s");
    assert!(process.wait().unwrap(), "it ends well");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_being_asked_a_server_has_no_ops_listener_and_ends_at_once() {
    let mut all = deployment(Placement::Folder);
    let process = all.processes.get_mut("serve").unwrap();
    assert_eq!(process.ops, None);
    process.signal("TERM").unwrap();
    assert!(process.wait().unwrap());
}

#[test]
fn all_mistakes_of_a_configuration_are_told_at_once() {
    let said = runnel(&[
        "gateway",
        "--context-key-file=/nowhere/context",
        "--postgres=nonsense",
        "--postgres-query=mysql://somewhere",
        "--redis=nonsense",
        "--ingest=ftp://ingest:1",
        "--funnel=https://funnel:1",
        "--segmentation=nothing",
        "--allowed-origins=https://good.example,console.example/",
    ]);
    assert!(!said.success && said.out.is_empty());
    assert!(said.err.contains("9 mistakes"), "{}", said.err);
    for option in [
        "--context-key-file",
        "--postgres",
        "--postgres-query",
        "--redis",
        "--pepper-file",
        "--ingest",
        "--funnel",
        "--segmentation",
        "--allowed-origins",
    ] {
        assert_eq!(said.err.matches(&format!("  {option}: ")).count(), 1, "{option} in {}", said.err);
    }
    let said = runnel(&["serve", "--postgres=nonsense", "--redis=nonsense", "--tls-cert=/a", "--tls-key=/b"]);
    for option in ["--postgres", "--redis", "--pepper-file", "--tls-cert"] {
        assert!(said.err.contains(&format!("  {option}: ")), "{option} in {}", said.err);
    }
}
