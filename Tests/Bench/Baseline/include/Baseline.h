/* What the bus is measured against: a client and a server in C that talk ZeroMQ and do nothing else. Like every process with more than one socket, both sleep in
   zmq_poll over their socket and an eventfd. */
#ifndef BULWARK_BENCH_BASELINE_H
#define BULWARK_BENCH_BASELINE_H

#include <stddef.h>
#include <stdint.h>

/* CURVE keys in Z85; all NULL: none. A server needs `own_secret`, a client all three. */
struct baseline_keys {
    const char *server;
    const char *own;
    const char *own_secret;
};

/* Binds a ROUTER and returns every message to its sender. Returns only on failure: errno. */
int baseline_serve(const char *endpoint, struct baseline_keys keys);

/* Sends messages of `size` bytes from a DEALER, one at a time, and takes the time of `count` round trips after `warm_up` that are not counted.
   Returns 0, or errno. */
int baseline_measure(const char *endpoint, struct baseline_keys keys, size_t size, int warm_up, int count, int64_t *nanoseconds);

/* Runs the calling thread, and those it starts from now on, on one core. */
int baseline_pin(int core);

#endif
