/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * One client's reply from a message that many share: a message is packed,
 * then written for clients that differ in one thing each.  A value stands as
 * near to the end of an array as its alignment lets it, so that a sanitizer
 * sees what is touched behind its spare room.
 */

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"

#define BYTES(text)	(text), sizeof(text) - 1
#define NELEMS(array)	(sizeof(array) / sizeof((array)[0]))

/* A question of 21 bytes and records that point at its name. */
#define HEADER(flags, an, ns, ar)	\
	"\xab\xcd" flags "\0\1" "\0" an "\0" ns "\0" ar
#define NAME		"\3www\7example\3com\0"
#define NAME_LEN	17
#define QUESTION	NAME "\0\1\0\1"
#define BEHIND_QUESTION	(DNS_HEADER_LEN + NAME_LEN + 4)
#define MESSAGE(flags, an, ns, ar)	\
	HEADER(flags, an, ns, ar) QUESTION
#define A(ttl)		"\300\14\0\1\0\1" ttl "\0\4\300\0\2\1"
#define A_LEN		16
#define TTL_AT		(BEHIND_QUESTION + 6)	/* of the first record */
#define SOA(ttl, minimum)	\
	"\300\20\0\6\0\1" ttl "\0\x16" "\0\0" "\0\0\0\1" "\0\0\1\0" \
	"\0\0\1\0" "\0\1\0\0" minimum
#define OPT		"\0\0\x29\x10\0\0\0\x80\0\0\0"
#define OPT_OF_OURS	"\0\0\x29\x04\xd0\0\0\0\0\0\0"
#define OPT_WITH_DO	"\0\0\x29\x04\xd0\0\0\x80\0\0\0"
#define T0		"\0\0\0\0"
#define T60		"\0\0\0\x3c"
#define T300		"\0\0\1\x2c"
#define T_ABOVE		"\x80\0\0\0"

#define NOW		1000000		/* ms, when a value is made */
#define NO_LIMIT	DNS_MESSAGE_MAX

static uint8_t	*value_place(size_t);
static struct dns_query query_for(const char *);
static void	 pack(const void *, size_t);
static void	 pack_failure(void);
static size_t	 answer(const struct dns_query *, size_t, uint64_t);
static size_t	 answer_part(const struct dns_query *, size_t, size_t,
		    uint64_t);
static void	 expect_truncated(const struct dns_query *, size_t, int);

static _Alignas(16) uint8_t	 packed[ANSWER_VALUE_MAX];
static size_t			 packed_len;
static struct dns_reply		 found;
static uint8_t			*reply;		/* written last */

/* Room for len bytes, aligned, at the end of an array with a front. */
static uint8_t *
value_place(size_t len)
{
	static _Alignas(16) uint8_t room[ANSWER_FRONT + ANSWER_VALUE_MAX +
	    ANSWER_SPARE + 16];

	ck_assert_uint_le(len + ANSWER_FRONT, sizeof(room));
	return (room + (sizeof(room) - len) / 16 * 16);
}

/* A query for this name, in wire form, from a client without EDNS. */
static struct dns_query
query_for(const char *name)
{
	return ((struct dns_query){ .name = (const uint8_t *)name,
	    .name_len = strlen(name) + 1, .id = 0x1234,
	    .flags = DNS_FLAG_RD, .type = 1, .class = DNS_CLASS_IN,
	    .edns_size = DNS_UDP_PLAIN });
}

/* Make packed out of a message. */
static void
pack(const void *bytes, size_t len)
{
	static uint8_t msg[DNS_MESSAGE_MAX];

	memcpy(msg + sizeof(msg) - len, bytes, len);
	memset(&found, 0xa5, sizeof(found));
	packed_len = answer_pack(packed, msg + sizeof(msg) - len, len, NOW,
	    &found);
	ck_assert_uint_ne(packed_len, 0);
	ck_assert_uint_le(packed_len, sizeof(packed));
}

static void
pack_failure(void)
{
	struct answer_value head;

	packed_len = answer_pack_failure(&head, NOW, 0);
	memcpy(packed, &head, packed_len);
}

/* Write the reply out of packed, which stays as it is. */
static size_t
answer(const struct dns_query *query, size_t limit, uint64_t now_ms)
{
	return (answer_part(query, packed_len, limit, now_ms));
}

static size_t
answer_part(const struct dns_query *query, size_t have, size_t limit,
    uint64_t now_ms)
{
	uint8_t *value = value_place(have + ANSWER_SPARE);
	size_t len;

	memcpy(value, packed, have);
	memset(value + have, 0xa5, ANSWER_SPARE);
	reply = NULL;
	len = answer_write(value, have, packed_len, query, limit, now_ms,
	    &reply);
	ck_assert_uint_le(len, limit);
	if (len != 0) {
		ck_assert_uint_ge(len, DNS_HEADER_LEN);
		ck_assert(reply >= value - ANSWER_FRONT &&
		    reply + len <= value + have + ANSWER_SPARE);
	}
	return (len);
}

/* The reply written last has TC, the question, an OPT if any, and no more. */
static void
expect_truncated(const struct dns_query *query, size_t len, int rcode)
{
	ck_assert_uint_eq(len, DNS_HEADER_LEN + query->name_len + 4 +
	    (query->edns ? DNS_OPT_LEN : 0));
	ck_assert_uint_eq(dns_get16(reply), query->id);
	ck_assert_uint_eq(dns_get16(reply + 2) & ~DNS_FLAG_AA, DNS_FLAG_QR |
	    DNS_FLAG_TC | DNS_FLAG_RA |
	    (query->flags & (DNS_FLAG_RD | DNS_FLAG_CD)) | rcode);
	ck_assert_uint_eq(dns_get16(reply + 4), 1);
	ck_assert_uint_eq(dns_get32(reply + 6), 0);
	ck_assert_uint_eq(dns_get16(reply + 10), query->edns);
	ck_assert_mem_eq(reply + DNS_HEADER_LEN, query->name,
	    query->name_len);
	if (query->edns)
		ck_assert_mem_eq(reply + len - DNS_OPT_LEN,
		    query->dnssec_ok ? OPT_WITH_DO : OPT_OF_OURS,
		    DNS_OPT_LEN);
}

START_TEST(reply_is_made_for_this_client)
{
	struct dns_query query = query_for("\3wWW\7exAMple\3Com");
	size_t len;

	pack(BYTES(MESSAGE("\x81\x80", "\1", "\0", "\0") A(T300)));
	query.id = 0x5678;
	len = answer(&query, NO_LIMIT, NOW);
	ck_assert_uint_eq(len, BEHIND_QUESTION + A_LEN);
	ck_assert_mem_eq(reply, "\x56\x78\x81\x80\0\1\0\1\0\0\0\0"
	    "\3wWW\7exAMple\3Com\0" "\0\1\0\1" A(T300), len);
}
END_TEST

START_TEST(one_value_serves_many_clients)
{
	struct dns_query a = query_for("\3www\7example\3com");
	struct dns_query b = query_for("\3WWW\7EXAMPLE\3COM");
	size_t i;

	pack(BYTES(MESSAGE("\x81\x80", "\1", "\0", "\0") A(T300)));
	a.id = 1;
	b.id = 2;
	b.flags = DNS_FLAG_CD;
	for (i = 0; i < 2; i++) {
		answer(&a, NO_LIMIT, NOW);
		ck_assert_uint_eq(dns_get16(reply), 1);
		ck_assert_uint_eq(dns_get16(reply + 2), 0x8180);
		ck_assert_mem_eq(reply + DNS_HEADER_LEN, a.name, NAME_LEN);
		answer(&b, NO_LIMIT, NOW);
		ck_assert_uint_eq(dns_get16(reply), 2);
		ck_assert_uint_eq(dns_get16(reply + 2), 0x8090);
		ck_assert_mem_eq(reply + DNS_HEADER_LEN, b.name, NAME_LEN);
	}
}
END_TEST

/*
 * QR and RA always; RD and CD are the client's; AD is the message's, for
 * those who set AD or DO (RFC 6840 5.7, 5.8); the rest of the upstream's
 * flags, AA aside, goes no further.
 */
START_TEST(flags_are_the_clients)
{
	static const struct {
		const char	*message;
		size_t		 len;
		uint16_t	 query;
		bool		 edns, dnssec_ok;
		uint16_t	 reply;
	} cases[] = {
#define CASE(flags)	BYTES(MESSAGE(flags, "\1", "\0", "\0") A(T300))
		{ CASE("\x81\x80"), 0, false, false, 0x8080 },
		{ CASE("\x81\x80"), DNS_FLAG_RD, false, false, 0x8180 },
		{ CASE("\x80\x00"), DNS_FLAG_RD, false, false, 0x8180 },
		{ CASE("\x81\x90"), DNS_FLAG_RD, false, false, 0x8180 },
		{ CASE("\x81\x80"), DNS_FLAG_RD | DNS_FLAG_CD, false, false,
		  0x8190 },
		{ CASE("\x81\xa0"), DNS_FLAG_RD, false, false, 0x8180 },
		{ CASE("\x81\xa0"), DNS_FLAG_RD, true, false, 0x8180 },
		{ CASE("\x81\xa0"), DNS_FLAG_RD | DNS_FLAG_AD, false, false,
		  0x81a0 },
		{ CASE("\x81\xa0"), DNS_FLAG_RD, true, true, 0x81a0 },
		{ CASE("\x81\x80"), DNS_FLAG_RD | DNS_FLAG_AD, true, true,
		  0x8180 },
		{ CASE("\x81\xc0"), DNS_FLAG_RD, false, false, 0x8180 },
		{ CASE("\x81\x83"), DNS_FLAG_RD, false, false, 0x8183 },
		{ CASE("\x81\x85"), DNS_FLAG_RD, false, false, 0x8185 },
		{ CASE("\x81\x80"), DNS_FLAG_RD | 0x0040, false, false,
		  0x8180 },
#undef CASE
	};
	struct dns_query query;
	size_t i;

	for (i = 0; i < NELEMS(cases); i++) {
		pack(cases[i].message, cases[i].len);
		query = query_for("\3www\7example\3com");
		query.flags = cases[i].query;
		query.edns = cases[i].edns;
		query.dnssec_ok = cases[i].dnssec_ok;
		ck_assert_uint_ne(answer(&query, NO_LIMIT, NOW), 0);
		ck_assert_msg((dns_get16(reply + 2) & ~DNS_FLAG_AA) ==
		    cases[i].reply, "case %zu: %04x", i,
		    dns_get16(reply + 2));
	}
}
END_TEST

START_TEST(ttls_age_by_the_time_in_the_cache)
{
	static const struct {
		uint64_t	 spent_ms;
		uint32_t	 first, second;
	} cases[] = {
		{ 0, 60, 300 }, { 999, 60, 300 }, { 1000, 59, 299 },
		{ 1999, 59, 299 }, { 59000, 1, 241 }, { 60000, 1, 240 },
		{ 61000, 1, 239 }, { 300000, 1, 1 }, { 1000000, 1, 1 },
	};
	struct dns_query query = query_for("\3www\7example\3com");
	size_t i;

	pack(BYTES(MESSAGE("\x81\x80", "\2", "\0", "\0") A(T60) A(T300)));
	for (i = 0; i < NELEMS(cases); i++) {
		answer(&query, NO_LIMIT, NOW + cases[i].spent_ms);
		ck_assert_uint_eq(dns_get32(reply + TTL_AT), cases[i].first);
		ck_assert_uint_eq(dns_get32(reply + TTL_AT + A_LEN),
		    cases[i].second);
	}
}
END_TEST

/* The storing process may have read the clock after the answering one. */
START_TEST(clock_behind_the_store_ages_nothing)
{
	struct dns_query query = query_for("\3www\7example\3com");

	pack(BYTES(MESSAGE("\x81\x80", "\1", "\0", "\0") A(T60)));
	answer(&query, NO_LIMIT, NOW - 1);
	ck_assert_uint_eq(dns_get32(reply + TTL_AT), 60);
	answer(&query, NO_LIMIT, NOW - 5000);
	ck_assert_uint_eq(dns_get32(reply + TTL_AT), 60);
}
END_TEST

START_TEST(ttl_above_2_to_the_31_counts_as_0)
{
	struct dns_query query = query_for("\3www\7example\3com");

	pack(BYTES(MESSAGE("\x81\x80", "\1", "\0", "\0") A(T_ABOVE)));
	ck_assert(!found.storable);
	answer(&query, NO_LIMIT, NOW + 1000);
	ck_assert_uint_eq(dns_get32(reply + TTL_AT), 1);
}
END_TEST

/* An OPT goes to those who sent one, whatever the upstream sent. */
START_TEST(opt_goes_to_those_who_sent_one)
{
	static const struct {
		const char	*message;
		size_t		 len;
	} cases[] = {
		{ BYTES(MESSAGE("\x81\x80", "\1", "\0", "\0") A(T300)) },
		{ BYTES(MESSAGE("\x81\x80", "\1", "\0", "\1") A(T300) OPT) },
	};
	struct dns_query query;
	size_t i, len;

	for (i = 0; i < NELEMS(cases); i++) {
		pack(cases[i].message, cases[i].len);
		query = query_for("\3www\7example\3com");
		len = answer(&query, NO_LIMIT, NOW);
		ck_assert_uint_eq(len, BEHIND_QUESTION + A_LEN);
		ck_assert_uint_eq(dns_get16(reply + 10), 0);
		query.edns = true;
		query.edns_size = 4096;
		len = answer(&query, NO_LIMIT, NOW);
		ck_assert_uint_eq(len, BEHIND_QUESTION + A_LEN + DNS_OPT_LEN);
		ck_assert_uint_eq(dns_get16(reply + 10), 1);
		ck_assert_mem_eq(reply + len - DNS_OPT_LEN, OPT_OF_OURS,
		    DNS_OPT_LEN);
		query.dnssec_ok = true;
		len = answer(&query, NO_LIMIT, NOW);
		ck_assert_mem_eq(reply + len - DNS_OPT_LEN, OPT_WITH_DO,
		    DNS_OPT_LEN);
	}
}
END_TEST

START_TEST(opt_stands_behind_the_other_additionals)
{
	struct dns_query query = query_for("\3www\7example\3com");
	size_t len;

	pack(BYTES(MESSAGE("\x81\x80", "\1", "\0", "\3") A(T300) A(T60)
	    OPT A(T60)));
	query.edns = true;
	len = answer(&query, NO_LIMIT, NOW);
	ck_assert_uint_eq(len, BEHIND_QUESTION + 2 * A_LEN + DNS_OPT_LEN);
	ck_assert_mem_eq(reply + 4, "\0\1\0\1\0\0\0\2", 8);
	ck_assert_mem_eq(reply + BEHIND_QUESTION,
	    A(T300) A(T60) OPT_OF_OURS, 2 * A_LEN + DNS_OPT_LEN);
	query.edns = false;
	len = answer(&query, NO_LIMIT, NOW);
	ck_assert_uint_eq(len, BEHIND_QUESTION + 2 * A_LEN);
	ck_assert_mem_eq(reply + 4, "\0\1\0\1\0\0\0\1", 8);
}
END_TEST

START_TEST(sections_keep_their_records)
{
	struct dns_query query = query_for("\3www\7example\3com");
	size_t len;

	pack(BYTES(MESSAGE("\x81\x83", "\0", "\1", "\0") SOA(T300, T60)));
	len = answer(&query, NO_LIMIT, NOW);
	ck_assert_mem_eq(reply, "\x12\x34\x81\x83\0\1\0\0\0\1\0\0", 12);
	/* The SOA's TTL is the negative TTL. */
	ck_assert_mem_eq(reply + BEHIND_QUESTION, SOA(T60, T60),
	    len - BEHIND_QUESTION);
	ck_assert_uint_eq(len, sizeof(MESSAGE("\x81\x83", "\0", "\1", "\0")
	    SOA(T60, T60)) - 1);
}
END_TEST

START_TEST(records_of_any_type_pass_byte_for_byte)
{
	static const char message[] = MESSAGE("\x81\x80", "\2", "\0", "\0")
	    "\300\14\xff\xfe\0\1" T300 "\0\5" "\0\300\14\xff\x41"
	    "\300\14\0\x10\xfe\xdc" T300 "\0\0";
	struct dns_query query = query_for("\3www\7example\3com");
	size_t len;

	pack(BYTES(message));
	len = answer(&query, NO_LIMIT, NOW);
	ck_assert_uint_eq(len, sizeof(message) - 1);
	ck_assert_mem_eq(reply + DNS_HEADER_LEN, message + DNS_HEADER_LEN,
	    len - DNS_HEADER_LEN);
}
END_TEST

/* NXDOMAIN is kept once for all types, so the type is the client's. */
START_TEST(question_type_is_the_clients)
{
	struct dns_query query = query_for("\3www\7example\3com");

	pack(BYTES(MESSAGE("\x81\x83", "\0", "\1", "\0") SOA(T300, T60)));
	ck_assert(found.nxdomain_whole);
	query.type = 28;
	ck_assert_uint_ne(answer(&query, NO_LIMIT, NOW), 0);
	ck_assert_mem_eq(reply + DNS_HEADER_LEN, NAME "\0\x1c\0\1",
	    NAME_LEN + 4);
	ck_assert_uint_eq(dns_get16(reply + 2), 0x8183);
}
END_TEST

START_TEST(reply_that_does_not_fit_is_truncated)
{
	const size_t whole = BEHIND_QUESTION + 2 * A_LEN;
	struct dns_query query = query_for("\3wWw\7example\3com");

	pack(BYTES(MESSAGE("\x81\x80", "\2", "\0", "\0") A(T300) A(T300)));
	ck_assert_uint_eq(answer(&query, whole, NOW), whole);
	expect_truncated(&query, answer(&query, whole - 1, NOW), 0);
	query.edns = true;
	ck_assert_uint_eq(answer(&query, whole + DNS_OPT_LEN, NOW),
	    whole + DNS_OPT_LEN);
	expect_truncated(&query, answer(&query, whole + DNS_OPT_LEN - 1, NOW),
	    0);
	query.dnssec_ok = true;
	query.flags = DNS_FLAG_CD;
	expect_truncated(&query, answer(&query, whole, NOW), 0);
}
END_TEST

START_TEST(truncated_reply_keeps_its_rcode)
{
	struct dns_query query = query_for("\3www\7example\3com");

	pack(BYTES(MESSAGE("\x81\x83", "\0", "\1", "\0") SOA(T300, T60)));
	expect_truncated(&query, answer(&query, BEHIND_QUESTION, NOW),
	    DNS_RCODE_NXDOMAIN);
}
END_TEST

/* A listener looks up with a buffer that holds less than a whole value. */
START_TEST(part_of_a_value_gives_a_truncated_reply)
{
	const size_t message = BEHIND_QUESTION + 2 * A_LEN;
	struct dns_query query = query_for("\3www\7example\3com");
	size_t have;

	pack(BYTES(MESSAGE("\x81\x80", "\2", "\0", "\0") A(T300) A(T300)));
	for (have = packed_len - message + BEHIND_QUESTION;
	    have < packed_len; have++) {
		query.edns = false;
		expect_truncated(&query, answer_part(&query, have, NO_LIMIT,
		    NOW), 0);
		query.edns = true;
		expect_truncated(&query, answer_part(&query, have, NO_LIMIT,
		    NOW), 0);
	}
	ck_assert_uint_eq(answer_part(&query, packed_len, NO_LIMIT, NOW),
	    message + DNS_OPT_LEN);
}
END_TEST

START_TEST(largest_message_is_answered)
{
	static uint8_t msg[DNS_MESSAGE_MAX];
	struct dns_query query = query_for("\3www\7example\3com");
	size_t count, len;

	memcpy(msg, MESSAGE("\x81\x80", "\0", "\0", "\0"), BEHIND_QUESTION);
	len = BEHIND_QUESTION;
	for (count = 0; len + 12 <= sizeof(msg); count++) {
		memcpy(msg + len, "\300\14\xff\xfe\0\1" T300 "\0\0", 12);
		len += 12;
	}
	dns_put16(msg + 6, (uint16_t)count);
	pack(msg, len);
	ck_assert_uint_eq(found.ttls, count);
	ck_assert_uint_eq(answer(&query, NO_LIMIT, NOW + 1000), len);
	ck_assert_uint_eq(dns_get32(reply + len - 6), 299);
	expect_truncated(&query, answer(&query, 1232, NOW), 0);
}
END_TEST

/* The OPT must not carry a reply beyond what a TCP length can say. */
START_TEST(opt_does_not_make_a_reply_too_long)
{
	static uint8_t msg[DNS_MESSAGE_MAX];
	struct dns_query query = query_for("\3www\7example\3com");

	memset(msg, 'x', sizeof(msg));
	memcpy(msg, MESSAGE("\x81\x80", "\1", "\0", "\0")
	    "\300\14\xff\xfe\0\1" T300, BEHIND_QUESTION + 10);
	dns_put16(msg + BEHIND_QUESTION + 10,
	    (uint16_t)(sizeof(msg) - BEHIND_QUESTION - 12));
	pack(msg, sizeof(msg));
	ck_assert_uint_eq(answer(&query, NO_LIMIT, NOW), sizeof(msg));
	query.edns = true;
	expect_truncated(&query, answer(&query, NO_LIMIT, NOW), 0);
}
END_TEST

START_TEST(malformed_message_is_not_packed)
{
	static const struct {
		const char	*bytes;
		size_t		 len;
	} cases[] = {
		{ BYTES("") },
		{ BYTES("\xab\xcd\x81\x80\0\1") },
		{ BYTES(MESSAGE("\x81\x80", "\1", "\0", "\0")) },
		{ BYTES(MESSAGE("\x81\x80", "\1", "\0", "\0")
		    "\300\14\0\1\0\1" T300 "\0\5\300\0\2\1") },
	};
	uint8_t msg[128];
	struct dns_reply parsed;
	size_t i;

	for (i = 0; i < NELEMS(cases); i++) {
		memcpy(msg, cases[i].bytes, cases[i].len);
		ck_assert_uint_eq(answer_pack(packed, msg, cases[i].len, NOW,
		    &parsed), 0);
	}
}
END_TEST

START_TEST(pack_tells_what_it_found)
{
	pack(BYTES(MESSAGE("\x81\x80", "\1", "\0", "\1") A(T300) OPT));
	ck_assert(found.storable);
	ck_assert_uint_eq(found.lifetime, 300);
	ck_assert_uint_eq(found.id, 0xabcd);
	ck_assert_uint_eq(found.name_len, NAME_LEN);
	pack(BYTES(MESSAGE("\x81\x82", "\0", "\0", "\0")));
	ck_assert(!found.storable);
	ck_assert_uint_eq(found.rcode, DNS_RCODE_SERVFAIL);
}
END_TEST

START_TEST(value_that_makes_no_sense_is_no_reply)
{
	struct dns_query query = query_for("\3www\7example\3com");
	struct answer_value head;
	uint16_t at;
	size_t have;

	pack(BYTES(MESSAGE("\x81\x80", "\1", "\0", "\0") A(T300)));
	memcpy(&head, packed, sizeof(head));
	for (have = 0; have < sizeof(head); have++)
		ck_assert_uint_eq(answer_part(&query, have, NO_LIMIT, NOW),
		    0);

	/* More records than there is room for their offsets. */
	head.count[0] = UINT16_MAX;
	memcpy(packed, &head, sizeof(head));
	ck_assert_uint_eq(answer(&query, NO_LIMIT, NOW + 5000), 0);
	head.count[0] = 0;
	head.count[2] = (packed_len - sizeof(head)) / sizeof(uint16_t) + 1;
	memcpy(packed, &head, sizeof(head));
	ck_assert_uint_eq(answer(&query, NO_LIMIT, NOW + 5000), 0);
	head.count[0] = 1;
	head.count[2] = 0;
	memcpy(packed, &head, sizeof(head));
	ck_assert_uint_ne(answer(&query, NO_LIMIT, NOW + 5000), 0);

	/* A TTL in the question, behind the message, or at its very end. */
	for (at = 0; at < BEHIND_QUESTION; at++) {
		memcpy(packed + sizeof(head), &at, sizeof(at));
		ck_assert_uint_eq(answer(&query, NO_LIMIT, NOW + 5000), 0);
	}
	at = UINT16_MAX;
	memcpy(packed + sizeof(head), &at, sizeof(at));
	ck_assert_uint_eq(answer(&query, NO_LIMIT, NOW + 5000), 0);
	at = BEHIND_QUESTION + A_LEN - 3;
	memcpy(packed + sizeof(head), &at, sizeof(at));
	ck_assert_uint_eq(answer(&query, NO_LIMIT, NOW + 5000), 0);
	at--;
	memcpy(packed + sizeof(head), &at, sizeof(at));
	ck_assert_uint_ne(answer(&query, NO_LIMIT, NOW + 5000), 0);
}
END_TEST

/* SERVFAIL. */

START_TEST(failure_is_kept_for_longer_each_time)
{
	static const struct {
		uint16_t	 before, seconds;
	} cases[] = {
		{ 0, 1 }, { 1, 2 }, { 2, 4 }, { 4, 5 }, { 5, 5 },
		{ UINT16_MAX, 5 },
	};
	struct answer_value head;
	size_t i;

	for (i = 0; i < NELEMS(cases); i++) {
		memset(&head, 0xa5, sizeof(head));
		ck_assert_uint_eq(answer_pack_failure(&head, NOW,
		    cases[i].before), sizeof(head));
		ck_assert_msg(head.failed_s == cases[i].seconds,
		    "%u after %u", head.failed_s, cases[i].before);
		ck_assert_uint_eq(head.stored_ms, NOW);
	}
}
END_TEST

START_TEST(failure_is_answered_with_servfail)
{
	struct dns_query query = query_for("\3wWw\7EXample\3com");
	size_t len;

	pack_failure();
	len = answer(&query, DNS_UDP_PLAIN, NOW + 500);
	ck_assert_uint_eq(len, BEHIND_QUESTION);
	ck_assert_mem_eq(reply, "\x12\x34\x81\x82\0\1\0\0\0\0\0\0"
	    "\3wWw\7EXample\3com\0" "\0\1\0\1", len);
	query.edns = query.dnssec_ok = true;
	query.flags = DNS_FLAG_CD | DNS_FLAG_AD;
	len = answer(&query, DNS_UDP_PLAIN, NOW + 500);
	ck_assert_uint_eq(len, BEHIND_QUESTION + DNS_OPT_LEN);
	ck_assert_mem_eq(reply, "\x12\x34\x80\x92\0\1\0\0\0\0\0\1"
	    "\3wWw\7EXample\3com\0" "\0\1\0\1" OPT_WITH_DO, len);
}
END_TEST

START_TEST(failure_of_the_longest_name_is_answered)
{
	uint8_t name[DNS_NAME_MAX];
	struct dns_query query;
	size_t i;

	memset(name, 'a', sizeof(name));
	for (i = 0; i < 3; i++)
		name[i * 64] = 63;
	name[3 * 64] = 61;
	name[DNS_NAME_MAX - 1] = 0;
	pack_failure();
	query = query_for("");
	query.name = name;
	query.name_len = sizeof(name);
	query.edns = true;
	ck_assert_uint_eq(answer(&query, DNS_UDP_PLAIN, NOW),
	    DNS_HEADER_LEN + DNS_NAME_MAX + 4 + DNS_OPT_LEN);
	ck_assert_uint_eq(reply[3] & DNS_FLAG_RCODE, DNS_RCODE_SERVFAIL);
}
END_TEST

START_TEST(failure_of_another_message_is_none)
{
	struct answer_value head;

	pack(BYTES(MESSAGE("\x81\x80", "\1", "\0", "\0") A(T300)));
	memcpy(&head, packed, sizeof(head));
	ck_assert_uint_eq(head.failed_s, 0);
}
END_TEST

START_TEST(udp_limit_is_the_clients_up_to_ours)
{
	static const struct {
		bool		 edns;
		uint16_t	 size;
		size_t		 limit;
	} cases[] = {
		{ false, 512, 512 }, { true, 512, 512 }, { true, 513, 513 },
		{ true, 1231, 1231 }, { true, 1232, 1232 },
		{ true, 1233, 1232 }, { true, 4096, 1232 },
		{ true, 65535, 1232 },
	};
	struct dns_query query = query_for("\3www\7example\3com");
	size_t i;

	for (i = 0; i < NELEMS(cases); i++) {
		query.edns = cases[i].edns;
		query.edns_size = cases[i].size;
		ck_assert_uint_eq(answer_udp_limit(&query), cases[i].limit);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("answer");
	TCase *tc;
	SRunner *sr;
	int failed;

	tc = tcase_create("reply");
	tcase_add_test(tc, reply_is_made_for_this_client);
	tcase_add_test(tc, one_value_serves_many_clients);
	tcase_add_test(tc, flags_are_the_clients);
	tcase_add_test(tc, ttls_age_by_the_time_in_the_cache);
	tcase_add_test(tc, clock_behind_the_store_ages_nothing);
	tcase_add_test(tc, ttl_above_2_to_the_31_counts_as_0);
	tcase_add_test(tc, opt_goes_to_those_who_sent_one);
	tcase_add_test(tc, opt_stands_behind_the_other_additionals);
	tcase_add_test(tc, sections_keep_their_records);
	tcase_add_test(tc, records_of_any_type_pass_byte_for_byte);
	tcase_add_test(tc, question_type_is_the_clients);
	suite_add_tcase(s, tc);

	tc = tcase_create("size");
	tcase_add_test(tc, reply_that_does_not_fit_is_truncated);
	tcase_add_test(tc, truncated_reply_keeps_its_rcode);
	tcase_add_test(tc, part_of_a_value_gives_a_truncated_reply);
	tcase_add_test(tc, largest_message_is_answered);
	tcase_add_test(tc, opt_does_not_make_a_reply_too_long);
	tcase_add_test(tc, udp_limit_is_the_clients_up_to_ours);
	suite_add_tcase(s, tc);

	tc = tcase_create("value");
	tcase_add_test(tc, malformed_message_is_not_packed);
	tcase_add_test(tc, pack_tells_what_it_found);
	tcase_add_test(tc, value_that_makes_no_sense_is_no_reply);
	tcase_add_test(tc, failure_is_kept_for_longer_each_time);
	tcase_add_test(tc, failure_is_answered_with_servfail);
	tcase_add_test(tc, failure_of_the_longest_name_is_answered);
	tcase_add_test(tc, failure_of_another_message_is_none);
	suite_add_tcase(s, tc);

	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return (failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}
