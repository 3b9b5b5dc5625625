//! Hosts: read off addresses, and looked up in lists.

use std::borrow::Cow;

use hashbrown::HashMap;

use crate::{
    RulesError,
    fault::{Fault, Place, shown},
    limits,
};

/// Second-level labels that belong to a country's ending, as in `.co.uk`. A closed list instead of the public suffix list:
/// it only serves entries such as `google.*`.
const COUNTRY_SECOND: [&str; 11] = ["ac", "co", "com", "edu", "gen", "go", "gob", "ne", "net", "or", "org"];

/// A list of hosts. An entry stands for its host and everything below it; the longest entry wins.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    /// `example.com` as it is; `example.*` as `example.`, which no host looks like.
    entries: HashMap<Box<str>, u16>,
}

impl Hosts {
    /// A tenant's own hosts, as names or as addresses; `www.` before a name is passed over, so that `www.example.com` also
    /// stands for everything below `example.com`.
    ///
    /// # Errors
    /// When one of them is not a host, or there are more than [`limits::HOSTS`].
    pub fn new<T: AsRef<str>>(hosts: impl IntoIterator<Item = T>) -> Result<Self, RulesError> {
        let mut list = Self::default();
        for (at, host) in hosts.into_iter().enumerate() {
            let host = host.as_ref();
            let known = host_of(host).ok_or_else(|| Fault::Host(shown(host)));
            known.and_then(|name| list.insert(&name, 0)).map_err(|fault| fault.at(Place::Host, at + 1))?;
        }
        Ok(list)
    }

    /// Whether a host, in lower case, is in the list or below one that is.
    #[must_use]
    pub fn contains(&self, host: &str) -> bool {
        self.find(host).is_some()
    }

    /// Adds `example.com`, `example.*`, or the bare name `example`.
    pub(crate) fn insert(&mut self, entry: &str, value: u16) -> Result<(), Fault> {
        let stem = entry.strip_suffix(".*").unwrap_or(entry);
        if !is_host(stem) || stem.split('.').count() > limits::LABELS {
            return Err(Fault::Host(shown(entry)));
        }
        let key = entry.strip_suffix('*').unwrap_or(entry);
        if *self.entries.entry(key.into()).or_insert(value) != value {
            return Err(Fault::Taken(shown(entry)));
        }
        Fault::over("hosts", limits::HOSTS, self.entries.len())
    }

    /// What the longest entry for a host in lower case says.
    pub(crate) fn find(&self, host: &str) -> Option<u16> {
        let Some(last) = host.rfind('.') else {
            return self.entries.get(host).or_else(|| self.bare(host)).copied();
        };
        let stem = match host[..last].rfind('.') {
            Some(second) if host.len() - last == 3 && COUNTRY_SECOND.contains(&&host[second + 1..last]) => {
                second + 1
            }
            _ => last + 1,
        };
        // An ending has at most two labels more than the entry that it stands behind.
        let mut start = host.rmatch_indices('.').nth(limits::LABELS + 1).map_or(0, |(dot, _)| dot + 1);
        while let Some(dot) = host[start..].find('.') {
            let stemmed = || self.entries.get(host.get(start..stem)?);
            if let Some(value) = self.entries.get(&host[start..]).or_else(stemmed) {
                return Some(*value);
            }
            start += dot + 1;
        }
        None
    }

    /// `example` is meant by `example.*` too.
    fn bare(&self, name: &str) -> Option<&u16> {
        // Names of sources are short; a longer one is in no list.
        let mut key = [0; limits::NAME_BYTES + 1];
        let key = key.get_mut(..=name.len())?;
        let (dot, start) = key.split_last_mut()?;
        start.copy_from_slice(name.as_bytes());
        *dot = b'.';
        self.entries.get(std::str::from_utf8(key).ok()?)
    }
}

/// The host of an address, in lower case, without port, user, `www.` and the last dot. An address is a URL of any scheme or a bare
/// host with a dot; `None` when it is neither. Nothing is decoded: a host in Unicode and its form in ASCII (`xn--…`,
/// which is what browsers send) are two hosts.
pub(crate) fn host_of(address: &str) -> Option<Cow<'_, str>> {
    let address = address.trim();
    let schemed = address.split_once("://").filter(|(scheme, _)| is_scheme(scheme));
    let rest = schemed.map(|(_, rest)| rest).or_else(|| address.strip_prefix("//"));
    let authority = rest.unwrap_or(address).split(['/', '?', '#', '\\']).next()?;
    let (user, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    if let Some((inside, port)) = place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let good = inside.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
        let named = good && inside.contains(':') && is_port(port.strip_prefix(':').unwrap_or(port));
        return named.then(|| lower(&place[..inside.len() + 2]));
    }
    let (name, port) = place.split_once(':').unwrap_or((place, ""));
    let name = name.strip_suffix('.').unwrap_or(name);
    // Without a scheme, a name without a dot or with a user is a word or an e-mail address.
    let plausible = rest.is_some() || (user.is_empty() && name.contains('.'));
    if !plausible || !is_port(port) || !is_host(name) {
        return None;
    }
    let name = match name.get(..4) {
        Some(www) if www.eq_ignore_ascii_case("www.") && name[4..].contains('.') => &name[4..],
        _ => name,
    };
    Some(lower(name))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_host(name: &str) -> bool {
    let label = |label: &str| (1..=63).contains(&label.len());
    let letter = |c: char| match c.is_ascii() {
        true => c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'),
        false => !c.is_whitespace() && !c.is_control(),
    };
    name.len() <= 253 && name.split('.').all(label) && name.chars().all(letter)
}

/// Lower case letter by letter, so that a part of a text becomes the same part of the result.
pub(crate) fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
        return text.chars().flat_map(char::to_lowercase).collect();
    }
    Cow::Borrowed(text)
}
