#include "volume/host/nbdkit.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace weir::host {
namespace {

absl::Status RemoveStaleSocket(const std::string& path) {
  struct stat info;
  if (::lstat(path.c_str(), &info) != 0) return absl::OkStatus();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (!S_ISSOCK(info.st_mode) || path.size() >= sizeof(address.sun_path)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "nbd_socket ", path, " exists and is no socket; choose another path"));
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool served =
      fd >= 0 && ::connect(fd, reinterpret_cast<const sockaddr*>(&address),
                           sizeof(address)) == 0;
  if (fd >= 0) ::close(fd);
  if (served) {
    return absl::FailedPreconditionError(absl::StrCat(
        "nbd_socket ", path, " is served by another process; stop that one or "
        "choose another path"));
  }
  ::unlink(path.c_str());
  return absl::OkStatus();
}

}  // namespace

absl::Status FindPlugin(std::string* plugin) {
  if (plugin->empty()) {
    char self[4096];
    const ssize_t length = ::readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (length <= 0) {
      return absl::InternalError("cannot read /proc/self/exe; give --nbd_plugin");
    }
    const std::string program(self, static_cast<size_t>(length));
    *plugin = program.substr(0, program.rfind('/')) + "/nbdkit-weir-plugin.so";
  }
  if (::access(plugin->c_str(), R_OK) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot read the plugin ", *plugin, ": ",
                     std::strerror(errno), "; give --nbd_plugin=PATH"));
  }
  return absl::OkStatus();
}

std::vector<std::string> NbdkitCommand(
    const NbdkitConfig& config,
    const std::vector<std::pair<std::string, std::string>>& options) {
  std::vector<std::string> command = {
      config.nbdkit,
      "-f",
      "-U",
      config.socket,
      absl::StrCat("--threads=", config.threads),
      // Clients may ask for single bytes; the plugin splits what is too long.
      "--filter=blocksize",
      config.plugin,
      "minblock=4096",
  };
  if (!config.default_volume.empty()) {
    command.push_back(absl::StrCat("default_volume=", config.default_volume));
  }
  if (!config.config.empty()) command.push_back(absl::StrCat("config=", config.config));
  for (const auto& [key, value] : options) {
    command.push_back(absl::StrCat(key, "=", value));
  }
  return command;
}

absl::Status BecomeNbdkit(
    NbdkitConfig config,
    const std::vector<std::pair<std::string, std::string>>& options) {
  RETURN_IF_ERROR(FindPlugin(&config.plugin));
  RETURN_IF_ERROR(RemoveStaleSocket(config.socket));
  std::vector<std::string> command = NbdkitCommand(config, options);
  std::vector<char*> argv;
  for (std::string& word : command) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  return absl::FailedPreconditionError(
      absl::StrCat("cannot run ", config.nbdkit, ": ", std::strerror(errno),
                   "; install nbdkit or give --nbdkit=PATH"));
}

}  // namespace weir::host
