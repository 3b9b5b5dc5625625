//! Open sessions: always what the events that were sent say, wherever hot state is and whatever becomes of it.

mod faults;

use std::{
    collections::HashMap,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use runnel_chassis::Clock;
use runnel_client::{
    Client,
    proto::{
        catalog::v1::{ApplyCatalogRequest, CatalogDocument, Settings},
        event::v1::{Event, OffSite},
        segmentation::v1::{
            CountOpenSessionsRequest, CountOpenSessionsResponse, OpenSessionsSource as Source,
        },
    },
};
use runnel_harness::{Deployment, Placement, Redis, or_skip};
use runnel_model::limits::SESSION_GAP_MS as GAP;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use crate::{
    places::{Where, hot},
    server::{Random, deployment_over},
};

fn now_ms() -> i64 {
    Clock::default().now_ms()
}

async fn clients(deployment: &Deployment) -> (Client<Channel>, Client<Channel>) {
    let (write, read) = deployment.tenant("shop").await.unwrap();
    let connect = |key: &str| Client::connect_lazy(&deployment.endpoint, key).unwrap();
    (connect(&write), connect(&read))
}

async fn ask(client: &Client<Channel>) -> CountOpenSessionsResponse {
    client.segmentation().count_open_sessions(CountOpenSessionsRequest {}).await.unwrap().into_inner()
}

fn event(visitor: &str, time_ms: i64, off_site: bool) -> Event {
    Event {
        visitor_id: visitor.into(),
        name: "seen".into(),
        time_ms: Some(time_ms),
        off_site: if off_site { OffSite::AdClick as i32 } else { 0 },
        ..Event::default()
    }
}

/// All events that were sent, on the site, and how long a session stays open without one.
struct Sent {
    times: HashMap<String, Vec<i64>>,
    gap_ms: i64,
}

impl Sent {
    fn nothing() -> Sent {
        Sent { times: HashMap::new(), gap_ms: GAP }
    }

    fn note(&mut self, events: &[Event]) {
        for event in events.iter().filter(|event| event.off_site == 0) {
            self.times.entry(event.visitor_id.clone()).or_default().push(event.time_ms.unwrap());
        }
    }

    /// What is open at an instant, counted by itself.
    fn open(&self, at_ms: i64) -> u64 {
        let while_open = at_ms - self.gap_ms..=at_ms;
        let there = |times: &&Vec<i64>| times.iter().any(|time| while_open.contains(time));
        self.times.values().filter(there).count() as u64
    }

    fn check(&self, answer: &CountOpenSessionsResponse, what: &str) {
        let expected = self.open(answer.as_of_ms);
        assert_eq!(answer.open_sessions, expected, "{what}, from {:?}", answer.source());
    }
}

/// Asks until the answer comes from hot state. Every answer on the way is checked.
async fn until_hot(reader: &Client<Channel>, sent: &Sent) {
    let start = Instant::now();
    loop {
        let answer = ask(reader).await;
        sent.check(&answer, "until hot state is whole");
        if answer.source() == Source::Hot {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "hot state is never whole");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn counts_equal(placement: Placement, place: Where) {
    let redis = hot!(place);
    let deployment = deployment_over(placement, redis);
    let (writer, reader) = clients(&deployment).await;
    let (mut random, mut sent) = (Random(11), Sent::nothing());
    assert_eq!(ask(&reader).await.open_sessions, 0);
    for round in 0..80 {
        let now = now_ms();
        let events: Vec<Event> = (0..random.below(40))
            .map(|_| {
                // Most of the last hour, some at the very edge of the gap, some in the near future.
                let at = match random.below(10) {
                    0 => now + random.below(3_000) as i64,
                    1 | 2 => now - GAP + random.below(4_000) as i64 - 500,
                    _ => now - random.below(2 * GAP as u64) as i64,
                };
                event(&format!("v{}", random.below(120)), at, random.below(6) == 0)
            })
            .collect();
        if !events.is_empty() {
            writer.append(events.clone(), None).await.unwrap();
            sent.note(&events);
        }
        sent.check(&ask(&reader).await, &format!("round {round}"));
        // The tenant's own gap, shorter and longer than the usual one: right from the next question on.
        if let Some(gap_ms) =
            [(15, GAP / 6), (35, 2 * GAP)].into_iter().find_map(|(at, gap)| (at == round).then_some(gap))
        {
            let settings = Settings { session_gap_ms: Some(gap_ms), ..Settings::default() };
            let document = CatalogDocument { settings: Some(settings), ..CatalogDocument::default() };
            let request = ApplyCatalogRequest { document: Some(document), ..ApplyCatalogRequest::default() };
            reader.catalog().apply_catalog(request).await.unwrap();
            sent.gap_ms = gap_ms;
            sent.check(&ask(&reader).await, &format!("round {round} with a gap of {gap_ms} ms"));
        }
        if round % 20 == 10 {
            until_hot(&reader, &sent).await;
        }
    }
    until_hot(&reader, &sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_sessions_equal_an_independent_count() {
    counts_equal(Placement::Folder, Where::Process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_sessions_equal_an_independent_count_over_a_folder_and_redis() {
    counts_equal(Placement::Folder, Where::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_sessions_equal_an_independent_count_over_redis() {
    counts_equal(Placement::Shared, Where::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_sessions_equal_an_independent_count_over_a_cluster() {
    counts_equal(Placement::Shared, Where::Cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_sessions_equal_an_independent_count_of_another_process() {
    counts_equal(Placement::Split, Where::Process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_sessions_equal_an_independent_count_of_another_process_over_redis() {
    counts_equal(Placement::Split, Where::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_sessions_equal_an_independent_count_of_another_process_over_a_cluster() {
    counts_equal(Placement::Split, Where::Cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_behind_tls_is_used() {
    let Some(redis) = or_skip(Redis::with_tls()).unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (write, read) = crate::server::keys(folder.path(), "shop");
    let mut child = Command::new(env!("CARGO_BIN_EXE_runnel"))
        .args(["serve", "--listen", "127.0.0.1:0", "--output", "json", "--redis", &redis.url(), "--data-dir"])
        .arg(folder.path())
        .env("SSL_CERT_FILE", redis.certificate().unwrap())
        .env_remove("SSL_CERT_DIR")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
        .unwrap();
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    let endpoint = format!("http://{}", said["listening"].as_str().unwrap());
    let (writer, reader) =
        (Client::connect(&endpoint, &write).await.unwrap(), Client::connect(&endpoint, &read).await.unwrap());
    let (events, mut sent) = (vec![event("v1", now_ms(), false)], Sent::nothing());
    writer.append(events.clone(), None).await.unwrap();
    sent.note(&events);
    until_hot(&reader, &sent).await;
    assert_ne!(redis.cli(0, &["dbsize"]).unwrap(), "0");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_command_line_tells_how_many_sessions_are_open() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let file = folder.path().join("events.csv");
    let time = |ms: i64| ms.to_string();
    let now = now_ms();
    std::fs::write(
        &file,
        format!(
            "event_id,visitor_id,occurred_at,name\ne1,v1,{},a\ne2,v2,{},a\n",
            time(now),
            time(now - 2 * GAP)
        ),
    )
    .unwrap();
    let run = |arguments: &[&str]| {
        let done =
            Command::new(env!("CARGO_BIN_EXE_runnel")).args(arguments).args(at(&data)).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    run(&["import", &file.to_string_lossy()]);
    let json = run(&["ask", "sessions", "--open", "--output", "json"]);
    let told: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(told["openSessions"], "1", "{told}");
    assert!(run(&["ask", "sessions", "--open"]).contains("open sessions"));
}

fn at(data: &Path) -> [&std::ffi::OsStr; 4] {
    ["--tenant".as_ref(), "shop".as_ref(), "--data-dir".as_ref(), data.as_os_str()]
}
