#include "client/fuse/file_system.h"

#define FUSE_USE_VERSION 312
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/position.h"

namespace weir::fuse {
namespace {

constexpr fuse_ino_t kFileInode = FUSE_ROOT_ID + 1;
// The loop device splits at 1 MiB or so.
constexpr unsigned kWriteBytesMax = 1 << 20;
// As many as the loop device has under way at once, and some.
constexpr unsigned kBackgroundMax = 256;
// Requests are answered by gRPC's threads. These read them, and one may be asking how large the volume is.
constexpr unsigned kThreadsMax = 4;
// The name and the attributes of the root never change; the file's size may, at any time.
constexpr double kForEver = 3600;

VolumeFile& FileOf(fuse_req_t request) { return *static_cast<VolumeFile*>(fuse_req_userdata(request)); }

struct stat Attributes(fuse_ino_t inode, const VolumeFile& file) {
  struct stat attributes = {};
  attributes.st_ino = inode;
  attributes.st_blksize = kBlockBytes;
  if (inode == FUSE_ROOT_ID) {
    attributes.st_mode = S_IFDIR | 0500;
    attributes.st_nlink = 2;
  } else {
    attributes.st_mode = S_IFREG | (file.read_only() ? 0400 : 0600);
    attributes.st_nlink = 1;
    attributes.st_size = static_cast<off_t>(file.size_bytes());
  }
  return attributes;
}

void Init(void*, fuse_conn_info* connection) {
  connection->max_write = kWriteBytesMax;
  connection->max_background = kBackgroundMax;
  connection->congestion_threshold = kBackgroundMax;
}

void Lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  if (parent != FUSE_ROOT_ID || std::strcmp(name, kFileName) != 0) {
    fuse_reply_err(request, ENOENT);
    return;
  }
  fuse_entry_param entry = {};
  entry.ino = kFileInode;
  entry.attr = Attributes(kFileInode, FileOf(request));
  entry.entry_timeout = kForEver;
  fuse_reply_entry(request, &entry);
}

// Whoever looks at the size wants to know the present one: a loop device is told so that it has grown.
void GetAttributes(fuse_req_t request, fuse_ino_t inode, fuse_file_info*) {
  VolumeFile& file = FileOf(request);
  if (inode == kFileInode) file.RefreshSize();
  const struct stat attributes = Attributes(inode, file);
  fuse_reply_attr(request, &attributes, inode == FUSE_ROOT_ID ? kForEver : 0);
}

void Open(fuse_req_t request, fuse_ino_t inode, fuse_file_info* info) {
  if (inode != kFileInode) {
    fuse_reply_err(request, EISDIR);
    return;
  }
  if (FileOf(request).read_only() && (info->flags & O_ACCMODE) != O_RDONLY) {
    fuse_reply_err(request, EROFS);
    return;
  }
  if ((info->flags & O_TRUNC) != 0) {
    fuse_reply_err(request, EPERM);
    return;
  }
  info->direct_io = 1;  // no second cache below that of the loop device
  fuse_reply_open(request, info);
}

void Read(fuse_req_t request, fuse_ino_t, size_t size, off_t offset, fuse_file_info*) {
  FileOf(request).Read(static_cast<uint64_t>(offset), size, [request](int error, std::string data) {
    if (error != 0) {
      fuse_reply_err(request, error);
    } else {
      fuse_reply_buf(request, data.data(), data.size());
    }
  });
}

void Write(fuse_req_t request, fuse_ino_t, const char* data, size_t size, off_t offset, fuse_file_info*) {
  FileOf(request).Write(static_cast<uint64_t>(offset), std::string(data, size), /*fua=*/false, [request, size](int error) {
    if (error != 0) {
      fuse_reply_err(request, error);
    } else {
      fuse_reply_write(request, size);
    }
  });
}

void Fsync(fuse_req_t request, fuse_ino_t, int, fuse_file_info*) {
  FileOf(request).Flush([request](int error) { fuse_reply_err(request, error); });
}

void Fallocate(fuse_req_t request, fuse_ino_t, int mode, off_t offset, off_t length, fuse_file_info*) {
  FileOf(request).Allocate(mode, static_cast<uint64_t>(offset), static_cast<uint64_t>(length),
                           [request](int error) { fuse_reply_err(request, error); });
}

void Statfs(fuse_req_t request, fuse_ino_t) {
  struct statvfs all = {};
  all.f_bsize = all.f_frsize = kBlockBytes;  // by this the loop device discards
  all.f_blocks = FileOf(request).size_bytes() / kBlockBytes;
  all.f_files = 1;
  all.f_namemax = NAME_MAX;
  fuse_reply_statfs(request, &all);
}

void ReadDirectory(fuse_req_t request, fuse_ino_t, size_t size, off_t offset, fuse_file_info*) {
  struct Entry {
    const char* name;
    fuse_ino_t inode;
  };
  constexpr Entry kEntries[] = {{".", FUSE_ROOT_ID}, {"..", FUSE_ROOT_ID}, {kFileName, kFileInode}};
  std::string buffer(size, '\0');
  size_t used = 0;
  for (size_t i = static_cast<size_t>(offset); i < std::size(kEntries); ++i) {
    const struct stat attributes = Attributes(kEntries[i].inode, FileOf(request));
    const size_t needed = fuse_add_direntry(request, buffer.data() + used, size - used, kEntries[i].name,
                                            &attributes, static_cast<off_t>(i + 1));
    if (needed > size - used) break;
    used += needed;
  }
  fuse_reply_buf(request, buffer.data(), used);
}

fuse_lowlevel_ops Operations() {
  fuse_lowlevel_ops operations = {};
  operations.init = Init;
  operations.lookup = Lookup;
  operations.getattr = GetAttributes;
  operations.open = Open;
  operations.read = Read;
  operations.write = Write;
  operations.fsync = Fsync;
  operations.fallocate = Fallocate;
  operations.statfs = Statfs;
  operations.readdir = ReadDirectory;
  return operations;
}

}  // namespace

absl::StatusOr<std::unique_ptr<FileSystem>> FileSystem::Mount(VolumeFile* file, const std::string& mount_point,
                                                              const std::string& source) {
  const fuse_lowlevel_ops operations = Operations();
  std::string name = "weir-fuse", option = "-o", options = absl::StrCat("fsname=", source, ",subtype=weir");
  char* argv[] = {name.data(), option.data(), options.data(), nullptr};
  fuse_args arguments = FUSE_ARGS_INIT(3, argv);
  fuse_session* session = fuse_session_new(&arguments, &operations, sizeof(operations), file);
  fuse_opt_free_args(&arguments);
  if (session == nullptr) return absl::FailedPreconditionError("FUSE cannot be used here");
  std::unique_ptr<FileSystem> system(new FileSystem(session));
  if (fuse_session_mount(session, mount_point.c_str()) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot mount on ", mount_point, ": it must be an empty directory, and /dev/fuse usable"));
  }
  system->handles_signals_ = fuse_set_signal_handlers(session) == 0;
  return system;
}

FileSystem::~FileSystem() {
  if (handles_signals_) fuse_remove_signal_handlers(session_);
  fuse_session_unmount(session_);
  fuse_session_destroy(session_);
}

absl::Status FileSystem::Serve() {
  fuse_loop_config* config = fuse_loop_cfg_create();
  fuse_loop_cfg_set_max_threads(config, kThreadsMax);
  fuse_loop_cfg_set_idle_threads(config, kThreadsMax);
  const int ended = fuse_session_loop_mt(session_, config);
  fuse_loop_cfg_destroy(config);
  // Positive: by a signal.
  if (ended >= 0) return absl::OkStatus();
  return absl::UnknownError(absl::StrCat("FUSE ended: ", std::strerror(-ended)));
}

}  // namespace weir::fuse
