//! One JSON object a line. Members of the object, and of a nested object `properties`, become properties; those with a meaning are taken for that.

use std::collections::HashMap;

use runnel_model::limits;

use super::{
    args::PropertyType,
    collect::Collector,
    encode::{PropertyKey, RequestWriter},
    fault::RowFault,
    instant,
    json::{Json, Token},
    layout::Mapping,
    lines,
    read::Halt,
    records::{RECORD_BYTES, Window},
    typed::{check_name, check_text, check_time, is_whole, of_json},
};

/// The member whose members are properties.
const NESTED: &str = "properties";
/// Names of members that are remembered; further ones are looked at anew in every line.
const NAMES: usize = 2 * limits::PROPERTY_NAMES;

/// Reads a file to its end.
pub(super) fn read(window: Window, mapping: &Mapping, rows: &mut Collector<'_>) -> Result<(), Halt> {
    let mut reader = Reader::new(mapping);
    lines::read(window, rows, &mut |line, number, rows| match reader.write(line, &mut rows.writer) {
        Ok(()) => rows.accepted(number, Some(line)),
        Err(fault) => rows.rejected(number, fault, line),
    })
}

/// What a member's name means.
#[derive(Clone, Debug)]
struct Meaning {
    name: String,
    event_id: bool,
    visitor: bool,
    time: bool,
    event_name: bool,
    sequence: bool,
    /// It holds properties when it is an object.
    nested: bool,
    ignored: bool,
    key: PropertyKey,
    declared: Option<PropertyType>,
}

impl Meaning {
    fn has_role(&self) -> bool {
        self.event_id || self.visitor || self.time || self.event_name || self.sequence
    }
}

/// Meanings of names on one level, remembered.
#[derive(Default)]
struct Names {
    all: Vec<Meaning>,
    index: HashMap<String, usize>,
    /// Lines of one sender have the same members in the same order: what stood at a position last time is tried first.
    recent: Vec<usize>,
}

impl Names {
    fn find(&mut self, position: usize, name: &str, make: impl Fn() -> Meaning) -> usize {
        if let Some(&at) = self.recent.get(position)
            && self.all[at].name == name
        {
            return at;
        }
        let at = match self.index.get(name) {
            Some(&at) => at,
            None => {
                if self.all.len() >= NAMES {
                    *self = Names::default();
                }
                self.all.push(make());
                self.index.insert(name.to_owned(), self.all.len() - 1);
                self.all.len() - 1
            }
        };
        if position < self.recent.len() {
            self.recent[position] = at;
        } else if position == self.recent.len() {
            self.recent.push(at);
        }
        at
    }
}

#[derive(Default)]
struct Found {
    visitor: bool,
    time: bool,
    name: bool,
}

struct Reader<'m> {
    mapping: &'m Mapping,
    top: Names,
    nested: Names,
}

impl<'m> Reader<'m> {
    fn new(mapping: &'m Mapping) -> Reader<'m> {
        Reader { mapping, top: Names::default(), nested: Names::default() }
    }

    /// Writes the line as an event. A fault leaves nothing behind.
    fn write(&mut self, line: &[u8], writer: &mut RequestWriter) -> Result<(), RowFault> {
        let text = check_text("The line", line, RECORD_BYTES)?;
        let mapping = self.mapping;
        let mut json = Json::new(text);
        if json.value()? != Token::Object {
            return Err(RowFault::json(0, "no opening brace"));
        }
        writer.begin();
        let (mut found, mut position) = (Found::default(), 0);
        while let Some(name) = json.member(position == 0)? {
            let at = self.top.find(position, &name, || meaning(&name, mapping, true));
            position += 1;
            let value = json.value()?;
            let meaning = &self.top.all[at];
            if meaning.ignored {
                json.skip(&value)?;
            } else if meaning.has_role() {
                role(meaning, value, mapping, writer, &mut found)?;
            } else if meaning.nested && value == Token::Object {
                let mut position = 0;
                while let Some(name) = json.member(position == 0)? {
                    let at = self.nested.find(position, &name, || self::meaning(&name, mapping, false));
                    position += 1;
                    let value = json.value()?;
                    let meaning = &self.nested.all[at];
                    if meaning.ignored {
                        json.skip(&value)?;
                    } else {
                        property(meaning, value, writer)?;
                    }
                }
            } else {
                property(meaning, value, writer)?;
            }
        }
        json.end()?;
        for (there, what, role) in [
            (found.visitor, "visitor", &mapping.visitor),
            (found.time, "time", &mapping.time),
            (found.name, "name", &mapping.name),
        ] {
            if !there {
                return Err(RowFault::missing(what, &role.column));
            }
        }
        writer.commit()
    }
}

fn meaning(name: &str, mapping: &Mapping, top: bool) -> Meaning {
    Meaning {
        event_id: top && name == mapping.event_id.column,
        visitor: top && name == mapping.visitor.column,
        time: top && name == mapping.time.column,
        event_name: top && name == mapping.name.column,
        sequence: top && name == mapping.sequence.column,
        nested: top && name == NESTED,
        ignored: mapping.ignored.contains(name),
        key: PropertyKey::new(name),
        declared: mapping.types.get(name).copied(),
        name: name.to_owned(),
    }
}

/// Writes a member that has a meaning.
fn role(
    meaning: &Meaning,
    value: Token<'_>,
    mapping: &Mapping,
    writer: &mut RequestWriter,
    found: &mut Found,
) -> Result<(), RowFault> {
    let text = match &value {
        Token::Null => return Ok(()),
        Token::Text(text) => text.as_ref(),
        Token::Number(text) if is_whole(text) => text,
        Token::Number(text) => return Err(wrong_kind(&meaning.name, text)),
        Token::Bool(value) => return Err(wrong_kind(&meaning.name, if *value { "true" } else { "false" })),
        Token::Object => return Err(wrong_kind(&meaning.name, "an object")),
        Token::Array => return Err(wrong_kind(&meaning.name, "an array")),
    };
    if text.is_empty() {
        return Ok(());
    }
    if meaning.time {
        let time = instant::parse(text.as_bytes(), mapping.unit);
        writer.time_ms(check_time(time.ok_or_else(|| RowFault::time(&meaning.name, text))?)?);
        found.time = true;
    }
    if meaning.sequence {
        writer.sequence(text.parse().map_err(|_| RowFault::sequence(&meaning.name, text))?);
    }
    if meaning.event_id {
        writer.event_id(check_text("event_id", text.as_bytes(), limits::ID_BYTES)?.as_bytes());
    }
    if meaning.visitor {
        writer.visitor_id(check_text("visitor_id", text.as_bytes(), limits::ID_BYTES)?.as_bytes());
        found.visitor = true;
    }
    if meaning.event_name {
        writer.name(check_text("name", text.as_bytes(), limits::ID_BYTES)?.as_bytes());
        found.name = true;
    }
    Ok(())
}

fn wrong_kind(name: &str, found: &str) -> RowFault {
    RowFault::new("VALUE_TYPE", format!("{name:?} is a text or a whole number; it is {found}."))
}

/// Writes a member that is a property.
fn property(meaning: &Meaning, value: Token<'_>, writer: &mut RequestWriter) -> Result<(), RowFault> {
    check_name(&meaning.name)?;
    if let Some(value) = of_json(&meaning.name, &value, meaning.declared)? {
        writer.property(&meaning.key, value);
    }
    Ok(())
}
