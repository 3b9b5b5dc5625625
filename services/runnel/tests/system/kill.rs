//! `kill -9` at random moments while events come in: what was acknowledged is there, nothing is there twice, at every read.
//!
//! `RUNNEL_KILLS` sets how many kills (default 20), `RUNNEL_SEED` the seed of the first; the seeds are printed.

use std::{
    collections::HashSet,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::server::{Random, Server, keys};
use runnel_client::{
    Client,
    proto::{
        event::v1::Event,
        funnel::v1::{ExplainVisitorRequest, FunnelDefinition, Step, explain_visitor_request},
        ingest::v1::GetIngestReportRequest,
        query::v1::EventMatch,
    },
};

const BATCH: u64 = 200;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn batch(number: u64) -> Vec<Event> {
    let event = |at: u64| Event {
        event_id: format!("e{at}"),
        visitor_id: format!("v{at}"),
        time_ms: Some(1_700_000_000_000 + at as i64),
        name: "seen".into(),
        ..Event::default()
    };
    (number * BATCH..(number + 1) * BATCH).map(event).collect()
}

/// What the senders know.
#[derive(Default)]
struct Ledger {
    next: u64,
    unsure: Vec<u64>,
    acked: HashSet<u64>,
}

/// Sends batches until the server dies; batches without an answer are sent again after the restart, by the same name.
async fn send(endpoint: String, key: String, ledger: Arc<Mutex<Ledger>>) {
    let Ok(client) = Client::connect(&endpoint, &key).await else { return };
    let client = client.with_policy(crate::server::once());
    loop {
        let number = {
            let mut ledger = ledger.lock().unwrap();
            ledger.unsure.pop().unwrap_or_else(|| {
                ledger.next += 1;
                ledger.next - 1
            })
        };
        let sent = client.append(batch(number), Some(format!("batch-{number}"))).await;
        let mut ledger = ledger.lock().unwrap();
        match sent {
            Ok(_) => drop(ledger.acked.insert(number)),
            Err(_) => {
                ledger.unsure.push(number);
                return;
            }
        }
    }
}

/// Reads everything: the count lies between what was acknowledged and what was tried, and acknowledged events are found by name.
async fn check(server: &Server, write: &str, read: &str, ledger: &Ledger, random: &mut Random) {
    let client = Client::connect(&server.endpoint, write).await.unwrap();
    let report =
        client.ingest().get_ingest_report(GetIngestReportRequest::default()).await.unwrap().into_inner();
    let (least, most) = (ledger.acked.len() as u64 * BATCH, ledger.next * BATCH);
    assert!((least..=most).contains(&report.counted), "{least} <= {} <= {most}", report.counted);
    assert_eq!(report.quarantined, 0, "{:?}", report.quarantine_reasons);
    let reader = Client::connect(&server.endpoint, read).await.unwrap();
    let step = || Step {
        any_of: vec![EventMatch { event: "seen".into(), ..EventMatch::default() }],
        ..Step::default()
    };
    let definition = FunnelDefinition { steps: vec![step(), step()], ..FunnelDefinition::default() };
    let acked: Vec<u64> = ledger.acked.iter().copied().collect();
    for _ in 0..20.min(acked.len()) {
        let visitor = acked[random.below(acked.len() as u64) as usize] * BATCH + random.below(BATCH);
        let request = ExplainVisitorRequest {
            funnel: Some(explain_visitor_request::Funnel::Inline(definition.clone())),
            visitor_id: format!("v{visitor}"),
            ..ExplainVisitorRequest::default()
        };
        let told = reader.funnel().explain_visitor(request).await.unwrap().into_inner();
        assert_eq!(told.events.len(), 1, "v{visitor} has one event");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_events_survive_kill_nine() {
    let (kills, seed) = (number("RUNNEL_KILLS", 20), number("RUNNEL_SEED", 1));
    let folder = tempfile::tempdir().unwrap();
    let (write, read) = keys(folder.path(), "shop");
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    for seed in seed..seed + kills {
        let mut random = Random(seed);
        let mut server = Server::start(folder.path());
        let known = ledger.lock().unwrap().clone_for_check();
        check(&server, &write, &read, &known, &mut random).await;
        let senders: Vec<_> = (0..4)
            .map(|_| tokio::spawn(send(server.endpoint.clone(), write.clone(), ledger.clone())))
            .collect();
        tokio::time::sleep(Duration::from_millis(20 + random.below(400))).await;
        server.kill();
        for sender in senders {
            sender.await.unwrap();
        }
        let ledger = ledger.lock().unwrap();
        println!("seed {seed}: {} batches acknowledged, {} unsure", ledger.acked.len(), ledger.unsure.len());
    }
    let server = Server::start(folder.path());
    let client = Client::connect(&server.endpoint, &write).await.unwrap();
    let unsure = std::mem::take(&mut ledger.lock().unwrap().unsure);
    for number in unsure {
        client.append(batch(number), Some(format!("batch-{number}"))).await.unwrap();
        ledger.lock().unwrap().acked.insert(number);
    }
    let last = ledger.lock().unwrap().clone_for_check();
    assert_eq!(last.acked.len() as u64, last.next);
    check(&server, &write, &read, &last, &mut Random(seed)).await;
}

impl Ledger {
    fn clone_for_check(&self) -> Ledger {
        Ledger { next: self.next, unsure: self.unsure.clone(), acked: self.acked.clone() }
    }
}

#[test]
fn an_import_that_was_killed_is_finished_by_repeating_it() {
    let kills = number("RUNNEL_KILLS", 20).div_ceil(2);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.csv");
    let rows = 60_000;
    let mut text = String::from("event_id,visitor_id,occurred_at,name,channel\n");
    for row in 0..rows {
        let (second, visitor) = (row % 60, row % 7_000);
        text.push_str(&format!(
            "e{row},v{visitor},2026-01-0{}T12:00:{second:02}.{:03}Z,view,email\n",
            1 + row % 9,
            row % 1_000
        ));
    }
    std::fs::write(&file, text).unwrap();
    let data = folder.path().join("data");
    let import = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runnel"));
        command
            .arg("import")
            .arg(&file)
            .arg("--data-dir")
            .arg(&data)
            .args(["--tenant", "shop", "--batch", "500", "--output", "json"]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command
    };
    let counted = |ended: bool| {
        let doctor = Command::new(env!("CARGO_BIN_EXE_runnel"))
            .args(["doctor", "--output", "json", "--data-dir"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stderr));
        let found: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
        let counted = found[0]["audit"]["counted"].as_u64().unwrap_or(0);
        assert!(counted <= rows, "{counted} of {rows}");
        assert!(!ended || counted == rows, "{counted} of {rows}");
        counted
    };
    for seed in 1..=kills {
        let mut child = import().spawn().unwrap();
        std::thread::sleep(Duration::from_millis(30 + Random(seed).below(250)));
        let ended = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        child.wait().unwrap();
        if data.join("runnel.db").exists() {
            println!("seed {seed}: {} counted{}", counted(false), if ended { ", import ended" } else { "" });
        }
    }
    assert!(import().status().unwrap().success());
    counted(true);
}
