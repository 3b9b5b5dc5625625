//! Who belongs, asked in every way there is.

use std::collections::BTreeSet;

use runnel_contracts::proto::segmentation::v1::{
    CountSegmentRequest, DefineSegmentRequest, PreviewSegmentRequest, SegmentDefinition, WasMemberRequest,
    segmentation_service_server::SegmentationService,
};
use runnel_harness::Random;

use crate::{
    random::{condition, duration, inline},
    slow::Saved,
    world::{Event, SECOND, World},
};

#[tokio::test(flavor = "multi_thread")]
async fn members_are_those_of_whom_it_holds() {
    let cases: u64 = std::env::var("RUNNEL_CASES").map_or(5_000, |cases| cases.parse().unwrap());
    let (mut some, mut none) = (0, 0);
    for seed in 0..cases.div_ceil(200) {
        let mut random = Random(seed + 1);
        let mut world = World::new().await;
        let mut saved = Saved::new();
        for step in 0..20 {
            world.append(&mut random).await;
            if random.below(5) == 0 {
                world.compact().await;
            }
            if random.below(3) == 0 {
                world.change_list(&mut random).await;
            }
            let definition = SegmentDefinition {
                condition: Some(condition(&mut random, 0, &saved)),
                ..SegmentDefinition::default()
            };
            // Often right at an event, right after it, or when it is exactly so long ago.
            let events: Vec<&Event> = world.visitors.values().flatten().collect();
            let near = events[random.below(events.len() as u64) as usize].time_ms;
            let as_of_ms =
                near + [0, 1, duration(&mut random), duration(&mut random) + 1][random.below(4) as usize];
            let what = format!("seed {seed}, step {step}, as of {as_of_ms}: {definition:#?}");
            let expected = world.expected(&definition, &saved, as_of_ms);
            let streamed = world.streamed(inline(&definition), as_of_ms).await.expect(&what);
            let found: BTreeSet<String> = streamed.iter().cloned().collect();
            assert_eq!(found, expected, "{what}");
            assert_eq!(streamed.len(), expected.len(), "each once, {what}");
            assert_eq!(world.listed(inline(&definition), as_of_ms).await, streamed, "{what}");
            let count = CountSegmentRequest { segment: Some(inline(&definition)), as_of_ms: Some(as_of_ms) };
            let count = world.service.count_segment(world.request(count)).await.unwrap().into_inner();
            let there = world.visitors.values().filter(|events| events[0].time_ms < as_of_ms).count() as u64;
            assert_eq!((count.members, count.visitors), (expected.len() as u64, there), "{what}");
            let visitor_id = format!("visitor-{}", random.below(26));
            let asked = WasMemberRequest {
                segment: Some(inline(&definition)),
                visitor_id: visitor_id.clone(),
                at_ms: Some(as_of_ms),
            };
            let told = world.service.was_member(world.request(asked)).await.unwrap().into_inner();
            assert_eq!(told.member, expected.contains(&visitor_id), "{visitor_id}, {what}");
            let earlier_ms = as_of_ms - 60 * SECOND;
            let before = world.expected(&definition, &saved, earlier_ms);
            let compare_with: Vec<String> = saved.keys().take(2).cloned().collect();
            let preview = PreviewSegmentRequest {
                segment: Some(inline(&definition)),
                as_of_ms: Some(as_of_ms),
                compare_with: compare_with.clone(),
                since_ms: Some(60 * SECOND),
                examples: 5,
            };
            let shown = world.service.preview_segment(world.request(preview)).await.unwrap().into_inner();
            let churn = shown.churn.unwrap();
            let (left, joined) =
                (before.difference(&expected).count() as u64, expected.difference(&before).count() as u64);
            let told = (churn.since_ms, churn.members_before, churn.left, churn.joined);
            assert_eq!(told, (earlier_ms, before.len() as u64, left, joined), "{what}");
            for (overlap, name) in shown.overlaps.iter().zip(&compare_with) {
                let other = world.expected(&saved[name], &saved, as_of_ms);
                let both = other.intersection(&expected).count() as u64;
                assert_eq!((overlap.members, overlap.both), (other.len() as u64, both), "{what}");
            }
            assert_eq!(shown.examples, streamed[..streamed.len().min(5)], "{what}");
            if expected.is_empty() {
                none += 1
            } else {
                some += 1
            }
            let name = format!("segment-{step}");
            let request = DefineSegmentRequest {
                name: name.clone(),
                definition: Some(definition.clone()),
                expected_version: Some(0),
            };
            // One that names others may have too many parts by now.
            if world.service.define_segment(world.request(request)).await.is_ok() && saved.len() < 4 {
                saved.insert(name, definition);
            }
        }
    }
    assert!(some > cases / 40 && none > 0, "{some} segments with members, {none} without");
}
