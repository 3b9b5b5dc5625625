//! How fast files become encoded requests, on one core. `RUNNEL_IMPORT_ROWS` sets the size; the figures are printed.
#![cfg(test)]

use std::fmt::Write;

use runnel::import::{ImportArgs, read_files};

fn row_count() -> usize {
    std::env::var("RUNNEL_IMPORT_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(100_000)
}

const NAMES: [&str; 4] = ["page_view", "view_item", "add_to_cart", "begin_checkout"];
const CHANNELS: [&str; 3] = ["direct", "organic", "paid_search"];

/// Rows with five properties and a UUID, some 150 bytes each.
fn csv(rows: usize) -> String {
    let mut text = "event_id,visitor_id,occurred_at,name,channel,device,country,product,price\n".to_owned();
    for n in 0..rows {
        let id = (n as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let (a, b, c, d, e) =
            (id >> 96, (id >> 80) & 0xffff, (id >> 64) & 0xffff, (id >> 48) & 0xffff, id & 0xffff_ffff_ffff);
        let _ = writeln!(
            text,
            "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x},v-{:010x},2024-05-{:02}T{:02}:{:02}:{:02}.{:03}Z,{},{},mobile,DE,sku-{:04},{}.99",
            n / 10,
            n / 50_000 % 28 + 1,
            n % 24,
            n % 60,
            n % 60,
            n % 1_000,
            NAMES[n % 4],
            CHANNELS[n % 3],
            n % 1_000,
            n % 100
        );
    }
    text
}

fn ndjson(csv: &str) -> String {
    let mut lines = csv.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let mut text = String::with_capacity(csv.len() * 2);
    for line in lines {
        let members: Vec<String> =
            names.iter().zip(line.split(',')).map(|(name, cell)| format!("\"{name}\":\"{cell}\"")).collect();
        let _ = writeln!(text, "{{{}}}", members.join(","));
    }
    text
}

/// Time that this thread had a core, so that other work on the machine does not count; the wall clock where the system does not tell.
fn core_seconds(start: std::time::Instant) -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds =
        told.and_then(|text| text.split(' ').next().and_then(|first| first.parse::<f64>().ok()));
    nanoseconds.map_or_else(|| start.elapsed().as_secs_f64(), |nanoseconds| nanoseconds / 1e9)
}

#[expect(clippy::disallowed_methods, reason = "this measures time")]
fn measure(label: &str, name: &str, content: &[u8], rows: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    let args = ImportArgs::new(vec![path]);
    let (mut best, mut encoded) = (f64::MAX, 0);
    let start = std::time::Instant::now();
    for _ in 0..3 {
        let before = core_seconds(start);
        let (mut events, mut bytes) = (0, 0);
        let faults = read_files(&args, &mut |portion| {
            assert!(portion.rejects.is_empty());
            if let Some(request) = portion.request {
                events += request.events;
                bytes += request.bytes.len();
            }
            true
        });
        assert!(faults.is_empty());
        assert_eq!(events, rows);
        (best, encoded) = ((core_seconds(start) - before).min(best), bytes);
    }
    println!(
        "import {label}: {:.2} M events/s and core, {:.0} ns an event, {} bytes in and {} out an event",
        rows as f64 / best / 1e6,
        best / rows as f64 * 1e9,
        content.len() / rows,
        encoded / rows
    );
}

#[test]
fn files_become_requests() {
    let rows = row_count();
    let text = csv(rows);
    measure("csv", "events.csv", text.as_bytes(), rows);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
    measure("csv.gz", "events.csv.gz", &encoder.finish().unwrap(), rows);
    measure("ndjson", "events.ndjson", ndjson(&text).as_bytes(), rows);
}
