#include "proto/base/tls_files.h"

#include <filesystem>
#include <system_error>

namespace weir {

TlsFiles Absolute(const TlsFiles& files) {
  const auto absolute = [](const std::string& path) {
    std::error_code error;
    const std::filesystem::path found = std::filesystem::absolute(path, error);
    // As it was: empty, or in a folder that is gone.
    return path.empty() || error ? path : found.string();
  };
  return {absolute(files.cert), absolute(files.key), absolute(files.ca)};
}

}  // namespace weir
