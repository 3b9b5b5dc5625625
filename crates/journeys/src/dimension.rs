//! Columns that are made of sessions: every event has the channel, the device and the like of the session that it belongs to.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

use hashbrown::HashMap;
use runnel_channels::{Hosts, Rules, RulesError, Touch};
use runnel_devices as devices;
use runnel_kernel::{Session, Sessions, Values};
use runnel_model::{ChannelSettings, Dimension, Field, Selector, Settings, Value, ValueRef};

use crate::{
    merge::Merged,
    question::codes,
    rows::LoadedColumns,
    run::{Run, ValueColumn},
    seen::off_site,
    values::ValueDictionary,
};

static STANDARD: LazyLock<Result<Arc<Rules>, RulesError>> = LazyLock::new(|| Rules::standard().map(Arc::new));

static AGENTS: LazyLock<Result<devices::Rules, devices::RulesError>> =
    LazyLock::new(devices::Rules::standard);

/// What says where a session came from, each by the columns that may hold it, the first that does counts.
const TAGS: [(Field, &[&str]); 6] = [
    (Field::CampaignSource, &["utm_source", "source"]),
    (Field::CampaignMedium, &["utm_medium", "medium"]),
    (Field::CampaignName, &["utm_campaign", "campaign"]),
    (Field::CampaignTerm, &["utm_term"]),
    (Field::CampaignContent, &["utm_content"]),
    (Field::CampaignClickId, &["click_id"]),
];

/// The rules of a tenant: its own before the usual ones.
pub fn channel_rules(settings: &ChannelSettings) -> Result<Arc<Rules>, RulesError> {
    let standard = STANDARD.as_ref().map_err(Clone::clone)?.clone();
    if settings.rules.is_empty() {
        return Ok(standard);
    }
    Rules::parse_over(standard, &settings.rules).map(Arc::new)
}

/// The columns of events that such columns are made of.
pub(crate) fn sources(settings: &Settings) -> BTreeSet<Selector> {
    let channels = &settings.channels;
    let own = [
        &channels.channel_property,
        &channels.device_property,
        &channels.os_property,
        &channels.browser_property,
        &channels.user_agent_property,
        &channels.referrer_property,
    ];
    let tags = TAGS.iter().flat_map(|(field, names)| tag_columns(*field, names));
    own.into_iter().map(Selector::property).chain(tags).chain([off_site()]).collect()
}

fn tag_columns(field: Field, names: &[&str]) -> Vec<Selector> {
    let names = names.iter().map(|name| Selector::property(*name));
    std::iter::once(Selector::field(field)).chain(names).collect()
}

/// Makes the columns of a run that are made of its sessions.
pub(crate) fn fill(Merged { run, anew }: &mut Merged, columns: &LoadedColumns, settings: &Settings) {
    let wanted: Vec<(usize, Dimension)> = columns
        .iter()
        .enumerate()
        .filter_map(|(at, (selector, _))| match selector {
            Selector::Session(dimension) => Some((at, *dimension)),
            Selector::Attribute(_) => None,
        })
        .collect();
    if wanted.is_empty() || anew.is_empty() {
        return;
    }
    let Ok(slice) = run.slice(None) else { return };
    let away = Source::of(&[off_site()], run, columns);
    let mut off_site = vec![0; run.events().div_ceil(64)];
    for event in (0..run.events()).filter(|event| away.code(*event).is_some()) {
        off_site[event / 64] |= 1 << (event % 64);
    }
    let sessions = Sessions::new(slice, Some(&off_site), settings.session_gap_ms);
    let mut filled = Vec::new();
    for (at, dimension) in wanted {
        let mut teller = Teller::new(dimension, run, columns, &columns[at].1, settings);
        let mut codes = run.columns[at].codes();
        for &visitor in anew.iter() {
            let mut of_visitor = sessions.of_visitor(visitor).enumerate();
            let events = slice.range(visitor);
            let of_one = match dimension {
                Dimension::FirstChannel => Some(of_visitor.next()),
                Dimension::LastChannel => Some(of_visitor.by_ref().last()),
                _ => None,
            };
            if let Some(one) = of_one {
                let told = one.map_or(0, |(number, session)| teller.session(number, session));
                codes[events].fill(told);
                continue;
            }
            let told: Vec<u32> =
                of_visitor.map(|(number, session)| teller.session(number, session)).collect();
            let mut ordinals = sessions.ordinals(visitor);
            for event in events {
                let session = ordinals.of(event).and_then(|ordinal| told.get(ordinal as usize));
                codes[event] = session.copied().unwrap_or(0);
            }
        }
        filled.push((at, codes));
    }
    for (at, codes) in filled {
        run.columns[at] = ValueColumn::new(codes);
    }
}

/// Columns of a run, the first of which that has a value counts.
struct Source<'a> {
    columns: Vec<(Values<'a>, &'a ValueDictionary)>,
}

impl<'a> Source<'a> {
    fn of(selectors: &[Selector], run: &'a Run, columns: &'a LoadedColumns) -> Source<'a> {
        let place = |selector: &Selector| columns.iter().position(|(known, _)| known == selector);
        let places = selectors.iter().filter_map(place);
        let set = places.map(|at| (codes(run, at), &*columns[at].1));
        Source { columns: set.filter(|(codes, _)| !matches!(codes, Values::Unset(_))).collect() }
    }

    /// Which column has a value at an event, and its code.
    fn code(&self, event: usize) -> Option<(usize, u32)> {
        let code = |values: &Values<'_>| values.get(event).filter(|code| *code != 0);
        self.columns.iter().enumerate().find_map(|(at, (values, _))| Some((at, code(values)?)))
    }

    fn text(&self, found: Option<(usize, u32)>) -> String {
        let value = found.and_then(|(at, code)| self.columns.get(at)?.1.value(code));
        value.map(|value| value.show()).unwrap_or_default()
    }
}

/// Tells what sessions have of a dimension, as codes of its column.
struct Teller<'a> {
    dimension: Dimension,
    /// What the session itself is said to have.
    sent: Source<'a>,
    /// What its user agent says of itself.
    agent: Source<'a>,
    /// What its channel can be told from: tags, then the page that led here.
    tags: Vec<Source<'a>>,
    rules: Option<Arc<Rules>>,
    own_hosts: Option<Hosts>,
    dictionary: &'a ValueDictionary,
    /// Codes by what they were told from.
    of_sent: HashMap<(usize, u32), u32>,
    of_tags: HashMap<[Option<(usize, u32)>; TAGS.len() + 1], u32>,
    of_agents: HashMap<(usize, u32), u32>,
}

impl<'a> Teller<'a> {
    fn new(
        dimension: Dimension,
        run: &'a Run,
        columns: &'a LoadedColumns,
        dictionary: &'a ValueDictionary,
        settings: &Settings,
    ) -> Teller<'a> {
        let channels = &settings.channels;
        let tagged =
            matches!(dimension, Dimension::Channel | Dimension::FirstChannel | Dimension::LastChannel);
        let sent = match dimension {
            Dimension::Channel | Dimension::FirstChannel | Dimension::LastChannel => {
                Some(&channels.channel_property)
            }
            Dimension::Device => Some(&channels.device_property),
            Dimension::Os => Some(&channels.os_property),
            Dimension::Browser => Some(&channels.browser_property),
            Dimension::Visit => None,
        };
        let sent: Vec<Selector> = sent.map(Selector::property).into_iter().collect();
        let agent = [Selector::property(&channels.user_agent_property)];
        let tag = |(field, names): &(Field, &[&str])| Source::of(&tag_columns(*field, names), run, columns);
        let referrer = Source::of(&[Selector::property(&channels.referrer_property)], run, columns);
        Teller {
            dimension,
            sent: Source::of(&sent, run, columns),
            agent: Source::of(&agent, run, columns),
            tags: if tagged { TAGS.iter().map(tag).chain([referrer]).collect() } else { Vec::new() },
            // Settings are checked when they are saved; rules of another version tell nothing.
            rules: tagged.then(|| channel_rules(channels).ok()).flatten(),
            own_hosts: Hosts::new(&channels.own_hosts).ok(),
            dictionary,
            of_sent: HashMap::new(),
            of_tags: HashMap::new(),
            of_agents: HashMap::new(),
        }
    }

    /// The code of a session, which is the visitor's `number`-th, from 0.
    fn session(&mut self, number: usize, session: Session) -> u32 {
        if self.dimension == Dimension::Visit {
            let visit = if number == 0 { "new" } else { "returning" };
            return self.dictionary.code(ValueRef::String(visit));
        }
        if let Some(found) = (session.first..session.last + 1).find_map(|event| self.sent.code(event)) {
            let (sent, dictionary) = (&self.sent, self.dictionary);
            return *self.of_sent.entry(found).or_insert_with(|| {
                let value = sent.columns[found.0].1.value(found.1);
                value.as_ref().map_or(0, |value: &Value| dictionary.code(value.as_ref()))
            });
        }
        let Some(rules) = &self.rules else { return self.told_by_agent(session) };
        // Later events have pages of the site itself as their referrers.
        let mut key = [None; TAGS.len() + 1];
        key.iter_mut().zip(&self.tags).for_each(|(found, tag)| *found = tag.code(session.first));
        if let Some(code) = self.of_tags.get(&key) {
            return *code;
        }
        let texts: Vec<String> = self.tags.iter().zip(&key).map(|(tag, found)| tag.text(*found)).collect();
        let text = |at: usize| texts.get(at).map_or("", String::as_str);
        let touch = Touch {
            source: text(0),
            medium: text(1),
            campaign: text(2),
            term: text(3),
            content: text(4),
            click_id: text(5),
            referrer: text(6),
            own_hosts: self.own_hosts.as_ref(),
            ..Touch::default()
        };
        let code = self.dictionary.code(ValueRef::String(rules.classify(&touch).channel));
        self.of_tags.insert(key, code);
        code
    }

    /// What the first user agent of a session says.
    fn told_by_agent(&mut self, session: Session) -> u32 {
        let mut events = session.first..session.last + 1;
        let Some(found) = events.find_map(|event| self.agent.code(event)) else { return 0 };
        if let Some(code) = self.of_agents.get(&found) {
            return *code;
        }
        let device = AGENTS.as_ref().map(|rules| rules.classify(&self.agent.text(Some(found))));
        let device = device.unwrap_or_default();
        let told = match self.dimension {
            Dimension::Device => device.kind.as_str(),
            Dimension::Os => device.os,
            Dimension::Browser => device.browser,
            Dimension::Channel | Dimension::FirstChannel | Dimension::LastChannel | Dimension::Visit => "",
        };
        let code = if told.is_empty() { 0 } else { self.dictionary.code(ValueRef::String(told)) };
        self.of_agents.insert(found, code);
        code
    }
}
