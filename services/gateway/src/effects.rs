//! Effects: an append between two looks at the visitors that it names.

use std::collections::{BTreeMap, HashMap};

use futures_util::future::try_join_all;
use http::{HeaderMap, HeaderName};
use runnel_chassis::{
    Caller, Clock, ContextSigner, Upstream,
    observe::{REQUEST_ID_HEADER, inject},
};
use runnel_contracts::{
    proto::{
        effect::v1::{
            AppendRequest, AppendResponse, ConversionEffect, Effect, FunnelEffect,
            effect_service_server::{EffectService, EffectServiceServer},
        },
        ingest::v1::{self as ingest, ingest_service_client::IngestServiceClient},
        segmentation::v1::{
            GetVisitorRequest, GetVisitorResponse, VisitorConversion, VisitorFunnel, VisitorSegment,
            VisitorUnit, segmentation_service_client::SegmentationServiceClient,
        },
    },
    refusal::{Reason, Refusal},
};
use runnel_model::limits;
use tonic::{
    Code, Extensions, Request, Response, Status,
    codec::CompressionEncoding::{Gzip, Zstd},
    metadata::MetadataMap,
};
use tracing::Span;

/// What a call says of itself that is true of the calls that it leads to: until when an answer is of use, and what it is called.
const CARRIED: [HeaderName; 2] = [HeaderName::from_static("grpc-timeout"), REQUEST_ID_HEADER];

/// Answers `EffectService` with what ingest and segmentation answer. Clones share both.
#[derive(Clone, Debug)]
pub struct Effects {
    ingest: IngestServiceClient<Upstream>,
    visitors: SegmentationServiceClient<Upstream>,
    signer: ContextSigner,
    clock: Clock,
}

/// A call: whose it is, and the headers that go on with it.
struct Call {
    caller: Caller,
    carried: HeaderMap,
}

impl Effects {
    /// Effects of what this ingest service takes on the visitors that this segmentation service knows.
    #[must_use]
    pub fn new(ingest: Upstream, segmentation: Upstream, signer: ContextSigner, clock: Clock) -> Effects {
        let (ingest, visitors) =
            (IngestServiceClient::new(ingest), SegmentationServiceClient::new(segmentation));
        Effects { ingest, visitors, signer, clock }
    }

    /// The service, with its limits.
    #[must_use]
    pub fn server(self) -> EffectServiceServer<Effects> {
        EffectServiceServer::new(self)
            .accept_compressed(Gzip)
            .accept_compressed(Zstd)
            .send_compressed(Gzip)
            .max_decoding_message_size(limits::MESSAGE_BYTES)
    }

    /// A message as a part of a call.
    fn carry<T>(&self, call: &Call, message: T) -> Request<T> {
        let mut headers = call.carried.clone();
        self.signer.sign(&call.caller, self.clock.now_ms(), &mut headers);
        inject(&Span::current(), &mut headers);
        Request::from_parts(MetadataMap::from_headers(headers), Extensions::new(), message)
    }

    /// How visitors stand.
    async fn look(
        &self,
        call: &Call,
        visitors: &[GetVisitorRequest],
    ) -> Result<Vec<GetVisitorResponse>, Status> {
        let looks = visitors.iter().map(|asked| async {
            let found = self.visitors.clone().get_visitor(self.carry(call, asked.clone())).await;
            found.map(Response::into_inner).map_err(plain)
        });
        try_join_all(looks).await
    }
}

#[tonic::async_trait]
impl EffectService for Effects {
    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        let caller = self.signer.caller(request.metadata(), self.clock.now_ms())?;
        let (metadata, _, request) = request.into_parts();
        let headers = metadata.into_headers();
        let carried = CARRIED.into_iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone())));
        let call = Call { caller, carried: carried.collect() };

        let (batch, visitors) = asked(request)?;
        let before = match self.look(&call, &visitors).await {
            Err(status) if blames_the_caller(&status) => return Err(status),
            before => before,
        };
        let dry = batch.validate_only;
        let outcome = self.ingest.clone().append(self.carry(&call, batch)).await.map_err(plain)?;
        let mut answer = AppendResponse { outcome: Some(outcome.into_inner()), ..AppendResponse::default() };
        if dry {
            return Ok(Response::new(answer));
        }
        // The batch is stored: from here on, nothing is an error.
        let looked = match before {
            Ok(before) => self.look(&call, &visitors).await.map(|now| (before, now)),
            Err(status) => Err(status),
        };
        match looked {
            Ok((before, now)) => {
                let stood = visitors.into_iter().zip(before).zip(now);
                answer.effects =
                    stood.map(|((asked, before), now)| effect(asked.visitor_id, before, now)).collect();
            }
            Err(status) => answer.untold = format!("The effects are not known: {}", status.message()),
        }
        Ok(Response::new(answer))
    }
}

/// The batch, and what is asked of each of its visitors.
fn asked(request: AppendRequest) -> Result<(ingest::AppendRequest, Vec<GetVisitorRequest>), Refusal> {
    let AppendRequest { batch, segments, funnels, values } = request;
    let batch = batch.ok_or_else(|| Refusal::field(Reason::FieldMissing, "batch", "batch is missing."))?;
    let (most, count) = (limits::EFFECT_EVENTS, batch.events.len());
    if count > most {
        let text = format!("Effects are told of at most {most} events at a time; here are {count}.");
        return Err(Refusal::field(Reason::BatchTooLong, "batch.events", text));
    }
    let mut ids: Vec<&str> = Vec::new();
    // An event without a visitor is refused where it is taken.
    for id in batch.events.iter().map(|event| event.visitor_id.as_str()).filter(|id| !id.is_empty()) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let (most, count) = (limits::EFFECT_VISITORS, ids.len());
    if count > most {
        let text = format!("Effects are told of at most {most} visitors at a time; here are {count}.");
        return Err(Refusal::field(Reason::BatchTooLong, "batch.events", text));
    }
    let visitors = ids.into_iter().map(|id| GetVisitorRequest {
        visitor_id: id.to_owned(),
        as_of_ms: None,
        segments: segments.clone(),
        funnels: funnels.clone(),
        values,
    });
    let visitors = visitors.collect();
    Ok((batch, visitors))
}

/// A status without the headers that it came with.
fn plain(status: Status) -> Status {
    Status::with_details(status.code(), status.message(), status.details().to_vec().into())
}

/// Whether another call of the same kind would fail as well.
fn blames_the_caller(status: &Status) -> bool {
    matches!(status.code(), Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition)
}

fn effect(visitor_id: String, before: GetVisitorResponse, now: GetVisitorResponse) -> Effect {
    let belonged = before.segments.iter().map(|segment| segment.member);
    let segments: Vec<(bool, VisitorSegment)> = belonged.zip(now.segments).collect();
    let which = |belonged: bool| {
        let turned = segments.iter().filter(move |(was, is)| *was == belonged && is.member != belonged);
        turned.map(|(_, is)| is.name.clone()).collect()
    };
    let funnels = before.funnels.into_iter().zip(now.funnels);
    Effect {
        visitor_id,
        first: before.events == 0 && now.events > 0,
        stage_before: before.stage,
        stage: now.stage,
        conversions: conversions(before.conversions, now.conversions),
        entered: which(false),
        left: which(true),
        funnels: funnels.filter_map(|(before, now)| funnel(before, now)).collect(),
        counts_as: now.visitor_id,
    }
}

fn conversions(before: Vec<VisitorConversion>, now: Vec<VisitorConversion>) -> Vec<ConversionEffect> {
    let mut times: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for one in before {
        times.entry(one.name).or_default().0 = one.times;
    }
    for one in now {
        times.entry(one.name).or_default().1 = one.times;
    }
    let changed = times.into_iter().filter(|(_, (before, now))| before != now);
    changed.map(|(name, (times_before, times))| ConversionEffect { name, times_before, times }).collect()
}

fn funnel(before: VisitorFunnel, now: VisitorFunnel) -> Option<FunnelEffect> {
    let (gone, come) = (beside(&before.units, &now.units), beside(&now.units, &before.units));
    let changed = !gone.is_empty() || !come.is_empty();
    changed.then_some(FunnelEffect { name: now.name, version: now.version, before: gone, now: come })
}

/// The units that have no like among the others, each of which is like one only.
fn beside(units: &[VisitorUnit], others: &[VisitorUnit]) -> Vec<VisitorUnit> {
    let stands = |unit: &VisitorUnit| (unit.step, unit.state, unit.entered_ms, unit.step_ms);
    let mut alike: HashMap<_, usize> = HashMap::new();
    for other in others {
        *alike.entry(stands(other)).or_default() += 1;
    }
    let differs = |unit: &&VisitorUnit| match alike.get_mut(&stands(unit)) {
        Some(left) if *left > 0 => {
            *left -= 1;
            false
        }
        _ => true,
    };
    units.iter().filter(differs).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_that_stand_alike_are_told_apart_by_their_number() {
        let unit = |step: u32, entered_ms: i64| VisitorUnit { step, entered_ms, ..VisitorUnit::default() };
        let (before, now) = (vec![unit(1, 7), unit(1, 7), unit(2, 9)], vec![unit(1, 7), unit(3, 9)]);
        assert_eq!(beside(&before, &now), [unit(1, 7), unit(2, 9)]);
        assert_eq!(beside(&now, &before), [unit(3, 9)]);
        assert_eq!(beside(&now, &now), []);
    }

    #[test]
    fn a_visitor_is_asked_for_once_and_only_so_many_are() {
        let event = |id: usize| runnel_contracts::proto::event::v1::Event {
            visitor_id: if id == 0 { String::new() } else { format!("v{id}") },
            ..Default::default()
        };
        let request = |ids: &mut dyn Iterator<Item = usize>| AppendRequest {
            batch: Some(ingest::AppendRequest { events: ids.map(event).collect(), ..Default::default() }),
            ..AppendRequest::default()
        };
        let (batch, visitors) = asked(request(&mut (0..100).map(|at| at % 11))).unwrap();
        assert_eq!((batch.events.len(), visitors.len()), (100, 10));
        for ids in [&mut (1..12_usize) as &mut dyn Iterator<Item = usize>, &mut std::iter::repeat_n(1, 101)] {
            assert_eq!(asked(request(ids)).unwrap_err().field, "batch.events");
        }
        assert_eq!(asked(AppendRequest::default()).unwrap_err().field, "batch");
    }
}
