//! `runnel catalog`: which events and properties there are, which conversions, and lists of visitors.

mod daily;
mod document;
mod lists;

use clap::{Args, Subcommand};
use comfy_table::Cell;
use runnel_contracts::proto::catalog::v1::{ListEventNamesRequest, ListPropertiesRequest};

use crate::{
    command::Output,
    json, render,
    target::{Target, TargetArgs},
    when::show_instant,
};

/// What the tenant's events are made of, and what of them matters.
#[derive(Debug, Subcommand)]
pub(crate) enum CatalogCommand {
    /// Event names with counts, most frequent first.
    Events(Events),
    /// Properties with counts and frequent values.
    Properties(Properties),
    /// The conversions that the tenant declared to matter.
    Conversions(document::Conversions),
    /// Settings, conversions and funnels as one document in JSON.
    Export(document::Export),
    /// Make the catalogue what a file or a template says, and show what changes.
    Apply(document::Apply),
    /// Keep what others counted by day, such as impressions and clicks of ads with their cost, or list it.
    DailyCounts(daily::DailyCounts),
    /// Lists of visitors, which segments can name.
    Lists(lists::Lists),
    /// Put visitors on a list, which is made when there is none of the name.
    ListAdd(lists::ListAdd),
    /// Take visitors off a list, or delete it.
    ListRemove(lists::ListRemove),
}

/// `runnel catalog events`.
#[derive(Debug, Args)]
pub(crate) struct Events {
    #[command(flatten)]
    target: TargetArgs,
}

/// `runnel catalog properties`.
#[derive(Debug, Args)]
pub(crate) struct Properties {
    /// Only properties of this event.
    #[arg(long, default_value = "")]
    event: String,
    #[command(flatten)]
    target: TargetArgs,
}

/// Asks and prints the first 1,000.
pub(crate) async fn run(command: CatalogCommand, output: Output) -> anyhow::Result<()> {
    let target = match &command {
        CatalogCommand::Events(events) => events.target.open(false).await?,
        CatalogCommand::Properties(properties) => properties.target.open(false).await?,
        CatalogCommand::Conversions(conversions) => conversions.target.open(false).await?,
        CatalogCommand::Export(export) => export.target.open(false).await?,
        CatalogCommand::Apply(apply) => apply.target.open(false).await?,
        CatalogCommand::DailyCounts(daily) => daily.target.open(false).await?,
        CatalogCommand::Lists(lists) => lists.target.open(false).await?,
        CatalogCommand::ListAdd(add) => add.target.open(false).await?,
        CatalogCommand::ListRemove(remove) => remove.target.open(false).await?,
    };
    let result = act(&command, &target, output).await;
    target.close().await;
    result
}

async fn act(command: &CatalogCommand, target: &Target, output: Output) -> anyhow::Result<()> {
    let mut catalog = target.client.catalog();
    match command {
        CatalogCommand::Conversions(_) => document::conversions(target, output).await?,
        CatalogCommand::Export(export) => document::export(export, target).await?,
        CatalogCommand::Apply(apply) => document::apply(apply, target, output).await?,
        CatalogCommand::DailyCounts(daily) => daily::run(daily, target, output).await?,
        CatalogCommand::Lists(_) => lists::lists(target, output).await?,
        CatalogCommand::ListAdd(add) => lists::add(add, target, output).await?,
        CatalogCommand::ListRemove(remove) => lists::remove(remove, target, output).await?,
        CatalogCommand::Events(_) => {
            let request = ListEventNamesRequest { page_size: 1_000, page_token: String::new() };
            let listed = catalog.list_event_names(request).await?.into_inner();
            if output == Output::Json {
                render::print(json::to_json("runnel.catalog.v1.ListEventNamesResponse", &listed)?);
                return Ok(());
            }
            let mut rows = render::table(&["event", "events", "visitors", "first", "last"]);
            for event in &listed.event_names {
                let (first, last) = (show_instant(event.first_seen_ms), show_instant(event.last_seen_ms));
                let (events, visitors) = (render::number(event.events), render::number(event.visitors));
                rows.add_row(vec![
                    Cell::new(&event.name),
                    events,
                    visitors,
                    Cell::new(first),
                    Cell::new(last),
                ]);
            }
            render::print(rows);
        }
        CatalogCommand::Properties(properties) => {
            let request = ListPropertiesRequest {
                event_name: properties.event.clone(),
                page_size: 0,
                page_token: String::new(),
            };
            let listed = catalog.list_properties(request).await?.into_inner();
            if output == Output::Json {
                render::print(json::to_json("runnel.catalog.v1.ListPropertiesResponse", &listed)?);
                return Ok(());
            }
            let mut rows = render::table(&["property", "type", "events", "values", "frequent"]);
            for property in &listed.properties {
                let frequent = property.frequent.iter().take(5).filter_map(|found| found.value.as_ref());
                let frequent = frequent.map(render::value).collect::<Vec<_>>().join(", ");
                let (events, values) = (render::number(property.events), render::number(property.values));
                rows.add_row(vec![
                    Cell::new(&property.name),
                    Cell::new(property.types.join(", ")),
                    events,
                    values,
                    Cell::new(frequent),
                ]);
            }
            render::print(rows);
        }
    }
    Ok(())
}
