//! Rules, layer over layer, and what they decide.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::{
    Condition, Field, Hosts, Rule, RulesError, Shape, Touch,
    evidence::Evidence,
    fault::{Fault, Place, shown},
    hosts::lower,
    limits,
};

/// The channel of a touch of which nothing is known. Always the first of [`Rules::channels`].
pub const DIRECT: &str = "Direct";
/// The channel of a touch that no rule knows. Always the second of [`Rules::channels`].
pub const UNASSIGNED: &str = "Unassigned";

/// Rules that are checked and ready to classify. Cloning copies them; share them in an [`Arc`].
#[derive(Debug, Clone)]
pub struct Rules {
    base: Option<Arc<Rules>>,
    /// Those of the base first, so that its numbers hold here too; likewise the categories.
    channels: Vec<Box<str>>,
    categories: Vec<Category>,
    hosts: Hosts,
    clicks: Vec<Click>,
    click_numbers: HashMap<Box<str>, usize>,
    blanks: HashSet<Box<str>>,
    /// Every condition once, however many rules have it, and whether it holds where its field is absent.
    conditions: Vec<(Condition, bool)>,
    rules: Vec<Compiled>,
}

/// A rule: its channel's number, and its conditions' numbers.
#[derive(Debug, Clone)]
struct Compiled {
    channel: usize,
    all_of: Box<[usize]>,
}

/// Whether conditions of a layer hold, as far as that was looked at. Later ones than it has room for are looked at each time.
#[derive(Default)]
struct Seen {
    known: u128,
    held: u128,
}

#[derive(Debug, Clone)]
struct Category {
    name: Box<str>,
    untagged_medium: Option<Box<str>>,
}

/// A kind of click identifier, and what it says where tags are silent.
#[derive(Debug, Clone)]
pub(crate) struct Click {
    pub(crate) name: Box<str>,
    pub(crate) source: Box<str>,
    /// Set when the identifier proves that medium.
    pub(crate) medium: Box<str>,
}

/// What was decided about a touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'r> {
    /// The channel.
    pub channel: &'r str,
    /// Its place in [`Rules::channels`]. Rules over others keep their numbers.
    pub index: usize,
    /// The rule that decided; `None` for Direct and Unassigned when no rule did.
    pub rule: Option<RuleAt>,
}

/// Where a rule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleAt {
    /// 0 for the rules themselves, 1 for those that they stand over, and so on.
    pub layer: usize,
    /// The rule's number in its layer, from 1.
    pub number: usize,
}

impl Rules {
    /// The default rules: those of `rules/hosts.txt` and `rules/default.txt`.
    ///
    /// # Errors
    /// Never, as a test proves; what reads rules can refuse them.
    pub fn standard() -> Result<Rules, RulesError> {
        Rules::empty(None)
            .read(include_str!("../rules/hosts.txt"))?
            .read(include_str!("../rules/default.txt"))
    }

    /// Reads rules that stand alone.
    ///
    /// # Errors
    /// With the line and what is wrong there.
    pub fn parse(text: &str) -> Result<Rules, RulesError> {
        Rules::empty(None).read(text)
    }

    /// Reads rules that come before those of `base`. They may name its categories and click identifiers; their hosts, click
    /// identifiers and blanks are added to its, and where both know one, theirs counts.
    ///
    /// # Errors
    /// With the line and what is wrong there.
    pub fn parse_over(base: Arc<Rules>, text: &str) -> Result<Rules, RulesError> {
        Rules::empty(Some(base)).read(text)
    }

    /// Puts a list of rules before those of `base`.
    ///
    /// # Errors
    /// With the number of the rule and what is wrong with it.
    pub fn over(base: Arc<Rules>, list: &[Rule]) -> Result<Rules, RulesError> {
        let mut rules = Rules::empty(Some(base));
        for (at, rule) in list.iter().enumerate() {
            rules.add_rule(rule.clone()).map_err(|fault| fault.at(Place::Rule, at + 1))?;
        }
        Ok(rules)
    }

    fn empty(base: Option<Arc<Rules>>) -> Rules {
        let (channels, categories) = match &base {
            Some(base) => (base.channels.clone(), base.categories.clone()),
            None => (vec![DIRECT.into(), UNASSIGNED.into()], Vec::new()),
        };
        Rules {
            base,
            channels,
            categories,
            hosts: Hosts::default(),
            clicks: Vec::new(),
            click_numbers: HashMap::new(),
            blanks: HashSet::new(),
            conditions: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// The names of all channels: Direct, Unassigned, then in the order in which rules name them, base first.
    pub fn channels(&self) -> impl ExactSizeIterator<Item = &str> {
        self.channels.iter().map(AsRef::as_ref)
    }

    /// The channel of a touch.
    ///
    /// Tags speak first. Where there is no source or no medium, a known click identifier gives them; where there is
    /// neither tag nor known click identifier, the referrer does. The category is that of the source; when the source has
    /// none and no medium was tagged, that of the click identifier's source. Then the first rule counts all of whose
    /// conditions hold, own layer first; without one the channel is [`DIRECT`] when nothing at all is known, else [`UNASSIGNED`].
    #[must_use]
    pub fn classify(&self, touch: &Touch<'_>) -> Decision<'_> {
        let evidence = Evidence::of(self, touch);
        for (layer, rules) in self.layers().enumerate() {
            let mut seen = Seen::default();
            let mut holds = |rule: &Compiled| {
                rule.all_of.iter().all(|&number| seen.look(number, || rules.holds(number, &evidence)))
            };
            let found = rules.rules.iter().enumerate().find(|(_, rule)| holds(rule));
            if let Some((at, rule)) = found
                && let Some(channel) = self.channels.get(rule.channel)
            {
                let rule_at = RuleAt { layer, number: at + 1 };
                return Decision { channel, index: rule.channel, rule: Some(rule_at) };
            }
        }
        match evidence.is_nothing() {
            true => Decision { channel: DIRECT, index: 0, rule: None },
            false => Decision { channel: UNASSIGNED, index: 1, rule: None },
        }
    }

    fn holds(&self, number: usize, evidence: &Evidence<'_>) -> bool {
        self.conditions.get(number).is_some_and(|(condition, when_absent)| {
            let value = evidence.get(condition.field);
            if value.is_empty() { *when_absent } else { condition.holds(value) }
        })
    }

    fn layers(&self) -> impl Iterator<Item = &Rules> {
        std::iter::successors(Some(self), |rules| rules.base.as_deref())
    }

    pub(crate) fn is_blank(&self, text: &str) -> bool {
        !text.is_empty() && self.layers().any(|layer| layer.blanks.contains(text))
    }

    pub(crate) fn category(&self, source: &str) -> Option<u16> {
        if source.is_empty() { None } else { self.layers().find_map(|layer| layer.hosts.find(source)) }
    }

    pub(crate) fn category_name(&self, id: u16) -> &str {
        self.categories.get(usize::from(id)).map_or("", |category| &category.name)
    }

    pub(crate) fn untagged_medium(&self, id: u16) -> Option<&str> {
        self.categories.get(usize::from(id))?.untagged_medium.as_deref()
    }

    pub(crate) fn click(&self, name: &str) -> Option<&Click> {
        self.click_rank(name).map(|(_, click)| click)
    }

    /// A kind of click identifier with its rank: of two on one link, that of the lower rank counts.
    pub(crate) fn click_rank(&self, name: &str) -> Option<((usize, usize), &Click)> {
        self.layers().enumerate().find_map(|(layer, rules)| {
            let number = *rules.click_numbers.get(name)?;
            Some(((layer, number), rules.clicks.get(number)?))
        })
    }

    pub(crate) fn add_rule(&mut self, mut rule: Rule) -> Result<(), Fault> {
        rule.channel = name(&rule.channel)?.into();
        if rule.all_of.is_empty() {
            return Err(Fault::Missing("a condition"));
        }
        Fault::over("conditions of a rule", limits::CONDITIONS, rule.all_of.len())?;
        for condition in &mut rule.all_of {
            if condition.any_of.is_empty() {
                return Err(Fault::Missing("a value"));
            }
            Fault::over("values of a condition", limits::PATTERNS, condition.any_of.len())?;
            for pattern in &mut condition.any_of {
                Fault::over("bytes of a value", limits::VALUE_BYTES, pattern.text.len())?;
                pattern.text = lower(&pattern.text).into_owned();
                let text = pattern.text.as_str();
                match (condition.field, pattern.shape) {
                    (_, Shape::Is) if text.is_empty() => {}
                    _ if text.is_empty() => return Err(Fault::Asterisk(String::new())),
                    (Field::SourceCategory, Shape::Is)
                        if !self.categories.iter().any(|category| *category.name == *text) =>
                    {
                        return Err(Fault::Category(shown(text)));
                    }
                    (Field::ClickId, Shape::Is) if text != "unknown" && self.click(text).is_none() => {
                        return Err(Fault::Click(shown(text)));
                    }
                    _ => {}
                }
            }
        }
        Fault::over("rules", limits::RULES, self.rules.len() + 1)?;
        let channel = number_of(&mut self.channels, rule.channel.into_boxed_str());
        let all_of = rule.all_of.into_iter().map(|condition| {
            let when_absent = condition.holds("");
            number_of(&mut self.conditions, (condition, when_absent))
        });
        let all_of = all_of.collect();
        self.rules.push(Compiled { channel, all_of });
        Ok(())
    }

    pub(crate) fn add_host(&mut self, category: &str, host: &str) -> Result<(), Fault> {
        let category = lower(name(category)?);
        let known = self.categories.iter().position(|known| *known.name == *category);
        let id = known.unwrap_or(self.categories.len());
        if known.is_none() {
            Fault::over("categories", limits::CATEGORIES, id + 1)?;
            self.categories.push(Category { name: category.into(), untagged_medium: None });
        }
        let id = u16::try_from(id).unwrap_or(u16::MAX);
        self.hosts.insert(&lower(host), id)
    }

    pub(crate) fn set_untagged_medium(&mut self, category: &str, medium: &str) -> Result<(), Fault> {
        let (category, medium) = (lower(category), lower(name(medium)?));
        let known = self.categories.iter_mut().find(|known| *known.name == *category);
        known.ok_or_else(|| Fault::Category(shown(&category)))?.untagged_medium = Some(medium.into());
        Ok(())
    }

    pub(crate) fn add_click(&mut self, kind: &str, source: &str, medium: &str) -> Result<(), Fault> {
        let kind = lower(name(kind)?);
        if kind.contains(['=', ':']) || kind == "unknown" {
            return Err(Fault::Name(shown(&kind)));
        }
        let medium = if medium.is_empty() { medium } else { name(medium)? };
        let click = Click {
            name: kind.as_ref().into(),
            source: lower(name(source)?).into(),
            medium: lower(medium).into(),
        };
        Fault::over("click identifiers", limits::CLICKS, self.clicks.len() + 1)?;
        if self.click_numbers.insert(click.name.clone(), self.clicks.len()).is_some() {
            return Err(Fault::Taken(shown(&kind)));
        }
        self.clicks.push(click);
        Ok(())
    }

    pub(crate) fn add_blank(&mut self, text: &str) -> Result<(), Fault> {
        self.blanks.insert(lower(name(text)?).into());
        Fault::over("blanks", limits::BLANKS, self.blanks.len())
    }
}

impl Seen {
    fn look(&mut self, number: usize, holds: impl FnOnce() -> bool) -> bool {
        let bit = u32::try_from(number).ok().and_then(|number| 1_u128.checked_shl(number)).unwrap_or(0);
        if self.known & bit == 0 {
            let held = holds();
            self.known |= bit;
            self.held |= if held { bit } else { 0 };
            return held;
        }
        self.held & bit != 0
    }
}

/// Where an item stands in a list, to which it is added when it is not in it.
fn number_of<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    list.iter().position(|known| *known == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}

/// A name without the white space around it.
pub(crate) fn name(text: &str) -> Result<&str, Fault> {
    let text = text.trim();
    Fault::over("bytes of a name", limits::NAME_BYTES, text.len())?;
    let bad = text.is_empty() || text.chars().any(char::is_control);
    if bad { Err(Fault::Name(shown(text))) } else { Ok(text) }
}
