//! Questions about conversions, sessions and visitors.

use clap::{Args, ValueEnum};
use prost::Message;
use runnel_chassis::Clock;
use runnel_contracts::proto::{
    catalog::v1::Role,
    insight::v1::{
        FrequencyOf, Interval, ListRestatementsRequest, QueryConversionsRequest, QueryFrequencyRequest,
        QueryMicroToMacroRequest, QueryPagesRequest, QueryRetentionRequest, QuerySessionsRequest,
        QueryTrendRequest,
    },
    query::v1::Split,
};

use super::tables;
use crate::{
    command::Output,
    json,
    query::{RangeArgs, VisitorsArgs, column, duration, event},
    render,
    target::{Target, TargetArgs},
};

/// A split by a property.
#[derive(Debug, Clone, Args)]
pub(crate) struct ByArgs {
    /// Split by this property, or by session.channel, session.device, session.visit, session.first_channel.
    #[arg(long)]
    by: Option<String>,
    /// How many values get a row of their own. Default 10.
    #[arg(long, requires = "by")]
    top: Option<u32>,
}

impl ByArgs {
    fn split(&self) -> Option<Split> {
        Some(Split { column: Some(column(self.by.as_ref()?)), top: self.top.unwrap_or(0) })
    }
}

/// `runnel ask conversions`.
#[derive(Debug, Args)]
pub(crate) struct AskConversions {
    /// Names of conversions. Default: the whole catalogue.
    conversions: Vec<String>,
    /// Only these.
    #[arg(long, value_enum)]
    role: Option<RoleArg>,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    visitors: VisitorsArgs,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// What conversions are for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleArg {
    /// The goals.
    Macro,
    /// Steps towards them.
    Micro,
}

/// `runnel ask trend`.
#[derive(Debug, Args)]
pub(crate) struct AskTrend {
    /// What to count, separated by commas: event names, also with conditions as in add_to_cart[price>=10], or @ and a conversion's name.
    #[arg(required = true, value_delimiter = ',')]
    of: Vec<String>,
    /// The width of a bucket.
    #[arg(long, value_enum, default_value = "day")]
    interval: IntervalArg,
    /// Where days begin, for example Europe/Berlin. Default: the tenant's, else UTC.
    #[arg(long, default_value = "")]
    time_zone: String,
    /// Compare with as many buckets before.
    #[arg(long)]
    compare: bool,
    /// Leave out the totals, so that counts of conversions may come from durable aggregates.
    #[arg(long)]
    no_totals: bool,
    #[command(flatten)]
    split: ByArgs,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    visitors: VisitorsArgs,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// The width of a bucket.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum IntervalArg {
    /// Hours.
    Hour,
    /// Days.
    Day,
    /// Weeks from Monday.
    Week,
    /// Months.
    Month,
}

impl From<IntervalArg> for i32 {
    fn from(interval: IntervalArg) -> i32 {
        let interval = match interval {
            IntervalArg::Hour => Interval::Hour,
            IntervalArg::Day => Interval::Day,
            IntervalArg::Week => Interval::Week,
            IntervalArg::Month => Interval::Month,
        };
        interval as i32
    }
}

/// `runnel ask restatements`.
#[derive(Debug, Args)]
pub(crate) struct AskRestatements {
    /// How many, the newest first; at most 20.
    #[arg(long, default_value = "10", value_parser = clap::value_parser!(u32).range(1..=20))]
    last: u32,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// `runnel ask retention`.
#[derive(Debug, Args)]
pub(crate) struct AskRetention {
    /// What a visitor does first: an event, or @ and a conversion's name. Default: any event.
    #[arg(long)]
    first: Option<String>,
    /// What a visitor does again. Default: the same.
    #[arg(long)]
    again: Option<String>,
    /// The width of a bucket.
    #[arg(long, value_enum, default_value = "week")]
    interval: IntervalArg,
    /// Where days begin, for example Europe/Berlin. Default: the tenant's, else UTC.
    #[arg(long, default_value = "")]
    time_zone: String,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    visitors: VisitorsArgs,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// `runnel ask frequency`.
#[derive(Debug, Args)]
pub(crate) struct AskFrequency {
    /// What: an event, or @ and a conversion's name.
    of: String,
    /// What is counted of each visitor.
    #[arg(long, value_enum, default_value = "times")]
    per: PerArg,
    /// Where days begin, for example Europe/Berlin. Default: the tenant's, else UTC.
    #[arg(long, default_value = "")]
    time_zone: String,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    visitors: VisitorsArgs,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// What is counted of each visitor.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum PerArg {
    /// How often.
    Times,
    /// In how many sessions.
    Sessions,
    /// On how many days.
    Days,
}

/// `runnel ask pages`.
#[derive(Debug, Args)]
pub(crate) struct AskPages {
    /// How many pages.
    #[arg(long, default_value = "10")]
    top: u32,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    visitors: VisitorsArgs,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// `runnel ask micro-to-macro`.
#[derive(Debug, Args)]
pub(crate) struct AskMicroToMacro {
    /// The goal: the name of a macro-conversion.
    goal: String,
    /// Names of micro-conversions. Default: all.
    #[arg(long, value_delimiter = ',')]
    micros: Vec<String>,
    /// How long after the micro-conversion the goal counts: a number and ms, s, m, h or d. Default 7d.
    #[arg(long, value_parser = duration, allow_hyphen_values = true)]
    horizon: Option<i64>,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    visitors: VisitorsArgs,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

fn now_ms() -> i64 {
    Clock::default().now_ms()
}

fn show<M: Message>(
    output: Output,
    name: &str,
    answer: &M,
    table: impl FnOnce(&M) -> String,
) -> anyhow::Result<()> {
    render::print(match output {
        Output::Json => json::to_json(&format!("runnel.insight.v1.{name}"), answer)?,
        Output::Table => table(answer),
    });
    Ok(())
}

pub(crate) async fn conversions(ask: &AskConversions, target: &Target, output: Output) -> anyhow::Result<()> {
    let (range, as_of_ms) = ask.range.read(now_ms())?;
    let role = match ask.role {
        None => Role::Unspecified,
        Some(RoleArg::Macro) => Role::Macro,
        Some(RoleArg::Micro) => Role::Micro,
    };
    let request = QueryConversionsRequest {
        conversions: ask.conversions.clone(),
        role: role as i32,
        range: Some(range),
        as_of_ms,
        without_bots: ask.visitors.without_bots,
    };
    let answer = target.client.insight().query_conversions(request).await?.into_inner();
    show(output, "QueryConversionsResponse", &answer, tables::conversions)
}

pub(crate) async fn sessions(
    range: &RangeArgs,
    VisitorsArgs { without_bots }: VisitorsArgs,
    split: &ByArgs,
    target: &Target,
    output: Output,
) -> anyhow::Result<()> {
    let (range, as_of_ms) = range.read(now_ms())?;
    let request = QuerySessionsRequest { range: Some(range), as_of_ms, split: split.split(), without_bots };
    let answer = target.client.insight().query_sessions(request).await?.into_inner();
    show(output, "QuerySessionsResponse", &answer, tables::sessions)
}

pub(crate) async fn trend(ask: &AskTrend, target: &Target, output: Output) -> anyhow::Result<()> {
    let (range, as_of_ms) = ask.range.read(now_ms())?;
    let request = QueryTrendRequest {
        of: ask.of.iter().map(|text| event(text)).collect::<anyhow::Result<_>>()?,
        range: Some(range),
        as_of_ms,
        without_bots: ask.visitors.without_bots,
        interval: ask.interval.into(),
        time_zone: ask.time_zone.clone(),
        split: ask.split.split(),
        compare: ask.compare,
        buckets_only: ask.no_totals,
    };
    let answer = target.client.insight().query_trend(request).await?.into_inner();
    show(output, "QueryTrendResponse", &answer, tables::trend)
}

pub(crate) async fn restatements(
    ask: &AskRestatements,
    target: &Target,
    output: Output,
) -> anyhow::Result<()> {
    let request = ListRestatementsRequest { page_size: ask.last, page_token: String::new() };
    let answer = target.client.insight().list_restatements(request).await?.into_inner();
    show(output, "ListRestatementsResponse", &answer, tables::restatements)
}

pub(crate) async fn retention(ask: &AskRetention, target: &Target, output: Output) -> anyhow::Result<()> {
    let (range, as_of_ms) = ask.range.read(now_ms())?;
    let read = |text: &Option<String>| text.as_ref().map(|text| event(text)).transpose();
    let request = QueryRetentionRequest {
        first: read(&ask.first)?,
        again: read(&ask.again)?,
        range: Some(range),
        as_of_ms,
        without_bots: ask.visitors.without_bots,
        interval: ask.interval.into(),
        time_zone: ask.time_zone.clone(),
    };
    let answer = target.client.insight().query_retention(request).await?.into_inner();
    show(output, "QueryRetentionResponse", &answer, tables::retention)
}

pub(crate) async fn frequency(ask: &AskFrequency, target: &Target, output: Output) -> anyhow::Result<()> {
    let (range, as_of_ms) = ask.range.read(now_ms())?;
    let per = match ask.per {
        PerArg::Times => FrequencyOf::Times,
        PerArg::Sessions => FrequencyOf::Sessions,
        PerArg::Days => FrequencyOf::Days,
    };
    let request = QueryFrequencyRequest {
        of: Some(event(&ask.of)?),
        range: Some(range),
        as_of_ms,
        without_bots: ask.visitors.without_bots,
        per: per as i32,
        time_zone: ask.time_zone.clone(),
    };
    let answer = target.client.insight().query_frequency(request).await?.into_inner();
    show(output, "QueryFrequencyResponse", &answer, tables::frequency)
}

pub(crate) async fn pages(ask: &AskPages, target: &Target, output: Output) -> anyhow::Result<()> {
    let (range, as_of_ms) = ask.range.read(now_ms())?;
    let request = QueryPagesRequest {
        range: Some(range),
        as_of_ms,
        top: ask.top,
        without_bots: ask.visitors.without_bots,
    };
    let answer = target.client.insight().query_pages(request).await?.into_inner();
    show(output, "QueryPagesResponse", &answer, tables::pages)
}

pub(crate) async fn micro_to_macro(
    ask: &AskMicroToMacro,
    target: &Target,
    output: Output,
) -> anyhow::Result<()> {
    let (range, as_of_ms) = ask.range.read(now_ms())?;
    let request = QueryMicroToMacroRequest {
        r#macro: ask.goal.clone(),
        micros: ask.micros.clone(),
        range: Some(range),
        as_of_ms,
        without_bots: ask.visitors.without_bots,
        horizon_ms: ask.horizon,
    };
    let answer = target.client.insight().query_micro_to_macro(request).await?.into_inner();
    show(output, "QueryMicroToMacroResponse", &answer, tables::micro_to_macro)
}
