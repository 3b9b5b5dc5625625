//! The database server: transactions over the tables, one statement after the other.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::sqlx::Error;
use tokio::{sync::Notify, time::Instant};

use super::{
    Isolation, Observer, SimulatedFaults, SimulatedOptions, SimulatedTally,
    fault::{Chance, Refused, Stop, Trip, cut, refused},
    parse::parse,
    schema,
    statement::Statement,
    table::{Tables, Transaction, end},
    value::Value,
    write::{Done, Run},
};
use crate::postgres::MIGRATIONS;

/// How long a statement waits for a lock: `lock_timeout` of the product's connections.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// A server.
pub(super) struct Server {
    state: Mutex<State>,
    /// A transaction ended.
    ended: Notify,
    /// The numbers of processes and connections.
    numbers: AtomicU64,
    isolation: Isolation,
    observer: Option<Observer>,
    since: Instant,
    since_ms: i64,
}

struct State {
    tables: Tables,
    /// How many transactions were committed: the newest instant.
    commits: u64,
    transactions: u64,
    active: BTreeMap<u64, Transaction>,
    /// Instants that statements look at which wait for a lock, by transaction.
    looking: BTreeMap<u64, u64>,
    /// Who waits for whom.
    waits: BTreeMap<u64, u64>,
    /// Statements that were read before.
    statements: HashMap<String, Arc<Statement>>,
    chance: Chance,
    faults: SimulatedFaults,
    tally: SimulatedTally,
    /// How often the server was restarted: connections do not outlive that.
    starts: u64,
    down_until: Instant,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("isolation", &self.isolation).finish_non_exhaustive()
    }
}

/// What a session is asked to do.
#[derive(Debug, Clone)]
pub(super) enum Task {
    /// With a statement without parameters that goes the same way.
    Begin {
        repeatable: bool,
        tenant: Option<String>,
        first: Option<String>,
    },
    Commit,
    RollBack,
    Statement {
        text: String,
        parameters: Vec<Value>,
    },
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Task::Begin { first: None, .. } => f.write_str("BEGIN"),
            Task::Begin { first: Some(first), .. } => write!(f, "BEGIN; {first}"),
            Task::Commit => f.write_str("COMMIT"),
            Task::RollBack => f.write_str("ROLLBACK"),
            Task::Statement { text, .. } => f.write_str(text),
        }
    }
}

impl Server {
    pub(super) fn new(options: SimulatedOptions) -> Server {
        let SimulatedOptions { seed, now_ms, isolation, faults, observer } = options;
        let since = Instant::now();
        let state = State {
            tables: schema::tables(&MIGRATIONS),
            commits: 0,
            transactions: 0,
            active: BTreeMap::new(),
            looking: BTreeMap::new(),
            waits: BTreeMap::new(),
            statements: HashMap::new(),
            chance: Chance(seed),
            faults,
            tally: SimulatedTally::default(),
            starts: 0,
            down_until: since,
        };
        Server {
            state: Mutex::new(state),
            ended: Notify::new(),
            numbers: AtomicU64::new(0),
            isolation,
            observer,
            since,
            since_ms: now_ms,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that nobody has.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn observe(&self, what: fmt::Arguments<'_>) {
        if let Some(observer) = &self.observer {
            observer(what);
        }
    }

    pub(super) fn set_faults(&self, faults: SimulatedFaults) {
        self.state().faults = faults;
    }

    pub(super) fn tally(&self) -> SimulatedTally {
        self.state().tally
    }

    /// A number below `end`.
    pub(super) fn chance(&self, end: u64) -> u64 {
        self.state().chance.below(end)
    }

    /// What becomes of a round trip.
    pub(super) fn trip(&self, commit: bool) -> Trip {
        let state = &mut *self.state();
        state.tally.statements += 1;
        state.faults.draw(commit, &mut state.chance, &mut state.tally)
    }

    /// How often it was restarted; `None` while it does not answer.
    pub(super) fn starts(&self) -> Option<u64> {
        let state = self.state();
        (Instant::now() >= state.down_until).then_some(state.starts)
    }

    /// Whether connections from before its `starts`th restart are gone.
    pub(super) fn restarted_since(&self, starts: u64) -> bool {
        self.state().starts != starts
    }

    /// Ends at once, as with `pg_ctl stop -m immediate`, and answers again after a while. What was not committed never was.
    pub(super) fn restart(&self, down: Duration) {
        self.observe(format_args!("the server restarts, down for {} ms", down.as_millis()));
        let numbers: Vec<u64> = {
            let mut state = self.state();
            state.starts += 1;
            state.down_until = Instant::now() + down;
            state.tally.cut_off += state.active.len() as u64;
            state.active.keys().copied().collect()
        };
        numbers.into_iter().for_each(|number| _ = self.end(number, false));
    }

    /// Opens a transaction.
    pub(super) fn begin(&self, repeatable: bool, tenant: Option<String>) -> u64 {
        let mut state = self.state();
        state.transactions += 1;
        let number = state.transactions;
        let repeatable = repeatable && self.isolation == Isolation::RepeatableRead;
        state.active.insert(number, Transaction { number, repeatable, tenant, ..Transaction::default() });
        number
    }

    /// Ends a transaction; `false` when there is none of this number. One in which a statement failed is undone in any case, as PostgreSQL does.
    pub(super) fn end(&self, number: u64, commit: bool) -> bool {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(transaction) = state.active.remove(&number) else { return false };
        state.waits.remove(&number);
        state.looking.remove(&number);
        let snapshots = state.active.values().filter_map(|other| other.snapshot);
        let oldest = snapshots.chain(state.looking.values().copied()).min().unwrap_or(state.commits);
        let at = (commit && !transaction.failed).then(|| {
            state.tally.commits += 1;
            state.commits += 1;
            state.commits
        });
        end(&mut state.tables, &transaction, at, oldest);
        drop(guard);
        self.ended.notify_waiters();
        true
    }

    /// Carries out a statement of a transaction. Waits for transactions that hold what it needs.
    pub(super) async fn execute(&self, number: u64, text: &str, parameters: &[Value]) -> Result<Done, Error> {
        let statement = self.statement(text)?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        let mut snapshot = None;
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            match self.attempt(number, &statement, parameters, &mut snapshot)? {
                Ok(done) => return Ok(done),
                Err(()) => {
                    if tokio::time::timeout_at(deadline, ended).await.is_err() {
                        self.fail(number);
                        return Err(refused("55P03", "a lock was not given in time"));
                    }
                }
            }
        }
    }

    /// One attempt; the inner error says that it has to wait. `snapshot` is the instant that the statement looks at, once that is chosen.
    fn attempt(
        &self,
        number: u64,
        statement: &Statement,
        parameters: &[Value],
        snapshot: &mut Option<u64>,
    ) -> Result<Result<Done, ()>, Error> {
        let mut guard = self.state();
        let state = &mut *guard;
        // Whoever has no transaction any more was cut off.
        let transaction = state.active.get_mut(&number).ok_or_else(cut)?;
        if transaction.failed {
            return Err(refused("25P02", "a statement before failed"));
        }
        let now = match transaction.repeatable {
            true => *transaction.snapshot.get_or_insert(state.commits),
            false => state.commits,
        };
        let looks_at = *snapshot.get_or_insert(now);
        state.looking.insert(number, looks_at);
        let elapsed_ms = self.since.elapsed().as_millis() as i64;
        let seconds = (self.since_ms + elapsed_ms).div_euclid(1_000);
        let run = Run::new(&mut state.tables, transaction, parameters, looks_at, seconds);
        match run.execute(statement) {
            Ok(done) => {
                state.looking.remove(&number);
                state.waits.remove(&number);
                Ok(Ok(done))
            }
            Err(Stop::Holds(other)) => {
                if state.waits.insert(number, other).is_none() {
                    state.tally.waited += 1;
                }
                if in_circle(&state.waits, number) {
                    state.tally.deadlocks += 1;
                    drop(guard);
                    self.fail(number);
                    return Err(refused("40P01", "transactions wait for each other"));
                }
                Ok(Err(()))
            }
            Err(Stop::Failed(Refused { code, message })) => {
                drop(guard);
                self.fail(number);
                Err(refused(code, &message))
            }
        }
    }

    /// A statement of the transaction failed.
    pub(super) fn fail(&self, number: u64) {
        let mut state = self.state();
        state.waits.remove(&number);
        state.looking.remove(&number);
        if let Some(transaction) = state.active.get_mut(&number) {
            transaction.failed = true;
        }
    }

    /// A statement that was read before, or is now.
    fn statement(&self, text: &str) -> Result<Arc<Statement>, Error> {
        if let Some(known) = self.state().statements.get(text) {
            return Ok(known.clone());
        }
        let statement = Arc::new(parse(text)?);
        self.state().statements.insert(text.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// Whether one who waits does so for itself in the end.
fn in_circle(waits: &BTreeMap<u64, u64>, number: u64) -> bool {
    let mut others =
        std::iter::successors(waits.get(&number), |other| waits.get(other)).take(waits.len() + 1);
    others.any(|other| *other == number)
}
