// A frontend in memory that misbehaves on request: for tests of the client.
#ifndef WEIR_CLIENT_WEIR_FAKE_FRONTEND_H_
#define WEIR_CLIENT_WEIR_FAKE_FRONTEND_H_

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/server.h"
#include "weir/v1/volume.grpc.pb.h"

namespace weir {

// Serves one volume, "demo", on a unix socket that stays the same over Stop
// and Start. Plain generated service, payload in the message: what any gRPC
// implementation would send. Thread-safety: safe.
class FakeFrontend : public v1::VolumeService::Service {
 public:
  static constexpr uint64_t kSizeBytes = 1 << 20;
  static constexpr uint32_t kLengthBytesMax = 16 << 10;

  enum class Act {
    kAnswer,
    kAnswerTwice,
    kAnswerShort,  // a read with half of its data
    kFail,         // EIO, with what a target said
    kStale,        // ESTALE, as after a detach
    kGarbage,      // a frame whose payload belongs to no reply
    kBreakBefore,  // the stream ends, the request was not carried out
    kBreakAfter,   // the stream ends, the request was carried out: its reply is lost
    kDetach,       // the stream ends with FAILED_PRECONDITION, the volume is detached
    kDelete,       // the stream ends with NOT_FOUND
  };

  FakeFrontend();
  ~FakeFrontend() override;

  const std::string& address() const { return address_; }
  void Stop();
  void Start();

  // What the next requests meet, one act each; then all are answered.
  void Script(std::vector<Act> acts);
  // The process was replaced: not attached, and the next Attach takes `epoch`. Nothing is lost since
  // `intact_since`; 0: since nothing.
  void Restart(uint32_t epoch, uint32_t intact_since = 0);
  // As Restart, while another frontend took the volume.
  void RestartWithoutIt();
  // Requests are read, and wait, until Release.
  void Hold();
  void Release();
  // Until `requests` were read in all.
  void AwaitRequests(int requests);

  int attaches() const;
  int opens() const;
  // Client and session of each stream, in order.
  std::vector<std::pair<std::string, uint64_t>> sessions() const;
  // In order of arrival, every arrival.
  std::vector<v1::VolumeIo> requests() const;

 private:
  grpc::Status Attach(grpc::ServerContext* context, const v1::AttachRequest* request,
                      v1::AttachResponse* response) override;
  grpc::Status GetVolume(grpc::ServerContext* context, const v1::GetVolumeRequest* request,
                         v1::GetVolumeResponse* response) override;
  grpc::Status CreateVolume(grpc::ServerContext* context, const v1::CreateVolumeRequest* request,
                            v1::CreateVolumeResponse* response) override;
  using Stream = grpc::ServerReaderWriter<v1::VolumeIoReplyFrame, v1::VolumeIoFrame>;
  grpc::Status Io(grpc::ServerContext* context, Stream* stream) override;

  grpc::Status OpenStream(const v1::VolumeOpen& open, Stream* stream);
  Act Arrived(const v1::VolumeIo& io);
  grpc::Status Answer(const v1::VolumeIo& io, const std::string& data, Act act, Stream* stream);
  void CarryOut(const v1::VolumeIo& io, const std::string& data, v1::VolumeIoReply* reply,
                std::string* payload);

  std::string dir_;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;

  mutable absl::Mutex mutex_;
  std::deque<Act> script_ ABSL_GUARDED_BY(mutex_);
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  bool attached_ ABSL_GUARDED_BY(mutex_) = false;
  bool deleted_ ABSL_GUARDED_BY(mutex_) = false;
  bool elsewhere_ ABSL_GUARDED_BY(mutex_) = false;
  uint32_t epoch_ ABSL_GUARDED_BY(mutex_) = 1;
  uint32_t intact_since_ ABSL_GUARDED_BY(mutex_) = 0;
  int attaches_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::pair<std::string, uint64_t>> sessions_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::VolumeIo> requests_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, std::string> blocks_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weir

#endif  // WEIR_CLIENT_WEIR_FAKE_FRONTEND_H_
