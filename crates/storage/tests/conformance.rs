//! The promises of `Store`, checked against every backend. A backend gives a way to open an empty store; the checks know nothing else of it.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

#[path = "conformance/appending.rs"]
mod appending;
#[path = "conformance/bounding.rs"]
mod bounding;
#[path = "conformance/compacting.rs"]
mod compacting;
#[path = "conformance/controlling.rs"]
mod controlling;
#[path = "conformance/erasing.rs"]
mod erasing;
#[path = "samples/events.rs"]
mod events;
#[path = "conformance/identifying.rs"]
mod identifying;
#[path = "conformance/listing.rs"]
mod listing;
#[path = "conformance/retaining.rs"]
mod retaining;

use runnel_harness::Postgres;
use runnel_storage::{EmbeddedOptions, PostgresOptions, SimulatedDatabase, SimulatedOptions, Store};
use tempfile::TempDir;

/// An empty store, and what must be kept while it is used.
pub(crate) struct Opened {
    pub(crate) store: Store,
    _dir: Option<TempDir>,
}

/// Runs each check on an empty store of each backend.
macro_rules! every_backend {
    ($($module:ident: $($check:ident),* $(,)?;)*) => {
        mod embedded {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $check() {
                    let opened = super::embedded().await;
                    super::$module::$check(&opened.store).await;
                    opened.store.close().await;
                }
            )*)*
        }
        mod postgres {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $check() {
                    let opened = super::postgres().await;
                    super::$module::$check(&opened.store).await;
                    opened.store.close().await;
                }
            )*)*
        }
        mod simulated {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $check() {
                    let opened = super::simulated();
                    super::$module::$check(&opened.store).await;
                    opened.store.close().await;
                }
            )*)*
        }
    };
}

every_backend! {
    appending:
        a_batch_is_read_back,
        a_repeat_gets_the_first_outcome,
        a_reused_request_is_refused,
        a_batch_without_events_leaves_a_receipt,
        an_unknown_tenant_is_refused,
        tenants_do_not_see_each_other,
        commit_order_is_number_order,
        a_cancelled_append_is_whole_or_absent,
        followers_wake;
    compacting:
        the_first_of_an_identity_wins,
        conflicts_count_the_same_in_any_order,
        compaction_changes_nothing_that_counts,
        months_and_columns_survive,
        listings_after_a_number_hold_what_came_behind_it,
        readers_and_compaction_run_side_by_side,
        a_large_visitor_stays_together,
        what_is_due_is_done;
    bounding:
        many_months_are_compacted_over_several_rounds;
    controlling:
        tenants_are_listed_by_name,
        names_have_room_up_to_a_limit,
        keys_are_found_and_revoked,
        definitions_change_together_or_not_at_all,
        a_shared_store_tells_the_time,
        definitions_have_versions,
        the_janitor_deletes_receipts;
    identifying:
        what_is_said_again_is_not_noted_again,
        an_id_may_be_identified_so_often,
        known_ids_are_merged;
    listing:
        ids_are_put_on_lists_and_taken_off,
        lists_have_room_up_to_their_limits,
        whoever_is_erased_is_on_no_list;
    erasing:
        whoever_is_erased_is_gone_and_stays_away,
        an_erasure_goes_on_where_it_was_interrupted;
    retaining:
        what_is_not_kept_any_more_goes_when_it_is_counted;
}

async fn embedded() -> Opened {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_embedded(&dir.path().join("data"), EmbeddedOptions::default()).await.unwrap();
    Opened { store, _dir: Some(dir) }
}

/// As if it were PostgreSQL, in memory; nothing goes wrong there.
fn simulated() -> Opened {
    let options = SimulatedOptions { now_ms: events::NOW, ..SimulatedOptions::default() };
    Opened { store: SimulatedDatabase::new(options).process().store(), _dir: None }
}

/// A database of its own on the server that these tests share, with a user for each purpose.
async fn postgres() -> Opened {
    let server = Postgres::shared().unwrap();
    let database = server.database().unwrap();
    let url = |user| Some(server.url(&database, user));
    let options = PostgresOptions {
        ingest_url: url("ingest"),
        compaction_url: url("compaction"),
        query_url: url("query"),
        admin_url: url("admin"),
        connections: 4,
        ..PostgresOptions::new(server.url(&database, "owner"))
    };
    Opened { store: Store::open_postgres(&options).await.unwrap(), _dir: None }
}
