//! From one moment of a tenant's journeys to a later one: what changed for what is watched.
//!
//! A change is how a visitor stands after, less how it stood before, each as the batch answer has it. Whoever cannot have changed is not looked at: nothing new is
//! known of it, and its turn has not come. Where that cannot be told, everybody is looked at. So changes add up to the batch answer, whatever happens in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rayon::prelude::*;
use runnel_contracts::{proto::segmentation::v1::ChangeCause as Cause, refusal::Refusal};
use runnel_definitions::refusal::counting;
use runnel_journeys::{CountError, Loaded, off_site};
use runnel_model::{Selector, is_nobody};

use super::{
    due::{Due, Turn},
    topic::CHANGES,
    what::{Brought, Standing, Stands, Tally, What},
};

/// A longer time than this, in milliseconds, is gone through in parts, so that what was so in between is told.
const WHOLE_MS: i64 = 1_000;
/// Into so many.
const PARTS: i64 = 64;
/// Visitors that a computing thread looks at at a time.
const LOOKED: usize = 512;

/// Journeys as of an instant.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub(super) loaded: Arc<Loaded>,
    /// In milliseconds since the Unix epoch.
    pub(super) as_of_ms: i64,
}

/// A unit stands otherwise than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) visitor: Arc<str>,
    pub(super) before: Option<Standing>,
    pub(super) after: Option<Standing>,
    pub(super) cause: Cause,
    /// As of when it was found, in milliseconds since the Unix epoch.
    pub(super) at_ms: i64,
    /// What is at stake after it, where that is asked for: currency and millionths.
    pub(super) value: Option<(String, i64)>,
}

/// What is watched, as it was understood before and as it is now.
pub(super) struct Watched<'a> {
    pub(super) was: &'a What,
    pub(super) is: &'a What,
    /// Whether the two are not the same.
    pub(super) redefined: bool,
    /// Counts, which are brought up to date.
    pub(super) tally: &'a mut Tally,
}

/// Goes from one moment to another. For each that is watched its changes, in order, or why it cannot be told any more. Of more than [`CHANGES`], which nobody is told,
/// hardly more than that are there.
pub(super) fn advance(
    from: &Moment,
    to: &Moment,
    watched: &mut [Watched<'_>],
    due: &mut Due,
) -> Result<Vec<Result<Vec<Change>, Refusal>>, Refusal> {
    let failed = |fault: CountError| counting(&fault);
    let mut told: Vec<Result<Vec<Change>, Refusal>> = watched.iter().map(|_| Ok(Vec::new())).collect();
    let redefined = watched.iter().any(|one| one.redefined);
    // Journeys may have columns that only others ask for.
    let wanted = watched.iter().flat_map(|one| one.was.selectors().chain(one.is.selectors()));
    let wanted: BTreeSet<Selector> = wanted.chain([off_site()]).collect();
    let changed = if redefined { None } else { to.loaded.changed_since(&from.loaded) };
    if changed.is_none() {
        due.forget();
    }
    due.reach(&to.loaded, from.as_of_ms, to.as_of_ms).map_err(failed)?;
    // Where everybody is looked at, they are as well.
    let on_lists = match changed {
        Some(_) => watched.iter().flat_map(|one| one.is.moved_on_lists(&from.loaded, &to.loaded)).collect(),
        None => BTreeSet::new(),
    };
    let mut before = from.clone();
    for as_of_ms in instants(from.as_of_ms, to.as_of_ms) {
        let after = Moment { loaded: to.loaded.clone(), as_of_ms };
        let first = before.as_of_ms == from.as_of_ms && Arc::ptr_eq(&before.loaded, &from.loaded);
        let mut visitors = BTreeSet::new();
        due.take(as_of_ms, &mut visitors);
        let everybody = first && changed.is_none();
        if first {
            let moved = changed.iter().flatten().chain(&on_lists);
            visitors.extend(moved.map(|id| id.clone().into_boxed_str()));
        }
        let visitors: Vec<Box<str>> = visitors.into_iter().collect();
        if everybody {
            let is = alone(&after, &visitors, &wanted);
            due.add(due.turns(&is.loaded, as_of_ms).map_err(failed)?);
            for (one, told) in watched.iter_mut().zip(&mut told) {
                let Ok(changes) = told else { continue };
                let known = if first { one.was } else { one.is };
                let redefined = first && one.redefined;
                let cause = |visitor: &str| cause(visitor, &before, &after, redefined);
                if let Err(refusal) = all(known, one, (&before, &after), &cause, changes) {
                    *told = Err(refusal);
                }
            }
        } else if !visitors.is_empty() {
            let known = watched
                .iter()
                .zip(&told)
                .map(|(one, told)| told.is_ok().then_some((if first { one.was } else { one.is }, one.is)));
            let known: Vec<Option<(&What, &What)>> = known.collect();
            let look = |some: &[Box<str>]| look(some, (&before, &after), &known, &wanted, due);
            let looked: Result<Vec<Looked>, Refusal> = visitors.par_chunks(LOOKED).map(look).collect();
            let cause = |visitor: &str| match cause(visitor, &before, &after, false) {
                Cause::Time if first && on_lists.contains(visitor) => Cause::Identity,
                other => other,
            };
            for (some, Looked { turns, differing }) in visitors.chunks(LOOKED).zip(looked?) {
                due.add(turns);
                for ((one, told), differing) in watched.iter_mut().zip(&mut told).zip(differing) {
                    let (Ok(changes), Some(differing)) = (told.as_mut(), differing) else { continue };
                    match differing {
                        Err(refusal) => *told = Err(refusal),
                        Ok(differing) => {
                            for (at, before, after) in differing {
                                one.tally.change(&before, &after);
                                tell(&some[at], (&before, &after), as_of_ms, &cause, changes);
                            }
                        }
                    }
                }
            }
        }
        before = after;
    }
    for (one, told) in watched.iter().zip(&mut told) {
        let told = told.iter_mut().filter(|changes| changes.len() <= CHANGES);
        told.for_each(|changes| one.is.price(&to.loaded, changes));
    }
    Ok(told)
}

/// The instants at which is looked, up to the last.
fn instants(from_ms: i64, until_ms: i64) -> Vec<i64> {
    let length = until_ms.saturating_sub(from_ms);
    if length <= WHOLE_MS {
        return vec![until_ms];
    }
    (1..=PARTS).map(|part| from_ms + length / PARTS * part + length % PARTS * part / PARTS).collect()
}

/// The journeys of some visitors alone, with the columns that are looked at.
fn alone(moment: &Moment, visitors: &[Box<str>], wanted: &BTreeSet<Selector>) -> Moment {
    let loaded = moment.loaded.alone(visitors.iter().map(|id| &**id), |column| wanted.contains(column));
    Moment { loaded: Arc::new(loaded), as_of_ms: moment.as_of_ms }
}

/// A visitor, by position, with how it stood and how it stands.
type Differing = (usize, Stands, Stands);

/// What looking at some visitors came to.
struct Looked {
    turns: Vec<Turn>,
    /// Who stands otherwise, for each that is watched and looked at.
    differing: Vec<Option<Result<Vec<Differing>, Refusal>>>,
}

/// Looks at some visitors, for each that is watched as it was understood and as it is.
fn look(
    some: &[Box<str>],
    (before, after): (&Moment, &Moment),
    known: &[Option<(&What, &What)>],
    wanted: &BTreeSet<Selector>,
    due: &Due,
) -> Result<Looked, Refusal> {
    let (was, is) = (alone(before, some, wanted), alone(after, some, wanted));
    let stand = |what: &What, moment: &Moment| {
        let brought = what.before(&moment.loaded, moment.as_of_ms)?;
        brought.stand(moment.loaded.shards[0].base(), None).map_err(|fault| counting(&fault))
    };
    let differing = known.iter().map(|known| {
        let (knew, knows) = (*known)?;
        let stands = stand(knew, &was).and_then(|before| Ok((before, stand(knows, &is)?)));
        Some(stands.map(|(before, after)| before.differing(&after)))
    });
    let differing = differing.collect();
    let turns = due.turns(&is.loaded, after.as_of_ms).map_err(|fault| counting(&fault))?;
    Ok(Looked { turns, differing })
}

/// Looks at everybody, and counts anew.
fn all(
    known: &What,
    one: &mut Watched<'_>,
    (was, is): (&Moment, &Moment),
    cause: &(impl Fn(&str) -> Cause + Sync),
    changes: &mut Vec<Change>,
) -> Result<(), Refusal> {
    let brought = (known.before(&was.loaded, was.as_of_ms)?, one.is.before(&is.loaded, is.as_of_ms)?);
    let failed = |fault: CountError| counting(&fault);
    let found = AtomicUsize::new(changes.len());
    let shards = (0..was.loaded.shards.len()).into_par_iter().map(|shard| {
        let before = of_shard(&brought.0, was, shard)?;
        let after = of_shard(&brought.1, is, shard)?;
        let visitors: BTreeSet<&str> = before.keys().chain(after.keys()).map(String::as_str).collect();
        let (nowhere, mut changes) = (Stands::default(), Vec::new());
        for visitor in visitors {
            if found.load(Ordering::Relaxed) > CHANGES {
                break;
            }
            let known = changes.len();
            let stands = (before.get(visitor).unwrap_or(&nowhere), after.get(visitor).unwrap_or(&nowhere));
            tell(visitor, stands, is.as_of_ms, cause, &mut changes);
            found.fetch_add(changes.len() - known, Ordering::Relaxed);
        }
        Ok(changes)
    });
    let told: Vec<Vec<Change>> = shards.collect::<Result<_, CountError>>().map_err(failed)?;
    changes.extend(told.into_iter().flatten());
    *one.tally = brought.1.count(&is.loaded).map_err(failed)?;
    Ok(())
}

/// How the visitors of a shard stand, of those who stand anywhere.
pub(super) fn of_shard(
    brought: &Brought,
    moment: &Moment,
    shard: usize,
) -> Result<BTreeMap<String, Stands>, CountError> {
    let mut all = BTreeMap::new();
    for (run, skip) in moment.loaded.shards[shard].runs() {
        let standings = brought.stand(run, skip)?;
        all.extend(standings.anywhere().filter_map(|(at, stands)| {
            let visitor = run.visitors.get(at);
            (!is_nobody(visitor)).then(|| (String::from_utf8_lossy(visitor).into_owned(), stands))
        }));
    }
    Ok(all)
}

/// Tells which units of a visitor stand otherwise. One before and one after are the same unit; of several, those that entered at the same instant are.
fn tell(
    visitor: &str,
    (before, after): (&Stands, &Stands),
    at_ms: i64,
    cause: &impl Fn(&str) -> Cause,
    changes: &mut Vec<Change>,
) {
    if before.units == after.units || changes.len() > CHANGES {
        return;
    }
    let (mut gone, mut come) = (before.units.clone(), after.units.clone());
    gone.retain(|unit| match come.iter().position(|other| other == unit) {
        Some(same) => {
            come.remove(same);
            false
        }
        None => true,
    });
    let (visitor, cause) = (Arc::<str>::from(visitor), cause(visitor));
    let mut change = |before, after| {
        changes.push(Change { visitor: visitor.clone(), before, after, cause, at_ms, value: None });
    };
    let alone = before.units.len() <= 1 && after.units.len() <= 1;
    for unit in gone {
        let same = come.iter().position(|other| alone || other.entered_ms() == unit.entered_ms());
        change(Some(unit), same.map(|same| come.remove(same)));
    }
    come.into_iter().for_each(|unit| change(None, Some(unit)));
}

/// Why a visitor stands otherwise.
fn cause(visitor: &str, before: &Moment, after: &Moment, redefined: bool) -> Cause {
    if redefined {
        // Erasures take ids off lists, of which definitions are made.
        let (known, knows) = (&before.loaded, &after.loaded);
        let erased = known.erasure != knows.erasure && known.kept_from_ms == knows.kept_from_ms;
        let is_gone = erased && knows.place(visitor).is_none();
        return if is_gone { Cause::Erasure } else { Cause::Definition };
    }
    let existing = |moment: &Moment| -> Vec<i64> {
        let found = moment.loaded.place(visitor).into_iter();
        let times = found.flat_map(|(run, at)| run.range(at).map(|event| run.time(event)));
        times.take_while(|time_ms| *time_ms < moment.as_of_ms).collect()
    };
    let (had, has) = (existing(before), existing(after));
    // What is new came behind all that was known.
    if has.starts_with(&had) {
        return if has.len() == had.len() { Cause::Time } else { Cause::Event };
    }
    let (known, knows) = (&before.loaded, &after.loaded);
    if known.people.version() != knows.people.version() {
        Cause::Identity
    } else if known.kept_from_ms != knows.kept_from_ms {
        Cause::Retention
    } else if known.erasure != knows.erasure {
        Cause::Erasure
    } else {
        Cause::Late
    }
}
