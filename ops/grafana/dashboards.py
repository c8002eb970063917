#!/usr/bin/python3
"""Writes dashboards/*.json for Grafana 9 and later: what each shows stands here, once.

Usage: ops/grafana/dashboards.py [--help]; after a change of this file. prometheus_test says if the
JSON is not what this makes, and asks a real Prometheus every query.
"""

import json
import os
import sys

FOLDER = os.path.join(os.path.dirname(os.path.realpath(__file__)), "dashboards")
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 8, 8  # of a panel; Grafana's grid is 24 wide


def panel(title, unit, *queries, about="", kind="timeseries"):
    """`queries`: (PromQL, legend). `unit`: Grafana's name of it."""
    return {
        "title": title, "type": kind, "description": about, "datasource": DATASOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [{"refId": chr(ord("A") + i), "datasource": DATASOURCE, "expr": expr, "legendFormat": legend}
                    for i, (expr, legend) in enumerate(queries)],
    }


def number(title, unit, query, about=""):
    return panel(title, unit, (query, ""), about=about, kind="stat")


def quantiles(metric, by, legend, selector=""):
    """Median and 99th percentile of a histogram."""
    return [(f"histogram_quantile({q}, sum by ({by}, le) (rate({metric}_bucket{{{selector}}}[5m])))", f"{legend} {name}")
            for q, name in ((0.5, "median"), (0.99, "p99"))]


def variable(name, query):
    return {"name": name, "type": "query", "datasource": DATASOURCE, "query": query, "refresh": 2,
            "includeAll": True, "multi": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}}


def dashboard(uid, title, panels, *variables):
    for i, one in enumerate(panels):
        one["id"] = i + 1
        one["gridPos"] = {"w": WIDTH, "h": HEIGHT, "x": i % 3 * WIDTH, "y": i // 3 * HEIGHT}
    source = {"name": "datasource", "type": "datasource", "query": "prometheus"}
    return {
        "uid": uid, "title": title, "tags": ["weir"], "schemaVersion": 37, "version": 1, "editable": False,
        "refresh": "15s", "time": {"from": "now-1h", "to": "now"}, "timezone": "browser",
        "templating": {"list": [source, *variables]}, "panels": panels,
        "links": [{"type": "dashboards", "tags": ["weir"], "title": "Weir", "asDropdown": True}],
    }


V = 'volume=~"$volume"'
R = 'instance=~"$instance"'

OVERVIEW = [
    number("Volumes", "short", "count(weir_volume_epoch)"),
    number("Volumes that hold I/O", "short", "sum(weir_volume_held)", "Fewer than min_in_sync replicas are in sync."),
    number("Members missing", "short", "count(weir_volume_target_in_sync) - sum(weir_volume_target_in_sync)"),
    number("Processes down", "short", 'count(up{job=~"weir-.*"} == 0) or vector(0)'),
    number("Stores that have failed", "short", "sum(weir_replica_store_failed)"),
    number("Alerts that fire", "short", 'count(ALERTS{alertstate="firing",alertname=~"Weir.*"}) or vector(0)'),
    panel("Requests", "ops", ("sum by (volume) (weir:volume_requests:rate5m)", "{{volume}}")),
    panel("Data", "Bps", ("sum by (volume) (weir:volume_request_bytes:rate5m)", "{{volume}}")),
    panel("Slowest of 100 writes", "s", ('weir:volume_request_seconds:p99_5m{kind="write"}', "{{volume}}")),
    panel("Slowest of 100 flushes", "s", ('weir:volume_request_seconds:p99_5m{kind="flush"}', "{{volume}}")),
    panel("Members by state", "short", ("sum by (state) (weir_volume_target_state)", "{{state}}"),
          about="away: in sync and without a session; failed: in sync and may not leave."),
    panel("Catalog answers", "short", ("weir_volume_catalog_up", "{{instance}}")),
    panel("Free space", "percentunit", ("weir:replica_data_dir_available:ratio", "{{instance}} {{dir}}")),
    panel("Age of the durable point", "s", ("weir_volume_durable_point_age_seconds", "{{volume}}"),
          about="Everything that was answered before is on stable storage of every member."),
    panel("CPU", "short", ('rate(process_cpu_seconds_total{job=~"weir-.*"}[5m])', "{{job}} {{instance}}"), about="Cores in use."),
    panel("Memory", "bytes", ('process_resident_memory_bytes{job=~"weir-.*"}', "{{job}} {{instance}}")),
    panel("Versions", "short", ("count by (component, version) (weir_build_info)", "{{component}} {{version}}")),
    panel("CSI: calls", "ops", ("sum by (method) (rate(weir_csi_calls_total[5m]))", "{{method}}"), about="No data without CSI drivers."),
    panel("CSI: errors", "ops", ('sum by (method, code) (rate(weir_csi_calls_total{code!="OK"}[5m])) or vector(0)', "{{method}} {{code}}")),
    panel("CSI: latency", "s", *quantiles("weir_csi_call_duration_seconds", "method", "{{method}}")),
    panel("CSI: calls under way", "short", ("weir_csi_running_calls", "{{instance}}"), about="Not answered yet."),
]

VOLUME = [
    panel("State", "short", (f"weir_volume_state{{{V}}} == 1", "{{volume}} {{state}}")),
    panel("Members, by state", "short", (f"weir_volume_target_state{{{V}}} == 1", "{{volume}} {{replica}} {{state}}")),
    panel("Epoch", "short", (f"weir_volume_epoch{{{V}}}", "{{volume}}"), about="Raised by each attach."),
    panel("Requests", "ops", (f"weir:volume_requests:rate5m{{{V}}}", "{{volume}} {{kind}}")),
    panel("Data", "Bps", (f"weir:volume_request_bytes:rate5m{{{V}}}", "{{volume}} {{kind}}")),
    panel("Latency", "s", *quantiles("weir_volume_request_duration_seconds", "volume, kind", "{{volume}} {{kind}}", V)),
    panel("In flight, queued, held", "short", (f"weir_volume_inflight_requests{{{V}}}", "{{volume}} in flight"),
          (f"weir_volume_queued_requests{{{V}}}", "{{volume}} queued"), (f"weir_volume_held{{{V}}}", "{{volume}} held")),
    panel("Held, by what they wait for", "short", (f"sum by (volume, reason) (weir_volume_held_requests{{{V}}})", "{{volume}} {{reason}}")),
    panel("Age of the durable point", "s", (f"weir_volume_durable_point_age_seconds{{{V}}}", "{{volume}}"),
          about="Everything that was answered before is on stable storage of every member; 0: all is."),
    panel("Not durable yet", "bytes", (f"weir_volume_not_durable_bytes{{{V}}}", "{{volume}}")),
    panel("Barriers, by phase", "s", *quantiles("weir_volume_barrier_duration_seconds", "volume, phase", "{{volume}} {{phase}}", V)),
    panel("Suspends", "s", *quantiles("weir_volume_suspend_duration_seconds", "volume, phase", "{{volume}} {{phase}}", V)),
    panel("Errors", "ops", (f"sum by (volume, kind, errno) (rate(weir_volume_request_errors_total{{{V}}}[5m])) or vector(0)",
                            "{{volume}} {{kind}} {{errno}}")),
    panel("Replay buffer", "bytes", (f"weir_volume_replay_bytes{{{V}}}", "{{volume}}"),
          about="Kept until every member has synced it, to refill one that comes back."),
    panel("A replica's answer, 99 of 100", "s", (f"weir_volume_target_answer_p99_seconds{{{V}}}", "{{volume}} {{replica}}")),
    panel("Resync: left", "bytes", (f"weir_volume_join_left_bytes{{{V}}}", "{{volume}} {{replica}}")),
    panel("Resync: speed", "Bps", (f"weir_volume_join_bytes_per_second{{{V}}}", "{{volume}} {{replica}}")),
    panel("Resync: time left", "s", (f"weir_volume_join_left_seconds{{{V}}}", "{{volume}} {{replica}}")),
    panel("Sessions lost", "short", (f"increase(weir_volume_sessions_lost_total{{{V}}}[15m])", "{{volume}} {{replica}}")),
    panel("Damaged blocks", "short", (f"weir_volume_target_damaged_blocks{{{V}}}", "{{volume}} {{replica}} not repaired"),
          (f"weir_volume_target_repaired_blocks{{{V}}}", "{{volume}} {{replica}} repaired")),
    panel("Scrub", "percentunit", (f"weir_volume_scrub_done_ratio{{{V}}}", "{{volume}}"), about="Share of the volume that this scrub, or the last one, has compared."),
    panel("Scrub: bad blocks", "short", (f"weir_volume_scrub_bad_blocks{{{V}}}", "{{volume}} found"),
          (f"weir_volume_scrub_left_blocks{{{V}}}", "{{volume}} not repaired")),
    panel("A replica's part, by stage", "s",
          *quantiles("weir_volume_target_rpc_duration_seconds", "volume, replica, stage", "{{volume}} {{replica}} {{stage}}", V),
          about="send: until gRPC has the frame; store: as the replica says it; wire: the rest."),
    panel("Replicas at work", "percentunit",
          (f"rate(weir_volume_target_busy_seconds_total{{{V}}}[5m])", "{{volume}} {{replica}}"),
          about="Share of the time in which a replica has something to answer."),
    panel("Behind", "s", (f"weir_volume_target_lag_seconds{{{V}}}", "{{volume}} {{replica}}"),
          about="How long ago a replica that is out, or is brought back, had all that was answered."),
    panel("Slow members", "short", (f"weir_volume_target_slow{{{V}}}", "{{volume}} {{replica}}")),
]

REPLICA = [
    panel("Requests", "ops", (f"sum by (instance, op) (rate(weir_replica_requests_total{{{R}}}[5m]))", "{{instance}} {{op}}")),
    panel("Data", "Bps", (f"sum by (instance, op) (rate(weir_replica_bytes_total{{{R}}}[5m]))", "{{instance}} {{op}}")),
    panel("Latency", "s", *quantiles("weir_replica_request_seconds", "instance, op", "{{instance}} {{op}}", R)),
    panel("Sync", "s", *quantiles("weir_replica_sync_seconds", "instance", "{{instance}}", R)),
    panel("Steps of the store", "s", *quantiles("weir_replica_store_step_seconds", "instance, step", "{{instance}} {{step}}", R)),
    panel("RocksDB: stalls", "short", (f"increase(weir_replica_rocksdb_slowdowns_total{{{R}}}[15m])", "{{instance}} {{domain}} slowed down"),
          (f"increase(weir_replica_rocksdb_stops_total{{{R}}}[15m])", "{{instance}} {{domain}} stopped"),
          (f"weir_replica_rocksdb_write_stopped{{{R}}}", "{{instance}} {{domain}} stopped now")),
    panel("RocksDB: compaction pending", "bytes", (f"weir_replica_rocksdb_compaction_pending_bytes{{{R}}}", "{{instance}} {{domain}}")),
    panel("RocksDB: compactions write", "Bps", (f"rate(weir_replica_rocksdb_compaction_written_bytes_total{{{R}}}[5m])", "{{instance}} {{domain}}")),
    panel("RocksDB: files", "bytes", (f"weir_replica_rocksdb_wal_bytes{{{R}}}", "{{instance}} {{domain}} WAL"),
          (f"weir_replica_rocksdb_table_bytes{{{R}}}", "{{instance}} {{domain}} tables"),
          (f"weir_replica_rocksdb_blob_bytes{{{R}}}", "{{instance}} {{domain}} blobs"),
          (f"weir_replica_rocksdb_blob_garbage_bytes{{{R}}}", "{{instance}} {{domain}} garbage in blobs")),
    panel("RocksDB: memory", "bytes", (f"weir_replica_rocksdb_memtable_bytes{{{R}}}", "{{instance}} {{domain}} memtables"),
          (f"weir_replica_rocksdb_block_cache_bytes{{{R}}}", "{{instance}} {{domain}} cache")),
    panel("Applied and not durable", "short",
          (f"sum by (instance, volume) (weir_replica_lane_applied_writes{{{R}}} - weir_replica_lane_durable_writes{{{R}}})",
           "{{instance}} {{volume}}"), about="Writes that a power cut would take from this replica."),
    panel("Streams", "short", (f"weir_replica_streams{{{R}}}", "{{instance}}")),
    panel("Free space", "bytes", (f"weir_replica_data_dir_available_bytes{{{R}}}", "{{instance}} {{dir}}")),
    panel("Volumes: live", "bytes", (f"weir_replica_volume_live_bytes{{{R}}}", "{{instance}} {{volume}}")),
    panel("Volumes: pinned, reclaimable", "bytes", (f"weir_replica_volume_pinned_bytes{{{R}}}", "{{instance}} {{volume}} pinned"),
          (f"weir_replica_volume_reclaimable_bytes{{{R}}}", "{{instance}} {{volume}} reclaimable")),
    panel("Copied in by joins", "Bps", (f"rate(weir_replica_copied_in_bytes_total{{{R}}}[5m])", "{{instance}}")),
    panel("Failed, full", "short", (f"weir_replica_store_failed{{{R}}}", "{{instance}} failed"),
          (f"weir_replica_space_exhausted{{{R}}}", "{{instance}} full")),
    panel("Malformed streams, injected faults", "short",
          (f"increase(weir_replica_malformed_streams_total{{{R}}}[15m])", "{{instance}} malformed"),
          (f"sum by (instance) (increase(weir_replica_injected_faults_total{{{R}}}[15m])) or vector(0)", "{{instance}} injected")),
]

F = V + ',kind="flush"'
FLUSH = [
    panel("Flushes", "ops", (f"sum by (volume) (rate(weir_volume_requests_total{{{F}}}[5m]))", "{{volume}}")),
    panel("Latency", "s", *quantiles("weir_volume_request_duration_seconds", "volume", "{{volume}}", F)),
    panel("Failed", "ops", (f"sum by (volume, errno) (rate(weir_volume_request_errors_total{{{F}}}[5m])) or vector(0)",
                            "{{volume}} {{errno}}"), about="What clients were told, by precedence."),
    panel("A replica's part", "s", *quantiles("weir_volume_clone_duration_seconds", "volume, replica", "{{volume}} {{replica}}", F)),
    panel("Runs", "ops", (f"sum by (volume, purpose, result) (rate(weir_volume_flush_runs_total{{{V}}}[5m]))",
                          "{{volume}} {{purpose}} {{result}}"), about="By what asked for them and what the answers were folded to."),
    panel("How long runs take", "s", *quantiles("weir_volume_flush_run_duration_seconds", "volume, purpose", "{{volume}} {{purpose}}", V)),
    panel("Fan-out", "short",
          (f"sum by (volume) (rate(weir_volume_flush_fan_out_clones_sum{{{V}}}[5m])) / "
           f"sum by (volume) (rate(weir_volume_flush_fan_out_clones_count{{{V}}}[5m]))", "{{volume}}"),
          about="Flush domains that a run asks."),
    panel("Merged, requeued", "ops", (f"rate(weir_volume_flushes_merged_total{{{V}}}[5m])", "{{volume}} merged"),
          (f"rate(weir_volume_flushes_requeued_total{{{V}}}[5m])", "{{volume}} requeued")),
    panel("Errors hidden by precedence", "ops", (f"rate(weir_volume_target_hidden_errors_total{{{V}}}[5m])", "{{volume}} {{replica}}")),
    panel("Age of the durable point", "s", (f"weir_volume_durable_point_age_seconds{{{V}}}", "{{volume}}")),
    panel("Errors of replicas", "ops", (f"sum by (volume, replica, errno) (rate(weir_volume_target_errors_total{{{V}}}[5m])) or vector(0)",
                                        "{{volume}} {{replica}} {{errno}}"), about="Also those that precedence hid from clients."),
    panel("Requeued", "ops", (f"sum by (volume, replica) (rate(weir_volume_requeues_total{{{V}}}[5m]))", "{{volume}} {{replica}}")),
    panel("Sync of a flush domain", "s", *quantiles("weir_replica_sync_seconds", "instance, domain", "{{instance}} {{domain}}")),
    panel("Applied and not durable", "short",
          ("sum by (instance, volume) (weir_replica_lane_applied_writes - weir_replica_lane_durable_writes)", "{{instance}} {{volume}}")),
    panel("Flush supported", "short", (f"weir_volume_flush_supported{{{V}}}", "{{volume}}")),
]

DASHBOARDS = {
    "overview": dashboard("weir-overview", "Weir: overview", OVERVIEW),
    "volume": dashboard("weir-volume", "Weir: a volume", VOLUME, variable("volume", "label_values(weir_volume_epoch, volume)")),
    "replica": dashboard("weir-replica", "Weir: a replica", REPLICA,
                         variable("instance", "label_values(weir_replica_streams, instance)")),
    "flush": dashboard("weir-flush", "Weir: flushes", FLUSH, variable("volume", "label_values(weir_volume_epoch, volume)")),
}


def text_of(name):
    return json.dumps(DASHBOARDS[name], indent=1, sort_keys=True) + "\n"


def main():
    if sys.argv[1:]:
        print(__doc__)
        sys.exit(0 if sys.argv[1:] == ["--help"] else 2)
    for name in DASHBOARDS:
        with open(os.path.join(FOLDER, f"{name}.json"), "w") as f:
            f.write(text_of(name))


if __name__ == "__main__":
    main()
