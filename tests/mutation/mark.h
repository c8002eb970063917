// Marks of rare branches, which mutate.py puts into the copy: how often was each come to?
#ifndef WEIR_TESTS_MUTATION_MARK_H_
#define WEIR_TESTS_MUTATION_MARK_H_

#include <atomic>
#include <cstdint>

namespace weir {

struct Mark {
  const char* text;
  std::atomic<uint64_t> hits;
};

}  // namespace weir

// In a section of their own, so that those never hit are known too.
#define MARK(what)                                                                    \
  do {                                                                                \
    __attribute__((section("weir_marks"), used)) static ::weir::Mark mark{what, {0}}; \
    mark.hits.fetch_add(1, std::memory_order_relaxed);                                \
  } while (false)

#endif  // WEIR_TESTS_MUTATION_MARK_H_
