// --check_config: what a process will need, looked at without starting it or changing anything. Whoever finds
// nothing wrong exits with 0; else each problem is a line that says what to do, and the exit code is 1.
//
// Thread-safety: none; one thread uses it.
#ifndef WEIR_PROTO_BASE_CONFIG_CHECK_H_
#define WEIR_PROTO_BASE_CONFIG_CHECK_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weir {

class ConfigCheck {
 public:
  // A problem, unless it is OK; the same words once.
  void Note(const absl::Status& status);
  // `path` is a folder that this user may write to, or can be made by this user.
  void Folder(absl::string_view flag, const std::string& path);
  void ReadableFile(absl::string_view flag, const std::string& path);
  // A program, looked up in PATH if there is no '/' in its name.
  void Program(absl::string_view flag, const std::string& name);
  // What a server can listen on: HOST:PORT, where HOST is an address of this machine, or unix:PATH in a folder that
  // this user may write to. Whether the port is free is not asked: the running process may have it. Empty: nothing.
  // May block for name servers.
  void Listen(absl::string_view flag, const std::string& address);
  // HOST:PORT or unix:PATH of somebody else.
  void Peer(absl::string_view flag, const std::string& address);

  const std::vector<std::string>& problems() const { return problems_; }
  // Prints them, or that there are none; the exit code.
  int Report(absl::string_view program) const;

 private:
  void Problem(absl::string_view flag, absl::string_view value, absl::string_view what);

  std::vector<std::string> problems_;
};

}  // namespace weir

#endif  // WEIR_PROTO_BASE_CONFIG_CHECK_H_
