//! Sends what is read, several requests at a time, and matches verdicts with rows.

use prost::Message;
use runnel_client::{
    AppendError, Appended, Client, Refusal, Transport,
    proto::{
        event::v1::value::Kind,
        ingest::v1::{AppendRequest, Verdict},
    },
};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use super::{
    args::ImportArgs,
    collect::{Portion, Reject},
    exports::{OptionRefused, check_options},
    progress::{Meter, Progress},
    read::{self, name},
    rejects::{Rejects, RejectsError},
    summary::Summary,
};

/// Portions that wait between reading and sending.
const WAITING: usize = 4;

/// An import stopped. What was acknowledged before is stored; repeating the import counts nothing twice.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A request has no outcome.
    #[error(
        "{file}, lines {first} to {last}: {source}. {accepted} events are stored; when the cause is mended, import again: nothing counts twice",
        accepted = summary.accepted + summary.stored_before
    )]
    Append {
        /// The file.
        file: String,
        /// The first line of the request.
        first: u64,
        /// Its last line.
        last: u64,
        /// Why.
        #[source]
        source: Box<AppendError>,
        /// What came before.
        summary: Box<Summary>,
    },
    /// Who is who could not be sent.
    #[error(
        "identifications were refused: {source}. {accepted} events are stored; when the cause is mended, import again: nothing counts twice",
        accepted = summary.accepted + summary.stored_before
    )]
    Identify {
        /// Why.
        #[source]
        source: Box<Refusal>,
        /// What came before.
        summary: Box<Summary>,
    },
    /// An option does not go with the format.
    #[error(transparent)]
    Option(#[from] OptionRefused),
    /// Rejected rows cannot be written down.
    #[error(transparent)]
    Rejects(#[from] RejectsError),
    /// The reader failed; a fault of this program or of a library.
    #[error(
        "reading ended by a fault of the program: {0}; import again with other --format or without the last file"
    )]
    Reader(#[source] tokio::task::JoinError),
}

/// Imports all files over `client`. `progress` shows a bar on the terminal.
///
/// Returns when every event that could be read has been acknowledged. Faults of rows and of whole files are in the summary; an error means that the import stopped.
pub async fn run<S: Transport>(
    args: &ImportArgs,
    client: &Client<S>,
    progress: bool,
) -> Result<Summary, ImportError> {
    check_options(args)?;
    let started = Instant::now();
    let meter = Meter::default();
    let bar = Progress::new(&args.files, meter.clone(), progress);
    let (portions, mut inbox) = mpsc::channel::<Portion>(WAITING);
    let reader = {
        let args = args.clone();
        tokio::task::spawn_blocking(move || {
            read::read(&args, &meter, &mut |portion| portions.blocking_send(portion).is_ok())
        })
    };
    let mut import = Import {
        args,
        summary: Summary {
            files: args.files.len() as u64,
            dry_run: args.dry_run,
            strict: args.strict,
            ..Summary::default()
        },
        rejects: Rejects::new(&args.files, args.rejects.as_deref()),
    };
    let mut sending: JoinSet<(Portion, Result<Appended, AppendError>)> = JoinSet::new();
    let (mut open, mut stopped) = (true, None);
    loop {
        let may_take = open && sending.len() < args.in_flight as usize;
        tokio::select! {
            Some(done) = sending.join_next() => {
                let (portion, result) = done.map_err(ImportError::Reader)?;
                match result {
                    Ok(appended) => import.settle(&portion, &appended)?,
                    Err(error) => {
                        // Nothing more is taken; what is under way is waited for, because it may be stored.
                        open = false;
                        stopped.get_or_insert(Stop::Append(Box::new(portion), error));
                    }
                }
                bar.update(import.summary.accepted + import.summary.stored_before, started.elapsed());
            }
            portion = inbox.recv(), if may_take => match portion {
                None => open = false,
                Some(mut portion) => {
                    import.rows(&mut portion)?;
                    let identifications = std::mem::take(&mut portion.identifications);
                    import.summary.identifications += identifications.len() as u64;
                    if !identifications.is_empty() && !args.dry_run {
                        match client.identify(identifications).await {
                            Ok(answer) => answer.outcomes.iter().for_each(|outcome| import.summary.identified(outcome)),
                            Err(refusal) => {
                                open = false;
                                stopped.get_or_insert(Stop::Identify(refusal));
                            }
                        }
                    }
                    if let Some(request) = &portion.request {
                        let answer = client.append_encoded(request.bytes.clone(), &request.request_id);
                        sending.spawn(async move { (portion, answer.await) });
                    }
                }
            },
            else => break,
        }
    }
    // The reader ends when nobody takes what it reads.
    drop(inbox);
    let report = reader.await.map_err(ImportError::Reader)?;
    let Import { mut summary, rejects, .. } = import;
    summary.faults = report.faults;
    summary.notes = report.notes;
    summary.properties_left_out = report.left_out;
    if args.dry_run {
        summary.mapping = report.mapping;
    }
    summary.rejects_files = rejects.finish()?;
    summary.elapsed = started.elapsed();
    match stopped {
        None => Ok(summary),
        Some(Stop::Identify(refusal)) => {
            Err(ImportError::Identify { source: Box::new(refusal), summary: Box::new(summary) })
        }
        Some(Stop::Append(portion, error)) => Err(ImportError::Append {
            file: name(&args.files[portion.file]),
            first: portion.lines.first().copied().unwrap_or(0),
            last: portion.lines.last().copied().unwrap_or(0),
            source: Box::new(error),
            summary: Box::new(summary),
        }),
    }
}

/// What stops an import.
enum Stop {
    Append(Box<Portion>, AppendError),
    Identify(Refusal),
}

struct Import<'a> {
    args: &'a ImportArgs,
    summary: Summary,
    rejects: Rejects,
}

impl Import<'_> {
    /// Counts a portion's rows and writes down those that were rejected while reading.
    fn rows(&mut self, portion: &mut Portion) -> Result<(), ImportError> {
        self.summary.rows += portion.rows;
        self.summary.rows_without_event += portion.silent;
        for reject in portion.rejects.drain(..) {
            self.summary.reject(&reject.reason);
            self.rejects.write(portion.file, &reject)?;
        }
        Ok(())
    }

    /// Counts the outcome of a request and writes down what the server rejected.
    fn settle(&mut self, portion: &Portion, appended: &Appended) -> Result<(), ImportError> {
        self.summary.add(&appended.response, appended.stored_before() && !self.args.dry_run);
        let mut decoded = None;
        for verdict in &appended.response.verdicts {
            let reason = match verdict.verdict() {
                Verdict::Rejected => verdict.reason.as_str(),
                Verdict::Late => "LATE",
                Verdict::OverQuota => "OVER_QUOTA",
                _ => continue,
            };
            let index = verdict.index as usize;
            let original = match portion.original(index) {
                Some(original) => original.to_vec(),
                None => shown(decoded.get_or_insert_with(|| decode(portion)), index).into_bytes(),
            };
            let line = portion.lines.get(index).copied().unwrap_or(0);
            let reject =
                Reject { line, reason: reason.to_owned(), message: verdict.message.clone(), original };
            self.summary.reject(reason);
            self.rejects.write(portion.file, &reject)?;
        }
        Ok(())
    }
}

fn decode(portion: &Portion) -> AppendRequest {
    portion
        .request
        .as_ref()
        .and_then(|request| AppendRequest::decode(request.bytes.clone()).ok())
        .unwrap_or_default()
}

/// An event as JSON, for formats whose rows are not text.
fn shown(request: &AppendRequest, index: usize) -> String {
    let Some(event) = request.events.get(index) else { return String::new() };
    let mut object = serde_json::Map::new();
    object.insert("event_id".into(), event.event_id.clone().into());
    object.insert("visitor_id".into(), event.visitor_id.clone().into());
    object.insert("occurred_at".into(), event.time_ms.into());
    object.insert("name".into(), event.name.clone().into());
    if let Some(sequence) = event.sequence {
        object.insert("sequence".into(), sequence.into());
    }
    for (name, value) in &event.properties {
        let value = match &value.kind {
            Some(Kind::StringValue(text)) => text.clone().into(),
            Some(Kind::IntValue(value)) => (*value).into(),
            Some(Kind::DoubleValue(value)) => (*value).into(),
            Some(Kind::BoolValue(value)) => (*value).into(),
            None => serde_json::Value::Null,
        };
        object.insert(name.clone(), value);
    }
    serde_json::Value::Object(object).to_string()
}
