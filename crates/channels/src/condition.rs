//! What a rule says: its channel, and what must hold.

/// A rule: the channel of every touch for which all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The channel's name, at most 64 bytes. It may be one of a lower layer.
    pub channel: String,
    /// What must hold, all of it: 1 to 16 conditions.
    pub all_of: Vec<Condition>,
}

/// A condition on one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The field.
    pub field: Field,
    /// Whether the condition holds when *no* pattern matches.
    pub negated: bool,
    /// The patterns, 1 to 64. One that matches is enough.
    pub any_of: Vec<Pattern>,
}

/// What a field's value is compared with. Letter case never matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// How it is compared.
    pub shape: Shape,
    /// The text, at most 256 bytes. Empty only with [`Shape::Is`], and then it matches an absent field.
    pub text: String,
}

/// How a pattern is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// The value is the text.
    Is,
    /// The value starts with the text.
    StartsWith,
    /// The value ends with the text.
    EndsWith,
    /// The value contains the text.
    Contains,
    /// The value contains the text at its start or directly after something that is not a letter of ASCII.
    StartsWord,
}

/// The fields of a touch that conditions look at. All are in lower case, without white space around them, and empty when absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// The campaign's source; that of the click identifier, or the referrer's host, where there is none.
    Source,
    /// The campaign's medium; that of the click identifier, or of the referrer's category, where there is none.
    Medium,
    /// The campaign's name.
    Campaign,
    /// The paid search term.
    Term,
    /// Which variant of the ad.
    Content,
    /// The ad network's campaign identifier.
    CampaignId,
    /// The *kind* of the click identifier, for example `gclid`; `unknown` for one that is not in the list.
    ClickId,
    /// The referrer's host without `www.`; empty when it is one of the tenant's own.
    ReferrerHost,
    /// The category of the source in the list of hosts, for example `search`; see [`crate::Rules::classify`].
    SourceCategory,
}

impl Field {
    /// Every field, in the order of their numbers.
    pub const ALL: [Field; 9] = [
        Field::Source,
        Field::Medium,
        Field::Campaign,
        Field::Term,
        Field::Content,
        Field::CampaignId,
        Field::ClickId,
        Field::ReferrerHost,
        Field::SourceCategory,
    ];

    /// The field's name in the text of rules.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Field::Source => "source",
            Field::Medium => "medium",
            Field::Campaign => "campaign",
            Field::Term => "term",
            Field::Content => "content",
            Field::CampaignId => "campaign_id",
            Field::ClickId => "click_id",
            Field::ReferrerHost => "referrer_host",
            Field::SourceCategory => "source_category",
        }
    }
}

impl Condition {
    /// Whether it holds for a value in lower case.
    pub(crate) fn holds(&self, value: &str) -> bool {
        self.any_of.iter().any(|pattern| pattern.matches(value)) != self.negated
    }
}

impl Pattern {
    fn matches(&self, value: &str) -> bool {
        let text = self.text.as_str();
        match self.shape {
            Shape::Is => value == text,
            Shape::StartsWith => value.starts_with(text),
            Shape::EndsWith => value.ends_with(text),
            // On values as short as these faster than what `contains` prepares.
            Shape::Contains => {
                value.as_bytes().windows(text.len().max(1)).any(|part| part == text.as_bytes())
            }
            Shape::StartsWord => value.char_indices().any(|(at, _)| {
                value[at..].starts_with(text) && !value[..at].ends_with(|c: char| c.is_ascii_alphabetic())
            }),
        }
    }
}
