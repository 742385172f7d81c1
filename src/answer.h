/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef ANSWER_H
#define ANSWER_H

#include <stddef.h>
#include <stdint.h>

#include "dns.h"

/*
 * The fixed part of a value.  Behind it are the offsets of the TTLs in the
 * message, one for each record, and the message from the end of its question.
 */
struct answer_value {
	uint64_t	 stored_ms:56;	/* mono_boot_ms() */
	uint64_t	 failed_s:8;	/* of a SERVFAIL: how long it is kept */
	uint16_t	 flags;		/* of the message's header */
	uint16_t	 count[3];	/* records in the sections */
};
_Static_assert(sizeof(struct answer_value) == 16, "small, since many");

#define ANSWER_VALUE_MAX	(sizeof(struct answer_value) + \
    DNS_MESSAGE_MAX / 11 * sizeof(uint16_t) + DNS_MESSAGE_MAX)

/*
 * Room that answer_write() needs in front of a value for the question, and
 * behind it for an OPT.
 */
#define ANSWER_FRONT		256
#define ANSWER_SPARE		DNS_OPT_LEN

/*
 * Values stand in memory that is aligned for struct answer_value.
 *
 * Make a value of a message that an upstream sent (it is changed in the
 * course).  Returns its length, and what dns_reply_parse() found in *reply;
 * 0 if the message is malformed.
 */
size_t	 answer_pack(uint8_t value[ANSWER_VALUE_MAX], uint8_t *msg, size_t len,
	    uint64_t now_ms, struct dns_reply *reply);

/*
 * Make a value that says SERVFAIL, for a question that had one for `before'
 * seconds (0: none).  failed_s gets for how long to keep it: 1, doubling to
 * 5 (RFC 9520 3.2).  Returns its length.
 */
size_t	 answer_pack_failure(struct answer_value *value, uint64_t now_ms,
	    unsigned before);

/*
 * Make the reply to query out of the value for its question, in the value's
 * own memory, which holds have bytes of its value_len, with ANSWER_FRONT bytes
 * before and ANSWER_SPARE behind them.
 * limit is the longest reply that the client takes; one that would be longer
 * (or of which have is too short) is empty and has TC set.  *reply points at
 * the reply.  Returns its length, or 0 if the value makes no sense.
 */
size_t	 answer_write(uint8_t *value, size_t have, size_t value_len,
	    const struct dns_query *query, size_t limit, uint64_t now_ms,
	    uint8_t **reply);

/* The longest reply that may go to a client over UDP. */
size_t	 answer_udp_limit(const struct dns_query *query);

#endif
