//! Owning a tenant's hot state: one process at a time writes to it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use runnel_storage::hot::{Claim, Holder, HotError, Sessions};
use tokio::time::Instant;

/// What this process knows of owning a tenant.
#[derive(Debug, Default)]
pub(crate) struct Owner {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The epoch, and since when the lease runs.
    owned: Option<(u64, Instant)>,
    /// The highest epoch of another owner that was met.
    beyond: u64,
}

impl Owner {
    /// The epoch to write with; claims the tenant where it is not owned, and renews a lease of which half is over. `None` while another process owns it.
    pub(crate) async fn epoch(
        &self,
        sessions: &Sessions,
        holder: Holder,
        lease: Duration,
        now_ms: i64,
    ) -> Result<Option<u64>, HotError> {
        let beyond = {
            let state = self.state();
            match state.owned {
                Some((epoch, since)) if since.elapsed() < lease / 2 => return Ok(Some(epoch)),
                _ => state.beyond,
            }
        };
        // The lease is counted from before it is asked for: it may run out sooner than that, never later.
        let since = Instant::now();
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        match sessions.claim(holder, lease_ms, beyond, now_ms).await? {
            Claim::Granted { epoch } => {
                self.state().owned = Some((epoch, since));
                Ok(Some(epoch))
            }
            Claim::Held { .. } => {
                self.state().owned = None;
                Ok(None)
            }
        }
    }

    /// Another process has taken over.
    pub(crate) fn overtaken(&self, epoch: u64) {
        let mut state = self.state();
        state.owned = None;
        state.beyond = state.beyond.max(epoch);
    }

    /// Whether the tenant was owned when that was last looked at.
    pub(crate) fn is_owner(&self) -> bool {
        self.state().owned.is_some()
    }

    /// Gives the lease back.
    pub(crate) async fn release(&self, sessions: &Sessions, holder: Holder) {
        if self.state().owned.take().is_some()
            && let Err(error) = sessions.release(holder).await
        {
            tracing::debug!(%error, "the lease on a tenant's open sessions runs out by itself");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
