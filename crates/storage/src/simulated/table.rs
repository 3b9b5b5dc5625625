//! Rows in versions: whoever looks at an instant sees what was committed by then.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::value::Value;

pub(super) type Row = Arc<[Value]>;
pub(super) type Key = Vec<Value>;
/// Tables by name.
pub(super) type Tables = BTreeMap<String, Table>;

/// A table.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) columns: Vec<String>,
    pub(super) defaults: Vec<Value>,
    /// Which columns are the key.
    pub(super) key: Vec<usize>,
    /// Rows can be seen and written only by transactions that name the tenant of this column.
    pub(super) tenant: Option<usize>,
    pub(super) rows: BTreeMap<Key, Entry>,
}

impl Table {
    pub(super) fn key_of(&self, row: &[Value]) -> Key {
        self.key.iter().map(|&column| row[column].clone()).collect()
    }

    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }
}

/// Who looks, and at what instant: after how many commits.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) snapshot: u64,
    pub(super) transaction: u64,
}

/// What there is under a key.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// By the number of the commit; `None` where it was deleted.
    versions: Vec<(u64, Option<Row>)>,
    /// The transaction that keeps others from changing it.
    holder: Option<u64>,
    /// What the holder made of it.
    pending: Option<Option<Row>>,
}

impl Entry {
    /// The row as a view shows it.
    pub(super) fn seen(&self, view: View) -> Option<&Row> {
        if self.holder == Some(view.transaction)
            && let Some(pending) = &self.pending
        {
            return pending.as_ref();
        }
        let committed = self.versions.iter().rev().find(|(at, _)| *at <= view.snapshot);
        committed.and_then(|(_, row)| row.as_ref())
    }

    /// Whether somebody else changed it since.
    pub(super) fn changed_since(&self, snapshot: u64) -> bool {
        self.versions.last().is_some_and(|(at, _)| *at > snapshot)
    }

    /// Keeps others from changing it, or says who does that.
    pub(super) fn hold(&mut self, transaction: u64) -> Result<(), u64> {
        match self.holder {
            Some(other) if other != transaction => Err(other),
            _ => {
                self.holder = Some(transaction);
                Ok(())
            }
        }
    }

    /// Sets what the holder made of it, and gives what it had made of it before.
    pub(super) fn set_pending(&mut self, pending: Option<Option<Row>>) -> Option<Option<Row>> {
        std::mem::replace(&mut self.pending, pending)
    }

    /// Forgets versions that nobody can see who looks at `oldest` or later. `false` when nothing is left.
    fn prune(&mut self, oldest: u64) -> bool {
        let needed = self.versions.iter().rposition(|(at, _)| *at <= oldest).unwrap_or(0);
        self.versions.drain(..needed);
        match self.versions.as_slice() {
            [] => self.pending.is_some() || self.holder.is_some(),
            [(at, None)] => *at > oldest || self.holder.is_some(),
            _ => true,
        }
    }
}

/// A transaction.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) number: u64,
    /// All its statements look at one instant, that of the first.
    pub(super) repeatable: bool,
    pub(super) snapshot: Option<u64>,
    /// The tenant whose rows it sees.
    pub(super) tenant: Option<String>,
    /// Keys that it holds.
    pub(super) held: BTreeSet<(String, Key)>,
    /// A statement failed: all others will, and it cannot be committed.
    pub(super) failed: bool,
}

/// The newest version of every row, whoever may see it.
pub(super) fn newest(tables: &Tables) -> impl Iterator<Item = &Row> {
    let entries = tables.values().flat_map(|table| table.rows.values());
    entries.filter_map(|entry| entry.versions.last()?.1.as_ref())
}

/// Ends a transaction: what it made becomes visible as commit number `at`, or never was. Nobody looks at an instant before `oldest` any more.
pub(super) fn end(tables: &mut Tables, transaction: &Transaction, at: Option<u64>, oldest: u64) {
    for (name, key) in &transaction.held {
        let Some(table) = tables.get_mut(name) else { continue };
        let Some(entry) = table.rows.get_mut(key) else { continue };
        entry.holder = None;
        if let (Some(row), Some(at)) = (entry.pending.take(), at) {
            entry.versions.push((at, row));
        }
        if !entry.prune(oldest) {
            table.rows.remove(key);
        }
    }
}
