//! Redis: one server, or a cluster of three.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use tempfile::TempDir;

use crate::keeper::{HarnessError, Keeper, folder, free_port, other_user};

/// Starts the server and ends it with this process's input. Nothing is kept on disk: a server that ends has forgotten everything.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
cd "$DIR" || exit 1
ends() { kill -9 "$(cat "$DIR/pid" 2>/dev/null)" 2>/dev/null; cd / && rm -rf "$DIR"; }
sh "$DIR/start" >start.log 2>&1 || { cat start.log server.log >&2; ends; exit 1; }
echo ready
cat >/dev/null
ends
"#;

/// How often and how long is looked whether a server answers.
const LOOKS: u32 = 3_000;
const LOOK: Duration = Duration::from_millis(20);

/// A server or a cluster. It ends when this is dropped.
#[derive(Debug)]
pub struct Redis {
    nodes: Vec<Node>,
    cluster: bool,
    tls: Option<(PathBuf, TempDir)>,
}

/// One server.
#[derive(Debug)]
struct Node {
    port: u16,
    dir: PathBuf,
    _keeper: Keeper,
}

impl Redis {
    /// Starts a server with further options of the `redis-server` program.
    pub fn start(options: &[&str]) -> Result<Redis, HarnessError> {
        Ok(Redis { nodes: vec![Node::start(options)?], cluster: false, tls: None })
    }

    /// The server that all tests of this process have in common.
    pub fn shared() -> Result<&'static Redis, &'static HarnessError> {
        static SERVER: OnceLock<Result<Redis, HarnessError>> = OnceLock::new();
        SERVER.get_or_init(|| Redis::start(&[])).as_ref()
    }

    /// Starts a cluster of so many nodes, without replicas, between which the slots are divided.
    pub fn cluster(nodes: usize) -> Result<Redis, HarnessError> {
        let options = ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"];
        let started = (0..nodes).map(|_| {
            let bus = free_port()?.to_string();
            Node::start(&[&options[..], &["--cluster-node-timeout", "2000", "--cluster-port", &bus]].concat())
        });
        let cluster = Redis { nodes: started.collect::<Result<_, _>>()?, cluster: true, tls: None };
        let addresses: Vec<String> =
            cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(&addresses).args([
            "--cluster-replicas",
            "0",
            "--cluster-yes",
        ]);
        let created = create.stdin(Stdio::null()).output()?;
        if !created.status.success() {
            let reason = String::from_utf8_lossy(&created.stdout).into_owned();
            return Err(HarnessError::Failed { what: "making a cluster of Redis", reason });
        }
        for node in 0..nodes {
            cluster.until("making a cluster of Redis", || {
                Ok(cluster.cli(node, &["cluster", "info"])?.contains("cluster_state:ok"))
            })?;
        }
        Ok(cluster)
    }

    /// Starts a server that speaks TLS only, with a certificate of its own.
    pub fn with_tls() -> Result<Redis, HarnessError> {
        let folder = tempfile::tempdir()?;
        let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("certificate.pem"));
        let mut make = Command::new("openssl");
        make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        make.args([
            "-days",
            "2",
            "-subj",
            "/CN=redis of a test",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ]);
        make.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        make.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        let made = make.output().map_err(|_| HarnessError::Missing { what: "openssl" })?;
        if !made.status.success() {
            let reason = String::from_utf8_lossy(&made.stderr).into_owned();
            return Err(HarnessError::Failed { what: "making a certificate", reason });
        }
        #[cfg(unix)]
        if let Some(user) = other_user() {
            std::os::unix::fs::chown(&key, Some(user), None)?;
            std::os::unix::fs::chown(folder.path(), Some(user), None)?;
        }
        let (key, shown) = (key.to_string_lossy(), certificate.to_string_lossy());
        let node =
            Node::start(&["--tls-cert-file", &shown, "--tls-key-file", &key, "--tls-auth-clients", "no"])?;
        Ok(Redis { nodes: vec![node], cluster: false, tls: Some((certificate, folder)) })
    }

    /// Its address.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        let scheme = match (self.cluster, &self.tls) {
            (true, _) => "redis+cluster",
            (false, Some(_)) => "rediss",
            (false, None) => "redis",
        };
        format!("{scheme}://{}", hosts.join(","))
    }

    /// The certificate to trust, where it speaks TLS.
    pub fn certificate(&self) -> Option<&Path> {
        self.tls.as_ref().map(|(certificate, _)| certificate.as_path())
    }

    /// How many nodes it has.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Forgets everything.
    pub fn flush_all(&self) -> Result<(), HarnessError> {
        (0..self.nodes.len()).try_for_each(|node| self.flush(node))
    }

    /// Lets one node forget everything.
    pub fn flush(&self, node: usize) -> Result<(), HarnessError> {
        self.cli(node, &["flushall"]).map(drop)
    }

    /// Sends every node a signal: STOP and CONT let it stand still for a while.
    pub fn signal(&self, name: &str) -> Result<(), HarnessError> {
        (0..self.nodes.len()).try_for_each(|node| self.signal_to(node, name))
    }

    /// Sends one node a signal.
    pub fn signal_to(&self, node: usize, name: &str) -> Result<(), HarnessError> {
        let pid = std::fs::read_to_string(self.nodes[node].dir.join("pid"))?;
        Command::new("kill").args([&format!("-{name}"), pid.trim()]).stderr(Stdio::null()).status()?;
        Ok(())
    }

    /// Kills every node with SIGKILL.
    pub fn kill(&self) -> Result<(), HarnessError> {
        (0..self.nodes.len()).try_for_each(|node| self.kill_one(node))
    }

    /// Kills one node with SIGKILL, and waits until nobody listens where it did.
    pub fn kill_one(&self, node: usize) -> Result<(), HarnessError> {
        self.signal_to(node, "KILL")?;
        let port = self.nodes[node].port;
        self.until("killing Redis", || Ok(std::net::TcpStream::connect(("127.0.0.1", port)).is_err()))
    }

    /// Starts killed nodes again, where they were. They have forgotten everything but their slots.
    pub fn restart(&self) -> Result<(), HarnessError> {
        for node in 0..self.nodes.len() {
            self.nodes[node].run()?;
        }
        for node in 0..self.nodes.len() {
            self.until("restarting Redis", || {
                let state = self.cli(node, &["cluster", "info"]).unwrap_or_default();
                let answers = self.cli(node, &["ping"]).is_ok_and(|pong| pong == "PONG");
                Ok(answers && (!self.cluster || state.contains("cluster_state:ok")))
            })?;
        }
        Ok(())
    }

    /// Sends a command to a node, and gives what it answers.
    pub fn cli(&self, node: usize, command: &[&str]) -> Result<String, HarnessError> {
        let mut cli = Command::new("redis-cli");
        cli.args(["-h", "127.0.0.1", "-p", &self.nodes[node].port.to_string()]);
        if let Some(certificate) = self.certificate() {
            cli.arg("--tls").arg("--cacert").arg(certificate);
        }
        let output = cli.args(command).stdin(Stdio::null()).output()?;
        let told = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() {
            return Ok(told);
        }
        let reason = format!("{told}{}", String::from_utf8_lossy(&output.stderr));
        Err(HarnessError::Failed { what: "a command to Redis", reason })
    }

    fn until(
        &self,
        what: &'static str,
        mut holds: impl FnMut() -> Result<bool, HarnessError>,
    ) -> Result<(), HarnessError> {
        for _ in 0..LOOKS {
            if holds()? {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
        Err(HarnessError::Failed { what, reason: "it took too long".to_owned() })
    }
}

impl Node {
    fn start(options: &[&str]) -> Result<Node, HarnessError> {
        let missing = || HarnessError::Missing { what: "Redis" };
        Command::new("redis-server").arg("--version").output().map_err(|_| missing())?;
        let port = free_port()?;
        let dir = folder("redis", port)?;
        let tls = options.iter().any(|option| option.starts_with("--tls-"));
        let (plain, secure) = if tls { (0, port) } else { (port, 0) };
        let listens =
            if tls { format!("--port {plain} --tls-port {secure}") } else { format!("--port {plain}") };
        let options: Vec<String> = options.iter().map(|option| format!("'{option}'")).collect();
        let mut start = std::fs::File::create(dir.join("start"))?;
        writeln!(
            start,
            "cd '{}' && redis-server {listens} --bind 127.0.0.1 --daemonize yes --pidfile pid --logfile server.log \\\n\
             --dir . --save '' --appendonly no {}\n\
             for look in $(seq 3000); do grep -q 'eady to accept connections' server.log && exit 0; sleep 0.02; done; exit 1",
            dir.display(),
            options.join(" ")
        )?;
        drop(start);
        let shown = dir.to_string_lossy().into_owned();
        let keeper = Keeper::start("starting Redis", SCRIPT, &[("DIR", &shown)])?;
        Ok(Node { port, dir, _keeper: keeper })
    }

    /// Runs the program again as the keeper did.
    fn run(&self) -> Result<(), HarnessError> {
        let _ = std::fs::remove_file(self.dir.join("server.log"));
        let mut command = Command::new("sh");
        command.arg(self.dir.join("start")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        #[cfg(unix)]
        if let Some(user) = other_user() {
            std::os::unix::process::CommandExt::uid(&mut command, user);
        }
        if command.status()?.success() {
            return Ok(());
        }
        let log = std::fs::read_to_string(self.dir.join("server.log")).unwrap_or_default();
        let reason = log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
        Err(HarnessError::Failed { what: "restarting Redis", reason })
    }
}
