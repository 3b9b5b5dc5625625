//! What is looked at from outside while real processes run: connections inside a transaction, memory, and the processes' own words.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use runnel_chassis::Clock;
use runnel_harness::{Deployment, Postgres};

use crate::checker::CANARY;

/// How often connections are looked at.
const PACE: Duration = Duration::from_millis(200);
/// How long a connection may do nothing inside a transaction, in milliseconds.
const IDLE_MS: i64 = 1_000;
/// When looking takes this long, in milliseconds, the machine or the database stood still, and with it whoever was inside a transaction.
const UNHEARD_MS: i64 = 700;
/// The most memory that a process may ever have had, in KiB: several times what these loads take, and far less than what a queue without an end would.
const MEMORY_KIB: u64 = 1_536 << 10;

/// Connections of the product that do nothing inside a transaction: their process, since when, and now.
const IDLE: &str = "SELECT pid, (extract(epoch FROM state_change) * 1000)::bigint, \
                    (extract(epoch FROM clock_timestamp()) * 1000)::bigint \
                    FROM pg_stat_activity WHERE usename <> 'postgres' AND state LIKE 'idle in transaction%' \
                    AND state_change < clock_timestamp() - interval '1 second'";

/// From and to, in milliseconds since 1970.
type Span = (i64, i64);

/// Looks at a database's connections all the time (I12).
pub(crate) struct Transactions {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    looks: u64,
    /// Until when each connection was seen to do nothing, by its process and since when.
    idle: BTreeMap<(String, i64), i64>,
    /// When somebody was kept from going on, on purpose or by the machine.
    held: Vec<Span>,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

/// While this lives, somebody is kept from going on, on purpose.
pub(crate) struct Held {
    shared: Arc<Shared>,
    since_ms: i64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.seen().held.push((self.since_ms, Clock::default().now_ms()));
    }
}

impl Transactions {
    /// Begins.
    pub(crate) fn watch(server: Arc<Postgres>) -> Transactions {
        let shared = Arc::new(Shared::default());
        let looking = shared.clone();
        let thread = thread::spawn(move || {
            let clock = Clock::default();
            while !looking.over.load(Ordering::Relaxed) {
                let before_ms = clock.now_ms();
                // Nobody is inside a transaction of a database that does not answer.
                let idle = server.sql("postgres", IDLE).unwrap_or_default();
                thread::sleep(PACE);
                looking.seen().add(&idle, (before_ms, clock.now_ms()));
            }
        });
        Transactions { shared, thread: Some(thread) }
    }

    /// Somebody is about to be kept from going on.
    pub(crate) fn hold(&self) -> Held {
        Held { shared: self.shared.clone(), since_ms: Clock::default().now_ms() }
    }

    /// Ends. How often connections were looked at. Panics where one stayed inside a transaction for longer than it may.
    pub(crate) fn settle(mut self) -> u64 {
        self.shared.over.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join).transpose().unwrap();
        let seen = self.shared.seen();
        let stayed = seen.stayed();
        assert!(stayed.is_empty(), "I12: inside a transaction without doing anything: {stayed:?}");
        seen.looks
    }
}

impl Drop for Transactions {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

impl Seen {
    /// Adds what was seen from an instant to another.
    fn add(&mut self, idle: &str, look: Span) {
        self.looks += 1;
        if look.1 - look.0 > UNHEARD_MS {
            self.held.push(look);
        }
        for line in idle.lines() {
            let [process, since_ms, now_ms] = line.split('|').collect::<Vec<_>>()[..] else { continue };
            self.idle.insert((process.to_owned(), since_ms.parse().unwrap()), now_ms.parse().unwrap());
        }
    }

    /// Who did nothing for too long, and for how many milliseconds, without those in which somebody was held.
    fn stayed(&self) -> Vec<(&str, i64)> {
        let free = self.idle.iter().map(|((process, since_ms), until_ms)| {
            (process.as_str(), until_ms - since_ms - covered((*since_ms, *until_ms), &self.held))
        });
        free.filter(|(_, ms)| *ms > IDLE_MS).collect()
    }
}

/// How much of a span others cover, which may overlap.
fn covered(span: Span, others: &[Span]) -> i64 {
    let mut parts: Vec<Span> = others
        .iter()
        .map(|other| (other.0.max(span.0), other.1.min(span.1)))
        .filter(|part| part.0 < part.1)
        .collect();
    parts.sort_unstable();
    let (mut covered, mut until) = (0, span.0);
    for (from, to) in parts {
        covered += (to - from.max(until)).max(0);
        until = until.max(to);
    }
    covered
}

/// The processes of a deployment that have ended.
pub(crate) fn gone(deployment: &mut Deployment) -> Vec<&'static str> {
    let processes = deployment.processes.iter_mut();
    processes.filter_map(|(name, process)| process.has_ended().unwrap().then_some(*name)).collect()
}

/// The most memory that a process of a deployment has had since it was started, in KiB (I9). Panics where one has had too much.
pub(crate) fn memory(deployment: &Deployment) -> u64 {
    let peaks = deployment.processes.iter().map(|(name, process)| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
        // One that has just ended has none any more.
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .map_or(0, |text| text.trim().trim_end_matches(" kB").parse().unwrap());
        assert!(peak <= MEMORY_KIB, "I9: {name} had {peak} KiB of memory");
        peak
    });
    peaks.max().unwrap_or_default()
}

/// Where the processes' own words go, by what they run for.
#[must_use]
pub fn log(run: &str) -> PathBuf {
    std::env::temp_dir().join(format!("runnel-torture-{}-{run}.log", std::process::id()))
}

/// Looks through what processes said, and deletes it. A panic shows nowhere else: whoever waited is told that the connection broke, and asks again. Keys and what
/// events carry are in no line (I11).
pub(crate) fn look_through(log: &Path, keys: &[String]) {
    let said = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    let from =
        |words: &str| said.find(words).map(|at| said[at..].lines().take(3).collect::<Vec<_>>().join("\n"));
    if let Some(words) = from("panicked at") {
        panic!("a process {words}\nin {}", log.display());
    }
    let secrets = keys.iter().map(String::as_str).chain([CANARY]);
    for (at, secret) in secrets.enumerate() {
        assert!(!said.contains(secret), "I11: secret {at} is in {}", log.display());
    }
    drop(std::fs::remove_file(log));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_is_covered_once() {
        assert_eq!(covered((10, 20), &[]), 0);
        assert_eq!(covered((10, 20), &[(0, 10), (20, 30)]), 0);
        assert_eq!(covered((10, 20), &[(18, 30), (0, 12), (11, 14), (13, 13)]), 6);
        assert_eq!(covered((10, 20), &[(0, 30), (12, 14)]), 10);
    }

    #[test]
    fn who_is_held_may_stay_inside_a_transaction() {
        let mut seen = Seen::default();
        seen.add("", (0, 200));
        seen.add("7|1000|2100\n8|1000|2100", (1_900, 2_100));
        seen.add("7|1000|2300", (2_100, 2_300));
        assert_eq!(seen.stayed(), [("7", 1_300), ("8", 1_100)]);
        seen.held.push((900, 1_250));
        assert_eq!(seen.stayed(), [("7", 1_050)]);
        // Whoever looks was not heard for as long.
        seen.add("", (1_000, 2_000));
        assert!(seen.stayed().is_empty());
        assert_eq!(seen.looks, 4);
    }

    #[test]
    fn a_panic_in_a_log_is_found_and_a_quiet_log_goes() {
        let folder = tempfile::tempdir().unwrap();
        let (log, keys) = (folder.path().join("log"), ["write-key".to_owned(), "read-key".to_owned()]);
        for said in ["thread 'x' panicked at a.rs:1:2:\nno", "a write-key", "a read-key", "canary-of-shop"] {
            std::fs::write(&log, said).unwrap();
            assert!(std::panic::catch_unwind(|| look_through(&log, &keys)).is_err(), "{said}");
        }
        std::fs::write(&log, "all is well").unwrap();
        look_through(&log, &keys);
        assert!(!log.exists());
    }
}
