/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The counters in the log: name=value, a line for each matter.  It reads
 * atomics alone, so it can be done at any time by anyone.
 */

#include <sys/socket.h>

#include <stdio.h>
#include <string.h>

#ifdef __linux__
#include <linux/sock_diag.h>
#endif

#include "cache.h"
#include "log.h"
#include "metrics.h"
#include "pending.h"
#include "stats.h"

#define LINE_MAX_BYTES	900	/* within LOG_LINE_MAX */

struct line {
	char	 text[LINE_MAX_BYTES];
	size_t	 len;
};

static void	add(struct line *, const char *, uint64_t);
static void	log_queries(const struct server *);
static void	log_cache(const struct server *);
static void	log_upstream(const struct health *);
static int	kernel_drops(const struct server *, uint64_t *);

void
stats_log(const struct server *server)
{
	size_t i;

	if (!log_is_on(LOG_LEVEL_INFO))
		return;
	log_queries(server);
	log_cache(server);
	for (i = 0; i < server->upstreams.count; i++)
		log_upstream(server->upstreams.health[i]);
}

static void
add(struct line *line, const char *name, uint64_t value)
{
	int n;

	n = snprintf(line->text + line->len, sizeof(line->text) - line->len,
	    " %s=%llu", name, (unsigned long long)value);
	if (n > 0 && line->len + n < sizeof(line->text))
		line->len += n;
}

static void
log_queries(const struct server *server)
{
	uint64_t sum[METRIC_COUNT] = { 0 }, drops = 0;
	struct line line = { .len = 0 };
	unsigned i;

	for (i = 0; i < server->sockets + server->streams + server->workers;
	    i++)
		metrics_sum(sum, &server->slots[i].metrics);
	for (i = METRIC_DROP_FIRST; i <= METRIC_DROP_LAST; i++)
		drops += sum[i];
	for (i = 0; i < METRIC_TCP_QUERIES; i++)
		add(&line, metrics_name(i), sum[i]);
	add(&line, "drops", drops);
	if (kernel_drops(server, &drops) == 0)
		add(&line, "kernel-drops", drops);
	else
		strlcat(line.text, " kernel-drops=unknown", sizeof(line.text));
	log_info("stats:%s", line.text);
	line.len = 0;
	for (; i < METRIC_COUNT; i++)
		add(&line, metrics_name(i), sum[i]);
	log_info("stats:%s", line.text);
}

static void
log_cache(const struct server *server)
{
	struct line line = { .len = 0 };
	struct pending_stats pending;
	struct cache_stats cache;

	cache_count(server->cache, &cache);
	pending_count(server->pending, &pending);
	add(&line, "entries", cache.entries);
	add(&line, "evictions", cache.evictions);
	add(&line, "cache-rebuilds", cache.rebuilds);
	add(&line, "asking", pending.asking);
	add(&line, "queued", pending.queued);
	add(&line, "waiting", pending.waiters);
	add(&line, "pending-rebuilds", pending.rebuilds);
	log_info("stats:%s", line.text);
}

static void
log_upstream(const struct health *health)
{
	struct line line = { .len = 0 };
	char address[ADDR_TEXT_MAX], name[32];
	unsigned i;

	add(&line, "queries", health->queries);
	add(&line, "replies", health->replies);
	add(&line, "timeouts", health->timeouts);
	add(&line, "mismatches", health->mismatches);
	add(&line, "errors", health->errors);
	add(&line, "srtt-us", health->srtt_us);
	add(&line, "latency-us", health->latency_us);
	add(&line, "down", health->down);
	for (i = 0; i < UPSTREAM_BUCKETS; i++) {
		if (health->histogram[i] == 0)
			continue;
		snprintf(name, sizeof(name), "from-%lluus", 1ULL << i);
		add(&line, name, health->histogram[i]);
	}
	log_info("stats: upstream %s%s", addr_print(address, &health->addr),
	    line.text);
}

/* Datagrams that the kernel had no room for.  -1: it doesn't say. */
static int
kernel_drops(const struct server *server, uint64_t *drops)
{
#if defined(SO_MEMINFO) && defined(__linux__)
	uint32_t info[SK_MEMINFO_VARS];
	socklen_t len;
	unsigned i;

	*drops = 0;
	for (i = 0; i < server->sockets; i++) {
		len = sizeof(info);
		if (getsockopt(server->socket[i].fd, SOL_SOCKET, SO_MEMINFO,
		    info, &len) == -1 || len <= SK_MEMINFO_DROPS *
		    sizeof(info[0]))
			return (-1);
		*drops += info[SK_MEMINFO_DROPS];
	}
	return (0);
#else
	(void)server;
	(void)drops;
	return (-1);
#endif
}
