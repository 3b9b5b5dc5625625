//! A row as a tree, for formats that keep what belongs to one event in several places. Numbers stay text, as in the reader below it.

use std::borrow::Cow;

use crate::import::{
    fault::RowFault,
    json::{DEPTH, Json, Token},
    typed::is_whole,
};

/// A value and everything inside it.
#[derive(Debug)]
pub(super) enum Node<'a> {
    /// Nothing, a text, a number, or true or false.
    Scalar(Token<'a>),
    /// Members in their order. Of a name that comes twice the first counts.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
    /// Elements.
    Array(Vec<Node<'a>>),
}

impl<'a> Node<'a> {
    /// Reads a line that is one object.
    pub(super) fn read(text: &'a str) -> Result<Node<'a>, RowFault> {
        let mut json = Json::new(text);
        let first = json.value()?;
        if first != Token::Object {
            return Err(RowFault::json(0, "no opening brace"));
        }
        let node = below(first, &mut json, 0)?;
        json.end()?;
        Ok(node)
    }

    /// The members of an object; none for anything else.
    pub(super) fn members(&self) -> &[(Cow<'a, str>, Node<'a>)] {
        match self {
            Node::Object(members) => members,
            _ => &[],
        }
    }

    /// The elements of an array; none for anything else.
    pub(super) fn elements(&self) -> &[Node<'a>] {
        match self {
            Node::Array(elements) => elements,
            _ => &[],
        }
    }

    /// The value at the end of a path of names.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Node<'a>> {
        path.iter().try_fold(self, |node, step| {
            node.members().iter().find(|(name, _)| name == step).map(|(_, node)| node)
        })
    }

    /// A text that is not empty, or a number as it is written.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Node::Scalar(Token::Text(text)) if !text.is_empty() => Some(text),
            Node::Scalar(Token::Number(text)) => Some(text),
            _ => None,
        }
    }

    /// A text that is not empty, or a whole number: what an id may be.
    pub(super) fn id(&self) -> Option<&str> {
        match self {
            Node::Scalar(Token::Number(number)) if !is_whole(number) => None,
            _ => self.text(),
        }
    }

    /// The id at the end of a path.
    pub(super) fn id_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path)?.id()
    }
}

/// Builds what begins with `token`.
fn below<'a>(token: Token<'a>, json: &mut Json<'a>, depth: usize) -> Result<Node<'a>, RowFault> {
    if depth > DEPTH {
        return Err(RowFault::new(
            "JSON_MALFORMED",
            "The line is not a JSON object of this format: too many levels.",
        ));
    }
    let mut first = true;
    Ok(match token {
        Token::Object => {
            let mut members = Vec::new();
            while let Some(name) = json.member(first)? {
                let token = json.value()?;
                members.push((name, below(token, json, depth + 1)?));
                first = false;
            }
            Node::Object(members)
        }
        Token::Array => {
            let mut elements = Vec::new();
            while json.element(first)? {
                let token = json.value()?;
                elements.push(below(token, json, depth + 1)?);
                first = false;
            }
            Node::Array(elements)
        }
        scalar => Node::Scalar(scalar),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_values() {
        let row = Node::read(r#"{"a":{"b":[1,{"c":"x"}],"n":12,"f":1.5,"e":"","t":true},"a":2}"#).unwrap();
        assert_eq!(row.id_at(&["a", "n"]), Some("12"));
        assert_eq!(row.at(&["a", "b"]).unwrap().elements()[1].id_at(&["c"]), Some("x"));
        assert_eq!(row.at(&["a", "f"]).unwrap().text(), Some("1.5"));
        for path in [&["a", "f"][..], &["a", "e"], &["a", "t"], &["a"], &["b"], &["a", "n", "x"]] {
            assert_eq!(row.id_at(path), None, "{path:?}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["[]", "1", "{", "{} {}", "{\"a\":[1,]}"] {
            assert_eq!(Node::read(text).unwrap_err().reason, "JSON_MALFORMED", "{text}");
        }
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        assert!(Node::read(&deep).is_err());
    }
}
