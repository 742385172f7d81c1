/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef LOAD_H
#define LOAD_H

#include <sys/types.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "oracle.h"

#define LOAD_BUCKETS	1024	/* of the latencies */
#define LOAD_RETRY_MS	1000	/* till a question is asked once more */
#define LOAD_GIVE_UP_MS	2000	/* after that */
#define LOAD_NEVER	UINT64_MAX

/* What became of the questions of one kind. */
struct load_kind {
	uint64_t	 sent;		/* questions, not counting retries */
	uint64_t	 answered;	/* with the truth */
	uint64_t	 servfail;
	uint64_t	 retried;	/* no reply within LOAD_RETRY_MS */
	uint64_t	 lost;		/* no reply to the retry either */
	uint64_t	 slow;		/* answered after more than 2 s */
	uint64_t	 max_us;
	uint32_t	 bucket[LOAD_BUCKETS];
};

/* In memory shared with the generator's process. */
struct load {
	/* Set before load_begin(). */
	const struct oracle	*oracle;
	uint64_t		 seed;
	uint16_t		 port;		/* of the daemon */
	uint32_t		 rate;		/* queries/s; 0: a flood */
	uint32_t		 hot;		/* names that are hot */
	uint32_t		 share[ORACLE_KINDS];	/* of 1000 queries */
	bool			 in_turn;	/* each hot name once */

	/* Atomic; the test may write them while the load is on. */
	_Atomic uint32_t	 stop;
	_Atomic uint64_t	 cut_us;	/* later queries may be lost */

	/* Atomic; the generator writes them. */
	_Atomic uint32_t	 number;	/* the next name's */
	_Atomic uint64_t	 packets;	/* sent, with retries */
	_Atomic uint64_t	 replies;	/* datagrams that came */

	/* The generator's; to be read after load_end(). */
	struct load_kind	 kind[ORACLE_KINDS];
	uint64_t		 wrong;		/* anything but a true reply */
	uint64_t		 again;		/* true, but not the first */
	uint64_t		 beyond;	/* lost, but after cut_us */
	uint64_t		 unread;	/* replies dropped here */
	uint64_t		 errors;	/* of sending */
	uint64_t		 gap_us;	/* longest without a reply */
	uint64_t		 stall_us;	/* longest turn of ours */
	uint64_t		 took_us;
	pid_t			 pid;
};

struct load *load_new(const struct oracle *oracle);

/* Start a process that asks as load says, with all results at zero. */
void	 load_begin(struct load *load);

/* End it when all that is under way is answered or given up. */
void	 load_end(struct load *load);

/* Microseconds within which that many of 1000 answers of a kind came. */
uint64_t load_within_us(const struct load *load, enum oracle_kind kind,
	    unsigned per_mille);

/* The same sequence of numbers for the same seed. */
uint32_t load_random(uint64_t *state, uint32_t below);

/* Is it a true reply to an A question in lower case?  For other clients. */
bool	 load_is_true(const struct oracle *oracle, const uint8_t *question,
	    size_t question_len, const uint8_t *reply, size_t len,
	    unsigned *rcode);

#endif
