//! Which servers are taken, and what is told of those that are not.

use std::time::Duration;

use runnel_harness::{HarnessError, Redis, or_skip};
use runnel_storage::hot::{Hot, HotError, HotOpenError, HotOptions, Limit, Unsuitable};

use super::{cluster, server, tenant};

fn start(options: &[&str]) -> Option<Redis> {
    or_skip(Redis::start(options)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_evicts_is_refused_unless_asked() {
    let Some(redis) = start(&["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"]) else { return };
    let refused = Hot::open(&HotOptions::new(redis.url())).await.unwrap_err();
    assert!(matches!(refused, HotOpenError::Unsuitable(Unsuitable::Evicts { .. })), "{refused:?}");
    assert!(refused.to_string().contains("CONFIG SET maxmemory-policy noeviction"), "{refused}");
    let allowed = HotOptions { allow_eviction: true, ..HotOptions::new(redis.url()) };
    Hot::open(&allowed).await.unwrap();
    redis.cli(0, &["config", "set", "maxmemory-policy", "noeviction"]).unwrap();
    Hot::open(&HotOptions::new(redis.url())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_and_single_servers_are_told_apart() {
    let (Some(single), Some(cluster)) = (server(), cluster()) else { return };
    let named = cluster.url().replace("redis+cluster://", "redis://");
    let refused = Hot::open(&HotOptions::new(named.split(',').next().unwrap().to_owned())).await.unwrap_err();
    assert!(matches!(refused, HotOpenError::Unsuitable(Unsuitable::Cluster { .. })), "{refused:?}");
    let named = single.url().replace("redis://", "redis+cluster://");
    let refused = Hot::open(&HotOptions::new(named)).await.unwrap_err();
    assert!(matches!(refused, HotOpenError::Unsuitable(Unsuitable::NoCluster { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_asked_for_and_never_shown() {
    let Some(redis) = start(&["--requirepass", "canary-pw"]) else { return };
    let with = |who: &str| redis.url().replace("redis://", &format!("redis://{who}"));
    let hot = Hot::open(&HotOptions::new(with(":canary-pw@"))).await.unwrap();
    hot.lease(&tenant(), "events", 1, Limit::new(1, 1), 0).await.unwrap();
    let mut shown = format!("{hot:?} {:?}", HotOptions::new(with(":canary-pw@")));
    for who in ["", ":canary-wrong@", "nobody:canary-wrong@"] {
        let refused = Hot::open(&HotOptions::new(with(who))).await.unwrap_err();
        assert!(matches!(refused, HotOpenError::Refused { .. }), "{who}: {refused:?}");
        shown += &format!("{refused} {refused:?}");
    }
    for bad in
        ["redis://:canary-pw@", "http://:canary-pw@h", "redis://:canary-pw@h:port", "redis://:canary-%ff@h"]
    {
        shown += &format!("{0} {0:?}", Hot::open(&HotOptions::new(bad.to_owned())).await.unwrap_err());
    }
    assert!(!shown.contains("canary"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_later_is_used_then() {
    let Some(redis) = start(&[]) else { return };
    redis.kill().unwrap();
    let hot = Hot::open(&HotOptions::new(redis.url())).await.unwrap();
    let limit = Limit::new(1, 10);
    let away = hot.lease(&tenant(), "events", 1, limit, 0).await.unwrap_err();
    assert!(away.is_away(), "{away:?}");
    redis.restart().unwrap();
    let tenant = tenant();
    while hot.lease(&tenant, "events", 1, limit, 0).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What it says of itself is looked at whenever it is connected to.
    redis.kill().unwrap();
    while hot.lease(&tenant, "events", 1, limit, 0).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    redis.restart().unwrap();
    redis.cli(0, &["config", "set", "maxmemory-policy", "allkeys-lru"]).unwrap();
    loop {
        match hot.lease(&tenant, "events", 1, limit, 0).await {
            Err(HotError::Unsuitable(Unsuitable::Evicts { .. })) => break,
            Ok(_) => panic!("the server evicts"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_behind_tls_is_trusted_by_its_certificate() {
    let redis = match Redis::with_tls() {
        Err(HarnessError::Failed { reason, .. }) if reason.contains("tls-port") => {
            println!("SKIPPED: this Redis was built without TLS");
            return;
        }
        started => or_skip(started).unwrap(),
    };
    let Some(redis) = redis else { return };
    // Nobody trusts a certificate that was made just now. That it is looked at is what can be seen from inside a process; the certificates to trust come from
    // the system, or from the file that SSL_CERT_FILE names when the process starts.
    let patient = HotOptions { deadline: Duration::from_secs(10), ..HotOptions::new(redis.url()) };
    let hot = Hot::open(&patient).await.unwrap();
    let error = hot.lease(&tenant(), "events", 1, Limit::new(1, 1), 0).await.unwrap_err();
    let causes = format!("{error:?}");
    assert!(causes.contains("invalid peer certificate"), "{causes}");
}
