//! What expressions and queries say at an instant.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use super::{
    fault::Stop,
    statement::{Comparison, Expr, Function, Operation, Output, Select, Source},
    table::{Key, Row, Table, Tables, View, newest},
    value::Value,
};

/// Who looks at the tables, and with what in hand.
pub(super) struct Reader<'a> {
    pub(super) tables: &'a Tables,
    pub(super) view: View,
    pub(super) tenant: Option<&'a str>,
    pub(super) parameters: &'a [Value],
    /// The database's clock.
    pub(super) seconds: i64,
    /// What queries that do not depend on a row gave, by their place in memory.
    sets: RefCell<BTreeMap<usize, Rc<BTreeSet<Value>>>>,
}

/// A row with the names of its columns.
#[derive(Clone, Copy)]
pub(super) struct Scope<'s> {
    pub(super) name: &'s str,
    pub(super) columns: &'s [String],
    pub(super) row: &'s [Value],
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        tables: &'a Tables,
        view: View,
        tenant: Option<&'a str>,
        parameters: &'a [Value],
        seconds: i64,
    ) -> Reader<'a> {
        Reader { tables, view, tenant, parameters, seconds, sets: RefCell::default() }
    }

    pub(super) fn table(&self, name: &str) -> Result<&'a Table, Stop> {
        self.tables.get(name).ok_or_else(|| Stop::failed("42P01", format!("there is no table {name}")))
    }

    /// Whether the policy of a table shows the row.
    pub(super) fn may_see(&self, table: &Table, row: &[Value]) -> bool {
        table.tenant.is_none_or(|column| match (&row[column], self.tenant) {
            (Value::Text(owner), Some(tenant)) => &**owner == tenant,
            _ => false,
        })
    }

    /// The rows that a condition holds for.
    pub(super) fn matching(
        &self,
        table: &'a Table,
        name: &str,
        filter: Option<&Expr>,
        outer: &[Scope<'_>],
    ) -> Result<Vec<(&'a Key, &'a Row)>, Stop> {
        let prefix = self.prefix(table, name, filter, outer)?;
        let mut found = Vec::new();
        for (key, entry) in table.rows.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix))
        {
            let Some(row) = entry.seen(self.view).filter(|row| self.may_see(table, row)) else { continue };
            let scope = Scope { name, columns: &table.columns, row };
            if self.passes(filter, &within(outer, scope))? {
                found.push((key, row));
            }
        }
        Ok(found)
    }

    /// Values that a condition wants of the first columns of the key.
    fn prefix(
        &self,
        table: &Table,
        name: &str,
        filter: Option<&Expr>,
        outer: &[Scope<'_>],
    ) -> Result<Key, Stop> {
        let (mut wanted, mut open) = (BTreeMap::new(), Vec::from_iter(filter));
        while let Some(expr) = open.pop() {
            match expr {
                Expr::And(left, right) => open.extend([&**left, &**right]),
                Expr::Compare(Comparison::Equal, left, right) => {
                    let Expr::Column { table: of, name: column } = &**left else { continue };
                    let own = of.as_ref().is_none_or(|of| of == name);
                    let given = match &**right {
                        Expr::Constant(_) | Expr::Parameter(_) => true,
                        Expr::Column { table: Some(of), .. } => of != name,
                        _ => false,
                    };
                    if own && given {
                        wanted.extend(table.column(column).map(|column| (column, &**right)));
                    }
                }
                _ => {}
            }
        }
        let known = table.key.iter().map_while(|column| wanted.get(column));
        known.map(|value| self.value(value, outer)).collect()
    }

    /// The rows of a query.
    pub(super) fn select(&self, select: &Select, outer: &[Scope<'_>]) -> Result<Vec<Vec<Value>>, Stop> {
        match &select.from {
            Source::Nothing => {
                let row = select.columns.iter().map(|output| self.value(&output.expr, outer));
                Ok(vec![row.collect::<Result<_, _>>()?])
            }
            Source::Table { table, name } => {
                let table = self.table(table)?;
                let found = self.matching(table, name, select.filter.as_ref(), outer)?;
                let rows = found.iter().map(|(_, row)| Scope { name, columns: &table.columns, row });
                self.shape(select, rows.collect(), outer)
            }
            Source::Query { select: inner, name } => {
                let rows = self.select(inner, outer)?;
                let columns: Vec<String> =
                    inner.columns.iter().map(|output| output.name.clone().unwrap_or_default()).collect();
                let rows = rows.iter().map(|row| Scope { name, columns: &columns, row });
                self.shape(select, rows.collect(), outer)
            }
        }
    }

    /// Orders, cuts off and computes.
    pub(super) fn shape(
        &self,
        select: &Select,
        mut rows: Vec<Scope<'_>>,
        outer: &[Scope<'_>],
    ) -> Result<Vec<Vec<Value>>, Stop> {
        if !select.order.is_empty() {
            let mut keyed = Vec::with_capacity(rows.len());
            for row in rows {
                let scopes = within(outer, row);
                let key = select.order.iter().map(|(expr, _)| self.value(expr, &scopes));
                keyed.push((key.collect::<Result<Vec<_>, _>>()?, row));
            }
            keyed.sort_by(|(left, _), (right, _)| {
                let parts = left.iter().zip(right).zip(&select.order);
                let orders = parts.map(
                    |((left, right), (_, down))| {
                        if *down { right.cmp(left) } else { left.cmp(right) }
                    },
                );
                orders.reduce(std::cmp::Ordering::then).unwrap_or(std::cmp::Ordering::Equal)
            });
            rows = keyed.into_iter().map(|(_, row)| row).collect();
        }
        if let Some(limit) = &select.limit
            && let Value::Int(limit) = self.value(limit, outer)?
        {
            rows.truncate(usize::try_from(limit).unwrap_or(0));
        }
        if let [Output { expr: Expr::Call(function, arguments), .. }] = select.columns.as_slice()
            && function.is_aggregate()
        {
            return Ok(vec![vec![self.aggregate(*function, arguments, &rows, outer)?]]);
        }
        rows.into_iter().map(|row| self.outputs(&select.columns, &within(outer, row))).collect()
    }

    /// What a row is turned into.
    pub(super) fn outputs(&self, outputs: &[Output], scopes: &[Scope<'_>]) -> Result<Vec<Value>, Stop> {
        outputs.iter().map(|output| self.value(&output.expr, scopes)).collect()
    }

    fn aggregate(
        &self,
        function: Function,
        arguments: &[Expr],
        rows: &[Scope<'_>],
        outer: &[Scope<'_>],
    ) -> Result<Value, Stop> {
        let Some(argument) = arguments.first() else { return Ok(Value::Int(rows.len() as i64)) };
        let mut values = Vec::with_capacity(rows.len());
        for row in rows {
            values.push(self.value(argument, &within(outer, *row))?);
        }
        let values = values.into_iter().filter(|value| *value != Value::Null);
        let found = if function == Function::Min { values.min() } else { values.max() };
        Ok(found.unwrap_or(Value::Null))
    }

    /// Whether a condition holds; none always does.
    pub(super) fn passes(&self, filter: Option<&Expr>, scopes: &[Scope<'_>]) -> Result<bool, Stop> {
        match filter {
            Some(filter) => Ok(self.value(filter, scopes)? == Value::Truth(true)),
            None => Ok(true),
        }
    }

    /// The value of an expression.
    pub(super) fn value(&self, expr: &Expr, scopes: &[Scope<'_>]) -> Result<Value, Stop> {
        let truth = |expr: &Expr| match self.value(expr, scopes)? {
            Value::Truth(truth) => Ok(Some(truth)),
            Value::Null => Ok(None),
            _ => Err(Stop::failed("42804", "a condition is neither true nor false".to_owned())),
        };
        let known = |truth: Option<bool>| truth.map_or(Value::Null, Value::Truth);
        Ok(match expr {
            Expr::Constant(value) => value.clone(),
            Expr::Parameter(number) => self.parameters.get(*number).cloned().unwrap_or(Value::Null),
            Expr::Column { table, name } => column(table.as_deref(), name, scopes)?,
            Expr::Not(inner) => known(truth(inner)?.map(|truth| !truth)),
            Expr::And(left, right) => known(match (truth(left)?, truth(right)?) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            }),
            Expr::Or(left, right) => known(match (truth(left)?, truth(right)?) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            }),
            Expr::Compare(comparison, left, right) => {
                known(compare(*comparison, &self.value(left, scopes)?, &self.value(right, scopes)?))
            }
            Expr::Between(value, least, most) => {
                let value = self.value(value, scopes)?;
                let above = compare(Comparison::GreaterOrEqual, &value, &self.value(least, scopes)?);
                let below = compare(Comparison::LessOrEqual, &value, &self.value(most, scopes)?);
                known(above.zip(below).map(|(above, below)| above && below))
            }
            Expr::Arithmetic(operation, left, right) => {
                arithmetic(*operation, &self.value(left, scopes)?, &self.value(right, scopes)?)?
            }
            Expr::IsNull(inner) => Value::Truth(self.value(inner, scopes)? == Value::Null),
            Expr::In(value, list) => {
                let value = self.value(value, scopes)?;
                let mut there = false;
                for one in list {
                    there |= self.value(one, scopes)? == value;
                }
                Value::Truth(there)
            }
            Expr::InQuery(value, select) => {
                Value::Truth(self.set(select)?.contains(&self.value(value, scopes)?))
            }
            Expr::Case { when, otherwise } => {
                for (condition, value) in when {
                    if truth(condition)? == Some(true) {
                        return self.value(value, scopes);
                    }
                }
                self.value(otherwise, scopes)?
            }
            Expr::Query(select) => {
                let mut rows = self.select(select, scopes)?.into_iter();
                rows.next().and_then(|row| row.into_iter().next()).unwrap_or(Value::Null)
            }
            Expr::Call(function, arguments) => self.call(*function, arguments, scopes)?,
        })
    }

    fn call(&self, function: Function, arguments: &[Expr], scopes: &[Scope<'_>]) -> Result<Value, Stop> {
        match function {
            Function::Coalesce => {
                for argument in arguments {
                    let value = self.value(argument, scopes)?;
                    if value != Value::Null {
                        return Ok(value);
                    }
                }
                Ok(Value::Null)
            }
            Function::Seconds => Ok(Value::Int(self.seconds)),
            Function::DatabaseSize => {
                let size: usize = newest(self.tables).flat_map(|row| row.iter()).map(Value::size).sum();
                Ok(Value::Int(size as i64))
            }
            Function::TurnPartitions => Ok(Value::Null),
            Function::Count | Function::Min | Function::Max => {
                Err(Stop::failed("42803", "an aggregate stands alone".to_owned()))
            }
        }
    }

    /// The first column of a query that depends on no row.
    fn set(&self, select: &Select) -> Result<Rc<BTreeSet<Value>>, Stop> {
        let place = std::ptr::from_ref(select) as usize;
        if let Some(known) = self.sets.borrow().get(&place) {
            return Ok(known.clone());
        }
        let rows = self.select(select, &[])?;
        let set = Rc::new(rows.into_iter().filter_map(|row| row.into_iter().next()).collect::<BTreeSet<_>>());
        self.sets.borrow_mut().insert(place, set.clone());
        Ok(set)
    }
}

fn within<'s>(outer: &[Scope<'s>], inner: Scope<'s>) -> Vec<Scope<'s>> {
    outer.iter().copied().chain([inner]).collect()
}

/// A column of the innermost row that has it.
fn column(table: Option<&str>, name: &str, scopes: &[Scope<'_>]) -> Result<Value, Stop> {
    let named = scopes.iter().rev().filter(|scope| table.is_none_or(|table| table == scope.name));
    let mut found = named.filter_map(|scope| {
        let at = scope.columns.iter().position(|column| column == name)?;
        scope.row.get(at).cloned()
    });
    found.next().ok_or_else(|| Stop::failed("42703", format!("there is no column {name}")))
}

/// `None` where one of both is NULL.
fn compare(comparison: Comparison, left: &Value, right: &Value) -> Option<bool> {
    if *left == Value::Null || *right == Value::Null {
        return None;
    }
    let order = left.cmp(right);
    Some(match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    })
}

fn arithmetic(operation: Operation, left: &Value, right: &Value) -> Result<Value, Stop> {
    let (Value::Int(left), Value::Int(right)) = (left, right) else { return Ok(Value::Null) };
    let result = match operation {
        Operation::Plus => left.checked_add(*right),
        Operation::Minus => left.checked_sub(*right),
        Operation::Times => left.checked_mul(*right),
    };
    result.map(Value::Int).ok_or_else(|| Stop::failed("22003", "a number is out of range".to_owned()))
}
