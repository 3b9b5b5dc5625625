//! `runnel catalog daily-counts`: what others counted by day.

use std::{fs::File, path::PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use comfy_table::Cell;
use csv::StringRecord;
use jiff::civil::Date;
use runnel_contracts::proto::{
    catalog::v1::{DailyCount, ListDailyCountsRequest, PutDailyCountsRequest},
    event::v1::{Money, OffSite},
};
use runnel_model::limits;

use crate::{
    command::Output,
    decimal, json, render,
    target::{Target, TargetArgs},
};

/// The columns of a file.
const COLUMNS: [&str; 8] = ["date", "what", "source", "medium", "campaign", "count", "cost", "currency"];

/// `runnel catalog daily-counts`.
#[derive(Debug, Args)]
#[command(
    after_help = "The file is CSV with a heading; of its columns date, what and count are needed, source, medium, campaign, cost and \
                        currency may be there.\nwhat is ad_impression, ad_click, email_delivered, email_opened, email_clicked, call, payment, \
                        shipment or refund.\nWhat was said before of the same day, source, medium and campaign is replaced.\n\nExample:\n  \
                        runnel catalog daily-counts ads.csv --data-dir ./data --tenant shop\n  \
                        runnel ask funnel --counted ad_impression,ad_click --steps page_view,purchase --data-dir ./data --tenant shop"
)]
pub(crate) struct DailyCounts {
    /// A file with counts to keep. Without one, those that are kept are listed.
    file: Option<PathBuf>,
    /// List from this date on, as 2026-03-01.
    #[arg(long, default_value = "", conflicts_with = "file")]
    from: String,
    /// List before this date.
    #[arg(long, default_value = "", conflicts_with = "file")]
    until: String,
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

/// Keeps or lists.
pub(super) async fn run(args: &DailyCounts, target: &Target, output: Output) -> anyhow::Result<()> {
    match &args.file {
        Some(path) => {
            let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
            let counts = read(csv::Reader::from_reader(file)).with_context(|| path.display().to_string())?;
            put(counts, target, output).await
        }
        None => list(args, target, output).await,
    }
}

async fn put(counts: Vec<DailyCount>, target: &Target, output: Output) -> anyhow::Result<()> {
    let (all, mut days) = (counts.len(), 0);
    // A day is whole in one request, as far as that goes: whoever reads meanwhile sees all of it or nothing.
    for counts in portions(counts) {
        let request = PutDailyCountsRequest { counts };
        days += target.client.catalog().put_daily_counts(request).await?.into_inner().changed_days;
    }
    render::print(match output {
        Output::Json => serde_json::json!({ "counts": all, "changedDays": days }).to_string(),
        Output::Table => format!("{all} counts are kept; changed days: {days}."),
    });
    Ok(())
}

/// Counts by date, as many together as a request takes.
fn portions(mut counts: Vec<DailyCount>) -> Vec<Vec<DailyCount>> {
    counts.sort_by(|left, right| left.date.cmp(&right.date));
    let mut portions: Vec<(usize, Vec<DailyCount>)> = Vec::new();
    for day in counts.chunk_by(|left, right| left.date == right.date) {
        match portions.last_mut() {
            Some((days, portion))
                if *days < limits::DAILY_COUNT_DAYS && portion.len() + day.len() <= limits::DAILY_COUNTS =>
            {
                *days += 1;
                portion.extend_from_slice(day);
            }
            _ => portions.push((1, day.to_vec())),
        }
    }
    portions.into_iter().map(|(_, portion)| portion).collect()
}

fn read(mut file: csv::Reader<File>) -> anyhow::Result<Vec<DailyCount>> {
    let headings = file.headers()?.clone();
    if let Some(strange) = headings.iter().find(|heading| !COLUMNS.contains(&heading.trim())) {
        bail!("there is no column {strange:?}; there are {}", COLUMNS.join(", "))
    }
    let place = |name: &str| headings.iter().position(|heading| heading.trim() == name);
    let places = COLUMNS.map(place);
    for (name, place) in COLUMNS.iter().zip(places) {
        if place.is_none() && ["date", "what", "count"].contains(name) {
            bail!("the column {name} is missing")
        }
    }
    let mut counts = Vec::new();
    for row in file.records() {
        let row = row?;
        let line = row.position().map_or(0, csv::Position::line);
        counts.push(count(&row, places).with_context(|| format!("line {line}"))?);
    }
    if counts.is_empty() {
        bail!("there are no counts in it")
    }
    Ok(counts)
}

fn count(row: &StringRecord, places: [Option<usize>; 8]) -> anyhow::Result<DailyCount> {
    let text = |at: usize| places[at].and_then(|place| row.get(place)).unwrap_or_default().trim();
    let (what, count, cost, currency) = (text(1), text(5), text(6), text(7));
    let name = format!("OFF_SITE_{}", what.to_uppercase());
    let known = OffSite::from_str_name(&name).filter(|known| *known != OffSite::Unspecified);
    let what = known.with_context(|| format!("{what:?} is nothing that happens away from the site"))?;
    let cost = match (cost, currency) {
        ("", _) => None,
        (cost, "") => bail!("the cost {cost} has no currency"),
        (cost, currency) => Some(Money {
            micros: decimal::micros(cost).with_context(|| format!("{cost:?} is no amount"))?,
            currency: currency.to_owned(),
        }),
    };
    let date = text(0).parse::<Date>().ok().with_context(|| format!("{:?} is no date", text(0)))?;
    Ok(DailyCount {
        date: date.to_string(),
        what: what as i32,
        source: text(2).to_owned(),
        medium: text(3).to_owned(),
        campaign: text(4).to_owned(),
        count: count.parse().with_context(|| format!("{count:?} is no whole number"))?,
        cost,
    })
}

async fn list(args: &DailyCounts, target: &Target, output: Output) -> anyhow::Result<()> {
    let request = ListDailyCountsRequest {
        from_date: args.from.clone(),
        until_date: args.until.clone(),
        page_size: limits::PAGE as u32,
        page_token: String::new(),
    };
    let listed = target.client.catalog().list_daily_counts(request).await?.into_inner();
    if output == Output::Json {
        render::print(json::to_json("runnel.catalog.v1.ListDailyCountsResponse", &listed)?);
        return Ok(());
    }
    let mut rows = render::table(&["date", "what", "source", "medium", "campaign", "count", "cost"]);
    for one in &listed.counts {
        let what = one.what().as_str_name().trim_start_matches("OFF_SITE_").to_lowercase();
        let cost: Vec<Money> = one.cost.iter().cloned().collect();
        rows.add_row(vec![
            Cell::new(&one.date),
            Cell::new(what),
            Cell::new(&one.source),
            Cell::new(&one.medium),
            Cell::new(&one.campaign),
            render::number(one.count),
            render::right(render::money(&cost)),
        ]);
    }
    let more = if listed.next_page_token.is_empty() { "" } else { "\nThere are more; ask with --from." };
    render::print(format!("{rows}{more}"));
    Ok(())
}
