#define _GNU_SOURCE
#include "CLinux_memory.h"

#include <link.h>
#include <malloc.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void cl_limit_malloc(int arenas) {
    mallopt(M_ARENA_MAX, arenas);
    /* Setting them also ends glibc's habit of raising them. */
    mallopt(M_MMAP_THRESHOLD, 128 * 1024);
    mallopt(M_TRIM_THRESHOLD, 128 * 1024);
}

/* An object whose code was relocated in place has private copies of it, which must not be dropped. */
static int has_text_relocations(const struct dl_phdr_info *object) {
    for (int i = 0; i < object->dlpi_phnum; i++) {
        if (object->dlpi_phdr[i].p_type != PT_DYNAMIC) continue;
        for (const ElfW(Dyn) *entry = (const ElfW(Dyn) *)(object->dlpi_addr + object->dlpi_phdr[i].p_vaddr); entry->d_tag != DT_NULL; entry++)
            if (entry->d_tag == DT_TEXTREL || (entry->d_tag == DT_FLAGS && (entry->d_un.d_val & DF_TEXTREL))) return 1;
    }
    return 0;
}

static int drop_object(struct dl_phdr_info *object, size_t size, void *unused) {
    (void)size, (void)unused;
    if (strncmp(object->dlpi_name, "linux-vdso", 10) == 0 || has_text_relocations(object)) return 0;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W)) continue;
        size_t start = (object->dlpi_addr + segment->p_vaddr) & ~(page - 1);
        size_t end = (object->dlpi_addr + segment->p_vaddr + segment->p_memsz) & ~(page - 1);
        if (end > start) madvise((void *)start, end - start, MADV_DONTNEED);
    }
    return 0;
}

void cl_give_back_start(void) {
    malloc_trim(0);
    dl_iterate_phdr(drop_object, NULL);
}
