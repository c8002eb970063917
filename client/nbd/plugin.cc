// nbdkit's entry points. Each is a few lines over host::Host and nbd::Export;
// nbdkit-plugin(3) says when and on which thread it calls them.
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#include <sys/prctl.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"
#include "client/nbd/export.h"
#include "client/nbd/hang_up.h"
#include "client/nbd/reply_errno.h"
#include "client/nbd/socket_calls.h"
#include "proto/base/errno.h"
#include "proto/base/position.h"
#include "proto/base/size.h"
#include "proto/wire/reload_thread.h"
#include "volume/host/host.h"
#include "volume/host/options.h"
#include "weir/v1/volume.pb.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

namespace weir::nbd {
namespace {

// As much as most clients send at most; larger requests than the host takes
// are split in Export.
constexpr uint32_t kBlockBytesMax = 32 << 20;

// How long requests may still wait once the process is to end. What they wait for may be away for hours, and they
// are no worse off than if the process had been killed.
constexpr absl::Duration kHeldAtExit = absl::Seconds(10);

// What outlives connections. nbdkit has one copy of a plugin in a process and
// hands no context to these callbacks, hence the one object of static storage.
// `options`, `default_volume` and `config` do not change after .config_complete, the
// others not between .after_fork and .cleanup.
struct Server {
  host::HostOptions options;
  std::string default_volume;
  std::string config;
  std::unique_ptr<HangUp> hang_up;
  std::unique_ptr<host::Host> host;
  std::atomic<host::Host*> serving = nullptr;  // the host, for `hang_up`, which is there before it
  std::unique_ptr<wire::ReloadThread> reload;
};

Server& TheServer() {
  static Server* server = new Server;
  return *server;
}

Export& ExportOf(void* handle) { return *static_cast<Export*>(handle); }

// Says `status` to the log, and its errno to the client.
int Fail(const absl::Status& status) {
  const int error = ErrorForClient(StatusToErrno(status));
  nbdkit_error("%s", std::string(status.message()).c_str());
  nbdkit_set_error(error);
  return -1;
}

// For callbacks that a simple reply answers: see reply_errno.h.
int Answer(const absl::Status& status) {
  if (status.ok()) return 0;
  NoteReplyError(ErrorForClient(StatusToErrno(status)));
  return Fail(status);
}

// --- The life of the server ---

// Never freed: nbdkit keeps the pointer.
const char* Help() {
  std::string* help = new std::string(
      "default_volume=NAME  The volume behind the export name \"\". "
      "If it is not given: the only volume, if there is but one.\n"
      "config=FILE  At SIGHUP take log_level and log_format from FILE, one NAME=VALUE a line.\n");
  for (const host::HostOptionKey& key : host::HostOptionKeys()) {
    absl::StrAppend(help, key.key, "=...  ", key.help, "\n");
  }
  return help->c_str();
}

void Load() {
  if (!RedirectSocketCalls()) {
    nbdkit_debug("weir: EOPNOTSUPP reaches clients as EINVAL, and a client that dies may end nbdkit");
  }
}

int Config(const char* key, const char* value) {
  Server& server = TheServer();
  if (std::string(key) == "default_volume") {
    server.default_volume = value;
    return 0;
  }
  if (std::string(key) == "config") {
    server.config = value;
    return 0;
  }
  absl::string_view text = value;
  std::string absolute;
  // nbdkit changes its directory to / when it goes into the background.
  if (std::string(key) == "catalog" && absl::ConsumePrefix(&text, "embedded:")) {
    char* path = nbdkit_absolute_path(std::string(text).c_str());
    if (path == nullptr) return -1;
    absolute = absl::StrCat("embedded:", path);
    std::free(path);
    text = absolute;
  }
  const absl::Status status =
      host::SetHostOption(key, absolute.empty() ? value : text, &server.options);
  if (status.ok()) return 0;
  nbdkit_error("%s", std::string(status.message()).c_str());
  return -1;
}

int ConfigComplete() {
  const absl::Status status = TheServer().options.Validate();
  if (status.ok()) return 0;
  nbdkit_error("%s", std::string(status.message()).c_str());
  return -1;
}

// Debian's nbdkit 1.32.5 asks the kernel for a SIGTERM at its parent's death even
// without --exit-with-parent, and a server in the foreground would end with
// the script that started it.
void OutliveParentUnlessAsked() {
  std::ifstream file("/proc/self/cmdline");
  for (std::string argument; std::getline(file, argument, '\0');) {
    if (argument == "--exit-with-parent") return;
  }
  prctl(PR_SET_PDEATHSIG, 0);
}

// Not before: nbdkit may fork until then, and gRPC does not survive a fork.
int AfterFork() {
  OutliveParentUnlessAsked();
  Server& server = TheServer();
  server.reload = std::make_unique<wire::ReloadThread>(server.config);  // Before there are others.
  const auto let_go = [&server] {
    if (host::Host* host = server.serving; host != nullptr) host->LetGoOfHeld(kHeldAtExit);
  };
  server.hang_up = std::make_unique<HangUp>(kHeldAtExit, let_go);  // Before the host listens.
  absl::StatusOr<std::unique_ptr<host::Host>> host = host::Host::Start(server.options);
  if (!host.ok()) {
    nbdkit_error("%s", std::string(host.status().message()).c_str());
    return -1;
  }
  server.host = *std::move(host);
  server.serving = server.host.get();
  return 0;
}

// Every connection is closed. Detaches all volumes, with a flush each.
void Cleanup() {
  TheServer().hang_up.reset();
  TheServer().host.reset();
  TheServer().reload.reset();
}

void DumpPlugin() {
  for (const host::HostOptionKey& key : host::HostOptionKeys()) {
    std::printf("weir_key_%s=1\n", key.key);
  }
  std::printf("weir_key_default_volume=1\n");
  std::printf("weir_key_config=1\n");
  std::printf("weir_block_bytes=%llu\n", static_cast<unsigned long long>(kBlockBytes));
}

// --- Exports ---

int ListExports(int, int, nbdkit_exports* exports) {
  absl::StatusOr<std::vector<v1::Volume>> volumes = TheServer().host->ListVolumes();
  if (!volumes.ok()) return Fail(volumes.status());
  for (const v1::Volume& volume : *volumes) {
    const std::string description = absl::StrCat(
        FormatSize(volume.size_bytes()), ", ", volume.table().targets_size(), " replicas");
    if (nbdkit_add_export(exports, volume.name().c_str(), description.c_str()) != 0) return -1;
  }
  return 0;
}

const char* DefaultExport(int, int) {
  const Server& server = TheServer();
  if (!server.default_volume.empty()) return server.default_volume.c_str();
  absl::StatusOr<std::vector<v1::Volume>> volumes = server.host->ListVolumes();
  if (!volumes.ok() || volumes->size() != 1) return "";
  return nbdkit_strdup_intern(volumes->front().name().c_str());
}

void* Open(int) {
  const std::string name = nbdkit_export_name();
  if (name.empty()) {
    nbdkit_error("which volume? Give its name as the export, or set default_volume");
    return nullptr;
  }
  // A client that connects uses a volume, it does not move it.
  absl::StatusOr<std::shared_ptr<host::HostedVolume>> volume =
      TheServer().host->Attach(name, host::AttachMode::kUnlessElsewhere);
  if (!volume.ok()) {
    Fail(volume.status());
    return nullptr;
  }
  ConnectionOpened();
  return new Export(*std::move(volume));
}

// The volume stays attached: the next client finds it at once.
void Close(void* handle) { delete &ExportOf(handle); }

int64_t GetSize(void* handle) { return static_cast<int64_t>(ExportOf(handle).size_bytes()); }

int BlockSize(void*, uint32_t* minimum, uint32_t* preferred, uint32_t* maximum) {
  *minimum = kBlockBytes;
  *preferred = kBlockBytes;
  *maximum = kBlockBytesMax;
  return 0;
}

int Yes(void*) { return 1; }
int NativeFua(void*) { return NBDKIT_FUA_NATIVE; }
int NoCache(void*) { return NBDKIT_CACHE_NONE; }

// --- Data ---

int Pread(void* handle, void* buffer, uint32_t count, uint64_t offset, uint32_t) {
  const absl::Status status =
      ExportOf(handle).Read(offset, absl::MakeSpan(static_cast<char*>(buffer), count));
  return status.ok() ? 0 : Fail(status);
}

int Pwrite(void* handle, const void* buffer, uint32_t count, uint64_t offset, uint32_t flags) {
  return Answer(ExportOf(handle).Write(offset,
                                       absl::string_view(static_cast<const char*>(buffer), count),
                                       (flags & NBDKIT_FLAG_FUA) != 0));
}

int Flush(void* handle, uint32_t) { return Answer(ExportOf(handle).Flush()); }

int Trim(void* handle, uint32_t count, uint64_t offset, uint32_t flags) {
  return Answer(ExportOf(handle).Discard(offset, count, (flags & NBDKIT_FLAG_FUA) != 0));
}

// MAY_TRIM makes no difference, since zeros never take space; nor does FAST_ZERO,
// since no data travels.
int Zero(void* handle, uint32_t count, uint64_t offset, uint32_t flags) {
  return Answer(ExportOf(handle).WriteZeroes(offset, count, (flags & NBDKIT_FLAG_FUA) != 0));
}

int Extents(void* handle, uint32_t count, uint64_t offset, uint32_t, nbdkit_extents* extents) {
  absl::StatusOr<std::vector<Export::Extent>> found = ExportOf(handle).Extents(offset, count);
  if (!found.ok()) return Fail(found.status());
  for (const Export::Extent& extent : *found) {
    const uint32_t type = extent.hole ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0;
    if (nbdkit_add_extent(extents, extent.offset_bytes, extent.length_bytes, type) != 0) return -1;
  }
  return 0;
}

nbdkit_plugin MakePlugin() {
  nbdkit_plugin plugin = {};
  plugin.name = "weir";
  plugin.longname = "Weir replicated volumes";
  plugin.version = "1";
  plugin.description = "Serves Weir's volumes, each under its name as the export name.";
  plugin.config_help = Help();
  plugin.load = Load;
  plugin.config = Config;
  plugin.config_complete = ConfigComplete;
  plugin.after_fork = AfterFork;
  plugin.cleanup = Cleanup;
  plugin.dump_plugin = DumpPlugin;
  plugin.list_exports = ListExports;
  plugin.default_export = DefaultExport;
  plugin.preconnect = [](int) {
    ConnectionBegun();
    return 0;
  };
  plugin.open = Open;
  plugin.close = Close;
  plugin.get_size = GetSize;
  plugin.block_size = BlockSize;
  plugin.can_flush = Yes;
  plugin.can_trim = Yes;
  plugin.can_zero = Yes;
  plugin.can_fast_zero = Yes;
  plugin.can_fua = NativeFua;
  plugin.can_cache = NoCache;
  plugin.can_extents = Yes;
  // A flush covers what was answered on any connection: all go to one engine.
  plugin.can_multi_conn = Yes;
  plugin.pread = Pread;
  plugin.pwrite = Pwrite;
  plugin.flush = Flush;
  plugin.trim = Trim;
  plugin.zero = Zero;
  plugin.extents = Extents;
  return plugin;
}

nbdkit_plugin plugin = MakePlugin();

}  // namespace
}  // namespace weir::nbd

NBDKIT_REGISTER_PLUGIN(weir::nbd::plugin)
