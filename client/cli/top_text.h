// How `weirctl top` shows a view: tables for people, a line of JSON for programs. Pure.
//
// Thread-safety: free functions, safe.
#ifndef WEIR_CLIENT_CLI_TOP_TEXT_H_
#define WEIR_CLIENT_CLI_TOP_TEXT_H_

#include <cstddef>
#include <string>
#include <vector>

#include "client/cli/top_view.h"

namespace weir::cli {

// Characters and lines of a terminal; 0: as many as it takes.
struct TopSize {
  size_t width = 0;
  size_t height = 0;
};

// The lines, none longer and no more than `size` allows. Where it is narrow, columns that matter least are left out; where
// it is low, the longest tables are cut and say how much is missing. Whatever names come from elsewhere, all is printable.
std::vector<std::string> TopLines(const TopView& view, const std::string& title, TopSize size);

// One object, in one line with its end. What is not known is null.
std::string TopJson(const TopView& view, const std::string& time);

}  // namespace weir::cli

#endif  // WEIR_CLIENT_CLI_TOP_TEXT_H_
