#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "replica/probe/disk_truth.h"

namespace weir::probe {
namespace {

// A command to any device, and its completion, cross a bus and an interrupt: the fastest NVMe drives, Optane's, want
// 6 to 10 us for a write. A sync that takes less has sent nothing.
constexpr absl::Duration kFastestCommand = absl::Microseconds(5);

// What is on flash was programmed, at the latest by the flush. The fastest kind there is (SLC made for latency, as in
// XL-FLASH and Z-NAND) takes 75 to 100 us for a page, usual ones 200 to 700 us.
constexpr absl::Duration kFastestFlash = absl::Microseconds(50);

// No disk turns faster than 15,000 times a minute, 4 ms each. A block that is written after the one before it was synced has just
// passed under the head, so half of them cannot take less than a quarter of a turn.
constexpr absl::Duration kQuarterTurn = absl::Milliseconds(1);

// A sync writes what a bare write writes, and then flushes. Half, since the two are measured in turns on a machine that does other
// things too.
constexpr int kSyncOverDirectMin = 2;

bool IsOneOf(absl::string_view word, std::initializer_list<absl::string_view> words) {
  return absl::c_linear_search(words, word);
}

bool InMemory(const Mount& mount) {
  return IsOneOf(mount.type, {"tmpfs", "ramfs", "devtmpfs", "rootfs", "hugetlbfs"});
}

bool OnNetwork(const Mount& mount) {
  return IsOneOf(mount.type, {"nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "virtiofs", "afs", "lustre", "gfs2", "ocfs2"});
}

bool IsFuse(const Mount& mount) { return absl::StartsWith(mount.type, "fuse"); }

bool HasOption(const Mount& mount, std::initializer_list<absl::string_view> options) {
  return absl::c_any_of(mount.options, [&](const std::string& option) { return IsOneOf(option, options); });
}

// Such as ram0 and zram0: not so "ramdisk".
bool Numbered(absl::string_view device, absl::string_view driver) {
  return absl::StartsWith(device, driver) && device.size() > driver.size() &&
         absl::ascii_isdigit(device[driver.size()]);
}

bool IsVirtual(const DiskLayer& layer) {
  const std::string model = absl::AsciiStrToLower(layer.model);
  return absl::StartsWith(layer.device, "vd") || absl::StartsWith(layer.device, "xvd") ||
         absl::c_any_of(std::array{"qemu", "vbox", "virtual", "vmware"},
                        [&](const char* word) { return absl::StrContains(model, word); });
}

bool IsPersistentMemory(const DiskLayer& layer) { return absl::StartsWith(layer.device, "pmem"); }

std::string NameOf(const DiskLayer& layer) {
  return layer.model.empty() ? layer.device : absl::StrCat(layer.device, " (", layer.model, ")");
}

// Collects reasons, each with the verdict that it alone would give.
class Judgement {
 public:
  explicit Judgement(const DiskFacts& facts) : facts_(facts) {
    std::vector<std::string> caching;
    for (const DiskLayer& layer : facts.layers) {
      if (!layer.lowest) continue;
      lowest_.push_back(&layer);
      if (!layer.write_back.has_value()) continue;
      volatile_cache_ = volatile_cache_.value_or(false) || *layer.write_back;
      if (*layer.write_back) caching.push_back(NameOf(layer));
    }
    caching_ = absl::StrJoin(caching, ", ");
    memory_ = absl::c_any_of(facts.mounts, InMemory);
    elsewhere_ = absl::c_any_of(facts.mounts, [](const Mount& m) { return OnNetwork(m) || IsFuse(m); });
  }

  void LookAtMounts();
  void LookAtLayers();
  void LookAtTimes();
  DiskTruth Result(DiskFacts facts);

 private:
  void Say(Verdict verdict, std::string reason) { reasons_.emplace_back(verdict, std::move(reason)); }
  void LookAtMount(const Mount& mount);
  // Why the times cannot be; empty: they can.
  std::string Impossible() const;
  bool IsSpinning() const;
  bool HasVirtual() const;

  const DiskFacts& facts_;
  std::vector<const DiskLayer*> lowest_;
  std::optional<bool> volatile_cache_;
  std::string caching_;  // the devices that claim a volatile cache
  bool memory_ = false;
  bool elsewhere_ = false;  // a server or a program answers for it
  std::vector<std::pair<Verdict, std::string>> reasons_;
};

void Judgement::LookAtMount(const Mount& mount) {
  if (InMemory(mount)) {
    Say(Verdict::kNotDurable, absl::StrCat(mount.type, " keeps its files in memory"));
  } else if (mount.type == "overlay" && HasOption(mount, {"volatile"})) {
    Say(Verdict::kNotDurable, "overlay is mounted 'volatile', so that syncs do nothing");
  } else if (mount.type == "overlay") {
    Say(Verdict::kNotDurable, "overlay is a container's own layer, which is deleted with it; mount a disk there");
  } else if (OnNetwork(mount)) {
    Say(Verdict::kUnknown, absl::StrCat(mount.type, ": its server decides what a sync does, which cannot be seen from here"));
  } else if (IsFuse(mount)) {
    Say(Verdict::kUnknown, absl::StrCat(mount.type, ": a program decides what a sync does, which cannot be seen from here"));
  }
  if (HasOption(mount, {"nobarrier", "barrier=0"}) && volatile_cache_.value_or(true)) {
    Say(Verdict::kNotDurable, absl::StrCat(mount.type, " on ", mount.source,
                                           " is mounted without barriers, so that it never flushes the device's cache"));
  }
}

void Judgement::LookAtMounts() {
  for (const Mount& mount : facts_.mounts) LookAtMount(mount);
  if (!facts_.unseen.empty() && !memory_ && !elsewhere_) Say(Verdict::kUnknown, facts_.unseen);
}

void Judgement::LookAtLayers() {
  for (const DiskLayer& layer : facts_.layers) {
    if (Numbered(layer.device, "ram") || Numbered(layer.device, "zram") || Numbered(layer.device, "nullb")) {
      Say(Verdict::kNotDurable, absl::StrCat(layer.device, " is memory"));
      memory_ = true;
    }
    if (layer.lowest && !layer.write_back.has_value()) {
      Say(Verdict::kUnknown, absl::StrCat(NameOf(layer), " does not say whether it has a volatile cache"));
    }
    if (!layer.above.has_value()) continue;
    const DiskLayer& above = facts_.layers[*layer.above];
    if (layer.write_back.value_or(false) && !above.write_back.value_or(true)) {
      Say(Verdict::kSuspicious, absl::StrCat(NameOf(layer), " claims a volatile cache and ", NameOf(above),
                                             " above it none, so that flushes are not passed on"));
    }
  }
}

bool Judgement::IsSpinning() const {
  return !lowest_.empty() && absl::c_all_of(lowest_, [](const DiskLayer* l) { return l->rotational && !IsVirtual(*l); });
}

bool Judgement::HasVirtual() const {
  return absl::c_any_of(lowest_, [](const DiskLayer* l) { return IsVirtual(*l); });
}

std::string Judgement::Impossible() const {
  const SyncTimes& times = facts_.times;
  if (absl::c_any_of(lowest_, [](const DiskLayer* l) { return IsPersistentMemory(*l); })) return "";
  const std::string takes = absl::StrCat("a sync takes ", ShortDuration(times.sync_median));
  if (times.sync_median < kFastestCommand) {
    return absl::StrCat(takes, ", less than a command to any device (", ShortDuration(kFastestCommand),
                        "): syncs do not reach it");
  }
  if (times.sync_median * kSyncOverDirectMin < times.direct_median) {
    return absl::StrCat(takes, ", a bare write to the device ", ShortDuration(times.direct_median),
                        ": the sync cannot have written it");
  }
  if (!volatile_cache_.value_or(false)) return "";
  if (IsSpinning() && times.sync_median < kQuarterTurn) {
    return absl::StrCat(caching_, " claims a volatile cache and to spin, yet ", takes,
                        ", less than a quarter of the fastest turn (", ShortDuration(kQuarterTurn),
                        "): flushes are ignored, or a cache with a battery is not declared");
  }
  // Neither the bare write nor the flush after it.
  if (std::max(times.direct_median, times.sync_median - times.direct_median) < kFastestFlash) {
    return absl::StrCat(caching_, " claims a volatile cache, yet ", takes, " and a bare write ",
                        ShortDuration(times.direct_median), ": neither leaves the time to program flash (",
                        ShortDuration(kFastestFlash),
                        "), so that flushes are ignored, or power-loss protection is not declared");
  }
  return "";
}

void Judgement::LookAtTimes() {
  const SyncTimes& times = facts_.times;
  if (times.rounds == 0) {
    Say(facts_.io_failed ? Verdict::kSuspicious : Verdict::kUnknown,
        absl::StrCat("it could not be measured: ", facts_.unmeasured));
    return;
  }
  // Of what is memory anyway times say nothing, and whoever answers elsewhere may be as fast as it likes.
  const std::string impossible = memory_ || elsewhere_ ? "" : Impossible();
  if (!impossible.empty()) {
    Say(Verdict::kSuspicious, impossible);
    return;
  }
  const std::string takes = absl::StrCat("a sync takes ", ShortDuration(times.sync_median), ", at most ",
                                         ShortDuration(times.sync_max));
  const std::string bare = times.direct_median > absl::ZeroDuration()
                               ? absl::StrCat("; a bare write ", ShortDuration(times.direct_median))
                               : "";
  const std::string devices = lowest_.empty() ? ""
                              : volatile_cache_.value_or(false)
                                  ? absl::StrCat(caching_, " claims a volatile cache, which its times do not contradict: ")
                              : volatile_cache_.has_value()
                                  ? absl::StrCat(NameOf(*lowest_[0]), " says that it has no volatile cache: ")
                                  : "";
  Say(Verdict::kDurable, absl::StrCat(memory_ ? "" : devices, takes, bare));
}

DiskTruth Judgement::Result(DiskFacts facts) {
  if (HasVirtual() && !memory_) {
    Say(Verdict::kDurable, "it is a virtual disk: the host of this machine decides what a flush means");
  }
  absl::c_stable_sort(reasons_, [](const auto& a, const auto& b) { return a.first > b.first; });
  DiskTruth truth;
  truth.verdict = reasons_.front().first;  // the times are always spoken of
  std::set<std::string> said;
  for (auto& [verdict, reason] : reasons_) {
    if (said.insert(reason).second) truth.reasons.push_back(std::move(reason));
  }
  truth.volatile_cache = volatile_cache_;
  truth.facts = std::move(facts);
  return truth;
}

}  // namespace

DiskTruth Judge(DiskFacts facts) {
  Judgement judgement(facts);
  judgement.LookAtMounts();
  judgement.LookAtLayers();
  judgement.LookAtTimes();
  return judgement.Result(facts);
}

const char* VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kDurable:
      return "durable";
    case Verdict::kUnknown:
      return "unknown";
    case Verdict::kSuspicious:
      return "suspicious";
    case Verdict::kNotDurable:
      return "not_durable";
  }
  return "unknown";
}

std::string ShortDuration(absl::Duration duration) {
  absl::Duration unit = absl::Nanoseconds(1);
  while (duration >= 1000 * unit) unit *= 10;
  return absl::FormatDuration(absl::Trunc(duration, unit));
}

}  // namespace weir::probe
