/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Asking the upstreams one question, until one gives a true answer or all have
 * failed: whom to try next and when, and what follows from what came.  An
 * exchange makes sockets, but never waits and reads no clock: the worker calls
 * it when a socket is ready or wake_us has come.
 *
 * The tries, each made by upstream_try.c, go through the upstreams in order,
 * up ones first, and then once more; one alone that is up, twice more.  Up to
 * UPSTREAM_SOCKETS of them stay open, so that a late reply still counts; the
 * newest, `current', decides when to go on.
 *
 * Only a reply that matches its try is looked at.  What does not match is a
 * mistake or a forgery: from then on this question is asked over TCP, so that
 * a forger has one guess.  An upstream that serves no TCP is asked once more
 * from a fresh socket, where a few mismatches are let pass.
 *
 * What is known of the upstreams' health only changes the order of the tries,
 * and spares the last one where it is of least use; never the outcome.
 */

#include <string.h>

#include "upstream_try.h"

#define WAIT_MIN_US	50000
#define WAIT_MAX_US	400000		/* while there is another to ask */
#define WAIT_LAST_US	950000		/* before the list is begun again */
#define WAIT_TCP_US	1000000		/* connect and read, while others are */
#define AGAIN_US	300000		/* till a try that a client wants */
#define ROUNDS		2		/* through the list, or */
#define ROUNDS_ALONE	3		/* if one, up, is all of it */
#define PROBE_US	1000000
#define FLAT_US		600000000	/* then it is found out again */
#define TOLERATED_MAX	16		/* mismatches where there is no TCP */

static void	prepare(struct upstream_exchange *, const struct upstreams *,
		    struct poller *, uint32_t, const uint8_t *, size_t,
		    uint64_t);
static void	order_make(struct upstream_exchange *);
static enum upstream_status go_on(struct upstream_exchange *, uint64_t);
static enum upstream_status fail_try(struct upstream_exchange *, unsigned,
		    uint64_t);
static enum upstream_status fail_upstream(struct upstream_exchange *,
		    unsigned, uint64_t);
static enum upstream_status fail_tcp(struct upstream_exchange *, unsigned,
		    uint64_t);
static enum upstream_status waiting(struct upstream_exchange *);
static enum upstream_status fail(struct upstream_exchange *);
static bool	is_last(const struct upstream_exchange *);
static uint64_t	wait_us(const struct upstream_exchange *, unsigned);
static enum upstream_status judge(struct upstream_exchange *, unsigned,
		    uint8_t *, size_t, uint64_t);
static int	ask_tcp(struct upstream_exchange *, unsigned, uint64_t);
static enum upstream_status suspect(struct upstream_exchange *, unsigned,
		    enum verdict, uint64_t);

enum upstream_status
upstream_start(struct upstream_exchange *x, const struct upstreams *upstreams,
    struct poller *poller, uint32_t tag, const uint8_t *key, size_t key_len,
    uint8_t *stream, uint64_t now_us, uint64_t end_us)
{
	prepare(x, upstreams, poller, tag, key, key_len, now_us);
	x->end_us = end_us;
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
		return (upstream_try_udp(x, i, now_us) == 0 ?
		    waiting(x) : UPSTREAM_FAILED);
	}
	return (UPSTREAM_FAILED);
}

/* Make the next try.  FAILED: there is none to make and none open. */
static enum upstream_status
go_on(struct upstream_exchange *x, uint64_t now_us)
{
	unsigned count = x->upstreams->count, upstream, i;
	unsigned tries = ROUNDS * count;

	if (count == 1 && !health_of(x, 0)->down)
		tries = ROUNDS_ALONE;
	while (x->step < tries + x->more) {
		upstream = x->order[x->step++ % count];
		if (x->spent & 1 << upstream)
			continue;
		if (upstream_try_udp(x, upstream, now_us) == 0) {
			x->next_us = now_us + wait_us(x, upstream);
			return (waiting(x));
		}
	}
	x->next_us = UINT64_MAX;
	for (i = 0; i < UPSTREAM_SOCKETS; i++) {
		if (x->tries[i].fd != -1)
			return (waiting(x));
	}
	return (fail(x));
}

/* A try came to nothing.  Go on at once if it was the current one. */
static enum upstream_status
fail_try(struct upstream_exchange *x, unsigned place, uint64_t now_us)
{
	unsigned i;
	bool open = false;

	upstream_try_close(x, place);
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
			upstream_try_close(x, i);
	}
	if (x->tries[x->current].fd == -1)
		x->current = place;
	return (fail_try(x, place, now_us));
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

static enum upstream_status
waiting(struct upstream_exchange *x)
{
	x->wake_us = x->next_us < x->end_us ? x->next_us : x->end_us;
	return (UPSTREAM_WAITING);
}

static enum upstream_status
fail(struct upstream_exchange *x)
{
	upstream_cancel(x);
	return (UPSTREAM_FAILED);
}

void
upstream_cancel(struct upstream_exchange *x)
{
	unsigned i;

	for (i = 0; i < UPSTREAM_SOCKETS; i++)
		upstream_try_close(x, i);
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
		return (fail(x));
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

enum upstream_status
upstream_ready(struct upstream_exchange *x, unsigned place, uint8_t *buf,
    uint64_t now_us)
{
	struct upstream_try *try = &x->tries[place];
	struct health *health;
	uint8_t *msg;
	size_t len;
	int came;

	if (try->fd == -1)
		return (UPSTREAM_WAITING);	/* closed just before */
	came = upstream_try_ready(x, place, buf, &msg, &len);
	if (came == 1)
		return (judge(x, place, msg, len, now_us));
	if (came == 0)
		return (UPSTREAM_WAITING);
	if (try->tcp)
		return (fail_tcp(x, place, now_us));
	health = health_of(x, try->upstream);
	atomic_fetch_add(&health->errors, 1);
	health_lost(health, now_us);
	return (fail_try(x, place, now_us));
}

/* A message came for a try. */
static enum upstream_status
judge(struct upstream_exchange *x, unsigned place, uint8_t *buf, size_t len,
    uint64_t now_us)
{
	struct upstream_try *try = &x->tries[place];
	struct health *health = health_of(x, try->upstream);
	enum verdict verdict = upstream_try_match(x, try, buf, len);
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
		return (UPSTREAM_ANSWERED);
	case TRUNCATED:
		x->truncated = true;
		if (!try->tcp && !(x->no_tcp & 1 << upstream)) {
			upstream_try_close(x, place);
			if (ask_tcp(x, upstream, now_us) == 0)
				return (waiting(x));
		}
		return (fail_upstream(x, place, now_us));
	case NO_EDNS:
		x->no_edns |= 1 << upstream;
		upstream_try_close(x, place);
		if (upstream_try_udp(x, upstream, now_us) == 0)
			return (waiting(x));
		return (fail_try(x, place, now_us));
	default:
		x->rcode = dns_get16(buf + 2) & DNS_FLAG_RCODE;
		return (fail_upstream(x, place, now_us));
	}
}

/* Ask over TCP, which takes longer.  -1: it can't be connected to. */
static int
ask_tcp(struct upstream_exchange *x, unsigned upstream, uint64_t now_us)
{
	if (upstream_try_tcp(x, upstream, now_us) == -1)
		return (-1);
	x->next_us = now_us + WAIT_TCP_US;
	return (0);
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
	upstream_try_close(x, place);
	if (!(x->no_tcp & 1 << upstream)) {
		x->more = 1;	/* should TCP fail at the end of the list */
		if (ask_tcp(x, upstream, now_us) == 0)
			return (waiting(x));
		x->no_tcp |= 1 << upstream;
	}
	return (fail_try(x, place, now_us));
}
