//! Servers that forget, stop, end, and lose a part of what they hold.

use std::time::Duration;

use runnel_harness::{Redis, or_skip};
use runnel_model::{SHARDS, TenantName};
use runnel_storage::hot::{Budgets, Hot, HotError, HotOptions, Limit, Seen, Sessions, Step};
use tokio::time::Instant;

use super::{
    budgets::take,
    patient,
    sessions::{NOW, seen},
    tenant,
};

fn single() -> Option<Redis> {
    or_skip(Redis::start(&[])).unwrap()
}

fn three() -> Option<Redis> {
    or_skip(Redis::cluster(3)).unwrap()
}

/// Hot state as it is used.
async fn usual(redis: &Redis) -> Hot {
    Hot::open(&HotOptions::new(redis.url())).await.unwrap()
}

/// Fills every shard with as many visitors as its number. Tried again until it works, as a busy machine makes calls late.
async fn fill(sessions: &Sessions) {
    for shard in 0..SHARDS {
        let visitors: Vec<Seen> = (0..shard as u64).map(|visitor| seen(visitor, NOW)).collect();
        while sessions.reset(shard, 1, 1, &visitors, NOW).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Shards that are right, lost, and away. Panics where one is wrong.
async fn look(sessions: &Sessions) -> (usize, usize, usize) {
    let (mut right, mut lost, mut away) = (0, 0, 0);
    for (shard, count) in sessions.count_all(NOW).await.into_iter().enumerate() {
        match count {
            Ok(count) => {
                assert_eq!(count.open, shard as u64, "a wrong count");
                right += 1;
            }
            Err(HotError::Lost) => lost += 1,
            Err(error) => {
                assert!(error.is_away(), "{error:?}");
                away += 1;
            }
        }
    }
    (right, lost, away)
}

/// Looks until all shards answer.
async fn until_back(sessions: &Sessions) -> (usize, usize, usize) {
    loop {
        let found = look(sessions).await;
        if found.2 == 0 {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn everything_is_forgotten(redis: Redis) {
    let sessions = patient(&redis).await.sessions(&tenant(), NOW, 0);
    fill(&sessions).await;
    assert_eq!(look(&sessions).await, (SHARDS, 0, 0));
    redis.flush_all().unwrap();
    assert_eq!(look(&sessions).await, (0, SHARDS, 0));
    let step = Step { epoch: 1, from: 1, to: 2 };
    assert!(matches!(sessions.apply(3, step, &[seen(1, NOW)], NOW).await, Err(HotError::Lost)));
    fill(&sessions).await;
    assert_eq!(look(&sessions).await, (SHARDS, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgot_everything_has_nothing_rather_than_nobody() {
    let Some(redis) = single() else { return };
    everything_is_forgotten(redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_forgot_everything_has_nothing_rather_than_nobody() {
    let Some(redis) = three() else { return };
    everything_is_forgotten(redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_forgot_loses_its_shards_and_no_others() {
    let Some(redis) = three() else { return };
    let sessions = patient(&redis).await.sessions(&tenant(), NOW, 0);
    fill(&sessions).await;
    redis.flush(1).unwrap();
    let (right, lost, away) = look(&sessions).await;
    assert!(right > 0 && lost > 0 && away == 0, "{right} {lost} {away}");
}

/// Calls one after another until they are turned away. How many waited before.
async fn until_turned_away(hot: &Hot, tenant: &TenantName) -> usize {
    for waited in 0.. {
        match hot.lease(tenant, "events", 1, Limit::new(1_000_000, 1_000_000), NOW).await {
            Err(HotError::CircuitOpen { .. }) => return waited,
            Err(error) => assert!(error.is_away() && waited < 100, "{error:?}"),
            Ok(_) => assert!(waited < 100, "the server still answers"),
        }
    }
    unreachable!()
}

/// A thousand calls while the circuit is open: but for a few that look whether it is still so, nobody waits.
async fn nobody_waits(hot: &Hot, tenant: &TenantName) {
    let start = Instant::now();
    let mut turned_away = 0;
    for _ in 0..1_000 {
        let answer = hot.lease(tenant, "events", 1, Limit::new(1, 1), NOW).await;
        turned_away += usize::from(matches!(answer, Err(HotError::CircuitOpen { .. })));
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    assert!(turned_away > 900, "{turned_away} of 1,000, in {:?}", start.elapsed());
}

async fn it_fails_and_heals(
    redis: Redis,
    fail: impl Fn(&Redis),
    heal: impl Fn(&Redis),
) -> (usize, usize, usize) {
    let (hot, name) = (usual(&redis).await, tenant());
    let sessions = hot.sessions(&name, NOW, 0);
    fill(&sessions).await;
    assert_eq!(until_back(&sessions).await, (SHARDS, 0, 0));
    fail(&redis);
    let waited = until_turned_away(&hot, &name).await;
    assert!(waited <= 10, "{waited} calls waited");
    nobody_waits(&hot, &name).await;
    assert_eq!(look(&sessions).await.0, 0);
    heal(&redis);
    until_back(&sessions).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_keeps_nobody_waiting_and_is_used_again() {
    let Some(redis) = single() else { return };
    let stop = |redis: &Redis| redis.signal("STOP").unwrap();
    let found = it_fails_and_heals(redis, stop, |redis| redis.signal("CONT").unwrap()).await;
    assert_eq!(found, (SHARDS, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_killed_keeps_nobody_waiting_and_is_used_again() {
    let Some(redis) = single() else { return };
    let kill = |redis: &Redis| redis.kill().unwrap();
    let found = it_fails_and_heals(redis, kill, |redis| redis.restart().unwrap()).await;
    assert_eq!(found, (0, SHARDS, 0), "it has forgotten everything");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lets_nobody_in_keeps_nobody_waiting_and_is_used_again() {
    let Some(redis) = single() else { return };
    // As if it had been started again with a password: all connections end, and no new one is let in.
    let lock = |redis: &Redis| {
        redis.cli(0, &["config", "set", "requirepass", "another"]).unwrap();
        redis.cli(0, &["-a", "another", "client", "kill", "type", "normal"]).unwrap();
    };
    let unlock = |redis: &Redis| {
        redis.cli(0, &["-a", "another", "config", "set", "requirepass", ""]).unwrap();
    };
    assert_eq!(it_fails_and_heals(redis, lock, unlock).await, (SHARDS, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_stands_still_keeps_nobody_waiting_and_is_used_again() {
    let Some(redis) = three() else { return };
    let stop = |redis: &Redis| redis.signal("STOP").unwrap();
    let found = it_fails_and_heals(redis, stop, |redis| redis.signal("CONT").unwrap()).await;
    assert_eq!(found, (SHARDS, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_was_killed_keeps_nobody_waiting_and_is_used_again() {
    let Some(redis) = three() else { return };
    let kill = |redis: &Redis| redis.kill().unwrap();
    let found = it_fails_and_heals(redis, kill, |redis| redis.restart().unwrap()).await;
    assert_eq!(found, (0, SHARDS, 0), "it has forgotten everything");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_nodes_answer_while_one_stands_still() {
    let Some(redis) = three() else { return };
    // A cluster that lacks a node refuses everything unless it is told otherwise.
    for node in 0..3 {
        redis.cli(node, &["config", "set", "cluster-require-full-coverage", "no"]).unwrap();
    }
    let sessions = usual(&redis).await.sessions(&tenant(), NOW, 0);
    fill(&sessions).await;
    let whole = until_back(&sessions).await;
    assert_eq!(whole, (SHARDS, 0, 0));
    redis.signal_to(2, "STOP").unwrap();
    for _ in 0..20 {
        let (right, lost, away) = look(&sessions).await;
        assert!(lost == 0 && away < SHARDS, "{right} {lost} {away}");
    }
    redis.signal_to(2, "CONT").unwrap();
    assert_eq!(until_back(&sessions).await, (SHARDS, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_that_move_to_another_node_are_found_there() {
    let Some(redis) = three() else { return };
    let sessions = patient(&redis).await.sessions(&tenant(), NOW, 0);
    fill(&sessions).await;
    let id = |node| redis.cli(node, &["cluster", "myid"]).unwrap();
    let (from, to) = (id(0), id(1));
    let moving = tokio::task::spawn_blocking(move || {
        let move_all =
            ["--cluster-from", &from, "--cluster-to", &to, "--cluster-slots", "5461", "--cluster-yes"];
        let address = redis.url().replace("redis+cluster://", "").split(',').next().unwrap().to_owned();
        let mut command = vec!["--cluster", "reshard", &address];
        command.extend(move_all);
        let moved = redis.cli(0, &command).map(drop);
        (redis, moved)
    });
    // While slots move one by one, every shard is found, on the one node or the other. Between the two a key may be refused for a moment.
    while !moving.is_finished() {
        let (_, lost, _) = look(&sessions).await;
        assert_eq!(lost, 0);
    }
    let (redis, moved) = moving.await.unwrap();
    moved.unwrap();
    assert_eq!(until_back(&sessions).await, (SHARDS, 0, 0));
    assert_eq!(redis.cli(0, &["dbsize"]).unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_of_which_a_part_is_gone_is_lost() {
    let Some(redis) = single() else { return };
    let sessions = patient(&redis).await.sessions(&tenant(), NOW, 0);
    fill(&sessions).await;
    let keys = redis.cli(0, &["keys", "*"]).unwrap();
    let keys: Vec<&str> = keys.lines().collect();
    assert_eq!(keys.len(), 3 * SHARDS);
    for key in &keys {
        assert_ne!(redis.cli(0, &["pttl", key]).unwrap(), "-1", "{key} never expires");
    }
    // A shard with visitors, and one without any.
    let of_two: Vec<&&str> = keys.iter().filter(|key| key.contains(":7}:") || key.contains(":0}:")).collect();
    assert_eq!(of_two.len(), 6);
    for key in of_two {
        fill(&sessions).await;
        redis.cli(0, &["del", key]).unwrap();
        assert_eq!(look(&sessions).await, (SHARDS - 1, 1, 0), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_throws_away_some_of_it_never_counts_wrong() {
    let Some(redis) =
        or_skip(Redis::start(&["--maxmemory", "6mb", "--maxmemory-policy", "allkeys-random"])).unwrap()
    else {
        return;
    };
    let options = HotOptions {
        deadline: Duration::from_secs(10),
        allow_eviction: true,
        ..HotOptions::new(redis.url())
    };
    let hot = Hot::open(&options).await.unwrap();
    let (mut right, mut lost) = (0, 0);
    for _ in 0..8 {
        let sessions = hot.sessions(&tenant(), NOW, 0);
        for shard in 0..SHARDS {
            let visitors: Vec<Seen> = (0..shard as u64 * 20).map(|visitor| seen(visitor, NOW)).collect();
            match sessions.reset(shard, 1, 1, &visitors, NOW).await {
                Ok(_) | Err(HotError::Lost | HotError::Refused { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        for (shard, count) in sessions.count_all(NOW).await.into_iter().enumerate() {
            match count {
                Ok(count) => {
                    assert_eq!(count.open, shard as u64 * 20, "a wrong count");
                    right += 1;
                }
                Err(HotError::Lost | HotError::Refused { .. }) => lost += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
    }
    println!("{right} right, {lost} lost");
    assert!(right > 0 && lost > 0, "{right} right, {lost} lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_the_limit_goes_while_the_server_stands_still() {
    let Some(redis) = single() else { return };
    let (budgets, name, limit) = (Budgets::new(usual(&redis).await), tenant(), Limit::new(1_000, 1_000));
    redis.signal("STOP").unwrap();
    let (mut gone, mut calls) = (0, 0);
    let waiting = Instant::now();
    for at in 0..5_000 {
        for _ in 0..3 {
            calls += 1;
            gone += u64::from(take(&budgets, &name, "events", 1, limit, NOW + at).await.is_ok());
        }
    }
    println!("{gone} of {calls} calls went, in {:?}", waiting.elapsed());
    assert!((2_900..=3_000).contains(&gone), "half of the burst and half of the rate, not {gone}");
    redis.signal("CONT").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_the_limit_goes_through_all_processes_together_while_the_server_stands_still() {
    let Some(redis) = single() else { return };
    let (name, limit) = (tenant(), Limit::new(1_000, 1_000));
    let options = HotOptions { deadline: Duration::from_millis(500), ..HotOptions::new(redis.url()) };
    let mut processes = Vec::new();
    for _ in 0..5 {
        let hot = Hot::open(&options).await.unwrap();
        processes.push(Budgets::with_patience(hot, Duration::from_secs(5)));
    }
    // Everybody leases twice, so that the first knows of the last.
    for at in [0, 10_000] {
        for process in &processes {
            take(process, &name, "events", 1, limit, NOW + at).await.unwrap();
        }
    }
    redis.signal("STOP").unwrap();
    let mut gone = 0;
    for at in 20_000..25_000 {
        for process in &processes {
            for _ in 0..2 {
                gone += u64::from(take(process, &name, "events", 1, limit, NOW + at).await.is_ok());
            }
        }
    }
    assert!((2_900..=3_000).contains(&gone), "half of the burst and half of the rate, not {gone}");
    redis.signal("CONT").unwrap();
}
