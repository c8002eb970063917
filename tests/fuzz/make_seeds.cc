// Writes the seeds: well-formed inputs of every kind, from which a fuzzer sets out. Usage: make_seeds
// tests/fuzz/corpus. What a fuzzer has found lies there too, under names of its own.
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "proto/base/errno.h"
#include "proto/wire/status.h"
#include "replica/store/floor.h"
#include "replica/store/keys.h"
#include "replica/store/testing/temp_store.h"
#include "rocksdb/env.h"
#include "weir/v1/catalog.pb.h"
#include "weir/v1/replica.pb.h"
#include "weir/v1/volume.pb.h"

namespace weir::fuzz {
namespace {

std::string root;

void Write(const std::string& target, const std::string& name, const std::string& bytes) {
  std::filesystem::create_directories(root + "/" + target);
  std::ofstream(root + "/" + target + "/" + name, std::ios::binary) << bytes;
}

std::string Byte(int byte) { return std::string(1, static_cast<char>(byte)); }

std::string Sized(const std::string& message) {
  return Byte(static_cast<int>(message.size() & 255)) + Byte(static_cast<int>(message.size() >> 8)) +
         message;
}

template <typename Proto>
std::string Sized(const Proto& message) {
  return Sized(message.SerializeAsString());
}

// A step of a target whose steps are a kind and a message.
template <typename Message>
std::string Step(int kind, const Message& message) {
  return Byte(kind) + Sized(message);
}

v1::Fence Fence() {
  v1::Fence fence;
  fence.set_cluster_id("cluster");
  fence.set_volume_id(1);
  fence.set_store_id("store1");
  fence.set_incarnation(1);
  fence.set_epoch(1);
  return fence;
}

v1::Io* AddIo(v1::IoFrame* frame, v1::IoKind kind, uint64_t block, uint32_t count) {
  v1::Io* io = frame->add_ios();
  io->set_id(static_cast<uint64_t>(frame->ios_size()));
  io->set_kind(kind);
  io->set_lane(static_cast<uint32_t>(block / 8 % 2));
  io->set_first_block(block);
  io->set_block_count(count);
  return io;
}

// One of each kind; of lane 0 the first write of epoch 1.
v1::IoFrame AllKinds() {
  v1::IoFrame frame;
  const std::string block = store::testing::BlockOf(1);
  v1::Io* write = AddIo(&frame, v1::IO_KIND_WRITE, 0, 1);
  write->set_position(Position(1, 1).bits());
  write->set_fua(true);
  write->add_crc32c(Crc32c(block));
  frame.set_payload(block);
  AddIo(&frame, v1::IO_KIND_WRITE_ZEROES, 2, 3)->set_position(Position(1, 2).bits());
  AddIo(&frame, v1::IO_KIND_DISCARD, 3, 1)->set_position(Position(1, 3).bits());
  AddIo(&frame, v1::IO_KIND_READ, 0, 2);
  AddIo(&frame, v1::IO_KIND_EXTENTS, 8, 4);
  AddIo(&frame, v1::IO_KIND_FLUSH, 0, 0)->set_flush_nr(1);
  frame.set_ping(7);
  v1::LanePosition* point = frame.add_durable_points();
  point->set_position(Position(1, 1).bits());
  *frame.mutable_keep_changes()->add_after() = *point;
  return frame;
}

void Frames() {
  v1::IoFrame hello;
  *hello.mutable_hello()->mutable_fence() = Fence();
  hello.mutable_hello()->set_session(3);
  hello.mutable_hello()->set_frontend("host:1");
  Write("frame", "hello", Byte(0) + Byte(0) + hello.SerializeAsString());
  Write("frame", "ios", Byte(0) + Byte(40) + AllKinds().SerializeAsString());
  v1::IoReplyFrame replies;
  replies.add_replies()->set_payload_blocks(1);
  replies.set_space_exhausted(true);
  replies.set_payload(std::string(kBlockBytes, 'r'));
  Write("frame", "replies", Byte(1) + Byte(255) + replies.SerializeAsString());
  const grpc::Status status = wire::ToGrpc(ErrnoToStatus(EBADMSG, "damaged"));
  Write("frame", "status", Byte(4) + Byte(15) + status.error_details());

  v1::VolumeIoFrame client;
  client.mutable_open()->set_volume("demo");
  v1::VolumeIo* write = client.add_ios();
  write->set_kind(v1::REQUEST_KIND_WRITE);
  write->set_length_bytes(kBlockBytes);
  client.set_payload(std::string(kBlockBytes, 'c'));
  v1::VolumeIo* discard = client.add_ios();
  discard->set_kind(v1::REQUEST_KIND_DISCARD);
  discard->set_offset_bytes(kBlockBytes);
  discard->set_length_bytes(32 << 20);
  v1::VolumeIo* read = client.add_ios();
  read->set_kind(v1::REQUEST_KIND_READ);
  read->set_length_bytes(4 << 20);
  client.add_ios()->set_kind(v1::REQUEST_KIND_FLUSH);
  Write("frame", "client", Byte(2) + Byte(20) + client.SerializeAsString());
  Write("client_frames", "all_kinds", client.SerializeAsString());
}

void ReplicaMessages() {
  Write("replica_messages", "frames", Step(0, AllKinds()) + Step(1, AllKinds()));

  v1::BeginJoinRequest begin;
  *begin.mutable_fence() = Fence();
  begin.set_join_id(9);
  begin.set_expected_position(Position(1, 0).bits());
  begin.set_to_position(Position(1, 5).bits());
  begin.set_common_position(Position(1, 0).bits());
  begin.add_lineage()->set_epoch(0);
  v1::BlockRun* run = begin.add_changes();
  run->set_first_block(1);
  run->set_block_count(2);
  v1::CopyInRequest copy;
  copy.set_join_id(9);
  copy.set_to_position(begin.to_position());
  *copy.add_ranges() = *run;
  v1::BlockVersion* version = copy.add_versions();
  const std::string block = store::testing::BlockOf(5);
  version->set_block(1);
  version->set_position(Position(1, 4).bits());
  version->set_crc32c(Crc32c(block));
  version->set_data(block);
  v1::GetJoinRequest get;
  v1::FinishJoinRequest finish;
  finish.set_join_id(9);
  Write("replica_messages", "join",
        Step(2, begin) + Step(6, get) + Step(3, copy) + Step(6, get) + Step(7, finish));
  begin.set_everything(true);
  Write("replica_messages", "join_everything", Step(2, begin) + Step(6, get) + Step(0, AllKinds()));

  v1::CopyInRequest repair = copy;
  repair.set_join_id(0);
  repair.set_repair(true);
  repair.set_to_position(Position(1, 3).bits());
  repair.mutable_versions(0)->set_position(Position(1, 2).bits());
  Write("replica_messages", "repair", Step(0, AllKinds()) + Step(3, repair));

  v1::GetChangesRequest changes;
  changes.set_from_position(Position(1, 0).bits());
  changes.set_to_position(Position(1, 3).bits());
  v1::ReadVersionsRequest versions;
  versions.set_at_most_position(changes.to_position());
  versions.add_ranges()->set_block_count(8);
  v1::ReadTailRequest tail;
  tail.set_from_position(changes.from_position());
  tail.set_to_position(changes.to_position());
  Write("replica_messages", "source",
        Step(0, AllKinds()) + Step(4, changes) + Step(5, versions) + Step(10, tail));
  v1::GetDigestsRequest digests;
  digests.set_at_position(changes.to_position());
  digests.set_block_count(8);
  Write("replica_messages", "digests", Step(0, AllKinds()) + Step(12, digests));

  v1::AdoptTailRequest adopt;
  adopt.set_lane(1);
  adopt.set_from_position(Position(1, 0).bits());
  adopt.set_to_position(Position(1, 1).bits());
  v1::ChangeEntry* change = adopt.mutable_chunk()->add_changes();
  change->set_position(adopt.to_position());
  change->set_first_block(8);
  change->set_block_count(1);
  *adopt.mutable_chunk()->add_versions() = *version;
  adopt.mutable_chunk()->mutable_versions(0)->set_block(8);
  adopt.mutable_chunk()->mutable_versions(0)->set_position(adopt.to_position());
  v1::TakeBaseRequest base;
  *base.mutable_fence() = Fence();
  base.mutable_fence()->set_epoch(2);
  base.set_act_epoch(1);
  for (uint32_t lane = 0; lane < 2; ++lane) {
    v1::LanePosition* expected = base.add_expected();
    expected->set_lane(lane);
    expected->set_position(Position(1, lane).bits());
  }
  Write("replica_messages", "takeover", Step(9, adopt) + Step(8, base));
  v1::CreateReplicaVolumeRequest create;
  *create.mutable_fence() = Fence();
  create.set_size_bytes(1 << 30);
  create.set_lanes(4);
  create.set_stripe_blocks(64);
  v1::Fault fault;
  fault.set_op(v1::FAULT_OP_WRITE);
  Write("replica_messages", "control", Step(11, create) + Step(11, fault) + Step(1, AllKinds()));
}

// The steps of replica_replies_fuzz.cc; the target in the upper half of the kind.
std::string On(int target, int kind) { return Byte(target << 4 | kind); }

void ReplicaReplies() {
  std::string connect;
  for (int target = 0; target < 3; ++target) connect += On(target, 0);
  std::string requests;
  for (int kind = 0; kind < 7; ++kind) requests += Byte(5) + Byte(kind) + Byte(kind * 9);
  std::string answers;
  for (int target = 0; target < 3; ++target) answers += On(target, 3) + Byte(20);
  Write("replica_replies", "served", connect + requests + answers + answers + answers);

  v1::IoReplyFrame frame;
  for (uint64_t id = 1; id <= 8; ++id) {
    v1::IoReply* reply = frame.add_replies();
    reply->set_id(id);
    reply->set_position(Position(7, 1).bits());
    v1::LanePosition* durable = reply->add_durable();
    durable->set_position(Position(7, 1).bits());
  }
  frame.set_pong(1);
  Write("replica_replies", "frames",
        connect + requests + On(0, 2) + Sized(frame) + On(1, 2) + Sized(frame) + answers);

  v1::HelloReply hello;
  hello.set_num_flush_requests(1);
  for (uint32_t lane = 0; lane < 2; ++lane) {
    v1::LaneState* state = hello.add_lanes();
    state->set_lane(lane);
    state->set_position(Position(7, 0).bits());
    state->set_durable_position(Position(7, 0).bits());
  }
  Write("replica_replies", "hello",
        On(0, 1) + Sized(hello) + connect + requests + answers + Byte(7) + Byte(2) + answers);

  // One is lost, leaves, and is brought back.
  v1::SealResponse sealed;
  sealed.set_store_id("store3");
  sealed.set_incarnation(2);
  sealed.set_flush_supported(true);
  for (const v1::LaneState& lane : hello.lanes()) *sealed.add_lanes() = lane;
  std::string joins;
  for (int i = 0; i < 12; ++i) joins += Byte(9) + Byte(255) + Sized(sealed) + Byte(7) + Byte(1);
  Write("replica_replies", "left",
        connect + On(2, 4) + Byte(ECONNRESET) + requests + Byte(7) + Byte(1) + Byte(8) + Byte(255) +
            answers + Byte(7) + Byte(2) + joins + On(2, 0) + answers + Byte(8) + Byte(255));
  Write("replica_replies", "suspended",
        connect + requests + Byte(12) + Byte(1) + answers + answers + Byte(14) + Byte(1) + Byte(13) +
            Byte(8) + Byte(255));
}

void CatalogRecords() {
  v1::VolumeRecord record;
  record.set_id(1);
  record.set_name("demo");
  record.set_size_bytes(1 << 20);
  record.set_lanes(2);
  record.set_stripe_blocks(8);
  record.set_min_in_sync(2);
  record.set_state(v1::VolumeRecord::ACTIVE);
  record.set_epoch(4);
  record.set_act_epoch(4);
  record.set_lease_ms(3000);
  v1::Table table;
  for (const char* name : {"replica1", "replica2", "replica3"}) {
    v1::Member* member = record.add_members();
    member->set_replica(name);
    member->set_address("127.0.0.1:7701");
    member->set_store_id(std::string("store-") + name);
    member->set_in_sync(true);
    v1::Target* target = table.add_targets();
    target->set_replica(name);
    target->set_state("in_sync");
  }
  record.add_floor()->set_position(Position(4, 2).bits());
  v1::SealResponse sealed;
  for (uint32_t lane = 0; lane < 2; ++lane) {
    v1::LaneState* state = sealed.add_lanes();
    state->set_lane(lane);
    state->set_position(Position(4, 9).bits());
    state->set_durable_position(Position(4, 9).bits());
    v1::LineageEntry* entry = state->add_lineage();
    entry->set_epoch(3);
    entry->set_n(7);
  }
  v1::SealResponse behind = sealed;
  behind.mutable_lanes(1)->set_position(Position(4, 5).bits());
  const std::string ok = Byte(7);
  Write("catalog_records", "takeover",
        Sized(record) + Sized(table) + ok + ok + Sized(sealed) + ok + Sized(behind) + ok +
            Sized(sealed) + std::string(20, 7));
  Write("catalog_records", "unreachable",
        Sized(record) + Sized(table) + ok + ok + Sized(sealed) + Byte(0) + Byte(0) + Byte(0) +
            std::string(40, 7));
}

void StoreValues() {
  const store::BlockAddress address{VolumeId{1}, LaneId{1}, 3};
  const Position position(1, 7);
  Write("store_values", "version_key", Byte(0) + store::VersionKey(address, position));
  Write("store_values", "change_key",
        Byte(0) + store::ChangeKey(VolumeId{1}, LaneId{1}, {position, {3, 2}}));
  Write("store_values", "mark_key", Byte(0) + store::MarkKey(VolumeId{1}, LaneId{2}, 2));
  Write("store_values", "newest", Byte(1) + store::NewestValue({position, store::BlockKind::kData}));
  Write("store_values", "geometry", Byte(1) + store::EncodeGeometry({64, {2, 8}}));
  Write("store_values", "lineage", Byte(1) + store::EncodeLineage({{1, 5}, {2, 9}}));
  const std::string block = store::testing::BlockOf(1);
  Write("store_values", "version",
        Byte(2) + Byte(7) +
            store::VersionHeader(address, position, store::BlockKind::kData, Crc32c(block)) + block);
  Write("store_values", "zero_version",
        Byte(2) + Byte(7) + store::VersionHeader(address, position, store::BlockKind::kZero, 0));
}

void StoreFiles() {
  std::unique_ptr<rocksdb::Env> env(rocksdb::NewMemEnv(rocksdb::Env::Default()));
  store::Floor floor;
  floor.store_id = std::string(32, 'a');
  floor.serial = 3;
  CHECK_OK(store::FloorFile::Make(env.get(), "/floor", floor));
  std::string file;
  CHECK(rocksdb::ReadFileToString(env.get(), "/floor", &file).ok());
  Write("store_files", "floor", Byte(0) + file);
  // Two records of RocksDB's log format, whole and cut: checksum, length, type, data.
  const auto record = [](const std::string& data) {
    std::string bytes = "\x01" + data;
    return std::string("\0\0\0\0", 4) + Byte(static_cast<int>(data.size())) + Byte(0) + bytes;
  };
  Write("store_files", "manifest", Byte(1) + std::string(6, '\0') + record("first") + record("second"));
  Write("store_files", "name", Byte(2) + "MANIFEST-000007");
}

void CliText() {
  Write("cli_text", "table",
        Byte(0) + "# volume demo, 1GiB\n0 2097152 replica replica1 127.0.0.1:7701 in_sync\n"
                  "0 2097152 replica replica2 127.0.0.1:7702 joining\n");
  Write("cli_text", "table_json",
        Byte(0) + "{\"targets\":[{\"replica\":\"replica1\",\"state\":\"out\"}]}");
  Write("cli_text", "size", Byte(1) + "1.5GiB");
  Write("cli_text", "fault",
        Byte(2) + Sized(std::string("write")) + Sized(std::string("EIO,DELAY=50")) + Byte(0) +
            Byte(3) + std::string(7, '\0'));
  Write("cli_text", "flush_fault",
        Byte(2) + Sized(std::string("flush")) + Sized(std::string("EOPNOTSUPP")) + Byte(1) +
            std::string(8, '\0'));
  Write("cli_text", "cluster_env",
        Byte(3) + "NBD_URI='nbd+unix:///?socket=/tmp/a'\nREPLICA_ADDRS=\"replica1=127.0.0.1:1\"\n"
                  "export PIDS='replica1=12'\n# end\n");
  Write("cli_text", "named_values", Byte(4) + "replica1=127.0.0.1:7701 replica2=unix:/run/r2");
  Write("cli_text", "metrics_urls", Byte(4) + "a=http://127.0.0.1:7801/metrics,http://h/metrics");
  const std::string metrics =
      "# TYPE h histogram\nh_bucket{volume=\"demo\",le=\"0.5\"} 3\nh_bucket{volume=\"demo\",le=\"+Inf\"} 4 1700000000000\n"
      "process_start_time_seconds 1.7e9\nn_total{volume=\"a\\\"b\\n\"} 12\n";
  Write("cli_text", "metrics", Byte(5) + Sized(metrics) + metrics + "new_total 1\n");
}

void NbdReply() {
  const std::string einval("\x67\x44\x66\x98\0\0\0\x16" "cookie12", 16);
  Write("nbd_reply", "corrected", Byte(EOPNOTSUPP) + einval);
  Write("nbd_reply", "untouched", Byte(EIO) + einval);
}

}  // namespace
}  // namespace weir::fuzz

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_seeds DIRECTORY\n");
    return 2;
  }
  weir::fuzz::root = argv[1];
  weir::fuzz::Frames();
  weir::fuzz::ReplicaMessages();
  weir::fuzz::ReplicaReplies();
  weir::fuzz::CatalogRecords();
  weir::fuzz::StoreValues();
  weir::fuzz::StoreFiles();
  weir::fuzz::CliText();
  weir::fuzz::NbdReply();
  return 0;
}
