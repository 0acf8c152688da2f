/* c-uring-echo PORT: a TCP echo server on io_uring the way most examples write it.
 *
 * One thread, one ring: multishot accept, multishot recv into a ring of provided buffers, and a
 * send for every completion that brought bytes. It is kept as usual on purpose, with the usual
 * three omissions, so that what they cost can be seen:
 *   - a send that took fewer bytes than asked for is not continued;
 *   - several sends of one connection may be in flight at once;
 *   - when the buffers run out (ENOBUFS) recv is armed again at once, whoever holds them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ENTRIES = 4096, BUFFERS = 1024, BUFFER_SIZE = 4096, GROUP = 0, BACKLOG = 4096 };
enum kind { ACCEPT, RECV, SEND };

static struct io_uring ring;
static struct io_uring_buf_ring *pool;
static char (*memory)[BUFFER_SIZE];

/* What a completion belongs to: kind, buffer and descriptor in one word. */
static uint64_t token(enum kind kind, unsigned buffer, int fd)
{
	return (uint64_t)kind << 56 | (uint64_t)buffer << 32 | (uint32_t)fd;
}

static struct io_uring_sqe *next_entry(void)
{
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(&ring)))
		io_uring_submit(&ring);
	return sqe;
}

static void arm_accept(int listener)
{
	struct io_uring_sqe *sqe = next_entry();

	io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, 0);
	io_uring_sqe_set_data64(sqe, token(ACCEPT, 0, listener));
}

static void arm_recv(int fd)
{
	struct io_uring_sqe *sqe = next_entry();

	io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = GROUP;
	io_uring_sqe_set_data64(sqe, token(RECV, 0, fd));
}

static void send_back(int fd, unsigned buffer, int length)
{
	struct io_uring_sqe *sqe = next_entry();

	io_uring_prep_send(sqe, fd, memory[buffer], length, MSG_NOSIGNAL);
	io_uring_sqe_set_data64(sqe, token(SEND, buffer, fd));
}

static void give_back(unsigned buffer)
{
	int mask = io_uring_buf_ring_mask(BUFFERS);

	io_uring_buf_ring_add(pool, memory[buffer], BUFFER_SIZE, buffer, mask, 0);
	io_uring_buf_ring_advance(pool, 1);
}

static void received(int fd, int result, unsigned flags)
{
	if (result > 0) {
		send_back(fd, flags >> IORING_CQE_BUFFER_SHIFT, result);
	} else if (result != -ENOBUFS) {
		close(fd);
		return;
	}
	if (!(flags & IORING_CQE_F_MORE))
		arm_recv(fd);
}

static void handle(const struct io_uring_cqe *cqe)
{
	uint64_t data = cqe->user_data;
	int fd = (int)(uint32_t)data;

	switch ((enum kind)(data >> 56)) {
	case ACCEPT:
		if (cqe->res >= 0)
			arm_recv(cqe->res);
		if (!(cqe->flags & IORING_CQE_F_MORE))
			arm_accept(fd);
		break;
	case RECV:
		received(fd, cqe->res, cqe->flags);
		break;
	case SEND:
		give_back(data >> 32 & 0xffff);
		break;
	}
}

static int listen_on(int port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(port) };
	int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&addr, sizeof(addr)) || listen(listener, BACKLOG)) {
		perror("c-uring-echo: listen");
		exit(1);
	}
	return listener;
}

static void set_up(void)
{
	struct io_uring_buf_reg reg = { .ring_entries = BUFFERS, .bgid = GROUP };
	struct io_uring_params params = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			 IORING_SETUP_CQSIZE,
		.cq_entries = 4 * ENTRIES,
	};
	int error = io_uring_queue_init_params(ENTRIES, &ring, &params);

	if (!error && (posix_memalign((void **)&pool, 4096, BUFFERS * sizeof(struct io_uring_buf)) ||
		       posix_memalign((void **)&memory, 4096, BUFFERS * BUFFER_SIZE)))
		error = -ENOMEM;
	if (!error) {
		io_uring_buf_ring_init(pool);
		reg.ring_addr = (uintptr_t)pool;
		error = io_uring_register_buf_ring(&ring, &reg, 0);
	}
	if (error) {
		fprintf(stderr, "c-uring-echo: set-up: %s\n", strerror(-error));
		exit(1);
	}
	for (unsigned buffer = 0; buffer < BUFFERS; buffer++)
		give_back(buffer);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: c-uring-echo PORT\n");
		return 2;
	}
	set_up();
	arm_accept(listen_on(atoi(argv[1])));
	for (;;) {
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;

		io_uring_submit_and_wait(&ring, 1);
		io_uring_for_each_cqe(&ring, head, cqe) {
			handle(cqe);
			seen++;
		}
		io_uring_cq_advance(&ring, seen);
	}
}
