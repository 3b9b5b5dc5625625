//! Tags and click identifiers, read off a landing page's query.

use crate::{Rules, Touch, limits};

/// What a landing page's query says about where the visit came from. Empty texts were absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Landing {
    /// `utm_source`.
    pub source: String,
    /// `utm_medium`.
    pub medium: String,
    /// `utm_campaign`.
    pub campaign: String,
    /// `utm_term`.
    pub term: String,
    /// `utm_content`.
    pub content: String,
    /// `utm_id`.
    pub campaign_id: String,
    /// The click identifier with its kind: `gclid=EAIa…`; only the kind when the whole would be over 256 bytes, because
    /// a part of an identifier identifies nothing.
    pub click_id: String,
}

impl Landing {
    /// The touch of which this is all that is known.
    #[must_use]
    pub fn touch(&self) -> Touch<'_> {
        Touch {
            source: &self.source,
            medium: &self.medium,
            campaign: &self.campaign,
            term: &self.term,
            content: &self.content,
            campaign_id: &self.campaign_id,
            click_id: &self.click_id,
            ..Touch::default()
        }
    }
}

impl Rules {
    /// Reads a query, with or without its question mark. Names are compared without case; of a name that comes twice the first
    /// value that is not empty counts; of several click identifiers, the one that stands first in the rules. A value of
    /// over 256 bytes is left out. At most 8 KiB and 256 parameters are looked at. What is not decodable stays as it is; bytes that are
    /// not UTF-8 become U+FFFD; control characters are dropped.
    #[must_use]
    pub fn landing(&self, query: &str) -> Landing {
        let query = query.trim();
        let query = query.strip_prefix('?').unwrap_or(query);
        let query = query.split('#').next().unwrap_or_default();
        let query = match query.get(..query.floor_char_boundary(limits::QUERY_BYTES)) {
            // The last parameter may be cut: it goes.
            Some(start) if start.len() < query.len() => start.rsplit_once('&').map_or("", |(whole, _)| whole),
            _ => query,
        };
        let mut landing = Landing::default();
        let mut best = None;
        for parameter in query.split('&').take(limits::PARAMETERS) {
            let Some((name, value)) = parameter.split_once('=') else { continue };
            let mut name = decoded(name);
            name.make_ascii_lowercase();
            // Links out of carelessly written pages carry `&amp;`.
            let name = name.strip_prefix("amp;").unwrap_or(&name);
            let tag = match name {
                "utm_source" => &mut landing.source,
                "utm_medium" => &mut landing.medium,
                "utm_campaign" => &mut landing.campaign,
                "utm_term" => &mut landing.term,
                "utm_content" => &mut landing.content,
                "utm_id" => &mut landing.campaign_id,
                _ => {
                    if let Some((rank, click)) = self.click_rank(name)
                        && !value.is_empty()
                        && best.is_none_or(|best| rank < best)
                    {
                        best = Some(rank);
                        landing.click_id = format!("{}={}", click.name, decoded(value));
                        if landing.click_id.len() > limits::VALUE_BYTES {
                            landing.click_id = click.name.to_string();
                        }
                    }
                    continue;
                }
            };
            if tag.is_empty() {
                let value = decoded(value);
                if value.len() <= limits::VALUE_BYTES {
                    *tag = value;
                }
            }
        }
        landing
    }
}

/// A part of a query without its encoding: `%41` is `A`, `+` is a space.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut ahead = rest.clone();
        let byte = match byte {
            b'+' => b' ',
            b'%' => match (ahead.next().and_then(hex), ahead.next().and_then(hex)) {
                (Some(high), Some(low)) => {
                    rest = ahead;
                    high << 4 | low
                }
                _ => b'%',
            },
            _ => byte,
        };
        bytes.push(byte);
    }
    String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).collect()
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
