//! Erasing a person: what was there goes, what comes late stays away, everything else stays.

use std::collections::BTreeSet;

use runnel_model::{Privacy, Secret};
use runnel_storage::{AppendError, CompactOptions, Identification, Store};

use crate::events::{NOW, Random, Simple, admitted, distinct, read, requested, shop};

const SECRET: Secret = Secret([9; 32]);
const DAY: i64 = 24 * 3_600_000;

fn force() -> CompactOptions {
    CompactOptions { force: true, ..CompactOptions::default() }
}

fn of(visitor: u32, id: u32, time_ms: i64) -> Simple {
    Simple { visitor, time_ms, id, content: id }
}

pub(crate) async fn whoever_is_erased_is_gone_and_stays_away(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    let erased = [7, 8];
    let said = Identification { anonymous: "visitor-8".into(), known: "visitor-7".into(), at_ms: NOW };
    let other = Identification { anonymous: "visitor-2".into(), known: "visitor-1".into(), at_ms: NOW };
    store.identify(&shop(), vec![said.clone(), other], NOW).await.unwrap();
    // Batches in blocks and in the journal, of which some have nothing of the erased; one event has a time ahead of the server's.
    let with = |first: u32| {
        let mut events: Vec<Simple> =
            distinct(first, 30).into_iter().filter(|one| !erased.contains(&one.visitor)).collect();
        events.extend([of(7, first + 1_000, NOW - DAY), of(8, first + 1_001, NOW - 40 * DAY)]);
        events
    };
    store.append(&shop(), requested(&with(0), "with", 1, "told"), NOW).await.unwrap();
    store.append(&shop(), requested(&distinct(300, 20), "without", 2, "told"), NOW).await.unwrap();
    // A repeat and a conflict, which compaction drops.
    let conflict = Simple { content: 77, ..of(7, 1_000, NOW - DAY) };
    store.append(&shop(), admitted(&[of(8, 1_001, NOW - 40 * DAY), conflict]), NOW).await.unwrap();
    store.compact(&shop(), force(), NOW).await.unwrap();
    store.append(&shop(), admitted(&with(90)), NOW).await.unwrap();
    store.append(&shop(), admitted(&[of(7, 2_000, NOW + DAY / 2)]), NOW).await.unwrap();
    let before = read(store, &shop()).await;
    let accepted = store.audit(&shop()).await.unwrap().accepted;

    let erasure = store.erase(&shop(), "visitor-8", SECRET, NOW).await.unwrap();
    assert_eq!((erasure.number, erasure.ids, erasure.done_ms), (1, 2, None));
    assert_eq!(store.to_erase().await.unwrap(), [shop()]);
    let listing = store.list(&shop(), 0).await.unwrap();
    let ids: BTreeSet<_> = listing.erasing.ids().collect();
    assert_eq!(ids, BTreeSet::from(["visitor-7", "visitor-8"]));
    assert_eq!(listing.erasing.until("visitor-8"), Some(NOW));
    let claims = store.claims(&shop(), 0, u64::MAX).await.unwrap();
    assert_eq!(claims.iter().map(|one| &*one.id).collect::<Vec<_>>(), ["visitor-2"]);
    // What was checked before the erasure is not taken, whoever it is of.
    let unaware = store.append(&shop(), admitted(&distinct(400, 1)), NOW).await;
    assert!(matches!(unaware, Err(AppendError::Erased)), "{unaware:?}");
    let privacy = store.privacy(&shop(), Some(Secret([1; 32]))).await.unwrap();
    assert_eq!((privacy.secret, privacy.version, privacy.erased.len()), (Some(SECRET), 1, 2));
    let until = |privacy: &Privacy| ["visitor-7", "visitor-1"].map(|id| privacy.erased_until(id));
    assert_eq!(until(&privacy), [Some(NOW), None]);
    store.append(&shop(), admitted(&distinct(400, 1)).knowing(1), NOW).await.unwrap();
    // What happens later is a new visitor's, also while the erasure goes on.
    store.append(&shop(), admitted(&[of(7, 2_500, NOW + DAY)]).knowing(1), NOW).await.unwrap();

    let report = store.carry_out_erasures(&shop(), NOW + 5).await.unwrap();
    assert!(report.erasure > 1, "the event ahead of the server's time goes as well: {report:?}");
    assert_eq!(store.carry_out_erasures(&shop(), NOW + 6).await.unwrap().erasure, 0, "nothing is left to do");
    assert_eq!(store.to_erase().await.unwrap(), []);
    let privacy = store.privacy(&shop(), None).await.unwrap();
    assert_eq!(until(&privacy), [Some(NOW + DAY / 2), None]);
    let done = store.erasure(&shop(), 1).await.unwrap().unwrap();
    assert!(done.done_ms.is_some_and(|done_ms| done_ms >= NOW + 5), "{done:?}");
    assert_eq!((done.requested_ms, done.events), (NOW, 5));
    assert_eq!(store.erasure(&shop(), 99).await.unwrap(), None);

    let after = read(store, &shop()).await;
    let gone = |visitor: &str| erased.iter().any(|erased| visitor == format!("visitor-{erased}"));
    let expected: Vec<_> = before.counted.iter().filter(|((visitor, ..), _)| !gone(visitor)).collect();
    let is_new = |id: &str| ["event-400", "event-2500"].contains(&id);
    let left: Vec<_> = after.counted.iter().filter(|((.., id), _)| !is_new(id)).collect();
    assert_eq!(left, expected);
    let audit = store.audit(&shop()).await.unwrap();
    assert_eq!((audit.accepted, audit.counted), (accepted + 2, expected.len() as u64 + 2));
    // Two in a block, two in the journal, one ahead of time, and the conflict; the repeat was dropped before.
    assert_eq!((audit.erased, audit.duplicates, audit.conflicts), (6, 1, 0));
    assert!(store.receipt(&shop(), "with").await.unwrap().is_none());
    assert!(store.receipt(&shop(), "without").await.unwrap().is_some());

    // Who they were is not told again; what happens later is told anew.
    let later = Identification { at_ms: NOW + 2 * DAY, ..said.clone() };
    let (claimed, _) = store.identify(&shop(), vec![said, later], NOW).await.unwrap();
    assert_eq!(
        claimed.iter().map(|one| (one.erased, one.new)).collect::<Vec<_>>(),
        [(true, false), (false, true)]
    );
    let version = privacy.version;
    store.append(&shop(), admitted(&[of(7, 3_000, NOW + 2 * DAY)]).knowing(version), NOW).await.unwrap();
    assert_eq!(read(store, &shop()).await.counted.len(), after.counted.len() + 1);
    // Again: the new person goes, too.
    store.erase(&shop(), "visitor-7", SECRET, NOW + 3 * DAY).await.unwrap();
    store.carry_out_erasures(&shop(), NOW + 3 * DAY).await.unwrap();
    let mut others = after.counted.clone();
    others.retain(|(.., id), _| id != "event-2500");
    assert_eq!(read(store, &shop()).await.counted, others);
}

/// Rounds that are dropped anywhere, compactions and appends in between: in the end everybody else is there, and nobody erased.
pub(crate) async fn an_erasure_goes_on_where_it_was_interrupted(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    let mut random = Random(3);
    let (mut kept, mut version, mut accepted) = (BTreeSet::new(), 0, 0);
    let mut gone: BTreeSet<u32> = BTreeSet::new();
    for round in 0..12u32 {
        for batch in 0..4 {
            let first = (round * 4 + batch) * 40;
            let events: Vec<Simple> = (first..first + 40)
                .map(|id| of(random.below(60) as u32, id, NOW + i64::from(id) + i64::from(round) * DAY))
                .filter(|one| !gone.contains(&one.visitor))
                .collect();
            kept.extend(events.iter().map(|one| (one.visitor, one.id)));
            accepted += events.len() as u64;
            if !events.is_empty() {
                store.append(&shop(), admitted(&events).knowing(version), NOW).await.unwrap();
            }
        }
        if random.below(2) == 0 {
            store.compact(&shop(), force(), NOW).await.unwrap();
        }
        let visitor = random.below(60) as u32;
        gone.insert(visitor);
        let id = format!("visitor-{visitor}");
        store.erase(&shop(), &id, SECRET, NOW + 100 * DAY).await.unwrap();
        for _ in 0..random.below(3) {
            let pause = std::time::Duration::from_micros(random.below(4_000));
            drop(tokio::time::timeout(pause, store.carry_out_erasures(&shop(), NOW)).await);
        }
        if random.below(2) == 0 {
            store.carry_out_erasures(&shop(), NOW).await.unwrap();
        }
        version = store.privacy(&shop(), None).await.unwrap().version;
    }
    store.carry_out_erasures(&shop(), NOW).await.unwrap();
    kept.retain(|(visitor, _)| !gone.contains(visitor));
    let expected: BTreeSet<_> =
        kept.iter().map(|(visitor, id)| (format!("visitor-{visitor}"), format!("event-{id}"))).collect();
    let left = read(store, &shop()).await.counted;
    let left: BTreeSet<_> = left.into_keys().map(|(visitor, _, id)| (visitor, id)).collect();
    assert_eq!(left, expected);
    let audit = store.audit(&shop()).await.unwrap();
    assert_eq!((audit.accepted, audit.counted), (accepted, expected.len() as u64));
    assert_eq!(audit.erased, accepted - expected.len() as u64);
    store.compact(&shop(), force(), NOW).await.unwrap();
    assert_eq!(store.audit(&shop()).await.unwrap().counted, audit.counted);
}
