// weir-fuse: one volume as a file, MOUNT_POINT/volume. See --help.
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "client/fuse/background.h"
#include "client/fuse/device_program.h"
#include "client/fuse/file_system.h"
#include "proto/base/log.h"
#include "proto/wire/reload_thread.h"

ABSL_FLAG(std::string, source, "", "What the mount table shows as the device; empty: weir:VOLUME.");

namespace weir::fuse {
namespace {

constexpr char kName[] = "weir-fuse";
constexpr char kUsage[] =
    "shows a volume as the file MOUNT_POINT/volume, until that is unmounted.\n\n"
    "  weir-fuse --frontend=127.0.0.1:7700 --volume=demo MOUNT_POINT &\n"
    "  losetup -f --show --direct-io=on --sector-size=4096 MOUNT_POINT/volume\n\n"
    "Requests are multiples of 4096 bytes. When the volume has grown, stat MOUNT_POINT/volume, then losetup -c.\n"
    "SIGHUP has it look at its certificate and at the log's flags in --config anew.\n"
    "Exit codes: 0 it was unmounted, 1 could not run, 2 wrong usage.";

int Serve(const std::string& mount_point, const DeviceFlags& flags, int ready) {
  // In the foreground too: a terminal that is closed is not to take the file from under its users.
  const wire::ReloadThread reload(flags.config);
  std::string source = absl::GetFlag(FLAGS_source);
  if (source.empty()) source = absl::StrCat("weir:", flags.volume);
  absl::StatusOr<std::unique_ptr<VolumeFile>> file = OpenFile(flags, Succession(), /*epoch=*/nullptr);
  absl::Status status = file.status();
  if (status.ok()) {
    absl::StatusOr<std::unique_ptr<FileSystem>> system = FileSystem::Mount(file->get(), mount_point, source);
    status = system.status();
    if (status.ok()) {
      LOG(INFO) << "volume=" << flags.volume << " is mounted on " << mount_point;
      if (!Tell(std::exchange(ready, -1), true, "")) LOG(WARNING) << "who started this is gone";
      status = (*system)->Serve();
    }
  }
  if (status.ok()) return 0;
  Tell(ready, false, status.message());
  return Fail(kName, kCannotRun, status.message());
}

std::string Wrong(const std::vector<std::string>& arguments, const DeviceFlags& flags) {
  const bool one = arguments.size() == 1 || (arguments.empty() && flags.check_config);
  return one ? "" : "give --frontend, --volume and one MOUNT_POINT; see --help";
}

int Main(const std::vector<std::string>& arguments, const DeviceFlags& flags) {
  char* const mount_point = ::realpath(arguments.front().c_str(), nullptr);
  if (mount_point == nullptr) return Fail(kName, kCannotRun, absl::StrCat("there is no directory ", arguments.front()));
  return Serve(mount_point, flags, flags.log.empty() ? -1 : GoIntoBackground(kName, flags.log));
}

}  // namespace
}  // namespace weir::fuse

int main(int argc, char** argv) {
  using namespace weir::fuse;
  return RunDeviceProgram({kName, kUsage, "client/fuse/main.cc", Wrong, Main}, argc, argv);
}
