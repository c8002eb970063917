// Deleting what stores that are no members of a volume may have of it: when, and in which order. They were members, or were
// to become some.
//
//   for each:  ask its replica -> confirm the record -> delete the copy -> the record names the store no more
//
// Nobody needs such a copy once all copies that the volume should have are there. But its store may become a member (again)
// between any two of these steps. By an earlier change of ours that comes through late: none does once the record has been
// confirmed, by a compare-and-swap that changes nothing but its revision. By whoever takes the volume over: if the replica has made the volume for
// that before it was asked, the confirmation fails, as the record is another's by then (see replacement.h). If later, the replica, which counts how
// often it makes and deletes a volume, refuses the deletion; and so it does where we ourselves have taken the store in again, and an
// earlier deletion, for which we wait no more, comes late.
//
// Thread-safety: none.
#ifndef WEIR_VOLUME_ENGINE_LEFTOVERS_H_
#define WEIR_VOLUME_ENGINE_LEFTOVERS_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "volume/engine/deletion.h"
#include "volume/engine/takeover.h"
#include "volume/engine/view.h"

namespace weir::engine {

// All copies that the volume should have are there. Who an operator has taken out does not count.
// `active`: so says its record's state.
bool IsWhole(const TakeoverRecord& record, bool active);

class Leftovers {
 public:
  // `stores`: by their ids, as the record was known then. The caller changes no members meanwhile.
  explicit Leftovers(std::vector<std::string> stores) : stores_(std::move(stores)) {}

  enum class Act {
    kAsk,         // the step's replica what it has, and how often it has made and deleted the volume -> Asked
    kConfirm,     // the record, by compare-and-swap, as it is -> Confirmed
    kDeleteCopy,  // if the replica lives still, and has neither made nor deleted it since
    kForget,      // the record, by compare-and-swap, without the step's store
    kDone,
  };
  struct Step {
    Act act = Act::kDone;
    size_t store = 0;  // of `stores`
  };
  // The one before has been done, or has failed, see Failed.
  Step Next();

  void Asked(Deletion::Left left);
  // `view`: of the engine, which may know of members that have just failed, and bring one back whose leaving it has not heard of.
  void Confirmed(const TakeoverRecord& record, bool active, const EngineView& view);
  // The last step could not be done: its store is left for later.
  void Failed();
  // At kDone: something is left.
  bool left_some() const { return left_some_; }

 private:
  const std::vector<std::string> stores_;
  size_t store_ = 0;
  // What is next, of that.
  Act act_ = Act::kAsk;
  bool has_copy_ = false;
  bool left_some_ = false;
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_LEFTOVERS_H_
