//! Panics of a run. Whoever waits for a task that panics is told that the connection broke, and asks again: so every panic is noted where it happens.

use std::{
    any::Any,
    cell::RefCell,
    panic::{PanicHookInfo, set_hook, take_hook},
    sync::{Arc, Once},
};

use tokio::sync::Notify;

/// Panics below this folder are checks that found something; all others are the product's.
const CHECKS: &str = "tests/torture/";

#[derive(Debug, Default)]
struct Run {
    panics: Vec<String>,
    /// Told of a panic of the product. A check's reaches whoever runs it by itself.
    product: Arc<Notify>,
}

thread_local! {
    /// The run that goes on in this thread. A run is one thread, so all of its panics are this thread's.
    static RUN: RefCell<Option<Run>> = const { RefCell::new(None) };
}

/// Begins to note this thread's panics; what it gives is told when the product does.
pub(super) fn begin() -> Arc<Notify> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            note(info);
            before(info);
        }));
    });
    let run = Run::default();
    let product = run.product.clone();
    RUN.set(Some(run));
    product
}

/// The panics since the beginning, in their order: who, where, and what was said.
pub(super) fn end() -> Vec<String> {
    RUN.take().map(|run| run.panics).unwrap_or_default()
}

fn note(info: &PanicHookInfo<'_>) {
    let Some(place) = info.location() else { return };
    let is_check = place.file().starts_with(CHECKS);
    let who = if is_check { "a check failed" } else { "the product panicked" };
    let panic = format!("{who} at {place}: {}", said(info.payload()));
    // A thread that ends has none any more, and whoever panics inside of a panic has said enough.
    let _ = RUN.try_with(|run| {
        if let Ok(mut run) = run.try_borrow_mut()
            && let Some(run) = run.as_mut()
        {
            run.panics.push(panic);
            if !is_check {
                run.product.notify_one();
            }
        }
    });
}

/// The words of a panic.
pub(super) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_task_that_nobody_waits_for_is_noted() {
        let product = begin();
        drop(tokio::spawn(async { panic!("I4: as a check says it") }));
        tokio::task::yield_now().await;
        // The standard library stands for the product: it is no check of ours.
        drop(tokio::spawn(async { u32::from_str_radix("1", 99).is_ok() }));
        product.notified().await;
        let panics = end();
        assert_eq!(panics.len(), 2, "{panics:?}");
        assert!(
            panics[0].starts_with("a check failed at tests/torture/src/simulation/panics.rs:"),
            "{panics:?}"
        );
        assert!(panics[0].ends_with(": I4: as a check says it"), "{panics:?}");
        assert!(panics[1].starts_with("the product panicked at "), "{panics:?}");
        assert_eq!(end(), Vec::<String>::new());
    }
}
