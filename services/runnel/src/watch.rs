//! `runnel watch`: what changes, as it happens.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{IsTerminal, Write, stdout},
    time::Duration,
};

use anyhow::bail;
use clap::{Args, Subcommand};
use comfy_table::Cell;
use prost::Message;
use runnel_chassis::{Clock, serve::asked_to_stop};
use runnel_client::{Watch, Watched};
use runnel_contracts::proto::{
    funnel::v1::{FunnelDefinition, GetFunnelRequest, UnitState},
    segmentation::v1::{
        ChangeCause, FunnelChange, FunnelTotals, SegmentChange, SegmentTotals, WatchFunnelRequest,
        WatchFunnelResponse, WatchSegmentRequest, WatchSegmentResponse, WatchedFunnel, watched_funnel,
    },
};

use crate::{
    ask::segment::SegmentArgs,
    command::Output,
    json,
    query::{FunnelArgs, duration},
    render::{self, bar, number, table, thousands},
    target::{Target, TargetArgs, Wire},
    when::{show_duration, show_instant},
};

/// Changes that are shown at a time.
const SHOWN: usize = 12;

/// What is watched.
#[derive(Debug, Subcommand)]
pub(crate) enum WatchCommand {
    /// Who comes into a segment and who leaves it.
    Segment(Box<WatchSegment>),
    /// How visitors move through a funnel.
    Funnel(Box<WatchFunnel>),
}

/// How it is watched.
#[derive(Debug, Args)]
struct HowArgs {
    /// Go on behind this cursor of an earlier message instead of from now on.
    #[arg(long)]
    cursor: Option<String>,
    /// Tell how everybody stands at first, and not only what changes then.
    #[arg(long)]
    everybody: bool,
    /// Only of this visitor. May be repeated.
    #[arg(long)]
    of: Vec<String>,
    /// Stop after so long: a number and ms, s, m, h or d. Default: with Ctrl-C.
    #[arg(long, value_parser = duration)]
    stop_after: Option<i64>,
    #[command(flatten)]
    target: TargetArgs,
}

/// `runnel watch segment`.
#[derive(Debug, Args)]
pub(crate) struct WatchSegment {
    #[command(flatten)]
    segment: SegmentArgs,
    #[command(flatten)]
    how: HowArgs,
}

/// `runnel watch funnel`.
#[derive(Debug, Args)]
pub(crate) struct WatchFunnel {
    #[command(flatten)]
    funnel: FunnelArgs,
    /// Tell what is at stake, too: the value that a visitor's events carried last.
    #[arg(long)]
    values: bool,
    #[command(flatten)]
    how: HowArgs,
}

/// Watches and prints until it is asked to stop.
pub(crate) async fn run(command: WatchCommand, output: Output) -> anyhow::Result<()> {
    let how = match &command {
        WatchCommand::Segment(watch) => &watch.how,
        WatchCommand::Funnel(watch) => &watch.how,
    };
    let target = how.target.open(false).await?;
    let result = match &command {
        WatchCommand::Segment(watch) => segment(watch, &target, output).await,
        WatchCommand::Funnel(watch) => funnel(watch, &target, output).await,
    };
    target.close().await;
    result
}

async fn segment(watch: &WatchSegment, target: &Target, output: Output) -> anyhow::Result<()> {
    let request = WatchSegmentRequest {
        segment: Some(watch.segment.segment(target).await?),
        cursor: watch.how.cursor.clone().unwrap_or_default(),
        members: watch.how.everybody,
        totals_every_ms: Some(1_000),
        visitor_ids: watch.how.of.clone(),
        causes: Vec::new(),
    };
    let show = |told: WatchSegmentResponse| Told {
        as_of_ms: told.as_of_ms,
        reset: told.reset,
        lines: told.changes.iter().map(|change| (change.at_ms, of_segment(change))).collect(),
        totals: told.totals.map(|totals| in_segment(&totals)),
    };
    follow(target.client.watch_segment(request), &watch.how, output, "WatchSegmentResponse", show).await
}

async fn funnel(watch: &WatchFunnel, target: &Target, output: Output) -> anyhow::Result<()> {
    let (range, as_of_ms) = watch.funnel.range.read(Clock::default().now_ms())?;
    if as_of_ms.is_some() || range.until_ms.is_some() {
        bail!("what is watched goes on: leave out --until and --as-of")
    }
    let definition = watch.funnel.definition()?;
    let (watched, steps) = match (definition, &watch.funnel.name) {
        (Some(definition), _) => {
            let steps = labels(&definition);
            (watched_funnel::Funnel::Inline(definition), steps)
        }
        (None, Some(name)) => {
            let request = GetFunnelRequest { name: name.clone(), ..GetFunnelRequest::default() };
            let found = target.client.funnel().get_funnel(request).await?.into_inner().funnel;
            let definition = found.and_then(|funnel| funnel.definition).unwrap_or_default();
            (watched_funnel::Funnel::Name(name.clone()), labels(&definition))
        }
        (None, None) => bail!("say which funnel: --steps, --name or --definition"),
    };
    let request = WatchFunnelRequest {
        funnel: Some(WatchedFunnel { funnel: Some(watched) }),
        from_ms: range.from_ms,
        cursor: watch.how.cursor.clone().unwrap_or_default(),
        units: watch.how.everybody,
        totals_every_ms: Some(1_000),
        visitor_ids: watch.how.of.clone(),
        values: watch.values,
        ..WatchFunnelRequest::default()
    };
    let show = move |told: WatchFunnelResponse| Told {
        as_of_ms: told.as_of_ms,
        reset: told.reset,
        lines: told.changes.iter().map(|change| (change.at_ms, of_funnel(change))).collect(),
        totals: told.totals.map(|totals| in_funnel(&totals, &steps)),
    };
    follow(target.client.watch_funnel(request), &watch.how, output, "WatchFunnelResponse", show).await
}

/// What steps are called, and whether they may be skipped.
fn labels(definition: &FunnelDefinition) -> Vec<(String, bool)> {
    let label = |step: &runnel_contracts::proto::funnel::v1::Step| {
        if !step.label.is_empty() {
            return (step.label.clone(), step.optional);
        }
        let names = step.any_of.iter().map(|one| match one.conversion.as_str() {
            "" => one.event.as_str(),
            conversion => conversion,
        });
        (names.collect::<Vec<_>>().join(" or "), step.optional)
    };
    definition.steps.iter().map(label).collect()
}

/// A message for people.
struct Told {
    as_of_ms: i64,
    reset: bool,
    lines: Vec<(i64, String)>,
    totals: Option<String>,
}

/// Prints what is told. On a terminal totals stay in their place above the latest changes; elsewhere every change is a line.
async fn follow<R: Watched<Told: Message>>(
    mut watch: Watch<Wire, R>,
    how: &HowArgs,
    output: Output,
    name: &str,
    show: impl Fn(R::Told) -> Told,
) -> anyhow::Result<()> {
    let longest = how.stop_after.map_or(Duration::MAX, |ms| Duration::from_millis(ms.unsigned_abs()));
    let over = async {
        match longest {
            Duration::MAX => asked_to_stop().await,
            longest => drop(tokio::time::timeout(longest, asked_to_stop()).await),
        }
    };
    tokio::pin!(over);
    let mut screen = Screen::new(stdout().is_terminal());
    loop {
        let told = tokio::select! {
            told = watch.next() => told?,
            () = &mut over => return Ok(()),
        };
        match output {
            Output::Json => {
                let name = format!("runnel.segmentation.v1.{name}");
                render::print(json::to_line(&name, &told)?);
            }
            Output::Table => screen.show(show(told)),
        }
    }
}

/// Where changes and totals are shown.
struct Screen {
    live: bool,
    latest: VecDeque<String>,
    totals: String,
    /// Lines that the last picture took.
    height: usize,
}

impl Screen {
    fn new(live: bool) -> Screen {
        Screen { live, latest: VecDeque::new(), totals: String::new(), height: 0 }
    }

    fn show(&mut self, told: Told) {
        if told.reset {
            self.latest.clear();
        }
        let lines = told.lines.into_iter().map(|(at_ms, text)| format!("{}  {text}", show_instant(at_ms)));
        if !self.live {
            lines.for_each(render::print);
            if let Some(totals) = told.totals.filter(|totals| *totals != self.totals) {
                render::print(format!("as of {}\n{totals}", show_instant(told.as_of_ms)));
                self.totals = totals;
            }
            return;
        }
        self.latest.extend(lines);
        let more = self.latest.len().saturating_sub(SHOWN);
        self.latest.drain(..more);
        self.totals = told.totals.unwrap_or(std::mem::take(&mut self.totals));
        let latest: Vec<&str> = self.latest.iter().map(String::as_str).collect();
        let picture = format!(
            "as of {}\n{}\n{}",
            show_instant(told.as_of_ms),
            self.totals.trim_end(),
            latest.join("\n")
        );
        let up = match self.height {
            0 => String::new(),
            height => format!("\x1b[{height}A\x1b[J"),
        };
        self.height = picture.lines().count();
        render::print(format!("{up}{}", picture.trim_end_matches('\n')));
        drop(stdout().flush());
    }
}

fn cause(number: i32) -> &'static str {
    match ChangeCause::try_from(number).unwrap_or_default() {
        ChangeCause::Unspecified => "",
        ChangeCause::Event => "did something",
        ChangeCause::Time => "time went by",
        ChangeCause::Late => "came late",
        ChangeCause::Identity => "who is who",
        ChangeCause::Erasure => "erased",
        ChangeCause::Retention => "not kept",
        ChangeCause::Definition => "defined anew",
        ChangeCause::Snapshot => "as it is",
    }
}

fn of_segment(change: &SegmentChange) -> String {
    let sign = if change.member { '+' } else { '-' };
    format!("{sign} {:<24} {}", change.visitor_id, cause(change.cause))
}

fn in_segment(totals: &SegmentTotals) -> String {
    let mut rows = table(&["members", "", "of visitors"]);
    rows.add_row(vec![
        number(totals.members),
        Cell::new(bar(totals.members, totals.visitors)),
        number(totals.visitors),
    ]);
    rows.to_string()
}

fn of_funnel(change: &FunnelChange) -> String {
    let kind = change.kind().as_str_name().trim_start_matches("FUNNEL_CHANGE_KIND_").to_lowercase();
    let place = match (&change.before, &change.after) {
        (Some(before), Some(after)) if before.step != after.step => {
            format!("{} to {}", before.label, after.label)
        }
        (_, Some(unit)) | (Some(unit), None) => unit.label.clone(),
        (None, None) => String::new(),
    };
    let left = change
        .after
        .as_ref()
        .and_then(|unit| unit.ends_ms)
        .map(|ends_ms| format!(", {} left", show_duration(ends_ms.saturating_sub(change.at_ms))));
    let stake = change.after.as_ref().and_then(|unit| unit.value.clone());
    let stake = stake.map(|value| format!(", {} at stake", render::money(&[value])));
    format!(
        "{kind:<10} {:<24} {place}{}{} ({})",
        change.visitor_id,
        left.unwrap_or_default(),
        stake.unwrap_or_default(),
        cause(change.cause)
    )
}

fn in_funnel(totals: &FunnelTotals, steps: &[(String, bool)]) -> String {
    let mut counts: BTreeMap<(u32, i32), u64> = BTreeMap::new();
    for standing in &totals.standings {
        *counts.entry((standing.step, standing.state)).or_default() += standing.units;
    }
    let reached =
        |step: u32| counts.iter().filter(|((at, _), _)| *at >= step).map(|(_, units)| units).sum::<u64>();
    let of = |step: u32, state: UnitState| counts.get(&(step, state as i32)).copied().unwrap_or(0);
    let mut rows = table(&["step", "reached", "", "still open", "left", "excluded"]);
    for (at, (label, optional)) in steps.iter().enumerate() {
        // How far somebody has come does not tell who did a step that may be skipped.
        if *optional {
            continue;
        }
        let step = at as u32 + 1;
        rows.add_row(vec![
            Cell::new(label),
            number(reached(step)),
            Cell::new(bar(reached(step), reached(1))),
            number(of(step, UnitState::Open)),
            number(of(step, UnitState::Dropped)),
            number(of(step, UnitState::Excluded)),
        ]);
    }
    let removed = of(0, UnitState::Removed);
    match removed {
        0 => rows.to_string(),
        removed => format!("{rows}\n{} taken out by an exclusion", thousands(removed)),
    }
}
