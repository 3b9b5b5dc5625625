//! What to simulate.

/// Start of [`Config::shop`]: Monday 2026-01-05, 00:00 UTC.
const START_MS: i64 = 1_767_571_200_000;

/// The size and the habits of a shop. Equal configurations give equal streams, on every platform and in every later version.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Chooses one of 2^64 shops.
    pub seed: u64,
    /// Number of visitors, 1 to 2^36. A visitor has about ten events.
    pub visitors: u64,
    /// Start of the period, milliseconds since the Unix epoch, 1970 to 2100.
    pub start_ms: i64,
    /// Length of the period in days, 1 to 3,660. No session starts later; the last sessions run on for a few minutes.
    pub days: u32,
    /// Share of events that are sent again, 0 to 1. One in eight of them is sent a third time.
    pub duplicates: f64,
    /// Share of events that are delivered late, by one minute to three days, 0 to 1.
    pub late: f64,
    /// Share of events, after the first of a person's session, that happen in the millisecond of the event before, 0 to 1. About half of the
    /// visitors are served by a back end that numbers its events; with the others only the event id orders such a burst.
    pub ties: f64,
    /// Share of visitors that are bots, 0 to 1.
    pub bots: f64,
}

impl Config {
    /// A believable shop over four weeks: 1 % duplicates, 2 % late, 6 % ties, 0.2 % bots.
    #[must_use]
    pub fn shop(seed: u64, visitors: u64) -> Self {
        Self {
            seed,
            visitors,
            start_ms: START_MS,
            days: 28,
            duplicates: 0.01,
            late: 0.02,
            ties: 0.06,
            bots: 0.002,
        }
    }

    /// Checks every bound.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if !(1..=1 << 36).contains(&self.visitors) {
            return Err(ConfigError::Visitors(self.visitors));
        }
        if !(0..=4_102_444_800_000).contains(&self.start_ms) {
            return Err(ConfigError::Start(self.start_ms));
        }
        if !(1..=3_660).contains(&self.days) {
            return Err(ConfigError::Days(self.days));
        }
        let shares =
            [("duplicates", self.duplicates), ("late", self.late), ("ties", self.ties), ("bots", self.bots)];
        for (name, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(ConfigError::Share { name, share });
            }
        }
        Ok(())
    }
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// Too few or too many visitors.
    #[error("visitors must be 1 to 2^36, not {0}")]
    Visitors(u64),
    /// The start is out of range.
    #[error("start_ms must lie between 1970 and 2100, not {0}")]
    Start(i64),
    /// The period is too short or too long.
    #[error("days must be 1 to 3660, not {0}")]
    Days(u32),
    /// A share is not between 0 and 1.
    #[error("{name} must be 0 to 1, not {share}")]
    Share {
        /// The field of [`Config`].
        name: &'static str,
        /// What it was.
        share: f64,
    },
}
