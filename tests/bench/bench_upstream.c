/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The upstream of all the servers that the bench compares.  It knows an
 * address for every name, a hash of it, and no other records: any other type
 * is answered with a SOA alone (RFC 2308 2.2).  Names below `dead' are never
 * answered.  Letter case and ID are echoed, an OPT is sent to who sent one.
 *
 *	bench_upstream -port n [-delay-ms n] [-ttl n] [-count file]
 *
 * It must never be what is measured: one process, batches of datagrams, and
 * replies that are to be late wait in a ring in the order in which they are
 * due.  TCP is there for servers that want it, and takes one query at a time.
 *
 * What it counts stands in a file that bench_load maps.  At SIGUSR1 and at its
 * end, by SIGTERM or with the process that started it, it prints the counters
 * and the CPU time that it took.
 */

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <netinet/in.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dns.h"
#include "wire.h"

#define BATCH		64
#define TYPE_A		1
#define NEGATIVE_TTL	60
#define SOA_LEN		33		/* owner and both names are the root */
#define PACKET_MAX	(DNS_HEADER_LEN + DNS_NAME_MAX + 4 + SOA_LEN + \
			    DNS_OPT_LEN)
#define QUERY_MAX	1232		/* with whatever options */
#define LATE_MAX	16384		/* replies that wait; a power of two */
#define EARLY_NS	20000		/* sent so much too soon, in a batch */
#define CONNECTIONS	16
#define NS_PER_S	UINT64_C(1000000000)
#define NS_PER_MS	UINT64_C(1000000)

struct packet {
	struct sockaddr_in	 to;
	uint64_t		 due_ns;
	size_t			 len;
	uint8_t			 buf[PACKET_MAX];
};

/* A TCP connection, and what has come of the query that it is sending. */
struct connection {
	int			 fd;
	size_t			 len;
	uint8_t			 buf[2 + QUERY_MAX];
};

static struct wire_count	*count;
static uint64_t			 delay_ns;
static uint32_t			 ttl = WIRE_TTL;
static struct packet		 late[LATE_MAX];
static unsigned			 late_first, late_end;	/* modulo LATE_MAX */
static struct connection	 connections[CONNECTIONS];
static unsigned			 connected;
static volatile sig_atomic_t	 report, stop;

static void	 on_signal(int);
static void	 set_signals(void);
static void	 count_in(const char *);
static int	 listen_tcp(uint16_t);
static void	 serve(int, int);
static void	 receive(int);
static bool	 answer(struct packet *, const uint8_t *, size_t);
static bool	 is_dead(const uint8_t *, size_t);
static void	 append_soa(struct packet *);
static void	 send_batch(int, struct packet *, unsigned);
static void	 send_late(int, uint64_t);
static void	 accept_one(int);
static bool	 read_queries(struct connection *);
static void	 print_count(void);
static void	 usage(void) __attribute__((__noreturn__));

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "port", required_argument, NULL, 'p' },
		{ "delay-ms", required_argument, NULL, 'd' },
		{ "ttl", required_argument, NULL, 't' },
		{ "count", required_argument, NULL, 'c' },
		{ NULL, 0, NULL, 0 }
	};
	const char *file = NULL;
	uint16_t port = 0;
	int ch;

	while ((ch = getopt_long_only(argc, argv, "", options, NULL)) != -1) {
		switch (ch) {
		case 'p':
			port = wire_number(optarg, 1024, 65535);
			break;
		case 'd':
			delay_ns = wire_number(optarg, 0, 10000) * NS_PER_MS;
			break;
		case 't':
			ttl = wire_number(optarg, 0, INT32_MAX);
			break;
		case 'c':
			file = optarg;
			break;
		default:
			usage();
		}
	}
	if (port == 0 || optind != argc)
		usage();
	count_in(file);
	set_signals();
	serve(wire_listen(port), listen_tcp(port));
	print_count();
	return (0);
}

static void
usage(void)
{
	warnx("usage: bench_upstream -port n [-delay-ms n] [-ttl n] "
	    "[-count file]");
	exit(2);
}

static void
on_signal(int sig)
{
	if (sig == SIGUSR1)
		report = 1;
	else
		stop = 1;
}

/* Signals come in ppoll() alone. */
static void
set_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal };
	pid_t parent = getppid();
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* A timer may be no later than it must. */
	if (prctl(PR_SET_TIMERSLACK, 1) == -1 ||
	    prctl(PR_SET_PDEATHSIG, SIGTERM) == -1)
		err(1, "prctl");
	if (getppid() != parent)
		exit(1);
}

static void
count_in(const char *file)
{
	int fd = -1;

	if (file != NULL) {
		fd = open(file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (fd == -1 || ftruncate(fd, sizeof(*count)) == -1)
			err(1, "%s", file);
	}
	count = mmap(NULL, sizeof(*count), PROT_READ | PROT_WRITE,
	    MAP_SHARED | (fd == -1 ? MAP_ANONYMOUS : 0), fd, 0);
	if (count == MAP_FAILED)
		err(1, "mmap");
	if (fd != -1)
		close(fd);
}

static int
listen_tcp(uint16_t port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	int fd, on = 1;

	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1)
		err(1, "socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	sin.sin_port = htons(port);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) == -1 ||
	    listen(fd, CONNECTIONS) == -1)
		err(1, "127.0.0.1:%u, TCP", port);
	return (fd);
}

static void
serve(int fd, int tcp)
{
	struct pollfd pfd[2 + CONNECTIONS];
	struct timespec wait;
	uint64_t now_ns, wait_ns;
	sigset_t none;
	unsigned i;

	sigemptyset(&none);
	while (!stop) {
		if (report) {
			report = 0;
			print_count();
		}
		now_ns = wire_now_ns();
		send_late(fd, now_ns);
		wait_ns = NS_PER_S;
		if (late_first != late_end) {
			wait_ns = late[late_first % LATE_MAX].due_ns;
			wait_ns = wait_ns > now_ns ? wait_ns - now_ns : 0;
		}
		wait.tv_sec = wait_ns / NS_PER_S;
		wait.tv_nsec = wait_ns % NS_PER_S;
		pfd[0] = (struct pollfd){ .fd = fd, .events = POLLIN };
		/* While there is no room, connections wait in the kernel. */
		pfd[1] = (struct pollfd){ .fd = tcp,
		    .events = connected < CONNECTIONS ? POLLIN : 0 };
		for (i = 0; i < connected; i++)
			pfd[2 + i] = (struct pollfd){
			    .fd = connections[i].fd, .events = POLLIN };
		if (ppoll(pfd, 2 + connected, &wait, &none) <= 0)
			continue;
		if (pfd[0].revents != 0)
			receive(fd);
		/* From the last, whose place the one that ends takes. */
		for (i = connected; i-- > 0;) {
			if (pfd[2 + i].revents == 0 ||
			    read_queries(&connections[i]))
				continue;
			close(connections[i].fd);
			connections[i] = connections[--connected];
		}
		if (pfd[1].revents != 0)
			accept_one(tcp);
	}
}

static void
receive(int fd)
{
	static uint8_t queries[BATCH][QUERY_MAX];
	static struct packet replies[BATCH];
	static struct sockaddr_in from[BATCH];
	static struct mmsghdr msgs[BATCH];
	static struct iovec iov[BATCH];
	struct packet *packet;
	unsigned sent = 0;
	uint64_t due_ns;
	int i, n;

	for (i = 0; i < BATCH; i++) {
		iov[i].iov_base = queries[i];
		iov[i].iov_len = QUERY_MAX;
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
		msgs[i].msg_hdr.msg_name = &from[i];
		msgs[i].msg_hdr.msg_namelen = sizeof(from[i]);
	}
	n = recvmmsg(fd, msgs, BATCH, MSG_DONTWAIT, NULL);
	due_ns = delay_ns == 0 ? 0 : wire_now_ns() + delay_ns;
	for (i = 0; i < n; i++) {
		count->queries++;
		if (delay_ns == 0)
			packet = &replies[sent];
		else if (late_end - late_first < LATE_MAX)
			packet = &late[late_end % LATE_MAX];
		else {
			count->dropped++;
			continue;
		}
		if (!answer(packet, queries[i], msgs[i].msg_len))
			continue;
		packet->to = from[i];
		packet->due_ns = due_ns;
		if (delay_ns == 0)
			sent++;
		else
			late_end++;
	}
	if (sent > 0)
		send_batch(fd, replies, sent);
}

/* Returns false if there is to be no reply. */
static bool
answer(struct packet *packet, const uint8_t *query, size_t len)
{
	uint8_t *buf = packet->buf;
	size_t end = DNS_HEADER_LEN, name_len;
	bool edns;

	while (end < len && query[end] != 0 && query[end] < 64)
		end += 1 + query[end];
	name_len = end + 1 - DNS_HEADER_LEN;
	end += 5;
	if (end > len || name_len > DNS_NAME_MAX ||
	    dns_get16(query + 4) != 1 || dns_get16(query + 2) & DNS_FLAG_QR)
		return (false);
	if (is_dead(query + DNS_HEADER_LEN, name_len)) {
		count->silent++;
		return (false);
	}
	/* An OPT comes first: its owner is the root. */
	edns = dns_get16(query + 10) != 0 && end + DNS_OPT_LEN <= len &&
	    query[end] == 0 && dns_get16(query + end + 1) == DNS_TYPE_OPT;
	memcpy(buf, query, end);
	dns_put16(buf + 2, DNS_FLAG_QR | DNS_FLAG_RA |
	    (dns_get16(query + 2) & DNS_FLAG_RD));
	memset(buf + 6, 0, 6);
	packet->len = end;
	if (dns_get16(query + end - 4) == TYPE_A) {
		dns_put16(buf + 6, 1);
		wire_answer_append(buf, end, name_len, ttl);
		packet->len += WIRE_ANSWER_LEN;
	} else
		append_soa(packet);
	if (edns) {
		dns_put16(buf + 10, 1);
		dns_opt_write(buf + packet->len, 0, false);
		packet->len += DNS_OPT_LEN;
	}
	return (true);
}

static bool
is_dead(const uint8_t *name, size_t len)
{
	static const uint8_t dead[] = "\4dead";

	return (len >= sizeof(dead) &&
	    dns_name_equal(name + len - sizeof(dead), dead, sizeof(dead)));
}

static void
append_soa(struct packet *packet)
{
	uint8_t *at = packet->buf + packet->len;

	memset(at, 0, SOA_LEN);
	dns_put16(packet->buf + 8, 1);
	dns_put16(at + 1, DNS_TYPE_SOA);
	dns_put16(at + 3, DNS_CLASS_IN);
	dns_put32(at + 5, NEGATIVE_TTL);
	dns_put16(at + 9, SOA_LEN - 11);
	dns_put32(at + 13, 1);			/* the serial number */
	dns_put32(at + 17, 3600);
	dns_put32(at + 21, 600);
	dns_put32(at + 25, 86400);
	dns_put32(at + 29, NEGATIVE_TTL);
	packet->len += SOA_LEN;
}

static void
send_batch(int fd, struct packet *packets, unsigned n)
{
	static struct mmsghdr msgs[BATCH];
	static struct iovec iov[BATCH];
	unsigned i;
	int sent;

	for (i = 0; i < n; i++) {
		iov[i].iov_base = packets[i].buf;
		iov[i].iov_len = packets[i].len;
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
		msgs[i].msg_hdr.msg_name = &packets[i].to;
		msgs[i].msg_hdr.msg_namelen = sizeof(packets[i].to);
	}
	for (i = 0; i < n; i += sent > 0 ? sent : 1) {
		sent = sendmmsg(fd, msgs + i, n - i, 0);
		if (sent > 0)
			count->replies += sent;
	}
}

/*
 * Send a batch of what is due.  No more: what comes meanwhile must be read, or
 * it would be late as well, and all replies would come at once for ever.
 */
static void
send_late(int fd, uint64_t now_ns)
{
	unsigned at = late_first % LATE_MAX, n;

	for (n = 0; n < BATCH && at + n < LATE_MAX &&
	    late_first + n != late_end &&
	    late[at + n].due_ns <= now_ns + EARLY_NS; n++)
		;
	if (n > 0)
		send_batch(fd, late + at, n);
	late_first += n;
}

static void
accept_one(int tcp)
{
	struct connection *connection = &connections[connected];

	connection->fd = accept4(tcp, NULL, NULL,
	    SOCK_CLOEXEC | SOCK_NONBLOCK);
	connection->len = 0;
	if (connection->fd != -1)
		connected++;
}

/* Returns false if the connection is at its end. */
static bool
read_queries(struct connection *connection)
{
	struct packet packet;
	uint8_t head[2], *buf = connection->buf;
	struct iovec iov[2];
	ssize_t n;
	size_t len;

	n = read(connection->fd, buf + connection->len,
	    sizeof(connection->buf) - connection->len);
	if (n == -1)
		return (errno == EAGAIN || errno == EINTR);
	if (n == 0)
		return (false);
	connection->len += n;
	while (connection->len >= 2 &&
	    connection->len >= 2 + (len = dns_get16(buf))) {
		count->tcp++;
		if (answer(&packet, buf + 2, len)) {
			dns_put16(head, packet.len);
			iov[0] = (struct iovec){ head, sizeof(head) };
			iov[1] = (struct iovec){ packet.buf, packet.len };
			if (writev(connection->fd, iov, 2) <= 0)
				return (false);
		}
		connection->len -= 2 + len;
		memmove(buf, buf + 2 + len, connection->len);
	}
	return (connection->len < sizeof(connection->buf));
}

static void
print_count(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	printf("queries=%llu replies=%llu silent=%llu dropped=%llu tcp=%llu "
	    "cpu_us=%llu\n", (unsigned long long)count->queries,
	    (unsigned long long)count->replies,
	    (unsigned long long)count->silent,
	    (unsigned long long)count->dropped,
	    (unsigned long long)count->tcp, (unsigned long long)
	    ((usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
	    usage.ru_utime.tv_usec + usage.ru_stime.tv_usec));
	fflush(stdout);
}
