/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef HEALTH_H
#define HEALTH_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"

#define UPSTREAM_MAX		16	/* OPTIONS_ADDRS_MAX */
#define UPSTREAM_BUCKETS	24	/* of the histogram: 1 us to 8 s */

/* What all the workers know of one upstream; in the segment. */
struct health {
	/* Set before fork. */
	struct addr		 addr;

	/* Atomic. */
	_Atomic uint32_t	 srtt_us;	/* 0: not known yet */
	_Atomic uint32_t	 rttvar_us;
	_Atomic uint32_t	 losses;	/* in a row */
	_Atomic uint32_t	 down;
	_Atomic uint64_t	 flat_us;	/* till then: keeps no letter case */
	_Atomic uint64_t	 replied_us;	/* when it last did; 0: never */
	_Atomic uint64_t	 probed_us;	/* when it last was, while down */
	_Atomic uint64_t	 queries;
	_Atomic uint64_t	 replies;
	_Atomic uint64_t	 timeouts;
	_Atomic uint64_t	 mismatches;
	_Atomic uint64_t	 errors;	/* refused, unreachable, garbage */
	_Atomic uint64_t	 latency_us;	/* the sum over replies */
	_Atomic uint64_t	 histogram[UPSTREAM_BUCKETS];	/* by log2 us */
};

/* The upstreams in the order of preference; the same in every worker. */
struct upstreams {
	size_t			 count;
	uint64_t		 timeout_us;	/* for one question, in all */
	struct health	*health[UPSTREAM_MAX];
};

/*
 * Point upstreams at the entries of table (max of them) that hold its
 * addresses, taking entries that used does not point at for new ones.  The
 * master calls it before it forks.  used may be NULL.
 */
void	 health_assign(struct upstreams *upstreams, const struct addr *addr,
	    size_t count, struct health *table, size_t max,
	    const struct upstreams *used);

/*
 * A true reply came; rtt_us is 0 where it says nothing of the path.  Or a try
 * was waited for in vain.  now_us is mono_us().
 */
void	 health_replied(struct health *health, uint64_t rtt_us,
	    uint64_t now_us);
void	 health_lost(struct health *health, uint64_t now_us);

#endif
