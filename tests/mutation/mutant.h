// The switch of the deliberate bugs that mutate.py builds into a copy of the sources.
#ifndef WEIR_TESTS_MUTATION_MUTANT_H_
#define WEIR_TESTS_MUTATION_MUTANT_H_

namespace weir {

// Set once, before anything runs. 0: none.
inline int active_mutant = 0;
inline bool MutantIs(int index) { return active_mutant == index; }

}  // namespace weir

#endif  // WEIR_TESTS_MUTATION_MUTANT_H_
