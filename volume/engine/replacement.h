// Giving a member's place to another store, for good: whose, in which order, and the table that does it.
//
// Thread-safety: pure functions.
#ifndef WEIR_VOLUME_ENGINE_REPLACEMENT_H_
#define WEIR_VOLUME_ENGINE_REPLACEMENT_H_

#include <string>

#include "absl/time/time.h"
#include "volume/engine/types.h"
#include "volume/engine/view.h"

namespace weir::engine {

// The first member that has been out for `replace_after`, and is neither coming back nor about to have a successor;
// empty: none.
std::string LostMember(const EngineView& view, absl::Duration replace_after, Time now);

// One after the other, until one fails.
enum class ReplaceStep {
  // The new replica how often it has made and deleted this volume.
  kAsk,
  // The record, by compare-and-swap, names the new store as one that may have a copy and is no member. So whatever is cut short
  // leaves no copy that nobody knows of; see leftovers.h. Also if it does already: then nobody has taken the volume over.
  kNote,
  // The new replica makes the volume, if it has none, and if it lives still and has neither made nor deleted it since it was asked: so this
  // comes to nothing once something else was done there for want of an answer. If it refuses for that, begin with kAsk again. Also if
  // it has a copy: no deletion that was asked for before counts from then on.
  kMakeCopy,
  // Suspend without a flush, load the table, resume. What the catalog refuses leaves the members as they were.
  kSwapIn,
};
inline constexpr ReplaceStep kReplaceSteps[] = {ReplaceStep::kAsk, ReplaceStep::kNote, ReplaceStep::kMakeCopy,
                                                ReplaceStep::kSwapIn};

// The members with `with` (its name, address and store) in the place of member `replica`: at once, or once it is in sync if
// `make_before_break`.
Table TableWith(const EngineView& view, const std::string& replica, const TargetConfig& with, bool make_before_break);

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_REPLACEMENT_H_
