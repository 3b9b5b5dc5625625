//! `runnel keys`: makes, lists and revokes keys.

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::Cell;
use runnel_chassis::Clock;
use runnel_contracts::proto::admin::v1::{
    CreateKeyRequest, CreateTenantRequest, Key, KeyKind, ListKeysRequest, RevokeKeyRequest,
};

use crate::{
    command::Output,
    json, render,
    target::{Target, TargetArgs},
    when::{parse_instant, show_instant},
};

/// Keys of a tenant. With --endpoint, --key is an admin key; the operator's may name any --tenant.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key. It is shown once.
    Create(CreateKey),
    /// List keys without their secrets.
    List(ListKeys),
    /// Revoke a key; it stops working within 60 seconds.
    Revoke(RevokeKey),
}

/// `runnel keys create`.
#[derive(Debug, Args)]
pub(crate) struct CreateKey {
    /// What the key may do.
    #[arg(long, value_enum)]
    kind: KindArg,
    /// A remark.
    #[arg(long, default_value = "")]
    label: String,
    /// When the key stops working: 2027-01-01, 2027-01-01T12:00:00Z, or milliseconds since 1970.
    #[arg(long)]
    expires: Option<String>,
    #[command(flatten)]
    target: TargetArgs,
}

/// `runnel keys list`.
#[derive(Debug, Args)]
pub(crate) struct ListKeys {
    #[command(flatten)]
    target: TargetArgs,
}

/// `runnel keys revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeKey {
    /// The key's public identifier, as the list shows it.
    id: String,
    #[command(flatten)]
    target: TargetArgs,
}

/// What a key may do.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArg {
    /// Send events.
    Write,
    /// Ask questions and save definitions.
    Read,
    /// Manage the tenant's keys.
    Admin,
    /// Erase and export data subjects.
    Erase,
}

/// Does it and prints.
pub(crate) async fn run(command: KeysCommand, output: Output) -> anyhow::Result<()> {
    let args = match &command {
        KeysCommand::Create(create) => &create.target,
        KeysCommand::List(list) => &list.target,
        KeysCommand::Revoke(revoke) => &revoke.target,
    };
    let tenant =
        if args.endpoint.is_some() { args.tenant.clone().unwrap_or_default() } else { String::new() };
    let target = args.open(matches!(command, KeysCommand::Create(_))).await?;
    let result = act(&command, tenant, &target, output).await;
    target.close().await;
    result
}

async fn act(command: &KeysCommand, tenant: String, target: &Target, output: Output) -> anyhow::Result<()> {
    let mut admin = target.client.admin();
    match command {
        KeysCommand::Create(create) => {
            let expires = create.expires.as_ref().map(|text| parse_instant(text, Clock::default().now_ms()));
            let kind = match create.kind {
                KindArg::Write => KeyKind::Write,
                KindArg::Read => KeyKind::Read,
                KindArg::Admin => KeyKind::Admin,
                KindArg::Erase => KeyKind::Erase,
            };
            let expires_ms = expires.transpose().context("--expires")?;
            let request =
                CreateKeyRequest { tenant, kind: kind as i32, label: create.label.clone(), expires_ms };
            let made = match admin.create_key(request.clone()).await {
                // Of a tenant that is not there, the operator makes the first key; for others it stays unknown.
                Err(unknown) if unknown.code() == tonic::Code::NotFound && !request.tenant.is_empty() => {
                    let tenant = CreateTenantRequest { name: request.tenant.clone() };
                    if admin.create_tenant(tenant).await.is_err() {
                        return Err(unknown.into());
                    }
                    admin.create_key(request).await?
                }
                made => made?,
            };
            let made = made.into_inner();
            render::print(match output {
                Output::Json => json::to_json("runnel.admin.v1.CreateKeyResponse", &made)?,
                Output::Table => format!("{}\nKeep it: it is shown only now.", made.secret),
            });
        }
        KeysCommand::List(_) => {
            let listed = admin.list_keys(ListKeysRequest { tenant }).await?.into_inner();
            render::print(match output {
                Output::Json => json::to_json("runnel.admin.v1.ListKeysResponse", &listed)?,
                Output::Table => table(&listed.keys),
            });
        }
        KeysCommand::Revoke(revoke) => {
            let request = RevokeKeyRequest { tenant, id: revoke.id.clone() };
            let revoked = admin.revoke_key(request).await?.into_inner();
            render::print(match output {
                Output::Json => json::to_json("runnel.admin.v1.RevokeKeyResponse", &revoked)?,
                Output::Table => format!("revoked {}", revoke.id),
            });
        }
    }
    Ok(())
}

fn table(keys: &[Key]) -> String {
    let mut rows = render::table(&["id", "kind", "label", "created", "expires", "revoked"]);
    let instant = |ms: Option<i64>| Cell::new(ms.map_or_else(String::new, show_instant));
    for key in keys {
        let kind = key.kind().as_str_name().trim_start_matches("KEY_KIND_").to_lowercase();
        let (created, expires, revoked) =
            (instant(Some(key.created_ms)), instant(key.expires_ms), instant(key.revoked_ms));
        rows.add_row(vec![
            Cell::new(&key.id),
            Cell::new(kind),
            Cell::new(&key.label),
            created,
            expires,
            revoked,
        ]);
    }
    rows.to_string()
}
