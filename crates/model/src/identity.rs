//! Who is who: which ids are one person. A pure function of all that was ever claimed.
//!
//! An anonymous id belongs to the known id of its earliest identification, by the time given, then by number. An id that anything was identified as or merged
//! with is a known one, and no identification moves it: a device that two persons use does not join them. Known ids are joined by merges only, in the order
//! of their numbers; the name of what was merged into is the name of both.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::Dictionary;

/// Something that was said about two ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The tenant's number of it, from 1.
    pub number: u64,
    /// What was said.
    pub kind: ClaimKind,
    /// The anonymous id, or what was merged.
    pub id: String,
    /// The known id, or what it was merged into.
    pub belongs_to: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
}

/// What a claim says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimKind {
    /// An anonymous id belongs to a known one.
    Identify,
    /// Two known ids are one person.
    Merge,
}

/// What further claims changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Journeys of these visitors are parts of others now: from, to. Each visitor stands once, and `to` is its name after all of the claims.
    Joined(Vec<(String, String)>),
    /// Ids left visitors that they belonged to: journeys have to be told apart again.
    Parted,
}

/// How an identification stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the one that counts.
    Linked,
    /// The anonymous id belongs to another known one.
    Taken,
    /// The anonymous id is a known one.
    Known,
}

/// Who is who, after some claims. Clones are cheap: what was known for long is shared.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    version: u64,
    base: Arc<Layer>,
    /// Ids that the base does not have; they are numbered behind its own.
    recent: Layer,
    /// Ids of the base that stand otherwise since.
    changed: HashMap<u32, Node>,
}

#[derive(Clone, Debug, Default)]
struct Layer {
    ids: Dictionary,
    nodes: Vec<Node>,
}

/// What is known of an id. Merged ids form trees, of which the smaller is hung below the larger, so that no way up is long.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// The known id of the earliest identification.
    link: Option<u32>,
    /// Its time and number.
    since: (i64, u64),
    /// Whether it is a known id.
    known: bool,
    /// The next id up the tree.
    up: Option<u32>,
    /// At the top of a tree: whose name it bears, and how many ids it has.
    name: u32,
    size: u32,
}

/// Ids are folded into the base when there are more than this, and than a share of the base.
const FOLDED: usize = 4_096;
const FOLDED_SHARE: usize = 16;

impl Identities {
    /// The number of the newest claim; 0 before the first.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The visitor that an id counts as: itself, or another one's name.
    #[must_use]
    pub fn visitor<'a>(&'a self, id: &'a str) -> &'a str {
        match self.find(id) {
            Some(at) => self.id(self.visitor_of(at)),
            None => id,
        }
    }

    /// As [`Identities::visitor`], `None` for an id that counts as itself.
    #[must_use]
    pub fn moved(&self, id: &str) -> Option<&str> {
        let at = self.find(id)?;
        let visitor = self.visitor_of(at);
        (visitor != at).then(|| self.id(visitor))
    }

    /// Whether there are no claims.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.version == 0
    }

    /// How an identification stands. `None` when it was never claimed.
    #[must_use]
    pub fn standing(&self, anonymous: &str, known: &str) -> Option<Standing> {
        let node = self.node(self.find(anonymous)?);
        let link = node.link?;
        Some(match (node.known, self.id(link) == known) {
            (true, _) => Standing::Known,
            (false, true) => Standing::Linked,
            (false, false) => Standing::Taken,
        })
    }

    /// The known id that an anonymous one belongs to, and since when.
    #[must_use]
    pub fn link(&self, id: &str) -> Option<(&str, i64)> {
        let node = self.node(self.find(id)?);
        node.link.filter(|_| !node.known).map(|link| (self.id(link), node.since.0))
    }

    /// Whether something was identified as this id, or merged with it.
    #[must_use]
    pub fn is_known(&self, id: &str) -> bool {
        self.find(id).is_some_and(|at| self.node(at).known)
    }

    /// Adds claims, in the order of their numbers. What the journeys have to do for it.
    pub fn add<'a>(&mut self, claims: impl IntoIterator<Item = &'a Claim>) -> Change {
        let (mut moved, mut parted) = (Vec::new(), false);
        for claim in claims {
            self.version = self.version.max(claim.number);
            let (id, belongs_to) = (self.intern(&claim.id), self.intern(&claim.belongs_to));
            if id == belongs_to {
                continue;
            }
            parted |= self.becomes_known(belongs_to);
            match claim.kind {
                ClaimKind::Identify => {
                    let node = self.node(id);
                    let since = (claim.at_ms, claim.number);
                    if node.link.is_some() && node.since <= since {
                        continue;
                    }
                    self.set(id, Node { link: Some(belongs_to), since, ..node });
                    match node.link {
                        _ if node.known => {}
                        None => moved.push(id),
                        Some(before) => parted |= before != belongs_to,
                    }
                }
                ClaimKind::Merge => {
                    parted |= self.becomes_known(id);
                    moved.extend(self.unite(id, belongs_to));
                }
            }
        }
        self.fold();
        if parted {
            return Change::Parted;
        }
        moved.sort_unstable();
        moved.dedup();
        let joined = moved.into_iter().filter_map(|at| {
            let visitor = self.visitor_of(at);
            (visitor != at).then(|| (self.id(at).to_owned(), self.id(visitor).to_owned()))
        });
        Change::Joined(joined.collect())
    }

    /// Ids that are one visitor, whose name is given; the name is among them if something was said of it.
    pub fn of_visitor(&self, visitor: &str) -> impl Iterator<Item = &str> {
        let named = self.find(visitor).map(|at| self.visitor_of(at));
        let all = 0..(self.base.nodes.len() + self.recent.nodes.len()) as u32;
        all.filter(move |at| Some(self.visitor_of(*at)) == named).map(|at| self.id(at))
    }

    /// Notes that no claims are left that are numbered above those that are known, up to a number.
    pub fn reach(&mut self, version: u64) {
        self.version = self.version.max(version);
    }

    /// Bytes held in memory, approximately; what clones share is counted in each.
    #[must_use]
    pub fn memory(&self) -> usize {
        let layer = |layer: &Layer| layer.ids.memory() + layer.nodes.capacity() * size_of::<Node>();
        layer(&self.base) + layer(&self.recent) + self.changed.capacity() * (size_of::<Node>() + 8)
    }

    /// Notes that an id is a known one. Whether it leaves somebody with that.
    fn becomes_known(&mut self, at: u32) -> bool {
        let node = self.node(at);
        if node.known {
            return false;
        }
        self.set(at, Node { known: true, ..node });
        node.link.is_some()
    }

    /// Joins two trees under the name of the second. The visitor that is none any more, if they were two.
    fn unite(&mut self, from: u32, into: u32) -> Option<u32> {
        let (from, into) = (self.top(from), self.top(into));
        if from == into {
            return None;
        }
        let (lower, upper) = (self.node(from), self.node(into));
        let size = lower.size.saturating_add(upper.size);
        let (below, above) = if lower.size > upper.size { (into, from) } else { (from, into) };
        self.set(below, Node { up: Some(above), ..self.node(below) });
        self.set(above, Node { name: upper.name, size, ..self.node(above) });
        Some(lower.name)
    }

    fn visitor_of(&self, at: u32) -> u32 {
        let node = self.node(at);
        let start = node.link.filter(|_| !node.known).unwrap_or(at);
        self.node(self.top(start)).name
    }

    fn top(&self, mut at: u32) -> u32 {
        while let Some(up) = self.node(at).up {
            at = up;
        }
        at
    }

    fn find(&self, id: &str) -> Option<u32> {
        let before = self.base.nodes.len() as u32;
        self.base.ids.find(id).or_else(|| self.recent.ids.find(id).map(|at| before + at))
    }

    fn intern(&mut self, id: &str) -> u32 {
        if let Some(known) = self.base.ids.find(id) {
            return known;
        }
        let before = self.base.nodes.len() as u32;
        let at = self.recent.ids.intern(id);
        if at as usize == self.recent.nodes.len() {
            self.recent.nodes.push(Node {
                link: None,
                since: (0, 0),
                known: false,
                up: None,
                name: before + at,
                size: 1,
            });
        }
        before + at
    }

    fn id(&self, at: u32) -> &str {
        match (at as usize).checked_sub(self.base.nodes.len()) {
            None => self.base.ids.get(at),
            Some(recent) => self.recent.ids.get(recent as u32),
        }
    }

    fn node(&self, at: u32) -> Node {
        match (at as usize).checked_sub(self.base.nodes.len()) {
            None => self.changed.get(&at).copied().unwrap_or(self.base.nodes[at as usize]),
            Some(recent) => self.recent.nodes[recent],
        }
    }

    fn set(&mut self, at: u32, node: Node) {
        match (at as usize).checked_sub(self.base.nodes.len()) {
            None => drop(self.changed.insert(at, node)),
            Some(recent) => self.recent.nodes[recent] = node,
        }
    }

    /// Makes one layer of both when the upper one has grown.
    fn fold(&mut self) {
        let above = self.recent.nodes.len() + self.changed.len();
        if above <= FOLDED.max(self.base.nodes.len() / FOLDED_SHARE) {
            return;
        }
        let base = Arc::make_mut(&mut self.base);
        for (at, node) in self.changed.drain() {
            base.nodes[at as usize] = node;
        }
        let recent = std::mem::take(&mut self.recent);
        base.nodes.extend(recent.nodes);
        for id in recent.ids.iter() {
            base.ids.intern(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn claim(number: u64, kind: ClaimKind, id: u64, belongs_to: u64, at_ms: i64) -> Claim {
        Claim { number, kind, id: format!("v{id}"), belongs_to: format!("v{belongs_to}"), at_ms }
    }

    /// The rule as it is written, from all claims at once.
    fn slow(claims: &[Claim]) -> BTreeMap<String, String> {
        let real: Vec<&Claim> = claims.iter().filter(|claim| claim.id != claim.belongs_to).collect();
        let mut known = BTreeSet::new();
        for claim in &real {
            known.insert(&claim.belongs_to);
            if claim.kind == ClaimKind::Merge {
                known.insert(&claim.id);
            }
        }
        let ids: BTreeSet<&String> = claims.iter().flat_map(|claim| [&claim.id, &claim.belongs_to]).collect();
        let mut names: BTreeMap<&String, &String> = ids.iter().map(|id| (*id, *id)).collect();
        for claim in real.iter().filter(|claim| claim.kind == ClaimKind::Merge) {
            let (from, into) = (names[&claim.id], names[&claim.belongs_to]);
            names.values_mut().filter(|name| **name == from).for_each(|name| *name = into);
        }
        let visitor = |id: &String| {
            let own = real.iter().filter(|claim| claim.kind == ClaimKind::Identify && claim.id == *id);
            let earliest = own.min_by_key(|claim| (claim.at_ms, claim.number));
            match earliest.filter(|_| !known.contains(id)) {
                Some(claim) => names[&claim.belongs_to].clone(),
                None => names[id].clone(),
            }
        };
        ids.iter().map(|id| ((*id).clone(), visitor(id))).collect()
    }

    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % sides
        }
    }

    #[test]
    fn claims_one_by_one_are_all_claims_at_once_and_say_what_they_change() {
        let (mut joins, mut partings) = (0, 0);
        for seed in 0..3_000 {
            let mut dice = Dice(seed);
            let (ids, length) = (3 + dice.roll(12), 1 + dice.roll(25));
            let merges = dice.roll(5);
            let mut claims = Vec::new();
            let mut fast = Identities::default();
            let mut before = BTreeMap::new();
            while (claims.len() as u64) < length {
                let some = 1 + dice.roll(3);
                let from = claims.len();
                for _ in 0..some {
                    let kind = if dice.roll(10) < merges { ClaimKind::Merge } else { ClaimKind::Identify };
                    let number = claims.len() as u64 + 1;
                    let at_ms = dice.roll(20) as i64;
                    claims.push(claim(number, kind, dice.roll(ids), dice.roll(ids), at_ms));
                }
                let change = fast.add(&claims[from..]);
                let after = slow(&claims);
                for (id, visitor) in &after {
                    assert_eq!(fast.visitor(id), visitor, "seed {seed}: {claims:?}");
                    assert_eq!(fast.moved(id).unwrap_or(id), visitor);
                }
                assert_eq!(fast.version(), claims.len() as u64);
                match change {
                    Change::Parted => partings += 1,
                    Change::Joined(joined) => {
                        joins += joined.len();
                        let joined: BTreeMap<String, String> = joined.into_iter().collect();
                        // Whole visitors moved, and nobody else.
                        for (id, visitor) in &after {
                            let was = before.get(id).unwrap_or(id);
                            assert_eq!(joined.get(was).unwrap_or(was), visitor, "seed {seed}: {claims:?}");
                        }
                    }
                }
                before = after;
            }
        }
        assert!(joins > 1_000 && partings > 1_000, "{joins} joins, {partings} partings");
    }

    #[test]
    fn the_order_in_which_identifications_arrive_changes_nothing() {
        for seed in 0..500 {
            let mut dice = Dice(seed);
            let mut claims: Vec<Claim> = (0..10)
                .map(|at| claim(at + 1, ClaimKind::Identify, dice.roll(6), dice.roll(6), at as i64))
                .collect();
            let first = slow(&claims);
            for at in (1..claims.len()).rev() {
                claims.swap(at, dice.roll(at as u64 + 1) as usize);
            }
            for (claim, number) in claims.iter_mut().zip(1..) {
                claim.number = number;
            }
            let mut again = Identities::default();
            drop(again.add(&claims));
            first.iter().for_each(|(id, visitor)| assert_eq!(again.visitor(id), visitor));
        }
    }

    #[test]
    fn a_shared_device_does_not_join_two_persons() {
        let mut identities = Identities::default();
        let identify = |number, id: &str, belongs_to: &str, at_ms| Claim {
            number,
            kind: ClaimKind::Identify,
            id: id.into(),
            belongs_to: belongs_to.into(),
            at_ms,
        };
        let joined = identities.add(&[identify(1, "cookie", "anna", 10), identify(2, "cookie", "ben", 20)]);
        assert_eq!(joined, Change::Joined(vec![("cookie".into(), "anna".into())]));
        assert_eq!((identities.visitor("cookie"), identities.visitor("ben")), ("anna", "ben"));
        assert_eq!(identities.standing("cookie", "ben"), Some(Standing::Taken));
        assert_eq!(identities.link("cookie"), Some(("anna", 10)));
        // An earlier one that comes late.
        assert_eq!(identities.add(&[identify(3, "cookie", "ben", 5)]), Change::Parted);
        assert_eq!(identities.visitor("cookie"), "ben");
        // A known id is no anonymous one.
        assert_eq!(identities.add(&[identify(4, "anna", "ben", 1)]), Change::Joined(Vec::new()));
        assert_eq!(identities.standing("anna", "ben"), Some(Standing::Known));
        assert_eq!(identities.visitor("anna"), "anna");
    }

    #[test]
    fn layers_are_folded_and_old_clones_stay_as_they_are() {
        let (people, mut identities, mut clones) = (20_000u64, Identities::default(), Vec::new());
        for number in 1..=people {
            let kind = if number % 5 == 0 { ClaimKind::Merge } else { ClaimKind::Identify };
            let (id, belongs_to) = match kind {
                ClaimKind::Identify => (1_000_000 + number, number),
                ClaimKind::Merge => (number - 1, number - 2),
            };
            drop(identities.add([&claim(number, kind, id, belongs_to, 0)]));
            if number % 3_000 == 0 {
                clones.push(identities.clone());
            }
        }
        assert!(!identities.base.nodes.is_empty());
        assert_eq!(identities.visitor("v1000004"), "v3");
        for (clone, number) in clones.iter().zip((3_000..).step_by(3_000)) {
            assert_eq!(clone.version(), number);
            let next = format!("v{}", 1_000_000 + number + 1);
            assert_eq!(clone.moved(&next), None);
            assert!(identities.moved(&next).is_some());
        }
    }
}
