//! A segment's definition: checked against every limit together with all that it names, ready to be brought before journeys.

mod conditions;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::Arc,
};

use runnel_contracts::{
    proto::{
        funnel::v1::FunnelDefinition,
        segmentation::v1::{Condition, SegmentDefinition, condition::Node, reached::Funnel},
    },
    refusal::{Reason, Refusal},
};
use runnel_journeys::MarksFor;
use runnel_kernel::{
    State,
    members::{Touch, Who},
};
use runnel_model::{TenantName, limits};
use runnel_storage::Store;

use self::conditions::Checking;
use crate::{catalogue::Catalogue, funnel, list::List, saved};

/// A definition that was checked.
#[derive(Debug, Clone)]
pub struct Checked {
    /// How conditions are combined.
    pub who: Who,
    /// What is looked at of each visitor, by position.
    pub conditions: Vec<Asked>,
    /// The events that conditions look at, by position.
    pub marks: MarksFor,
    /// Where each condition of the definition stands, and what it is made of.
    pub told: Vec<(String, Who)>,
    /// Every duration by which conditions look back, in milliseconds.
    pub durations_ms: Vec<i64>,
    /// Remarks for a person.
    pub notes: Vec<String>,
}

/// One condition, with the positions of the events that it looks at.
#[derive(Debug, Clone)]
pub enum Asked {
    /// Something happened so often.
    Happened {
        /// Any of these.
        any_of: Vec<usize>,
        /// How often.
        times: RangeInclusive<u32>,
        /// How far back.
        within_ms: Option<i64>,
        /// Whether sessions are counted.
        sessions: bool,
    },
    /// The latest of something lies so far back, without something else since.
    Absent {
        /// Any of these.
        after: Vec<usize>,
        /// None of these since.
        without: Vec<usize>,
        /// More than so long ago.
        for_ms: i64,
        /// How far back.
        within_ms: Option<i64>,
    },
    /// So far in a funnel.
    Reached {
        /// The funnel.
        funnel: Box<funnel::Checked>,
        /// Required steps done.
        levels: RangeInclusive<usize>,
        /// The state.
        states: Vec<State>,
        /// How far back entries count.
        within_ms: Option<i64>,
    },
    /// The first or last value is so.
    Has {
        /// Events with a value.
        has: usize,
        /// Events whose value is so.
        holds: usize,
        /// Which of them.
        touch: Touch,
        /// What holds where there is no value.
        or: bool,
    },
    /// Some id is on a list.
    OnList(Arc<List>),
}

fn invalid(field: impl Into<String>, text: impl Into<String>) -> Refusal {
    Refusal::field(Reason::SegmentInvalid, field, text)
}

fn missing(field: &str) -> Refusal {
    Refusal::field(Reason::FieldMissing, field, format!("{field} is missing."))
}

/// What a definition names, as it is stored.
#[derive(Debug)]
struct Named<'a> {
    catalogue: &'a Catalogue,
    segments: BTreeMap<String, SegmentDefinition>,
    funnels: BTreeMap<String, FunnelDefinition>,
    /// `None` for those that there are not.
    lists: BTreeMap<String, Option<Arc<List>>>,
}

/// The names in a condition.
#[derive(Debug, Default)]
struct Names {
    segments: Vec<String>,
    funnels: Vec<String>,
    lists: Vec<String>,
}

impl<'a> Named<'a> {
    /// Reads whatever a definition names, and what that names.
    async fn read(
        store: &Store,
        tenant: &TenantName,
        catalogue: &'a Catalogue,
        definition: &SegmentDefinition,
    ) -> Result<Named<'a>, Refusal> {
        let (segments, funnels, lists) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut named = Named { catalogue, segments, funnels, lists };
        let (mut looked_for, mut left) = (BTreeSet::new(), vec![definition.clone()]);
        while let Some(definition) = left.pop() {
            let mut names = Names::default();
            names.find(definition.condition.as_ref());
            for name in names.lists {
                // Of more than there may be one is enough: the definition is refused for it later.
                if named.lists.len() <= limits::LISTS_OF_A_SEGMENT && !named.lists.contains_key(&name) {
                    let found = List::read(store, tenant, &name).await?;
                    named.lists.insert(name, found.map(Arc::new));
                }
            }
            for name in names.funnels {
                if !named.funnels.contains_key(&name)
                    && let Some(found) = saved::find(store, tenant, &name, 0).await?
                {
                    named.funnels.insert(name, found.definition);
                }
            }
            for name in names.segments {
                // More than there may be nodes are not read: the definition is refused for that later.
                if looked_for.len() <= limits::SEGMENT_NODES
                    && looked_for.insert(name.clone())
                    && let Some(found) = saved::find::<SegmentDefinition>(store, tenant, &name, 0).await?
                {
                    left.push(found.definition.clone());
                    named.segments.insert(name, found.definition);
                }
            }
        }
        Ok(named)
    }
}

impl Names {
    /// Adds those of a condition, whose depth the message's decoder bounds.
    fn find(&mut self, condition: Option<&Condition>) {
        match condition.and_then(|condition| condition.node.as_ref()) {
            Some(Node::All(list) | Node::Any(list)) => {
                list.parts.iter().for_each(|part| self.find(Some(part)));
            }
            Some(Node::Not(part)) => self.find(Some(part)),
            Some(Node::Segment(name)) => self.segments.push(name.clone()),
            Some(Node::List(name)) => self.lists.push(name.clone()),
            Some(Node::Reached(reached)) => {
                if let Some(Funnel::Name(name)) = &reached.funnel {
                    self.funnels.push(name.clone());
                }
            }
            Some(Node::Happened(_) | Node::Absent(_) | Node::Has(_) | Node::InStage(_)) | None => {}
        }
    }
}

/// Checks a definition with all that it names; `at` is the field that holds it.
pub async fn check(
    store: &Store,
    tenant: &TenantName,
    catalogue: &Catalogue,
    at: &str,
    definition: &SegmentDefinition,
) -> Result<Checked, Refusal> {
    check_as(store, tenant, catalogue, None, at, definition).await
}

/// As [`check`], for a definition that has, or is to get, a name, so that it is found out when it is made of itself.
pub async fn check_as(
    store: &Store,
    tenant: &TenantName,
    catalogue: &Catalogue,
    name: Option<&str>,
    at: &str,
    definition: &SegmentDefinition,
) -> Result<Checked, Refusal> {
    let named = Named::read(store, tenant, catalogue, definition).await?;
    checked(&named, name, at, definition)
}

fn checked(
    named: &Named<'_>,
    name: Option<&str>,
    at: &str,
    definition: &SegmentDefinition,
) -> Result<Checked, Refusal> {
    if definition.description.len() > limits::DESCRIPTION_BYTES {
        let (most, bytes) = (limits::DESCRIPTION_BYTES, definition.description.len());
        let text = format!("A description has at most {most} bytes; this one has {bytes}.");
        return Err(Refusal::field(Reason::TextTooLong, format!("{at}.description"), text));
    }
    let within = name.map(str::to_owned).into_iter().collect();
    let mut checking = Checking { named, nodes: 0, within, checked: Checked::empty(named) };
    let who = checking.definition(&format!("{at}.condition"), definition)?;
    let mut checked = Checked { who, ..checking.checked };
    checked.durations_ms.sort_unstable();
    checked.durations_ms.dedup();
    Ok(checked)
}

impl Checked {
    fn empty(named: &Named<'_>) -> Checked {
        Checked {
            who: Who::All(Vec::new()),
            conditions: Vec::new(),
            marks: MarksFor { settings: named.catalogue.settings.clone(), ..MarksFor::default() },
            told: Vec::new(),
            durations_ms: Vec::new(),
            notes: Vec::new(),
        }
    }
}
