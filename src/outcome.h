/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef OUTCOME_H
#define OUTCOME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "answer.h"

struct server;
struct upstream_exchange;

/* What all get who wait for a question, as reply_all() takes it. */
struct outcome {
	union {
		struct answer_value	 head;
		uint8_t			 bytes[ANSWER_VALUE_MAX];
	} value;
	size_t			 len;
	bool			 for_late;	/* who come now get it too */
};

/* index is that of a question in the pending table that the caller took. */

/* What the cache has got meanwhile.  False: nothing. */
bool	 outcome_recall(struct outcome *outcome, const struct server *server,
	    uint32_t index);

/* The exchange was answered. */
void	 outcome_answer(struct outcome *outcome, const struct server *server,
	    struct upstream_exchange *exchange);

/*
 * The exchange has failed: TC if it was for want of TCP, or the last rcode of
 * an upstream, or SERVFAIL, which is kept for 1 to 5 s (RFC 9520 3.2).
 */
void	 outcome_failure(struct outcome *outcome, const struct server *server,
	    uint32_t index, const struct upstream_exchange *exchange);

/* It was not asked to its end: SERVFAIL, which is not kept. */
void	 outcome_give_up(struct outcome *outcome, const struct server *server,
	    uint32_t index);

/*
 * The last worker died of a fault with this question in its hands.  It gets
 * SERVFAIL, from the cache too for a while, so that it kills no other; and it
 * is logged.
 */
void	 outcome_condemn(struct outcome *outcome, const struct server *server,
	    uint32_t index, unsigned worker);

#endif
