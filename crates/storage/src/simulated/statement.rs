//! Statements as they are understood: as much of SQL as the storage speaks.

use super::value::Value;

/// One statement.
#[derive(Debug)]
pub(super) enum Statement {
    Select(Select),
    Insert(Insert),
    Update(Update),
    Delete {
        table: String,
        filter: Option<Expr>,
        returning: Vec<Output>,
    },
    /// `WITH name AS (before), … last`, where none reads another.
    With(Vec<Statement>, Box<Statement>),
}

/// A query.
#[derive(Debug)]
pub(super) struct Select {
    pub(super) columns: Vec<Output>,
    pub(super) from: Source,
    pub(super) filter: Option<Expr>,
    /// By what, and whether downwards.
    pub(super) order: Vec<(Expr, bool)>,
    pub(super) limit: Option<Expr>,
    /// `FOR NO KEY UPDATE` or `FOR UPDATE`: what else may be done with a locked row makes no difference to these statements.
    pub(super) locks: bool,
}

/// An expression with the name that `AS` gives it.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) expr: Expr,
    pub(super) name: Option<String>,
}

/// Where rows come from.
#[derive(Debug)]
pub(super) enum Source {
    /// One row without columns.
    Nothing,
    Table {
        table: String,
        name: String,
    },
    Query {
        select: Box<Select>,
        name: String,
    },
}

/// `INSERT`.
#[derive(Debug)]
pub(super) struct Insert {
    pub(super) table: String,
    /// What the row that is there already is called.
    pub(super) name: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Rows,
    pub(super) conflict: Conflict,
    pub(super) returning: Vec<Output>,
}

/// What is inserted.
#[derive(Debug)]
pub(super) enum Rows {
    Values(Vec<Vec<Expr>>),
    Query(Select),
}

/// What becomes of a row whose key is there already.
#[derive(Debug)]
pub(super) enum Conflict {
    Refuse,
    Nothing,
    Update { set: Vec<(String, Expr)>, filter: Option<Expr> },
}

/// `UPDATE`.
#[derive(Debug)]
pub(super) struct Update {
    pub(super) table: String,
    pub(super) set: Vec<(String, Expr)>,
    pub(super) filter: Option<Expr>,
    pub(super) returning: Vec<Output>,
}

/// An expression.
#[derive(Debug)]
pub(super) enum Expr {
    Constant(Value),
    /// `$n`, counted from 0.
    Parameter(usize),
    Column {
        table: Option<String>,
        name: String,
    },
    Not(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Compare(Comparison, Box<Expr>, Box<Expr>),
    Arithmetic(Operation, Box<Expr>, Box<Expr>),
    IsNull(Box<Expr>),
    Between(Box<Expr>, Box<Expr>, Box<Expr>),
    In(Box<Expr>, Vec<Expr>),
    /// The query does not depend on the row.
    InQuery(Box<Expr>, Box<Select>),
    Case {
        when: Vec<(Expr, Expr)>,
        otherwise: Box<Expr>,
    },
    Call(Function, Vec<Expr>),
    /// The first column of the query's first row.
    Query(Box<Select>),
}

/// How values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What is done with numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation {
    Plus,
    Minus,
    Times,
}

/// What can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Count,
    Min,
    Max,
    Coalesce,
    /// Whole seconds since 1970: `extract(epoch FROM clock_timestamp())`.
    Seconds,
    DatabaseSize,
    /// There are no partitions here.
    TurnPartitions,
}

impl Function {
    /// Whether it is of all rows together.
    pub(super) fn is_aggregate(self) -> bool {
        matches!(self, Function::Count | Function::Min | Function::Max)
    }
}
