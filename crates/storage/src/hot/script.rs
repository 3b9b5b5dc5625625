//! Commands that run on the server as one step: scripts, known by their hash, sent whole where the server does not know them.

use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, ToRedisArgs};

/// A script. What it does is atomic on the node that holds its keys, which all lie in one shard.
#[derive(Debug)]
pub(crate) struct Script {
    code: String,
    hash: String,
}

/// A script's keys and arguments.
#[derive(Debug, Clone)]
pub(crate) struct Run<'a> {
    script: &'a Script,
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl Script {
    /// A script of several pieces of text.
    pub(crate) fn new(pieces: &[&str]) -> Script {
        let code = pieces.concat();
        let hash = redis::Script::new(&code).get_hash().to_owned();
        Script { code, hash }
    }

    /// A run of the script on some keys.
    pub(crate) fn on<const N: usize>(&self, keys: [String; N]) -> Run<'_> {
        Run { script: self, keys: keys.into(), arguments: Vec::new() }
    }
}

impl Run<'_> {
    /// Adds an argument.
    pub(crate) fn with(mut self, argument: impl ToRedisArgs) -> Self {
        argument.write_redis_args(&mut self.arguments);
        self
    }

    /// The command that names the script by its hash.
    pub(crate) fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", &self.script.hash)
    }

    /// The command that carries the script, which the server knows from then on.
    pub(crate) fn whole(&self) -> Cmd {
        self.command("EVAL", &self.script.code)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let bytes: usize = self.arguments.iter().map(Vec::len).sum();
        let mut command =
            Cmd::with_capacity(self.arguments.len() + self.keys.len() + 3, bytes + script.len() + 256);
        command.arg(name).arg(script).arg(self.keys.len()).arg(&self.keys);
        for argument in &self.arguments {
            command.arg(&argument[..]);
        }
        command
    }
}

/// Whether the server does not know the script by its hash.
pub(crate) fn is_unknown(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
