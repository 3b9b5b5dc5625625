//! The one place that reads the time. Everything else takes it as an argument or from a [`Clock`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

/// A source of time.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Fixed(Arc<AtomicI64>),
    /// What it shows at `since`.
    Runtime {
        since: tokio::time::Instant,
        then_ms: Arc<AtomicI64>,
    },
}

impl Clock {
    /// A clock that stands still until it is set; for tests.
    #[must_use]
    pub fn fixed(now_ms: i64) -> Clock {
        Clock(Source::Fixed(Arc::new(AtomicI64::new(now_ms))))
    }

    /// A clock that shows `now_ms` now and goes on with the time of the tokio runtime, which tests let stand still or run ahead.
    #[must_use]
    pub fn of_runtime(now_ms: i64) -> Clock {
        Clock(Source::Runtime {
            since: tokio::time::Instant::now(),
            then_ms: Arc::new(AtomicI64::new(now_ms)),
        })
    }

    /// Sets a clock that is for tests; the system's clock is left alone.
    pub fn set(&self, now_ms: i64) {
        match &self.0 {
            Source::System => {}
            Source::Fixed(time) => time.store(now_ms, Ordering::SeqCst),
            Source::Runtime { since, then_ms } => {
                then_ms.store(now_ms - since.elapsed().as_millis() as i64, Ordering::SeqCst);
            }
        }
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::Fixed(time) => time.load(Ordering::SeqCst),
            Source::Runtime { since, then_ms } => {
                then_ms.load(Ordering::SeqCst) + since.elapsed().as_millis() as i64
            }
            Source::System => match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
                Ok(since) => since.as_millis() as i64,
                Err(before) => -(before.duration().as_millis() as i64),
            },
        }
    }
}

/// Measures how long something takes.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// Since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
