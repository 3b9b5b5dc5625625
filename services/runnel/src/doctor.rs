//! `runnel doctor`: is a data folder whole, and what takes its space?

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use comfy_table::Cell;
use runnel_chassis::Clock;
use runnel_model::TenantName;
use runnel_storage::{Audit, Stats};

use crate::{
    command::Output,
    node::{Node, NodeOptions},
    render,
};

/// Options of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The data folder. Not while a server has it open.
    #[arg(long, env = "RUNNEL_DATA_DIR")]
    data_dir: PathBuf,
    /// Only this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// Compact the journal into blocks first.
    #[arg(long)]
    compact: bool,
}

/// What was found of one tenant.
struct Finding {
    tenant: TenantName,
    stats: Stats,
    audit: Result<Audit, String>,
}

/// Reads everything once, verifying every checksum. `false` when something is wrong.
pub(crate) async fn run(args: DoctorArgs, output: Output) -> anyhow::Result<bool> {
    if !args.data_dir.join("runnel.db").exists() {
        bail!("there is no data in {}", args.data_dir.display())
    }
    let node = Node::open(&args.data_dir, NodeOptions::default(), Clock::default()).await?;
    let found = examine(&args, &node).await;
    node.close().await;
    let found = found?;
    let healthy = found.iter().all(|one| one.audit.as_ref().is_ok_and(|audit| audit.quarantined == 0));
    render::print(match output {
        Output::Json => serde_json::to_string_pretty(&found.iter().map(json).collect::<Vec<_>>())?,
        Output::Table => found.iter().map(table).collect::<Vec<_>>().join("\n\n"),
    });
    if output == Output::Table {
        render::print(if healthy { "\nEverything is whole." } else { "\nSomething is damaged; see above." });
    }
    Ok(healthy)
}

async fn examine(args: &DoctorArgs, node: &Node) -> anyhow::Result<Vec<Finding>> {
    let tenants = match &args.tenant {
        Some(name) => vec![TenantName::parse(name)?],
        None => node
            .store()
            .list_tenants(None, usize::from(u16::MAX))
            .await?
            .into_iter()
            .map(|record| record.name)
            .collect(),
    };
    let mut found = Vec::new();
    for tenant in tenants {
        if args.compact {
            node.settle(&tenant).await;
        }
        let stats = node.store().stats(&tenant).await?;
        let audit = node.store().audit(&tenant).await.map_err(|fault| {
            let mut text = fault.to_string();
            let mut cause = std::error::Error::source(&fault);
            while let Some(inner) = cause {
                text = format!("{text}: {inner}");
                cause = inner.source();
            }
            text
        });
        found.push(Finding { tenant, stats, audit });
    }
    Ok(found)
}

/// Bytes on disk per counted event beside its event id.
fn bytes_per_event(stats: &Stats) -> Option<f64> {
    let ids: u64 =
        stats.columns.iter().filter(|column| column.name == "event_id").map(|column| column.bytes).sum();
    (stats.block_events > 0)
        .then(|| (stats.block_bytes - ids.min(stats.block_bytes)) as f64 / stats.block_events as f64)
}

fn json(finding: &Finding) -> serde_json::Value {
    let stats = &finding.stats;
    let columns: serde_json::Map<String, serde_json::Value> =
        stats.columns.iter().map(|column| (column.name.clone(), column.bytes.into())).collect();
    let audit = match &finding.audit {
        Ok(audit) => serde_json::json!({
            "accepted": audit.accepted, "counted": audit.counted, "duplicates": audit.duplicates,
            "conflicts": audit.conflicts, "erased": audit.erased, "quarantined": audit.quarantined, "quarantineReasons": audit.quarantine_reasons,
        }),
        Err(fault) => serde_json::json!({ "fault": fault }),
    };
    serde_json::json!({
        "tenant": finding.tenant.as_str(),
        "journalRows": stats.journal_rows, "journalEvents": stats.journal_events, "journalBytes": stats.journal_bytes,
        "blocks": stats.blocks, "blockEvents": stats.block_events, "blockBytes": stats.block_bytes,
        "blockBytesPerEventBesideId": bytes_per_event(stats),
        "columns": columns, "fileBytes": stats.file_bytes, "freeBytes": stats.free_bytes, "audit": audit,
    })
}

fn table(finding: &Finding) -> String {
    let stats = &finding.stats;
    let mut rows = render::table(&[finding.tenant.as_str(), "events", "bytes"]);
    let mut add = |name: &str, events: u64, bytes: u64| {
        rows.add_row(vec![Cell::new(name), render::number(events), render::number(bytes)]);
    };
    add(&format!("journal, {} rows", stats.journal_rows), stats.journal_events, stats.journal_bytes);
    add(&format!("blocks, {}", stats.blocks), stats.block_events, stats.block_bytes);
    for column in &stats.columns {
        add(&format!("  {}", column.name), column.values, column.bytes);
    }
    let mut text = rows.to_string();
    if let Some(bytes) = bytes_per_event(stats) {
        text.push_str(&format!("\n{bytes:.1} bytes an event in blocks, beside its event id"));
    }
    match &finding.audit {
        Ok(audit) => {
            text.push_str(&format!(
                "\n{} accepted = {} counted + {} duplicates + {} conflicts + {} erased + {} in quarantine",
                render::thousands(audit.accepted),
                render::thousands(audit.counted),
                render::thousands(audit.duplicates),
                render::thousands(audit.conflicts),
                render::thousands(audit.erased),
                render::thousands(audit.quarantined)
            ));
            audit
                .quarantine_reasons
                .iter()
                .for_each(|reason| text.push_str(&format!("\n  quarantine: {reason}")));
        }
        Err(fault) => text.push_str(&format!("\nDAMAGED: {fault}")),
    }
    text
}
