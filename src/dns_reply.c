/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * What an upstream's reply says: whether it is well formed, where its TTLs
 * are, and whether it may be kept, and for how long.
 */

#include <string.h>

#include "dns_wire.h"

#define TTL_CEILING	86400		/* keep nothing for longer */
#define TTL_CEILING_NEG	3600		/* nor what isn't there (RFC 2308 5) */

struct negative {
	bool		 found;		/* a SOA in the authority section */
	uint32_t	 ttl;
	size_t		 ttl_at;
};

static void	negative_read(const struct cursor *, const struct record *,
		    struct negative *);
static bool	reply_judge(struct dns_reply *, bool, uint32_t, uint32_t,
		    const struct negative *);

int
dns_reply_parse(uint8_t *buf, size_t len, struct dns_reply *reply,
    uint16_t *ttl_at, size_t ttl_max)
{
	struct cursor c = { .buf = buf, .len = len };
	struct negative negative = { .found = false };
	struct record record;
	uint32_t lowest = TTL_MAX, lowest_answer = TTL_MAX;
	uint8_t *question = buf + DNS_HEADER_LEN;
	unsigned count[3], questions, section, i;
	bool opt = false, typed = false;

	memset(reply, 0, sizeof(*reply));
	reply->id = cursor_16(&c);
	reply->flags = cursor_16(&c);
	reply->rcode = reply->flags & DNS_FLAG_RCODE;
	questions = cursor_16(&c);
	for (section = 0; section < 3; section++)
		count[section] = cursor_16(&c);
	if (questions != 1)
		return (-1);
	reply->name_len = dns_cursor_name(&c);
	reply->type = cursor_16(&c);
	reply->class = cursor_16(&c);
	if (c.failed) {
		reply->name_len = 0;
		return (-1);
	}
	reply->end = c.at;

	for (section = 0; section < 3; section++) {
		for (i = 0; i < count[section]; i++) {
			dns_record_read(&c, &record);
			if (c.failed)
				return (-1);
			if (record.type == DNS_TYPE_OPT) {
				if (opt || section != 2 ||
				    record.owner_len != 1)
					return (-1);
				opt = true;
				reply->rcode |= record.ttl >> 24 << 4;
			}
			if (opt)
				continue;
			if (reply->ttls == ttl_max)
				return (-1);
			ttl_at[reply->ttls++] = record.ttl_at;
			reply->count[section]++;
			reply->end = c.at;
			record.ttl = ttl_sane(record.ttl);
			if (record.ttl < lowest)
				lowest = record.ttl;
			if (section == 0)
				lowest_answer = lowest;
			if (section == 0 && record.type == reply->type)
				typed = true;
			if (section == 1 && record.type == DNS_TYPE_SOA &&
			    !negative.found)
				negative_read(&c, &record, &negative);
			if (record.owner_len == reply->name_len &&
			    dns_name_equal(buf + record.owner, question,
			    reply->name_len))
				dns_name_lower(buf + record.owner,
				    buf + record.owner, reply->name_len);
		}
	}
	if (reply_judge(reply, typed || reply->type == DNS_TYPE_ANY, lowest,
	    lowest_answer, &negative))
		dns_put32(buf + negative.ttl_at, negative.ttl);
	return (0);
}

/* The negative TTL is the lower of the SOA's TTL and minimum, RFC 2308 5. */
static void
negative_read(const struct cursor *message, const struct record *soa,
    struct negative *negative)
{
	struct cursor c = *message;
	uint32_t minimum;

	c.at = soa->rdata;
	c.len = soa->rdata + soa->rdata_len;
	dns_cursor_name(&c);
	dns_cursor_name(&c);
	cursor_skip(&c, 16);
	minimum = ttl_sane(cursor_32(&c));
	if (c.failed)
		return;
	negative->found = true;
	negative->ttl = soa->ttl < minimum ? soa->ttl : minimum;
	negative->ttl_at = soa->ttl_at;
}

/*
 * May the reply be kept, and for how long?  typed: the answer section has a
 * record of the type that was asked for.  An answer of nothing but aliases is
 * kept as an answer where no SOA says that it ends in NODATA.  Returns whether
 * it is a negative answer with a SOA.
 */
static bool
reply_judge(struct dns_reply *reply, bool typed, uint32_t lowest,
    uint32_t lowest_answer, const struct negative *negative)
{
	bool answers = reply->count[0] > 0, denied;
	uint32_t ceiling = TTL_CEILING, lifetime = lowest;

	if (reply->flags & DNS_FLAG_TC)
		return (false);
	if (reply->rcode == DNS_RCODE_NXDOMAIN)
		denied = true;
	else if (reply->rcode == DNS_RCODE_NOERROR)
		denied = !answers || (!typed && negative->found);
	else
		return (false);
	if (denied) {
		if (!negative->found)
			return (false);
		ceiling = TTL_CEILING_NEG;
		lifetime = negative->ttl;
		if (lowest_answer < lifetime)
			lifetime = lowest_answer;
	}
	reply->lifetime = lifetime < ceiling ? lifetime : ceiling;
	reply->storable = lifetime > 0;
	reply->nxdomain_whole = reply->storable && !answers &&
	    reply->rcode == DNS_RCODE_NXDOMAIN;
	return (denied);
}
