//! Remarks of an answer for a person: how the profile was resolved, and what can match nothing.

use std::collections::BTreeSet;

use runnel_journeys::{Condition, Loaded, ValueDictionary};
use runnel_model::{Attribute, Operator, Predicate, Selector, ValueRef};

use crate::{
    funnel::Checked,
    posed::never_occurred,
    segment::{self, Asked},
};

impl Checked {
    /// What a person should know of how the profile was resolved, and of whatever can match nothing at all.
    pub fn notes(&self, loaded: &Loaded) -> Vec<String> {
        let mut notes = Vec::new();
        if self.choices.reuse {
            notes.push("One event may do several steps, as in ClickHouse.".to_owned());
        }
        if !self.choices.steps_until {
            notes.push(
                "Steps at or after the end of the range do not count, as the profile has it.".to_owned(),
            );
        }
        if self.choices.grace_ms > 0 {
            let grace = self.choices.grace_ms;
            notes.push(format!(
                "A later step may precede the one before it by up to {grace} ms, but never the entry."
            ));
        }
        if self.choices.grain_ms > 1 {
            let grain = self.choices.grain_ms;
            notes.push(format!(
                "Instants are rounded down to {grain} ms, and what is the same then has any order."
            ));
        }
        if self.steps_of_their_own().next().is_some() {
            notes.push(
                "Each step counts under the value at its own event, so that a row is not a set of units."
                    .to_owned(),
            );
        }
        let events = self.steps.iter().flatten().chain(self.exclusions.iter().flat_map(|(event, ..)| event));
        for name in events.filter_map(|one| one.event.as_deref()) {
            if loaded.names.find(name).is_none() {
                notes.push(never_occurred(name));
            }
        }
        for column in self.columns.hold.iter().chain(&self.columns.break_down) {
            notes.extend(values(column, loaded).err());
        }
        for condition in &self.columns.conditions {
            if let Condition::Where(condition) = condition {
                misfits(condition, loaded, &mut notes);
            }
        }
        let mut said = BTreeSet::new();
        notes.retain(|note| said.insert(note.clone()));
        notes
    }
}

impl segment::Checked {
    /// What a person should know of conditions that can hold of nobody, or of everybody.
    #[must_use]
    pub fn notes(&self, loaded: &Loaded) -> Vec<String> {
        let (mut notes, mut names) = (self.notes.clone(), BTreeSet::new());
        for happens in &self.marks.conversions {
            happens.conversion.event_names(&mut names);
            let matches = happens.conversion.matches().iter();
            let conditions = matches.filter_map(|event| event.condition.as_ref());
            conditions.for_each(|condition| misfits(condition, loaded, &mut notes));
        }
        let unknown = names.iter().filter(|name| loaded.names.find(name).is_none());
        notes.extend(unknown.map(|name| never_occurred(name)));
        for condition in &self.conditions {
            if let Asked::Reached { funnel, .. } = condition {
                notes.extend(funnel.notes(loaded));
            }
        }
        let mut said = BTreeSet::new();
        notes.retain(|note| said.insert(note.clone()));
        notes
    }
}

/// Notes on comparisons that no stored value can satisfy, so that a zero is never silent.
fn misfits(condition: &Predicate, loaded: &Loaded, notes: &mut Vec<String>) {
    use Operator::{Exists, Greater, GreaterOrEqual, Less, LessOrEqual, Missing, NotEqual, NotIn};
    match condition {
        Predicate::All(parts) | Predicate::Any(parts) => {
            parts.iter().for_each(|part| misfits(part, loaded, notes))
        }
        Predicate::Not(part) => misfits(part, loaded, notes),
        Predicate::Compare { operator: Exists | Missing | NotEqual | NotIn, .. } => {}
        Predicate::Compare { column, operator, .. } => {
            let sized = matches!(operator, Less | LessOrEqual | Greater | GreaterOrEqual);
            let number = |value: ValueRef<'_>| matches!(value, ValueRef::Int(_) | ValueRef::Double(_));
            match values(column, loaded) {
                Ok(values) if sized && !values.test(false, number).contains(&true) => notes.push(format!(
                    "No value of the {} is a number, and only numbers compare by size; send it as a number \
                     (runnel import --property-type NAME=double).",
                    shown(column)
                )),
                Ok(_) => {}
                Err(note) => notes.push(note),
            }
        }
    }
}

/// The distinct values of a column, or a note that no event has it.
fn values<'a>(column: &Selector, loaded: &'a Loaded) -> Result<&'a ValueDictionary, String> {
    let values = loaded.column(column).map(|at| &loaded.columns[at].1);
    values.map(|values| &**values).filter(|values| !values.is_empty()).ok_or_else(|| {
        format!("No event has the {}; runnel catalog properties lists those there are.", shown(column))
    })
}

fn shown(column: &Selector) -> String {
    match column {
        Selector::Attribute(Attribute::Property(name)) => format!("property {name:?}"),
        Selector::Attribute(Attribute::Field(field)) => format!("field {field:?}"),
        Selector::Session(dimension) => format!("dimension {dimension:?}"),
    }
}
