#include "volume/host/placement.h"

#include <algorithm>
#include <cstddef>
#include <set>
#include <tuple>

#include "proto/base/check.h"

namespace weir::host {
namespace {

// The names of labels that any of them has, most significant first.
std::vector<std::string> Significance(const std::vector<Candidate>& candidates,
                                      const std::vector<Labels>& taken) {
  std::set<std::string> names;
  for (const Candidate& one : candidates) {
    for (const auto& [name, value] : one.labels) names.insert(name);
  }
  for (const Labels& labels : taken) {
    for (const auto& [name, value] : labels) names.insert(name);
  }
  std::vector<std::string> ordered;
  for (const char* first : {"zone", "rack"}) {
    if (names.erase(first) > 0) ordered.push_back(first);
  }
  ordered.insert(ordered.end(), names.begin(), names.end());
  return ordered;
}

std::string ValueOf(const Labels& labels, const std::string& name) {
  const auto found = labels.find(name);
  return found == labels.end() ? "" : found->second;
}

// With how many of those taken it shares each label; the smaller the better.
std::vector<size_t> Shared(const Labels& labels, const std::vector<std::string>& names,
                           const std::vector<Labels>& taken) {
  std::vector<size_t> shared;
  for (const std::string& name : names) {
    shared.push_back(static_cast<size_t>(
        std::count_if(taken.begin(), taken.end(), [&](const Labels& other) {
          return ValueOf(other, name) == ValueOf(labels, name);
        })));
  }
  return shared;
}

}  // namespace

size_t Farthest(const std::vector<Candidate>& candidates, const std::vector<Labels>& taken) {
  CHECK(!candidates.empty());
  const std::vector<std::string> names = Significance(candidates, taken);
  size_t best = 0;
  for (size_t i = 1; i < candidates.size(); ++i) {
    const auto rank = [&](const Candidate& one) {
      return std::make_tuple(Shared(one.labels, names, taken), ~one.available_bytes);
    };
    if (rank(candidates[i]) < rank(candidates[best])) best = i;
  }
  return best;
}

std::vector<size_t> SpreadOut(const std::vector<Candidate>& candidates, size_t count) {
  CHECK(count <= candidates.size());
  std::vector<size_t> left, chosen;
  for (size_t i = 0; i < candidates.size(); ++i) left.push_back(i);
  std::vector<Labels> taken;
  while (chosen.size() < count) {
    std::vector<Candidate> open;
    for (size_t i : left) open.push_back(candidates[i]);
    const size_t next = Farthest(open, taken);
    chosen.push_back(left[next]);
    taken.push_back(candidates[left[next]].labels);
    left.erase(left.begin() + static_cast<std::ptrdiff_t>(next));
  }
  return chosen;
}

}  // namespace weir::host
