/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Queries under way.  Whatever is done here is done for each query, so it is
 * little: a query is a template with a number in it, what is remembered of it
 * are eight bytes in a ring that its ID is an index of, and a batch of
 * queries is one datagram that the kernel cuts (UDP_SEGMENT), since they are
 * all equally long and go to the same place.  Where the kernel can't, it is
 * sendmmsg().
 *
 * A ring holds all IDs, and its queries are given up in the order in which
 * they were sent: what is older than the time-out, or has come round to where
 * the next is to be.
 */

#include <sys/socket.h>
#include <sys/uio.h>

#include <netinet/in.h>
#include <netinet/udp.h>

#include <err.h>
#include <stdlib.h>
#include <string.h>

#include "dns.h"
#include "flight.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT	103		/* Linux 4.18 */
#endif

#define RING		65536		/* as many as there are IDs */
#define REPLY_MAX	512
#define RECEIVE_BYTES	(1 << 20)
#define SUB_BITS	7		/* 128 buckets to a power of two */

static bool	 segments = true;

static int	 open_socket(uint16_t);
static void	 take(struct flight *, struct flight_socket *,
		    const uint8_t *, size_t, uint32_t);
static void	 give_up_oldest(struct flight *, struct flight_socket *);
static unsigned	 bucket_of(uint32_t);
static double	 bucket_ns(unsigned);

void
flight_open(struct flight *flight, struct pollfd *pfd, uint16_t port,
    unsigned sockets, char kind, bool heard, unsigned timeout_ms)
{
	struct flight_socket *s;
	unsigned i;

	memset(flight, 0, sizeof(*flight));
	flight->pfd = pfd;
	flight->sockets = sockets;
	flight->timeout_ns = timeout_ms * 1000000;
	for (i = 0; i < FLIGHT_BATCH; i++)
		wire_query_init(flight->query[i], kind, !heard);
	for (i = 0; i < sockets; i++) {
		s = &flight->socket[i];
		s->fd = open_socket(port);
		if (heard && (s->ring = calloc(RING, sizeof(*s->ring))) ==
		    NULL)
			err(1, "calloc");
		pfd[i] = (struct pollfd){ .fd = s->fd, .events = POLLIN };
	}
}

static int
open_socket(uint16_t port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	int fd, length = WIRE_QUERY_LEN, size = RECEIVE_BYTES;

	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1)
		err(1, "socket");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size,
	    sizeof(size)) == -1)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (segments && setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &length,
	    sizeof(length)) == -1)
		segments = false;
	sin.sin_port = htons(port);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == -1)
		err(1, "connect");
	return (fd);
}

void
flight_send(struct flight *flight, unsigned socket, const uint32_t *numbers,
    unsigned n)
{
	struct flight_socket *s = &flight->socket[socket];
	struct mmsghdr msgs[FLIGHT_BATCH];
	struct iovec iov[FLIGHT_BATCH];
	struct flight_query *query;
	uint32_t now = wire_now_ns();
	unsigned i;

	for (i = 0; i < n; i++, s->next++) {
		wire_query_set(flight->query[i], s->next, numbers[i]);
		if (s->ring == NULL)
			continue;
		if (s->next - s->oldest == RING)
			give_up_oldest(flight, s);
		query = &s->ring[s->next % RING];
		query->number = (numbers[i] + 1) |
		    (flight->counting ? UINT32_C(1) << 31 : 0);
		query->sent_ns = now;
		s->under_way++;
		flight->under_way++;
	}
	if (flight->counting)
		flight->sent += n;
	/* One that is refused counts as lost in the end. */
	if (segments) {
		send(s->fd, flight->query, n * WIRE_QUERY_LEN, 0);
		return;
	}
	memset(msgs, 0, n * sizeof(msgs[0]));
	for (i = 0; i < n; i++) {
		iov[i].iov_base = flight->query[i];
		iov[i].iov_len = WIRE_QUERY_LEN;
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
	}
	sendmmsg(s->fd, msgs, n, 0);
}

unsigned
flight_collect(struct flight *flight)
{
	static uint8_t replies[FLIGHT_BATCH][REPLY_MAX];
	static struct mmsghdr msgs[FLIGHT_BATCH];
	static struct iovec iov[FLIGHT_BATCH];
	struct flight_socket *s;
	unsigned i, total = 0;
	uint32_t now;
	int j, n;

	for (i = 0; i < FLIGHT_BATCH && iov[i].iov_len == 0; i++) {
		iov[i].iov_base = replies[i];
		iov[i].iov_len = REPLY_MAX;
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
	}
	for (i = 0; i < flight->sockets; i++) {
		s = &flight->socket[i];
		if (flight->pfd[i].revents == 0)
			continue;
		do {
			n = recvmmsg(s->fd, msgs, FLIGHT_BATCH, 0, NULL);
			now = wire_now_ns();
			for (j = 0; j < n; j++)
				take(flight, s, replies[j], msgs[j].msg_len,
				    now);
			total += n > 0 ? n : 0;
		} while (n == FLIGHT_BATCH);
	}
	return (total);
}

static void
take(struct flight *flight, struct flight_socket *s, const uint8_t *reply,
    size_t len, uint32_t now)
{
	struct flight_query *query;
	uint32_t number;
	bool counted;

	if (s->ring == NULL || len < DNS_HEADER_LEN)
		return;
	query = &s->ring[dns_get16(reply)];
	if (query->number == 0) {
		flight->late++;
		return;
	}
	number = (query->number & INT32_MAX) - 1;
	counted = query->number >> 31;
	query->number = 0;
	s->under_way--;
	flight->under_way--;
	/* The first query's place serves to write the name again. */
	wire_query_set(flight->query[0], 0, number);
	switch (wire_reply_judge(reply, len, flight->query[0])) {
	case WIRE_TRUE:
		flight->replies++;
		if (!counted)
			return;
		flight->received++;
		flight->bucket[bucket_of(now - query->sent_ns)]++;
		return;
	case WIRE_FAILED:
		if (counted)
			flight->failed++;
		break;
	case WIRE_WRONG:
		/* However it came about, it may not pass unseen. */
		flight->wrong++;
		break;
	}
	if (flight->missed != NULL)
		flight->missed(number);
}

void
flight_expire(struct flight *flight)
{
	struct flight_socket *s;
	struct flight_query *query;
	uint32_t now = wire_now_ns();
	unsigned i;

	for (i = 0; i < flight->sockets; i++) {
		s = &flight->socket[i];
		while (s->ring != NULL && s->oldest != s->next) {
			query = &s->ring[s->oldest % RING];
			if (query->number != 0 &&
			    now - query->sent_ns < flight->timeout_ns)
				break;
			give_up_oldest(flight, s);
		}
	}
}

static void
give_up_oldest(struct flight *flight, struct flight_socket *s)
{
	struct flight_query *query = &s->ring[s->oldest++ % RING];
	uint32_t number = query->number;

	if (number == 0)
		return;
	query->number = 0;
	s->under_way--;
	flight->under_way--;
	if (number >> 31)
		flight->lost++;
	if (flight->missed != NULL)
		flight->missed((number & INT32_MAX) - 1);
}

/* Latencies: exact below 128 ns, then 128 steps to a power of two. */

static unsigned
bucket_of(uint32_t ns)
{
	unsigned shift;

	if (ns < 1 << SUB_BITS)
		return (ns);
	shift = 31 - __builtin_clz(ns) - SUB_BITS;
	return ((shift << SUB_BITS) + (ns >> shift));
}

/* The middle of a bucket. */
static double
bucket_ns(unsigned bucket)
{
	unsigned shift;

	if (bucket < 2 << SUB_BITS)
		return (bucket);
	shift = (bucket >> SUB_BITS) - 1;
	return (((bucket - (shift << SUB_BITS)) + 0.5) * (1 << shift));
}

double
flight_within_us(const struct flight *flight, double share)
{
	double want = flight->received * share;
	uint64_t seen = 0;
	unsigned i;

	for (i = 0; i < FLIGHT_BUCKETS; i++) {
		seen += flight->bucket[i];
		if (seen > 0 && seen >= want)
			return (bucket_ns(i) / 1000);
	}
	return (0);
}
