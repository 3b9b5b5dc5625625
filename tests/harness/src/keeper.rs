//! The process that holds a server for as long as the test process lives.

use std::{
    hash::{BuildHasher, RandomState},
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// Its programs are not there.
    #[error("{what} is not on this machine; tests/run installs it, as root where apt is")]
    Missing {
        /// Which server.
        what: &'static str,
    },
    /// A step failed.
    #[error("{what} failed: {reason}")]
    Failed {
        /// Which step.
        what: &'static str,
        /// What was said.
        reason: String,
    },
    /// The operating system refused.
    #[error("the operating system refused")]
    Io(#[from] std::io::Error),
}

/// What was started; `None`, with a word about it, where its programs are not on this machine. Where `CI` is set that is a failure as any other.
pub fn or_skip<T, E: std::borrow::Borrow<HarnessError>>(started: Result<T, E>) -> Result<Option<T>, E> {
    match started {
        Ok(started) => Ok(Some(started)),
        Err(fault) => match fault.borrow() {
            HarnessError::Missing { .. } if std::env::var_os("CI").is_none() => {
                // Not by a macro: what those print is kept from whoever runs the tests.
                let _ = writeln!(std::io::stderr(), "\nSKIPPED a test: {}", fault.borrow());
                Ok(None)
            }
            _ => Err(fault),
        },
    }
}

/// A started server. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Keeper {
    /// Runs a shell script until it prints `ready`. The script must read its input to the end before it cleans up, and ignore signals that are meant for
    /// the test.
    pub(crate) fn start(
        what: &'static str,
        script: &str,
        variables: &[(&str, &str)],
    ) -> Result<Keeper, HarnessError> {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, value) in variables {
            command.env(name, value);
        }
        #[cfg(unix)]
        if let Some(user) = other_user() {
            std::os::unix::process::CommandExt::uid(&mut command, user);
        }
        let mut child = command.spawn()?;
        let stdin = child.stdin.take();
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        if line.trim() == "ready" {
            return Ok(Keeper { child, stdin });
        }
        drop(stdin);
        let output = child.wait_with_output()?;
        let reason = format!("{line}{}", String::from_utf8_lossy(&output.stderr));
        Err(HarnessError::Failed { what, reason })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// A folder that the keeper's user may write.
pub(crate) fn folder(name: &str, port: u16) -> Result<PathBuf, HarnessError> {
    let path = std::env::temp_dir().join(format!("runnel-{name}-{}-{port}", std::process::id()));
    std::fs::create_dir(&path)?;
    #[cfg(unix)]
    if let Some(user) = other_user() {
        std::os::unix::fs::chown(&path, Some(user), None)?;
    }
    Ok(path)
}

/// Ports below those that the operating system gives to connections: none of them can take one between here and the server's start.
const PORTS: std::ops::Range<u32> = 16_384..32_768;

/// A port that nobody listens on, and that this process has not given away before. Each process begins elsewhere.
pub(crate) fn free_port() -> Result<u16, HarnessError> {
    static NEXT: LazyLock<AtomicU32> =
        LazyLock::new(|| AtomicU32::new(RandomState::new().hash_one(std::process::id()) as u32));
    let count = PORTS.end - PORTS.start;
    for _ in PORTS {
        let port = (PORTS.start + NEXT.fetch_add(1, Ordering::Relaxed) % count) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(HarnessError::Failed { what: "finding a port", reason: "all are taken".to_owned() })
}

/// As whom to run servers that refuse to run as root; `None` when this is not root.
pub(crate) fn other_user() -> Option<u32> {
    let number = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse::<u32>().ok()
    };
    if number(&["-u"])? != 0 {
        return None;
    }
    number(&["-u", "postgres"]).or_else(|| number(&["-u", "nobody"]))
}
