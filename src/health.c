/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * What all workers know of the upstreams: round trips, losses, up or down.  It
 * lies in the segment and is kept in atomics without a lock: it only changes
 * the order in which upstreams are asked, so a lost update of a mean does no
 * harm.  The first worker that meets a dead upstream spares the others its
 * wait.
 */

#include <string.h>

#include "health.h"
#include "log.h"

#define DOWN_LOSSES	3	/* in a row, and then */
#define DOWN_SILENCE_US	1000000	/* no reply to anything for so long */

static void	health_rtt(struct health *, uint32_t);

void
health_assign(struct upstreams *upstreams, const struct addr *addr,
    size_t count, struct health *table, size_t max,
    const struct upstreams *used)
{
	struct health *health;
	size_t i, k, at;
	bool taken;

	upstreams->count = count;
	for (i = 0; i < count; i++) {
		upstreams->health[i] = NULL;
		for (at = 0; at < max; at++) {
			if (addr_equal(&table[at].addr, &addr[i]))
				upstreams->health[i] = &table[at];
		}
	}
	/* A place that was never used first: others may still be looked at. */
	for (i = 0, at = 0; i < count; i++) {
		for (; upstreams->health[i] == NULL && at < 2 * max; at++) {
			health = &table[at % max];
			taken = at < max && health->addr.family != AF_UNSPEC;
			for (k = 0; k < count; k++)
				taken |= upstreams->health[k] == health;
			for (k = 0; used != NULL && k < used->count; k++)
				taken |= used->health[k] == health;
			if (taken)
				continue;
			memset(health, 0, sizeof(*health));
			health->addr = addr[i];
			upstreams->health[i] = health;
		}
	}
}

void
health_replied(struct health *health, uint64_t rtt_us,
    uint64_t now_us)
{
	char text[ADDR_TEXT_MAX];
	unsigned bucket = 0;

	health->replied_us = now_us;
	health->losses = 0;
	if (health->down && atomic_exchange(&health->down, 0))
		log_info("upstream %s is up again",
		    addr_print(text, &health->addr));
	atomic_fetch_add(&health->replies, 1);
	if (rtt_us == 0)
		return;
	health_rtt(health, rtt_us < UINT32_MAX / 8 ? rtt_us : UINT32_MAX / 8);
	atomic_fetch_add(&health->latency_us, rtt_us);
	while (bucket < UPSTREAM_BUCKETS - 1 && rtt_us >> (bucket + 1) != 0)
		bucket++;
	atomic_fetch_add(&health->histogram[bucket], 1);
}

/* Smoothed as in RFC 6298 2. */
static void
health_rtt(struct health *health, uint32_t rtt_us)
{
	uint32_t srtt = health->srtt_us, rttvar = health->rttvar_us, apart;

	if (srtt == 0) {
		health->rttvar_us = rtt_us / 2;
		health->srtt_us = rtt_us;
		return;
	}
	apart = srtt > rtt_us ? srtt - rtt_us : rtt_us - srtt;
	health->rttvar_us = rttvar - rttvar / 4 + apart / 4;
	health->srtt_us = srtt - srtt / 8 + rtt_us / 8;
}

void
health_lost(struct health *health, uint64_t now_us)
{
	uint32_t losses = atomic_fetch_add(&health->losses, 1) + 1;
	char text[ADDR_TEXT_MAX];

	if (losses < DOWN_LOSSES || health->down ||
	    (health->replied_us != 0 &&
	    now_us < health->replied_us + DOWN_SILENCE_US))
		return;
	health->probed_us = now_us;
	if (!atomic_exchange(&health->down, 1))
		log_warn("upstream %s is down: no reply to %u queries",
		    addr_print(text, &health->addr), losses);
}
