/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * One client's reply out of a message that all share.  A value, which is what
 * the cache keeps, is a message without its OPT together with a list of where
 * its TTLs stand, so that a reply is made by changing a few bytes in place:
 * the ID, the flags, the question as this client wrote it, the TTLs, and an
 * OPT at the end if the client sent one.
 */

#include <string.h>

#include "answer.h"

size_t
answer_pack(uint8_t value[ANSWER_VALUE_MAX], uint8_t *msg, size_t len,
    uint64_t now_ms, struct dns_reply *reply)
{
	struct answer_value head = { .stored_ms = now_ms };
	uint16_t *ttl_at = (void *)(value + sizeof(head));
	uint8_t *copy;
	int i;

	if (dns_reply_parse(msg, len, reply, ttl_at, DNS_MESSAGE_MAX / 11) ==
	    -1)
		return (0);
	head.message_len = reply->end;
	head.ttls = reply->ttls;
	head.flags = reply->flags;
	memcpy(value, &head, sizeof(head));
	copy = (uint8_t *)(ttl_at + reply->ttls);
	memcpy(copy, msg, reply->end);
	for (i = 0; i < 3; i++)
		dns_put16(copy + 6 + 2 * i, reply->count[i]);
	return (copy + reply->end - value);
}

size_t
answer_pack_failure(uint8_t value[ANSWER_VALUE_MAX], const uint8_t *key,
    size_t key_len, uint64_t now_ms, uint16_t before, uint16_t *seconds)
{
	struct dns_query query = { .name = key,
	    .name_len = dns_key_name_len(key_len),
	    .type = dns_key_type(key, key_len), .class = DNS_CLASS_IN };
	struct answer_value head = { .stored_ms = now_ms };

	*seconds = before == 0 ? 1 : before * 2;
	if (*seconds > 5)
		*seconds = 5;
	head.failed_s = *seconds;
	head.flags = DNS_RCODE_SERVFAIL;
	head.message_len = dns_error_write(value + sizeof(head),
	    DNS_REQUEST_MAX, &query, DNS_RCODE_SERVFAIL, 0);
	memcpy(value, &head, sizeof(head));
	return (sizeof(head) + head.message_len);
}

size_t
answer_write(uint8_t *value, size_t have, size_t value_len,
    const struct dns_query *query, size_t limit, uint64_t now_ms,
    uint8_t **reply)
{
	struct answer_value head;
	const uint16_t *ttl_at = (void *)(value + sizeof(head));
	size_t at, len, i;
	uint16_t flags;
	uint8_t *msg;

	if (have < sizeof(head))
		return (0);
	memcpy(&head, value, sizeof(head));
	at = sizeof(head) + head.ttls * sizeof(uint16_t);
	len = head.message_len;
	if (value_len != at + len ||
	    len < DNS_HEADER_LEN + query->name_len + 4)
		return (0);
	if (have < value_len ||
	    len + (query->edns ? DNS_OPT_LEN : 0) > limit) {
		/* The client is to come back over TCP. */
		*reply = value;
		return (dns_error_write(value, have + ANSWER_SPARE, query,
		    head.flags & DNS_FLAG_RCODE, DNS_FLAG_TC));
	}

	for (i = 0; i < head.ttls; i++) {
		if (ttl_at[i] > len - sizeof(uint32_t))
			return (0);
	}
	*reply = msg = value + at;
	if (now_ms >= head.stored_ms + 1000)
		dns_ttls_age(msg, ttl_at, head.ttls,
		    (now_ms - head.stored_ms) / 1000);
	flags = (head.flags & (DNS_FLAG_TC | DNS_FLAG_RCODE)) |
	    DNS_FLAG_QR | DNS_FLAG_RA |
	    (query->flags & (DNS_FLAG_RD | DNS_FLAG_CD));
	if (query->dnssec_ok || query->flags & DNS_FLAG_AD)
		flags |= head.flags & DNS_FLAG_AD;	/* RFC 6840 5.8 */
	dns_put16(msg, query->id);
	dns_put16(msg + 2, flags);
	memcpy(msg + DNS_HEADER_LEN, query->name, query->name_len);
	dns_put16(msg + DNS_HEADER_LEN + query->name_len, query->type);
	if (query->edns) {
		dns_put16(msg + 10, dns_get16(msg + 10) + 1);
		dns_opt_write(msg + len, 0, query->dnssec_ok);
		len += DNS_OPT_LEN;
	}
	return (len);
}

size_t
answer_udp_limit(const struct dns_query *query)
{
	if (!query->edns)
		return (DNS_UDP_PLAIN);
	return (query->edns_size < DNS_UDP_MAX ? query->edns_size :
	    DNS_UDP_MAX);
}
