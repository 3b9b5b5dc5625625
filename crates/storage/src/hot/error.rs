//! Why hot state could not be had.

use redis::RedisError;

/// Hot state could not be had. It is never the truth, so whoever asks goes on without it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HotError {
    /// Nobody answers there, or the connection broke.
    #[error("the hot store at {at} cannot be reached")]
    Unreachable {
        /// Where.
        at: String,
        /// Why.
        #[source]
        source: RedisError,
    },
    /// The answer did not come in time. Whether the command was carried out, or will be, is unknown.
    #[error("the hot store at {at} did not answer in time")]
    TimedOut {
        /// Where.
        at: String,
    },
    /// It failed a moment ago and is left alone for a while; nothing was sent.
    #[error("the hot store at {at} failed a moment ago and is left alone for a while")]
    CircuitOpen {
        /// Where.
        at: String,
    },
    /// It answered that it will not: it is starting, has no memory left, or does not let this program in.
    #[error("the hot store at {at} refused")]
    Refused {
        /// Where.
        at: String,
        /// Why.
        #[source]
        source: RedisError,
    },
    /// It is not set up for this.
    #[error(transparent)]
    Unsuitable(#[from] Unsuitable),
    /// No node of the cluster is known to hold what was asked for.
    #[error("no node of the cluster of hot stores is known to hold this")]
    NoNode,
    /// What was asked for is not there, or not whole, or is behind what the caller knows.
    #[error("the hot state is lost")]
    Lost,
    /// Another process has taken over.
    #[error("another process has taken over the hot state")]
    Fenced {
        /// Its epoch.
        epoch: u64,
    },
    /// The answer is of another kind than was asked for.
    #[error("the hot store answered something that was not asked for")]
    Unexpected,
}

impl HotError {
    /// Whether the store could not be had at all, whatever is in it.
    #[must_use]
    pub fn is_away(&self) -> bool {
        !matches!(self, HotError::Lost | HotError::Fenced { .. })
    }
}

/// Why a server is not used, though it answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsuitable {
    /// It throws away what it holds when its memory is full.
    #[error(
        "the hot store at {at} would throw away what it holds (maxmemory-policy {policy}): hot state is no cache; \
         run CONFIG SET maxmemory-policy noeviction, or allow eviction"
    )]
    Evicts {
        /// Where.
        at: String,
        /// Its policy.
        policy: String,
    },
    /// It is too old.
    #[error("the hot store at {at} has version {found}, and 6.2 or newer is needed")]
    TooOld {
        /// Where.
        at: String,
        /// Its version.
        found: String,
    },
    /// It is a node of a cluster, and was named as a server of its own.
    #[error("the hot store at {at} is a node of a cluster: write redis+cluster:// instead of redis://")]
    Cluster {
        /// Where.
        at: String,
    },
    /// It is a server of its own, and was named as a node of a cluster.
    #[error("the hot store at {at} is no cluster: write redis:// instead of redis+cluster://")]
    NoCluster {
        /// Where.
        at: String,
    },
}
