/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef METRICS_H
#define METRICS_H

#include <stdatomic.h>
#include <stdint.h>

/*
 * The counters.  METRIC_QUERIES is every message that a client's socket gave
 * us; each of them ends as METRIC_REPLIES or as one of the drops.
 */
enum metric {
	METRIC_QUERIES,
	METRIC_REPLIES,
	METRIC_DROP_MALFORMED,		/* too short, or a response */
	METRIC_DROP_PORT,		/* from a port that no client uses */
	METRIC_DROP_DENIED,		/* outside allow-from, over the rate */
	METRIC_DROP_QUEUE,		/* queue-size reached */
	METRIC_DROP_STALE,		/* waited too long in the queue */
	METRIC_DROP_DUPLICATE,		/* a retransmission; the first waits */
	METRIC_DROP_BUSY,		/* the pending table was held */
	METRIC_DROP_WRITE,		/* the reply could not be sent */
	METRIC_DROP_GONE,		/* the connection it came by is */
	METRIC_HITS,
	METRIC_MISSES,
	METRIC_COALESCED,		/* misses that joined another's */
	METRIC_REFUSED,			/* replies by rule, not from upstream */
	METRIC_SERVFAIL,		/* every upstream failed */
	METRIC_HANDLER_ERRORS,		/* system calls that failed */
	METRIC_WRITE_ERRORS,
	METRIC_TCP_QUERIES,		/* of the queries, those by TCP */
	METRIC_TCP_CONNECTIONS,		/* accepted; each is closed once by: */
	METRIC_TCP_CLOSED_CLIENT,	/* the client, or when it had all */
	METRIC_TCP_CLOSED_IDLE,
	METRIC_TCP_CLOSED_SLOW,		/* a message did not come whole */
	METRIC_TCP_CLOSED_UNREAD,	/* replies were not taken */
	METRIC_TCP_CLOSED_MALFORMED,
	METRIC_TCP_CLOSED_LIMIT,	/* to make room, or for lack of it */
	METRIC_COUNT
};
#define METRIC_DROP_FIRST	METRIC_DROP_MALFORMED
#define METRIC_DROP_LAST	METRIC_DROP_GONE

/* One process's counters: written by it alone, read by all. */
struct metrics {
	_Atomic uint64_t counter[METRIC_COUNT];
};

/* As in the log: "hits", "drop-queue". */
const char *metrics_name(enum metric metric);

static inline void
metrics_add(struct metrics *metrics, enum metric metric, uint64_t n)
{
	_Atomic uint64_t *counter = &metrics->counter[metric];

	/* No one else writes: a load and a store are enough. */
	atomic_store_explicit(counter, n +
	    atomic_load_explicit(counter, memory_order_relaxed),
	    memory_order_relaxed);
}

static inline uint64_t
metrics_get(const struct metrics *metrics, enum metric metric)
{
	return (atomic_load_explicit(&metrics->counter[metric],
	    memory_order_relaxed));
}

/* Add the counters of one process to sum. */
void	 metrics_sum(uint64_t sum[METRIC_COUNT], const struct metrics *metrics);

#endif
