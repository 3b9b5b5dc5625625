//! What open sessions promise.

use std::{
    collections::HashSet,
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use runnel_model::{SHARDS, limits::SESSION_GAP_MS as GAP};
use runnel_storage::hot::{Claim, Holder, Hot, HotError, Seen, Sessions, Step, VisitorKey};

use super::{Random, tenant};

pub(crate) const NOW: i64 = 1_700_000_000_000;

pub(crate) fn seen(visitor: u64, time_ms: i64) -> Seen {
    Seen { visitor: VisitorKey::of(format!("v{visitor}").as_bytes()), time_ms }
}

/// Sessions of a new tenant whose every shard is there, complete up to a number.
pub(crate) async fn filled(hot: &Hot, sequence: u64) -> Sessions {
    let sessions = hot.sessions(&tenant(), NOW, 0);
    for shard in 0..SHARDS {
        sessions.reset(shard, 1, sequence, &[], NOW).await.unwrap();
    }
    sessions
}

fn step(from: u64, to: u64) -> Step {
    Step { epoch: 1, from, to }
}

pub(crate) async fn a_session_is_open_for_the_gap_and_no_longer(hot: &Hot) {
    let sessions = filled(hot, 0).await;
    let count = sessions.apply(3, step(0, 1), &[seen(1, NOW), seen(2, NOW - 5)], NOW).await.unwrap();
    assert_eq!((count.open, count.sequence, count.as_of_ms, count.epoch), (2, 1, NOW, 1));
    for (now_ms, open) in [(NOW + GAP - 5, 2), (NOW + GAP - 4, 1), (NOW + GAP, 1), (NOW + GAP + 1, 0)] {
        let count = sessions.count(3, now_ms).await.unwrap();
        assert_eq!((count.open, count.as_of_ms), (open, now_ms), "{}", now_ms - NOW);
    }
}

pub(crate) async fn what_is_still_to_come_opens_when_it_is_due(hot: &Hot) {
    let sessions = filled(hot, 0).await;
    let events = [seen(1, NOW + 10), seen(1, NOW + GAP + 500), seen(2, NOW + 20)];
    assert_eq!(sessions.apply(0, step(0, 1), &events, NOW).await.unwrap().open, 0);
    for (at, open) in [(9, 0), (10, 1), (19, 1), (20, 2), (GAP + 10, 2), (GAP + 20, 1), (GAP + 21, 0)] {
        assert_eq!(sessions.count(0, NOW + at).await.unwrap().open, open, "{at}");
    }
    assert_eq!(sessions.count(0, NOW + GAP + 500).await.unwrap().open, 1);
    assert_eq!(sessions.count(0, NOW + 2 * GAP + 501).await.unwrap().open, 0);
}

/// What is open at an instant, the slow way.
fn open(events: &[Seen], now_ms: i64) -> u64 {
    let open = events.iter().filter(|seen| (now_ms - GAP..=now_ms).contains(&seen.time_ms));
    open.map(|seen| seen.visitor).collect::<HashSet<_>>().len() as u64
}

pub(crate) async fn any_order_of_the_same_events_counts_the_same(hot: &Hot) {
    for seed in 1..=8 {
        let (mut random, sessions) = (Random(seed), filled(hot, 0).await);
        let (mut now_ms, mut sequence, mut all) = (NOW, 0, Vec::new());
        for round in 0..60 {
            now_ms += random.below(GAP as u64 / 8) as i64;
            let mut batch: Vec<Seen> = (0..random.below(12))
                .map(|_| {
                    let at = now_ms + random.below(3 * GAP as u64) as i64 - 2 * GAP;
                    seen(random.below(20), at)
                })
                .collect();
            all.extend(batch.iter().copied());
            // Some of what was sent before is sent again.
            batch.extend(
                (0..random.below(4))
                    .filter_map(|_| all.get(random.below(all.len() as u64) as usize).copied()),
            );
            let count = match random.below(10) {
                0 => sessions.reset(7, 1, sequence + 1, &all, now_ms).await,
                1 => sessions.apply(7, step(sequence.saturating_sub(1), sequence + 1), &batch, now_ms).await,
                _ => sessions.apply(7, step(sequence, sequence + 1), &batch, now_ms).await,
            };
            let count = count.unwrap();
            sequence += 1;
            assert_eq!(
                (count.open, count.sequence, count.as_of_ms),
                (open(&all, now_ms), sequence, now_ms),
                "seed {seed}, round {round}"
            );
            let later = now_ms + random.below(GAP as u64 / 16) as i64;
            assert_eq!(
                sessions.count(7, later).await.unwrap().open,
                open(&all, later),
                "seed {seed}, round {round}"
            );
            now_ms = later;
        }
    }
}

pub(crate) async fn a_shard_that_is_not_there_is_lost(hot: &Hot) {
    let sessions = hot.sessions(&tenant(), NOW, 0);
    assert!(matches!(sessions.count(0, NOW).await, Err(HotError::Lost)));
    assert!(matches!(sessions.apply(0, step(0, 1), &[seen(1, NOW)], NOW).await, Err(HotError::Lost)));
    assert!(sessions.count_all(NOW).await.iter().all(|count| matches!(count, Err(HotError::Lost))));
    sessions.reset(0, 1, 5, &[], NOW).await.unwrap();
    assert_eq!(sessions.count(0, NOW).await.unwrap().open, 0);
    sessions.forget().await.unwrap();
    assert!(matches!(sessions.count(0, NOW).await, Err(HotError::Lost)));
}

pub(crate) async fn a_step_that_was_missed_is_noticed(hot: &Hot) {
    let sessions = filled(hot, 10).await;
    assert!(matches!(sessions.apply(1, step(11, 12), &[seen(1, NOW)], NOW).await, Err(HotError::Lost)));
    assert_eq!(sessions.count(1, NOW).await.unwrap().open, 0);
    // The same again, and more than the same, does no harm.
    for (from, to, open, sequence) in [(10, 12, 1, 12), (10, 12, 1, 12), (11, 13, 1, 13), (2, 3, 1, 13)] {
        let count = sessions.apply(1, step(from, to), &[seen(1, NOW)], NOW).await.unwrap();
        assert_eq!((count.open, count.sequence), (open, sequence));
    }
}

pub(crate) async fn a_step_of_which_a_filling_threw_away_a_part_is_lost(hot: &Hot) {
    let sessions = filled(hot, 10).await;
    let events: Vec<Seen> = (0..5_000).map(|visitor| seen(visitor, NOW)).collect();
    // A server knows the script from then on, so that one look at the next step sends its first part, and nothing else.
    sessions.apply(6, step(10, 11), &[], NOW).await.unwrap();
    let mut applying = pin!(sessions.apply(6, step(11, 20), &events, NOW));
    assert!(poll_fn(|context| Poll::Ready(applying.as_mut().poll(context).is_pending())).await);
    while sessions.count(6, NOW).await.unwrap().open == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The same owner fills the shard with what the journal had up to a number in the midst of the step: the step's last events, say.
    sessions.reset(6, 1, 15, &events[4_500..], NOW).await.unwrap();
    let applied = applying.await;
    assert!(matches!(applied, Err(HotError::Lost)), "{applied:?}");
    let count = sessions.count(6, NOW).await.unwrap();
    assert_eq!((count.open, count.sequence), (500, 15));
    let count = sessions.apply(6, step(15, 20), &events[..4_500], NOW).await.unwrap();
    assert_eq!((count.open, count.sequence), (5_000, 20));
    // So it is when the shard was lost between two parts.
    let more: Vec<Seen> = (5_000..8_000).map(|visitor| seen(visitor, NOW)).collect();
    let mut applying = pin!(sessions.apply(6, step(20, 30), &more, NOW));
    assert!(poll_fn(|context| Poll::Ready(applying.as_mut().poll(context).is_pending())).await);
    while sessions.count(6, NOW).await.unwrap().open == 5_000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    sessions.forget().await.unwrap();
    sessions.reset(6, 1, 20, &events, NOW).await.unwrap();
    assert!(matches!(applying.await, Err(HotError::Lost)));
    let count = sessions.count(6, NOW).await.unwrap();
    assert_eq!((count.open, count.sequence), (5_000, 20));
}

pub(crate) async fn an_older_owner_is_fenced(hot: &Hot) {
    let sessions = filled(hot, 0).await;
    let newer = Step { epoch: 9, from: 0, to: 1 };
    assert_eq!(sessions.apply(2, newer, &[seen(1, NOW)], NOW).await.unwrap().epoch, 9);
    let late = [seen(2, NOW), seen(3, NOW)];
    assert!(matches!(sessions.apply(2, step(1, 2), &late, NOW).await, Err(HotError::Fenced { epoch: 9 })));
    assert!(matches!(sessions.reset(2, 8, 2, &late, NOW).await, Err(HotError::Fenced { epoch: 9 })));
    let count = sessions.count(2, NOW).await.unwrap();
    assert_eq!((count.open, count.sequence), (1, 1));
    assert_eq!(sessions.reset(2, 9, 7, &late, NOW).await.unwrap().open, 2);
}

pub(crate) async fn one_process_owns_a_tenant_at_a_time(hot: &Hot) {
    let sessions = hot.sessions(&tenant(), NOW, 0);
    let (one, other) = (Holder::random(), Holder::random());
    let epoch = |claim: Claim| match claim {
        Claim::Granted { epoch } => epoch,
        Claim::Held { for_ms } => panic!("held for {for_ms} ms"),
    };
    let first = epoch(sessions.claim(one, 60_000, 0, NOW).await.unwrap());
    assert!(
        first >= NOW as u64,
        "an epoch is no less than the time, so that it grows over a loss of everything"
    );
    assert_eq!(epoch(sessions.claim(one, 60_000, 0, NOW + 1).await.unwrap()), first, "a lease is renewed");
    let Claim::Held { for_ms } = sessions.claim(other, 60_000, 0, NOW + 2).await.unwrap() else { panic!() };
    assert!((1..=60_000).contains(&for_ms));
    sessions.release(other).await.unwrap();
    assert!(matches!(sessions.claim(other, 60_000, 0, NOW + 3).await.unwrap(), Claim::Held { .. }));
    sessions.release(one).await.unwrap();
    let second = epoch(sessions.claim(other, 50, 0, NOW + 4).await.unwrap());
    assert!(second > first);
    // A lease that is not renewed ends: by the clock of whoever keeps it.
    tokio::time::sleep(Duration::from_millis(120)).await;
    let third = epoch(sessions.claim(one, 60_000, 0, NOW + 124).await.unwrap());
    assert!(third > second);
    let beyond = epoch(sessions.claim(one, 60_000, third + 1_000, NOW + 125).await.unwrap());
    assert!(beyond > third + 1_000, "whoever was fenced gets beyond who fenced it");
}

pub(crate) async fn time_does_not_go_back(hot: &Hot) {
    let sessions = filled(hot, 0).await;
    sessions.apply(0, step(0, 1), &[seen(1, NOW - 10), seen(2, NOW + 50)], NOW).await.unwrap();
    assert_eq!(sessions.count(0, NOW + 100).await.unwrap().open, 2);
    let behind = sessions.count(0, NOW).await.unwrap();
    assert_eq!((behind.open, behind.as_of_ms), (2, NOW + 100), "it says as of when the count is");
    // A clock that ran far ahead does not decide for everybody else.
    sessions.count(0, NOW + 86_400_000).await.unwrap();
    assert!(matches!(sessions.count(0, NOW + 200).await, Err(HotError::Lost)));
}

pub(crate) async fn tenants_and_shards_do_not_mix(hot: &Hot) {
    let name = tenant();
    let (old, new, other) =
        (hot.sessions(&name, NOW, 0), hot.sessions(&name, NOW + 1, 0), filled(hot, 0).await);
    for shard in 0..SHARDS {
        let visitors: Vec<Seen> = (0..shard as u64).map(|visitor| seen(visitor, NOW)).collect();
        old.reset(shard, 1, 100 + shard as u64, &visitors, NOW).await.unwrap();
    }
    for (shard, count) in old.count_all(NOW).await.into_iter().enumerate() {
        let count = count.unwrap();
        assert_eq!((count.open, count.sequence), (shard as u64, 100 + shard as u64));
    }
    assert!(matches!(new.count(5, NOW).await, Err(HotError::Lost)), "the tenant was created again");
    let short = old.clone().with_gap(60_000);
    assert!(matches!(short.count(5, NOW).await, Err(HotError::Lost)), "sessions end after another gap");
    short.reset(5, 1, 7, &[seen(1, NOW), seen(2, NOW - 60_000), seen(3, NOW - 60_001)], NOW).await.unwrap();
    for (later_ms, open) in [(0, 2), (1, 1), (60_000, 1), (60_001, 0)] {
        assert_eq!(short.count(5, NOW + later_ms).await.unwrap().open, open, "{later_ms} ms later");
    }
    assert!(other.count_all(NOW).await.into_iter().all(|count| count.unwrap().open == 0));
}

pub(crate) async fn a_filling_is_seen_whole_or_not_at_all(hot: &Hot) {
    let sessions = filled(hot, 0).await;
    let content = |epoch: u64| (0..1_500 + epoch * 700).map(|visitor| seen(visitor, NOW)).collect::<Vec<_>>();
    let going = Arc::new(AtomicBool::new(true));
    let reader = tokio::spawn({
        let (sessions, going) = (sessions.clone(), going.clone());
        async move {
            let mut whole = 0;
            while going.load(Ordering::Relaxed) {
                match sessions.count(4, NOW).await {
                    Ok(count) if count.sequence == 0 => assert_eq!(count.open, 0),
                    Ok(count) => {
                        assert_eq!(count.open, 1_500 + (count.sequence - 1) * 700);
                        whole += 1;
                    }
                    Err(HotError::Lost) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
            whole
        }
    });
    let fillings = [1, 2].map(|owner| {
        let (sessions, content) = (sessions.clone(), content(owner));
        tokio::spawn(async move {
            for _ in 0..20 {
                match sessions.reset(4, 5, owner + 1, &content, NOW).await {
                    Ok(_) | Err(HotError::Lost) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
        })
    });
    for filling in fillings {
        filling.await.unwrap();
    }
    sessions.reset(4, 5, 4, &content(3), NOW).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    going.store(false, Ordering::Relaxed);
    assert!(reader.await.unwrap() > 0);
}

pub(crate) async fn many_visitors_are_counted(hot: &Hot) {
    let sessions = filled(hot, 0).await;
    let visitors: Vec<Seen> = (0..20_000).map(|visitor| seen(visitor, NOW - visitor as i64)).collect();
    assert_eq!(sessions.reset(9, 1, 1, &visitors, NOW).await.unwrap().open, 20_000);
    let more: Vec<Seen> = (15_000..27_500).map(|visitor| seen(visitor, NOW + 1)).collect();
    assert_eq!(sessions.apply(9, step(1, 2), &more, NOW + 1).await.unwrap().open, 27_500);
    assert_eq!(sessions.count(9, NOW + GAP - 9_999).await.unwrap().open, 10_000 + 12_500);
    assert_eq!(sessions.count(9, NOW + GAP + 2).await.unwrap().open, 0);
}
