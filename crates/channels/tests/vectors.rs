//! The default rules against `tests/vectors.txt`.

use std::collections::BTreeSet;

use runnel_channels::{DIRECT, Hosts, Landing, Rules, Touch, UNASSIGNED};

/// The file's rows: the touch's texts and the channel. The own hosts are those that the file names.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split('|').collect()).collect()
}

#[test]
fn every_vector_gets_its_channel() {
    let rules = Rules::standard().unwrap();
    let own = Hosts::new(["shop.example", "https://www.Kasse.example:8443/"]).unwrap();
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    let rows = rows(include_str!("vectors.txt"));
    for row in &rows {
        let landing = if row[0].starts_with('?') { rules.landing(row[0]) } else { Landing::default() };
        let (touch, channel) = match row.as_slice() {
            [_, referrer, channel] => (Touch { referrer, ..landing.touch() }, *channel),
            [source, medium, campaign, click_id, referrer, channel] => {
                (Touch { source, medium, campaign, click_id, referrer, ..Touch::default() }, *channel)
            }
            _ => panic!("neither three nor six columns: {row:?}"),
        };
        let decision = rules.classify(&Touch { own_hosts: Some(&own), ..touch });
        seen.insert(decision.channel);
        if decision.channel != channel {
            wrong.push(format!("{row:?}: {decision:?}"));
        }
        assert_eq!(rules.channels().nth(decision.index), Some(decision.channel));
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    assert!(rows.len() >= 80, "only {} vectors", rows.len());
    let all: BTreeSet<&str> = rules.channels().collect();
    assert_eq!(seen, all, "every channel is some vector's");
}

#[test]
fn the_default_rules_are_within_reason() {
    let rules = Rules::standard().unwrap();
    let channels: Vec<&str> = rules.channels().collect();
    assert_eq!(channels.len(), 20);
    assert_eq!(channels[..2], [DIRECT, UNASSIGNED]);
}

#[test]
fn a_landing_page_gives_every_tag() {
    let rules = Rules::standard().unwrap();
    let landing = rules.landing(
        "utm_source=a&utm_medium=b%2Fc&utm_campaign=d+e&utm_term=%C3%BC&utm_content=f&utm_id=7&fbclid=x%3D&GCLID=Y_z&g=1",
    );
    assert_eq!(
        [
            landing.source,
            landing.medium,
            landing.campaign,
            landing.term,
            landing.content,
            landing.campaign_id
        ],
        ["a", "b/c", "d e", "ü", "f", "7"]
    );
    assert_eq!(landing.click_id, "gclid=Y_z");
}

#[test]
fn a_landing_page_is_bounded() {
    let rules = Rules::standard().unwrap();
    let long = "x".repeat(257);
    let landing = rules.landing(&format!("utm_source={long}&utm_medium=email&gclid={long}"));
    assert_eq!((landing.source.as_str(), landing.medium.as_str()), ("", "email"));
    assert_eq!(landing.click_id, "gclid", "the kind is kept");
    let far = format!("a={}&utm_source=b&utm_medium=cut", "ü".repeat(4086));
    let landing = rules.landing(&far);
    assert_eq!((landing.source.as_str(), landing.medium.as_str()), ("b", ""), "a cut parameter goes");
    assert_eq!(rules.landing(&format!("{}utm_source=a", "b=&".repeat(256))).source, "");
}
