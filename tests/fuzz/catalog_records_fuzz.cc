// volume/host: a volume's record as a catalog gives it back, and what its members answer to the takeover
// that it begins.
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "proto/base/check.h"
#include "tests/fuzz/input.h"
#include "volume/engine/takeover.h"
#include "volume/host/clone_codec.h"
#include "volume/host/volume_record.h"
#include "weir/v1/catalog.pb.h"
#include "weir/v1/replica.pb.h"
#include "weir/v1/volume.pb.h"

namespace weir::host {
namespace {

constexpr int kStepsMax = 64;

// The record, in every form that it is given; back and forth it stays the same.
void Convert(const v1::VolumeRecord& record, absl::string_view table_text) {
  const engine::Table table = ToTable(record);
  CHECK_EQ(static_cast<int>(table.targets.size()), record.members_size());
  engine::CommitMembers commit;
  commit.table = table;
  commit.floor.resize(record.lanes());
  const v1::VolumeRecord next = WithMembers(record, commit);
  CHECK_EQ(next.members_size(), record.members_size());
  CHECK_OK(CheckRecord(next));
  v1::Table wire;
  if (!fuzz::Parse(table_text, &wire)) return;
  const absl::StatusOr<engine::Table> loaded = TableFromWire(wire, record);
  if (loaded.ok()) CHECK_EQ(static_cast<int>(loaded->targets.size()), wire.targets_size());
}

class FuzzedTakeover {
 public:
  explicit FuzzedTakeover(const v1::VolumeRecord& record)
      : record_(record),
        takeover_(ToTakeover(record), {.lanes = record.lanes(), .owner = "me"}, now_) {
    takeover_.Start(effects_);
  }

  // Answers the oldest effect. False: there is none left, the takeover has ended.
  bool Step(fuzz::Input& input) {
    if (next_ == effects_.size()) return false;
    const engine::TakeoverEffect effect = effects_[next_++];
    const uint8_t how = input.Byte();
    now_ += absl::Milliseconds(how);
    const absl::Status status = how % 8 == 0   ? absl::UnavailableError("unknown")
                                : how % 8 == 1 ? absl::AbortedError("another's")
                                : how % 8 == 2 ? absl::FailedPreconditionError("refused")
                                               : absl::OkStatus();
    if (const auto* commit = std::get_if<engine::CommitRecord>(&effect)) {
      CHECK_EQ(static_cast<int>(commit->record.members.size()), record_.members_size());
      const v1::VolumeRecord next = WithTakeover(record_, commit->record);
      CHECK_OK(CheckRecord(next));
      takeover_.RecordCommitted(status, now_, effects_);
    } else if (const auto* seal = std::get_if<engine::SealMember>(&effect)) {
      takeover_.MemberSealed(seal->member, Sealed(status, seal->member, input.Message()), now_, effects_);
    } else if (const auto* copy = std::get_if<engine::CopyLane>(&effect)) {
      CHECK_LT(Index(copy->lane), record_.lanes());
      takeover_.LaneCopied(*copy, status, now_, effects_);
    } else if (const auto* base = std::get_if<engine::TakeBaseOn>(&effect)) {
      CHECK_EQ(base->expected.size(), record_.lanes());
      takeover_.BaseTaken(base->member, status, now_, effects_);
    } else if (const auto* wait = std::get_if<engine::WaitFor>(&effect)) {
      now_ += wait->delay;
      takeover_.Woken(now_, effects_);
    } else if (const auto* done = std::get_if<engine::TakeoverDone>(&effect)) {
      CHECK(!done->record.recovering);
      return false;
    } else if (std::holds_alternative<engine::TakeoverFailed>(effect)) {
      return false;
    }
    return true;
  }

 private:
  // Of the member's store, unless it names one: else nothing would come further.
  absl::StatusOr<engine::SealedState> Sealed(const absl::Status& status, uint32_t member,
                                             absl::string_view message) const {
    if (!status.ok()) return status;
    v1::SealResponse response;
    if (!fuzz::Parse(message, &response)) return absl::InternalError("malformed");
    engine::SealedState sealed = DecodeSeal(response);
    if (sealed.store_id.empty()) {
      sealed.store_id = record_.members(static_cast<int>(member)).store_id();
    }
    return sealed;
  }

  const v1::VolumeRecord record_;
  engine::Time now_ = absl::Seconds(100);
  engine::Takeover takeover_;
  engine::TakeoverEffects effects_;
  size_t next_ = 0;
};

}  // namespace
}  // namespace weir::host

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  weir::fuzz::Input input(data, size);
  weir::v1::VolumeRecord record;
  if (!weir::fuzz::Parse(input.Message(), &record)) return 0;
  if (!weir::host::CheckRecord(record).ok()) return 0;
  weir::host::Convert(record, input.Message());
  weir::host::FuzzedTakeover takeover(record);
  for (int i = 0; i < weir::host::kStepsMax && takeover.Step(input); ++i) {
  }
  return 0;
}
