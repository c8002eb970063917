#include "proto/base/patient_fs.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "proto/base/shortage.h"
#include "proto/base/steady.h"
#include "rocksdb/db.h"
#include "rocksdb/env.h"
#include "rocksdb/file_system.h"

namespace weir {
namespace {

constexpr absl::Duration kShort = absl::Milliseconds(200);

class PatientFsTest : public ::testing::Test {
 protected:
  PatientFsTest() {
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0);
    EXPECT_NE(mkdtemp(directory_.data()), nullptr);
  }
  ~PatientFsTest() override { SetFiles(before_.rlim_cur); }

  void SetFiles(rlim_t files) {
    const rlimit limit{files, before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  }
  // None, until a moment has passed.
  std::thread ShortOfFiles() {
    SetFiles(0);
    return std::thread([this] {
      absl::SleepFor(kShort);
      SetFiles(before_.rlim_cur);
    });
  }

  std::string directory_ = ::testing::TempDir() + "/patient.XXXXXX";
  rlimit before_;
};

TEST_F(PatientFsTest, AFileIsOpenedOnceThereIsADescriptor) {
  std::thread later = ShortOfFiles();
  const int fd = OpenPatiently(directory_ + "/file", O_WRONLY | O_CREAT, 0600);
  later.join();
  ASSERT_GE(fd, 0);
  close(fd);
}

TEST_F(PatientFsTest, AShortageThatLastsIsAnError) {
  SetFiles(0);
  EXPECT_EQ(OpenPatiently(directory_ + "/file", O_WRONLY | O_CREAT, 0600, kShort), -1);
  EXPECT_EQ(errno, EMFILE);
  PatientFs fs(rocksdb::FileSystem::Default(), kShort);
  std::unique_ptr<rocksdb::FSWritableFile> file;
  EXPECT_TRUE(fs.NewWritableFile(directory_ + "/file", {}, &file, nullptr).IsIOError());
}

TEST_F(PatientFsTest, NothingElseIsWaitedFor) {
  const absl::Duration begun = SteadyNow();
  EXPECT_EQ(OpenPatiently(directory_ + "/absent/file", O_RDONLY, 0), -1);
  EXPECT_EQ(errno, ENOENT);
  PatientFs fs(rocksdb::FileSystem::Default());
  std::unique_ptr<rocksdb::FSSequentialFile> file;
  EXPECT_TRUE(fs.NewSequentialFile(directory_ + "/absent", {}, &file, nullptr).IsPathNotFound());
  EXPECT_LT(SteadyNow() - begun, absl::Minutes(1));
}

TEST_F(PatientFsTest, EachKindOfFileIsWaitedFor) {
  PatientFs fs(rocksdb::FileSystem::Default());
  const std::string path = directory_ + "/file";
  std::unique_ptr<rocksdb::FSWritableFile> written;
  std::unique_ptr<rocksdb::FSSequentialFile> sequential;
  std::unique_ptr<rocksdb::FSRandomAccessFile> random;
  std::unique_ptr<rocksdb::FSDirectory> directory;
  const std::function<rocksdb::IOStatus()> kinds[] = {
      [&] { return fs.NewWritableFile(path, {}, &written, nullptr); },
      [&] { return fs.NewSequentialFile(path, {}, &sequential, nullptr); },
      [&] { return fs.NewRandomAccessFile(path, {}, &random, nullptr); },
      [&] { return fs.NewDirectory(directory_, {}, &directory, nullptr); },
  };
  for (const auto& open : kinds) {
    std::thread later = ShortOfFiles();
    const rocksdb::IOStatus status = open();
    later.join();
    EXPECT_TRUE(status.ok()) << status.ToString();
  }
}

// What is short is known once, however many files are to be opened.
TEST_F(PatientFsTest, ManyFilesAreNotWaitedForLongerThanOne) {
  SetFiles(0);
  PatientFs fs(rocksdb::FileSystem::Default(), kShort);
  std::unique_ptr<rocksdb::FSWritableFile> file;
  const absl::Duration begun = SteadyNow();
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(fs.NewWritableFile(directory_ + "/file", {}, &file, nullptr).ok());
  EXPECT_LT(SteadyNow() - begun, 500 * kShort);
}

TEST_F(PatientFsTest, WhoOnlyReadsIsAnsweredSoon) {
  PatientFs fs(rocksdb::FileSystem::Default());
  const std::string path = directory_ + "/file";
  close(OpenPatiently(path, O_WRONLY | O_CREAT, 0600));
  SetFiles(0);
  std::unique_ptr<rocksdb::FSRandomAccessFile> file;
  EXPECT_TRUE(fs.NewRandomAccessFile(path, {}, &file, nullptr).IsIOError());
}

TEST_F(PatientFsTest, ADatabaseNoticesNothing) {
  const std::unique_ptr<rocksdb::Env> env =
      rocksdb::NewCompositeEnv(std::make_shared<PatientFs>(rocksdb::FileSystem::Default()));
  rocksdb::Options options;
  options.env = env.get();
  options.create_if_missing = true;
  options.max_open_files = 20;  // so that it must open tables anew
  rocksdb::DB* opened = nullptr;
  ASSERT_TRUE(rocksdb::DB::Open(options, directory_ + "/db", &opened).ok());
  std::unique_ptr<rocksdb::DB> db(opened);
  for (int i = 0; i < 30; ++i) {
    std::thread later = i % 10 == 0 ? ShortOfFiles() : std::thread();
    EXPECT_TRUE(db->Put({}, std::to_string(i), "value").ok());
    EXPECT_TRUE(db->Flush({}).ok());
    if (i % 10 == 0) later.join();
  }
  std::thread later = ShortOfFiles();
  std::string value;
  for (int i = 0; i < 30; ++i) EXPECT_TRUE(db->Get({}, std::to_string(i), &value).ok()) << i;
  EXPECT_TRUE(db->CompactRange({}, nullptr, nullptr).ok());
  later.join();
}

// Last, since it is for good.
TEST_F(PatientFsTest, NobodyWaitsInAProcessThatIsToEnd) {
  EndPatience();
  SetFiles(0);
  PatientFs fs(rocksdb::FileSystem::Default());
  std::unique_ptr<rocksdb::FSWritableFile> file;
  EXPECT_FALSE(fs.NewWritableFile(directory_ + "/file", {}, &file, nullptr).ok());
  EXPECT_EQ(OpenPatiently(directory_ + "/file", O_WRONLY | O_CREAT, 0600), -1);
}

}  // namespace
}  // namespace weir
