//! What a database server warns of. The client library hands no notice over; it only logs them, so that what is logged meanwhile is looked at.

use std::{cell::Cell, future::Future, pin::pin, sync::LazyLock};

use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber, dispatcher,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
};

/// Under which name the client library logs notices.
const NOTICES: &str = "sqlx::postgres::notice";

thread_local! {
    static WARNED: Cell<bool> = const { Cell::new(false) };
}

/// The ear, and another one that nobody uses. With a single one in the process, whether notices are of interest to anybody would be found out once, by whoever gets the
/// first, who need not be listening. Both ask for warnings only, so that nothing below has to be looked at anywhere in the process.
static EARS: LazyLock<[Dispatch; 2]> = LazyLock::new(|| [Dispatch::new(Ear), Dispatch::new(Ear)]);

/// Works, and tells whether the server warned of anything meanwhile.
pub(crate) async fn heeding<T>(work: impl Future<Output = T>) -> (T, bool) {
    let (mut work, mut warned) = (pin!(work), false);
    let done = std::future::poll_fn(|cx| {
        WARNED.set(false);
        let polled = dispatcher::with_default(&EARS[0], || work.as_mut().poll(cx));
        warned |= WARNED.get();
        polled
    })
    .await;
    (done, warned)
}

/// Listens for warnings alone.
struct Ear;

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == NOTICES && *metadata.level() <= Level::WARN
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn event(&self, _: &Event<'_>) {
        WARNED.set(true);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remark() {
        tracing::warn!(target: NOTICES, "the wait was cancelled");
    }

    #[tokio::test]
    async fn a_warning_is_heard_by_whoever_listens_also_after_others() {
        assert!(!heeding(std::future::ready(())).await.1, "there was none");
        // The first one, which decides who is ever told of any, is for nobody.
        remark();
        let later = async {
            tokio::task::yield_now().await;
            remark();
        };
        assert!(heeding(later).await.1);
        remark();
        assert!(heeding(async { remark() }).await.1);
        let debug = async { tracing::debug!(target: NOTICES, "nothing to heed") };
        assert!(!heeding(debug).await.1);
        assert_eq!(LevelFilter::current(), LevelFilter::WARN, "what is below costs nothing");
    }
}
