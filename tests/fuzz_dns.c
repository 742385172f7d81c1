/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Everything that reads the network, and everything that writes from what was
 * read.  The first byte of an input says what the rest is (see PATH and the
 * others), so a seed is a packet with one byte before it.  A promise that is
 * broken aborts; memory is the sanitizers' business, for which every buffer
 * is allocated at its exact size.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "dns.h"

/* The bits of the first byte. */
#define PATH		0x01	/* 0: a query, 1: an upstream's message */
#define EDNS		0x02	/* of the client who gets the reply */
#define DNSSEC_OK	0x04
#define AUTHENTIC	0x08
#define CHECKING_OFF	0x10
#define SHORT		0x20	/* the client takes 512 bytes */
#define PART		0x40	/* a part of the value is at hand */
#define AGED		0x80	/* it was in the cache for a while */

#define NOW		1000000
#define AGE_S		100
#define TTLS_MAX	(DNS_MESSAGE_MAX / 11)

#define PROMISE(is_kept)	\
	do { \
		if (!(is_kept)) \
			broken(#is_kept, __LINE__); \
	} while (0)

int		 LLVMFuzzerTestOneInput(const uint8_t *, size_t);
static void	 broken(const char *, int) __attribute__((__noreturn__));
static void	*copy_of(const void *, size_t);
static void	 fuzz_query(const uint8_t *, size_t);
static void	 check_error(const struct dns_query *, int, size_t);
static void	 check_name(const uint8_t *, size_t);
static void	 check_key(const struct dns_query *);
static void	 check_failure(const struct dns_query *);
static void	 fuzz_reply(uint8_t, const uint8_t *, size_t);
static void	 check_reply(const uint8_t *, size_t, const struct dns_reply *,
		    const uint16_t *);
static void	 check_packed(const uint8_t *, const uint8_t *, size_t,
		    const struct dns_reply *, bool);
static void	 check_answer(uint8_t, const uint8_t *, size_t,
		    const struct dns_reply *, const uint8_t *);
static void	 check_whole(const uint8_t *, size_t, const uint8_t *,
		    const struct dns_reply *, const uint8_t *,
		    const struct dns_query *, uint32_t);
static void	 check_written(const uint8_t *, size_t, size_t,
		    const struct dns_query *);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0 || size - 1 > DNS_MESSAGE_MAX)
		return (0);
	if (data[0] & PATH)
		fuzz_reply(data[0], data + 1, size - 1);
	else
		fuzz_query(data + 1, size - 1);
	return (0);
}

static void
broken(const char *promise, int line)
{
	fprintf(stderr, "fuzz_dns.c:%d: %s\n", line, promise);
	abort();
}

/* To be freed. */
static void *
copy_of(const void *bytes, size_t len)
{
	void *copy = malloc(len == 0 ? 1 : len);

	if (copy == NULL)
		abort();
	memcpy(copy, bytes, len);
	return (copy);
}

static void
fuzz_query(const uint8_t *data, size_t len)
{
	uint8_t *packet = copy_of(data, len);
	struct dns_query query;
	int rcode;

	memset(&query, 0xa5, sizeof(query));
	rcode = dns_query_parse(packet, len, &query);
	PROMISE(memcmp(packet, data, len) == 0);
	if (rcode == -1) {
		PROMISE(len < DNS_HEADER_LEN || (data[2] & 0x80) != 0);
		free(packet);
		return;
	}
	PROMISE(rcode == 0 || rcode == DNS_RCODE_FORMERR ||
	    rcode == DNS_RCODE_NOTIMP || rcode == DNS_RCODE_REFUSED ||
	    rcode == DNS_RCODE_BADVERS);
	PROMISE(len >= DNS_HEADER_LEN && (data[2] & 0x80) == 0);
	PROMISE(query.id == dns_get16(data));
	PROMISE(query.flags == dns_get16(data + 2));
	PROMISE(query.edns_size >= DNS_UDP_PLAIN);
	if (query.name != NULL) {
		PROMISE(query.name >= packet &&
		    query.name + query.name_len + 4 <= packet + len);
		check_name(query.name, query.name_len);
	}
	check_error(&query, rcode == 0 ? DNS_RCODE_SERVFAIL : rcode, len);
	if (rcode == 0) {
		PROMISE(query.name != NULL);
		PROMISE(query.class == DNS_CLASS_IN && query.type != 0);
		check_key(&query);
	}
	free(packet);
}

static void
check_error(const struct dns_query *query, int rcode, size_t query_len)
{
	uint8_t *buf = copy_of("", 0);
	struct dns_reply reply;
	uint16_t ttl_at[1];
	size_t len;

	PROMISE(dns_error_write(buf, 0, query, rcode, 0) == 0);
	buf = realloc(buf, query_len);
	if (buf == NULL)
		abort();
	len = dns_error_write(buf, query_len, query, rcode, 0);
	PROMISE(len >= DNS_HEADER_LEN && len <= query_len);
	PROMISE(dns_get16(buf) == query->id);
	PROMISE((buf[2] & 0x80) != 0);
	PROMISE((dns_get16(buf + 2) & DNS_FLAG_RCODE) ==
	    (rcode & DNS_FLAG_RCODE));
	PROMISE(dns_error_write(buf, len - 1, query, rcode, 0) == 0);
	PROMISE(dns_error_write(buf, len, query, rcode, 0) == len);
	if (query->name != NULL) {
		PROMISE(dns_reply_parse(buf, len, &reply, ttl_at, 1) == 0);
		PROMISE(reply.name_len == query->name_len);
		PROMISE(reply.ttls == 0);
		PROMISE(!query->edns || reply.rcode == rcode);
	}
	free(buf);
}

/* The labels of a name fill it, and it prints as text. */
static void
check_name(const uint8_t *name, size_t len)
{
	char text[DNS_NAME_TEXT_MAX];
	size_t at = 0, i;

	PROMISE(len >= 1 && len <= DNS_NAME_MAX);
	while (at < len && name[at] != 0) {
		PROMISE(name[at] <= 63);
		at += (size_t)name[at] + 1;
	}
	PROMISE(at == len - 1);
	memset(text, 0xa5, sizeof(text));
	PROMISE(dns_name_print(text, name, len) == text);
	PROMISE(memchr(text, '\0', sizeof(text)) != NULL);
	PROMISE(text[0] != '\0');
	for (i = 0; text[i] != '\0'; i++)
		PROMISE(text[i] >= 0x21 && text[i] <= 0x7e);
}

static void
check_key(const struct dns_query *query)
{
	uint8_t bits[DNS_CASE_LEN], key[DNS_KEY_MAX], key_again[DNS_KEY_MAX];
	uint8_t name[DNS_NAME_MAX], request[DNS_REQUEST_MAX], *packet;
	struct dns_query again;
	size_t i, key_len, len;

	key_len = dns_key_write(key, query);
	PROMISE(key_len == query->name_len + 3);
	PROMISE(dns_key_name_len(key_len) == query->name_len);
	PROMISE(dns_key_type(key, key_len) == query->type);
	PROMISE(dns_key_flags(key, key_len) ==
	    ((query->dnssec_ok ? DNS_KEY_DO : 0) |
	    (query->flags & DNS_FLAG_CD ? DNS_KEY_CD : 0)));
	PROMISE(dns_name_equal(key, query->name, query->name_len));
	for (i = 0; i < query->name_len; i++)
		PROMISE(key[i] < 'A' || key[i] > 'Z');

	dns_case_save(bits, query->name, query->name_len);
	memcpy(name, key, query->name_len);
	dns_case_restore(bits, name, query->name_len);
	PROMISE(memcmp(name, query->name, query->name_len) == 0);

	len = dns_request_write(request, 0x1234, name, key, key_len, true);
	PROMISE(len <= DNS_REQUEST_MAX);
	packet = copy_of(request, len);
	PROMISE(dns_query_parse(packet, len, &again) == 0);
	PROMISE(again.name_len == query->name_len &&
	    memcmp(again.name, query->name, query->name_len) == 0);
	PROMISE(dns_key_write(key_again, &again) == key_len);
	PROMISE(memcmp(key, key_again, key_len) == 0);
	check_failure(query);
	free(packet);
}

static void
check_failure(const struct dns_query *query)
{
	struct answer_value head;
	uint8_t *memory, *reply;
	size_t len, value_len;

	value_len = answer_pack_failure(&head, NOW, 2);
	PROMISE(value_len > 0 && head.failed_s == 4);
	memory = malloc(ANSWER_FRONT + value_len + ANSWER_SPARE);
	if (memory == NULL)
		abort();
	memcpy(memory + ANSWER_FRONT, &head, value_len);
	len = answer_write(memory + ANSWER_FRONT, value_len, value_len, query,
	    DNS_UDP_PLAIN, NOW + 1, &reply);
	PROMISE(len > 0 && (reply[3] & DNS_FLAG_RCODE) ==
	    DNS_RCODE_SERVFAIL);
	check_written(reply, len, DNS_UDP_PLAIN, query);
	free(memory);
}

static void
fuzz_reply(uint8_t choice, const uint8_t *data, size_t len)
{
	static _Alignas(8) uint8_t value[ANSWER_VALUE_MAX];
	static uint16_t ttl_at[TTLS_MAX];
	uint8_t *packet = copy_of(data, len);
	struct dns_reply packed, reply;
	size_t value_len;
	bool changed = false;
	int result;

	memset(&reply, 0xa5, sizeof(reply));
	result = dns_reply_parse(packet, len, &reply, ttl_at, TTLS_MAX);
	if (len >= 4) {
		PROMISE(reply.id == dns_get16(data));
		PROMISE(reply.flags == dns_get16(data + 2));
	}
	if (reply.name_len != 0)
		check_name(data + DNS_HEADER_LEN, reply.name_len);
	if (result == 0) {
		check_reply(packet, len, &reply, ttl_at);
		changed = memcmp(packet, data, len) != 0;
	}
	memcpy(packet, data, len);
	value_len = answer_pack(value, packet, len, NOW, &packed);
	PROMISE((value_len == 0) == (result == -1));
	if (value_len != 0) {
		PROMISE(value_len <= ANSWER_VALUE_MAX);
		PROMISE(packed.end == reply.end && packed.ttls == reply.ttls);
		check_packed(packet, value, value_len, &reply, changed);
		check_answer(choice, value, value_len, &reply, packet);
	}
	free(packet);
}

static void
check_reply(const uint8_t *packet, size_t len, const struct dns_reply *reply,
    const uint16_t *ttl_at)
{
	size_t i, last = DNS_HEADER_LEN;

	PROMISE(reply->name_len != 0);
	PROMISE(reply->end <= len);
	PROMISE(reply->end >= DNS_HEADER_LEN + reply->name_len + 4);
	PROMISE(reply->ttls ==
	    reply->count[0] + reply->count[1] + reply->count[2]);
	for (i = 0; i < reply->ttls; i++) {
		PROMISE(ttl_at[i] > last);
		PROMISE((size_t)ttl_at[i] + 6 <= reply->end);
		last = ttl_at[i] + 5u;
	}
	if (reply->storable) {
		PROMISE(reply->lifetime > 0 && reply->lifetime <= 86400);
		PROMISE(reply->rcode == DNS_RCODE_NOERROR ||
		    reply->rcode == DNS_RCODE_NXDOMAIN);
		PROMISE((reply->flags & DNS_FLAG_TC) == 0);
		if (reply->rcode == DNS_RCODE_NXDOMAIN ||
		    reply->count[0] == 0)
			PROMISE(reply->lifetime <= 3600);
		for (i = 0; i < reply->count[0]; i++)
			PROMISE(reply->lifetime <=
			    dns_get32(packet + ttl_at[i]));
	}
	if (reply->nxdomain_whole)
		PROMISE(reply->rcode == DNS_RCODE_NXDOMAIN &&
		    reply->count[0] == 0);
}

/*
 * A message that was packed parses again, and to the same.  One in which
 * something was changed may not: a name may have led into what was changed,
 * such as a TTL.  No honest message has such names.
 */
static void
check_packed(const uint8_t *packet, const uint8_t *value, size_t value_len,
    const struct dns_reply *reply, bool changed)
{
	static uint16_t ttl_at[TTLS_MAX];
	const size_t front = DNS_HEADER_LEN + reply->name_len + 4;
	const size_t at = sizeof(struct answer_value) +
	    reply->ttls * sizeof(uint16_t);
	struct answer_value head;
	struct dns_reply again;
	uint8_t *message;
	int result, i;

	memcpy(&head, value, sizeof(head));
	PROMISE(memcmp(head.count, reply->count, sizeof(head.count)) == 0);
	PROMISE(value_len == at + reply->end - front);
	PROMISE(memcmp(value + at, packet + front, reply->end - front) == 0);
	message = copy_of(packet, reply->end);
	for (i = 0; i < 3; i++)
		dns_put16(message + 6 + 2 * i, head.count[i]);
	result = dns_reply_parse(message, reply->end, &again, ttl_at,
	    TTLS_MAX);
	PROMISE(result == 0 || changed);
	if (result == 0 && !changed) {
		PROMISE(again.end == reply->end);
		PROMISE(again.ttls == reply->ttls);
		PROMISE(memcmp(again.count, reply->count,
		    sizeof(again.count)) == 0);
		PROMISE(memcmp(ttl_at, value + sizeof(head),
		    again.ttls * sizeof(uint16_t)) == 0);
	}
	if (result == 0 && !changed && reply->rcode <= DNS_FLAG_RCODE) {
		PROMISE(again.storable == reply->storable);
		PROMISE(again.lifetime == reply->lifetime);
		PROMISE(again.nxdomain_whole == reply->nxdomain_whole);
	}
	free(message);
}

/* Answer a client who asked the message's own question. */
static void
check_answer(uint8_t choice, const uint8_t *value, size_t value_len,
    const struct dns_reply *found, const uint8_t *packet)
{
	struct dns_query query = { .id = 0x1234, .name_len = found->name_len,
	    .flags = DNS_FLAG_RD | (choice & AUTHENTIC ? DNS_FLAG_AD : 0) |
	    (choice & CHECKING_OFF ? DNS_FLAG_CD : 0),
	    .type = found->type, .class = found->class,
	    .edns = choice & EDNS, .edns_size = DNS_UDP_PLAIN,
	    .dnssec_ok = (choice & EDNS) && (choice & DNSSEC_OK) };
	const uint32_t age = choice & AGED ? AGE_S : 0;
	size_t have = value_len, len, limit = DNS_MESSAGE_MAX;
	uint8_t *memory, *name, *reply = NULL;

	name = copy_of(packet + DNS_HEADER_LEN, found->name_len);
	query.name = name;
	if (choice & SHORT)
		limit = answer_udp_limit(&query);
	if (choice & PART)
		have -= found->end - (DNS_HEADER_LEN + found->name_len + 4);
	memory = malloc(ANSWER_FRONT + have + ANSWER_SPARE);
	if (memory == NULL)
		abort();
	memcpy(memory + ANSWER_FRONT, value, have);
	len = answer_write(memory + ANSWER_FRONT, have, value_len, &query,
	    limit, NOW + age * 1000, &reply);
	PROMISE(len > 0);
	PROMISE(reply >= memory && reply + len <= memory + ANSWER_FRONT +
	    have + ANSWER_SPARE);
	if (found->rcode <= DNS_FLAG_RCODE)
		PROMISE((reply[3] & DNS_FLAG_RCODE) == found->rcode);
	if (have < value_len)
		PROMISE((reply[2] & (DNS_FLAG_TC >> 8)) != 0);
	PROMISE((dns_get16(reply + 2) & DNS_FLAG_AD) == 0 ||
	    (found->flags & DNS_FLAG_AD) != 0);
	check_written(reply, len, limit, &query);
	if (have == value_len && found->end + (query.edns ? DNS_OPT_LEN : 0) <=
	    limit)
		check_whole(reply, len, packet, found, value, &query, age);
	free(memory);
	free(name);
}

/* What every reply has in common, be it whole or cut. */
static void
check_written(const uint8_t *reply, size_t len, size_t limit,
    const struct dns_query *query)
{
	const uint16_t mirrored = DNS_FLAG_RD | DNS_FLAG_CD;
	const uint16_t flags = dns_get16(reply + 2);
	const size_t question = DNS_HEADER_LEN + query->name_len + 4;
	uint8_t opt[DNS_OPT_LEN];

	PROMISE(len <= limit);
	PROMISE(len >= question + (query->edns ? DNS_OPT_LEN : 0));
	PROMISE(dns_get16(reply) == query->id);
	PROMISE((flags & (DNS_FLAG_QR | DNS_FLAG_RA)) ==
	    (DNS_FLAG_QR | DNS_FLAG_RA));
	PROMISE((flags & DNS_FLAG_OPCODE) == 0);
	PROMISE((flags & mirrored) == (query->flags & mirrored));
	PROMISE((flags & DNS_FLAG_AD) == 0 || query->dnssec_ok ||
	    (query->flags & DNS_FLAG_AD) != 0);
	PROMISE(dns_get16(reply + 4) == 1);
	PROMISE(memcmp(reply + DNS_HEADER_LEN, query->name,
	    query->name_len) == 0);
	PROMISE(dns_get16(reply + question - 4) == query->type);
	PROMISE(dns_get16(reply + question - 2) == query->class);
	if (query->edns) {
		dns_opt_write(opt, DNS_RCODE_NOERROR, query->dnssec_ok);
		PROMISE(memcmp(reply + len - sizeof(opt), opt, sizeof(opt)) ==
		    0);
	}
}

/* But for what is the client's, a reply is the message that was packed. */
static void
check_whole(const uint8_t *reply, size_t len, const uint8_t *packet,
    const struct dns_reply *found, const uint8_t *value,
    const struct dns_query *query, uint32_t age)
{
	const size_t front = DNS_HEADER_LEN + found->name_len + 4;
	uint8_t *expected;
	uint16_t at, i;
	uint32_t ttl;

	PROMISE(len == found->end + (query->edns ? DNS_OPT_LEN : 0u));
	PROMISE(dns_get16(reply + 6) == found->count[0]);
	PROMISE(dns_get16(reply + 8) == found->count[1]);
	PROMISE(dns_get16(reply + 10) == found->count[2] + query->edns);
	expected = copy_of(packet, found->end);
	for (i = 0; age > 0 && i < found->ttls; i++) {
		memcpy(&at, value + sizeof(struct answer_value) +
		    i * sizeof(at), sizeof(at));
		ttl = dns_get32(packet + at);
		if (ttl > 0x7fffffff || ttl <= age)
			ttl = age + 1;
		dns_put32(expected + at, ttl - age);
	}
	PROMISE(memcmp(reply + front, expected + front,
	    found->end - front) == 0);
	free(expected);
}
