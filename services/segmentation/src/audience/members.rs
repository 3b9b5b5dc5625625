//! The members of a segment, as an ad network may know them.

use std::sync::Arc;

use runnel_contracts::{
    proto::audience::v1::{
        AudienceTotals, ExportAudienceRequest, ExportAudienceResponse, HashedIdentifiers, Withheld,
    },
    refusal::Refusal,
};
use runnel_definitions::{
    catalogue::Catalogue,
    funnel,
    members::{Members, selectors},
    posed,
};
use runnel_journeys::Run;
use runnel_model::TenantName;
use tokio::sync::mpsc;
use tonic::Status;

use super::{
    Audiences, messages,
    person::{Identifying, People, Word, both, withhold},
};

/// What was found of some visitors.
#[derive(Debug, Default)]
struct Found {
    rows: Vec<HashedIdentifiers>,
    totals: AudienceTotals,
}

impl Found {
    /// Takes one member in.
    fn member(&mut self, (members, people): (&Members, &People), run: &Run, visitor: usize) {
        let totals = &mut self.totals;
        let withheld = totals.withheld.get_or_insert_default();
        totals.members += 1;
        let word = match (people.ads(run, visitor), people.personalization(run, visitor)) {
            // An audience is there to show people what is meant for them.
            (Word::Granted, Word::Denied) => Word::Denied,
            (word, _) => word,
        };
        if word != Word::Granted {
            return withhold(withheld, word);
        }
        let person = people.person(&members.loaded, run, visitor, members.as_of_ms);
        totals.unusable_emails += person.unusable_emails;
        totals.unusable_phones += person.unusable_phones;
        match person.told() {
            Some(told) => {
                totals.exported += 1;
                self.rows.push(told);
            }
            None => withhold(withheld, word),
        }
    }
}

fn add(sum: &mut AudienceTotals, more: &AudienceTotals) {
    sum.members += more.members;
    sum.exported += more.exported;
    sum.unusable_emails += more.unusable_emails;
    sum.unusable_phones += more.unusable_phones;
    sum.withheld = Some(both(sum.withheld, more.withheld));
}

impl Audiences {
    /// Sends the members who agree to ads, one shard after the other.
    pub(super) async fn members(
        &self,
        tenant: &TenantName,
        request: ExportAudienceRequest,
        now_ms: i64,
        parts: &mpsc::Sender<Result<ExportAudienceResponse, Status>>,
    ) -> Result<(), Refusal> {
        let as_of_ms = funnel::range(None, request.as_of_ms, now_ms)?.as_of_ms;
        let identifying = Identifying::new(request.identifiers.as_ref())?;
        let catalogue = Catalogue::read(self.journeys.store(), tenant).await?;
        let (checked, version) = self.segments.segment(tenant, &catalogue, request.segment).await?;
        let mut columns = selectors(&checked);
        columns.extend(identifying.columns());
        let (loaded, definition) =
            posed::loaded(&self.journeys, tenant, columns, &checked.marks.settings, false).await?;
        let people = Arc::new(identifying.find(&loaded));
        let members = Arc::new(Members::new(loaded.clone(), checked, as_of_ms)?);
        let mut provenance = members.provenance(definition, version)?;
        provenance.notes.extend(identifying.notes(&loaded));
        let mut provenance = Some(provenance);
        let mut totals = AudienceTotals { withheld: Some(Withheld::default()), ..AudienceTotals::default() };
        for shard in 0..loaded.shards.len() {
            if parts.is_closed() {
                return Ok(());
            }
            let (members, people) = (members.clone(), people.clone());
            let look = move || {
                let mut found = Found::default();
                let runs = members.loaded.shards[shard].runs();
                for (run, skip) in runs.into_iter().filter(|(run, _)| run.events() > 0) {
                    let bits = members.of(run, skip)?.members;
                    let places = (0..run.visitors.len()).filter(|at| bits[at / 64] >> (at % 64) & 1 == 1);
                    places.for_each(|visitor| found.member((&members, &people), run, visitor));
                }
                // In an order that says nothing of who they are.
                found.rows.sort_unstable_by(|one, other| {
                    (&one.email_sha256, &one.phone_sha256).cmp(&(&other.email_sha256, &other.phone_sha256))
                });
                Ok(found)
            };
            let Found { rows, totals: more } = self.computed(look).await?;
            add(&mut totals, &more);
            for members in messages(rows) {
                let part = ExportAudienceResponse { members, provenance: provenance.take(), totals: None };
                if parts.send(Ok(part)).await.is_err() {
                    return Ok(());
                }
            }
        }
        let last = ExportAudienceResponse { members: Vec::new(), provenance, totals: Some(totals) };
        drop(parts.send(Ok(last)).await);
        Ok(())
    }
}
