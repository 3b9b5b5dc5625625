//! Expressions, from those that bind least to those that bind most.

use super::{Parser, Token};
use crate::simulated::{
    statement::{Comparison, Expr, Function, Operation},
    value::Value,
};

impl Parser {
    pub(super) fn expr(&mut self) -> Option<Expr> {
        let mut left = self.conjunction()?;
        while self.takes("OR") {
            left = Expr::Or(Box::new(left), Box::new(self.conjunction()?));
        }
        Some(left)
    }

    fn conjunction(&mut self) -> Option<Expr> {
        let mut left = self.negation()?;
        while self.takes("AND") {
            left = Expr::And(Box::new(left), Box::new(self.negation()?));
        }
        Some(left)
    }

    fn negation(&mut self) -> Option<Expr> {
        if self.takes("NOT") { Some(Expr::Not(Box::new(self.negation()?))) } else { self.comparison() }
    }

    fn comparison(&mut self) -> Option<Expr> {
        let left = self.sum()?;
        for (sign, comparison) in [
            ("=", Comparison::Equal),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ] {
            if self.takes_sign(sign) {
                return Some(Expr::Compare(comparison, Box::new(left), Box::new(self.sum()?)));
            }
        }
        if self.takes("IS NULL") {
            return Some(Expr::IsNull(Box::new(left)));
        }
        if self.takes("IS NOT NULL") {
            return Some(Expr::Not(Box::new(Expr::IsNull(Box::new(left)))));
        }
        if self.takes("BETWEEN") {
            let least = self.sum()?;
            self.wants("AND")?;
            return Some(Expr::Between(Box::new(left), Box::new(least), Box::new(self.sum()?)));
        }
        if self.takes("IN") {
            return self.in_brackets(|parser| match parser.sees("SELECT") {
                true => Some(Expr::InQuery(Box::new(left), Box::new(parser.select()?))),
                false => Some(Expr::In(Box::new(left), parser.list(Parser::expr)?)),
            });
        }
        Some(left)
    }

    fn sum(&mut self) -> Option<Expr> {
        let mut left = self.product()?;
        loop {
            let operation = if self.takes_sign("+") {
                Operation::Plus
            } else if self.takes_sign("-") {
                Operation::Minus
            } else {
                return Some(left);
            };
            left = Expr::Arithmetic(operation, Box::new(left), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Option<Expr> {
        let mut left = self.cast()?;
        while self.takes_sign("*") {
            left = Expr::Arithmetic(Operation::Times, Box::new(left), Box::new(self.cast()?));
        }
        Some(left)
    }

    /// All numbers have 64 bits, so a cast changes nothing.
    fn cast(&mut self) -> Option<Expr> {
        let value = self.primary()?;
        if self.takes_sign("::") {
            self.wants("bigint")?;
        }
        Some(value)
    }

    fn primary(&mut self) -> Option<Expr> {
        match self.tokens.get(self.at)?.clone() {
            Token::Number(number) => self.constant(Value::Int(number)),
            Token::Text(text) => self.constant(Value::Text(text.into())),
            Token::Parameter(number) => {
                self.at += 1;
                Some(Expr::Parameter(number))
            }
            Token::Sign("(") => self.in_brackets(|parser| match parser.sees("SELECT") {
                true => Some(Expr::Query(Box::new(parser.select()?))),
                false => parser.expr(),
            }),
            Token::Sign(_) => None,
            Token::Word(_) if self.takes("NULL") => Some(Expr::Constant(Value::Null)),
            Token::Word(_) if self.takes("CASE") => self.case(),
            Token::Word(_) => self.called_or_column(),
        }
    }

    fn constant(&mut self, value: Value) -> Option<Expr> {
        self.at += 1;
        Some(Expr::Constant(value))
    }

    fn case(&mut self) -> Option<Expr> {
        let mut when = Vec::new();
        while self.takes("WHEN") {
            let condition = self.expr()?;
            self.wants("THEN")?;
            when.push((condition, self.expr()?));
        }
        self.wants("ELSE")?;
        let otherwise = Box::new(self.expr()?);
        self.wants("END")?;
        Some(Expr::Case { when, otherwise })
    }

    fn called_or_column(&mut self) -> Option<Expr> {
        let name = self.name()?;
        if self.takes_sign(".") {
            return Some(Expr::Column { table: Some(name), name: self.name()? });
        }
        if !self.takes_sign("(") {
            return Some(Expr::Column { table: None, name });
        }
        let function = match name.to_ascii_lowercase().as_str() {
            "count" => Function::Count,
            "min" => Function::Min,
            "max" => Function::Max,
            "coalesce" => Function::Coalesce,
            "extract" => Function::Seconds,
            "pg_database_size" => Function::DatabaseSize,
            "turn_partitions" => Function::TurnPartitions,
            _ => return None,
        };
        let arguments = match function {
            Function::Count => self.wants_sign("*").map(|()| Vec::new()),
            Function::Seconds => {
                self.takes("epoch FROM clock_timestamp").then(Vec::new).and_then(|none| self.nothing(none))
            }
            Function::DatabaseSize => {
                self.takes("current_database").then(Vec::new).and_then(|none| self.nothing(none))
            }
            _ => self.list(Parser::expr),
        };
        let arguments = arguments?;
        self.wants_sign(")")?;
        Some(Expr::Call(function, arguments))
    }

    /// The brackets of a call without arguments.
    fn nothing<T>(&mut self, value: T) -> Option<T> {
        self.wants_sign("(")?;
        self.wants_sign(")")?;
        Some(value)
    }
}
