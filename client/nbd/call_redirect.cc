#include "client/nbd/call_redirect.h"

#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "absl/strings/string_view.h"

namespace weir::nbd {
namespace {

struct Redirection {
  absl::string_view name;
  void* function;
  bool done;
};

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
int RedirectInExecutable(dl_phdr_info* object, size_t, void* argument) {
  auto& redirection = *static_cast<Redirection*>(argument);
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = object->dlpi_phdr[i];
    if (header.p_type != PT_DYNAMIC) continue;
    const CallTable table =
        ReadDynamicSection(reinterpret_cast<const ElfW(Dyn)*>(object->dlpi_addr + header.p_vaddr));
    if (table.symbols == nullptr || table.names == nullptr) return 1;
    for (size_t r = 0; r < table.relocations_count; ++r) {
      const ElfW(Rela)& relocation = table.relocations[r];
      const size_t symbol = relocation.r_info >> (sizeof(void*) == 8 ? 32 : 8);
      if (table.names + table.symbols[symbol].st_name != redirection.name) continue;
      void** slot = reinterpret_cast<void**>(object->dlpi_addr + relocation.r_offset);
      redirection.done = PointTo(slot, redirection.function);
    }
  }
  return 1;
}

}  // namespace

bool RedirectCall(const char* name, void* function) {
  Redirection redirection{name, function, false};
  dl_iterate_phdr(&RedirectInExecutable, &redirection);
  return redirection.done;
}

}  // namespace weir::nbd
