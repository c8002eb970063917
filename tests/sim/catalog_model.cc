#include "tests/sim/catalog_model.h"

#include <memory>
#include <utility>

namespace weir::sim {
namespace {

constexpr absl::Duration kNoAnswerAfter = absl::Milliseconds(300);

}  // namespace

void CatalogModel::Exchange(uint32_t client, std::function<void()> ask,
                            std::function<void()> answer, std::function<void()> lost) {
  const bool cut = client == cut_.first && agenda_->now() < cut_.second;
  const bool down = cut || agenda_->now() < outage_until_;
  const bool ask_lost = down || dice_->Percent(loss_percent_ / 2);
  const bool deaf = client == deaf_.first && agenda_->now() < deaf_.second;
  const bool answer_lost = !ask_lost && (deaf || dice_->Percent((loss_percent_ + 1) / 2));
  // What was asked may also arrive after the caller has given up.
  const bool late = answer_lost && !deaf && dice_->Percent(30);
  const absl::Duration there = late ? dice_->Micros(250000, 900000) : dice_->Micros(50, 3000);
  if (ask_lost || answer_lost) agenda_->After(kNoAnswerAfter, std::move(lost));
  if (ask_lost) return;
  const bool slow = agenda_->now() < slow_until_;
  agenda_->After(slow ? there + dice_->Micros(1000, 150000) : there,
                 [this, ask = std::move(ask), answer = std::move(answer), answer_lost, slow] {
    ask();
    if (!answer_lost) agenda_->After(slow ? dice_->Micros(1000, 140000) : dice_->Micros(50, 3000), answer);
  });
}

void CatalogModel::Replace(engine::TakeoverRecord rebuilt, uint64_t restoring) {
  record_ = {.volume = std::move(rebuilt), .restoring = restoring, .revision = record_.revision + 1};
  applied_(record_);
}

void CatalogModel::Get(uint32_t client,
                       std::function<void(absl::StatusOr<CatalogRecord>)> done) {
  auto seen = std::make_shared<CatalogRecord>();
  Exchange(client, [this, seen] { *seen = record_; }, [seen, done] { done(*seen); },
           [done] { done(absl::UnavailableError("the catalog did not answer")); });
}

void CatalogModel::Put(uint32_t client, CatalogRecord next, std::function<void(absl::StatusOr<uint64_t>)> done) {
  auto result = std::make_shared<absl::StatusOr<uint64_t>>(absl::UnknownError(""));
  const bool attributes_change = dice_->Percent(2);
  auto ask = [this, result, next = std::move(next), attributes_change] {
    if (attributes_change && !record_.gone) {
      ++record_.attributes;
      ++record_.revision;
    }
    if (record_.revision != next.revision || record_.gone) {
      *result = absl::AbortedError("the record has changed");
      return;
    }
    attributes_lost_ = attributes_lost_ || next.attributes != record_.attributes;
    record_ = next;
    *result = ++record_.revision;
    applied_(record_);
  };
  Exchange(client, std::move(ask), [result, done] { done(*result); },
           [done] { done(absl::UnavailableError("the catalog did not answer")); });
}

}  // namespace weir::sim
