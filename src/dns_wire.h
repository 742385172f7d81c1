/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef DNS_WIRE_H
#define DNS_WIRE_H

/*
 * What dns.c and dns_reply.c share, and no one else: the cursor and the walker
 * of records that dns.c's head comment describes.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dns.h"

#define TTL_MAX		0x7fffffff	/* RFC 2181 8 */

struct cursor {
	const uint8_t	*buf;
	size_t		 len;
	size_t		 at;
	bool		 failed;
};

/* A record, as offsets into its message. */
struct record {
	size_t		 owner;
	size_t		 owner_len;	/* as written: 1 is the root */
	size_t		 ttl_at;
	size_t		 rdata;
	uint32_t	 ttl;
	uint16_t	 type;
	uint16_t	 class;
	uint16_t	 rdata_len;
};

static inline void
cursor_skip(struct cursor *c, size_t n)
{
	if (c->failed || n > c->len - c->at)
		c->failed = true;
	else
		c->at += n;
}

static inline uint16_t
cursor_16(struct cursor *c)
{
	size_t at = c->at;

	cursor_skip(c, 2);
	return (c->failed ? 0 : dns_get16(c->buf + at));
}

static inline uint32_t
cursor_32(struct cursor *c)
{
	size_t at = c->at;

	cursor_skip(c, 4);
	return (c->failed ? 0 : dns_get32(c->buf + at));
}

static inline uint32_t
ttl_sane(uint32_t ttl)
{
	return (ttl > TTL_MAX ? 0 : ttl);
}

/* Step over a name.  Returns its length with all pointers followed. */
size_t	 dns_cursor_name(struct cursor *c);

void	 dns_record_read(struct cursor *c, struct record *record);

/* dst may be name. */
void	 dns_name_lower(uint8_t *dst, const uint8_t *name, size_t len);

#endif
