//! Counts by day that are stored: whoever made them, whatever broke meanwhile, they are those that are made from journeys (I6).

use std::time::Duration;

use runnel_client::{
    Client, Refusal, Transport,
    proto::{
        catalog::v1::{
            ApplyCatalogRequest, CatalogDocument, Conversion, Counting, EventRule, Family, Part, Role, Rule,
            SessionRule, Stage, VisitRule, rule, session_rule::AtLeast, visit_rule::Visit,
        },
        insight::v1::{QueryTrendRequest, QueryTrendResponse},
        query::v1::{EventMatch, TimeRange},
    },
};
use tokio::time::sleep;
use tonic::Status;

use super::{PICK, STEPS, allowed};

/// How often it is asked until the counts are the stored ones, a second apart; they are made anew every ten seconds at most.
const ATTEMPTS: usize = 60;

/// From when on days are asked for while things break, before the last of them.
const SPAN_MS: i64 = 90 * 24 * 3_600_000;

/// What is counted: events, the first of each visitor, and what only a session's other events tell.
const CONVERSIONS: [&str; 4] = ["again", "begun", "long", "picked"];

fn catalogue() -> CatalogDocument {
    let on = |name: &str| {
        let event = EventMatch { event: name.to_owned(), ..EventMatch::default() };
        rule::Rule::Event(EventRule { any_of: vec![event] })
    };
    let rules = [
        (rule::Rule::Visit(VisitRule { visit: Some(Visit::Number(2)) }), Counting::EveryTime),
        (on(STEPS[0]), Counting::OnceASession),
        (rule::Rule::Session(SessionRule { at_least: Some(AtLeast::Events(2)) }), Counting::EveryTime),
        (on(PICK), Counting::OnceAVisitor),
    ];
    let conversion = |(name, (rule, counting)): (&str, (rule::Rule, Counting))| Conversion {
        name: name.to_owned(),
        role: Role::Micro as i32,
        part: Part::Step as i32,
        family: Family::Interaction as i32,
        stage: Stage::Engagement as i32,
        rule: Some(Rule { rule: Some(rule) }),
        counting: counting as i32,
        ..Conversion::default()
    };
    let conversions = CONVERSIONS.into_iter().zip(rules).map(conversion).collect();
    CatalogDocument { conversions, ..CatalogDocument::default() }
}

/// Defines what is counted.
pub(crate) async fn define<S: Transport>(reader: &Client<S>) {
    let request = ApplyCatalogRequest { document: Some(catalogue()), ..ApplyCatalogRequest::default() };
    reader.catalog().apply_catalog(request).await.unwrap();
}

/// A question of days, of all that there are or of those that lie between two midnights.
fn question(range: Option<TimeRange>) -> QueryTrendRequest {
    let of = |name: &str| EventMatch { conversion: name.to_owned(), ..EventMatch::default() };
    let of = CONVERSIONS.map(of).into();
    QueryTrendRequest { of, range, buckets_only: true, ..QueryTrendRequest::default() }
}

async fn ask<S: Transport>(
    reader: &Client<S>,
    request: QueryTrendRequest,
) -> Result<QueryTrendResponse, Status> {
    reader.insight().query_trend(request).await.map(tonic::Response::into_inner)
}

/// One question of the days before a midnight, which has the stored counts brought up to date. Whether it was answered from them.
pub(crate) async fn read<S: Transport>(reader: &Client<S>, midnight_ms: i64) -> bool {
    let range = TimeRange { from_ms: Some(midnight_ms - SPAN_MS), until_ms: Some(midnight_ms) };
    match ask(reader, question(Some(range))).await {
        Ok(answer) => answer.aggregated,
        Err(status) => {
            allowed(&Refusal::from(status));
            false
        }
    }
}

/// When all is quiet: stored counts are there, and are those of journeys.
pub(crate) async fn settle<S: Transport>(reader: &Client<S>) {
    for _ in 0..ATTEMPTS {
        let stored = ask(reader, question(None)).await.unwrap();
        let as_of_ms = stored.provenance.as_ref().map(|provenance| provenance.as_of_ms);
        let whole = QueryTrendRequest { as_of_ms, buckets_only: false, ..question(None) };
        let counted = ask(reader, whole).await.unwrap();
        assert!(!counted.aggregated);
        assert_eq!(stored.buckets, counted.buckets, "I6");
        for (stored, counted) in stored.series.iter().zip(&counted.series) {
            assert_eq!((&stored.label, &stored.points), (&counted.label, &counted.points), "I6");
        }
        if stored.aggregated {
            return;
        }
        sleep(Duration::from_secs(1)).await;
    }
    panic!("I6: stored counts are never up to date");
}
