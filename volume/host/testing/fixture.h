// Three fake replicas, a catalog in a temporary folder, and a host over them.
#ifndef WEIR_VOLUME_HOST_TESTING_FIXTURE_H_
#define WEIR_VOLUME_HOST_TESTING_FIXTURE_H_

#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "volume/host/host.h"
#include "volume/host/testing/fake_replica.h"

namespace weir::host {

class HostFixture : public testing::Test {
 protected:
  static constexpr uint64_t kSize = 8 << 20;

  HostFixture() {
    for (int i = 1; i <= 3; ++i) {
      replicas_.push_back(std::make_unique<FakeReplica>(absl::StrCat("r", i)));
    }
    dir_ = absl::StrCat(
        testing::TempDir(), "/host_",
        testing::UnitTest::GetInstance()->current_test_info()->name(), "_",
        ::getpid());
    std::filesystem::remove_all(dir_);
  }
  ~HostFixture() override {
    for (auto& replica : replicas_) replica->Release();
    host_.reset();
    std::filesystem::remove_all(dir_);
  }

  HostOptions Options() {
    HostOptions options;
    options.catalog = "embedded:" + dir_;
    for (auto& replica : replicas_) {
      options.replicas.emplace_back(replica->name(), replica->address());
    }
    options.listen = "127.0.0.1:0";
    options.attach_deadline = absl::Seconds(5);
    options.hold_deadline = absl::Seconds(10);
    return options;
  }

  void StartHost() { StartHost(Options()); }
  void StartHost(HostOptions options) {
    absl::StatusOr<std::unique_ptr<Host>> host = Host::Start(std::move(options));
    ASSERT_TRUE(host.ok()) << host.status();
    host_ = *std::move(host);
  }

  static v1::CreateVolumeRequest CreateRequest(const std::string& name = "demo") {
    v1::CreateVolumeRequest request;
    request.set_name(name);
    request.set_size_bytes(kSize);
    return request;
  }

  // A host with the volume "demo", attached. min_in_sync 0: the default.
  void StartAttached(uint32_t min_in_sync = 0) {
    StartHost();
    v1::CreateVolumeRequest request = CreateRequest();
    request.set_min_in_sync(min_in_sync);
    auto created = host_->CreateVolume(request);
    ASSERT_TRUE(created.ok()) << created.status();
    Attach();
  }
  void Attach() {
    auto attached = host_->Attach("demo");
    ASSERT_TRUE(attached.ok()) << attached.status();
    volume_ = *std::move(attached);
  }

  static IoRequest Request(engine::RequestKind kind, uint64_t offset = 0,
                           uint64_t length = 0) {
    IoRequest request;
    request.kind = kind;
    request.offset_bytes = offset;
    request.length_bytes = length;
    return request;
  }
  static IoRequest WriteRequest(uint64_t offset, const std::string& data) {
    IoRequest request =
        Request(engine::RequestKind::kWrite, offset, data.size());
    request.data = Payload::CopyOf(data);
    return request;
  }
  int Write(uint64_t offset, char fill, size_t length = 4096) {
    return volume_->SubmitAndWait(WriteRequest(offset, std::string(length, fill)))
        .result.error();
  }
  int Flush() {
    return volume_->SubmitAndWait(Request(engine::RequestKind::kFlush))
        .result.error();
  }
  // The data, or "errno N" and why.
  std::string Read(uint64_t offset, size_t length = 4096) {
    IoOutcome outcome = volume_->SubmitAndWait(
        Request(engine::RequestKind::kRead, offset, length));
    if (!outcome.result.ok()) {
      return absl::StrCat("errno ", outcome.result.error(), " ", outcome.message);
    }
    std::string data;
    for (const engine::ReadPart& part : outcome.parts) {
      if (part.data.empty()) {
        data.append(part.blocks * 4096, '\0');
      } else {
        data.append(part.data.bytes().data(), part.data.size());
      }
    }
    return data;
  }

  std::string dir_;
  std::vector<std::unique_ptr<FakeReplica>> replicas_;
  std::unique_ptr<Host> host_;
  std::shared_ptr<HostedVolume> volume_;
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_TESTING_FIXTURE_H_
