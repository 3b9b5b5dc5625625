//! Questions about segments: how many, who, and since when.

use std::{ops::Range, sync::Arc};

use runnel_contracts::{
    proto::segmentation::v1::{
        self as wire, CountSegmentRequest, CountSegmentResponse, ListMembersRequest, ListMembersResponse,
        PreviewSegmentRequest, PreviewSegmentResponse, SegmentChurn, SegmentDefinition, SegmentOverlap,
        SegmentRef, StreamMembersRequest, StreamMembersResponse, WasMemberRequest, WasMemberResponse,
        segment_ref,
    },
    refusal::{Reason, Refusal},
};
use runnel_definitions::{
    catalogue::Catalogue,
    funnel,
    members::{Found, Members, journeys_for},
    rate::share,
    refusal::{counting, stopped},
    saved::{self, Named, foreign_token, page_size},
    segment::{self, Checked},
};
use runnel_journeys::{CountError, Journeys, Loaded, Run};
use runnel_model::{TenantName, limits};
use runnel_storage::compute;
use tokio::sync::mpsc;
use tonic::Status;

/// Examples shown where a request does not say.
const EXAMPLES: usize = 10;
/// How far back who came and went is told where a request does not say, in milliseconds.
const CHURN_MS: i64 = 7 * 24 * 3_600_000;

/// Answers questions about segments. Clones share one.
#[derive(Clone, Debug)]
pub(crate) struct Segments {
    journeys: Journeys,
}

/// A question about a segment.
struct Asked {
    members: Arc<Members>,
    /// The version of the saved segment; 0 for an inline one.
    version: u64,
    /// The version of the tenant's definitions.
    definition: u64,
}

impl Segments {
    pub(crate) fn new(journeys: Journeys) -> Segments {
        Segments { journeys }
    }

    /// Checks a definition that is to be saved under a name, which it must not name itself.
    pub(crate) async fn check_named(
        &self,
        tenant: &TenantName,
        name: &str,
        definition: &SegmentDefinition,
    ) -> Result<(), Refusal> {
        let store = self.journeys.store();
        let catalogue = Catalogue::read(store, tenant).await?;
        segment::check_as(store, tenant, &catalogue, Some(name), "definition", definition).await.map(drop)
    }

    /// The segment that a request is about, with its version.
    pub(crate) async fn segment(
        &self,
        tenant: &TenantName,
        catalogue: &Catalogue,
        asked: Option<SegmentRef>,
    ) -> Result<(Checked, u64), Refusal> {
        match asked.and_then(|asked| asked.segment) {
            None => Err(Refusal::field(
                Reason::FieldMissing,
                "segment",
                "The request names no segment and has none inline.",
            )),
            Some(segment_ref::Segment::Inline(inline)) => {
                let store = self.journeys.store();
                Ok((segment::check(store, tenant, catalogue, "segment.inline", &inline).await?, 0))
            }
            Some(segment_ref::Segment::Name(name)) => {
                self.named(tenant, catalogue, "segment.name", &name).await
            }
        }
    }

    /// A saved segment, which `field` names.
    async fn named(
        &self,
        tenant: &TenantName,
        catalogue: &Catalogue,
        field: &str,
        name: &str,
    ) -> Result<(Checked, u64), Refusal> {
        let store = self.journeys.store();
        let found: Option<Named<SegmentDefinition>> = saved::find(store, tenant, name, 0).await?;
        let Some(Named { definition, version, .. }) = found else {
            let text = format!("There is no segment {name:?}.");
            return Err(Refusal::field(Reason::NotFound, field, text));
        };
        Ok((segment::check(store, tenant, catalogue, field, &definition).await?, version))
    }

    async fn ask(
        &self,
        tenant: &TenantName,
        asked: Option<SegmentRef>,
        as_of_ms: i64,
    ) -> Result<Asked, Refusal> {
        let catalogue = Catalogue::read(self.journeys.store(), tenant).await?;
        let (checked, version) = self.segment(tenant, &catalogue, asked).await?;
        let (loaded, definition) = journeys_for(&self.journeys, tenant, &[&checked]).await?;
        let members = Arc::new(Members::new(loaded, checked, as_of_ms)?);
        Ok(Asked { members, version, definition })
    }

    pub(crate) async fn count(
        &self,
        tenant: &TenantName,
        request: CountSegmentRequest,
        now_ms: i64,
    ) -> Result<CountSegmentResponse, Refusal> {
        let as_of_ms = instant(request.as_of_ms, now_ms)?;
        let Asked { members, version, definition } = self.ask(tenant, request.segment, as_of_ms).await?;
        let asked = members.clone();
        let count = move |run: &Run, skip: Option<&[u64]>| {
            let found = asked.of(run, skip)?;
            Ok([ones(&found.members), ones(&found.present)])
        };
        let [belong, exist] = self.sum(members.loaded.clone(), count).await?;
        Ok(CountSegmentResponse {
            members: belong,
            visitors: exist,
            share: share(belong, exist),
            provenance: Some(members.provenance(definition, version)?),
        })
    }

    pub(crate) async fn preview(
        &self,
        tenant: &TenantName,
        request: PreviewSegmentRequest,
        now_ms: i64,
    ) -> Result<PreviewSegmentResponse, Refusal> {
        let as_of_ms = instant(request.as_of_ms, now_ms)?;
        let back_ms = request.since_ms.unwrap_or(CHURN_MS);
        if !limits::LOOK_BACK_MS.contains(&back_ms) {
            let (least, most) = (limits::LOOK_BACK_MS.start(), limits::LOOK_BACK_MS.end());
            let text = format!("since_ms is {least} to {most} milliseconds; it is {back_ms}.");
            return Err(Refusal::field(Reason::NumberOutOfRange, "since_ms", text));
        }
        let (names, most) = (request.compare_with, limits::COMPARED_SEGMENTS);
        if names.len() > most {
            let text = format!("A preview compares with at most {most} segments; here are {}.", names.len());
            return Err(Refusal::field(Reason::NumberOutOfRange, "compare_with", text));
        }
        let examples = match request.examples as usize {
            0 => EXAMPLES,
            some if some <= limits::EXAMPLES => some,
            some => {
                let text = format!("examples is at most {}; it is {some}.", limits::EXAMPLES);
                return Err(Refusal::field(Reason::NumberOutOfRange, "examples", text));
            }
        };
        let catalogue = Catalogue::read(self.journeys.store(), tenant).await?;
        let (checked, version) = self.segment(tenant, &catalogue, request.segment).await?;
        let mut others = Vec::new();
        for (at, name) in names.iter().enumerate() {
            others.push(self.named(tenant, &catalogue, &format!("compare_with[{at}]"), name).await?.0);
        }
        let all: Vec<&Checked> = [&checked].into_iter().chain(&others).collect();
        let (loaded, definition) = journeys_for(&self.journeys, tenant, &all).await?;
        let since_ms = as_of_ms.saturating_sub(back_ms);
        let before = Members::new(loaded.clone(), checked.clone(), since_ms)?;
        let members = Arc::new(Members::new(loaded.clone(), checked, as_of_ms)?);
        let others = others.into_iter().map(|other| Members::new(loaded.clone(), other, as_of_ms));
        let others = others.collect::<Result<Vec<_>, _>>()?;
        let asked = members.clone();
        let count = move |run: &Run, skip: Option<&[u64]>| {
            let Found { members, present, .. } = asked.of(run, skip)?;
            let earlier = before.of(run, skip)?.members;
            let mut counts = [0; 5 + 2 * limits::COMPARED_SEGMENTS];
            counts[0] = ones(&members);
            counts[1] = ones(&present);
            counts[2] = ones(&earlier);
            counts[3] = ones_of(&earlier, &members, |earlier, now| earlier & !now);
            counts[4] = ones_of(&members, &earlier, |now, earlier| now & !earlier);
            for (other, counts) in others.iter().zip(counts[5..].chunks_mut(2)) {
                let theirs = other.of(run, skip)?.members;
                counts[0] = ones(&theirs);
                counts[1] = ones_of(&members, &theirs, |ours, theirs| ours & theirs);
            }
            Ok(counts)
        };
        let counts = self.sum(loaded, count).await?;
        let overlaps = names.into_iter().zip(counts[5..].chunks(2));
        let overlaps =
            overlaps.map(|(name, counts)| SegmentOverlap { name, members: counts[0], both: counts[1] });
        Ok(PreviewSegmentResponse {
            members: counts[0],
            visitors: counts[1],
            share: share(counts[0], counts[1]),
            overlaps: overlaps.collect(),
            churn: Some(SegmentChurn {
                since_ms,
                members_before: counts[2],
                left: counts[3],
                joined: counts[4],
            }),
            examples: self
                .behind(members.clone(), None, examples)
                .await?
                .into_iter()
                .map(|(_, id)| id)
                .collect(),
            provenance: Some(members.provenance(definition, version)?),
        })
    }

    pub(crate) async fn list(
        &self,
        tenant: &TenantName,
        request: ListMembersRequest,
        now_ms: i64,
    ) -> Result<ListMembersResponse, Refusal> {
        let size = page_size(request.page_size)?;
        let token = Token::parse(&request.page_token)?;
        let as_of_ms = match (&token, request.as_of_ms) {
            (Some(token), Some(asked)) if token.as_of_ms != asked => return Err(foreign_token()),
            (Some(token), _) => token.as_of_ms,
            (None, asked) => instant(asked, now_ms)?,
        };
        let Asked { members, version, definition } = self.ask(tenant, request.segment, as_of_ms).await?;
        let mut found = self.behind(members.clone(), token.map(|token| token.last), size + 1).await?;
        let more = found.len() > size;
        found.truncate(size);
        let last = found.last().filter(|_| more);
        let next = last.map(|last| Token { as_of_ms, last: last.clone() }.show());
        Ok(ListMembersResponse {
            visitor_ids: found.into_iter().map(|(_, id)| id).collect(),
            next_page_token: next.unwrap_or_default(),
            provenance: Some(members.provenance(definition, version)?),
        })
    }

    /// Sends all members, one shard after the other.
    pub(crate) async fn stream(
        &self,
        tenant: &TenantName,
        request: StreamMembersRequest,
        now_ms: i64,
        parts: mpsc::Sender<Result<StreamMembersResponse, Status>>,
    ) -> Result<(), Refusal> {
        let as_of_ms = instant(request.as_of_ms, now_ms)?;
        let Asked { members, version, definition } = self.ask(tenant, request.segment, as_of_ms).await?;
        let provenance = Some(members.provenance(definition, version)?);
        let mut part = StreamMembersResponse { visitor_ids: Vec::new(), provenance };
        for shard in 0..members.loaded.shards.len() {
            let found = self.of_shards(members.clone(), shard..shard + 1, None, usize::MAX).await?;
            for (_, id) in found {
                part.visitor_ids.push(id);
                if part.visitor_ids.len() == limits::PAGE
                    && parts.send(Ok(std::mem::take(&mut part))).await.is_err()
                {
                    return Ok(());
                }
            }
        }
        if part.provenance.is_some() || !part.visitor_ids.is_empty() {
            drop(parts.send(Ok(part)).await);
        }
        Ok(())
    }

    pub(crate) async fn was_member(
        &self,
        tenant: &TenantName,
        request: WasMemberRequest,
        now_ms: i64,
    ) -> Result<WasMemberResponse, Refusal> {
        let id = request.visitor_id;
        if id.is_empty() {
            return Err(Refusal::field(Reason::FieldMissing, "visitor_id", "visitor_id is missing."));
        }
        let at_ms = instant(request.at_ms, now_ms)?;
        let Asked { members, version, definition } = self.ask(tenant, request.segment, at_ms).await?;
        let (asked, visitor_id) = (members.clone(), members.loaded.people.visitor(&id).to_owned());
        let look = move || {
            let alone =
                Arc::new(asked.loaded.alone(std::iter::once(asked.loaded.people.visitor(&id)), |_| true));
            let alone = Members::new(alone, asked.checked.clone(), at_ms)?;
            alone.of(alone.loaded.shards[0].base(), None).map_err(|fault| counting(&fault))
        };
        let found = compute(look).await.map_err(|_| stopped())??;
        let holds = |bits: &[u64]| bits.first().is_some_and(|word| word & 1 == 1);
        let told = members
            .checked
            .told
            .iter()
            .map(|(field, who)| wire::ConditionResult { field: field.clone(), holds: holds(&found.of(who)) });
        Ok(WasMemberResponse {
            member: holds(&found.members),
            conditions: told.collect(),
            visitor_id,
            provenance: Some(members.provenance(definition, version)?),
        })
    }

    /// Sums what is counted of every run, on the computing threads.
    async fn sum<const N: usize>(
        &self,
        loaded: Arc<Loaded>,
        count: impl Fn(&Run, Option<&[u64]>) -> Result<[u64; N], CountError> + Send + Sync + 'static,
    ) -> Result<[u64; N], Refusal> {
        let pool = self.journeys.pool().clone();
        let work = move || {
            pool.install(|| {
                let merge = |sum: &mut Vec<u64>, more: Vec<u64>| {
                    sum.resize(N, 0);
                    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
                };
                loaded.fold(|run, skip| count(run, skip).map(|counts| counts.to_vec()), merge)
            })
        };
        let counts = compute(work).await.map_err(|_| stopped())?.map_err(|fault| counting(&fault))?;
        let mut sums = [0; N];
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum = count);
        Ok(sums)
    }

    /// The next members behind one, at most so many.
    async fn behind(
        &self,
        members: Arc<Members>,
        last: Option<(usize, String)>,
        most: usize,
    ) -> Result<Vec<(usize, String)>, Refusal> {
        let first = last.as_ref().map_or(0, |(shard, _)| *shard);
        let shards = members.loaded.shards.len();
        self.of_shards(members, first..shards, last.map(|(_, id)| id), most).await
    }

    /// Members in order: by shard, then by id; those of the first shard behind an id. At most so many.
    async fn of_shards(
        &self,
        members: Arc<Members>,
        shards: Range<usize>,
        behind: Option<String>,
        most: usize,
    ) -> Result<Vec<(usize, String)>, Refusal> {
        let pool = self.journeys.pool().clone();
        let work = move || {
            pool.install(|| {
                let mut found = Vec::new();
                let mut behind = behind;
                for number in shards {
                    let Some(shard) = members.loaded.shards.get(number) else { break };
                    let mut ids = Vec::new();
                    for (run, skip) in shard.runs().into_iter().filter(|(run, _)| run.events() > 0) {
                        let bits = members.of(run, skip)?.members;
                        let places = (0..run.visitors.len()).filter(|at| bits[at / 64] >> (at % 64) & 1 == 1);
                        ids.extend(
                            places.map(|at| String::from_utf8_lossy(run.visitors.get(at)).into_owned()),
                        );
                    }
                    ids.sort_unstable();
                    if let Some(behind) = behind.take() {
                        ids.retain(|id| *id > behind);
                    }
                    found.extend(ids.into_iter().map(|id| (number, id)));
                    if found.len() >= most {
                        found.truncate(most);
                        break;
                    }
                }
                Ok::<_, CountError>(found)
            })
        };
        compute(work).await.map_err(|_| stopped())?.map_err(|fault| counting(&fault))
    }
}

/// Where a page ended.
struct Token {
    as_of_ms: i64,
    /// The shard and id of its last member.
    last: (usize, String),
}

impl Token {
    /// Reads what [`Token::show`] wrote; `None` for the first page.
    fn parse(text: &str) -> Result<Option<Token>, Refusal> {
        if text.is_empty() {
            return Ok(None);
        }
        let mut parts = text.splitn(3, ':');
        let mut token = || {
            let as_of_ms = parts.next()?.parse().ok()?;
            let shard = parts.next()?.parse().ok()?;
            Some(Token { as_of_ms, last: (shard, parts.next()?.to_owned()) })
        };
        token().map(Some).ok_or_else(foreign_token)
    }

    fn show(&self) -> String {
        let Token { as_of_ms, last: (shard, id) } = self;
        format!("{as_of_ms}:{shard}:{id}")
    }
}

/// An instant that a request says, or now.
fn instant(asked: Option<i64>, now_ms: i64) -> Result<i64, Refusal> {
    Ok(funnel::range(None, asked, now_ms)?.as_of_ms)
}

fn ones(bits: &[u64]) -> u64 {
    bits.iter().map(|word| u64::from(word.count_ones())).sum()
}

fn ones_of(left: &[u64], right: &[u64], with: fn(u64, u64) -> u64) -> u64 {
    left.iter().zip(right).map(|(left, right)| u64::from(with(*left, *right).count_ones())).sum()
}
