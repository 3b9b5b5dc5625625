//! `ListService`: visitors that a tenant names by their ids.

use std::collections::BTreeSet;

use runnel_contracts::{
    proto::list::v1::{
        DeleteListRequest, DeleteListResponse, List, ListListMembersRequest, ListListMembersResponse,
        ListListsRequest, ListListsResponse, PutMembersRequest, PutMembersResponse, RemoveMembersRequest,
        RemoveMembersResponse, list_service_server::ListService,
    },
    receive::visitor_id,
    refusal::{Reason, Refusal},
};
use runnel_definitions::{
    list,
    refusal::unavailable,
    saved::{foreign_token, page_size},
};
use runnel_model::limits;
use runnel_storage::{ListError, ListRecord, Store};
use tonic::{Request, Response, Status};

use crate::door::Door;

/// Answers `ListService`. Clones share one.
#[derive(Clone, Debug)]
pub(crate) struct Lists {
    store: Store,
    door: Door,
}

impl Lists {
    pub(crate) fn new(store: Store, door: Door) -> Lists {
        Lists { store, door }
    }
}

fn told(record: ListRecord) -> List {
    let ListRecord { name, members, changed_ms, version } = record;
    List { name, members, changed_ms, version }
}

/// Ids that are to be put on a list or taken off it.
fn checked(ids: Vec<String>) -> Result<BTreeSet<String>, Refusal> {
    if ids.is_empty() {
        let text = "A request has at least one id; this one has none.";
        return Err(Refusal::field(Reason::FieldMissing, "visitor_ids", text));
    }
    if ids.len() > limits::LIST_CHANGES {
        let (most, count) = (limits::LIST_CHANGES, ids.len());
        let text = format!("A request has at most {most} ids; this one has {count}.");
        return Err(Refusal::field(Reason::BatchTooLong, "visitor_ids", text));
    }
    for (at, id) in ids.iter().enumerate() {
        visitor_id(&format!("visitor_ids[{at}]"), id)?;
    }
    Ok(ids.into_iter().collect())
}

fn unknown(name: &str) -> Refusal {
    Refusal::field(Reason::NotFound, "list", format!("There is no list {name:?}."))
}

fn refused(fault: ListError) -> Refusal {
    let text = format!("The list was not changed: {fault}.");
    match fault {
        ListError::TenantUnknown(_) => Refusal::new(Reason::NotFound, text),
        ListError::Unknown(name) => unknown(&name),
        ListError::TooManyLists => Refusal::field(Reason::LimitReached, "list", text),
        ListError::TooManyMembers { .. } => Refusal::field(Reason::LimitReached, "visitor_ids", text),
        ListError::Unavailable(fault) => unavailable(&fault),
    }
}

/// What a page is behind; `None` for the first one. No name and no id has a NUL.
fn after(page_token: &str) -> Result<Option<&str>, Refusal> {
    match page_token {
        "" => Ok(None),
        token if token.contains('\0') => Err(foreign_token()),
        token => Ok(Some(token)),
    }
}

/// Cuts a page to its size, where one more was asked for, and gives the token of the next one.
fn cut<T>(page: &mut Vec<T>, size: usize, token: impl Fn(&T) -> String) -> String {
    let more = page.len() > size;
    page.truncate(size);
    page.last().filter(|_| more).map(token).unwrap_or_default()
}

#[tonic::async_trait]
impl ListService for Lists {
    async fn put_members(
        &self,
        request: Request<PutMembersRequest>,
    ) -> Result<Response<PutMembersResponse>, Status> {
        let (tenant, PutMembersRequest { list, visitor_ids }, now_ms) = self.door.opened(request)?;
        list::name(&list)?;
        let put = self.store.put_list_members(&tenant, &list, checked(visitor_ids)?, now_ms).await;
        Ok(Response::new(PutMembersResponse { list: Some(told(put.map_err(refused)?)) }))
    }

    async fn remove_members(
        &self,
        request: Request<RemoveMembersRequest>,
    ) -> Result<Response<RemoveMembersResponse>, Status> {
        let (tenant, RemoveMembersRequest { list, visitor_ids }, now_ms) = self.door.opened(request)?;
        list::name(&list)?;
        let removed = self.store.remove_list_members(&tenant, &list, checked(visitor_ids)?, now_ms).await;
        Ok(Response::new(RemoveMembersResponse { list: Some(told(removed.map_err(refused)?)) }))
    }

    async fn delete_list(
        &self,
        request: Request<DeleteListRequest>,
    ) -> Result<Response<DeleteListResponse>, Status> {
        let (tenant, DeleteListRequest { list }, now_ms) = self.door.opened(request)?;
        list::name(&list)?;
        let deleted = self.store.delete_list(&tenant, &list, now_ms).await;
        match deleted.map_err(|fault| unavailable(&fault))? {
            true => Ok(Response::new(DeleteListResponse {})),
            false => Err(unknown(&list).into()),
        }
    }

    async fn list_lists(
        &self,
        request: Request<ListListsRequest>,
    ) -> Result<Response<ListListsResponse>, Status> {
        let (tenant, ListListsRequest { page_size: asked, page_token }, _) = self.door.opened(request)?;
        let size = page_size(asked)?;
        let found = self.store.lists(&tenant, after(&page_token)?, size + 1).await;
        let mut found = found.map_err(|fault| unavailable(&fault))?;
        let next_page_token = cut(&mut found, size, |last| last.name.clone());
        let lists = found.into_iter().map(told).collect();
        Ok(Response::new(ListListsResponse { lists, next_page_token }))
    }

    async fn list_list_members(
        &self,
        request: Request<ListListMembersRequest>,
    ) -> Result<Response<ListListMembersResponse>, Status> {
        let (tenant, ListListMembersRequest { list, page_size: asked, page_token }, _) =
            self.door.opened(request)?;
        list::name(&list)?;
        let size = page_size(asked)?;
        let found = self.store.list_members(&tenant, &list, after(&page_token)?, size + 1).await;
        let found = found.map_err(|fault| unavailable(&fault))?;
        let mut visitor_ids = found.ok_or_else(|| unknown(&list))?;
        let next_page_token = cut(&mut visitor_ids, size, String::clone);
        Ok(Response::new(ListListMembersResponse { visitor_ids, next_page_token }))
    }
}
