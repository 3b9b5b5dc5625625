//! `runnel retention`: for how long events are kept.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use runnel_chassis::Clock;
use runnel_contracts::proto::admin::v1::{GetRetentionRequest, Retention, SetRetentionRequest};

use crate::{
    command::Output,
    json, render,
    target::{Target, TargetArgs},
    when::show_instant,
};

/// How often it is looked whether what was to go is gone.
const LOOK: Duration = Duration::from_millis(200);
/// A day, and how much a change to or from summer time may shift midnight.
const DAY_MS: i64 = 24 * 3_600_000;
const SHIFT_MS: i64 = 3_600_000;

/// `runnel retention`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --days or --forever it only shows. Counts of conversions by day, week and month stay when their \
                        events go; everything else about that time is gone for good. Needs a key of the kind admin.\n\n\
                        Example:\n  runnel retention --days 395 --yes --data-dir ./data --tenant shop"
)]
pub(crate) struct RetentionArgs {
    /// Keep events for so many days, today among them: 35 to 3,650.
    #[arg(long, conflicts_with = "forever")]
    days: Option<u32>,
    /// Keep events for ever, from now on.
    #[arg(long)]
    forever: bool,
    /// Really delete what is older.
    #[arg(long, requires = "days")]
    yes: bool,
    #[command(flatten)]
    target: TargetArgs,
}

/// Shows it, or says it anew.
pub(crate) async fn run(args: RetentionArgs, output: Output) -> anyhow::Result<()> {
    if let Some(days) = args.days.filter(|_| !args.yes) {
        let from = Clock::default().now_ms() - (i64::from(days) - 1) * DAY_MS;
        bail!(
            "What happened before about {} would be deleted for good, today and from then on day by day; add --yes to do so",
            show_instant(from)
        );
    }
    let target = args.target.open(false).await?;
    let result = act(&args, &target).await;
    target.close().await;
    let retention = result?;
    render::print(match output {
        Output::Json => json::to_json("runnel.admin.v1.Retention", &retention)?,
        Output::Table => told(&retention),
    });
    Ok(())
}

async fn act(args: &RetentionArgs, target: &Target) -> anyhow::Result<Retention> {
    let tenant = match &args.target.endpoint {
        Some(_) => args.target.tenant.clone().unwrap_or_default(),
        None => String::new(),
    };
    let mut admin = target.client.admin();
    if args.days.is_some() || args.forever {
        let request = SetRetentionRequest { tenant: tenant.clone(), days: args.days };
        admin.set_retention(request).await?;
    }
    let progress = indicatif::ProgressBar::new_spinner().with_message("deleting");
    let retention = loop {
        let request = GetRetentionRequest { tenant: tenant.clone() };
        let retention = admin.get_retention(request).await?.into_inner().retention.unwrap_or_default();
        // A server does it in the background; a folder has nobody else.
        let waits = args.days.is_some() && target.local.is_some() && !is_done(&retention);
        if !waits {
            break retention;
        }
        progress.tick();
        tokio::time::sleep(LOOK).await;
    };
    progress.finish_and_clear();
    Ok(retention)
}

/// Whether nothing is left of what is not to be kept.
fn is_done(retention: &Retention) -> bool {
    let oldest_ms =
        retention.days.map(|days| Clock::default().now_ms() - i64::from(days) * DAY_MS - SHIFT_MS);
    retention.kept_from_ms >= oldest_ms && !retention.deleting
}

fn told(retention: &Retention) -> String {
    let mut text = match retention.days {
        Some(days) => format!("Events are kept for {days} days."),
        None => "Events are kept for ever.".to_owned(),
    };
    if let Some(kept_from_ms) = retention.kept_from_ms {
        text.push_str(&format!("\nThose before {} are deleted", show_instant(kept_from_ms)));
        text.push_str(if retention.deleting { "; some of them still have to be." } else { "." });
    }
    match retention.refused_before_ms {
        Some(refused_before_ms) if retention.kept_from_ms != Some(refused_before_ms) => {
            text.push_str(&format!("\nThose before {} are refused.", show_instant(refused_before_ms)));
        }
        _ => {}
    }
    text
}
