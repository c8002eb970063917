#include "client/nbd/export.h"

#include <cerrno>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "proto/base/errno.h"
#include "proto/base/payload.h"
#include "proto/base/position.h"
#include "volume/engine/result.h"
#include "volume/engine/types.h"
#include "volume/host/host.h"

namespace weir::nbd {
namespace {

using engine::RequestKind;
using engine::Result;
using host::IoOutcome;
using host::IoRequest;

constexpr uint64_t kMiB = 1 << 20;

// Keeps blocks in memory, remembers requests, and refuses those that a test chose.
class FakeVolume : public host::HostedVolume {
 public:
  const std::string& name() const override { return name_; }
  uint64_t size_bytes() const override { return 256 * kMiB; }
  uint32_t epoch() const override { return 1; }
  uint32_t intact_since() const override { return 1; }
  bool flush_supported() const override { return true; }

  void Submit(IoRequest request, host::IoCallback done) override {
    requests.push_back(request);
    IoOutcome outcome;
    if (auto it = errors.find(requests.size()); it != errors.end()) {
      outcome.result = Result(it->second);
      outcome.message = "as the test wants";
    } else {
      Perform(request, outcome);
    }
    done(std::move(outcome));
  }

  // By the number of the request, from 1.
  std::map<size_t, int> errors;
  std::vector<IoRequest> requests;

 private:
  void Perform(const IoRequest& request, IoOutcome& outcome) {
    for (uint64_t done = 0; done < request.length_bytes; done += kBlockBytes) {
      const uint64_t block = (request.offset_bytes + done) / kBlockBytes;
      const auto it = blocks_.find(block);
      switch (request.kind) {
        case RequestKind::kWrite:
          blocks_[block] = request.data.Slice(done, kBlockBytes);
          break;
        case RequestKind::kRead:
          outcome.parts.push_back({1, it == blocks_.end() ? Payload() : it->second});
          break;
        case RequestKind::kExtents:
          outcome.extents.push_back({1, it != blocks_.end()});
          break;
        default:
          blocks_.erase(block);
      }
    }
  }

  const std::string name_ = "fake";
  std::map<uint64_t, Payload> blocks_;
};

class ExportTest : public testing::Test {
 protected:
  std::shared_ptr<FakeVolume> volume_ = std::make_shared<FakeVolume>();
  Export export_{volume_};
};

std::string Pattern(size_t size) {
  std::string data(size, '\0');
  for (size_t i = 0; i < size; ++i) data[i] = static_cast<char>(i * 2654435761u >> 13);
  return data;
}

TEST_F(ExportTest, ReadsBackWhatWasWrittenAcrossPieces) {
  const std::string data = Pattern(13 * kMiB);
  ASSERT_TRUE(export_.Write(3 * kBlockBytes, data, false).ok());
  std::string read(data.size(), 'x');
  ASSERT_TRUE(export_.Read(3 * kBlockBytes, absl::MakeSpan(&read[0], read.size())).ok());
  EXPECT_EQ(read, data);
}

TEST_F(ExportTest, KeepsNoPointerIntoTheCallersBuffer) {
  std::string data(kBlockBytes, 'a');
  ASSERT_TRUE(export_.Write(0, data, false).ok());
  data.assign(kBlockBytes, 'b');
  std::string read(kBlockBytes, 'x');
  ASSERT_TRUE(export_.Read(0, absl::MakeSpan(&read[0], read.size())).ok());
  EXPECT_EQ(read, std::string(kBlockBytes, 'a'));
}

TEST_F(ExportTest, NeverWrittenBlocksReadAsZeros) {
  std::string read(2 * kBlockBytes, 'x');
  ASSERT_TRUE(export_.Read(0, absl::MakeSpan(&read[0], read.size())).ok());
  EXPECT_EQ(read, std::string(2 * kBlockBytes, '\0'));
}

TEST_F(ExportTest, SplitsWhatIsLargerThanOneRequestWithoutGapsOrOverlap) {
  ASSERT_TRUE(export_.Discard(kBlockBytes, 9 * kMiB, true).ok());
  ASSERT_EQ(volume_->requests.size(), 3u);
  uint64_t next = kBlockBytes;
  for (const IoRequest& request : volume_->requests) {
    EXPECT_EQ(request.kind, RequestKind::kDiscard);
    EXPECT_TRUE(request.fua);
    EXPECT_EQ(request.offset_bytes, next);
    EXPECT_LE(request.length_bytes, host::kRequestBytesMax);
    next += request.length_bytes;
  }
  EXPECT_EQ(next, kBlockBytes + 9 * kMiB);
}

TEST_F(ExportTest, OnePieceThatFailsFailsTheCallWithItsErrno) {
  volume_->errors[2] = ENOSPC;
  const absl::Status status = export_.Write(0, Pattern(12 * kMiB), false);
  EXPECT_EQ(StatusToErrno(status), ENOSPC);
  EXPECT_EQ(volume_->requests.size(), 3u);
}

TEST_F(ExportTest, AFlushKeepsEveryErrno) {
  for (int error : {EIO, EOPNOTSUPP, ESTALE, ENOSPC}) {
    volume_->errors[volume_->requests.size() + 1] = error;
    EXPECT_EQ(StatusToErrno(export_.Flush()), error);
  }
  EXPECT_TRUE(export_.Flush().ok());
}

TEST_F(ExportTest, ExtentsStartAtTheBlockOfAnUnalignedOffset) {
  ASSERT_TRUE(export_.Write(kBlockBytes, Pattern(kBlockBytes), false).ok());
  absl::StatusOr<std::vector<Export::Extent>> extents = export_.Extents(kBlockBytes + 512, 4096);
  ASSERT_TRUE(extents.ok()) << extents.status();
  ASSERT_EQ(extents->size(), 2u);
  EXPECT_EQ((*extents)[0].offset_bytes, kBlockBytes);
  EXPECT_FALSE((*extents)[0].hole);
  EXPECT_EQ((*extents)[1].offset_bytes, 2 * kBlockBytes);
  EXPECT_TRUE((*extents)[1].hole);
}

TEST_F(ExportTest, OneExtentsCallLooksAtABoundedPartOfALargeRange) {
  absl::StatusOr<std::vector<Export::Extent>> extents = export_.Extents(0, 256 * kMiB);
  ASSERT_TRUE(extents.ok()) << extents.status();
  const Export::Extent& last = extents->back();
  EXPECT_EQ(last.offset_bytes + last.length_bytes, 32 * kMiB);
}

}  // namespace
}  // namespace weir::nbd
