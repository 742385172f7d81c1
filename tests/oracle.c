/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * An upstream that knows every name: the address of a name is a keyed hash of
 * it.  So whoever has the key can tell of any answer whether it is true, and
 * an answer that belongs to another name never passes for one.
 *
 * It is one process with one UDP socket.  Answers that are to be late wait in
 * a ring, in the order in which they are due.
 */

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <netinet/in.h>

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "dns.h"
#include "oracle.h"
#include "siphash.h"
#include "stub.h"

#define BATCH		64
#define TYPE_A		1
#define PACKET_MAX	512
#define ZONES		16		/* of live names */
#define LATE_MAX	8192		/* answers that wait; a power of two */
#define RECEIVE_BYTES	(4 << 20)

struct packet {
	struct sockaddr_in	 to;
	uint64_t		 due_us;
	size_t			 len;
	uint8_t			 buf[PACKET_MAX];
};

static const char letters[ORACLE_KINDS + 1] = "hnsfzv";

static struct oracle	*self;
static int		 fd;
static struct packet	 late[LATE_MAX];
static unsigned		 late_first, late_end;	/* indices modulo LATE_MAX */

static int	open_socket(uint16_t *);
static void	serve(void) __attribute__((__noreturn__));
static void	receive(void);
static void	handle(struct packet *);
static void	append_answer(struct packet *, const uint8_t *, size_t);
static void	send_packet(const struct packet *);
static void	send_late(uint64_t);

struct oracle *
oracle_start(uint64_t seed)
{
	struct oracle *oracle;
	pid_t parent = getpid(), pid;

	oracle = mmap(NULL, sizeof(*oracle), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (oracle == MAP_FAILED)
		return (NULL);
	oracle->key[0] = seed;
	oracle->key[1] = ~seed;
	fd = open_socket(&oracle->port);
	if (fd == -1)
		return (NULL);
	pid = fork();
	if (pid == 0) {
		stub_die_with(parent);
		signal(SIGINT, SIG_IGN);
		signal(SIGTERM, SIG_DFL);
		signal(SIGALRM, SIG_DFL);
		self = oracle;
		serve();
	}
	close(fd);
	oracle->pid = pid;
	return (pid == -1 ? NULL : oracle);
}

void
oracle_stop(struct oracle *oracle)
{
	kill(oracle->pid, SIGKILL);
	waitpid(oracle->pid, NULL, 0);
	munmap(oracle, sizeof(*oracle));
}

size_t
oracle_name(uint8_t wire[ORACLE_NAME_MAX], enum oracle_kind kind,
    uint32_t number)
{
	char digits[16];
	int i, n = 0;
	size_t at = 1;
	bool victim = kind == ORACLE_SILENT || kind == ORACLE_VICTIM;
	uint8_t zone[] = "\6live-a\4test";
	static const uint8_t suffix[] = "\6victim\4test";

	_Static_assert(sizeof(zone) == sizeof(suffix), "one length for both");
	zone[6] += number % ZONES;
	do {
		digits[n++] = '0' + number % 10;
		number /= 10;
	} while (number != 0);
	wire[at++] = letters[kind];
	for (i = n - 1; i >= 0; i--)
		wire[at++] = digits[i];
	wire[0] = at - 1;
	memcpy(wire + at, victim ? suffix : zone, sizeof(zone));
	return (at + sizeof(zone));
}

void
oracle_address(const struct oracle *oracle, const uint8_t *lower, size_t len,
    uint8_t address[4])
{
	uint64_t hash = siphash(oracle->key, lower, len);

	memcpy(address, &hash, 4);
}

static int
open_socket(uint16_t *port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	int s, size = RECEIVE_BYTES;

	s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s == -1)
		return (-1);
#ifdef SO_RCVBUFFORCE
	setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
#else
	setsockopt(s, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
#endif
	*port = daemon_free_port();
	sin.sin_port = htons(*port);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(s, (struct sockaddr *)&sin, sizeof(sin)) == -1) {
		close(s);
		return (-1);
	}
	return (s);
}

static void
serve(void)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	struct timespec wait;
	uint64_t now_us, due_us;

	for (;;) {
		now_us = stub_now_us();
		send_late(now_us);
		due_us = late_first == late_end ? now_us + 1000000 :
		    late[late_first % LATE_MAX].due_us;
		wait.tv_sec = (due_us - now_us) / 1000000;
		wait.tv_nsec = (due_us - now_us) % 1000000 * 1000;
		if (ppoll(&pfd, 1, &wait, NULL) > 0)
			receive();
	}
}

static void
receive(void)
{
	static struct packet packets[BATCH];
	struct mmsghdr msgs[BATCH];
	struct iovec iov[BATCH];
	int i, n;

	memset(msgs, 0, sizeof(msgs));
	for (i = 0; i < BATCH; i++) {
		iov[i].iov_base = packets[i].buf;
		iov[i].iov_len = PACKET_MAX;
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
		msgs[i].msg_hdr.msg_name = &packets[i].to;
		msgs[i].msg_hdr.msg_namelen = sizeof(packets[i].to);
	}
	n = recvmmsg(fd, msgs, BATCH, MSG_DONTWAIT, NULL);
	for (i = 0; i < n; i++) {
		packets[i].len = msgs[i].msg_len;
		handle(&packets[i]);
	}
}

/* Make the answer in the query's place, and send it now or later. */
static void
handle(struct packet *packet)
{
	uint8_t lower[DNS_NAME_MAX];
	uint8_t *buf = packet->buf;
	size_t at = DNS_HEADER_LEN, i;
	const char *letter;
	enum oracle_kind kind;
	uint32_t delay_ms = self->delay_ms;

	self->queries++;
	while (at < packet->len && buf[at] != 0)
		at += 1 + buf[at];
	at++;
	if (packet->len < DNS_HEADER_LEN + 6 || at + 4 > packet->len ||
	    at - DNS_HEADER_LEN > DNS_NAME_MAX)
		return;
	for (i = DNS_HEADER_LEN; i < at; i++)
		lower[i - DNS_HEADER_LEN] = tolower(buf[i]);
	letter = strchr(letters, lower[1]);
	if (letter == NULL || *letter == '\0')
		return;
	kind = letter - letters;
	self->asked[kind]++;
	if (kind == ORACLE_SILENT)
		return;
	if (self->silent) {
		self->unheard++;
		return;
	}
	packet->len = at + 4;
	dns_put16(buf + 2, 0x8180);	/* QR, RD, RA */
	memset(buf + 6, 0, 6);
	if (kind == ORACLE_FAIL)
		dns_put16(buf + 2, 0x8180 | DNS_RCODE_SERVFAIL);
	else if (dns_get16(buf + at) == TYPE_A)
		append_answer(packet, lower, at - DNS_HEADER_LEN);
	if (kind == ORACLE_SLOW && delay_ms < ORACLE_SLOW_MS)
		delay_ms = ORACLE_SLOW_MS;
	if (delay_ms == 0)
		send_packet(packet);
	else if (late_end - late_first < LATE_MAX) {
		packet->due_us = stub_now_us() + delay_ms * (uint64_t)1000;
		late[late_end++ % LATE_MAX] = *packet;
	}
}

static void
append_answer(struct packet *packet, const uint8_t *lower, size_t len)
{
	uint8_t *at = packet->buf + packet->len;

	dns_put16(packet->buf + 6, 1);
	dns_put16(at, 0xc00c);
	dns_put16(at + 2, TYPE_A);
	dns_put16(at + 4, DNS_CLASS_IN);
	dns_put32(at + 6, ORACLE_TTL);
	dns_put16(at + 10, 4);
	oracle_address(self, lower, len, at + 12);
	packet->len += 16;
}

static void
send_packet(const struct packet *packet)
{
	if (sendto(fd, packet->buf, packet->len, MSG_DONTWAIT,
	    (const struct sockaddr *)&packet->to, sizeof(packet->to)) != -1)
		self->replies++;
}

static void
send_late(uint64_t now_us)
{
	while (late_first != late_end &&
	    late[late_first % LATE_MAX].due_us <= now_us)
		send_packet(&late[late_first++ % LATE_MAX]);
}
