//! Makes a file of simulated events:
//! `cargo run --release -p runnel-simulate --example simulate -- --visitors 2000000 --seed 1 --format csv --output FILE`
//!
//! `--order delivery` (the default) writes late events and duplicates where they arrive, `--order visitor` writes each event once, journey
//! after journey. `--format none` makes the events and throws them away, to see how fast that is. `--output -` is the standard output.
//! `--truth` adds the exact figures on the standard error.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;

use runnel_simulate::{Config, Event, Shop, write_csv, write_ndjson};

const USAGE: &str = "simulate --output FILE|- [--visitors N] [--seed N] [--days N] [--format csv|ndjson|none] \
                     [--order delivery|visitor] [--duplicates SHARE] [--late SHARE] [--ties SHARE] [--bots SHARE] [--truth]";

struct Arguments {
    config: Config,
    format: String,
    order: String,
    output: Option<String>,
    truth: bool,
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut arguments = Arguments {
        config: Config::shop(1, 10_000),
        format: "csv".into(),
        order: "delivery".into(),
        output: None,
        truth: false,
    };
    let mut rest = std::env::args().skip(1);
    while let Some(flag) = rest.next() {
        if flag == "--truth" {
            arguments.truth = true;
            continue;
        }
        let value = rest.next().ok_or_else(|| format!("{flag}: a value is missing\n{USAGE}"))?;
        let config = &mut arguments.config;
        match flag.as_str() {
            "--visitors" => config.visitors = value.replace('_', "").parse()?,
            "--seed" => config.seed = value.parse()?,
            "--days" => config.days = value.parse()?,
            "--duplicates" => config.duplicates = value.parse()?,
            "--late" => config.late = value.parse()?,
            "--ties" => config.ties = value.parse()?,
            "--bots" => config.bots = value.parse()?,
            "--format" => arguments.format = value,
            "--order" => arguments.order = value,
            "--output" => arguments.output = Some(value),
            _ => return Err(format!("{flag}: no such flag\n{USAGE}").into()),
        }
    }
    Ok(arguments)
}

fn write(
    out: &mut impl Write,
    format: &str,
    events: impl Iterator<Item = Event>,
) -> Result<u64, Box<dyn Error>> {
    match format {
        "csv" => Ok(write_csv(out, events)?),
        "ndjson" => Ok(write_ndjson(out, events)?),
        "none" => {
            // Something has to depend on each event, or it would not be made.
            let (count, sum) =
                events.fold((0, 0_i64), |(n, sum), event| (n + 1, sum.wrapping_add(event.time_ms)));
            writeln!(io::stderr(), "sum of times: {sum}")?;
            Ok(count)
        }
        other => Err(format!("--format {other}: csv, ndjson or none\n{USAGE}").into()),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With the standard error closed there is nobody left to tell.
            let _ = writeln!(io::stderr(), "simulate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments = arguments()?;
    let shop = Shop::new(arguments.config)?;
    let mut out: Box<dyn Write> = match arguments.output.as_deref() {
        Some("-") => Box::new(io::stdout().lock()),
        Some(path) => Box::new(File::create(path)?),
        None if arguments.format == "none" => Box::new(io::sink()),
        None => return Err(format!("--output is missing\n{USAGE}").into()),
    };
    let mut peak = 0;
    let written = match arguments.order.as_str() {
        "delivery" => {
            let mut deliveries = shop.deliveries();
            let written =
                write(&mut out, &arguments.format, deliveries.by_ref().map(|delivery| delivery.event))?;
            peak = deliveries.peak();
            written
        }
        "visitor" => write(&mut out, &arguments.format, shop.events(0..shop.config().visitors))?,
        other => return Err(format!("--order {other}: delivery or visitor\n{USAGE}").into()),
    };
    writeln!(io::stderr(), "{written} events, at most {peak} of them held in memory")?;
    if arguments.truth {
        writeln!(io::stderr(), "{:#?}", shop.truth())?;
    }
    Ok(())
}
