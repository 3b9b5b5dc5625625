//! What the storage's code asks of the crate of this name, answered by a database in memory.

pub(crate) mod pool;

/// Rows as the server gives them, and parameters as it gets them.
pub(crate) mod postgres {
    pub(crate) type PgRow = Vec<super::Value>;
    pub(crate) type PgArguments = Vec<super::Value>;
}

use std::{fmt, marker::PhantomData};

use super::{
    connection::Connection,
    server::Task,
    value::{Bind, Column, Value},
    write::Done,
};

pub(crate) use self::pool::PgPool;
use self::postgres::{PgArguments, PgRow};
pub(crate) use super::connection::Connection as PgConnection;
pub(crate) use super::value::FromRow;
pub(crate) use ::sqlx::Error;
use ::sqlx::error::BoxDynError;

/// Names the database.
#[derive(Debug)]
pub(crate) struct Postgres;

/// A statement that was put together with care.
pub(crate) struct AssertSqlSafe(pub(crate) String);

/// Statements without parameters, sent as they are.
pub(crate) struct RawSql(String);

pub(crate) fn raw_sql(AssertSqlSafe(text): AssertSqlSafe) -> RawSql {
    RawSql(text)
}

/// What begins and ends transactions.
pub(crate) trait Executor {
    fn fetch_all(self, statements: RawSql) -> impl Future<Output = Result<Vec<PgRow>, Error>> + Send;
}

impl Executor for &mut Connection {
    async fn fetch_all(self, RawSql(text): RawSql) -> Result<Vec<PgRow>, Error> {
        let task = match text.as_str() {
            "COMMIT" => Task::Commit,
            "ROLLBACK" => Task::RollBack,
            _ => Task::Begin {
                repeatable: text.contains("REPEATABLE READ"),
                tenant: text
                    .split_once("runnel.tenant = '")
                    .and_then(|(_, name)| Some(name.split_once('\'')?.0.to_owned())),
                first: text.find("SELECT").map(|at| text[at..].to_owned()),
            },
        };
        self.perform(task).await.map(|done| done.rows)
    }
}

/// What a statement did.
pub(crate) struct Outcome(Done);

impl Outcome {
    pub(crate) fn rows_affected(&self) -> u64 {
        self.0.affected
    }
}

/// A statement with its parameters.
pub(crate) struct Query {
    text: String,
    parameters: Vec<Value>,
}

pub(crate) fn query(text: &str) -> Query {
    Query { text: text.to_owned(), parameters: Vec::new() }
}

impl Query {
    pub(crate) fn bind(mut self, value: impl Bind) -> Query {
        self.parameters.push(value.value());
        self
    }

    pub(crate) fn persistent(self, _: bool) -> Query {
        self
    }

    pub(crate) async fn execute(self, connection: &mut Connection) -> Result<Outcome, Error> {
        let Query { text, parameters } = self;
        connection.perform(Task::Statement { text, parameters }).await.map(Outcome)
    }
}

/// A statement whose rows become something.
pub(crate) struct QueryAs<R> {
    query: Query,
    row: PhantomData<fn() -> R>,
}

pub(crate) fn query_as<R: FromRow>(text: &str) -> QueryAs<R> {
    QueryAs { query: query(text), row: PhantomData }
}

impl<R: FromRow> QueryAs<R> {
    pub(crate) fn bind(self, value: impl Bind) -> QueryAs<R> {
        QueryAs { query: self.query.bind(value), row: PhantomData }
    }

    pub(crate) fn persistent(self, _: bool) -> QueryAs<R> {
        self
    }

    pub(crate) async fn fetch_all(self, connection: &mut Connection) -> Result<Vec<R>, Error> {
        let Outcome(done) = self.query.execute(connection).await?;
        done.rows.iter().map(|row| R::from_row(row)).collect()
    }

    pub(crate) async fn fetch_optional(self, connection: &mut Connection) -> Result<Option<R>, Error> {
        let Outcome(done) = self.query.execute(connection).await?;
        done.rows.first().map(|row| R::from_row(row)).transpose()
    }

    pub(crate) async fn fetch_one(self, connection: &mut Connection) -> Result<R, Error> {
        self.fetch_optional(connection).await?.ok_or(Error::RowNotFound)
    }
}

/// A statement of whose rows the first column is wanted.
pub(crate) struct QueryScalar<T>(QueryAs<(T,)>);

pub(crate) fn query_scalar<T: Column>(text: &str) -> QueryScalar<T> {
    QueryScalar(query_as(text))
}

impl<T: Column> QueryScalar<T> {
    pub(crate) fn bind(self, value: impl Bind) -> QueryScalar<T> {
        QueryScalar(self.0.bind(value))
    }

    pub(crate) async fn fetch_all(self, connection: &mut Connection) -> Result<Vec<T>, Error> {
        Ok(self.0.fetch_all(connection).await?.into_iter().map(|(value,)| value).collect())
    }
}

/// Parameters of a statement, in order.
pub(crate) trait Arguments {
    fn add(&mut self, value: impl Bind) -> Result<(), BoxDynError>;
}

impl Arguments for PgArguments {
    fn add(&mut self, value: impl Bind) -> Result<(), BoxDynError> {
        self.push(value.value());
        Ok(())
    }
}

/// Puts a statement together piece by piece.
pub(crate) struct QueryBuilder<D> {
    text: String,
    parameters: Vec<Value>,
    database: PhantomData<D>,
}

impl<D> QueryBuilder<D> {
    pub(crate) fn new(text: &str) -> QueryBuilder<D> {
        QueryBuilder { text: text.to_owned(), parameters: Vec::new(), database: PhantomData }
    }

    pub(crate) fn with_arguments(text: String, parameters: PgArguments) -> QueryBuilder<D> {
        QueryBuilder { text, parameters, database: PhantomData }
    }

    pub(crate) fn push(&mut self, text: impl fmt::Display) -> &mut Self {
        self.text += &text.to_string();
        self
    }

    pub(crate) fn push_bind(&mut self, value: impl Bind) -> &mut Self {
        self.parameters.push(value.value());
        let number = self.parameters.len();
        self.push(format_args!("${number}"))
    }

    pub(crate) fn separated(&mut self, separator: &'static str) -> Separated<'_, D> {
        Separated { builder: self, separator, first: true }
    }

    pub(crate) fn push_values<T>(
        &mut self,
        tuples: impl IntoIterator<Item = T>,
        mut push: impl FnMut(Separated<'_, D>, T),
    ) -> &mut Self {
        for (at, tuple) in tuples.into_iter().enumerate() {
            self.push(if at == 0 { "VALUES (" } else { ", (" });
            push(self.separated(", "), tuple);
            self.push(")");
        }
        self
    }

    pub(crate) fn build(&mut self) -> Query {
        Query { text: std::mem::take(&mut self.text), parameters: std::mem::take(&mut self.parameters) }
    }

    pub(crate) fn build_query_as<R: FromRow>(&mut self) -> QueryAs<R> {
        QueryAs { query: self.build(), row: PhantomData }
    }
}

/// Values with something between them.
pub(crate) struct Separated<'b, D> {
    builder: &'b mut QueryBuilder<D>,
    separator: &'static str,
    first: bool,
}

impl<D> Separated<'_, D> {
    pub(crate) fn push_bind(&mut self, value: impl Bind) -> &mut Self {
        if !std::mem::replace(&mut self.first, false) {
            self.builder.push(self.separator);
        }
        self.builder.push_bind(value);
        self
    }
}
