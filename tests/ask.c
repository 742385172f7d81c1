/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * A small client: `ask [-n COUNT] [-dnssec] SERVER:PORT NAME TYPE' asks once
 * over UDP, or COUNT times, and prints one line for each reply and one for
 * each of its records.  A reply counts only if it comes from the server and
 * has the query's ID.  The exit status is 0 if every query got a reply.
 */

#include <sys/socket.h>

#include <arpa/inet.h>

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "addr.h"
#include "dns.h"
#include "stub.h"

#define TIMEOUT_US	2000000

/* A message being read.  What would go beyond len sets bad. */
struct reader {
	const uint8_t	*buf;
	size_t		 len;
	size_t		 at;
	bool		 bad;
};

struct request {
	uint8_t		 buf[DNS_REQUEST_MAX];
	size_t		 len;
	uint16_t	 id;
};

static void	 write_request(struct request *, const char *, int, bool);
static int	 ask(int, const struct request *);
static void	 print_reply(const uint8_t *, size_t, uint64_t);
static void	 print_flags(uint16_t);
static void	 print_record(struct reader *);
static void	 print_rdata(struct reader *, uint16_t, size_t);
static void	 print_name(struct reader *);
static void	 print_text(struct reader *);
static void	 print_texts(struct reader *, size_t);
static void	 print_hex(struct reader *, size_t);
static void	 print_base64(struct reader *, size_t);
static void	 print_type(uint16_t);
static void	 print_parameters(struct reader *, size_t);
static void	 usage(void) __attribute__((__noreturn__));

int
main(int argc, char **argv)
{
	struct sockaddr_storage ss;
	struct request request;
	struct addr server;
	const char *wrong;
	unsigned long i, count = 1;
	bool dnssec = false;
	socklen_t ss_len;
	int fd, lost = 0, type;
	char *end;

	for (; argc > 1 && argv[1][0] == '-'; argc--, argv++) {
		if (strcmp(argv[1], "-dnssec") == 0)
			dnssec = true;
		else if (strcmp(argv[1], "-n") == 0 && argc > 2) {
			count = strtoul(argv[2], &end, 10);
			if (*end != '\0')
				usage();
			argc--;
			argv++;
		} else
			usage();
	}
	if (argc != 4)
		usage();
	wrong = addr_parse(&server, argv[1], 53);
	if (wrong != NULL)
		errx(2, "%s: %s", argv[1], wrong);
	if (server.family == AF_UNSPEC)
		errx(2, "%s: needs an address", argv[1]);
	if ((type = stub_type(argv[3])) == -1)
		errx(2, "%s: unknown type", argv[3]);
	if ((fd = socket(server.family, SOCK_DGRAM, 0)) == -1)
		err(1, "socket");
	ss_len = addr_to_sockaddr(&server, server.family, &ss);
	if (connect(fd, (struct sockaddr *)&ss, ss_len) == -1)
		err(1, "%s", argv[1]);
	for (i = 0; i < count; i++) {
		write_request(&request, argv[2], type, dnssec);
		lost |= ask(fd, &request);
	}
	return (lost == 0 ? 0 : 1);
}

static void
usage(void)
{
	fprintf(stderr,
	    "usage: ask [-n COUNT] [-dnssec] SERVER:PORT NAME TYPE\n");
	exit(2);
}

static void
write_request(struct request *request, const char *name, int type, bool dnssec)
{
	size_t at = DNS_HEADER_LEN;

	request->id = arc4random_uniform(65536);
	memset(request->buf, 0, sizeof(request->buf));
	dns_put16(request->buf, request->id);
	dns_put16(request->buf + 2, DNS_FLAG_RD);
	dns_put16(request->buf + 4, 1);
	dns_put16(request->buf + 10, 1);
	at += stub_name_write(request->buf + at, name);
	if (at == DNS_HEADER_LEN)
		errx(2, "%s: not a name", name);
	dns_put16(request->buf + at, type);
	dns_put16(request->buf + at + 2, DNS_CLASS_IN);
	dns_opt_write(request->buf + at + 4, 0, dnssec);
	request->len = at + 4 + DNS_OPT_LEN;
}

static int
ask(int fd, const struct request *request)
{
	static uint8_t buf[DNS_MESSAGE_MAX];
	uint64_t start = stub_now_us(), now = start;
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	ssize_t n;

	if (send(fd, request->buf, request->len, 0) == -1) {
		printf("no reply: %s\n", strerror(errno));
		return (1);
	}
	for (; now < start + TIMEOUT_US; now = stub_now_us()) {
		poll(&pfd, 1, (start + TIMEOUT_US - now) / 1000 + 1);
		n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n == -1 && errno != EAGAIN && errno != EINTR) {
			printf("no reply: %s\n", strerror(errno));
			return (1);
		}
		if (n < DNS_HEADER_LEN || dns_get16(buf) != request->id)
			continue;
		print_reply(buf, n, stub_now_us() - start);
		return (0);
	}
	printf("no reply within %u ms\n", TIMEOUT_US / 1000);
	return (1);
}

static void
print_reply(const uint8_t *buf, size_t len, uint64_t took_us)
{
	static const char *rcodes[] = { "NOERROR", "FORMERR", "SERVFAIL",
	    "NXDOMAIN", "NOTIMP", "REFUSED" };
	struct reader reader = { .buf = buf, .len = len, .at = 12 };
	unsigned answers, i, records, rcode = buf[3] & DNS_FLAG_RCODE;

	answers = dns_get16(buf + 6);
	records = answers + dns_get16(buf + 8) + dns_get16(buf + 10);
	if (rcode < sizeof(rcodes) / sizeof(rcodes[0]))
		printf("%s", rcodes[rcode]);
	else
		printf("RCODE%u", rcode);
	print_flags(dns_get16(buf + 2));
	printf(", %u answer%s, %zu bytes, %.1f ms\n", answers,
	    answers == 1 ? "" : "s", len, took_us / 1000.0);
	for (i = dns_get16(buf + 4); i > 0 && !reader.bad; i--) {
		/* The question is the asker's own. */
		while (reader.at < len && buf[reader.at] != 0 &&
		    buf[reader.at] < 64)
			reader.at += 1 + buf[reader.at];
		reader.at += 5;
		reader.bad = reader.at > len;
	}
	for (i = 0; i < records && !reader.bad; i++)
		print_record(&reader);
	if (reader.bad)
		printf("    (the message is malformed)\n");
}

static void
print_flags(uint16_t flags)
{
	static const struct {
		uint16_t	 flag;
		const char	*text;
	} names[] = {
		{ DNS_FLAG_QR, "qr" }, { DNS_FLAG_AA, "aa" },
		{ DNS_FLAG_TC, "tc" }, { DNS_FLAG_RD, "rd" },
		{ DNS_FLAG_RA, "ra" }, { DNS_FLAG_AD, "ad" },
		{ DNS_FLAG_CD, "cd" }
	};
	size_t i;

	printf(", flags");
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (flags & names[i].flag)
			printf(" %s", names[i].text);
}

static unsigned
get(struct reader *reader, size_t len)
{
	unsigned value = 0;

	if (reader->bad || len > reader->len - reader->at) {
		reader->bad = true;
		return (0);
	}
	for (; len > 0; len--)
		value = value << 8 | reader->buf[reader->at++];
	return (value);
}

static void
print_record(struct reader *reader)
{
	struct reader rdata;
	uint16_t type;
	uint32_t ttl;
	size_t len;

	if (reader->at + DNS_OPT_LEN <= reader->len &&
	    reader->buf[reader->at] == 0 &&
	    dns_get16(reader->buf + reader->at + 1) == DNS_TYPE_OPT) {
		reader->at += 9;
		len = get(reader, 2);
		reader->bad |= len > reader->len - reader->at;
		reader->at += reader->bad ? 0 : len;
		return;
	}
	printf("    ");
	print_name(reader);
	type = get(reader, 2);
	get(reader, 2);
	ttl = get(reader, 4);
	len = get(reader, 2);
	if (reader->bad || len > reader->len - reader->at) {
		reader->bad = true;
		printf("\n");
		return;
	}
	printf("  %u  ", ttl);
	print_type(type);
	printf("  ");
	rdata = (struct reader){ .buf = reader->buf, .at = reader->at,
	    .len = reader->at + len };
	print_rdata(&rdata, type, rdata.len);
	printf("\n");
	reader->at += len;
}

/* end is where the data end: reader's len. */
static void
print_rdata(struct reader *reader, uint16_t type, size_t end)
{
	char text[INET6_ADDRSTRLEN];
	size_t start = reader->at;
	unsigned i, value;

	switch (type) {
	case 1:				/* A */
	case 28:			/* AAAA */
		if (end - start != (type == 1 ? 4 : 16))
			break;
		printf("%s", inet_ntop(type == 1 ? AF_INET : AF_INET6,
		    reader->buf + start, text, sizeof(text)));
		return;
	case 2:				/* NS */
	case 5:				/* CNAME */
	case 12:			/* PTR */
		print_name(reader);
		return;
	case 6:				/* SOA */
		print_name(reader);
		printf(" ");
		print_name(reader);
		for (i = 0; i < 5; i++)
			printf(" %u", get(reader, 4));
		return;
	case 15:			/* MX */
		printf("%u ", get(reader, 2));
		print_name(reader);
		return;
	case 16:			/* TXT */
		print_texts(reader, end);
		return;
	case 33:			/* SRV */
		for (i = 0; i < 3; i++)
			printf("%u ", get(reader, 2));
		print_name(reader);
		return;
	case 35:			/* NAPTR */
		printf("%u ", get(reader, 2));
		printf("%u", get(reader, 2));
		for (i = 0; i < 3; i++) {
			printf(" ");
			print_text(reader);
		}
		printf(" ");
		print_name(reader);
		return;
	case 43:			/* DS */
		printf("%u ", get(reader, 2));
		printf("%u ", get(reader, 1));
		printf("%u ", get(reader, 1));
		print_hex(reader, end);
		return;
	case 46:			/* RRSIG */
		print_type(get(reader, 2));
		printf(" %u ", get(reader, 1));
		printf("%u", get(reader, 1));
		for (i = 0; i < 3; i++)
			printf(" %u", get(reader, 4));
		printf(" %u ", get(reader, 2));
		print_name(reader);
		printf(" ");
		print_base64(reader, end);
		return;
	case 48:			/* DNSKEY */
		printf("%u ", get(reader, 2));
		printf("%u ", get(reader, 1));
		printf("%u ", get(reader, 1));
		print_base64(reader, end);
		return;
	case 64:			/* SVCB */
	case 65:			/* HTTPS */
		printf("%u ", get(reader, 2));
		print_name(reader);
		print_parameters(reader, end);
		return;
	case 257:			/* CAA */
		printf("%u ", get(reader, 1));
		value = get(reader, 1);
		for (i = 0; i < value; i++)
			printf("%c", get(reader, 1));
		printf(" \"");
		while (reader->at < end && !reader->bad)
			printf("%c", get(reader, 1));
		printf("\"");
		return;
	}
	printf("\\# %zu ", end - start);
	print_hex(reader, end);
}

/* A name, which may be compressed; its pointers must lead backwards. */
static void
print_name(struct reader *reader)
{
	char text[DNS_NAME_TEXT_MAX];
	uint8_t name[DNS_NAME_MAX];
	struct reader part = *reader;
	size_t back = part.at, len = 0, to;
	bool jumped = false;
	unsigned label;

	for (;;) {
		label = get(&part, 1);
		if (label >= 0xc0) {
			to = (label & 0x3f) << 8 | get(&part, 1);
			if (!jumped)
				reader->at = part.at;
			jumped = true;
			part.bad |= to >= back;
			part.at = back = to;
		} else if (label >= 64 || len + 1 + label >= sizeof(name))
			part.bad = true;
		if (part.bad) {
			reader->bad = true;
			return;
		}
		if (label >= 64)
			continue;
		name[len++] = label;
		if (label == 0)
			break;
		part.bad = label > part.len - part.at;
		if (part.bad)
			continue;
		memcpy(name + len, part.buf + part.at, label);
		len += label;
		part.at += label;
	}
	if (!jumped)
		reader->at = part.at;
	dns_name_print(text, name, len);
	printf("%s", text);
}

/* A string in quotes. */
static void
print_text(struct reader *reader)
{
	unsigned byte, len = get(reader, 1);

	printf("\"");
	for (; len > 0 && !reader->bad; len--) {
		byte = get(reader, 1);
		if (byte == '"' || byte == '\\')
			printf("\\%c", byte);
		else if (byte < 0x20 || byte > 0x7e)
			printf("\\%03u", byte);
		else
			printf("%c", byte);
	}
	printf("\"");
}

static void
print_texts(struct reader *reader, size_t end)
{
	size_t start = reader->at;

	while (reader->at < end && !reader->bad) {
		if (reader->at != start)
			printf(" ");
		print_text(reader);
	}
}

static void
print_hex(struct reader *reader, size_t end)
{
	while (reader->at < end && !reader->bad)
		printf("%02x", get(reader, 1));
}

static void
print_base64(struct reader *reader, size_t end)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	    "abcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned i, n, value;

	while (reader->at < end && !reader->bad) {
		for (n = 0, value = 0; n < 3 && reader->at < end; n++)
			value |= get(reader, 1) << (16 - 8 * n);
		for (i = 0; i < 4; i++)
			printf("%c", i > n ? '=' :
			    digits[value >> (18 - 6 * i) & 63]);
	}
}

static void
print_type(uint16_t type)
{
	const char *text = stub_type_text(type);

	if (text != NULL)
		printf("%s", text);
	else
		printf("TYPE%u", type);
}

/* The parameters of SVCB (RFC 9460 2.1): those in common use by name. */
static void
print_parameters(struct reader *reader, size_t end)
{
	unsigned i, key, len;

	while (reader->at < end && !reader->bad) {
		key = get(reader, 2);
		len = get(reader, 2);
		if (len > end - reader->at) {
			reader->bad = true;
			return;
		}
		if (key == 1) {
			printf(" alpn=");
			print_texts(reader, reader->at + len);
		} else if (key == 3)
			printf(" port=%u", get(reader, len));
		else if (key == 4) {
			for (i = 0; i < len; i++)
				printf("%s%u", i == 0 ? " ipv4hint=" :
				    i % 4 == 0 ? "," : ".", get(reader, 1));
		} else {
			printf(" key%u=", key);
			for (i = 0; i < len; i++)
				printf("\\%03u", get(reader, 1));
		}
	}
}
