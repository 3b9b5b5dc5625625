//! Keeping events for so long: what is older is refused, counted a last time, and goes; everything else stays.

use std::collections::BTreeSet;

use runnel_model::Secret;
use runnel_storage::{
    AggregateCell, AggregateChange, AppendError, CompactOptions, Identification, Retain, Store, Versions,
};

use crate::events::{NOW, Simple, admitted, read, requested, shop};

const DAY: i64 = 24 * 3_600_000;
/// From when on events are kept in the end.
const CUT: i64 = NOW - 40 * DAY;

fn of(visitor: u32, id: u32, time_ms: i64) -> Simple {
    Simple { visitor, time_ms, id, content: id }
}

async fn force(store: &Store) {
    let options = CompactOptions { force: true, ..CompactOptions::default() };
    store.compact(&shop(), options, NOW).await.unwrap();
}

/// Aggregates that are made of the newest truth, or of what is said. Their number.
async fn counted(store: &Store, made_of: Option<Versions>) -> (u64, Versions) {
    let found = store.aggregates(&shop(), 1, 0, 0).await.unwrap();
    let expected = found.state.map_or(0, |state| state.number);
    let made_of = made_of.unwrap_or(found.head);
    let cell = AggregateCell { grain: 1, start_ms: CUT - DAY, body: Some("many".into()) };
    let (cells, body) = (vec![cell], "state".into());
    let change = AggregateChange { expected, made_of, body, cells, restatements: Vec::new() };
    store.change_aggregates(&shop(), change).await.unwrap();
    (expected + 1, made_of)
}

pub(crate) async fn what_is_not_kept_any_more_goes_when_it_is_counted(store: &Store) {
    store.create_tenant(&shop(), NOW).await.unwrap();
    assert_eq!(store.retained().await.unwrap(), []);
    assert!(store.set_retention(&shop(), Some(40)).await.unwrap());
    assert_eq!(store.retained().await.unwrap(), [(shop(), 40)]);
    assert_eq!(store.get_tenant(&shop()).await.unwrap().unwrap().retention_days, Some(40));

    // 300 events, one for each eighth of a day, of 17 visitors: some in blocks of several months, some in the journal; a repeat and a conflict among the old ones.
    let all: Vec<Simple> =
        (0..300).map(|id| of(id % 17, id, CUT + (i64::from(id) - 200) * (DAY / 8))).collect();
    store.append(&shop(), requested(&all[..90], "old", 1, "told"), NOW).await.unwrap();
    let repeats = [all[3], Simple { content: 777, ..all[4] }];
    store.append(&shop(), admitted(&repeats), NOW).await.unwrap();
    store.append(&shop(), admitted(&all[90..180]), NOW).await.unwrap();
    force(store).await;
    store.append(&shop(), admitted(&all[180..]), NOW).await.unwrap();
    let accepted = store.audit(&shop()).await.unwrap().accepted;

    // Nothing goes that is not refused.
    let (aggregates, made_of) = counted(store, None).await;
    let retain = Retain { days: 40, kept_from_ms: CUT, aggregates, made_of };
    assert!(!store.keep_from(&shop(), retain, NOW).await.unwrap());
    store.refuse_before(&shop(), 39, CUT).await.unwrap();
    assert_eq!(store.privacy(&shop(), None).await.unwrap().refused_before_ms, None, "nobody said 39 days");
    store.refuse_before(&shop(), 40, CUT).await.unwrap();
    store.refuse_before(&shop(), 40, CUT).await.unwrap();
    let unaware = store.append(&shop(), admitted(&[of(1, 900, NOW)]), NOW).await;
    assert!(matches!(unaware, Err(AppendError::Erased)), "{unaware:?}");
    let privacy = store.privacy(&shop(), None).await.unwrap();
    assert_eq!((privacy.version, privacy.refused_before_ms), (1, Some(CUT)), "twice changes nothing");
    store.append(&shop(), admitted(&[of(1, 900, NOW)]).knowing(1), NOW).await.unwrap();
    // Nothing goes of which aggregates do not know, or know something else by now.
    assert!(!store.keep_from(&shop(), retain, NOW).await.unwrap());
    let (aggregates, _) = counted(store, Some(made_of)).await;
    let outdated = Retain { days: 40, kept_from_ms: CUT, aggregates, made_of };
    assert!(!store.keep_from(&shop(), outdated, NOW).await.unwrap());
    let (aggregates, made_of) = counted(store, None).await;
    let retain = Retain { days: 40, kept_from_ms: CUT, aggregates, made_of };
    assert!(!store.keep_from(&shop(), Retain { aggregates: aggregates - 1, ..retain }, NOW).await.unwrap());
    assert!(!store.keep_from(&shop(), Retain { kept_from_ms: CUT + 1, ..retain }, NOW).await.unwrap());
    assert!(store.set_retention(&shop(), None).await.unwrap());
    assert!(!store.keep_from(&shop(), retain, NOW).await.unwrap(), "somebody thought better of it");
    assert!(store.set_retention(&shop(), Some(40)).await.unwrap());
    assert_eq!(store.list(&shop(), 0).await.unwrap().erasing.kept_from_ms(), None);
    assert_eq!(store.to_erase().await.unwrap(), []);
    // A batch that came since is of no weight, nor is who is who.
    store.append(&shop(), admitted(&[of(2, 901, NOW)]).knowing(1), NOW).await.unwrap();
    let said = Identification { anonymous: "visitor-8".into(), known: "visitor-7".into(), at_ms: NOW };
    store.identify(&shop(), vec![said], NOW).await.unwrap();

    assert!(store.keep_from(&shop(), retain, NOW).await.unwrap());
    assert!(!store.keep_from(&shop(), retain, NOW).await.unwrap(), "once is enough");
    assert_eq!(store.to_erase().await.unwrap(), [shop()]);
    let listing = store.list(&shop(), 0).await.unwrap();
    assert_eq!(listing.erasing.kept_from_ms(), Some(CUT));
    assert_eq!(listing.erasing.until("visitor-1"), Some(CUT - 1));
    let found = store.aggregates(&shop(), 1, i64::MIN, i64::MAX).await.unwrap();
    assert_eq!((found.kept_from_ms, found.retentions, found.head.erasure), (Some(CUT), 2, 2));
    assert_eq!(found.cells.len(), 1, "counts stay");

    assert!(store.retention(&shop()).await.unwrap().unwrap().deleting);
    store.carry_out_erasures(&shop(), NOW).await.unwrap();
    assert_eq!(store.to_erase().await.unwrap(), []);
    assert!(!store.retention(&shop()).await.unwrap().unwrap().deleting);
    let expected = |erased: u32| {
        let kept = |one: &&Simple| one.time_ms >= CUT && one.visitor != erased;
        let kept = all.iter().filter(kept).map(|one| format!("event-{}", one.id));
        kept.chain(["event-900", "event-901"].map(str::to_owned)).collect::<BTreeSet<String>>()
    };
    let left = async || -> BTreeSet<String> {
        read(store, &shop()).await.counted.into_keys().map(|(.., id)| id).collect()
    };
    assert_eq!(left().await, expected(99));
    // Afterwards persons are erased as ever.
    store.erase(&shop(), "visitor-5", Secret([9; 32]), NOW + DAY).await.unwrap();
    store.carry_out_erasures(&shop(), NOW).await.unwrap();
    let expected = expected(5);
    assert_eq!(left().await, expected);
    let audit = store.audit(&shop()).await.unwrap();
    assert_eq!((audit.accepted, audit.counted), (accepted + 2, expected.len() as u64));
    // What lost is told apart by what it lost to, as long as that is there.
    assert_eq!((audit.duplicates, audit.conflicts), (2, 0));
    assert_eq!(audit.erased, 302 - expected.len() as u64);
    assert!(store.list(&shop(), 0).await.unwrap().erasing.ids().next().is_none());
    assert!(store.receipt(&shop(), "old").await.unwrap().is_some(), "a repeat is still known");

    // Nothing more to do, later events stay, and the instant never goes back.
    store.carry_out_erasures(&shop(), NOW).await.unwrap();
    force(store).await;
    assert_eq!(store.audit(&shop()).await.unwrap().counted, audit.counted);
    store.refuse_before(&shop(), 40, CUT - DAY).await.unwrap();
    assert_eq!(store.privacy(&shop(), None).await.unwrap().refused_before_ms, Some(CUT));
    let (aggregates, made_of) = counted(store, None).await;
    let earlier = Retain { days: 40, kept_from_ms: CUT - DAY, aggregates, made_of };
    assert!(!store.keep_from(&shop(), earlier, NOW).await.unwrap());
    assert!(store.set_retention(&shop(), None).await.unwrap());
    assert_eq!(store.retained().await.unwrap(), []);
}
