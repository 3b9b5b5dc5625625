//! Which column is what.

use std::collections::{BTreeMap, HashSet};

use runnel_model::limits;

use super::{
    args::{ImportArgs, PropertyType, TimeUnit},
    encode::PropertyKey,
    fault::FaultCause,
};

/// The name of a column that has a meaning.
#[derive(Clone, Debug)]
pub(super) struct Role {
    /// The column.
    pub(super) column: String,
    /// It was given, and must exist even where the default need not.
    given: bool,
}

impl Role {
    fn new(given: Option<&String>, default: &str) -> Role {
        Role { column: given.cloned().unwrap_or_else(|| default.to_owned()), given: given.is_some() }
    }
}

/// What the command line says about columns.
#[derive(Clone, Debug)]
pub(super) struct Mapping {
    pub(super) event_id: Role,
    pub(super) visitor: Role,
    pub(super) time: Role,
    pub(super) name: Role,
    pub(super) sequence: Role,
    pub(super) unit: TimeUnit,
    pub(super) types: BTreeMap<String, PropertyType>,
    pub(super) ignored: HashSet<String>,
}

impl Mapping {
    pub(super) fn new(args: &ImportArgs) -> Mapping {
        Mapping {
            event_id: Role::new(args.event_id.as_ref(), "event_id"),
            visitor: Role::new(args.visitor.as_ref(), "visitor_id"),
            time: Role::new(args.time.as_ref(), "occurred_at"),
            name: Role::new(args.name.as_ref(), "name"),
            sequence: Role::new(args.sequence.as_ref(), "sequence"),
            unit: args.time_unit,
            types: args
                .property_types
                .iter()
                .map(|typed| (typed.name.clone(), typed.property_type))
                .collect(),
            ignored: args.ignore.iter().cloned().collect(),
        }
    }
}

/// A column that becomes a property.
#[derive(Clone, Debug)]
pub(super) struct PropertyColumn {
    /// Its position.
    pub(super) at: usize,
    pub(super) name: String,
    pub(super) key: PropertyKey,
    pub(super) declared: Option<PropertyType>,
}

/// The columns of one file. Positions count from 0.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) event_id: Option<usize>,
    pub(super) visitor: usize,
    pub(super) time: usize,
    pub(super) name: usize,
    pub(super) sequence: Option<usize>,
    pub(super) properties: Vec<PropertyColumn>,
}

impl Layout {
    /// Finds the columns. One column may have several meanings; what has none becomes a property.
    pub(super) fn new(columns: &[String], mapping: &Mapping) -> Result<Layout, FaultCause> {
        let mut seen = HashSet::new();
        if let Some(twice) =
            columns.iter().find(|name| !mapping.ignored.contains(*name) && !seen.insert(name.as_str()))
        {
            return Err(FaultCause::ColumnTwice(twice.clone()));
        }
        let find = |role: &Role| {
            columns.iter().position(|name| *name == role.column && !mapping.ignored.contains(name))
        };
        let mut missing = Vec::new();
        let mut need = |role: &Role, what: &str, flag: &str, required: bool| {
            let found = find(role);
            if found.is_none() && (required || role.given) {
                missing.push(format!("{:?} ({what}; name another with {flag} COLUMN)", role.column));
            }
            found
        };
        let visitor = need(&mapping.visitor, "who did it", "--visitor", true);
        let time = need(&mapping.time, "when it happened", "--time", true);
        let name = need(&mapping.name, "what happened", "--name", true);
        let event_id = need(&mapping.event_id, "which event it is", "--event-id", false);
        let sequence = need(&mapping.sequence, "the order within a millisecond", "--sequence", false);
        let (Some(visitor), Some(time), Some(name), true) = (visitor, time, name, missing.is_empty()) else {
            return Err(FaultCause::ColumnsMissing { missing: missing.join(", "), found: listed(columns) });
        };
        let used = [Some(visitor), Some(time), Some(name), event_id, sequence];
        let mut properties = Vec::new();
        for (at, column) in columns.iter().enumerate() {
            if used.contains(&Some(at)) || mapping.ignored.contains(column) {
                continue;
            }
            if let Some(what) = unfit(column) {
                return Err(FaultCause::ColumnName { at: at + 1, name: column.clone(), what });
            }
            let declared = mapping.types.get(column).copied();
            properties.push(PropertyColumn {
                at,
                name: column.clone(),
                key: PropertyKey::new(column),
                declared,
            });
        }
        if let Some(name) =
            mapping.types.keys().find(|name| !properties.iter().any(|column| column.name == **name))
        {
            let names: Vec<String> = properties.iter().map(|column| column.name.clone()).collect();
            return Err(FaultCause::PropertyUnknown { name: name.clone(), found: listed(&names) });
        }
        Ok(Layout { event_id, visitor, time, name, sequence, properties })
    }
}

fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(40).map(|name| name.chars().take(60).collect()).collect();
    let more = names.len().saturating_sub(shown.len());
    match (shown.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Why a name cannot be a property's.
fn unfit(name: &str) -> Option<String> {
    if name.is_empty() {
        Some("no name".to_owned())
    } else if name.len() > limits::ID_BYTES {
        Some(format!("a name of {} bytes; at most {} are allowed", name.len(), limits::ID_BYTES))
    } else if name.contains('\0') {
        Some("a NUL character in its name".to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(header: &str, change: impl Fn(&mut ImportArgs)) -> Result<Layout, FaultCause> {
        let mut args = ImportArgs::new(Vec::new());
        change(&mut args);
        let columns: Vec<String> = header.split(',').map(str::to_owned).collect();
        Layout::new(&columns, &Mapping::new(&args))
    }

    #[test]
    fn columns_are_found_wherever_they_stand() {
        let found = layout("price,name,sequence,visitor_id,event_id,occurred_at,device", |_| ()).unwrap();
        assert_eq!((found.visitor, found.time, found.name), (3, 5, 1));
        assert_eq!((found.event_id, found.sequence), (Some(4), Some(2)));
        let names: Vec<_> = found.properties.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["price", "device"]);
        let plain = layout("visitor_id,occurred_at,name", |_| ()).unwrap();
        assert_eq!((plain.event_id, plain.sequence), (None, None));
    }

    #[test]
    fn a_wrong_header_says_what_is_missing_found_and_to_be_done() {
        let fault =
            layout("id,user,ts,name", |args| args.event_id = Some("nr".into())).unwrap_err().to_string();
        for part in [
            "\"visitor_id\"",
            "--visitor",
            "\"occurred_at\"",
            "--time",
            "\"nr\"",
            "found: id, user, ts, name",
        ] {
            assert!(fault.contains(part), "{fault}");
        }
        assert!(!fault.contains("--name "), "{fault}");
        let given = |args: &mut ImportArgs| {
            args.visitor = Some("user".into());
            args.time = Some("ts".into());
            args.ignore = vec!["id".into()];
        };
        assert!(layout("id,user,ts,name", given).unwrap().properties.is_empty());
    }

    #[test]
    fn headers_that_cannot_be_properties_are_named() {
        let base = "visitor_id,occurred_at,name";
        assert!(
            matches!(layout(&format!("{base},a,a"), |_| ()), Err(FaultCause::ColumnTwice(name)) if name == "a")
        );
        assert!(layout(&format!("{base},a,a"), |args| args.ignore = vec!["a".into()]).is_ok());
        assert!(matches!(layout(&format!("{base},"), |_| ()), Err(FaultCause::ColumnName { at: 4, .. })));
        assert!(layout(&format!("{base},"), |args| args.ignore = vec![String::new()]).is_ok());
        let long = format!("{base},{}", "x".repeat(257));
        assert!(matches!(layout(&long, |_| ()), Err(FaultCause::ColumnName { .. })));
        let typed = |args: &mut ImportArgs| args.property_types = vec!["prize=int".parse().unwrap()];
        let fault = layout(&format!("{base},price"), typed).unwrap_err().to_string();
        assert!(fault.contains("\"prize\"") && fault.contains("price"), "{fault}");
    }
}
