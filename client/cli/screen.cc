#include "client/cli/screen.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <iostream>

namespace weir::cli {
namespace {

constexpr char kEnter[] = "\033[?1049h\033[?25l";
constexpr char kLeave[] = "\033[?25h\033[?1049l";
constexpr char kHome[] = "\033[H";
constexpr char kClearLine[] = "\033[K";
constexpr char kClearBelow[] = "\033[J";
constexpr TopSize kUsual = {80, 24};

}  // namespace

bool Screen::Is(const std::ostream& out) { return &out == &std::cout && isatty(STDOUT_FILENO) == 1; }

Screen::Screen(std::ostream& out) : out_(out) { out_ << kEnter << std::flush; }
Screen::~Screen() { out_ << kLeave << std::flush; }

TopSize Screen::Size() const {
  winsize size = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return kUsual;
  return {size.ws_col, size.ws_row};
}

void Screen::Draw(const std::vector<std::string>& lines) {
  out_ << kHome;
  for (size_t i = 0; i < lines.size(); ++i) {
    // Cleared first: after a line of the full width the cursor is still on its last character.
    out_ << (i == 0 ? "" : "\r\n") << kClearLine << lines[i];
  }
  // Below the last line there may be none, and to go there would scroll.
  if (lines.size() < Size().height) out_ << "\r\n" << kClearBelow;
  out_ << std::flush;
}

}  // namespace weir::cli
