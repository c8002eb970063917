#include "client/cli/cluster_env.h"

#include <fstream>
#include <map>
#include <sstream>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "proto/base/status_macros.h"

namespace weir::cli {
namespace {

// What a shell would make of one word, or why that cannot be said without one.
class ShellWord {
 public:
  explicit ShellWord(absl::string_view text) : text_(text) {}

  absl::StatusOr<std::string> Unquote() {
    while (at_ < text_.size()) {
      char c = text_[at_++];
      if (c == '\'') {
        RETURN_IF_ERROR(SingleQuoted());
      } else if (c == '"') {
        RETURN_IF_ERROR(DoubleQuoted());
      } else if (c == '\\') {
        RETURN_IF_ERROR(Escaped());
      } else if (absl::ascii_isspace(c)) {
        return Rest();
      } else {
        RETURN_IF_ERROR(Plain(c));
      }
    }
    return word_;
  }

 private:
  absl::Status SingleQuoted() {
    size_t end = text_.find('\'', at_);
    if (end == absl::string_view::npos) return Open("'");
    absl::StrAppend(&word_, text_.substr(at_, end - at_));
    at_ = end + 1;
    return absl::OkStatus();
  }

  absl::Status DoubleQuoted() {
    while (at_ < text_.size()) {
      char c = text_[at_++];
      if (c == '"') return absl::OkStatus();
      if (c != '\\') {
        RETURN_IF_ERROR(Plain(c));
        continue;
      }
      if (at_ == text_.size()) break;
      char next = text_[at_++];
      if (absl::string_view("$`\"\\").find(next) == absl::string_view::npos) {
        word_.push_back('\\');
      }
      word_.push_back(next);
    }
    return Open("\"");
  }

  absl::Status Escaped() {
    if (at_ == text_.size()) return Open("\\");
    word_.push_back(text_[at_++]);
    return absl::OkStatus();
  }

  absl::Status Plain(char c) {
    if (c == '$' || c == '`') {
      return absl::InvalidArgumentError("its value needs a shell to expand");
    }
    word_.push_back(c);
    return absl::OkStatus();
  }

  // After a blank only a comment may follow.
  absl::StatusOr<std::string> Rest() const {
    absl::string_view rest = absl::StripAsciiWhitespace(text_.substr(at_));
    if (rest.empty() || rest.front() == '#') return word_;
    return absl::InvalidArgumentError("a value with blanks must be quoted");
  }

  static absl::Status Open(absl::string_view quote) {
    return absl::InvalidArgumentError(absl::StrCat(quote, " is not closed"));
  }

  absl::string_view text_;
  size_t at_ = 0;
  std::string word_;
};

bool IsName(absl::string_view name) {
  if (name.empty() || absl::ascii_isdigit(name.front())) return false;
  for (char c : name) {
    if (!absl::ascii_isalnum(c) && c != '_') return false;
  }
  return true;
}

absl::StatusOr<std::pair<std::string, std::string>> ParseAssignment(absl::string_view line) {
  absl::ConsumePrefix(&line, "export ");
  line = absl::StripLeadingAsciiWhitespace(line);
  size_t equals = line.find('=');
  if (equals == absl::string_view::npos || !IsName(line.substr(0, equals))) {
    return absl::InvalidArgumentError("is not NAME='value'");
  }
  ASSIGN_OR_RETURN(std::string value, ShellWord(line.substr(equals + 1)).Unquote());
  return std::make_pair(std::string(line.substr(0, equals)), std::move(value));
}

}  // namespace

absl::StatusOr<NamedValues> ParseNamedValues(absl::string_view text) {
  NamedValues values;
  for (absl::string_view word :
       absl::StrSplit(text, absl::ByAnyChar(" ,\t\n"), absl::SkipEmpty())) {
    size_t equals = word.find('=');
    if (equals == absl::string_view::npos || equals == 0 || equals + 1 == word.size()) {
      return absl::InvalidArgumentError(absl::StrCat("'", word, "' is not NAME=VALUE"));
    }
    values.emplace_back(word.substr(0, equals), word.substr(equals + 1));
  }
  return values;
}

NamedValues ParseReplicaAddrs(absl::string_view text) {
  NamedValues values;
  for (absl::string_view word :
       absl::StrSplit(text, absl::ByAnyChar(" ,\t\n"), absl::SkipEmpty())) {
    values.emplace_back(absl::StrCat("replica", values.size() + 1), word);
    // A name holds neither ':' nor '/', an address one of them at least.
    size_t name_end = word.find_first_of("=:/");
    if (name_end != absl::string_view::npos && word[name_end] == '=') {
      values.back() = {std::string(word.substr(0, name_end)),
                       std::string(word.substr(name_end + 1))};
    }
  }
  return values;
}

absl::StatusOr<NamedValues> ParseMetricsUrls(absl::string_view text, const std::vector<std::string>& names) {
  NamedValues values;
  const std::vector<absl::string_view> words = absl::StrSplit(text, absl::ByAnyChar(" ,\t\n"), absl::SkipEmpty());
  for (absl::string_view url : words) {
    absl::string_view name;
    const size_t name_end = url.find_first_of("=:/");
    if (name_end != absl::string_view::npos && name_end > 0 && url[name_end] == '=') {
      name = url.substr(0, name_end);
      url.remove_prefix(name_end + 1);
    }
    absl::string_view host = url;
    if (!absl::ConsumePrefix(&host, "http://") && !absl::ConsumePrefix(&host, "https://")) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", url, "' is no URL of metrics; give one such as http://127.0.0.1:7801/metrics"));
    }
    host = host.substr(0, host.find('/'));
    if (name.empty()) name = names.size() == words.size() ? absl::string_view(names[values.size()]) : host;
    values.emplace_back(name, url);
  }
  return values;
}

absl::StatusOr<ClusterEnv> ParseClusterEnv(absl::string_view text) {
  std::map<std::string, std::string> variables;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line.front() == '#') continue;
    auto assignment = ParseAssignment(line);
    if (!assignment.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", number, ": ", assignment.status().message()));
    }
    variables[assignment->first] = std::move(assignment->second);
  }
  ClusterEnv env;
  env.nbd_uri = variables["NBD_URI"];
  env.volume_addr = variables["VOLUME_ADDR"];
  env.tls = {variables["WEIR_TLS_CERT"], variables["WEIR_TLS_KEY"], variables["WEIR_TLS_CA"]};
  ASSIGN_OR_RETURN(env.volume_addrs, ParseNamedValues(variables["VOLUME_ADDRS"]));
  if (env.volume_addrs.empty() && !env.volume_addr.empty()) {
    env.volume_addrs.emplace_back("volume", env.volume_addr);
  }
  env.metrics_urls = variables["METRICS_URLS"];
  env.bin = variables["BIN"];
  env.replica_addrs = ParseReplicaAddrs(variables["REPLICA_ADDRS"]);
  ASSIGN_OR_RETURN(env.pids, ParseNamedValues(variables["PIDS"]));
  return env;
}

absl::StatusOr<ClusterEnv> ReadClusterEnv(const std::string& dir) {
  const std::string path = absl::StrCat(dir, "/cluster.env");
  std::ifstream file(path);
  if (!file) {
    return absl::NotFoundError(absl::StrCat("cannot read ", path,
                                            "; start a cluster with 'ops/cluster up --dir=", dir,
                                            "', or give --volume_addr and --replica_addrs"));
  }
  std::ostringstream text;
  text << file.rdbuf();
  auto env = ParseClusterEnv(text.str());
  if (!env.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " ", env.status().message(),
                     "; write it anew with 'ops/cluster up --dir=", dir, "'"));
  }
  return env;
}

}  // namespace weir::cli
