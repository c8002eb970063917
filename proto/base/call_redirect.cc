#include "proto/base/call_redirect.h"

#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "absl/strings/match.h"

namespace weir {
namespace {

struct Redirection {
  absl::string_view object;
  absl::string_view name;
  void* function;
  bool done;
};

// What the dynamic section of an object says about the calls it makes.
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

// The executable's own name is not told.
bool IsNamed(const dl_phdr_info& object, absl::string_view name) {
  const absl::string_view path = object.dlpi_name;
  const absl::string_view file = path.substr(path.rfind('/') + 1);
  return name == kTheExecutable ? path.empty() : absl::StartsWith(file, name);
}

void Redirect(const dl_phdr_info& object, const CallTable& table, Redirection* redirection) {
  if (table.symbols == nullptr || table.names == nullptr) return;
  for (size_t r = 0; r < table.relocations_count; ++r) {
    const ElfW(Rela)& relocation = table.relocations[r];
    const size_t symbol = relocation.r_info >> (sizeof(void*) == 8 ? 32 : 8);
    if (table.names + table.symbols[symbol].st_name != redirection->name) continue;
    void** slot = reinterpret_cast<void**>(object.dlpi_addr + relocation.r_offset);
    redirection->done = PointTo(slot, redirection->function);
  }
}

// Called for each loaded object, the executable first; returns non-zero to stop.
int RedirectIn(dl_phdr_info* object, size_t, void* argument) {
  auto& redirection = *static_cast<Redirection*>(argument);
  if (!IsNamed(*object, redirection.object)) return 0;
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = object->dlpi_phdr[i];
    if (header.p_type != PT_DYNAMIC) continue;
    Redirect(*object, ReadDynamicSection(reinterpret_cast<const ElfW(Dyn)*>(object->dlpi_addr + header.p_vaddr)),
             &redirection);
  }
  return 1;
}

}  // namespace

bool RedirectCall(absl::string_view object, absl::string_view name, void* function) {
  Redirection redirection{object, name, function, false};
  dl_iterate_phdr(&RedirectIn, &redirection);
  return redirection.done;
}

}  // namespace weir
