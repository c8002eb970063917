#include <libnbd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/weir/client.h"
#include "proto/base/check.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "tests/chaos/block_client.h"

namespace weir::chaos {
namespace {

struct Close {
  void operator()(nbd_handle* handle) const { nbd_close(handle); }
};
using Handle = std::unique_ptr<nbd_handle, Close>;

absl::Status LastError() {
  const int error = nbd_get_errno();
  const char* text = nbd_get_error();
  return ErrnoToStatus(error == 0 ? EIO : error, text == nullptr ? "libnbd failed" : text);
}

class NbdClient : public BlockClient {
 public:
  NbdClient(Handle handle, Epoch epoch) : handle_(std::move(handle)), epoch_(epoch) {}

  Answer Do(const Request& request, std::string data) override {
    Answer answer;
    answer.epoch = epoch_;
    if (request.kind == Kind::kRead) data.resize(request.range.count * kBlockBytes);
    if (Call(request, data) == 0) {
      if (request.kind == Kind::kRead) answer.data = std::move(data);
      return answer;
    }
    answer.status = LastError();
    // ESHUTDOWN: another frontend has the volume.
    answer.broken = StatusToErrno(answer.status) == ESHUTDOWN || nbd_aio_is_ready(handle_.get()) != 1;
    return answer;
  }

  Epoch epoch() const override { return epoch_; }
  bool goes_on() const override { return false; }
  const char* name() const override { return "NBD"; }
  bool has_barriers() const override { return false; }

 private:
  int Call(const Request& request, std::string& data) {
    nbd_handle* const handle = handle_.get();
    const uint64_t offset = request.range.first * kBlockBytes;
    const uint64_t length = request.range.count * kBlockBytes;
    const uint32_t flags = request.fua ? LIBNBD_CMD_FLAG_FUA : 0;
    switch (request.kind) {
      case Kind::kRead:
        return nbd_pread(handle, data.data(), length, offset, 0);
      case Kind::kWrite:
        return nbd_pwrite(handle, data.data(), length, offset, flags);
      case Kind::kZero:
        return nbd_zero(handle, length, offset, flags);
      case Kind::kDiscard:
        return nbd_trim(handle, length, offset, flags);
      case Kind::kFlush:
        return nbd_flush(handle, 0);
      case Kind::kBarrier:
        break;
    }
    CHECK(false);  // NBD has no barriers
  }

  const Handle handle_;
  const Epoch epoch_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BlockClient>> ConnectNbd(const Frontend& frontend) {
  Handle handle(nbd_create());
  if (handle == nullptr) return LastError();
  if (nbd_connect_uri(handle.get(), frontend.nbd_uri.c_str()) != 0) return LastError();
  // Asked for after it is connected: should the frontend be another one by now, the connection
  // is broken and can only fail.
  ClientOptions options;
  options.connect_timeout = absl::Seconds(2);
  options.timeout = absl::Seconds(10);
  ASSIGN_OR_RETURN(const auto client, Client::Connect(frontend.grpc_address, options));
  ASSIGN_OR_RETURN(const v1::Volume volume, client->GetVolume(frontend.volume));
  // Of a volume that is elsewhere the epoch may be one that does not serve yet.
  if (volume.state() != "ACTIVE" && volume.state() != "SUSPENDED") {
    return absl::UnavailableError(absl::StrCat("the volume is ", volume.state()));
  }
  return std::make_unique<NbdClient>(std::move(handle), volume.epoch());
}

}  // namespace weir::chaos
