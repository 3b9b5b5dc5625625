//! The conditions of a segment, one by one.

use std::collections::BTreeSet;

use runnel_contracts::{
    conversion::known,
    proto::{
        catalog::v1::{Family, Part, Role, Stage},
        funnel::v1::{TrendInterval, Unit, UnitState},
        query::v1::{self as query, predicate::Node as PredicateNode},
        segmentation::v1::{
            self as wire, Condition, CountOf, SegmentDefinition, condition::Node, occurrence::What,
            reached::Funnel,
        },
    },
    question::predicate,
    refusal::{Reason, Refusal},
};
use runnel_journeys::Happens;
use runnel_kernel::{
    State,
    members::{Touch, Who},
};
use runnel_model::{Conversion, EventMatch, Operator, Predicate, limits};

use super::{Asked, Checked, Named, invalid, missing};
use crate::funnel::{self, patterns};

/// A definition that is being checked.
pub(super) struct Checking<'a> {
    pub(super) named: &'a Named<'a>,
    /// Nodes of all definitions so far.
    pub(super) nodes: usize,
    /// The segments that the one at hand is named by.
    pub(super) within: Vec<String>,
    pub(super) checked: Checked,
}

impl Checking<'_> {
    /// The condition of a definition.
    pub(super) fn definition(&mut self, at: &str, definition: &SegmentDefinition) -> Result<Who, Refusal> {
        let condition = definition.condition.as_ref().ok_or_else(|| missing(at))?;
        let mut nodes = 0;
        self.node(at, condition, 1, &mut nodes)
    }

    fn node(
        &mut self,
        at: &str,
        condition: &Condition,
        depth: usize,
        nodes: &mut usize,
    ) -> Result<Who, Refusal> {
        *nodes += 1;
        self.nodes += 1;
        if *nodes > limits::CONDITION_NODES {
            return Err(invalid(at, format!("A condition has at most {} nodes.", limits::CONDITION_NODES)));
        }
        if depth > limits::CONDITION_DEPTH {
            let text = format!("A condition is at most {} levels deep.", limits::CONDITION_DEPTH);
            return Err(invalid(at, text));
        }
        if self.nodes > limits::SEGMENT_NODES {
            let most = limits::SEGMENT_NODES;
            let text = format!("A segment has at most {most} nodes with those of segments that it names.");
            return Err(invalid(at, text));
        }
        let node = condition.node.as_ref().ok_or_else(|| invalid(at, "The condition is empty."))?;
        match node {
            Node::All(list) => Ok(Who::All(self.parts(&format!("{at}.all"), list, depth, nodes)?)),
            Node::Any(list) => Ok(Who::Any(self.parts(&format!("{at}.any"), list, depth, nodes)?)),
            Node::Not(part) => {
                let part = self.node(&format!("{at}.not"), part, depth + 1, nodes)?;
                Ok(Who::Not(Box::new(part)))
            }
            Node::Segment(name) => self.segment(&format!("{at}.segment"), name),
            Node::Happened(happened) => self.told(format!("{at}.happened"), |one, at| {
                let asked = one.happened(at, happened)?;
                Ok(one.condition(asked))
            }),
            Node::Absent(absent) => self.told(format!("{at}.absent"), |one, at| {
                let asked = one.absent(at, absent)?;
                Ok(one.condition(asked))
            }),
            Node::Reached(reached) => self.told(format!("{at}.reached"), |one, at| {
                let asked = one.reached(at, reached)?;
                Ok(one.condition(asked))
            }),
            Node::Has(has) => self.told(format!("{at}.has"), |one, at| {
                let asked = one.has(at, has)?;
                Ok(one.condition(asked))
            }),
            Node::List(name) => self.told(format!("{at}.list"), |one, at| {
                let asked = one.on_list(at, name)?;
                Ok(one.condition(asked))
            }),
            Node::InStage(stage) => self.told(format!("{at}.in_stage"), |one, at| one.in_stage(at, stage)),
        }
    }

    fn parts(
        &mut self,
        at: &str,
        list: &wire::Conditions,
        depth: usize,
        nodes: &mut usize,
    ) -> Result<Vec<Who>, Refusal> {
        if list.parts.is_empty() {
            return Err(invalid(at, "all and any have at least one part."));
        }
        let parts = list.parts.iter().enumerate();
        parts.map(|(part, one)| self.node(&format!("{at}[{part}]"), one, depth + 1, nodes)).collect()
    }

    /// A condition that is told of by itself.
    fn told(
        &mut self,
        at: String,
        make: impl FnOnce(&mut Self, &str) -> Result<Who, Refusal>,
    ) -> Result<Who, Refusal> {
        let place = self.checked.told.len();
        self.checked.told.push((at.clone(), Who::Any(Vec::new())));
        let who = make(self, &at)?;
        self.checked.told[place].1 = who.clone();
        Ok(who)
    }

    fn condition(&mut self, asked: Asked) -> Who {
        self.checked.conditions.push(asked);
        Who::Condition(self.checked.conditions.len() - 1)
    }

    fn segment(&mut self, at: &str, name: &str) -> Result<Who, Refusal> {
        if self.within.iter().any(|outer| outer == name) {
            let text = format!("The segment {name:?} is made of itself.");
            return Err(invalid(at, text));
        }
        let Some(definition) = self.named.segments.get(name) else {
            let text = format!("There is no segment {name:?}.");
            return Err(Refusal::field(Reason::SegmentUnknown, at, text));
        };
        self.within.push(name.to_owned());
        let who = self.definition(&format!("{at}[{name}].condition"), definition);
        self.within.pop();
        who
    }

    fn happened(&mut self, at: &str, happened: &wire::Happened) -> Result<Asked, Refusal> {
        let any_of = self.any_of(&format!("{at}.any_of"), &happened.any_of)?;
        let within_ms = self.look_back(&format!("{at}.within_ms"), happened.within_ms)?;
        let times = |field: &str, times: Option<u32>| match times {
            Some(times) if times > limits::HAPPENED_TIMES => {
                let text = format!("{at}.{field} is at most {}; it is {times}.", limits::HAPPENED_TIMES);
                Err(Refusal::field(Reason::NumberOutOfRange, format!("{at}.{field}"), text))
            }
            times => Ok(times),
        };
        let (at_least, at_most) =
            (times("at_least", happened.at_least)?, times("at_most", happened.at_most)?);
        let at_least = at_least.unwrap_or(u32::from(at_most.is_none()));
        let times = at_least..=at_most.unwrap_or(u32::MAX);
        if times.is_empty() {
            let text = format!("{at}.at_most is less than at_least, which is {at_least}.");
            return Err(invalid(format!("{at}.at_most"), text));
        }
        let sessions = known::<CountOf>(&format!("{at}.count"), happened.count)? == CountOf::Sessions;
        Ok(Asked::Happened { any_of, times, within_ms, sessions })
    }

    fn absent(&mut self, at: &str, absent: &wire::Absent) -> Result<Asked, Refusal> {
        let after = self.any_of(&format!("{at}.after"), &absent.after)?;
        let without = self.any_of(&format!("{at}.without"), &absent.without)?;
        let for_ms = self.look_back(&format!("{at}.for_ms"), Some(absent.for_ms))?.unwrap_or_default();
        let within_ms = self.look_back(&format!("{at}.within_ms"), absent.within_ms)?;
        if within_ms.is_some_and(|within_ms| within_ms <= for_ms) {
            let text = format!("{at}.within_ms is more than for_ms, or nobody can belong.");
            return Err(invalid(format!("{at}.within_ms"), text));
        }
        Ok(Asked::Absent { after, without, for_ms, within_ms })
    }

    fn reached(&mut self, at: &str, reached: &wire::Reached) -> Result<Asked, Refusal> {
        let (field, definition) = match &reached.funnel {
            None => return Err(missing(&format!("{at}.funnel"))),
            Some(Funnel::Inline(inline)) => (format!("{at}.inline"), inline),
            Some(Funnel::Name(name)) => {
                let field = format!("{at}.name");
                let found = self.named.funnels.get(name).ok_or_else(|| {
                    let text = format!("There is no funnel {name:?}.");
                    Refusal::field(Reason::FunnelUnknown, &field, text)
                })?;
                (field, found)
            }
        };
        let unfit = |text: &str| Err(invalid(&field, text));
        if definition.open {
            return unfit("The funnel is open, so that nobody can say how far a visitor has come.");
        }
        if !definition.counted.is_empty() {
            return unfit("The funnel has counted steps, of which nobody knows whom they are of.");
        }
        let checked = funnel::check(definition, None, TrendInterval::Unspecified, self.named.catalogue)
            .map_err(|refusal| {
                let inner = refusal.field.strip_prefix("definition").unwrap_or_default().to_owned();
                Refusal { field: format!("{field}{inner}"), ..refusal }
            })?;
        if checked.resolved().unit() != Unit::Visitor {
            return unfit("The funnel counts something else than visitors.");
        }
        if checked.choices.grain_ms > 1 {
            return unfit("The funnel reads instants to the second; choose another profile.");
        }
        let level = |name: &str, step: u32| {
            let field = format!("{at}.{name}");
            let steps = definition.steps.len();
            match definition.steps.get((step as usize).wrapping_sub(1)) {
                None => Err(invalid(field, format!("The funnel has {steps} steps; this is step {step}."))),
                Some(one) if one.optional => {
                    Err(invalid(field, format!("Step {step} of the funnel is optional.")))
                }
                Some(_) => {
                    let upto = &definition.steps[..step as usize];
                    Ok(upto.iter().filter(|one| !one.optional).count())
                }
            }
        };
        let last = definition.steps.len() as u32;
        let first = level("step", if reached.step == 0 { last } else { reached.step })?;
        let levels = match reached.not_step {
            0 => first..=usize::MAX,
            not_step => first..=level("not_step", not_step)?.saturating_sub(1),
        };
        if levels.is_empty() {
            return Err(invalid(format!("{at}.not_step"), "not_step lies after step, or nobody can belong."));
        }
        let mut states = Vec::new();
        for (place, number) in reached.states.iter().enumerate() {
            let field = format!("{at}.states[{place}]");
            states.push(match known::<UnitState>(&field, *number)? {
                UnitState::Converted => State::Converted,
                UnitState::Dropped => State::Dropped,
                UnitState::Excluded => State::Excluded,
                UnitState::Open => State::Open,
                UnitState::Unspecified | UnitState::Removed => {
                    return Err(invalid(field, "The state is CONVERTED, DROPPED, EXCLUDED or OPEN."));
                }
            });
        }
        if states.is_empty() {
            states.extend(State::ALL);
        }
        let within_ms = self.look_back(&format!("{at}.within_ms"), reached.within_ms)?;
        self.checked.durations_ms.extend(checked.durations_ms());
        Ok(Asked::Reached { funnel: Box::new(checked), levels, states, within_ms })
    }

    fn has(&mut self, at: &str, has: &wire::Has) -> Result<Asked, Refusal> {
        let field = format!("{at}.value");
        let comparison = has.value.clone().ok_or_else(|| missing(&field))?;
        let node = Some(PredicateNode::Comparison(comparison));
        let condition = predicate(&field, &query::Predicate { node })?;
        patterns(&field, &condition)?;
        let Predicate::Compare { column, operator, .. } = &condition else {
            return Err(invalid(field, "The condition compares one value."));
        };
        let or = matches!(operator, Operator::NotEqual | Operator::NotIn | Operator::Missing);
        let exists =
            Predicate::Compare { column: column.clone(), operator: Operator::Exists, values: Vec::new() };
        let touch = known::<wire::Touch>(&format!("{at}.touch"), has.touch)?;
        let mut of = |condition| {
            let one = EventMatch { event: None, condition: Some(condition) };
            self.mark(Conversion::of_event(one))
        };
        let holds = of(condition.clone());
        let touch = match touch {
            wire::Touch::Any => {
                let times = 1..=u32::MAX;
                return Ok(Asked::Happened { any_of: vec![holds], times, within_ms: None, sessions: false });
            }
            wire::Touch::First => Touch::First,
            wire::Touch::Last | wire::Touch::Unspecified => Touch::Last,
        };
        Ok(Asked::Has { has: of(exists), holds, touch, or })
    }

    fn on_list(&self, at: &str, name: &str) -> Result<Asked, Refusal> {
        if self.named.lists.len() > limits::LISTS_OF_A_SEGMENT {
            let most = limits::LISTS_OF_A_SEGMENT;
            let text = format!("A segment names at most {most} lists with those of segments that it names.");
            return Err(invalid(at, text));
        }
        match self.named.lists.get(name) {
            Some(Some(list)) => Ok(Asked::OnList(list.clone())),
            _ => {
                let text = format!("There is no list {name:?}.");
                Err(Refusal::field(Reason::ListUnknown, at, text))
            }
        }
    }

    fn in_stage(&mut self, at: &str, asked: &wire::InStage) -> Result<Who, Refusal> {
        let stage = known::<Stage>(&format!("{at}.stage"), asked.stage)?;
        let within = asked.within_ms.or(Some(limits::STAGE_WITHIN_MS));
        let within_ms = self.look_back(&format!("{at}.within_ms"), within)?;
        let of = |one: &mut Self, stage: Stage| one.conversions(Role::Unspecified, stage);
        let mut redeeming = of(self, Stage::Willingness);
        redeeming.extend(self.conversions(Role::Macro, Stage::Unspecified));
        let negative = of(self, Stage::Negative);
        let negative = Asked::Absent { after: negative, without: redeeming, for_ms: 0, within_ms };
        let negative = self.condition(negative);
        let mut reached = |stage| {
            let any_of = of(self, stage);
            if any_of.is_empty() {
                let text = format!("The catalogue has no conversion of {}.", stage.as_str_name());
                self.checked.notes.push(text);
            }
            self.condition(Asked::Happened { any_of, times: 1..=u32::MAX, within_ms, sessions: false })
        };
        let not = |who| Who::Not(Box::new(who));
        let ladder = [Stage::Interest, Stage::Engagement, Stage::Willingness];
        let Some(rung) = ladder.iter().position(|rung| *rung == stage) else {
            return match stage {
                Stage::Negative => Ok(negative),
                _ => Err(missing(&format!("{at}.stage"))),
            };
        };
        let mut parts = vec![reached(stage), not(negative)];
        parts.extend(ladder[rung + 1..].iter().map(|higher| not(reached(*higher))));
        Ok(Who::All(parts))
    }

    /// A duration by which a condition looks back.
    fn look_back(&mut self, at: &str, duration_ms: Option<i64>) -> Result<Option<i64>, Refusal> {
        let Some(duration_ms) = duration_ms else { return Ok(None) };
        let bounds = limits::LOOK_BACK_MS;
        if !bounds.contains(&duration_ms) {
            let text =
                format!("{at} is {} to {} milliseconds; it is {duration_ms}.", bounds.start(), bounds.end());
            return Err(Refusal::field(Reason::NumberOutOfRange, at, text));
        }
        self.checked.durations_ms.push(duration_ms);
        Ok(Some(duration_ms))
    }

    /// The positions of what any of these are.
    fn any_of(&mut self, at: &str, occurrences: &[wire::Occurrence]) -> Result<Vec<usize>, Refusal> {
        if occurrences.is_empty() || occurrences.len() > limits::ALTERNATIVES {
            let (most, count) = (limits::ALTERNATIVES, occurrences.len());
            return Err(invalid(at, format!("There are 1 to {most} of these; here are {count}.")));
        }
        let mut places = BTreeSet::new();
        for (place, one) in occurrences.iter().enumerate() {
            let at = format!("{at}[{place}]");
            match &one.what {
                None => return Err(missing(&at)),
                Some(What::Event(event)) => {
                    let conversion = self.named.catalogue.happening(&format!("{at}.event"), event)?;
                    places.insert(self.mark(conversion));
                }
                Some(What::Conversions(of)) => places.extend(self.of(&format!("{at}.conversions"), of)?),
            }
        }
        Ok(places.into_iter().collect())
    }

    /// The conversions of the catalogue that are all of this.
    fn of(&mut self, at: &str, of: &wire::ConversionsOf) -> Result<Vec<usize>, Refusal> {
        let role = known::<Role>(&format!("{at}.role"), of.role)?;
        let part = known::<Part>(&format!("{at}.part"), of.part)?;
        let family = known::<Family>(&format!("{at}.family"), of.family)?;
        let stage = known::<Stage>(&format!("{at}.stage"), of.stage)?;
        if (role, part, family, stage)
            == (Role::Unspecified, Part::Unspecified, Family::Unspecified, Stage::Unspecified)
        {
            return Err(invalid(at, "Say at least one of role, part, family and stage."));
        }
        let fits = |asked: i32, is: i32| asked == 0 || asked == is;
        let all = self.named.catalogue.conversions.values();
        let some = all.filter(|one| {
            let one = &one.wire;
            fits(of.role, one.role)
                && fits(of.part, one.part)
                && fits(of.family, one.family)
                && fits(of.stage, one.stage)
        });
        let found: Vec<Conversion> = some.map(|one| one.conversion.clone()).collect();
        if found.is_empty() {
            self.checked.notes.push(format!("The catalogue has no conversion that is what {at} asks for."));
        }
        Ok(found.into_iter().map(|one| self.mark(one)).collect())
    }

    /// The conversions of a role or a stage.
    fn conversions(&mut self, role: Role, stage: Stage) -> Vec<usize> {
        let all = self.named.catalogue.conversions.values();
        let some = all.filter(|one| {
            (role == Role::Unspecified || one.wire.role() == role)
                && (stage == Stage::Unspecified || one.wire.stage() == stage)
        });
        let found: Vec<Conversion> = some.map(|one| one.conversion.clone()).collect();
        found.into_iter().map(|one| self.mark(one)).collect()
    }

    /// The position of what happens; the same thing has one.
    fn mark(&mut self, conversion: Conversion) -> usize {
        let happens = Happens::from(conversion);
        let marks = &mut self.checked.marks.conversions;
        marks.iter().position(|known| *known == happens).unwrap_or_else(|| {
            marks.push(happens);
            marks.len() - 1
        })
    }
}
