// How results are printed: aligned tables for people, JSON for programs.
//
// Thread-safety: none of its own; a Table belongs to one thread.
#ifndef WEIR_CLIENT_CLI_OUTPUT_H_
#define WEIR_CLIENT_CLI_OUTPUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"
#include "weir/v1/volume.pb.h"

namespace weir::cli {

// Left-aligned columns, two blanks between, no blanks at the end of a line.
class TextTable {
 public:
  explicit TextTable(std::vector<std::string> header) { rows_.push_back(std::move(header)); }
  // An empty cell is shown as "-".
  void AddRow(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  std::string ToString() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// Pretty, with the .proto's field names and with fields that have their default. 64-bit
// numbers are strings, as protobuf's JSON has them.
std::string ToJson(const google::protobuf::Message& message);

// "weirctl: what happened; what to do", in one line, whatever `status` holds.
std::string ErrorLine(const absl::Status& status);

// How far a replica has been brought back, and when it will be.
std::string JoinText(const v1::Target& target);

// How far a scrub is and what it has found.
std::string ScrubText(const v1::ScrubStatus& scrub);

// As `hexdump -C`, beginning at `offset`; runs of equal lines become one "*".
std::string HexDump(absl::string_view bytes, uint64_t offset);

// A byte: "0x5a", "90" or a single character in quotes, "'z'".
absl::StatusOr<uint8_t> ParsePattern(absl::string_view text);

}  // namespace weir::cli

#endif  // WEIR_CLIENT_CLI_OUTPUT_H_
