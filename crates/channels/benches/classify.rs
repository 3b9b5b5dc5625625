//! How long one classification takes, in nanoseconds.
//!
//! `cargo bench -p runnel-channels --bench classify -- 2000` classifies every touch of `tests/vectors.txt` 2000 times; the default
//! is small, so that an ordinary test run only checks that the benchmark still works.

#![expect(clippy::print_stdout, reason = "a benchmark shows what it measured")]

use std::{hint::black_box, time::Instant};

use runnel_channels::{Rules, Touch};

fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10_u32);
    let rules = Rules::standard().expect("a test proves that they can be read");
    let rows: Vec<Vec<&str>> =
        include_str!("../tests/vectors.txt").lines().map(|line| line.split('|').collect()).collect();
    let touches: Vec<Touch<'_>> = rows
        .iter()
        .filter_map(|row| match row[..] {
            [source, medium, campaign, click_id, referrer, _] => {
                Some(Touch { source, medium, campaign, click_id, referrer, ..Touch::default() })
            }
            _ => None,
        })
        .collect();
    let search = Touch { referrer: "https://www.google.co.uk/", ..Touch::default() };
    let newsletter = Touch { source: "newsletter", medium: "email", campaign: "week-31", ..Touch::default() };
    let unassigned = Touch { source: "flyer", medium: "qr", campaign: "week-31", ..Touch::default() };
    measure("vectors", rounds, &touches, &rules);
    measure("nothing known", rounds, &[Touch::default(); 100], &rules);
    measure("untagged search", rounds, &[search; 100], &rules);
    measure("tagged newsletter", rounds, &[newsletter; 100], &rules);
    measure("unassigned", rounds, &[unassigned; 100], &rules);
    let query = "utm_source=google&utm_medium=cpc&utm_campaign=Summer%20Sale&gclid=EAIaIQobChMI&page=2";
    time("landing page", rounds, 100, || {
        for _ in 0..100 {
            black_box(rules.landing(black_box(query)));
        }
    });
    time("reading the default rules", rounds.div_ceil(100), 1, || {
        black_box(Rules::standard().is_ok());
    });
}

fn measure(name: &str, rounds: u32, touches: &[Touch<'_>], rules: &Rules) {
    time(name, rounds, touches.len(), || {
        for touch in touches {
            black_box(rules.classify(black_box(touch)));
        }
    });
}

/// The best of five, which the rest of the machine disturbs least.
fn time(name: &str, rounds: u32, each: usize, mut work: impl FnMut()) {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
        let start = Instant::now();
        (0..rounds).for_each(|_| work());
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(rounds) / each as f64);
    }
    println!("{name:<26} {best:>10.0} ns");
}
