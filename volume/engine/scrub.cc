// Scrub: the members are compared, block by block, while clients write. DESIGN.md, "Scrub". See state.h.
//
// Every member is asked what it has of some blocks of a lane at a position that all have come to. Each
// reads them and checks them as a read does, and says the position and the checksum of the newest version.
// A block that was written to since then is compared again, at a later position. No write waits for any
// of it, and nothing is pinned: what is compared is always the newest version.
//
// What is damaged or differs is written anew by repair.cc, from a member that has it well.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/errno.h"
#include "volume/engine/state.h"

namespace weir::engine {
namespace {

using Kind = BlockDigest::Kind;

// A step that took longer was slowed down by something else, not by us.
constexpr absl::Duration kRestMax = absl::Milliseconds(250);
// A block that was written to during so many comparisons is left to the next scrub.
constexpr uint32_t kRoundsMax = 3;
// Steps that fail one after the other, with all members there: the scrub is broken off.
constexpr uint32_t kFailuresMax = 10;
// What is told in words of one scrub.
constexpr size_t kFindingsMax = 16;
// Blocks of one repair.
constexpr uint64_t kRepairBlocksMax = 64;

Position PositionOf(const BlockDigest* digest) {
  return digest == nullptr ? Position() : digest->position;
}

bool SameContent(const BlockDigest* a, const BlockDigest* b, bool overlay) {
  if (overlay && (a == nullptr) != (b == nullptr)) return false;
  const bool a_data = a != nullptr && a->kind == Kind::kData;
  const bool b_data = b != nullptr && b->kind == Kind::kData;
  if (!a_data || !b_data) return a_data == b_data;
  return a->position == b->position && a->crc == b->crc;
}

bool Is(const BlockDigest* digest, Kind kind) { return digest != nullptr && digest->kind == kind; }

std::string Describe(const BlockDigest* digest) {
  if (digest == nullptr) return "nothing";
  const std::string at = absl::StrCat(" of ", digest->position.ToString());
  if (digest->kind == Kind::kDamaged) return absl::StrCat("damaged data", at);
  if (digest->kind == Kind::kZeroes) return absl::StrCat("zeros", at);
  return absl::StrCat("data", at, " with checksum ", absl::Hex(digest->crc, absl::kZeroPad8));
}

}  // namespace

BlockVerdict CompareBlock(const std::vector<const BlockDigest*>& digests, bool overlay) {
  BlockVerdict verdict;
  Position newest;
  bool equal = true;
  for (const BlockDigest* digest : digests) {
    if (Is(digest, Kind::kNewer)) return {.newer = true};
    newest = std::max(newest, PositionOf(digest));
    equal = equal && !Is(digest, Kind::kDamaged) && SameContent(digest, digests[0], overlay);
  }
  if (equal) return verdict;
  // Of those that have the newest version, the content that most of all members have.
  const BlockDigest* right = nullptr;
  size_t most = 0;
  bool only_one = true;
  for (const BlockDigest* digest : digests) {
    if (Is(digest, Kind::kDamaged) || PositionOf(digest) != newest) continue;
    const auto same = static_cast<size_t>(
        std::count_if(digests.begin(), digests.end(), [&](const BlockDigest* other) {
          return !Is(other, Kind::kDamaged) && PositionOf(other) == newest &&
                 SameContent(digest, other, overlay);
        }));
    only_one = only_one && (most == 0 || SameContent(digest, right, overlay));
    if (same > most) {
      most = same;
      right = digest;
    }
  }
  verdict.undecided = most == 0 || (!only_one && most * 2 <= digests.size());
  if (verdict.undecided) return verdict;
  for (size_t i = 0; i < digests.size(); ++i) {
    const bool good = !Is(digests[i], Kind::kDamaged) && SameContent(digests[i], right, overlay);
    (good ? verdict.good : verdict.bad) |= uint64_t{1} << i;
  }
  return verdict;
}

void Engine::State::StartScrub() {
  if (scrub_.running || fenced_) return;
  const ScrubView before = std::exchange(scrub_.view, ScrubView());
  scrub_.view.finished = before.finished;
  scrub_.view.bytes_read_in_all = before.bytes_read_in_all;
  scrub_.view.bad_blocks_in_all = before.bad_blocks_in_all;
  scrub_.view.started = now_;
  scrub_.view.blocks_total = size_blocks_;  // what is added meanwhile is compared next time
  scrub_.running = scrub_.view.running = true;
  scrub_.answers.clear();
  scrub_.failures = 0;
  scrub_.not_before = now_;
  scrub_.lane = 0;
  ScrubFrom(0);
}

void Engine::State::StopScrub(std::string why) {
  if (!scrub_.running) return;
  scrub_.running = scrub_.view.running = false;
  scrub_.answers.clear();
  scrub_.view.ended = now_;
  scrub_.view.stopped = std::move(why);
  scrub_.due = now_ + options_.scrub_every;
  const ScrubView& view = scrub_.view;
  if (view.stopped.empty()) ++scrub_.view.finished;
  Emit(ReportScrub{
      .what = absl::StrCat(
          "scrub ", view.stopped.empty() ? "finished" : absl::StrCat("ended early: ", view.stopped),
          "; ", view.blocks_done, " of ", view.blocks_total, " blocks compared, ",
          view.bad_blocks, " were not as they should be on some replica"),
      .good = view.bad_blocks == 0 && view.stopped.empty()});
}

// Goes on at `block` of the lane, or with the next lane, or is done.
void Engine::State::ScrubFrom(uint64_t block) {
  scrub_.again.clear();
  scrub_.rounds = 0;
  const uint64_t size_blocks = scrub_.view.blocks_total;
  if (block >= size_blocks) {
    block = 0;
    ++scrub_.lane;
  }
  scrub_.view.blocks_done = 0;
  for (uint32_t i = 0; i < scrub_.lane; ++i) scrub_.view.blocks_done += BlocksBelow(i, size_blocks);
  if (scrub_.lane == lanes_.size()) return StopScrub("");
  scrub_.view.blocks_done += BlocksBelow(scrub_.lane, block);
  scrub_.range = {block, size_blocks - block};
}

bool Engine::State::AdvanceScrub() {
  if (!scrub_.running) {
    if (now_ < scrub_.due) return false;
    StartScrub();
  }
  if (!scrub_.answers.empty() || now_ < scrub_.not_before) return false;
  if (damages_.size() >= kDamagesMax) return false;
  // A member that is brought back comes first, and what it brings is compared once it is there.
  if (phase_ != Phase::kActive || join_) return false;
  const Lane& lane = lanes_[scrub_.lane];
  std::vector<const Target*> asked;
  for (const Target& target : targets_) {
    if (!target.member() || target.condemned()) continue;
    // Soon it is back, or it has left.
    if (!target.readable()) return false;
    if (target.updated < updates_) return false;  // it may not know yet how large the volume is
    if (lane.cursor(target.id).applied < lane.completed) return false;
    asked.push_back(&target);
  }
  if (asked.empty()) return false;
  scrub_.step_begun = now_;
  scrub_.clients_came = false;
  for (const Target* target : asked) {
    RunJoinStep step;
    step.step = next_step_++;
    step.kind = RunJoinStep::Kind::kDigest;
    step.target = target->id;
    step.target_config = target->config;
    step.incarnation = target->hello.incarnation;
    step.lane = LaneId{scrub_.lane};
    step.to = Position(options_.epoch, lane.completed);
    step.changes = {scrub_.range};
    step.bytes_max = ClientsUseIt() ? options_.join_step_bytes_beside_clients
                                    : options_.join_step_bytes;
    scrub_.answers.push_back({.step = step.step, .target = target->id});
    Emit(std::move(step));
  }
  return true;
}

bool Engine::State::ClientsUseIt() const {
  return scrub_.clients_came || !ops_.empty() || !queue_.empty();
}

bool Engine::State::ScrubStepDone(uint64_t step, JoinStepResult& result) {
  const auto found = std::find_if(scrub_.answers.begin(), scrub_.answers.end(),
                                  [step](const auto& answer) { return answer.step == step; });
  if (found == scrub_.answers.end()) return false;
  found->done = true;
  found->status = result.status;
  found->digests = std::move(result.digests);
  if (std::all_of(scrub_.answers.begin(), scrub_.answers.end(),
                  [](const auto& answer) { return answer.done; })) {
    const Scrub::Answers answers = std::exchange(scrub_.answers, {});
    ScrubAnswered(answers);
  }
  return true;
}

void Engine::State::ScrubAnswered(const Scrub::Answers& answers) {
  uint64_t bytes = 0;
  for (const Scrub::Answer& answer : answers) {
    if (!answer.status.ok()) return ScrubFailed(answer);
    if (answer.digests.next_block <= scrub_.range.first) {
      Scrub::Answer nothing = answer;
      nothing.status = absl::InternalError("a replica has compared nothing");
      return ScrubFailed(nothing);
    }
    bytes = std::max(bytes, answer.digests.bytes_read);
    scrub_.view.bytes_read += answer.digests.bytes_read;
    scrub_.view.bytes_read_in_all += answer.digests.bytes_read;
  }
  scrub_.failures = 0;
  const absl::Duration worked = now_ - scrub_.step_begun;
  absl::Duration rest = ClientsUseIt() ? std::min(worked, kRestMax) : absl::ZeroDuration();
  if (options_.scrub_bytes_per_second > 0) {
    rest = std::max(rest, absl::Seconds(static_cast<double>(bytes) /
                                        static_cast<double>(options_.scrub_bytes_per_second)) -
                              worked);
  }
  scrub_.not_before = now_ + rest;
  CompareAnswers(answers);
}

void Engine::State::ScrubFailed(const Scrub::Answer& answer) {
  const absl::Status& status = answer.status;
  if (StatusToErrno(status) == ESTALE) return Fence(std::string(status.message()));
  StepFailed(*Find(answer.target), status);
  // It was started anew, or is away: the same blocks again, once it is there or has left.
  scrub_.not_before = now_ + options_.join_delay;
  if (++scrub_.failures < kFailuresMax) return;
  StopScrub(std::string(status.message()));
}

void Engine::State::CompareAnswers(const Scrub::Answers& answers) {
  uint64_t end = scrub_.range.end();
  for (const Scrub::Answer& answer : answers) end = std::min(end, answer.digests.next_block);
  std::vector<uint64_t> newer;
  std::vector<size_t> at(answers.size(), 0);
  std::vector<const BlockDigest*> digests(answers.size());
  for (;;) {
    uint64_t block = end;
    for (size_t i = 0; i < answers.size(); ++i) {
      const std::vector<BlockDigest>& blocks = answers[i].digests.blocks;
      if (at[i] < blocks.size()) block = std::min(block, blocks[at[i]].block);
    }
    if (block >= end) break;
    for (size_t i = 0; i < answers.size(); ++i) {
      const std::vector<BlockDigest>& blocks = answers[i].digests.blocks;
      const bool has = at[i] < blocks.size() && blocks[at[i]].block == block;
      digests[i] = has ? &blocks[at[i]++] : nullptr;
    }
    // Of a range that is compared again the others have been.
    if (scrub_.rounds > 0 && !std::binary_search(scrub_.again.begin(), scrub_.again.end(), block)) {
      continue;
    }
    const BlockVerdict verdict = CompareBlock(digests, options_.overlay);
    if (verdict.newer) {
      newer.push_back(block);
    } else if (verdict.undecided || verdict.bad != 0) {
      BlockIsBad(block, verdict, answers, digests);
    }
  }
  if (scrub_.rounds == 0) scrub_.next = end;
  CompareNext(end, std::move(newer));
}

// `end`: so far the range at hand was covered.
void Engine::State::CompareNext(uint64_t end, std::vector<uint64_t> newer) {
  // Those of the last round that the answers did not come to.
  for (uint64_t block : scrub_.again) {
    if (scrub_.rounds > 0 && block >= end) newer.push_back(block);
  }
  if (newer.empty()) return ScrubFrom(scrub_.next);
  if (++scrub_.rounds == kRoundsMax) {
    scrub_.view.skipped_blocks += newer.size();
    return ScrubFrom(scrub_.next);
  }
  scrub_.range = {newer.front(), newer.back() + 1 - newer.front()};
  scrub_.again = std::move(newer);
}

void Engine::State::BlockIsBad(uint64_t block, const BlockVerdict& verdict,
                               const Scrub::Answers& answers,
                               const std::vector<const BlockDigest*>& digests) {
  ++scrub_.view.bad_blocks;
  ++scrub_.view.bad_blocks_in_all;
  if (verdict.undecided) {
    ++scrub_.view.left_blocks;
    std::string what = absl::StrCat("block ", block, " differs, and no replica can be told to be right:");
    for (size_t i = 0; i < answers.size(); ++i) {
      absl::StrAppend(&what, i == 0 ? " " : ", ", Find(answers[i].target)->config.replica, " has ",
                      Describe(digests[i]));
    }
    return NoteFinding(std::move(what));
  }
  uint64_t sources = 0;
  for (size_t i = 0; i < answers.size(); ++i) {
    if ((verdict.good >> i & 1) != 0) sources |= Bit(answers[i].target);
  }
  for (size_t i = 0; i < answers.size(); ++i) {
    if ((verdict.bad >> i & 1) == 0) continue;
    AddDamage({.target = answers[i].target,
               .lane = LaneId{scrub_.lane},
               .range = {block, 1},
               .sources = sources,
               .by_scrub = true});
  }
}

// Blocks that follow each other are repaired together.
void Engine::State::AddDamage(Damage damage) {
  const bool first_is_repaired = repair_step_ != 0;
  for (size_t i = first_is_repaired ? 1 : 0; i < damages_.size(); ++i) {
    Damage& known = damages_[i];
    if (known.target != damage.target || known.lane != damage.lane ||
        known.sources != damage.sources || known.by_scrub != damage.by_scrub) {
      continue;
    }
    if (known.range.end() != damage.range.first || known.range.count >= kRepairBlocksMax) continue;
    known.range.count += damage.range.count;
    return;
  }
  damages_.push_back(std::move(damage));
}

void Engine::State::NoteFinding(std::string what) {
  Emit(ReportScrub{.what = what, .good = false});
  if (scrub_.view.findings.size() < kFindingsMax) scrub_.view.findings.push_back(std::move(what));
}

// A repair of what a scrub has found is over.
void Engine::State::ScrubRepaired(const Damage& damage, const absl::Status& status) {
  if (status.ok()) {
    scrub_.view.repaired_blocks += damage.range.count;
    return;
  }
  scrub_.view.left_blocks += damage.range.count;
  NoteFinding(absl::StrCat("blocks ", damage.range.first, "+", damage.range.count, " of ",
                           Find(damage.target)->config.replica,
                           " are not as they should be, and could not be written anew: ",
                           status.message()));
}

}  // namespace weir::engine
