//! Who is who: a log of what was said about ids. Rows never change; an erasure deletes those of a person.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use runnel_model::{Claim, ClaimKind, Identities, TenantName, limits};

use super::{
    Connection, Database, Dialect,
    erasures::erased,
    failure::unavailable,
    head::lock_head,
    rows::{MANY, TOGETHER},
    sqlx::{self, QueryBuilder},
};
use crate::{
    ClaimError, Claimed, Identification, IdentityMergeError, Merged, Person, Unavailable,
    backend::Purpose::{Ingest, Query},
};

/// Number, kind, id, what it belongs to, and when.
type ClaimRow = (i64, i64, String, String, i64);

impl Database {
    pub(crate) async fn identify(
        &self,
        tenant: &TenantName,
        identifications: Vec<Identification>,
        now_ms: i64,
    ) -> Result<(Vec<Claimed>, u64), ClaimError> {
        let owner = tenant.clone();
        self.write(Ingest, Some(tenant), move |connection| {
            Box::pin(async move {
                let ids: BTreeSet<&str> = identifications.iter().map(|one| &*one.anonymous).collect();
                let noted = about(connection, &owner, &ids).await.map_err(unavailable)?;
                let mut of_ids: HashMap<String, usize> = HashMap::new();
                let mut earliest: BTreeMap<(String, String), i64> = BTreeMap::new();
                // A merge of the same two ids is another thing to say.
                for claim in noted.iter().filter(|claim| claim.kind == ClaimKind::Identify) {
                    *of_ids.entry(claim.id.clone()).or_default() += 1;
                    let pair = (claim.id.clone(), claim.belongs_to.clone());
                    let at_ms = earliest.entry(pair).or_insert(claim.at_ms);
                    *at_ms = claim.at_ms.min(*at_ms);
                }
                let both = identifications.iter().flat_map(|one| [&*one.anonymous, &*one.known]);
                let erased = erased(connection, &owner, &both.collect()).await.map_err(unavailable)?;
                let is_erased = |one: &Identification| {
                    [&one.anonymous, &one.known]
                        .into_iter()
                        .any(|id| erased.get(id).is_some_and(|until_ms| one.at_ms <= *until_ms))
                };
                // What is said again, or of a later time, tells nothing new.
                let (mut new, mut fates) = (Vec::new(), Vec::with_capacity(identifications.len()));
                for one in &identifications {
                    if is_erased(one) {
                        fates.push(None);
                        continue;
                    }
                    let pair = (one.anonymous.clone(), one.known.clone());
                    if earliest.get(&pair).is_some_and(|at_ms| *at_ms <= one.at_ms) {
                        fates.push(Some(false));
                        continue;
                    }
                    let count = of_ids.entry(one.anonymous.clone()).or_default();
                    if *count >= limits::IDENTIFICATIONS_OF_AN_ID {
                        fates.push(None);
                        continue;
                    }
                    *count += 1;
                    earliest.insert(pair, one.at_ms);
                    new.push(one.clone());
                    fates.push(Some(true));
                }
                let new: Vec<Claim> = new
                    .into_iter()
                    .map(|one| Claim {
                        number: 0,
                        kind: ClaimKind::Identify,
                        id: one.anonymous,
                        belongs_to: one.known,
                        at_ms: one.at_ms,
                    })
                    .collect();
                let (new, version) = add(connection, &owner, new, now_ms).await?;
                let mut people = Identities::default();
                drop(people.add(noted.iter().chain(&new)));
                let claimed = identifications.iter().zip(fates).map(|(one, fate)| Claimed {
                    new: fate == Some(true),
                    erased: is_erased(one),
                    standing: fate.and(people.standing(&one.anonymous, &one.known)),
                    belongs_to: people
                        .link(&one.anonymous)
                        .map_or(&*one.anonymous, |(known, _)| known)
                        .to_owned(),
                });
                Ok((claimed.collect(), version))
            })
        })
        .await
    }

    pub(crate) async fn merge(
        &self,
        tenant: &TenantName,
        from: &str,
        into: &str,
        now_ms: i64,
    ) -> Result<Merged, IdentityMergeError> {
        let (owner, from, into) = (tenant.clone(), from.to_owned(), into.to_owned());
        self.write(Ingest, Some(tenant), move |connection| {
            Box::pin(async move {
                // Whoever is erased at this moment was so before, or is with what is said here.
                lock_head(connection, &owner).await.map_err(unavailable)?;
                let claims = around(connection, &owner, [&*from, &*into]).await.map_err(unavailable)?;
                let mut claims = claims.ok_or(IdentityMergeError::TooManyIds)?;
                let mut people = Identities::default();
                drop(people.add(&claims));
                for id in [&from, &into] {
                    if let Some((known, _)) = people.link(id) {
                        return Err(IdentityMergeError::Anonymous {
                            id: id.clone(),
                            belongs_to: known.to_owned(),
                        });
                    }
                }
                if people.visitor(&from) == people.visitor(&into) {
                    let version = version(connection, &owner).await.map_err(unavailable)?;
                    let visitor = people.visitor(&into).to_owned();
                    return Ok(Merged { visitor, new: false, version });
                }
                let merge = Claim {
                    number: 0,
                    kind: ClaimKind::Merge,
                    id: from,
                    belongs_to: into.clone(),
                    at_ms: now_ms,
                };
                let (new, version) = add(connection, &owner, vec![merge], now_ms).await?;
                claims.extend(new);
                let mut people = Identities::default();
                drop(people.add(&claims));
                Ok(Merged { visitor: people.visitor(&into).to_owned(), new: true, version })
            })
        })
        .await
    }

    pub(crate) async fn claims(
        &self,
        tenant: &TenantName,
        after: u64,
        until: u64,
    ) -> Result<Vec<Claim>, Unavailable> {
        let owner = tenant.clone();
        self.read_one(Query, Some(tenant), move |connection| {
            Box::pin(async move {
                let rows: Vec<ClaimRow> = sqlx::query_as(
                    "SELECT number, kind, id, belongs_to, at_ms FROM aliases \
                     WHERE tenant_id = $1 AND number > $2 AND number <= $3 ORDER BY number LIMIT $4",
                )
                .bind(owner.as_str())
                .bind(i64::try_from(after).unwrap_or(i64::MAX))
                .bind(i64::try_from(until).unwrap_or(i64::MAX))
                .bind(limits::CLAIMS_READ as i64)
                .fetch_all(connection)
                .await?;
                Ok(rows.into_iter().map(claim).collect())
            })
        })
        .await
    }

    pub(crate) async fn person(&self, tenant: &TenantName, id: &str) -> Result<Option<Person>, Unavailable> {
        let (owner, id) = (tenant.clone(), id.to_owned());
        self.read(Query, Some(tenant), move |connection| {
            Box::pin(async move {
                let claims = around(connection, &owner, [&*id]).await?;
                let version = version(connection, &owner).await?;
                Ok(claims.map(|claims| Person { claims, version }))
            })
        })
        .await
    }
}

/// What was said of these ids as anonymous ones; and for those that are known ones, one claim that says so.
async fn about(
    connection: &mut Connection,
    tenant: &TenantName,
    ids: &BTreeSet<&str>,
) -> Result<Vec<Claim>, sqlx::Error> {
    let ids: Vec<&str> = ids.iter().copied().collect();
    let mut claims = with_ids(connection, tenant, "id", &ids).await?;
    for id in ids {
        let row: Option<ClaimRow> = sqlx::query_as(
            "SELECT number, kind, id, belongs_to, at_ms FROM aliases \
             WHERE tenant_id = $1 AND belongs_to = $2 ORDER BY number LIMIT 1",
        )
        .bind(tenant.as_str())
        .bind(id)
        .fetch_optional(&mut *connection)
        .await?;
        claims.extend(row.map(claim));
    }
    in_order(&mut claims);
    Ok(claims)
}

/// Every claim that has to do with these ids, or with ids that such claims name, and so on, by number; `None` when there are too many.
pub(super) async fn around<const N: usize>(
    connection: &mut Connection,
    tenant: &TenantName,
    ids: [&str; N],
) -> Result<Option<Vec<Claim>>, sqlx::Error> {
    let mut seen: BTreeSet<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    let (mut next, mut claims) = (seen.clone(), BTreeMap::new());
    while !next.is_empty() {
        let ids: Vec<&str> = next.iter().map(String::as_str).collect();
        let mut found = with_ids(connection, tenant, "id", &ids).await?;
        found.extend(with_ids(connection, tenant, "belongs_to", &ids).await?);
        let named = found.iter().flat_map(|claim| [claim.id.clone(), claim.belongs_to.clone()]);
        next = named.filter(|id| !seen.contains(id)).collect();
        seen.extend(next.iter().cloned());
        claims.extend(found.into_iter().map(|claim| (claim.number, claim)));
        if claims.len() > limits::IDS_OF_A_PERSON {
            return Ok(None);
        }
    }
    Ok(Some(claims.into_values().collect()))
}

/// Claims that name one of these ids; of those of each statement, one more than a person may have at most.
async fn with_ids(
    connection: &mut Connection,
    tenant: &TenantName,
    column: &'static str,
    ids: &[&str],
) -> Result<Vec<Claim>, sqlx::Error> {
    let mut claims = Vec::new();
    for some in ids.chunks(MANY) {
        let mut query: QueryBuilder<Dialect> =
            QueryBuilder::new("SELECT number, kind, id, belongs_to, at_ms FROM aliases WHERE tenant_id = ");
        query.push_bind(tenant.as_str());
        query.push(" AND ").push(column).push(" IN (");
        let mut list = query.separated(", ");
        some.iter().for_each(|id| {
            list.push_bind(*id);
        });
        query.push(") ORDER BY number LIMIT ");
        query.push_bind(limits::IDS_OF_A_PERSON as i64 + 1);
        let query = query.build_query_as().persistent(some.len() <= TOGETHER);
        let rows: Vec<ClaimRow> = query.fetch_all(&mut *connection).await?;
        claims.extend(rows.into_iter().map(claim));
    }
    Ok(claims)
}

fn in_order(claims: &mut Vec<Claim>) {
    claims.sort_unstable_by_key(|claim| claim.number);
    claims.dedup_by_key(|claim| claim.number);
}

fn claim((number, kind, id, belongs_to, at_ms): ClaimRow) -> Claim {
    let kind = if kind == MERGE { ClaimKind::Merge } else { ClaimKind::Identify };
    Claim { number: number as u64, kind, id, belongs_to, at_ms }
}

/// The numbers are stored and never change.
const IDENTIFY: i64 = 1;
const MERGE: i64 = 2;

/// Gives claims their numbers and writes them. The newest number, also where there are none. Whoever writes holds the tenant's head until the commit, so that
/// whoever sees a number sees all lower ones.
async fn add(
    connection: &mut Connection,
    tenant: &TenantName,
    mut claims: Vec<Claim>,
    now_ms: i64,
) -> Result<(Vec<Claim>, u64), ClaimError> {
    if claims.is_empty() {
        return Ok((claims, version(connection, tenant).await.map_err(unavailable)?));
    }
    let newest: Option<(i64,)> = sqlx::query_as(
        "UPDATE heads SET alias_version = alias_version + $1 WHERE tenant_id = $2 RETURNING alias_version",
    )
    .bind(claims.len() as i64)
    .bind(tenant.as_str())
    .fetch_optional(&mut *connection)
    .await
    .map_err(unavailable)?;
    let (newest,) = newest.ok_or_else(|| ClaimError::TenantUnknown(tenant.clone()))?;
    if newest as u64 > limits::CLAIMS {
        return Err(ClaimError::Full);
    }
    let first = newest as u64 - claims.len() as u64 + 1;
    claims.iter_mut().zip(first..).for_each(|(claim, number)| claim.number = number);
    for some in claims.chunks(TOGETHER) {
        let mut rows: QueryBuilder<Dialect> = QueryBuilder::new(
            "INSERT INTO aliases (tenant_id, number, kind, id, belongs_to, at_ms, created_ms) ",
        );
        rows.push_values(some, |mut row, claim| {
            let kind = match claim.kind {
                ClaimKind::Identify => IDENTIFY,
                ClaimKind::Merge => MERGE,
            };
            row.push_bind(tenant.as_str())
                .push_bind(claim.number as i64)
                .push_bind(kind)
                .push_bind(claim.id.as_str())
                .push_bind(claim.belongs_to.as_str())
                .push_bind(claim.at_ms)
                .push_bind(now_ms);
        });
        rows.build().execute(&mut *connection).await.map_err(unavailable)?;
    }
    Ok((claims, newest as u64))
}

async fn version(connection: &mut Connection, tenant: &TenantName) -> Result<u64, sqlx::Error> {
    let row: Option<(i64,)> = sqlx::query_as("SELECT alias_version FROM heads WHERE tenant_id = $1")
        .bind(tenant.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(row.map_or(0, |(version,)| version as u64))
}
