//! Connections for one purpose, and what is known of the database behind all of them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::sqlx::PgPool;
use crate::spans::Place;

/// Connections for one purpose. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    pub(super) connections: PgPool,
    pub(super) server: Arc<Server>,
}

/// What connections of all purposes have in common.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) name: String,
    /// What a transaction that begins is called on the server.
    pub(super) call: fn() -> Option<String>,
    /// Since when it has not answered.
    pub(super) silent: Mutex<Option<Instant>>,
}

impl Server {
    /// The database in spans.
    pub(super) fn place(&self) -> Place<'_> {
        Place { system: "postgresql", namespace: &self.name }
    }

    /// Somebody asked for a transaction and got it, or did not.
    pub(super) fn note(&self, answered: bool) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        *silent = if answered { None } else { silent.or_else(|| Some(Instant::now())) };
    }

    /// For how long nobody got one.
    pub(super) fn silent_for(&self) -> Option<Duration> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).map(|since| since.elapsed())
    }

    /// A statement that calls the transaction what it is called here, so that the server's own views and logs lead to the trace; nothing without a name, and
    /// nothing that could end the literal.
    pub(super) fn naming(&self) -> String {
        let plain =
            |name: &String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" -".contains(&byte));
        match (self.call)().filter(plain) {
            Some(name) => format!("; SET LOCAL application_name = '{name}'"),
            None => String::new(),
        }
    }
}
