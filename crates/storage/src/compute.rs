//! Where work for the processor runs.

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::{JoinHandle, spawn, spawn_blocking},
};

/// Runs work that keeps a processor busy, on a thread beside those that tasks share. On a runtime of one thread it is a task among the others, so that everything
/// on that runtime happens in one order, and in the same one again.
pub fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => spawn(async move { work() }),
        _ => spawn_blocking(work),
    }
}
