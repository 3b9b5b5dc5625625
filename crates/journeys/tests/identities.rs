//! Journeys of visitors with several ids against a reference that sorts all events by who they count as: for any order in which events, identifications,
//! merges, questions and compactions come.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use runnel_journeys::{Journeys, JourneysOptions, LEVELS, Loaded, Run};
use runnel_model::{EventBatch, EventRef, Identities, Selector, Settings, TenantName, ValueRef, shard_of};
use runnel_storage::{Admitted, CompactOptions, EmbeddedOptions, Identification, Store};

const START: i64 = 1_767_225_600_000;

/// Seeds that found something once. This one: a known id that others count as is merged away, and two of its senders tie, by time, sequence and id.
const FOUND: [u64; 1] = [446];

/// Small, seeded random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Who sent it, when, its sequence, its id: names of events tell which it is.
type Event = (String, i64, i64, String);

fn event(random: &mut Random, ids: u64) -> Event {
    let sender = format!("v{}", random.below(ids));
    (sender, START + random.below(12) as i64, random.below(2) as i64, format!("e{}", random.below(4)))
}

/// A batch of so many events. It has each identity once; that is seen to when it is received.
fn batch(random: &mut Random, events: u64, event: impl Fn(&mut Random) -> Event) -> Vec<Event> {
    let mut batch: BTreeMap<(String, i64, String), Event> = BTreeMap::new();
    for _ in 0..events {
        let new = event(random);
        batch.entry((new.0.clone(), new.1, new.3.clone())).or_insert(new);
    }
    batch.into_values().collect()
}

/// What tells an event from all others, as its name.
fn name((sender, _, sequence, id): &Event) -> String {
    format!("{sender} {sequence} {id}")
}

async fn append(store: &Store, tenant: &TenantName, events: &[Event]) {
    let mut batch = EventBatch::default();
    for event in events {
        let name = name(event);
        batch.push(&EventRef {
            visitor: &event.0,
            time_ms: event.1,
            name: &name,
            event_id: &event.3,
            sequence: event.2,
            fields: &[],
            properties: &[("sender", ValueRef::String(&event.0))],
        });
    }
    store.append(tenant, Admitted::new(batch, None, Bytes::new()).unwrap(), START).await.unwrap();
}

type Found = BTreeMap<String, Vec<(i64, String, String)>>;

/// One visitor's events in order: time, name, and the property of a column.
fn journey(loaded: &Loaded, column: usize, run: &Run, visitor: usize) -> Vec<(i64, String, String)> {
    let sender = |event| {
        let code = run.columns[column].values().get(event).unwrap();
        loaded.columns[column].1.value(code).unwrap().show()
    };
    let events = run.range(visitor);
    events.map(|event| (run.time(event), loaded.names.name(run.kind(event)), sender(event))).collect()
}

/// Every visitor's events.
fn found(loaded: &Loaded) -> Found {
    let column = loaded.column(&Selector::property("sender")).unwrap();
    let mut found = Found::new();
    let mut add = |run: &Run, visitor: usize| {
        let who = String::from_utf8(run.visitors.get(visitor).to_vec()).unwrap();
        assert_eq!(loaded.find(&who).map(|(_, at)| at), Some(visitor));
        assert!(
            found.insert(who, journey(loaded, column, run, visitor)).is_none(),
            "a visitor is in two places"
        );
    };
    for (run, skip) in loaded.runs() {
        for visitor in 0..run.visitors.len() {
            if skip.is_none_or(|skip| skip[visitor / 64] >> (visitor % 64) & 1 == 0) {
                add(run, visitor);
            }
        }
    }
    assert_eq!(loaded.events(), found.values().map(|events| events.len() as u64).sum::<u64>());
    found
}

/// An event in its place: by time, sequence, id, and whose it is where that is not the visitor.
type Placed<'a> = (i64, i64, &'a String, Option<&'a String>, &'a Event);

/// The same from all that was ever sent and said.
fn expected(events: &[Event], people: &Identities) -> Found {
    // The first of an identity counts: sender, time and id. Where times are equal, the sequence orders, then the id, and then whose it is.
    let mut first = BTreeMap::new();
    for event in events {
        first.entry((&event.0, event.1, &event.3)).or_insert(event);
    }
    let mut sorted: BTreeMap<String, BTreeSet<Placed<'_>>> = BTreeMap::new();
    for event in first.into_values() {
        let visitor = people.visitor(&event.0).to_owned();
        let sender = (visitor != event.0).then_some(&event.0);
        sorted.entry(visitor).or_default().insert((event.1, event.2, &event.3, sender, event));
    }
    let told = |(time, _, _, _, event): Placed<'_>| (time, name(event), event.0.clone());
    sorted.into_iter().map(|(visitor, events)| (visitor, events.into_iter().map(told).collect())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn journeys_follow_who_is_who() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_embedded(&folder.path().join("data"), EmbeddedOptions::default()).await.unwrap();
    let cases: u64 = std::env::var("RUNNEL_CASES").map_or(5_000, |cases| cases.parse().unwrap());
    let rounds = cases.div_ceil(25);
    let columns: BTreeSet<Selector> = [Selector::property("sender")].into();
    let mut reloads = 0;
    for seed in (0..rounds).chain(FOUND.into_iter().filter(|seed| *seed >= rounds)) {
        let mut random = Random(seed);
        let tenant = TenantName::parse(&format!("shop-{seed}")).unwrap();
        store.create_tenant(&tenant, START).await.unwrap();
        let journeys = Journeys::new(store.clone(), JourneysOptions::default()).unwrap();
        let (ids, mut sent, mut now) = (4 + random.below(12), Vec::new(), START);
        // Mostly identifications that arrive in order, so that most are added to what is in memory.
        let orderly = random.below(2) == 0;
        for _ in 0..4 + random.below(16) {
            now += 1;
            match random.below(6) {
                0..2 => {
                    let events = 1 + random.below(8);
                    let some = batch(&mut random, events, |random| event(random, ids));
                    append(&store, &tenant, &some).await;
                    sent.extend(some);
                }
                2 => {
                    let (anonymous, known) = (random.below(ids), random.below(if orderly { 3 } else { ids }));
                    let at_ms = if orderly { now } else { START + random.below(9) as i64 };
                    let (anonymous, known) = (format!("v{anonymous}"), format!("v{known}"));
                    let one = Identification { anonymous, known, at_ms };
                    store.identify(&tenant, vec![one], now).await.unwrap();
                }
                3 => {
                    let (from, into) = (format!("v{}", random.below(ids)), format!("v{}", random.below(ids)));
                    drop(store.merge(&tenant, &from, &into, now).await);
                }
                4 => drop(
                    store
                        .compact(&tenant, CompactOptions { force: true, ..CompactOptions::default() }, now)
                        .await
                        .unwrap(),
                ),
                _ => drop(journeys.at(&tenant, &columns).await.unwrap()),
            }
        }
        let mut people = Identities::default();
        drop(people.add(&store.claims(&tenant, 0, u64::MAX).await.unwrap()));
        let wanted = expected(&sent, &people);
        // Of what is in memory and what came since, before everybody's journeys are brought up to date.
        for at in 0..ids.min(3) {
            let id = format!("v{at}");
            let alone = journeys.alone(&tenant, &id, &columns, &Settings::default()).await.unwrap();
            let is_wanted = wanted.get(people.visitor(&id)).cloned().unwrap_or_default();
            let column = alone.column(&Selector::property("sender")).unwrap();
            assert_eq!(
                journey(&alone, column, alone.runs().next().unwrap().0, 0),
                is_wanted,
                "seed {seed}, {id}"
            );
        }
        let kept = journeys.at(&tenant, &columns).await.unwrap();
        assert_eq!(kept.people.version(), people.version());
        assert_eq!(found(&kept), wanted, "seed {seed}, as kept");
        let fresh = Journeys::new(store.clone(), JourneysOptions::default()).unwrap();
        let fresh = fresh.at(&tenant, &columns).await.unwrap();
        assert_eq!(found(&fresh), wanted, "seed {seed}, as loaded");
        for at in 0..ids {
            let id = format!("v{at}");
            assert_eq!(kept.find(&id).is_some(), wanted.contains_key(people.visitor(&id)));
        }
        reloads += journeys.loads();
    }
    assert!(reloads < rounds * 4, "{reloads} loads in {rounds} rounds: nothing was added to what was there");
    store.close().await;
}

/// Events of the levels of the shard that has them all.
fn levels(loaded: &Loaded) -> [usize; LEVELS] {
    let sizes = loaded.shards.iter().map(|shard| shard.runs().map(|(run, _)| run.events()));
    sizes.max_by_key(|sizes| sizes.iter().sum::<usize>()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_that_are_folded_lose_nobody_and_tell_who_changed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_embedded(&folder.path().join("data"), EmbeddedOptions::default()).await.unwrap();
    let columns: BTreeSet<Selector> = [Selector::property("sender")].into();
    // All of one shard, so that few events make its levels large.
    let ids: Vec<String> =
        (0..).map(|at| format!("v{at}")).filter(|id| shard_of(id) == 0).take(3_000).collect();
    let mut folded = [0; LEVELS];
    for seed in 0..3 {
        let mut random = Random(seed);
        let tenant = TenantName::parse(&format!("shop-{seed}")).unwrap();
        store.create_tenant(&tenant, START).await.unwrap();
        let journeys = Journeys::new(store.clone(), JourneysOptions::default()).unwrap();
        let event = |random: &mut Random| {
            let sender = ids[random.below(ids.len() as u64) as usize].clone();
            let time_ms = START + random.below(60) as i64;
            (sender, time_ms, random.below(2) as i64, format!("e{}", random.below(4)))
        };
        let (mut sent, mut identified) = (batch(&mut random, 9_000, event), 3);
        append(&store, &tenant, &sent).await;
        let mut before = journeys.at(&tenant, &columns).await.unwrap();
        for round in 0..30 {
            let events = 100 + random.below(200);
            let some = batch(&mut random, events, event);
            append(&store, &tenant, &some).await;
            sent.extend(some);
            for _ in 0..random.below(3) {
                // Each is identified once, so that journeys are not told apart anew.
                identified += 1;
                let (anonymous, known) = (ids[identified].clone(), ids[random.below(3) as usize].clone());
                let one = Identification { anonymous, known, at_ms: START + round };
                store.identify(&tenant, vec![one], START + round).await.unwrap();
            }
            let after = journeys.at(&tenant, &columns).await.unwrap();
            let (was, is) = (found(&before), found(&after));
            if let Some(mut changed) = after.changed_since(&before) {
                let differ: BTreeSet<&String> =
                    was.keys().chain(is.keys()).filter(|id| was.get(*id) != is.get(*id)).collect();
                changed.sort_unstable();
                let context = format!("seed {seed}, round {round}");
                assert_eq!(changed.iter().collect::<Vec<_>>(), Vec::from_iter(differ), "{context}");
                let (had, has) = (levels(&before), levels(&after));
                (1..LEVELS).for_each(|level| folded[level] += usize::from(had[level] > 0 && has[level] == 0));
            }
            before = after;
        }
        let mut people = Identities::default();
        drop(people.add(&store.claims(&tenant, 0, u64::MAX).await.unwrap()));
        assert_eq!(found(&before), expected(&sent, &people), "seed {seed}");
    }
    assert!(folded[1..].iter().all(|times| *times > 2), "hardly a level was folded: {folded:?}");
    store.close().await;
}
