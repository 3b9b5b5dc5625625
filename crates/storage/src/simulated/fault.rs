//! What can go wrong between a process and the database, and how often it did.

use std::{borrow::Cow, error::Error as StdError, io, time::Duration};

use ::sqlx::{
    Error,
    error::{DatabaseError, ErrorKind},
};

/// How often what goes wrong, in one of 10,000 round trips each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SimulatedFaults {
    /// Most milliseconds that a statement takes to the server, and its answer back; 0 takes no time at all.
    pub latency_ms: u64,
    /// A statement takes up to two seconds longer.
    pub slow: u32,
    /// A statement takes 5 to 40 seconds longer.
    pub stalled: u32,
    /// The connection is lost before the server gets a statement.
    pub lost_before: u32,
    /// The connection is lost after a statement was carried out.
    pub lost_after: u32,
    /// The server refuses a statement: the disk is full, a fault of its own, or it ends the connection.
    pub refused: u32,
    /// The connection is lost before the server gets a commit: nothing was committed, and nobody knows.
    pub commit_lost_before: u32,
    /// The connection is lost after a commit: it took place, and nobody knows.
    pub commit_lost_after: u32,
    /// A commit takes place 10 to 20 seconds later, when whoever asked for it may have given up.
    pub commit_late: u32,
    /// The server refuses a commit.
    pub commit_refused: u32,
}

/// How often what went wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SimulatedTally {
    /// Statements, those that begin and end transactions included.
    pub statements: u64,
    /// Commits that took place.
    pub commits: u64,
    /// See [`SimulatedFaults::slow`].
    pub slow: u64,
    /// See [`SimulatedFaults::stalled`].
    pub stalled: u64,
    /// See [`SimulatedFaults::lost_before`].
    pub lost_before: u64,
    /// See [`SimulatedFaults::lost_after`].
    pub lost_after: u64,
    /// See [`SimulatedFaults::refused`].
    pub refused: u64,
    /// See [`SimulatedFaults::commit_lost_before`].
    pub commit_lost_before: u64,
    /// See [`SimulatedFaults::commit_lost_after`].
    pub commit_lost_after: u64,
    /// See [`SimulatedFaults::commit_late`].
    pub commit_late: u64,
    /// See [`SimulatedFaults::commit_refused`].
    pub commit_refused: u64,
    /// Statements that waited for another transaction's lock.
    pub waited: u64,
    /// Transactions that waited for each other in a circle.
    pub deadlocks: u64,
    /// Connections that ended because the server did.
    pub cut_off: u64,
}

/// What becomes of one round trip.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trip {
    pub(super) before: Duration,
    pub(super) after: Duration,
    pub(super) fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Fine,
    LostBefore,
    LostAfter,
    /// With this SQLSTATE.
    Refused(&'static str),
}

impl SimulatedFaults {
    /// Draws what becomes of a round trip.
    pub(super) fn draw(&self, commit: bool, chance: &mut Chance, tally: &mut SimulatedTally) -> Trip {
        let mut pause = || Duration::from_millis(chance.below(self.latency_ms + 1));
        let mut trip = Trip { before: pause(), after: pause(), fate: Fate::Fine };
        if self.latency_ms == 0 {
            return trip;
        }
        let mut dice = chance.below(10_000) as u32;
        let mut falls = |share: u32| {
            let falls = dice < share;
            dice = if falls { u32::MAX } else { dice - share };
            falls
        };
        if commit {
            if falls(self.commit_lost_before) {
                (trip.fate, tally.commit_lost_before) = (Fate::LostBefore, tally.commit_lost_before + 1);
            } else if falls(self.commit_lost_after) {
                (trip.fate, tally.commit_lost_after) = (Fate::LostAfter, tally.commit_lost_after + 1);
            } else if falls(self.commit_late) {
                trip.before += Duration::from_millis(10_000 + chance.below(10_000));
                tally.commit_late += 1;
            } else if falls(self.commit_refused) {
                trip.fate = Fate::Refused(["40001", "53100"][chance.below(2) as usize]);
                tally.commit_refused += 1;
            }
        } else if falls(self.slow) {
            trip.before += Duration::from_millis(chance.below(2_000));
            tally.slow += 1;
        } else if falls(self.stalled) {
            trip.before += Duration::from_millis(5_000 + chance.below(35_000));
            tally.stalled += 1;
        } else if falls(self.lost_before) {
            (trip.fate, tally.lost_before) = (Fate::LostBefore, tally.lost_before + 1);
        } else if falls(self.lost_after) {
            (trip.fate, tally.lost_after) = (Fate::LostAfter, tally.lost_after + 1);
        } else if falls(self.refused) {
            trip.fate = Fate::Refused(["53100", "XX000", "57P01"][chance.below(3) as usize]);
            tally.refused += 1;
        }
        trip
    }
}

/// Why a statement was not carried out.
#[derive(Debug)]
pub(super) enum Stop {
    /// This transaction holds a row.
    Holds(u64),
    /// The server refuses.
    Failed(Refused),
}

impl Stop {
    pub(super) fn failed(code: &'static str, message: String) -> Stop {
        Stop::Failed(Refused { code, message })
    }
}

/// The server's "no", with its SQLSTATE.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub(super) struct Refused {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl DatabaseError for Refused {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.code.into())
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        if self.code == "23505" { ErrorKind::UniqueViolation } else { ErrorKind::Other }
    }
}

/// The server refuses.
pub(super) fn refused(code: &'static str, message: &str) -> Error {
    Error::Database(Box::new(Refused { code, message: message.to_owned() }))
}

/// The connection is gone.
pub(super) fn cut() -> Error {
    Error::Io(io::Error::new(io::ErrorKind::ConnectionReset, "the connection was lost"))
}

/// A small generator of repeatable numbers (SplitMix64).
#[derive(Debug)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end.max(1)
    }
}
