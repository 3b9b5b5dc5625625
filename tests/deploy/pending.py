"""What deploy/ uses and the program does not have yet.

A name that it has by now must leave this file; with the last one the file goes, and what asks it.
"""

# Variables of a subcommand.
_EVERY = {"RUNNEL_OPS_LISTEN"}
VARIABLES = {
    "gateway": _EVERY | {"RUNNEL_SEGMENTATION", "RUNNEL_REDIS"},
    "ingest": _EVERY,
    "funnel": _EVERY,
    "segmentation": _EVERY
    | {"RUNNEL_POSTGRES", "RUNNEL_POSTGRES_NO_MIGRATION", "RUNNEL_POSTGRES_CONNECTIONS", "RUNNEL_REDIS"},
}

# Metrics and labels, while crates/chassis/src/metrics.rs is not there.
METRICS = {
    "runnel_rpc_duration_seconds",
    "runnel_rpc_in_flight",
    "runnel_refusals_total",
    "runnel_ingest_events_total",
    "runnel_ingest_bytes_total",
    "runnel_commits_total",
    "runnel_commit_duration_seconds",
    "runnel_journal_backlog_bytes",
    "runnel_journal_backlog_age_seconds",
    "runnel_compaction_rounds_total",
    "runnel_compaction_bytes_total",
    "runnel_quarantined_rows_total",
    "runnel_journeys_resident_bytes",
    "runnel_journeys_loads_total",
    "runnel_edge_throttled_total",
    "runnel_edge_shed_total",
    "runnel_hot_circuit_open",
    "runnel_hot_errors_total",
    "runnel_hot_rebuilds_total",
    "runnel_build_info",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
}
LABELS = {"service", "method", "code", "reason", "verdict", "outcome", "limit", "version"}
# Values of labels that no source file has yet.
VALUES = {"OK", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS", "DEADLINE_EXCEEDED", "failed"}
