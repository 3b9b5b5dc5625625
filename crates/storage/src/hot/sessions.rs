//! Open sessions: which visitors of a tenant have a session at this moment.
//!
//! A session is open when the visitor's last event at or before now is at most the tenant's gap ago. A tenant's visitors lie in [`SHARDS`] shards, each with a
//! marker that says up to which sequence number of the journal it is complete. Whoever follows the journal claims an epoch first; what a process with an older
//! epoch sends is refused. Events may be applied in any order and again, so a command whose answer was lost is sent again without harm.
//!
//! All of it may be gone at any moment. A shard that is not there, or not whole, is [`HotError::Lost`] and never a shard without sessions.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use futures_util::future::join_all;
use runnel_failpoints::hit;
use runnel_model::{SHARDS, TenantName, limits::SESSION_GAP_MS};
use tokio::task::yield_now;
use xxhash_rust::xxh3::xxh3_128;

use super::{Backend, Hot, HotError};

/// Events of one command.
const PART: usize = 1_000;

/// A visitor: a hash of the visitor as sent, so that hot state holds nobody's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VisitorKey(pub(crate) [u8; 16]);

impl VisitorKey {
    /// The key of a visitor as sent.
    #[must_use]
    pub fn of(visitor: &[u8]) -> VisitorKey {
        VisitorKey(xxh3_128(visitor).to_be_bytes())
    }
}

/// An event of a visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Whose.
    pub visitor: VisitorKey,
    /// When, in milliseconds since the Unix epoch.
    pub time_ms: i64,
}

/// A process that may own tenants; another one after every start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder(pub(crate) u64);

impl Holder {
    /// A holder that no other process has.
    #[must_use]
    pub fn random() -> Holder {
        Holder(RandomState::new().hash_one(std::process::id()))
    }
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The claimant owns the tenant until the lease ends, with this epoch.
    Granted {
        /// Higher than that of every owner before.
        epoch: u64,
    },
    /// Another process owns it for so long, unless it renews its lease.
    Held {
        /// In milliseconds.
        for_ms: u64,
    },
}

/// A step along the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The owner's.
    pub epoch: u64,
    /// The events were all numbered above this …
    pub from: u64,
    /// … up to this.
    pub to: u64,
}

/// A shard at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardCount {
    /// Visitors with an open session.
    pub open: u64,
    /// Every event up to this sequence number is in.
    pub sequence: u64,
    /// The instant: the caller's, or a later one that somebody asked about before. In milliseconds since the Unix epoch.
    pub as_of_ms: i64,
    /// The epoch of who wrote last.
    pub epoch: u64,
    /// The word of the filling that it has grown from.
    pub(crate) filling: u64,
}

/// A tenant's open sessions.
#[derive(Debug, Clone)]
pub struct Sessions {
    hot: Hot,
    place: Place,
}

/// Whose sessions. Tenants of the same name in other stores, or created again, are others, and so are those that end after another gap.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) tenant: TenantName,
    pub(crate) created_ms: i64,
    pub(crate) erasure: u64,
    /// How long a session stays open without events, in milliseconds.
    pub(crate) gap_ms: i64,
}

/// One part of a shard's filling.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) epoch: u64,
    /// Tells fillings apart. Scripts have numbers of 53 bits.
    pub(crate) word: u64,
    pub(crate) first: bool,
    pub(crate) last: bool,
    pub(crate) sequence: u64,
    pub(crate) seen: &'a [Seen],
}

impl Sessions {
    pub(super) fn new(hot: Hot, tenant: &TenantName, created_ms: i64, erasure: u64) -> Sessions {
        Sessions { hot, place: Place { tenant: tenant.clone(), created_ms, erasure, gap_ms: SESSION_GAP_MS } }
    }

    /// The tenant's sessions as they are when they end after another gap than the usual one, in milliseconds.
    #[must_use]
    pub fn with_gap(mut self, gap_ms: i64) -> Sessions {
        self.place.gap_ms = gap_ms;
        self
    }

    /// Claims the tenant for a while, or renews the lease. A new owner's epoch is higher than every one before, and higher than `beyond`, whatever was lost.
    pub async fn claim(
        &self,
        holder: Holder,
        lease_ms: u64,
        beyond: u64,
        now_ms: i64,
    ) -> Result<Claim, HotError> {
        match &*self.hot.backend {
            Backend::Process(process) => Ok(process.claim(&self.place, holder, lease_ms, beyond, now_ms)),
            Backend::Servers(servers) => servers.claim(&self.place, holder, lease_ms, beyond, now_ms).await,
        }
    }

    /// Gives the lease back, so that another process need not wait for its end.
    pub async fn release(&self, holder: Holder) -> Result<(), HotError> {
        match &*self.hot.backend {
            Backend::Process(process) => {
                process.release(&self.place, holder);
                Ok(())
            }
            Backend::Servers(servers) => servers.release(&self.place, holder).await,
        }
    }

    /// Adds events to a shard, which is complete up to `step.to` then. [`HotError::Lost`] when it is not complete up to `step.from`, or was filled anew meanwhile;
    /// [`HotError::Fenced`] when an owner with a higher epoch wrote to it. With events of other shards its counts are wrong.
    pub async fn apply(
        &self,
        shard: usize,
        step: Step,
        seen: &[Seen],
        now_ms: i64,
    ) -> Result<ShardCount, HotError> {
        let (mut into, mut parts) = (None, seen.chunks(PART).peekable());
        loop {
            let part = parts.next().unwrap_or_default();
            let last = parts.peek().is_none();
            if last {
                hit("hot.before_watermark").await.map_err(|_| HotError::Lost)?;
            }
            // Only with the last part is everything there, and only if a filling has not thrown away the parts before.
            let step = if last { step } else { Step { to: step.from, ..step } };
            let applied = match &*self.hot.backend {
                Backend::Process(process) => process.apply(&self.place, shard, step, into, part, now_ms),
                Backend::Servers(servers) => {
                    servers.apply(&self.place, shard, step, into, part, now_ms).await
                }
            }?;
            if last {
                return Ok(applied);
            }
            into = Some(applied.filling);
            // In the process a part waits for nothing; others get in between as they do on a server.
            yield_now().await;
        }
    }

    /// Replaces a shard by these events, which are all that matter, up to a sequence number. Until it is done the shard is [`HotError::Lost`].
    pub async fn reset(
        &self,
        shard: usize,
        epoch: u64,
        sequence: u64,
        seen: &[Seen],
        now_ms: i64,
    ) -> Result<ShardCount, HotError> {
        let word = RandomState::new().hash_one(epoch) >> 11;
        let (mut first, mut parts) = (true, seen.chunks(PART).peekable());
        loop {
            let seen = parts.next().unwrap_or_default();
            let last = parts.peek().is_none();
            if last && !first {
                hit("hot.before_watermark").await.map_err(|_| HotError::Lost)?;
            }
            let part = Part { epoch, word, first, last, sequence, seen };
            let done = match &*self.hot.backend {
                Backend::Process(process) => process.reset(&self.place, shard, part, now_ms),
                Backend::Servers(servers) => servers.reset(&self.place, shard, part, now_ms).await,
            }?;
            if last {
                return Ok(done);
            }
            first = false;
            yield_now().await;
        }
    }

    /// Counts the open sessions of a shard.
    pub async fn count(&self, shard: usize, now_ms: i64) -> Result<ShardCount, HotError> {
        match &*self.hot.backend {
            Backend::Process(process) => process.count(&self.place, shard, now_ms),
            Backend::Servers(servers) => servers.count(&self.place, shard, now_ms).await,
        }
    }

    /// Counts the open sessions of every shard, by shard. Shards are counted one by one: what is read may hold for different sequence numbers and instants.
    pub async fn count_all(&self, now_ms: i64) -> Vec<Result<ShardCount, HotError>> {
        let counts = (0..SHARDS).map(|shard| self.count(shard, now_ms));
        join_all(counts).await
    }

    /// Throws away all shards of the tenant.
    pub async fn forget(&self) -> Result<(), HotError> {
        match &*self.hot.backend {
            Backend::Process(process) => {
                process.forget(&self.place);
                Ok(())
            }
            Backend::Servers(servers) => {
                for shard in 0..SHARDS {
                    servers.forget(&self.place, shard).await?;
                }
                Ok(())
            }
        }
    }
}

/// How far a shard's clock may be ahead of the caller's, in milliseconds; beyond, the shard is lost.
pub(crate) const AHEAD_MS: i64 = 60_000;
/// How long a shard that nobody counts or applies to is kept, in milliseconds.
pub(crate) const KEPT_MS: i64 = 3_600_000;
/// How long it is remembered who owned a tenant last, in milliseconds.
pub(crate) const OWNER_KEPT_MS: i64 = 24 * 3_600_000;
