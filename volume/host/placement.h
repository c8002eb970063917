// Where the copies of a volume go: apart from each other, then where there is space.
//
// A replica's labels say with what it fails together: the same zone, the same rack, the same
// anything. Zone counts more than rack, rack more than every other label, those by name. A replica without a
// label is taken to be together with the others without it.
//
// Thread-safety: pure functions.
#ifndef WEIR_VOLUME_HOST_PLACEMENT_H_
#define WEIR_VOLUME_HOST_PLACEMENT_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace weir::host {

using Labels = std::map<std::string, std::string>;

struct Candidate {
  Labels labels;
  uint64_t available_bytes = 0;
};

// The candidate, by its index, that shares least with those that are `taken`; of several the one
// with most space, of these the first. REQUIRES: there is one.
size_t Farthest(const std::vector<Candidate>& candidates, const std::vector<Labels>& taken);

// `count` candidates, one after the other the farthest from those before. REQUIRES: so many.
std::vector<size_t> SpreadOut(const std::vector<Candidate>& candidates, size_t count);

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_PLACEMENT_H_
