//! A server of our own in a process of its own, on a free port.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use runnel_client::{
    RetryPolicy,
    proto::catalog::v1::{Conversion, Counting, Family, Part, Role, Rule, Stage, rule},
};
pub(crate) use runnel_harness::Random;
use runnel_harness::{Deployment, Placement, Postgres, Redis, Stores};

/// A running `runnel serve`. Ended when it is dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) endpoint: String,
}

impl Server {
    /// Starts a server on a data folder and waits until it listens.
    pub(crate) fn start(data: &Path) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_runnel"))
            .args(["serve", "--listen", "127.0.0.1:0", "--output", "json", "--data-dir"])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("the server said {line:?}"));
        let endpoint = format!("http://{}", said["listening"].as_str().unwrap());
        Server { child, endpoint }
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A write and a read key of a tenant, made in a data folder that no server has open.
pub(crate) fn keys(data: &Path, tenant: &str) -> (String, String) {
    let make = |kind: &str| {
        let made = Command::new(env!("CARGO_BIN_EXE_runnel"))
            .args(["keys", "create", "--tenant", tenant, "--kind", kind, "--output", "json", "--data-dir"])
            .arg(data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
        made["secret"].as_str().unwrap().to_owned()
    };
    (make("write"), make("read"))
}

/// No repeats by the SDK: the test itself repeats.
pub(crate) fn once() -> RetryPolicy {
    RetryPolicy::never()
}

/// Everything in its place, on empty stores. A server of its own for those that need one.
pub(crate) fn deployment(placement: Placement) -> Deployment {
    deployment_over(placement, None)
}

/// As [`deployment`], with hot state on Redis where one is given.
pub(crate) fn deployment_over(placement: Placement, redis: Option<Arc<Redis>>) -> Deployment {
    let postgres = (placement != Placement::Folder).then(|| Arc::new(Postgres::start("").unwrap()));
    let stores = Stores { postgres, redis, ..Stores::default() };
    Deployment::start(Path::new(env!("CARGO_BIN_EXE_runnel")), placement, stores).unwrap()
}

/// A micro-conversion that happens by a rule.
pub(crate) fn conversion(name: &str, rule: rule::Rule, counting: Counting) -> Conversion {
    Conversion {
        name: name.to_owned(),
        role: Role::Micro as i32,
        part: Part::Step as i32,
        family: Family::Interaction as i32,
        stage: Stage::Engagement as i32,
        rule: Some(Rule { rule: Some(rule) }),
        counting: counting as i32,
        ..Conversion::default()
    }
}
