//! `runnel ask`: questions on the command line.

mod insight;
pub(crate) mod segment;
pub(crate) mod tables;
mod visitor;

use anyhow::bail;
use clap::{Args, Subcommand};
use runnel_chassis::Clock;
use runnel_contracts::proto::{
    funnel::v1::{
        DefineFunnelRequest, ExplainVisitorRequest, QueryFunnelRequest, VerifyRequest,
        explain_visitor_request, query_funnel_request,
    },
    identity::v1::GetIdentityRequest,
    segmentation::v1::CountOpenSessionsRequest,
};

use crate::{
    command::Output,
    json,
    query::{FunnelArgs, RangeArgs, SplitArgs, VisitorsArgs},
    render,
    target::{Target, TargetArgs},
};

/// Questions.
#[derive(Debug, Subcommand)]
pub(crate) enum AskCommand {
    /// Where visitors get to, and where they leave.
    Funnel(AskFunnel),
    /// Every event of one visitor against a funnel, and why it counted or not.
    Explain(AskExplain),
    /// Which ids count as one visitor, and why.
    Identity(AskIdentity),
    /// How many sessions there are, how long, how deep, of whom.
    Sessions(AskSessions),
    /// Every conversion of the catalogue: how often, by how many visitors, worth what.
    Conversions(insight::AskConversions),
    /// Events or conversions by hour, day, week or month.
    Trend(insight::AskTrend),
    /// Which counts of days, weeks and months that were over have changed since, and why.
    Restatements(insight::AskRestatements),
    /// How many visitors come back, by when they came first.
    Retention(insight::AskRetention),
    /// How many visitors do something how often.
    Frequency(insight::AskFrequency),
    /// The pages on which sessions begin and end.
    Pages(insight::AskPages),
    /// Which micro-conversions go before a macro-conversion, and by how much.
    MicroToMacro(insight::AskMicroToMacro),
    /// A group of visitors: how many, who, who came and went, and whether somebody belongs.
    Segment(Box<segment::AskSegment>),
    /// The segments that were saved.
    Segments(segment::AskSegments),
    /// Where one visitor stands: sessions, conversions, intent, segments, funnels; or what it did.
    Visitor(visitor::AskVisitor),
}

/// `runnel ask funnel`.
#[derive(Debug, Args)]
pub(crate) struct AskFunnel {
    #[command(flatten)]
    funnel: FunnelArgs,
    #[command(flatten)]
    visitors: VisitorsArgs,
    #[command(flatten)]
    split: SplitArgs,
    /// Save the funnel under this name, too.
    #[arg(long, conflicts_with = "name")]
    save: Option<String>,
    /// Check that the answer keeps the promises that every answer keeps.
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    target: TargetArgs,
}

/// `runnel ask explain`.
#[derive(Debug, Args)]
pub(crate) struct AskExplain {
    /// The visitor.
    #[arg(long)]
    visitor: String,
    #[command(flatten)]
    funnel: FunnelArgs,
    #[command(flatten)]
    target: TargetArgs,
}

/// `runnel ask identity`.
#[derive(Debug, Args)]
pub(crate) struct AskIdentity {
    /// Any id of the visitor.
    id: String,
    #[command(flatten)]
    target: TargetArgs,
}

/// `runnel ask sessions`.
#[derive(Debug, Args)]
pub(crate) struct AskSessions {
    /// Those that are open at this moment, instead of those that began in the range.
    #[arg(long, conflicts_with_all = ["from", "until", "as_of", "without_bots", "by"])]
    open: bool,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    visitors: VisitorsArgs,
    #[command(flatten)]
    split: insight::ByArgs,
    #[command(flatten)]
    target: TargetArgs,
}

impl AskCommand {
    fn target(&self) -> &TargetArgs {
        match self {
            AskCommand::Funnel(ask) => &ask.target,
            AskCommand::Explain(ask) => &ask.target,
            AskCommand::Identity(ask) => &ask.target,
            AskCommand::Sessions(ask) => &ask.target,
            AskCommand::Conversions(ask) => &ask.target,
            AskCommand::Trend(ask) => &ask.target,
            AskCommand::Restatements(ask) => &ask.target,
            AskCommand::Retention(ask) => &ask.target,
            AskCommand::Frequency(ask) => &ask.target,
            AskCommand::Pages(ask) => &ask.target,
            AskCommand::MicroToMacro(ask) => &ask.target,
            AskCommand::Segment(ask) => &ask.target,
            AskCommand::Segments(ask) => &ask.target,
            AskCommand::Visitor(ask) => &ask.target,
        }
    }
}

/// Asks and prints.
pub(crate) async fn run(command: AskCommand, output: Output) -> anyhow::Result<()> {
    let target = command.target().open(false).await?;
    let result = match command {
        AskCommand::Funnel(ask) => funnel(&ask, &target, output).await,
        AskCommand::Explain(ask) => explain(&ask, &target, output).await,
        AskCommand::Identity(ask) => identity(&ask, &target, output).await,
        AskCommand::Sessions(ask) if ask.open => open_sessions(&target, output).await,
        AskCommand::Sessions(ask) => {
            insight::sessions(&ask.range, ask.visitors, &ask.split, &target, output).await
        }
        AskCommand::Conversions(ask) => insight::conversions(&ask, &target, output).await,
        AskCommand::Trend(ask) => insight::trend(&ask, &target, output).await,
        AskCommand::Restatements(ask) => insight::restatements(&ask, &target, output).await,
        AskCommand::Retention(ask) => insight::retention(&ask, &target, output).await,
        AskCommand::Frequency(ask) => insight::frequency(&ask, &target, output).await,
        AskCommand::Pages(ask) => insight::pages(&ask, &target, output).await,
        AskCommand::MicroToMacro(ask) => insight::micro_to_macro(&ask, &target, output).await,
        AskCommand::Segment(ask) => segment::segment(&ask, &target, output).await,
        AskCommand::Segments(_) => segment::segments(&target, output).await,
        AskCommand::Visitor(ask) => visitor::visitor(&ask, &target, output).await,
    };
    target.close().await;
    result
}

async fn funnel(ask: &AskFunnel, target: &Target, output: Output) -> anyhow::Result<()> {
    let (range, as_of_ms) = ask.funnel.range.read(Clock::default().now_ms())?;
    let definition = ask.funnel.definition()?;
    if let (Some(name), Some(definition)) = (&ask.save, &definition) {
        let request = DefineFunnelRequest {
            name: name.clone(),
            definition: Some(definition.clone()),
            expected_version: None,
        };
        target.client.funnel().define_funnel(request).await?;
    }
    let funnel = match (definition, &ask.funnel.name) {
        (Some(definition), _) => query_funnel_request::Funnel::Inline(definition),
        (None, Some(name)) => query_funnel_request::Funnel::Name(name.clone()),
        (None, None) => bail!("say which funnel: --steps, --name or --definition"),
    };
    let request = QueryFunnelRequest {
        funnel: Some(funnel),
        range: Some(range),
        as_of_ms,
        break_down: ask.split.break_down(),
        trend: ask.split.trend() as i32,
        without_bots: ask.visitors.without_bots,
    };
    if ask.verify {
        let checked =
            target.client.funnel().verify(VerifyRequest { query: Some(request) }).await?.into_inner();
        render::print(match output {
            Output::Json => json::to_json("runnel.funnel.v1.VerifyResponse", &checked)?,
            Output::Table => render::verified(&checked),
        });
        if !checked.holds {
            bail!("the answer breaks a promise; please report it")
        }
        return Ok(());
    }
    let answer = target.client.funnel().query_funnel(request).await?.into_inner();
    render::print(match output {
        Output::Json => json::to_json("runnel.funnel.v1.QueryFunnelResponse", &answer)?,
        Output::Table => render::funnel(&answer),
    });
    Ok(())
}

async fn explain(ask: &AskExplain, target: &Target, output: Output) -> anyhow::Result<()> {
    let (range, as_of_ms) = ask.funnel.range.read(Clock::default().now_ms())?;
    let funnel = match (ask.funnel.definition()?, &ask.funnel.name) {
        (Some(definition), _) => explain_visitor_request::Funnel::Inline(definition),
        (None, Some(name)) => explain_visitor_request::Funnel::Name(name.clone()),
        (None, None) => bail!("say which funnel: --steps, --name or --definition"),
    };
    let request = ExplainVisitorRequest {
        funnel: Some(funnel),
        visitor_id: ask.visitor.clone(),
        range: Some(range),
        as_of_ms,
    };
    let answer = target.client.funnel().explain_visitor(request).await?.into_inner();
    render::print(match output {
        Output::Json => json::to_json("runnel.funnel.v1.ExplainVisitorResponse", &answer)?,
        Output::Table => render::explained(&answer),
    });
    Ok(())
}

async fn identity(ask: &AskIdentity, target: &Target, output: Output) -> anyhow::Result<()> {
    let request = GetIdentityRequest { id: ask.id.clone() };
    let answer = target.client.identity().get_identity(request).await?.into_inner();
    render::print(match output {
        Output::Json => json::to_json("runnel.identity.v1.GetIdentityResponse", &answer)?,
        Output::Table => tables::identity(&answer),
    });
    Ok(())
}

async fn open_sessions(target: &Target, output: Output) -> anyhow::Result<()> {
    let request = CountOpenSessionsRequest {};
    let answer = target.client.segmentation().count_open_sessions(request).await?.into_inner();
    render::print(match output {
        Output::Json => json::to_json("runnel.segmentation.v1.CountOpenSessionsResponse", &answer)?,
        Output::Table => render::open_sessions(&answer),
    });
    Ok(())
}
