//! `runnel export`: what is kept of a person, and what ad networks may be told.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use clap::{ArgGroup, Args};
use comfy_table::Cell;
use jiff::{Timestamp, fmt::strtime};
use runnel_chassis::Clock;
use runnel_contracts::proto::{
    audience::v1::{
        AudienceTotals, ConversionTotals, ExportAudienceRequest, ExportAudienceResponse,
        ExportConversionsRequest, ExportConversionsResponse, ExportedConversion, Goal, HashedIdentifiers,
        Identifiers,
    },
    event::v1::ConsentState,
    query::v1::Provenance,
    segmentation::v1::{SegmentRef, segment_ref::Segment},
};

use crate::{
    ask::tables::footer,
    command::Output,
    json,
    query::{RangeArgs, duration},
    render::{self, number, table, thousands},
    subject,
    target::{Target, TargetArgs},
};

/// `runnel export`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true), after_help = EXAMPLES)]
pub(crate) struct ExportArgs {
    /// Everything that is kept of a person, by any id of theirs: one JSON object a line, first who is who and the lists that name them, then the events. Needs a key of the kind erase.
    #[arg(long, group = "what")]
    visitor: Option<String>,
    /// The members of a saved segment who agree to ads, as a file for Google Ads Customer Match: hashed e-mail addresses and phone numbers.
    #[arg(long, group = "what", value_name = "SEGMENT", requires = "to")]
    audience: Option<String>,
    /// What people did who agree to ads, as two files for Google Ads: macro-conversions go to FILE-primary.csv, micro-conversions to FILE-secondary.csv. Names of conversions,
    /// separated by commas; none: all.
    #[arg(long, group = "what", num_args = 0.., value_delimiter = ',', value_name = "NAMES", requires = "to")]
    conversions: Option<Vec<String>>,
    /// The file to write; it must not exist. Without it, what is kept of a person goes to standard output.
    #[arg(long)]
    to: Option<PathBuf>,
    /// A property with e-mail addresses, of which the latest value counts. May be repeated. Default: email.
    #[arg(long, conflicts_with = "visitor")]
    email_property: Vec<String>,
    /// A property with phone numbers, with their country code. May be repeated. Default: phone.
    #[arg(long, conflicts_with = "visitor")]
    phone_property: Vec<String>,
    /// How long ago the click may lie that led to a conversion. Default 90d.
    #[arg(long, value_parser = duration, requires = "conversions")]
    click_within: Option<i64>,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    target: TargetArgs,
}

const EXAMPLES: &str = "Nobody is told to an ad network whose latest word on ads (Event.consent.ads) is not that they agree. What somebody says about ads in an event that
denies analytics is nobody's: send a withdrawal of both as two events, the one about ads first.

Examples:
  runnel export --visitor customer-17 --to customer-17.ndjson --data-dir ./data --tenant shop
  runnel export --audience left-a-cart --to audience.csv --data-dir ./data --tenant shop
  runnel export --conversions purchase,add_to_cart --from 2026-03-01 --to conversions.csv --data-dir ./data --tenant shop";

/// A file that is gone again unless it is finished.
pub(crate) struct NewFile {
    out: BufWriter<File>,
    path: PathBuf,
    finished: bool,
}

impl NewFile {
    /// Makes a file that does not exist.
    pub(crate) fn create(path: &Path) -> anyhow::Result<NewFile> {
        let file = File::options().write(true).create_new(true).open(path);
        let file = file.with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(NewFile { out: BufWriter::new(file), path: path.to_owned(), finished: false })
    }

    /// Keeps it.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        self.out.flush().with_context(|| format!("{} cannot be written", self.path.display()))?;
        self.finished = true;
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.finished {
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Writes what was asked for.
pub(crate) async fn run(args: ExportArgs, output: Output) -> anyhow::Result<()> {
    let target = args.target.open(false).await?;
    let result = match (&args.visitor, &args.audience, &args.conversions) {
        (Some(_), ..) if args.range.is_said() => {
            Err(anyhow!("of a person everything is exported: leave out --from, --until and --as-of"))
        }
        (Some(visitor), ..) => subject::export(visitor, args.to.as_deref(), &target, output).await,
        (_, Some(segment), _) => audience(&args, segment, &target, output).await,
        (.., Some(names)) => conversions(&args, names, &target, output).await,
        (None, None, None) => bail!("say what is exported: --visitor, --audience or --conversions"),
    };
    target.close().await;
    result
}

impl ExportArgs {
    fn identifiers(&self) -> Identifiers {
        Identifiers {
            email_properties: self.email_property.clone(),
            phone_properties: self.phone_property.clone(),
        }
    }

    /// How many columns there are of e-mail addresses and of phone numbers.
    fn columns(&self) -> (usize, usize) {
        match (self.email_property.len(), self.phone_property.len()) {
            (0, 0) => (1, 1),
            asked => asked,
        }
    }
}

/// Hashes in so many columns, empty ones behind them.
fn cells(hashes: &[String], columns: usize) -> impl Iterator<Item = &str> {
    hashes.iter().map(String::as_str).chain(std::iter::repeat("")).take(columns)
}

async fn audience(args: &ExportArgs, segment: &str, target: &Target, output: Output) -> anyhow::Result<()> {
    let Some(to) = &args.to else { bail!("say with --to where the file goes") };
    let (range, as_of_ms) = args.range.read(Clock::default().now_ms())?;
    if range.from_ms.is_some() || range.until_ms.is_some() {
        bail!("a segment has no range; say with --as-of as if it were which instant");
    }
    let request = ExportAudienceRequest {
        segment: Some(SegmentRef { segment: Some(Segment::Name(segment.to_owned())) }),
        as_of_ms,
        identifiers: Some(args.identifiers()),
    };
    let mut parts = target.client.audience().export_audience(request).await?.into_inner();
    // What is refused is refused before there is a file.
    let mut part = parts.message().await?;
    let mut csv = csv::Writer::from_writer(NewFile::create(to)?);
    let (emails, phones) = args.columns();
    csv.write_record(std::iter::repeat_n("Email", emails).chain(std::iter::repeat_n("Phone", phones)))?;
    let (mut totals, mut provenance) = (None, None);
    while let Some(told) = part {
        for HashedIdentifiers { email_sha256, phone_sha256 } in &told.members {
            csv.write_record(cells(email_sha256, emails).chain(cells(phone_sha256, phones)))?;
        }
        totals = totals.or(told.totals);
        provenance = provenance.or(told.provenance);
        part = parts.message().await?;
    }
    let totals = totals.context("the server ended before it had sent everything")?;
    csv.into_inner().map_err(|fault| fault.into_error())?.finish()?;
    render::print(match output {
        Output::Json => {
            let told = ExportAudienceResponse { totals: Some(totals), provenance, ..Default::default() };
            json::to_json("runnel.audience.v1.ExportAudienceResponse", &told)?
        }
        Output::Table => told_audience(&totals, provenance.as_ref()),
    });
    Ok(())
}

fn told_audience(totals: &AudienceTotals, provenance: Option<&Provenance>) -> String {
    let withheld = totals.withheld.unwrap_or_default();
    let mut rows = table(&["members", "exported", "said nothing of ads", "said no", "not to be known"]);
    rows.add_row(vec![
        number(totals.members),
        number(totals.exported),
        number(withheld.unknown),
        number(withheld.denied),
        number(withheld.without_identifier),
    ]);
    let mut text = format!("{rows}\n");
    for (count, what) in [
        (totals.unusable_emails, "no e-mail addresses"),
        (totals.unusable_phones, "no phone numbers with a country code"),
    ] {
        if count > 0 {
            text += &format!("{} values are {what}.\n", thousands(count));
        }
    }
    text + &footer(provenance)
}

/// The headings of a file of conversions, as Google Ads names them.
const HEADINGS: [&str; 11] = [
    "Google Click ID",
    "GBRAID",
    "WBRAID",
    "Email",
    "Phone",
    "Conversion Name",
    "Conversion Time",
    "Conversion Value",
    "Conversion Currency",
    "Ad User Data",
    "Ad Personalization",
];

/// A file of conversions of one goal.
struct GoalFile {
    csv: csv::Writer<NewFile>,
    path: PathBuf,
}

impl GoalFile {
    fn create(to: &Path, goal: &str) -> anyhow::Result<GoalFile> {
        let stem = to.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let ending = to.extension().map_or_else(|| "csv".into(), |ending| ending.to_string_lossy());
        let path = to.with_file_name(format!("{stem}-{goal}.{ending}"));
        let mut csv = csv::Writer::from_writer(NewFile::create(&path)?);
        csv.write_record(HEADINGS)?;
        Ok(GoalFile { csv, path })
    }

    fn write(&mut self, one: &ExportedConversion) -> anyhow::Result<()> {
        let none = HashedIdentifiers::default();
        let HashedIdentifiers { email_sha256, phone_sha256 } = one.identifiers.as_ref().unwrap_or(&none);
        let instant = Timestamp::from_millisecond(one.time_ms)?.to_zoned(jiff::tz::TimeZone::UTC);
        let time = strtime::format("%Y-%m-%d %H:%M:%S%z", &instant)?;
        let (value, currency) = match &one.value {
            Some(money) => (decimal(money.micros), money.currency.as_str()),
            None => (String::new(), ""),
        };
        let click = |kind: &str| if one.click_kind == kind { one.click_id.as_str() } else { "" };
        let personalization = match one.personalization() {
            ConsentState::Granted => "Granted",
            ConsentState::Denied => "Denied",
            ConsentState::Unspecified => "",
        };
        self.csv.write_record([
            click("gclid"),
            click("gbraid"),
            click("wbraid"),
            email_sha256.first().map_or("", String::as_str),
            phone_sha256.first().map_or("", String::as_str),
            &one.conversion,
            &time,
            &value,
            currency,
            "Granted",
            personalization,
        ])?;
        Ok(())
    }

    fn finish(self) -> anyhow::Result<PathBuf> {
        let file = self.csv.into_inner().map_err(|fault| fault.into_error())?;
        file.finish()?;
        Ok(self.path)
    }
}

/// Millionths as a decimal number.
fn decimal(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let (whole, rest) = (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
    match rest {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{}", format!("{rest:06}").trim_end_matches('0')),
    }
}

async fn conversions(
    args: &ExportArgs,
    names: &[String],
    target: &Target,
    output: Output,
) -> anyhow::Result<()> {
    let Some(to) = &args.to else { bail!("say with --to where the files go") };
    let (range, as_of_ms) = args.range.read(Clock::default().now_ms())?;
    let request = ExportConversionsRequest {
        conversions: names.to_vec(),
        range: Some(range),
        as_of_ms,
        click_within_ms: args.click_within,
        identifiers: Some(args.identifiers()),
    };
    let mut parts = target.client.audience().export_conversions(request).await?.into_inner();
    let mut part = parts.message().await?;
    let (mut primary, mut secondary) = (GoalFile::create(to, "primary")?, GoalFile::create(to, "secondary")?);
    let (mut totals, mut provenance, mut complete) = (Vec::new(), None, false);
    while let Some(told) = part {
        for one in &told.conversions {
            match one.goal() {
                Goal::Primary => primary.write(one)?,
                Goal::Secondary | Goal::Unspecified => secondary.write(one)?,
            }
        }
        complete = told.conversions.is_empty();
        totals.extend(told.totals);
        provenance = provenance.or(told.provenance);
        part = parts.message().await?;
    }
    if !complete {
        bail!("the server ended before it had sent everything");
    }
    let files = [primary.finish()?, secondary.finish()?];
    render::print(match output {
        Output::Json => {
            let told = ExportConversionsResponse { totals, provenance, ..Default::default() };
            json::to_json("runnel.audience.v1.ExportConversionsResponse", &told)?
        }
        Output::Table => told_conversions(&totals, &files, provenance.as_ref()),
    });
    Ok(())
}

fn told_conversions(
    totals: &[ConversionTotals],
    files: &[PathBuf],
    provenance: Option<&Provenance>,
) -> String {
    let headings =
        ["conversion", "goal", "happened", "exported", "said nothing of ads", "said no", "not to be known"];
    let mut rows = table(&headings);
    for one in totals {
        let withheld = one.withheld.unwrap_or_default();
        rows.add_row(vec![
            Cell::new(&one.conversion),
            Cell::new(if one.goal() == Goal::Primary { "primary" } else { "secondary" }),
            number(one.happened),
            number(one.exported),
            number(withheld.unknown),
            number(withheld.denied),
            number(withheld.without_identifier),
        ]);
    }
    let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    format!("{rows}\nIn {}.\n{}", files.join(" and "), footer(provenance))
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn amounts_are_written_without_rounding() {
        for (micros, text) in
            [(0, "0"), (12_500_000, "12.5"), (-1, "-0.000001"), (29_990_000, "29.99"), (7_000_000, "7")]
        {
            assert_eq!(decimal(micros), text);
        }
    }
}
