//! Numbers as Prometheus text, version 0.0.4: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//!
//! Names are written as they are, in the order of [`FAMILIES`]; a metric without numbers still says what it is.

use std::fmt::Write as _;

use opentelemetry::KeyValue;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, HistogramDataPoint, MetricData, ResourceMetrics};

use super::{FAMILIES, Kind};

/// The media type of the text.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that was collected.
pub(super) fn encode(collected: &ResourceMetrics) -> String {
    let mut text = String::with_capacity(16 << 10);
    for (name, kind, help) in FAMILIES {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        let metrics = collected.scope_metrics().flat_map(|scope| scope.metrics());
        let mut lines: Vec<String> = Vec::new();
        for metric in metrics.filter(|metric| metric.name() == name) {
            match metric.data() {
                AggregatedMetrics::F64(data) => points(&mut lines, name, data),
                AggregatedMetrics::U64(data) => points(&mut lines, name, data),
                AggregatedMetrics::I64(data) => points(&mut lines, name, data),
            }
        }
        lines.sort_unstable();
        text.extend(lines);
    }
    text
}

/// The lines of every point, those of one point together.
fn points<T: Copy + Into<Number>>(lines: &mut Vec<String>, name: &str, data: &MetricData<T>) {
    let line = |attributes: Vec<&KeyValue>, value: T| {
        let labels = labels(attributes.into_iter());
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        format!("{name}{braces} {}\n", value.into())
    };
    match data {
        MetricData::Gauge(gauge) => {
            lines.extend(gauge.data_points().map(|point| line(point.attributes().collect(), point.value())));
        }
        MetricData::Sum(sum) => {
            lines.extend(sum.data_points().map(|point| line(point.attributes().collect(), point.value())));
        }
        MetricData::Histogram(histogram) => {
            lines.extend(histogram.data_points().map(|point| buckets(name, point)));
        }
        // No view asks for these.
        MetricData::ExponentialHistogram(_) => {}
    }
}

/// A histogram's lines: counts up to each bound, the sum and the count.
fn buckets<T: Copy + Into<Number>>(name: &str, point: &HistogramDataPoint<T>) -> String {
    let mut text = String::new();
    let labels = labels(point.attributes());
    let comma = if labels.is_empty() { "" } else { "," };
    let mut below = 0;
    let bounds = point.bounds().map(Number::F64).chain([Number::F64(f64::INFINITY)]);
    for (bound, count) in bounds.zip(point.bucket_counts()) {
        below += count;
        let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}");
    }
    let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    let _ = writeln!(text, "{name}_sum{braces} {}", point.sum().into());
    let _ = writeln!(text, "{name}_count{braces} {}", point.count());
    text
}

/// `a="x",b="y"`, by name.
fn labels<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> String {
    let mut labels: Vec<String> = attributes
        .map(|label| {
            let name: String = label.key.as_str().chars().map(word).collect();
            let value = label.value.as_str().replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            format!("{name}=\"{value}\"")
        })
        .collect();
    labels.sort_unstable();
    labels.join(",")
}

/// A character that may be in a label's name.
fn word(character: char) -> char {
    if character.is_ascii_alphanumeric() { character } else { '_' }
}

/// A number of any kind that an instrument has.
#[derive(Clone, Copy)]
enum Number {
    F64(f64),
    U64(u64),
    I64(i64),
}

impl From<f64> for Number {
    fn from(number: f64) -> Number {
        Number::F64(number)
    }
}

impl From<u64> for Number {
    fn from(number: u64) -> Number {
        Number::U64(number)
    }
}

impl From<i64> for Number {
    fn from(number: i64) -> Number {
        Number::I64(number)
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Number::F64(number) if number == f64::INFINITY => f.write_str("+Inf"),
            Number::F64(number) if number == f64::NEG_INFINITY => f.write_str("-Inf"),
            Number::F64(number) => number.fmt(f),
            Number::U64(number) => number.fmt(f),
            Number::I64(number) => number.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runnel_contracts::{proto::ingest::v1::AppendResponse, refusal::Reason};
    use tonic::Code;

    use super::super::Metrics;
    use super::*;

    #[test]
    fn numbers_are_written_as_prometheus_reads_them() {
        let metrics = Metrics::new();
        metrics.rpc_began("ingest");
        metrics.rpc_began("ingest");
        metrics.rpc_ended("ingest", "a.B/C", Code::Ok, Duration::from_millis(3));
        metrics.refused(Some(Reason::BatchEmpty));
        metrics.refused(None);
        metrics.ingested(&AppendResponse { accepted: 7, ..AppendResponse::default() }, 1_000);
        metrics.watch_journeys(|| 5, || 2);
        let text = metrics.text();
        for line in [
            "# TYPE runnel_rpc_duration_seconds histogram",
            "runnel_rpc_duration_seconds_bucket{code=\"OK\",method=\"a.B/C\",service=\"ingest\",le=\"0.0025\"} 0",
            "runnel_rpc_duration_seconds_bucket{code=\"OK\",method=\"a.B/C\",service=\"ingest\",le=\"0.005\"} 1",
            "runnel_rpc_duration_seconds_bucket{code=\"OK\",method=\"a.B/C\",service=\"ingest\",le=\"+Inf\"} 1",
            "runnel_rpc_duration_seconds_sum{code=\"OK\",method=\"a.B/C\",service=\"ingest\"} 0.003",
            "runnel_rpc_duration_seconds_count{code=\"OK\",method=\"a.B/C\",service=\"ingest\"} 1",
            "runnel_rpc_in_flight{service=\"ingest\"} 1",
            "runnel_refusals_total{reason=\"BATCH_EMPTY\"} 1",
            "runnel_refusals_total{reason=\"OTHER\"} 1",
            "runnel_ingest_events_total{verdict=\"accepted\"} 7",
            "runnel_ingest_events_total{verdict=\"rejected\"} 0",
            "runnel_ingest_bytes_total 1000",
            "runnel_journeys_resident_bytes 5",
            "runnel_journeys_loads_total 2",
            "# TYPE runnel_hot_errors_total counter",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nnot in\n{text}");
        }
        for (name, ..) in FAMILIES {
            assert_eq!(text.matches(&format!("# TYPE {name} ")).count(), 1, "{name}");
        }
        assert!(!Metrics::new().text().contains("runnel_ingest_bytes_total 1000"), "servers do not mix");
    }

    #[test]
    fn a_label_with_too_many_values_ends_in_one_line() {
        let metrics = Metrics::new();
        for number in 0..5_000 {
            metrics.edge_throttled(String::leak(format!("limit {number}")));
        }
        let text = metrics.text();
        let lines = text.lines().filter(|line| line.starts_with("runnel_edge_throttled_total{")).count();
        assert!((1_000..=2_001).contains(&lines), "{lines}");
        assert!(
            text.contains("runnel_edge_throttled_total{otel_metric_overflow=\"true\"} "),
            "the rest is counted"
        );
    }

    #[test]
    fn what_a_value_holds_cannot_end_the_line() {
        let metrics = Metrics::new();
        metrics.edge_throttled("a\"b\\c\nd");
        assert!(metrics.text().contains("{limit=\"a\\\"b\\\\c\\nd\"} 1\n"));
    }
}
