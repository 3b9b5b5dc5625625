//! Who is who.

use runnel_model::{ClaimKind, Standing, limits};
use runnel_storage::{ClaimError, Identification, IdentityMergeError, Store};

use crate::events::{NOW, admitted, distinct, shop};

fn identification(anonymous: &str, known: &str, at_ms: i64) -> Identification {
    Identification { anonymous: anonymous.to_owned(), known: known.to_owned(), at_ms }
}

/// Whether each was new, how it stands, and whose the anonymous id is.
async fn identify(store: &Store, said: &[(&str, &str, i64)]) -> Vec<(bool, Option<Standing>, String)> {
    let said = said.iter().map(|(anonymous, known, at_ms)| identification(anonymous, known, *at_ms));
    let (claimed, _) = store.identify(&shop(), said.collect(), NOW).await.unwrap();
    claimed.into_iter().map(|claimed| (claimed.new, claimed.standing, claimed.belongs_to)).collect()
}

fn linked(new: bool, known: &str) -> (bool, Option<Standing>, String) {
    (new, Some(Standing::Linked), known.to_owned())
}

pub(crate) async fn what_is_said_again_is_not_noted_again(store: &Store) {
    let nobody = store.identify(&shop(), vec![identification("a", "k", 1)], NOW).await;
    assert!(matches!(nobody, Err(ClaimError::TenantUnknown(name)) if name == shop()));
    store.create_tenant(&shop(), NOW).await.unwrap();
    assert_eq!(identify(store, &[("a", "k", 10), ("b", "k", 20)]).await, vec![linked(true, "k"); 2]);
    assert_eq!(identify(store, &[("a", "k", 30), ("a", "k", 10)]).await, vec![linked(false, "k"); 2]);
    // Somebody else, later, and then earlier; the first is told how it stands after all of them.
    let taken = (true, Some(Standing::Taken), "k".to_owned());
    assert_eq!(identify(store, &[("a", "other", 11)]).await, [taken]);
    assert_eq!(identify(store, &[("a", "other", 5)]).await, [linked(true, "other")]);
    // A known id stays one.
    let known = (true, Some(Standing::Known), "k".to_owned());
    assert_eq!(identify(store, &[("k", "other", 1)]).await, [known]);
    let claims = store.claims(&shop(), 0, u64::MAX).await.unwrap();
    let told: Vec<_> = claims.iter().map(|one| (one.number, &*one.id, &*one.belongs_to, one.at_ms)).collect();
    let expected = [
        (1, "a", "k", 10),
        (2, "b", "k", 20),
        (3, "a", "other", 11),
        (4, "a", "other", 5),
        (5, "k", "other", 1),
    ];
    assert_eq!(told, expected);
    assert_eq!(store.claims(&shop(), 3, 4).await.unwrap(), claims[3..4]);
    // A listing says which of them there are, whether anything was appended or not.
    let listing = store.list(&shop(), 0).await.unwrap();
    assert_eq!((listing.sequence, listing.alias), (0, 5));
    store.append(&shop(), admitted(&distinct(0, 1)), NOW).await.unwrap();
    let listing = store.list(&shop(), 0).await.unwrap();
    assert_eq!((listing.sequence, listing.alias), (1, 5));
}

pub(crate) async fn an_id_may_be_identified_so_often(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    let most = limits::IDENTIFICATIONS_OF_AN_ID;
    let said: Vec<_> = (0..most + 2).map(|at| identification("a", &format!("k{at}"), at as i64)).collect();
    let (claimed, version) = store.identify(&shop(), said, NOW).await.unwrap();
    assert_eq!(version, most as u64);
    let fates: Vec<_> = claimed.iter().map(|one| (one.new, one.standing)).collect();
    assert_eq!(fates[0], (true, Some(Standing::Linked)));
    assert_eq!(fates[most - 1], (true, Some(Standing::Taken)));
    assert_eq!(fates[most..], [(false, None); 2]);
    assert_eq!(identify(store, &[("b", "k0", 0)]).await, [linked(true, "k0")]);
}

pub(crate) async fn known_ids_are_merged(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    identify(store, &[("cookie", "anna", 1), ("phone", "ann", 2)]).await;
    let anonymous = store.merge(&shop(), "cookie", "ann", NOW).await;
    let Err(IdentityMergeError::Anonymous { id, belongs_to }) = anonymous else { panic!("{anonymous:?}") };
    assert_eq!((&*id, &*belongs_to), ("cookie", "anna"));
    let merged = store.merge(&shop(), "ann", "anna", NOW).await.unwrap();
    assert_eq!((&*merged.visitor, merged.new, merged.version), ("anna", true, 3));
    for (from, into) in [("ann", "anna"), ("anna", "ann")] {
        let again = store.merge(&shop(), from, into, NOW).await.unwrap();
        assert_eq!((&*again.visitor, again.new, again.version), ("anna", false, 3));
    }
    // To say of merged ids that one is an anonymous one of the other changes nothing, and is told.
    let known = (true, Some(Standing::Known), "ann".to_owned());
    assert_eq!(identify(store, &[("ann", "anna", NOW + 5)]).await, [known]);
    let merged = store.merge(&shop(), "ann", "annemarie", NOW + 1).await.unwrap();
    assert_eq!((&*merged.visitor, merged.new, merged.version), ("annemarie", true, 5));
    for id in ["cookie", "phone", "ann", "anna", "annemarie"] {
        let person = store.person(&shop(), id).await.unwrap().unwrap();
        assert_eq!((person.claims.len(), person.version), (5, 5), "{id}");
        assert_eq!((person.claims[2].kind, person.claims[2].at_ms), (ClaimKind::Merge, NOW));
    }
    assert!(store.person(&shop(), "stranger").await.unwrap().unwrap().claims.is_empty());
}
