#include "volume/host/client_sessions.h"

#include <vector>

#include "absl/strings/str_cat.h"

namespace weir::host {

absl::Status ClientSessions::Open(const std::string& volume,
                                  const std::string& client, uint64_t session,
                                  CutOff cut_off) {
  const Key key(volume, client);
  CutOff older;
  {
    absl::MutexLock lock(&mu_);
    if (!ended_.ok()) return ended_;
    // Two newer ones at once: the second must not overtake the first's cut.
    const auto settled = [this, &key] {
      mu_.AssertHeld();
      auto found = entries_.find(key);
      return found == entries_.end() || !found->second.cutting;
    };
    mu_.Await(absl::Condition(&settled));
    Entry& entry = entries_[key];
    if (session <= entry.session) {
      return absl::AbortedError(absl::StrCat(
          "session ", session, " of client ", client, " is over: session ",
          entry.session, " has been opened since"));
    }
    if (entry.closed_at != 0) closed_.erase(entry.closed_at);
    entry.closed_at = 0;
    entry.session = session;
    entry.cutting = true;
    older = std::exchange(entry.cut_off, std::move(cut_off));
  }
  if (older) older(absl::AbortedError("a newer session of this client has been opened"));
  absl::MutexLock lock(&mu_);
  entries_[key].cutting = false;
  return absl::OkStatus();
}

void ClientSessions::End(const absl::Status& status) {
  std::vector<CutOff> all;
  {
    absl::MutexLock lock(&mu_);
    ended_ = status;
    for (auto& [key, entry] : entries_) {
      if (entry.cut_off) all.push_back(std::exchange(entry.cut_off, nullptr));
    }
  }
  for (const CutOff& cut_off : all) cut_off(status);
}

void ClientSessions::Closed(const std::string& volume,
                            const std::string& client, uint64_t session) {
  const Key key(volume, client);
  absl::MutexLock lock(&mu_);
  auto found = entries_.find(key);
  if (found == entries_.end() || found->second.session != session) return;
  found->second.cut_off = nullptr;
  found->second.closed_at = ++closes_;
  closed_[closes_] = key;
  ForgetLocked();
}

void ClientSessions::ForgetLocked() {
  while (closed_.size() > remembered_max_) {
    entries_.erase(closed_.begin()->second);
    closed_.erase(closed_.begin());
  }
}

}  // namespace weir::host
