//! Reads one JSON value piece by piece without building it. Numbers stay text, so that none is rounded before its type is known.

use std::borrow::Cow;

use super::{fault::RowFault, scan::json_string_mark};

/// How deep a value that is skipped or kept as a tree may be nested.
pub(super) const DEPTH: usize = 128;

/// One value, or the beginning of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Null,
    Bool(bool),
    /// As it is written.
    Number(&'a str),
    Text(Cow<'a, str>),
    /// The opening brace was read.
    Object,
    /// The opening bracket was read.
    Array,
}

/// A place in a JSON text.
#[derive(Clone, Debug)]
pub(super) struct Json<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Json<'a> {
    pub(super) fn new(text: &'a str) -> Json<'a> {
        Json { text, at: 0 }
    }

    /// Reads a value; of an object or array only its beginning.
    pub(super) fn value(&mut self) -> Result<Token<'a>, RowFault> {
        match self.next_byte() {
            Some(b'"') => self.string().map(Token::Text),
            Some(b'{') => Ok(Token::Object),
            Some(b'[') => Ok(Token::Array),
            Some(b'-' | b'0'..=b'9') => {
                self.at -= 1;
                self.number().map(Token::Number)
            }
            Some(b't') => self.word("rue", Token::Bool(true)),
            Some(b'f') => self.word("alse", Token::Bool(false)),
            Some(b'n') => self.word("ull", Token::Null),
            Some(_) => Err(RowFault::json(self.at - 1, "no value")),
            None => Err(RowFault::json(self.at, "the line ends")),
        }
    }

    /// The next member's name of an object that was begun, with its colon; `None` after the closing brace. `first` says that no member was read yet.
    pub(super) fn member(&mut self, first: bool) -> Result<Option<Cow<'a, str>>, RowFault> {
        let mut next = self.next_byte();
        match next {
            Some(b'}') => return Ok(None),
            Some(b',') if !first => next = self.next_byte(),
            _ if first => {}
            _ => return Err(RowFault::json(self.at.saturating_sub(1), "no comma")),
        }
        if next != Some(b'"') {
            return Err(RowFault::json(self.at.saturating_sub(1), "no name in quotes"));
        }
        let name = self.string()?;
        match self.next_byte() {
            Some(b':') => Ok(Some(name)),
            _ => Err(RowFault::json(self.at.saturating_sub(1), "no colon")),
        }
    }

    /// Whether an array that was begun has another element, which is to be read next. `first` says that none was read yet.
    pub(super) fn element(&mut self, first: bool) -> Result<bool, RowFault> {
        let start = self.at;
        match self.next_byte() {
            Some(b']') => Ok(false),
            Some(b',') if !first => Ok(true),
            Some(_) if first => {
                self.at = start;
                Ok(true)
            }
            Some(_) => Err(RowFault::json(self.at - 1, "no comma")),
            None => Err(RowFault::json(self.at, "the line ends")),
        }
    }

    /// Reads what is left of a value whose beginning is `token`.
    pub(super) fn skip(&mut self, token: &Token<'_>) -> Result<(), RowFault> {
        self.skip_at(token, 0)
    }

    fn skip_at(&mut self, token: &Token<'_>, depth: usize) -> Result<(), RowFault> {
        if depth > DEPTH {
            return Err(RowFault::json(self.at, "too many levels"));
        }
        match token {
            Token::Object => {
                let mut first = true;
                while self.member(first)?.is_some() {
                    let value = self.value()?;
                    self.skip_at(&value, depth + 1)?;
                    first = false;
                }
            }
            Token::Array => {
                let mut first = true;
                while self.element(first)? {
                    let value = self.value()?;
                    self.skip_at(&value, depth + 1)?;
                    first = false;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Checks that nothing follows.
    pub(super) fn end(&mut self) -> Result<(), RowFault> {
        match self.next_byte() {
            None => Ok(()),
            Some(_) => Err(RowFault::json(self.at - 1, "something follows")),
        }
    }

    /// The next byte that is no white space.
    #[inline]
    fn next_byte(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            self.at += 1;
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(byte);
            }
        }
        None
    }

    fn word(&mut self, rest: &str, token: Token<'a>) -> Result<Token<'a>, RowFault> {
        if self.text.as_bytes().get(self.at..self.at + rest.len()) != Some(rest.as_bytes()) {
            return Err(RowFault::json(self.at - 1, "no value"));
        }
        self.at += rest.len();
        Ok(token)
    }

    fn number(&mut self) -> Result<&'a str, RowFault> {
        let (bytes, start) = (self.text.as_bytes(), self.at);
        let mut at = start + usize::from(bytes.get(start) == Some(&b'-'));
        let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
        let whole = digits(at);
        if whole == 0 || (whole > 1 && bytes[at] == b'0') {
            return Err(RowFault::json(start, "no number"));
        }
        at += whole;
        if bytes.get(at) == Some(&b'.') {
            let fraction = digits(at + 1);
            if fraction == 0 {
                return Err(RowFault::json(start, "no number"));
            }
            at += 1 + fraction;
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
            let exponent = digits(at);
            if exponent == 0 {
                return Err(RowFault::json(start, "no number"));
            }
            at += exponent;
        }
        self.at = at;
        Ok(&self.text[start..at])
    }

    /// Reads a string whose opening quote was read.
    #[inline]
    fn string(&mut self) -> Result<Cow<'a, str>, RowFault> {
        let start = self.at;
        let end = self.plain_until_mark()?;
        if self.text.as_bytes()[end] == b'"' {
            self.at = end + 1;
            return Ok(Cow::Borrowed(&self.text[start..end]));
        }
        self.at = end;
        self.escaped(start).map(Cow::Owned)
    }

    /// The position of the quote or backslash that ends a run of plain text.
    #[inline]
    fn plain_until_mark(&self) -> Result<usize, RowFault> {
        let bytes = self.text.as_bytes();
        match json_string_mark(bytes, self.at) {
            Some(at) if bytes[at] >= 0x20 => Ok(at),
            Some(at) => Err(RowFault::json(at, "a control character inside quotes")),
            None => Err(RowFault::json(bytes.len(), "the line ends inside quotes")),
        }
    }

    /// Reads on from the first backslash of a string that started at `start`.
    fn escaped(&mut self, start: usize) -> Result<String, RowFault> {
        let mut text = self.text[start..self.at].to_owned();
        loop {
            // At a backslash.
            let escape = self.text.as_bytes().get(self.at + 1).copied();
            self.at += 2;
            match escape {
                Some(b'"') => text.push('"'),
                Some(b'\\') => text.push('\\'),
                Some(b'/') => text.push('/'),
                Some(b'b') => text.push('\u{8}'),
                Some(b'f') => text.push('\u{c}'),
                Some(b'n') => text.push('\n'),
                Some(b'r') => text.push('\r'),
                Some(b't') => text.push('\t'),
                Some(b'u') => text.push(self.unicode()?),
                _ => return Err(RowFault::json(self.at - 2, "an unknown escape")),
            }
            let from = self.at;
            let mark = self.plain_until_mark()?;
            text.push_str(&self.text[from..mark]);
            self.at = mark;
            if self.text.as_bytes()[mark] == b'"' {
                self.at += 1;
                return Ok(text);
            }
        }
    }

    /// Reads the four digits after `\u`, and a second escape where the first is half of a pair.
    fn unicode(&mut self) -> Result<char, RowFault> {
        let at = self.at;
        let wrong = || RowFault::json(at - 2, "an escape that is no character");
        let first = self.hex().ok_or_else(wrong)?;
        let code = if (0xd800..0xdc00).contains(&first) {
            if self.text.as_bytes().get(self.at..self.at + 2) != Some(b"\\u") {
                return Err(wrong());
            }
            self.at += 2;
            let second = self.hex().filter(|second| (0xdc00..0xe000).contains(second)).ok_or_else(wrong)?;
            0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        char::from_u32(code).ok_or_else(wrong)
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
        let mut value = 0;
        for digit in digits {
            value = value * 16 + (*digit as char).to_digit(16)?;
        }
        self.at += 4;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// Builds a value from tokens, as the slow twin of skipping.
    fn build(json: &mut Json<'_>) -> Result<Value, RowFault> {
        Ok(match json.value()? {
            Token::Null => Value::Null,
            Token::Bool(value) => Value::Bool(value),
            Token::Number(text) => serde_json::from_str(text).unwrap(),
            Token::Text(text) => Value::String(text.into_owned()),
            Token::Array => {
                let after = json.clone();
                json.skip(&Token::Array)?;
                serde_json::from_str(&format!("[{}", &after.text[after.at..json.at])).unwrap()
            }
            Token::Object => {
                let (mut members, mut first) = (serde_json::Map::new(), true);
                while let Some(name) = json.member(first)? {
                    members.insert(name.into_owned(), build(json)?);
                    first = false;
                }
                Value::Object(members)
            }
        })
    }

    fn read(text: &str) -> Result<Value, RowFault> {
        let mut json = Json::new(text);
        let value = build(&mut json)?;
        json.end()?;
        Ok(value)
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            // Quarters: serde's own reading of longer fractions is off by one in the last place.
            (-4_000_000i64..4_000_000).prop_map(|quarters| Value::from(quarters as f64 / 4.0)),
            ".{0,20}".prop_map(Value::String),
            "[\"\\\\/\u{8}\u{1f}\u{7f}\n\tä€😀a]{0,12}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                proptest::collection::btree_map(".{0,8}", inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_what_serde_writes(value in value(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            prop_assert_eq!(read(&text), Ok(value));
        }

        #[test]
        fn agrees_with_serde_on_what_is_json(text in "[\\[\\]{}\",:0-9.eE+\\-a-z\\\\u \t]{0,24}") {
            let ours = read(&text).is_ok();
            let theirs = serde_json::from_str::<Value>(&text);
            // A number beyond the range of a double is no fault of the text.
            let range = theirs.as_ref().is_err_and(|fault| fault.to_string().contains("out of range"));
            prop_assert!(ours == theirs.is_ok() || range, "{text:?}: {theirs:?}");
        }
    }

    #[test]
    fn escapes_are_read() {
        assert_eq!(read(r#""\u00e4\ud83d\ude00\/\b\f""#), Ok(Value::String("ä😀/\u{8}\u{c}".into())));
        for bad in [
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ud83d\u0041""#,
            r#""\x""#,
            r#""\u12""#,
            "\"a\u{1}b\"",
            "\"open",
            "{\"a\" 1}",
            "{a:1}",
            "01",
            "1.",
            "-",
            "[1,]",
            "{\"a\":1,}",
            "{} x",
            "",
        ] {
            assert_eq!(read(bad).unwrap_err().reason, "JSON_MALFORMED", "{bad}");
        }
        let deep = "[".repeat(100_000);
        assert!(read(&deep).is_err());
    }
}
