//! Static lists: visitors that a tenant names by their ids, as they are now.

use std::{
    collections::HashSet,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

use runnel_contracts::{conversion::chosen_name, refusal::Refusal};
use runnel_journeys::{Loaded, Run};
use runnel_model::{TenantName, limits};
use runnel_storage::Store;

use crate::refusal::unavailable;

/// In a run that has so many times as many visitors as a list, those of the list are looked for; in a shorter one every visitor is looked up.
const LONGER: usize = 8;

/// Visitors by their names.
pub(crate) type Visitors = HashSet<Box<[u8]>>;

/// The versions of the identities and of the erasures: ids stand for the same visitors where both are the same.
type Versions = (u64, u64);

/// The ids on a list, as they were when it was read.
pub struct List {
    ids: Arc<Visitors>,
    /// Tells apart lists with other ids.
    content: u64,
    /// The visitors that the ids stood for when somebody asked last.
    latest: Mutex<Option<(Versions, Arc<Visitors>)>>,
}

impl fmt::Debug for List {
    /// Says what tells lists apart, and no id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "List({} ids, {:x})", self.ids.len(), self.content)
    }
}

/// Checks the name of a list, which stands in `list`.
pub fn name(name: &str) -> Result<(), Refusal> {
    chosen_name("list", "a list", name, limits::LIST_NAME_BYTES)
}

impl List {
    /// Reads a list; `None` when there is none of the name.
    pub async fn read(store: &Store, tenant: &TenantName, list: &str) -> Result<Option<List>, Refusal> {
        // No list has any other name.
        if name(list).is_err() {
            return Ok(None);
        }
        let ids = store.list_members(tenant, list, None, limits::LIST_MEMBERS).await;
        Ok(ids.map_err(|fault| unavailable(&fault))?.map(List::of))
    }

    /// A list of ids, in the order of their bytes.
    fn of(ids: Vec<String>) -> List {
        let mut hasher = DefaultHasher::new();
        ids.hash(&mut hasher);
        let ids = ids.into_iter().map(|id| id.into_bytes().into_boxed_slice());
        List { ids: Arc::new(ids.collect()), content: hasher.finish(), latest: Mutex::new(None) }
    }

    /// The visitors that the ids stand for.
    pub(crate) fn visitors(&self, loaded: &Loaded) -> Arc<Visitors> {
        if loaded.people.is_empty() {
            return self.ids.clone();
        }
        let versions = (loaded.people.version(), loaded.erasure);
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, visitors)) = &*latest
            && *known == versions
        {
            return visitors.clone();
        }
        let visitor = |id: &[u8]| match std::str::from_utf8(id) {
            Ok(id) => loaded.people.visitor(id).as_bytes().into(),
            Err(_) => id.into(),
        };
        let visitors: Arc<Visitors> = Arc::new(self.ids.iter().map(|id| visitor(id)).collect());
        *latest = Some((versions, visitors.clone()));
        visitors
    }

    /// Visitors whom ids stand for in one of two journeys and not in the other. They may have no new events, nor lost any: an id without events may have become theirs.
    pub fn moved(&self, was: &Loaded, is: &Loaded) -> Vec<String> {
        if was.people.version() == is.people.version() {
            return Vec::new();
        }
        let (was, is) = (self.visitors(was), self.visitors(is));
        let moved = was.symmetric_difference(&is);
        moved.map(|visitor| String::from_utf8_lossy(visitor).into_owned()).collect()
    }
}

/// A bit for each visitor of a run who is among these.
pub(crate) fn among(visitors: &Visitors, run: &Run) -> Vec<u64> {
    let mut bits = vec![0; run.visitors.len().div_ceil(64)];
    let mut set = |at: usize| bits[at / 64] |= 1 << (at % 64);
    if visitors.len().saturating_mul(LONGER) < run.visitors.len() {
        visitors.iter().filter_map(|visitor| run.find(visitor)).for_each(set);
    } else {
        (0..run.visitors.len()).filter(|at| visitors.contains(run.visitors.get(*at))).for_each(&mut set);
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(ids: &[&str]) -> List {
        List::of(ids.iter().map(|id| (*id).to_owned()).collect())
    }

    #[test]
    fn lists_are_told_apart_by_their_ids_and_tell_none() {
        let said = |ids: &[&str]| format!("{:?}", list(ids));
        assert_eq!(said(&["ada", "bob"]), said(&["ada", "bob"]));
        for other in [&["ada"][..], &["ada", "bo"], &["ada", "bob", "eve"], &[], &["adabob"]] {
            assert_ne!(said(&["ada", "bob"]), said(other));
        }
        assert!(!said(&["ada", "bob"]).contains("ada"));
    }
}
