#include "replica/server/faults.h"

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace weir::replica {
namespace {

constexpr int kErrnoMax = 4095;  // as the kernel has it

bool OfFiles(v1::FaultOp op) { return op == v1::FAULT_OP_FILE_WRITE || op == v1::FAULT_OP_FILE_SYNC; }

absl::Status CheckRule(const v1::Fault& fault) {
  if (!v1::FaultOp_IsValid(fault.op()) || fault.op() == v1::FAULT_OP_UNSPECIFIED) {
    return absl::InvalidArgumentError("op must be READ, WRITE, FLUSH, FILE_WRITE or FILE_SYNC");
  }
  if (fault.error() < 0 || fault.error() > kErrnoMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("error ", fault.error(), " is not an errno (0 to ", kErrnoMax, ")"));
  }
  if (fault.delay_ms() > FaultTable::kDelayMsMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "delay_ms ", fault.delay_ms(), " is above the limit of ", FaultTable::kDelayMsMax));
  }
  if (OfFiles(fault.op()) && (fault.drop() || fault.delay_ms() != 0)) {
    return absl::InvalidArgumentError("a write or sync of a file can only fail: leave out drop and delay_ms");
  }
  if (fault.drop() && (fault.error() != 0 || fault.delay_ms() != 0)) {
    return absl::InvalidArgumentError("drop stands alone: nothing is answered");
  }
  if (!fault.drop() && fault.error() == 0 && fault.delay_ms() == 0) {
    return absl::InvalidArgumentError("one of error, drop and delay_ms must be given");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<uint64_t> FaultTable::Add(const v1::Fault& fault) {
  if (absl::Status status = CheckRule(fault); !status.ok()) return status;
  absl::MutexLock lock(&mutex_);
  if (rules_.size() >= kRulesMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat("there are ", kRulesMax, " fault rules already; clear some"));
  }
  v1::Fault rule = fault;
  rule.set_id(++last_id_);
  rule.set_hits(0);
  rules_.push_back(rule);
  any_.store(true, std::memory_order_release);
  return rule.id();
}

std::vector<v1::Fault> FaultTable::List() const {
  absl::MutexLock lock(&mutex_);
  return rules_;
}

uint32_t FaultTable::Clear(uint64_t id) {
  absl::MutexLock lock(&mutex_);
  const size_t before = rules_.size();
  std::erase_if(rules_, [id](const v1::Fault& rule) { return id == 0 || rule.id() == id; });
  any_.store(!rules_.empty(), std::memory_order_release);
  return static_cast<uint32_t>(before - rules_.size());
}

FaultVerdict FaultTable::Strike(v1::FaultOp op, uint32_t domain) {
  FaultVerdict verdict;
  if (!any_.load(std::memory_order_acquire)) return verdict;
  absl::MutexLock lock(&mutex_);
  for (auto rule = rules_.begin(); rule != rules_.end(); ++rule) {
    if (rule->op() != op || (rule->has_flush_nr() && rule->flush_nr() != domain)) continue;
    verdict.error = rule->error();
    verdict.drop = rule->drop();
    verdict.delay = absl::Milliseconds(rule->delay_ms());
    rule->set_hits(rule->hits() + 1);
    if (rule->count() == 1) {
      rules_.erase(rule);
      any_.store(!rules_.empty(), std::memory_order_release);
    } else if (rule->count() > 1) {
      rule->set_count(rule->count() - 1);
    }
    break;
  }
  return verdict;
}

bool FaultTable::FlushSupported() const {
  absl::MutexLock lock(&mutex_);
  for (const v1::Fault& rule : rules_) {
    if (rule.op() == v1::FAULT_OP_FLUSH && rule.error() == EOPNOTSUPP && rule.count() == 0 &&
        !rule.has_flush_nr()) {
      return false;
    }
  }
  return true;
}

v1::FaultOp FaultOpOf(v1::IoKind kind) {
  switch (kind) {
    case v1::IO_KIND_READ:
      return v1::FAULT_OP_READ;
    case v1::IO_KIND_WRITE:
    case v1::IO_KIND_WRITE_ZEROES:
    case v1::IO_KIND_DISCARD:
      return v1::FAULT_OP_WRITE;
    case v1::IO_KIND_FLUSH:
      return v1::FAULT_OP_FLUSH;
    default:
      return v1::FAULT_OP_UNSPECIFIED;
  }
}

v1::FaultOp FaultOpOf(store::FileAct act) {
  return act == store::FileAct::kSync ? v1::FAULT_OP_FILE_SYNC : v1::FAULT_OP_FILE_WRITE;
}

}  // namespace weir::replica
