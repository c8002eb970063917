#include "replica/probe/layers.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace weir::probe {
namespace {

namespace fs = std::filesystem;

// Nobody stacks devices so high; a tree that does is damaged.
constexpr size_t kLayersMax = 32;

// Its one line, or nothing.
std::optional<std::string> ReadLine(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  absl::StripAsciiWhitespace(&line);
  return line;
}

struct FoundMount {
  Mount mount;
  std::string number;  // "254:0"; major 0: the kernel made it up
  std::string point;
};

// A line of mountinfo, see proc(5): 36 35 98:0 /root /point options [optional fields] - type source options.
std::optional<FoundMount> ParseMount(const std::string& line) {
  const std::vector<std::string> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
  if (halves.size() != 2) return std::nullopt;
  const std::vector<std::string> before = absl::StrSplit(halves[0], ' ');
  const std::vector<std::string> after = absl::StrSplit(halves[1], ' ');
  if (before.size() < 6 || after.size() < 2) return std::nullopt;
  FoundMount found;
  found.number = before[2];
  found.point = absl::StrReplaceAll(before[4], {{"\\040", " "}, {"\\011", "\t"}, {"\\012", "\n"}, {"\\134", "\\"}});
  found.mount.type = after[0];
  found.mount.source = after[1];
  found.mount.options = absl::StrSplit(absl::StrCat(before[5], after.size() > 2 ? "," + after[2] : ""), ',');
  return found;
}

bool IsBelow(absl::string_view path, absl::string_view point) {
  if (point == "/") return true;
  return absl::ConsumePrefix(&path, point) && (path.empty() || path[0] == '/');
}

class Layers {
 public:
  explicit Layers(std::string root) : root_(std::move(root)) {}

  void AddPath(const std::string& path, std::optional<size_t> above);
  DiskFacts Take() { return std::move(facts_); }

 private:
  std::optional<FoundMount> MountOf(const std::string& path) const;
  // Of a file system that stands on one device and has a number that the kernel made up: btrfs.
  std::string NumberOfSource(const std::string& source) const;
  void AddDevice(const std::string& number, std::optional<size_t> above);
  void Unseen(std::string why) {
    if (facts_.unseen.empty()) facts_.unseen = std::move(why);
  }

  const std::string root_;
  DiskFacts facts_;
};

std::optional<FoundMount> Layers::MountOf(const std::string& path) const {
  std::ifstream file(root_ + "/proc/self/mountinfo");
  std::optional<FoundMount> best;
  for (std::string line; std::getline(file, line);) {
    std::optional<FoundMount> found = ParseMount(line);
    if (!found.has_value() || !IsBelow(path, found->point)) continue;
    // Of two on the same point the later one hides the other.
    if (!best.has_value() || found->point.size() >= best->point.size()) best = std::move(found);
  }
  return best;
}

std::string Layers::NumberOfSource(const std::string& source) const {
  if (!absl::StartsWith(source, "/dev/")) return "";
  std::error_code error;
  const fs::path device = fs::canonical(root_ + source, error);
  const std::string name = error ? fs::path(source).filename() : device.filename();
  return ReadLine(root_ + "/sys/class/block/" + name + "/dev").value_or("");
}

void Layers::AddPath(const std::string& path, std::optional<size_t> above) {
  const std::optional<FoundMount> found = MountOf(path);
  if (!found.has_value()) return Unseen(absl::StrCat("no mount of ", path, " is listed in /proc/self/mountinfo"));
  facts_.mounts.push_back(found->mount);
  std::string number = found->number;
  if (absl::StartsWith(number, "0:")) number = NumberOfSource(found->mount.source);
  if (number.empty()) {
    return Unseen(absl::StrCat("no device is to be seen below ", found->mount.type, " on ", found->point));
  }
  AddDevice(number, above);
}

void Layers::AddDevice(const std::string& number, std::optional<size_t> above) {
  if (facts_.layers.size() >= kLayersMax) return Unseen("there are too many block devices on each other");
  std::error_code error;
  fs::path device = fs::canonical(root_ + "/sys/dev/block/" + number, error);
  if (error) return Unseen(absl::StrCat("device ", number, " is not to be seen in /sys"));
  if (fs::exists(device / "partition", error)) device = device.parent_path();
  DiskLayer layer;
  layer.device = device.filename();
  layer.above = above;
  layer.model = ReadLine(device / "device/model").value_or("");
  if (const auto cache = ReadLine(device / "queue/write_cache"); cache.has_value()) {
    layer.write_back = *cache == "write back";
  }
  layer.fua = ReadLine(device / "queue/fua") == "1";
  layer.rotational = ReadLine(device / "queue/rotational") == "1";
  layer.backing_file = ReadLine(device / "loop/backing_file").value_or("");
  std::vector<fs::path> below;
  for (fs::directory_iterator at(device / "slaves", error), end; !error && at != end; at.increment(error)) {
    below.push_back(at->path());
  }
  std::sort(below.begin(), below.end());
  layer.lowest = below.empty() && layer.backing_file.empty();
  const size_t index = facts_.layers.size();
  facts_.layers.push_back(layer);
  for (const fs::path& one : below) {
    const std::optional<std::string> lower = ReadLine(one / "dev");
    lower.has_value() ? AddDevice(*lower, index) : Unseen(absl::StrCat("what ", layer.device, " stands on is not to be seen"));
  }
  if (!layer.backing_file.empty()) AddPath(layer.backing_file, index);
}

}  // namespace

DiskFacts LayersBelow(const std::string& path, const std::string& root) {
  Layers layers(root);
  layers.AddPath(path, std::nullopt);
  return layers.Take();
}

}  // namespace weir::probe
