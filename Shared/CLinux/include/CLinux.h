/* Linux calls that Swift's Glibc module cannot import: variadic functions, macros and system calls without a wrapper. No logic. */
#ifndef BULWARK_CLINUX_H
#define BULWARK_CLINUX_H

/* Only __USE_GNU, not _GNU_SOURCE: the latter renames fd_set's field, and Swift then refuses to load this module beside Dispatch. */
#include <features.h>
#include <sys/select.h>
#ifndef __USE_GNU
#define __USE_GNU 1
#endif
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The parent's death ends the caller. */
static inline int cl_set_parent_death_signal(int sig) { return prctl(PR_SET_PDEATHSIG, sig, 0, 0, 0); }
static inline int cl_set_child_subreaper(int on) { return prctl(PR_SET_CHILD_SUBREAPER, on, 0, 0, 0); }
static inline int cl_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }
static inline int cl_pidfd_send_signal(int fd, int sig) { return (int)syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0); }
static inline int cl_open(const char *path, int flags, mode_t mode) { return open(path, flags, mode); }
static inline int cl_openat(int dir, const char *path, int flags, mode_t mode) { return openat(dir, path, flags, mode); }
static inline int cl_fcntl(int fd, int command, int value) { return fcntl(fd, command, value); }
/* What is freed in pieces of up to so many bytes stays with the process, instead of going back to the kernel and coming from it again page by page. */
static inline void cl_keep_freed_memory(int bytes) {
    mallopt(M_MMAP_THRESHOLD, bytes);
    mallopt(M_TRIM_THRESHOLD, bytes);
}
/* The kernel's number of the file system that an open file is in; 0 if it does not tell. */
static inline int64_t cl_file_system(int fd) {
    struct statfs s;
    return fstatfs(fd, &s) == 0 ? (int64_t)s.f_type : 0;
}
static inline int cl_unshare(int flags) { return unshare(flags); }
static inline int cl_setns(int fd, int flags) { return setns(fd, flags); }
static inline pid_t cl_fork(void) { return fork(); }
static inline int cl_wait_exited(int status) { return WIFEXITED(status); }
static inline int cl_wait_exit_status(int status) { return WEXITSTATUS(status); }
static inline int cl_wait_signal(int status) { return WIFSIGNALED(status) ? WTERMSIG(status) : 0; }
/* Nanoseconds of CLOCK_BOOTTIME: counts suspend, starts with the machine. */
static inline int64_t cl_boottime(void) {
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
static inline int64_t cl_realtime(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
/* Peer of a connected local socket, as the kernel saw it when it connected. */
static inline int cl_peer_credentials(int fd, pid_t *pid, uid_t *uid) {
    struct ucred c;
    socklen_t length = sizeof c;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &length) != 0) return -1;
    *pid = c.pid;
    *uid = c.uid;
    return 0;
}
#endif
