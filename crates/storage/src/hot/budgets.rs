//! Rate limits for every call, without asking the hot store on every call.
//!
//! A process leases about a tenth of a second's tokens at a time and spends them from its own pool. All that is spent was taken from the tenant's one bucket, so
//! any number of processes together let through no more than the limit.
//!
//! While the hot store does not answer, each process lets through its part of half of the limit by a bucket of its own. The store tells with every lease how many
//! processes share a bucket, and what it told last is what the half is divided by: losing the store makes the limit stricter, not void, however many processes
//! lose it. Not counted are processes that started while it was away: such a one takes half of the limit for its part. A process that lost it alone lets through
//! its part beside the limit that the others go on to share, and when the store comes back, its bucket has filled up meanwhile.

mod pool;
mod sharers;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use runnel_model::TenantName;
use tokio::time::Instant;

use self::{
    pool::{Pool, Turn},
    sharers::Sharers,
};
use super::{Backend, DEADLINE, Hot, Lease, Limit};

/// How long a call waits for tokens that are being leased: longer than the store may take, so that what it waits for is an answer, or that there is none.
const PATIENCE: Duration = DEADLINE.saturating_mul(2);
/// A pool that was not used for this long is given up, in milliseconds.
const IDLE_MS: i64 = 10_000;
/// Pools are looked through for idle ones when there are this many more than twice those of the last time.
const MORE: usize = 1_024;
/// Most pools.
const MOST: usize = 131_072;

/// Rate limits of tenants. Clones share them.
#[derive(Debug, Clone)]
pub struct Budgets {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    hot: Hot,
    patience: Duration,
    pools: Mutex<Pools>,
    sharers: Mutex<Sharers>,
}

#[derive(Debug, Default)]
struct Pools {
    all: HashMap<(TenantName, &'static str), Arc<Pool>>,
    /// Look for idle ones beyond this many.
    many: usize,
}

/// What a call takes of one budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// What is counted.
    pub kind: &'static str,
    /// How many tokens.
    pub amount: u64,
    /// What the tenant may use.
    pub limit: Limit,
}

/// Where tokens came from, to which they go back when the call is refused for others.
#[derive(Debug)]
enum Source {
    /// The tenant's one bucket, in this process.
    Bucket,
    Leased(Arc<Pool>),
    /// What goes while nobody can say.
    Alone {
        pool: Arc<Pool>,
        /// How many processes shared the budget then.
        sharers: u64,
    },
}

/// More than the limit allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverBudget {
    /// It may go in a while.
    #[error("the limit is reached for {ms} ms")]
    Wait {
        /// In so many milliseconds, if nothing else goes before it.
        ms: u64,
    },
    /// It asks for more than the bucket ever holds.
    #[error("it takes more than the limit ever allows at once")]
    Never,
}

impl Budgets {
    /// Limits that are kept in hot state: exact and for this process alone where that lies in the process, over all processes where it lies on Redis.
    #[must_use]
    pub fn new(hot: Hot) -> Budgets {
        Budgets::with_patience(hot, PATIENCE)
    }

    /// As [`new`](Budgets::new), with another time that a call may wait for the hot store before that counts as not answering.
    #[must_use]
    pub fn with_patience(hot: Hot, patience: Duration) -> Budgets {
        let sharers = Mutex::new(Sharers::new(Instant::now()));
        Budgets { inner: Arc::new(Inner { hot, patience, pools: Mutex::default(), sharers }) }
    }

    /// Takes tokens of several kinds from a tenant's budgets: of each kind as many as are asked for, or none of any kind. Rarely waits, and never long. Says which
    /// kind there was too little of.
    pub async fn take(
        &self,
        tenant: &TenantName,
        charges: &[Charge],
        now_ms: i64,
    ) -> Result<(), (Charge, OverBudget)> {
        let mut taken: Vec<(&Charge, Source)> = Vec::with_capacity(charges.len());
        for charge in charges {
            match self.take_one(tenant, *charge, now_ms).await {
                Ok(source) => taken.push((charge, source)),
                Err(over) => {
                    taken
                        .into_iter()
                        .for_each(|(taken, source)| self.give_back(tenant, *taken, source, now_ms));
                    return Err((*charge, over));
                }
            }
        }
        Ok(())
    }

    async fn take_one(&self, tenant: &TenantName, charge: Charge, now_ms: i64) -> Result<Source, OverBudget> {
        let Charge { kind, amount, limit } = charge;
        if amount > limit.burst() {
            return Err(OverBudget::Never);
        }
        if let Backend::Process(process) = &*self.inner.hot.backend {
            let taken = process.take(tenant, kind, amount, limit, now_ms);
            return taken.map(|()| Source::Bucket).map_err(|ms| OverBudget::Wait { ms });
        }
        let pool = self.pool(tenant, kind, limit, now_ms);
        let deadline = Instant::now() + self.inner.patience;
        loop {
            let told = pool.told();
            tokio::pin!(told);
            told.as_mut().enable();
            match pool.take(amount, limit, now_ms) {
                Turn::Taken { lease } => {
                    self.lease(&pool, tenant, kind, lease, limit, now_ms);
                    return Ok(Source::Leased(pool.clone()));
                }
                Turn::Refused { ms } => return Err(OverBudget::Wait { ms }),
                Turn::Alone { lease } => {
                    self.lease(&pool, tenant, kind, lease, limit, now_ms);
                    break;
                }
                Turn::Wait { lease } => self.lease(&pool, tenant, kind, lease, limit, now_ms),
            }
            if tokio::time::timeout_at(deadline, told).await.is_err() {
                pool.overdue(limit, now_ms);
                break;
            }
        }
        let sharers = self.sharers().most();
        match pool.take_alone(amount, limit, sharers, now_ms) {
            Ok(()) => Ok(Source::Alone { pool, sharers }),
            Err(ms) => Err(OverBudget::Wait { ms }),
        }
    }

    fn give_back(&self, tenant: &TenantName, charge: Charge, source: Source, now_ms: i64) {
        let Charge { kind, amount, limit } = charge;
        match source {
            Source::Leased(pool) => pool.give_back(amount),
            Source::Alone { pool, sharers } => pool.give_back_alone(amount, limit, sharers, now_ms),
            Source::Bucket => {
                if let Backend::Process(process) = &*self.inner.hot.backend {
                    process.give_back(tenant, kind, amount, limit, now_ms);
                }
            }
        }
    }

    /// Pools in memory: those of tenants that sent something lately.
    #[must_use]
    pub fn resident(&self) -> usize {
        self.inner.pools.lock().unwrap_or_else(PoisonError::into_inner).all.len()
    }

    fn sharers(&self) -> MutexGuard<'_, Sharers> {
        self.inner.sharers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pool(&self, tenant: &TenantName, kind: &'static str, limit: Limit, now_ms: i64) -> Arc<Pool> {
        let mut pools = self.inner.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.all.get(&(tenant.clone(), kind)) {
            return pool.clone();
        }
        if pools.all.len() >= pools.many.min(MOST) {
            pools.all.retain(|_, pool| !pool.is_idle(now_ms, IDLE_MS));
            if pools.all.len() >= MOST {
                // Their tokens are lost, which is a little stricter than the limit.
                pools.all.clear();
            }
            pools.many = pools.all.len() * 2 + MORE;
        }
        let pool = Arc::new(Pool::new(limit, now_ms));
        pools.all.insert((tenant.clone(), kind), pool.clone());
        pool
    }

    /// Leases tokens into a pool, if any are wanted. In a task of its own, so that tokens are not lost with a caller who goes away.
    fn lease(
        &self,
        pool: &Arc<Pool>,
        tenant: &TenantName,
        kind: &'static str,
        want: Option<u64>,
        limit: Limit,
        now_ms: i64,
    ) {
        let Some(want) = want else { return };
        let (budgets, pool, tenant) = (self.clone(), pool.clone(), tenant.clone());
        tokio::spawn(async move {
            let lease = budgets.inner.hot.lease(&tenant, kind, want, limit, now_ms).await.ok();
            if let Some(Lease { sharers, .. }) = lease {
                budgets.sharers().told(sharers, Instant::now());
            }
            pool.leased(lease, limit, now_ms);
        });
    }
}
