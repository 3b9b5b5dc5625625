//! A process's connections to the server.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::sqlx::Error;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{
    fault::{Fate, Trip, cut, refused},
    server::{Server, Task},
    write::Done,
};

/// Most milliseconds until the server finds out that a process is gone.
const NOTICED_MS: u64 = 2_000;

/// A process that works with the database. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Process {
    pub(super) server: Arc<Server>,
    number: u64,
    life: Arc<Life>,
}

#[derive(Default)]
struct Life {
    ended: AtomicBool,
    sessions: Mutex<Vec<Weak<tokio::sync::Mutex<Session>>>>,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({})", self.number)
    }
}

impl Process {
    pub(super) fn new(server: Arc<Server>) -> Process {
        Process { number: server.number(), server, life: Arc::default() }
    }

    /// Goes on only while the process lives: what a killed process would have done next never happens.
    pub(super) async fn lives(&self) {
        if self.life.ended.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    /// Ends the process at once. What it had sent may still reach the server; its open transactions are undone when the server notices.
    pub(super) fn kill(&self) {
        self.server.observe(format_args!("process {} is killed", self.number));
        self.life.ended.store(true, Ordering::SeqCst);
        let sessions =
            std::mem::take(&mut *self.life.sessions.lock().unwrap_or_else(PoisonError::into_inner));
        for session in sessions.iter().filter_map(Weak::upgrade) {
            let noticed = Duration::from_millis(self.server.chance(NOTICED_MS));
            tokio::spawn(async move {
                sleep(noticed).await;
                session.lock().await.die();
            });
        }
    }

    /// Opens a connection; `None` while the server does not answer.
    pub(super) fn connect(&self) -> Option<Connection> {
        let session = Session {
            server: self.server.clone(),
            starts: self.server.starts()?,
            transaction: None,
            dead: false,
        };
        let link = Link {
            process: self.clone(),
            number: self.server.number(),
            session: Arc::new(tokio::sync::Mutex::new(session)),
            broken: AtomicBool::new(false),
        };
        let mut sessions = self.life.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|session| session.strong_count() > 0);
        sessions.push(Arc::downgrade(&link.session));
        Some(Connection { link: Arc::new(link) })
    }
}

/// The server's side of a connection.
struct Session {
    server: Arc<Server>,
    starts: u64,
    transaction: Option<u64>,
    dead: bool,
}

impl Session {
    /// The server ends the connection.
    fn die(&mut self) {
        self.dead = true;
        if let Some(number) = self.transaction.take() {
            self.server.end(number, false);
        }
    }

    fn gone(&self) -> bool {
        self.dead || self.server.restarted_since(self.starts)
    }

    async fn carry_out(&mut self, task: &Task) -> Result<Done, Error> {
        match task {
            Task::Begin { repeatable, tenant, first } => {
                // As PostgreSQL does, beginning again goes on with what was begun.
                let begin = || self.server.begin(*repeatable, tenant.clone());
                let number = *self.transaction.get_or_insert_with(begin);
                match first {
                    Some(first) => self.server.execute(number, first, &[]).await,
                    None => Ok(Done::default()),
                }
            }
            Task::Commit | Task::RollBack => {
                let commit = matches!(task, Task::Commit);
                match self.transaction.take() {
                    Some(number) if !self.server.end(number, commit) => Err(cut()),
                    _ => Ok(Done::default()),
                }
            }
            Task::Statement { text, parameters } => match self.transaction {
                Some(number) => self.server.execute(number, text, parameters).await,
                None => {
                    let number = self.server.begin(false, None);
                    let done = self.server.execute(number, text, parameters).await;
                    self.server.end(number, true);
                    done
                }
            },
        }
    }
}

/// A connection. What was asked for on it is done in order, whether somebody waits for the answer or not.
#[derive(Clone)]
pub(crate) struct Connection {
    link: Arc<Link>,
}

struct Link {
    process: Process,
    number: u64,
    session: Arc<tokio::sync::Mutex<Session>>,
    broken: AtomicBool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.link.number)
    }
}

impl Connection {
    /// Whether the process knows that it is of no use any more.
    pub(super) fn is_broken(&self) -> bool {
        self.link.broken.load(Ordering::SeqCst)
    }

    /// One round trip.
    pub(super) async fn perform(&mut self, task: Task) -> Result<Done, Error> {
        let Link { process, number, session, broken } = &*self.link;
        process.lives().await;
        if broken.load(Ordering::SeqCst) {
            return Err(cut());
        }
        let (reply, answer) = oneshot::channel();
        let trip = process.server.trip(matches!(task, Task::Commit));
        let (session, process, number) = (session.clone(), process.clone(), *number);
        tokio::spawn(async move {
            let result = serve(&session, &process, number, &task, trip).await;
            // Whoever asked may be gone.
            let _ = reply.send(result);
        });
        let result = answer.await.unwrap_or_else(|_| Err(cut()));
        self.link.process.lives().await;
        if matches!(result, Err(Error::Io(_))) {
            broken.store(true, Ordering::SeqCst);
        }
        result
    }
}

/// The way to the server, what it does, and the way back.
async fn serve(
    session: &tokio::sync::Mutex<Session>,
    process: &Process,
    connection: u64,
    task: &Task,
    trip: Trip,
) -> Result<Done, Error> {
    let server = &process.server;
    let mut session = session.lock().await;
    pause(trip.before).await;
    // Of what a killed process had sent, some arrives.
    let vanished = process.life.ended.load(Ordering::SeqCst) && server.chance(2) == 0;
    if session.gone() || vanished || trip.fate == Fate::LostBefore {
        session.die();
        server.observe(format_args!("{process:?} {connection}: lost before {task}"));
        return Err(cut());
    }
    if let Fate::Refused(code) = trip.fate {
        server.observe(format_args!("{process:?} {connection}: refused with {code}: {task}"));
        return refuse(&mut session, task, code);
    }
    let result = session.carry_out(task).await;
    server.observe(format_args!(
        "{process:?} {connection}: {task} {:?}",
        result.as_ref().map(|done| done.affected).map_err(ToString::to_string)
    ));
    pause(trip.after).await;
    if session.gone() || trip.fate == Fate::LostAfter {
        session.die();
        server.observe(format_args!("{process:?} {connection}: lost after {task}"));
        return Err(cut());
    }
    result
}

/// The server says no; a transaction is over by that, or fails.
fn refuse(session: &mut Session, task: &Task, code: &'static str) -> Result<Done, Error> {
    match (task, session.transaction) {
        (_, Some(_)) if code == "57P01" => session.die(),
        (Task::Commit, Some(number)) => {
            session.server.end(number, false);
            session.transaction = None;
        }
        (Task::RollBack, _) | (_, None) => session.die(),
        (_, Some(number)) => session.server.fail(number),
    }
    Err(refused(code, "as the simulation has it"))
}

async fn pause(duration: Duration) {
    if !duration.is_zero() {
        sleep(duration).await;
    }
}

impl Drop for Link {
    /// Closing a connection undoes its transaction, once the server has done what it was asked to.
    fn drop(&mut self) {
        if let Ok(mut session) = self.session.try_lock() {
            session.die();
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let session = self.session.clone();
            runtime.spawn(async move { session.lock().await.die() });
        }
    }
}

/// How long one tries to connect.
pub(super) async fn connected(process: &Process, deadline: Instant) -> Option<Connection> {
    loop {
        if let Some(connection) = process.connect() {
            return Some(connection);
        }
        let again = Instant::now() + Duration::from_millis(50);
        if again >= deadline {
            return None;
        }
        tokio::time::sleep_until(again).await;
    }
}
