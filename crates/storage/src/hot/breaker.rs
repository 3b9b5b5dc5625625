//! A circuit breaker: after several failures nobody is let through for a while, then one at a time until that works again.
//!
//! It knows no clock and no connection. Whoever asks it says what time it is, as the time since an origin of their own that never goes back.

use std::time::Duration;

/// Failures within [`WINDOW`] that open the circuit, if they are at least as many as successes.
const FAILURES: u32 = 3;
/// Failures one behind the other that open it, however many successes there were before.
const IN_A_ROW: u32 = 5;
/// Over how long calls are counted.
const WINDOW: Duration = Duration::from_secs(1);
/// How long nobody is let through at first. It doubles with every probe that fails …
const REST: Duration = Duration::from_millis(100);
/// … up to this.
const LONGEST_REST: Duration = Duration::from_secs(2);
/// A probe that says nothing for this long is given up, and the next one may go.
const PROBE: Duration = Duration::from_secs(1);

/// Whether calls may go, and what became of them.
#[derive(Debug)]
pub(crate) struct Breaker {
    state: State,
    /// Counts how often the state changed, so that what comes late is not taken for what is now.
    changes: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed(Counts),
    Open { until: Duration, rest: Duration },
    Probing { until: Duration, rest: Duration },
}

/// What became of calls since a moment.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    since: Duration,
    successes: u32,
    failures: u32,
    /// Failures since the last success.
    in_a_row: u32,
}

impl Counts {
    /// Begins anew when the window is over.
    fn renew(&mut self, now: Duration) {
        if now.saturating_sub(self.since) > WINDOW {
            *self = Counts { since: now, ..Counts::default() };
        }
    }
}

/// The permission for one call. What became of the call has to be told, or that it was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) struct Admission {
    change: u64,
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker { state: State::Closed(Counts::default()), changes: 0 }
    }
}

impl Breaker {
    /// Lets a call through, or not.
    pub(crate) fn admit(&mut self, now: Duration) -> Option<Admission> {
        match self.state {
            State::Closed(_) => {}
            State::Open { until, rest } | State::Probing { until, rest } => {
                if now < until {
                    return None;
                }
                self.change(State::Probing { until: now + PROBE, rest });
            }
        }
        Some(Admission { change: self.changes })
    }

    /// The call was answered in time. `true` when this closed the circuit.
    pub(crate) fn succeeded(&mut self, admission: Admission, now: Duration) -> bool {
        if admission.change != self.changes {
            return false;
        }
        match &mut self.state {
            State::Closed(counts) => {
                counts.renew(now);
                counts.successes += 1;
                counts.in_a_row = 0;
                false
            }
            State::Probing { .. } => {
                self.change(State::Closed(Counts { since: now, successes: 1, ..Counts::default() }));
                true
            }
            State::Open { .. } => false,
        }
    }

    /// The call was not answered, or not in time. `true` when this opened the circuit.
    pub(crate) fn failed(&mut self, admission: Admission, now: Duration) -> bool {
        if admission.change != self.changes {
            return false;
        }
        let rest = match &mut self.state {
            State::Closed(counts) => {
                counts.renew(now);
                counts.failures += 1;
                counts.in_a_row += 1;
                let many = counts.failures >= FAILURES && counts.failures >= counts.successes;
                if !many && counts.in_a_row < IN_A_ROW {
                    return false;
                }
                REST
            }
            State::Probing { rest, .. } => (*rest * 2).min(LONGEST_REST),
            State::Open { .. } => return false,
        };
        self.change(State::Open { until: now + rest, rest });
        true
    }

    /// Whoever called did not wait for what becomes of it.
    pub(crate) fn abandoned(&mut self, admission: Admission, now: Duration) {
        if admission.change == self.changes
            && let State::Probing { rest, .. } = self.state
        {
            self.change(State::Open { until: now, rest });
        }
    }

    /// Whether a call would be turned away.
    pub(crate) fn is_open(&self, now: Duration) -> bool {
        match self.state {
            State::Closed(_) => false,
            State::Open { until, .. } | State::Probing { until, .. } => now < until,
        }
    }

    fn change(&mut self, state: State) {
        self.state = state;
        self.changes += 1;
    }
}

#[cfg(test)]
#[path = "breaker/tests.rs"]
mod tests;
