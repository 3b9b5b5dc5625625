//! The truth: equal to a recomputation from what is delivered, and near to what was planned.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use runnel_simulate::{
    BOT_BROWSER, CHANNELS, Config, DEVICES, Event, FUNNEL, FUNNEL_WINDOW_MS, Name, PLANTED, Property, Shop,
    Truth, Value,
};

fn word(event: &Event, property: Property) -> Option<&'static str> {
    event.properties().into_iter().find_map(|(p, value)| match value {
        Value::Str(word) if p == property => Some(word),
        _ => None,
    })
}

/// The best chain by sets: from an entry, every event that any chain can have as its next step.
fn best_chain(journey: &[&Event]) -> Option<(usize, Event)> {
    let mut best: Option<(usize, i64, i64, Event)> = None;
    for entry in journey.iter().filter(|e| e.name == FUNNEL[0]) {
        let mut reachable: Vec<i64> = vec![entry.time_ms];
        let mut level = 1;
        for step in &FUNNEL[1..] {
            let next: Vec<i64> = journey
                .iter()
                .filter(|e| e.name == *step && (e.time_ms - entry.time_ms) <= FUNNEL_WINDOW_MS)
                .map(|e| e.time_ms)
                .filter(|time| reachable.iter().any(|before| before <= time))
                .collect();
            if next.is_empty() {
                break;
            }
            reachable = next;
            level += 1;
        }
        let done = *reachable.iter().min().expect("a level has been reached");
        let better = best.is_none_or(|(l, d, t, _)| (level, -done, entry.time_ms) >= (l, -d, t));
        if better {
            best = Some((level, done, entry.time_ms, **entry));
        }
    }
    best.map(|(level, _, _, entry)| (level, entry))
}

#[test]
fn truth_is_what_a_collector_would_find() {
    let config = Config { duplicates: 0.1, late: 0.2, ties: 0.3, ..Config::shop(11, 6_000) };
    let shop = Shop::new(config).unwrap();
    let mut found = Truth::default();
    let mut stored: HashMap<u64, BTreeMap<(i64, u32, u128), Event>> = HashMap::new();
    for delivery in shop.deliveries() {
        let event = delivery.event;
        let place = (event.time_ms, event.sequence().unwrap_or(0), event.event_id().0);
        if stored.entry(event.visitor.0).or_default().insert(place, event).is_some() {
            found.duplicates += 1;
        }
        found.late += u64::from(delivery.copy == 0 && delivery.arrived_ms - event.time_ms >= 60_000);
    }
    for journey in stored.values() {
        let journey: Vec<&Event> = journey.values().collect();
        found.visitors += 1;
        found.events += journey.len() as u64;
        found.sessions += 1;
        for pair in journey.windows(2) {
            found.tied += u64::from(pair[0].time_ms == pair[1].time_ms);
            found.sessions += u64::from(pair[1].time_ms - pair[0].time_ms > 1_800_000);
        }
        let is_bot = journey.iter().any(|e| word(e, Property::Browser) == Some(BOT_BROWSER));
        assert_eq!(is_bot, Truth::is_bot(&shop, journey[0].visitor));
        found.bots += u64::from(is_bot);
        found.bot_events += if is_bot { journey.len() as u64 } else { 0 };
        let mut names = BTreeSet::new();
        for event in &journey {
            names.insert(event.name.as_str());
            found.by_name[Name::ALL.iter().position(|name| *name == event.name).unwrap()] += 1;
            if event.name == Name::Purchase {
                let value = event.properties().into_iter().find(|(p, _)| *p == Property::Value).unwrap().1;
                found.revenue_cents += (value.as_f64().unwrap() * 100.0).round() as u64;
            }
        }
        let (level, entry) = best_chain(&journey).unwrap();
        let device = DEVICES.iter().position(|d| word(&entry, Property::Device) == Some(d)).unwrap();
        let channel = CHANNELS.iter().position(|c| word(&entry, Property::Channel) == Some(c)).unwrap();
        for step in 0..level {
            found.reached[step] += 1;
            found.reached_by_device[device][step] += 1;
            found.reached_by_channel[channel][step] += 1;
        }
        let wish = journey.iter().position(|e| e.name == Name::WishListAdd);
        let click = journey.iter().find(|e| e.name == Name::EmailClick);
        if let (Some(wish), Some(click)) = (wish, click) {
            assert!(journey[wish].time_ms <= click.time_ms);
            assert_eq!(word(click, Property::Channel), Some("email"));
            found.route += u64::from(names.contains("purchase"));
        }
        if names.contains("view_item") {
            let bought = u64::from(level == 6);
            for (exposure, name) in
                [(&mut found.video, "video_play"), (&mut found.newsletter, "newsletter_signup")]
            {
                let exposed = names.contains(name);
                exposure.exposed += u64::from(exposed);
                exposure.exposed_bought += if exposed { bought } else { 0 };
                exposure.others += u64::from(!exposed);
                exposure.others_bought += if exposed { 0 } else { bought };
            }
        }
    }
    assert_eq!(found, shop.truth());
    for breakdown in [&found.reached_by_device[..], &found.reached_by_channel[..]] {
        for step in 0..6 {
            assert_eq!(breakdown.iter().map(|row| row[step]).sum::<u64>(), found.reached[step]);
        }
    }
}

#[test]
fn ranges_merge() {
    let shop = Shop::new(Config::shop(12, 5_000)).unwrap();
    let mut merged = Truth::of(&shop, 0..1_234);
    merged.merge(&Truth::of(&shop, 1_234..5_000));
    assert_eq!(merged, shop.truth());
}

fn near(what: &str, got: f64, planned: f64, relative: f64) {
    assert!((got / planned - 1.0).abs() < relative, "{what}: {got} instead of {planned}");
}

#[test]
fn the_plan_comes_true() {
    let visitors = 100_000;
    let shop = Shop::new(Config::shop(13, visitors)).unwrap();
    let truth = shop.truth();
    let share = |part: u64, whole: u64| part as f64 / whole as f64;

    near("events a visitor", share(truth.events, visitors), 10.0, 0.1);
    near("sessions a visitor", share(truth.sessions, visitors), 1.85, 0.1);
    near("duplicates", share(truth.duplicates, truth.events), 0.01 * 1.125, 0.05);
    near("late", share(truth.late, truth.events), 0.02, 0.05);
    near("bots", share(truth.bots, visitors), 0.002, 0.25);
    let people = truth.events - truth.bot_events;
    near("ties", share(truth.tied, people - truth.sessions), 0.06, 0.05);

    for (step, planned) in [1.0, 0.60, 0.18, 0.09, 0.06, 0.04].into_iter().enumerate() {
        near(&format!("step {step}"), share(truth.reached[step], visitors), planned, 0.12);
    }
    for (device, planned) in PLANTED.payment_by_device.iter().enumerate() {
        let row = truth.reached_by_device[device];
        near(DEVICES[device], share(row[4], row[3]), f64::from(*planned) / 1e6, 0.06);
    }
    let cart = |channel: &str| {
        let row = truth.reached_by_channel[CHANNELS.iter().position(|c| *c == channel).unwrap()];
        share(row[2], row[1])
    };
    near("social beside organic", cart("social") / cart("organic"), 0.6, 0.1);
    near("email beside organic", cart("email") / cart("organic"), 1.3, 0.12);

    near("video", truth.video.lift().unwrap(), 1.8, 0.1);
    // Seems to help, and does not: the same people come back more often.
    assert!(truth.newsletter.lift().unwrap() > 1.12, "{:?}", truth.newsletter.lift());
    assert!(truth.route > visitors / 500, "{}", truth.route);
}

#[test]
fn the_newsletter_changes_nothing_among_equally_active_people() {
    let visitors = 300_000;
    let shop = Shop::new(Config { bots: 0.0, ..Config::shop(14, visitors) }).unwrap();
    let mut strata = [Truth::default(), Truth::default()];
    shop.for_each_visitor(0..visitors, |_, journey| {
        let gaps = journey.windows(2).filter(|pair| pair[1].time_ms - pair[0].time_ms > 1_800_000).count();
        strata[usize::from(gaps >= 2)].add(&shop, journey);
    });
    for truth in strata {
        // The logarithm of a ratio of two rates has about this standard error.
        let found = truth.newsletter;
        let error = (1.0 / found.exposed_bought as f64 + 1.0 / found.others_bought as f64).sqrt();
        let z = found.lift().unwrap().ln() / error;
        assert!(z.abs() < 3.0 && error < 0.1, "z = {z}, {found:?}");
    }
}

#[test]
fn tails_and_days() {
    let shop = Shop::new(Config { bots: 0.0, ..Config::shop(15, 50_000) }).unwrap();
    let (mut lengths, mut hours, mut products) = (Vec::new(), [0_u64; 24], HashMap::<u16, u64>::new());
    let mut sequenced = 0;
    shop.for_each_visitor(0..50_000, |_, journey| {
        lengths.push(journey.len());
        sequenced += u64::from(journey[0].sequence().is_some());
        for event in journey {
            hours[(event.time_ms / 3_600_000 % 24) as usize] += 1;
            if let Some(product) = event.product() {
                *products.entry(product).or_default() += 1;
            }
        }
    });
    lengths.sort_unstable();
    let median = lengths[25_000];
    assert!((3..8).contains(&median), "{median}");
    assert!(lengths[49_950] > 80 && lengths[49_950] < 500, "{}", lengths[49_950]);
    near("sequenced", sequenced as f64, 25_000.0, 0.05);
    assert!(hours[20] > 6 * hours[4], "{hours:?}");
    let mut sales: Vec<u64> = products.into_values().collect();
    sales.sort_unstable_by(|a, b| b.cmp(a));
    assert!(sales.len() > 950, "{}", sales.len());
    near("Zipf", sales[0] as f64 / sales[9] as f64, 10.0, 0.2);
}
