//! Whom an ad network may be told of, and by what they could be known.

use std::collections::BTreeSet;

use runnel_contracts::{
    proto::{
        audience::v1::{HashedIdentifiers, Identifiers, Withheld},
        event::v1::ConsentState,
    },
    refusal::{Reason, Refusal},
};
use runnel_journeys::{Loaded, Run};
use runnel_model::{Field, Selector, Value, limits};

use super::identifier::{email, hash, phone};

/// What a visitor last said about a purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Unknown,
    Denied,
    Granted,
}

impl Word {
    /// As the contract has it.
    pub(super) fn state(self) -> ConsentState {
        match self {
            Word::Unknown => ConsentState::Unspecified,
            Word::Denied => ConsentState::Denied,
            Word::Granted => ConsentState::Granted,
        }
    }
}

/// The columns of consent and of identifiers.
#[derive(Debug)]
pub(super) struct Identifying {
    /// Names of properties.
    emails: Vec<String>,
    /// Names of properties.
    phones: Vec<String>,
}

/// What was said about a purpose: its column, and what its codes mean.
#[derive(Debug)]
struct Words {
    column: usize,
    by_code: Vec<Word>,
}

/// The same, found among loaded columns.
#[derive(Debug)]
pub(super) struct People {
    /// What was said about ads, and about personalisation.
    ads: Words,
    personalization: Words,
    emails: Vec<usize>,
    phones: Vec<usize>,
}

/// A visitor who agrees to ads.
#[derive(Debug, Default)]
pub(super) struct Person {
    /// Empty where there is nothing by which they could be known.
    pub(super) identifiers: HashedIdentifiers,
    /// Values that are no e-mail address.
    pub(super) unusable_emails: u64,
    /// Values that are no phone number.
    pub(super) unusable_phones: u64,
}

impl Person {
    /// What is told of them; `None` when that is nothing.
    pub(super) fn told(&self) -> Option<HashedIdentifiers> {
        let HashedIdentifiers { email_sha256, phone_sha256 } = &self.identifiers;
        (!email_sha256.is_empty() || !phone_sha256.is_empty()).then(|| self.identifiers.clone())
    }
}

/// The columns of what visitors agreed to.
fn consents() -> [Selector; 2] {
    [Field::ConsentAds, Field::ConsentPersonalization].map(Selector::field)
}

impl Words {
    fn new(loaded: &Loaded, selector: &Selector) -> Words {
        let column = loaded.column(selector).unwrap_or(usize::MAX);
        let codes = loaded.columns.get(column).map_or(0, |(_, dictionary)| dictionary.len() + 1);
        let word = |code: usize| match value(loaded, column, code as u32).map(|value| value.show()) {
            Some(text) if text == "GRANTED" => Word::Granted,
            Some(_) => Word::Denied,
            None => Word::Unknown,
        };
        Words { column, by_code: (0..codes).map(word).collect() }
    }

    /// The latest word that is known of a visitor, also where an earlier instant is asked for: who has taken it back since is told of no more.
    fn latest(&self, run: &Run, visitor: usize) -> Word {
        let code = latest(run, self.column, visitor, i64::MAX);
        self.by_code.get(code as usize).copied().unwrap_or(Word::Unknown)
    }
}

impl Identifying {
    /// Checks what a request says of identifiers.
    pub(super) fn new(asked: Option<&Identifiers>) -> Result<Identifying, Refusal> {
        let check = |field: &str, names: &[String]| {
            let most = limits::IDENTIFIER_PROPERTIES;
            if names.len() > most {
                let text = format!("At most {most} properties are looked at; here are {}.", names.len());
                return Err(Refusal::field(Reason::NumberOutOfRange, field, text));
            }
            for (at, name) in names.iter().enumerate() {
                if name.is_empty() || name.len() > limits::ID_BYTES {
                    let text = format!(
                        "A property's name has 1 to {} bytes; this one has {}.",
                        limits::ID_BYTES,
                        name.len()
                    );
                    return Err(Refusal::field(Reason::FieldMissing, format!("{field}[{at}]"), text));
                }
            }
            Ok(())
        };
        let Identifiers { email_properties: emails, phone_properties: phones } =
            asked.cloned().unwrap_or_default();
        check("identifiers.email_properties", &emails)?;
        check("identifiers.phone_properties", &phones)?;
        if emails.is_empty() && phones.is_empty() {
            return Ok(Identifying { emails: vec!["email".into()], phones: vec!["phone".into()] });
        }
        Ok(Identifying { emails, phones })
    }

    /// Every column that is looked at.
    pub(super) fn columns(&self) -> BTreeSet<Selector> {
        let properties = self.emails.iter().chain(&self.phones).map(Selector::property);
        properties.chain(consents()).collect()
    }

    /// Finds the columns among those that are loaded.
    pub(super) fn find(&self, loaded: &Loaded) -> People {
        let place = |selector: &Selector| loaded.column(selector).unwrap_or(usize::MAX);
        let places = |names: &[String]| names.iter().map(|name| place(&Selector::property(name))).collect();
        let [ads, personalization] = consents().map(|selector| Words::new(loaded, &selector));
        People { ads, personalization, emails: places(&self.emails), phones: places(&self.phones) }
    }

    /// Remarks on properties that no event has, so that nobody is left out in silence.
    pub(super) fn notes(&self, loaded: &Loaded) -> Vec<String> {
        let missing = |name: &&String| {
            let column =
                loaded.column(&Selector::property(name.as_str())).and_then(|at| loaded.columns.get(at));
            column.is_none_or(|(_, dictionary)| dictionary.is_empty())
        };
        let never = self.emails.iter().chain(&self.phones).filter(missing);
        never
            .map(|name| format!("No event has a property {name:?}; see runnel catalog properties."))
            .collect()
    }
}

/// The value behind a code of a column.
fn value(loaded: &Loaded, column: usize, code: u32) -> Option<Value> {
    loaded.columns.get(column)?.1.value(code)
}

/// The latest code of a column among the events of a visitor, 0 for none. Journeys are in order, so that events that exist are the first of them.
fn latest(run: &Run, column: usize, visitor: usize, as_of_ms: i64) -> u32 {
    let Some(column) = run.columns.get(column) else { return 0 };
    let values = column.values();
    let existing = run.range(visitor).rev().filter(|event| run.time(*event) < as_of_ms);
    existing.filter_map(|event| values.get(event)).find(|code| *code != 0).unwrap_or(0)
}

impl People {
    /// What a visitor last said about ads.
    pub(super) fn ads(&self, run: &Run, visitor: usize) -> Word {
        self.ads.latest(run, visitor)
    }

    /// What a visitor last said about personalisation.
    pub(super) fn personalization(&self, run: &Run, visitor: usize) -> Word {
        self.personalization.latest(run, visitor)
    }

    /// By what a visitor could be known who agrees to ads.
    pub(super) fn person(&self, loaded: &Loaded, run: &Run, visitor: usize, as_of_ms: i64) -> Person {
        let mut person = Person::default();
        let last = |column: &usize| value(loaded, *column, latest(run, *column, visitor, as_of_ms));
        for text in self.emails.iter().filter_map(last).map(|value| value.show()) {
            match email(&text) {
                Some(email) => person.identifiers.email_sha256.push(hash(&email)),
                None => person.unusable_emails += 1,
            }
        }
        for text in self.phones.iter().filter_map(last).map(|value| value.show()) {
            match phone(&text) {
                Some(phone) => person.identifiers.phone_sha256.push(hash(&phone)),
                None => person.unusable_phones += 1,
            }
        }
        for hashes in [&mut person.identifiers.email_sha256, &mut person.identifiers.phone_sha256] {
            hashes.sort_unstable();
            hashes.dedup();
        }
        person
    }
}

/// Counts somebody who is not told of.
pub(super) fn withhold(withheld: &mut Withheld, word: Word) {
    match word {
        Word::Unknown => withheld.unknown += 1,
        Word::Denied => withheld.denied += 1,
        Word::Granted => withheld.without_identifier += 1,
    }
}

/// Those of both counts.
pub(super) fn both(one: Option<Withheld>, other: Option<Withheld>) -> Withheld {
    let (one, other) = (one.unwrap_or_default(), other.unwrap_or_default());
    Withheld {
        unknown: one.unknown + other.unknown,
        denied: one.denied + other.denied,
        without_identifier: one.without_identifier + other.without_identifier,
    }
}
