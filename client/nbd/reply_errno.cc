#include "client/nbd/reply_errno.h"

#include <elf.h>
#include <endian.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "absl/strings/string_view.h"

namespace weir::nbd {
namespace {

// NBD protocol, "Simple reply message": magic, error, cookie; big endian. nbdkit
// answers all commands but reads and block status with it, in one send.
constexpr uint32_t kSimpleReplyMagic = 0x67446698;
constexpr uint32_t kNbdEinval = 22;
constexpr uint32_t kNbdEnotsup = 95;

thread_local int noted_error = 0;

ssize_t SendCorrected(int fd, const void* bytes, size_t size, int flags) {
  unsigned char corrected[kSimpleReplyBytes];
  if (CorrectReply(bytes, size, corrected)) bytes = corrected;
  return send(fd, bytes, size, flags);
}

// What the dynamic section of the executable says about the calls it makes.
struct CallTable {
  const ElfW(Sym)* symbols = nullptr;
  const char* names = nullptr;
  const ElfW(Rela)* relocations = nullptr;
  size_t relocations_count = 0;
};

CallTable ReadDynamicSection(const ElfW(Dyn)* dynamic) {
  CallTable table;
  for (; dynamic->d_tag != DT_NULL; ++dynamic) {
    const auto pointer = dynamic->d_un.d_ptr;
    switch (dynamic->d_tag) {
      case DT_SYMTAB: table.symbols = reinterpret_cast<const ElfW(Sym)*>(pointer); break;
      case DT_STRTAB: table.names = reinterpret_cast<const char*>(pointer); break;
      case DT_JMPREL: table.relocations = reinterpret_cast<const ElfW(Rela)*>(pointer); break;
      case DT_PLTRELSZ: table.relocations_count = dynamic->d_un.d_val / sizeof(ElfW(Rela)); break;
    }
  }
  return table;
}

bool PointTo(void** slot, void* function) {
  // The slot may lie in pages that the loader made read-only (full RELRO).
  const uintptr_t page_bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  void* page = reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(slot) & ~(page_bytes - 1));
  if (mprotect(page, page_bytes, PROT_READ | PROT_WRITE) != 0) return false;
  *slot = function;
  return true;
}

// Called for each loaded object, the executable first; returns non-zero to stop.
int RedirectSend(dl_phdr_info* object, size_t, void* redirected) {
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = object->dlpi_phdr[i];
    if (header.p_type != PT_DYNAMIC) continue;
    const CallTable table =
        ReadDynamicSection(reinterpret_cast<const ElfW(Dyn)*>(object->dlpi_addr + header.p_vaddr));
    if (table.symbols == nullptr || table.names == nullptr) return 1;
    for (size_t r = 0; r < table.relocations_count; ++r) {
      const ElfW(Rela)& relocation = table.relocations[r];
      const size_t symbol = relocation.r_info >> (sizeof(void*) == 8 ? 32 : 8);
      if (absl::string_view(table.names + table.symbols[symbol].st_name) != "send") continue;
      void** slot = reinterpret_cast<void**>(object->dlpi_addr + relocation.r_offset);
      *static_cast<bool*>(redirected) = PointTo(slot, reinterpret_cast<void*>(&SendCorrected));
    }
  }
  return 1;
}

}  // namespace

int ErrorForClient(int error) {
  switch (error) {
    case EPERM:
    case EROFS:
    case EIO:
    case ENOMEM:
    case EINVAL:
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EOVERFLOW:
    case ESHUTDOWN:
    case EOPNOTSUPP:
      return error;
    case ESTALE:
      return ESHUTDOWN;
    default:
      return EIO;
  }
}

bool CorrectReplies() {
  bool redirected = false;
  dl_iterate_phdr(&RedirectSend, &redirected);
  return redirected;
}

void NoteReplyError(int error) { noted_error = error; }

bool CorrectReply(const void* bytes, size_t size, unsigned char corrected[kSimpleReplyBytes]) {
  if (noted_error == 0 || size != kSimpleReplyBytes) return false;
  uint32_t magic;
  uint32_t error;
  std::memcpy(&magic, bytes, sizeof magic);
  std::memcpy(&error, static_cast<const char*>(bytes) + sizeof magic, sizeof error);
  if (be32toh(magic) != kSimpleReplyMagic) return false;
  const int noted = noted_error;
  noted_error = 0;
  if (noted != EOPNOTSUPP || be32toh(error) != kNbdEinval) return false;
  std::memcpy(corrected, bytes, kSimpleReplyBytes);
  const uint32_t not_supported = htobe32(kNbdEnotsup);
  std::memcpy(corrected + sizeof magic, &not_supported, sizeof not_supported);
  return true;
}

}  // namespace weir::nbd
