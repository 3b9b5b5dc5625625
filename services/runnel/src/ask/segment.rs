//! `runnel ask segment` and `runnel ask segments`: groups of visitors on the command line.

use std::{fs, path::PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use comfy_table::Cell;
use runnel_chassis::Clock;
use runnel_contracts::proto::{
    catalog::v1::Stage,
    funnel::v1::FunnelDefinition,
    query::v1::predicate,
    segmentation::v1::{
        Absent, Condition, Conditions, DefineSegmentRequest, Happened, Has, InStage, ListMembersRequest,
        ListSegmentsRequest, Occurrence, PreviewSegmentRequest, PreviewSegmentResponse, Reached,
        SegmentDefinition, SegmentRef, WasMemberRequest, WasMemberResponse, condition::Node,
        occurrence::What, reached, segment_ref,
    },
};

use super::tables::footer;
use crate::{
    command::Output,
    json,
    query::{condition, duration, event, step},
    render::{self, bar, number, percent, table, thousands},
    target::{Target, TargetArgs},
    when::{parse_instant, show_instant},
};

/// `runnel ask segments`.
#[derive(Debug, Args)]
pub(crate) struct AskSegments {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// Which segment. Whatever is said of the members holds of all of them.
#[derive(Debug, Args)]
pub(crate) struct SegmentArgs {
    /// A saved segment, instead of saying whom it has.
    name: Option<String>,
    /// They did this: an event as in a funnel's steps, or @ and a conversion's name; `cart:2` at least twice, `cart:2-5` two to five times. May be repeated.
    #[arg(long)]
    did: Vec<String>,
    /// They did not do this. May be repeated.
    #[arg(long)]
    did_not: Vec<String>,
    /// What they did or did not do was at most so long ago: a number and ms, s, m, h or d.
    #[arg(long, value_parser = duration)]
    within: Option<i64>,
    /// The latest of this lies longer back than --for says …
    #[arg(long, requires = "without", requires = "for")]
    after: Option<String>,
    /// … and this has not happened since. May be repeated.
    #[arg(long, requires = "after")]
    without: Vec<String>,
    /// See --after, for example 30m.
    #[arg(long = "for", value_parser = duration, requires = "after")]
    r#for: Option<i64>,
    /// The last value of a property is so, for example plan=pro or session.last_channel=Email. May be repeated.
    #[arg(long)]
    has: Vec<String>,
    /// Their stage of intent, by the catalogue.
    #[arg(long, value_enum)]
    stage: Option<StageArg>,
    /// They are in this segment. May be repeated.
    #[arg(long = "in")]
    r#in: Vec<String>,
    /// They are not in this segment. May be repeated.
    #[arg(long)]
    not_in: Vec<String>,
    /// Some id of theirs is on this list; see `runnel catalog lists`. May be repeated.
    #[arg(long)]
    on_list: Vec<String>,
    /// No id of theirs is on this list. May be repeated.
    #[arg(long)]
    not_on_list: Vec<String>,
    /// They did these steps in order, separated by commas, as in `runnel ask funnel`.
    #[arg(long, value_delimiter = ',')]
    steps: Vec<String>,
    /// Time from the first step within which the others count. Default 7d.
    #[arg(long, value_parser = duration, requires = "steps")]
    window: Option<i64>,
    /// Up to this step. Default: the last.
    #[arg(long, requires = "steps")]
    reached: Option<u32>,
    /// And not this one.
    #[arg(long, requires = "steps")]
    not_reached: Option<u32>,
    /// A file with a SegmentDefinition in JSON instead; it can say everything.
    #[arg(long, conflicts_with_all = ["name", "did", "did_not", "after", "has", "stage", "in", "not_in", "on_list", "not_on_list", "steps"])]
    definition: Option<PathBuf>,
    /// Save the segment under this name, too.
    #[arg(long, conflicts_with = "name")]
    save: Option<String>,
}

/// `runnel ask segment`.
#[derive(Debug, Args)]
pub(crate) struct AskSegment {
    #[command(flatten)]
    segment: SegmentArgs,
    /// What it shares with this saved segment. May be repeated.
    #[arg(long)]
    compare: Vec<String>,
    /// Who came and went since so long ago. Default 7d.
    #[arg(long, value_parser = duration)]
    since: Option<i64>,
    /// List members, one a line, instead of counting them.
    #[arg(long, conflicts_with_all = ["compare", "since", "visitor"])]
    members: bool,
    /// Whether this visitor is a member, and which conditions hold.
    #[arg(long, conflicts_with_all = ["compare", "since"])]
    visitor: Option<String>,
    /// As if it were this instant. Default: now.
    #[arg(long)]
    as_of: Option<String>,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// A stage of intent.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum StageArg {
    /// Looks around.
    Interest,
    /// Deals with it.
    Engagement,
    /// Wants it.
    Willingness,
    /// Will not buy.
    Negative,
}

impl From<StageArg> for Stage {
    fn from(stage: StageArg) -> Stage {
        match stage {
            StageArg::Interest => Stage::Interest,
            StageArg::Engagement => Stage::Engagement,
            StageArg::Willingness => Stage::Willingness,
            StageArg::Negative => Stage::Negative,
        }
    }
}

fn node(node: Node) -> Condition {
    Condition { node: Some(node) }
}

fn not(condition: Condition) -> Condition {
    node(Node::Not(Box::new(condition)))
}

fn occurrence(text: &str) -> anyhow::Result<Occurrence> {
    Ok(Occurrence { what: Some(What::Event(event(text)?)) })
}

impl SegmentArgs {
    /// Something that happened, with how often behind the last colon.
    fn happened(&self, text: &str) -> anyhow::Result<Happened> {
        let numbers = |times: &str| match times.split_once('-') {
            Some((least, most)) => Some((least.parse().ok()?, Some(most.parse().ok()?))),
            None => Some((times.parse().ok()?, None)),
        };
        let counted = text.rsplit_once(':').and_then(|(what, times)| Some((what, numbers(times)?)));
        let (what, at_least, at_most) = match counted {
            Some((what, (least, most))) => (what, Some(least), most),
            None => (text, None, None),
        };
        let any_of = vec![occurrence(what)?];
        Ok(Happened { any_of, at_least, at_most, within_ms: self.within, ..Happened::default() })
    }

    /// What the options say of the members; `None` when they say nothing.
    fn condition(&self) -> anyhow::Result<Option<Condition>> {
        let mut parts = Vec::new();
        for did in &self.did {
            parts.push(node(Node::Happened(self.happened(did)?)));
        }
        for did in &self.did_not {
            parts.push(not(node(Node::Happened(self.happened(did)?))));
        }
        if let (Some(after), Some(for_ms)) = (&self.after, self.r#for) {
            let without = self.without.iter().map(|one| occurrence(one)).collect::<Result<_, _>>()?;
            let after = vec![occurrence(after)?];
            parts.push(node(Node::Absent(Absent { after, without, for_ms, within_ms: None })));
        }
        for has in &self.has {
            let Some(predicate::Node::Comparison(value)) = condition(has)?.node else {
                bail!("--has {has} compares nothing")
            };
            parts.push(node(Node::Has(Has { value: Some(value), touch: 0 })));
        }
        if let Some(stage) = self.stage {
            let stage = Stage::from(stage) as i32;
            parts.push(node(Node::InStage(InStage { stage, within_ms: None })));
        }
        parts.extend(self.r#in.iter().map(|name| node(Node::Segment(name.clone()))));
        parts.extend(self.not_in.iter().map(|name| not(node(Node::Segment(name.clone())))));
        parts.extend(self.on_list.iter().map(|name| node(Node::List(name.clone()))));
        parts.extend(self.not_on_list.iter().map(|name| not(node(Node::List(name.clone())))));
        if !self.steps.is_empty() {
            let steps = self.steps.iter().map(|one| step(one)).collect::<Result<_, _>>()?;
            let definition =
                FunnelDefinition { steps, window_ms: self.window, ..FunnelDefinition::default() };
            parts.push(node(Node::Reached(Box::new(Reached {
                funnel: Some(reached::Funnel::Inline(definition)),
                step: self.reached.unwrap_or(0),
                not_step: self.not_reached.unwrap_or(0),
                within_ms: self.within,
                ..Reached::default()
            }))));
        }
        Ok(match parts.len() {
            0 => None,
            1 => parts.pop(),
            _ => Some(node(Node::All(Conditions { parts }))),
        })
    }

    /// Which segment, saved before if that was asked for.
    pub(crate) async fn segment(&self, target: &Target) -> anyhow::Result<SegmentRef> {
        let definition = match &self.definition {
            Some(path) => {
                let text =
                    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
                let read = json::from_json("runnel.segmentation.v1.SegmentDefinition", &text);
                Some(read.with_context(|| format!("{} is no segment", path.display()))?)
            }
            None => {
                let condition = self.condition()?;
                condition.map(|one| SegmentDefinition { condition: Some(one), ..Default::default() })
            }
        };
        let segment = match (definition, &self.name) {
            (Some(_), Some(_)) => bail!("name a saved segment, or say whom it has, not both"),
            (None, None) => bail!("say which segment: its name, --did, --definition or others; see --help"),
            (None, Some(name)) => segment_ref::Segment::Name(name.clone()),
            (Some(definition), None) => {
                if let Some(name) = &self.save {
                    let request = DefineSegmentRequest {
                        name: name.clone(),
                        definition: Some(definition.clone()),
                        expected_version: None,
                    };
                    target.client.segmentation().define_segment(request).await?;
                }
                segment_ref::Segment::Inline(definition)
            }
        };
        Ok(SegmentRef { segment: Some(segment) })
    }
}

/// Saved segments.
pub(crate) async fn segments(target: &Target, output: Output) -> anyhow::Result<()> {
    let request = ListSegmentsRequest { page_size: 1_000, page_token: String::new() };
    let listed = target.client.segmentation().list_segments(request).await?.into_inner();
    if output == Output::Json {
        render::print(json::to_json("runnel.segmentation.v1.ListSegmentsResponse", &listed)?);
        return Ok(());
    }
    let mut rows = table(&["segment", "version", "saved", "description"]);
    for segment in &listed.segments {
        let description = segment.definition.as_ref().map_or("", |definition| &definition.description);
        rows.add_row(vec![
            Cell::new(&segment.name),
            number(segment.version),
            Cell::new(show_instant(segment.saved_ms)),
            Cell::new(description),
        ]);
    }
    render::print(rows);
    Ok(())
}

/// One segment: how many, who, or whether.
pub(crate) async fn segment(ask: &AskSegment, target: &Target, output: Output) -> anyhow::Result<()> {
    let now_ms = Clock::default().now_ms();
    let as_of_ms = ask.as_of.as_ref().map(|text| parse_instant(text, now_ms).context("--as-of"));
    let as_of_ms = as_of_ms.transpose()?;
    let segment = Some(ask.segment.segment(target).await?);
    if ask.members {
        return members(segment, as_of_ms, target, output).await;
    }
    let mut client = target.client.segmentation();
    if let Some(visitor) = &ask.visitor {
        let request = WasMemberRequest { segment, visitor_id: visitor.clone(), at_ms: as_of_ms };
        let answer = client.was_member(request).await?.into_inner();
        render::print(match output {
            Output::Json => json::to_json("runnel.segmentation.v1.WasMemberResponse", &answer)?,
            Output::Table => was_member(&answer),
        });
        return Ok(());
    }
    let request = PreviewSegmentRequest {
        segment,
        as_of_ms,
        compare_with: ask.compare.clone(),
        since_ms: ask.since,
        examples: 0,
    };
    let answer = client.preview_segment(request).await?.into_inner();
    render::print(match output {
        Output::Json => json::to_json("runnel.segmentation.v1.PreviewSegmentResponse", &answer)?,
        Output::Table => preview(&answer),
    });
    Ok(())
}

/// Prints all members, page by page.
async fn members(
    segment: Option<SegmentRef>,
    as_of_ms: Option<i64>,
    target: &Target,
    output: Output,
) -> anyhow::Result<()> {
    let mut page_token = String::new();
    loop {
        let request = ListMembersRequest { segment: segment.clone(), as_of_ms, page_size: 1_000, page_token };
        // The pages that follow are as of the same instant, which their token says.
        let request = match request.page_token.is_empty() {
            true => request,
            false => ListMembersRequest { as_of_ms: None, ..request },
        };
        let page = target.client.segmentation().list_members(request).await?.into_inner();
        if output == Output::Json {
            render::print(json::to_line("runnel.segmentation.v1.ListMembersResponse", &page)?);
        } else if !page.visitor_ids.is_empty() {
            render::print(page.visitor_ids.join("\n"));
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}

fn preview(answer: &PreviewSegmentResponse) -> String {
    let mut rows = table(&["", "members", "", "of visitors", "95 %"]);
    let share = answer.share.as_ref();
    let between = share.map(|rate| format!("{:.1} to {:.1} %", rate.low * 100.0, rate.high * 100.0));
    rows.add_row(vec![
        Cell::new("now"),
        number(answer.members),
        Cell::new(bar(answer.members, answer.visitors)),
        Cell::new(percent(share)),
        Cell::new(between.unwrap_or_default()),
    ]);
    let mut text = format!("{rows}\n");
    if let Some(churn) = &answer.churn {
        text += &format!(
            "since {}: {} then, {} left, {} joined\n",
            show_instant(churn.since_ms),
            thousands(churn.members_before),
            thousands(churn.left),
            thousands(churn.joined),
        );
    }
    if !answer.overlaps.is_empty() {
        let mut rows = table(&["compared with", "members", "both", "", "of these members"]);
        for other in &answer.overlaps {
            let share = 100.0 * other.both as f64 / (answer.members.max(1)) as f64;
            rows.add_row(vec![
                Cell::new(&other.name),
                number(other.members),
                number(other.both),
                Cell::new(bar(other.both, answer.members)),
                Cell::new(format!("{share:.1} %")),
            ]);
        }
        text += &format!("\n{rows}\n");
    }
    if !answer.examples.is_empty() {
        text += &format!("for example {}\n", answer.examples.join(", "));
    }
    text + &footer(answer.provenance.as_ref())
}

fn was_member(answer: &WasMemberResponse) -> String {
    let mut rows = table(&["condition", "holds"]);
    for condition in &answer.conditions {
        let holds = if condition.holds { "yes" } else { "no" };
        rows.add_row(vec![condition.field.trim_start_matches("segment."), holds]);
    }
    let verdict = if answer.member { "is a member" } else { "is no member" };
    format!("{} {verdict}.\n{rows}\n{}", answer.visitor_id, footer(answer.provenance.as_ref()))
}
