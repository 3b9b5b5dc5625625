//! Where a scenario is run: on every pair of stores, in one process and in a process for each service.

use std::sync::Arc;

use runnel_harness::{HarnessError, Redis, or_skip};

/// Where hot state is.
#[derive(Clone, Copy)]
pub(crate) enum Where {
    Process,
    Redis,
    Cluster,
}

impl Where {
    /// The server, where there is one; `None` where there ought to be one and is no program for it.
    pub(crate) fn start(self) -> Result<Option<Option<Arc<Redis>>>, HarnessError> {
        let server = match self {
            Where::Process => return Ok(Some(None)),
            Where::Redis => Redis::start(&[]),
            Where::Cluster => Redis::cluster(3),
        };
        Ok(or_skip(server)?.map(|server| Some(Arc::new(server))))
    }
}

/// A server for hot state of its own; `None` where it is in the process. The test is skipped where there is no Redis.
macro_rules! hot {
    ($where:expr) => {
        match $where.start().unwrap() {
            Some(redis) => redis,
            None => return,
        }
    };
}

/// Tests that run a scenario, which takes a deployment on empty stores, in every place.
macro_rules! everywhere {
    ($scenario:ident) => {
        mod $scenario {
            use runnel_harness::Placement;

            use crate::{
                places::{Where, hot},
                server::deployment_over,
            };

            async fn at(placement: Placement, place: Where) {
                let redis = hot!(place);
                super::$scenario(deployment_over(placement, redis)).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn over_a_folder() {
                at(Placement::Folder, Where::Process).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn over_postgres_and_redis() {
                at(Placement::Shared, Where::Redis).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn over_postgres_and_a_redis_cluster() {
                at(Placement::Shared, Where::Cluster).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn in_a_process_for_each_service_over_redis() {
                at(Placement::Split, Where::Redis).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn in_a_process_for_each_service_over_a_redis_cluster() {
                at(Placement::Split, Where::Cluster).await;
            }
        }
    };
}

pub(crate) use {everywhere, hot};
