//! Lists of visitors: who is on them, and what changes with that.

use std::collections::BTreeSet;

use runnel_model::{Secret, TenantName, limits};
use runnel_storage::{Identification, ListError, ListRecord, Store};

use crate::events::{NOW, shop};

fn ids(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn record(name: &str, members: u64, changed_ms: i64, version: u64) -> ListRecord {
    ListRecord { name: name.to_owned(), members, changed_ms, version }
}

async fn on(store: &Store, list: &str) -> Option<Vec<String>> {
    store.list_members(&shop(), list, None, limits::LIST_MEMBERS).await.unwrap()
}

pub(crate) async fn ids_are_put_on_lists_and_taken_off(store: &Store) {
    let shop = shop();
    let put = async |list: &str, names: &[&str], now_ms| {
        store.put_list_members(&shop, list, ids(names), now_ms).await
    };
    let remove = async |list: &str, names: &[&str], now_ms| {
        store.remove_list_members(&shop, list, ids(names), now_ms).await
    };
    let version = async || store.definition_version(&shop).await.unwrap();
    assert!(matches!(put("crm", &["a"], 1).await, Err(ListError::TenantUnknown(_))));
    assert!(matches!(remove("crm", &["a"], 1).await, Err(ListError::TenantUnknown(_))));
    store.create_tenant(&shop, NOW).await.unwrap();
    assert!(matches!(remove("crm", &["a"], 1).await, Err(ListError::Unknown(list)) if list == "crm"));
    assert_eq!((on(store, "crm").await, version().await), (None, 0), "nothing is made by taking off");

    assert_eq!(put("crm", &["b", "a", "ä", "Z"], 1).await.unwrap(), record("crm", 4, 1, 1));
    assert_eq!(on(store, "crm").await.unwrap(), ["Z", "a", "b", "ä"], "in the order of their bytes");
    assert_eq!(put("crm", &["a", "b"], 2).await.unwrap(), record("crm", 4, 1, 1), "they are there");
    assert_eq!(version().await, 1, "nothing changed");
    assert_eq!(put("crm", &["a", "c"], 3).await.unwrap(), record("crm", 5, 3, 2));
    assert_eq!(put("blocked", &["a"], 4).await.unwrap(), record("blocked", 1, 4, 1));
    assert_eq!(version().await, 3);
    assert_eq!(
        store.lists(&shop, None, 10).await.unwrap(),
        [record("blocked", 1, 4, 1), record("crm", 5, 3, 2)]
    );
    assert_eq!(store.lists(&shop, None, 1).await.unwrap(), [record("blocked", 1, 4, 1)]);
    assert_eq!(store.lists(&shop, Some("blocked"), 10).await.unwrap(), [record("crm", 5, 3, 2)]);
    assert_eq!(store.list_members(&shop, "crm", Some("a"), 2).await.unwrap().unwrap(), ["b", "c"]);
    assert_eq!(store.lists_of(&shop, &ids(&["a", "nobody"])).await.unwrap(), ids(&["blocked", "crm"]));
    assert_eq!(store.lists_of(&shop, &ids(&["c"])).await.unwrap(), ids(&["crm"]));
    assert_eq!(store.lists_of(&shop, &ids(&["nobody"])).await.unwrap(), ids(&[]));

    assert_eq!(remove("crm", &["nobody"], 5).await.unwrap(), record("crm", 5, 3, 2), "it is not there");
    assert_eq!(version().await, 3);
    assert_eq!(remove("blocked", &["a", "nobody"], 6).await.unwrap(), record("blocked", 0, 6, 2));
    assert_eq!((on(store, "blocked").await, version().await), (Some(Vec::new()), 4), "the list stays");

    // A definition is something else, also under the same name and with the same kind of history.
    store.save_definition(&shop, "segment", "crm", "x".into(), None, 7).await.unwrap();
    assert!(store.delete_list(&shop, "crm", 8).await.unwrap());
    assert!(!store.delete_list(&shop, "crm", 9).await.unwrap());
    assert_eq!((on(store, "crm").await, version().await), (None, 6));
    assert_eq!(store.lists_of(&shop, &ids(&["c"])).await.unwrap(), ids(&[]));
    assert!(store.get_definition(&shop, "segment", "crm", 0).await.unwrap().is_some());
    assert_eq!(put("crm", &["z"], 10).await.unwrap(), record("crm", 1, 10, 3), "the count goes on");
    assert_eq!(on(store, "crm").await.unwrap(), ["z"], "nobody of before");

    // Other tenants have lists of their own.
    let other = TenantName::parse("other").unwrap();
    store.create_tenant(&other, NOW).await.unwrap();
    assert_eq!(store.lists(&other, None, 10).await.unwrap(), []);
    assert_eq!(store.list_members(&other, "crm", None, 10).await.unwrap(), None);
    assert!(!store.delete_list(&other, "crm", 11).await.unwrap());
    store.put_list_members(&other, "crm", ids(&["a"]), 11).await.unwrap();
    assert_eq!(on(store, "crm").await.unwrap(), ["z"]);
}

pub(crate) async fn lists_have_room_up_to_their_limits(store: &Store) {
    let shop = shop();
    store.create_tenant(&shop, NOW).await.unwrap();
    let numbered = |from: usize, count: usize| (from..from + count).map(|id| format!("{id:06}")).collect();
    let (step, most) = (limits::LIST_CHANGES, limits::LIST_MEMBERS);
    for from in (0..most).step_by(step) {
        let put = store.put_list_members(&shop, "full", numbered(from, step), NOW).await.unwrap();
        assert_eq!(put.members, (from + step) as u64);
    }
    let before =
        (store.lists(&shop, None, 10).await.unwrap(), store.definition_version(&shop).await.unwrap());
    let refused = store.put_list_members(&shop, "full", numbered(most - 5, 10), NOW + 1).await;
    let too_many = |members: u64| matches!(refused, Err(ListError::TooManyMembers { members: found }) if found == members);
    assert!(too_many(most as u64 + 5), "{refused:?}");
    let after = (store.lists(&shop, None, 10).await.unwrap(), store.definition_version(&shop).await.unwrap());
    assert_eq!(after, before, "all or none");
    assert_eq!(on(store, "full").await.unwrap().len(), most);
    let freed = store.remove_list_members(&shop, "full", numbered(0, 10), NOW + 2).await.unwrap();
    assert_eq!(freed.members, most as u64 - 10);
    store.put_list_members(&shop, "full", numbered(most - 5, 10), NOW + 3).await.unwrap();

    for list in 1..limits::LISTS {
        store.put_list_members(&shop, &format!("list {list}"), ids(&["a"]), NOW).await.unwrap();
    }
    let refused = store.put_list_members(&shop, "one more", ids(&["a"]), NOW).await;
    assert!(matches!(refused, Err(ListError::TooManyLists)), "{refused:?}");
    assert_eq!(on(store, "one more").await, None);
    assert_eq!(store.lists(&shop, None, limits::PAGE).await.unwrap().len(), limits::LISTS);
    store.put_list_members(&shop, "list 7", ids(&["b"]), NOW).await.unwrap();
    assert!(store.delete_list(&shop, "list 8", NOW).await.unwrap());
    store.put_list_members(&shop, "one more", ids(&["a"]), NOW).await.unwrap();
}

pub(crate) async fn whoever_is_erased_is_on_no_list(store: &Store) {
    let shop = shop();
    store.create_tenant(&shop, NOW).await.unwrap();
    let said = Identification { anonymous: "cookie".into(), known: "customer".into(), at_ms: NOW };
    store.identify(&shop, vec![said], NOW).await.unwrap();
    store.put_list_members(&shop, "crm", ids(&["cookie", "customer", "other"]), NOW).await.unwrap();
    store.put_list_members(&shop, "blocked", ids(&["cookie"]), NOW).await.unwrap();
    store.put_list_members(&shop, "rest", ids(&["other"]), NOW).await.unwrap();
    let version = store.definition_version(&shop).await.unwrap();
    store.erase(&shop, "cookie", Secret([9; 32]), NOW + 1).await.unwrap();
    assert_eq!(on(store, "crm").await.unwrap(), ["other"]);
    let expected = [record("blocked", 0, NOW, 1), record("crm", 1, NOW, 1), record("rest", 1, NOW, 1)];
    assert_eq!(store.lists(&shop, None, 10).await.unwrap(), expected, "it is no change of a list");
    assert_eq!(store.definition_version(&shop).await.unwrap(), version + 1, "whoever read them reads again");
    // Who is on no list changes none.
    store.erase(&shop, "nobody", Secret([9; 32]), NOW + 2).await.unwrap();
    assert_eq!(store.definition_version(&shop).await.unwrap(), version + 1);
    store.carry_out_erasures(&shop, NOW + 3).await.unwrap();
    // Who is put on one later is somebody new.
    let again = store.put_list_members(&shop, "crm", ids(&["customer"]), NOW + 4).await.unwrap();
    assert_eq!(again, record("crm", 2, NOW + 4, 2));
}
