//! Whoever has an id on a list is found, however many are on it and however many there are, alone and among all.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use runnel_contracts::proto::segmentation::v1::{Condition, SegmentDefinition, condition::Node};
use runnel_definitions::{
    catalogue::Catalogue,
    members::{Members, journeys_for},
    segment::{self, Checked},
};
use runnel_journeys::{Journeys, JourneysOptions, Loaded};
use runnel_model::{EventBatch, EventRef, TenantName};
use runnel_storage::{Admitted, EmbeddedOptions, Identification, Store};

const NOW: i64 = 1_767_225_600_000;

struct World {
    store: Store,
    journeys: Journeys,
    tenant: TenantName,
    _folder: tempfile::TempDir,
}

fn id(number: usize) -> String {
    format!("visitor-{number:03}")
}

impl World {
    async fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let store =
            Store::open_embedded(&folder.path().join("data"), EmbeddedOptions::default()).await.unwrap();
        let tenant = TenantName::parse("shop").unwrap();
        store.create_tenant(&tenant, NOW).await.unwrap();
        let options = JourneysOptions { threads: 2, ..JourneysOptions::default() };
        let journeys = Journeys::new(store.clone(), options).unwrap();
        World { store, journeys, tenant, _folder: folder }
    }

    async fn append(&self, round: usize, visitors: impl Iterator<Item = usize>) {
        let mut batch = EventBatch::default();
        for number in visitors {
            batch.push(&EventRef {
                visitor: &id(number),
                time_ms: NOW - 1,
                name: "look",
                event_id: &format!("{number} {round}"),
                sequence: 0,
                fields: &[],
                properties: &[],
            });
        }
        let admitted = Admitted::new(batch, None, Bytes::new()).unwrap();
        self.store.append(&self.tenant, admitted, NOW).await.unwrap();
    }

    async fn identify(&self, anonymous: usize, known: usize) {
        let said = Identification { anonymous: id(anonymous), known: id(known), at_ms: NOW };
        self.store.identify(&self.tenant, vec![said], NOW).await.unwrap();
    }

    async fn put(&self, list: &str, numbers: &[usize]) {
        let ids = numbers.iter().map(|number| id(*number)).collect();
        self.store.put_list_members(&self.tenant, list, ids, NOW).await.unwrap();
    }

    async fn on(&self, list: &str) -> (Arc<Loaded>, Checked) {
        let condition = Some(Condition { node: Some(Node::List(list.to_owned())) });
        let definition = SegmentDefinition { condition, ..SegmentDefinition::default() };
        let catalogue = Catalogue::default();
        let checked =
            segment::check(&self.store, &self.tenant, &catalogue, "segment", &definition).await.unwrap();
        let (loaded, _) = journeys_for(&self.journeys, &self.tenant, &[&checked]).await.unwrap();
        (loaded, checked)
    }
}

/// The members among all journeys, each once.
fn members(loaded: &Arc<Loaded>, checked: &Checked) -> BTreeSet<String> {
    let asked = Members::new(loaded.clone(), checked.clone(), NOW).unwrap();
    let mut found = BTreeSet::new();
    for (run, skip) in loaded.runs().filter(|(run, _)| run.events() > 0) {
        let bits = asked.of(run, skip).unwrap().members;
        for at in (0..run.visitors.len()).filter(|at| bits[at / 64] >> (at % 64) & 1 == 1) {
            let visitor = String::from_utf8(run.visitors.get(at).to_vec()).unwrap();
            assert!(found.insert(visitor.clone()), "{visitor} is found twice");
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_an_id_on_a_list_is_found() {
    let world = World::new().await;
    world.append(0, 0..200).await;
    let lists: BTreeMap<&str, Vec<usize>> = BTreeMap::from([
        ("one", vec![7]),
        ("few", vec![0, 64, 131, 199, 500]),
        ("many", (0..150).collect()),
        ("none of them", vec![300, 301]),
    ]);
    for (list, numbers) in &lists {
        world.put(list, numbers).await;
    }
    // Who counts as whom, by number.
    let mut people: BTreeMap<usize, usize> = BTreeMap::new();
    for (round, said) in [None, Some((7, 8)), Some((199, 400)), Some((301, 64))].into_iter().enumerate() {
        let (earlier, of_one) = world.on("one").await;
        let found_earlier = members(&earlier, &of_one);
        if let Some((anonymous, known)) = said {
            world.identify(anonymous, known).await;
            people.insert(anonymous, known);
        }
        // What came before stays in the base, and is superseded by what comes now.
        world.append(round + 1, [3, 8, 150].into_iter()).await;
        let visitor = |number: usize| *people.get(&number).unwrap_or(&number);
        let there: BTreeSet<usize> = (0..200).map(visitor).collect();
        for (list, numbers) in &lists {
            let expected = numbers.iter().map(|number| visitor(*number));
            let expected: BTreeSet<String> =
                expected.filter(|number| there.contains(number)).map(id).collect();
            let (loaded, checked) = world.on(list).await;
            assert_eq!(members(&loaded, &checked), expected, "{list}, after {people:?}");
            // Again, by what is known of the list, and of some visitors alone.
            assert_eq!(members(&loaded, &checked), expected);
            let names: Vec<String> = there.iter().map(|number| id(*number)).collect();
            for some in [&names[..], &names[..1], &names[7..9]] {
                let alone = Arc::new(loaded.alone(some.iter().map(String::as_str), |_| true));
                let some: BTreeSet<String> = some.iter().cloned().collect();
                assert_eq!(members(&alone, &checked), expected.intersection(&some).cloned().collect());
            }
        }
        // What was read once is right for journeys of now and of before, each by who was who then.
        let (now, read_now) = world.on("one").await;
        assert_eq!(members(&now, &of_one), members(&now, &read_now));
        assert_eq!(members(&earlier, &of_one), found_earlier);
    }
}
