// A cluster in this process with one open volume, for the tests in C++.
#ifndef WEIR_TESTS_SYSTEM_CLUSTER_FIXTURE_H_
#define WEIR_TESTS_SYSTEM_CLUSTER_FIXTURE_H_

#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/testing/cluster.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/base/errno.h"

namespace weir::testing {

inline std::string Blocks(char c, size_t blocks = 1) { return std::string(blocks * 4096, c); }
inline std::string Message(const absl::Status& status) { return std::string(status.message()); }

class ClusterTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kSizeBytes = 16 << 20;

  // Tests that count clones must not meet the engine's own flushes.
  static ClusterOptions QuietOptions() {
    ClusterOptions options;
    options.enable_fault_injection = true;
    options.frontend.flush_interval = absl::Hours(1);
    options.frontend.requeue_deadline = absl::Seconds(5);
    return options;
  }

  void Start(ClusterOptions options = {}, uint32_t min_in_sync = 0) {
    auto cluster = Cluster::Start(std::move(options));
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    cluster_ = *std::move(cluster);
    auto volume = cluster_->CreateAndOpenVolume("demo", kSizeBytes, min_in_sync);
    ASSERT_TRUE(volume.ok()) << volume.status();
    volume_ = *std::move(volume);
  }

  // Whether `condition` has come to hold within half a minute.
  static bool Eventually(const std::function<bool()>& condition) {
    const absl::Time start = absl::Now();
    while (!condition()) {
      if (absl::Now() - start > absl::Seconds(30)) return false;
      absl::SleepFor(absl::Milliseconds(20));
    }
    return true;
  }

  void TearDown() override { volume_.reset(); }  // before the cluster

  // The answer of one Async call, to be waited for.
  static std::future<IoResult> Started(const std::function<void(Volume::Callback)>& start) {
    auto promise = std::make_shared<std::promise<IoResult>>();
    std::future<IoResult> future = promise->get_future();
    start([promise](IoResult result) { promise->set_value(std::move(result)); });
    return future;
  }
  std::future<IoResult> StartWrite(uint64_t offset, std::string data) {
    return Started([&](Volume::Callback done) {
      volume_->WriteAsync(offset, std::move(data), false, std::move(done));
    });
  }
  std::future<IoResult> StartFlush() {
    return Started([&](Volume::Callback done) { volume_->FlushAsync(std::move(done)); });
  }

  // The next flush clone of domain 0 on replica `i` is answered so, late.
  void FaultNextFlush(int i, int error, uint32_t delay_ms) {
    v1::Fault fault;
    fault.set_op(v1::FAULT_OP_FLUSH);
    fault.set_error(error);
    fault.set_delay_ms(delay_ms);
    fault.set_flush_nr(0);
    fault.set_count(1);
    absl::Status status = cluster_->SetFault(i, fault);
    ASSERT_TRUE(status.ok()) << status;
  }

  std::unique_ptr<Cluster> cluster_;
  std::unique_ptr<Volume> volume_;
};

}  // namespace weir::testing

#endif  // WEIR_TESTS_SYSTEM_CLUSTER_FIXTURE_H_
