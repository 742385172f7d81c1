/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * One client's reply out of a message that all share.  A value, which is what
 * the cache keeps, is the message without its OPT, together with a list of
 * where its TTLs stand.  Its header and question are left out: they are made
 * for each client, who has the question in its own letter case, and an entry
 * of the cache is a third smaller.  The rest is changed in place: TTLs, and an
 * OPT at the end if the client sent one.
 */

#include <string.h>

#include "answer.h"

static size_t	question_end(size_t);
static void	head_write(uint8_t *, const struct answer_value *,
		    const struct dns_query *);

size_t
answer_pack(uint8_t value[ANSWER_VALUE_MAX], uint8_t *msg, size_t len,
    uint64_t now_ms, struct dns_reply *reply)
{
	struct answer_value head = { .stored_ms = now_ms };
	uint16_t *ttl_at = (void *)(value + sizeof(head));
	size_t front;
	uint8_t *copy;

	if (dns_reply_parse(msg, len, reply, ttl_at, DNS_MESSAGE_MAX / 11) ==
	    -1)
		return (0);
	front = question_end(reply->name_len);
	head.flags = reply->flags;
	memcpy(head.count, reply->count, sizeof(head.count));
	memcpy(value, &head, sizeof(head));
	copy = (uint8_t *)(ttl_at + reply->ttls);
	memcpy(copy, msg + front, reply->end - front);
	return (copy + reply->end - front - value);
}

size_t
answer_pack_failure(struct answer_value *value, uint64_t now_ms,
    unsigned before)
{
	unsigned seconds = before == 0 ? 1 : before * 2;

	*value = (struct answer_value){ .stored_ms = now_ms,
	    .failed_s = seconds > 5 ? 5 : seconds,
	    .flags = DNS_RCODE_SERVFAIL };
	return (sizeof(*value));
}

size_t
answer_write(uint8_t *value, size_t have, size_t value_len,
    const struct dns_query *query, size_t limit, uint64_t now_ms,
    uint8_t **reply)
{
	const size_t front = question_end(query->name_len);
	struct answer_value head;
	const uint16_t *ttl_at = (void *)(value + sizeof(head));
	size_t ttls, at, len, i;
	uint8_t *msg;

	if (have < sizeof(head))
		return (0);
	memcpy(&head, value, sizeof(head));
	ttls = (size_t)head.count[0] + head.count[1] + head.count[2];
	at = sizeof(head) + ttls * sizeof(uint16_t);
	if (value_len < at)
		return (0);
	len = front + value_len - at;
	if (have < value_len ||
	    len + (query->edns ? DNS_OPT_LEN : 0) > limit) {
		/* The client is to come back over TCP. */
		*reply = value - ANSWER_FRONT;
		return (dns_error_write(*reply, ANSWER_FRONT + have +
		    ANSWER_SPARE, query, head.flags & DNS_FLAG_RCODE,
		    DNS_FLAG_TC));
	}

	for (i = 0; i < ttls; i++) {
		if (ttl_at[i] < front || ttl_at[i] + sizeof(uint32_t) > len)
			return (0);
	}
	*reply = msg = value + at - front;
	if (now_ms >= head.stored_ms + 1000)
		dns_ttls_age(msg, ttl_at, ttls,
		    (now_ms - head.stored_ms) / 1000);
	head_write(msg, &head, query);	/* over the list, and head's place */
	if (query->edns) {
		dns_opt_write(msg + len, 0, query->dnssec_ok);
		len += DNS_OPT_LEN;
	}
	return (len);
}

/* Where a message goes on behind the question for a name of that length. */
static size_t
question_end(size_t name_len)
{
	return (DNS_HEADER_LEN + name_len + 4);
}

/* Write the header and the question as this client wrote it. */
static void
head_write(uint8_t *msg, const struct answer_value *head,
    const struct dns_query *query)
{
	uint16_t flags;

	flags = (head->flags & (DNS_FLAG_TC | DNS_FLAG_RCODE)) |
	    DNS_FLAG_QR | DNS_FLAG_RA |
	    (query->flags & (DNS_FLAG_RD | DNS_FLAG_CD));
	if (query->dnssec_ok || query->flags & DNS_FLAG_AD)
		flags |= head->flags & DNS_FLAG_AD;	/* RFC 6840 5.8 */
	dns_put16(msg, query->id);
	dns_put16(msg + 2, flags);
	dns_put16(msg + 4, 1);
	dns_put16(msg + 6, head->count[0]);
	dns_put16(msg + 8, head->count[1]);
	dns_put16(msg + 10, head->count[2] + (query->edns ? 1 : 0));
	memcpy(msg + DNS_HEADER_LEN, query->name, query->name_len);
	dns_put16(msg + DNS_HEADER_LEN + query->name_len, query->type);
	dns_put16(msg + DNS_HEADER_LEN + query->name_len + 2, query->class);
}

size_t
answer_udp_limit(const struct dns_query *query)
{
	if (!query->edns)
		return (DNS_UDP_PLAIN);
	return (query->edns_size < DNS_UDP_MAX ? query->edns_size :
	    DNS_UDP_MAX);
}
