//! Tenants, keys, definitions, receipts.

use bytes::Bytes;
use runnel_model::{TenantName, limits};
use runnel_storage::{
    CreateTenantError, DefinitionChange, KeyKind, KeyRecord, NameKind, PutKeyError, SaveDefinitionError,
    Store, TenantRecord,
};

use crate::events::{NOW, distinct, requested, shop};

pub(crate) async fn tenants_are_listed_by_name(store: &Store) {
    assert_eq!(store.get_tenant(&shop()).await.unwrap(), None);
    for name in ["b", "a", "c"] {
        store.create_tenant(&TenantName::parse(name).unwrap(), NOW).await.unwrap();
    }
    let a = TenantName::parse("a").unwrap();
    let again = store.create_tenant(&a, NOW + 1).await;
    assert!(matches!(again, Err(CreateTenantError::AlreadyExists(name)) if name == a));
    assert_eq!(
        store.get_tenant(&a).await.unwrap(),
        Some(TenantRecord { name: a.clone(), created_ms: NOW, retention_days: None })
    );
    let names =
        |records: Vec<TenantRecord>| records.iter().map(|record| record.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(store.list_tenants(None, 2).await.unwrap()), ["a", "b"]);
    assert_eq!(names(store.list_tenants(Some("b"), 9).await.unwrap()), ["c"]);
}

pub(crate) async fn names_have_room_up_to_a_limit(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    let claim = async |kind, names: &[&str], keep| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        store.claim_names(&shop(), kind, names, 3, keep).await.unwrap()
    };
    assert!(claim(NameKind::Event, &["a", "b"], true).await.is_empty());
    assert_eq!(claim(NameKind::Event, &["b", "c", "d"], false).await, ["d"]);
    assert_eq!(claim(NameKind::Event, &["d", "b", "c", "a"], true).await, ["c"]);
    assert!(claim(NameKind::Property, &["c"], true).await.is_empty());
    let mut names = store.names(&shop(), NameKind::Event).await.unwrap();
    names.sort_unstable();
    assert_eq!(names, ["a", "b", "d"]);
}

pub(crate) async fn keys_are_found_and_revoked(store: &Store) {
    let key = |id: &str, created_ms| KeyRecord {
        tenant: shop(),
        id: id.to_owned(),
        kind: KeyKind::Read,
        hash: [7; 32],
        label: "läbel".to_owned(),
        created_ms,
        expires_ms: Some(NOW + 5),
        revoked_ms: None,
    };
    store.put_key(key("k2", NOW + 1)).await.unwrap();
    store.put_key(key("k1", NOW + 2)).await.unwrap();
    assert!(matches!(store.put_key(key("k1", NOW)).await, Err(PutKeyError::AlreadyExists)));
    assert_eq!(store.get_key("k1").await.unwrap(), Some(key("k1", NOW + 2)));
    assert_eq!(store.get_key("k3").await.unwrap(), None);
    assert_eq!(store.list_keys(&shop()).await.unwrap(), [key("k2", NOW + 1), key("k1", NOW + 2)]);
    let other = TenantName::parse("other").unwrap();
    assert_eq!(store.list_keys(&other).await.unwrap(), []);
    assert_eq!(store.revoke_key(&other, "k1", NOW).await.unwrap(), None);
    let revoked = KeyRecord { revoked_ms: Some(NOW + 7), ..key("k1", NOW + 2) };
    assert_eq!(store.revoke_key(&shop(), "k1", NOW + 7).await.unwrap(), Some(revoked.clone()));
    assert_eq!(store.revoke_key(&shop(), "k1", NOW + 9).await.unwrap(), Some(revoked.clone()));
    assert_eq!(store.get_key("k1").await.unwrap(), Some(revoked));
    // Those that were revoked take the place of no other.
    for number in 0..limits::PAGE as i64 {
        let old = KeyRecord { revoked_ms: Some(NOW), ..key(&format!("old-{number:04}"), NOW + 10 + number) };
        store.put_key(old).await.unwrap();
    }
    let listed = store.list_keys(&shop()).await.unwrap();
    let ids = [0, 1, limits::PAGE - 1].map(|at| &*listed[at].id);
    assert_eq!((listed.len(), ids), (limits::PAGE, ["k2", "old-0001", "old-0999"]));
}

pub(crate) async fn definitions_have_versions(store: &Store) {
    let shop = shop();
    let save = |name: &'static str, body: &'static str, expected, now| {
        let shop = shop.clone();
        async move { store.save_definition(&shop, "funnel", name, Bytes::from(body), expected, now).await }
    };
    assert!(matches!(save("f", "one", None, 1).await, Err(SaveDefinitionError::TenantUnknown(_))));
    store.create_tenant(&shop, NOW).await.unwrap();
    assert_eq!(store.definition_version(&shop).await.unwrap(), 0);
    assert_eq!(save("f", "one", Some(0), 1).await.unwrap().version, 1);
    assert_eq!(save("f", "two", Some(1), 2).await.unwrap().version, 2);
    assert_eq!(store.definition_version(&shop).await.unwrap(), 2);
    let same = save("f", "two", None, 3).await.unwrap();
    assert_eq!((same.version, same.saved_ms), (2, 2));
    assert_eq!(store.definition_version(&shop).await.unwrap(), 2, "nothing changed");
    let conflict = save("f", "three", Some(1), 3).await;
    assert!(matches!(conflict, Err(SaveDefinitionError::VersionConflict { found: 2 })));
    assert!(matches!(
        save("g", "x", Some(3), 3).await,
        Err(SaveDefinitionError::VersionConflict { found: 0 })
    ));
    save("e", "x", None, 3).await.unwrap();
    store.save_definition(&shop, "segment", "f", Bytes::from("s"), None, 3).await.unwrap();
    let get = |version| store.get_definition(&shop, "funnel", "f", version);
    assert_eq!(get(0).await.unwrap().unwrap().body, "two");
    assert_eq!(get(1).await.unwrap().unwrap().body, "one");
    assert_eq!(get(3).await.unwrap(), None);
    let list = store.list_definitions(&shop, "funnel", None, 10).await.unwrap();
    assert_eq!(
        list.iter().map(|found| (&found.name[..], found.version)).collect::<Vec<_>>(),
        [("e", 1), ("f", 2)]
    );
    assert_eq!(store.list_definitions(&shop, "funnel", Some("e"), 10).await.unwrap().len(), 1);
    let before = store.definition_version(&shop).await.unwrap();
    assert!(store.delete_definition(&shop, "funnel", "f", NOW).await.unwrap());
    assert!(!store.delete_definition(&shop, "funnel", "f", NOW).await.unwrap());
    assert_eq!(store.definition_version(&shop).await.unwrap(), before + 1);
    assert_eq!(get(0).await.unwrap(), None);
    assert_eq!(get(2).await.unwrap(), None);
    assert_eq!(store.list_definitions(&shop, "funnel", None, 10).await.unwrap().len(), 1);
    assert_eq!(save("f", "four", Some(0), 5).await.unwrap().version, 3, "the count goes on");
    assert_eq!(store.get_definition(&shop, "segment", "f", 0).await.unwrap().unwrap().body, "s");
}

pub(crate) async fn definitions_change_together_or_not_at_all(store: &Store) {
    let shop = shop();
    let change = |name: &str, body: Option<&'static str>| DefinitionChange {
        kind: "conversion".to_owned(),
        name: name.to_owned(),
        body: body.map(Bytes::from),
        only_newest: false,
    };
    let nowhere = store.change_definitions(&shop, vec![change("a", Some("1"))], 0, 1).await;
    assert!(matches!(nowhere, Err(SaveDefinitionError::TenantUnknown(_))));
    store.create_tenant(&shop, NOW).await.unwrap();
    let both = vec![change("a", Some("1")), change("b", Some("1"))];
    assert_eq!(store.change_definitions(&shop, both, 0, 1).await.unwrap(), 1);
    let late = store.change_definitions(&shop, vec![change("a", None), change("c", Some("1"))], 0, 2).await;
    assert!(matches!(late, Err(SaveDefinitionError::VersionConflict { found: 1 })));
    let named = || async {
        let list = store.list_definitions(&shop, "conversion", None, 10).await.unwrap();
        list.into_iter().map(|found| (found.name, found.version)).collect::<Vec<_>>()
    };
    assert_eq!(named().await, [("a".to_owned(), 1), ("b".to_owned(), 1)], "nothing of what came too late");
    assert_eq!(store.definition_version(&shop).await.unwrap(), 1);
    let next = vec![change("a", None), change("b", Some("2")), change("never", None)];
    assert_eq!(store.change_definitions(&shop, next, 1, 2).await.unwrap(), 2);
    assert_eq!(named().await, [("b".to_owned(), 2)]);
    assert_eq!(store.change_definitions(&shop, vec![change("a", Some("3"))], 2, 3).await.unwrap(), 3);
    assert_eq!(named().await, [("a".to_owned(), 2), ("b".to_owned(), 2)], "the count goes on");
    let only = DefinitionChange { only_newest: true, ..change("b", Some("3")) };
    store.change_definitions(&shop, vec![only], 3, 4).await.unwrap();
    let get = |version| store.get_definition(&shop, "conversion", "b", version);
    assert_eq!((get(2).await.unwrap(), get(0).await.unwrap().map(|found| found.version)), (None, Some(3)));
}

/// A store that many processes use has a clock of its own.
pub(crate) async fn a_shared_store_tells_the_time(store: &Store) {
    let before = store.clock_ms().await.unwrap();
    let after = store.clock_ms().await.unwrap();
    assert!(before <= after && before.is_none_or(|now_ms| now_ms > NOW / 2), "{before:?}, {after:?}");
}

pub(crate) async fn the_janitor_deletes_receipts(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    store.append(&shop(), requested(&distinct(0, 3), "r", 1, "done"), NOW).await.unwrap();
    store.janitor(NOW + limits::RECEIPT_MS).await.unwrap();
    assert!(store.receipt(&shop(), "r").await.unwrap().is_some());
    store.janitor(NOW + limits::RECEIPT_MS + 1).await.unwrap();
    assert!(store.receipt(&shop(), "r").await.unwrap().is_none());
    let again = store.append(&shop(), requested(&distinct(0, 3), "r", 1, "again"), NOW).await.unwrap();
    assert!(!again.repeated());
    assert_eq!(store.audit(&shop()).await.unwrap().counted, 3, "events count once nevertheless");
}
