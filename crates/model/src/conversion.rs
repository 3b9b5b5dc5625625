//! Conversions: what a tenant declares to matter, as rules over the events of a visitor.

use std::collections::BTreeSet;

use crate::{Field, Predicate, Selector, limits};

/// Matches single events by name and condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventMatch {
    /// The event's name; `None` is every event.
    pub event: Option<String>,
    /// What its columns must satisfy.
    pub condition: Option<Predicate>,
}

impl EventMatch {
    /// Every event of a name.
    #[must_use]
    pub fn named(name: &str) -> EventMatch {
        EventMatch { event: Some(name.to_owned()), condition: None }
    }
}

/// When a conversion happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// At every event that matches any of these.
    Event(Vec<EventMatch>),
    /// Once in a session, at the first event at which it has lasted or holds so much.
    Session(SessionThreshold),
    /// At the first event of a session.
    Visit(Visit),
    /// At the first event of a session that has come so far, once for each item.
    Progress {
        /// The events that tell of progress.
        event: EventMatch,
        /// The column that says how far.
        progress: Selector,
        /// How far is enough.
        at_least: f64,
        /// The column that says what is followed; `None`: everything is one item.
        item: Option<Selector>,
    },
}

/// What a session must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionThreshold {
    /// Time since its first event, in milliseconds.
    DurationMs(i64),
    /// Events on the site.
    Events(u32),
    /// Pages.
    Pages(u32),
}

/// Which session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// The visitor's n-th, from 1.
    Number(u32),
    /// Every one that begins at most so long after the end of the one before, in milliseconds.
    ReturningWithinMs(i64),
}

/// Which happenings of a conversion count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// All.
    EveryTime,
    /// The first of each session; what happens outside sessions counts every time.
    OnceASession,
    /// The visitor's first ever.
    OnceAVisitor,
}

/// What one conversion is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Worth {
    /// What its event carries as its value.
    OfEvent,
    /// Always the same, in millionths of the currency's unit.
    Fixed {
        /// Millionths.
        micros: i64,
        /// ISO 4217.
        currency: String,
    },
    /// A number of units in a property.
    OfProperty {
        /// The property.
        property: String,
        /// Of which currency.
        currency: CurrencyOf,
    },
}

/// Where a currency comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CurrencyOf {
    /// It is always this one.
    Fixed(String),
    /// A property of the event.
    Property(String),
}

/// A conversion, as far as counting needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversion {
    /// When it happens.
    pub rule: Rule,
    /// Which happenings count.
    pub counting: Counting,
    /// What one is worth.
    pub worth: Worth,
}

impl Conversion {
    /// Every event that matches.
    #[must_use]
    pub fn of_event(event: EventMatch) -> Conversion {
        Conversion { rule: Rule::Event(vec![event]), counting: Counting::EveryTime, worth: Worth::OfEvent }
    }

    /// The matches, if whether an event counts depends on that event alone.
    #[must_use]
    pub fn events(&self) -> Option<&[EventMatch]> {
        match (&self.rule, self.counting) {
            (Rule::Event(any_of), Counting::EveryTime) => Some(any_of),
            _ => None,
        }
    }

    /// The matches of single events that its rule names.
    #[must_use]
    pub fn matches(&self) -> &[EventMatch] {
        match &self.rule {
            Rule::Event(any_of) => any_of,
            Rule::Progress { event, .. } => std::slice::from_ref(event),
            Rule::Session(_) | Rule::Visit(_) => &[],
        }
    }

    /// Adds every column that tells when it happens.
    pub fn columns(&self, columns: &mut BTreeSet<Selector>) {
        if let Rule::Progress { progress, item, .. } = &self.rule {
            columns.insert(progress.clone());
            columns.extend(item.clone());
        }
        self.matches().iter().for_each(|one| one.columns(columns));
    }

    /// Adds every event name that its rule names.
    pub fn event_names(&self, names: &mut BTreeSet<String>) {
        names.extend(self.matches().iter().filter_map(|one| one.event.clone()));
    }
}

impl EventMatch {
    /// Adds every column that the condition names.
    pub fn columns(&self, columns: &mut BTreeSet<Selector>) {
        if let Some(condition) = &self.condition {
            condition.columns(&mut |selector| columns.extend([selector.clone()]));
        }
    }
}

impl Worth {
    /// The columns of amount and currency, where the worth is not fixed.
    #[must_use]
    pub fn columns(&self) -> (Option<Selector>, Option<Selector>) {
        match self {
            Worth::OfEvent => {
                (Some(Selector::field(Field::ValueMicros)), Some(Selector::field(Field::ValueCurrency)))
            }
            Worth::Fixed { .. } => (None, None),
            Worth::OfProperty { property, currency } => {
                let currency = match currency {
                    CurrencyOf::Fixed(_) => None,
                    CurrencyOf::Property(name) => Some(Selector::property(name)),
                };
                (Some(Selector::property(property)), currency)
            }
        }
    }
}

/// What holds for all answers of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Longest gap inside a session, in milliseconds.
    pub session_gap_ms: i64,
    /// A name of the IANA time zone database.
    pub time_zone: String,
    /// Which events are pages.
    pub pages: Vec<EventMatch>,
    /// The property that says which page.
    pub page_property: String,
    /// Where sessions come from, and on what.
    pub channels: ChannelSettings,
}

/// How the channel and the device of a session are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelSettings {
    /// The property that names the channel itself; what it says is not classified.
    pub channel_property: String,
    /// The property that names the kind of device.
    pub device_property: String,
    /// The property that names the operating system.
    pub os_property: String,
    /// The property that names the browser.
    pub browser_property: String,
    /// The property with the user agent, which tells of all three what was not sent.
    pub user_agent_property: String,
    /// The property with the page that led here.
    pub referrer_property: String,
    /// Hosts of the tenant: who comes from there was here before.
    pub own_hosts: Vec<String>,
    /// Rules that stand before the usual ones, in the form of crates/channels.
    pub rules: String,
}

impl Default for ChannelSettings {
    fn default() -> ChannelSettings {
        ChannelSettings {
            channel_property: "channel".to_owned(),
            device_property: "device".to_owned(),
            os_property: "os".to_owned(),
            browser_property: "browser".to_owned(),
            user_agent_property: "user_agent".to_owned(),
            referrer_property: "referrer".to_owned(),
            own_hosts: Vec::new(),
            rules: String::new(),
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            session_gap_ms: limits::SESSION_GAP_MS,
            time_zone: "UTC".to_owned(),
            pages: ["page_view", "pageview", "$pageview", "page", "screen_view", "Page Viewed"]
                .map(EventMatch::named)
                .into(),
            page_property: "page".to_owned(),
            channels: ChannelSettings::default(),
        }
    }
}
