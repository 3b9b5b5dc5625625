//! Persons' rights: erasing everything that is kept of one, and handing it out.

use std::{
    collections::{BTreeSet, HashSet},
    pin::Pin,
    sync::Arc,
};

use runnel_contracts::{
    event::events,
    proto::{
        event::v1::Event,
        subject::v1::{
            EraseRequest, EraseResponse, ErasureState, ExportSubjectRequest, ExportSubjectResponse,
            GetErasureRequest, GetErasureResponse, subject_service_server::SubjectService,
        },
    },
    receive::visitor_id,
    refusal::{Reason, Refusal},
};
use runnel_model::{EventBatch, Identities, TenantName, shard_of};
use runnel_storage::{EraseError, FetchError, Listing, Store, Unavailable, compute};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use tracing::Instrument;

use crate::{
    append::{capitalised, unavailable},
    identity::{tell, too_many_ids},
    persons::new_secret,
    service::Ingest,
};

/// Events of one part of an export, and parts that may wait for their reader.
const PART: usize = 500;
const PARTS: usize = 2;
/// Journal rows that are read in one go.
const ROWS: usize = 64;
/// How often in a row reading goes on with a new listing, because what was listed was compacted meanwhile, without anything new being read.
const ATTEMPTS: usize = 5;

#[tonic::async_trait]
impl SubjectService for Ingest {
    type ExportSubjectStream = Pin<Box<dyn Stream<Item = Result<ExportSubjectResponse, Status>> + Send>>;

    async fn erase(&self, request: Request<EraseRequest>) -> Result<Response<EraseResponse>, Status> {
        let caller = self.caller(&request)?;
        let EraseRequest { visitor_id: id } = request.into_inner();
        visitor_id("visitor_id", &id)?;
        let (secret, now_ms) = (new_secret()?, self.clock.now_ms());
        let erased = self.store.erase(&caller.tenant, &id, secret, now_ms).await;
        let erased = erased.map_err(|fault| match fault {
            EraseError::TenantUnknown(_) => {
                Refusal::new(Reason::NotFound, format!("{}.", capitalised(&fault.to_string())))
            }
            EraseError::TooManyIds => too_many_ids(),
            EraseError::Unavailable(fault) => unavailable(&fault),
        })?;
        // Who was erased stands in no log.
        tracing::info!(tenant = %caller.tenant, by = caller.key_id, erasure = erased.number, "an erasure was asked for");
        Ok(Response::new(EraseResponse {
            erasure: erased.number,
            ids: erased.ids,
            erased_until_ms: erased.requested_ms,
        }))
    }

    async fn get_erasure(
        &self,
        request: Request<GetErasureRequest>,
    ) -> Result<Response<GetErasureResponse>, Status> {
        let caller = self.caller(&request)?;
        let number = request.into_inner().erasure;
        let erasure =
            self.store.erasure(&caller.tenant, number).await.map_err(|fault| unavailable(&fault))?;
        let erasure = erasure.ok_or_else(|| {
            Refusal::field(Reason::NotFound, "erasure", format!("There is no erasure {number}."))
        })?;
        let unreadable = self.store.quarantined_events(&caller.tenant).await;
        let state = if erasure.done_ms.is_some() { ErasureState::Done } else { ErasureState::Pending };
        Ok(Response::new(GetErasureResponse {
            erasure: erasure.number,
            state: state as i32,
            requested_ms: erasure.requested_ms,
            done_ms: erasure.done_ms.unwrap_or(0),
            events: erasure.events,
            unreadable_events: unreadable.map_err(|fault| unavailable(&fault))?,
        }))
    }

    async fn export_subject(
        &self,
        request: Request<ExportSubjectRequest>,
    ) -> Result<Response<Self::ExportSubjectStream>, Status> {
        let caller = self.caller(&request)?;
        let ExportSubjectRequest { visitor_id: id } = request.into_inner();
        visitor_id("visitor_id", &id)?;
        let person = self.store.person(&caller.tenant, &id).await.map_err(|fault| unavailable(&fault))?;
        let person = person.ok_or_else(too_many_ids)?;
        let mut people = Identities::default();
        drop(people.add(&person.claims));
        let visitor = people.visitor(&id).to_owned();
        let mut ids: BTreeSet<String> = people.of_visitor(&visitor).map(str::to_owned).collect();
        ids.extend([id.clone(), visitor]);
        let identity = tell(&id, &person);
        let lists = self.store.lists_of(&caller.tenant, &ids).await.map_err(|fault| unavailable(&fault))?;
        let lists = lists.into_iter().collect();
        let first = ExportSubjectResponse { identity: Some(identity), events: Vec::new(), lists };
        tracing::info!(tenant = %caller.tenant, by = caller.key_id, "a person's data is handed out");
        let (parts, answer) = mpsc::channel(PARTS);
        let (store, tenant) = (self.store.clone(), caller.tenant);
        let work = async move {
            let export = Export { store, tenant, ids: Arc::new(ids), parts };
            if let Err(refusal) = export.run(first).await {
                let _ = export.parts.send(Err(refusal.into())).await;
            }
        };
        tokio::spawn(work.in_current_span());
        Ok(Response::new(Box::pin(ReceiverStream::new(answer))))
    }
}

/// One person's data on its way out.
struct Export {
    store: Store,
    tenant: TenantName,
    ids: Arc<BTreeSet<String>>,
    parts: mpsc::Sender<Result<ExportSubjectResponse, Status>>,
}

/// What was read for an export, so that it goes on where it was when something was compacted meanwhile. Of blocks that were merged since, everything is read again.
#[derive(Default)]
struct Read {
    sequences: HashSet<u64>,
    blocks: HashSet<u64>,
}

impl Export {
    async fn run(&self, first: ExportSubjectResponse) -> Result<(), Refusal> {
        let Ok(()) = self.send(first).await else { return Ok(()) };
        let (mut read, mut attempts) = (Read::default(), 0);
        loop {
            let listing = self.store.list(&self.tenant, 0).await.map_err(|fault| unavailable(&fault))?;
            let before = read.sequences.len() + read.blocks.len();
            match self.hand_out(&listing, &mut read).await {
                Ok(()) | Err(Stopped::Gone) => return Ok(()),
                Err(Stopped::Reading(FetchError::Missing)) if attempts < ATTEMPTS => {
                    let onwards = read.sequences.len() + read.blocks.len() > before;
                    attempts = if onwards { 0 } else { attempts + 1 };
                }
                Err(Stopped::Reading(FetchError::Unavailable(fault))) => return Err(unavailable(&fault)),
                Err(Stopped::Reading(fault)) => {
                    let text = format!("{}.", capitalised(&fault.to_string()));
                    return Err(Refusal::new(Reason::DataDamaged, text));
                }
            }
        }
    }

    async fn send(&self, part: ExportSubjectResponse) -> Result<(), Stopped> {
        self.parts.send(Ok(part)).await.map_err(|_| Stopped::Gone)
    }

    /// Sends what was not sent before.
    async fn hand_out(&self, listing: &Listing, read: &mut Read) -> Result<(), Stopped> {
        let rows = listing.journal.iter().map(|row| row.sequence);
        let rows: Vec<u64> = rows.filter(|row| !read.sequences.contains(row)).collect();
        for rows in rows.chunks(ROWS) {
            let batches = self.store.fetch_journal(&self.tenant, rows).await?;
            let ids = self.ids.clone();
            let found =
                compute(move || batches.iter().flat_map(|(_, batch)| of(batch, &ids, |_| true)).collect());
            self.send_all(found.await.map_err(|_| Unavailable::Stopped)?, listing).await?;
            read.sequences.extend(rows);
        }
        let sent = Arc::new(read.sequences.clone());
        for id in listing.blocks.iter().map(|block| block.id) {
            if read.blocks.contains(&id) {
                continue;
            }
            let block = Arc::new(self.store.fetch_block(&self.tenant, id).await?);
            for (group, about) in block.row_groups().iter().enumerate() {
                if !self.ids.iter().any(|id| about.shards.contains(&shard_of(id))) {
                    continue;
                }
                let (block, ids, sent) = (block.clone(), self.ids.clone(), sent.clone());
                let found = compute(move || {
                    let numbers = block.read_keys(group)?.numbers;
                    Ok(of(&block.read_all(group)?, &ids, |row| !sent.contains(&numbers[row])))
                });
                let found = found.await.map_err(|_| Unavailable::Stopped)?;
                let found = found.map_err(|source| FetchError::DamagedBlock { id, source })?;
                self.send_all(found, listing).await?;
            }
            read.blocks.insert(id);
        }
        Ok(())
    }

    async fn send_all(&self, mut found: Vec<Event>, listing: &Listing) -> Result<(), Stopped> {
        found.retain(|event| {
            let until = listing.erasing.until(&event.visitor_id);
            until.is_none_or(|until_ms| event.time_ms > Some(until_ms))
        });
        for part in found.chunks(PART) {
            self.send(ExportSubjectResponse { events: part.to_vec(), ..Default::default() }).await?;
        }
        Ok(())
    }
}

/// Why an export ends early.
enum Stopped {
    /// Nobody reads it any more.
    Gone,
    Reading(FetchError),
}

impl<E: Into<FetchError>> From<E> for Stopped {
    fn from(fault: E) -> Stopped {
        Stopped::Reading(fault.into())
    }
}

/// The events of a batch that were sent with one of the ids, of those rows that are wanted.
fn of(batch: &EventBatch, ids: &BTreeSet<String>, wanted: impl Fn(usize) -> bool) -> Vec<Event> {
    let words: BTreeSet<u32> = ids.iter().filter_map(|id| batch.strings.find(id)).collect();
    let rows: Vec<u32> = (0..)
        .zip(&batch.visitors)
        .filter(|(row, visitor)| words.contains(visitor) && wanted(*row as usize))
        .map(|(row, _)| row)
        .collect();
    if rows.is_empty() { Vec::new() } else { events(batch, &rows) }
}
