/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The questions of the bench and their answers.  All names are equally long,
 * so that a query is a template with a number in it, and the one address of
 * a name is a hash of it: whoever sees an answer can tell if it is true.  The
 * hash takes eight bytes at a time and costs next to nothing beside a system
 * call.  It is no secret; nobody here lies on purpose.
 *
 * Names lie in 4,096 zones, h0000002a.d0b7.live, since a server may limit
 * what one zone gets of it.  Neither top-level name has a special use, for
 * which servers have answers of their own.
 */

#include <sys/socket.h>

#include <netinet/in.h>

#include <err.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dns.h"
#include "wire.h"

#define TYPE_A		1
#define NUMBER_AT	(DNS_HEADER_LEN + 2)
#define NUMBER_DIGITS	8
#define ZONE_AT		(DNS_HEADER_LEN + 12)
#define ZONE_DIGITS	3
#define RECEIVE_BYTES	(8 << 20)

static const uint8_t *skip_name(const uint8_t *, const uint8_t *);

void
wire_query_init(uint8_t buf[WIRE_QUERY_LEN], char kind, bool dead)
{
	static const uint8_t name[] = "\11k00000000\4d000\4live";

	_Static_assert(sizeof(name) == WIRE_NAME_LEN, "as the header says");
	memset(buf, 0, WIRE_QUERY_LEN);
	dns_put16(buf + 2, DNS_FLAG_RD);
	dns_put16(buf + 4, 1);
	memcpy(buf + DNS_HEADER_LEN, name, sizeof(name));
	buf[DNS_HEADER_LEN + 1] = kind;
	if (dead)
		memcpy(buf + DNS_HEADER_LEN + WIRE_NAME_LEN - 5, "dead", 4);
	dns_put16(buf + WIRE_QUERY_LEN - 4, TYPE_A);
	dns_put16(buf + WIRE_QUERY_LEN - 2, DNS_CLASS_IN);
}

void
wire_query_set(uint8_t buf[WIRE_QUERY_LEN], uint16_t id, uint32_t number)
{
	static const char digits[] = "0123456789abcdef";
	uint32_t zone = (number * UINT32_C(2654435761)) >> 20;
	unsigned i;

	dns_put16(buf, id);
	for (i = 0; i < NUMBER_DIGITS; i++)
		buf[NUMBER_AT + i] = digits[number >> (28 - 4 * i) & 15];
	for (i = 0; i < ZONE_DIGITS; i++)
		buf[ZONE_AT + i] = digits[zone >> (8 - 4 * i) & 15];
}

uint32_t
wire_address(const uint8_t *name, size_t len)
{
	uint64_t part, hash = len;

	while (len > 0) {
		size_t n = len < sizeof(part) ? len : sizeof(part);

		part = 0;
		memcpy(&part, name, n);
		/* Letters become small ones; the rest only becomes less. */
		part |= UINT64_C(0x2020202020202020);
		hash = (hash ^ part) * UINT64_C(0x9e3779b97f4a7c15);
		hash ^= hash >> 32;
		name += n;
		len -= n;
	}
	/* 64.0.0.0/3: no address that a server might take for a forged one. */
	return (((uint32_t)hash & 0x1fffffff) | 0x40000000);
}

void
wire_answer_append(uint8_t *buf, size_t len, size_t name_len, uint32_t ttl)
{
	uint8_t *at = buf + len;

	dns_put16(at, 0xc000 | DNS_HEADER_LEN);
	dns_put16(at + 2, TYPE_A);
	dns_put16(at + 4, DNS_CLASS_IN);
	dns_put32(at + 6, ttl);
	dns_put16(at + 10, 4);
	dns_put32(at + 12, wire_address(buf + DNS_HEADER_LEN, name_len));
}

enum wire_verdict
wire_reply_judge(const uint8_t *buf, size_t len,
    const uint8_t query[WIRE_QUERY_LEN])
{
	const uint8_t *at = buf + WIRE_QUERY_LEN, *end = buf + len;
	uint16_t flags;

	if (len < WIRE_QUERY_LEN || dns_get16(buf + 4) != 1 ||
	    memcmp(buf + DNS_HEADER_LEN, query + DNS_HEADER_LEN,
	    WIRE_QUERY_LEN - DNS_HEADER_LEN) != 0)
		return (WIRE_WRONG);
	flags = dns_get16(buf + 2);
	if (!(flags & DNS_FLAG_QR))
		return (WIRE_WRONG);
	if ((flags & DNS_FLAG_RCODE) != DNS_RCODE_NOERROR)
		return (WIRE_FAILED);
	if (dns_get16(buf + 6) != 1)
		return (WIRE_WRONG);
	at = skip_name(at, end);
	if (end - at < WIRE_ANSWER_LEN - 2 || dns_get16(at) != TYPE_A ||
	    dns_get16(at + 8) != 4 || dns_get32(at + 10) !=
	    wire_address(query + DNS_HEADER_LEN, WIRE_NAME_LEN))
		return (WIRE_WRONG);
	return (WIRE_TRUE);
}

/* Returns where the name at ends, or end. */
static const uint8_t *
skip_name(const uint8_t *at, const uint8_t *end)
{
	while (at < end && *at != 0 && *at < 64)
		at += 1 + *at;
	if (at >= end)
		return (end);
	at += *at == 0 ? 1 : 2;
	return (at < end ? at : end);
}

uint64_t
wire_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec * UINT64_C(1000000000) + now.tv_nsec);
}

int
wire_listen(uint16_t port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	int fd, on = 1, size = RECEIVE_BYTES;

	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd == -1)
		err(1, "socket");
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == -1)
		err(1, "SO_REUSEPORT");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size,
	    sizeof(size)) == -1)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	sin.sin_port = htons(port);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) == -1)
		err(1, "127.0.0.1:%u", port);
	return (fd);
}

uint64_t
wire_number(const char *text, uint64_t min, uint64_t max)
{
	unsigned long long value;
	char *end;

	value = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end != '\0' || value < min ||
	    value > max)
		errx(2, "%s: not a number from %llu to %llu", text,
		    (unsigned long long)min, (unsigned long long)max);
	return (value);
}
