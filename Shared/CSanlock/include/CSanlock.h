/* What Bulwark calls of libsanlock_client, loaded when it is asked for and never linked: an installation without it works. The declarations are our own, from its documented interface. */
#ifndef BULWARK_CSANLOCK_H
#define BULWARK_CSANLOCK_H

#include <stdint.h>

/* Room for the reason of a failure. */
#define CS_WHY 256

/* The library with the functions that are used; lives as long as the process. */
typedef struct cs_library cs_library;

/* NULL and `why` (CS_WHY bytes) if it cannot be loaded or lacks a function. `run` is the daemon's run directory, for the whole process. */
cs_library *cs_open(const char *name, const char *run, char *why);

/* These block until the daemon answers: 0, or a negative errno or SANLK_ number. -ENAMETOOLONG: a name or path does not fit. */
int cs_add_lockspace(const cs_library *library, const char *lockspace, uint64_t host_id, const char *ids, uint32_t io_timeout);
/* Refused with -EBUSY while any process holds a lease of it through this daemon. */
int cs_remove_lockspace(const cs_library *library, const char *lockspace, uint64_t host_id, const char *ids);
int cs_has_lockspace(const cs_library *library, const char *lockspace, uint64_t host_id, const char *ids);
int cs_request(const cs_library *library, const char *lockspace, const char *resource, const char *path, uint64_t offset, uint64_t lver, uint32_t mode);
int cs_set_event(const cs_library *library, const char *lockspace, uint64_t host_id, uint64_t generation, uint64_t event, uint64_t data);

/* Leases that this process is to hold itself. */
typedef struct cs_taking cs_taking;

cs_taking *cs_taking_new(const char *library, const char *run);
int cs_taking_add(cs_taking *taking, const char *lockspace, const char *resource, const char *path, uint64_t offset, int shared);

/* What one thread writes, whole, to `notify` when it is done. */
struct cs_taken {
    /* 0, or a negative errno or SANLK_ number. */
    int32_t result;
    /* The registered connection, inherited over exec: whoever has it open holds the leases. -1 if there is none. */
    int32_t connection;
    char why[CS_WHY];
};

/* Loads the library, registers this process with the daemon and acquires the leases, on a thread of its own that ends with that. It is told once; `taking` is the thread's from then on.
   Leases whose owner has yet to be given up for dead are refused at once, not waited for. */
int cs_taking_start(cs_taking *taking, int notify);

#endif
