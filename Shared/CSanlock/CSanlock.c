#define _GNU_SOURCE
#include "CSanlock.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The library's structures, by its documented layout. */
enum { NAME = 48, PATH = 1024, PER_CALL = 8 };
enum { RES_LVER = 0x1, RES_SHARED = 0x4, OWNER_NOWAIT = 0x8, REM_UNUSED = 0x2 };

struct disk {
    char path[PATH];
    uint64_t offset;
    uint32_t padding[2];
};

struct resource {
    char lockspace[NAME], name[NAME];
    uint64_t lver, data64;
    uint32_t data32, unused, flags, disks;
    struct disk disk;
};

struct lockspace {
    char name[NAME];
    uint64_t host_id;
    uint32_t flags;
    struct disk ids;
};

struct host_event {
    uint64_t host_id, generation, event, data;
};

_Static_assert(sizeof(struct disk) == 1040 && sizeof(struct resource) == 128 + 1040 && sizeof(struct lockspace) == 1104 && sizeof(struct host_event) == 32, "libsanlock_client's layouts");

struct cs_library {
    int (*register_)(void);
    int (*acquire)(int sock, int pid, uint32_t flags, int count, struct resource *resources[], void *options);
    int (*add)(struct lockspace *, uint32_t flags, uint32_t io_timeout);
    int (*rem)(struct lockspace *, uint32_t flags);
    int (*inq)(struct lockspace *, uint32_t flags);
    int (*request)(uint32_t flags, uint32_t mode, struct resource *);
    int (*set_event)(const char *lockspace, struct host_event *, uint32_t flags);
};

cs_library *cs_open(const char *name, const char *run, char *why) {
    setenv("SANLOCK_RUN_DIR", run, 1);
    void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        snprintf(why, CS_WHY, "%s", dlerror());
        return NULL;
    }
    cs_library *library = calloc(1, sizeof *library);
    if (!library) return NULL;
    const struct {
        const char *name;
        void **place;
    } functions[] = {
        {"sanlock_register", (void **)&library->register_},
        {"sanlock_acquire", (void **)&library->acquire},
        {"sanlock_add_lockspace_timeout", (void **)&library->add},
        {"sanlock_rem_lockspace", (void **)&library->rem},
        {"sanlock_inq_lockspace", (void **)&library->inq},
        {"sanlock_request", (void **)&library->request},
        {"sanlock_set_event", (void **)&library->set_event},
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        if ((*functions[i].place = dlsym(handle, functions[i].name))) continue;
        snprintf(why, CS_WHY, "%s has no %s", name, functions[i].name);
        free(library);
        return NULL;
    }
    return library;
}

/* Names fill their field without an end mark, paths do not. */
static int put_name(char *field, const char *name) {
    size_t length = strlen(name);
    if (length == 0 || length > NAME) return -ENAMETOOLONG;
    memcpy(field, name, length);
    return 0;
}

static int put_disk(struct disk *disk, const char *path, uint64_t offset) {
    size_t length = strlen(path);
    if (length == 0 || length >= PATH) return -ENAMETOOLONG;
    memcpy(disk->path, path, length);
    disk->offset = offset;
    return 0;
}

static int put_lockspace(struct lockspace *place, const char *name, uint64_t host_id, const char *ids) {
    memset(place, 0, sizeof *place);
    place->host_id = host_id;
    int failure = put_name(place->name, name);
    return failure ? failure : put_disk(&place->ids, ids, 0);
}

static int put_resource(struct resource *place, const char *lockspace, const char *name, const char *path, uint64_t offset) {
    memset(place, 0, sizeof *place);
    place->disks = 1;
    int failure = put_name(place->lockspace, lockspace);
    if (!failure) failure = put_name(place->name, name);
    return failure ? failure : put_disk(&place->disk, path, offset);
}

int cs_add_lockspace(const cs_library *library, const char *lockspace, uint64_t host_id, const char *ids, uint32_t io_timeout) {
    struct lockspace place;
    int failure = put_lockspace(&place, lockspace, host_id, ids);
    return failure ? failure : library->add(&place, 0, io_timeout);
}

int cs_remove_lockspace(const cs_library *library, const char *lockspace, uint64_t host_id, const char *ids) {
    struct lockspace place;
    int failure = put_lockspace(&place, lockspace, host_id, ids);
    return failure ? failure : library->rem(&place, REM_UNUSED);
}

int cs_has_lockspace(const cs_library *library, const char *lockspace, uint64_t host_id, const char *ids) {
    struct lockspace place;
    int failure = put_lockspace(&place, lockspace, host_id, ids);
    return failure ? failure : library->inq(&place, 0);
}

int cs_request(const cs_library *library, const char *lockspace, const char *name, const char *path, uint64_t offset, uint64_t lver, uint32_t mode) {
    struct resource place;
    int failure = put_resource(&place, lockspace, name, path, offset);
    place.flags = RES_LVER;
    place.lver = lver;
    return failure ? failure : library->request(0, mode, &place);
}

int cs_set_event(const cs_library *library, const char *lockspace, uint64_t host_id, uint64_t generation, uint64_t event, uint64_t data) {
    struct host_event told = {host_id, generation, event, data};
    return library->set_event(lockspace, &told, 0);
}

struct cs_taking {
    char *library, *run;
    struct resource *resources;
    int count, notify;
};

cs_taking *cs_taking_new(const char *library, const char *run) {
    cs_taking *taking = calloc(1, sizeof *taking);
    if (!taking) return NULL;
    taking->library = strdup(library);
    taking->run = strdup(run);
    return taking;
}

int cs_taking_add(cs_taking *taking, const char *lockspace, const char *name, const char *path, uint64_t offset, int shared) {
    struct resource *grown = realloc(taking->resources, (size_t)(taking->count + 1) * sizeof *grown);
    if (!grown) return -ENOMEM;
    taking->resources = grown;
    int failure = put_resource(&grown[taking->count], lockspace, name, path, offset);
    if (failure) return failure;
    if (shared) grown[taking->count].flags = RES_SHARED;
    taking->count++;
    return 0;
}

static void *take(void *argument) {
    cs_taking *taking = argument;
    struct cs_taken taken;
    memset(&taken, 0, sizeof taken);
    taken.connection = -1;
    cs_library *library = cs_open(taking->library, taking->run, taken.why);
    if (!library) {
        taken.result = -ENOSYS;
    } else if ((taken.connection = library->register_()) < 0) {
        taken.result = taken.connection;
        taken.connection = -1;
        snprintf(taken.why, CS_WHY, "no sanlock daemon answers in %s: %s", taking->run, strerror(-taken.result));
    } else {
        fcntl(taken.connection, F_SETFD, 0);
        for (int first = 0; first < taking->count && !taken.result; first += PER_CALL) {
            struct resource *turn[PER_CALL];
            int count = taking->count - first < PER_CALL ? taking->count - first : PER_CALL;
            for (int i = 0; i < count; i++) turn[i] = &taking->resources[first + i];
            taken.result = library->acquire(taken.connection, -1, OWNER_NOWAIT, count, turn, NULL);
        }
    }
    while (write(taking->notify, &taken, sizeof taken) < 0 && errno == EINTR) {}
    close(taking->notify);
    return NULL;
}

int cs_taking_start(cs_taking *taking, int notify) {
    /* All memory of a guard is locked: neither a second heap nor a large stack. */
    mallopt(M_ARENA_MAX, 1);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    taking->notify = notify;
    pthread_t thread;
    int failure = pthread_create(&thread, &attributes, take, taking);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -failure;
}
