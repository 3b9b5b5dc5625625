//! That nothing in the tables is dead, by `tests/vectors.txt`; and that patterns are found where a slow
//! search finds them.

use proptest::prelude::*;

use super::*;
use crate::patterns::{Before, Pattern};

fn headers() -> Vec<&'static str> {
    let lines = include_str!("../../tests/vectors.txt").lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.splitn(4, '|').nth(3)).collect()
}

/// What is never decisive in a table. A rule must decide some vector. In it, a pattern must be found, or when
/// negated, must be what keeps the rule from holding.
fn dead<T>(rules: &Rules, table: &[Rule<T>], found: &[Set], dead: &mut Vec<String>) {
    for (at, rule) in table.iter().enumerate() {
        let decides = |found: &&Set| table.iter().position(|rule| rule.holds(found)) == Some(at);
        let decided: Vec<&Set> = found.iter().filter(decides).collect();
        if decided.is_empty() {
            dead.push(format!("rule {} decides nothing", at + 1));
        }
        for (place, condition) in rule.all_of.iter().enumerate() {
            let mut others = rule.all_of.clone();
            others.remove(place);
            let kept_off = |found: &Set, pattern: &Set| {
                others.iter().all(|condition| condition.holds(found)) && pattern.meets(found)
            };
            for (number, pattern) in rules.patterns.numbered() {
                let set = Set::of(number);
                let needed = !condition.any_of.meets(&set)
                    || if condition.negated {
                        found.iter().any(|found| kept_off(found, &set))
                    } else {
                        decided.iter().any(|found| set.meets(found))
                    };
                if !needed {
                    dead.push(format!("rule {}: {pattern:?}", at + 1));
                }
            }
        }
    }
}

#[test]
fn no_rule_and_no_pattern_is_dead() {
    let rules = Rules::standard().unwrap();
    let all: Vec<Set> = headers().into_iter().map(|header| rules.found_in(header)).collect();
    let kind = |found: &Set| first(&rules.kinds, found);
    // A bot's system and browser are not asked for.
    let people: Vec<Set> = all.iter().copied().filter(|found| kind(found) != Some(Kind::Bot)).collect();
    let mut dead_ones = [Vec::new(), Vec::new(), Vec::new()];
    let [kinds, systems, browsers] = &mut dead_ones;
    dead(&rules, &rules.kinds, &all, kinds);
    dead(&rules, &rules.systems, &people, systems);
    dead(&rules, &rules.browsers, &people, browsers);
    assert!(dead_ones.iter().all(Vec::is_empty), "{dead_ones:#?}");
}

/// The slow and obvious twin of the search in one pass.
fn stands_in(text: &str, pattern: &Pattern) -> bool {
    text.match_indices(pattern.text).any(|(at, _)| {
        let letter = |c: char| c.is_ascii_alphabetic();
        let (before, behind) = (&text[..at], &text[at + pattern.text.len()..]);
        let free = match pattern.before {
            Before::Any => true,
            Before::NoLetter => !before.ends_with(letter),
            Before::Nothing => at == 0,
        };
        free && !(pattern.ends_word && behind.starts_with(letter))
    })
}

proptest! {
    #[test]
    fn one_pass_finds_what_a_slow_search_finds(
        parts in proptest::collection::vec((any::<prop::sample::Index>(), "[a-z /;ü]{0,2}"), 0..20),
    ) {
        let rules = Rules::standard().unwrap();
        let patterns: Vec<(u16, Pattern)> = rules.patterns.numbered().collect();
        let text: String =
            parts.iter().flat_map(|(part, glue)| [part.get(&patterns).1.text, glue.as_str()]).collect();
        let found = rules.patterns.found_in(text.as_bytes());
        for (number, pattern) in &patterns {
            let quick = found.meets(&Set::of(*number));
            prop_assert_eq!(quick, stands_in(&text, pattern), "{:?} in {:?}", pattern, text);
        }
    }
}
