// RocksDB's files, opened patiently (shortage.h). All of it is in this header,
// so that only those need RocksDB that have a database.
#ifndef WEIR_PROTO_BASE_PATIENT_FS_H_
#define WEIR_PROTO_BASE_PATIENT_FS_H_

#include <sys/prctl.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "proto/base/shortage.h"
#include "proto/base/steady.h"
#include "rocksdb/file_system.h"

namespace weir {

// `target`, but for its patience. Blocks RocksDB's threads, and whoever writes
// to a database that waits for them; who only reads waits no longer than
// kReadMax, since another replica has the block too. Thread-safety: as `target`.
class PatientFs : public rocksdb::FileSystemWrapper {
 public:
  static constexpr absl::Duration kReadMax = absl::Seconds(1);

  explicit PatientFs(const std::shared_ptr<rocksdb::FileSystem>& target,
                     absl::Duration longest = kShortageMax)
      : rocksdb::FileSystemWrapper(target), shortage_(longest) {}
  const char* Name() const override { return "weir.PatientFs"; }

  rocksdb::IOStatus NewSequentialFile(const std::string& name, const rocksdb::FileOptions& options,
                                      std::unique_ptr<rocksdb::FSSequentialFile>* file,
                                      rocksdb::IODebugContext* dbg) override {
    return Patiently(name, [&] { return FileSystemWrapper::NewSequentialFile(name, options, file, dbg); });
  }
  rocksdb::IOStatus NewRandomAccessFile(const std::string& name, const rocksdb::FileOptions& options,
                                        std::unique_ptr<rocksdb::FSRandomAccessFile>* file,
                                        rocksdb::IODebugContext* dbg) override {
    return Patiently(name, [&] { return FileSystemWrapper::NewRandomAccessFile(name, options, file, dbg); },
                     IsRocksDbsThread() ? absl::InfiniteDuration() : kReadMax);
  }
  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    rocksdb::IODebugContext* dbg) override {
    return Patiently(name, [&] { return FileSystemWrapper::NewWritableFile(name, options, file, dbg); });
  }
  rocksdb::IOStatus NewDirectory(const std::string& name, const rocksdb::IOOptions& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* directory,
                                 rocksdb::IODebugContext* dbg) override {
    return Patiently(name, [&] { return FileSystemWrapper::NewDirectory(name, options, directory, dbg); });
  }

 private:
  // RocksDB 7.8.3 tells these errors by strerror's text alone.
  static bool IsShortage(const rocksdb::IOStatus& status) {
    if (!status.IsIOError()) return false;
    const std::string text = status.ToString();
    for (const int error : {EMFILE, ENFILE, ENOMEM}) {
      if (absl::EndsWith(text, std::strerror(error))) return true;
    }
    return false;
  }

  static bool IsRocksDbsThread() {
    char name[16] = {};
    return prctl(PR_GET_NAME, name) == 0 && absl::StartsWith(name, "rocksdb:");
  }

  template <typename Open>
  rocksdb::IOStatus Patiently(const std::string& name, const Open& open,
                              absl::Duration longest = absl::InfiniteDuration()) {
    const absl::Duration begun = SteadyNow();
    for (;;) {
      rocksdb::IOStatus status = open();
      if (!IsShortage(status)) {
        shortage_.Ended();
        return status;
      }
      if (SteadyNow() - begun >= longest || !shortage_.MayEnd(name, status.ToString())) return status;
    }
  }

  Shortage shortage_;
};

}  // namespace weir

#endif  // WEIR_PROTO_BASE_PATIENT_FS_H_
