// The client library in one page:
//
//   bazel run //client/weir:example -- 127.0.0.1:7700 demo
//
// writes, flushes and reads one block of a volume, with every status looked at.
#include <iostream>
#include <string>

#include "absl/status/status.h"
#include "absl/synchronization/blocking_counter.h"
#include "client/weir/client.h"
#include "proto/base/status_macros.h"

namespace {

absl::Status Run(const std::string& address, const std::string& name) {
  ASSIGN_OR_RETURN(auto client, weir::Client::Connect(address));
  ASSIGN_OR_RETURN(auto volume, client->OpenVolume(name));
  std::cout << name << ": " << volume->size_bytes() << " bytes, epoch " << volume->epoch() << "\n";

  // Blocking: simple, one request at a time.
  RETURN_IF_ERROR(volume->Write(0, std::string(4096, 'x')));

  // Callbacks: many at a time. The library waits where too much is in flight.
  constexpr int kWrites = 64;
  absl::BlockingCounter unanswered(kWrites);
  absl::Status statuses[kWrites];
  for (int i = 0; i < kWrites; ++i) {
    volume->WriteAsync((i + 1) * 4096, std::string(4096, 'y'), /*fua=*/false,
                       [&unanswered, &status = statuses[i]](weir::IoResult result) {
                         status = result.status;
                         unanswered.DecrementCount();
                       });
  }
  unanswered.Wait();
  for (const absl::Status& status : statuses) RETURN_IF_ERROR(status);

  // Everything answered so far is on stable storage on every replica after this.
  RETURN_IF_ERROR(volume->Flush());

  ASSIGN_OR_RETURN(std::string data, volume->Read(0, 8192));
  std::cout << "read back: " << data.front() << " and " << data.back() << "\n";
  return absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: example HOST:PORT VOLUME (at least 1MiB; its beginning is overwritten)\n";
    return 2;
  }
  absl::Status status = Run(argv[1], argv[2]);
  if (!status.ok()) std::cerr << "example: " << status << "\n";
  return status.ok() ? 0 : 1;
}
