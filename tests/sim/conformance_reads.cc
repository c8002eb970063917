// What the two kinds of store answer to reads, held against each other; D1 to D7 are in store_conformance_test.cc.
#include "tests/sim/conformance.h"

namespace weir::sim {

// `all` in short, D1: a zero over nothing or over zeros says nothing.
Versions Conformance::Short(const std::vector<store::BlockVersion>& all) {
  Versions versions;
  for (const store::BlockVersion& v : all) {
    versions[v.block].emplace_back(v.position, v.zero ? 0 : ValueOf(v.data, 0));
  }
  for (auto it = versions.begin(); it != versions.end();) {
    std::sort(it->second.begin(), it->second.end());
    uint64_t before = 0;
    std::erase_if(it->second, [&before](const auto& v) {
      return std::exchange(before, v.second) == 0 && v.second == 0;
    });
    it = it->second.empty() ? versions.erase(it) : std::next(it);
  }
  return versions;
}

// What `all`, oldest first, says of `at`.
std::pair<Position, uint64_t> Conformance::ValueAt(const Versions& versions, uint64_t block, Position at) {
  std::pair<Position, uint64_t> value;
  const auto found = versions.find(block);
  if (found == versions.end()) return value;
  for (const auto& version : found->second) {
    if (version.first <= at) value = version.second == 0 ? std::pair(Position(), uint64_t{0}) : version;
  }
  return value;
}

// One version a block. Of zeros (D1) the real store may have none, or an older one.
void Conformance::CompareNewest(const std::vector<store::BlockVersion>& model, const std::vector<store::BlockVersion>& real,
                   absl::string_view what) {
  CheckCrcs(real);
  std::map<uint64_t, const store::BlockVersion*> left;
  for (const store::BlockVersion& v : model) left[v.block] = &v;
  std::set<uint64_t> seen;
  for (const store::BlockVersion& v : real) {
    const auto found = left.find(v.block);
    seen.insert(v.block);
    if (v.zero && joins_ && (found == left.end() || found->second->zero)) continue;
    const bool good = found != left.end() && v.zero == found->second->zero &&
                      (v.zero ? v.position <= found->second->position
                              : v.position == found->second->position && v.data == found->second->data);
    if (!good) Differ(absl::StrCat(what, ": block ", v.block));
  }
  for (const auto& [block, v] : left) {
    if (!v->zero && seen.count(block) == 0) Differ(absl::StrCat(what, ": the real store lacks block ", block));
  }
}

std::string Conformance::StateOf(Store& store, uint32_t domain) {
  const auto volume = store.GetVolume(kVolume);
  if (!volume.ok()) return "none";
  std::string state;
  for (const store::LaneState& lane : volume->lanes) {
    if (lane.domain != domain) continue;
    absl::StrAppend(&state, "lane ", Index(lane.lane), " at ", lane.position.ToString(), ";");
    for (const LineageEntry& entry : lane.lineage) absl::StrAppend(&state, " ", entry.epoch, ".", entry.n);
    absl::StrAppend(&state, ":");
    for (uint64_t b = 0; b < volume->geometry.size_blocks; ++b) {
      if (LaneOf(b) != lane.lane) continue;
      const auto read = store.Read(kVolume, {b, 1});
      absl::StrAppend(&state, " ", read.ok() ? absl::StrCat(ValueOf(read->data, 0)) : "x");
    }
  }
  return state;
}

// --- reading ---

void Conformance::CompareState(Pair& pair) {
  const auto model = pair.m().GetVolume(kVolume);
  const auto real = pair.r().GetVolume(kVolume);
  if (!Ok(model.status(), real.status())) return;
  Equal(model->geometry.size_blocks, real->geometry.size_blocks, "size");
  Equal(model->promised_epoch, real->promised_epoch, "promised epoch");
  Equal(model->pins, real->pins, "pins");
  if (!Equal(model->lanes.size(), real->lanes.size(), "lanes")) return;
  for (size_t i = 0; i < model->lanes.size(); ++i) {
    const store::LaneState& m = model->lanes[i];
    const store::LaneState& r = real->lanes[i];
    EqualPositions(m.position, r.position, "position");
    EqualPositions(m.join_to, r.join_to, "join_to");
    Equal(m.lane, r.lane, "lane");
    Equal(m.domain, r.domain, "domain");
    Equal(m.lineage, r.lineage, "lineage");
    Equal(m.invalid_blocks, r.invalid_blocks, "number of marked blocks");
    Equal(m.join_id, r.join_id, "join_id");
    if (WentBack(pair, m.lane)) continue;
    const bool more = pair.syncs_more || pair.reclaims || reclaims_;  // D3
    if (!more) EqualPositions(m.durable_position, r.durable_position, "durable position");
    if (r.durable_position < m.durable_position || r.durable_position > r.position) Differ("durable position");
  }
}

void Conformance::CompareAll(Pair& pair) {
  CompareState(pair);
  Say(pair, "GetRecord");
  const auto model = pair.m().GetRecord(kVolume);
  const auto real = pair.r().GetRecord(kVolume);
  if (Ok(model.status(), real.status())) {
    if (model->epoch != real->epoch || model->revision != real->revision || model->record != real->record) {
      Differ("the record's copy");
    }
  }
  for (uint64_t b = 0; b < SizeOf(pair); ++b) Read(pair, {b, 1});
  Extents(pair, {0, SizeOf(pair)});
  for (const Pin& pin : pair.pins) ReadPinned(pair, pin.id, {0, SizeOf(pair)});
  for (uint32_t i = 0; i < lanes(); ++i) {
    const LaneId lane{i};
    store::VersionsPart part;
    store::Tail tail;
    Invalid(pair, lane);
    Digests(pair, lane, At(pair, lane));
    Changes(pair, lane, Position(), At(pair, lane));
    Tail(pair, lane, AnyPosition(pair, lane, At(pair, lane)), At(pair, lane), &tail);
    VersionsOf(pair, lane, {{0, SizeOf(pair)}}, At(pair, lane), &part);
    for (const Pin& pin : pair.pins) ChangedSince(pair, pin.id, lane);
  }
}

void Conformance::Read(Pair& pair, BlockRange range) {
  Say(pair, absl::StrCat("Read ", range.first, "+", range.count));
  const auto model = pair.m().Read(kVolume, range);
  const auto real = pair.r().Read(kVolume, range);
  if (!Ok(model.status(), real.status())) return;
  Equal(model->zeroes, real->zeroes, "zeroes");
  Equal(model->data, real->data, "data");
  Equal(real->crcs, BlockChecksums(real->data), "crcs");
  // D1: of zeros it need not have a version.
  Position of_data;
  std::set<uint64_t> model_absent, real_absent;
  for (const BlockRange& r : model->absent) for (uint64_t b = r.first; b < r.end(); ++b) model_absent.insert(b);
  for (const BlockRange& r : real->absent) for (uint64_t b = r.first; b < r.end(); ++b) real_absent.insert(b);
  for (uint64_t i = 0; i < range.count; ++i) {
    const bool zero = model->zeroes || ValueOf(model->data, i) == 0;
    if (!zero) of_data = std::max(of_data, pair.model->versions(range.first + i)->back().position);
    const bool absent = real_absent.count(range.first + i) > 0;
    if (absent && !zero) Differ("absent");
  }
  if (overlay_ && !reclaims_ && !joins_) Equal(model_absent, real_absent, "absent");
  if (real->newest < of_data) Differ("newest");
  if (!joins_ && real->newest > model->newest) Differ("newest");
}

void Conformance::Extents(Pair& pair, BlockRange range) {
  Say(pair, absl::StrCat("Extents ", range.first, "+", range.count));
  const auto model = pair.m().Extents(kVolume, range);
  const auto real = pair.r().Extents(kVolume, range);
  if (!Ok(model.status(), real.status())) return;
  Equal(model->runs, real->runs, "runs");
  if (!joins_ && real->newest > model->newest) Differ("newest");
}

void Conformance::ReadPinned(Pair& pair, uint64_t pin, BlockRange range) {
  Say(pair, absl::StrCat("ReadPinned ", pin, " ", range.first, "+", range.count));
  const auto model = pair.m().ReadPinned(kVolume, pin, range);
  const auto real = pair.r().ReadPinned(kVolume, pin, range);
  if (Ok(model.status(), real.status())) CompareNewest(*model, *real, "read at a pin");
}

void Conformance::ChangedSince(Pair& pair, uint64_t pin, LaneId lane) {
  Say(pair, absl::StrCat("ChangedSince ", pin, " lane ", Index(lane)));
  std::set<uint64_t> changed[2];
  const size_t ranges_max = 1 + dice_.Below(4);
  absl::Status status[2];
  for (int i = 0; i < 2; ++i) {
    for (uint64_t from = 0; from < SizeOf(pair);) {
      const auto page = (i == 0 ? pair.m() : pair.r()).ChangedSince(kVolume, pin, lane, from, ranges_max);
      status[i] = page.status();
      if (!page.ok()) break;
      if (page->ranges.size() > ranges_max || page->next_block <= from) return Differ("a page of changed blocks");
      changed[i].merge(BlocksOf(page->ranges, lane));
      from = page->next_block;
    }
  }
  if (!Ok(status[0], status[1])) return;
  const auto zeros = [&](uint64_t b) { return pair.model->versions(b)->empty() || pair.model->versions(b)->back().value == 0; };
  for (uint64_t b : changed[1]) {
    if (changed[0].count(b) == 0 && !(joins_ && zeros(b))) Differ(absl::StrCat("changed: block ", b));
  }
  for (uint64_t b : changed[0]) {
    if (changed[1].count(b) == 0 && !zeros(b)) Differ(absl::StrCat("not changed: block ", b));
  }
  std::vector<BlockRange> all;
  for (uint64_t b = 0; b < SizeOf(pair); ++b) {
    if (LaneOf(b) == lane) all.push_back({b, 1});
  }
  const auto model = pair.m().KeptBy(kVolume, pin, lane, all);
  const auto real = pair.r().KeptBy(kVolume, pin, lane, all);
  if (!Ok(model.status(), real.status())) return;
  // Of a joiner's blocks one may have reclaimed what the other has not.
  if (joins_) return;
  Equal(model->blocks, real->blocks, "kept by a pin");
  Equal(model->own_blocks, real->own_blocks, "kept by a pin alone");
}

void Conformance::Invalid(Pair& pair, LaneId lane) {
  Say(pair, absl::StrCat("InvalidBlocks lane ", Index(lane)));
  std::set<uint64_t> marked[2];
  const size_t ranges_max = 1 + dice_.Below(4);
  for (int i = 0; i < 2; ++i) {
    for (uint64_t from = 0; from < SizeOf(pair);) {
      const auto page = (i == 0 ? pair.m() : pair.r()).InvalidBlocks(kVolume, lane, from, ranges_max);
      if (!page.ok() || page->ranges.size() > ranges_max || page->next_block <= from) return Differ("a page of marks");
      marked[i].merge(BlocksOf(page->ranges, lane));
      from = page->next_block;
    }
  }
  Equal(marked[0], marked[1], "marked blocks");
}

void Conformance::Digests(Pair& pair, LaneId lane, Position at) {
  using Kind = BlockDigest::Kind;
  Say(pair, absl::StrCat("Digests lane ", Index(lane), " at ", at.ToString()));
  std::map<uint64_t, BlockDigest> digests[2];
  absl::Status status[2];
  const uint64_t bytes_max = kBlockBytes * (1 + dice_.Below(8));
  for (int i = 0; i < 2; ++i) {
    for (uint64_t from = 0; from < SizeOf(pair);) {
      const auto part = (i == 0 ? pair.m() : pair.r())
                            .Digests(kVolume, lane, {from, SizeOf(pair) - from}, at, bytes_max);
      status[i] = part.status();
      if (!part.ok()) break;
      if (part->next_block <= from) return Differ("a part of the digests");
      for (const BlockDigest& digest : part->blocks) digests[i][digest.block] = digest;
      from = part->next_block;
    }
  }
  if (!Ok(status[0], status[1])) return;
  for (auto& [block, model] : digests[0]) {
    const uint64_t value = pair.model->versions(block)->back().value;
    if (model.kind == Kind::kData) model.crc = Crc32c(Data(value));  // D5
    const auto real = digests[1].find(block);
    const bool good = real == digests[1].end() ? value == 0
                      : value != 0             ? real->second == model
                                               : (joins_ || real->second.position <= model.position) &&
                                         (real->second.kind == Kind::kZeroes || real->second.kind == Kind::kNewer);
    if (!good) Differ(absl::StrCat("digest of block ", block));
  }
  for (const auto& [block, real] : digests[1]) {
    const bool zeros = real.kind == Kind::kZeroes || real.kind == Kind::kNewer;
    if (digests[0].count(block) == 0 && !(joins_ && zeros)) Differ(absl::StrCat("digest of block ", block));
  }
}

// --- levelling ---

void Conformance::Changes(Pair& pair, LaneId lane, Position from, Position to) {
  Say(pair, absl::StrCat("ReadChanges lane ", Index(lane), " ", from.ToString(), " to ", to.ToString()));
  const auto model = pair.m().ReadChanges(kVolume, lane, from, to);
  const auto real = pair.r().ReadChanges(kVolume, lane, from, to);
  if (Ok(model.status(), real.status())) Equal(BlocksOf(*model, lane), BlocksOf(*real, lane), "changes");
}

bool Conformance::Tail(Pair& pair, LaneId lane, Position from, Position to, store::Tail* tail) {
  Say(pair, absl::StrCat("ReadTail lane ", Index(lane), " ", from.ToString(), " to ", to.ToString()));
  const auto model = pair.m().ReadTail(kVolume, lane, from, to);
  const auto real = pair.r().ReadTail(kVolume, lane, from, to);
  if (!Ok(model.status(), real.status())) return false;
  const auto changes = [](const store::Tail& of) {
    std::set<std::pair<Position, std::pair<uint64_t, uint64_t>>> all;
    for (const store::ChangeEntry& c : of.changes) all.insert({c.position, {c.range.first, c.range.count}});
    return all;
  };
  Equal(changes(*model), changes(*real), "changes of a tail");
  Equal(model->lineage, real->lineage, "lineage of a tail");
  EqualPositions(model->expected, real->expected, "expected");
  CompareNewest(model->versions, real->versions, "tail");
  *tail = *real;
  return true;
}

absl::Status Conformance::ReadAll(Store& store, LaneId lane, std::vector<BlockRange> ranges, Position at_most,
                                  store::VersionsPart* part) {
  const uint64_t bytes_max = 1 + dice_.Below(8 * kBlockBytes);
  for (;;) {
    const auto read = store.ReadVersions(kVolume, lane, ranges, at_most, bytes_max);
    if (!read.ok()) return read.status();
    part->position = read->position;
    part->ranges.insert(part->ranges.end(), read->ranges.begin(), read->ranges.end());
    part->versions.insert(part->versions.end(), read->versions.begin(), read->versions.end());
    const uint64_t end = read->ranges.empty() ? ~uint64_t{0} : read->ranges.back().end();
    while (!ranges.empty() && ranges.front().end() <= end) ranges.erase(ranges.begin());
    if (ranges.empty()) return absl::OkStatus();
    if (ranges.front().first < end) ranges.front() = {end, ranges.front().end() - end};
  }
}

bool Conformance::VersionsOf(Pair& pair, LaneId lane, const std::vector<BlockRange>& ranges, Position at_most,
                             store::VersionsPart* part) {
  Say(pair, absl::StrCat("ReadVersions lane ", Index(lane), " up to ", at_most.ToString()));
  store::VersionsPart of_model;
  const absl::Status model = ReadAll(pair.m(), lane, ranges, at_most, &of_model);
  if (!Ok(model, ReadAll(pair.r(), lane, ranges, at_most, part))) return false;
  EqualPositions(of_model.position, part->position, "position of a part");
  Equal(BlocksOf(of_model.ranges, lane), BlocksOf(part->ranges, lane), "blocks of a part");
  CheckCrcs(part->versions);
  const Versions left = Short(of_model.versions), right = Short(part->versions);
  if (!reclaims_ && !joins_) return Equal(left, right, "versions");
  std::vector<Position> needed;  // D4
  if (at_most == At(pair, lane)) needed.push_back(at_most);
  for (const Pin& pin : pair.pins) {
    if (!joins_ && pin.positions[Index(lane)] <= at_most) needed.push_back(pin.positions[Index(lane)]);
  }
  for (uint64_t b : BlocksOf(ranges, lane)) {
    for (Position at : needed) {
      if (ValueAt(left, b, at) != ValueAt(right, b, at)) Differ(absl::StrCat("block ", b, " at ", at.ToString()));
    }
  }
  return true;
}

}  // namespace weir::sim
