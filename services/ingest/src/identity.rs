//! `IdentityService` as a tonic server: which ids are one person.

use std::collections::{BTreeMap, btree_map::Entry};

use runnel_contracts::{
    proto::identity::v1::{
        GetIdentityRequest, GetIdentityResponse, Identification as Wire, IdentificationOutcome,
        IdentifyRequest, IdentifyResponse, IdentityVerdict as Verdict, IgnoredIdentification, KnownAs, Link,
        MergeRequest, MergeResponse, identity_service_server::IdentityService,
    },
    receive::{time_ms, visitor_id},
    refusal::{Reason, Refusal},
};
use runnel_model::{ClaimKind, Identities, Standing, limits};
use runnel_storage::{ClaimError, Claimed, Identification, IdentityMergeError, Person};
use tonic::{Request, Response, Status};

use crate::{
    append::{capitalised, unavailable},
    service::Ingest,
};

#[tonic::async_trait]
impl IdentityService for Ingest {
    async fn identify(
        &self,
        request: Request<IdentifyRequest>,
    ) -> Result<Response<IdentifyResponse>, Status> {
        let caller = self.caller(&request)?;
        let asked = request.into_inner().identifications;
        match asked.len() {
            0 => {
                let text = "A request has at least one identification; this one has none.";
                return Err(Refusal::field(Reason::FieldMissing, "identifications", text).into());
            }
            count if count > limits::IDENTIFICATIONS => {
                let most = limits::IDENTIFICATIONS;
                let text = format!("A request has at most {most} identifications; this one has {count}.");
                return Err(Refusal::field(Reason::BatchTooLong, "identifications", text).into());
            }
            _ => {}
        }
        let now_ms = self.clock.now_ms();
        let checked: Vec<Result<Identification, Refusal>> =
            asked.into_iter().map(|one| check(one, now_ms)).collect();
        let good = checked.iter().filter_map(|one| one.as_ref().ok()).cloned().collect();
        let (claimed, alias) =
            self.store.identify(&caller.tenant, good, now_ms).await.map_err(|fault| refused(&fault))?;
        let mut claimed = claimed.into_iter();
        let outcomes = checked
            .into_iter()
            .filter_map(|one| match one {
                Ok(_) => claimed.next().map(outcome),
                Err(refusal) => Some(rejected(String::new(), refusal)),
            })
            .collect();
        Ok(Response::new(IdentifyResponse { outcomes, alias }))
    }

    async fn merge(&self, request: Request<MergeRequest>) -> Result<Response<MergeResponse>, Status> {
        let caller = self.caller(&request)?;
        let MergeRequest { from_id, into_id } = request.into_inner();
        visitor_id("from_id", &from_id)?;
        visitor_id("into_id", &into_id)?;
        if from_id == into_id {
            let text = "from_id and into_id are the same id.";
            return Err(Refusal::field(Reason::IdentityInvalid, "into_id", text).into());
        }
        let merged = self.store.merge(&caller.tenant, &from_id, &into_id, self.clock.now_ms()).await;
        let merged = merged.map_err(|fault| match fault {
            IdentityMergeError::Anonymous { ref id, .. } => {
                let field = if *id == from_id { "from_id" } else { "into_id" };
                let text = format!("{}.", capitalised(&fault.to_string()));
                Refusal::field(Reason::IdentityAnonymous, field, text)
            }
            IdentityMergeError::TooManyIds => too_many_ids(),
            IdentityMergeError::Claim(fault) => refused(&fault),
        })?;
        tracing::info!(by = caller.key_id, alias = merged.version, new = merged.new, "two visitors merged");
        Ok(Response::new(MergeResponse {
            visitor_id: merged.visitor,
            already_merged: !merged.new,
            alias: merged.version,
        }))
    }

    async fn get_identity(
        &self,
        request: Request<GetIdentityRequest>,
    ) -> Result<Response<GetIdentityResponse>, Status> {
        let caller = self.caller(&request)?;
        let id = request.into_inner().id;
        visitor_id("id", &id)?;
        let person = self.store.person(&caller.tenant, &id).await.map_err(|fault| unavailable(&fault))?;
        Ok(Response::new(tell(&id, &person.ok_or_else(too_many_ids)?)))
    }
}

fn check(one: Wire, now_ms: i64) -> Result<Identification, Refusal> {
    visitor_id("anonymous_id", &one.anonymous_id)?;
    visitor_id("known_id", &one.known_id)?;
    let at_ms = time_ms(one.time_ms, now_ms)?;
    if one.anonymous_id == one.known_id {
        let text = "anonymous_id and known_id are the same id.";
        return Err(Refusal::field(Reason::IdentityInvalid, "known_id", text));
    }
    Ok(Identification { anonymous: one.anonymous_id, known: one.known_id, at_ms })
}

fn outcome(claimed: Claimed) -> IdentificationOutcome {
    let belongs_to = claimed.belongs_to;
    let told = |verdict: Verdict, reason: Reason, message: &str| IdentificationOutcome {
        verdict: verdict as i32,
        belongs_to: belongs_to.clone(),
        reason: reason.name().to_owned(),
        field: "anonymous_id".to_owned(),
        message: message.to_owned(),
    };
    match claimed.standing {
        Some(Standing::Linked) => {
            let verdict = if claimed.new { Verdict::Linked } else { Verdict::AlreadyLinked };
            IdentificationOutcome { verdict: verdict as i32, belongs_to, ..IdentificationOutcome::default() }
        }
        Some(Standing::Taken) => told(
            Verdict::Taken,
            Reason::IdentityTaken,
            "The anonymous id was identified as somebody else earlier, by the times given.",
        ),
        Some(Standing::Known) => told(
            Verdict::Known,
            Reason::IdentityKnown,
            "The anonymous id is a known id itself: something was identified as it, or merged with it.",
        ),
        None if claimed.erased => {
            let text = "One of the ids was erased since; what was known before that is not taken.";
            rejected(belongs_to, Refusal::field(Reason::SubjectErased, "anonymous_id", text))
        }
        None => {
            let most = limits::IDENTIFICATIONS_OF_AN_ID;
            let text =
                format!("An anonymous id has at most {most} different identifications; this one has them.");
            rejected(belongs_to, Refusal::field(Reason::LimitReached, "anonymous_id", text))
        }
    }
}

fn rejected(belongs_to: String, refusal: Refusal) -> IdentificationOutcome {
    IdentificationOutcome {
        verdict: Verdict::Rejected as i32,
        belongs_to,
        reason: refusal.reason.name().to_owned(),
        field: refusal.field,
        message: refusal.message,
    }
}

fn refused(fault: &ClaimError) -> Refusal {
    let text = format!("{}.", capitalised(&fault.to_string()));
    match fault {
        ClaimError::TenantUnknown(_) => Refusal::new(Reason::NotFound, text),
        ClaimError::Full => Refusal::new(Reason::LimitReached, text),
        ClaimError::Unavailable(fault) => unavailable(fault),
    }
}

pub(crate) fn too_many_ids() -> Refusal {
    let most = limits::IDS_OF_A_PERSON;
    Refusal::new(
        Reason::LimitReached,
        format!("More than {most} identifications and merges make this person."),
    )
}

/// Who an id is, from all that was said about that person.
pub(crate) fn tell(id: &str, person: &Person) -> GetIdentityResponse {
    let mut people = Identities::default();
    drop(people.add(&person.claims));
    let visitor = people.visitor(id).to_owned();
    let mut ids: BTreeMap<String, KnownAs> = BTreeMap::new();
    let mut add = |id: &str, link: Link, belongs_to: &str, time_ms: i64| {
        if let Entry::Vacant(place) = ids.entry(id.to_owned()) {
            let (id, belongs_to) = (id.to_owned(), belongs_to.to_owned());
            place.insert(KnownAs { id, link: link as i32, belongs_to, time_ms });
        }
    };
    add(&visitor, Link::Own, "", 0);
    let mut ignored = Vec::new();
    for claim in person.claims.iter().filter(|claim| people.visitor(&claim.id) == visitor) {
        let standing = people.standing(&claim.id, &claim.belongs_to);
        match (claim.kind, standing) {
            (ClaimKind::Merge, _) => add(&claim.id, Link::Merged, &claim.belongs_to, claim.at_ms),
            (ClaimKind::Identify, Some(Standing::Linked)) => {
                let since = people.link(&claim.id).map_or(claim.at_ms, |(_, at_ms)| at_ms);
                add(&claim.id, Link::Identified, &claim.belongs_to, since);
            }
            (ClaimKind::Identify, standing) => {
                let known = standing == Some(Standing::Known);
                let verdict = if known { Verdict::Known } else { Verdict::Taken };
                ignored.push(IgnoredIdentification {
                    anonymous_id: claim.id.clone(),
                    known_id: claim.belongs_to.clone(),
                    time_ms: claim.at_ms,
                    verdict: verdict as i32,
                });
            }
        }
    }
    // A known id that nothing was said of but that others are it, or were merged into it.
    for claim in person.claims.iter().filter(|claim| people.visitor(&claim.belongs_to) == visitor) {
        add(&claim.belongs_to, Link::Merged, &visitor, claim.at_ms);
    }
    let truncated = ids.len() > limits::PAGE || ignored.len() > limits::PAGE;
    let ids = ids.into_values().take(limits::PAGE).collect();
    ignored.truncate(limits::PAGE);
    GetIdentityResponse { visitor_id: visitor, ids, ignored, truncated, alias: person.version }
}
