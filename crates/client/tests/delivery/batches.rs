//! The batcher: bounded, complete, in batches of the right size.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use runnel_client::{Batcher, BatcherSettings, EnqueueError, proto::event::v1::Event};
use runnel_contracts::refusal::Reason;
use tonic::Code;

use crate::fake::{Act, Fake};

fn event(id: &str) -> Event {
    Event {
        event_id: id.into(),
        visitor_id: "v".into(),
        name: "n".into(),
        time_ms: Some(1),
        ..Default::default()
    }
}

fn settings() -> BatcherSettings {
    BatcherSettings {
        batch_events: 10,
        in_flight: 3,
        linger: Duration::from_millis(50),
        ..BatcherSettings::default()
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_or_doubled_when_calls_fail() {
    let codes = [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::DeadlineExceeded];
    let script = (0..600).map(|n| match n % 5 {
        0 => Act::Fail(codes[n / 5 % 4]),
        1 => Act::LoseAnswer(codes[n / 5 % 4]),
        2 => Act::Refuse(Reason::BacklogFull, Some(Duration::from_millis(300))),
        3 => Act::Slow(Duration::from_secs(60)),
        _ => Act::Answer,
    });
    let fake = Fake::with(script);
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&outcomes);
    let hook = Arc::new(move |outcome: runnel_client::BatchOutcome| seen.lock().unwrap().push(outcome));
    let batcher = Batcher::start(fake.client(), BatcherSettings { on_outcome: Some(hook), ..settings() });
    let ids: Vec<String> = (0..1_000).map(|n| format!("e{n}")).collect();
    for id in &ids {
        batcher.send(event(id)).await.unwrap();
    }
    batcher.close(Duration::from_secs(100_000)).await.unwrap();
    fake.assert_stored_once(ids.iter().map(String::as_str));
    assert!(fake.most_at_a_time.load(Ordering::SeqCst) <= 4);
    let outcomes = outcomes.lock().unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
    assert_eq!(outcomes.iter().map(|outcome| outcome.event_ids.len()).sum::<usize>(), 1_000);
    assert!(fake.stored.lock().unwrap().batches.iter().all(|&size| size == 10));
}

#[tokio::test(start_paused = true)]
async fn ids_are_made_when_an_event_is_taken() {
    let fake = Fake::with([Act::LoseAnswer(Code::Unavailable)]);
    let batcher = Batcher::start(fake.client(), settings());
    for _ in 0..25 {
        batcher.send(event("")).await.unwrap();
    }
    batcher.flush().await;
    assert_eq!(batcher.waiting(), 0);
    let stored = fake.stored.lock().unwrap();
    assert_eq!(stored.events.len(), 25);
    assert!(stored.events.iter().all(|(id, times)| id.len() == 36 && *times == 1));
    let mut sizes = stored.batches.clone();
    sizes.sort_unstable();
    assert_eq!(sizes, [5, 10, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_lonely_event_is_sent_after_the_linger() {
    let fake = Fake::default();
    let batcher = Batcher::start(fake.client(), settings());
    batcher.send(event("a")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(40)).await;
    assert!(fake.stored.lock().unwrap().calls.is_empty());
    tokio::time::sleep(Duration::from_millis(20)).await;
    fake.assert_stored_once(["a"]);
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_by_events_and_by_bytes() {
    let stuck = || Fake::with(vec![Act::Fail(Code::Unavailable); 100_000]);
    let by_events = BatcherSettings { queue_events: 40, ..settings() };
    let batcher = Batcher::start(stuck().client(), by_events);
    let mut taken = 0;
    let back = loop {
        match batcher.try_send(event(&format!("e{taken}"))) {
            Ok(()) => taken += 1,
            Err(EnqueueError::Full(back)) => break back,
            Err(other) => panic!("{other}"),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((taken, back.event_id.as_str(), batcher.waiting()), (40, "e40", 40));
    let blocked = tokio::time::timeout(Duration::from_secs(1), batcher.send(event("more"))).await;
    assert!(blocked.is_err(), "send waits for room");
    assert_eq!(batcher.close(Duration::from_secs(1)).await.unwrap_err().events, 40);

    let by_bytes = BatcherSettings { queue_bytes: 64 * 1024, ..settings() };
    let batcher = Batcher::start(stuck().client(), by_bytes);
    let large = Event { error_code: "x".repeat(10_000), ..event("large") };
    let mut taken = 0;
    while batcher.try_send(large.clone()).is_ok() {
        taken += 1;
        tokio::task::yield_now().await;
    }
    assert_eq!(taken, 6);
    let oversized = Event { error_code: "x".repeat(70_000), ..event("oversized") };
    assert!(matches!(batcher.send(oversized).await, Err(EnqueueError::TooLarge(_))));
}

#[tokio::test(start_paused = true)]
async fn batches_are_bounded_by_bytes() {
    let fake = Fake::default();
    let batcher = Batcher::start(
        fake.client(),
        BatcherSettings { batch_events: 10_000, batch_bytes: 64 * 1024, ..settings() },
    );
    let ids: Vec<String> = (0..100).map(|n| format!("e{n}")).collect();
    for id in &ids {
        batcher.send(Event { error_code: "x".repeat(6_000), ..event(id) }).await.unwrap();
    }
    batcher.close(Duration::from_secs(10)).await.unwrap();
    fake.assert_stored_once(ids.iter().map(String::as_str));
    assert!(fake.stored.lock().unwrap().batches.iter().all(|&size| size <= 10));
}

#[tokio::test(start_paused = true)]
async fn a_failed_batch_comes_back_whole_and_can_be_sent_later() {
    let fake = Fake::with([Act::Refuse(Reason::StoreFull, None)]);
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&outcomes);
    let hook = Arc::new(move |outcome: runnel_client::BatchOutcome| seen.lock().unwrap().push(outcome));
    let client = fake.client();
    let batcher = Batcher::start(client.clone(), BatcherSettings { on_outcome: Some(hook), ..settings() });
    for id in ["a", "b", "c"] {
        batcher.send(event(id)).await.unwrap();
    }
    batcher.close(Duration::from_secs(10)).await.unwrap();
    let outcome = outcomes.lock().unwrap().pop().unwrap();
    assert_eq!(outcome.result.unwrap_err().refusal().known(), Some(Reason::StoreFull));
    assert_eq!(outcome.event_ids, ["a", "b", "c"]);
    client.append_encoded(outcome.request, &outcome.request_id).await.unwrap();
    fake.assert_stored_once(["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_batcher_sends_what_waits() {
    let fake = Fake { pause: Duration::from_millis(10), ..Fake::default() };
    let batcher = Batcher::start(fake.client(), settings());
    for id in ["a", "b"] {
        batcher.send(event(id)).await.unwrap();
    }
    drop(batcher);
    tokio::time::sleep(Duration::from_secs(1)).await;
    fake.assert_stored_once(["a", "b"]);
}
