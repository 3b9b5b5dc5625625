//! Reads statements.

mod expression;
mod token;

use ::sqlx::Error;

use self::token::{Token, tokens};
use super::statement::{Conflict, Expr, Insert, Output, Rows, Select, Source, Statement, Update};

/// Reads one statement.
pub(super) fn parse(text: &str) -> Result<Statement, Error> {
    let strange =
        |at| Error::Protocol(format!("the simulated database does not understand {text:?} at {at:?}"));
    let tokens = tokens(text).ok_or_else(|| strange(None))?;
    let mut parser = Parser { tokens, at: 0 };
    let statement = parser.statement().ok_or_else(|| strange(parser.tokens.get(parser.at)))?;
    if parser.at == parser.tokens.len() { Ok(statement) } else { Err(strange(parser.tokens.get(parser.at))) }
}

/// The tokens, and how far they are read. `None` of a method is a statement that is not understood.
struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    /// Whether the next word is this one.
    fn sees(&self, word: &str) -> bool {
        matches!(self.tokens.get(self.at), Some(Token::Word(next)) if next.eq_ignore_ascii_case(word))
    }

    /// Takes these words, if they are next.
    fn takes(&mut self, words: &str) -> bool {
        let start = self.at;
        for word in words.split(' ') {
            if !self.sees(word) {
                self.at = start;
                return false;
            }
            self.at += 1;
        }
        true
    }

    fn wants(&mut self, words: &str) -> Option<()> {
        self.takes(words).then_some(())
    }

    /// Takes this sign, if it is next.
    fn takes_sign(&mut self, sign: &str) -> bool {
        let there = matches!(self.tokens.get(self.at), Some(Token::Sign(next)) if *next == sign);
        self.at += usize::from(there);
        there
    }

    fn wants_sign(&mut self, sign: &str) -> Option<()> {
        self.takes_sign(sign).then_some(())
    }

    fn name(&mut self) -> Option<String> {
        let Some(Token::Word(word)) = self.tokens.get(self.at) else { return None };
        self.at += 1;
        Some(word.clone())
    }

    /// What stands between commas.
    fn list<T>(&mut self, mut one: impl FnMut(&mut Parser) -> Option<T>) -> Option<Vec<T>> {
        let mut all = vec![one(self)?];
        while self.takes_sign(",") {
            all.push(one(self)?);
        }
        Some(all)
    }

    fn in_brackets<T>(&mut self, inside: impl FnOnce(&mut Parser) -> Option<T>) -> Option<T> {
        self.wants_sign("(")?;
        let value = inside(self)?;
        self.wants_sign(")")?;
        Some(value)
    }

    fn statement(&mut self) -> Option<Statement> {
        if self.takes("WITH") {
            let before = self.list(|parser| {
                parser.name()?;
                parser.wants("AS")?;
                parser.in_brackets(Parser::statement)
            })?;
            return Some(Statement::With(before, Box::new(self.statement()?)));
        }
        if self.sees("SELECT") {
            return self.select().map(Statement::Select);
        }
        if self.takes("INSERT INTO") {
            return self.insert().map(Statement::Insert);
        }
        if self.takes("UPDATE") {
            return self.update().map(Statement::Update);
        }
        self.wants("DELETE FROM")?;
        let (table, filter) = (self.name()?, self.filter()?);
        Some(Statement::Delete { table, filter, returning: self.returning()? })
    }

    /// `WHERE …`, if it is there; the outer `None` is a failure.
    fn filter(&mut self) -> Option<Option<Expr>> {
        if self.takes("WHERE") { self.expr().map(Some) } else { Some(None) }
    }

    fn select(&mut self) -> Option<Select> {
        self.wants("SELECT")?;
        let columns = self.list(Parser::output)?;
        let from = if self.takes("FROM") { self.source()? } else { Source::Nothing };
        let filter = self.filter()?;
        let order = match self.takes("ORDER BY") {
            true => self.list(|parser| Some((parser.expr()?, parser.takes("DESC"))))?,
            false => Vec::new(),
        };
        let limit = if self.takes("LIMIT") { Some(self.expr()?) } else { None };
        let locks = self.takes("FOR NO KEY UPDATE") || self.takes("FOR UPDATE");
        Some(Select { columns, from, filter, order, limit, locks })
    }

    fn output(&mut self) -> Option<Output> {
        let expr = self.expr()?;
        let name = if self.takes("AS") { Some(self.name()?) } else { None };
        Some(Output { expr, name })
    }

    fn source(&mut self) -> Option<Source> {
        if self.takes_sign("(") {
            let select = Box::new(self.select()?);
            self.wants_sign(")")?;
            self.wants("AS")?;
            return Some(Source::Query { select, name: self.name()? });
        }
        let (table, name) = self.named_table()?;
        Some(Source::Table { table, name })
    }

    /// A table, and what it is called in the statement.
    fn named_table(&mut self) -> Option<(String, String)> {
        let table = self.name()?;
        let name = if self.takes("AS") { self.name()? } else { table.clone() };
        Some((table, name))
    }

    fn insert(&mut self) -> Option<Insert> {
        let (table, name) = self.named_table()?;
        let columns = self.in_brackets(|parser| parser.list(Parser::name))?;
        let rows = if self.takes("VALUES") {
            Rows::Values(self.list(|parser| parser.in_brackets(|parser| parser.list(Parser::expr)))?)
        } else {
            Rows::Query(self.select()?)
        };
        let conflict = if self.takes("ON CONFLICT") {
            self.in_brackets(|parser| parser.list(Parser::name))?;
            if self.takes("DO NOTHING") {
                Conflict::Nothing
            } else {
                self.wants("DO UPDATE SET")?;
                Conflict::Update { set: self.assignments()?, filter: self.filter()? }
            }
        } else {
            Conflict::Refuse
        };
        Some(Insert { table, name, columns, rows, conflict, returning: self.returning()? })
    }

    fn update(&mut self) -> Option<Update> {
        let table = self.name()?;
        self.wants("SET")?;
        let (set, filter) = (self.assignments()?, self.filter()?);
        Some(Update { table, set, filter, returning: self.returning()? })
    }

    /// `RETURNING …`, if it is there.
    fn returning(&mut self) -> Option<Vec<Output>> {
        if self.takes("RETURNING") { self.list(Parser::output) } else { Some(Vec::new()) }
    }

    fn assignments(&mut self) -> Option<Vec<(String, Expr)>> {
        self.list(|parser| {
            let column = parser.name()?;
            parser.wants_sign("=")?;
            Some((column, parser.expr()?))
        })
    }
}
