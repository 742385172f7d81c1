/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef PENDING_H
#define PENDING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"

#define PENDING_KEY_MAX	258	/* DNS_KEY_MAX */

struct pending;

/* A client that waits: all that its reply needs. */
struct pending_waiter {
	struct addr	 client;
	struct addr	 local;		/* what it asked; AF_UNSPEC: not known */
	uint32_t	 connection;	/* of a stream, with its generation */
	uint32_t	 generation;
	uint16_t	 socket;	/* the listener's, or above: a stream's */
	uint16_t	 id;
	uint16_t	 flags;		/* of its query */
	uint16_t	 edns_size;
	bool		 edns;
	bool		 dnssec_ok;
	bool		 keepalive;
	uint8_t		 name_case[32];	/* dns_case_save() */
};

enum pending_result {
	PENDING_GIVEN,		/* to a worker; *wake says if it must be rung */
	PENDING_QUEUED,		/* every worker is full */
	PENDING_JOINED,		/* the question was pending already */
	PENDING_DUPLICATE,	/* the same client and ID wait already */
	PENDING_FULL,		/* no room, to be dropped */
	PENDING_CROWDED,	/* no room for more of its suffix: SERVFAIL */
	PENDING_BUSY		/* the table is held: try again soon */
};

#define PENDING_NO_WORKER	UINT32_MAX

/* Sizes of a table, the same for all three calls that take them. */
struct pending_limits {
	uint32_t	 workers;
	uint32_t	 per_worker;	/* questions that one asks at once */
	uint32_t	 queue;		/* questions that may wait for a worker */
	uint32_t	 preferred;	/* workers that are filled evenly first */
};

struct pending_stats {
	uint32_t	 asking;	/* in the hands of workers */
	uint32_t	 queued;
	uint32_t	 waiters;
	uint32_t	 rebuilds;
};

/* As cache_size() and cache_format(). */
size_t	 pending_size(const struct pending_limits *limits);
int	 pending_format(struct pending *pending,
	    const struct pending_limits *limits);

/*
 * A listener's miss.  hash is the caller's keyed hash of the key.
 * *wake gets the worker whose mailbox must be rung now, or
 * PENDING_NO_WORKER; it is a member of the caller's slot, so that whoever
 * takes the slot over after a death can ring again, and is set before the
 * lock is dropped; the caller clears it when it has rung.
 */
enum pending_result pending_join(struct pending *pending, uint64_t hash,
	    const uint8_t *key, size_t key_len,
	    const struct pending_waiter *waiter, uint64_t now_ms,
	    _Atomic uint32_t *wake);

/*
 * A worker's start: what its predecessor had is given to it again, and from
 * now on it gets questions.  And its end: it gets no more.
 * Return 0, or -1 if the table is busy.
 */
int	 pending_worker_start(struct pending *pending, uint32_t worker);
void	 pending_worker_stop(struct pending *pending, uint32_t worker);

/* The master's word that a worker is dead, without a lock. */
void	 pending_worker_dead(struct pending *pending, uint32_t worker);

/* Does it get questions?  Without a lock. */
bool	 pending_worker_ready(const struct pending *pending, uint32_t worker);

/*
 * Take up to max questions: those given to this worker, then the queue's.
 * index gets them.  Returns how many, or -1 if the table is busy.
 */
int	 pending_take(struct pending *pending, uint32_t worker, uint32_t max,
	    uint64_t now_ms, uint32_t *index);

/*
 * Of a question that the caller took and has not finished: its key, its hash,
 * when its first client came, how often it was taken, and whether it is to
 * end now with SERVFAIL to make room for another.
 */
const uint8_t *pending_key(const struct pending *pending, uint32_t index,
	    size_t *key_len);
uint64_t pending_hash(const struct pending *pending, uint32_t index);
uint64_t pending_since_ms(const struct pending *pending, uint32_t index);
unsigned pending_takes(const struct pending *pending, uint32_t index);
bool	 pending_must_end(const struct pending *pending, uint32_t index);

/* Has one of its clients asked once more?  True once for each taking. */
bool	 pending_asked_again(struct pending *pending, uint32_t index);

/*
 * Of the clients that wait for a question that the caller took, the next one
 * behind waiter (0: the first) that has no reply yet; 0 at the end.  Each is
 * to be marked when it has been replied to, or never will be.  New ones may
 * come during the walk, which needs no lock.
 */
uint32_t pending_next(const struct pending *pending, uint32_t index,
	    uint32_t waiter);
const struct pending_waiter *pending_waiter(const struct pending *pending,
	    uint32_t waiter);
void	 pending_mark(struct pending *pending, uint32_t waiter);

/*
 * Free a question whose waiters are all marked.  Returns 0, or 1 if some are
 * not (reply to those and call again), or -1 if the table is busy (call again
 * later).  But for -1, *more says if there is something for pending_take().
 */
int	 pending_finish(struct pending *pending, uint32_t worker,
	    uint32_t index, bool *more);

/* Counted from the states, without a lock. */
void	 pending_count(const struct pending *pending,
	    struct pending_stats *stats);

/* For tests, as cache_check(). */
int	 pending_check(const struct pending *pending);

#endif
