//! Exact counts over everything that was ever appended.
//!
//! Events are gone through by intervals of their visitors' hashes, so that memory stays bounded: equal identities have equal visitors. Identities are compared
//! by 128-bit hashes, contents only where identities meet.

use std::collections::HashMap;

use runnel_model::{EventBatch, TenantName, content_hashes, visitor_hash};

use crate::{
    Block, BlockError, FetchError, Listing, Unavailable,
    backend::{Backend, Purpose::Query, Totals},
    compute, listing,
    merge::IdentityHash,
};

/// What became of all events of a tenant. `accepted = counted + duplicates + conflicts + quarantined + erased`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// The sequence number that the counts are as of.
    pub sequence: u64,
    /// Events acknowledged as stored.
    pub accepted: u64,
    /// Distinct identities among those that can be read.
    pub counted: u64,
    /// Events that repeat an earlier one; and what compaction dropped because an event had its identity that is not kept any more.
    pub duplicates: u64,
    /// Contents, beside the first, that share an identity. A repeat of such a content is a duplicate.
    pub conflicts: u64,
    /// Events that erasures deleted, copies among them, and those that are not kept any more.
    pub erased: u64,
    /// Events in quarantine.
    pub quarantined: u64,
    /// Why, one line a row: its number, its events and the reason.
    pub quarantine_reasons: Vec<String>,
}

/// Why an audit could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Data could not be read.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The events that are there and those that were dropped are not those that were accepted.
    #[error("{accepted} events were accepted, but {found} are accounted for")]
    Unbalanced {
        /// Events acknowledged as stored.
        accepted: u64,
        /// Events found, dropped and in quarantine.
        found: u64,
    },
}

/// Identities in memory at a time: 32 bytes each.
const ENTRIES: u64 = 4_000_000;
/// Journal rows fetched at a time.
const ROWS: usize = 64;
/// How often to begin again when compaction or quarantine took away what was listed.
const ATTEMPTS: usize = 10;

pub(crate) async fn audit(backend: &Backend, tenant: &TenantName) -> Result<Audit, AuditError> {
    let mut attempt = 1;
    loop {
        match Auditor::new(backend, tenant).await?.run().await {
            Err(AuditError::Fetch(FetchError::Missing | FetchError::Damaged { .. }))
                if attempt < ATTEMPTS =>
            {
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// One event that is there. A row of a block counts through all its row groups.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    identity: u128,
    number: u64,
    row: u32,
    source: u32,
}

/// Visitors' hashes from the first to the last, both included.
type Interval = (u64, u64);

struct Auditor<'a> {
    backend: &'a Backend,
    tenant: &'a TenantName,
    listing: Listing,
    totals: Totals,
}

impl<'a> Auditor<'a> {
    async fn new(backend: &'a Backend, tenant: &'a TenantName) -> Result<Auditor<'a>, FetchError> {
        let (listing, totals) = backend.totals(tenant).await?;
        Ok(Auditor { backend, tenant, listing, totals })
    }

    async fn run(&self) -> Result<Audit, AuditError> {
        let journal = self.listing.journal.iter().map(|row| u64::from(row.events));
        let live: u64 = journal.chain(self.listing.blocks.iter().map(|block| block.events)).sum();
        let quarantined: u64 = self.totals.quarantine.iter().map(|(_, events, _)| events).sum();
        let accepted = self.totals.accepted;
        let gone = self.totals.dropped + self.totals.erased + quarantined;
        self.balance(live + gone)?;
        let (mut counted, mut conflicts, mut seen) = (0, 0, 0);
        let passes = u128::from(live.div_ceil(ENTRIES).max(1));
        for pass in 0..passes {
            let border = |pass: u128| (pass << 64) / passes;
            let interval = (border(pass) as u64, (border(pass + 1) - 1) as u64);
            let mut entries = self.entries(interval).await?;
            entries = blocking(move || {
                entries.sort_unstable();
                entries
            })
            .await?;
            seen += entries.len() as u64;
            let lost = self.lost(interval).await?;
            let doubtful = doubtful(&entries, &lost);
            let contents = self.contents(&doubtful).await?;
            counted += entries.chunk_by(|left, right| left.identity == right.identity).count() as u64;
            conflicts += other_contents(&doubtful, &contents, &lost);
        }
        self.balance(seen + gone)?;
        let found = quarantined + counted + conflicts + self.totals.erased;
        let rest = accepted.checked_sub(found);
        Ok(Audit {
            sequence: self.listing.sequence,
            accepted,
            counted,
            duplicates: rest.ok_or(AuditError::Unbalanced { accepted, found })?,
            conflicts,
            erased: self.totals.erased,
            quarantined,
            quarantine_reasons: self
                .totals
                .quarantine
                .iter()
                .map(|(number, events, reason)| format!("batch {number}, {events} events: {reason}"))
                .collect(),
        })
    }

    fn balance(&self, found: u64) -> Result<(), AuditError> {
        let accepted = self.totals.accepted;
        if found == accepted { Ok(()) } else { Err(AuditError::Unbalanced { accepted, found }) }
    }

    /// All events of visitors with a hash in the interval.
    async fn entries(&self, interval: Interval) -> Result<Vec<Entry>, FetchError> {
        let mut entries = Vec::new();
        for (chunk, rows) in self.listing.journal.chunks(ROWS).enumerate() {
            let sequences: Vec<u64> = rows.iter().map(|row| row.sequence).collect();
            let batches = listing::fetch_journal(self.backend, self.tenant, &sequences).await?;
            entries = blocking(move || {
                for (at, (number, batch)) in batches.iter().enumerate() {
                    of_batch(batch, *number, (chunk * ROWS + at) as u32, interval, &mut entries);
                }
                entries
            })
            .await?;
        }
        for (at, block) in self.listing.blocks.iter().enumerate() {
            let (id, source) = (block.id, (self.listing.journal.len() + at) as u32);
            let block = listing::fetch_block(self.backend, Query, self.tenant, id).await?;
            let read =
                blocking(move || of_block(&block, source, interval, &mut entries).map(|()| entries)).await?;
            entries = read.map_err(|error| FetchError::DamagedBlock { id, source: error })?;
        }
        Ok(entries)
    }

    /// Contents that compaction found to have lost, by identity.
    async fn lost(&self, (from, until): Interval) -> Result<HashMap<u128, Vec<u128>>, FetchError> {
        let until = [until.to_be_bytes().to_vec(), vec![u8::MAX; 16]].concat();
        let (rows, noted) = self.backend.conflicts(self.tenant, from.to_be_bytes().to_vec(), until).await?;
        // What lost since the listing may have come since, and then is not of what is listed.
        if noted != self.totals.lost {
            return Err(FetchError::Missing);
        }
        let mut lost: HashMap<u128, Vec<u128>> = HashMap::new();
        for (identity, content) in rows {
            if let Some(identity) = IdentityHash::from_bytes(&identity) {
                lost.entry(identity.rest()).or_default().push(content.0);
            }
        }
        Ok(lost)
    }

    /// The content hashes of entries, in their order.
    async fn contents(&self, entries: &[Entry]) -> Result<Vec<u128>, FetchError> {
        let mut contents = vec![0; entries.len()];
        let mut order: Vec<(u32, u32, usize)> =
            entries.iter().enumerate().map(|(at, entry)| (entry.source, entry.row, at)).collect();
        order.sort_unstable();
        for wanted in order.chunk_by(|left, right| left.0 == right.0) {
            let (source, rows) = (wanted[0].0 as usize, wanted.iter().map(|(_, row, _)| *row).collect());
            let hashes = match self.listing.journal.get(source) {
                Some(row) => self.batch_contents(row.sequence, rows).await?,
                None => match self.listing.blocks.get(source - self.listing.journal.len()) {
                    Some(block) => self.block_contents(block.id, rows).await?,
                    None => return Err(FetchError::Missing),
                },
            };
            wanted.iter().zip(hashes).for_each(|((_, _, at), hash)| contents[*at] = hash);
        }
        Ok(contents)
    }

    async fn batch_contents(&self, sequence: u64, rows: Vec<u32>) -> Result<Vec<u128>, FetchError> {
        let batches = listing::fetch_journal(self.backend, self.tenant, &[sequence]).await?;
        let hashes =
            blocking(move || batches.first().map(|(_, batch)| content_hashes(batch)).unwrap_or_default());
        let hashes = hashes.await?;
        rows.iter().map(|&row| hashes.get(row as usize).copied().ok_or(FetchError::Missing)).collect()
    }

    async fn block_contents(&self, id: u64, rows: Vec<u32>) -> Result<Vec<u128>, FetchError> {
        let block = listing::fetch_block(self.backend, Query, self.tenant, id).await?;
        let read = blocking(move || {
            let mut hashes = Vec::with_capacity(rows.len());
            let mut start = 0;
            for (at, group) in block.row_groups().iter().enumerate() {
                let end = start + group.rows;
                let inside = &rows[hashes.len()..];
                let inside = &inside[..inside.partition_point(|&row| row < end)];
                if !inside.is_empty() {
                    let all = content_hashes(&block.read_all(at)?);
                    hashes.extend(inside.iter().map(|&row| all[(row - start) as usize]));
                }
                start = end;
            }
            Ok(hashes)
        });
        read.await?.map_err(|source| FetchError::DamagedBlock { id, source })
    }
}

/// Runs on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, FetchError> {
    compute(work).await.map_err(|_| FetchError::Unavailable(Unavailable::Stopped))
}

fn of_batch(batch: &EventBatch, number: u64, source: u32, interval: Interval, entries: &mut Vec<Entry>) {
    let mut hashes: Vec<Option<u64>> = vec![None; batch.strings.len()];
    for row in 0..batch.len() {
        let visitor = batch.strings.get(batch.visitors[row]);
        let hash = *hashes[batch.visitors[row] as usize].get_or_insert_with(|| visitor_hash(visitor));
        if hash < interval.0 || hash > interval.1 {
            continue;
        }
        let identity =
            IdentityHash::new(hash, visitor.as_bytes(), batch.times[row], batch.event_ids.get(row)).rest();
        entries.push(Entry { identity, number, row: row as u32, source });
    }
}

fn of_block(
    block: &Block,
    source: u32,
    interval: Interval,
    entries: &mut Vec<Entry>,
) -> Result<(), BlockError> {
    let shard = |hash: u64| (hash >> 58) as usize;
    let mut start = 0;
    for (at, group) in block.row_groups().iter().enumerate() {
        let first = start;
        start += group.rows;
        if group.shards.start > shard(interval.1) || group.shards.end <= shard(interval.0) {
            continue;
        }
        let keys = block.read_keys(at)?;
        let (ids, _) = block.read_identities(at, None)?;
        let hashes: Vec<u64> = (0..keys.visitors.len())
            .map(|code| visitor_hash(std::str::from_utf8(keys.visitors.get(code)).unwrap_or_default()))
            .collect();
        for (row, &code) in keys.visitor_codes.iter().enumerate() {
            let hash = hashes[code as usize];
            if hash < interval.0 || hash > interval.1 {
                continue;
            }
            let visitor = keys.visitors.get(code as usize);
            let identity = IdentityHash::new(hash, visitor, keys.times[row], ids.get(row)).rest();
            entries.push(Entry { identity, number: keys.numbers[row], row: first + row as u32, source });
        }
    }
    Ok(())
}

/// The entries whose contents must be looked at: those that share an identity, or that something lost to.
fn doubtful(entries: &[Entry], lost: &HashMap<u128, Vec<u128>>) -> Vec<Entry> {
    let groups = entries.chunk_by(|left, right| left.identity == right.identity);
    groups
        .filter(|group| group.len() > 1 || lost.contains_key(&group[0].identity))
        .flatten()
        .copied()
        .collect()
}

/// How many contents there are beside the first of each identity.
fn other_contents(doubtful: &[Entry], contents: &[u128], lost: &HashMap<u128, Vec<u128>>) -> u64 {
    let mut others = 0;
    let mut start = 0;
    for group in doubtful.chunk_by(|left, right| left.identity == right.identity) {
        let mut all = contents[start..start + group.len()].to_vec();
        all.extend(lost.get(&group[0].identity).into_iter().flatten());
        all.sort_unstable();
        all.dedup();
        others += all.len() as u64 - 1;
        start += group.len();
    }
    others
}
