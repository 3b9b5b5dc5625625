//! Rules over rules, and rules that are refused.

use std::sync::Arc;

use proptest::prelude::*;
use runnel_channels::{
    Condition, Fault, Field, Hosts, Pattern, Place, Rule, RuleAt, Rules, Shape, Touch, limits,
};

fn standard() -> Arc<Rules> {
    Arc::new(Rules::standard().expect("the default rules can be read"))
}

fn refused(text: &str) -> (usize, Fault) {
    let error = Rules::parse_over(standard(), text).expect_err(text);
    assert_eq!(error.place, Place::Line);
    (error.at, error.fault)
}

#[test]
fn rules_of_a_tenant_come_first() {
    let hosts = "
        # A category of its own, a click identifier, and a word for nothing.
        hosts partner = partner.example
        click pcid = partner.example, barter
        blank n.n.
        ";
    let rules = Rules::parse_over(standard(), hosts).unwrap();
    let partner = |text: &str| Rules::parse_over(Arc::new(rules.clone()), text).unwrap();
    let mine = partner("channel Partners: source_category = partner\nchannel Direct: medium = house");
    let touch =
        |source, medium, click_id, referrer| Touch { source, medium, click_id, referrer, ..Touch::default() };
    let decision = mine.classify(&touch("", "", "", "https://shop.partner.example/"));
    assert_eq!((decision.channel, decision.rule), ("Partners", Some(RuleAt { layer: 0, number: 1 })));
    assert_eq!(mine.channels().last(), Some("Partners"));
    assert_eq!(mine.classify(&touch("n.n.", "", "PCID=1", "")).channel, "Partners");
    assert_eq!(mine.classify(&touch("", "", "", "https://www.chatgpt.com/")).channel, "Assistants");
    assert_eq!(mine.classify(&touch("x", "house", "", "")).index, 0);
    let google = mine.classify(&touch("google", "cpc", "", ""));
    assert_eq!((google.channel, google.rule.map(|rule| rule.layer)), ("Paid Search", Some(2)));
}

#[test]
fn patterns_mean_what_the_text_says() {
    let rules = Rules::parse(
        "set s = b*, \"x, y\"\nchannel One: campaign = @s, *z, \"*\"* & medium = \"\"\n\
         channel Two: campaign = ~Shop\nchannel Three: campaign != *q*, \"\" & term = \"a & \\\"b\\\"\"",
    )
    .unwrap();
    let channel = |campaign, medium, term| {
        rules.classify(&Touch { campaign, medium, term, ..Touch::default() }).channel
    };
    for campaign in ["Bee", "x, Y", "fez", "*star"] {
        assert_eq!(channel(campaign, "", ""), "One", "{campaign}");
        assert_eq!(channel(campaign, "m", ""), "Unassigned", "{campaign}");
    }
    for campaign in ["shop", "my-shop", "workshop, 2shop", "ÖSHOP"] {
        assert_eq!(channel(campaign, "m", ""), "Two", "{campaign}");
    }
    assert_eq!(channel("workshop", "m", ""), "Unassigned");
    assert_eq!(channel("k", "m", "A & \"B\""), "Three");
    assert_eq!(channel("aqua", "m", "A & \"B\""), "Unassigned");
    assert_eq!(channel("", "", ""), "Direct");
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let own = |text: &str| text.to_owned();
    assert_eq!(refused("\n\nchanel A: b = c"), (3, Fault::Statement(own("chanel"))));
    assert_eq!(refused("channel A b = c"), (1, Fault::Missing("a colon after the channel")));
    assert_eq!(refused("channel A:"), (1, Fault::Missing("an equals sign in a condition")));
    assert_eq!(refused("channel A: source ="), (1, Fault::Missing("a value")));
    assert_eq!(refused("channel A: sauce = a"), (1, Fault::Field(own("sauce"))));
    assert_eq!(refused("channel : source = a"), (1, Fault::Name(own(""))));
    assert_eq!(refused("channel A: medium = @paid"), (1, Fault::Set(own("paid"))));
    assert_eq!(refused("channel A: source_category = bank"), (1, Fault::Category(own("bank"))));
    assert_eq!(refused("channel A: click_id = klick"), (1, Fault::Click(own("klick"))));
    assert_eq!(refused("channel A: source = \"a"), (1, Fault::Quote(own(" source = \"a"))));
    assert_eq!(refused("channel A: source = a\"b\""), (1, Fault::Quote(own("a\"b\""))));
    assert_eq!(refused("channel A: source = a*b"), (1, Fault::Asterisk(own("a*b"))));
    assert_eq!(refused("channel A: source = *"), (1, Fault::Asterisk(own("*"))));
    assert_eq!(refused("channel A: source = \"\"*"), (1, Fault::Asterisk(own(""))));
    assert_eq!(refused("hosts a = b.example\nhosts c = b.example"), (2, Fault::Taken(own("b.example"))));
    assert_eq!(refused("hosts a = b c"), (1, Fault::Host(own("b c"))));
    assert_eq!(refused("click a:b = c"), (1, Fault::Name(own("a:b"))));
    assert_eq!(refused("click a = b\nclick A = c"), (2, Fault::Taken(own("a"))));
    assert_eq!(refused("medium bank = wire"), (1, Fault::Category(own("bank"))));
    assert!(Hosts::new(["shop.example", "no host"]).unwrap_err().to_string().starts_with("host 2: "));
}

#[test]
fn every_limit_is_named_with_its_value() {
    let limit = |text: &str| match refused(text) {
        (_, Fault::Limit { of, most, value }) => (of, most, value),
        other => panic!("{other:?}"),
    };
    let many = |count: usize, each: &str, between: &str| vec![each; count].join(between);
    assert_eq!(limit(&many(65_537, "#", "")), ("bytes of rules", limits::TEXT_BYTES, 65_537));
    assert_eq!(limit(&many(257, "channel A: source = a", "\n")), ("rules", limits::RULES, 257));
    let conditions = format!("channel A: {}", many(17, "source = a", "&"));
    assert_eq!(limit(&conditions), ("conditions of a rule", limits::CONDITIONS, 17));
    let values = format!("channel A: source = {}", many(65, "a", ","));
    assert_eq!(limit(&values), ("values of a condition", limits::PATTERNS, 65));
    let long = format!("channel A: source = {}", many(257, "a", ""));
    assert_eq!(limit(&long), ("bytes of a value", limits::VALUE_BYTES, 257));
    let name = format!("channel {}: source = a", many(65, "a", ""));
    assert_eq!(limit(&name), ("bytes of a name", limits::NAME_BYTES, 65));
    let hosts = (0..4097).map(|at| format!("h{at}.de")).collect::<Vec<_>>().join(",");
    assert_eq!(limit(&format!("hosts a = {hosts}")), ("hosts", limits::HOSTS, 4097));
    let rule = Rule { channel: "A".into(), all_of: Vec::new() };
    let error = Rules::over(standard(), &[rule]).unwrap_err();
    assert_eq!(error.to_string(), "rule 1: a condition is missing");
}

/// Any text at all, made of bytes; often something that looks like a part of a touch.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60).prop_map(|b| String::from_utf8_lossy(&b).into_owned()),
        "[a-z%=&@:/\\[\\].*?#ÄİΣ\" -]{0,40}",
        prop::sample::select(vec![
            "google",
            "cpc",
            "Email",
            "(none)",
            "gclid=1",
            "https://www.google.co.uk/",
            "fbclid",
            "social",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #[test]
    fn any_touch_has_one_channel(texts in proptest::array::uniform8(text()), own in text()) {
        let rules = Rules::standard().unwrap();
        let own = Hosts::new([own]).ok();
        let [source, medium, campaign, term, content, campaign_id, click_id, referrer] = &texts;
        let own_hosts = own.as_ref();
        let touch = Touch { source, medium, campaign, term, content, campaign_id, click_id, referrer, own_hosts };
        let first = rules.classify(&touch);
        let copy = rules.clone();
        let again = texts.clone().map(|text| format!("\t{text} "));
        let [source, medium, campaign, term, content, campaign_id, click_id, referrer] = &again;
        let touch = Touch { source, medium, campaign, term, content, campaign_id, click_id, referrer, own_hosts };
        prop_assert_eq!(first, copy.classify(&touch), "white space around a text says nothing");
        prop_assert_eq!(rules.landing(&texts[0]), copy.landing(&texts[0]));
    }

    #[test]
    fn a_rule_placed_first_always_wins(texts in proptest::array::uniform3(text()), negated: bool) {
        let [source, medium, referrer] = &texts;
        let touch = Touch { source, medium, referrer, ..Touch::default() };
        // A condition that holds for every touch: some pattern matches, or one that never does is negated.
        let pattern = |shape, text: &str| Pattern { shape, text: text.into() };
        let never = vec![pattern(Shape::Is, "never\u{1}")];
        let empty = pattern(Shape::Is, "");
        let condition = if negated {
            Condition { field: Field::Medium, negated, any_of: never }
        } else {
            Condition { field: Field::Campaign, negated, any_of: vec![empty] }
        };
        let rule = Rule { channel: "Mine".into(), all_of: vec![condition] };
        let rules = Rules::over(standard(), &[rule]).unwrap();
        let decision = rules.classify(&touch);
        prop_assert_eq!((decision.channel, decision.rule), ("Mine", Some(RuleAt { layer: 0, number: 1 })));
    }

    #[test]
    fn any_text_is_rules_or_refused(start in "(channel A:|set a =|hosts a =|click a =|blank|medium search =)?", rest in text()) {
        let text = format!("{start} {rest}");
        if let Err(error) = Rules::parse_over(standard(), &text) {
            prop_assert!(error.at >= 1 && error.to_string().starts_with("line "));
        }
    }
}
