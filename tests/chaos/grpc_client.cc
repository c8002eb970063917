#include <cerrno>
#include <cstdint>
#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "client/weir/client.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "tests/chaos/block_client.h"

namespace weir::chaos {
namespace {

class GrpcClient : public BlockClient {
 public:
  explicit GrpcClient(std::unique_ptr<Volume> volume) : volume_(std::move(volume)) {}

  Answer Do(const Request& request, std::string data) override {
    IoResult result;
    Epoch epoch = 0;
    absl::Notification done;
    Start(request, std::move(data), [&](IoResult answered) {
      result = std::move(answered);
      // Exact: the handle opens no other stream before this one's answers are done with.
      epoch = volume_->epoch();
      done.Notify();
    });
    done.WaitForNotification();
    Answer answer;
    answer.status = std::move(result.status);
    answer.data = std::move(result.data);
    answer.epoch = epoch;
    // ABORTED: taken over; ESTALE: the same, said by the frontend itself; UNAVAILABLE: the stream
    // was lost for longer than a request waits.
    answer.broken = absl::IsAborted(answer.status) || absl::IsUnavailable(answer.status) ||
                    StatusToErrno(answer.status) == ESTALE;
    return answer;
  }

  Epoch epoch() const override { return volume_->epoch(); }
  bool goes_on() const override { return true; }
  const char* name() const override { return "gRPC"; }
  bool has_barriers() const override { return true; }

 private:
  void Start(const Request& request, std::string data, Volume::Callback done) {
    const uint64_t offset = request.range.first * kBlockBytes;
    const auto length = static_cast<uint32_t>(request.range.count * kBlockBytes);
    switch (request.kind) {
      case Kind::kRead:
        return volume_->ReadAsync(offset, length, std::move(done));
      case Kind::kWrite:
        return volume_->WriteAsync(offset, std::move(data), request.fua, std::move(done));
      case Kind::kZero:
        return volume_->WriteZeroesAsync(offset, length, request.fua, std::move(done));
      case Kind::kDiscard:
        return volume_->DiscardAsync(offset, length, std::move(done));
      case Kind::kFlush:
        return volume_->FlushAsync(std::move(done));
      case Kind::kBarrier:
        return volume_->BarrierAsync(offset, std::move(data), std::move(done));
    }
  }

  const std::unique_ptr<Volume> volume_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BlockClient>> ConnectGrpc(const Frontend& frontend) {
  ClientOptions options;
  options.tls = frontend.tls;
  options.connect_timeout = absl::Seconds(2);
  // How long requests wait for a frontend that has ended: after a move it is of no use any more.
  options.timeout = absl::Seconds(10);
  ASSIGN_OR_RETURN(const auto client, Client::Connect(frontend.grpc_address, options));
  ASSIGN_OR_RETURN(auto volume, client->OpenVolume(frontend.volume));
  return std::make_unique<GrpcClient>(std::move(volume));
}

}  // namespace weir::chaos
