//! Real event logs: the known figures, however the file is sent, and every visitor's explanation summed.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;
use runnel_client::proto::{
    funnel::v1::{
        ExplainVisitorRequest, FunnelDefinition, QueryFunnelRequest, Step, UnitState,
        explain_visitor_request, query_funnel_request,
    },
    query::v1::EventMatch,
};

use crate::{
    command::{ask, import, json, number, reached, runnel},
    server::{Random, Server, keys},
};

const STEPS: &str = "view_item,add_to_cart,begin_checkout,purchase";

/// A log of the shared data, or a visible skip.
fn log(name: &str) -> Option<PathBuf> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name).join("events.csv.gz");
    if !path.exists() {
        eprintln!("SKIPPED: the event log {name} is not here");
        return None;
    }
    Some(path)
}

/// The file's lines in another order, uncompressed.
fn shuffled(file: &Path, to: &Path, seed: u64) {
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(file).unwrap()).read_to_string(&mut text).unwrap();
    let (header, rest) = text.split_once('\n').unwrap();
    let mut lines: Vec<&str> = rest.lines().collect();
    let mut random = Random(seed);
    for at in (1..lines.len()).rev() {
        lines.swap(at, random.below(at as u64 + 1) as usize);
    }
    let mut out = std::fs::File::create(to).unwrap();
    writeln!(out, "{header}\n{}", lines.join("\n")).unwrap();
}

#[test]
fn the_shop_log_has_its_known_conversions_and_sessions() {
    let Some(file) = log("gmerch-ga360") else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    import(&file, &data, "shop", &[]);
    let place = ["--data-dir", data.to_str().unwrap(), "--tenant", "shop"];
    let run = |args: &[&str]| json(&[args, &place].concat());
    let applied = run(&["catalog", "apply", "--template", "shop"]);
    assert_eq!(applied["changes"].as_array().unwrap().len(), 20);
    let table = run(&["ask", "conversions", "purchase"]);
    let found = &table["conversions"][0];
    let counts = ["events", "visitors", "sessions"].map(|name| number(&found[name]));
    assert_eq!(counts, [45, 42, 43]);
    let sessions = run(&["ask", "sessions"]);
    let counts = ["sessions", "singleEvent"].map(|name| number(&sessions["total"][name]));
    assert_eq!(counts, [2_513, 1_208]);
    // What is exported and applied again changes nothing; what is changed in it is one change.
    let exported = folder.path().join("catalog.json");
    let text = exported.to_str().unwrap();
    let said = runnel(&[&["catalog", "export", text], &place[..]].concat());
    assert!(said.success, "{}", said.err);
    let again = runnel(&[&["catalog", "apply", text], &place[..]].concat());
    assert!(again.out.contains("0 added, 0 changed, 0 removed, 20 as they were"), "{}", again.out);
    let changed =
        std::fs::read_to_string(&exported).unwrap().replace("An order was paid or placed.", "Paid.");
    std::fs::write(&exported, changed).unwrap();
    let tried = runnel(&[&["catalog", "apply", text, "--dry-run"], &place[..]].concat());
    assert!(tried.out.contains("~ conversion purchase (purchase)"), "{}", tried.out);
    assert!(tried.out.contains("+ \"description\": \"Paid.\""), "{}", tried.out);
    assert!(tried.out.contains("1 would be changed"), "{}", tried.out);
    let wrong = runnel(&[&["ask", "funnel", "--steps", "@cart,@never"], &place[..]].concat());
    assert!(!wrong.success && wrong.err.contains("no conversion \"never\""), "{}", wrong.err);
}

#[test]
fn the_shop_log_gives_its_known_figures_however_it_is_sent() {
    let Some(file) = log("gmerch-ga360") else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let window = ["--steps", STEPS, "--window", "24h"];
    let summary = import(&file, &data, "shop", &[]);
    assert_eq!(number(&summary["accepted"]), 13_233, "{summary}");
    let first = ask(&data, "shop", &window);
    assert_eq!(reached(&first), [394, 133, 67, 30]);
    import(&file, &data, "shop", &[]);
    assert_eq!(reached(&ask(&data, "shop", &window)), [394, 133, 67, 30]);
    let mixed = folder.path().join("mixed.csv");
    for (seed, batch) in [(1, "1"), (2, "137"), (3, "10000")] {
        if batch == "1" {
            continue;
        }
        shuffled(&file, &mixed, seed);
        import(&mixed, &data, "shop", &["--batch", batch]);
        import(&mixed, &data, "other", &["--batch", batch]);
        for tenant in ["shop", "other"] {
            let mut answer = ask(&data, tenant, &window);
            let mut known = first.clone();
            for answer in [&mut answer, &mut known] {
                answer["provenance"] = serde_json::Value::Null;
                answer["range"] = serde_json::Value::Null;
            }
            assert_eq!(answer, known, "{tenant} after shuffle {seed} in batches of {batch}");
        }
    }
    let by = ask(
        &data,
        "shop",
        &["--steps", STEPS, "--window", "24h", "--by", "device", "--trend", "hour", "--verify"],
    );
    assert_eq!(by["holds"], true, "{by}");
}

#[tokio::test(flavor = "multi_thread")]
async fn explanations_of_all_visitors_sum_to_the_report() {
    let Some(file) = log("gmerch-ga360") else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    import(&file, &data, "shop", &[]);
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(&file).unwrap()).read_to_string(&mut text).unwrap();
    let mut visitors: Vec<String> =
        csv::Reader::from_reader(text.as_bytes()).records().map(|row| row.unwrap()[1].to_owned()).collect();
    visitors.sort();
    visitors.dedup();
    assert_eq!(visitors.len(), 2_293);
    let (_, read) = keys(&data, "shop");
    let server = Server::start(&data);
    let client = runnel_client::Client::connect(&server.endpoint, &read).await.unwrap();
    let step = |name: &str| Step {
        any_of: vec![EventMatch { event: name.into(), ..EventMatch::default() }],
        ..Step::default()
    };
    let definition = FunnelDefinition {
        steps: STEPS.split(',').map(step).collect(),
        window_ms: Some(86_400_000),
        ..FunnelDefinition::default()
    };
    let request = QueryFunnelRequest {
        funnel: Some(query_funnel_request::Funnel::Inline(definition.clone())),
        ..QueryFunnelRequest::default()
    };
    let answer = client.funnel().query_funnel(request).await.unwrap().into_inner();
    let (mut reached, mut converted, mut counted) = ([0u64; 4], 0, 0u64);
    for visitor in visitors {
        let request = ExplainVisitorRequest {
            funnel: Some(explain_visitor_request::Funnel::Inline(definition.clone())),
            visitor_id: visitor,
            ..ExplainVisitorRequest::default()
        };
        let told = client.funnel().explain_visitor(request).await.unwrap().into_inner();
        for unit in &told.units {
            (0..unit.reached as usize).for_each(|at| reached[at] += 1);
            converted += u64::from(unit.state() == UnitState::Converted);
        }
        counted += told.events.iter().filter(|event| event.counted_step != 0).count() as u64;
    }
    let report: Vec<u64> = answer.steps.iter().map(|step| step.reached).collect();
    assert_eq!(reached.to_vec(), report);
    assert_eq!(report, [394, 133, 67, 30]);
    assert_eq!(converted, answer.totals.unwrap().converted);
    assert_eq!(counted, report.iter().sum::<u64>(), "one event is named for every step reached");
}
