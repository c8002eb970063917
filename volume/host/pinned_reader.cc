#include "volume/host/pinned_reader.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/crc32c.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "volume/host/volume_record.h"

namespace weir::host {
namespace {

// Blocks of one call, as the replica limits them.
constexpr uint64_t kReadBlocksMax = 256;
constexpr absl::Duration kCallDeadline = absl::Seconds(10);

// The blocks of a reply; EBADMSG if a checksum does not match, and if it is not of `range`.
absl::StatusOr<std::vector<PinnedReader::Block>> Decode(v1::ReadPinnedResponse response,
                                                        BlockRange range) {
  std::vector<PinnedReader::Block> blocks;
  for (v1::BlockVersion& version : *response.mutable_versions()) {
    const bool follows = blocks.empty() || blocks.back().block < version.block();
    const bool good = version.zero() ? version.data().empty()
                                     : version.data().size() == kBlockBytes &&
                                           Crc32c(version.data()) == version.crc32c();
    if (!follows || !good || version.block() < range.first || version.block() >= range.end()) {
      return ErrnoToStatus(EBADMSG, absl::StrCat("block ", version.block(),
                                                 " does not match its checksum"));
    }
    blocks.push_back({version.block(), std::move(*version.mutable_data())});
  }
  return blocks;
}

}  // namespace

PinnedReader::PinnedReader(catalog::Catalog* catalog, const v1::VolumeRecord& record, uint64_t pin,
                           Cancellation* cancellation)
    : volume_(record.name()),
      lanes_(record.lanes()),
      size_blocks_(record.size_bytes() / kBlockBytes),
      pin_(pin) {
  for (const v1::Member& member : record.members()) {
    const auto known = catalog->GetReplica(member.replica());
    Replica& replica = replicas_.emplace_back();
    replica.client = std::make_unique<ReplicaClient>(
        member.replica(), known.ok() ? known->record.address() : member.address(), cancellation);
    replica.fence = NewFence(catalog->cluster_id());
    replica.fence.set_volume_id(record.id());
    replica.fence.set_store_id(member.store_id());
    in_sync_.push_back(member.in_sync());
  }
}

absl::Status PinnedReader::OnAny(engine::AskPinned::What what, uint64_t blocks,
                                 const std::function<absl::Status(Replica&)>& call) {
  engine::AskPinned ask(what, in_sync_);
  while (const std::optional<size_t> member = ask.Next()) {
    const absl::Status status = call(replicas_[*member]);
    if (status.ok()) return status;
    ask.Failed(status);
  }
  const absl::Status why = ask.status(blocks);
  const std::string text =
      absl::StrCat("volume ", volume_, " cannot be read as of pin ", pin_, " from any of its replicas: ", why.message());
  const int error = StatusToErrno(why);
  return error == EBADMSG ? ErrnoToStatus(error, text) : absl::Status(why.code(), text);
}

absl::StatusOr<std::vector<PinnedReader::Block>> PinnedReader::Read(BlockRange range) {
  std::vector<Block> blocks;
  for (uint64_t first = range.first; first < range.end(); first += kReadBlocksMax) {
    const BlockRange part{first, std::min(kReadBlocksMax, range.end() - first)};
    const absl::Status read = ReadPart(part, &blocks);
    const bool apart = engine::AskPinned::ByBlocks(part, read);
    if (!apart) RETURN_IF_ERROR(read);
    for (uint64_t block = part.first; apart && block < part.end(); ++block) {
      RETURN_IF_ERROR(ReadPart({block, 1}, &blocks));
    }
  }
  return blocks;
}

absl::Status PinnedReader::ReadPart(BlockRange part, std::vector<Block>* blocks) {
  return OnAny(engine::AskPinned::What::kContent, part.count, [&](Replica& replica) -> absl::Status {
    v1::ReadPinnedRequest request;
    *request.mutable_fence() = replica.fence;
    request.set_pin(pin_);
    request.set_first_block(part.first);
    request.set_block_count(static_cast<uint32_t>(part.count));
    ASSIGN_OR_RETURN(v1::ReadPinnedResponse response,
                     replica.client->ReadPinned(request, kCallDeadline));
    ASSIGN_OR_RETURN(std::vector<Block> read, Decode(std::move(response), part));
    std::move(read.begin(), read.end(), std::back_inserter(*blocks));
    return absl::OkStatus();
  });
}

absl::Status PinnedReader::ForEachPage(bool kept, const std::function<absl::Status(const v1::GetChangedSinceResponse&)>& visit) {
  for (uint32_t lane = 0; lane < lanes_; ++lane) {
    for (uint64_t from = 0; from < size_blocks_;) {
      v1::GetChangedSinceResponse page;
      RETURN_IF_ERROR(OnAny(engine::AskPinned::What::kChanges, /*blocks=*/1, [&](Replica& replica) -> absl::Status {
        v1::GetChangedSinceRequest request;
        *request.mutable_fence() = replica.fence;
        request.set_pin(pin_);
        request.set_lane(lane);
        request.set_from_block(from);
        request.set_kept(kept);
        ASSIGN_OR_RETURN(page, replica.client->GetChangedSince(request, kCallDeadline));
        if (page.next_block() > from) return absl::OkStatus();
        return absl::InternalError("its pages do not end");
      }));
      RETURN_IF_ERROR(visit(page));
      from = page.next_block();
    }
  }
  return absl::OkStatus();
}

absl::Status PinnedReader::ForEachChange(
    const std::function<absl::Status(BlockRange)>& visit) {
  return ForEachPage(/*kept=*/false, [&visit](const v1::GetChangedSinceResponse& page) {
    for (const v1::BlockRun& run : page.changed()) {
      RETURN_IF_ERROR(visit({run.first_block(), run.block_count()}));
    }
    return absl::OkStatus();
  });
}

absl::StatusOr<PinnedReader::Use> PinnedReader::GetUse() {
  Use use{.kept = 0};
  RETURN_IF_ERROR(ForEachPage(/*kept=*/true, [&use](const v1::GetChangedSinceResponse& page) {
    for (const v1::BlockRun& run : page.changed()) use.changed += run.block_count();
    if (!page.has_kept_blocks()) use.kept.reset();
    if (use.kept) *use.kept += page.kept_blocks();
    use.own += page.own_blocks();
    return absl::OkStatus();
  }));
  return use;
}

}  // namespace weir::host
