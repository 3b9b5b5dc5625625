//! Torture: the product under faults, and a checker that knows what must hold whatever happens.
//!
//! | tier | what is real | what is chosen by a seed |
//! |---|---|---|
//! | [`simulation`] | our code: client, gateway, ingest, compaction, journeys, funnel, and the store's own statements | everything else: network, clocks, database, processes, the order of all that happens |
//! | [`processes`] | everything | when what is killed, stopped, restarted, cut off, forgotten or filled |
//! | [`points`] | everything | nothing: at every named point the process is killed, the step fails, it takes long, and whoever waits goes away |
//!
//! All are held to the same promises:
//!
//! | | what must hold |
//! |---|---|
//! | I1 | every acknowledged event can be read when all is quiet |
//! | I2 | every event counts once, at every read |
//! | I3 | nothing appears that nobody sent |
//! | I4 | a read counts at least what was acknowledged before it began, and at most what was sent before it ended |
//! | I5 | counts never go down |
//! | I7 | answers are those of a plain reference over the same events |
//! | I8 | no tenant sees what is another's |
//! | I10 | a failure has an allowed code, says when to come back, and shows nothing of the inside |
//! | I12 | no connection stays inside a transaction |

#![expect(clippy::unwrap_used, reason = "whoever tortures stops where something is not as it must be")]

mod checker;
mod load;
pub mod points;
pub mod processes;
pub mod simulation;
