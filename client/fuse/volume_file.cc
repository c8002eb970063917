#include "client/fuse/volume_file.h"

#include <linux/falloc.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "proto/base/errno.h"
#include "proto/base/position.h"

namespace weir::fuse {
namespace {

// Of one request that carries no data; one may ask for terabytes.
constexpr uint64_t kPieceBytesMax = 256 << 20;

bool IsAligned(uint64_t offset, uint64_t length) {
  return offset % kBlockBytes == 0 && length % kBlockBytes == 0;
}

// Counts the pieces of one request; the last to be answered answers it, with the first error.
class Pieces {
 public:
  Pieces(uint64_t count, VolumeFile::Done done) : left_(count), done_(std::move(done)) {}

  void Answered(int error) {
    int none = 0;
    if (error != 0) error_.compare_exchange_strong(none, error);
    if (--left_ == 0) done_(error_);
  }

 private:
  std::atomic<uint64_t> left_;
  std::atomic<int> error_{0};
  const VolumeFile::Done done_;
};

}  // namespace

VolumeFile::VolumeFile(std::string name, std::unique_ptr<Client> control, std::unique_ptr<Volume> volume,
                       bool read_only)
    : name_(std::move(name)),
      control_(std::move(control)),
      volume_(std::move(volume)),
      read_only_(read_only),
      size_bytes_(volume_->size_bytes()) {}

void VolumeFile::Read(uint64_t offset, uint64_t length, DoneReading done) {
  const uint64_t size = size_bytes_;
  length = offset < size ? std::min(length, size - offset) : 0;
  if (length == 0) return done(0, "");
  if (!IsAligned(offset, length) || length > volume_->length_bytes_max()) return done(EINVAL, "");
  volume_->ReadAsync(offset, static_cast<uint32_t>(length), [done = std::move(done)](IoResult result) {
    done(StatusToErrno(result.status), std::move(result.data));
  });
}

void VolumeFile::Write(uint64_t offset, std::string data, bool fua, Done done) {
  if (read_only_) return done(EROFS);
  const uint64_t size = size_bytes_;
  if (offset > size || data.size() > size - offset) return done(ENOSPC);
  if (!IsAligned(offset, data.size()) || data.size() > volume_->length_bytes_max()) return done(EINVAL);
  if (data.empty()) return done(0);
  volume_->WriteAsync(offset, std::move(data), fua, [done = std::move(done)](const IoResult& result) {
    done(StatusToErrno(result.status));
  });
}

void VolumeFile::Flush(Done done) {
  volume_->FlushAsync([done = std::move(done)](const IoResult& result) { done(StatusToErrno(result.status)); });
}

void VolumeFile::Allocate(int mode, uint64_t offset, uint64_t length, Done done) {
  if (read_only_) return done(EROFS);
  const bool hole = mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
  const bool zeroes = (mode | FALLOC_FL_KEEP_SIZE) == (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
  if (!hole && !zeroes) return done(EOPNOTSUPP);
  const uint64_t size = size_bytes_;
  if (offset > size || length > size - offset) return done(ENOSPC);
  if (length == 0 || !IsAligned(offset, length)) return done(EINVAL);
  const uint64_t count = (length + kPieceBytesMax - 1) / kPieceBytesMax;
  const auto pieces = std::make_shared<Pieces>(count, std::move(done));
  for (uint64_t begin = 0; begin < length; begin += kPieceBytesMax) {
    const auto piece = static_cast<uint32_t>(std::min(kPieceBytesMax, length - begin));
    const auto answered = [pieces](const IoResult& result) { pieces->Answered(StatusToErrno(result.status)); };
    if (hole) {
      volume_->DiscardAsync(offset + begin, piece, answered);
    } else {
      volume_->WriteZeroesAsync(offset + begin, piece, /*fua=*/false, answered);
    }
  }
}

bool VolumeFile::RefreshSize() {
  const absl::StatusOr<v1::Volume> volume = control_->GetVolume(name_);
  if (volume.ok()) size_bytes_ = volume->size_bytes();
  return volume.ok();
}

void VolumeFile::AssumeSize(uint64_t size_bytes) {
  uint64_t known = size_bytes_;
  while (known < size_bytes && !size_bytes_.compare_exchange_weak(known, size_bytes)) {
  }
}

}  // namespace weir::fuse
