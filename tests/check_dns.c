/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The wire format, on packets written out byte by byte.  Every packet is
 * given to the parser at the very end of an array, so that a sanitizer sees
 * the first byte that is read behind it.  SipHash is tested here as well.
 */

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "dns.h"
#include "siphash.h"

#define BYTES(text)	(text), sizeof(text) - 1
#define NELEMS(array)	(sizeof(array) / sizeof((array)[0]))

/* The parts of a packet.  A question starts at 12, "example.com" at 16. */
#define ID		"\x12\x34"
#define COUNTS(qd, an, ns, ar)	"\0" qd "\0" an "\0" ns "\0" ar
#define N0		"\0"
#define N1		"\1"
#define N2		"\2"
#define N3		"\3"
#define WWW		"\3www\7example\3com\0"
#define WWW_LEN		17
#define TYPE_A		"\0\1"
#define TYPE_NS		"\0\2"
#define TYPE_CNAME	"\0\5"
#define TYPE_SOA	"\0\6"
#define TYPE_OPT	"\0\x29"
#define TYPE_RRSIG	"\0\x2e"
#define CLASS_IN	"\0\1"
#define QUESTION	WWW TYPE_A CLASS_IN
#define QUESTION_LEN	(WWW_LEN + 4)
#define BEHIND_QUESTION	(DNS_HEADER_LEN + QUESTION_LEN)

#define QUERY(flags, qd, an, ns, ar)	ID flags COUNTS(qd, an, ns, ar)
#define RD		"\1\0"
#define PLAIN_QUERY	QUERY(RD, N1, N0, N0, N0) QUESTION
#define EDNS_QUERY	QUERY(RD, N1, N0, N0, N1) QUESTION
#define OPT(size, upper, version, flags)	\
	"\0" TYPE_OPT size upper version flags
#define OPT_PLAIN	OPT("\x04\xd0", "\0", "\0", "\0\0") "\0\0"

#define REPLY(flags, an, ns, ar)	\
	ID flags COUNTS(N1, an, ns, ar) QUESTION
#define GOOD		"\x81\x80"
#define TRUNCATED	"\x83\x80"
#define NXDOMAIN	"\x81\x83"
#define TO_WWW		"\300\14"
#define TO_EXAMPLE	"\300\20"
#define RECORD(owner, type, ttl)	owner type CLASS_IN ttl
#define A(ttl)		RECORD(TO_WWW, TYPE_A, ttl) "\0\4\300\0\2\1"
#define CNAME(ttl)	RECORD(TO_WWW, TYPE_CNAME, ttl) "\0\7\4host\300\20"
#define HOST_A(ttl)	\
	RECORD("\4host\300\20", TYPE_A, ttl) "\0\4\300\0\2\2"
#define NS(ttl)		RECORD(TO_EXAMPLE, TYPE_NS, ttl) "\0\5\2ns\300\20"
#define SOA(ttl, minimum)	\
	RECORD(TO_EXAMPLE, TYPE_SOA, ttl) "\0\x21" "\2ns\300\20" \
	"\5admin\300\20" "\0\0\0\1" "\0\0\1\0" "\0\0\1\0" "\0\1\0\0" minimum

/* Some TTLs. */
#define T0		"\0\0\0\0"
#define T1		"\0\0\0\1"
#define T30		"\0\0\0\x1e"
#define T60		"\0\0\0\x3c"
#define T300		"\0\0\1\x2c"
#define T_HOUR		"\0\0\x0e\x10"
#define T_HOUR_1	"\0\0\x0e\x11"
#define T_DAY		"\0\1\x51\x80"
#define T_DAY_1		"\0\1\x51\x81"
#define T_WEEK		"\0\x09\x3a\x80"
#define T_TOP		"\x7f\xff\xff\xff"
#define T_ABOVE		"\x80\0\0\0"
#define T_ALL		"\xff\xff\xff\xff"

#define TTLS_MAX	64

static uint8_t	*at_edge(const void *, size_t);
static uint8_t	*at_edge_of(uint8_t *, size_t, const void *, size_t);
static int	 parse_query(const void *, size_t, struct dns_query *);
static int	 parse_reply(const void *, size_t, struct dns_reply *);
static size_t	 name_fill(uint8_t *, size_t);
static uint32_t	 kept_seconds(const struct dns_reply *);

static uint16_t	 ttl_at[TTLS_MAX];
static uint8_t	*parsed;		/* the reply parsed last */

/* A copy whose end is the end of an array. */
static uint8_t *
at_edge(const void *bytes, size_t len)
{
	static uint8_t room[DNS_MESSAGE_MAX];

	return (at_edge_of(room, sizeof(room), bytes, len));
}

static uint8_t *
at_edge_of(uint8_t *room, size_t size, const void *bytes, size_t len)
{
	uint8_t *copy;

	ck_assert_uint_le(len, size);
	copy = room + size - len;
	memcpy(copy, bytes, len);
	return (copy);
}

static int
parse_query(const void *bytes, size_t len, struct dns_query *query)
{
	memset(query, 0xa5, sizeof(*query));
	return (dns_query_parse(at_edge(bytes, len), len, query));
}

static int
parse_reply(const void *bytes, size_t len, struct dns_reply *reply)
{
	memset(reply, 0xa5, sizeof(*reply));
	parsed = at_edge(bytes, len);
	return (dns_reply_parse(parsed, len, reply, ttl_at, TTLS_MAX));
}

/* Write a name of exactly len bytes in wire form, at least 3 of them. */
static size_t
name_fill(uint8_t *to, size_t len)
{
	size_t at = 0, label;

	while (len - at > 1) {
		label = len - at - 2;
		if (label > 63)
			label = label == 64 ? 62 : 63;
		to[at++] = (uint8_t)label;
		memset(to + at, 'a', label);
		at += label;
	}
	to[at++] = 0;
	return (at);
}

/* How long a reply is kept: nothing for what is not to be stored. */
static uint32_t
kept_seconds(const struct dns_reply *reply)
{
	return (reply->storable ? reply->lifetime : 0);
}

/* Queries. */

static const struct query_case {
	const char	*what;
	const char	*bytes;
	size_t		 len;
	int		 result;
} query_cases[] = {
	/* What can be served. */
	{ "a plain query", BYTES(PLAIN_QUERY), 0 },
	{ "the root", BYTES(QUERY(RD, N1, N0, N0, N0)
	    "\0" TYPE_NS CLASS_IN), 0 },
	{ "no recursion desired", BYTES(QUERY("\0\0", N1, N0, N0, N0)
	    QUESTION), 0 },
	{ "AD and CD", BYTES(QUERY("\1\x30", N1, N0, N0, N0) QUESTION), 0 },
	{ "ANY", BYTES(QUERY(RD, N1, N0, N0, N0)
	    WWW "\0\xff" CLASS_IN), 0 },
	{ "TYPE65534", BYTES(QUERY(RD, N1, N0, N0, N0)
	    WWW "\xff\xfe" CLASS_IN), 0 },
	{ "TYPE248", BYTES(QUERY(RD, N1, N0, N0, N0)
	    WWW "\0\xf8" CLASS_IN), 0 },
	{ "TYPE256", BYTES(QUERY(RD, N1, N0, N0, N0)
	    WWW "\1\0" CLASS_IN), 0 },
	{ "bytes of any kind in a label", BYTES(QUERY(RD, N1, N0, N0, N0)
	    "\4\0.\xff\\\0" TYPE_A CLASS_IN), 0 },
	{ "EDNS", BYTES(EDNS_QUERY OPT_PLAIN), 0 },
	{ "EDNS with DO", BYTES(EDNS_QUERY
	    OPT("\x10\0", "\0", "\0", "\x80\0") "\0\0"), 0 },
	{ "unknown EDNS flags", BYTES(EDNS_QUERY
	    OPT("\x10\0", "\0", "\0", "\x7f\xff") "\0\0"), 0 },
	{ "EDNS options", BYTES(EDNS_QUERY
	    OPT("\x04\xd0", "\0", "\0", "\0\0") "\0\x10"
	    "\0\x0a\0\x08" "12345678" "\xff\xff\0\0"), 0 },

	/* What gets no answer. */
	{ "nothing", BYTES(""), -1 },
	{ "one byte", BYTES("\0"), -1 },
	{ "a byte short of a header",
	    BYTES(ID RD "\0\1\0\0\0\0\0"), -1 },
	{ "a response", BYTES(QUERY("\x81\x80", N1, N0, N0, N0)
	    QUESTION), -1 },
	{ "a response without a question",
	    BYTES(QUERY("\x80\0", N0, N0, N0, N0)), -1 },
	{ "a response of another opcode",
	    BYTES(QUERY("\xa8\0", N1, N0, N0, N0) QUESTION), -1 },

	/* Other opcodes. */
	{ "IQUERY", BYTES(QUERY("\x08\0", N1, N0, N0, N0) QUESTION),
	    DNS_RCODE_NOTIMP },
	{ "STATUS", BYTES(QUERY("\x10\0", N0, N0, N0, N0)),
	    DNS_RCODE_NOTIMP },
	{ "NOTIFY with a record", BYTES(QUERY("\x24\0", N1, N1, N0, N0)
	    WWW TYPE_SOA CLASS_IN SOA(T60, T60)), DNS_RCODE_NOTIMP },
	{ "UPDATE", BYTES(QUERY("\x28\0", N1, N0, N0, N0)
	    WWW TYPE_SOA CLASS_IN), DNS_RCODE_NOTIMP },
	{ "opcode 15", BYTES(QUERY("\x79\0", N1, N0, N0, N0) QUESTION),
	    DNS_RCODE_NOTIMP },

	/* Questions that don't parse. */
	{ "a header alone", BYTES(QUERY(RD, N0, N0, N0, N0)),
	    DNS_RCODE_FORMERR },
	{ "no question but an OPT", BYTES(QUERY(RD, N0, N0, N0, N1)
	    OPT_PLAIN), DNS_RCODE_FORMERR },
	{ "two questions", BYTES(QUERY(RD, N2, N0, N0, N0)
	    QUESTION QUESTION), DNS_RCODE_FORMERR },
	{ "256 questions", BYTES(ID RD "\1\0\0\0\0\0\0\0" QUESTION),
	    DNS_RCODE_FORMERR },
	{ "a question that is not there",
	    BYTES(QUERY(RD, N1, N0, N0, N0)), DNS_RCODE_FORMERR },
	{ "a label that is cut off", BYTES(QUERY(RD, N1, N0, N0, N0)
	    "\3ww"), DNS_RCODE_FORMERR },
	{ "a name without its end", BYTES(QUERY(RD, N1, N0, N0, N0)
	    "\3www\7example\3com"), DNS_RCODE_FORMERR },
	{ "a name without a type", BYTES(QUERY(RD, N1, N0, N0, N0) WWW),
	    DNS_RCODE_FORMERR },
	{ "half a type", BYTES(QUERY(RD, N1, N0, N0, N0) WWW "\0"),
	    DNS_RCODE_FORMERR },
	{ "half a class", BYTES(QUERY(RD, N1, N0, N0, N0) WWW TYPE_A "\0"),
	    DNS_RCODE_FORMERR },
	{ "a pointer to itself", BYTES(QUERY(RD, N1, N0, N0, N0)
	    "\300\14" TYPE_A CLASS_IN), DNS_RCODE_FORMERR },
	{ "a label and a pointer back", BYTES(QUERY(RD, N1, N0, N0, N0)
	    "\3www\300\14" TYPE_A CLASS_IN), DNS_RCODE_FORMERR },
	{ "a pointer into the header", BYTES(QUERY(RD, N1, N0, N0, N0)
	    "\300\4" TYPE_A CLASS_IN), DNS_RCODE_FORMERR },
	{ "a pointer forwards", BYTES(QUERY(RD, N1, N0, N0, N0)
	    "\300\22" TYPE_A CLASS_IN "\0"), DNS_RCODE_FORMERR },
	{ "a label of kind 01", BYTES(QUERY(RD, N1, N0, N0, N0)
	    "\x41" WWW TYPE_A CLASS_IN), DNS_RCODE_FORMERR },
	{ "a label of kind 10", BYTES(QUERY(RD, N1, N0, N0, N0)
	    "\x80" WWW TYPE_A CLASS_IN), DNS_RCODE_FORMERR },

	/* Records where a query has none. */
	{ "an answer", BYTES(QUERY(RD, N1, N1, N0, N0) QUESTION A(T60)),
	    DNS_RCODE_FORMERR },
	{ "an authority", BYTES(QUERY(RD, N1, N0, N1, N0)
	    QUESTION SOA(T60, T60)), DNS_RCODE_FORMERR },
	{ "an answer that is not there",
	    BYTES(QUERY(RD, N1, N1, N0, N0) QUESTION), DNS_RCODE_FORMERR },
	{ "an additional that is not there", BYTES(EDNS_QUERY),
	    DNS_RCODE_FORMERR },
	{ "a byte behind the question", BYTES(PLAIN_QUERY "\0"),
	    DNS_RCODE_FORMERR },
	{ "an OPT that is not counted", BYTES(PLAIN_QUERY OPT_PLAIN),
	    DNS_RCODE_FORMERR },
	{ "a byte behind the OPT", BYTES(EDNS_QUERY OPT_PLAIN "\0"),
	    DNS_RCODE_FORMERR },

	/* EDNS. */
	{ "two OPTs", BYTES(QUERY(RD, N1, N0, N0, N2) QUESTION
	    OPT_PLAIN OPT_PLAIN), DNS_RCODE_FORMERR },
	{ "an OPT and half of another", BYTES(QUERY(RD, N1, N0, N0, N2)
	    QUESTION OPT_PLAIN "\0\0\x29"), DNS_RCODE_FORMERR },
	{ "an OPT that has a name", BYTES(EDNS_QUERY "\1a"
	    OPT_PLAIN), DNS_RCODE_FORMERR },
	{ "an OPT whose name is a pointer", BYTES(EDNS_QUERY
	    "\300\14\0\x29\x04\xd0\0\0\0\0\0\0"), DNS_RCODE_FORMERR },
	{ "an OPT that is cut off", BYTES(EDNS_QUERY
	    OPT("\x04\xd0", "\0", "\0", "\0\0") "\0"), DNS_RCODE_FORMERR },
	{ "an OPT longer than the packet", BYTES(EDNS_QUERY
	    OPT("\x04\xd0", "\0", "\0", "\0\0") "\0\5" "\0\3\0\0"),
	    DNS_RCODE_FORMERR },
	{ "half an option", BYTES(EDNS_QUERY
	    OPT("\x04\xd0", "\0", "\0", "\0\0") "\0\3" "\0\3\0"),
	    DNS_RCODE_FORMERR },
	{ "an option longer than the OPT", BYTES(EDNS_QUERY
	    OPT("\x04\xd0", "\0", "\0", "\0\0") "\0\5" "\0\3\0\2x"),
	    DNS_RCODE_FORMERR },
	{ "an option of 65535 bytes", BYTES(EDNS_QUERY
	    OPT("\x04\xd0", "\0", "\0", "\0\0") "\0\4" "\0\3\xff\xff"),
	    DNS_RCODE_FORMERR },
	{ "a byte behind the last option", BYTES(EDNS_QUERY
	    OPT("\x04\xd0", "\0", "\0", "\0\0") "\0\5" "\0\3\0\0x"),
	    DNS_RCODE_FORMERR },
	{ "EDNS version 1", BYTES(EDNS_QUERY
	    OPT("\x04\xd0", "\0", "\1", "\0\0") "\0\0"),
	    DNS_RCODE_BADVERS },
	{ "EDNS version 255", BYTES(EDNS_QUERY
	    OPT("\x04\xd0", "\0", "\xff", "\x80\0") "\0\0"),
	    DNS_RCODE_BADVERS },

	/* Classes and types. */
	{ "class CH", BYTES(QUERY(RD, N1, N0, N0, N0)
	    "\7version\4bind\0" "\0\x10" "\0\3"), DNS_RCODE_REFUSED },
	{ "class HS", BYTES(QUERY(RD, N1, N0, N0, N0)
	    WWW TYPE_A "\0\4"), DNS_RCODE_REFUSED },
	{ "class NONE", BYTES(QUERY(RD, N1, N0, N0, N0)
	    WWW TYPE_A "\0\xfe"), DNS_RCODE_REFUSED },
	{ "class ANY", BYTES(QUERY(RD, N1, N0, N0, N0)
	    WWW TYPE_A "\0\xff"), DNS_RCODE_REFUSED },
	{ "class 0", BYTES(QUERY(RD, N1, N0, N0, N0)
	    WWW TYPE_A "\0\0"), DNS_RCODE_REFUSED },
	{ "class 257, the low byte of which is IN's",
	    BYTES(QUERY(RD, N1, N0, N0, N0) WWW TYPE_A "\1\1"),
	    DNS_RCODE_REFUSED },
	{ "TKEY", BYTES(QUERY(RD, N1, N0, N0, N0)
	    WWW "\0\xf9" CLASS_IN), DNS_RCODE_REFUSED },
	{ "TSIG", BYTES(QUERY(RD, N1, N0, N0, N0)
	    WWW "\0\xfa" CLASS_IN), DNS_RCODE_REFUSED },
	{ "IXFR", BYTES(QUERY(RD, N1, N0, N0, N0)
	    WWW "\0\xfb" CLASS_IN), DNS_RCODE_REFUSED },
	{ "AXFR", BYTES(QUERY(RD, N1, N0, N0, N0)
	    WWW "\0\xfc" CLASS_IN), DNS_RCODE_REFUSED },
	{ "MAILB", BYTES(QUERY(RD, N1, N0, N0, N0)
	    WWW "\0\xfd" CLASS_IN), DNS_RCODE_REFUSED },
	{ "MAILA", BYTES(QUERY(RD, N1, N0, N0, N0)
	    WWW "\0\xfe" CLASS_IN), DNS_RCODE_REFUSED },
	{ "type 0", BYTES(QUERY(RD, N1, N0, N0, N0)
	    WWW "\0\0" CLASS_IN), DNS_RCODE_FORMERR },
	{ "type OPT", BYTES(QUERY(RD, N1, N0, N0, N0)
	    WWW TYPE_OPT CLASS_IN), DNS_RCODE_FORMERR },
};

START_TEST(query_gets_its_rcode)
{
	const struct query_case *t = &query_cases[_i];
	struct dns_query query;
	int result;

	result = parse_query(t->bytes, t->len, &query);
	ck_assert_msg(result == t->result, "%s: %d, not %d", t->what, result,
	    t->result);
}
END_TEST

START_TEST(query_is_taken_apart)
{
	struct dns_query query;

	ck_assert_int_eq(parse_query(BYTES(QUERY("\1\x30", N1, N0, N0, N1)
	    "\3wWw\7eXAMPLE\3com\0" "\0\x1c" CLASS_IN
	    OPT("\x10\0", "\0", "\0", "\x80\0") "\0\0"), &query), 0);
	ck_assert_uint_eq(query.id, 0x1234);
	ck_assert_uint_eq(query.flags,
	    DNS_FLAG_RD | DNS_FLAG_AD | DNS_FLAG_CD);
	ck_assert_uint_eq(query.type, 28);
	ck_assert_uint_eq(query.class, DNS_CLASS_IN);
	ck_assert_uint_eq(query.name_len, WWW_LEN);
	ck_assert_mem_eq(query.name, "\3wWw\7eXAMPLE\3com\0", WWW_LEN);
	ck_assert(query.edns);
	ck_assert(query.dnssec_ok);
	ck_assert_uint_eq(query.edns_size, 4096);
}
END_TEST

START_TEST(query_without_edns_is_taken_apart)
{
	struct dns_query query;

	ck_assert_int_eq(parse_query(BYTES(PLAIN_QUERY), &query), 0);
	ck_assert(!query.edns);
	ck_assert(!query.dnssec_ok);
	ck_assert_uint_eq(query.edns_size, DNS_UDP_PLAIN);
	ck_assert_uint_eq(query.flags, DNS_FLAG_RD);
}
END_TEST

START_TEST(edns_size_below_512_counts_as_512)
{
	static const struct {
		const char	*bytes;
		size_t		 len;
		unsigned	 size;
	} cases[] = {
		{ BYTES(EDNS_QUERY OPT("\0\0", "\0", "\0", "\0\0") "\0\0"),
		    512 },
		{ BYTES(EDNS_QUERY OPT("\1\xff", "\0", "\0", "\0\0") "\0\0"),
		    512 },
		{ BYTES(EDNS_QUERY OPT("\2\0", "\0", "\0", "\0\0") "\0\0"),
		    512 },
		{ BYTES(EDNS_QUERY OPT("\2\1", "\0", "\0", "\0\0") "\0\0"),
		    513 },
		{ BYTES(EDNS_QUERY OPT("\xff\xff", "\0", "\0", "\0\0")
		    "\0\0"), 65535 },
	};
	struct dns_query query;
	size_t i;

	for (i = 0; i < NELEMS(cases); i++) {
		ck_assert_int_eq(parse_query(cases[i].bytes, cases[i].len,
		    &query), 0);
		ck_assert(query.edns);
		ck_assert_uint_eq(query.edns_size, cases[i].size);
	}
}
END_TEST

START_TEST(question_name_is_at_most_255_bytes)
{
	uint8_t packet[DNS_HEADER_LEN + DNS_NAME_MAX + 1 + 4];
	struct dns_query query;
	size_t len, name_len;

	memcpy(packet, QUERY(RD, N1, N0, N0, N0), DNS_HEADER_LEN);
	for (name_len = 250; name_len <= DNS_NAME_MAX + 1; name_len++) {
		len = DNS_HEADER_LEN;
		len += name_fill(packet + len, name_len);
		memcpy(packet + len, TYPE_A CLASS_IN, 4);
		len += 4;
		ck_assert_int_eq(parse_query(packet, len, &query),
		    name_len <= DNS_NAME_MAX ? 0 : DNS_RCODE_FORMERR);
		if (name_len <= DNS_NAME_MAX)
			ck_assert_uint_eq(query.name_len, name_len);
	}
}
END_TEST

START_TEST(question_name_has_at_most_127_labels)
{
	uint8_t packet[DNS_HEADER_LEN + 2 * 128 + 1 + 4];
	struct dns_query query;
	size_t i, labels, len;

	memcpy(packet, QUERY(RD, N1, N0, N0, N0), DNS_HEADER_LEN);
	for (labels = 127; labels <= 128; labels++) {
		len = DNS_HEADER_LEN;
		for (i = 0; i < labels; i++) {
			packet[len++] = 1;
			packet[len++] = 'x';
		}
		packet[len++] = 0;
		memcpy(packet + len, TYPE_A CLASS_IN, 4);
		len += 4;
		ck_assert_int_eq(parse_query(packet, len, &query),
		    labels == 127 ? 0 : DNS_RCODE_FORMERR);
	}
}
END_TEST

/* No prefix of a packet may be read beyond, whatever it is taken for. */
START_TEST(query_cut_anywhere_is_no_query)
{
	static const char packet[] = EDNS_QUERY
	    OPT("\x04\xd0", "\0", "\0", "\x80\0") "\0\x0c"
	    "\0\x0a\0\x08" "12345678";
	struct dns_query query;
	size_t len;

	for (len = 0; len < sizeof(packet) - 1; len++)
		ck_assert_int_eq(parse_query(packet, len, &query),
		    len < DNS_HEADER_LEN ? -1 : DNS_RCODE_FORMERR);
	ck_assert_int_eq(parse_query(packet, len, &query), 0);
}
END_TEST

/* Error replies. */

START_TEST(error_reply_is_never_longer_than_the_query)
{
	const struct query_case *t = &query_cases[_i];
	uint8_t reply[DNS_UDP_PLAIN];
	struct dns_query query;
	size_t len;
	int result;

	result = parse_query(t->bytes, t->len, &query);
	if (result == -1)
		return;
	memset(reply, 0xa5, sizeof(reply));
	len = dns_error_write(reply, sizeof(reply), &query,
	    result == 0 ? DNS_RCODE_SERVFAIL : result, 0);
	ck_assert_msg(len >= DNS_HEADER_LEN && len <= t->len,
	    "%s: %zu bytes for %zu", t->what, len, t->len);
	ck_assert_mem_eq(reply, t->bytes, 2);
	ck_assert_uint_eq(reply[2], 0x80 | (t->bytes[2] & 0x79));
	ck_assert_uint_eq(reply[3], 0x80 | (t->bytes[3] & 0x10) |
	    ((result == 0 ? DNS_RCODE_SERVFAIL : result) & DNS_FLAG_RCODE));
	ck_assert_uint_eq(dns_get16(reply + 4), query.name != NULL);
	ck_assert_uint_eq(dns_get32(reply + 6), 0);
	ck_assert_uint_le(dns_get16(reply + 10), 1);
}
END_TEST

START_TEST(error_reply_echoes_the_question)
{
	static const struct {
		const char	*query;
		size_t		 query_len;
		const char	*reply;
		size_t		 reply_len;
	} cases[] = {
		{ BYTES(QUERY("\1\x10", N1, N0, N0, N0)
		    "\3wWW\2Ch\0" "\0\x10" "\0\3"),
		  BYTES(QUERY("\x81\x95", N1, N0, N0, N0)
		    "\3wWW\2Ch\0" "\0\x10" "\0\3") },
		{ BYTES(QUERY("\1\x20", N1, N0, N0, N0)
		    WWW "\0\xfc" CLASS_IN),
		  BYTES(QUERY("\x81\x85", N1, N0, N0, N0)
		    WWW "\0\xfc" CLASS_IN) },
		{ BYTES(QUERY(RD, N1, N0, N0, N1) WWW TYPE_A "\0\3"
		    OPT("\x10\0", "\0", "\0", "\x80\0") "\0\0"),
		  BYTES(QUERY("\x81\x85", N1, N0, N0, N1) WWW TYPE_A "\0\3"
		    OPT("\x04\xd0", "\0", "\0", "\x80\0") "\0\0") },
		{ BYTES(PLAIN_QUERY "\0"),
		  BYTES(QUERY("\x81\x81", N1, N0, N0, N0) QUESTION) },
		{ BYTES(EDNS_QUERY
		    OPT("\x04\xd0", "\0", "\1", "\0\0") "\0\0"),
		  BYTES(QUERY("\x81\x80", N1, N0, N0, N1) QUESTION
		    OPT("\x04\xd0", "\1", "\0", "\0\0") "\0\0") },
		{ BYTES(QUERY(RD, N0, N0, N0, N0)),
		  BYTES(QUERY("\x81\x81", N0, N0, N0, N0)) },
		{ BYTES(QUERY("\x79\x10", N0, N0, N0, N0)),
		  BYTES(QUERY("\xf9\x94", N0, N0, N0, N0)) },
	};
	uint8_t reply[DNS_UDP_PLAIN];
	struct dns_query query;
	size_t i, len;
	int rcode;

	for (i = 0; i < NELEMS(cases); i++) {
		rcode = parse_query(cases[i].query, cases[i].query_len,
		    &query);
		ck_assert_int_gt(rcode, 0);
		len = dns_error_write(reply, sizeof(reply), &query, rcode, 0);
		ck_assert_msg(len == cases[i].reply_len, "case %zu: %zu", i,
		    len);
		ck_assert_mem_eq(reply, cases[i].reply, len);
	}
}
END_TEST

START_TEST(error_reply_takes_flags)
{
	uint8_t reply[DNS_UDP_PLAIN];
	struct dns_query query;

	ck_assert_int_eq(parse_query(BYTES(PLAIN_QUERY), &query), 0);
	ck_assert_uint_eq(dns_error_write(reply, sizeof(reply), &query,
	    DNS_RCODE_NOERROR, DNS_FLAG_TC), BEHIND_QUESTION);
	ck_assert_uint_eq(dns_get16(reply + 2), DNS_FLAG_QR | DNS_FLAG_TC |
	    DNS_FLAG_RD | DNS_FLAG_RA);
}
END_TEST

START_TEST(error_reply_needs_room)
{
	uint8_t reply[BEHIND_QUESTION + DNS_OPT_LEN];
	struct dns_query query;
	size_t size;

	ck_assert_int_eq(parse_query(BYTES(EDNS_QUERY OPT_PLAIN), &query), 0);
	for (size = 0; size < sizeof(reply); size++)
		ck_assert_uint_eq(dns_error_write(reply + sizeof(reply) -
		    size, size, &query, DNS_RCODE_SERVFAIL, 0), 0);
	ck_assert_uint_eq(dns_error_write(reply, sizeof(reply), &query,
	    DNS_RCODE_SERVFAIL, 0), sizeof(reply));
}
END_TEST

START_TEST(opt_has_our_size_and_the_upper_rcode)
{
	uint8_t opt[DNS_OPT_LEN];

	dns_opt_write(opt, DNS_RCODE_NOERROR, false);
	ck_assert_mem_eq(opt, OPT_PLAIN, sizeof(opt));
	dns_opt_write(opt, DNS_RCODE_NXDOMAIN, true);
	ck_assert_mem_eq(opt, OPT("\x04\xd0", "\0", "\0", "\x80\0") "\0\0",
	    sizeof(opt));
	dns_opt_write(opt, DNS_RCODE_BADVERS, false);
	ck_assert_mem_eq(opt, OPT("\x04\xd0", "\1", "\0", "\0\0") "\0\0",
	    sizeof(opt));
}
END_TEST

/* Keys. */

START_TEST(key_is_the_question_in_lower_case)
{
	static const struct {
		const char	*query;
		size_t		 query_len;
		const char	*key;
		size_t		 key_len;
	} cases[] = {
		{ BYTES(PLAIN_QUERY), BYTES(WWW TYPE_A "\0") },
		{ BYTES(QUERY(RD, N1, N0, N0, N0)
		    "\3WwW\7EXAMPLE\3CoM\0" TYPE_A CLASS_IN),
		  BYTES(WWW TYPE_A "\0") },
		{ BYTES(QUERY("\0\x10", N1, N0, N0, N0) QUESTION),
		  BYTES(WWW TYPE_A "\2") },
		{ BYTES(EDNS_QUERY
		    OPT("\x10\0", "\0", "\0", "\x80\0") "\0\0"),
		  BYTES(WWW TYPE_A "\1") },
		{ BYTES(QUERY("\1\x10", N1, N0, N0, N1) QUESTION
		    OPT("\x10\0", "\0", "\0", "\x80\0") "\0\0"),
		  BYTES(WWW TYPE_A "\3") },
		{ BYTES(EDNS_QUERY OPT_PLAIN), BYTES(WWW TYPE_A "\0") },
		{ BYTES(QUERY("\0\x20", N1, N0, N0, N0) QUESTION),
		  BYTES(WWW TYPE_A "\0") },
		{ BYTES(QUERY(RD, N1, N0, N0, N0)
		    "\0" "\xff\xfe" CLASS_IN), BYTES("\0" "\xff\xfe" "\0") },
		/* Only the 26 letters have two cases. */
		{ BYTES(QUERY(RD, N1, N0, N0, N0)
		    "\x0b@AZ[`az{\xc1\xda\xe1\0" TYPE_A CLASS_IN),
		  BYTES("\x0b@az[`az{\xc1\xda\xe1\0" TYPE_A "\0") },
	};
	uint8_t key[DNS_KEY_MAX];
	struct dns_query query;
	size_t i, len;

	for (i = 0; i < NELEMS(cases); i++) {
		ck_assert_int_eq(parse_query(cases[i].query,
		    cases[i].query_len, &query), 0);
		len = dns_key_write(key, &query);
		ck_assert_msg(len == cases[i].key_len, "case %zu", i);
		ck_assert_msg(memcmp(key, cases[i].key, len) == 0,
		    "case %zu", i);
	}
}
END_TEST

START_TEST(key_is_taken_apart)
{
	uint8_t key[] = WWW "\xff\xfe\2";
	const size_t len = sizeof(key) - 1;

	ck_assert_uint_eq(dns_key_name_len(len), WWW_LEN);
	ck_assert_uint_eq(dns_key_type(key, len), 65534);
	ck_assert_uint_eq(dns_key_flags(key, len), DNS_KEY_CD);
	dns_key_set_type(key, len, 0x0102);
	ck_assert_mem_eq(key, WWW "\1\2\2", len);
	ck_assert_uint_eq(dns_key_type(key, len), 0x0102);
}
END_TEST

START_TEST(longest_key_fits)
{
	uint8_t key[DNS_KEY_MAX], packet[DNS_HEADER_LEN + DNS_NAME_MAX + 4];
	struct dns_query query;

	memcpy(packet, QUERY(RD, N1, N0, N0, N0), DNS_HEADER_LEN);
	name_fill(packet + DNS_HEADER_LEN, DNS_NAME_MAX);
	memcpy(packet + sizeof(packet) - 4, TYPE_A CLASS_IN, 4);
	ck_assert_int_eq(parse_query(packet, sizeof(packet), &query), 0);
	ck_assert_uint_eq(dns_key_write(key, &query), DNS_KEY_MAX);
	ck_assert_mem_eq(key, packet + DNS_HEADER_LEN, DNS_NAME_MAX);
}
END_TEST

START_TEST(case_of_letters_is_saved_and_restored)
{
	static const char *const names[] = {
		"\3www\7example\3com", "\3WWW\7EXAMPLE\3COM",
		"\3wWw\7ExaMPlE\3cOm", "\7@[`{AZaz", "\4A-1_", "",
	};
	uint8_t bits[DNS_CASE_LEN], lower[64];
	size_t i, j, len;

	for (i = 0; i < NELEMS(names); i++) {
		len = strlen(names[i]) + 1;
		memcpy(lower, names[i], len);
		for (j = 0; j < len; j++)
			if (lower[j] >= 'A' && lower[j] <= 'Z')
				lower[j] += 'a' - 'A';
		memset(bits, 0xa5, sizeof(bits));
		dns_case_save(bits, (const uint8_t *)names[i], len);
		dns_case_restore(bits, lower, len);
		ck_assert_mem_eq(lower, names[i], len);
	}
}
END_TEST

START_TEST(case_of_the_longest_name_is_saved_and_restored)
{
	uint8_t bits[DNS_CASE_LEN], lower[DNS_NAME_MAX], name[DNS_NAME_MAX];
	size_t i;

	name_fill(lower, sizeof(lower));
	memcpy(name, lower, sizeof(name));
	for (i = 0; i < sizeof(name); i++)
		if (name[i] == 'a' && (i % 3 == 0 || i > 240))
			name[i] = 'A';
	dns_case_save(bits, name, sizeof(name));
	dns_case_restore(bits, lower, sizeof(lower));
	ck_assert_mem_eq(lower, name, sizeof(name));
}
END_TEST

START_TEST(names_are_equal_but_for_case)
{
	static const struct {
		const char	*a, *b;
		size_t		 len;
		bool		 equal;
	} cases[] = {
		{ WWW, WWW, WWW_LEN, true },
		{ WWW, "\3WwW\7exAMPle\3cOM\0", WWW_LEN, true },
		{ WWW, "\3wwx\7example\3com\0", WWW_LEN, false },
		{ WWW, "\3www\7example\3con\0", WWW_LEN, false },
		{ "\1@", "\1`", 3, false },
		{ "\1[", "\1{", 3, false },
		{ "\1\xc1", "\1\xe1", 3, false },
		{ "\1-", "\1\r", 3, false },
		{ "\0", "\0", 1, true },
	};
	size_t i;

	for (i = 0; i < NELEMS(cases); i++)
		ck_assert_msg(dns_name_equal((const uint8_t *)cases[i].a,
		    (const uint8_t *)cases[i].b, cases[i].len) ==
		    cases[i].equal, "case %zu", i);
}
END_TEST

/* Requests. */

START_TEST(request_asks_the_question_of_its_key)
{
	static const struct {
		const char	*key;
		bool		 edns;
		const char	*request;
		size_t		 request_len;
	} cases[] = {
		{ WWW TYPE_A "\0", false,
		  BYTES("\xab\xcd" "\1\x20" COUNTS(N1, N0, N0, N0)
		    "\3wWW\7eXAMPLe\3COm\0" TYPE_A CLASS_IN) },
		{ WWW TYPE_A "\0", true,
		  BYTES("\xab\xcd" "\1\x20" COUNTS(N1, N0, N0, N1)
		    "\3wWW\7eXAMPLe\3COm\0" TYPE_A CLASS_IN OPT_PLAIN) },
		{ WWW "\xff\xfe\1", true,
		  BYTES("\xab\xcd" "\1\x20" COUNTS(N1, N0, N0, N1)
		    "\3wWW\7eXAMPLe\3COm\0" "\xff\xfe" CLASS_IN
		    OPT("\x04\xd0", "\0", "\0", "\x80\0") "\0\0") },
		{ WWW TYPE_A "\2", true,
		  BYTES("\xab\xcd" "\1\x30" COUNTS(N1, N0, N0, N1)
		    "\3wWW\7eXAMPLe\3COm\0" TYPE_A CLASS_IN OPT_PLAIN) },
		{ WWW TYPE_A "\3", false,
		  BYTES("\xab\xcd" "\1\x30" COUNTS(N1, N0, N0, N0)
		    "\3wWW\7eXAMPLe\3COm\0" TYPE_A CLASS_IN) },
	};
	static const uint8_t name[] = "\3wWW\7eXAMPLe\3COm\0";
	uint8_t request[DNS_REQUEST_MAX];
	struct dns_query query;
	size_t i, len;

	for (i = 0; i < NELEMS(cases); i++) {
		memset(request, 0xa5, sizeof(request));
		len = dns_request_write(request, 0xabcd, name,
		    (const uint8_t *)cases[i].key, WWW_LEN + 3,
		    cases[i].edns);
		ck_assert_msg(len == cases[i].request_len, "case %zu", i);
		ck_assert_msg(memcmp(request, cases[i].request, len) == 0,
		    "case %zu", i);
		ck_assert_int_eq(parse_query(request, len, &query), 0);
	}
}
END_TEST

START_TEST(longest_request_fits)
{
	uint8_t key[DNS_KEY_MAX], request[DNS_REQUEST_MAX];

	name_fill(key, DNS_NAME_MAX);
	memcpy(key + DNS_NAME_MAX, TYPE_A "\1", 3);
	ck_assert_uint_eq(dns_request_write(request, 1, key, key, sizeof(key),
	    true), DNS_REQUEST_MAX);
}
END_TEST

/* Replies: how long they are kept. */

static const struct lifetime_case {
	const char	*what;
	const char	*bytes;
	size_t		 len;
	uint32_t	 seconds;	/* 0: not stored */
} lifetime_cases[] = {
	/* Answers: the lowest TTL. */
	{ "one record", BYTES(REPLY(GOOD, N1, N0, N0) A(T300)), 300 },
	{ "the lowest of two, the first",
	    BYTES(REPLY(GOOD, N2, N0, N0) A(T60) A(T300)), 60 },
	{ "the lowest of two, the last",
	    BYTES(REPLY(GOOD, N2, N0, N0) A(T300) A(T60)), 60 },
	{ "the lowest is in the authority section",
	    BYTES(REPLY(GOOD, N1, N1, N0) A(T300) NS(T60)), 60 },
	{ "the lowest is in the additional section",
	    BYTES(REPLY(GOOD, N1, N1, N1) A(T300) NS(T300) HOST_A(T60)), 60 },
	{ "an OPT has no TTL", BYTES(REPLY(GOOD, N1, N0, N1) A(T300)
	    OPT_PLAIN), 300 },
	{ "a CNAME and its target",
	    BYTES(REPLY(GOOD, N2, N0, N0) CNAME(T30) HOST_A(T300)), 30 },
	{ "a CNAME that was asked for", BYTES(ID GOOD
	    COUNTS(N1, N1, N0, N0) WWW TYPE_CNAME CLASS_IN CNAME(T300)),
	    300 },
	{ "ANY", BYTES(ID GOOD COUNTS(N1, N1, N0, N0)
	    WWW "\0\xff" CLASS_IN CNAME(T300)), 300 },
	{ "a SOA that was asked for", BYTES(ID GOOD COUNTS(N1, N1, N0, N0)
	    "\7example\3com\0" TYPE_SOA CLASS_IN
	    RECORD("\300\14", TYPE_SOA, T300) "\0\x16" "\0\0"
	    "\0\0\0\1" "\0\0\1\0" "\0\0\1\0" "\0\1\0\0" T30), 300 },
	{ "an answer with a SOA beside it",
	    BYTES(REPLY(GOOD, N1, N1, N0) A(T300) SOA(T60, T30)), 60 },
	{ "TTL 1", BYTES(REPLY(GOOD, N1, N0, N0) A(T1)), 1 },
	{ "TTL 0", BYTES(REPLY(GOOD, N1, N0, N0) A(T0)), 0 },
	{ "TTL 0 among others",
	    BYTES(REPLY(GOOD, N3, N0, N0) A(T60) A(T0) A(T60)), 0 },
	{ "TTL 2^31 counts as 0",
	    BYTES(REPLY(GOOD, N1, N0, N0) A(T_ABOVE)), 0 },
	{ "TTL 2^32-1 counts as 0",
	    BYTES(REPLY(GOOD, N2, N0, N0) A(T60) A(T_ALL)), 0 },
	{ "a day", BYTES(REPLY(GOOD, N1, N0, N0) A(T_DAY)), 86400 },
	{ "a second above a day",
	    BYTES(REPLY(GOOD, N1, N0, N0) A(T_DAY_1)), 86400 },
	{ "a week", BYTES(REPLY(GOOD, N1, N0, N0) A(T_WEEK)), 86400 },
	{ "TTL 2^31-1", BYTES(REPLY(GOOD, N1, N0, N0) A(T_TOP)), 86400 },

	/* NODATA and NXDOMAIN: the lower of the SOA's two. */
	{ "NODATA by the minimum",
	    BYTES(REPLY(GOOD, N0, N1, N0) SOA(T300, T60)), 60 },
	{ "NODATA by the SOA's TTL",
	    BYTES(REPLY(GOOD, N0, N1, N0) SOA(T60, T300)), 60 },
	{ "NXDOMAIN by the minimum",
	    BYTES(REPLY(NXDOMAIN, N0, N1, N0) SOA(T300, T60)), 60 },
	{ "NXDOMAIN by the SOA's TTL",
	    BYTES(REPLY(NXDOMAIN, N0, N1, N0) SOA(T60, T300)), 60 },
	{ "NXDOMAIN, SOA TTL 0",
	    BYTES(REPLY(NXDOMAIN, N0, N1, N0) SOA(T0, T300)), 0 },
	{ "NXDOMAIN, minimum 0",
	    BYTES(REPLY(NXDOMAIN, N0, N1, N0) SOA(T300, T0)), 0 },
	{ "NXDOMAIN, SOA TTL above 2^31-1",
	    BYTES(REPLY(NXDOMAIN, N0, N1, N0) SOA(T_ABOVE, T300)), 0 },
	{ "NXDOMAIN and an OPT", BYTES(REPLY(NXDOMAIN, N0, N1, N1)
	    SOA(T300, T60) OPT_PLAIN), 60 },
	{ "NXDOMAIN, its SOA the second record", BYTES(
	    REPLY(NXDOMAIN, N0, N2, N0) NS(T300) SOA(T300, T60)), 60 },
	{ "NXDOMAIN, a lower TTL beside the SOA", BYTES(
	    REPLY(NXDOMAIN, N0, N2, N0) NS(T30) SOA(T300, T60)), 60 },
	{ "NODATA for an hour",
	    BYTES(REPLY(GOOD, N0, N1, N0) SOA(T_HOUR, T_HOUR)), 3600 },
	{ "NODATA for a second more",
	    BYTES(REPLY(GOOD, N0, N1, N0) SOA(T_HOUR_1, T_HOUR_1)), 3600 },
	{ "NXDOMAIN for a day",
	    BYTES(REPLY(NXDOMAIN, N0, N1, N0) SOA(T_DAY, T_DAY)), 3600 },
	{ "NODATA without a SOA", BYTES(REPLY(GOOD, N0, N0, N0)), 0 },
	{ "NXDOMAIN without a SOA", BYTES(REPLY(NXDOMAIN, N0, N0, N0)), 0 },
	{ "a referral", BYTES(REPLY(GOOD, N0, N1, N1) NS(T300)
	    HOST_A(T300)), 0 },
	{ "a SOA in the additional section alone",
	    BYTES(REPLY(NXDOMAIN, N0, N0, N1) SOA(T300, T60)), 0 },

	/* A chain that ends in nothing: the lowest of both. */
	{ "a CNAME to NODATA, by the SOA",
	    BYTES(REPLY(GOOD, N1, N1, N0) CNAME(T300) SOA(T300, T60)), 60 },
	{ "a CNAME to NODATA, by the CNAME",
	    BYTES(REPLY(GOOD, N1, N1, N0) CNAME(T30) SOA(T300, T60)), 30 },
	{ "a CNAME to NXDOMAIN, by the SOA", BYTES(
	    REPLY(NXDOMAIN, N1, N1, N0) CNAME(T300) SOA(T60, T300)), 60 },
	{ "a CNAME to NXDOMAIN, by the CNAME", BYTES(
	    REPLY(NXDOMAIN, N1, N1, N0) CNAME(T30) SOA(T60, T300)), 30 },
	{ "a CNAME to NODATA, a lower TTL beside the SOA", BYTES(
	    REPLY(GOOD, N1, N2, N0) CNAME(T300) NS(T30) SOA(T300, T60)), 60 },
	{ "a CNAME to NODATA for a day", BYTES(REPLY(GOOD, N1, N1, N0)
	    CNAME(T_DAY) SOA(T_DAY, T_DAY)), 3600 },
	{ "a CNAME with TTL 0 to NODATA",
	    BYTES(REPLY(GOOD, N1, N1, N0) CNAME(T0) SOA(T300, T60)), 0 },
	/* Without a SOA nothing says that the chain ends. */
	{ "a CNAME alone", BYTES(REPLY(GOOD, N1, N0, N0) CNAME(T300)), 300 },
	{ "a CNAME to NXDOMAIN without a SOA",
	    BYTES(REPLY(NXDOMAIN, N1, N0, N0) CNAME(T300)), 0 },

	/* What is never stored. */
	{ "truncated", BYTES(REPLY(TRUNCATED, N1, N0, N0) A(T300)), 0 },
	{ "FORMERR", BYTES(REPLY("\x81\x81", N1, N0, N0) A(T300)), 0 },
	{ "SERVFAIL", BYTES(REPLY("\x81\x82", N0, N1, N0)
	    SOA(T300, T300)), 0 },
	{ "NOTIMP", BYTES(REPLY("\x81\x84", N1, N0, N0) A(T300)), 0 },
	{ "REFUSED", BYTES(REPLY("\x81\x85", N0, N1, N0)
	    SOA(T300, T300)), 0 },
	{ "rcode 15", BYTES(REPLY("\x81\x8f", N1, N0, N0) A(T300)), 0 },
	{ "BADVERS, the header's part of which is 0",
	    BYTES(REPLY(GOOD, N1, N0, N1) A(T300)
	    OPT("\x04\xd0", "\1", "\0", "\0\0") "\0\0"), 0 },
	{ "rcode 19, the header's part of which is 3",
	    BYTES(REPLY(NXDOMAIN, N0, N1, N1) SOA(T300, T60)
	    OPT("\x04\xd0", "\1", "\0", "\0\0") "\0\0"), 0 },
};

START_TEST(reply_is_kept_for_its_lifetime)
{
	const struct lifetime_case *t = &lifetime_cases[_i];
	struct dns_reply reply;

	ck_assert_msg(parse_reply(t->bytes, t->len, &reply) == 0, "%s",
	    t->what);
	ck_assert_msg(kept_seconds(&reply) == t->seconds, "%s: %u, not %u",
	    t->what, (unsigned)kept_seconds(&reply), (unsigned)t->seconds);
}
END_TEST

START_TEST(reply_is_taken_apart)
{
	struct dns_reply reply;

	ck_assert_int_eq(parse_reply(BYTES(REPLY("\x85\xb0", N2, N1, N2)
	    CNAME(T300) HOST_A(T60) NS(T300) HOST_A(T300) OPT_PLAIN),
	    &reply), 0);
	ck_assert_uint_eq(reply.id, 0x1234);
	ck_assert_uint_eq(reply.flags, 0x85b0);
	ck_assert_uint_eq(reply.rcode, DNS_RCODE_NOERROR);
	ck_assert_uint_eq(reply.type, 1);
	ck_assert_uint_eq(reply.class, DNS_CLASS_IN);
	ck_assert_uint_eq(reply.name_len, WWW_LEN);
	ck_assert_uint_eq(reply.count[0], 2);
	ck_assert_uint_eq(reply.count[1], 1);
	ck_assert_uint_eq(reply.count[2], 1);
	ck_assert_uint_eq(reply.ttls, 4);
	ck_assert_uint_eq(reply.end, sizeof(REPLY(GOOD, N2, N1, N2)
	    CNAME(T300) HOST_A(T60) NS(T300) HOST_A(T300)) - 1);
	ck_assert(reply.storable);
	ck_assert(!reply.nxdomain_whole);
}
END_TEST

START_TEST(reply_says_where_its_ttls_stand)
{
	static const uint32_t ttls[] = { 30, 300, 60, 3600 };
	struct dns_reply reply;
	size_t i;

	ck_assert_int_eq(parse_reply(BYTES(REPLY(GOOD, N2, N1, N2)
	    CNAME(T30) HOST_A(T300) NS(T60) OPT_PLAIN A(T_HOUR)),
	    &reply), 0);
	ck_assert_uint_eq(reply.ttls, 3);
	ck_assert_int_eq(parse_reply(BYTES(REPLY(GOOD, N2, N1, N1)
	    CNAME(T30) HOST_A(T300) NS(T60) A(T_HOUR)), &reply), 0);
	ck_assert_uint_eq(reply.ttls, NELEMS(ttls));
	for (i = 0; i < NELEMS(ttls); i++)
		ck_assert_uint_eq(dns_get32(parsed + ttl_at[i]), ttls[i]);
}
END_TEST

START_TEST(reply_with_more_ttls_than_room_overruns_nothing)
{
	uint8_t *msg;
	struct dns_reply reply;
	uint16_t at[] = { 0xa5a5, 0xa5a5, 0xa5a5 };

	msg = at_edge(BYTES(REPLY(GOOD, N3, N0, N0) A(T30) A(T60) A(T300)));
	if (dns_reply_parse(msg, sizeof(REPLY(GOOD, N3, N0, N0)
	    A(T30) A(T60) A(T300)) - 1, &reply, at, 2) == 0)
		ck_assert(reply.ttls <= 2 && !reply.storable);
	ck_assert_uint_eq(at[2], 0xa5a5);
}
END_TEST

START_TEST(reply_with_just_enough_room_for_ttls_is_parsed)
{
	uint8_t *msg;
	struct dns_reply reply;
	uint16_t at[] = { 0xa5a5, 0xa5a5, 0xa5a5 };

	msg = at_edge(BYTES(REPLY(GOOD, N2, N0, N0) A(T30) A(T60)));
	ck_assert_int_eq(dns_reply_parse(msg, sizeof(REPLY(GOOD, N2, N0, N0)
	    A(T30) A(T60)) - 1, &reply, at, 2), 0);
	ck_assert_uint_eq(reply.ttls, 2);
	ck_assert_uint_eq(at[2], 0xa5a5);
}
END_TEST

START_TEST(reply_loses_its_opt_and_what_stands_behind)
{
	static const struct {
		const char	*bytes;
		size_t		 len, end;
		uint16_t	 additional, rcode;
	} cases[] = {
		{ BYTES(REPLY(GOOD, N1, N0, N1) A(T300) OPT_PLAIN),
		  sizeof(REPLY(GOOD, N1, N0, N1) A(T300)) - 1, 0, 0 },
		{ BYTES(REPLY(GOOD, N1, N0, N3) A(T300) HOST_A(T300)
		    OPT_PLAIN HOST_A(T300)),
		  sizeof(REPLY(GOOD, N1, N0, N3) A(T300) HOST_A(T300)) - 1,
		  1, 0 },
		{ BYTES(REPLY(GOOD, N0, N0, N2)
		    OPT("\x04\xd0", "\1", "\0", "\x80\0") "\0\6"
		    "\0\x0a\0\2ab" HOST_A(T300)),
		  sizeof(REPLY(GOOD, N0, N0, N2)) - 1, 0, 16 },
		{ BYTES(REPLY("\x81\x8f", N0, N0, N1)
		    OPT("\x04\xd0", "\xff", "\0", "\0\0") "\0\0"),
		  sizeof(REPLY(GOOD, N0, N0, N1)) - 1, 0, 4095 },
	};
	struct dns_reply reply;
	size_t i;

	for (i = 0; i < NELEMS(cases); i++) {
		ck_assert_int_eq(parse_reply(cases[i].bytes, cases[i].len,
		    &reply), 0);
		ck_assert_uint_eq(reply.end, cases[i].end);
		ck_assert_uint_eq(reply.count[2], cases[i].additional);
		ck_assert_uint_eq(reply.ttls, reply.count[0] +
		    reply.count[1] + reply.count[2]);
		ck_assert_uint_eq(reply.rcode, cases[i].rcode);
	}
}
END_TEST

START_TEST(nxdomain_without_answers_holds_for_the_whole_name)
{
	struct dns_reply reply;

	ck_assert_int_eq(parse_reply(BYTES(REPLY(NXDOMAIN, N0, N1, N0)
	    SOA(T300, T60)), &reply), 0);
	ck_assert(reply.nxdomain_whole);
	ck_assert_int_eq(parse_reply(BYTES(REPLY(NXDOMAIN, N1, N1, N0)
	    CNAME(T300) SOA(T300, T60)), &reply), 0);
	ck_assert(!reply.nxdomain_whole);
	ck_assert_int_eq(parse_reply(BYTES(REPLY(GOOD, N0, N1, N0)
	    SOA(T300, T60)), &reply), 0);
	ck_assert(!reply.nxdomain_whole);
	ck_assert_int_eq(parse_reply(BYTES(REPLY(NXDOMAIN, N0, N1, N1)
	    SOA(T300, T60) OPT("\x04\xd0", "\1", "\0", "\0\0") "\0\0"),
	    &reply), 0);
	ck_assert(!reply.nxdomain_whole);
}
END_TEST

START_TEST(negative_answer_shows_its_negative_ttl)
{
	static const struct {
		const char	*bytes;
		size_t		 len;
		uint32_t	 ttl;	/* of the last record */
	} cases[] = {
		{ BYTES(REPLY(GOOD, N0, N1, N0) SOA(T300, T60)), 60 },
		{ BYTES(REPLY(GOOD, N0, N1, N0) SOA(T60, T300)), 60 },
		{ BYTES(REPLY(NXDOMAIN, N0, N1, N0) SOA(T300, T1)), 1 },
		{ BYTES(REPLY(NXDOMAIN, N0, N2, N0) NS(T300)
		    SOA(T300, T60)), 60 },
		{ BYTES(REPLY(NXDOMAIN, N1, N1, N0) CNAME(T300)
		    SOA(T300, T60)), 60 },
		{ BYTES(REPLY(GOOD, N1, N1, N0) CNAME(T300) SOA(T300, T60)),
		  60 },
		/* Nothing is lowered in a positive answer. */
		{ BYTES(REPLY(GOOD, N1, N1, N0) A(T300) SOA(T300, T60)),
		  300 },
	};
	struct dns_reply reply;
	size_t i;

	for (i = 0; i < NELEMS(cases); i++) {
		ck_assert_int_eq(parse_reply(cases[i].bytes, cases[i].len,
		    &reply), 0);
		ck_assert_uint_ge(reply.ttls, 1);
		ck_assert_msg(dns_get32(parsed + ttl_at[reply.ttls - 1]) ==
		    cases[i].ttl, "case %zu", i);
		/* The minimum itself stays as it was. */
		ck_assert_mem_eq(parsed + cases[i].len - 4,
		    cases[i].bytes + cases[i].len - 4, 4);
	}
}
END_TEST

START_TEST(owner_names_equal_to_the_question_are_lowered)
{
	static const char before[] = ID GOOD COUNTS(N1, N3, N0, N0)
	    "\3wWw\7eXample\3com\0" TYPE_CNAME CLASS_IN
	    RECORD("\3WWW\7EXAMPLE\3COM\0", TYPE_CNAME, T60)
	    "\0\x11" "\3WWW\7EXAMPLE\3COM\0"
	    RECORD("\3WWX\7EXAMPLE\3COM\0", TYPE_A, T60) "\0\4WWWW"
	    RECORD("\4WWWW\300\20", TYPE_A, T60) "\0\4WWWW";
	static const char after[] = ID GOOD COUNTS(N1, N3, N0, N0)
	    "\3wWw\7eXample\3com\0" TYPE_CNAME CLASS_IN
	    RECORD("\3www\7example\3com\0", TYPE_CNAME, T60)
	    "\0\x11" "\3WWW\7EXAMPLE\3COM\0"
	    RECORD("\3WWX\7EXAMPLE\3COM\0", TYPE_A, T60) "\0\4WWWW"
	    RECORD("\4WWWW\300\20", TYPE_A, T60) "\0\4WWWW";
	struct dns_reply reply;

	ck_assert_int_eq(parse_reply(BYTES(before), &reply), 0);
	ck_assert_mem_eq(parsed + BEHIND_QUESTION, after + BEHIND_QUESTION,
	    sizeof(after) - 1 - BEHIND_QUESTION);
}
END_TEST

/* What is no negative answer, and what is not kept, is changed in nothing. */
START_TEST(other_replies_stay_as_they_came)
{
	static const struct {
		const char	*bytes;
		size_t		 len;
	} cases[] = {
		{ BYTES(REPLY(GOOD, N1, N1, N0) A(T300) SOA(T300, T60)) },
		{ BYTES(REPLY(GOOD, N1, N0, N1) A(T_ALL) HOST_A(T0)) },
		{ BYTES(REPLY(GOOD, N0, N1, N0) NS(T300)) },
		{ BYTES(REPLY(TRUNCATED, N0, N0, N0)) },
		{ BYTES(REPLY(TRUNCATED, N0, N1, N0) SOA(T300, T60)) },
		{ BYTES(REPLY("\x81\x82", N0, N0, N0)) },
		{ BYTES(REPLY("\x81\x85", N0, N1, N0) SOA(T300, T60)) },
		{ BYTES(REPLY(NXDOMAIN, N0, N0, N0)) },
	};
	struct dns_reply reply;
	size_t i;

	for (i = 0; i < NELEMS(cases); i++) {
		ck_assert_int_eq(parse_reply(cases[i].bytes, cases[i].len,
		    &reply), 0);
		ck_assert_msg(memcmp(parsed, cases[i].bytes, cases[i].len) ==
		    0, "case %zu", i);
	}
}
END_TEST

/* Only names that are written out in full are touched. */
START_TEST(owner_name_in_part_compressed_stays)
{
	static const char packet[] = REPLY(GOOD, N1, N0, N0)
	    RECORD("\3WWW\300\20", TYPE_A, T60) "\0\4WWWW";
	struct dns_reply reply;

	ck_assert_int_eq(parse_reply(BYTES(packet), &reply), 0);
	ck_assert_mem_eq(parsed, packet, sizeof(packet) - 1);
}
END_TEST

START_TEST(reply_without_a_question_has_none)
{
	struct dns_reply reply;

	if (parse_reply(BYTES(ID "\x81\x81" COUNTS(N0, N0, N0, N0)),
	    &reply) == 0)
		ck_assert(!reply.storable);
	ck_assert_uint_eq(reply.id, 0x1234);
	ck_assert_uint_eq(reply.flags, 0x8181);
	ck_assert_uint_eq(reply.name_len, 0);
	if (parse_reply(BYTES(ID GOOD COUNTS(N0, N1, N0, N0)
	    RECORD("\0", TYPE_A, T60) "\0\4abcd"), &reply) == 0)
		ck_assert(!reply.storable);
	ck_assert_uint_eq(reply.name_len, 0);
}
END_TEST

START_TEST(malformed_reply_keeps_its_question)
{
	struct dns_reply reply;

	ck_assert_int_eq(parse_reply(BYTES(REPLY(GOOD, N2, N0, N0) A(T60)),
	    &reply), -1);
	ck_assert_uint_eq(reply.id, 0x1234);
	ck_assert_uint_eq(reply.flags, 0x8180);
	ck_assert_uint_eq(reply.name_len, WWW_LEN);
	ck_assert_uint_eq(reply.type, 1);
	ck_assert_uint_eq(reply.class, DNS_CLASS_IN);
}
END_TEST

static const struct malformed_case {
	const char	*what;
	const char	*bytes;
	size_t		 len;
} malformed_cases[] = {
	{ "nothing", BYTES("") },
	{ "half a header", BYTES(ID GOOD "\0\1\0") },
	{ "a question that is not there",
	    BYTES(ID GOOD COUNTS(N1, N0, N0, N0)) },
	{ "a question that is cut off",
	    BYTES(ID GOOD COUNTS(N1, N0, N0, N0) WWW TYPE_A "\0") },
	{ "a question that points to itself",
	    BYTES(ID GOOD COUNTS(N1, N0, N0, N0) "\300\14" TYPE_A CLASS_IN) },
	{ "an answer that is not there", BYTES(REPLY(GOOD, N1, N0, N0)) },
	{ "65535 answers", BYTES(ID GOOD "\0\1\xff\xff\0\0\0\0"
	    QUESTION A(T60)) },
	{ "an authority that is not there",
	    BYTES(REPLY(GOOD, N1, N1, N0) A(T60)) },
	{ "an additional that is not there",
	    BYTES(REPLY(GOOD, N1, N0, N1) A(T60)) },
	{ "an owner name alone", BYTES(REPLY(GOOD, N1, N0, N0) TO_WWW) },
	{ "a record without its length",
	    BYTES(REPLY(GOOD, N1, N0, N0) RECORD(TO_WWW, TYPE_A, T60)) },
	{ "a record with half its length",
	    BYTES(REPLY(GOOD, N1, N0, N0) RECORD(TO_WWW, TYPE_A, T60)
	    "\0") },
	{ "data that are not there", BYTES(REPLY(GOOD, N1, N0, N0)
	    RECORD(TO_WWW, TYPE_A, T60) "\0\4") },
	{ "data that are cut off", BYTES(REPLY(GOOD, N1, N0, N0)
	    RECORD(TO_WWW, TYPE_A, T60) "\0\4\300\0\2") },
	{ "data of 65535 bytes", BYTES(REPLY(GOOD, N1, N0, N0)
	    RECORD(TO_WWW, TYPE_A, T60) "\xff\xff\300\0\2\1") },
	{ "a pointer of one byte", BYTES(REPLY(GOOD, N1, N0, N0) "\300") },
	{ "an OPT that is cut off", BYTES(REPLY(GOOD, N0, N0, N1)
	    OPT("\x04\xd0", "\0", "\0", "\0\0") "\0") },
	{ "an OPT longer than the message", BYTES(REPLY(GOOD, N0, N0, N1)
	    OPT("\x04\xd0", "\0", "\0", "\0\0") "\0\1") },
	{ "two OPTs", BYTES(REPLY(GOOD, N0, N0, N2) OPT_PLAIN OPT_PLAIN) },
	{ "an OPT for an answer", BYTES(REPLY(GOOD, N1, N0, N0)
	    OPT_PLAIN) },
	{ "an OPT for an authority", BYTES(REPLY(GOOD, N0, N1, N0)
	    OPT_PLAIN) },
	{ "an OPT that has a name", BYTES(REPLY(GOOD, N0, N0, N1)
	    "\1a" OPT_PLAIN) },
	{ "a label of kind 01", BYTES(REPLY(GOOD, N1, N0, N0)
	    RECORD("\x41" "a\0", TYPE_A, T60) "\0\4abcd") },
	{ "a label of kind 10", BYTES(REPLY(GOOD, N1, N0, N0)
	    RECORD("\x81" "a\0", TYPE_A, T60) "\0\4abcd") },
};

START_TEST(malformed_reply_is_refused)
{
	const struct malformed_case *t = &malformed_cases[_i];
	struct dns_reply reply;

	ck_assert_msg(parse_reply(t->bytes, t->len, &reply) == -1, "%s",
	    t->what);
}
END_TEST

/* A SOA's minimum must never be read from what stands behind the record. */
START_TEST(short_soa_is_not_stored)
{
	static const struct {
		const char	*bytes;
		size_t		 len;
	} cases[] = {
		{ BYTES(REPLY(GOOD, N0, N1, N0)
		    RECORD(TO_EXAMPLE, TYPE_SOA, T300) "\0\0") },
		{ BYTES(REPLY(GOOD, N0, N1, N0)
		    RECORD(TO_EXAMPLE, TYPE_SOA, T300) "\0\4" T60) },
		{ BYTES(REPLY(GOOD, N0, N1, N0)
		    RECORD(TO_EXAMPLE, TYPE_SOA, T300) "\0\x15" "\0\0"
		    T60 T60 T60 T60 "\0\0\0") },
		/* The names take the room of the minimum. */
		{ BYTES(REPLY(GOOD, N0, N1, N0)
		    RECORD(TO_EXAMPLE, TYPE_SOA, T300) "\0\x16"
		    "\2ns\0\0" T60 T60 T60 T60 "\0") },
		/* The second name is not in the record. */
		{ BYTES(REPLY(GOOD, N0, N1, N1)
		    RECORD(TO_EXAMPLE, TYPE_SOA, T300) "\0\1" "\0"
		    RECORD("\0", TYPE_A, T60) "\0\x0e" T60 T60 T60 "ab") },
		/* A name runs out of the record. */
		{ BYTES(REPLY(GOOD, N0, N1, N1)
		    RECORD(TO_EXAMPLE, TYPE_SOA, T300) "\0\2" "\0\x3f"
		    RECORD("\0", TYPE_A, T60) "\0\x50"
		    T60 T60 T60 T60 T60 T60 T60 T60 T60 T60
		    T60 T60 T60 T60 T60 T60 T60 T60 T60 T60) },
		/* The names are loops. */
		{ BYTES(REPLY(GOOD, N0, N1, N0)
		    RECORD(TO_EXAMPLE, TYPE_SOA, T300) "\0\x18"
		    "\300\x2d\300\x2d" T60 T60 T60 T60 T60) },
	};
	struct dns_reply reply;
	size_t i;

	for (i = 0; i < NELEMS(cases); i++)
		if (parse_reply(cases[i].bytes, cases[i].len, &reply) == 0)
			ck_assert_msg(!reply.storable, "case %zu", i);
}
END_TEST

/* What stands behind the last record that was counted is no record. */
START_TEST(bytes_behind_the_last_record_are_never_kept)
{
	struct dns_reply reply;
	const size_t end = sizeof(REPLY(GOOD, N1, N0, N0) A(T60)) - 1;

	if (parse_reply(BYTES(REPLY(GOOD, N1, N0, N0) A(T60) A(T30)),
	    &reply) == 0) {
		ck_assert_uint_eq(reply.end, end);
		ck_assert_uint_eq(reply.ttls, 1);
		ck_assert_uint_eq(reply.lifetime, 60);
	}
}
END_TEST

START_TEST(reply_cut_anywhere_is_malformed)
{
	static const char packet[] = REPLY(GOOD, N2, N1, N2) CNAME(T300)
	    HOST_A(T60) SOA(T300, T60) HOST_A(T300) OPT_PLAIN;
	struct dns_reply reply;
	size_t len;

	for (len = 0; len < sizeof(packet) - 1; len++)
		ck_assert_msg(parse_reply(packet, len, &reply) == -1,
		    "%zu bytes", len);
	ck_assert_int_eq(parse_reply(packet, len, &reply), 0);
}
END_TEST

/* Names: the cursor. */

START_TEST(cursor_refuses_pointers_that_are_not_backwards)
{
	static const struct {
		const char	*what, *owner;
		size_t		 len;
	} owners[] = {
		/* An owner name stands at 33 (0x21). */
		{ "to itself", BYTES("\300\x21") },
		{ "to its own second byte", BYTES("\300\x22") },
		{ "forwards", BYTES("\300\x24") },
		{ "behind the end", BYTES("\377\377") },
		{ "to the label before it", BYTES("\1a\300\x21") },
		{ "to itself, behind a label", BYTES("\1a\300\x23") },
	};
	uint8_t packet[128];
	struct dns_reply reply;
	size_t i, len;

	for (i = 0; i < NELEMS(owners); i++) {
		len = BEHIND_QUESTION;
		memcpy(packet, REPLY(GOOD, N1, N0, N0), len);
		memcpy(packet + len, owners[i].owner, owners[i].len);
		len += owners[i].len;
		memcpy(packet + len, TYPE_A CLASS_IN T60 "\0\4\0\0\0\0", 14);
		len += 14;
		ck_assert_msg(parse_reply(packet, len, &reply) == -1, "%s",
		    owners[i].what);
	}
}
END_TEST

/* Two pointers that point to each other, one of them in the data. */
START_TEST(cursor_refuses_pointer_loops)
{
	struct dns_reply reply;

	/* The data stand at 45 (0x2d), the second owner at 47 (0x2f). */
	ck_assert_int_eq(parse_reply(BYTES(REPLY(GOOD, N2, N0, N0)
	    RECORD(TO_WWW, "\0\x10", T60) "\0\2" "\300\x2f"
	    RECORD("\300\x2d", "\0\x10", T60) "\0\0"), &reply), -1);
	ck_assert_int_eq(parse_reply(BYTES(REPLY(GOOD, N2, N0, N0)
	    RECORD(TO_WWW, "\0\x10", T60) "\0\4" "\1a\300\x2d"
	    RECORD("\300\x2d", "\0\x10", T60) "\0\0"), &reply), -1);
}
END_TEST

/*
 * A name that a pointer leads to stands whole before the name that has the
 * pointer; else it could go on in the bytes behind, which may be cut off.
 */
START_TEST(cursor_refuses_names_that_run_over_themselves)
{
	struct dns_reply reply;

	/* The data, at 45, are the length of a label that covers the owner. */
	ck_assert_int_eq(parse_reply(BYTES(REPLY(GOOD, N2, N0, N0)
	    RECORD(TO_WWW, "\0\x10", T60) "\0\1" "\4"
	    RECORD("\300\x2d", TYPE_A, T60) "\0\4abcd"), &reply), -1);
	/* Here they are the first byte of a pointer, 0xc0c0. */
	ck_assert_int_eq(parse_reply(BYTES(REPLY(GOOD, N2, N0, N0)
	    RECORD(TO_WWW, "\0\x10", T60) "\0\1" "\300"
	    RECORD("\300\x2d", TYPE_A, T60) "\0\4abcd"), &reply), -1);
	/* Here they are a label up to the owner, where the name goes on. */
	ck_assert_int_eq(parse_reply(BYTES(REPLY(GOOD, N2, N0, N0)
	    RECORD(TO_WWW, "\0\x10", T60) "\0\2" "\1a"
	    RECORD("\300\x2d", TYPE_A, T60) "\0\4abcd"), &reply), -1);
}
END_TEST

/*
 * Each record of a message could send the parser over thousands of pointers
 * that lead to pointers, and no honest name has more of them than labels.
 */
START_TEST(cursor_refuses_thousands_of_pointers)
{
	static uint8_t packet[12000];
	struct dns_reply reply;
	size_t i, len;

	memcpy(packet, REPLY(GOOD, N2, N0, N0), BEHIND_QUESTION);
	len = BEHIND_QUESTION;
	memcpy(packet + len, RECORD(TO_WWW, "\0\x10", T60), 10);
	dns_put16(packet + len + 10, 10000);
	len += 12;
	for (i = 0; i < 5000; i++) {
		dns_put16(packet + len, (uint16_t)(0xc000 |
		    (i == 0 ? DNS_HEADER_LEN : len - 2)));
		len += 2;
	}
	dns_put16(packet + len, (uint16_t)(0xc000 | (len - 2)));
	len += 2;
	memcpy(packet + len, TYPE_A CLASS_IN T60 "\0\4abcd", 14);
	len += 14;
	ck_assert_int_eq(parse_reply(packet, len, &reply), -1);
}
END_TEST

START_TEST(cursor_follows_pointers_backwards)
{
	struct dns_reply reply;

	/* From 47 to 45 to 12. */
	ck_assert_int_eq(parse_reply(BYTES(REPLY(GOOD, N2, N0, N0)
	    RECORD(TO_WWW, "\0\x10", T60) "\0\2" "\300\14"
	    RECORD("\300\x2d", TYPE_A, T60) "\0\4abcd"), &reply), 0);
	ck_assert_uint_eq(reply.count[0], 2);
	/* To a name that ends where the one with the pointer begins. */
	ck_assert_int_eq(parse_reply(BYTES(REPLY(GOOD, N2, N0, N0)
	    RECORD(TO_WWW, "\0\x10", T60) "\0\3" "\1a\0"
	    RECORD("\300\x2d", TYPE_A, T60) "\0\4abcd"), &reply), 0);
	ck_assert_uint_eq(reply.count[0], 2);
}
END_TEST

/*
 * A label takes two bytes, a pointer as well: a chain of them is a name of
 * as many labels, which comes to 255 bytes behind 119 of them, since the
 * name in the question has 17.
 */
START_TEST(cursor_refuses_expanded_names_over_255_bytes)
{
	uint8_t packet[1024];
	struct dns_reply reply;
	size_t data, i, labels, len;

	for (labels = 119; labels <= 120; labels++) {
		memcpy(packet, REPLY(GOOD, N2, N0, N0), BEHIND_QUESTION);
		len = BEHIND_QUESTION;
		memcpy(packet + len, RECORD(TO_WWW, "\0\x10", T60), 10);
		dns_put16(packet + len + 10, (uint16_t)(labels * 4));
		len += 12;
		for (i = 0; i < labels; i++) {
			data = i == 0 ? DNS_HEADER_LEN : len - 4;
			packet[len++] = 1;
			packet[len++] = 'a';
			dns_put16(packet + len, (uint16_t)(0xc000 | data));
			len += 2;
		}
		dns_put16(packet + len, (uint16_t)(0xc000 | (len - 4)));
		len += 2;
		memcpy(packet + len, TYPE_A CLASS_IN T60 "\0\4abcd", 14);
		len += 14;
		ck_assert_int_eq(parse_reply(packet, len, &reply),
		    labels == 119 ? 0 : -1);
	}
}
END_TEST

START_TEST(cursor_refuses_plain_names_over_255_bytes)
{
	uint8_t packet[512];
	struct dns_reply reply;
	size_t len, name_len;

	for (name_len = DNS_NAME_MAX; name_len <= DNS_NAME_MAX + 1;
	    name_len++) {
		memcpy(packet, REPLY(GOOD, N1, N0, N0), BEHIND_QUESTION);
		len = BEHIND_QUESTION;
		len += name_fill(packet + len, name_len);
		memcpy(packet + len, TYPE_A CLASS_IN T60 "\0\4abcd", 14);
		len += 14;
		ck_assert_int_eq(parse_reply(packet, len, &reply),
		    name_len <= DNS_NAME_MAX ? 0 : -1);
	}
}
END_TEST

/* The largest message there is, full of the smallest records. */
START_TEST(reply_of_65535_bytes_is_parsed)
{
	static uint8_t packet[DNS_MESSAGE_MAX];
	static uint16_t at[DNS_MESSAGE_MAX / 11];
	struct dns_reply reply;
	size_t count, len;

	memcpy(packet, ID GOOD COUNTS(N1, N0, N0, N0) "\0" TYPE_A CLASS_IN,
	    DNS_HEADER_LEN + 5);
	len = DNS_HEADER_LEN + 5;
	for (count = 0; len + 11 <= sizeof(packet); count++) {
		memcpy(packet + len, RECORD("\0", TYPE_A, T60) "\0\0", 11);
		len += 11;
	}
	dns_put16(packet + 6, (uint16_t)count);
	ck_assert_int_eq(dns_reply_parse(packet, len, &reply, at,
	    NELEMS(at)), 0);
	ck_assert_uint_eq(reply.end, len);
	ck_assert_uint_eq(reply.ttls, count);
	ck_assert_uint_eq(at[count - 1], len - 6);
	ck_assert_uint_eq(reply.lifetime, 60);
}
END_TEST

/* TTLs. */

START_TEST(ttl_ages_and_is_never_below_1)
{
	static const struct {
		uint32_t	 ttl, age, aged;
	} cases[] = {
		{ 300, 0, 300 }, { 300, 1, 299 }, { 300, 299, 1 },
		{ 300, 300, 1 }, { 300, 301, 1 }, { 300, UINT32_MAX, 1 },
		{ 1, 0, 1 }, { 1, 1, 1 }, { 0, 5, 1 },
		{ 0x7fffffff, 1, 0x7ffffffe }, { 0x7fffffff, 0, 0x7fffffff },
		{ 0x80000000, 1, 1 }, { 0x80000000, 0, 1 },
		{ UINT32_MAX, 10, 1 }, { 0x01020304, 0x01000000, 0x00020304 },
	};
	static const uint16_t at[] = { 1, 5, 9 };
	uint8_t msg[13];
	size_t i, j;

	for (i = 0; i < NELEMS(cases); i++) {
		memset(msg, 0xa5, sizeof(msg));
		for (j = 0; j < NELEMS(at); j++)
			dns_put32(msg + at[j], cases[i].ttl);
		dns_ttls_age(msg, at, 2, cases[i].age);
		ck_assert_uint_eq(msg[0], 0xa5);
		ck_assert_msg(dns_get32(msg + 1) == cases[i].aged &&
		    dns_get32(msg + 5) == cases[i].aged, "case %zu", i);
		ck_assert_uint_eq(dns_get32(msg + 9), cases[i].ttl);
	}
}
END_TEST

/* Names in print. */

START_TEST(name_is_printed_with_dots_and_escapes)
{
	static const struct {
		const char	*name;
		size_t		 len;
		const char	*text;
	} cases[] = {
		{ BYTES("\0"), "." },
		{ BYTES(WWW), "www.example.com" },
		{ BYTES("\3WwW\0"), "WwW" },
		{ BYTES("\4_dns\1-\0"), "_dns.-" },
		{ BYTES("\2!~\0"), "!~" },
		{ BYTES("\1 \0"), "\\032" },
		{ BYTES("\3\0\n\r\0"), "\\000\\010\\013" },
		{ BYTES("\4\033[2J\0"), "\\027[2J" },
		{ BYTES("\3\x7f\x80\xff\0"), "\\127\\128\\255" },
	};
	char text[DNS_NAME_TEXT_MAX];
	size_t i, len;

	for (i = 0; i < NELEMS(cases); i++) {
		ck_assert_ptr_eq(dns_name_print(text, at_edge(cases[i].name,
		    cases[i].len), cases[i].len), text);
		len = strlen(text);
		if (len > 1 && text[len - 1] == '.')
			text[len - 1] = '\0';
		ck_assert_str_eq(text, cases[i].text);
	}
}
END_TEST

START_TEST(name_in_print_is_that_of_one_name_only)
{
	char a[DNS_NAME_TEXT_MAX], b[DNS_NAME_TEXT_MAX];

	dns_name_print(a, (const uint8_t *)"\3a.b", 5);
	dns_name_print(b, (const uint8_t *)"\1a\1b", 5);
	ck_assert_str_ne(a, b);
	dns_name_print(a, (const uint8_t *)"\4\\032", 6);
	dns_name_print(b, (const uint8_t *)"\1 ", 3);
	ck_assert_str_ne(a, b);
}
END_TEST

START_TEST(longest_name_in_print_fits)
{
	static char text[DNS_NAME_TEXT_MAX];
	uint8_t name[DNS_NAME_MAX];
	size_t i, label = 0;

	name_fill(name, sizeof(name));
	for (i = 0; i < sizeof(name); i++) {
		if (label == 0)
			label = name[i];
		else {
			name[i] = 0xff;
			label--;
		}
	}
	dns_name_print(text, name, sizeof(name));
	ck_assert_uint_lt(strlen(text), sizeof(text));
	ck_assert_uint_ge(strlen(text), 4 * (sizeof(name) - 6));
	for (i = 0; i < 127; i++) {
		name[2 * i] = 1;
		name[2 * i + 1] = 0xff;
	}
	name[2 * i] = 0;
	dns_name_print(text, name, sizeof(name));
	ck_assert_uint_ge(strlen(text), 127 * 4 + 126);
	ck_assert_uint_lt(strlen(text), sizeof(text));
}
END_TEST

START_TEST(integers_are_big_endian)
{
	uint8_t buf[] = { 0xa5, 0, 0, 0, 0, 0xa5 };

	dns_put16(buf + 1, 0x8102);
	ck_assert_mem_eq(buf, "\xa5\x81\x02\0\0\xa5", 6);
	ck_assert_uint_eq(dns_get16(buf + 1), 0x8102);
	dns_put32(buf + 1, 0x81020304);
	ck_assert_mem_eq(buf, "\xa5\x81\x02\x03\x04\xa5", 6);
	ck_assert_uint_eq(dns_get32(buf + 1), 0x81020304);
}
END_TEST

/* SipHash-1-3 of 00 01 02 ... under the key 00 01 ... 0f. */
START_TEST(siphash_agrees_with_another_implementation)
{
	static const struct {
		size_t		 len;
		uint64_t	 hash;
	} cases[] = {
		{ 0, 0xabac0158050fc4dc }, { 1, 0xc9f49bf37d57ca93 },
		{ 7, 0xd3927d989bb11140 }, { 8, 0x369095118d299a8e },
		{ 9, 0x25a48eb36c063de4 }, { 15, 0xd320d86d2a519956 },
		{ 16, 0xcc4fdd1a7d908b66 }, { 31, 0x2370dd1f8c21d1bc },
		{ 63, 0x9d199062b7bbb3a8 },
	};
	static const uint64_t key[2] = {
		0x0706050403020100, 0x0f0e0d0c0b0a0908
	};
	uint8_t buf[64];
	size_t i;

	for (i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)i;
	for (i = 0; i < NELEMS(cases); i++)
		ck_assert_uint_eq(siphash(key, at_edge(buf, cases[i].len),
		    cases[i].len), cases[i].hash);
}
END_TEST

START_TEST(suffix_is_what_a_zone_has_in_common)
{
	static const struct {
		const char	*key;
		size_t		 len;
		size_t		 suffix;
	} keys[] = {
		{ "\001a\006victim\003com\0\0\1\0", 17, 2 },
		{ "\001a\001b\006victim\003com\0\0\1\0", 19, 4 },
		{ "\001a\003abc\002co\002uk\0\0\1\0", 16, 2 },
		{ "\006victim\003com\0\0\1\0", 15, 0 },
		{ "\003com\0\0\1\0", 8, 0 },
		{ "\0\0\1\0", 4, 0 },
		{ "\377\377\377\377\377\377", 6, 0 }	/* no name */
	};
	size_t i, at;

	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		at = dns_key_suffix((const uint8_t *)keys[i].key,
		    keys[i].len);
		ck_assert_msg(at == keys[i].suffix, "%zu: %zu, not %zu", i,
		    at, keys[i].suffix);
	}
}
END_TEST

START_TEST(siphash_depends_on_key_and_length_and_every_byte)
{
	uint64_t key[2] = { 1, 2 }, before;
	uint8_t buf[24] = { 0 };
	size_t i;

	before = siphash(key, buf, sizeof(buf));
	ck_assert_uint_eq(siphash(key, buf, sizeof(buf)), before);
	ck_assert_uint_ne(siphash(key, buf, sizeof(buf) - 1), before);
	for (i = 0; i < sizeof(buf); i++) {
		buf[i] ^= 0x80;
		ck_assert_uint_ne(siphash(key, buf, sizeof(buf)), before);
		buf[i] ^= 0x80;
	}
	key[0] ^= 1;
	ck_assert_uint_ne(siphash(key, buf, sizeof(buf)), before);
	key[0] ^= 1;
	key[1] ^= 1;
	ck_assert_uint_ne(siphash(key, buf, sizeof(buf)), before);
}
END_TEST

static TCase *
queries(void)
{
	TCase *tc = tcase_create("queries");

	tcase_add_loop_test(tc, query_gets_its_rcode, 0, NELEMS(query_cases));
	tcase_add_test(tc, query_is_taken_apart);
	tcase_add_test(tc, query_without_edns_is_taken_apart);
	tcase_add_test(tc, edns_size_below_512_counts_as_512);
	tcase_add_test(tc, question_name_is_at_most_255_bytes);
	tcase_add_test(tc, question_name_has_at_most_127_labels);
	tcase_add_test(tc, query_cut_anywhere_is_no_query);
	tcase_add_loop_test(tc, error_reply_is_never_longer_than_the_query, 0,
	    NELEMS(query_cases));
	tcase_add_test(tc, error_reply_echoes_the_question);
	tcase_add_test(tc, error_reply_takes_flags);
	tcase_add_test(tc, error_reply_needs_room);
	tcase_add_test(tc, opt_has_our_size_and_the_upper_rcode);
	return (tc);
}

static TCase *
keys(void)
{
	TCase *tc = tcase_create("keys");

	tcase_add_test(tc, key_is_the_question_in_lower_case);
	tcase_add_test(tc, key_is_taken_apart);
	tcase_add_test(tc, longest_key_fits);
	tcase_add_test(tc, case_of_letters_is_saved_and_restored);
	tcase_add_test(tc, case_of_the_longest_name_is_saved_and_restored);
	tcase_add_test(tc, names_are_equal_but_for_case);
	tcase_add_test(tc, request_asks_the_question_of_its_key);
	tcase_add_test(tc, longest_request_fits);
	tcase_add_test(tc, name_is_printed_with_dots_and_escapes);
	tcase_add_test(tc, name_in_print_is_that_of_one_name_only);
	tcase_add_test(tc, longest_name_in_print_fits);
	tcase_add_test(tc, integers_are_big_endian);
	tcase_add_test(tc, siphash_agrees_with_another_implementation);
	tcase_add_test(tc, siphash_depends_on_key_and_length_and_every_byte);
	return (tc);
}

static TCase *
replies(void)
{
	TCase *tc = tcase_create("replies");

	tcase_add_loop_test(tc, reply_is_kept_for_its_lifetime, 0,
	    NELEMS(lifetime_cases));
	tcase_add_test(tc, reply_is_taken_apart);
	tcase_add_test(tc, reply_says_where_its_ttls_stand);
	tcase_add_test(tc, reply_with_more_ttls_than_room_overruns_nothing);
	tcase_add_test(tc, reply_with_just_enough_room_for_ttls_is_parsed);
	tcase_add_test(tc, reply_loses_its_opt_and_what_stands_behind);
	tcase_add_test(tc, nxdomain_without_answers_holds_for_the_whole_name);
	tcase_add_test(tc, negative_answer_shows_its_negative_ttl);
	tcase_add_test(tc, other_replies_stay_as_they_came);
	tcase_add_test(tc, owner_names_equal_to_the_question_are_lowered);
	tcase_add_test(tc, owner_name_in_part_compressed_stays);
	tcase_add_test(tc, reply_without_a_question_has_none);
	tcase_add_test(tc, malformed_reply_keeps_its_question);
	tcase_add_loop_test(tc, malformed_reply_is_refused, 0,
	    NELEMS(malformed_cases));
	tcase_add_test(tc, short_soa_is_not_stored);
	tcase_add_test(tc, bytes_behind_the_last_record_are_never_kept);
	tcase_add_test(tc, reply_cut_anywhere_is_malformed);
	tcase_add_test(tc, cursor_refuses_pointers_that_are_not_backwards);
	tcase_add_test(tc, cursor_refuses_pointer_loops);
	tcase_add_test(tc, cursor_refuses_names_that_run_over_themselves);
	tcase_add_test(tc, cursor_refuses_thousands_of_pointers);
	tcase_add_test(tc, cursor_follows_pointers_backwards);
	tcase_add_test(tc, cursor_refuses_expanded_names_over_255_bytes);
	tcase_add_test(tc, cursor_refuses_plain_names_over_255_bytes);
	tcase_add_test(tc, reply_of_65535_bytes_is_parsed);
	tcase_add_test(tc, ttl_ages_and_is_never_below_1);
	tcase_add_test(tc, suffix_is_what_a_zone_has_in_common);
	return (tc);
}

int
main(void)
{
	Suite *s = suite_create("dns");
	SRunner *sr;
	int failed;

	suite_add_tcase(s, queries());
	suite_add_tcase(s, keys());
	suite_add_tcase(s, replies());
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return (failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}
