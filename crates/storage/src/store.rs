//! The store and its promises.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use runnel_model::{Claim, EventBatch, Privacy, Secret, TenantName};

use crate::{
    Admitted, AggregateChange, AggregateError, Aggregates, AppendError, Audit, AuditError, Backlog, Block,
    ClaimError, Claimed, CompactError, CompactOptions, CompactionReport, CreateTenantError, DefinitionChange,
    DefinitionRecord, EmbeddedOptions, EraseError, Erasure, ErasureReport, FetchError, Found, Identification,
    IdentityMergeError, Journaled, KeyRecord, ListError, ListRecord, Listing, Merged, NameKind, Notice,
    OpenError, Person, PostgresOpenError, PostgresOptions, PutKeyError, Receipt, Retain, Retention,
    SaveDefinitionError, Stats, TenantRecord, Unavailable, audit,
    backend::{Backend, Purpose, with_backend},
    compaction::{self, Merges},
    embedded::Embedded,
    listing,
    postgres::Postgres,
};

/// All that Runnel keeps. Clones share one store.
///
/// Database work never dies with its caller: a method may be dropped at any await and no connection is left inside a transaction; whether a dropped write
/// took place is then open, and repeating it is safe where the method says so.
#[derive(Debug, Clone)]
pub struct Store {
    backend: Backend,
    merges: Merges,
}

impl Store {
    /// Opens the embedded store in a folder, which is created, readable by its owner only, when it does not exist. One process may have it open; a second one
    /// is refused. What an earlier process acknowledged is there, however that process ended.
    pub async fn open_embedded(dir: &Path, options: EmbeddedOptions) -> Result<Store, OpenError> {
        Ok(Store::over(Backend::Embedded(Embedded::open(dir, options).await?)))
    }

    /// Connects to a database that any number of processes may work with. The schema is brought up to date, by one of them.
    pub async fn open_postgres(options: &PostgresOptions) -> Result<Store, PostgresOpenError> {
        Ok(Store::over(Backend::Postgres(Arc::new(Postgres::open(options).await?))))
    }

    pub(crate) fn over(backend: Backend) -> Store {
        Store { backend, merges: Merges::default() }
    }

    /// Finishes queued writes, writes everything into the database file and lets another process open the folder. Later calls fail with
    /// [`Unavailable::Closed`]. Dropping the last clone without closing loses nothing that was acknowledged.
    pub async fn close(&self) {
        with_backend!(&self.backend, |store| store.close().await)
    }

    /// Tells somebody of commits and damage as they happen, in whatever task they happen; to be called once, before the store is worked with.
    pub fn on_notice(&self, told: impl Fn(Notice) + Send + Sync + 'static) {
        with_backend!(&self.backend, |store| store.notices.tell(Box::new(told)));
    }

    /// For how long the database has not answered; `None` when it answered whoever asked last. A folder always answers.
    #[must_use]
    pub fn silent_for(&self) -> Option<Duration> {
        with_backend!(&self.backend, |store| store.silent_for())
    }

    /// Asks the database for nothing, to see whether it answers.
    pub async fn ping(&self) -> Result<(), Unavailable> {
        with_backend!(&self.backend, |store| store.ping().await)
    }

    // The control plane.

    /// Creates a tenant.
    pub async fn create_tenant(
        &self,
        name: &TenantName,
        now_ms: i64,
    ) -> Result<TenantRecord, CreateTenantError> {
        with_backend!(&self.backend, |store| store.create_tenant(name, now_ms).await)
    }

    /// A tenant, or `None`.
    pub async fn get_tenant(&self, name: &TenantName) -> Result<Option<TenantRecord>, Unavailable> {
        with_backend!(&self.backend, |store| store.get_tenant(name).await)
    }

    /// At most `limit` tenants by name, from behind `after`.
    pub async fn list_tenants(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TenantRecord>, Unavailable> {
        with_backend!(&self.backend, |store| store.list_tenants(after, limit).await)
    }

    /// The names of a kind that the tenant has claimed.
    pub async fn names(&self, tenant: &TenantName, kind: NameKind) -> Result<Vec<String>, Unavailable> {
        with_backend!(&self.backend, |store| store.names(tenant, kind).await)
    }

    /// Notes names of a kind that the tenant uses from now on, as long as it has at most `limit`, and answers those that there is no room for. Without `keep`
    /// nothing is noted. Repeating it changes nothing.
    pub async fn claim_names(
        &self,
        tenant: &TenantName,
        kind: NameKind,
        names: Vec<String>,
        limit: usize,
        keep: bool,
    ) -> Result<Vec<String>, Unavailable> {
        with_backend!(&self.backend, |store| store.claim_names(tenant, kind, names, limit, keep).await)
    }

    /// Stores a new key. Whether its tenant exists is not looked at, so that the operator's keys need no tenant.
    pub async fn put_key(&self, key: KeyRecord) -> Result<(), PutKeyError> {
        with_backend!(&self.backend, |store| store.put_key(key).await)
    }

    /// The key with this identifier, revoked and expired ones too, or `None`.
    pub async fn get_key(&self, id: &str) -> Result<Option<KeyRecord>, Unavailable> {
        with_backend!(&self.backend, |store| store.get_key(id).await)
    }

    /// The tenant's keys by creation time and identifier, at most [`runnel_model::limits::PAGE`]: of more, all that are not revoked, and the newest of the others.
    pub async fn list_keys(&self, tenant: &TenantName) -> Result<Vec<KeyRecord>, Unavailable> {
        with_backend!(&self.backend, |store| store.list_keys(tenant).await)
    }

    /// Revokes a key of the tenant and gives its record; `None` when the tenant has no such key. Revoking again keeps the first time.
    pub async fn revoke_key(
        &self,
        tenant: &TenantName,
        id: &str,
        now_ms: i64,
    ) -> Result<Option<KeyRecord>, Unavailable> {
        with_backend!(&self.backend, |store| store.revoke_key(tenant, id, now_ms).await)
    }

    /// Saves a definition as the next version of its name. Saving the newest version's own body again changes nothing and gives that version. With `expected`,
    /// refuses when the newest version is another one (0: there is none).
    pub async fn save_definition(
        &self,
        tenant: &TenantName,
        kind: &str,
        name: &str,
        body: Bytes,
        expected: Option<u64>,
        now_ms: i64,
    ) -> Result<DefinitionRecord, SaveDefinitionError> {
        with_backend!(&self.backend, |store| store
            .save_definition(tenant, kind, name, body, expected, now_ms)
            .await)
    }

    /// A version of a definition; 0 is the newest. `None` when there is none, or the definition was deleted.
    pub async fn get_definition(
        &self,
        tenant: &TenantName,
        kind: &str,
        name: &str,
        version: u64,
    ) -> Result<Option<DefinitionRecord>, Unavailable> {
        with_backend!(&self.backend, |store| store.get_definition(tenant, kind, name, version).await)
    }

    /// The newest versions of at most `limit` definitions of a kind by name, from behind `after`.
    pub async fn list_definitions(
        &self,
        tenant: &TenantName,
        kind: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<DefinitionRecord>, Unavailable> {
        with_backend!(&self.backend, |store| store.list_definitions(tenant, kind, after, limit).await)
    }

    /// Deletes all versions of a definition. `false` when there was none. A definition that is saved under the name later continues the count of versions.
    pub async fn delete_definition(
        &self,
        tenant: &TenantName,
        kind: &str,
        name: &str,
        now_ms: i64,
    ) -> Result<bool, Unavailable> {
        with_backend!(&self.backend, |store| store.delete_definition(tenant, kind, name, now_ms).await)
    }

    /// Makes changes to definitions, all or none, if the tenant's definitions still have the `expected` version; gives their next one.
    pub async fn change_definitions(
        &self,
        tenant: &TenantName,
        changes: Vec<DefinitionChange>,
        expected: u64,
        now_ms: i64,
    ) -> Result<u64, SaveDefinitionError> {
        with_backend!(&self.backend, |store| store
            .change_definitions(tenant, changes, expected, now_ms)
            .await)
    }

    /// A number that rises with every change of the tenant's definitions; 0 before the first.
    pub async fn definition_version(&self, tenant: &TenantName) -> Result<u64, Unavailable> {
        with_backend!(&self.backend, |store| store.definition_version(tenant).await)
    }

    // Lists of visitors.

    /// Puts ids on a list, all or none, and gives it as it is then. It is made where there is none. Ids that are on it already change nothing, so repeating is
    /// safe; everything else is a change of the tenant's definitions.
    pub async fn put_list_members(
        &self,
        tenant: &TenantName,
        list: &str,
        ids: BTreeSet<String>,
        now_ms: i64,
    ) -> Result<ListRecord, ListError> {
        with_backend!(&self.backend, |store| store.put_list_members(tenant, list, ids, now_ms).await)
    }

    /// Takes ids off a list, and gives it as it is then. Ids that are not on it change nothing; everything else is a change of the tenant's definitions.
    pub async fn remove_list_members(
        &self,
        tenant: &TenantName,
        list: &str,
        ids: BTreeSet<String>,
        now_ms: i64,
    ) -> Result<ListRecord, ListError> {
        with_backend!(&self.backend, |store| store.remove_list_members(tenant, list, ids, now_ms).await)
    }

    /// Deletes a list, which is a change of the tenant's definitions. `false` when there was none. A list that is made under the name later continues the count of
    /// versions.
    pub async fn delete_list(
        &self,
        tenant: &TenantName,
        list: &str,
        now_ms: i64,
    ) -> Result<bool, Unavailable> {
        with_backend!(&self.backend, |store| store.delete_list(tenant, list, now_ms).await)
    }

    /// At most `limit` lists by name, from behind `after`.
    pub async fn lists(
        &self,
        tenant: &TenantName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ListRecord>, Unavailable> {
        with_backend!(&self.backend, |store| store.lists(tenant, after, limit).await)
    }

    /// At most `limit` ids on a list, in the order of their bytes, from behind `after`; `None` when there is no such list.
    pub async fn list_members(
        &self,
        tenant: &TenantName,
        list: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<String>>, Unavailable> {
        with_backend!(&self.backend, |store| store.list_members(tenant, list, after, limit).await)
    }

    /// The lists that any of these ids is on.
    pub async fn lists_of(
        &self,
        tenant: &TenantName,
        ids: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, Unavailable> {
        with_backend!(&self.backend, |store| store.lists_of(tenant, ids).await)
    }

    // Who is who.

    /// Notes which anonymous ids belong to which known ones, in one transaction, and says how each of them stands; and the version of the identities then.
    /// What was known is not noted again, so repeating is safe.
    pub async fn identify(
        &self,
        tenant: &TenantName,
        identifications: Vec<Identification>,
        now_ms: i64,
    ) -> Result<(Vec<Claimed>, u64), ClaimError> {
        with_backend!(&self.backend, |store| store.identify(tenant, identifications, now_ms).await)
    }

    /// Notes that two known ids are one person, whose name is that of `into`. Repeating it changes nothing.
    pub async fn merge(
        &self,
        tenant: &TenantName,
        from: &str,
        into: &str,
        now_ms: i64,
    ) -> Result<Merged, IdentityMergeError> {
        with_backend!(&self.backend, |store| store.merge(tenant, from, into, now_ms).await)
    }

    /// What was said about who is who, numbered above `after` up to `until`, by number: at most [`runnel_model::limits::CLAIMS_READ`]. Claims never change.
    pub async fn claims(
        &self,
        tenant: &TenantName,
        after: u64,
        until: u64,
    ) -> Result<Vec<Claim>, Unavailable> {
        with_backend!(&self.backend, |store| store.claims(tenant, after, until).await)
    }

    /// Everything that was said about the person who has an id; `None` when that is more than [`runnel_model::limits::IDS_OF_A_PERSON`] claims.
    pub async fn person(&self, tenant: &TenantName, id: &str) -> Result<Option<Person>, Unavailable> {
        with_backend!(&self.backend, |store| store.person(tenant, id).await)
    }

    // Persons of whom nothing may be known.

    /// What whoever admits events has to know: who was erased, and what hashes are made with. Where the tenant has no secret yet, this one becomes it; it has to be
    /// random.
    pub async fn privacy(&self, tenant: &TenantName, secret: Option<Secret>) -> Result<Privacy, Unavailable> {
        with_backend!(&self.backend, |store| store.privacy(tenant, secret).await)
    }

    /// Notes that everything of the visitor whom an id counts as is to be erased. From the commit on, listings name the ids, what was said about who they are is gone, they
    /// are on no list of the tenant, and events that happened up to now are refused: an append that does not know of it is [`AppendError::Erased`]. `secret` is as in
    /// [`Store::privacy`].
    pub async fn erase(
        &self,
        tenant: &TenantName,
        id: &str,
        secret: Secret,
        now_ms: i64,
    ) -> Result<Erasure, EraseError> {
        with_backend!(&self.backend, |store| store.erase(tenant, id, secret, now_ms).await)
    }

    /// An erasure by its number, or `None`.
    pub async fn erasure(&self, tenant: &TenantName, number: u64) -> Result<Option<Erasure>, Unavailable> {
        with_backend!(&self.backend, |store| store.erasure(tenant, number).await)
    }

    /// Events in journal rows that cannot be read.
    pub async fn quarantined_events(&self, tenant: &TenantName) -> Result<u64, Unavailable> {
        with_backend!(&self.backend, |store| store.quarantined_events(tenant).await)
    }

    /// The tenants of whom something is to be deleted: persons, or what is not kept any more.
    pub async fn to_erase(&self) -> Result<Vec<TenantName>, Unavailable> {
        self.backend.to_erase().await
    }

    /// Deletes everything that is to be erased of a tenant, or is not kept any more: events, what is kept of the requests that brought them, and what they took the place of. Can be dropped and
    /// called again at any time; another process may do it at the same time. A folder holds no trace afterwards; a database server frees what was deleted
    /// when it vacuums.
    pub async fn carry_out_erasures(
        &self,
        tenant: &TenantName,
        now_ms: i64,
    ) -> Result<ErasureReport, CompactError> {
        compaction::erase(&self.backend, &self.merges, tenant, now_ms).await
    }

    // For how long events are kept.

    /// Says for how many days a tenant's events are kept, or that they are for ever. `false` where there is no such tenant. It changes nothing by itself: whoever
    /// makes the tenant's aggregates acts on it.
    pub async fn set_retention(&self, tenant: &TenantName, days: Option<u32>) -> Result<bool, Unavailable> {
        with_backend!(&self.backend, |store| store.set_retention(tenant, days).await)
    }

    /// For how long a tenant's events are kept; `None` where there is no such tenant.
    pub async fn retention(&self, tenant: &TenantName) -> Result<Option<Retention>, Unavailable> {
        with_backend!(&self.backend, |store| store.retention(tenant).await)
    }

    /// The tenants whose events are not kept for ever, and for how many days they are.
    pub async fn retained(&self) -> Result<Vec<(TenantName, u32)>, Unavailable> {
        with_backend!(&self.backend, |store| store.retained().await)
    }

    /// Refuses what happened before an instant, if events are kept for so many days. From the commit on an append that does not know of it is
    /// [`AppendError::Erased`].
    pub async fn refuse_before(
        &self,
        tenant: &TenantName,
        days: u32,
        instant_ms: i64,
    ) -> Result<(), Unavailable> {
        with_backend!(&self.backend, |store| store.refuse_before(tenant, days, instant_ms).await)
    }

    /// What the store's own clock says, in milliseconds since the Unix epoch; `None` where it has none but this machine's.
    pub async fn clock_ms(&self) -> Result<Option<i64>, Unavailable> {
        match &self.backend {
            Backend::Embedded(_) => Ok(None),
            Backend::Postgres(store) => store.clock_ms().await.map(Some),
            #[cfg(feature = "simulation")]
            Backend::Simulated(store) => store.clock_ms().await.map(Some),
        }
    }

    /// Gives over to be deleted, by [`Store::carry_out_erasures`], what happened before an instant: from the commit on it does not count. It has to be refused
    /// already, and the aggregates have to be made of all of it; otherwise nothing is changed, and the answer is `false`.
    pub async fn keep_from(
        &self,
        tenant: &TenantName,
        retain: Retain,
        now_ms: i64,
    ) -> Result<bool, Unavailable> {
        with_backend!(&self.backend, |store| store.keep_from(tenant, retain, now_ms).await)
    }

    // Durable counts.

    /// What the tenant's aggregates were made of, what the truth is at the same instant, and the cells of a grain that begin in `from_ms..until_ms`.
    pub async fn aggregates(
        &self,
        tenant: &TenantName,
        grain: u8,
        from_ms: i64,
        until_ms: i64,
    ) -> Result<Aggregates, Unavailable> {
        with_backend!(&self.backend, |store| store.aggregates(tenant, grain, from_ms, until_ms).await)
    }

    /// Replaces cells of the tenant's aggregates and notes what is to be told of it, all at once, if nobody else did so since they were read.
    pub async fn change_aggregates(
        &self,
        tenant: &TenantName,
        change: AggregateChange,
    ) -> Result<(), AggregateError> {
        with_backend!(&self.backend, |store| store.change_aggregates(tenant, change).await)
    }

    /// What was told of changed aggregates, the newest first, numbered below `before`; at most `limit`.
    pub async fn restatements(
        &self,
        tenant: &TenantName,
        before: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Bytes)>, Unavailable> {
        with_backend!(&self.backend, |store| store.restatements(tenant, before, limit).await)
    }

    // The truth.

    /// Writes a batch and its receipt in one transaction and gives it the tenant's next sequence number. When this returns `Ok`, the batch survives the loss of
    /// the process and of power, and every listing that starts afterwards has it. Commit order is number order: whoever sees a number sees all lower ones.
    ///
    /// A repeat of a request within 7 days, with the same content hash, stores nothing and gives the first outcome. Without a request, appending again stores
    /// again; the events still count once, by their identities. A caller that is dropped may find the batch stored or not.
    pub async fn append(
        &self,
        tenant: &TenantName,
        admitted: Admitted,
        now_ms: i64,
    ) -> Result<Journaled, AppendError> {
        with_backend!(&self.backend, |store| store.append(tenant, &admitted, now_ms).await)
    }

    /// What is kept of a request, or `None` when it is unknown or too long ago.
    pub async fn receipt(
        &self,
        tenant: &TenantName,
        request_id: &str,
    ) -> Result<Option<Receipt>, Unavailable> {
        with_backend!(&self.backend, |store| store.receipt(tenant, request_id).await)
    }

    /// The truth at one instant, in one short transaction: the live journal rows numbered above `after_sequence` and the live blocks that hold such events.
    /// A block may hold events numbered at or below it as well. Of an unknown tenant it is empty.
    pub async fn list(&self, tenant: &TenantName, after_sequence: u64) -> Result<Listing, Unavailable> {
        self.backend.list(Purpose::Query, tenant, after_sequence).await
    }

    /// The batches of these journal rows, in the order asked for. Rows never change; a compacted row can be read for 10 minutes more, then it is
    /// [`FetchError::Missing`].
    pub async fn fetch_journal(
        &self,
        tenant: &TenantName,
        sequences: &[u64],
    ) -> Result<Vec<(u64, EventBatch)>, FetchError> {
        listing::fetch_journal(&self.backend, tenant, sequences).await
    }

    /// A block. Blocks never change; one that was merged into another can be read for 10 minutes more, then it is [`FetchError::Missing`].
    pub async fn fetch_block(&self, tenant: &TenantName, id: u64) -> Result<Block, FetchError> {
        listing::fetch_block(&self.backend, Purpose::Query, tenant, id).await
    }

    /// Counts everything that was ever appended, exactly, in bounded memory. Reads the identities of all events; it is for reports, not for dashboards.
    pub async fn audit(&self, tenant: &TenantName) -> Result<Audit, AuditError> {
        audit::audit(&self.backend, tenant).await
    }

    /// Compacts a tenant: journal rows become blocks, neighbouring blocks become larger ones. Without `force`, one bounded round of what is due, so that a
    /// caller can be fair over tenants; with it, until nothing is left to do. Never changes what readers count. Rounds of one tenant exclude each other.
    /// Dropping the call leaves no trace but unused space, which the janitor frees.
    pub async fn compact(
        &self,
        tenant: &TenantName,
        options: CompactOptions,
        now_ms: i64,
    ) -> Result<CompactionReport, CompactError> {
        compaction::compact(&self.backend, &self.merges, tenant, options, now_ms).await
    }

    /// Copies of a batch's events that compaction dropped so far.
    pub async fn found(&self, tenant: &TenantName, sequence: u64) -> Result<Found, Unavailable> {
        with_backend!(&self.backend, |store| store.found(tenant, sequence).await)
    }

    /// The tenants with live journal rows, oldest first.
    pub async fn backlog(&self) -> Result<Vec<Backlog>, Unavailable> {
        with_backend!(&self.backend, |store| store.backlog().await)
    }

    /// Deletes what was compacted more than 10 minutes ago, receipts older than 7 days and what interrupted compactions left, and gives free space back to the
    /// file system, all in small steps. To be called about once a minute.
    pub async fn janitor(&self, now_ms: i64) -> Result<(), Unavailable> {
        with_backend!(&self.backend, |store| store.janitor(now_ms).await)
    }

    /// How much the tenant's live data takes. Reads all its blocks.
    pub async fn stats(&self, tenant: &TenantName) -> Result<Stats, FetchError> {
        listing::stats(&self.backend, tenant).await
    }

    /// Returns the tenant's highest committed sequence number as soon as it is above `sequence`: at once if it is already. Wakes within the commit that brings
    /// it, before its caller is told.
    pub async fn wait_beyond(&self, tenant: &TenantName, sequence: u64) -> Result<u64, Unavailable> {
        with_backend!(&self.backend, |store| store.wait_beyond(tenant, sequence).await)
    }
}
