#include "client/fuse/volume_file.h"

#include <linux/falloc.h>

#include <cerrno>
#include <utility>

#include "absl/synchronization/notification.h"
#include "client/weir/fake_frontend.h"
#include "gtest/gtest.h"

namespace weir::fuse {
namespace {

constexpr int kHole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

class VolumeFileTest : public ::testing::Test {
 protected:
  VolumeFile& Open(bool read_only = false) {
    auto client = Client::Connect(frontend_.address());
    EXPECT_TRUE(client.ok()) << client.status();
    auto volume = (*client)->OpenVolume("demo");
    EXPECT_TRUE(volume.ok()) << volume.status();
    file_ = std::make_unique<VolumeFile>("demo", *std::move(client), *std::move(volume), read_only);
    return *file_;
  }

  // The errno of a request.
  static int Wait(const std::function<void(VolumeFile::Done)>& request) {
    absl::Notification answered;
    int result = -1;
    request([&](int error) {
      result = error;
      answered.Notify();
    });
    answered.WaitForNotification();
    return result;
  }
  int Write(uint64_t offset, std::string data, bool fua = false) {
    return Wait([&](auto done) { file_->Write(offset, std::move(data), fua, done); });
  }
  int Allocate(int mode, uint64_t offset, uint64_t length) {
    return Wait([&](auto done) { file_->Allocate(mode, offset, length, done); });
  }
  std::pair<int, std::string> Read(uint64_t offset, uint64_t length) {
    std::string got;
    const int error = Wait([&](const VolumeFile::Done& done) {
      file_->Read(offset, length, [&, done](int result, std::string data) {
        got = std::move(data);
        done(result);
      });
    });
    return {error, got};
  }

  FakeFrontend frontend_;
  std::unique_ptr<VolumeFile> file_;
};

TEST_F(VolumeFileTest, ReadsWhatItWroteAndAFlushArrives) {
  Open();
  EXPECT_EQ(file_->size_bytes(), FakeFrontend::kSizeBytes);
  EXPECT_EQ(Write(4096, std::string(4096, 'a')), 0);
  EXPECT_EQ(Wait([&](auto done) { file_->Flush(done); }), 0);
  EXPECT_EQ(frontend_.requests().back().kind(), v1::REQUEST_KIND_FLUSH);
  EXPECT_EQ(Read(4096, 4096), std::make_pair(0, std::string(4096, 'a')));
}

TEST_F(VolumeFileTest, TheEndAndTheAlignmentAreAsOfADisk) {
  Open();
  const uint64_t end = FakeFrontend::kSizeBytes;
  EXPECT_EQ(Read(end, 4096), std::make_pair(0, std::string()));
  EXPECT_EQ(Read(end - 4096, 8192).second.size(), 4096u) << "short";
  EXPECT_EQ(Read(512, 4096).first, EINVAL);
  EXPECT_EQ(Write(end, std::string(4096, 'a')), ENOSPC);
  EXPECT_EQ(Write(end - 4096, std::string(8192, 'a')), ENOSPC);
  EXPECT_EQ(Write(0, std::string(512, 'a')), EINVAL);
  EXPECT_EQ(Write(0, ""), 0);
}

TEST_F(VolumeFileTest, HolesAreDiscardedAndZeroedRangesZeroed) {
  Open();
  EXPECT_EQ(Write(0, std::string(8192, 'a')), 0);
  EXPECT_EQ(Allocate(kHole, 0, 4096), 0);
  EXPECT_EQ(frontend_.requests().back().kind(), v1::REQUEST_KIND_DISCARD);
  EXPECT_EQ(Allocate(FALLOC_FL_ZERO_RANGE, 4096, 4096), 0);
  EXPECT_EQ(frontend_.requests().back().kind(), v1::REQUEST_KIND_WRITE_ZEROES);
  EXPECT_EQ(Read(0, 8192).second, std::string(8192, '\0'));
  EXPECT_EQ(Allocate(0, 0, 4096), EOPNOTSUPP) << "there is nothing to reserve";
  EXPECT_EQ(Allocate(FALLOC_FL_COLLAPSE_RANGE, 0, 4096), EOPNOTSUPP);
  EXPECT_EQ(Allocate(kHole, 0, 512), EINVAL);
  EXPECT_EQ(Allocate(kHole, 4096, FakeFrontend::kSizeBytes), ENOSPC);
}

TEST_F(VolumeFileTest, ReadOnlyRefusesEveryChange) {
  Open(/*read_only=*/true);
  EXPECT_EQ(Write(0, std::string(4096, 'a')), EROFS);
  EXPECT_EQ(Allocate(kHole, 0, 4096), EROFS);
  EXPECT_EQ(Read(0, 4096).first, 0);
}

TEST_F(VolumeFileTest, ErrorsKeepTheirErrno) {
  Open();
  frontend_.Script({FakeFrontend::Act::kFail});
  EXPECT_EQ(Write(0, std::string(4096, 'a')), EIO);
}

TEST_F(VolumeFileTest, ARequestOutlivesTheFrontendsRestart) {
  Open();
  frontend_.Script({FakeFrontend::Act::kBreakAfter});
  EXPECT_EQ(Write(0, std::string(4096, 'a')), 0);
  EXPECT_EQ(Read(0, 4096).second, std::string(4096, 'a'));
}

}  // namespace
}  // namespace weir::fuse
