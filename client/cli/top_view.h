// What `weirctl top` shows, worked out of two looks at a cluster. Pure.
//
// Thread-safety: free functions and values, safe.
#ifndef WEIR_CLIENT_CLI_TOP_VIEW_H_
#define WEIR_CLIENT_CLI_TOP_VIEW_H_

#include <optional>
#include <string>
#include <vector>

#include "client/cli/metrics_text.h"
#include "weir/v1/volume.pb.h"

namespace weir::cli {

// All processes at one moment.
struct Look {
  struct Silent {
    std::string process, why;
  };
  std::vector<Scrape> scrapes;
  std::vector<v1::Volume> volumes;  // as each frontend that answered lists them: a volume may be there more than once
  std::vector<Silent> frontends;    // those whose gRPC did not answer
};

// Empty: not known, as what a second look has yet to tell.
using Figure = std::optional<double>;

// Figures a second are of the time between the two looks, and so are quantiles.
struct VolumeRow {
  std::string name;
  std::string frontend;  // the process that has it, or whose it was last; empty: none
  std::string state;
  Figure epoch;
  Figure reads, read_bytes;    // a second
  Figure writes, write_bytes;  // a second; bytes are data, so of writes and barriers, not of zeroes and discards
  Figure write_p50, write_p99; // seconds
  Figure flushes;              // a second
  Figure flush_p99;            // seconds
  Figure errors;               // requests a second that failed
  Figure inflight, queued;     // requests
  std::string held;            // "too_few_members:12": why, and how many; empty: none
  Figure durable_age;          // seconds
  Figure not_durable;          // bytes
};

// The flush worker of a volume.
struct FlushRow {
  std::string volume;
  Figure runs, merged, requeued, failed, hidden_errors;  // a second
  Figure run_p99;                                        // seconds
  Figure clones;                                         // flush domains that a run has asked, on average
};

struct TargetRow {
  std::string volume, replica;
  std::string state;   // in_sync, joining, out; from metrics alone in_sync or not_in_sync
  std::string health;  // as in `volume show`
  Figure answers;      // clones a second
  Figure p99;          // seconds, of clones of every kind
  Figure inflight;     // clones
  Figure reconnects;   // sessions but the first, since the attach
  Figure errors;       // a second, hidden ones too
};

// A replica that is brought back.
struct ResyncRow {
  std::string volume, replica;
  Figure left, copied;  // bytes
  Figure rate;          // bytes a second
  Figure seconds_left;
};

struct ReplicaRow {
  std::string name;
  std::string state;           // serving, full, failed
  Figure requests, bytes;      // a second
  Figure syncs;                // a second
  Figure sync_p99;             // seconds
  Figure stalls;               // times a second that RocksDB began to slow or stop writes
  Figure available, capacity;  // bytes, of all data directories
};

struct TopView {
  absl::Duration interval;  // between the looks; 0: there was but one
  std::vector<VolumeRow> volumes;  // by load, and so are the targets
  std::vector<FlushRow> flushes;   // of attached volumes
  std::vector<TargetRow> targets;
  std::vector<ResyncRow> resyncs;
  std::vector<ReplicaRow> replicas;
  std::vector<Look::Silent> silent;
};

// `before` null: the first look; else of the same processes, in the same order. `only` not empty: that volume, and its replicas.
TopView MakeTopView(const Look* before, const Look& now, const std::string& only);

}  // namespace weir::cli

#endif  // WEIR_CLIENT_CLI_TOP_VIEW_H_
