/* blocking PORT [STALL_MS EVERY]: accepts one connection after the other and closes each 512 accepts
 * later; sleeps for STALL_MS before every EVERY-th accept. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 2 && argc != 4)
        return 2;
    int stall_ms = argc == 4 ? atoi(argv[2]) : 0, every = argc == 4 ? atoi(argv[3]) : 0, on = 1;
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&addr, sizeof addr) || listen(listener, 4096)) {
        perror("blocking");
        return 1;
    }
    static int held[512];
    for (long n = 1;; n++) {
        if (every && n % every == 0)
            usleep(stall_ms * 1000);
        int client = accept(listener, NULL, NULL);
        if (client < 0)
            continue;
        if (n > 512)
            close(held[n % 512]);
        held[n % 512] = client;
    }
}
