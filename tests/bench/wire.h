/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef WIRE_H
#define WIRE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_NAME_LEN	21
#define WIRE_QUERY_LEN	(12 + WIRE_NAME_LEN + 4)
#define WIRE_ANSWER_LEN	16	/* an A record, its owner compressed */
#define WIRE_TTL	3600	/* no answer expires while it is measured */

/* What an upstream counts, in a file that others map. */
struct wire_count {
	_Atomic uint64_t queries;	/* over UDP */
	_Atomic uint64_t replies;
	_Atomic uint64_t silent;	/* for names that nobody answers */
	_Atomic uint64_t dropped;	/* too many replies waited */
	_Atomic uint64_t tcp;		/* queries over TCP */
};

/* What a reply is. */
enum wire_verdict {
	WIRE_TRUE,
	WIRE_FAILED,			/* an rcode other than NOERROR */
	WIRE_WRONG			/* not the answer to this question */
};

/*
 * The query for a name: a letter for the kind, a number, a zone of 4,096, and
 * live or dead.  Nobody answers what is dead.  wire_query_init() writes all
 * but what wire_query_set() then sets, again and again.
 */
void	 wire_query_init(uint8_t buf[WIRE_QUERY_LEN], char kind, bool dead);
void	 wire_query_set(uint8_t buf[WIRE_QUERY_LEN], uint16_t id,
	    uint32_t number);

/* The one true address of a name, whatever the case of its letters. */
uint32_t wire_address(const uint8_t *name, size_t len);

/*
 * Append the A record for the question at 12, whose name is name_len bytes.
 * There must be room for WIRE_ANSWER_LEN bytes at buf + len.
 */
void	 wire_answer_append(uint8_t *buf, size_t len, size_t name_len,
	    uint32_t ttl);

/* Judge a reply whose ID is right to the query that was sent. */
enum wire_verdict wire_reply_judge(const uint8_t *buf, size_t len,
	    const uint8_t query[WIRE_QUERY_LEN]);

/* CLOCK_MONOTONIC. */
uint64_t wire_now_ns(void);

/* A UDP socket on 127.0.0.1 that shares its port; exits if there is none. */
int	 wire_listen(uint16_t port);

/* A number within bounds, from the command line; exits if it is none. */
uint64_t wire_number(const char *text, uint64_t min, uint64_t max);

#endif
