#include "CLinux.h"
#include "CLinux_spawn.h"

#include <linux/close_range.h>

static void run_child(const struct cl_spawn_options *o, int report, pid_t parent) {
    struct sigaction standard = {.sa_handler = SIG_DFL};
    for (int s = 1; s < NSIG; s++) sigaction(s, &standard, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);

    if (o->new_session && setsid() < 0) goto failed;
    if (o->parent_death_signal) {
        if (prctl(PR_SET_PDEATHSIG, o->parent_death_signal, 0, 0, 0) < 0) goto failed;
        /* Died before the call above? In a new PID namespace the parent always reads 0. */
        if (!o->new_pid_namespace && getppid() != parent) _exit(127);
    }
    if (o->network_namespace >= 0 && setns(o->network_namespace, CLONE_NEWNET) < 0) goto failed;

    /* First out of the way of 0..2, then into place. */
    int from[3] = {o->input, o->output, o->error};
    for (int i = 0; i < 3; i++) {
        from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 3);
        if (from[i] < 0) goto failed;
    }
    for (int i = 0; i < 3; i++)
        if (dup2(from[i], i) < 0) goto failed;
    if (syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC) < 0) goto failed;
    for (int i = 0; i < o->keep_count; i++)
        if (fcntl(o->keep[i], F_SETFD, 0) < 0) goto failed;
    execve(o->path, o->argv, o->envp);

failed:;
    int why = errno;
    if (write(report, &why, sizeof why) < 0) _exit(126);
    _exit(127);
}

pid_t cl_spawn(const struct cl_spawn_options *o) {
    int report[2];
    if (pipe2(report, O_CLOEXEC) < 0) return -1;
    /* Above 2, so that putting the standard descriptors into place cannot overwrite it. */
    int raised = fcntl(report[1], F_DUPFD_CLOEXEC, 3);
    close(report[1]);
    report[1] = raised;

    pid_t parent = getpid();
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* no handler of ours may run in the child */
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD | (o->new_pid_namespace ? CLONE_NEWPID : 0), 0, 0, 0, 0);
    if (pid == 0) run_child(o, report[1], parent);
    int why = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(report[1]);
    if (pid < 0) {
        close(report[0]);
        errno = why;
        return -1;
    }
    ssize_t n;
    do n = read(report[0], &why, sizeof why); while (n < 0 && errno == EINTR);
    close(report[0]);
    if (n == sizeof why) {
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
        errno = why;
        return -1;
    }
    return pid;
}
