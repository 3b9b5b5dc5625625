//! What others counted by day: kept as definitions, one a date, so that they change together, with a version, like everything else that a tenant says.

use std::collections::{BTreeMap, HashSet};

use jiff::civil::Date;
use prost::Message;
use runnel_contracts::{
    conversion::currency,
    proto::catalog::v1::{
        DailyCount, ListDailyCountsRequest, ListDailyCountsResponse, PutDailyCountsRequest,
        PutDailyCountsResponse,
    },
    refusal::{Reason, Refusal},
};
use runnel_definitions::{catalogue::damaged, counted::what, refusal::unavailable, saved::page_size};
use runnel_model::{TenantName, limits};
use runnel_storage::{DefinitionChange, SaveDefinitionError, Store};

/// The kind under which the counts of a day are stored, as a request that says them.
const KIND: &str = "daily-counts";
/// How often somebody else may be faster before one gives up.
const ATTEMPTS: usize = 5;

/// What is counted apart.
type Key<'a> = (i32, &'a str, &'a str, &'a str);

fn key(one: &DailyCount) -> Key<'_> {
    (one.what, &one.source, &one.medium, &one.campaign)
}

/// Keeps counts.
pub(super) async fn put(
    store: &Store,
    tenant: &TenantName,
    request: PutDailyCountsRequest,
    now_ms: i64,
) -> Result<PutDailyCountsResponse, Refusal> {
    let days = checked(&request.counts)?;
    for _ in 0..ATTEMPTS {
        let version = store.definition_version(tenant).await.map_err(|fault| unavailable(&fault))?;
        let mut writes = Vec::new();
        for (date, said) in &days {
            let before = store.get_definition(tenant, KIND, date, 0).await;
            let before = before.map_err(|fault| unavailable(&fault))?;
            let before = before.map(|record| decode(record.body)).transpose()?.unwrap_or_default();
            let after = merged(&before, said);
            most(date, after.len())?;
            if after != before {
                let body = PutDailyCountsRequest { counts: after }.encode_to_vec();
                let body = (!body.is_empty()).then(|| body.into());
                let (kind, name) = (KIND.to_owned(), date.clone());
                writes.push(DefinitionChange { kind, name, body, only_newest: true });
            }
        }
        let changed_days = writes.len() as u32;
        if writes.is_empty() {
            return Ok(PutDailyCountsResponse { changed_days, version });
        }
        match store.change_definitions(tenant, writes, version, now_ms).await {
            Ok(version) => return Ok(PutDailyCountsResponse { changed_days, version }),
            Err(SaveDefinitionError::VersionConflict { .. }) => {}
            Err(SaveDefinitionError::Unavailable(fault)) => return Err(unavailable(&fault)),
            Err(fault @ SaveDefinitionError::TenantUnknown(_)) => {
                return Err(Refusal::new(Reason::NotFound, format!("Nothing was kept: {fault}.")));
            }
        }
    }
    let text = "Nothing was kept: the tenant's definitions change too quickly.";
    Err(Refusal::new(Reason::VersionConflict, text))
}

/// Counts by date, each of them checked.
fn checked(counts: &[DailyCount]) -> Result<BTreeMap<String, Vec<DailyCount>>, Refusal> {
    let out_of_range = |text: String| Err(Refusal::field(Reason::NumberOutOfRange, "counts", text));
    if counts.is_empty() || counts.len() > limits::DAILY_COUNTS {
        return out_of_range(format!(
            "A request has 1 to {} counts; this one has {}.",
            limits::DAILY_COUNTS,
            counts.len()
        ));
    }
    let mut days: BTreeMap<String, Vec<DailyCount>> = BTreeMap::new();
    let mut said: HashSet<(String, Key<'_>)> = HashSet::new();
    for (at, one) in counts.iter().enumerate() {
        let field = format!("counts[{at}]");
        let date = date(&format!("{field}.date"), &one.date)?.to_string();
        what(&format!("{field}.what"), one.what)?;
        for (name, text) in [("source", &one.source), ("medium", &one.medium), ("campaign", &one.campaign)] {
            if text.len() > limits::ID_BYTES {
                let text = format!("{name} has at most {} bytes; it has {}.", limits::ID_BYTES, text.len());
                return Err(Refusal::field(Reason::TextTooLong, format!("{field}.{name}"), text));
            }
        }
        if let Some(cost) = &one.cost {
            currency(&format!("{field}.cost.currency"), &cost.currency)?;
            if cost.micros < 0 {
                let text = format!("A cost is not negative; this one is {}.", cost.micros);
                return Err(Refusal::field(Reason::NumberOutOfRange, format!("{field}.cost.micros"), text));
            }
        }
        if !said.insert((date.clone(), key(one))) {
            let text = format!("Two counts of {date} have the same what, source, medium and campaign.");
            return Err(Refusal::field(Reason::DailyCountInvalid, field, text));
        }
        days.entry(date.clone()).or_default().push(DailyCount { date, ..one.clone() });
    }
    if days.len() > limits::DAILY_COUNT_DAYS {
        return out_of_range(format!(
            "A request is about at most {} days; this one about {}.",
            limits::DAILY_COUNT_DAYS,
            days.len()
        ));
    }
    Ok(days)
}

fn most(date: &str, counts: usize) -> Result<(), Refusal> {
    if counts <= limits::DAILY_COUNTS_OF_A_DAY {
        return Ok(());
    }
    let text = format!(
        "At most {} counts of a day are kept; of {date} they would be {counts}.",
        limits::DAILY_COUNTS_OF_A_DAY
    );
    Err(Refusal::field(Reason::LimitReached, "counts", text))
}

/// A day as people write it.
fn date(at: &str, text: &str) -> Result<Date, Refusal> {
    let parsed = text.parse::<Date>().ok().filter(|date| (1..=9_999).contains(&date.year()));
    parsed
        .filter(|date| date.to_string() == text)
        .ok_or_else(|| Refusal::field(Reason::DailyCountInvalid, at, format!("{text:?} is no date.")))
}

/// What there is when some of it is said anew, in order.
fn merged(before: &[DailyCount], said: &[DailyCount]) -> Vec<DailyCount> {
    let all = before.iter().chain(said);
    let all: BTreeMap<Key<'_>, &DailyCount> = all.map(|one| (key(one), one)).collect();
    let there = all.into_values().filter(|one| one.count > 0 || one.cost.is_some());
    there.cloned().collect()
}

fn decode(body: bytes::Bytes) -> Result<Vec<DailyCount>, Refusal> {
    Ok(PutDailyCountsRequest::decode(body).map_err(|_| damaged())?.counts)
}

/// The counts of at most `limit` days from `from` on and before `until`, by date, and whether there may be more.
pub(crate) async fn between(
    store: &Store,
    tenant: &TenantName,
    (from, until): (Option<Date>, Option<Date>),
    limit: usize,
) -> Result<(Vec<DailyCount>, bool), Refusal> {
    let before = from.and_then(|from| from.yesterday().ok()).map(|date| date.to_string());
    let found = store.list_definitions(tenant, KIND, before.as_deref(), limit).await;
    let found = found.map_err(|fault| unavailable(&fault))?;
    let (mut counts, mut more) = (Vec::new(), found.len() == limit);
    let until = until.map(|until| until.to_string());
    for record in found {
        if until.as_ref().is_some_and(|until| record.name >= *until) {
            more = false;
            break;
        }
        counts.extend(decode(record.body)?);
    }
    Ok((counts, more))
}

/// A page of counts.
pub(super) async fn list(
    store: &Store,
    tenant: &TenantName,
    request: &ListDailyCountsRequest,
) -> Result<ListDailyCountsResponse, Refusal> {
    let size = page_size(request.page_size)?;
    let bound = |at: &str, text: &str| (!text.is_empty()).then(|| date(at, text)).transpose();
    let (from, until) = (bound("from_date", &request.from_date)?, bound("until_date", &request.until_date)?);
    let from = match &*request.page_token {
        "" => from,
        token => match date("page_token", token) {
            Ok(last) => last.tomorrow().ok(),
            Err(_) => {
                let text = "page_token is none that this method has given.";
                return Err(Refusal::field(Reason::PageTokenInvalid, "page_token", text));
            }
        },
    };
    let (counts, more) = between(store, tenant, (from, until), size).await?;
    let last = counts.last().filter(|_| more);
    Ok(ListDailyCountsResponse {
        next_page_token: last.map(|last| last.date.clone()).unwrap_or_default(),
        counts,
    })
}

#[cfg(test)]
mod tests {
    use runnel_contracts::proto::event::v1::{Money, OffSite};

    use super::*;

    fn clicks(date: &str, campaign: &str, count: u64) -> DailyCount {
        let what = OffSite::AdClick as i32;
        DailyCount {
            date: date.to_owned(),
            what,
            campaign: campaign.to_owned(),
            count,
            ..DailyCount::default()
        }
    }

    #[test]
    fn what_is_said_anew_replaces_what_was_said() {
        let before = [clicks("2026-03-01", "a", 5), clicks("2026-03-01", "b", 7)];
        let said = [clicks("2026-03-01", "c", 1), clicks("2026-03-01", "a", 6), clicks("2026-03-01", "b", 0)];
        let after = merged(&before, &said);
        assert_eq!(after, [clicks("2026-03-01", "a", 6), clicks("2026-03-01", "c", 1)]);
        assert_eq!(merged(&after, &said), after);
    }

    #[test]
    fn bad_counts_are_refused_by_field() {
        let refused = |change: fn(&mut DailyCount)| {
            let mut one = clicks("2026-03-01", "a", 1);
            change(&mut one);
            let refusal = checked(&[clicks("2026-03-02", "a", 1), one]).unwrap_err();
            (refusal.reason, refusal.field)
        };
        let said = |reason, field: &str| (reason, format!("counts[1]{field}"));
        assert_eq!(refused(|one| one.date = "1.3.2026".to_owned()), said(Reason::DailyCountInvalid, ".date"));
        assert_eq!(
            refused(|one| one.date = "2026-02-30".to_owned()),
            said(Reason::DailyCountInvalid, ".date")
        );
        assert_eq!(refused(|one| one.what = 0), said(Reason::FieldMissing, ".what"));
        assert_eq!(refused(|one| one.what = 99), said(Reason::EnumUnknown, ".what"));
        assert_eq!(refused(|one| one.source = "x".repeat(257)), said(Reason::TextTooLong, ".source"));
        assert_eq!(
            refused(|one| one.cost = Some(Money { micros: 1, currency: "euro".to_owned() })),
            said(Reason::CurrencyMalformed, ".cost.currency")
        );
        assert_eq!(
            refused(|one| one.cost = Some(Money { micros: -1, currency: "EUR".to_owned() })),
            said(Reason::NumberOutOfRange, ".cost.micros")
        );
        assert_eq!(refused(|one| one.date = "2026-03-02".to_owned()), said(Reason::DailyCountInvalid, ""));
        assert!(checked(&[]).is_err());
    }
}
