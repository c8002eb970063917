// Runs testdata/*.txt: each act is a command above "----" and, below it, the
// effects the engine must answer, line by line. A sentence before the command
// says what the act shows. WEIR_UPDATE_TRANSCRIPTS=DIR writes the files anew
// with what the engine does now.
//
// Commands (times in ms, blocks and counts in blocks; one stripe is 4 blocks, 2 lanes):
//   volume [up] [targets=a:1,b:1,c:1] [size=64] [option=value ...]
//          a new one; NAME:DOMAINS; NAME:DOMAINS:noflush announces that it cannot flush;
//          up: every target is connected at once
//   connect NAME [at=N,N] [epoch=E] [durable=N,N] [full] [noflush] [domains=N] [process=N]   durable: also E.N
//          the session begins, with its lanes there; process=0 is the one that the engine knows at first
//   lost NAME [ERRNO] REASON   the errno of the status that ended the session
//   write|zero|discard|read|extents|barrier ID FIRST COUNT [fua]
//   flush ID
//   ok NAME CLONE [newest=E.N] [durable=LANE:[E.]N,...]   durable: else what it has applied, in this epoch
//   ok all           every clone in flight, in the order of sending; ok NAME all: of one target
//   err NAME CLONE ERRNO
//   suspend ID [noflush] [deadline=MS] | resume ID | restore|restored ID [deadline=MS]
//   load ID NAME[:out][@ADDRESS] ...
//   committed [fail|lost]   fail: the outcome is unknown; lost: somebody else has changed the record
//   checked [fail|lost]     what the catalog says of the epoch; fail: it does not answer; lost: it is another's
//   scrub start|stop
//   digest STEP [next=BLOCK] [bytes=N] [fail=unavailable|io] [BLOCK:POSITION:CONTENT ...]   the answer to a
//          scrub's step; POSITION as E.N, CONTENT a checksum, zero, damaged or newer
//   pong NAME N
//   space NAME full|free
//   time MS          advances the clock by MS and fires the timer
//   wait MS          advances the clock only
//   timer            when the timer is due
//   view
//   stats            what is counted, held and not durable; what is 0 is left out
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gtest/gtest.h"
#include "proto/base/check.h"
#include "proto/base/errno.h"
#include "volume/engine/engine.h"

namespace weir::engine {
namespace {

constexpr uint32_t kLanes = 2;
constexpr Epoch kEpoch = 7;

int ErrnoOf(const std::string& name) {
  static const std::map<std::string, int> kErrnos = {
      {"OK", 0},           {"EIO", EIO},       {"ENOSPC", ENOSPC},
      {"EOPNOTSUPP", EOPNOTSUPP}, {"REQUEUE", EAGAIN}, {"FENCED", ESTALE},
      {"EBADMSG", EBADMSG}, {"ETIMEDOUT", ETIMEDOUT}, {"EBUSY", EBUSY},
      {"EINVAL", EINVAL}};
  auto it = kErrnos.find(name);
  CHECK(it != kErrnos.end());
  return it->second;
}

std::string NameOf(Result result) {
  for (const char* name : {"OK", "EIO", "ENOSPC", "EOPNOTSUPP", "REQUEUE", "FENCED",
                           "EBADMSG", "ETIMEDOUT", "EBUSY", "EINVAL"}) {
    if (ErrnoOf(name) == result.error()) return name;
  }
  return absl::StrCat("errno ", result.error());
}

const char* NameOf(RequestKind kind) {
  switch (kind) {
    case RequestKind::kRead: return "read";
    case RequestKind::kWrite: return "write";
    case RequestKind::kWriteZeroes: return "zero";
    case RequestKind::kDiscard: return "discard";
    case RequestKind::kFlush: return "flush";
    case RequestKind::kBarrier: return "barrier";
    case RequestKind::kExtents: return "extents";
  }
  return "?";
}

uint64_t Number(absl::string_view text) {
  uint64_t n = 0;
  CHECK(absl::SimpleAtoi(text, &n));
  return n;
}

std::vector<uint64_t> Numbers(absl::string_view text) {
  std::vector<uint64_t> numbers;
  for (absl::string_view part : absl::StrSplit(text, ',')) numbers.push_back(Number(part));
  return numbers;
}

// E.N, or N of the epoch that the volume has.
Position PositionOf(absl::string_view text) {
  std::vector<std::string> parts = absl::StrSplit(text, '.');
  return parts.size() < 2 ? Position(kEpoch, Number(text)) : Position(Number(parts[0]), Number(parts[1]));
}

// One command: its words, and the NAME=VALUE among them.
struct Command {
  explicit Command(const std::string& line) {
    for (absl::string_view word : absl::StrSplit(line, ' ', absl::SkipEmpty())) {
      std::vector<std::string> pair = absl::StrSplit(word, absl::MaxSplits('=', 1));
      if (pair.size() == 2) {
        named[pair[0]] = pair[1];
      } else {
        words.emplace_back(word);
      }
    }
  }
  bool Has(const std::string& word) const {
    return std::find(words.begin(), words.end(), word) != words.end();
  }
  std::string Named(const std::string& name, const std::string& otherwise) const {
    auto it = named.find(name);
    return it == named.end() ? otherwise : it->second;
  }
  std::vector<std::string> words;
  std::map<std::string, std::string> named;
};

absl::Duration MillisecondsOr(const Command& command, const std::string& name,
                              absl::Duration otherwise) {
  const std::string text = command.Named(name, "");
  return text.empty() ? otherwise : absl::Milliseconds(Number(text));
}

class Player {
 public:
  std::string Run(const std::string& line) {
    Command command(line);
    Effects effects;
    const std::string& verb = command.words[0];
    if (verb == "volume") {
      MakeVolume(command, effects);
    } else if (verb == "view") {
      return Show(engine_->View());
    } else if (verb == "stats") {
      return Show(engine_->GetStats());
    } else if (verb == "timer") {
      return absl::StrCat("due in ", absl::FormatDuration(engine_->next_timer() - now_), "\n");
    } else {
      Act(verb, command, effects);
    }
    std::string out;
    for (const Effect& effect : effects) {
      absl::StrAppend(&out, Show(effect), "\n");
      if (const auto* send = std::get_if<SendClone>(&effect)) sent_[send->clone.id] = *send;
    }
    return out.empty() ? "-\n" : out;
  }

 private:
  void MakeVolume(const Command& command, Effects& effects) {
    Options options;
    options.size_blocks = Number(command.Named("size", "64"));
    options.lanes = LaneGeometry{.lanes = kLanes, .stripe_blocks = 4};
    options.epoch = kEpoch;
    options.min_in_sync = Number(command.Named("min_in_sync", "1"));
    // Unless an act is about them there are no leases, and nobody leaves.
    options.leave_after = MillisecondsOr(command, "leave_after", absl::InfiniteDuration());
    options.lease = MillisecondsOr(command, "lease", absl::InfiniteDuration());
    options.hold_deadline = absl::Milliseconds(Number(command.Named("hold_deadline", "1000")));
    options.requeue_deadline = absl::Milliseconds(Number(command.Named("requeue_deadline", "1000")));
    options.requeue_delay = absl::Milliseconds(20);
    options.slow_window = MillisecondsOr(command, "slow_window", absl::InfiniteDuration());
    options.slow_windows = 2;
    options.clone_deadline = absl::Milliseconds(Number(command.Named("clone_deadline", "400")));
    options.flush_interval = absl::Milliseconds(Number(command.Named("flush_interval", "1000000")));
    options.replay_bytes_max = Number(command.Named("replay_bytes_max", "50331648"));
    options.flush_bytes = std::min<uint64_t>(options.flush_bytes, options.replay_bytes_max);
    options.join_bytes_per_second = Number(command.Named("join_rate", "0"));
    options.overlay = command.Has("overlay");
    options.scrub_every = MillisecondsOr(command, "scrub_every", absl::InfiniteDuration());
    options.scrub_first_after = absl::Milliseconds(500);
    options.scrub_bytes_per_second = Number(command.Named("scrub_rate", "0"));
    credit_ = Number(command.Named("credit", "4194304"));
    sent_.clear();
    applied_.clear();
    names_.clear();
    ids_.clear();
    Table table;
    for (absl::string_view spec :
         absl::StrSplit(command.Named("targets", "a:1,b:1,c:1"), ',')) {
      std::vector<std::string> parts = absl::StrSplit(spec, ':');
      domains_[parts[0]] = Number(parts[1]);
      flushes_[parts[0]] = parts.size() < 3 || parts[2] != "noflush";
      ids_[parts[0]] = TargetId{static_cast<uint32_t>(names_.size())};
      names_.push_back(parts[0]);
      table.targets.push_back({.replica = parts[0], .address = parts[0] + ":1",
                               .store_id = "store-" + parts[0]});
    }
    CHECK_OK(options.Validate());
    engine_ = std::make_unique<Engine>(options, table, now_, effects);
    if (!command.Has("up")) return;
    for (const std::string& name : names_) Connect(Command("connect " + name), effects);
  }

  void Act(const std::string& verb, const Command& command, Effects& effects) {
    const std::vector<std::string>& words = command.words;
    if (verb == "connect") return Connect(command, effects);
    if (verb == "ok" && words[1] == "all") return AnswerAll("", effects);
    if (verb == "ok" && words[2] == "all") return AnswerAll(words[1], effects);
    if (verb == "ok" || verb == "err") return Answer(command, effects);
    if (verb == "wait") {
      now_ += absl::Milliseconds(Number(words[1]));
      return;
    }
    if (verb == "lost") {
      Result result(words.size() > 3 ? ErrnoOf(words[2]) : EIO);
      return engine_->TargetLost(ids_.at(words[1]), result, words.back(), now_, effects);
    }
    if (verb == "suspend") {
      return engine_->Suspend(ControlId{Number(words[1])}, command.Has("noflush"),
                              absl::Milliseconds(Number(command.Named("deadline", "500"))),
                              now_, effects);
    }
    if (verb == "resume") return engine_->Resume(ControlId{Number(words[1])}, now_, effects);
    if (verb == "restore" || verb == "restored") {
      const auto event = verb == "restore" ? &Engine::StartRestore : &Engine::EndRestore;
      return (*engine_.*event)(ControlId{Number(words[1])}, absl::Milliseconds(Number(command.Named("deadline", "500"))),
                               now_, effects);
    }
    if (verb == "pin") {
      return engine_->SetPin(ControlId{Number(words[1])}, Number(words[2]),
                             absl::Milliseconds(Number(command.Named("deadline", "5000"))), now_,
                             effects);
    }
    if (verb == "unpin") return engine_->DropPin(Number(words[1]), now_, effects);
    if (verb == "grow") {
      return engine_->Grow(ControlId{Number(words[1])}, Number(words[2]), now_, effects);
    }
    if (verb == "lock") {
      return engine_->LockRange(ControlId{Number(words[1])}, {Number(words[2]), Number(words[3])},
                                now_, effects);
    }
    if (verb == "unlock") return engine_->UnlockRange(now_, effects);
    if (verb == "load") return Load(command, effects);
    if (verb == "step") return Step(command, effects);
    if (verb == "digest") return Digest(command, effects);
    if (verb == "scrub" && words[1] == "start") return engine_->StartScrub(now_, effects);
    if (verb == "scrub") return engine_->StopScrub(now_, effects);
    if (verb == "committed" || verb == "checked") {
      absl::Status status;
      if (command.Has("fail")) status = absl::UnavailableError("no catalog");
      if (command.Has("lost")) status = absl::AbortedError("another frontend has it");
      if (verb == "checked") return engine_->EpochChecked(status, now_, effects);
      return engine_->MembersCommitted(status, now_, effects);
    }
    if (verb == "pong") {
      return engine_->TargetPonged(ids_.at(words[1]), Number(words[2]), now_, effects);
    }
    if (verb == "space") {
      return engine_->TargetSpaceChanged(ids_.at(words[1]), words[2] == "full", now_, effects);
    }
    if (verb == "time") {
      now_ += absl::Milliseconds(Number(words[1]));
      return engine_->TimerFired(now_, effects);
    }
    Submit(verb, command, effects);
  }

  void Submit(const std::string& verb, const Command& command, Effects& effects) {
    static const std::map<std::string, RequestKind> kKinds = {
        {"write", RequestKind::kWrite},     {"zero", RequestKind::kWriteZeroes},
        {"discard", RequestKind::kDiscard}, {"read", RequestKind::kRead},
        {"extents", RequestKind::kExtents}, {"barrier", RequestKind::kBarrier},
        {"flush", RequestKind::kFlush}};
    CHECK(kKinds.contains(verb));
    Request request;
    request.id = RequestId{Number(command.words[1])};
    request.kind = kKinds.at(verb);
    if (request.kind != RequestKind::kFlush) {
      request.range = BlockRange{Number(command.words[2]), Number(command.words[3])};
    }
    request.fua = command.Has("fua");
    request.in_lock = command.Has("in_lock");
    if (verb == "write" || verb == "barrier") {
      request.data = Payload::CopyOf(std::string(request.range.count * kBlockBytes, 'x'));
      request.crcs.assign(request.range.count, 1);
    }
    engine_->Submit(std::move(request), now_, effects);
  }

  void Connect(const Command& command, Effects& effects) {
    const std::string& name = command.words[1];
    std::vector<uint64_t> at = Numbers(command.Named("at", "0,0"));
    std::vector<std::string> durable = absl::StrSplit(command.Named("durable", "0,0"), ',');
    TargetHello hello;
    const uint64_t domains = Number(command.Named("domains", absl::StrCat(domains_.at(name))));
    const Epoch epoch = Number(command.Named("epoch", "7"));
    hello.incarnation = Number(command.Named("process", "0"));
    hello.num_flush_requests = domains;
    hello.flush_supported = flushes_.at(name) && !command.Has("noflush");
    hello.space_exhausted = command.Has("full");
    hello.inflight_bytes_max = credit_;
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      hello.lanes.push_back({Position(epoch, at[lane]), PositionOf(durable[lane]),
                             static_cast<uint32_t>(lane % domains_.at(name))});
      applied_[name][lane] = at[lane];
    }
    for (auto it = sent_.begin(); it != sent_.end();) {
      it = Name(it->second.target) == name ? sent_.erase(it) : std::next(it);
    }
    engine_->TargetConnected(ids_.at(name), hello, now_, effects);
  }

  // Of one target, or, if `name` is empty, of all.
  void AnswerAll(const std::string& name, Effects& effects) {
    std::map<CloneId, SendClone> sent = sent_;
    for (const auto& [id, send] : sent) {
      if (!name.empty() && Name(send.target) != name) continue;
      Answer(Command(absl::StrCat("ok ", Name(send.target), " c", static_cast<uint64_t>(id))),
             effects);
    }
  }

  // What the target has synced, if it tells the truth.
  std::vector<std::pair<LaneId, Position>> DurableOn(const std::string& name, const Clone& clone) {
    std::vector<std::pair<LaneId, Position>> durable;
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const bool asked = clone.kind == RequestKind::kFlush
                             ? lane % domains_.at(name) == clone.flush_nr
                             : clone.fua && Index(clone.lane) == lane;
      if (asked) durable.emplace_back(LaneId{lane}, Position(kEpoch, applied_[name][lane]));
    }
    return durable;
  }

  void Answer(const Command& command, Effects& effects) {
    CloneReply reply;
    CloneId clone{Number(absl::StripPrefix(command.words[2], "c"))};
    auto sent = sent_.find(clone);
    if (sent != sent_.end()) {
      const Clone& asked = sent->second.clone;
      uint64_t& applied = applied_[command.words[1]][Index(asked.lane)];
      if (command.words[0] == "ok") {
        applied = std::max(applied, asked.position.n());
        reply.durable = DurableOn(command.words[1], asked);
      }
      sent_.erase(sent);
    }
    if (command.words[0] == "err") {
      reply.result = Result(ErrnoOf(command.words[3]));
      reply.message = "injected";
    }
    std::string newest = command.Named("newest", "");
    if (!newest.empty()) reply.position = PositionOf(newest);
    reply.zeroes = true;
    std::string durable = command.Named("durable", "");
    if (!durable.empty()) reply.durable.clear();
    for (absl::string_view entry : absl::StrSplit(durable, ',', absl::SkipEmpty())) {
      std::vector<std::string> parts = absl::StrSplit(entry, ':');
      reply.durable.emplace_back(LaneId{static_cast<uint32_t>(Number(parts[0]))}, PositionOf(parts[1]));
    }
    engine_->CloneCompleted(ids_.at(command.words[1]), clone, reply, now_, effects);
  }

  // A join's step is done: at=N,N (sealed there, in this epoch or in epoch=), left=BLOCKS, block=FIRST, lost=VERSIONS, changes=FIRST+COUNT,...,
  // fail=unavailable, fail=unknown (OUT_OF_RANGE), fail=fenced, fail=damaged or fail=io.
  void Step(const Command& command, Effects& effects) {
    JoinStepResult result;
    const std::string fail = command.Named("fail", "");
    if (fail == "fenced") result.status = ErrnoToStatus(ESTALE, "a newer epoch");
    if (fail == "unavailable") result.status = absl::UnavailableError("not there");
    if (fail == "io") result.status = ErrnoToStatus(EIO, "the store has failed");
    if (fail == "damaged") result.status = ErrnoToStatus(EBADMSG, "read versions: checksum");
    if (fail == "unknown") result.status = absl::OutOfRangeError("no longer known");
    const Epoch epoch = Number(command.Named("epoch", "7"));
    for (absl::string_view at : absl::StrSplit(command.Named("at", ""), ',', absl::SkipEmpty())) {
      const uint64_t n = Number(at);
      SealedState::Lane lane;
      lane.position = lane.durable = Position(epoch, n);
      lane.lineage = {{5, 9}};
      if (epoch == 7) lane.lineage.push_back({6, 4});
      result.sealed.lanes.push_back(lane);
    }
    result.blocks_left = Number(command.Named("left", "0"));
    result.bytes_copied = Number(command.Named("bytes", "0"));
    result.versions_lost = Number(command.Named("lost", "0"));
    result.first_block = Number(command.Named("block", "0"));
    for (absl::string_view range :
         absl::StrSplit(command.Named("changes", ""), ',', absl::SkipEmpty())) {
      std::vector<std::string> parts = absl::StrSplit(range, '+');
      result.changes.push_back({Number(parts[0]), Number(parts[1])});
    }
    engine_->JoinStepDone(Number(command.words[1]), std::move(result), now_, effects);
  }

  void Digest(const Command& command, Effects& effects) {
    static const std::map<std::string, BlockDigest::Kind> kKinds = {
        {"zero", BlockDigest::Kind::kZeroes},
        {"damaged", BlockDigest::Kind::kDamaged},
        {"newer", BlockDigest::Kind::kNewer}};
    JoinStepResult result;
    if (command.Named("fail", "") == "unavailable") result.status = absl::UnavailableError("not there");
    if (command.Named("fail", "") == "io") result.status = ErrnoToStatus(EIO, "the store has failed");
    result.digests.next_block = Number(command.Named("next", "64"));
    result.digests.bytes_read = Number(command.Named("bytes", "0"));
    for (size_t i = 2; i < command.words.size(); ++i) {
      const std::vector<std::string> parts = absl::StrSplit(command.words[i], ':');
      BlockDigest digest;
      digest.block = Number(parts[0]);
      digest.position = PositionOf(parts[1]);
      const auto kind = kKinds.find(parts[2]);
      digest.kind = kind == kKinds.end() ? BlockDigest::Kind::kData : kind->second;
      if (kind == kKinds.end()) digest.crc = Number(parts[2]);
      result.digests.blocks.push_back(digest);
    }
    engine_->JoinStepDone(Number(command.words[1]), std::move(result), now_, effects);
  }

  // Members as NAME[:in_sync|joining|out][@ADDRESS]; NEW/OLD:joining takes OLD's place, NEW^OLD:joining does
  // so once it is in sync.
  void Load(const Command& command, Effects& effects) {
    Table table;
    for (size_t i = 2; i < command.words.size(); ++i) {
      std::vector<std::string> address = absl::StrSplit(command.words[i], '@');
      std::vector<std::string> parts = absl::StrSplit(address[0], ':');
      const bool adds = absl::StrContains(parts[0], '^');
      std::vector<std::string> place = absl::StrSplit(parts[0], absl::ByAnyChar("/^"));
      TargetConfig target;
      target.replica = place[0];
      if (place.size() > 1) {
        (adds ? target.succeeds : target.replaces) = place[1];
        target.store_id = "store-" + place[0];
        if (adds && target.address.empty()) target.address = place[0] + ":1";
      }
      if (address.size() > 1) target.address = address[1];
      if (parts.size() > 1 && parts[1] != "in_sync") target.state = TargetState::kOut;
      target.stays_out = parts.size() > 1 && parts[1] == "out";
      table.targets.push_back(std::move(target));
    }
    engine_->LoadTable(ControlId{Number(command.words[1])}, table, now_, effects);
    const auto* done = std::get_if<CompleteControl>(&effects.back());
    if (done == nullptr || !done->result.ok()) return;
    for (const TargetConfig& target : table.targets) {
      if (!target.succeeds.empty()) AddName(target.replica);
    }
  }

  // The engine numbers what is added in order, also one that was there before.
  void AddName(const std::string& name) {
    domains_[name] = 1;
    flushes_[name] = true;
    ids_[name] = TargetId{static_cast<uint32_t>(names_.size())};
    names_.push_back(name);
  }

  std::string Name(TargetId id) const { return names_[static_cast<size_t>(id)]; }

  std::string Show(const Effect& effect) const {
    return std::visit([this](const auto& e) { return ShowOne(e); }, effect);
  }
  static std::string Show(const std::vector<Position>& positions) {
    return absl::StrJoin(positions, " ", [](std::string* out, Position position) {
      absl::StrAppend(out, position.ToString());
    });
  }
  std::string ShowOne(const SendClone& e) const {
    const Clone& clone = e.clone;
    std::string out = absl::StrCat("send ", Name(e.target), " c", static_cast<uint64_t>(clone.id),
                                   " ", NameOf(clone.kind));
    if (clone.kind == RequestKind::kFlush) return absl::StrCat(out, " nr=", clone.flush_nr);
    absl::StrAppend(&out, " lane=", Index(clone.lane), " ", clone.range.first, "+",
                    clone.range.count);
    if (clone.position != Position()) absl::StrAppend(&out, " at ", clone.position.ToString());
    if (clone.fua) absl::StrAppend(&out, " fua");
    return out;
  }
  std::string ShowOne(const SendDurablePoints& e) const {
    return absl::StrCat("durable ", Name(e.target), " ",
                        absl::StrJoin(e.points, " ", [](std::string* out, const auto& point) {
                          absl::StrAppend(out, Index(point.first), ":", point.second.ToString());
                        }));
  }
  std::string ShowOne(const CompleteRequest& e) const {
    std::string out = absl::StrCat("complete ", static_cast<uint64_t>(e.id), " ", NameOf(e.result));
    for (const TargetError& error : e.targets) {
      absl::StrAppend(&out, " [", error.replica, "/", error.flush_nr, " ", NameOf(error.result), "]");
    }
    if (!e.message.empty()) absl::StrAppend(&out, " \"", e.message, "\"");
    return out;
  }
  std::string ShowOne(const ConnectTarget& e) const {
    return absl::StrCat("connect ", Name(e.target), " ", e.config.address,
                        e.delay > absl::ZeroDuration()
                            ? absl::StrCat(" in ", absl::FormatDuration(e.delay)) : "");
  }
  std::string ShowOne(const DisconnectTarget& e) const {
    return absl::StrCat("disconnect ", Name(e.target), " \"", e.reason, "\"");
  }
  std::string ShowOne(const CompleteControl& e) const {
    return absl::StrCat("control ", static_cast<uint64_t>(e.id), " ", NameOf(e.result),
                        e.pinned.empty() ? "" : absl::StrCat(" at ", Show(e.pinned)),
                        e.message.empty() ? "" : absl::StrCat(" \"", e.message, "\""));
  }
  std::string ShowOne(const CommitMembers& e) const {
    std::string out = "commit";
    for (const TargetConfig& config : e.table.targets) {
      absl::StrAppend(&out, " ", config.replica,
                      config.gone                         ? ":gone"
                      : config.state == TargetState::kOut ? ":out"
                                                          : ":in_sync");
      if (!config.succeeds.empty()) absl::StrAppend(&out, "^", config.succeeds);
    }
    absl::StrAppend(&out, " floor=");
    for (const Position& position : e.floor) absl::StrAppend(&out, position.ToString(), " ");
    out.pop_back();
    return out;
  }
  std::string ShowOne(const RunJoinStep& e) const {
    static constexpr const char* kNames[] = {"seal",   "changes", "begin", "copy",
                                             "finish", "repair",  "update", "digest"};
    std::string out = absl::StrCat("join j", e.step, " ", kNames[static_cast<int>(e.kind)], " ",
                                   Name(e.target));
    if (e.kind == RunJoinStep::Kind::kSeal || e.kind == RunJoinStep::Kind::kFinish) return out;
    if (e.kind == RunJoinStep::Kind::kUpdate) {
      absl::StrAppend(&out, " v", e.version & 0xffffffff, " size=", e.size_blocks);
    }
    for (const Pin& pin : e.pins) absl::StrAppend(&out, " pin ", pin.id, " at ", Show(pin.positions));
    if (e.kind == RunJoinStep::Kind::kUpdate) return out;
    absl::StrAppend(&out, " lane=", Index(e.lane), " to=", e.to.ToString());
    if (e.kind == RunJoinStep::Kind::kCopy) {
      absl::StrAppend(&out, " from ", Name(e.source), " bytes=", e.bytes_max, e.newest_too ? ", lost ones too" : e.lost_too ? ", older ones may be lost" : "");
    } else if (e.kind == RunJoinStep::Kind::kRepair) {
      absl::StrAppend(&out, " from ", Name(e.source));
    } else if (e.kind == RunJoinStep::Kind::kDigest) {
      absl::StrAppend(&out, " bytes=", e.bytes_max);
    } else if (e.everything) {
      absl::StrAppend(&out, " everything");
    } else {
      absl::StrAppend(&out, " common=", e.common.ToString());
    }
    for (const BlockRange& range : e.changes) absl::StrAppend(&out, " ", range.first, "+", range.count);
    if (e.delay > absl::ZeroDuration()) {
      absl::StrAppend(&out, " in ", absl::FormatDuration(e.delay));
    }
    return out;
  }
  std::string ShowOne(const PingTarget& e) const {
    return absl::StrCat("ping ", Name(e.target), " ", e.ping);
  }

  std::string ShowOne(const CheckEpoch&) const { return "check epoch"; }

  std::string ShowOne(const ReportScrub& e) const {
    return absl::StrCat(e.good ? "report " : "report! ", e.what);
  }

  static std::string Show(const ScrubView& scrub) {
    if (scrub.blocks_total == 0) return "";
    std::string out = absl::StrCat("scrub ", scrub.running ? "running" : "over", " ",
                                   scrub.blocks_done, "/", scrub.blocks_total,
                                   " bad=", scrub.bad_blocks, " repaired=", scrub.repaired_blocks,
                                   " waiting=", scrub.waiting_blocks, " left=", scrub.left_blocks,
                                   " skipped=", scrub.skipped_blocks, "\n");
    for (const std::string& finding : scrub.findings) absl::StrAppend(&out, "  ", finding, "\n");
    return out;
  }

  std::string Show(const EngineView& view) const {
    static const char* kStates[] = {"active", "suspending", "suspended", "restoring", "committing", "fenced"};
    static const char* kHealth[] = {"connecting", "connected", "failed", "out"};
    std::string out = absl::StrCat(
        kStates[static_cast<int>(view.state)], view.flush_supported ? "" : " flush-unsupported",
        view.held ? " held" : "",
        view.barrier_running ? " barrier" : "", view.flush_running ? " flush" : "",
        " queued=", view.queued_requests, " inflight=", view.inflight_requests,
        " replay=", view.replay_bytes, "\n");
    for (const TargetView& target : view.targets) {
      absl::StrAppend(&out, target.config.replica, " ", kHealth[static_cast<int>(target.health)],
                      target.leaving ? " leaving" : "", target.overdue ? " overdue" : "",
                      target.config.gone ? " gone" : "", target.joining ? " joining" : "", target.slow ? " slow" : "", " clones=", target.inflight_clones,
                      " errors=", target.errors, " requeues=", target.requeues);
      if (target.repaired_blocks + target.damaged_blocks > 0) {
        absl::StrAppend(&out, " damaged=", target.damaged_blocks, " repaired=", target.repaired_blocks);
      }
      if (target.lost_versions > 0) {
        absl::StrAppend(&out, " lost=", target.lost_versions);
      }
      if (target.joining) absl::StrAppend(&out, " left=", target.join_blocks_left);
      if (target.join_time_left < absl::InfiniteDuration()) {
        absl::StrAppend(&out, " in ", absl::FormatDuration(target.join_time_left));
      }
      out += "\n";
    }
    return out + Show(view.scrub);
  }

  static std::string Show(const DurationCounts& counts) {
    uint64_t count = 0;
    for (uint64_t n : counts.buckets()) count += n;
    return absl::StrCat(count, " in ", absl::FormatDuration(counts.sum()));
  }

  std::string Show(const Stats& stats) const {
    static const char* kReasons[] = {"suspended", "barrier", "locked", "catalog", "too_few_members", "member_away",
                                     "requeue", "member_busy", "replay_full", "backlog", "parent_away"};
    static const char* kPurposes[] = {"requests", "auto", "suspend", "barrier"};
    static const char* kKinds[] = {"ok", "error", "requeue", "not_supported", "fenced"};
    static const char* kStages[] = {"drain", "pre-flush", "write", "pin", "post-flush"};
    std::string out = "durable: all";
    if (stats.durable_until) {
      out = absl::StrCat("durable: until ", absl::FormatDuration(now_ - *stats.durable_until), " ago, not ",
                         stats.not_durable_bytes, " bytes");
    }
    for (size_t i = 0; i < kHoldReasons; ++i) {
      if (stats.held[i] > 0) absl::StrAppend(&out, "\nheld: ", stats.held[i], " ", kReasons[i]);
    }
    const Counters& counted = stats.counted;
    for (size_t purpose = 0; purpose < kFlushPurposes; ++purpose) {
      const FlushCounts& flushes = counted.flushes[purpose];
      for (size_t kind = 0; kind < kResultKinds; ++kind) {
        if (flushes.runs[kind] == 0) continue;
        absl::StrAppend(&out, "\nruns for ", kPurposes[purpose], ": ", flushes.runs[kind], " ", kKinds[kind],
                        ", of all ", Show(flushes.took));
      }
    }
    if (counted.flushes_merged + counted.flushes_requeued + counted.fan_out_sum > 0) {
      absl::StrAppend(&out, "\nflushes merged=", counted.flushes_merged, " requeued=", counted.flushes_requeued,
                      " clones=", counted.fan_out_sum);
    }
    for (size_t stage = 0; stage < kBarrierStages; ++stage) {
      const std::string shown = Show(counted.barriers[stage]);
      if (!absl::StartsWith(shown, "0 ")) absl::StrAppend(&out, "\nbarrier ", kStages[stage], ": ", shown);
    }
    if (!absl::StartsWith(Show(counted.suspending), "0 ")) {
      absl::StrAppend(&out, "\nsuspending: ", Show(counted.suspending), ", suspended: ", Show(counted.suspended));
    }
    for (const auto& [replica, errors] : stats.hidden_errors) {
      if (errors > 0) absl::StrAppend(&out, "\nhidden of ", replica, ": ", errors);
    }
    return out + "\n";
  }

  std::unique_ptr<Engine> engine_;
  Time now_ = absl::Seconds(100);
  uint64_t credit_ = 0;
  std::map<CloneId, SendClone> sent_;  // and not answered
  std::map<std::string, std::map<uint32_t, uint64_t>> applied_;  // by target and lane
  std::map<std::string, uint32_t> domains_;
  std::map<std::string, bool> flushes_;
  std::map<std::string, TargetId> ids_;
  std::vector<std::string> names_;
};

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// The file as it would read if every expectation were what the engine does.
std::string Play(const std::string& text) {
  Player player;
  std::string out;
  bool expecting = false;
  std::string command;
  for (absl::string_view view : absl::StrSplit(absl::StripSuffix(text, "\n"), '\n')) {
    std::string line(view);
    if (line == "----") {
      absl::StrAppend(&out, "----\n", player.Run(command));
      expecting = true;
    } else if (line.empty()) {
      if (expecting || !out.empty()) absl::StrAppend(&out, "\n");
      expecting = false;
    } else if (!expecting) {
      absl::StrAppend(&out, line, "\n");
      if (!absl::StartsWith(line, "#")) command = line;
    }
  }
  return out;
}

class TranscriptTest : public ::testing::TestWithParam<std::string> {};

TEST_P(TranscriptTest, TheEngineAnswersAsWritten) {
  std::filesystem::path path =
      std::filesystem::path("volume/engine/testdata") / (GetParam() + ".txt");
  std::string text = ReadFile(path);
  ASSERT_FALSE(text.empty()) << path;
  std::string played = Play(text);
  if (const char* dir = std::getenv("WEIR_UPDATE_TRANSCRIPTS")) {
    std::ofstream(std::filesystem::path(dir) / (GetParam() + ".txt")) << played;
    return;
  }
  EXPECT_EQ(played, text);
}

std::vector<std::string> AllTranscripts() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("volume/engine/testdata")) {
    names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Testdata, TranscriptTest, ::testing::ValuesIn(AllTranscripts()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace weir::engine
