/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef UPSTREAM_TRY_H
#define UPSTREAM_TRY_H

/* What upstream.c and upstream_try.c know of a try, and no one else. */

#include "upstream.h"

/* What a packet is to the try that it came for. */
enum verdict {
	GOOD,
	TRUNCATED,
	BAD,		/* an rcode that another upstream may not have */
	NO_EDNS,	/* it may understand the question without EDNS */
	MISMATCH,
	MISMATCH_CASE	/* but for the case of letters it would match */
};

static inline struct health *
health_of(const struct upstream_exchange *x, unsigned upstream)
{
	return (x->upstreams->health[upstream]);
}

/*
 * Make a try, which is then the current one, in a free place or that of the
 * oldest.  By UDP: send the datagram.  By TCP: connect, in place of the stream
 * there may be.  Return 0, or -1: it can't be sent, or connected to; only for
 * UDP is that counted.
 */
int	 upstream_try_udp(struct upstream_exchange *x, unsigned upstream,
	    uint64_t now_us);
int	 upstream_try_tcp(struct upstream_exchange *x, unsigned upstream,
	    uint64_t now_us);

/*
 * The socket of an open try is ready: send what is to be sent, receive what
 * there is.  Returns 1, and *msg points at a message of *len bytes, in buf
 * (DNS_MESSAGE_MAX bytes) or in the exchange's stream; or 0: there is none
 * yet; or -1: the try failed.
 */
int	 upstream_try_ready(struct upstream_exchange *x, unsigned place,
	    uint8_t *buf, uint8_t **msg, size_t *len);

/* Is the message the try's reply?  buf is changed as by dns_reply_parse(). */
enum verdict upstream_try_match(const struct upstream_exchange *x,
	    const struct upstream_try *try, uint8_t *buf, size_t len);

/* Close a try's socket if it is open. */
void	 upstream_try_close(struct upstream_exchange *x, unsigned place);

#endif
