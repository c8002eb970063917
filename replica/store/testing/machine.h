// A store on a FaultFs of its own: what a test opens, cuts and opens again.
#ifndef WEIR_REPLICA_STORE_TESTING_MACHINE_H_
#define WEIR_REPLICA_STORE_TESTING_MACHINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "replica/store/store.h"
#include "replica/store/testing/fault_fs.h"
#include "rocksdb/env.h"

namespace weir::store::testing {

// Thread-safety: none; its store's is the store's.
struct Machine {
  explicit Machine(std::shared_ptr<FaultFs> disk)
      : fs(std::move(disk)), env(NewFaultEnv(fs)) {}

  static std::string Directory(int i) { return "/d" + std::to_string(i); }

  absl::Status Open(int directories) {
    Options options;
    for (int i = 0; i < directories; ++i) {
      options.data_dirs.push_back(Directory(i));
    }
    options.env = env.get();
    // The least, so that memtables are written out and compacted often.
    options.memtable_bytes = 1 << 20;
    options.block_cache_bytes = 1 << 20;
    options.reserve_bytes = 0;
    options.file_fault = file_fault;
    auto opened = Store::Open(options);
    if (opened.ok()) store = *std::move(opened);
    return opened.status();
  }
  // RocksDB opens without its OPTIONS file, which takes it longer to write and
  // check than all the rest.
  void OpenFaster() {
    fs->FailWhere(FileOp::kCreate, "/OPTIONS-",
                  rocksdb::IOStatus::IOError("not in this test"));
  }

  std::shared_ptr<FaultFs> fs;
  std::unique_ptr<rocksdb::Env> env;
  std::function<int(uint32_t domain, FileAct act)> file_fault;
  std::unique_ptr<Store> store;
};

}  // namespace weir::store::testing

#endif  // WEIR_REPLICA_STORE_TESTING_MACHINE_H_
