//! Points that do what `RUNNEL_FAILPOINTS` says.

use std::{
    env,
    fs::OpenOptions,
    future::Future,
    io::Write,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::{Injected, NAMES};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Error,
    Sleep(Duration),
    Cancel,
}

/// At which hits something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    At(u64),
    Every(u64),
}

#[derive(Debug)]
struct Armed {
    name: &'static str,
    action: Action,
    when: When,
    hits: AtomicU64,
}

static PLAN: LazyLock<Vec<Armed>> =
    LazyLock::new(|| env::var("RUNNEL_FAILPOINTS").map(|plan| parse(&plan)).unwrap_or_default());
static LOG: LazyLock<Option<String>> = LazyLock::new(|| env::var("RUNNEL_FAILPOINTS_LOG").ok());
static CANCELLED: Notify = Notify::const_new();

/// Reads a plan. What is not understood ends the process: a test that arms nothing would prove nothing.
fn parse(plan: &str) -> Vec<Armed> {
    let entries = plan.split(';').map(str::trim).filter(|entry| !entry.is_empty());
    let armed = entries.map(|entry| {
        let (name, rest) = entry.split_once('=')?;
        let name = NAMES.iter().find(|known| **known == name.trim())?;
        let (action, when) = match (rest.split_once('@'), rest.split_once('/')) {
            (Some((action, at)), _) => (action, When::At(at.trim().parse().ok()?)),
            (None, Some((action, every))) => (action, When::Every(every.trim().parse().ok()?)),
            (None, None) => (rest, When::At(1)),
        };
        let action = match (action.trim(), action.trim().strip_prefix("sleep:")) {
            ("kill", _) => Action::Kill,
            ("error", _) => Action::Error,
            ("cancel", _) => Action::Cancel,
            (_, Some(wait)) => Action::Sleep(Duration::from_millis(wait.parse().ok()?)),
            _ => return None,
        };
        Some(Armed { name, action, when, hits: AtomicU64::new(0) })
    });
    armed.collect::<Option<Vec<_>>>().unwrap_or_else(|| std::process::abort())
}

impl Armed {
    /// Whether something happens at this hit.
    fn is_due(&self) -> bool {
        let hit = self.hits.fetch_add(1, Ordering::AcqRel) + 1;
        match self.when {
            When::At(at) => hit == at,
            When::Every(every) => hit.is_multiple_of(every),
        }
    }

    fn log(&self) {
        if let Some(path) = &*LOG
            && let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path)
        {
            // In one piece: several processes write to one file.
            drop(file.write_all(format!("{} {:?}\n", self.name, self.action).as_bytes()));
        }
    }
}

/// Passes a point.
pub async fn hit(name: &'static str) -> Result<(), Injected> {
    for armed in PLAN.iter().filter(|armed| armed.name == name) {
        if !armed.is_due() {
            continue;
        }
        armed.log();
        match armed.action {
            // Nothing is flushed, nothing dropped: as by SIGKILL.
            Action::Kill => std::process::abort(),
            Action::Error => return Err(Injected(name)),
            Action::Sleep(wait) => tokio::time::sleep(wait).await,
            Action::Cancel => {
                CANCELLED.notify_waiters();
                // Those who wait are gone before this goes on.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }
    Ok(())
}

/// What the work gives, or `None` when a point sends everybody away who waits. The work is then dropped where it is.
pub async fn cancellable<F: Future>(work: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        () = CANCELLED.notified() => None,
        output = work => Some(output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_read() {
        let plan = parse("ing.before_commit=kill@3; drn.after_claim = sleep:200/10 ;sq.before_commit=error");
        let read: Vec<_> = plan.iter().map(|armed| (armed.name, armed.action, armed.when)).collect();
        assert_eq!(
            read,
            [
                ("ing.before_commit", Action::Kill, When::At(3)),
                ("drn.after_claim", Action::Sleep(Duration::from_millis(200)), When::Every(10)),
                ("sq.before_commit", Action::Error, When::At(1)),
            ]
        );
        let due: Vec<bool> = (0..21).map(|_| plan[1].is_due()).collect();
        assert_eq!(due.iter().filter(|due| **due).count(), 2);
        assert!((0..5).map(|_| plan[0].is_due()).eq([false, false, true, false, false]));
    }
}
