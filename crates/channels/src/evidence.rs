//! What is known of a touch, put into the fields that conditions look at.

use std::borrow::Cow;

use crate::{
    Field, Hosts, Rules,
    hosts::{host_of, lower},
};

/// What is known of a session's first contact. Every text may be empty: absent. Texts of any length are read, in time that
/// grows with it; the contract bounds those of a campaign at 256 bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Touch<'a> {
    /// The campaign's source, `utm_source`.
    pub source: &'a str,
    /// The campaign's medium, `utm_medium`.
    pub medium: &'a str,
    /// The campaign's name, `utm_campaign`.
    pub campaign: &'a str,
    /// The paid search term, `utm_term`.
    pub term: &'a str,
    /// Which variant of the ad, `utm_content`.
    pub content: &'a str,
    /// The ad network's campaign identifier, `utm_id`.
    pub campaign_id: &'a str,
    /// The click identifier with its kind, as on the landing page: `gclid=EAIa…`; a colon does as well, and so does the
    /// kind alone. Of a value without its kind only the presence counts.
    pub click_id: &'a str,
    /// The page that the visitor came from: an address of any scheme, or a host.
    pub referrer: &'a str,
    /// The tenant's own hosts. A referrer among them counts as absent.
    pub own_hosts: Option<&'a Hosts>,
}

/// The values of [`Field::ALL`], in that order.
pub(crate) struct Evidence<'a>([Cow<'a, str>; Field::ALL.len()]);

impl<'a> Evidence<'a> {
    pub(crate) fn of(rules: &'a Rules, touch: &Touch<'a>) -> Self {
        let clean = |text: &'a str| {
            let text = lower(text.trim());
            if rules.is_blank(&text) { Cow::Borrowed("") } else { text }
        };
        let mut source = clean(touch.source);
        let mut medium = clean(touch.medium);
        let (kind, value) = touch.click_id.split_once(['=', ':']).unwrap_or((touch.click_id, ""));
        let kind = clean(kind);
        let click = rules.click(&kind);
        let host = host_of(touch.referrer)
            .filter(|host| !touch.own_hosts.is_some_and(|own| own.contains(host)))
            .unwrap_or_default();

        let mut category = rules.category(&source);
        if let Some(click) = click {
            // A tagged medium settles what sort of visit it was: then the identifier says no more than its kind.
            if medium.is_empty() {
                category = category.or_else(|| rules.category(&click.source));
                medium = Cow::Borrowed(&click.medium);
            }
            if source.is_empty() {
                source = Cow::Borrowed(&click.source);
            }
        } else if source.is_empty() && medium.is_empty() && !host.is_empty() {
            category = rules.category(&host);
            source = host.clone();
            medium = Cow::Borrowed(category.and_then(|id| rules.untagged_medium(id)).unwrap_or("referral"));
        }
        let kind = match click {
            Some(click) => click.name.as_ref(),
            None if kind.is_empty() && value.is_empty() => "",
            None => "unknown",
        };
        let category = category.map_or("", |id| rules.category_name(id));
        Self([
            source,
            medium,
            clean(touch.campaign),
            clean(touch.term),
            clean(touch.content),
            clean(touch.campaign_id),
            Cow::Borrowed(kind),
            host,
            Cow::Borrowed(category),
        ])
    }

    /// The value of a field.
    pub(crate) fn get(&self, field: Field) -> &str {
        self.0.get(field as usize).map_or("", AsRef::as_ref)
    }

    /// Whether nothing at all is known.
    pub(crate) fn is_nothing(&self) -> bool {
        self.0.iter().all(|value| value.is_empty())
    }
}
