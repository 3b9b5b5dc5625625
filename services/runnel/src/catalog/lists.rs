//! `runnel catalog lists`, `list-add` and `list-remove`: visitors by their ids, for example the customers of a CRM.

use std::{
    fs::File,
    io::{BufRead, BufReader, stdin},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use comfy_table::Cell;
use indicatif::ProgressBar;
use runnel_contracts::proto::list::v1::{
    DeleteListRequest, List, ListListsRequest, PutMembersRequest, PutMembersResponse, RemoveMembersRequest,
    RemoveMembersResponse,
};
use runnel_model::limits;

use crate::{
    command::Output,
    json, render,
    target::{Target, TargetArgs},
    when::show_instant,
};

/// `runnel catalog lists`.
#[derive(Debug, Args)]
pub(crate) struct Lists {
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

/// `runnel catalog list-add`.
#[derive(Debug, Args)]
#[command(
    after_help = "Ids that are on the list already stay, so that doing it again changes nothing.\n\nExample:\n  \
                        runnel catalog list-add customers ids.txt --data-dir ./data --tenant shop\n  \
                        runnel ask segment --did @cart --not-on-list customers --data-dir ./data --tenant shop"
)]
pub(crate) struct ListAdd {
    /// The list.
    name: String,
    /// A file with an id a line; - is standard input.
    file: PathBuf,
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

/// `runnel catalog list-remove`.
#[derive(Debug, Args)]
pub(crate) struct ListRemove {
    /// The list.
    name: String,
    /// A file with an id a line; - is standard input. Without one, the whole list is deleted.
    file: Option<PathBuf>,
    /// Really delete the list.
    #[arg(long, conflicts_with = "file")]
    yes: bool,
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

/// Shows all lists.
pub(super) async fn lists(target: &Target, output: Output) -> anyhow::Result<()> {
    let request = ListListsRequest { page_size: limits::PAGE as u32, page_token: String::new() };
    let listed = target.client.list().list_lists(request).await?.into_inner();
    if output == Output::Json {
        render::print(json::to_json("runnel.list.v1.ListListsResponse", &listed)?);
        return Ok(());
    }
    let mut rows = render::table(&["list", "ids", "version", "changed"]);
    for list in &listed.lists {
        rows.add_row(vec![
            Cell::new(&list.name),
            render::number(list.members),
            render::number(list.version),
            Cell::new(show_instant(list.changed_ms)),
        ]);
    }
    render::print(rows);
    Ok(())
}

/// Puts ids on a list.
pub(super) async fn add(args: &ListAdd, target: &Target, output: Output) -> anyhow::Result<()> {
    let (mut ids, progress) = (Ids::open(&args.file)?, ProgressBar::new_spinner());
    let mut latest = PutMembersResponse::default();
    while let Some(visitor_ids) = ids.next()? {
        let request = PutMembersRequest { list: args.name.clone(), visitor_ids };
        latest = target.client.list().put_members(request).await.with_context(|| ids.sent())?.into_inner();
        ids.tell(&progress);
    }
    progress.finish_and_clear();
    render::print(match output {
        Output::Json => json::to_json("runnel.list.v1.PutMembersResponse", &latest)?,
        Output::Table => told(latest.list),
    });
    Ok(())
}

/// Takes ids off a list, or deletes it.
pub(super) async fn remove(args: &ListRemove, target: &Target, output: Output) -> anyhow::Result<()> {
    let Some(file) = &args.file else { return delete(args, target, output).await };
    let (mut ids, progress) = (Ids::open(file)?, ProgressBar::new_spinner());
    let mut latest = RemoveMembersResponse::default();
    while let Some(visitor_ids) = ids.next()? {
        let request = RemoveMembersRequest { list: args.name.clone(), visitor_ids };
        latest = target.client.list().remove_members(request).await.with_context(|| ids.sent())?.into_inner();
        ids.tell(&progress);
    }
    progress.finish_and_clear();
    render::print(match output {
        Output::Json => json::to_json("runnel.list.v1.RemoveMembersResponse", &latest)?,
        Output::Table => told(latest.list),
    });
    Ok(())
}

async fn delete(args: &ListRemove, target: &Target, output: Output) -> anyhow::Result<()> {
    let name = &args.name;
    if !args.yes {
        bail!(
            "the list {name:?} would be deleted with all that are on it; add --yes to do so, or name a file"
        )
    }
    let request = DeleteListRequest { list: name.clone() };
    let answer = target.client.list().delete_list(request).await?.into_inner();
    render::print(match output {
        Output::Json => json::to_json("runnel.list.v1.DeleteListResponse", &answer)?,
        Output::Table => format!("The list {name} is deleted."),
    });
    Ok(())
}

fn told(list: Option<List>) -> String {
    let List { name, members, version, .. } = list.unwrap_or_default();
    format!("The list {name} has {} ids; version {version}.", render::thousands(members))
}

/// Ids of a file, as many at a time as a call takes.
struct Ids {
    lines: std::io::Lines<Box<dyn BufRead>>,
    /// Where they come from.
    place: String,
    /// Those that were read, and those of the latest call among them.
    read: usize,
    latest: usize,
}

impl Ids {
    fn open(path: &Path) -> anyhow::Result<Ids> {
        let (place, reader): (_, Box<dyn BufRead>) = match path == Path::new("-") {
            true => ("standard input".to_owned(), Box::new(BufReader::new(stdin()))),
            false => {
                let place = path.display().to_string();
                let file = File::open(path).with_context(|| format!("{place} cannot be read"))?;
                (place, Box::new(BufReader::new(file)))
            }
        };
        Ok(Ids { lines: reader.lines(), place, read: 0, latest: 0 })
    }

    /// The next ones; `None` behind the last. A file without any is a mistake.
    fn next(&mut self) -> anyhow::Result<Option<Vec<String>>> {
        let mut ids = Vec::new();
        for line in self.lines.by_ref() {
            let line = line.with_context(|| format!("{} cannot be read", self.place))?;
            let id = line.trim_end_matches('\r');
            if !id.is_empty() {
                ids.push(id.to_owned());
            }
            if ids.len() == limits::LIST_CHANGES {
                break;
            }
        }
        if ids.is_empty() && self.read == 0 {
            bail!("there are no ids in {}", self.place)
        }
        (self.latest, self.read) = (ids.len(), self.read + ids.len());
        Ok((!ids.is_empty()).then_some(ids))
    }

    /// What a call that failed was about.
    fn sent(&self) -> String {
        let (first, last) = (self.read - self.latest + 1, self.read);
        format!("ids {first} to {last} of {} failed; those before are done", self.place)
    }

    fn tell(&self, progress: &ProgressBar) {
        progress.set_message(format!("{} ids", render::thousands(self.read as u64)));
        progress.tick();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn ids_are_read_line_by_line_as_many_as_a_call_takes() {
        let of = |text: String| {
            let reader: Box<dyn BufRead> = Box::new(Cursor::new(text));
            Ids { lines: reader.lines(), place: "ids".to_owned(), read: 0, latest: 0 }
        };
        let mut some = of("ada\r\n\n bob\neve".to_owned());
        assert_eq!(some.next().unwrap().unwrap(), ["ada", " bob", "eve"]);
        assert_eq!(some.next().unwrap(), None);
        let mut many = of((0..2_500).map(|id| format!("{id}\n")).collect());
        let mut counts = Vec::new();
        while let Some(ids) = many.next().unwrap() {
            counts.push((ids.len(), many.sent()));
        }
        assert_eq!(counts.iter().map(|(count, _)| *count).collect::<Vec<_>>(), [1_000, 1_000, 500]);
        assert!(counts[2].1.starts_with("ids 2001 to 2500 of ids"), "{}", counts[2].1);
        assert!(of("\n\n".to_owned()).next().is_err());
    }
}
