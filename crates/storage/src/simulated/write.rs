//! What statements do to rows.

use std::sync::Arc;

use super::{
    fault::Stop,
    read::{Reader, Scope},
    statement::{Conflict, Expr, Insert, Output, Rows, Select, Source, Statement, Update},
    table::{Key, Row, Tables, Transaction, View},
    value::Value,
};

/// What a statement gave.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) rows: Vec<Vec<Value>>,
    pub(super) affected: u64,
}

/// A statement that is being carried out. It waits for nobody: whoever gets [`Stop::Holds`] tries again when that transaction has ended.
pub(super) struct Run<'a> {
    pub(super) tables: &'a mut Tables,
    pub(super) transaction: &'a mut Transaction,
    pub(super) parameters: &'a [Value],
    /// The instant that the statement looks at.
    pub(super) snapshot: u64,
    /// The database's clock.
    pub(super) seconds: i64,
    /// What it changed so far: where, and what was pending there before.
    changed: Vec<(String, Key, Option<Option<Row>>)>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        tables: &'a mut Tables,
        transaction: &'a mut Transaction,
        parameters: &'a [Value],
        snapshot: u64,
        seconds: i64,
    ) -> Run<'a> {
        Run { tables, transaction, parameters, snapshot, seconds, changed: Vec::new() }
    }

    /// Does all of it or nothing.
    pub(super) fn execute(mut self, statement: &Statement) -> Result<Done, Stop> {
        let result = self.statement(statement);
        if result.is_err() {
            for (table, key, pending) in self.changed.drain(..).rev() {
                if let Some(entry) = self.tables.get_mut(&table).and_then(|table| table.rows.get_mut(&key)) {
                    entry.set_pending(pending);
                }
            }
        }
        result
    }

    fn statement(&mut self, statement: &Statement) -> Result<Done, Stop> {
        match statement {
            Statement::Select(select) if select.locks => self.select_and_lock(select),
            Statement::Select(select) => {
                let rows = self.reader().select(select, &[])?;
                Ok(Done { affected: rows.len() as u64, rows })
            }
            Statement::Insert(insert) => self.insert(insert),
            Statement::Update(update) => self.update(update),
            Statement::Delete { table, filter, returning } => {
                let found = self.lock_matching(table, table, filter.as_ref())?;
                let mut done = Done { affected: found.len() as u64, ..Done::default() };
                for (key, row) in found {
                    self.give(table, table, returning, &row, &mut done)?;
                    self.put(table, &key, None);
                }
                Ok(done)
            }
            Statement::With(before, last) => {
                for statement in before {
                    self.statement(statement)?;
                }
                self.statement(last)
            }
        }
    }

    fn reader(&self) -> Reader<'_> {
        let view = View { snapshot: self.snapshot, transaction: self.transaction.number };
        let tenant = self.transaction.tenant.as_deref();
        Reader::new(self.tables, view, tenant, self.parameters, self.seconds)
    }

    fn select_and_lock(&mut self, select: &Select) -> Result<Done, Stop> {
        let Source::Table { table, name } = &select.from else {
            return Err(Stop::failed("0A000", "only rows of tables are locked".to_owned()));
        };
        let found = self.lock_matching(table, name, select.filter.as_ref())?;
        let reader = self.reader();
        let columns = &reader.table(table)?.columns;
        let rows = found.iter().map(|(_, row)| Scope { name, columns, row }).collect();
        let rows = reader.shape(select, rows, &[])?;
        Ok(Done { affected: rows.len() as u64, rows })
    }

    /// Holds the rows that a condition holds for, as they are now. A row that somebody changed since the statement's instant is looked at again, unless the transaction
    /// is to see one instant only: then it fails.
    fn lock_matching(
        &mut self,
        table: &str,
        name: &str,
        filter: Option<&Expr>,
    ) -> Result<Vec<(Key, Row)>, Stop> {
        let reader = self.reader();
        let found = reader.matching(reader.table(table)?, name, filter, &[])?;
        let keys: Vec<Key> = found.into_iter().map(|(key, _)| key.clone()).collect();
        let mut locked = Vec::with_capacity(keys.len());
        for key in keys {
            let changed = self.hold(table, &key)?;
            if changed && self.transaction.repeatable {
                return Err(Stop::failed("40001", "a row was changed by another transaction".to_owned()));
            }
            let mut reader = self.reader();
            reader.view.snapshot = u64::MAX;
            let now = reader.table(table)?;
            let Some(row) = now.rows.get(&key).and_then(|entry| entry.seen(reader.view)) else { continue };
            let scope = Scope { name, columns: &now.columns, row };
            if changed {
                reader.view.snapshot = self.snapshot;
                if !reader.passes(filter, &[scope])? {
                    continue;
                }
            }
            locked.push((key, row.clone()));
        }
        Ok(locked)
    }

    /// Holds a key. Says whether somebody changed it since the statement's instant.
    fn hold(&mut self, table: &str, key: &Key) -> Result<bool, Stop> {
        let Some(of) = self.tables.get_mut(table) else { return Ok(false) };
        let entry = of.rows.entry(key.clone()).or_default();
        entry.hold(self.transaction.number).map_err(Stop::Holds)?;
        let changed = entry.changed_since(self.snapshot);
        self.transaction.held.insert((table.to_owned(), key.clone()));
        Ok(changed)
    }

    fn put(&mut self, table: &str, key: &Key, row: Option<Row>) {
        let entry = self.tables.get_mut(table).and_then(|of| of.rows.get_mut(key));
        let before = entry.and_then(|entry| entry.set_pending(Some(row)));
        self.changed.push((table.to_owned(), key.clone(), before));
    }

    fn update(&mut self, update: &Update) -> Result<Done, Stop> {
        let Update { table, set, filter, returning } = update;
        let found = self.lock_matching(table, table, filter.as_ref())?;
        let mut done = Done { affected: found.len() as u64, ..Done::default() };
        for (key, row) in found {
            let reader = self.reader();
            let columns = &reader.table(table)?.columns;
            let new = assign(&reader, set, &[Scope { name: table, columns, row: &row }], &row, columns)?;
            self.give(table, table, returning, &new, &mut done)?;
            self.put(table, &key, Some(new));
        }
        Ok(done)
    }

    /// What a statement says of a row that it wrote, if it says anything.
    fn give(
        &self,
        table: &str,
        name: &str,
        returning: &[Output],
        row: &Row,
        done: &mut Done,
    ) -> Result<(), Stop> {
        if returning.is_empty() {
            return Ok(());
        }
        let reader = self.reader();
        let columns = &reader.table(table)?.columns;
        done.rows.push(reader.outputs(returning, &[Scope { name, columns, row }])?);
        Ok(())
    }

    fn insert(&mut self, insert: &Insert) -> Result<Done, Stop> {
        let reader = self.reader();
        let values: Vec<Vec<Value>> = match &insert.rows {
            Rows::Query(select) => reader.select(select, &[])?,
            Rows::Values(rows) => {
                let value = |row: &Vec<Expr>| row.iter().map(|expr| reader.value(expr, &[])).collect();
                rows.iter().map(value).collect::<Result<_, _>>()?
            }
        };
        let mut done = Done::default();
        for values in values {
            let Some(written) = self.insert_row(insert, values)? else { continue };
            done.affected += 1;
            self.give(&insert.table, &insert.name, &insert.returning, &written, &mut done)?;
        }
        Ok(done)
    }

    /// The row as it is written, if one is.
    fn insert_row(&mut self, insert: &Insert, values: Vec<Value>) -> Result<Option<Row>, Stop> {
        let reader = self.reader();
        let table = reader.table(&insert.table)?;
        let mut row = table.defaults.clone();
        for (column, value) in insert.columns.iter().zip(values) {
            let at = table.column(column);
            row[at.ok_or_else(|| Stop::failed("42703", format!("there is no column {column}")))?] = value;
        }
        if !reader.may_see(table, &row) {
            return Err(Stop::failed("42501", "a row of another tenant".to_owned()));
        }
        let key = table.key_of(&row);
        self.hold(&insert.table, &key)?;
        let mut reader = self.reader();
        reader.view.snapshot = u64::MAX;
        let table = reader.table(&insert.table)?;
        let Some(known) = table.rows.get(&key).and_then(|entry| entry.seen(reader.view)) else {
            let new = Row::from(row);
            self.put(&insert.table, &key, Some(new.clone()));
            return Ok(Some(new));
        };
        match &insert.conflict {
            Conflict::Refuse => {
                Err(Stop::failed("23505", format!("a row of {} is there already", insert.table)))
            }
            Conflict::Nothing => Ok(None),
            Conflict::Update { set, filter } => {
                let columns = &table.columns;
                let scopes = [
                    Scope { name: &insert.name, columns, row: known },
                    Scope { name: "excluded", columns, row: &row },
                ];
                if !reader.passes(filter.as_ref(), &scopes)? {
                    return Ok(None);
                }
                let new = assign(&reader, set, &scopes, known, columns)?;
                self.put(&insert.table, &key, Some(new.clone()));
                Ok(Some(new))
            }
        }
    }
}

/// A row after an assignment. No assignment changes a key.
fn assign(
    reader: &Reader<'_>,
    set: &[(String, Expr)],
    scopes: &[Scope<'_>],
    row: &[Value],
    columns: &[String],
) -> Result<Row, Stop> {
    let mut new = row.to_vec();
    for (column, expr) in set {
        let value = reader.value(expr, scopes)?;
        let at = columns.iter().position(|known| known == column);
        new[at.ok_or_else(|| Stop::failed("42703", format!("there is no column {column}")))?] = value;
    }
    Ok(Arc::from(new))
}
