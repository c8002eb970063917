// A terminal that is drawn in place.
#ifndef WEIR_CLIENT_CLI_SCREEN_H_
#define WEIR_CLIENT_CLI_SCREEN_H_

#include <ostream>
#include <string>
#include <vector>

#include "client/cli/top_text.h"

namespace weir::cli {

// Shows its alternate screen, without a cursor, while this lives; what was there before is back afterwards. Plain ANSI.
// Thread-safety: none.
class Screen {
 public:
  // Whether `out` is this process's terminal.
  static bool Is(const std::ostream& out);

  explicit Screen(std::ostream& out);
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  // As it is now: people pull at its corners.
  TopSize Size() const;
  // In place of what was there. No line longer, and no more of them, than Size() says.
  void Draw(const std::vector<std::string>& lines);

 private:
  std::ostream& out_;
};

}  // namespace weir::cli

#endif  // WEIR_CLIENT_CLI_SCREEN_H_
