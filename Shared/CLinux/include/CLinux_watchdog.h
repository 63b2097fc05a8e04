/* A hardware watchdog's ioctls, which Swift cannot import. No logic. */
#ifndef BULWARK_CLINUX_WATCHDOG_H
#define BULWARK_CLINUX_WATCHDOG_H

#include <linux/watchdog.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* identity: 33 bytes; options: WDIOF_ bits. */
static inline int cl_watchdog_support(int fd, char *identity, unsigned *options) {
    struct watchdog_info info;
    memset(&info, 0, sizeof info);
    if (ioctl(fd, WDIOC_GETSUPPORT, &info) != 0) return -1;
    memcpy(identity, info.identity, 32);
    identity[32] = 0;
    *options = info.options;
    return 0;
}
static inline int cl_watchdog_set_timeout(int fd, int seconds) { return ioctl(fd, WDIOC_SETTIMEOUT, &seconds); }
static inline int cl_watchdog_timeout(int fd, int *seconds) { return ioctl(fd, WDIOC_GETTIMEOUT, seconds); }
static inline int cl_watchdog_keepalive(int fd) { return ioctl(fd, WDIOC_KEEPALIVE, 0); }
static inline int cl_device_number(int fd, unsigned *maj, unsigned *min) {
    struct stat s;
    if (fstat(fd, &s) != 0) return -1;
    *maj = major(s.st_rdev);
    *min = minor(s.st_rdev);
    return 0;
}
static const unsigned cl_watchdog_magic_close = WDIOF_MAGICCLOSE;
static const unsigned cl_watchdog_alarm_only = WDIOF_ALARMONLY;

#endif
