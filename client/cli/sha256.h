// SHA-256 of a stream, so that a volume's content can be compared with a file's.
#ifndef WEIR_CLIENT_CLI_SHA256_H_
#define WEIR_CLIENT_CLI_SHA256_H_

#include <memory>
#include <string>

#include "absl/strings/string_view.h"

namespace weir::cli {

// Thread-safety: none.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void Add(absl::string_view bytes);
  // Ends the sum; to be called once. 64 hex digits.
  std::string Hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weir::cli

#endif  // WEIR_CLIENT_CLI_SHA256_H_
