#define _GNU_SOURCE
#include "Baseline.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int baseline_pin(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    return sched_setaffinity(0, sizeof set, &set) == 0 ? 0 : errno;
}

static int use_keys(void *socket, struct baseline_keys keys, int is_server) {
    if (keys.own_secret == NULL) return 0;
    int yes = 1;
    if (is_server)
        return zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &yes, sizeof yes) != 0 || zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, keys.own_secret, 40) != 0;
    return zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, keys.server, 40) != 0 || zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, keys.own, 40) != 0 ||
           zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, keys.own_secret, 40) != 0;
}

/* Sleeps until the socket has a message, and takes one frame of it. */
static int receive(void *socket, int wake_up, zmq_msg_t *frame) {
    while (zmq_msg_recv(frame, socket, ZMQ_DONTWAIT) < 0) {
        if (errno != EAGAIN && errno != EINTR) return -1;
        zmq_pollitem_t items[2] = {{NULL, wake_up, ZMQ_POLLIN, 0}, {socket, 0, ZMQ_POLLIN, 0}};
        if (zmq_poll(items, 2, -1) < 0 && errno != EINTR) return -1;
    }
    return 0;
}

int baseline_serve(const char *endpoint, struct baseline_keys keys) {
    void *context = zmq_ctx_new();
    void *router = zmq_socket(context, ZMQ_ROUTER);
    int wake_up = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wake_up < 0 || use_keys(router, keys, 1) != 0 || zmq_bind(router, endpoint) != 0) return errno;
    zmq_msg_t identity, body;
    zmq_msg_init(&identity);
    zmq_msg_init(&body);
    while (receive(router, wake_up, &identity) == 0 && receive(router, wake_up, &body) == 0) {
        if (zmq_msg_send(&identity, router, ZMQ_SNDMORE) < 0 || zmq_msg_send(&body, router, 0) < 0) break;
    }
    return errno;
}

int baseline_measure(const char *endpoint, struct baseline_keys keys, size_t size, int warm_up, int count, int64_t *nanoseconds) {
    void *context = zmq_ctx_new();
    void *dealer = zmq_socket(context, ZMQ_DEALER);
    int wake_up = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int linger = 0;
    int failure = 0;
    char *bytes = malloc(size);
    zmq_msg_t reply;
    zmq_msg_init(&reply);
    zmq_setsockopt(dealer, ZMQ_LINGER, &linger, sizeof linger);
    if (bytes == NULL || wake_up < 0 || use_keys(dealer, keys, 0) != 0 || zmq_connect(dealer, endpoint) != 0) failure = errno;
    else memset(bytes, 'x', size);
    for (int i = -warm_up; i < count && failure == 0; i++) {
        int64_t begun = now();
        if (zmq_send(dealer, bytes, size, 0) < 0 || receive(dealer, wake_up, &reply) != 0) failure = errno;
        if (i >= 0) nanoseconds[i] = now() - begun;
    }
    zmq_msg_close(&reply);
    free(bytes);
    if (wake_up >= 0) close(wake_up);
    zmq_close(dealer);
    zmq_ctx_term(context);
    return failure;
}
