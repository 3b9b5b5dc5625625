//! scratch: timing
#![allow(clippy::all, clippy::disallowed_methods)]
use crate::*;
use runnel_model::*;
struct Instant(u64);
fn cpu() -> u64 {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}
impl Instant {
    fn now() -> Instant {
        Instant(cpu())
    }
    fn elapsed(&self) -> std::time::Duration {
        std::time::Duration::from_nanos(cpu() - self.0)
    }
}
#[path = "../tests/samples/shop.rs"]
mod shop;

#[test]
#[ignore]
fn timing() {
    let visitors: u64 = std::env::var("VISITORS").map(|v| v.parse().unwrap()).unwrap_or(50_000);
    let mut batches = Vec::new();
    shop::batches(1, visitors, 5_000, |b| batches.push(b));
    let n: usize = batches.iter().map(|b| b.len()).sum();
    let per = |t: Instant| t.elapsed().as_nanos() as f64 / n as f64;
    println!("{n} events {} batches", batches.len());
    let t = Instant::now();
    let sums: Vec<_> = batches.iter().map(|b| ContentSum::of(&content_hashes(b))).collect();
    println!("content_hashes {:.0} ns", per(t));
    let t = Instant::now();
    let rows: Vec<_> = batches.iter().zip(&sums).map(|(b, s)| journal::encode(b, *s).unwrap()).collect();
    println!(
        "encode {:.0} ns, {:.1} B raw, {:.1} B",
        per(t),
        rows.iter().map(|r| r.1).sum::<u64>() as f64 / n as f64,
        rows.iter().map(|r| r.0.len()).sum::<usize>() as f64 / n as f64
    );
    let raws: Vec<Vec<u8>> =
        rows.iter().map(|r| zstd::decode_all(&r.0[12..r.0.len() - 8]).unwrap()).collect();
    for level in [-3, -1, 1] {
        let mut c = zstd::bulk::Compressor::new(level).unwrap();
        let t = Instant::now();
        let mut bytes = 0;
        for r in &raws {
            bytes += std::hint::black_box(c.compress(r).unwrap()).len();
        }
        println!("zstd {level} {:.0} ns {:.1} B", per(t), bytes as f64 / n as f64);
    }
    let mut d = zstd::bulk::Decompressor::new().unwrap();
    let t = Instant::now();
    for (r, w) in rows.iter().zip(&raws) {
        std::hint::black_box(d.decompress(&r.0[12..r.0.len() - 8], w.len()).unwrap());
    }
    println!("unzstd {:.0} ns", per(t));
    use prost::Message;
    let msgs: Vec<_> =
        raws.iter().map(|r| runnel_contracts::proto::journal::v1::Batch::decode(&r[..]).unwrap()).collect();
    let t = Instant::now();
    for m in &msgs {
        std::hint::black_box(m.encode_to_vec());
    }
    println!("prost encode {:.0} ns", per(t));
    let t = Instant::now();
    for r in &raws {
        std::hint::black_box(runnel_contracts::proto::journal::v1::Batch::decode(&r[..]).unwrap());
    }
    println!("prost decode {:.0} ns", per(t));
    drop(msgs);
    drop(raws);
    let t = Instant::now();
    for b in &batches {
        assert!(b.is_consistent());
    }
    println!("consistent {:.0} ns", per(t));
    let t = Instant::now();
    for r in &rows {
        std::hint::black_box(journal::decode(&r.0).unwrap());
    }
    println!("decode {:.0} ns", per(t));
    let rows: Vec<_> = rows
        .into_iter()
        .enumerate()
        .map(|(i, r)| merge::StoredRow {
            number: i as u64 + 1,
            events: batches[i].len() as u64,
            payload: Some(r.0),
        })
        .collect();
    let t = Instant::now();
    let merged = merge::merge_rows("shop", &rows).unwrap();
    println!(
        "merge_rows {:.0} ns: {} blocks, {} dup {} conflicts",
        per(t),
        merged.blocks.len(),
        merged.dropped.duplicates(),
        merged.dropped.conflicts()
    );
    let mut cols = std::collections::BTreeMap::new();
    let mut total = 0;
    for b in &merged.blocks {
        let block = Block::open(b.bytes.clone()).unwrap();
        total += b.bytes.len();
        println!(
            "  month {} events {} bytes {} groups {}",
            b.month,
            b.events,
            b.bytes.len(),
            block.row_groups().len()
        );
        for (name, bytes, _) in block.column_bytes() {
            *cols.entry(name).or_insert(0u64) += bytes;
        }
    }
    for (name, bytes) in &cols {
        println!("  {name:24} {:.2}", *bytes as f64 / n as f64);
    }
    println!(
        "  total {:.2}, beside ids {:.2}",
        total as f64 / n as f64,
        (total as u64 - cols["event_id"]) as f64 / n as f64
    );
    let t = Instant::now();
    for b in &merged.blocks {
        let block = Block::open(b.bytes.clone()).unwrap();
        for g in 0..block.row_groups().len() {
            std::hint::black_box(block.read_all(g).unwrap());
        }
    }
    println!("read_all {:.0} ns", per(t));
    let t = Instant::now();
    for b in &merged.blocks {
        let block = Block::open(b.bytes.clone()).unwrap();
        for g in 0..block.row_groups().len() {
            std::hint::black_box(block.read_keys(g).unwrap());
        }
    }
    println!("read_keys {:.0} ns", per(t));
    // merge of blocks
    let mut parts: std::collections::BTreeMap<i32, Vec<(BlockRef, Block)>> = Default::default();
    let mut id = 0;
    for chunk in rows.chunks(rows.len().div_ceil(8)) {
        let m = merge::merge_rows("shop", chunk).unwrap();
        for b in m.blocks {
            id += 1;
            parts.entry(b.month).or_default().push((
                BlockRef {
                    id,
                    first_sequence: b.first_sequence,
                    last_sequence: b.last_sequence,
                    month: b.month,
                    partition: 0,
                    events: b.events,
                    bytes: b.bytes.len() as u64,
                },
                Block::open(b.bytes).unwrap(),
            ));
        }
    }
    let t = Instant::now();
    let mut dup = 0;
    for p in parts.values() {
        let m = merge::merge_blocks("shop", p).unwrap();
        dup += m.dropped.duplicates();
        println!("  merged {} into {} bytes", p.len(), m.blocks[0].bytes.len());
    }
    println!("merge_blocks {:.0} ns dup {dup}", per(t));
}
