#include "client/nbd/export.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "proto/base/errno.h"
#include "proto/base/payload.h"
#include "proto/base/position.h"
#include "proto/base/status_macros.h"
#include "volume/engine/types.h"

namespace weir::nbd {
namespace {

using engine::RequestKind;
using host::IoOutcome;
using host::IoRequest;

// Pieces of one call in flight together: 32 MiB, as much as most clients ever
// ask for at once, and well below the replay buffer.
constexpr size_t kPiecesInflightMax = 8;
// How far one extents call looks.
constexpr uint64_t kExtentsBytesMax = uint64_t{kPiecesInflightMax} * host::kRequestBytesMax;

absl::Status StatusOf(const IoOutcome& outcome) {
  return ErrnoToStatus(outcome.result.error(), outcome.message);
}

std::vector<IoRequest> Split(const IoRequest& whole) {
  std::vector<IoRequest> pieces;
  for (uint64_t done = 0; done < whole.length_bytes;) {
    IoRequest piece = whole;
    piece.offset_bytes = whole.offset_bytes + done;
    piece.length_bytes = std::min<uint64_t>(whole.length_bytes - done, host::kRequestBytesMax);
    if (!whole.data.empty()) piece.data = whole.data.Slice(done, piece.length_bytes);
    done += piece.length_bytes;
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

std::vector<IoOutcome> SubmitTogether(host::HostedVolume& volume,
                                      absl::Span<const IoRequest> pieces) {
  std::vector<IoOutcome> outcomes(pieces.size());
  absl::BlockingCounter unfinished(static_cast<int>(pieces.size()));
  for (size_t i = 0; i < pieces.size(); ++i) {
    volume.Submit(pieces[i], [&unfinished, slot = &outcomes[i]](IoOutcome outcome) {
      *slot = std::move(outcome);
      unfinished.DecrementCount();
    });
  }
  unfinished.Wait();
  return outcomes;
}

// `out` has as many bytes as the read asked for.
absl::Status CopyParts(const std::vector<engine::ReadPart>& parts, absl::Span<char> out) {
  size_t filled = 0;
  for (const engine::ReadPart& part : parts) {
    const size_t length = part.blocks * kBlockBytes;
    if (length > out.size() - filled || (!part.data.empty() && part.data.size() != length)) {
      return ErrnoToStatus(EIO, "a read's parts do not cover its range");
    }
    if (part.data.empty()) {
      std::memset(out.data() + filled, 0, length);
    } else {
      std::memcpy(out.data() + filled, part.data.bytes().data(), length);
    }
    filled += length;
  }
  if (filled != out.size()) return ErrnoToStatus(EIO, "a read was answered with too little data");
  return absl::OkStatus();
}

absl::Status Ignore(const IoRequest&, const IoOutcome&) { return absl::OkStatus(); }

}  // namespace

absl::Status Export::Submit(
    const IoRequest& whole,
    const std::function<absl::Status(const IoRequest&, const IoOutcome&)>& absorb) {
  if (whole.length_bytes <= host::kRequestBytesMax) {
    const IoOutcome outcome = volume_->SubmitAndWait(whole);
    RETURN_IF_ERROR(StatusOf(outcome));
    return absorb(whole, outcome);
  }
  const std::vector<IoRequest> pieces = Split(whole);
  for (size_t begin = 0; begin < pieces.size(); begin += kPiecesInflightMax) {
    const auto window = absl::MakeConstSpan(pieces).subspan(begin, kPiecesInflightMax);
    const std::vector<IoOutcome> outcomes = SubmitTogether(*volume_, window);
    for (const IoOutcome& outcome : outcomes) RETURN_IF_ERROR(StatusOf(outcome));
    for (size_t i = 0; i < window.size(); ++i) RETURN_IF_ERROR(absorb(window[i], outcomes[i]));
  }
  return absl::OkStatus();
}

absl::Status Export::Read(uint64_t offset_bytes, absl::Span<char> out) {
  IoRequest request;
  request.kind = RequestKind::kRead;
  request.offset_bytes = offset_bytes;
  request.length_bytes = out.size();
  return Submit(request, [&](const IoRequest& piece, const IoOutcome& outcome) {
    return CopyParts(outcome.parts,
                     out.subspan(piece.offset_bytes - offset_bytes, piece.length_bytes));
  });
}

absl::Status Export::Write(uint64_t offset_bytes, absl::string_view data, bool fua) {
  IoRequest request;
  request.kind = RequestKind::kWrite;
  request.offset_bytes = offset_bytes;
  request.length_bytes = data.size();
  request.fua = fua;
  request.data = Payload::CopyOf(data);
  return Submit(request, Ignore);
}

absl::Status Export::WriteZeroes(uint64_t offset_bytes, uint64_t length_bytes, bool fua) {
  IoRequest request;
  request.kind = RequestKind::kWriteZeroes;
  request.offset_bytes = offset_bytes;
  request.length_bytes = length_bytes;
  request.fua = fua;
  return Submit(request, Ignore);
}

absl::Status Export::Discard(uint64_t offset_bytes, uint64_t length_bytes, bool fua) {
  IoRequest request;
  request.kind = RequestKind::kDiscard;
  request.offset_bytes = offset_bytes;
  request.length_bytes = length_bytes;
  request.fua = fua;
  return Submit(request, Ignore);
}

absl::Status Export::Flush() {
  IoRequest request;
  request.kind = RequestKind::kFlush;
  return Submit(request, Ignore);
}

absl::StatusOr<std::vector<Export::Extent>> Export::Extents(uint64_t offset_bytes,
                                                            uint64_t length_bytes) {
  IoRequest request;
  request.kind = RequestKind::kExtents;
  request.offset_bytes = offset_bytes / kBlockBytes * kBlockBytes;
  uint64_t length = length_bytes + (offset_bytes - request.offset_bytes);
  length = std::min((length + kBlockBytes - 1) / kBlockBytes * kBlockBytes, kExtentsBytesMax);
  request.length_bytes = length;

  std::vector<Extent> extents;
  uint64_t end = request.offset_bytes;
  RETURN_IF_ERROR(Submit(request, [&](const IoRequest&, const IoOutcome& outcome) {
    for (const engine::Run& run : outcome.extents) {
      extents.push_back({end, run.blocks * kBlockBytes, !run.allocated});
      end += run.blocks * kBlockBytes;
    }
    return absl::OkStatus();
  }));
  if (end != request.offset_bytes + request.length_bytes) {
    return ErrnoToStatus(EIO, absl::StrCat("extents end at byte ", end, ", not at ",
                                           request.offset_bytes + request.length_bytes));
  }
  return extents;
}

}  // namespace weir::nbd
