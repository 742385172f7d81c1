/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The counters of a process and their names.  Each process has a set of its
 * own, so that counting costs no locked instruction and no shared cache line;
 * the total is their sum.  The set lies in the process's slot and outlives
 * it: nothing counted is lost with a process.
 */

#include "metrics.h"

static const char *const names[METRIC_COUNT] = {
	[METRIC_QUERIES] = "queries",
	[METRIC_REPLIES] = "replies",
	[METRIC_DROP_MALFORMED] = "drop-malformed",
	[METRIC_DROP_PORT] = "drop-port",
	[METRIC_DROP_DENIED] = "drop-denied",
	[METRIC_DROP_QUEUE] = "drop-queue",
	[METRIC_DROP_STALE] = "drop-stale",
	[METRIC_DROP_DUPLICATE] = "drop-duplicate",
	[METRIC_DROP_BUSY] = "drop-busy",
	[METRIC_DROP_WRITE] = "drop-write",
	[METRIC_DROP_GONE] = "drop-gone",
	[METRIC_HITS] = "hits",
	[METRIC_MISSES] = "misses",
	[METRIC_COALESCED] = "coalesced",
	[METRIC_REFUSED] = "refused",
	[METRIC_SERVFAIL] = "servfail",
	[METRIC_HANDLER_ERRORS] = "handler-errors",
	[METRIC_WRITE_ERRORS] = "write-errors",
	[METRIC_TCP_QUERIES] = "tcp-queries",
	[METRIC_TCP_CONNECTIONS] = "tcp-connections",
	[METRIC_TCP_CLOSED_CLIENT] = "tcp-closed-client",
	[METRIC_TCP_CLOSED_IDLE] = "tcp-closed-idle",
	[METRIC_TCP_CLOSED_SLOW] = "tcp-closed-slow",
	[METRIC_TCP_CLOSED_UNREAD] = "tcp-closed-unread",
	[METRIC_TCP_CLOSED_MALFORMED] = "tcp-closed-malformed",
	[METRIC_TCP_CLOSED_LIMIT] = "tcp-closed-limit",
};

const char *
metrics_name(enum metric metric)
{
	return (names[metric]);
}

void
metrics_sum(uint64_t sum[METRIC_COUNT], const struct metrics *metrics)
{
	int i;

	for (i = 0; i < METRIC_COUNT; i++)
		sum[i] += metrics_get(metrics, i);
}
