#include "client/cli/fault_spec.h"

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "proto/base/status_macros.h"

namespace weir::cli {
namespace {

// Long enough for any deadline of a frontend, short enough to be no typing error.
constexpr uint32_t kDelayMsMax = 3600 * 1000;

struct ErrorName {
  absl::string_view name;
  int error;
};
constexpr ErrorName kErrors[] = {
    {"EIO", EIO},
    {"ENOSPC", ENOSPC},
    {"EOPNOTSUPP", EOPNOTSUPP},
    {"REQUEUE", EAGAIN},
};

absl::StatusOr<v1::FaultOp> ParseOp(absl::string_view op) {
  if (op == "read") return v1::FAULT_OP_READ;
  if (op == "write") return v1::FAULT_OP_WRITE;
  if (op == "flush") return v1::FAULT_OP_FLUSH;
  if (op == "file-write") return v1::FAULT_OP_FILE_WRITE;
  if (op == "file-sync") return v1::FAULT_OP_FILE_SYNC;
  return absl::InvalidArgumentError(
      absl::StrCat("--op=", op, " is not known; use read, write, flush, file-write or file-sync"));
}

bool OfFiles(v1::FaultOp op) { return op == v1::FAULT_OP_FILE_WRITE || op == v1::FAULT_OP_FILE_SYNC; }

absl::Status AddAction(absl::string_view word, v1::Fault& fault) {
  if (absl::ConsumePrefix(&word, "DELAY=")) {
    uint32_t delay_ms = 0;
    if (!absl::SimpleAtoi(word, &delay_ms) || delay_ms == 0 || delay_ms > kDelayMsMax ||
        fault.delay_ms() != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("DELAY=", word, " is wrong; give milliseconds once, 1 to ", kDelayMsMax));
    }
    fault.set_delay_ms(delay_ms);
    return absl::OkStatus();
  }
  if (fault.error() != 0 || fault.drop()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--error names two results; leave out ", word, " or set two faults"));
  }
  if (word == "DROP") {
    fault.set_drop(true);
    return absl::OkStatus();
  }
  for (const ErrorName& known : kErrors) {
    if (word != known.name) continue;
    fault.set_error(known.error);
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--error=", word, " is not known; use EIO, ENOSPC, EOPNOTSUPP, REQUEUE, DROP or DELAY=ms"));
}

}  // namespace

absl::StatusOr<v1::Fault> ParseFault(absl::string_view op, absl::string_view error,
                                     std::optional<uint32_t> flush_nr, uint64_t count) {
  v1::Fault fault;
  ASSIGN_OR_RETURN(v1::FaultOp fault_op, ParseOp(op));
  fault.set_op(fault_op);
  for (absl::string_view word : absl::StrSplit(error, ',')) {
    RETURN_IF_ERROR(AddAction(word, fault));
  }
  if (fault.drop() && fault.delay_ms() != 0) {
    return absl::InvalidArgumentError("a dropped reply cannot be late too; leave out DELAY");
  }
  if (OfFiles(fault.op()) && (error != "EIO" && error != "ENOSPC")) {
    return absl::InvalidArgumentError(absl::StrCat("--op=", op, " can only fail; use EIO or ENOSPC"));
  }
  if (flush_nr.has_value()) {
    if (fault.op() != v1::FAULT_OP_FLUSH && !OfFiles(fault.op())) {
      return absl::InvalidArgumentError("--flush-nr needs --op=flush, file-write or file-sync");
    }
    fault.set_flush_nr(*flush_nr);
  }
  fault.set_count(count);
  return fault;
}

std::string FaultOpText(const v1::Fault& fault) {
  switch (fault.op()) {
    case v1::FAULT_OP_READ:
      return "read";
    case v1::FAULT_OP_WRITE:
      return "write";
    case v1::FAULT_OP_FLUSH:
      return "flush";
    case v1::FAULT_OP_FILE_WRITE:
      return "file-write";
    case v1::FAULT_OP_FILE_SYNC:
      return "file-sync";
    default:
      return absl::StrCat("op", static_cast<int>(fault.op()));
  }
}

std::string FaultErrorText(const v1::Fault& fault) {
  std::string text = fault.drop() ? "DROP" : "";
  if (fault.error() != 0) {
    text = absl::StrCat("errno", fault.error());
    for (const ErrorName& known : kErrors) {
      if (fault.error() == known.error) text = std::string(known.name);
    }
  }
  if (fault.delay_ms() != 0) {
    absl::StrAppend(&text, text.empty() ? "" : ",", "DELAY=", fault.delay_ms());
  }
  return text;
}

}  // namespace weir::cli
