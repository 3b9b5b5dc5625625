//! Hot state of this process: the same promises without a server.

mod open;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use runnel_model::{SHARDS, TenantName};

use self::open::Shard;
use super::{
    HotError, Lease, Limit,
    bucket::Bucket,
    sessions::{Claim, Holder, KEPT_MS, Part, Place, Seen, ShardCount, Step},
};

/// Buckets are looked through for idle ones when there are this many more than after the last time.
const MORE: usize = 1_024;

/// Hot state in memory.
#[derive(Debug, Default)]
pub(crate) struct Process {
    buckets: Mutex<Buckets>,
    tenants: Mutex<HashMap<Place, Arc<Mutex<Tenant>>>>,
}

#[derive(Debug, Default)]
struct Buckets {
    all: HashMap<(TenantName, &'static str), (Bucket, Limit)>,
    /// Look for idle ones beyond this many.
    many: usize,
}

/// The sessions of a tenant.
#[derive(Debug)]
struct Tenant {
    epoch: u64,
    last: Option<Holder>,
    /// Who holds the lease, and until when.
    lease: Option<(Holder, i64)>,
    used_ms: i64,
    shards: Vec<Option<Shard>>,
}

impl Default for Tenant {
    fn default() -> Tenant {
        let shards = (0..SHARDS).map(|_| None).collect();
        Tenant { epoch: 0, last: None, lease: None, used_ms: i64::MIN, shards }
    }
}

impl Process {
    pub(crate) fn lease(
        &self,
        tenant: &TenantName,
        kind: &'static str,
        want: u64,
        limit: Limit,
        now_ms: i64,
    ) -> Lease {
        self.with_bucket(tenant, kind, limit, now_ms, |bucket| bucket.lease(want, limit, now_ms))
    }

    /// Takes all tokens or none; else, in how many milliseconds they are there.
    pub(crate) fn take(
        &self,
        tenant: &TenantName,
        kind: &'static str,
        amount: u64,
        limit: Limit,
        now_ms: i64,
    ) -> Result<(), u64> {
        self.with_bucket(tenant, kind, limit, now_ms, |bucket| bucket.take(amount, limit, now_ms))
    }

    /// Puts back what was taken and not used.
    pub(crate) fn give_back(
        &self,
        tenant: &TenantName,
        kind: &'static str,
        amount: u64,
        limit: Limit,
        now_ms: i64,
    ) {
        self.with_bucket(tenant, kind, limit, now_ms, |bucket| bucket.give_back(amount, limit, now_ms));
    }

    fn with_bucket<T>(
        &self,
        tenant: &TenantName,
        kind: &'static str,
        limit: Limit,
        now_ms: i64,
        work: impl FnOnce(&mut Bucket) -> T,
    ) -> T {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.all.len() > buckets.many {
            buckets.all.retain(|_, (bucket, limit)| !bucket.is_idle(*limit, now_ms));
            buckets.many = buckets.all.len() * 2 + MORE;
        }
        let fresh = || (Bucket::new(limit.burst(), now_ms), limit);
        let (bucket, known) = buckets.all.entry((tenant.clone(), kind)).or_insert_with(fresh);
        *known = limit;
        work(bucket)
    }

    pub(crate) fn claim(
        &self,
        place: &Place,
        holder: Holder,
        lease_ms: u64,
        beyond: u64,
        now_ms: i64,
    ) -> Claim {
        self.sweep(now_ms);
        let tenant = self.tenant(place);
        let mut tenant = lock(&tenant);
        tenant.used_ms = tenant.used_ms.max(now_ms);
        if let Some((other, until_ms)) = tenant.lease
            && other != holder
            && let Ok(for_ms @ 1..) = u64::try_from(until_ms.saturating_sub(now_ms))
        {
            return Claim::Held { for_ms };
        }
        if tenant.last != Some(holder) || tenant.epoch <= beyond {
            let now = u64::try_from(now_ms).unwrap_or(0);
            tenant.epoch = (tenant.epoch + 1).max(now).max(beyond.saturating_add(1));
        }
        tenant.last = Some(holder);
        tenant.lease = Some((holder, now_ms.saturating_add_unsigned(lease_ms)));
        Claim::Granted { epoch: tenant.epoch }
    }

    pub(crate) fn release(&self, place: &Place, holder: Holder) {
        let tenant = self.tenant(place);
        let mut tenant = lock(&tenant);
        tenant.lease = tenant.lease.filter(|(other, _)| *other != holder);
    }

    pub(crate) fn apply(
        &self,
        place: &Place,
        shard: usize,
        step: Step,
        into: Option<u64>,
        seen: &[Seen],
        now_ms: i64,
    ) -> Result<ShardCount, HotError> {
        self.with_shard(place, shard, now_ms, |shard| shard.apply(step, into, seen, now_ms))
    }

    pub(crate) fn reset(
        &self,
        place: &Place,
        shard: usize,
        part: Part<'_>,
        now_ms: i64,
    ) -> Result<ShardCount, HotError> {
        let tenant = self.tenant(place);
        let mut tenant = lock(&tenant);
        tenant.used_ms = tenant.used_ms.max(now_ms);
        let shard = tenant.shards.get_mut(shard).ok_or(HotError::Lost)?;
        Shard::reset(shard, part, place.gap_ms, now_ms)
    }

    pub(crate) fn count(&self, place: &Place, shard: usize, now_ms: i64) -> Result<ShardCount, HotError> {
        self.with_shard(place, shard, now_ms, |shard| shard.count(now_ms))
    }

    pub(crate) fn forget(&self, place: &Place) {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner).remove(place);
    }

    fn tenant(&self, place: &Place) -> Arc<Mutex<Tenant>> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.entry(place.clone()).or_default().clone()
    }

    fn with_shard(
        &self,
        place: &Place,
        shard: usize,
        now_ms: i64,
        work: impl FnOnce(&mut Shard) -> Result<ShardCount, HotError>,
    ) -> Result<ShardCount, HotError> {
        let tenant = self.tenant(place);
        let mut tenant = lock(&tenant);
        tenant.used_ms = tenant.used_ms.max(now_ms);
        tenant.shards.get_mut(shard).and_then(Option::as_mut).map_or(Err(HotError::Lost), work)
    }

    /// Drops tenants that nobody asked about for as long as a server would keep them.
    fn sweep(&self, now_ms: i64) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.retain(|_, tenant| {
            tenant.try_lock().map_or(true, |tenant| now_ms.saturating_sub(tenant.used_ms) <= KEPT_MS)
        });
    }
}

fn lock(tenant: &Mutex<Tenant>) -> MutexGuard<'_, Tenant> {
    tenant.lock().unwrap_or_else(PoisonError::into_inner)
}
