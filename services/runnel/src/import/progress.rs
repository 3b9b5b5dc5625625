//! How far an import is.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Counts bytes that were read of files, as they are on disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Arc<AtomicU64>);

impl Meter {
    pub(super) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A bar on the terminal; nothing where there is no terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    meter: Meter,
}

impl Progress {
    /// A bar over the sizes of `files`; without a length when one of them has none.
    pub(super) fn new(files: &[PathBuf], meter: Meter, shown: bool) -> Progress {
        if !shown {
            return Progress { bar: ProgressBar::hidden(), meter };
        }
        let sizes: Option<u64> = files
            .iter()
            .map(|path| {
                std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|found| found.len())
            })
            .sum();
        let (bar, template) = match sizes {
            Some(bytes) => (
                ProgressBar::new(bytes),
                "{bar:40} {bytes}/{total_bytes} {elapsed_precise} (left {eta_precise}) {msg}",
            ),
            None => (ProgressBar::new_spinner(), "{spinner} {bytes} {elapsed_precise} {msg}"),
        };
        // Hidden by itself where standard error is no terminal.
        bar.set_draw_target(ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Progress { bar, meter }
    }

    /// Shows how many events are acknowledged after `elapsed`.
    pub(super) fn update(&self, events: u64, elapsed: Duration) {
        if self.bar.is_hidden() {
            return;
        }
        self.bar.set_position(self.meter.bytes());
        let rate = events as f64 / elapsed.as_secs_f64().max(1e-3);
        self.bar.set_message(format!("{events} events, {rate:.0}/s"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
