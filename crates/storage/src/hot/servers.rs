//! Hot state on Redis: one server, or a cluster. Every operation is a script on the keys of one shard.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{Client, Cmd, Value};
use runnel_model::TenantName;
use tokio::time::Instant;

use super::{
    HotError, Lease, Limit,
    address::Address,
    bucket,
    cluster::Cluster,
    key::ShardKey,
    node::{Node, Rules},
    script::{Run, Script, is_unknown},
    sessions::{AHEAD_MS, Claim, Holder, KEPT_MS, OWNER_KEPT_MS, Part, Place, Seen, ShardCount, Step},
};

static LEASE: LazyLock<Script> = LazyLock::new(|| Script::new(&[include_str!("scripts/lease.lua")]));
static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(&[include_str!("scripts/claim.lua")]));
static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(&[include_str!("scripts/release.lua")]));
static APPLY: LazyLock<Script> = LazyLock::new(|| Script::new(&[SHARD, include_str!("scripts/apply.lua")]));
static COUNT: LazyLock<Script> = LazyLock::new(|| Script::new(&[SHARD, include_str!("scripts/count.lua")]));
static RESET: LazyLock<Script> = LazyLock::new(|| Script::new(&[SHARD, include_str!("scripts/reset.lua")]));
/// What the scripts on a shard have in common.
const SHARD: &str = include_str!("scripts/shard.lua");

/// Who leased from a bucket within this time shares it, in milliseconds.
const SHARED_MS: u64 = 60_000;
/// A command may take as long again for every so many events that it carries.
const EVENTS: usize = 250;

/// Where hot state lies.
#[derive(Debug)]
enum Placed {
    One(std::sync::Arc<Node>),
    Cluster(Cluster),
}

/// Redis.
#[derive(Debug)]
pub(crate) struct Servers {
    placed: Placed,
    deadline: Duration,
    /// Tells this process from others that lease from the same buckets.
    holder: Holder,
    failures: AtomicU64,
}

impl Servers {
    /// Servers that are connected to when they are needed.
    pub(crate) fn new(
        address: Address,
        deadline: Duration,
        allow_eviction: bool,
    ) -> Result<Servers, redis::RedisError> {
        let rules = Rules { allow_eviction, cluster: address.cluster };
        let placed = match address.nodes.first().filter(|_| !address.cluster) {
            Some(host) => {
                let client = Client::open(address.connection(host)?)?;
                Placed::One(Node::new(host.clone(), client, rules).into())
            }
            None => Placed::Cluster(Cluster::new(address, rules)),
        };
        Ok(Servers { placed, deadline, holder: Holder::random(), failures: AtomicU64::new(0) })
    }

    /// Connects, and looks whether the servers are fit.
    pub(crate) async fn connect(&self, until: Instant) -> Result<(), HotError> {
        match &self.placed {
            Placed::One(node) => node.connect(until).await,
            Placed::Cluster(cluster) => cluster.connect(until).await,
        }
    }

    pub(crate) async fn lease(
        &self,
        tenant: &TenantName,
        kind: &str,
        want: u64,
        limit: Limit,
        now_ms: i64,
    ) -> Result<Lease, HotError> {
        let shard = bucket_shard(tenant, kind);
        let run = LEASE.on(["budget", "sharers"].map(|family| shard.key(&format!("{family}:{kind}"))));
        let run = run.with(want.min(Limit::MOST)).with(limit.rate()).with(limit.burst());
        let run = run.with(now_ms).with(bucket::AHEAD_MS).with(self.holder.0).with(SHARED_MS);
        let told = self.run(&shard, run, self.deadline).await?;
        let Value::Array(told) = &told else { return Err(HotError::Unexpected) };
        match told[..] {
            [Value::Int(granted), Value::Int(wait_ms), Value::Int(sharers)] => {
                Ok(Lease { granted: whole(granted)?, wait_ms: whole(wait_ms)?, sharers: whole(sharers)? })
            }
            _ => Err(HotError::Unexpected),
        }
    }

    pub(crate) async fn claim(
        &self,
        place: &Place,
        holder: Holder,
        lease_ms: u64,
        beyond: u64,
        now_ms: i64,
    ) -> Result<Claim, HotError> {
        let shard = ShardKey::new(&place.tenant, 0);
        let run = CLAIM.on([shard.key(&place.family("owner")), shard.key(&place.family("lease"))]);
        let run = run.with(holder.0).with(lease_ms.max(1)).with(now_ms).with(beyond).with(OWNER_KEPT_MS);
        let (word, numbers) = told(self.run(&shard, run, self.deadline).await?)?;
        match (&word[..], &numbers[..]) {
            (b"granted", [epoch, ..]) => Ok(Claim::Granted { epoch: whole(*epoch)? }),
            (b"held", [_, for_ms]) => Ok(Claim::Held { for_ms: whole(*for_ms)? }),
            _ => Err(HotError::Unexpected),
        }
    }

    pub(crate) async fn release(&self, place: &Place, holder: Holder) -> Result<(), HotError> {
        let shard = ShardKey::new(&place.tenant, 0);
        let run = RELEASE.on([shard.key(&place.family("lease"))]).with(holder.0);
        self.run(&shard, run, self.deadline).await.map(|_| ())
    }

    pub(crate) async fn apply(
        &self,
        place: &Place,
        shard: usize,
        step: Step,
        into: Option<u64>,
        seen: &[Seen],
        now_ms: i64,
    ) -> Result<ShardCount, HotError> {
        let (shard, run) = on_shard(&APPLY, place, shard, now_ms);
        let run = run.with(step.epoch).with(step.from).with(step.to);
        let run = run.with(into.map_or_else(String::new, |filling| filling.to_string()));
        counted(self.run(&shard, with_seen(run, seen), self.patience(seen)).await?)
    }

    pub(crate) async fn reset(
        &self,
        place: &Place,
        shard: usize,
        part: Part<'_>,
        now_ms: i64,
    ) -> Result<ShardCount, HotError> {
        let (shard, run) = on_shard(&RESET, place, shard, now_ms);
        let run = run.with(part.epoch).with(part.word).with(u8::from(part.first)).with(u8::from(part.last));
        let run = with_seen(run.with(part.sequence), part.seen);
        counted(self.run(&shard, run, self.patience(part.seen)).await?)
    }

    pub(crate) async fn count(
        &self,
        place: &Place,
        shard: usize,
        now_ms: i64,
    ) -> Result<ShardCount, HotError> {
        let (shard, run) = on_shard(&COUNT, place, shard, now_ms);
        counted(self.run(&shard, run, self.deadline).await?)
    }

    pub(crate) async fn forget(&self, place: &Place, shard: usize) -> Result<(), HotError> {
        let shard = ShardKey::new(&place.tenant, shard);
        let keys = shard_keys(place, &shard);
        let command = redis::cmd("UNLINK").arg(&keys[..]).clone();
        self.call(&shard, &command, Instant::now() + self.deadline).await.map(|_| ())
    }

    /// How long a command with these events may take.
    fn patience(&self, seen: &[Seen]) -> Duration {
        self.deadline * u32::try_from(1 + seen.len() / EVENTS).unwrap_or(u32::MAX)
    }

    /// Runs a script; whole, where the server does not know it.
    async fn run(&self, shard: &ShardKey, run: Run<'_>, deadline: Duration) -> Result<Value, HotError> {
        let until = Instant::now() + deadline;
        let answer = match self.call(shard, &run.by_hash(), until).await {
            Err(HotError::Refused { source, .. }) if is_unknown(&source) => {
                self.call(shard, &run.whole(), until).await
            }
            answer => answer,
        };
        if answer.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// Whether calls to some server are turned away at the moment.
    pub(crate) fn is_away(&self) -> bool {
        match &self.placed {
            Placed::One(node) => node.is_away(),
            Placed::Cluster(cluster) => cluster.is_away(),
        }
    }

    /// Calls that failed.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    async fn call(&self, shard: &ShardKey, command: &Cmd, until: Instant) -> Result<Value, HotError> {
        match &self.placed {
            Placed::One(node) => node.call(command, false, until).await,
            Placed::Cluster(cluster) => cluster.call(shard.slot(), command, until).await,
        }
    }
}

impl Place {
    /// A family of keys of these sessions.
    fn family(&self, name: &str) -> String {
        format!("sessions:{:x}.{:x}.{:x}:{name}", self.created_ms, self.erasure, self.gap_ms)
    }
}

/// The shard of a bucket: a tenant's buckets lie on different nodes.
fn bucket_shard(tenant: &TenantName, kind: &str) -> ShardKey {
    ShardKey::new(tenant, runnel_model::shard_of(kind))
}

fn shard_keys(place: &Place, shard: &ShardKey) -> [String; 3] {
    ["marker", "open", "later"].map(|name| shard.key(&place.family(name)))
}

/// A run of a script on a shard, with the arguments that all of them have.
fn on_shard<'a>(script: &'a Script, place: &Place, shard: usize, now_ms: i64) -> (ShardKey, Run<'a>) {
    let shard = ShardKey::new(&place.tenant, shard);
    let run = script.on(shard_keys(place, &shard));
    let run = run.with(now_ms).with(place.gap_ms).with(KEPT_MS).with(AHEAD_MS);
    (shard, run)
}

fn with_seen<'a>(mut run: Run<'a>, seen: &[Seen]) -> Run<'a> {
    for seen in seen {
        run = run.with(&seen.visitor.0[..]).with(seen.time_ms);
    }
    run
}

/// A word and numbers.
fn told(value: Value) -> Result<(Vec<u8>, Vec<i64>), HotError> {
    let Value::Array(parts) = value else { return Err(HotError::Unexpected) };
    let mut parts = parts.into_iter();
    let Some(Value::BulkString(word)) = parts.next() else { return Err(HotError::Unexpected) };
    let number = |part| match part {
        Value::Int(number) => Ok(number),
        _ => Err(HotError::Unexpected),
    };
    Ok((word, parts.map(number).collect::<Result<_, _>>()?))
}

fn counted(value: Value) -> Result<ShardCount, HotError> {
    let (word, numbers) = told(value)?;
    match (&word[..], &numbers[..]) {
        (b"ok", &[open, sequence, as_of_ms, epoch, filling]) => Ok(ShardCount {
            open: whole(open)?,
            sequence: whole(sequence)?,
            as_of_ms,
            epoch: whole(epoch)?,
            filling: whole(filling)?,
        }),
        (b"fenced", &[epoch]) => Err(HotError::Fenced { epoch: whole(epoch)? }),
        (b"lost", _) => Err(HotError::Lost),
        _ => Err(HotError::Unexpected),
    }
}

fn whole(number: i64) -> Result<u64, HotError> {
    u64::try_from(number).map_err(|_| HotError::Unexpected)
}
