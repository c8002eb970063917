// What weir-fuse and weir-nbd have in common: most flags, and how both begin.
#ifndef WEIR_CLIENT_FUSE_DEVICE_PROGRAM_H_
#define WEIR_CLIENT_FUSE_DEVICE_PROGRAM_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/fuse/volume_file.h"
#include "client/weir/client.h"
#include "proto/base/tls_files.h"

namespace weir::fuse {

// Exit codes beside 0.
inline constexpr int kCannotRun = 1;
inline constexpr int kWrongUsage = 2;

struct DeviceFlags {
  std::string frontend, volume;
  bool read_only = false;
  absl::Duration hold;
  std::string log;     // empty: it stays in the foreground
  // Absolute paths: in the background it is in another folder.
  std::string config;  // empty: none
  TlsFiles tls;
  bool check_config = false;
};

struct DeviceProgram {
  // As DescribeProgram has them.
  const char* name;
  const char* usage;
  const char* main_file;
  // What is wrong with its own arguments and flags; empty: nothing.
  std::function<std::string(const std::vector<std::string>& arguments, const DeviceFlags& flags)> wrong;
  // Gives the exit code. There are no threads yet.
  std::function<int(const std::vector<std::string>& arguments, const DeviceFlags& flags)> run;
  // Whether it is to do what wants no frontend; null: never.
  bool (*without_frontend)() = nullptr;
};

// Of main: reads the command line, sets the log, looks at the certificate, does what --check_config says, or runs. The exit code.
int RunDeviceProgram(const DeviceProgram& program, int argc, char** argv);

// Says `message` on standard error, after the program's name; returns `code`.
int Fail(absl::string_view program, int code, absl::string_view message);

// The volume, attached, over a connection of its own for what must not wait. `succession`: of whom it goes on; see client.h.
// `epoch`: null, or where it gets the volume's. Starts gRPC, which survives no fork.
absl::StatusOr<std::unique_ptr<VolumeFile>> OpenFile(const DeviceFlags& flags, const Succession& succession, uint32_t* epoch);

}  // namespace weir::fuse

#endif  // WEIR_CLIENT_FUSE_DEVICE_PROGRAM_H_
