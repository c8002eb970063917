#include "client/cli/http_get.h"

#include <curl/curl.h>

#include <algorithm>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "proto/base/check.h"

namespace weir::cli {
namespace {

struct Page {
  std::string text;
  size_t bytes_max;
};

// Answers less than it was given to have the transfer ended.
size_t Append(char* data, size_t size, size_t count, void* to) {
  Page& page = *static_cast<Page*>(to);
  const size_t bytes = size * count;
  if (bytes > page.bytes_max - page.text.size()) return 0;
  page.text.append(data, bytes);
  return bytes;
}

}  // namespace

absl::StatusOr<std::string> HttpGet(const std::string& url, absl::Duration timeout, size_t bytes_max) {
  static const bool ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;  // once, whichever thread comes first
  CHECK(ready);
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(), &curl_easy_cleanup);
  CHECK(curl != nullptr);
  Page page{{}, bytes_max};
  char why[CURL_ERROR_SIZE] = "";
  const long timeout_ms = std::max<long>(1, absl::ToInt64Milliseconds(timeout));
  CURLcode code = curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  const auto set = [&](CURLoption option, auto value) {
    if (code == CURLE_OK) code = curl_easy_setopt(curl.get(), option, value);
  };
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_NOPROXY, "*");
  set(CURLOPT_NOSIGNAL, 1L);  // other threads are at it too
  set(CURLOPT_TIMEOUT_MS, timeout_ms);
  set(CURLOPT_ERRORBUFFER, &why[0]);
  set(CURLOPT_WRITEFUNCTION, &Append);
  set(CURLOPT_WRITEDATA, static_cast<void*>(&page));
  if (code == CURLE_OK) code = curl_easy_perform(curl.get());
  if (code == CURLE_WRITE_ERROR) {
    return absl::UnavailableError(absl::StrCat(url, ": a page of more than ", bytes_max, " bytes"));
  }
  if (code != CURLE_OK) {
    return absl::UnavailableError(
        absl::StrCat(url, ": ", why[0] != '\0' ? absl::string_view(why) : curl_easy_strerror(code)));
  }
  long answer = 0;
  CHECK(curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &answer) == CURLE_OK);
  if (answer != 200) return absl::UnavailableError(absl::StrCat(url, ": HTTP status ", answer));
  return std::move(page.text);
}

}  // namespace weir::cli
