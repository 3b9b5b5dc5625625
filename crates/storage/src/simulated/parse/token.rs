//! Words, numbers, texts and signs.

/// A piece of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    Number(i64),
    Text(String),
    /// `$n`, counted from 0.
    Parameter(usize),
    Sign(&'static str),
}

/// Longer ones before those that they begin with.
const SIGNS: [&str; 12] = ["<=", ">=", "::", "(", ")", ",", ".", "=", "<", ">", "+", "-"];

/// The pieces of a statement; `None` when something is none.
pub(super) fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = if first == '*' {
            (Token::Sign("*"), 1)
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            (Token::Sign(sign), sign.len())
        } else if first == '\'' {
            let end = rest[1..].find('\'')?;
            (Token::Text(rest[1..=end].to_owned()), end + 2)
        } else if first == '$' {
            let digits = prefix(&rest[1..], char::is_ascii_digit);
            (Token::Parameter(digits.parse::<usize>().ok()?.checked_sub(1)?), digits.len() + 1)
        } else if first.is_ascii_digit() {
            let digits = prefix(rest, char::is_ascii_digit);
            (Token::Number(digits.parse().ok()?), digits.len())
        } else {
            let word = prefix(rest, |letter| letter.is_ascii_alphanumeric() || *letter == '_');
            (Token::Word((!word.is_empty()).then(|| word.to_owned())?), word.len())
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Some(tokens)
}

fn prefix(text: &str, belongs: impl Fn(&char) -> bool) -> &str {
    let length = text.chars().take_while(belongs).map(char::len_utf8).sum();
    &text[..length]
}
