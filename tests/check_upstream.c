/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Exchanges with servers that this program is itself, over real sockets of
 * the loopback.  The time that an exchange is told is invented: only packets
 * that are on their way are waited for, and none of the time-outs.
 */

#include <sys/socket.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dns.h"
#include "log.h"
#include "poller.h"
#include "upstream.h"

#define SERVERS_MAX	4
#define TABLE		(2 * UPSTREAM_MAX)
#define TIMEOUT_US	5000000
#define FIRST_WAIT_US	400000	/* at most, while there is another to ask */
#define ARRIVAL_MS	2000	/* a packet needs microseconds */
#define TAG		40
#define PROBE_TAG	80
#define TYPE_A		1
#define TYPE_TXT	16
#define NAME		"a-name-of-many-letters.for-their-case.example"

struct server {
	int		 udp;
	int		 tcp;		/* listens on the same port */
	struct addr	 addr;
};

/* A query as a server got it. */
struct packet {
	uint8_t			 buf[DNS_REQUEST_MAX];
	size_t			 len;
	struct dns_query	 query;
	struct sockaddr_storage	 from;
	socklen_t		 from_len;
};

static struct server server[SERVERS_MAX];
static struct health table[TABLE];
static struct upstreams upstreams;
static struct poller *poller;
static struct upstream_exchange x, probe;
static uint8_t stream[UPSTREAM_STREAM_MAX], datagram[DNS_MESSAGE_MAX];
static uint8_t key[DNS_KEY_MAX];
static size_t key_len;
static uint64_t now_us = 1000000000;
static int descriptors;		/* that were open before any exchange */

static int
count_descriptors(void)
{
	int fd, n = 0;

	for (fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) != -1;
	return (n);
}

static int
bound(int type, const struct addr *addr, uint16_t port)
{
	struct sockaddr_storage ss;
	struct addr local = *addr;
	socklen_t len;
	int fd;

	local.port = port;
	len = addr_to_sockaddr(&local, addr->family, &ss);
	fd = socket(addr->family, type, 0);
	ck_assert_int_ne(fd, -1);
	if (bind(fd, (struct sockaddr *)&ss, len) == -1) {
		close(fd);
		return (-1);
	}
	return (fd);
}

/* Returns false if there is no such address here. */
static bool
server_open(struct server *s, const char *address)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int i;

	ck_assert_ptr_null(addr_parse(&s->addr, address, 53));
	for (i = 0; i < 20; i++) {
		s->tcp = bound(SOCK_STREAM, &s->addr, 0);
		if (s->tcp == -1)
			return (false);
		len = sizeof(ss);
		ck_assert_int_eq(getsockname(s->tcp, (struct sockaddr *)&ss,
		    &len), 0);
		addr_from_sockaddr(&s->addr, &ss);
		s->udp = bound(SOCK_DGRAM, &s->addr, s->addr.port);
		if (s->udp != -1 && listen(s->tcp, 8) == 0)
			return (true);
		close(s->udp);
		close(s->tcp);
	}
	return (false);
}

/* Let connections be refused, or datagrams. */
static void
server_shut(int *fd)
{
	close(*fd);
	*fd = -1;
	descriptors--;
}

static void
ask_for(uint16_t type, bool dnssec_ok, bool checking_disabled)
{
	struct dns_query query = { .type = type, .class = DNS_CLASS_IN,
	    .dnssec_ok = dnssec_ok,
	    .flags = checking_disabled ? DNS_FLAG_CD : 0 };
	uint8_t name[DNS_NAME_MAX], *label = name, *at = name + 1;
	const char *text;

	for (text = NAME; *text != '\0'; text++, at++) {
		*at = *text;
		if (*text == '.') {
			*label = at - label - 1;
			label = at;
		}
	}
	*label = at - label - 1;
	*at++ = 0;
	query.name = name;
	query.name_len = at - name;
	key_len = dns_key_write(key, &query);
}

static void
begin(unsigned servers)
{
	struct addr addr[SERVERS_MAX];
	unsigned i;

	for (i = 0; i < servers; i++) {
		ck_assert(server_open(&server[i], "127.0.0.1:53"));
		addr[i] = server[i].addr;
	}
	health_assign(&upstreams, addr, servers, table, TABLE, NULL);
	upstreams.timeout_us = TIMEOUT_US;
	poller = poller_new(16);
	ck_assert_ptr_nonnull(poller);
	ask_for(TYPE_A, false, false);
	log_set_level(LOG_LEVEL_ERROR);	/* "is down" is what we want */
	descriptors = count_descriptors();
}

static enum upstream_status
start(void)
{
	return (upstream_start(&x, &upstreams, poller, TAG, key, key_len,
	    stream, now_us, now_us + upstreams.timeout_us));
}

static void
assert_closed(void)
{
	ck_assert_int_eq(count_descriptors(), descriptors);
}

/*
 * Wait for what is on its way, and hand it to its exchange.  What is open when
 * that was answered is ours to close.
 */
static enum upstream_status
pump(void)
{
	enum upstream_status status = UPSTREAM_WAITING;
	struct upstream_exchange *exchange;
	struct poller_event event[8];
	int i, n;

	n = poller_wait(poller, event, 8, ARRIVAL_MS, NULL);
	ck_assert_msg(n > 0, "nothing comes");
	for (i = 0; i < n && status == UPSTREAM_WAITING; i++) {
		exchange = event[i].tag >= PROBE_TAG ? &probe : &x;
		status = upstream_ready(exchange, event[i].tag -
		    (exchange == &probe ? PROBE_TAG : TAG), datagram, now_us);
		if (status == UPSTREAM_ANSWERED)
			upstream_cancel(exchange);
	}
	return (status);
}

/* Let the time come for which the exchange waits. */
static enum upstream_status
due(void)
{
	ck_assert_uint_gt(x.wake_us, now_us);
	ck_assert_int_eq(upstream_due(&x, x.wake_us - 1), UPSTREAM_WAITING);
	now_us = x.wake_us;
	return (upstream_due(&x, now_us));
}

/* Over the loopback a datagram is there as soon as it was sent. */
static bool
asked(const struct server *s)
{
	struct pollfd pfd = { .fd = s->udp, .events = POLLIN };

	return (poll(&pfd, 1, 0) == 1);
}

static void
packet_parse(struct packet *packet)
{
	uint8_t is[DNS_KEY_MAX];

	ck_assert_int_eq(dns_query_parse(packet->buf, packet->len,
	    &packet->query), 0);
	ck_assert_uint_eq(dns_key_write(is, &packet->query), key_len);
	if (!packet->query.edns)	/* then it can't say DO */
		is[key_len - 1] |= key[key_len - 1] & DNS_KEY_DO;
	ck_assert_mem_eq(is, key, key_len);
	ck_assert(packet->query.flags & DNS_FLAG_RD);
	if (packet->query.edns)
		ck_assert_uint_eq(packet->query.edns_size, DNS_UDP_MAX);
}

static struct packet
get(const struct server *s)
{
	struct packet packet = { .from_len = sizeof(packet.from) };
	struct pollfd pfd = { .fd = s->udp, .events = POLLIN };
	ssize_t n;

	ck_assert_msg(poll(&pfd, 1, ARRIVAL_MS) == 1, "no query comes");
	n = recvfrom(s->udp, packet.buf, sizeof(packet.buf), 0,
	    (struct sockaddr *)&packet.from, &packet.from_len);
	ck_assert_int_gt(n, 0);
	packet.len = n;
	packet_parse(&packet);
	return (packet);
}

/* Take the connection and the query that comes by it. */
static int
get_stream(const struct server *s, struct packet *packet)
{
	struct pollfd pfd = { .fd = s->tcp, .events = POLLIN };
	uint8_t len[2];
	int fd;

	ck_assert_msg(poll(&pfd, 1, ARRIVAL_MS) == 1, "no connection comes");
	fd = accept(s->tcp, NULL, NULL);
	ck_assert_int_ne(fd, -1);
	ck_assert_int_eq(pump(), UPSTREAM_WAITING);	/* it sends */
	ck_assert_int_eq(recv(fd, len, 2, MSG_WAITALL), 2);
	memset(packet, 0, sizeof(*packet));
	packet->len = dns_get16(len);
	ck_assert_uint_le(packet->len, sizeof(packet->buf));
	ck_assert_int_eq(recv(fd, packet->buf, packet->len, MSG_WAITALL),
	    packet->len);
	packet_parse(packet);
	return (fd);
}

/* A reply with one address; returns its length. */
static size_t
reply_make(uint8_t *buf, const struct packet *packet, uint16_t flags)
{
	static const uint8_t record[] = { 0xc0, DNS_HEADER_LEN, 0, TYPE_A,
	    0, DNS_CLASS_IN, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1 };
	size_t len = DNS_HEADER_LEN + packet->query.name_len + 4;

	memcpy(buf, packet->buf, len);
	dns_put16(buf + 2, DNS_FLAG_QR | DNS_FLAG_RD | DNS_FLAG_RA | flags);
	dns_put16(buf + 4, 1);
	memset(buf + 6, 0, 6);
	if ((flags & (DNS_FLAG_RCODE | DNS_FLAG_TC)) == 0) {
		dns_put16(buf + 6, 1);
		memcpy(buf + len, record, sizeof(record));
		len += sizeof(record);
	}
	return (len);
}

static void
send_to(const struct server *s, const struct packet *packet,
    const uint8_t *buf, size_t len)
{
	ck_assert_int_eq(sendto(s->udp, buf, len, 0,
	    (const struct sockaddr *)&packet->from, packet->from_len), len);
}

static void
reply(const struct server *s, const struct packet *packet, uint16_t flags)
{
	uint8_t buf[DNS_UDP_MAX];

	send_to(s, packet, buf, reply_make(buf, packet, flags));
}

static void
send_stream(int fd, const uint8_t *buf, size_t len)
{
	uint8_t head[2];

	dns_put16(head, len);
	ck_assert_int_eq(send(fd, head, 2, MSG_NOSIGNAL), 2);
	ck_assert_int_eq(send(fd, buf, len, MSG_NOSIGNAL), len);
}

static void
reply_stream(int fd, const struct packet *packet)
{
	uint8_t buf[DNS_UDP_MAX];

	send_stream(fd, buf, reply_make(buf, packet, 0));
}

/* Pump till an exchange of several steps has ended. */
static enum upstream_status
pump_to_end(void)
{
	enum upstream_status status = UPSTREAM_WAITING;
	unsigned i;

	for (i = 0; i < 20 && status == UPSTREAM_WAITING; i++)
		status = pump();
	return (status);
}

START_TEST(right_reply_answers)
{
	struct health *health;
	uint8_t want[DNS_UDP_MAX];
	struct packet packet;
	uint64_t sum = 0;
	size_t len, i;

	begin(1);
	health = upstreams.health[0];
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	ck_assert(packet.query.edns);
	len = reply_make(want, &packet, 0);
	now_us += 20000;
	reply(&server[0], &packet, 0);
	ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
	ck_assert_uint_eq(x.reply_len, len);
	ck_assert_mem_eq(x.reply, want, len);
	ck_assert_uint_eq(health->queries, 1);
	ck_assert_uint_eq(health->replies, 1);
	ck_assert_uint_eq(health->mismatches + health->timeouts +
	    health->errors + health->losses + health->flat_us, 0);
	ck_assert_uint_ge(health->srtt_us, 20000);
	ck_assert_uint_lt(health->srtt_us, 20100);
	ck_assert_uint_ge(health->latency_us, 20000);
	for (i = 0; i < UPSTREAM_BUCKETS; i++)
		sum += health->histogram[i];
	ck_assert_uint_eq(sum, 1);
	ck_assert_uint_eq(health->histogram[14], 1);	/* from 16,384 us */
	assert_closed();
}
END_TEST

START_TEST(query_carries_do_and_cd)
{
	struct packet packet;
	int i;

	begin(1);
	for (i = 0; i < 4; i++) {
		ask_for(TYPE_TXT, i & 1, i & 2);
		ck_assert_int_eq(start(), UPSTREAM_WAITING);
		packet = get(&server[0]);
		ck_assert_int_eq(packet.query.dnssec_ok, i & 1);
		ck_assert_int_eq((packet.query.flags & DNS_FLAG_CD) != 0,
		    (i & 2) != 0);
		upstream_cancel(&x);
	}
	assert_closed();
}
END_TEST

START_TEST(denials_are_final)
{
	static const uint16_t rcode[] = { DNS_RCODE_NXDOMAIN,
	    DNS_RCODE_NOERROR };
	struct packet packet;
	uint8_t buf[DNS_UDP_MAX];
	size_t i;

	begin(2);
	for (i = 0; i < 2; i++) {
		ck_assert_int_eq(start(), UPSTREAM_WAITING);
		packet = get(&server[0]);
		reply_make(buf, &packet, rcode[i]);
		dns_put16(buf + 6, 0);
		send_to(&server[0], &packet, buf, DNS_HEADER_LEN +
		    packet.query.name_len + 4);
		ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
		ck_assert_uint_eq(dns_get16(x.reply + 2) & DNS_FLAG_RCODE,
		    rcode[i]);
	}
	ck_assert(!asked(&server[1]));
	assert_closed();
}
END_TEST

enum spoil {
	WRONG_ID, NO_QR, WRONG_OPCODE, OTHER_NAME, OTHER_CASE, OTHER_TYPE,
	OTHER_CLASS, NO_QUESTION, TWO_QUESTIONS, CUT_OFF, SHORT, EMPTY,
	QUERY_ECHOED, SPOILS
};

/* A reply with one thing wrong; returns its length. */
static size_t
spoil_make(uint8_t *buf, const struct packet *packet, enum spoil spoil)
{
	size_t len = reply_make(buf, packet, 0);
	size_t end = DNS_HEADER_LEN + packet->query.name_len;

	switch (spoil) {
	case WRONG_ID:
		buf[1] ^= 1;
		break;
	case NO_QR:
		buf[2] &= ~0x80;
		break;
	case WRONG_OPCODE:
		buf[2] |= 0x10;
		break;
	case OTHER_NAME:
		buf[DNS_HEADER_LEN + 3] = 'x';
		break;
	case OTHER_CASE:
		buf[DNS_HEADER_LEN + 3] ^= 0x20;
		break;
	case OTHER_TYPE:
		buf[end + 1] ^= 4;
		break;
	case OTHER_CLASS:
		buf[end + 3] ^= 2;
		break;
	case NO_QUESTION:
		dns_put16(buf + 4, 0);
		break;
	case TWO_QUESTIONS:
		dns_put16(buf + 4, 2);
		break;
	case CUT_OFF:
		return (len - 1);
	case SHORT:
		return (DNS_HEADER_LEN - 1);
	case EMPTY:
		return (0);
	case QUERY_ECHOED:
		memcpy(buf, packet->buf, packet->len);
		return (packet->len);
	case SPOILS:
		break;
	}
	return (len);
}

START_TEST(reply_that_does_not_match_leads_to_tcp)
{
	struct packet packet, again;
	uint8_t buf[DNS_UDP_MAX], want[DNS_UDP_MAX];
	struct health *health;
	size_t len;
	int fd;

	begin(1);
	health = upstreams.health[0];
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	len = spoil_make(buf, &packet, _i);
	send_to(&server[0], &packet, buf, len);
	ck_assert_int_eq(pump(), UPSTREAM_WAITING);
	ck_assert_uint_eq(health->mismatches, 1);
	ck_assert_uint_eq(health->replies, 0);
	fd = get_stream(&server[0], &again);
	ck_assert(!asked(&server[0]));
	len = reply_make(want, &again, 0);
	reply_stream(fd, &again);
	ck_assert_int_eq(pump_to_end(), UPSTREAM_ANSWERED);
	ck_assert_uint_eq(x.reply_len, len);
	ck_assert_mem_eq(x.reply, want, len);
	ck_assert_uint_eq(health->mismatches, 1);
	ck_assert_uint_eq(health->flat_us, 0);
	close(fd);
	assert_closed();
}
END_TEST

START_TEST(forged_reply_behind_a_mismatch_finds_no_socket)
{
	struct packet packet, again;
	uint8_t buf[DNS_UDP_MAX];
	size_t len;
	int fd;

	begin(1);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	len = spoil_make(buf, &packet, WRONG_ID);
	send_to(&server[0], &packet, buf, len);
	reply(&server[0], &packet, 0);		/* the guess that is right */
	ck_assert_int_eq(pump(), UPSTREAM_WAITING);
	fd = get_stream(&server[0], &again);
	reply_stream(fd, &again);
	ck_assert_int_eq(pump_to_end(), UPSTREAM_ANSWERED);
	ck_assert_uint_eq(dns_get16(x.reply), again.query.id);
	close(fd);
	assert_closed();
}
END_TEST

START_TEST(reply_from_another_address_is_never_seen)
{
	struct poller_event event[1];
	struct packet packet;

	begin(2);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	reply(&server[1], &packet, 0);
	ck_assert_int_eq(poller_wait(poller, event, 1, 0, NULL), 0);
	reply(&server[0], &packet, 0);
	ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
	ck_assert_uint_eq(upstreams.health[0]->mismatches, 0);
	assert_closed();
}
END_TEST

START_TEST(mismatches_are_let_pass_where_tcp_is_refused)
{
	struct packet first, packet;
	uint8_t buf[DNS_UDP_MAX];
	size_t len;
	int i;

	begin(1);
	server_shut(&server[0].tcp);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	first = get(&server[0]);
	len = spoil_make(buf, &first, WRONG_ID);
	send_to(&server[0], &first, buf, len);
	while (!asked(&server[0]))
		ck_assert_int_eq(pump(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	ck_assert(packet.query.id != first.query.id ||
	    memcmp(&packet.from, &first.from, packet.from_len) != 0);
	for (i = 0; i < 3; i++) {
		len = spoil_make(buf, &packet, WRONG_ID);
		send_to(&server[0], &packet, buf, len);
		ck_assert_int_eq(pump(), UPSTREAM_WAITING);
	}
	reply(&server[0], &packet, 0);
	ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
	ck_assert_uint_eq(upstreams.health[0]->mismatches, 4);
	assert_closed();
}
END_TEST

START_TEST(mismatch_to_the_last_try_is_not_the_end)
{
	struct packet packet;
	uint8_t buf[DNS_UDP_MAX];
	size_t len;

	begin(1);
	server_shut(&server[0].tcp);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	ck_assert_int_eq(due(), UPSTREAM_WAITING);	/* the first is lost */
	packet = get(&server[0]);
	len = spoil_make(buf, &packet, WRONG_ID);
	send_to(&server[0], &packet, buf, len);
	while (!asked(&server[0]))
		ck_assert_int_eq(pump(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	reply(&server[0], &packet, 0);
	ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
	assert_closed();
}
END_TEST

/* So many records of a thousand bytes each. */
static size_t
reply_make_large(uint8_t *buf, const struct packet *packet, unsigned records)
{
	size_t len = reply_make(buf, packet, DNS_RCODE_NXDOMAIN);
	unsigned i;

	dns_put16(buf + 2, DNS_FLAG_QR | DNS_FLAG_RA);
	dns_put16(buf + 6, records);
	for (i = 0; i < records; i++, len += 1000) {
		memset(buf + len, i, 1000);
		dns_put16(buf + len, 0xc000 | DNS_HEADER_LEN);
		dns_put16(buf + len + 2, TYPE_TXT);
		dns_put16(buf + len + 4, DNS_CLASS_IN);
		dns_put32(buf + len + 6, 300 + i);
		dns_put16(buf + len + 10, 1000 - 12);
	}
	return (len);
}

START_TEST(truncated_reply_is_asked_for_by_tcp_and_read_in_pieces)
{
	static const size_t pieces[] = { 1, 1, 1, 500, 20000, 1, 65535 };
	static uint8_t want[2 + DNS_MESSAGE_MAX];
	struct packet packet;
	size_t len, at, n, i;
	int fd;

	begin(1);
	ask_for(TYPE_TXT, true, false);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	reply(&server[0], &packet, DNS_FLAG_TC);
	ck_assert_int_eq(pump(), UPSTREAM_WAITING);
	fd = get_stream(&server[0], &packet);
	len = reply_make_large(want + 2, &packet, 60);
	ck_assert_uint_gt(len, 60000);
	dns_put16(want, len);
	len += 2;
	for (i = 0, at = 0; at < len; i++, at += n) {
		n = pieces[i] < len - at ? pieces[i] : len - at;
		ck_assert_int_eq(send(fd, want + at, n, MSG_NOSIGNAL), n);
		if (at + n < len)
			ck_assert_int_eq(pump(), UPSTREAM_WAITING);
	}
	ck_assert_int_eq(pump_to_end(), UPSTREAM_ANSWERED);
	ck_assert_uint_eq(x.reply_len, len - 2);
	ck_assert_mem_eq(x.reply, want + 2, len - 2);
	ck_assert_uint_eq(upstreams.health[0]->mismatches, 0);
	close(fd);
	assert_closed();
}
END_TEST

START_TEST(stream_of_the_largest_message_is_read)
{
	static uint8_t buf[2 + DNS_MESSAGE_MAX];
	struct packet packet;
	size_t len;
	int fd;

	begin(1);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	reply(&server[0], &packet, DNS_FLAG_TC);
	ck_assert_int_eq(pump(), UPSTREAM_WAITING);
	fd = get_stream(&server[0], &packet);
	len = reply_make_large(buf, &packet, 65);
	/* The last record is made longer. */
	dns_put16(buf + len - 1000 + 10, 988 + DNS_MESSAGE_MAX - len);
	send_stream(fd, buf, DNS_MESSAGE_MAX);
	ck_assert_int_eq(pump_to_end(), UPSTREAM_ANSWERED);
	ck_assert_uint_eq(x.reply_len, DNS_MESSAGE_MAX);
	close(fd);
	assert_closed();
}
END_TEST

/*
 * A server that sends more than it said, and more than a message can have:
 * what stands behind the buffer stays as it was.
 */
START_TEST(stream_longer_than_its_length_is_not_read_past_it)
{
	static uint8_t guarded[UPSTREAM_STREAM_MAX + 200000];
	static uint8_t flood[150000];
	struct packet packet;
	size_t len, sent, i;
	int fd;

	begin(1);
	memset(guarded, 0xa5, sizeof(guarded));
	ck_assert_int_eq(upstream_start(&x, &upstreams, poller, TAG, key,
	    key_len, guarded, now_us, now_us + upstreams.timeout_us),
	    UPSTREAM_WAITING);
	packet = get(&server[0]);
	reply(&server[0], &packet, DNS_FLAG_TC);
	ck_assert_int_eq(pump(), UPSTREAM_WAITING);
	fd = get_stream(&server[0], &packet);
	len = reply_make(flood + 2, &packet, 0);
	dns_put16(flood, len);
	sent = _i;
	if (sent > 0) {
		ck_assert_int_eq(send(fd, flood, sent, MSG_NOSIGNAL), sent);
		ck_assert_int_eq(pump(), UPSTREAM_WAITING);
	}
	ck_assert_int_gt(send(fd, flood + sent, sizeof(flood) - sent,
	    MSG_NOSIGNAL | MSG_DONTWAIT), len);
	ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
	ck_assert_uint_eq(x.reply_len, len);
	for (i = 2 + len; i < sizeof(guarded); i++) {
		if (guarded[i] != 0xa5)
			ck_abort_msg("byte %zu was written", i);
	}
	close(fd);
	assert_closed();
}
END_TEST

/* What a server may do with a connection in place of a reply. */
enum stream_fault {
	HANG_UP, HANG_UP_AMID, LENGTH_ZERO, GARBAGE, WRONG_STREAM_ID,
	TRUNCATED_TOO, STREAM_FAULTS
};

START_TEST(stream_that_fails_leads_to_the_next)
{
	struct packet packet, next;
	uint8_t buf[DNS_UDP_MAX];
	size_t len;
	int fd;

	begin(2);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	reply(&server[0], &packet, DNS_FLAG_TC);
	ck_assert_int_eq(pump(), UPSTREAM_WAITING);
	fd = get_stream(&server[0], &packet);
	len = reply_make(buf + 2, &packet, 0);
	dns_put16(buf, len);
	switch ((enum stream_fault)_i) {
	case HANG_UP:
		break;
	case HANG_UP_AMID:
		ck_assert_int_eq(send(fd, buf, len, MSG_NOSIGNAL), len);
		break;
	case LENGTH_ZERO:
		ck_assert_int_eq(send(fd, "\0\0", 2, MSG_NOSIGNAL), 2);
		break;
	case GARBAGE:
		memset(buf + 2, 0xff, len);
		send_stream(fd, buf + 2, len);
		break;
	case WRONG_STREAM_ID:
		buf[2] ^= 0xff;
		send_stream(fd, buf + 2, len);
		break;
	case TRUNCATED_TOO:
		len = reply_make(buf, &packet, DNS_FLAG_TC);
		send_stream(fd, buf, len);
		break;
	case STREAM_FAULTS:
		break;
	}
	close(fd);
	while (!asked(&server[1]))
		ck_assert_int_eq(pump(), UPSTREAM_WAITING);
	next = get(&server[1]);
	reply(&server[1], &next, 0);
	ck_assert_int_eq(pump_to_end(), UPSTREAM_ANSWERED);
	assert_closed();
}
END_TEST

START_TEST(truncated_reply_without_tcp_is_told_of)
{
	struct packet packet;
	enum upstream_status status = UPSTREAM_WAITING;
	unsigned i;

	begin(1);
	server_shut(&server[0].tcp);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	for (i = 0; i < 20 && status == UPSTREAM_WAITING; i++) {
		if (asked(&server[0])) {
			packet = get(&server[0]);
			reply(&server[0], &packet, DNS_FLAG_TC);
		}
		status = pump();
	}
	ck_assert_int_eq(status, UPSTREAM_FAILED);
	ck_assert(x.truncated);
	assert_closed();
}
END_TEST

START_TEST(stream_that_is_slow_lets_the_next_be_asked_and_may_answer)
{
	struct packet packet, slow;
	int fd;

	begin(2);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	reply(&server[0], &packet, DNS_FLAG_TC);
	ck_assert_int_eq(pump(), UPSTREAM_WAITING);
	fd = get_stream(&server[0], &slow);
	ck_assert_int_eq(due(), UPSTREAM_WAITING);
	packet = get(&server[1]);
	reply_stream(fd, &slow);
	ck_assert_int_eq(pump_to_end(), UPSTREAM_ANSWERED);
	ck_assert_uint_eq(dns_get16(x.reply), slow.query.id);
	close(fd);
	assert_closed();
}
END_TEST

START_TEST(upstream_that_refuses_edns_is_asked_without)
{
	static const uint16_t rcode[] = { DNS_RCODE_FORMERR,
	    DNS_RCODE_NOTIMP };
	struct packet packet;
	uint8_t buf[DNS_UDP_MAX];
	size_t len, i;

	begin(2);
	/* With the question, and without, as some refuse it. */
	for (i = 0; i < 4; i++) {
		ck_assert_int_eq(start(), UPSTREAM_WAITING);
		packet = get(&server[0]);
		ck_assert(packet.query.edns);
		len = reply_make(buf, &packet, rcode[i % 2]);
		if (i >= 2) {
			dns_put16(buf + 4, 0);
			len = DNS_HEADER_LEN;
		}
		send_to(&server[0], &packet, buf, len);
		ck_assert_int_eq(pump(), UPSTREAM_WAITING);
		packet = get(&server[0]);
		ck_assert(!packet.query.edns);
		ck_assert(!asked(&server[1]));
		reply(&server[0], &packet, 0);
		ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
	}
	assert_closed();
}
END_TEST

START_TEST(extended_rcode_is_not_taken_for_an_answer)
{
	uint8_t buf[DNS_UDP_MAX];
	struct packet packet;
	size_t len;

	begin(1);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	len = reply_make(buf, &packet, DNS_FLAG_TC);
	dns_put16(buf + 2, DNS_FLAG_QR | DNS_FLAG_RD | DNS_FLAG_RA);
	dns_put16(buf + 10, 1);
	dns_opt_write(buf + len, DNS_RCODE_BADVERS, false);
	send_to(&server[0], &packet, buf, len + DNS_OPT_LEN);
	ck_assert_int_eq(pump(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	ck_assert(!packet.query.edns);
	reply(&server[0], &packet, 0);
	ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
	assert_closed();
}
END_TEST

/* _i: the first one's reply comes late, but comes. */
START_TEST(silent_upstream_lets_the_next_be_asked_and_may_still_answer)
{
	struct packet first, second;
	uint64_t began = now_us;

	begin(2);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	first = get(&server[0]);
	ck_assert(!asked(&server[1]));
	ck_assert_uint_le(x.wake_us, began + FIRST_WAIT_US);
	ck_assert_int_eq(due(), UPSTREAM_WAITING);
	second = get(&server[1]);
	ck_assert(!asked(&server[0]));
	now_us += 1000;
	if (_i)
		reply(&server[0], &first, 0);
	else
		reply(&server[1], &second, 0);
	ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
	ck_assert_uint_eq(dns_get16(x.reply),
	    _i ? first.query.id : second.query.id);
	ck_assert_uint_eq(upstreams.health[0]->timeouts, 1);
	ck_assert_uint_eq(upstreams.health[0]->losses, _i ? 0 : 1);
	assert_closed();
}
END_TEST

START_TEST(upstream_that_is_known_to_be_fast_is_waited_for_less)
{
	struct packet packet;
	int i;

	begin(2);
	for (i = 0; i < 30; i++) {
		ck_assert_int_eq(start(), UPSTREAM_WAITING);
		packet = get(&server[0]);
		now_us += 2000;
		reply(&server[0], &packet, 0);
		ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
	}
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	ck_assert_uint_eq(x.wake_us, now_us + 50000);
	upstream_cancel(&x);

	/* One of 60 ms, at a steady pace, for longer. */
	for (i = 0; i < 60; i++) {
		ck_assert_int_eq(start(), UPSTREAM_WAITING);
		while (asked(&server[0]))
			packet = get(&server[0]);
		now_us += 60000;
		reply(&server[0], &packet, 0);
		ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
	}
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	ck_assert_uint_gt(x.wake_us, now_us + 59000);
	ck_assert_uint_lt(x.wake_us, now_us + 80000);
	upstream_cancel(&x);
	assert_closed();
}
END_TEST

/* Ask a question that the first upstream leaves to the second. */
static void
lose_to_second(void)
{
	struct packet packet;

	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	get(&server[0]);
	ck_assert_int_eq(due(), UPSTREAM_WAITING);
	packet = get(&server[1]);
	now_us += 1000;
	reply(&server[1], &packet, 0);
	ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
}

static enum upstream_status
start_probe(void)
{
	return (upstream_probe(&probe, &upstreams, poller, PROBE_TAG, key,
	    key_len, now_us));
}

START_TEST(upstream_that_lost_three_times_is_down_and_asked_last)
{
	struct packet packet;

	begin(2);
	lose_to_second();
	lose_to_second();
	ck_assert_uint_eq(upstreams.health[0]->down, 0);
	ck_assert_int_eq(start_probe(), UPSTREAM_FAILED);
	lose_to_second();
	ck_assert_uint_eq(upstreams.health[0]->down, 1);
	ck_assert_uint_eq(upstreams.health[1]->down, 0);

	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	ck_assert(!asked(&server[0]));
	packet = get(&server[1]);
	reply(&server[1], &packet, 0);
	ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);

	/* It is still asked when the other fails, and then it is up. */
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	packet = get(&server[1]);
	reply(&server[1], &packet, DNS_RCODE_SERVFAIL);
	ck_assert_int_eq(pump(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	reply(&server[0], &packet, 0);
	ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
	ck_assert_uint_eq(upstreams.health[0]->down, 0);
	assert_closed();
}
END_TEST

START_TEST(upstream_that_replied_within_a_second_is_not_down)
{
	struct packet packet;

	begin(2);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	reply(&server[0], &packet, 0);
	ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
	for (;;) {
		ck_assert_int_eq(start(), UPSTREAM_WAITING);
		get(&server[0]);
		if (x.wake_us >= upstreams.health[0]->replied_us + 1000000)
			break;
		ck_assert_int_eq(due(), UPSTREAM_WAITING);
		packet = get(&server[1]);
		reply(&server[1], &packet, 0);
		ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
		ck_assert_uint_eq(upstreams.health[0]->down, 0);
	}
	ck_assert_uint_ge(upstreams.health[0]->losses, 3);
	ck_assert_int_eq(due(), UPSTREAM_WAITING);
	ck_assert_uint_eq(upstreams.health[0]->down, 1);
	upstream_cancel(&x);
	assert_closed();
}
END_TEST

static void
put_down_first(void)
{
	begin(2);
	while (!upstreams.health[0]->down)
		lose_to_second();
}

START_TEST(upstream_that_is_down_is_probed_once_a_second)
{
	int i;

	put_down_first();
	ck_assert_int_eq(start_probe(), UPSTREAM_FAILED);
	for (i = 0; i < 3; i++) {
		now_us += 1100000;
		ck_assert_int_eq(start_probe(), UPSTREAM_WAITING);
		get(&server[0]);
		ck_assert(!asked(&server[1]));
		ck_assert_uint_le(probe.wake_us, now_us + 2000000);
		ck_assert_int_eq(upstream_due(&probe, probe.wake_us),
		    UPSTREAM_FAILED);
		ck_assert(!asked(&server[0]));
		assert_closed();
		ck_assert_int_eq(start_probe(), UPSTREAM_FAILED);
		ck_assert_uint_eq(upstreams.health[0]->down, 1);
	}
}
END_TEST

START_TEST(reply_to_a_probe_brings_the_upstream_up)
{
	static const uint16_t flags[] = { 0, DNS_FLAG_TC, DNS_RCODE_NXDOMAIN,
	    DNS_RCODE_SERVFAIL, DNS_RCODE_REFUSED };
	struct packet packet, probed;
	uint8_t buf[DNS_UDP_MAX];
	size_t len;

	put_down_first();
	now_us += 1100000;
	if (_i == 5)
		upstreams.health[0]->flat_us = UINT64_MAX;

	/* The answer has come from the other long before. */
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	ck_assert_int_eq(start_probe(), UPSTREAM_WAITING);
	packet = get(&server[1]);
	probed = get(&server[0]);
	reply(&server[1], &packet, 0);
	ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
	now_us += 300000;
	len = reply_make(buf, &probed, _i < 5 ? flags[_i] : 0);
	if (_i == 5)
		memcpy(buf + DNS_HEADER_LEN, key, dns_key_name_len(key_len));
	send_to(&server[0], &probed, buf, len);
	pump();
	upstream_cancel(&probe);
	ck_assert_uint_eq(upstreams.health[0]->down, 0);
	ck_assert_uint_eq(upstreams.health[0]->losses, 0);

	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	get(&server[0]);
	upstream_cancel(&x);
	assert_closed();
}
END_TEST

START_TEST(all_upstreams_down_are_asked_as_ever)
{
	struct packet packet;

	begin(2);
	while (!upstreams.health[0]->down || !upstreams.health[1]->down) {
		ck_assert_int_eq(start(), UPSTREAM_WAITING);
		while (due() == UPSTREAM_WAITING)
			;
		while (asked(&server[0]))
			get(&server[0]);
		while (asked(&server[1]))
			get(&server[1]);
	}
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	get(&server[0]);
	ck_assert(!asked(&server[1]));
	ck_assert_uint_le(x.wake_us, now_us + FIRST_WAIT_US);
	ck_assert_int_eq(due(), UPSTREAM_WAITING);
	packet = get(&server[1]);
	reply(&server[1], &packet, 0);
	ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
	ck_assert_uint_eq(upstreams.health[1]->down, 0);
	ck_assert_uint_eq(upstreams.health[0]->down, 1);
	assert_closed();
}
END_TEST

START_TEST(bad_replies_lead_to_the_next_at_once_and_the_last_is_reported)
{
	static const uint16_t rcode[][2] = {
		{ DNS_RCODE_SERVFAIL, DNS_RCODE_REFUSED },
		{ DNS_RCODE_REFUSED, DNS_RCODE_SERVFAIL },
		{ DNS_RCODE_SERVFAIL, DNS_RCODE_SERVFAIL },
	};
	struct packet packet;
	size_t i;

	begin(2);
	for (i = 0; i < sizeof(rcode) / sizeof(rcode[0]); i++) {
		ck_assert_int_eq(start(), UPSTREAM_WAITING);
		packet = get(&server[0]);
		reply(&server[0], &packet, rcode[i][0]);
		ck_assert_int_eq(pump(), UPSTREAM_WAITING);
		packet = get(&server[1]);
		reply(&server[1], &packet, rcode[i][1]);
		ck_assert_int_eq(pump(), UPSTREAM_FAILED);
		ck_assert_uint_eq(x.rcode, rcode[i][1]);
		ck_assert(!asked(&server[0]));
		assert_closed();
	}
	ck_assert_uint_eq(upstreams.health[0]->down, 0);
}
END_TEST

START_TEST(good_reply_counts_though_another_was_bad)
{
	struct packet first, second;

	begin(2);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	first = get(&server[0]);
	ck_assert_int_eq(due(), UPSTREAM_WAITING);
	second = get(&server[1]);
	reply(&server[0], &first, DNS_RCODE_SERVFAIL);	/* the older one */
	ck_assert_int_eq(pump(), UPSTREAM_WAITING);
	reply(&server[1], &second, 0);
	ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
	assert_closed();
}
END_TEST

START_TEST(refused_port_leads_to_the_next_at_once)
{
	struct packet packet;

	begin(2);
	server_shut(&server[0].udp);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	while (!asked(&server[1]))
		ck_assert_int_eq(pump(), UPSTREAM_WAITING);
	packet = get(&server[1]);
	reply(&server[1], &packet, 0);
	ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
	ck_assert_uint_ge(upstreams.health[0]->errors, 1);
	assert_closed();
}
END_TEST

START_TEST(refused_ports_alone_end_in_servfail)
{
	begin(2);
	server_shut(&server[0].udp);
	server_shut(&server[1].udp);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	ck_assert_int_eq(pump_to_end(), UPSTREAM_FAILED);
	ck_assert_uint_eq(x.rcode, DNS_RCODE_SERVFAIL);
	assert_closed();
}
END_TEST

START_TEST(single_silent_upstream_is_asked_again_till_the_end)
{
	uint64_t began = now_us;
	struct packet packet;
	unsigned queries = 0;

	begin(1);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	do {
		for (; asked(&server[0]); queries++)
			packet = get(&server[0]);
		ck_assert_uint_le(x.wake_us, began + TIMEOUT_US);
	} while (due() == UPSTREAM_WAITING);
	ck_assert_uint_eq(now_us, began + TIMEOUT_US);
	ck_assert_uint_eq(x.rcode, DNS_RCODE_SERVFAIL);
	ck_assert_uint_eq(queries, 3);
	assert_closed();

	/* The answer to the second is as good. */
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	get(&server[0]);
	ck_assert_int_eq(due(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	reply(&server[0], &packet, 0);
	ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
	assert_closed();
}
END_TEST

/* Its first packet may be lost; but nothing better will come of that one. */
START_TEST(upstream_that_says_no_to_the_second_try_ends_the_first)
{
	struct packet packet;

	begin(1);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	get(&server[0]);
	ck_assert_int_eq(due(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	reply(&server[0], &packet, DNS_RCODE_SERVFAIL);
	ck_assert_int_eq(pump(), UPSTREAM_FAILED);
	assert_closed();
}
END_TEST

/* As often as the list allows, and once more when it has come to its end. */
START_TEST(client_that_asks_again_makes_for_another_try)
{
	struct packet packet;
	int i;

	begin(1);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	get(&server[0]);
	for (i = 0; i < 3; i++) {
		now_us += 300000;
		ck_assert_int_eq(upstream_again(&x, now_us),
		    UPSTREAM_WAITING);
		ck_assert(asked(&server[0]));
		packet = get(&server[0]);
	}
	ck_assert_int_eq(upstream_again(&x, now_us), UPSTREAM_WAITING);
	ck_assert(!asked(&server[0]));
	reply(&server[0], &packet, 0);
	ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
	assert_closed();
}
END_TEST

/* The newest try may be lost for the same reason as the one before it. */
START_TEST(client_that_asks_again_waits_a_little_after_the_newest_try)
{
	uint64_t asked_us;

	begin(1);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	get(&server[0]);
	asked_us = now_us;
	now_us += 50000;
	ck_assert_int_eq(upstream_again(&x, now_us), UPSTREAM_WAITING);
	ck_assert(!asked(&server[0]));
	ck_assert_int_eq(due(), UPSTREAM_WAITING);
	ck_assert(asked(&server[0]));
	get(&server[0]);
	ck_assert_uint_eq(now_us - asked_us, 300000);
	upstream_cancel(&x);
	assert_closed();
}
END_TEST

START_TEST(list_is_gone_through_twice_and_ends_at_the_timeout)
{
	unsigned queries[SERVERS_MAX] = { 0 }, tries = 0, i;
	uint64_t began = now_us, waits[8];

	begin(3);
	upstreams.timeout_us = 20000000;
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	do {
		ck_assert_uint_lt(tries, 8);
		waits[tries++] = x.wake_us - now_us;
		for (i = 0; i < 3; i++) {
			for (; asked(&server[i]); queries[i]++)
				get(&server[i]);
		}
		ck_assert_int_le(count_descriptors(),
		    descriptors + UPSTREAM_SOCKETS);
	} while (due() == UPSTREAM_WAITING);
	ck_assert_uint_eq(now_us, began + 20000000);
	ck_assert_uint_eq(waits[3], 2 * waits[0]);
	ck_assert_uint_eq(waits[4], 2 * waits[1]);
	for (i = 0; i < 3; i++) {
		ck_assert_uint_eq(queries[i], 2);
		ck_assert_uint_eq(upstreams.health[i]->timeouts, 2);
	}
	assert_closed();
}
END_TEST

START_TEST(short_timeout_bounds_the_whole)
{
	uint64_t began = now_us;

	begin(2);
	upstreams.timeout_us = 100000;
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	while (due() == UPSTREAM_WAITING)
		;
	ck_assert_uint_eq(now_us, began + 100000);
	ck_assert_uint_eq(x.rcode, DNS_RCODE_SERVFAIL);
	assert_closed();
}
END_TEST

static uint16_t
port_of(const struct packet *packet)
{
	struct addr addr;

	addr_from_sockaddr(&addr, &packet->from);
	return (addr.port);
}

/* By chance some of so many may be equal, but never more than a few. */
START_TEST(every_try_has_its_own_port_id_and_case)
{
	struct packet packet[64];
	unsigned i, k, same_id = 0, same_port = 0, same_case = 0, high = 0;
	unsigned low = 0;

	begin(1);
	for (i = 0; i < 64; i += 2) {
		ck_assert_int_eq(start(), UPSTREAM_WAITING);
		packet[i] = get(&server[0]);
		ck_assert_int_eq(due(), UPSTREAM_WAITING);
		packet[i + 1] = get(&server[0]);
		upstream_cancel(&x);
	}
	for (i = 0; i < 64; i++) {
		ck_assert_uint_ge(port_of(&packet[i]), 1024);
		low += port_of(&packet[i]) < 32768;
		high += port_of(&packet[i]) >= 49152;
		for (k = 0; k < i; k++) {
			same_id += packet[i].query.id == packet[k].query.id;
			same_port += port_of(&packet[i]) == port_of(&packet[k]);
			same_case += memcmp(packet[i].buf + DNS_HEADER_LEN,
			    packet[k].buf + DNS_HEADER_LEN,
			    dns_key_name_len(key_len)) == 0;
		}
	}
	ck_assert_uint_le(same_id, 3);
	ck_assert_uint_le(same_port, 3);
	ck_assert_uint_le(same_case, 1);
	/* They are not the kernel's own choice. */
	ck_assert_uint_ge(low, 10);
	ck_assert_uint_ge(high, 2);
	assert_closed();
}
END_TEST

static void
reply_flat(const struct packet *packet)
{
	uint8_t buf[DNS_UDP_MAX];
	size_t len = reply_make(buf, packet, 0);

	memcpy(buf + DNS_HEADER_LEN, key, dns_key_name_len(key_len));
	send_to(&server[0], packet, buf, len);
}

/* _i: it serves TCP. */
START_TEST(upstream_that_flattens_case_is_found_out_and_remembered)
{
	uint8_t buf[DNS_UDP_MAX];
	struct packet packet;
	uint64_t mismatches;
	size_t len;
	int fd, i;

	begin(1);
	if (!_i)
		server_shut(&server[0].tcp);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	reply_flat(&packet);
	ck_assert_int_eq(pump(), UPSTREAM_WAITING);
	if (_i) {
		fd = get_stream(&server[0], &packet);
		len = reply_make(buf, &packet, 0);
		memcpy(buf + DNS_HEADER_LEN, key, dns_key_name_len(key_len));
		send_stream(fd, buf, len);
		close(fd);
	} else {
		while (!asked(&server[0]))
			ck_assert_int_eq(pump(), UPSTREAM_WAITING);
		packet = get(&server[0]);
		reply_flat(&packet);
	}
	ck_assert_int_eq(pump_to_end(), UPSTREAM_ANSWERED);
	ck_assert_uint_gt(upstreams.health[0]->flat_us, now_us);
	mismatches = upstreams.health[0]->mismatches;
	ck_assert_uint_eq(mismatches, 1);
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(start(), UPSTREAM_WAITING);
		packet = get(&server[0]);
		ck_assert_mem_eq(packet.buf + DNS_HEADER_LEN, key,
		    dns_key_name_len(key_len));
		reply_flat(&packet);
		ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
	}
	ck_assert_uint_eq(upstreams.health[0]->mismatches, mismatches);

	/* But not for ever: it may have been replaced by a better one. */
	now_us = upstreams.health[0]->flat_us + 1;
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	ck_assert_mem_ne(packet.buf + DNS_HEADER_LEN, key,
	    dns_key_name_len(key_len));
	upstream_cancel(&x);
	assert_closed();
}
END_TEST

START_TEST(cancel_closes_all)
{
	struct packet packet;
	int fd;

	begin(3);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	ck_assert_int_eq(due(), UPSTREAM_WAITING);
	ck_assert_int_eq(due(), UPSTREAM_WAITING);
	ck_assert_int_eq(count_descriptors(), descriptors + 3);
	upstream_cancel(&x);
	assert_closed();
	upstream_cancel(&x);		/* once more does no harm */
	assert_closed();

	while (asked(&server[0]))
		get(&server[0]);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	reply(&server[0], &packet, DNS_FLAG_TC);
	ck_assert_int_eq(pump(), UPSTREAM_WAITING);
	fd = get_stream(&server[0], &packet);
	upstream_cancel(&x);
	close(fd);
	assert_closed();
}
END_TEST

START_TEST(many_exchanges_leave_no_descriptor_open)
{
	static const uint16_t flags[] = { 0, DNS_RCODE_SERVFAIL,
	    DNS_RCODE_NXDOMAIN, DNS_RCODE_FORMERR, DNS_RCODE_REFUSED,
	    DNS_FLAG_TC };
	enum upstream_status status;
	struct poller_event event[8];
	struct packet packet;
	unsigned n, i;

	begin(2);
	server_shut(&server[0].tcp);
	server_shut(&server[1].tcp);
	for (n = 0; n < 120; n++) {
		status = start();
		for (i = 0; status == UPSTREAM_WAITING; i++) {
			ck_assert_uint_lt(i, 50);
			if (n % 5 != 0 && asked(&server[i % 2])) {
				packet = get(&server[i % 2]);
				reply(&server[i % 2], &packet,
				    flags[(n / 6 + i) % 6]);
			}
			if (poller_wait(poller, event, 8, 0, NULL) > 0)
				status = pump();
			else if (!asked(&server[(i + 1) % 2]) || n % 5 == 0)
				status = due();
		}
		assert_closed();
		for (i = 0; i < 2; i++) {
			while (asked(&server[i]))
				get(&server[i]);
		}
	}
}
END_TEST

START_TEST(upstream_by_ipv6_answers)
{
	struct packet packet;

	if (!server_open(&server[0], "[::1]:53")) {
		fprintf(stderr, "check_upstream: SKIPPED, there is no IPv6 "
		    "here: upstream_by_ipv6_answers\n");
		return;
	}
	begin(0);
	health_assign(&upstreams, &server[0].addr, 1, table, TABLE, NULL);
	ck_assert_int_eq(start(), UPSTREAM_WAITING);
	packet = get(&server[0]);
	reply(&server[0], &packet, 0);
	ck_assert_int_eq(pump(), UPSTREAM_ANSWERED);
	assert_closed();
}
END_TEST

START_TEST(health_is_kept_with_its_address)
{
	struct upstreams old, new;
	struct addr addr[3];

	ck_assert_ptr_null(addr_parse(&addr[0], "192.0.2.1:53", 0));
	ck_assert_ptr_null(addr_parse(&addr[1], "192.0.2.2:53", 0));
	ck_assert_ptr_null(addr_parse(&addr[2], "192.0.2.3:53", 0));
	health_assign(&old, addr, 2, table, 4, NULL);
	ck_assert_uint_eq(old.count, 2);
	ck_assert_ptr_ne(old.health[0], old.health[1]);
	ck_assert(addr_equal(&old.health[0]->addr, &addr[0]));
	ck_assert(addr_equal(&old.health[1]->addr, &addr[1]));
	old.health[0]->queries = 10;
	old.health[1]->queries = 11;

	/* Another order, and one that is new while the old ones are used. */
	health_assign(&new, addr + 1, 2, table, 4, &old);
	ck_assert_ptr_eq(new.health[0], old.health[1]);
	ck_assert_uint_eq(new.health[0]->queries, 11);
	ck_assert_ptr_ne(new.health[1], old.health[0]);
	ck_assert_uint_eq(new.health[1]->queries, 0);
	ck_assert(addr_equal(&new.health[1]->addr, &addr[2]));
	ck_assert(addr_equal(&old.health[0]->addr, &addr[0]));
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("upstream");
	TCase *match = tcase_create("match"), *stream_case =
	    tcase_create("stream"), *order = tcase_create("order");
	SRunner *runner;
	int failed;

	tcase_set_timeout(match, 30);
	tcase_add_test(match, right_reply_answers);
	tcase_add_test(match, query_carries_do_and_cd);
	tcase_add_test(match, denials_are_final);
	tcase_add_loop_test(match, reply_that_does_not_match_leads_to_tcp, 0,
	    SPOILS);
	tcase_add_test(match, forged_reply_behind_a_mismatch_finds_no_socket);
	tcase_add_test(match, reply_from_another_address_is_never_seen);
	tcase_add_test(match, mismatches_are_let_pass_where_tcp_is_refused);
	tcase_add_test(match, mismatch_to_the_last_try_is_not_the_end);
	tcase_add_test(match, every_try_has_its_own_port_id_and_case);
	tcase_add_loop_test(match,
	    upstream_that_flattens_case_is_found_out_and_remembered, 0, 2);
	tcase_add_test(match, upstream_that_refuses_edns_is_asked_without);
	tcase_add_test(match, extended_rcode_is_not_taken_for_an_answer);
	tcase_add_test(match, upstream_by_ipv6_answers);
	suite_add_tcase(suite, match);

	tcase_set_timeout(stream_case, 30);
	tcase_add_test(stream_case,
	    truncated_reply_is_asked_for_by_tcp_and_read_in_pieces);
	tcase_add_test(stream_case, stream_of_the_largest_message_is_read);
	tcase_add_loop_test(stream_case,
	    stream_longer_than_its_length_is_not_read_past_it, 0, 6);
	tcase_add_loop_test(stream_case, stream_that_fails_leads_to_the_next,
	    0, STREAM_FAULTS);
	tcase_add_test(stream_case, truncated_reply_without_tcp_is_told_of);
	tcase_add_test(stream_case,
	    stream_that_is_slow_lets_the_next_be_asked_and_may_answer);
	suite_add_tcase(suite, stream_case);

	tcase_set_timeout(order, 30);
	tcase_add_loop_test(order,
	    silent_upstream_lets_the_next_be_asked_and_may_still_answer, 0, 2);
	tcase_add_test(order,
	    upstream_that_is_known_to_be_fast_is_waited_for_less);
	tcase_add_test(order,
	    upstream_that_lost_three_times_is_down_and_asked_last);
	tcase_add_test(order,
	    upstream_that_replied_within_a_second_is_not_down);
	tcase_add_test(order, upstream_that_is_down_is_probed_once_a_second);
	tcase_add_loop_test(order, reply_to_a_probe_brings_the_upstream_up, 0,
	    6);
	tcase_add_test(order, all_upstreams_down_are_asked_as_ever);
	tcase_add_test(order,
	    bad_replies_lead_to_the_next_at_once_and_the_last_is_reported);
	tcase_add_test(order, good_reply_counts_though_another_was_bad);
	tcase_add_test(order, refused_port_leads_to_the_next_at_once);
	tcase_add_test(order, refused_ports_alone_end_in_servfail);
	tcase_add_test(order,
	    single_silent_upstream_is_asked_again_till_the_end);
	tcase_add_test(order,
	    upstream_that_says_no_to_the_second_try_ends_the_first);
	tcase_add_test(order, client_that_asks_again_makes_for_another_try);
	tcase_add_test(order,
	    client_that_asks_again_waits_a_little_after_the_newest_try);
	tcase_add_test(order,
	    list_is_gone_through_twice_and_ends_at_the_timeout);
	tcase_add_test(order, short_timeout_bounds_the_whole);
	tcase_add_test(order, cancel_closes_all);
	tcase_add_test(order, many_exchanges_leave_no_descriptor_open);
	tcase_add_test(order, health_is_kept_with_its_address);
	suite_add_tcase(suite, order);

	runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_FORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return (failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}
