//! Streams: the same for ever, in any chunks, and every event delivered as often as it should be, in bounded memory.

use std::collections::HashMap;

use runnel_simulate::{Config, ConfigError, Event, Shop, write_csv};

fn shop(seed: u64, visitors: u64) -> Shop {
    Shop::new(Config::shop(seed, visitors)).expect("a good configuration")
}

/// A shop in which everything odd is frequent.
fn odd(seed: u64, visitors: u64) -> Shop {
    let config = Config { duplicates: 0.3, late: 0.2, ties: 0.4, bots: 0.01, ..Config::shop(seed, visitors) };
    Shop::new(config).expect("a good configuration")
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

#[test]
fn streams_never_change() {
    // If this fails, published figures and stored expectations of others change too: do not just correct the number.
    let mut bytes = Vec::new();
    let rows = write_csv(&mut bytes, shop(1, 500).deliveries().map(|delivery| delivery.event)).unwrap();
    assert_eq!((rows, fnv(&bytes)), (5_186, 4_419_904_877_741_816_438));
}

#[test]
fn one_seed_one_stream() {
    let all = |shop: &Shop| shop.deliveries().collect::<Vec<_>>();
    assert_eq!(all(&shop(7, 2_000)), all(&shop(7, 2_000)));
    assert_ne!(all(&shop(7, 2_000)), all(&shop(8, 2_000)));
}

#[test]
fn chunks_do_not_matter() {
    let shop = shop(3, 1_000);
    let whole: Vec<Event> = shop.events(0..1_000).collect();
    for chunk in [1, 7, 333] {
        let mut parts: Vec<Vec<Event>> = Vec::new();
        // The last chunk first.
        for start in (0..1_000_u32).step_by(chunk).rev().map(u64::from) {
            let mut part = Vec::new();
            shop.for_each_visitor(start..start + chunk as u64, |visitor, journey| {
                assert!(!journey.is_empty() && journey.iter().all(|event| event.visitor == visitor));
                part.extend_from_slice(journey);
            });
            parts.push(part);
        }
        parts.reverse();
        assert!(parts.concat() == whole, "chunks of {chunk}");
    }
    let halves = std::thread::scope(|scope| {
        let first = scope.spawn(|| shop.events(0..500).collect::<Vec<_>>());
        let second = scope.spawn(|| shop.events(500..9_999).collect::<Vec<_>>());
        [first.join().unwrap(), second.join().unwrap()].concat()
    });
    assert!(halves == whole);
}

#[test]
fn journeys_are_in_canonical_order_and_ids_differ() {
    let shop = odd(4, 3_000);
    let mut ids = std::collections::HashSet::new();
    shop.for_each_visitor(0..3_000, |_, journey| {
        let order = |e: &Event| (e.time_ms, e.sequence().unwrap_or(0), e.event_id());
        assert!(journey.is_sorted_by_key(order));
        for event in journey {
            assert!(ids.insert(event.event_id()));
            let id = event.event_id().0;
            assert_eq!(((id >> 80) as i64, id >> 76 & 15, id >> 62 & 3), (event.time_ms, 7, 2));
        }
    });
}

/// Delivers a shop and checks that exactly its events arrive, with the duplicates of its truth. Returns the peak.
fn check_deliveries(shop: &Shop, capacity: usize, ordered: bool) -> usize {
    let mut expected: HashMap<Event, u64> = HashMap::new();
    for event in shop.events(0..u64::MAX) {
        assert!(expected.insert(event, 0).is_none());
    }
    let mut deliveries = shop.deliveries_within(capacity);
    let (mut last, mut duplicates) = (i64::MIN, 0);
    for delivery in deliveries.by_ref() {
        assert!(delivery.arrived_ms > delivery.event.time_ms);
        assert!(!ordered || delivery.arrived_ms >= last);
        last = delivery.arrived_ms;
        // Bit i: copy i has arrived.
        let copies = expected.get_mut(&delivery.event).expect("an event of the shop");
        assert_eq!(*copies >> delivery.copy & 1, 0);
        *copies |= 1 << delivery.copy;
        duplicates += u64::from(delivery.copy > 0);
    }
    assert!(expected.values().all(|copies| matches!(copies, 0b1 | 0b11 | 0b111)));
    assert_eq!(duplicates, shop.truth().duplicates);
    deliveries.peak()
}

#[test]
fn deliveries_are_the_journeys_and_the_duplicates() {
    check_deliveries(&shop(5, 20_000), usize::MAX, true);
    check_deliveries(&odd(5, 5_000), usize::MAX, true);
    for visitors in [1, 2, 15, 16, 17, 4_095, 4_096, 4_097] {
        check_deliveries(&odd(6, visitors), usize::MAX, true);
    }
    for days in [1, 5, 400] {
        let config = Config { days, start_ms: 1_700_000_000_123, ..Config::shop(6, 1_500) };
        let shop = Shop::new(config).unwrap();
        let end = 1_700_000_000_123 + i64::from(days) * 86_400_000;
        assert!(shop.events(0..1_500).all(|e| (1_700_000_000_123..end + 4 * 3_600_000).contains(&e.time_ms)));
        check_deliveries(&shop, usize::MAX, true);
    }
}

#[test]
fn memory_is_bounded() {
    // With room for few, the order suffers and nothing else does.
    let capacity = 300;
    for visitors in [10_000, 60_000] {
        let peak = check_deliveries(&odd(9, visitors), capacity, false);
        // One stride of the cursors is 4,096 arrivals and as many returns, some fifty thousand events and their copies; the larger shop
        // has nearly a million.
        assert!(peak < capacity + 90_000, "{visitors} visitors: {peak}");
    }
    // With the usual room, what is held is what is on its way.
    let peak = check_deliveries(&shop(9, 40_000), runnel_simulate::Deliveries::CAPACITY, true);
    assert!(peak < 70_000, "{peak}");
}

#[test]
fn bad_configurations_are_refused() {
    let good = Config::shop(1, 10);
    let refused = |config: Config| Shop::new(config).err();
    assert_eq!(refused(Config { visitors: 0, ..good.clone() }), Some(ConfigError::Visitors(0)));
    assert_eq!(refused(Config { days: 0, ..good.clone() }), Some(ConfigError::Days(0)));
    assert_eq!(refused(Config { start_ms: -1, ..good.clone() }), Some(ConfigError::Start(-1)));
    let error = refused(Config { late: f64::NAN, ..good.clone() }).unwrap();
    assert_eq!(error.to_string(), "late must be 0 to 1, not NaN");
    assert!(refused(Config { ties: 1.5, ..good.clone() }).is_some());
    assert_eq!(refused(Config { ties: 1.0, late: 1.0, duplicates: 1.0, bots: 1.0, ..good }), None);
}

#[test]
fn all_and_nothing() {
    let nothing = Config { duplicates: 0.0, late: 0.0, ties: 0.0, bots: 0.0, ..Config::shop(2, 3_000) };
    let truth = Shop::new(nothing.clone()).unwrap().truth();
    assert_eq!((truth.duplicates, truth.late, truth.bots), (0, 0, 0));
    let truth = Shop::new(Config { late: 1.0, duplicates: 1.0, ..nothing.clone() }).unwrap().truth();
    assert_eq!(truth.late, truth.events);
    assert!(truth.duplicates > truth.events);
    let truth = Shop::new(Config { bots: 1.0, ..nothing }).unwrap().truth();
    assert_eq!((truth.bots, truth.bot_events), (3_000, truth.events));
    assert_eq!(truth.reached, [3_000, 0, 0, 0, 0, 0]);
}
