//! How long one classification takes, in nanoseconds.
//!
//! `cargo bench -p runnel-devices --bench classify -- 2000` classifies every header of `tests/vectors.txt`
//! 2000 times; the default is small, so that an ordinary test run only checks that the benchmark still works.

#![expect(clippy::print_stdout, reason = "a benchmark shows what it measured")]

use std::{hint::black_box, time::Instant};

use runnel_devices::Rules;

fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10_u32);
    let rules = Rules::standard().expect("a test proves that they can be read");
    let vectors: Vec<&str> = include_str!("../tests/vectors.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.splitn(4, '|').nth(3))
        .collect();
    let chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                  Chrome/124.0.0.0 Safari/537.36";
    let longest = "Mozilla/5.0 (compatible; ".repeat(100);
    measure("vectors", rounds, &vectors, &rules);
    measure("Chrome on Windows", rounds, &[chrome; 100], &rules);
    measure("a header without an end", rounds, &[longest.as_str(); 100], &rules);
    measure("no header", rounds, &[""; 100], &rules);
    time("reading the rules", rounds.div_ceil(100), 1, || {
        black_box(Rules::standard().is_ok());
    });
}

fn measure(name: &str, rounds: u32, headers: &[&str], rules: &Rules) {
    time(name, rounds, headers.len(), || {
        for header in headers {
            black_box(rules.classify(black_box(header)));
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
