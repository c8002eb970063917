#include "client/weir/client.h"

#include <atomic>
#include <cerrno>
#include <string>
#include <thread>

#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include "client/weir/fake_frontend.h"
#include "client/weir/inflight_budget.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/base/errno.h"

namespace weir {
namespace {

using ::testing::HasSubstr;
using Act = FakeFrontend::Act;

std::string Block(char c) { return std::string(4096, c); }
std::string Message(const absl::Status& status) { return std::string(status.message()); }

class ClientTest : public ::testing::Test {
 protected:
  std::unique_ptr<Volume> Open(ClientOptions options = {}) {
    auto client = Client::Connect(frontend_.address(), options);
    EXPECT_TRUE(client.ok()) << client.status();
    auto volume = (*client)->OpenVolume("demo");  // and the client may go
    EXPECT_TRUE(volume.ok()) << volume.status();
    return *std::move(volume);
  }

  FakeFrontend frontend_;
};

TEST_F(ClientTest, ReadsWhatItWrote) {
  auto volume = Open();
  EXPECT_EQ(volume->size_bytes(), FakeFrontend::kSizeBytes);
  EXPECT_TRUE(volume->flush_supported());
  ASSERT_TRUE(volume->Write(4096, Block('a'), /*fua=*/true).ok());
  ASSERT_TRUE(volume->Barrier(8192, Block('b')).ok());
  ASSERT_TRUE(volume->Flush().ok());
  auto data = volume->Read(4096, 8192);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_TRUE(*data == Block('a') + Block('b'));
  EXPECT_TRUE(frontend_.requests()[0].fua());
  ASSERT_TRUE(volume->Discard(4096, 4096).ok());
  ASSERT_TRUE(volume->WriteZeroes(8192, 4096, /*fua=*/true).ok());
  EXPECT_TRUE(*volume->Read(4096, 8192) == std::string(8192, '\0'));
}

TEST_F(ClientTest, SplitsLongBlockingRequests) {
  auto volume = Open();
  std::string data;
  for (char c = 'a'; c < 'a' + 10; ++c) data += Block(c);
  ASSERT_GT(data.size(), 2 * FakeFrontend::kLengthBytesMax);
  ASSERT_TRUE(volume->Write(0, data).ok());
  EXPECT_EQ(frontend_.requests().size(), 3u);
  auto read = volume->Read(0, data.size());
  ASSERT_TRUE(read.ok());
  EXPECT_TRUE(*read == data);
  auto extents = volume->Extents(0, data.size());
  ASSERT_TRUE(extents.ok());
  ASSERT_EQ(extents->size(), 1u);
  EXPECT_EQ((*extents)[0].block_count(), 10u);
}

TEST_F(ClientTest, RefusesWhatIsMisalignedOrTooLongAtOnce) {
  auto volume = Open();
  EXPECT_EQ(StatusToErrno(volume->Write(0, "short")), EINVAL);
  EXPECT_EQ(StatusToErrno(volume->Write(0, "")), EINVAL);
  EXPECT_EQ(StatusToErrno(volume->Write(100, Block('a'))), EINVAL);
  EXPECT_EQ(StatusToErrno(volume->Read(0, 0).status()), EINVAL);
  EXPECT_THAT(Message(volume->Discard(1, 4096)), HasSubstr("multiples of 4096"));
  EXPECT_THAT(Message(volume->Barrier(0, std::string(1 << 20, 'a'))),
              HasSubstr("split it at 16384"));
  EXPECT_TRUE(frontend_.requests().empty());
}

TEST_F(ClientTest, AnErrorCarriesErrnoMessageAndTargets) {
  auto volume = Open();
  frontend_.Script({Act::kFail});
  IoResult result;
  absl::Notification done;
  volume->FlushAsync([&](IoResult answer) {
    result = std::move(answer);
    done.Notify();
  });
  done.WaitForNotification();
  EXPECT_EQ(StatusToErrno(result.status), EIO);
  EXPECT_EQ(Message(result.status), "replica1 failed");
  ASSERT_EQ(result.targets.size(), 1u);
  EXPECT_EQ(result.targets[0].target(), "replica1");
}

TEST_F(ClientTest, ControlFlushCarriesTargetsAndDoesNotAttach) {
  auto client = Client::Connect(frontend_.address());
  ASSERT_TRUE(client.ok());
  EXPECT_EQ((*client)->Flush("demo").status.code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE((*client)->Attach("demo").ok());
  EXPECT_TRUE((*client)->Flush("demo").status.ok());
  frontend_.Script({Act::kFail});
  EXPECT_EQ((*client)->Flush("demo").targets.size(), 1u);
}

TEST_F(ClientTest, ControlErrorsKeepCodeErrnoAndMessage) {
  auto client = Client::Connect(frontend_.address());
  ASSERT_TRUE(client.ok());
  EXPECT_EQ((*client)->GetVolume("demo")->size_bytes(), FakeFrontend::kSizeBytes);
  EXPECT_EQ((*client)->GetVolume("other").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ((*client)->OpenVolume("other").status().code(), absl::StatusCode::kNotFound);
  auto created = (*client)->CreateVolume(v1::CreateVolumeRequest());
  EXPECT_EQ(StatusToErrno(created.status()), ENOSPC);
  EXPECT_EQ(Message(created.status()), "no replica has that much space");
}

TEST_F(ClientTest, ConnectSaysWhereItTried) {
  ClientOptions options;
  options.connect_timeout = absl::Milliseconds(50);
  auto client = Client::Connect("unix:/nonexistent/weir", options);
  EXPECT_EQ(client.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(client.status()), HasSubstr("unix:/nonexistent/weir"));
  options.inflight_bytes_max = 0;
  EXPECT_EQ(Client::Connect(frontend_.address(), options).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(ClientTest, CallsWaitAtTheLimitOfBytesInFlight) {
  ClientOptions options;
  options.inflight_bytes_max = 4 * (4096 + 512);  // four writes
  auto volume = Open(options);
  frontend_.Hold();
  std::atomic<int> admitted = 0;
  absl::BlockingCounter left(10);
  std::thread writer([&] {
    for (int i = 0; i < 10; ++i) {
      volume->WriteAsync(i * 4096, Block('x'), false, [&](IoResult result) {
        EXPECT_TRUE(result.status.ok());
        left.DecrementCount();
      });
      ++admitted;
    }
  });
  frontend_.AwaitRequests(1);
  EXPECT_LE(admitted, 4);  // nothing is answered yet
  frontend_.Release();
  left.Wait();
  writer.join();
  EXPECT_EQ(admitted, 10);
}

TEST_F(ClientTest, ACallbackMayStartTheNextRequestAtTheLimit) {
  ClientOptions options;
  options.inflight_bytes_max = 4096;
  auto volume = Open(options);
  absl::BlockingCounter left(100);
  std::function<void(int)> write = [&](int n) {
    volume->WriteAsync(0, Block('x'), false, [&, n](IoResult result) {
      EXPECT_TRUE(result.status.ok());
      if (n > 1) write(n - 1);
      left.DecrementCount();
    });
  };
  write(100);
  left.Wait();
}

TEST_F(ClientTest, ABlockingCallInACallbackIsRefused) {
  auto volume = Open();
  absl::Status inner;
  absl::Notification done;
  volume->FlushAsync([&](IoResult) {
    inner = volume->Flush();
    done.Notify();
  });
  done.WaitForNotification();
  EXPECT_EQ(inner.code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(ClientTest, DroppingTheHandleWaitsForWhatIsInFlight) {
  auto volume = Open();
  frontend_.Hold();
  std::atomic<int> answered = 0;
  for (int i = 0; i < 10; ++i) {
    volume->WriteAsync(0, Block('x'), false, [&](IoResult result) {
      EXPECT_TRUE(result.status.ok());
      ++answered;
    });
  }
  frontend_.AwaitRequests(1);
  std::thread release([&] { frontend_.Release(); });
  volume.reset();
  EXPECT_EQ(answered, 10);
  release.join();
}

TEST(InflightBudgetTest, WaitsUntilBytesAreFreeAndAdmitsWhatIsTooLargeAlone) {
  InflightBudget budget(10);
  budget.Acquire(100);
  std::atomic<bool> released = false;
  std::thread waiter([&] {
    budget.Acquire(10);
    EXPECT_TRUE(released);
  });
  released = true;
  budget.Release(100);
  waiter.join();
  budget.AcquireNow(50);  // does not wait
  budget.Release(60);
  budget.Acquire(10);
}

}  // namespace
}  // namespace weir
