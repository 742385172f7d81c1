/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Asking the upstreams one question, until one gives a true answer or all have
 * failed.  An exchange makes sockets, but never waits and reads no clock: the
 * worker calls it when a socket is ready or wake_us has come.
 *
 * A try is one datagram from a fresh socket on a random port, connected, with
 * a fresh random ID and the letters of the name in random case; or one TCP
 * connection.  The tries go through the upstreams in order, up ones first, and
 * then once more; if there is one alone, twice more.  Up to UPSTREAM_SOCKETS of them stay open, so that a late
 * reply still counts; the newest, `current', decides when to go on.
 *
 * Only a reply that matches in ID, question and case is looked at.  What does
 * not match is a mistake or a forgery: from then on this question is asked
 * over TCP, so that a forger has one guess.  An upstream that serves no TCP is
 * asked once more from a fresh socket, where a few mismatches are let pass.
 *
 * What is known of the upstreams' health only changes the order of the tries,
 * never the outcome.
 */

#include <sys/socket.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "upstream.h"

#define WAIT_MIN_US	50000
#define WAIT_MAX_US	400000		/* while there is another to ask */
#define WAIT_LAST_US	950000		/* before the list is begun again */
#define WAIT_TCP_US	1000000		/* connect and read, while others are */
#define AGAIN_US	300000		/* till a try that a client wants */
#define ROUNDS		2		/* through the list, or */
#define ROUNDS_ALONE	3		/* if one upstream is all of it */
#define PROBE_US	1000000
#define FLAT_US		600000000	/* then it is found out again */
#define PORT_FIRST	1024
#define PORT_TRIES	8
#define POOL_BYTES	1024		/* of random numbers */
#define TOLERATED_MAX	16		/* mismatches where there is no TCP */

/* What a packet is to the try that it came for. */
enum verdict {
	GOOD,
	TRUNCATED,
	BAD,		/* an rcode that another upstream may not have */
	NO_EDNS,	/* it may understand the question without EDNS */
	MISMATCH,
	MISMATCH_CASE	/* but for the case of letters it would match */
};

static void	prepare(struct upstream_exchange *, const struct upstreams *,
		    struct poller *, uint32_t, const uint8_t *, size_t,
		    uint64_t);
static void	order_make(struct upstream_exchange *);
static enum upstream_status go_on(struct upstream_exchange *, uint64_t);
static enum upstream_status fail_try(struct upstream_exchange *, unsigned,
		    uint64_t);
static enum upstream_status fail_upstream(struct upstream_exchange *,
		    unsigned, uint64_t);
static enum upstream_status waiting(struct upstream_exchange *);
static enum upstream_status finish(struct upstream_exchange *,
		    enum upstream_status);
static bool	is_last(const struct upstream_exchange *);
static uint64_t	wait_us(const struct upstream_exchange *, unsigned);
static unsigned	try_place(struct upstream_exchange *);
static void	try_close(struct upstream_exchange *, unsigned);
static int	try_udp(struct upstream_exchange *, unsigned, uint64_t);
static int	try_tcp(struct upstream_exchange *, unsigned, uint64_t);
static void	try_fill(struct upstream_exchange *, struct upstream_try *,
		    unsigned, bool, uint64_t);
static int	open_udp(const struct addr *);
static void	draw(void *, size_t);
static size_t	request(const struct upstream_exchange *,
		    const struct upstream_try *, uint8_t *);
static enum upstream_status tcp_ready(struct upstream_exchange *, unsigned,
		    uint64_t);
static int	tcp_send(struct upstream_exchange *, struct upstream_try *);
static enum upstream_status fail_tcp(struct upstream_exchange *, unsigned,
		    uint64_t);
static enum upstream_status judge(struct upstream_exchange *, unsigned,
		    uint8_t *, size_t, uint64_t);
static enum verdict match(const struct upstream_exchange *,
		    const struct upstream_try *, uint8_t *, size_t);
static enum upstream_status suspect(struct upstream_exchange *, unsigned,
		    enum verdict, uint64_t);
static struct health *health_of(const struct upstream_exchange *,
		    unsigned);

enum upstream_status
upstream_start(struct upstream_exchange *x, const struct upstreams *upstreams,
    struct poller *poller, uint32_t tag, const uint8_t *key, size_t key_len,
    uint8_t *stream, uint64_t now_us)
{
	prepare(x, upstreams, poller, tag, key, key_len, now_us);
	x->end_us = now_us + upstreams->timeout_us;
	x->stream = stream;
	order_make(x);
	return (go_on(x, now_us));
}

static void
prepare(struct upstream_exchange *x, const struct upstreams *upstreams,
    struct poller *poller, uint32_t tag, const uint8_t *key, size_t key_len,
    uint64_t now_us)
{
	unsigned i;

	memset(x, 0, sizeof(*x));
	x->upstreams = upstreams;
	x->poller = poller;
	x->tag = tag;
	memcpy(x->key, key, key_len);
	x->key_len = key_len;
	x->rcode = DNS_RCODE_SERVFAIL;
	for (i = 0; i < UPSTREAM_SOCKETS; i++)
		x->tries[i].fd = -1;
	for (i = 0; i < upstreams->count; i++) {
		if (upstreams->health[i]->flat_us > now_us)
			x->flat |= 1 << i;
	}
}

/* Those that are up in the configured order, then those that are down. */
static void
order_make(struct upstream_exchange *x)
{
	uint16_t down = 0;
	size_t i, n = 0;

	for (i = 0; i < x->upstreams->count; i++) {
		if (health_of(x, i)->down)
			down |= 1 << i;
		else
			x->order[n++] = i;
	}
	for (i = 0; i < x->upstreams->count; i++) {
		if (down & 1 << i)
			x->order[n++] = i;
	}
}

enum upstream_status
upstream_probe(struct upstream_exchange *x, const struct upstreams *upstreams,
    struct poller *poller, uint32_t tag, const uint8_t *key, size_t key_len,
    uint64_t now_us)
{
	struct health *health;
	uint64_t probed;
	size_t i;

	for (i = 0; i < upstreams->count; i++) {
		health = upstreams->health[i];
		probed = health->probed_us;
		if (!health->down || now_us < probed + PROBE_US ||
		    !atomic_compare_exchange_strong(&health->probed_us,
		    &probed, now_us))
			continue;
		prepare(x, upstreams, poller, tag, key, key_len, now_us);
		x->end_us = now_us + PROBE_US;
		x->step = UINT8_MAX;	/* this one, and no other */
		x->no_tcp = UINT16_MAX;
		x->next_us = UINT64_MAX;
		return (try_udp(x, i, now_us) == 0 ? waiting(x) :
		    UPSTREAM_FAILED);
	}
	return (UPSTREAM_FAILED);
}

/* Make the next try.  FAILED: there is none to make and none open. */
static enum upstream_status
go_on(struct upstream_exchange *x, uint64_t now_us)
{
	unsigned count = x->upstreams->count, upstream, i;
	unsigned tries = count == 1 ? ROUNDS_ALONE : ROUNDS * count;

	while (x->step < tries + x->more) {
		upstream = x->order[x->step++ % count];
		if (x->spent & 1 << upstream)
			continue;
		if (try_udp(x, upstream, now_us) == 0) {
			x->next_us = now_us + wait_us(x, upstream);
			return (waiting(x));
		}
	}
	x->next_us = UINT64_MAX;
	for (i = 0; i < UPSTREAM_SOCKETS; i++) {
		if (x->tries[i].fd != -1)
			return (waiting(x));
	}
	return (finish(x, UPSTREAM_FAILED));
}

/* A try came to nothing.  Go on at once if it was the current one. */
static enum upstream_status
fail_try(struct upstream_exchange *x, unsigned place, uint64_t now_us)
{
	unsigned i;
	bool open = false;

	try_close(x, place);
	for (i = 0; i < UPSTREAM_SOCKETS; i++)
		open |= x->tries[i].fd != -1;
	if (place == x->current || !open)
		return (go_on(x, now_us));
	return (waiting(x));
}

/* An upstream said no: it is not asked again, nor is more heard of it. */
static enum upstream_status
fail_upstream(struct upstream_exchange *x, unsigned place, uint64_t now_us)
{
	unsigned upstream = x->tries[place].upstream, i;

	x->spent |= 1 << upstream;
	for (i = 0; i < UPSTREAM_SOCKETS; i++) {
		if (x->tries[i].upstream == upstream)
			try_close(x, i);
	}
	if (x->tries[x->current].fd == -1)
		x->current = place;
	return (fail_try(x, place, now_us));
}

static enum upstream_status
waiting(struct upstream_exchange *x)
{
	x->wake_us = x->next_us < x->end_us ? x->next_us : x->end_us;
	return (UPSTREAM_WAITING);
}

static enum upstream_status
finish(struct upstream_exchange *x, enum upstream_status status)
{
	upstream_cancel(x);
	return (status);
}

void
upstream_cancel(struct upstream_exchange *x)
{
	unsigned i;

	for (i = 0; i < UPSTREAM_SOCKETS; i++)
		try_close(x, i);
}

/* Is there nothing to go on to but what has been asked already? */
static bool
is_last(const struct upstream_exchange *x)
{
	return (x->step % x->upstreams->count == 0);
}

/* For how long to wait for a reply before the next try. */
static uint64_t
wait_us(const struct upstream_exchange *x, unsigned upstream)
{
	const struct health *health = health_of(x, upstream);
	uint64_t wait = WAIT_MAX_US;

	if (health->srtt_us != 0)
		wait = health->srtt_us + 4 * (uint64_t)health->rttvar_us;
	if (wait < WAIT_MIN_US)
		wait = WAIT_MIN_US;
	if (wait > WAIT_MAX_US)
		wait = WAIT_MAX_US;
	if (x->step > x->upstreams->count)
		wait *= 2;
	if (is_last(x)) {
		wait = WAIT_LAST_US;
		if (wait > x->upstreams->timeout_us / 2)
			wait = x->upstreams->timeout_us / 2;
	}
	return (wait);
}

enum upstream_status
upstream_due(struct upstream_exchange *x, uint64_t now_us)
{
	struct upstream_try *try = &x->tries[x->current];

	if (now_us < x->wake_us)
		return (UPSTREAM_WAITING);
	if (try->fd != -1 && !try->counted) {
		try->counted = true;
		atomic_fetch_add(&health_of(x, try->upstream)->timeouts, 1);
		health_lost(health_of(x, try->upstream), now_us);
	}
	if (now_us >= x->end_us)
		return (finish(x, UPSTREAM_FAILED));
	return (go_on(x, now_us));
}

enum upstream_status
upstream_again(struct upstream_exchange *x, uint64_t now_us)
{
	const struct upstream_try *try = &x->tries[x->current];

	if (try->fd != -1 && try->tcp)
		return (waiting(x));	/* nothing is lost there */
	x->more = 1;
	/* What made us lose the newest try may not be over yet. */
	if (now_us >= try->sent_us + AGAIN_US)
		return (go_on(x, now_us));
	if (x->next_us > try->sent_us + AGAIN_US)
		x->next_us = try->sent_us + AGAIN_US;
	return (waiting(x));
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
	try_close(x, oldest);
	return (oldest);
}

static void
try_close(struct upstream_exchange *x, unsigned place)
{
	struct upstream_try *try = &x->tries[place];

	if (try->fd != -1)
		poller_close(x->poller, try->fd);
	try->fd = -1;
}

/* Send one datagram.  Returns 0, or -1: it could not be sent. */
static int
try_udp(struct upstream_exchange *x, unsigned upstream, uint64_t now_us)
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
		try_close(x, place);
		return (-1);
	}
	x->current = place;
	return (0);
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

/* Connect.  Returns 0, or -1: it can't be connected to. */
static int
try_tcp(struct upstream_exchange *x, unsigned upstream, uint64_t now_us)
{
	struct health *health = health_of(x, upstream);
	struct upstream_try *try;
	struct sockaddr_storage ss;
	socklen_t len;
	unsigned place;

	for (place = 0; place < UPSTREAM_SOCKETS; place++) {
		if (x->tries[place].tcp)	/* there is one stream */
			try_close(x, place);
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
		try_close(x, place);
		return (-1);
	}
	x->current = place;
	x->next_us = now_us + WAIT_TCP_US;
	return (0);
}

enum upstream_status
upstream_ready(struct upstream_exchange *x, unsigned place, uint8_t *buf,
    uint64_t now_us)
{
	struct upstream_try *try = &x->tries[place];
	struct health *health;
	ssize_t n;

	if (try->fd == -1)
		return (UPSTREAM_WAITING);	/* closed just before */
	if (try->tcp)
		return (tcp_ready(x, place, now_us));
	n = recv(try->fd, buf, DNS_MESSAGE_MAX, 0);
	if (n >= 0)
		return (judge(x, place, buf, n, now_us));
	if (errno == EAGAIN || errno == EINTR)
		return (UPSTREAM_WAITING);
	health = health_of(x, try->upstream);
	atomic_fetch_add(&health->errors, 1);
	health_lost(health, now_us);
	return (fail_try(x, place, now_us));
}

static enum upstream_status
tcp_ready(struct upstream_exchange *x, unsigned place, uint64_t now_us)
{
	struct upstream_try *try = &x->tries[place];
	size_t want = x->stream_len < 2 ? 2 :
	    2 + (size_t)dns_get16(x->stream);
	ssize_t n;

	if (!x->stream_sent)
		return (tcp_send(x, try) == 0 ? UPSTREAM_WAITING :
		    fail_tcp(x, place, now_us));
	do {
		n = recv(try->fd, x->stream + x->stream_len,
		    want - x->stream_len, 0);
		if (n == -1 && (errno == EAGAIN || errno == EINTR))
			return (UPSTREAM_WAITING);
		if (n <= 0)
			return (fail_tcp(x, place, now_us));
		x->stream_len += n;
		if (x->stream_len >= 2)
			want = 2 + (size_t)dns_get16(x->stream);
	} while (x->stream_len < want);
	return (judge(x, place, x->stream + 2, want - 2, now_us));
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

/* The upstream serves no TCP, or not well. */
static enum upstream_status
fail_tcp(struct upstream_exchange *x, unsigned place, uint64_t now_us)
{
	unsigned upstream = x->tries[place].upstream;

	x->no_tcp |= 1 << upstream;
	atomic_fetch_add(&health_of(x, upstream)->errors, 1);
	return (fail_try(x, place, now_us));
}

/* A message came for a try. */
static enum upstream_status
judge(struct upstream_exchange *x, unsigned place, uint8_t *buf, size_t len,
    uint64_t now_us)
{
	struct upstream_try *try = &x->tries[place];
	struct health *health = health_of(x, try->upstream);
	enum verdict verdict = match(x, try, buf, len);
	unsigned upstream = try->upstream;

	if (verdict == MISMATCH || verdict == MISMATCH_CASE)
		return (suspect(x, place, verdict, now_us));
	health_replied(health, try->tcp ? 0 : now_us - try->sent_us + 1,
	    now_us);
	switch (verdict) {
	case GOOD:
		/* What was asked flat, as is known, tells nothing new. */
		if ((try->flat && health->flat_us < now_us) ||
		    memcmp(buf + DNS_HEADER_LEN, try->name,
		    dns_key_name_len(x->key_len)) != 0)
			health->flat_us = now_us + FLAT_US;
		x->reply = buf;
		x->reply_len = len;
		return (finish(x, UPSTREAM_ANSWERED));
	case TRUNCATED:
		x->truncated = true;
		if (!try->tcp && !(x->no_tcp & 1 << upstream)) {
			try_close(x, place);
			if (try_tcp(x, upstream, now_us) == 0)
				return (waiting(x));
		}
		return (fail_upstream(x, place, now_us));
	case NO_EDNS:
		x->no_edns |= 1 << upstream;
		try_close(x, place);
		if (try_udp(x, upstream, now_us) == 0)
			return (waiting(x));
		return (fail_try(x, place, now_us));
	default:
		x->rcode = dns_get16(buf + 2) & DNS_FLAG_RCODE;
		return (fail_upstream(x, place, now_us));
	}
}

static enum verdict
match(const struct upstream_exchange *x, const struct upstream_try *try,
    uint8_t *buf, size_t len)
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

/*
 * A packet that is not the reply: count it and let it pass, but trust this
 * socket no more.
 */
static enum upstream_status
suspect(struct upstream_exchange *x, unsigned place, enum verdict verdict,
    uint64_t now_us)
{
	struct upstream_try *try = &x->tries[place];
	unsigned upstream = try->upstream;

	atomic_fetch_add(&health_of(x, upstream)->mismatches, 1);
	if (verdict == MISMATCH_CASE)
		x->flat |= 1 << upstream;
	if (try->tcp)
		return (fail_tcp(x, place, now_us));
	if (x->no_tcp & 1 << upstream && x->tolerated++ < TOLERATED_MAX)
		return (UPSTREAM_WAITING);
	try_close(x, place);
	if (!(x->no_tcp & 1 << upstream)) {
		x->more = 1;	/* should TCP fail at the end of the list */
		if (try_tcp(x, upstream, now_us) == 0)
			return (waiting(x));
		x->no_tcp |= 1 << upstream;
	}
	return (fail_try(x, place, now_us));
}

static struct health *
health_of(const struct upstream_exchange *x, unsigned upstream)
{
	return (x->upstreams->health[upstream]);
}

