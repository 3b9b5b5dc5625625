//! The promises of hot state, checked against every backend, and with servers that fail.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it did, and stops where something fails"
)]

mod budgets;
mod cancelled;
mod faults;
mod opening;
mod sessions;

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

pub(crate) use runnel_harness::Random;
use runnel_harness::{HarnessError, Redis, or_skip};
use runnel_model::TenantName;
use runnel_storage::hot::{Hot, HotOptions};

/// Runs each check on hot state of each backend.
macro_rules! every_backend {
    ($($module:ident: $($check:ident),* $(,)?;)*) => {
        mod process {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $check() {
                    super::$module::$check(&runnel_storage::Hot::process()).await;
                }
            )*)*
        }
        mod redis {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $check() {
                    let Some(redis) = super::server() else { return };
                    super::$module::$check(&super::patient(redis).await).await;
                }
            )*)*
        }
        mod cluster {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $check() {
                    let Some(redis) = super::cluster() else { return };
                    super::$module::$check(&super::patient(redis).await).await;
                }
            )*)*
        }
    };
}

every_backend! {
    sessions:
        a_session_is_open_for_the_gap_and_no_longer,
        what_is_still_to_come_opens_when_it_is_due,
        any_order_of_the_same_events_counts_the_same,
        a_shard_that_is_not_there_is_lost,
        a_step_that_was_missed_is_noticed,
        a_step_of_which_a_filling_threw_away_a_part_is_lost,
        an_older_owner_is_fenced,
        one_process_owns_a_tenant_at_a_time,
        time_does_not_go_back,
        tenants_and_shards_do_not_mix,
        a_filling_is_seen_whole_or_not_at_all,
        many_visitors_are_counted;
    budgets:
        leases_equal_those_of_a_bucket_that_lives_through_every_millisecond,
        processes_together_let_through_no_more_than_the_limit,
        a_limit_is_kept_and_refuses_nobody_for_long_when_clocks_jump,
        more_than_ever_fits_is_refused_for_good,
        a_call_that_is_refused_takes_nothing,
        only_those_who_send_are_in_memory;
}

/// The server that these tests have in common.
pub(crate) fn server() -> Option<&'static Redis> {
    or_skip(Redis::shared()).unwrap()
}

/// The cluster that these tests have in common.
pub(crate) fn cluster() -> Option<&'static Redis> {
    static CLUSTER: OnceLock<Result<Redis, HarnessError>> = OnceLock::new();
    or_skip(CLUSTER.get_or_init(|| Redis::cluster(3)).as_ref()).unwrap()
}

/// Hot state with a deadline that nothing exceeds which works at all, however busy this machine is.
pub(crate) async fn patient(redis: &Redis) -> Hot {
    let options = HotOptions { deadline: Duration::from_secs(10), ..HotOptions::new(redis.url()) };
    Hot::open(&options).await.unwrap()
}

/// A tenant that no other check has.
pub(crate) fn tenant() -> TenantName {
    static TENANTS: AtomicU32 = AtomicU32::new(0);
    TenantName::parse(&format!("shop-{}", TENANTS.fetch_add(1, Ordering::Relaxed))).unwrap()
}
