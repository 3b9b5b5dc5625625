//! The text form of rules.
//!
//! One rule a line; empty lines and lines that begin with `#` say nothing.
//!
//! ```text
//! kind tablet: android & !~mobile~          the table, the answer, and conditions that must all hold
//! browser Edge: edg/, edge/                 a condition holds when one of its patterns stands in the header
//! kind bot: bot~ & !cubot, irobot           with "!" before the first of them, when none of them does
//! os Roku OS: ~roku                         "~" before a pattern: no letter stands before it
//! kind bot: spider~                         "~" behind a pattern: no letter stands behind it
//! kind bot: ^curl/                          "^" before a pattern: the header begins with it
//! ```
//!
//! The tables are `kind`, whose answers are those of [`Kind::as_str`], `os` and `browser`, whose answers are
//! names. In each table the first rule all of whose conditions hold decides. Patterns are ASCII in lower
//! case, and compared without regard to case. White space around them says nothing. They cannot hold a comma,
//! an ampersand, or one of the marks.

use crate::{
    Fault, Kind, Rules, RulesError,
    fault::shown,
    limits,
    patterns::{Before, Pattern, Patterns, Set},
    rules::{Condition, Rule},
};

impl Rules {
    /// Adds what a text says.
    pub(crate) fn read(mut self, text: &'static str) -> Result<Rules, RulesError> {
        Fault::over("bytes of rules", limits::TEXT_BYTES, text.len())
            .map_err(|fault| RulesError { line: 1, fault })?;
        for (at, line) in text.lines().enumerate() {
            self.rule(line.trim()).map_err(|fault| RulesError { line: at + 1, fault })?;
        }
        Ok(self)
    }

    fn rule(&mut self, line: &'static str) -> Result<(), Fault> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (head, conditions) = line.split_once(':').ok_or(Fault::Shape)?;
        let (table, name) = head.trim().split_once(char::is_whitespace).ok_or(Fault::Shape)?;
        let name = name.trim();
        Fault::over("bytes of a name", limits::NAME_BYTES, name.len())?;
        let all_of = conditions.split('&').map(|text| condition(text.trim(), &mut self.patterns));
        let all_of: Vec<Condition> = all_of.collect::<Result<_, _>>()?;
        Fault::over("conditions of a rule", limits::CONDITIONS, all_of.len())?;
        match table {
            "kind" => {
                let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == name);
                add(&mut self.kinds, kind.ok_or_else(|| Fault::Kind(shown(name)))?, all_of)
            }
            "os" => add(&mut self.systems, name, all_of),
            "browser" => add(&mut self.browsers, name, all_of),
            _ => Err(Fault::Table(shown(table))),
        }
    }
}

fn add<T>(table: &mut Vec<Rule<T>>, answer: T, all_of: Vec<Condition>) -> Result<(), Fault> {
    Fault::over("rules of a table", limits::RULES, table.len() + 1)?;
    table.push(Rule { answer, all_of });
    Ok(())
}

fn condition(text: &'static str, patterns: &mut Patterns) -> Result<Condition, Fault> {
    let (list, negated) = text.strip_prefix('!').map_or((text, false), |list| (list, true));
    let mut any_of = Set::default();
    for text in list.split(',') {
        any_of.add(patterns.number_of(pattern(text.trim())?)?);
    }
    Ok(Condition { negated, any_of })
}

fn pattern(whole: &'static str) -> Result<Pattern, Fault> {
    Fault::over("bytes of a pattern", limits::NAME_BYTES, whole.len())?;
    let (text, before) = match (whole.strip_prefix('^'), whole.strip_prefix('~')) {
        (Some(text), _) => (text, Before::Nothing),
        (_, Some(text)) => (text, Before::NoLetter),
        _ => (whole, Before::Any),
    };
    let (text, ends_word) = text.strip_suffix('~').map_or((text, false), |text| (text, true));
    let allowed =
        |byte: u8| matches!(byte, b' '..=b'~') && !byte.is_ascii_uppercase() && !b"^~!".contains(&byte);
    if text.len() < limits::PATTERN_BYTES || !text.bytes().all(allowed) {
        return Err(Fault::Pattern(shown(whole)));
    }
    Ok(Pattern { text, before, ends_word })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &'static str) -> (usize, Fault) {
        let error = Rules::empty().read(text).expect_err(text);
        assert!(error.to_string().starts_with(&format!("line {}: ", error.line)));
        (error.line, error.fault)
    }

    fn limit(text: String) -> (&'static str, usize, usize) {
        match refused(text.leak()) {
            (_, Fault::Limit { of, most, value }) => (of, most, value),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_standard_rules_can_be_read() {
        assert_eq!(Rules::standard().err(), None);
    }

    #[test]
    fn patterns_mean_what_the_text_says() {
        let rules = Rules::empty()
            .read("# A.\n\nos One: ^aa\nos Two : ~bb~ & !cc, dd\nos Three:bb~\nos Four: ~bb\nos Five: bb")
            .unwrap();
        let os = |text: &str| rules.classify(text).os;
        assert_eq!([os("aab"), os("AA bb"), os(" aa"), os("a")], ["One", "One", "", ""]);
        assert_eq!([os("bb"), os("1bb2"), os("éBBé"), os("(bb)")], ["Two"; 4]);
        assert_eq!([os("bb cc"), os("xbb"), os("dd xBb/"), os("xbbx bb cc")], ["Three"; 4]);
        assert_eq!([os("bbx"), os("/bbx dd")], ["Four"; 2]);
        assert_eq!([os("xbbx"), os("b b"), os("b")], ["Five", "", ""]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let own = |text: &str| text.to_owned();
        assert_eq!(refused("\n# kind\nkind tv smart"), (3, Fault::Shape));
        assert_eq!(refused("kind: smart"), (1, Fault::Shape));
        assert_eq!(refused("os : smart"), (1, Fault::Shape));
        assert_eq!(refused("kinds tv: smart"), (1, Fault::Table(own("kinds"))));
        assert_eq!(refused("kind TV: smart"), (1, Fault::Kind(own("TV"))));
        for pattern in ["", "a", "~a~", "~", "^~", "Smart", "sm!art", "sm~art", "~^smart", "!smart", "smärt"]
        {
            let text = format!("os A: smart\nos A: smart, {pattern}").leak();
            assert_eq!(refused(text), (2, Fault::Pattern(own(pattern))));
        }
        assert_eq!(refused("os A: smart &"), (1, Fault::Pattern(own(""))));
        assert_eq!(refused("os A: smart & !"), (1, Fault::Pattern(own(""))));
    }

    #[test]
    fn every_limit_is_named_with_its_value() {
        let many = |count: usize, each: &str, between: &str| vec![each; count].join(between);
        assert_eq!(limit(many(65_537, "#", "")), ("bytes of rules", limits::TEXT_BYTES, 65_537));
        assert_eq!(limit(many(257, "os A: smart", "\n")), ("rules of a table", limits::RULES, 257));
        let conditions = format!("os A: {}", many(9, "smart", "&"));
        assert_eq!(limit(conditions), ("conditions of a rule", limits::CONDITIONS, 9));
        let numbers: Vec<String> = (1000..1513).map(|number| number.to_string()).collect();
        assert_eq!(limit(format!("os A: {}", numbers.join(","))), ("patterns", limits::PATTERNS, 513));
        assert_eq!(
            limit(format!("os A: {}", many(65, "a", ""))),
            ("bytes of a pattern", limits::NAME_BYTES, 65)
        );
        assert_eq!(
            limit(format!("os {}: aa", many(65, "a", ""))),
            ("bytes of a name", limits::NAME_BYTES, 65)
        );
    }
}
