//! The text form of rules.
//!
//! One statement a line; empty lines and lines that begin with `#` say nothing. What a line names must stand before it.
//!
//! ```text
//! blank (none), (not set)                      texts that stand for "nothing"
//! hosts search = google.*, bing.com            hosts of a category; more lines add to it
//! medium search = organic                      medium of an untagged visit from such a host, instead of "referral"
//! click gclid = google, cpc                    a click identifier: source, and medium if it proves one
//! set paid = *cp*, ppc, paid*                  values under a name; more lines add to it
//! channel Paid Search: source_category = search & medium = @paid
//! channel Mine: campaign != "a, b" & term = "" the first rule all of whose conditions hold names the channel
//! ```
//!
//! Values stand between commas and may begin or end with an asterisk, which stands for anything: `cpc` is the whole value,
//! `paid*` its start, `*push` its end, `*cp*` a part. `~shop` is a part at which a word begins. `@paid` is every value of a
//! set. Quotation marks keep commas, ampersands, asterisks and white space, with `\"` and `\\` inside; `""` is the absent value.

use hashbrown::HashMap;

use crate::{
    Condition, Field, Pattern, Rule, Rules, RulesError, Shape,
    fault::{Fault, Place, shown},
    limits,
    rules::name,
};

type Sets = HashMap<String, Vec<Pattern>>;

impl Rules {
    /// Adds what a text says.
    pub(crate) fn read(mut self, text: &str) -> Result<Rules, RulesError> {
        Fault::over("bytes of rules", limits::TEXT_BYTES, text.len())
            .map_err(|fault| fault.at(Place::Line, 1))?;
        let mut sets = Sets::new();
        for (at, line) in text.lines().enumerate() {
            self.statement(line.trim(), &mut sets).map_err(|fault| fault.at(Place::Line, at + 1))?;
        }
        Ok(self)
    }

    fn statement(&mut self, line: &str, sets: &mut Sets) -> Result<(), Fault> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let assigned = || {
            let (name, values) = rest.split_once('=').ok_or(Fault::Missing("an equals sign"))?;
            Ok((name.trim(), values.trim()))
        };
        match word {
            "channel" => {
                let (channel, conditions) =
                    rest.split_once(':').ok_or(Fault::Missing("a colon after the channel"))?;
                let all_of =
                    split(conditions, '&').map(|text| condition(text?, sets)).collect::<Result<_, _>>()?;
                self.add_rule(Rule { channel: channel.into(), all_of })
            }
            "set" => {
                let (set, values) = assigned()?;
                let mut values = patterns(values, sets)?;
                let whole = sets.entry(name(set)?.into()).or_default();
                whole.append(&mut values);
                Fault::over("values of a set", limits::PATTERNS, whole.len())?;
                Fault::over("sets", limits::SETS, sets.len())
            }
            "hosts" => {
                let (category, hosts) = assigned()?;
                hosts.split(',').try_for_each(|host| self.add_host(category, host.trim()))
            }
            "medium" => {
                let (category, medium) = assigned()?;
                self.set_untagged_medium(category, medium)
            }
            "click" => {
                let (kind, values) = assigned()?;
                let (source, medium) = values.split_once(',').unwrap_or((values, ""));
                self.add_click(kind, source, medium.trim())
            }
            "blank" => rest.split(',').try_for_each(|text| self.add_blank(text)),
            _ => Err(Fault::Statement(shown(word))),
        }
    }
}

fn condition(text: &str, sets: &Sets) -> Result<Condition, Fault> {
    let (field, values) = text.split_once('=').ok_or(Fault::Missing("an equals sign in a condition"))?;
    let (field, negated) = field.strip_suffix('!').map_or((field, false), |field| (field, true));
    let field = field.trim();
    let known = Field::ALL.into_iter().find(|known| known.name() == field);
    let field = known.ok_or_else(|| Fault::Field(shown(field)))?;
    Ok(Condition { field, negated, any_of: patterns(values, sets)? })
}

fn patterns(values: &str, sets: &Sets) -> Result<Vec<Pattern>, Fault> {
    let mut patterns = Vec::new();
    for value in split(values, ',') {
        let value = value?;
        match value.strip_prefix('@') {
            Some(set) => {
                let set = sets.get(set).ok_or_else(|| Fault::Set(shown(set)))?;
                patterns.extend_from_slice(set);
            }
            None => patterns.push(pattern(value)?),
        }
        Fault::over("values of a condition", limits::PATTERNS, patterns.len())?;
    }
    Ok(patterns)
}

fn pattern(value: &str) -> Result<Pattern, Fault> {
    if value.is_empty() {
        return Err(Fault::Missing("a value"));
    }
    let (core, word) = value.strip_prefix('~').map_or((value, false), |core| (core, true));
    let (core, before) = core.strip_prefix('*').map_or((core, false), |core| (core, true));
    let (core, after) = core.strip_suffix('*').map_or((core, false), |core| (core, true));
    let shape = match (word, before, after) {
        (true, false, _) => Shape::StartsWord,
        (true, true, _) => return Err(Fault::Asterisk(shown(value))),
        (false, false, false) => Shape::Is,
        (false, false, true) => Shape::StartsWith,
        (false, true, false) => Shape::EndsWith,
        (false, true, true) => Shape::Contains,
    };
    let text = match core.strip_prefix('"') {
        Some(quoted) => unquoted(quoted).ok_or_else(|| Fault::Quote(shown(value)))?,
        None if core.contains('"') => return Err(Fault::Quote(shown(value))),
        None if core.contains('*') || core.is_empty() => return Err(Fault::Asterisk(shown(value))),
        None => core.to_owned(),
    };
    Ok(Pattern { shape, text })
}

/// What a quotation says, given what follows its first mark; `None` when its last mark is not the end.
fn unquoted(quoted: &str) -> Option<String> {
    let mut text = String::new();
    let mut rest = quoted.chars();
    loop {
        match rest.next()? {
            '"' => return rest.as_str().is_empty().then_some(text),
            '\\' => text.push(rest.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            other => text.push(other),
        }
    }
}

/// The parts of a text between separators that are not quoted, without the white space around them.
fn split(text: &str, separator: char) -> impl Iterator<Item = Result<&str, Fault>> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let (mut quoted, mut escaped) = (false, false);
        for (at, c) in text.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                _ if c == separator && !quoted => {
                    rest = text.get(at + c.len_utf8()..);
                    return Some(Ok(text[..at].trim()));
                }
                _ => {}
            }
        }
        Some(if quoted { Err(Fault::Quote(shown(text))) } else { Ok(text.trim()) })
    })
}
