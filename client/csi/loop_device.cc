#include "client/csi/loop_device.h"

#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/csi/command.h"
#include "proto/base/status_macros.h"

namespace weir::csi {
namespace {

constexpr char kBlockDevices[] = "/sys/block";
// Between losetup -d and the end of a device that somebody has just closed.
constexpr absl::Duration kGoneMax = absl::Seconds(2);
constexpr absl::Duration kGonePause = absl::Milliseconds(20);

// Empty: it stands on nothing.
std::string BackingFile(const std::string& name) {
  std::ifstream file(absl::StrCat(kBlockDevices, "/", name, "/loop/backing_file"));
  std::string path;
  std::getline(file, path);
  return path;
}

}  // namespace

std::vector<std::string> LoopDevicesOn(const std::string& file) {
  std::vector<std::string> devices;
  std::error_code error;
  std::filesystem::directory_iterator end, at(kBlockDevices, error);
  for (; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (absl::StartsWith(name, "loop") && BackingFile(name) == file) devices.push_back("/dev/" + name);
  }
  return devices;
}

absl::StatusOr<std::string> MakeLoopDevice(const std::string& file, bool read_only, absl::Time deadline) {
  std::vector<std::string> losetup = {"losetup", "-f", "--show", "--direct-io=on", "--sector-size=4096"};
  if (read_only) losetup.push_back("-r");
  losetup.push_back(file);
  ASSIGN_OR_RETURN(const std::string said, RunOrFail(losetup, deadline));
  return std::string(absl::StripAsciiWhitespace(said));
}

absl::Status RemoveLoopDevice(const std::string& device, absl::Time deadline) {
  const std::string name = std::filesystem::path(device).filename().string();
  if (BackingFile(name).empty()) return absl::OkStatus();
  RETURN_IF_ERROR(RunOrFail({"losetup", "-d", device}, deadline).status());
  // It only promises to go once nobody has it open.
  const absl::Time until = absl::Now() + kGoneMax;
  while (!BackingFile(name).empty()) {
    if (absl::Now() > until) {
      return absl::FailedPreconditionError(absl::StrCat(device, " is in use: something is mounted from it or has it open"));
    }
    absl::SleepFor(kGonePause);
  }
  return absl::OkStatus();
}

}  // namespace weir::csi
