//! What a store tells whoever measures it, as it happens. It keeps no numbers of its own.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

/// Something that took place in a store of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// A transaction that appends batches of one tenant ended.
    Commit {
        /// How.
        outcome: CommitOutcome,
        /// How long it took from its begin to the end of its commit.
        took: Duration,
        /// How many batches it was to append.
        batches: usize,
    },
    /// A journal row went to quarantine.
    Quarantined,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitOutcome {
    /// What it wrote is durable.
    Committed,
    /// It did not take place.
    Failed,
    /// Nobody said whether it took place.
    Unknown,
}

impl CommitOutcome {
    /// The outcome in a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CommitOutcome::Committed => "committed",
            CommitOutcome::Failed => "failed",
            CommitOutcome::Unknown => "unknown",
        }
    }
}

/// Is told.
type Told = Box<dyn Fn(Notice) + Send + Sync>;

/// Who is told. Clones tell the same.
#[derive(Clone, Default)]
pub(crate) struct Notices {
    told: Arc<OnceLock<Told>>,
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notices").field("told", &self.told.get().is_some()).finish()
    }
}

impl Notices {
    /// Tells somebody from now on, unless somebody else is told already.
    pub(crate) fn tell(&self, told: Told) {
        drop(self.told.set(told));
    }

    pub(crate) fn note(&self, notice: Notice) {
        if let Some(told) = self.told.get() {
            told(notice);
        }
    }

    /// Notes how a transaction that began at an instant ended.
    pub(crate) fn committed<T>(
        &self,
        began: tokio::time::Instant,
        batches: usize,
        result: &Result<T, crate::Unavailable>,
    ) {
        let outcome = match result {
            Ok(_) => CommitOutcome::Committed,
            Err(crate::Unavailable::OutcomeUnknown(_)) => CommitOutcome::Unknown,
            Err(_) => CommitOutcome::Failed,
        };
        self.note(Notice::Commit { outcome, took: began.elapsed(), batches });
    }
}
