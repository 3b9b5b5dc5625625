//! A Redis Cluster: which node holds a slot, learned from the nodes, and learned anew when one redirects or does not answer.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{Client, Cmd, ErrorKind, ServerErrorKind, Value};
use tokio::time::Instant;

use super::{
    address::{Address, Host},
    error::HotError,
    node::{Node, Rules},
};

/// The slots are asked for at most this often.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a node may take to tell them.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most nodes.
const NODES: usize = 1_024;

/// A cluster. Clones share it.
#[derive(Clone)]
pub(crate) struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    address: Address,
    rules: Rules,
    map: Mutex<Map>,
}

#[derive(Default)]
struct Map {
    nodes: HashMap<Host, Arc<Node>>,
    /// Last slot of a range that begins behind the range before, and who holds it.
    ranges: Vec<(u16, Option<Arc<Node>>)>,
    /// Whether somebody asks for the slots, and since when the last one did.
    asking: bool,
    asked: Option<Instant>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("address", &self.inner.address).finish_non_exhaustive()
    }
}

/// What a node's answer says about where to ask instead.
enum Redirect {
    Moved(Host),
    Ask(Host),
}

impl Cluster {
    /// A cluster whose slots are not known yet.
    pub(crate) fn new(address: Address, rules: Rules) -> Cluster {
        Cluster { inner: Arc::new(Inner { address, rules, map: Mutex::default() }) }
    }

    /// Asks for the slots and connects to the nodes that hold them.
    pub(crate) async fn connect(&self, until: Instant) -> Result<(), HotError> {
        self.learn().await?;
        let nodes: Vec<Arc<Node>> = self.map().nodes.values().cloned().collect();
        let connected = nodes.iter().map(|node| node.connect(until));
        futures_util::future::try_join_all(connected).await.map(|_| ())
    }

    /// Whether calls to some node are turned away at the moment.
    pub(crate) fn is_away(&self) -> bool {
        self.map().nodes.values().any(|node| node.is_away())
    }

    /// Sends a command to the node that holds a slot, and on to where that one says.
    pub(crate) async fn call(&self, slot: u16, command: &Cmd, until: Instant) -> Result<Value, HotError> {
        let Some(node) = self.holder(slot) else {
            self.learn_soon();
            return Err(HotError::NoNode);
        };
        let answer = node.call(command, false, until).await;
        let error = match answer {
            Err(error) if error.is_away() => error,
            answer => return answer,
        };
        match redirect(&error, &node.host) {
            Some(Redirect::Moved(host)) => {
                self.learn_soon();
                self.node(&host)?.call(command, false, until).await
            }
            Some(Redirect::Ask(host)) => self.node(&host)?.call(command, true, until).await,
            None => {
                if may_have_changed(&error) {
                    self.learn_soon();
                }
                Err(error)
            }
        }
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.inner.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holder(&self, slot: u16) -> Option<Arc<Node>> {
        let map = self.map();
        let at = map.ranges.partition_point(|(last, _)| *last < slot);
        map.ranges.get(at)?.1.clone()
    }

    /// The node at an address; made when it is new.
    fn node(&self, host: &Host) -> Result<Arc<Node>, HotError> {
        let mut map = self.map();
        if let Some(node) = map.nodes.get(host) {
            return Ok(node.clone());
        }
        if map.nodes.len() >= NODES {
            return Err(HotError::NoNode);
        }
        let unusable = |source| HotError::Unreachable { at: host.to_string(), source };
        let client =
            Client::open(self.inner.address.connection(host).map_err(unusable)?).map_err(unusable)?;
        let node = Arc::new(Node::new(host.clone(), client, self.inner.rules));
        map.nodes.insert(host.clone(), node.clone());
        Ok(node)
    }

    /// Asks for the slots in the background, unless somebody does or just did.
    fn learn_soon(&self) {
        {
            let mut map = self.map();
            if map.asking || map.asked.is_some_and(|asked| asked.elapsed() < PAUSE) {
                return;
            }
            map.asking = true;
        }
        let cluster = self.clone();
        tokio::spawn(async move {
            let learned = cluster.learn().await;
            let mut map = cluster.map();
            (map.asking, map.asked) = (false, Some(Instant::now()));
            drop(map);
            if let Err(error) = learned {
                tracing::debug!(%error, "no node of the cluster tells who holds what");
            }
        });
    }

    /// Asks one node after another for the slots: those that are known, then those that were named.
    async fn learn(&self) -> Result<(), HotError> {
        let mut hosts: Vec<Host> = {
            let map = self.map();
            map.nodes.values().filter(|node| !node.is_away()).map(|node| node.host.clone()).collect()
        };
        hosts.extend(
            self.inner.address.nodes.iter().filter(|seed| !hosts.contains(seed)).cloned().collect::<Vec<_>>(),
        );
        let mut fault = HotError::NoNode;
        for host in hosts {
            let command = redis::cmd("CLUSTER").arg("SLOTS").clone();
            match self.node(&host)?.call(&command, false, Instant::now() + PATIENCE).await {
                Ok(told) => return self.take(ranges(&told, &host).ok_or(HotError::Unexpected)?),
                Err(error) => fault = error,
            }
        }
        Err(fault)
    }

    /// Takes what a node told: the ranges, and that there are no other nodes than those in it.
    fn take(&self, mut told: Vec<(u16, u16, Host)>) -> Result<(), HotError> {
        told.sort_unstable();
        let mut ranges = Vec::with_capacity(told.len());
        let mut next = 0;
        for (first, last, host) in &told {
            if *first > next {
                ranges.push((first - 1, None));
            }
            ranges.push((*last, Some(self.node(host)?)));
            next = last.saturating_add(1);
        }
        let mut map = self.map();
        map.ranges = ranges;
        map.nodes.retain(|host, _| told.iter().any(|(_, _, holder)| holder == host));
        Ok(())
    }
}

/// Whether a failure may come from another node holding the slot now.
fn may_have_changed(error: &HotError) -> bool {
    match error {
        HotError::Refused { source, .. } => matches!(
            source.kind(),
            ErrorKind::Server(
                ServerErrorKind::ClusterDown | ServerErrorKind::MasterDown | ServerErrorKind::ReadOnly
            )
        ),
        _ => true,
    }
}

/// Where an answer redirects to. An empty name stands for the node that gave it.
fn redirect(error: &HotError, from: &Host) -> Option<Redirect> {
    let HotError::Refused { source, .. } = error else { return None };
    let (address, _) = source.redirect_node()?;
    let (name, port) = address.rsplit_once(':')?;
    let name = if name.is_empty() { &from.name } else { name };
    let host = Host { name: name.to_owned(), port: port.parse().ok()? };
    match source.kind() {
        ErrorKind::Server(ServerErrorKind::Moved) => Some(Redirect::Moved(host)),
        ErrorKind::Server(ServerErrorKind::Ask) => Some(Redirect::Ask(host)),
        _ => None,
    }
}

/// Reads the answer to `CLUSTER SLOTS`: first and last slot of each range, and its primary.
fn ranges(told: &Value, from: &Host) -> Option<Vec<(u16, u16, Host)>> {
    let number = |value: &Value| match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    };
    let Value::Array(told) = told else { return None };
    let range = |range: &Value| {
        let Value::Array(range) = range else { return None };
        let [first, last, Value::Array(primary), ..] = &range[..] else { return None };
        let [name, port, ..] = &primary[..] else { return None };
        let name = match name {
            Value::BulkString(name) if !name.is_empty() => String::from_utf8(name.clone()).ok()?,
            _ => from.name.clone(),
        };
        Some((number(first)?, number(last)?, Host { name, port: number(port)? }))
    };
    told.iter().map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(ranges: &[(i64, i64, &str, i64)]) -> Value {
        let range = |&(first, last, name, port): &(i64, i64, &str, i64)| {
            let primary =
                vec![Value::BulkString(name.into()), Value::Int(port), Value::BulkString("id".into())];
            let replica = vec![Value::BulkString("replica".into()), Value::Int(1)];
            Value::Array(vec![
                Value::Int(first),
                Value::Int(last),
                Value::Array(primary),
                Value::Array(replica),
            ])
        };
        Value::Array(ranges.iter().map(range).collect())
    }

    #[test]
    fn slots_are_found_and_gaps_are_nobodys() {
        let address = Address::parse("redis+cluster://seed:1").unwrap();
        let cluster = Cluster::new(address, Rules { allow_eviction: false, cluster: true });
        let seed = Host { name: "seed".into(), port: 1 };
        let told = told(&[(100, 199, "b", 2), (0, 49, "", 3), (200, 16_383, "c", 4)]);
        cluster.take(ranges(&told, &seed).unwrap()).unwrap();
        let holder = |slot| cluster.holder(slot).map(|node| node.host.to_string());
        let named = |name: &str| Some(name.to_owned());
        assert_eq!([0, 49, 50, 99].map(holder), [named("seed:3"), named("seed:3"), None, None]);
        assert_eq!(
            [100, 199, 200, 16_383].map(holder),
            [named("b:2"), named("b:2"), named("c:4"), named("c:4")]
        );
        assert_eq!(cluster.map().nodes.len(), 3);
        assert!(ranges(&Value::Okay, &seed).is_none());
    }
}
