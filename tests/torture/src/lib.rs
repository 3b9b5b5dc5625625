//! Torture: the product under faults, and a checker that knows what must hold whatever happens.
//!
//! | tier | what is real | what is chosen by a seed |
//! |---|---|---|
//! | [`simulation`] | our code: client, gateway, ingest, compaction, journeys, funnel, and the store's own statements | everything else: network, clocks, database, processes, the order of all that happens |
//! | [`processes`] | everything | when what is killed, stopped, restarted, cut off, forgotten or filled |
//! | [`points`] | everything | nothing: at every named point the process is killed, the step fails, it takes long, and whoever waits goes away |
//!
//! What must hold, and which tier checks it; a dash where that tier does not:
//!
//! | | what must hold | simulation | processes, points |
//! |---|---|---|---|
//! | I1 | every acknowledged event can be read when all is quiet | event by event, in the store | counts |
//! | I2 | every event counts once, at every read | funnels, contents, reports | funnels; the report in the end |
//! | I3 | nothing appears that nobody sent | event by event, in the store | counts |
//! | I4 | a read counts at least what was acknowledged before it began, and at most what was sent before it ended | funnels, contents, reports | funnels, open sessions |
//! | I5 | counts never go down | funnels, contents, reports | funnels |
//! | I6 | stored counts by day are those from journeys | in the end, in new processes; meanwhile they are asked for | – |
//! | I7 | answers are those of a plain reference over the same events | the funnel, in the end, after compaction, after deletion, in new processes | the funnel, over visitors whose steps lie in different batches, and open sessions; in the end |
//! | I7 | what watchers were told adds up to what is asked for the same instant and revision | a segment and a funnel of each tenant, over streams that break, in the end as I7 above; every total meanwhile | the same, in the end; every total meanwhile |
//! | I8 | no tenant sees what is another's | a second tenant's counts | a second tenant's counts; no answer that shows what events carry shows the other's canary |
//! | I9 | memory is bounded: no process ever has more than 1.5 GiB | – | before every fault or point, and in the end |
//! | I10 | a failure has an allowed code, says when to come back, and shows nothing of the inside | every failure | every failure |
//! | I11 | keys, and what events carry, are in no line of a log | – | all that the processes said |
//! | I12 | no connection does nothing inside a transaction for longer than a second | – | every 200 ms, over PostgreSQL; time in which the tier itself keeps a process or the database from going on does not count |
//! | | no task and no process panics, and none ends by itself | every task, at once | all that the processes said; ends against kills |
//!
//! Stored counts by week and month, those that are split, and what is told of their changes are compared with journeys where nothing fails, by `system/aggregates.rs` of the tests of
//! services/runnel.

#![expect(clippy::unwrap_used, reason = "whoever tortures stops where something is not as it must be")]

mod checker;
mod followed;
mod load;
pub mod points;
pub mod processes;
pub mod simulation;
mod watch;

pub use load::Tally;
pub use watch::log;
