/* What malloc and the loader keep resident, and how to have less of it. */
#ifndef BULWARK_CLINUX_MEMORY_H
#define BULWARK_CLINUX_MEMORY_H

/* At most `arenas` heaps for all threads, and blocks of 128 KiB and more go back to the kernel when they are freed. Call it before other threads allocate. */
void cl_limit_malloc(int arenas);

/* Gives back what only the start needed: freed heap, and the mappings of read-only file pages (code, constants). Those stay in the page cache; what is used
   again is mapped again by a minor fault. Nothing that could have been written to is touched. */
void cl_give_back_start(void);

#endif
