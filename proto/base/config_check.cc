#include "proto/base/config_check.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace weir {
namespace {

constexpr absl::string_view kUnixPrefix = "unix:";

std::string ParentOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Its host, without the brackets of an IPv6 address; false: this is not HOST:PORT. No host: every address.
bool SplitAddress(absl::string_view address, std::string* host) {
  const size_t colon = address.rfind(':');
  int port = 0;
  if (colon == absl::string_view::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port) ||
      port < 0 || port > 65535) {
    return false;
  }
  absl::string_view name = address.substr(0, colon);
  if (absl::ConsumePrefix(&name, "[")) absl::ConsumeSuffix(&name, "]");
  *host = std::string(name);
  return true;
}

// Empty: a socket can be bound to `host` here. Else why not.
std::string WhyNotOurs(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.empty() ? nullptr : host.c_str(), "0", &hints, &found);
  if (error != 0) return absl::StrCat("the host is not known: ", ::gai_strerror(error));
  std::string why;
  const int fd = ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || ::bind(fd, found->ai_addr, found->ai_addrlen) != 0) {
    why = absl::StrCat(std::strerror(errno), "; give an address of this machine (ip address shows them)");
  }
  if (fd >= 0) ::close(fd);
  ::freeaddrinfo(found);
  return why;
}

// Empty: files can be made in `folder`. Else why not, and what to do.
std::string WhyNotWritable(const std::string& folder) {
  if (::access(folder.c_str(), W_OK | X_OK) == 0) return "";
  return absl::StrCat(folder, ": ", std::strerror(errno),
                      errno == ENOENT ? "; make it, or mount the disk" : "; give it to the user who runs this (chown)");
}

}  // namespace

void ConfigCheck::Problem(absl::string_view flag, absl::string_view value, absl::string_view what) {
  problems_.push_back(absl::StrCat("--", flag, "=", value, ": ", what));
}

void ConfigCheck::Note(const absl::Status& status) {
  if (status.ok()) return;
  const std::string message(status.message());
  if (std::find(problems_.begin(), problems_.end(), message) == problems_.end()) problems_.push_back(message);
}

void ConfigCheck::Folder(absl::string_view flag, const std::string& path) {
  std::string folder(absl::StripSuffix(path, "/"));
  if (folder.empty()) folder = "/";
  struct stat info;
  if (::stat(folder.c_str(), &info) == 0 && !S_ISDIR(info.st_mode)) {
    return Problem(flag, path, "is no folder; give another one");
  }
  // One that is not there is made, in the folder above.
  const bool there = ::access(folder.c_str(), F_OK) == 0;
  const std::string why = WhyNotWritable(there ? folder : ParentOf(folder));
  if (!why.empty()) Problem(flag, path, why);
}

void ConfigCheck::ReadableFile(absl::string_view flag, const std::string& path) {
  if (::access(path.c_str(), R_OK) != 0) Problem(flag, path, std::strerror(errno));
}

void ConfigCheck::Program(absl::string_view flag, const std::string& name) {
  if (absl::StrContains(name, '/')) {
    if (::access(name.c_str(), X_OK) != 0) Problem(flag, name, std::strerror(errno));
    return;
  }
  const char* path = std::getenv("PATH");
  for (absl::string_view folder : absl::StrSplit(path != nullptr ? path : "/usr/bin:/bin", ':')) {
    if (::access(absl::StrCat(folder, "/", name).c_str(), X_OK) == 0) return;
  }
  Problem(flag, name, "is not in PATH; install it, or give its path");
}

void ConfigCheck::Listen(absl::string_view flag, const std::string& address) {
  if (address.empty()) return;
  if (absl::StartsWith(address, kUnixPrefix)) {
    const std::string path = address.substr(kUnixPrefix.size());
    if (path.empty() || path.size() >= sizeof(sockaddr_un::sun_path)) {
      return Problem(flag, address, absl::StrCat("a socket's path has 1 to ", sizeof(sockaddr_un::sun_path) - 1, " bytes"));
    }
    const std::string why = WhyNotWritable(ParentOf(path));
    if (!why.empty()) Problem(flag, address, why);
    return;
  }
  std::string host;
  if (!SplitAddress(address, &host)) return Problem(flag, address, "is not HOST:PORT or unix:PATH");
  const std::string why = WhyNotOurs(host);
  if (!why.empty()) Problem(flag, address, why);
}

void ConfigCheck::Peer(absl::string_view flag, const std::string& address) {
  std::string host;
  const bool is_unix = absl::StartsWith(address, kUnixPrefix) && address.size() > kUnixPrefix.size();
  if (!is_unix && (!SplitAddress(address, &host) || host.empty())) Problem(flag, address, "is not HOST:PORT or unix:PATH");
}

int ConfigCheck::Report(absl::string_view program) const {
  for (const std::string& problem : problems_) {
    std::fprintf(stderr, "%s: %s\n", std::string(program).c_str(), problem.c_str());
  }
  if (!problems_.empty()) return 1;
  std::printf("%s: the configuration is good\n", std::string(program).c_str());
  return 0;
}

}  // namespace weir
