/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef DNS_H
#define DNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DNS_HEADER_LEN		12
#define DNS_NAME_MAX		255	/* RFC 1035 2.3.4, wire form */
#define DNS_NAME_TEXT_MAX	1025	/* every byte as \DDD, dots, the end */
#define DNS_MESSAGE_MAX		65535
#define DNS_UDP_MAX		1232	/* what we send and ask for, RFC 9715 */
#define DNS_UDP_PLAIN		512	/* without EDNS, RFC 1035 4.2.1 */
#define DNS_OPT_LEN		11	/* an OPT record without options */
#define DNS_KEY_MAX		(DNS_NAME_MAX + 3)
#define DNS_CASE_LEN		32	/* a bit for each byte of a name */

#define DNS_TYPE_SOA		6
#define DNS_TYPE_CNAME		5
#define DNS_TYPE_OPT		41
#define DNS_TYPE_IXFR		251
#define DNS_TYPE_AXFR		252
#define DNS_TYPE_ANY		255
#define DNS_CLASS_IN		1

#define DNS_RCODE_NOERROR	0
#define DNS_RCODE_FORMERR	1
#define DNS_RCODE_SERVFAIL	2
#define DNS_RCODE_NXDOMAIN	3
#define DNS_RCODE_NOTIMP	4
#define DNS_RCODE_REFUSED	5
#define DNS_RCODE_BADVERS	16	/* needs an OPT, RFC 6891 9 */

/* The second 16 bits of a header, RFC 1035 4.1.1 and RFC 4035 3.2. */
#define DNS_FLAG_QR		0x8000
#define DNS_FLAG_OPCODE		0x7800
#define DNS_FLAG_AA		0x0400
#define DNS_FLAG_TC		0x0200
#define DNS_FLAG_RD		0x0100
#define DNS_FLAG_RA		0x0080
#define DNS_FLAG_AD		0x0020
#define DNS_FLAG_CD		0x0010
#define DNS_FLAG_RCODE		0x000f

/* The last byte of a key. */
#define DNS_KEY_DO		0x01
#define DNS_KEY_CD		0x02

/*
 * A client's query.  name points into the packet: wire form, not compressed,
 * its letters as the client wrote them; NULL where no question was parsed.
 */
struct dns_query {
	const uint8_t	*name;
	size_t		 name_len;	/* with the root's zero byte */
	uint16_t	 id;
	uint16_t	 flags;		/* as in the header */
	uint16_t	 type;
	uint16_t	 class;
	uint16_t	 edns_size;	/* at least DNS_UDP_PLAIN */
	bool		 edns;
	bool		 dnssec_ok;
	bool		 keepalive;	/* RFC 7828 3.1, of interest over TCP */
};

/*
 * What an upstream sent, after dns_reply_parse().  Offsets are from the start
 * of the message.
 */
struct dns_reply {
	uint16_t	 id;
	uint16_t	 flags;		/* as in the header */
	uint16_t	 rcode;		/* with the OPT's upper eight bits */
	uint16_t	 type;		/* of the question */
	uint16_t	 class;
	size_t		 name_len;	/* of the question; 0: no question */
	size_t		 end;		/* of the last record that is kept */
	uint16_t	 count[3];	/* answer, authority, additional kept */
	uint16_t	 ttls;		/* TTLs among the kept records */
	bool		 storable;	/* by its content; see lifetime */
	bool		 nxdomain_whole;	/* NXDOMAIN, no answer record */
	uint32_t	 lifetime;	/* seconds that it may be kept */
};

/*
 * Parse a packet as a query.  Returns 0 for a query that can be served, an
 * rcode with which it is to be answered (query then holds what was parsed of
 * it), or -1 for what gets no answer: too short, or itself a response.
 */
int	 dns_query_parse(const uint8_t *buf, size_t len,
	    struct dns_query *query);

/*
 * Write a reply that consists of a header, the question if one was parsed and
 * an OPT if the query had one.  flags are added to QR, RA and the query's
 * opcode, RD and CD.  Returns its length, never above the query's own, or 0
 * if size is too small.
 */
size_t	 dns_error_write(uint8_t *buf, size_t size,
	    const struct dns_query *query, int rcode, uint16_t flags);

/* Write an OPT of ours to buf, DNS_OPT_LEN bytes (RFC 6891 6.1.2). */
void	 dns_opt_write(uint8_t *buf, int rcode, bool dnssec_ok);

/*
 * Append the edns-tcp-keepalive option to a reply that ends in an OPT without
 * options, in DNS_KEEPALIVE_LEN bytes behind it (RFC 7828 3.1).  tenths is the
 * idle time-out in units of 100 ms.  Returns the reply's new length.
 */
#define DNS_KEEPALIVE_LEN	6
size_t	 dns_keepalive_append(uint8_t *msg, size_t len, uint64_t tenths);

/*
 * Write the key of a question: the name in lower case, the type (two bytes),
 * DNS_KEY_DO and DNS_KEY_CD.  Returns its length.  The class is IN always.
 */
size_t	 dns_key_write(uint8_t key[DNS_KEY_MAX], const struct dns_query *query);

/* The parts of a key.  The name is its first dns_key_name_len() bytes. */
size_t	 dns_key_name_len(size_t key_len);
uint16_t dns_key_type(const uint8_t *key, size_t key_len);
uint8_t	 dns_key_flags(const uint8_t *key, size_t key_len);
void	 dns_key_set_type(uint8_t *key, size_t key_len, uint16_t type);

/*
 * Where in a key the suffix begins that its name has in common with the others
 * of a zone: the last two labels, or three where they are as short as in
 * co.uk.  Any bytes may stand in the key.
 */
size_t	 dns_key_suffix(const uint8_t *key, size_t key_len);

/*
 * Which letters of a name are capitals: a bit for each byte, so that the name
 * as a client wrote it can be made again from the one in the key.
 */
void	 dns_case_save(uint8_t bits[DNS_CASE_LEN], const uint8_t *name,
	    size_t len);
void	 dns_case_restore(const uint8_t bits[DNS_CASE_LEN], uint8_t *name,
	    size_t len);

/*
 * Write a query for an upstream: RD and AD set, CD as in the key, an OPT with
 * DNS_UDP_MAX and the key's DO if edns.  The letters of the name are as in
 * name, which is as long as the key's.  Returns its length, at most
 * DNS_REQUEST_MAX.
 */
#define DNS_REQUEST_MAX	(DNS_HEADER_LEN + DNS_NAME_MAX + 4 + DNS_OPT_LEN)
size_t	 dns_request_write(uint8_t buf[DNS_REQUEST_MAX], uint16_t id,
	    const uint8_t *name, const uint8_t *key, size_t key_len, bool edns);

/*
 * Parse an upstream's message and make it fit for keeping: its OPT is cut
 * off, and what stands behind the OPT; owner names equal to the question's, if
 * written out in full, get lower case; the TTL of a negative answer's SOA is
 * lowered to the negative TTL (RFC 2308 5).  ttl_at gets the offset of each
 * TTL that is kept, at most ttl_max of them.  Returns 0, or -1 if the message
 * is malformed; then reply is only good for id, flags and, if name_len is not
 * 0, the question.
 */
int	 dns_reply_parse(uint8_t *buf, size_t len, struct dns_reply *reply,
	    uint16_t *ttl_at, size_t ttl_max);

/*
 * Lower the TTLs of msg at the ttls offsets ttl_at by age seconds, none below
 * 1; TTLs above 2^31-1 count as 0 (RFC 2181 8).
 */
void	 dns_ttls_age(uint8_t *msg, const uint16_t *ttl_at, size_t ttls,
	    uint32_t age);

/* Are two names of the same length equal but for the case of letters? */
bool	 dns_name_equal(const uint8_t *a, const uint8_t *b, size_t len);

/*
 * Print a name: dots, and \DDD outside of 0x21-0x7e (RFC 1035 5.1).  Returns
 * dst.
 */
const char *dns_name_print(char dst[DNS_NAME_TEXT_MAX], const uint8_t *name,
	    size_t len);

/* Big-endian integers, at any alignment. */
uint16_t dns_get16(const uint8_t *at);
uint32_t dns_get32(const uint8_t *at);
void	 dns_put16(uint8_t *at, uint16_t value);
void	 dns_put32(uint8_t *at, uint32_t value);

#endif
