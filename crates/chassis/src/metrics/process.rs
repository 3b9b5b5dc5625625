//! What this process takes of the machine, as Linux tells it. Elsewhere these metrics have no numbers.

use std::fs;

use opentelemetry::metrics::Meter;

use super::{PROCESS_CPU, PROCESS_MEMORY, help};

/// Ticks a second in which `/proc` counts processor time: part of Linux's stable interface, whatever the kernel's own clock does.
const TICKS: f64 = 100.0;

/// Reads both whenever somebody looks.
pub(super) fn watch(meter: &Meter) {
    let memory =
        meter.u64_observable_gauge(PROCESS_MEMORY).with_description(help(PROCESS_MEMORY)).with_unit("By");
    memory
        .with_callback(|seen| {
            if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident) {
                seen.observe(bytes, &[]);
            }
        })
        .build();
    let cpu = meter.f64_observable_counter(PROCESS_CPU).with_description(help(PROCESS_CPU)).with_unit("s");
    cpu.with_callback(|seen| {
        if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(spent) {
            seen.observe(seconds, &[]);
        }
    })
    .build();
}

/// Resident bytes in `/proc/self/status`.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

/// User and system seconds in `/proc/self/stat`. The program's name, in parentheses, may hold anything.
fn spent(stat: &str) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_writes_is_read() {
        assert_eq!(resident("Name:\trunnel\nVmRSS:\t    2048 kB\nThreads:\t4\n"), Some(2_097_152));
        assert_eq!(resident("Name:\trunnel\n"), None);
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 100 1 1";
        assert_eq!(spent(stat), Some(3.0));
        assert_eq!(spent("7 (a"), None);
    }
}
