//! Where work for the processor runs.

use std::{io, num::NonZero, sync::LazyLock, thread::available_parallelism};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{Semaphore, oneshot},
    task::{JoinError, JoinHandle, spawn, spawn_blocking},
};

/// Runs work that keeps a processor busy, on a thread beside those that tasks share. On a runtime of one thread it is a task among the others, so that everything
/// on that runtime happens in one order, and in the same one again.
pub fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => spawn(async move { work() }),
        _ => spawn_blocking(work),
    }
}

/// As many as there are processors.
static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(available_parallelism().map_or(1, NonZero::get)));

/// Of so many bytes, work is done where they are: about a millisecond of reading, for which others on the thread can wait, and less than it takes to bring the bytes to
/// the caches of another thread.
const AT_ONCE: usize = 256 << 10;

/// Runs work on so many bytes, of which much comes at once and every piece is short. Small pieces run in the task itself, larger ones as [`compute`] does: no more of
/// them at a time than there are processors, in the order in which they came. More would only take turns with each other.
pub async fn compute_in_turn<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return compute(work).await;
    }
    if bytes <= AT_ONCE {
        return Ok(work());
    }
    let turn = TURNS.acquire().await;
    compute(move || {
        let _turn = turn;
        work()
    })
    .await
}

/// By how much threads that work in the background stand behind others: they get a tenth of what another thread gets that wants the same core.
const BEHIND: i32 = 10;

/// Runs work that takes seconds and that nobody waits for, on a thread of its own, to which others are preferred unless the work is urgent. `None` when the work
/// panicked. On a runtime of one thread as [`compute`].
pub(crate) async fn compute_behind<T: Send + 'static>(
    urgent: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return Ok(compute(work).await.ok());
    }
    let (reply, result) = oneshot::channel();
    std::thread::Builder::new().name("compaction".to_owned()).spawn(move || {
        if !urgent {
            step_back();
        }
        let _ = reply.send(work());
    })?;
    Ok(result.await.ok())
}

/// Lets other threads go first. A thread cannot come forward again without rights that a service does not have, so this is for threads that end with their work.
#[cfg(target_os = "linux")]
fn step_back() {
    // On Linux, what is said of a process by a thread's number holds for that thread: setpriority(2).
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), BEHIND) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}

#[cfg(not(target_os = "linux"))]
fn step_back() {}
