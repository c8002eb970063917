// weirctl without its process: arguments and streams in, exit code out.
#ifndef WEIR_CLIENT_CLI_APP_H_
#define WEIR_CLIENT_CLI_APP_H_

#include <istream>
#include <ostream>
#include <string>
#include <vector>

namespace weir::cli {

// 0: done. 1: the operation failed. 2: the command line is wrong.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

// Runs one command line, without the program's name. Blocks until it is done.
int Run(const std::vector<std::string>& arguments, std::istream& in, std::ostream& out,
        std::ostream& err);

}  // namespace weir::cli

#endif  // WEIR_CLIENT_CLI_APP_H_
