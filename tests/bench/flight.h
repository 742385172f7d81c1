/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef FLIGHT_H
#define FLIGHT_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "wire.h"

#define FLIGHT_SOCKETS	64
#define FLIGHT_BATCH	64	/* queries in one call */
#define FLIGHT_BUCKETS	3200	/* of latencies, 128 to a power of two */

struct flight_query {
	uint32_t	 number;	/* of the name, plus 1; 0: none */
	uint32_t	 sent_ns;	/* modulo 2^32 */
};

/* A socket and the queries that left by it; the ID is the place in ring. */
struct flight_socket {
	int		 fd;
	uint32_t	 oldest, next;	/* modulo the ring's length */
	unsigned	 under_way;
	struct flight_query *ring;	/* NULL: nobody waits for replies */
};

struct flight {
	struct flight_socket socket[FLIGHT_SOCKETS];
	struct pollfd	*pfd;		/* the caller's, one a socket */
	unsigned	 sockets;
	uint32_t	 timeout_ns;
	uint64_t	 under_way;
	uint64_t	 replies;	/* true ones, counted or not */

	/* What became of the queries that were sent while counting. */
	bool		 counting;
	uint64_t	 sent;
	uint64_t	 received;	/* true answers */
	uint64_t	 failed;	/* an rcode */
	uint64_t	 wrong;
	uint64_t	 lost;		/* nothing in time */
	uint64_t	 late;		/* replies after that, or twice */
	uint32_t	 bucket[FLIGHT_BUCKETS];

	/* Called for each query that got no true answer in time, or NULL. */
	void		(*missed)(uint32_t number);

	uint8_t		 query[FLIGHT_BATCH][WIRE_QUERY_LEN];
};

/*
 * Open sockets to a port of 127.0.0.1, for names of one kind.  heard says if
 * replies are waited for.  pfd is filled in for who wants to poll.
 */
void	 flight_open(struct flight *flight, struct pollfd *pfd, uint16_t port,
	    unsigned sockets, char kind, bool heard, unsigned timeout_ms);

/* Send up to FLIGHT_BATCH queries by one of the sockets. */
void	 flight_send(struct flight *flight, unsigned socket,
	    const uint32_t *numbers, unsigned n);

/* Take the replies that poll() found.  Returns how many there were. */
unsigned flight_collect(struct flight *flight);

/* Give up what is too old. */
void	 flight_expire(struct flight *flight);

/* Microseconds within which that share of the answers came. */
double	 flight_within_us(const struct flight *flight, double share);

#endif
