//! Whose journeys differ between two moments of one tenant.

use std::{cmp::Ordering, sync::Arc};

use runnel_model::is_nobody;

use crate::{
    loaded::{Loaded, Shard, is_set, ones},
    run::Run,
};

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
    let same_base = Arc::ptr_eq(&was.base, &is.base);
    if same_base && Arc::ptr_eq(&was.overlay, &is.overlay) {
        return;
    }
    if !same_base {
        return compare(&all(was), &all(is), &|_| 0, &|_| 0, tell);
    }
    // Whoever is in neither overlay is as the base has it, unless it left.
    let of =
        |shard: &Shard, visitor: &[u8]| shard.in_base(visitor).map_or(0, |at| shard.base.range(at).len());
    compare(&lengths(&was.overlay), &lengths(&is.overlay), &|one| of(was, one), &|one| of(is, one), tell);
    let newly = is
        .superseded
        .iter()
        .enumerate()
        .map(|(at, word)| word & !was.superseded.get(at).copied().unwrap_or(0));
    let newly: Vec<u64> = newly.collect();
    for at in ones(&newly) {
        let visitor = is.base.visitors.get(at);
        if is.overlay.find(visitor).is_none() && was.overlay.find(visitor).is_none() && !is_nobody(visitor) {
            tell(visitor);
        }
    }
}

fn lengths(run: &Run) -> Vec<Length<'_>> {
    (0..run.visitors.len()).map(|at| (run.visitors.get(at), run.range(at).len())).collect()
}

/// Everybody of a shard, in order.
fn all(shard: &Shard) -> Vec<Length<'_>> {
    let base = &shard.base;
    let below = (0..base.visitors.len()).filter(|at| !is_set(&shard.superseded, *at));
    let mut all: Vec<Length<'_>> = below.map(|at| (base.visitors.get(at), base.range(at).len())).collect();
    all.extend(lengths(&shard.overlay));
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
