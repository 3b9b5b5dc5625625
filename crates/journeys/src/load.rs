//! Loads a tenant's journeys from the store, and brings them up to date.

use std::{collections::BTreeSet, ops::RangeInclusive, sync::Arc};

use rayon::prelude::*;
use runnel_failpoints::hit;
use runnel_model::{
    Attribute, Change, Claim, ColumnKey, Erasing, EventBatch, Identities, SHARDS, Selector, Settings,
    TenantName, shard_of,
};
use runnel_storage::{Block, BlockError, FetchError, Listing, Store, Unavailable, compute};

use crate::{
    dimension::fill,
    loaded::{LEVELS, Level, Loaded, Properties, Shard},
    merge::{Merged, MissingIdentity, Part, merge},
    names::Names,
    rows::{LoadedColumns, Rows, RowsError, TooManyNames, Who},
    run::Run,
    values::ValueDictionary,
};

/// How often a listing may turn out to be outdated before loading gives up; compaction retires rows minutes after they were replaced.
const ATTEMPTS: usize = 5;
/// Journal rows fetched at a time.
const FETCHED: usize = 256;
/// A level of this many events is never folded into the one below, by level from the second on.
const SMALL: [usize; LEVELS - 1] = [4_096, 1_024];
/// A larger one is, once it is this share of the one below in the first shard, and twice that in the last: what arrives evenly fills the levels of all shards alike,
/// and if all were folded by the same refresh, that one would take seconds. Every refresh rewrites the levels on top that it touches, every fold the level below,
/// and every question looks at whoever is superseded as well. For some tens of events a refresh and shard, levels of these sizes cost about the same each.
const SHARE: [usize; LEVELS - 1] = [16, 8];

/// Why journeys could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// A payload could not be read.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A block is damaged inside.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// More names than codes.
    #[error(transparent)]
    Names(#[from] TooManyNames),
    /// The computing threads were stopped.
    #[error("the computation was stopped")]
    Stopped,
}

impl From<RowsError> for LoadError {
    fn from(fault: RowsError) -> LoadError {
        match fault {
            RowsError::Block(fault) => LoadError::Block(fault),
            RowsError::Names(fault) => LoadError::Names(fault),
        }
    }
}

/// Payloads of the store, fetched and not yet decoded.
pub(crate) struct Fetched {
    pub(crate) sequence: u64,
    /// The version of the identities at the same instant.
    pub(crate) alias: u64,
    /// The version of the erasures then, and what of them is still there.
    pub(crate) erasure: u64,
    pub(crate) erasing: Arc<Erasing>,
    pub(crate) batches: Vec<(u64, EventBatch)>,
    pub(crate) blocks: Vec<Block>,
}

/// Events whose identities must be read: position of the origin, and row.
type Unread = Vec<(usize, u32)>;

/// Decoded rows with the place that more of them can be read from.
struct Origin {
    rows: Rows,
    place: Place,
}

/// Where rows come from.
#[derive(Clone, Copy)]
enum Place {
    /// A journal batch, of which everything is at hand.
    Batch,
    /// A block, by its position, and its row group.
    Block(usize, usize),
    /// Journeys in memory.
    Memory,
}

/// What was committed before the call and is numbered above `after`.
pub(crate) async fn fetch(store: &Store, tenant: &TenantName, after: u64) -> Result<Fetched, LoadError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match fetch_once(store, tenant, after).await {
            Err(LoadError::Fetch(FetchError::Missing | FetchError::Damaged { .. })) if attempt < ATTEMPTS => {
            }
            other => return other,
        }
    }
}

async fn fetch_once(store: &Store, tenant: &TenantName, after: u64) -> Result<Fetched, LoadError> {
    let listing = store.list(tenant, after).await?;
    hit("qry.after_snapshot").await.map_err(Unavailable::from)?;
    let sequences: Vec<u64> = listing.journal.iter().map(|row| row.sequence).collect();
    let Listing { sequence, alias, erasure, erasing, blocks, .. } = listing;
    let mut fetched = Fetched { sequence, alias, erasure, erasing, batches: Vec::new(), blocks: Vec::new() };
    for some in sequences.chunks(FETCHED) {
        fetched.batches.extend(store.fetch_journal(tenant, some).await?);
    }
    hit("qry.between_blocks_and_journal").await.map_err(Unavailable::from)?;
    for block in &blocks {
        fetched.blocks.push(store.fetch_block(tenant, block.id).await?);
    }
    hit("qry.after_fetch").await.map_err(Unavailable::from)?;
    Ok(fetched)
}

/// What was said about who is who, numbered above `after` up to what was fetched; `None` when somebody was erased since, whose claims are gone while the events that
/// were fetched are there.
async fn claims(
    store: &Store,
    tenant: &TenantName,
    mut after: u64,
    fetched: &Fetched,
) -> Result<Option<Vec<Claim>>, LoadError> {
    let mut claims = Vec::new();
    if after >= fetched.alias {
        return Ok(Some(claims));
    }
    while after < fetched.alias {
        let some = store.claims(tenant, after, fetched.alias).await?;
        let Some(last) = some.last() else { break };
        after = last.number;
        claims.extend(some);
    }
    let head = store.list(tenant, u64::MAX).await?;
    Ok((head.erasure == fetched.erasure).then_some(claims))
}

/// Everything that there is, and what was said about who is who.
async fn fetch_all(store: &Store, tenant: &TenantName) -> Result<(Fetched, Vec<Claim>), LoadError> {
    for _ in 0..ATTEMPTS {
        let fetched = fetch(store, tenant, 0).await?;
        if let Some(claims) = claims(store, tenant, 0, &fetched).await? {
            return Ok((fetched, claims));
        }
    }
    Err(LoadError::Stopped)
}

/// Notes which properties there are.
fn discover(fetched: &Fetched, properties: &Properties) {
    for info in fetched.blocks.iter().flat_map(Block::columns) {
        if let Attribute::Property(name) = &info.selector {
            properties.add(name, info.value_type);
        }
    }
    for (_, batch) in &fetched.batches {
        for column in &batch.columns {
            if let ColumnKey::Property(name) = column.key {
                properties.add(batch.strings.get(name), column.values.value_type());
            }
        }
    }
}

/// Decodes what has these numbers, in parallel.
fn decode(
    fetched: &Fetched,
    numbers: &RangeInclusive<u64>,
    names: &Names,
    columns: &LoadedColumns,
    people: &Identities,
    identities: bool,
) -> Result<Vec<Origin>, LoadError> {
    let groups: Vec<(usize, usize)> = fetched
        .blocks
        .iter()
        .enumerate()
        .flat_map(|(at, block)| (0..block.row_groups().len()).map(move |group| (at, group)))
        .collect();
    let who = Who { people, erasing: &fetched.erasing };
    let of_blocks = groups.into_par_iter().map(|(at, group)| {
        let block = &fetched.blocks[at];
        let rows = Rows::of_block(block, group, numbers, names, columns, who, identities)?;
        Ok(Origin { rows, place: Place::Block(at, group) })
    });
    let batches = fetched.batches.par_iter().filter(|(number, _)| numbers.contains(number));
    let of_batches = batches.map(|(number, batch)| {
        let rows = Rows::of_batch(batch, *number, names, columns, who)?;
        Ok(Origin { rows, place: Place::Batch })
    });
    of_blocks.chain(of_batches).collect()
}

/// The parts of one shard.
fn parts<'a>(origins: &'a [Origin], shard: usize) -> Vec<(usize, Part<'a>)> {
    let part = |(at, origin): (usize, &'a Origin)| {
        let (from, until) = (origin.rows.shards[shard] as usize, origin.rows.shards[shard + 1] as usize);
        (from < until).then_some((at, Part::Rows { rows: &origin.rows, from, until }))
    };
    origins.iter().enumerate().filter_map(part).collect()
}

/// Reads the identities that merges asked for: `(position in origins, row)`.
fn read_identities(fetched: &Fetched, origins: &mut [Origin], mut wanted: Unread) -> Result<(), LoadError> {
    wanted.sort_unstable();
    wanted.dedup();
    for some in wanted.chunk_by(|left, right| left.0 == right.0) {
        let origin = &mut origins[some[0].0];
        if let Place::Block(block, group) = origin.place {
            let rows: Vec<u32> = some.iter().map(|(_, row)| *row).collect();
            origin.rows.read_identities(&fetched.blocks[block], group, &rows)?;
        }
    }
    Ok(())
}

/// A run with the columns that are made of its sessions.
pub(crate) fn complete(mut merged: Merged, columns: &LoadedColumns, settings: &Settings) -> Run {
    fill(&mut merged, columns, settings);
    merged.run
}

/// Merges every shard of what was decoded, reading identities where copies are possible.
fn merge_shards(
    fetched: &Fetched,
    mut origins: Vec<Origin>,
    columns: usize,
    identities: bool,
) -> Result<Vec<Merged>, LoadError> {
    let mut runs: Vec<Option<Merged>> = (0..SHARDS).map(|_| None).collect();
    loop {
        let outcomes: Vec<(usize, Result<Merged, Unread>)> = runs
            .par_iter()
            .enumerate()
            .filter(|(_, run)| run.is_none())
            .map(|(shard, _)| {
                let (places, parts): (Vec<usize>, Vec<Part<'_>>) = parts(&origins, shard).into_iter().unzip();
                let wanted = |missing: Vec<MissingIdentity>| {
                    missing.into_iter().map(|event| (places[event.part], event.row as u32)).collect()
                };
                (shard, merge(&parts, columns, identities).map_err(wanted))
            })
            .collect();
        let mut wanted = Vec::new();
        for (shard, outcome) in outcomes {
            match outcome {
                Ok(run) => runs[shard] = Some(run),
                Err(missing) => wanted.extend(missing),
            }
        }
        if wanted.is_empty() {
            return Ok(runs.into_iter().flatten().collect());
        }
        read_identities(fetched, &mut origins, wanted)?;
    }
}

/// What is to be loaded.
pub(crate) struct Wanted<'a> {
    pub(crate) columns: &'a BTreeSet<Selector>,
    /// How columns that are made of sessions are told.
    pub(crate) settings: Arc<Settings>,
    /// Whether the ids of all events stay resident.
    pub(crate) identities: bool,
    /// Only batches up to this number.
    pub(crate) until: u64,
}

/// Loads everything that is wanted.
pub(crate) async fn load(
    store: &Store,
    tenant: &TenantName,
    Wanted { columns, settings, identities, until }: Wanted<'_>,
    pool: Arc<rayon::ThreadPool>,
) -> Result<Loaded, LoadError> {
    let (fetched, claims) = fetch_all(store, tenant).await?;
    let columns: Vec<_> =
        columns.iter().map(|selector| (selector.clone(), Arc::new(ValueDictionary::default()))).collect();
    let work = move || {
        let (names, properties) = (Arc::new(Names::default()), Arc::new(Properties::default()));
        discover(&fetched, &properties);
        let mut people = Identities::default();
        drop(people.add(&claims));
        people.reach(fetched.alias);
        let people = Arc::new(people);
        let origins = decode(&fetched, &(0..=until), &names, &columns, &people, identities)?;
        let runs = merge_shards(&fetched, origins, columns.len(), identities)?;
        let shard = |merged| Shard::of(complete(merged, &columns, &settings), columns.len());
        let shards = runs.into_par_iter().map(shard).collect();
        let Fetched { sequence, erasure, erasing, .. } = fetched;
        let kept_from_ms = erasing.kept_from_ms();
        Ok(Loaded {
            sequence: sequence.min(until),
            erasure,
            kept_from_ms,
            people,
            names,
            properties,
            columns,
            settings,
            identities,
            shards,
        })
    };
    compute(move || pool.install(work)).await.map_err(|_| LoadError::Stopped)?
}

/// What bringing journeys up to date came to.
pub(crate) enum Refreshed {
    /// They are up to date.
    Done(Loaded),
    /// Copies are possible whose ids are not resident: everything must be loaded with identities.
    NeedsIdentities,
    /// Ids left visitors that they had belonged to, or somebody was erased: journeys must be told apart again.
    Parted,
    /// The store's newest number is lower than theirs: it is a copy from another time, of which they tell nothing.
    Foreign,
}

/// Adds what was committed since.
pub(crate) async fn refresh(
    store: &Store,
    tenant: &TenantName,
    loaded: &Arc<Loaded>,
    pool: Arc<rayon::ThreadPool>,
) -> Result<Option<Refreshed>, LoadError> {
    let fetched = fetch(store, tenant, loaded.sequence).await?;
    let (sequence, alias) = (loaded.sequence, loaded.people.version());
    if fetched.sequence < sequence || fetched.alias < alias || fetched.erasure < loaded.erasure {
        return Ok(Some(Refreshed::Foreign));
    }
    if fetched.erasure != loaded.erasure {
        return Ok(Some(Refreshed::Parted));
    }
    if (fetched.sequence, fetched.alias) == (sequence, alias) {
        return Ok(None);
    }
    let Some(claims) = claims(store, tenant, alias, &fetched).await? else {
        return Ok(Some(Refreshed::Parted));
    };
    let loaded = loaded.clone();
    let work = move || apply(&loaded, &fetched, &claims);
    compute(move || pool.install(work)).await.map_err(|_| LoadError::Stopped)?.map(Some)
}

fn apply(loaded: &Loaded, fetched: &Fetched, claims: &[Claim]) -> Result<Refreshed, LoadError> {
    let (mut people, mut joined) = (loaded.people.clone(), Vec::new());
    if !claims.is_empty() {
        match Arc::make_mut(&mut people).add(claims) {
            Change::Parted => return Ok(Refreshed::Parted),
            Change::Joined(visitors) => joined = visitors,
        }
    }
    discover(fetched, &loaded.properties);
    let numbers = loaded.sequence.saturating_add(1)..=u64::MAX;
    let mut origins = decode(fetched, &numbers, &loaded.names, &loaded.columns, &people, false)?;
    let left = leave(loaded, &joined, &mut origins);
    let mut shards: Vec<Option<Shard>> = (0..SHARDS).map(|_| None).collect();
    loop {
        let outcomes: Vec<(usize, Result<Shard, Unread>)> = shards
            .par_iter()
            .enumerate()
            .filter(|(_, shard)| shard.is_none())
            .map(|(at, _)| (at, apply_shard(loaded, at, parts(&origins, at), &left[at])))
            .collect();
        let mut wanted = Vec::new();
        for (at, outcome) in outcomes {
            match outcome {
                Ok(shard) => shards[at] = Some(shard),
                Err(missing) => wanted.extend(missing),
            }
        }
        let resident =
            |origin: usize| origins.get(origin).is_none_or(|origin| matches!(origin.place, Place::Memory));
        if wanted.iter().any(|(origin, _)| resident(*origin)) {
            return Ok(Refreshed::NeedsIdentities);
        }
        if wanted.is_empty() {
            let (sequence, shards) = (fetched.sequence, shards.into_iter().flatten().collect());
            return Ok(Refreshed::Done(Loaded { sequence, people, shards, ..loaded.clone() }));
        }
        read_identities(fetched, &mut origins, wanted)?;
    }
}

/// Visitors of a shard whose journeys are parts of others' now, by level: their positions.
type Left = [Vec<usize>; LEVELS];

/// Makes rows of the journeys of visitors that are parts of others now, and says where they were, by shard.
fn leave(loaded: &Loaded, joined: &[(String, String)], origins: &mut Vec<Origin>) -> Vec<Left> {
    let mut left: Vec<Left> = (0..SHARDS).map(|_| Left::default()).collect();
    let mut journeys = Vec::new();
    for (visitor, whose) in joined {
        let shard = shard_of(visitor);
        if let Some((level, at)) = loaded.shards[shard].find(visitor.as_bytes()) {
            left[shard][level].push(at);
            // Others count as known ids alone.
            let several = loaded.people.is_known(visitor);
            journeys.push((&*loaded.shards[shard].levels[level].run, at, &**whose, several));
        }
    }
    if !journeys.is_empty() {
        let rows = Rows::of_journeys(&journeys, loaded.columns.len());
        origins.push(Origin { rows, place: Place::Memory });
    }
    left
}

/// Stands for what is in memory where an origin is named.
const RESIDENT: usize = usize::MAX;

/// Moves the journeys of visitors with new events into the top level. A level that has grown is folded into the one below.
fn apply_shard(
    loaded: &Loaded,
    at: usize,
    fresh: Vec<(usize, Part<'_>)>,
    left: &Left,
) -> Result<Shard, Unread> {
    let shard = &loaded.shards[at];
    if fresh.is_empty() && left.iter().all(Vec::is_empty) {
        return Ok(shard.clone());
    }
    let touched = touched(shard, &fresh);
    let columns = loaded.columns.len();
    let [below @ .., top] = &shard.levels;
    let top = top.without(left[LEVELS - 1].iter().copied());
    let mut origins = vec![RESIDENT];
    let mut parts = vec![Part::Run { run: &top.run, skip: Some(&top.superseded) }];
    for (level, visitors) in below.iter().zip(&touched) {
        origins.push(RESIDENT);
        parts.push(Part::Picked { run: &level.run, visitors });
    }
    for (origin, part) in fresh {
        origins.push(origin);
        parts.push(part);
    }
    let wanted = |missing: Vec<MissingIdentity>| {
        missing.into_iter().map(|event| (origins[event.part], event.row as u32)).collect::<Vec<_>>()
    };
    let top = complete(merge(&parts, columns, true).map_err(wanted)?, &loaded.columns, &loaded.settings);
    let mut levels = shard.levels.clone();
    for ((level, touched), left) in levels.iter_mut().zip(&touched).zip(left) {
        *level = level.without(touched.iter().map(|&visitor| visitor as usize).chain(left.iter().copied()));
    }
    levels[LEVELS - 1] = Level::new(Arc::new(top), Arc::default());
    for number in (0..LEVELS - 1).rev() {
        let [below, above] = [number, number + 1].map(|number| &levels[number]);
        let share = below.run.events() * (SHARDS + at) / (SHARDS * SHARE[number]);
        if above.run.events() <= SMALL[number].max(share) {
            break;
        }
        let both = [below, above].map(|level| Part::Run { run: &level.run, skip: Some(&level.superseded) });
        let folded = merge(&both, columns, true)
            .map_err(|missing| missing.iter().map(|_| (RESIDENT, 0)).collect::<Vec<_>>())?;
        levels[number] = Level::new(Arc::new(folded.run), Arc::default());
        levels[number + 1] = Level::empty(columns);
    }
    Ok(Shard { levels })
}

/// Visitors who have new events and are not in the top level yet, by the level that they are in, ascending.
fn touched(shard: &Shard, fresh: &[(usize, Part<'_>)]) -> [Vec<u32>; LEVELS - 1] {
    let mut touched: [Vec<u32>; LEVELS - 1] = Default::default();
    for (_, part) in fresh {
        let Part::Rows { rows, from, until } = *part else { continue };
        let order = &rows.order[from..until];
        for some in
            order.chunk_by(|&left, &right| rows.visitors[left as usize] == rows.visitors[right as usize])
        {
            if let Some((level, at)) = shard.find(rows.visitor(some[0] as usize))
                && let Some(touched) = touched.get_mut(level)
            {
                touched.push(at as u32);
            }
        }
    }
    for touched in &mut touched {
        touched.sort_unstable();
        touched.dedup();
    }
    touched
}
