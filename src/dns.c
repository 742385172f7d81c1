/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The wire format: what a packet says, and the packets that we make.  No I/O,
 * no clock, no memory but the caller's.
 *
 * All wire data are read through one cursor.  It checks every bound, and once
 * it has failed it fails for good and reads zeroes, so that a parser reads
 * straight down and asks once at its end.  A compression pointer must lead
 * strictly backwards, to a run of labels that ends before the one that the
 * pointer is in, and a name has 127 pointers at most: so every name ends, and
 * soon, and no name stands in what comes after it.
 *
 * All records are read by one walker, dns_record_read().  No name is ever
 * compressed and no record moved: a reply is the upstream's bytes with a few of
 * them changed in place.  What those bytes say is in dns_reply.c.
 */

#include <string.h>

#include "dns_wire.h"

#define POINTERS_MAX	127		/* as many as a name has labels */
#define TYPE_META_FIRST	249		/* TKEY; then TSIG, IXFR, AXFR, ... */
#define TYPE_META_LAST	254		/* MAILA */
#define SHORT_LABEL	3		/* as the co of co.uk, or the com */
#define OPTION_KEEPALIVE	11	/* RFC 7828 3.1 */
#define OPT_DO		0x8000		/* in the OPT's TTL, RFC 3225 3 */

static bool	options_read(const uint8_t *, const struct record *,
		    struct dns_query *);
static int	query_parse_additional(struct cursor *, unsigned,
		    struct dns_query *);
static uint8_t	lower(uint8_t);

uint16_t
dns_get16(const uint8_t *at)
{
	return ((uint16_t)(at[0] << 8 | at[1]));
}

uint32_t
dns_get32(const uint8_t *at)
{
	return ((uint32_t)dns_get16(at) << 16 | dns_get16(at + 2));
}

void
dns_put16(uint8_t *at, uint16_t value)
{
	at[0] = value >> 8;
	at[1] = value & 0xff;
}

void
dns_put32(uint8_t *at, uint32_t value)
{
	dns_put16(at, value >> 16);
	dns_put16(at + 2, value & 0xffff);
}

size_t
dns_cursor_name(struct cursor *c)
{
	size_t at = c->at, end = 0, run = c->at, limit = c->len, total = 0;
	unsigned pointers = 0;
	uint8_t len;

	while (!c->failed) {
		if (at >= limit)
			break;
		len = c->buf[at];
		if (len >= 0xc0) {
			if (at + 2 > limit || pointers++ == POINTERS_MAX)
				break;
			if (end == 0)
				end = at + 2;
			at = dns_get16(c->buf + at) & 0x3fff;
			if (at >= run || at < DNS_HEADER_LEN)
				break;
			limit = run;
			run = at;
			continue;
		}
		if (len > 63)
			break;
		total += len + 1;
		at += len + 1;
		if (total > DNS_NAME_MAX || at > limit)
			break;
		if (len == 0) {
			c->at = end == 0 ? at : end;
			return (total);
		}
	}
	c->failed = true;
	return (0);
}

void
dns_record_read(struct cursor *c, struct record *record)
{
	record->owner = c->at;
	dns_cursor_name(c);
	record->owner_len = c->at - record->owner;
	record->type = cursor_16(c);
	record->class = cursor_16(c);
	record->ttl_at = c->at;
	record->ttl = cursor_32(c);
	record->rdata_len = cursor_16(c);
	record->rdata = c->at;
	cursor_skip(c, record->rdata_len);
}

int
dns_query_parse(const uint8_t *buf, size_t len, struct dns_query *query)
{
	struct cursor c = { .buf = buf, .len = len };
	unsigned questions, records, additional;
	size_t name_len;
	int rcode;

	*query = (struct dns_query){ .edns_size = DNS_UDP_PLAIN };
	if (len < DNS_HEADER_LEN)
		return (-1);
	query->id = cursor_16(&c);
	query->flags = cursor_16(&c);
	if (query->flags & DNS_FLAG_QR)
		return (-1);
	questions = cursor_16(&c);
	records = cursor_16(&c);
	records += cursor_16(&c);
	additional = cursor_16(&c);
	if (query->flags & DNS_FLAG_OPCODE)
		return (DNS_RCODE_NOTIMP);
	if (questions != 1)
		return (DNS_RCODE_FORMERR);
	name_len = dns_cursor_name(&c);
	query->type = cursor_16(&c);
	query->class = cursor_16(&c);
	if (c.failed)
		return (DNS_RCODE_FORMERR);
	query->name = buf + DNS_HEADER_LEN;
	query->name_len = name_len;

	rcode = query_parse_additional(&c, additional, query);
	if (records != 0 || c.failed || c.at != len)
		return (DNS_RCODE_FORMERR);
	if (rcode != 0)
		return (rcode);
	if (query->class != DNS_CLASS_IN)
		return (DNS_RCODE_REFUSED);
	if (query->type == 0 || query->type == DNS_TYPE_OPT)
		return (DNS_RCODE_FORMERR);
	if (query->type >= TYPE_META_FIRST && query->type <= TYPE_META_LAST)
		return (DNS_RCODE_REFUSED);
	return (0);
}

/* Read a query's additional records for its OPT.  Returns 0 or an rcode. */
static int
query_parse_additional(struct cursor *c, unsigned count,
    struct dns_query *query)
{
	struct record record;
	int rcode = 0;

	while (count-- > 0 && !c->failed) {
		dns_record_read(c, &record);
		if (c->failed || record.type != DNS_TYPE_OPT)
			continue;
		if (query->edns || record.owner_len != 1 ||
		    !options_read(c->buf, &record, query))
			rcode = DNS_RCODE_FORMERR;
		query->edns = true;
		query->dnssec_ok = record.ttl & OPT_DO;
		if (record.class > DNS_UDP_PLAIN)
			query->edns_size = record.class;
		if (rcode == 0 && (record.ttl >> 16 & 0xff) != 0)
			rcode = DNS_RCODE_BADVERS;	/* RFC 6891 6.1.3 */
	}
	return (rcode);
}

/* False: the options of an OPT don't fill its rdata, RFC 6891 6.1.2. */
static bool
options_read(const uint8_t *buf, const struct record *opt,
    struct dns_query *query)
{
	struct cursor c = { .buf = buf, .at = opt->rdata,
	    .len = opt->rdata + opt->rdata_len };
	uint16_t code, len;

	while (!c.failed && c.at < c.len) {
		code = cursor_16(&c);
		len = cursor_16(&c);
		cursor_skip(&c, len);
		if (code == OPTION_KEEPALIVE && len == 0)
			query->keepalive = true;
	}
	return (!c.failed);
}

size_t
dns_error_write(uint8_t *buf, size_t size, const struct dns_query *query,
    int rcode, uint16_t flags)
{
	size_t len = DNS_HEADER_LEN;
	bool question = query->name != NULL;

	if (question)
		len += query->name_len + 4;
	if (len + (query->edns ? DNS_OPT_LEN : 0) > size)
		return (0);
	flags |= DNS_FLAG_QR | DNS_FLAG_RA | (query->flags &
	    (DNS_FLAG_OPCODE | DNS_FLAG_RD | DNS_FLAG_CD));
	memset(buf, 0, DNS_HEADER_LEN);
	dns_put16(buf, query->id);
	dns_put16(buf + 2, flags | (rcode & DNS_FLAG_RCODE));
	if (question) {
		dns_put16(buf + 4, 1);
		memcpy(buf + DNS_HEADER_LEN, query->name, query->name_len);
		dns_put16(buf + len - 4, query->type);
		dns_put16(buf + len - 2, query->class);
	}
	if (query->edns) {
		dns_put16(buf + 10, 1);
		dns_opt_write(buf + len, rcode, query->dnssec_ok);
		len += DNS_OPT_LEN;
	}
	return (len);
}

void
dns_opt_write(uint8_t *buf, int rcode, bool dnssec_ok)
{
	buf[0] = 0;
	dns_put16(buf + 1, DNS_TYPE_OPT);
	dns_put16(buf + 3, DNS_UDP_MAX);
	dns_put32(buf + 5, (uint32_t)rcode >> 4 << 24 |
	    (dnssec_ok ? OPT_DO : 0));
	dns_put16(buf + 9, 0);
}

size_t
dns_keepalive_append(uint8_t *msg, size_t len, uint64_t tenths)
{
	if (len + DNS_KEEPALIVE_LEN > DNS_MESSAGE_MAX)
		return (len);
	dns_put16(msg + len - 2, DNS_KEEPALIVE_LEN);
	dns_put16(msg + len, OPTION_KEEPALIVE);
	dns_put16(msg + len + 2, 2);
	dns_put16(msg + len + 4, tenths < UINT16_MAX ? tenths : UINT16_MAX);
	return (len + DNS_KEEPALIVE_LEN);
}

size_t
dns_key_write(uint8_t key[DNS_KEY_MAX], const struct dns_query *query)
{
	size_t len = query->name_len;

	dns_name_lower(key, query->name, len);
	dns_put16(key + len, query->type);
	key[len + 2] = (query->dnssec_ok ? DNS_KEY_DO : 0) |
	    (query->flags & DNS_FLAG_CD ? DNS_KEY_CD : 0);
	return (len + 3);
}

size_t
dns_key_name_len(size_t key_len)
{
	return (key_len - 3);
}

uint16_t
dns_key_type(const uint8_t *key, size_t key_len)
{
	return (dns_get16(key + key_len - 3));
}

uint8_t
dns_key_flags(const uint8_t *key, size_t key_len)
{
	return (key[key_len - 1]);
}

void
dns_key_set_type(uint8_t *key, size_t key_len, uint16_t type)
{
	dns_put16(key + key_len - 3, type);
}

size_t
dns_key_suffix(const uint8_t *key, size_t key_len)
{
	/* The starts of the last three labels before the root. */
	size_t last[3] = { 0, 0, 0 }, at = 0;

	while (at + 4 < key_len && key[at] != 0) {
		last[0] = last[1];
		last[1] = last[2];
		last[2] = at;
		at += key[at] + 1;
	}
	return (last[2] - last[1] <= SHORT_LABEL + 1 ? last[0] : last[1]);
}

void
dns_case_save(uint8_t bits[DNS_CASE_LEN], const uint8_t *name, size_t len)
{
	size_t i;

	memset(bits, 0, DNS_CASE_LEN);
	for (i = 0; i < len; i++) {
		if (lower(name[i]) != name[i])
			bits[i / 8] |= 1 << i % 8;
	}
}

void
dns_case_restore(const uint8_t bits[DNS_CASE_LEN], uint8_t *name, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		if (bits[i / 8] & 1 << i % 8)
			name[i] &= ~0x20;
	}
}

size_t
dns_request_write(uint8_t buf[DNS_REQUEST_MAX], uint16_t id,
    const uint8_t *name, const uint8_t *key, size_t key_len, bool edns)
{
	uint8_t flags = dns_key_flags(key, key_len);
	size_t name_len = dns_key_name_len(key_len);
	size_t len = DNS_HEADER_LEN + name_len + 4;

	memset(buf, 0, DNS_HEADER_LEN);
	dns_put16(buf, id);
	dns_put16(buf + 2, DNS_FLAG_RD | DNS_FLAG_AD |
	    (flags & DNS_KEY_CD ? DNS_FLAG_CD : 0));
	dns_put16(buf + 4, 1);
	memcpy(buf + DNS_HEADER_LEN, name, name_len);
	dns_put16(buf + len - 4, dns_key_type(key, key_len));
	dns_put16(buf + len - 2, DNS_CLASS_IN);
	if (edns) {
		dns_put16(buf + 10, 1);
		dns_opt_write(buf + len, 0, flags & DNS_KEY_DO);
		len += DNS_OPT_LEN;
	}
	return (len);
}

void
dns_ttls_age(uint8_t *msg, const uint16_t *ttl_at, size_t ttls, uint32_t age)
{
	uint32_t ttl;
	size_t i;

	for (i = 0; i < ttls; i++) {
		ttl = ttl_sane(dns_get32(msg + ttl_at[i]));
		dns_put32(msg + ttl_at[i], ttl > age ? ttl - age : 1);
	}
}

bool
dns_name_equal(const uint8_t *a, const uint8_t *b, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		if (lower(a[i]) != lower(b[i]))
			return (false);
	}
	return (true);
}

const char *
dns_name_print(char dst[DNS_NAME_TEXT_MAX], const uint8_t *name, size_t len)
{
	static const char digits[] = "0123456789";
	size_t at = 0, out = 0, label_end;
	uint8_t byte;

	while (at < len && name[at] != 0) {
		label_end = at + 1 + name[at];
		for (at++; at < label_end && at < len; at++) {
			byte = name[at];
			if (byte == '.' || byte == '\\' || byte == '"' ||
			    byte < 0x21 || byte > 0x7e) {
				dst[out++] = '\\';
				dst[out++] = digits[byte / 100];
				dst[out++] = digits[byte / 10 % 10];
				dst[out++] = digits[byte % 10];
			} else
				dst[out++] = byte;
		}
		dst[out++] = '.';
	}
	if (out == 0)
		dst[out++] = '.';
	dst[out] = '\0';
	return (dst);
}

void
dns_name_lower(uint8_t *dst, const uint8_t *name, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		dst[i] = lower(name[i]);
}

/* Length bytes are 63 at most and so never taken for letters. */
static uint8_t
lower(uint8_t byte)
{
	return (byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte);
}
