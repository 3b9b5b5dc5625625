//! What a batch costs from its bytes on the wire to the journal's row, step by step: `cargo bench -p runnel-ingest --bench append -- [BATCHES] [STEP]`. One thread,
//! batches of 1,000 realistic events; small by default, so that it can run with the tests.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops where something fails"
)]

#[path = "../../runnel/benches/cluster/events.rs"]
mod events;
#[path = "../../runnel/benches/cluster/walk.rs"]
mod walk;

use std::hint::black_box;

use bytes::Bytes;
use prost::Message;
use runnel_chassis::clock::Stopwatch;
use runnel_contracts::{
    proto::ingest::v1::AppendRequest,
    receive::{Received, Terms, receive_append},
};
use runnel_model::{ContentSum, EventBatch, content_hashes};
use runnel_storage::Admitted;

use self::{
    events::{EVENTS, Template},
    walk::walk,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Every event of the benchmark is in the past of this.
const NOW_MS: i64 = i64::MAX / 2;

struct Steps {
    batches: u64,
    only: Option<String>,
    template: Template,
    walked: f64,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let batches = words.iter().find_map(|word| word.parse().ok()).unwrap_or(20);
    let only = words.into_iter().find(|word| word.starts_with(char::is_alphabetic));
    let template = Template::new();
    println!("{:.0} bytes an event, {EVENTS} events a batch, {batches} batches", template.event_bytes());
    let mut steps = Steps { batches, only, template, walked: f64::NAN };
    steps.show("walk over every field", |bytes| bytes, |bytes| walk(bytes, 2));
    steps.show("decode into columns, every event checked", |bytes| bytes, receive);
    let columns = |bytes: Bytes| receive(&bytes).batch;
    steps.show("content hashes", columns, sum);
    let summed = |bytes| {
        let batch = columns(bytes);
        (sum(&batch), std::cell::Cell::new(batch))
    };
    let encode = |(sum, batch): &(ContentSum, std::cell::Cell<EventBatch>)| {
        Admitted::with_sum(batch.take(), *sum, None, Bytes::new()).unwrap()
    };
    steps.show("encode and compress", summed, encode);
    steps.show(
        "prost: decode into messages",
        |bytes| bytes,
        |bytes| AppendRequest::decode(&**bytes).unwrap(),
    );
}

impl Steps {
    /// Prints nanoseconds an event that some work takes, without what makes its input: the median of all batches.
    fn show<I, O>(&mut self, what: &str, input: impl Fn(Bytes) -> I, work: impl Fn(&I) -> O) {
        if self.only.as_ref().is_some_and(|only| !what.contains(only.as_str())) {
            return;
        }
        let mut times = Vec::new();
        for number in 0..self.batches {
            let input = input(self.template.batch(number).0);
            let watch = Stopwatch::start();
            black_box(work(black_box(&input)));
            times.push(watch.elapsed().as_nanos());
        }
        times.sort_unstable();
        let nanos = times[times.len() / 2] as f64 / EVENTS as f64;
        if self.walked.is_nan() {
            self.walked = nanos;
        }
        println!("{what:<44} {nanos:>6.0} ns an event {:>6.2} times the first", nanos / self.walked);
    }
}

fn receive(bytes: &Bytes) -> Received {
    receive_append(bytes, NOW_MS, &Terms::default()).unwrap()
}

fn sum(batch: &EventBatch) -> ContentSum {
    ContentSum::of(&content_hashes(batch))
}
