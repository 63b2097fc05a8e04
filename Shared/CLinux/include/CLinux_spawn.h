/* Starting a child from a process that has threads: between fork and exec only async-signal-safe calls may run, which Swift cannot promise. */
#ifndef BULWARK_CLINUX_SPAWN_H
#define BULWARK_CLINUX_SPAWN_H

#include <sys/types.h>

struct cl_spawn_options {
    const char *path;               /* absolute */
    char *const *argv;
    char *const *envp;
    int input, output, error;       /* become 0, 1, 2 */
    const int *keep;                /* further descriptors that stay open, at their numbers */
    int keep_count;
    int new_session;                /* setsid, so also a process group of its own */
    int parent_death_signal;        /* 0: none; counts for the thread that spawns */
    int new_pid_namespace;          /* the child is its init: everything in it dies with it */
    int network_namespace;          /* descriptor of a network namespace to enter, or -1 */
};

/* The child's pid once it runs the program; -1 with errno set if that failed (the child is reaped then). */
pid_t cl_spawn(const struct cl_spawn_options *options);

#endif
