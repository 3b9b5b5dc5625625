//! Lists of visitors. That there is a list, with its version, is a definition of the kind list; who is on it stands in a table of its own.

use std::collections::BTreeSet;

use runnel_model::{TenantName, limits};

use super::{
    Connection, Database, Dialect,
    definitions::{lower_version, newest, raise_version, replace},
    erasures::delete_listed,
    failure::unavailable,
    rows::{MANY, TOGETHER},
    sqlx::{self, QueryBuilder},
};
use crate::{
    ListError, ListRecord, Unavailable,
    backend::Purpose::{Admin, Query},
};

/// The kind under which lists are among the definitions.
const KIND: &str = "list";

/// Name, version and time of a list.
type Heading = (String, i64, i64);

impl Database {
    pub(crate) async fn put_list_members(
        &self,
        tenant: &TenantName,
        list: &str,
        ids: BTreeSet<String>,
        now_ms: i64,
    ) -> Result<ListRecord, ListError> {
        let (owner, list) = (tenant.clone(), list.to_owned());
        self.write(Admin, Some(tenant), move |connection| {
            Box::pin(async move {
                // Whoever changes lists of a tenant, or erases somebody, waits here for those who do so at this moment.
                if !raise_version(connection, &owner).await.map_err(unavailable)? {
                    return Err(ListError::TenantUnknown(owner));
                }
                let known = newest(connection, &owner, KIND, &list).await.map_err(unavailable)?;
                let is_new = !matches!(&known, Some((_, Some(_), _)));
                if is_new && count_lists(connection, &owner).await.map_err(unavailable)? >= limits::LISTS {
                    return Err(ListError::TooManyLists);
                }
                let ids: Vec<String> = ids.into_iter().collect();
                let added = put(connection, &owner, &list, &ids, now_ms).await.map_err(unavailable)?;
                let members = count(connection, &owner, &list).await.map_err(unavailable)?;
                if members > limits::LIST_MEMBERS as u64 {
                    return Err(ListError::TooManyMembers { members });
                }
                let before = known.map_or((0, 0), |(version, _, changed_ms)| (version, changed_ms));
                let changed = (is_new || added > 0).then_some(now_ms);
                let (version, changed_ms) =
                    note(connection, &owner, &list, before, changed).await.map_err(unavailable)?;
                Ok(ListRecord { name: list, members, changed_ms, version })
            })
        })
        .await
    }

    pub(crate) async fn remove_list_members(
        &self,
        tenant: &TenantName,
        list: &str,
        ids: BTreeSet<String>,
        now_ms: i64,
    ) -> Result<ListRecord, ListError> {
        let (owner, list) = (tenant.clone(), list.to_owned());
        self.write(Admin, Some(tenant), move |connection| {
            Box::pin(async move {
                if !raise_version(connection, &owner).await.map_err(unavailable)? {
                    return Err(ListError::TenantUnknown(owner));
                }
                let known = newest(connection, &owner, KIND, &list).await.map_err(unavailable)?;
                let Some((version, Some(_), changed_ms)) = known else {
                    return Err(ListError::Unknown(list));
                };
                let ids: Vec<String> = ids.into_iter().collect();
                let removed = remove(connection, &owner, &list, &ids).await.map_err(unavailable)?;
                let members = count(connection, &owner, &list).await.map_err(unavailable)?;
                let changed = (removed > 0).then_some(now_ms);
                let (version, changed_ms) = note(connection, &owner, &list, (version, changed_ms), changed)
                    .await
                    .map_err(unavailable)?;
                Ok(ListRecord { name: list, members, changed_ms, version })
            })
        })
        .await
    }

    pub(crate) async fn delete_list(
        &self,
        tenant: &TenantName,
        list: &str,
        now_ms: i64,
    ) -> Result<bool, Unavailable> {
        let (owner, list) = (tenant.clone(), list.to_owned());
        self.write(Admin, Some(tenant), move |connection| {
            Box::pin(async move {
                if !raise_version(connection, &owner).await.map_err(unavailable)? {
                    return Ok(false);
                }
                let known = newest(connection, &owner, KIND, &list).await.map_err(unavailable)?;
                let Some((version, Some(_), _)) = known else {
                    lower_version(connection, &owner).await.map_err(unavailable)?;
                    return Ok(false);
                };
                sqlx::query("DELETE FROM list_members WHERE tenant_id = $1 AND list = $2")
                    .bind(owner.as_str())
                    .bind(&list)
                    .execute(&mut *connection)
                    .await
                    .map_err(unavailable)?;
                let gone = replace(connection, &owner, KIND, &list, version, None, now_ms).await;
                gone.map(|()| true).map_err(unavailable)
            })
        })
        .await
    }

    pub(crate) async fn lists(
        &self,
        tenant: &TenantName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ListRecord>, Unavailable> {
        let owner = tenant.clone();
        let after = after.unwrap_or_default().to_owned();
        let limit = limit.min(limits::LISTS) as i64;
        self.read(Query, Some(tenant), move |connection| {
            Box::pin(async move {
                let found: Vec<Heading> = sqlx::query_as(
                    "SELECT name, version, saved_ms FROM definitions \
                     WHERE tenant_id = $1 AND kind = $2 AND name > $3 AND body IS NOT NULL ORDER BY name LIMIT $4",
                )
                .bind(owner.as_str())
                .bind(KIND)
                .bind(after)
                .bind(limit)
                .fetch_all(&mut *connection)
                .await?;
                let mut lists = Vec::with_capacity(found.len());
                for (name, version, changed_ms) in found {
                    let members = count(connection, &owner, &name).await?;
                    lists.push(ListRecord { name, members, changed_ms, version: version as u64 });
                }
                Ok(lists)
            })
        })
        .await
    }

    pub(crate) async fn list_members(
        &self,
        tenant: &TenantName,
        list: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<String>>, Unavailable> {
        let (owner, list) = (tenant.clone(), list.to_owned());
        let after = after.unwrap_or_default().to_owned();
        let limit = limit.min(limits::LIST_MEMBERS) as i64;
        self.read(Query, Some(tenant), move |connection| {
            Box::pin(async move {
                let known = newest(connection, &owner, KIND, &list).await?;
                if !matches!(known, Some((_, Some(_), _))) {
                    return Ok(None);
                }
                let ids = sqlx::query_scalar(
                    "SELECT visitor_id FROM list_members \
                     WHERE tenant_id = $1 AND list = $2 AND visitor_id > $3 ORDER BY visitor_id LIMIT $4",
                );
                let ids = ids.bind(owner.as_str()).bind(list).bind(after).bind(limit);
                ids.fetch_all(connection).await.map(Some)
            })
        })
        .await
    }

    pub(crate) async fn lists_of(
        &self,
        tenant: &TenantName,
        ids: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, Unavailable> {
        let (owner, ids): (_, Vec<String>) = (tenant.clone(), ids.iter().cloned().collect());
        self.read(Query, Some(tenant), move |connection| {
            Box::pin(async move {
                let mut lists = BTreeSet::new();
                for some in ids.chunks(TOGETHER) {
                    let mut query: QueryBuilder<Dialect> =
                        QueryBuilder::new("SELECT list FROM list_members WHERE tenant_id = ");
                    query.push_bind(owner.as_str()).push(" AND visitor_id IN (");
                    let mut named = query.separated(", ");
                    some.iter().for_each(|id| {
                        named.push_bind(id.as_str());
                    });
                    query.push(")");
                    let found: Vec<(String,)> = query.build_query_as().fetch_all(&mut *connection).await?;
                    lists.extend(found.into_iter().map(|(list,)| list));
                }
                Ok(lists)
            })
        })
        .await
    }
}

/// Takes ids off all lists of a tenant, within an erasure. Where some were on one, whoever read that reads it again.
pub(super) async fn take_off(
    connection: &mut Connection,
    tenant: &TenantName,
    ids: &[String],
) -> Result<(), sqlx::Error> {
    let statement = "DELETE FROM list_members WHERE tenant_id = ";
    if delete_listed(connection, tenant, statement, "visitor_id", ids).await? > 0 {
        raise_version(connection, tenant).await?;
    }
    Ok(())
}

/// Puts ids on a list. How many were not on it.
async fn put(
    connection: &mut Connection,
    tenant: &TenantName,
    list: &str,
    ids: &[String],
    now_ms: i64,
) -> Result<u64, sqlx::Error> {
    let mut added = 0;
    for some in ids.chunks(MANY) {
        let mut rows: QueryBuilder<Dialect> =
            QueryBuilder::new("INSERT INTO list_members (tenant_id, list, visitor_id, added_ms) ");
        rows.push_values(some, |mut row, id| {
            row.push_bind(tenant.as_str()).push_bind(list).push_bind(id.as_str()).push_bind(now_ms);
        });
        rows.push(" ON CONFLICT (tenant_id, list, visitor_id) DO NOTHING");
        let done = rows.build().persistent(false).execute(&mut *connection).await?;
        added += done.rows_affected();
    }
    Ok(added)
}

/// Takes ids off a list. How many were on it.
async fn remove(
    connection: &mut Connection,
    tenant: &TenantName,
    list: &str,
    ids: &[String],
) -> Result<u64, sqlx::Error> {
    let mut removed = 0;
    for some in ids.chunks(MANY) {
        let mut query: QueryBuilder<Dialect> =
            QueryBuilder::new("DELETE FROM list_members WHERE tenant_id = ");
        query.push_bind(tenant.as_str()).push(" AND list = ").push_bind(list);
        query.push(" AND visitor_id IN (");
        let mut named = query.separated(", ");
        some.iter().for_each(|id| {
            named.push_bind(id.as_str());
        });
        query.push(")");
        let done = query.build().persistent(false).execute(&mut *connection).await?;
        removed += done.rows_affected();
    }
    Ok(removed)
}

/// Notes that a list changed; where it did not, takes back that definitions did. Its version and the time of its latest change then.
async fn note(
    connection: &mut Connection,
    tenant: &TenantName,
    list: &str,
    (version, changed_ms): (i64, i64),
    changed: Option<i64>,
) -> Result<(u64, i64), sqlx::Error> {
    let Some(now_ms) = changed else {
        lower_version(connection, tenant).await?;
        return Ok((version as u64, changed_ms));
    };
    replace(connection, tenant, KIND, list, version + 1, Some(&[]), now_ms).await?;
    Ok((version as u64 + 1, now_ms))
}

async fn count(connection: &mut Connection, tenant: &TenantName, list: &str) -> Result<u64, sqlx::Error> {
    let (members,): (i64,) =
        sqlx::query_as("SELECT COUNT(*) FROM list_members WHERE tenant_id = $1 AND list = $2")
            .bind(tenant.as_str())
            .bind(list)
            .fetch_one(connection)
            .await?;
    Ok(members as u64)
}

async fn count_lists(connection: &mut Connection, tenant: &TenantName) -> Result<usize, sqlx::Error> {
    let (lists,): (i64,) = sqlx::query_as(
        "SELECT COUNT(*) FROM definitions WHERE tenant_id = $1 AND kind = $2 AND body IS NOT NULL",
    )
    .bind(tenant.as_str())
    .bind(KIND)
    .fetch_one(connection)
    .await?;
    Ok(lists as usize)
}
