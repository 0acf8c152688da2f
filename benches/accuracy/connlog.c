/* Preloaded into a server and its clients: appends one line to the file $CONN_LOG, with one write(2),
 * after each accept ("A") and each connect ("C"): the client's port and the monotonic clock in ns.
 * Over loopback the handshake is over when connect returns, also of a non-blocking socket. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int log_fd = -1;

__attribute__((constructor)) static void open_log(void) {
    const char *path = getenv("CONN_LOG");
    if (path)
        log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

static int port(int fd, int (*name)(int, struct sockaddr *, socklen_t *)) {
    struct sockaddr_in found = {0};
    socklen_t length = sizeof found;
    if (name(fd, (struct sockaddr *)&found, &length) || found.sin_family != AF_INET)
        return -1;
    return ntohs(found.sin_port);
}

static void logged(char kind, int client) {
    struct timespec now;
    char line[48];
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (log_fd < 0 || client < 0)
        return;
    int length = snprintf(line, sizeof line, "%c %d %lld%09ld\n", kind, client,
                          (long long)now.tv_sec, now.tv_nsec);
    if (write(log_fd, line, length) != length)
        abort();
}

int accept(int listener, struct sockaddr *peer, socklen_t *length) {
    static int (*next)(int, struct sockaddr *, socklen_t *);
    if (!next)
        next = dlsym(RTLD_NEXT, "accept");
    int fd = next(listener, peer, length);
    if (fd >= 0)
        logged('A', port(fd, getpeername));
    return fd;
}

int accept4(int listener, struct sockaddr *peer, socklen_t *length, int flags) {
    static int (*next)(int, struct sockaddr *, socklen_t *, int);
    if (!next)
        next = dlsym(RTLD_NEXT, "accept4");
    int fd = next(listener, peer, length, flags);
    if (fd >= 0)
        logged('A', port(fd, getpeername));
    return fd;
}

int connect(int fd, const struct sockaddr *peer, socklen_t length) {
    static int (*next)(int, const struct sockaddr *, socklen_t);
    if (!next)
        next = dlsym(RTLD_NEXT, "connect");
    /* A socket that has a port already is asked for the outcome of an earlier call. */
    int first = port(fd, getsockname) == 0;
    int result = next(fd, peer, length), error = errno;
    if (first && (result == 0 || error == EINPROGRESS))
        logged('C', port(fd, getsockname));
    errno = error;
    return result;
}
