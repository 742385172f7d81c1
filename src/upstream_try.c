/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * One try of an exchange: how it is sent, what its socket brings, and whether
 * that is the reply to it.  What is to follow from that, upstream.c says.
 *
 * A try is one datagram from a fresh socket on a random port, connected, with
 * a fresh random ID and the letters of the name in random case; or one TCP
 * connection.  A reply must match it in ID and question, and over UDP in case.
 */

#include <sys/socket.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "upstream_try.h"

#define PORT_FIRST	1024
#define PORT_TRIES	8
#define POOL_BYTES	1024		/* of random numbers */

static unsigned	try_place(struct upstream_exchange *);
static void	try_fill(struct upstream_exchange *, struct upstream_try *,
		    unsigned, bool, uint64_t);
static int	open_udp(const struct addr *);
static void	draw(void *, size_t);
static size_t	request(const struct upstream_exchange *,
		    const struct upstream_try *, uint8_t *);
static int	tcp_send(struct upstream_exchange *, struct upstream_try *);
static int	tcp_receive(struct upstream_exchange *,
		    const struct upstream_try *, uint8_t **, size_t *);

int
upstream_try_udp(struct upstream_exchange *x, unsigned upstream,
    uint64_t now_us)
{
	struct health *health = health_of(x, upstream);
	unsigned place = try_place(x);
	struct upstream_try *try = &x->tries[place];
	uint8_t buf[DNS_REQUEST_MAX];
	size_t len;

	try_fill(x, try, upstream, x->flat & 1 << upstream, now_us);
	try->tcp = false;
	len = request(x, try, buf);
	atomic_fetch_add(&health->queries, 1);
	try->fd = open_udp(&health->addr);
	if (try->fd == -1 || send(try->fd, buf, len, 0) == -1 ||
	    poller_add(x->poller, try->fd, POLLER_IN, x->tag + place) == -1) {
		atomic_fetch_add(&health->errors, 1);
		health_lost(health, now_us);
		upstream_try_close(x, place);
		return (-1);
	}
	x->current = place;
	return (0);
}

/* A place for a new try: a free one, or that of the oldest. */
static unsigned
try_place(struct upstream_exchange *x)
{
	unsigned i, oldest = 0;

	for (i = 0; i < UPSTREAM_SOCKETS; i++) {
		if (x->tries[i].fd == -1)
			return (i);
		if (x->tries[i].sent_us < x->tries[oldest].sent_us)
			oldest = i;
	}
	upstream_try_close(x, oldest);
	return (oldest);
}

/* A fresh ID and fresh case, from one draw. */
static void
try_fill(struct upstream_exchange *x, struct upstream_try *try,
    unsigned upstream, bool flat, uint64_t now_us)
{
	struct {
		uint16_t	id;
		uint8_t		name_case[DNS_CASE_LEN];
	} random;
	size_t len = dns_key_name_len(x->key_len), i;

	draw(&random, sizeof(random));
	try->upstream = upstream;
	try->id = random.id;
	try->edns = !(x->no_edns & 1 << upstream);
	try->flat = flat;
	try->counted = false;
	try->sent_us = now_us;
	memcpy(try->name, x->key, len);
	for (i = 0; i < len && !flat; i++) {
		if (try->name[i] >= 'a' && try->name[i] <= 'z' &&
		    random.name_case[i / 8] & 1 << i % 8)
			try->name[i] &= ~0x20;
	}
}

static size_t
request(const struct upstream_exchange *x, const struct upstream_try *try,
    uint8_t *buf)
{
	return (dns_request_write(buf, try->id, try->name, x->key, x->key_len,
	    try->edns));
}

/*
 * A socket on a random port, connected.  The kernel's own choice of a port
 * has half as many to choose from; it is taken when ours are in use.
 */
static int
open_udp(const struct addr *addr)
{
	struct sockaddr_storage ss;
	struct addr local = { .family = addr->family };
	uint16_t random;
	socklen_t len;
	int fd, i;

	fd = socket(addr->family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
	    0);
	if (fd == -1)
		return (-1);
	for (i = 0; i < PORT_TRIES; i++) {
		do
			draw(&random, sizeof(random));
		while (random < PORT_FIRST);
		local.port = random;
		len = addr_to_sockaddr(&local, addr->family, &ss);
		if (bind(fd, (struct sockaddr *)&ss, len) == 0)
			break;
	}
	len = addr_to_sockaddr(addr, addr->family, &ss);
	if (connect(fd, (struct sockaddr *)&ss, len) == -1) {
		close(fd);
		return (-1);
	}
	return (fd);
}

/*
 * Take len random bytes, at most POOL_BYTES.  arc4random() asks the kernel for
 * the pid each time, to see if it was forked; this process never forks, so a
 * pool, which is its own, is filled once for many.  What was taken is erased.
 */
static void
draw(void *buf, size_t len)
{
	static uint8_t pool[POOL_BYTES];
	static size_t left;

	if (left < len) {
		arc4random_buf(pool, sizeof(pool));
		left = sizeof(pool);
	}
	left -= len;
	memcpy(buf, pool + left, len);
	memset(pool + left, 0, len);
}

int
upstream_try_tcp(struct upstream_exchange *x, unsigned upstream,
    uint64_t now_us)
{
	struct health *health = health_of(x, upstream);
	struct upstream_try *try;
	struct sockaddr_storage ss;
	socklen_t len;
	unsigned place;

	for (place = 0; place < UPSTREAM_SOCKETS; place++) {
		if (x->tries[place].tcp)	/* there is one stream */
			upstream_try_close(x, place);
	}
	place = try_place(x);
	try = &x->tries[place];
	try_fill(x, try, upstream, false, now_us);
	try->tcp = true;
	x->stream_len = 0;
	x->stream_sent = false;
	atomic_fetch_add(&health->queries, 1);
	try->fd = socket(health->addr.family,
	    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	len = addr_to_sockaddr(&health->addr, health->addr.family, &ss);
	if (try->fd == -1 ||
	    (connect(try->fd, (struct sockaddr *)&ss, len) == -1 &&
	    errno != EINPROGRESS) ||
	    poller_add(x->poller, try->fd, POLLER_OUT, x->tag + place) == -1) {
		upstream_try_close(x, place);
		return (-1);
	}
	x->current = place;
	return (0);
}

int
upstream_try_ready(struct upstream_exchange *x, unsigned place, uint8_t *buf,
    uint8_t **msg, size_t *len)
{
	struct upstream_try *try = &x->tries[place];
	ssize_t n;

	if (try->tcp)
		return (x->stream_sent ? tcp_receive(x, try, msg, len) :
		    tcp_send(x, try));
	n = recv(try->fd, buf, DNS_MESSAGE_MAX, 0);
	if (n == -1)
		return (errno == EAGAIN || errno == EINTR ? 0 : -1);
	*msg = buf;
	*len = n;
	return (1);
}

/* Connected: send the request and wait for the reply.  -1: failed. */
static int
tcp_send(struct upstream_exchange *x, struct upstream_try *try)
{
	uint8_t buf[2 + DNS_REQUEST_MAX];
	socklen_t size = sizeof(int);
	ssize_t sent;
	size_t len;
	int error;

	if (getsockopt(try->fd, SOL_SOCKET, SO_ERROR, &error, &size) == -1 ||
	    error != 0)
		return (-1);
	len = request(x, try, buf + 2);
	dns_put16(buf, len);
	sent = send(try->fd, buf, 2 + len, MSG_NOSIGNAL);
	if (sent == -1 && (errno == EAGAIN || errno == ENOTCONN))
		return (0);	/* the news was of an older socket */
	if (sent != (ssize_t)(2 + len))
		return (-1);
	x->stream_sent = true;
	return (poller_change(x->poller, try->fd, POLLER_IN,
	    x->tag + (try - x->tries)));
}

static int
tcp_receive(struct upstream_exchange *x, const struct upstream_try *try,
    uint8_t **msg, size_t *len)
{
	size_t want = x->stream_len < 2 ? 2 :
	    2 + (size_t)dns_get16(x->stream);
	ssize_t n;

	do {
		n = recv(try->fd, x->stream + x->stream_len,
		    want - x->stream_len, 0);
		if (n == -1 && (errno == EAGAIN || errno == EINTR))
			return (0);
		if (n <= 0)
			return (-1);
		x->stream_len += n;
		if (x->stream_len >= 2)
			want = 2 + (size_t)dns_get16(x->stream);
	} while (x->stream_len < want);
	*msg = x->stream + 2;
	*len = want - 2;
	return (1);
}

enum verdict
upstream_try_match(const struct upstream_exchange *x,
    const struct upstream_try *try, uint8_t *buf, size_t len)
{
	static uint16_t ttl_at[DNS_MESSAGE_MAX / 11];
	size_t name_len = dns_key_name_len(x->key_len);
	const uint8_t *name = buf + DNS_HEADER_LEN;
	enum verdict verdict = GOOD;
	struct dns_reply reply;
	uint16_t flags;
	bool failed;

	if (len < DNS_HEADER_LEN || dns_get16(buf) != try->id)
		return (MISMATCH);
	flags = dns_get16(buf + 2);
	if ((flags & (DNS_FLAG_QR | DNS_FLAG_OPCODE)) != DNS_FLAG_QR)
		return (MISMATCH);
	flags &= DNS_FLAG_RCODE | DNS_FLAG_TC;
	failed = (flags & DNS_FLAG_RCODE) == DNS_RCODE_SERVFAIL ||
	    (flags & DNS_FLAG_RCODE) == DNS_RCODE_REFUSED ||
	    (flags & DNS_FLAG_RCODE) == DNS_RCODE_NOTIMP ||
	    (flags & DNS_FLAG_RCODE) == DNS_RCODE_FORMERR;
	/* Some leave out the question when they refuse it. */
	if (!failed || dns_get16(buf + 4) != 0) {
		if (dns_get16(buf + 4) != 1 ||
		    len < DNS_HEADER_LEN + name_len + 4 ||
		    !dns_name_equal(name, try->name, name_len) ||
		    dns_get16(name + name_len) !=
		    dns_key_type(x->key, x->key_len) ||
		    dns_get16(name + name_len + 2) != DNS_CLASS_IN)
			return (MISMATCH);
		/* Over TCP nobody guesses: there it tells of the server. */
		if (!try->tcp && memcmp(name, try->name, name_len) != 0)
			return (MISMATCH_CASE);
	}
	if (failed)
		return (try->edns && (flags == DNS_RCODE_FORMERR ||
		    flags == DNS_RCODE_NOTIMP) ? NO_EDNS : BAD);
	if (flags & DNS_FLAG_TC)
		verdict = TRUNCATED;
	else if (dns_reply_parse(buf, len, &reply, ttl_at,
	    sizeof(ttl_at) / sizeof(ttl_at[0])) == -1)
		verdict = MISMATCH;
	else if (reply.rcode > DNS_FLAG_RCODE)	/* it speaks of our OPT */
		verdict = try->edns ? NO_EDNS : BAD;
	return (verdict);
}

void
upstream_try_close(struct upstream_exchange *x, unsigned place)
{
	struct upstream_try *try = &x->tries[place];

	if (try->fd != -1)
		poller_close(x->poller, try->fd);
	try->fd = -1;
}
