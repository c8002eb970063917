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
  return {absolute(files.cert), absolute(files.key), absolute(files.ca), files.insecure};
}

std::vector<std::string> AsFlags(const TlsFiles& files) {
  std::vector<std::string> flags;
  if (files.given()) flags = {"--tls_cert=" + files.cert, "--tls_key=" + files.key, "--tls_ca=" + files.ca};
  if (files.insecure) flags.push_back("--insecure");
  return flags;
}

}  // namespace weir
