/* Preloaded into a server: appends the wall-clock instant, in ns, after each accept that brought a
 * connection to the file $ACCEPT_LOG, with one write(2) each, so that all processes share it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int log_fd = -1;

__attribute__((constructor)) static void open_log(void) {
    const char *path = getenv("ACCEPT_LOG");
    if (path)
        log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

static int logged(int fd) {
    struct timespec now;
    char line[32];
    if (fd < 0 || log_fd < 0)
        return fd;
    clock_gettime(CLOCK_REALTIME, &now);
    int length = snprintf(line, sizeof line, "%lld%09ld\n", (long long)now.tv_sec, now.tv_nsec);
    if (write(log_fd, line, length) != length)
        abort();
    return fd;
}

int accept(int listener, struct sockaddr *peer, socklen_t *length) {
    static int (*next)(int, struct sockaddr *, socklen_t *);
    if (!next)
        next = dlsym(RTLD_NEXT, "accept");
    return logged(next(listener, peer, length));
}

int accept4(int listener, struct sockaddr *peer, socklen_t *length, int flags) {
    static int (*next)(int, struct sockaddr *, socklen_t *, int);
    if (!next)
        next = dlsym(RTLD_NEXT, "accept4");
    return logged(next(listener, peer, length, flags));
}
