//! The processes: two of each service, each with a store and a clock of its own, over one database.

use std::{
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use runnel_chassis::{Clock, ContextSigner, Metrics, Upstream, seal::Seal};
use runnel_funnel::Funnels;
use runnel_gateway::{Admin, Edge, EdgeOptions, Effects, Keys, Routes};
use runnel_ingest::{Ingest, compact};
use runnel_journeys::{Journeys, JourneysOptions};
use runnel_segmentation::{Segmentation, SegmentationOptions};
use runnel_storage::{CompactOptions, Hot, SimulatedDatabase, SimulatedProcess, Store};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::{
    network::{Inside, Network},
    trace::Trace,
};
use crate::checker::Random;

/// The services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Gateway,
    Ingest,
    Funnel,
    Segmentation,
}

pub(super) const ROLES: [Role; 4] = [Role::Gateway, Role::Ingest, Role::Funnel, Role::Segmentation];
/// Processes of each.
pub(super) const EACH: usize = 2;

/// The true time at the start, in milliseconds since 1970.
pub(super) const NOW_MS: i64 = 1_767_225_600_000;

/// A process.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) name: String,
    pub(super) service: Upstream,
    pub(super) store: Store,
    /// Whoever waits for its end hears of it in the order in which they came, which a watch channel does not promise.
    pub(super) died: CancellationToken,
    process: SimulatedProcess,
    worker: Option<AbortHandle>,
    /// Whose streams end with the process.
    watched: Option<Segmentation>,
}

/// A machine: its clock, and the process on it.
#[derive(Debug)]
struct Machine {
    clock: Clock,
    instance: Option<Arc<Instance>>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Cluster {
    own: Weak<Cluster>,
    pub(super) database: SimulatedDatabase,
    pub(super) network: Network,
    pub(super) trace: Arc<Trace>,
    /// The true time.
    pub(super) clock: Clock,
    machines: Mutex<Vec<Machine>>,
    random: Mutex<Random>,
    pool: Arc<rayon::ThreadPool>,
}

/// The secrets of all processes.
fn signer() -> ContextSigner {
    ContextSigner::new(Seal::new([7; 32]))
}

pub(super) fn keys(store: Store) -> Keys {
    Keys::new(store, Seal::new([8; 32]))
}

impl Cluster {
    /// Starts all processes.
    pub(super) fn start(
        database: SimulatedDatabase,
        seed: u64,
        trace: Arc<Trace>,
        pool: Arc<rayon::ThreadPool>,
    ) -> Arc<Cluster> {
        let machine = |_| Machine { clock: Clock::of_runtime(NOW_MS), instance: None };
        let cluster = Arc::new_cyclic(|own| Cluster {
            own: own.clone(),
            database,
            network: Network::new(seed ^ 1, trace.clone()),
            trace,
            clock: Clock::of_runtime(NOW_MS),
            machines: Mutex::new((0..ROLES.len() * EACH).map(machine).collect()),
            random: Mutex::new(Random(seed ^ 2)),
            pool,
        });
        (0..ROLES.len() * EACH).for_each(|at| cluster.start_instance(at));
        cluster
    }

    fn below(&self, end: u64) -> u64 {
        self.random.lock().unwrap().below(end)
    }

    /// Starts the process of a machine, unless it runs.
    pub(super) fn start_instance(&self, at: usize) {
        if self.machines.lock().unwrap()[at].instance.is_some() {
            return;
        }
        let (role, clock) = (ROLES[at / EACH], self.machines.lock().unwrap()[at].clock.clone());
        let name = format!("{role:?} {}", at % EACH);
        self.trace.step(format_args!("{name} starts"));
        let process = self.database.process();
        let store = process.store();
        let (mut worker, mut watched) = (None, None);
        let service = match role {
            Role::Gateway => self.gateway(store.clone(), clock),
            Role::Ingest => {
                let metrics = Metrics::new();
                let compaction =
                    compact::run(store.clone(), clock.clone(), self.compaction(), metrics.clone());
                worker = Some(tokio::spawn(compaction).abort_handle());
                Upstream::new(Ingest::new(store.clone(), signer(), clock, metrics).routes())
            }
            Role::Funnel => {
                Upstream::new(Funnels::new(self.journeys(store.clone()), signer(), clock).routes())
            }
            Role::Segmentation => {
                let segmentation = self.segmentation(store.clone(), clock);
                Upstream::new(watched.insert(segmentation).clone().routes())
            }
        };
        let died = CancellationToken::new();
        let instance = Instance { name, service, store, died, process, worker, watched };
        self.machines.lock().unwrap()[at].instance = Some(Arc::new(instance));
    }

    fn gateway(&self, store: Store, clock: Clock) -> Upstream {
        let inside = |role| Upstream::new(Inside { cluster: self.own.clone(), role });
        let keys = keys(store.clone());
        let admin = Admin::new(store, keys.clone(), signer(), clock.clone());
        let admin = runnel_contracts::proto::admin::v1::admin_service_server::AdminServiceServer::new(admin);
        let (ingest, visitors) = (inside(Role::Ingest), inside(Role::Segmentation));
        let effects = Effects::new(ingest.clone(), visitors, signer(), clock.clone()).server();
        let routes = Routes {
            effects: Upstream::new(effects),
            ingest,
            funnel: inside(Role::Funnel),
            segmentation: inside(Role::Segmentation),
            admin: Upstream::new(admin),
            health: inside(Role::Funnel),
            reflection: None,
        };
        Edge::new(routes, keys, signer(), clock, &Metrics::new(), EdgeOptions::default()).service()
    }

    fn journeys(&self, store: Store) -> Journeys {
        let options = JourneysOptions {
            pool: Some(self.pool.clone()),
            followed: Duration::from_millis(100 + self.below(300)),
            ..JourneysOptions::default()
        };
        Journeys::new(store, options).unwrap()
    }

    fn segmentation(&self, store: Store, clock: Clock) -> Segmentation {
        let looked = Duration::from_millis(100 + self.below(1_000));
        let options = SegmentationOptions { looked, ..SegmentationOptions::default() };
        let (journeys, hot) = (self.journeys(store), Hot::process());
        Segmentation::new(journeys, hot, signer(), clock, Metrics::new(), options)
    }

    /// Compaction as eager as chance has it.
    pub(super) fn compaction(&self) -> CompactOptions {
        CompactOptions {
            force: false,
            trigger_bytes: 1 + self.below(4_000),
            trigger_age_ms: 1_000 + self.below(4_000) as i64,
            step_events: 5 + self.below(60),
            fan_in: 2 + self.below(3) as usize,
            block_events: 40 + self.below(400),
            ..CompactOptions::default()
        }
    }

    /// Some process of a role.
    pub(super) fn choose(&self, role: Role) -> Option<Arc<Instance>> {
        let chosen = self.below(u64::MAX) as usize;
        let machines = self.machines.lock().unwrap();
        let first = ROLES.iter().position(|other| *other == role)? * EACH;
        let there: Vec<_> =
            machines[first..first + EACH].iter().filter_map(|machine| machine.instance.as_ref()).collect();
        there.get(chosen % there.len().max(1)).map(|instance| Arc::clone(instance))
    }

    fn take(&self, at: usize) -> Option<Arc<Instance>> {
        self.machines.lock().unwrap()[at].instance.take()
    }

    /// Ends the process of a machine at once, wherever everything in it stands.
    pub(super) fn crash(&self, at: usize) {
        let Some(instance) = self.take(at) else { return };
        self.trace.counted("processes killed", format_args!("{} is killed", instance.name));
        instance.process.kill();
        instance.died.cancel();
        instance.worker.iter().for_each(AbortHandle::abort);
        instance.watched.iter().for_each(Segmentation::end_watching);
    }

    /// Asks the process of a machine to end: it takes no more calls, and finishes those that it has, for a while.
    pub(super) fn stop(&self, at: usize) {
        let Some(instance) = self.take(at) else { return };
        self.trace.counted("processes stopped", format_args!("{} is stopped", instance.name));
        tokio::spawn(async move {
            instance.worker.iter().for_each(AbortHandle::abort);
            instance.watched.iter().for_each(Segmentation::end_watching);
            tokio::time::sleep(Duration::from_millis(300)).await;
            instance.store.close().await;
            instance.process.kill();
            instance.died.cancel();
        });
    }

    /// Sets the clock of a machine off the true time by so much.
    pub(super) fn skew(&self, at: usize, off_ms: i64) {
        self.machines.lock().unwrap()[at].clock.set(self.clock.now_ms() + off_ms);
    }

    /// Lets time pass on all machines.
    pub(super) fn pass(&self, ms: i64) {
        self.clock.set(self.clock.now_ms() + ms);
        for machine in &*self.machines.lock().unwrap() {
            machine.clock.set(machine.clock.now_ms() + ms);
        }
    }

    /// Makes everything work: all processes run and all clocks are right.
    pub(super) fn heal(&self) {
        self.network.part(None);
        for at in 0..ROLES.len() * EACH {
            self.skew(at, 0);
            self.start_instance(at);
        }
    }
}
