// What every command of weirctl has: the common flags, where to print, and
// connections to the processes of the cluster.
#ifndef WEIR_CLIENT_CLI_CONTEXT_H_
#define WEIR_CLIENT_CLI_CONTEXT_H_

#include <functional>
#include <istream>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cli/cluster_env.h"
#include "client/weir/client.h"
#include "google/protobuf/message.h"
#include "proto/base/tls_files.h"

namespace weir::cli {

// Thread-safety: none; one thread runs one command.
class Context {
 public:
  Context(std::istream& in, std::ostream& out, std::ostream& err) : in(in), out(out), err(err) {}

  // Flags, as parsed.
  std::string cluster_dir;
  std::string volume_addr;
  std::string frontend;
  std::string replica_addrs;
  TlsFiles tls;
  std::string output = "table";
  double timeout_s = 60;

  std::istream& in;
  std::ostream& out;
  std::ostream& err;

  // What the parsed command does.
  std::function<absl::Status()> action;
  bool usage_error = false;

  bool json() const { return output == "json"; }
  // JSON of `message`, or `text`, as --output says.
  void Print(const google::protobuf::Message& message, const std::string& text);
  // For what answers nothing but that it is done: {"volume": ..., "result": ...}, or `text`.
  void PrintDone(const std::string& volume, const std::string& result, const std::string& text);

  // For a body that finds the command line wrong: the exit code says so.
  absl::Status Usage(const absl::Status& status) {
    usage_error = true;
    return status;
  }

  // Where everything is. Takes the identity that it names, or that the flags give.
  absl::StatusOr<ClusterEnv> Environment() const;
  // The one that --volume_addr or --frontend names, else the first of the cluster's that answers.
  absl::StatusOr<std::unique_ptr<Client>> ConnectFrontend();
  // The one that has the volume, unless --volume_addr or --frontend names one. If no frontend has
  // it, as ConnectFrontend. If that one cannot be reached: another one, to look at what is known of
  // the volume; else UNAVAILABLE.
  enum class Purpose { kUse, kLook };
  absl::StatusOr<std::unique_ptr<Client>> ConnectFrontendOf(const std::string& volume,
                                                            Purpose purpose = Purpose::kUse);
  absl::StatusOr<std::vector<std::string>> ReplicaNames();
  // By name, as cluster.env or --replica_addrs has it, or a plain address.
  absl::StatusOr<std::string> ReplicaAddress(const std::string& replica);

 private:
  absl::StatusOr<NamedValues> Frontends();
  absl::StatusOr<std::unique_ptr<Client>> Connect(const std::string& address,
                                                  absl::Duration connect_timeout) const;
};

}  // namespace weir::cli

#endif  // WEIR_CLIENT_CLI_CONTEXT_H_
