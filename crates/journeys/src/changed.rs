//! Whose journeys differ between two moments of one tenant.

use std::{cmp::Ordering, sync::Arc};

use runnel_model::is_nobody;

use crate::loaded::{Level, Loaded, Shard, ones};

/// A visitor, and how many events it has.
type Length<'a> = (&'a [u8], usize);

impl Loaded {
    /// Visitors whose journeys are others than they were, in no certain order: those who have more events, are somebody else's now, or became somebody. `None`: these
    /// journeys were not made of the earlier ones, and anybody's may differ.
    #[must_use]
    pub fn changed_since(&self, earlier: &Loaded) -> Option<Vec<String>> {
        // Whoever loads anew has names of its own; whoever brings journeys up to date only adds.
        if !Arc::ptr_eq(&self.names, &earlier.names) || self.kept_from_ms != earlier.kept_from_ms {
            return None;
        }
        let mut changed = Vec::new();
        for (was, is) in earlier.shards.iter().zip(&self.shards) {
            differing(was, is, &mut |visitor| changed.push(String::from_utf8_lossy(visitor).into_owned()));
        }
        Some(changed)
    }
}

/// Tells of every visitor of a shard who has more or fewer events than before.
fn differing(was: &Shard, is: &Shard, tell: &mut impl FnMut(&[u8])) {
    let pairs = was.levels.iter().zip(&is.levels);
    let same = pairs.take_while(|(was, is)| Arc::ptr_eq(&was.run, &is.run)).count();
    // Whoever is in no other level is as these have it, unless it left.
    let of = |shard: &Shard, visitor: &[u8]| {
        let mut levels = shard.levels[..same].iter();
        levels.find_map(|level| Some(level.run.range(level.find(visitor)?).len())).unwrap_or(0)
    };
    let (had, has) = (lengths(&was.levels[same..]), lengths(&is.levels[same..]));
    compare(&had, &has, &|one| of(was, one), &|one| of(is, one), tell);
    for (was, is) in was.levels.iter().zip(&is.levels).take(same) {
        let before = was.superseded.iter().chain(std::iter::repeat(&0));
        let newly: Vec<u64> = is.superseded.iter().zip(before).map(|(word, before)| word & !before).collect();
        for at in ones(&newly) {
            let visitor = is.run.visitors.get(at);
            let is_in = |lengths: &[Length<'_>]| lengths.binary_search_by_key(&visitor, |one| one.0).is_ok();
            if !is_in(&had) && !is_in(&has) && !is_nobody(visitor) {
                tell(visitor);
            }
        }
    }
}

/// Everybody of some levels, in order.
fn lengths(levels: &[Level]) -> Vec<Length<'_>> {
    let mut all = Vec::new();
    for level in levels {
        let run = &level.run;
        all.extend(level.visitors().map(|at| (run.visitors.get(at), run.range(at).len())));
    }
    all.sort();
    all
}

/// Walks two lists in order; whoever is missing in one has there as many events as is said of it.
fn compare(
    was: &[Length<'_>],
    is: &[Length<'_>],
    was_else: &impl Fn(&[u8]) -> usize,
    is_else: &impl Fn(&[u8]) -> usize,
    tell: &mut impl FnMut(&[u8]),
) {
    let (mut left, mut right) = (was.iter().peekable(), is.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => left.0.cmp(right.0),
        };
        let before = left.next_if(|_| order != Ordering::Greater);
        let after = right.next_if(|_| order != Ordering::Less);
        let Some((visitor, _)) = before.or(after) else { return };
        let lengths = (
            before.map_or_else(|| was_else(visitor), |(_, events)| *events),
            after.map_or_else(|| is_else(visitor), |(_, events)| *events),
        );
        if lengths.0 != lengths.1 && !is_nobody(visitor) {
            tell(visitor);
        }
    }
}
