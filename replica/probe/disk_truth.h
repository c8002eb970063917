// What is known of the disk below a directory, and what that is worth.
//
// A lie that takes as long as the truth cannot be seen from here: only a power cut shows it. What can be seen is what
// a device says of itself, what lies between it and us, and times that no device of its kind can have.
//
// Thread-safety: values and a pure function.
#ifndef WEIR_REPLICA_PROBE_DISK_TRUTH_H_
#define WEIR_REPLICA_PROBE_DISK_TRUTH_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace weir::probe {

struct Mount {
  std::string type;                  // of the file system, such as ext4
  std::string source;                // the device, or whatever it calls itself
  std::vector<std::string> options;  // of the mount and of the file system
};

// A whole block device; what a partition is on.
struct DiskLayer {
  std::string device;              // the kernel's name, such as nvme0n1
  std::string model;               // empty: it has none
  std::string backing_file;        // of a loop device
  std::optional<bool> write_back;  // claims a volatile cache; unset: does not say
  bool fua = false;
  bool rotational = false;         // virtual disks often say so by default
  bool lowest = true;              // nothing is known below it
  std::optional<size_t> above;     // the index of the layer that stands on it
};

// Medians and so on over `rounds` writes of 4 KiB each.
struct SyncTimes {
  uint32_t rounds = 0;             // 0: not measured
  absl::Duration sync_median;      // write and fdatasync together
  absl::Duration sync_p99;
  absl::Duration sync_max;
  absl::Duration direct_median;    // past the page cache, without a sync; 0: the file system cannot
  absl::Duration cached_median;    // into the page cache
};

struct DiskFacts {
  std::vector<Mount> mounts;      // the directory's, then those of the files of loop devices
  std::vector<DiskLayer> layers;  // from the top
  std::string unseen;             // why there are no layers, or not all of them; empty: all were seen
  SyncTimes times;
  std::string unmeasured;         // why there are no times
  bool io_failed = false;         // since a write or a sync failed
};

// From good to bad; the worst one counts.
enum class Verdict { kDurable, kUnknown, kSuspicious, kNotDurable };

struct DiskTruth {
  Verdict verdict = Verdict::kUnknown;
  std::vector<std::string> reasons;    // for people; the first one is why it is this verdict
  std::optional<bool> volatile_cache;  // a lowest device claims one; unset: none was to be seen
  DiskFacts facts;
};

DiskTruth Judge(DiskFacts facts);

// "durable", "unknown", "suspicious", "not_durable".
const char* VerdictName(Verdict verdict);

// "12us", "1.25ms": four digits at most.
std::string ShortDuration(absl::Duration duration);

}  // namespace weir::probe

#endif  // WEIR_REPLICA_PROBE_DISK_TRUTH_H_
