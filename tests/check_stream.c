/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * DNS over TCP as clients see it: the whole daemon on the loopback interface,
 * with two stub upstreams, `up' and `other', of which most tests use the
 * first.  The names asked for tell the stub what to do; see stub.c.
 *
 * A test that waits does so for something to come about, within a time; where
 * a client is to be slow, it is slow by poll().  After what a test does the
 * counters must add up: every query a reply or a drop, every connection
 * closed for one reason.
 *
 * What a process holds is read from /proc; where there is none, the tests
 * that need it say that they leave it out.
 */

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "addr.h"
#include "daemon.h"
#include "dns.h"
#include "metrics.h"
#include "stub.h"

#define TYPE_A		1
#define TYPE_TXT	16
#define CLASS_CH	3
#define HOME		"127.0.0.1"
#define MESSAGE_MAX	65535
#define KEEPALIVE	11		/* the option's code, RFC 7828 3.1 */
#define NO_KEEPALIVE	(-1)
#define IDLE_CLIENTS	5000
#define CHURN		100000		/* connections, if time allows */
#define CHURN_FIRST	2000		/* that come before the measuring */
#define CHURN_US	7000000		/* then it is enough */
#define BATCH		50		/* connections at once */
#define MEMORY_SLACK_KB	128
#define COUNT(array)	(sizeof(array) / sizeof((array)[0]))

/* What came of waiting for a message. */
enum outcome {
	WHOLE,
	CLOSED,		/* between messages */
	CUT,		/* closed within one */
	RESET,
	SILENCE
};

static const char *const outcomes[] = { "a message", "the end",
    "a part of a message", "a reset", "nothing" };

static struct stub *up, *other;
static struct daemon dnsd;
static struct reply got;

static void
set_up(void)
{
	up = stub_start(HOME, 0);
	other = stub_start(HOME, 0);
	ck_assert_msg(up != NULL && other != NULL, "the stubs don't start");
}

static void
tear_down(void)
{
	daemon_stop(&dnsd, SIGKILL, DAEMON_PATIENCE_MS);
	stub_stop(up);
	stub_stop(other);
}

/* Start the daemon with up as its upstream. */
static void
start(const char *options)
{
	ck_assert(daemon_start(&dnsd, "-upstreams %s -workers 4 %s", up->text,
	    options));
}

/*
 * Connections.
 */

/*
 * Connect from one address, which may have a port, to another.  room: bytes
 * that the client takes unread; 0: what is usual.  -1 with errno.
 */
static int
dial_at(const char *from, const char *to, uint16_t port, int room)
{
	struct timeval patience = { .tv_sec = DAEMON_PATIENCE_MS / 1000 };
	struct sockaddr_storage ss;
	struct addr addr;
	socklen_t len;
	int fd, error, on = 1;

	ck_assert(addr_parse(&addr, from, 1) == NULL);
	fd = socket(addr.family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return (-1);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (room != 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	if (addr.port == 1) {
		addr.port = 0;
#ifdef IP_BIND_ADDRESS_NO_PORT
		setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on,
		    sizeof(on));
#endif
	} else
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	len = addr_to_sockaddr(&addr, addr.family, &ss);
	if (bind(fd, (struct sockaddr *)&ss, len) == -1)
		goto fail;
	ck_assert(addr_parse(&addr, to, 1) == NULL);
	addr.port = port;
	len = addr_to_sockaddr(&addr, addr.family, &ss);
	if (connect(fd, (struct sockaddr *)&ss, len) == 0)
		return (fd);

fail:
	error = errno;
	close(fd);
	errno = error;
	return (-1);
}

static int
dial_from(const char *from)
{
	int fd = dial_at(from, HOME, dnsd.port, 0);

	ck_assert_msg(fd != -1, "no connection from %s: %s", from,
	    strerror(errno));
	return (fd);
}

static int
dial(void)
{
	return (dial_from(HOME));
}

static void
send_bytes(int fd, const void *buf, size_t len)
{
	ssize_t n = send(fd, buf, len, MSG_NOSIGNAL);

	ck_assert_msg(n == (ssize_t)len, "sent %zd of %zu bytes: %s", n, len,
	    strerror(errno));
}

/* Write a query with its length before it.  Returns the length of both. */
static size_t
frame(uint8_t buf[1502], const struct query *query)
{
	size_t len = query_write(buf + 2, query);

	dns_put16(buf, len);
	return (2 + len);
}

static void
send_query(int fd, const struct query *query)
{
	uint8_t buf[1502];

	send_bytes(fd, buf, frame(buf, query));
}

/* Ask for the A record of a name, under an ID. */
static void
send_name(int fd, const char *name, uint16_t id)
{
	struct query query = { .name = name, .id = id };

	send_query(fd, &query);
}

static enum outcome
read_bytes(int fd, uint8_t *buf, size_t len, uint64_t end)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	size_t have = 0;
	uint64_t now;
	ssize_t n;

	while (have < len) {
		n = recv(fd, buf + have, len - have, MSG_DONTWAIT);
		if (n > 0) {
			have += n;
			continue;
		}
		if (n == 0)
			return (have == 0 ? CLOSED : CUT);
		if (errno != EAGAIN && errno != EINTR)
			return (RESET);
		now = stub_now_us();
		if (now >= end)
			return (have == 0 ? SILENCE : CUT);
		poll(&pfd, 1, (end - now + 999) / 1000);
	}
	return (WHOLE);
}

/* Read a message and parse it into got. */
static enum outcome
receive(int fd, unsigned within_ms)
{
	uint64_t end = stub_now_us() + within_ms * (uint64_t)1000;
	enum outcome outcome;
	uint8_t head[2];

	outcome = read_bytes(fd, head, sizeof(head), end);
	if (outcome != WHOLE)
		return (outcome);
	got.len = dns_get16(head);
	outcome = read_bytes(fd, got.buf, got.len, end);
	if (outcome == CLOSED || outcome == SILENCE)
		return (CUT);
	if (outcome == WHOLE)
		reply_parse(&got);
	return (outcome);
}

/* Receive a whole reply, any one. */
static void
take(int fd)
{
	enum outcome outcome = receive(fd, DAEMON_PATIENCE_MS);

	ck_assert_msg(outcome == WHOLE, "%s instead of a reply",
	    outcomes[outcome]);
	ck_assert(!got.malformed);
	ck_assert(got.flags & DNS_FLAG_QR);
}

static void
take_id(int fd, uint16_t id)
{
	take(fd);
	ck_assert_uint_eq(got.id, id);
}

/* Is got the true answer to a question for the A record of a name? */
static void
assert_truth(const char *name)
{
	uint8_t rdata[512];
	const struct record *record;
	size_t len;

	ck_assert_msg(got.rcode == 0 && got.records >= 1, "%s: rcode %u, "
	    "%zu records", name, got.rcode, got.records);
	len = stub_rdata(rdata, name, TYPE_A);
	record = &got.record[got.records - 1];
	ck_assert_msg(record->rdata_len == len &&
	    memcmp(record->rdata, rdata, len) == 0, "%s: wrong data", name);
}

/* Ask for a name on a connection that has nothing else to say. */
static void
ask_on(int fd, const char *name)
{
	static uint16_t id = 100;

	send_name(fd, name, ++id);
	take_id(fd, id);
	assert_truth(name);
}

static void
ask_query_on(int fd, const struct query *query)
{
	send_query(fd, query);
	take(fd);
}

/* Ask for a name on a connection of its own. */
static void
ask_tcp(const char *name)
{
	int fd = dial();

	ask_on(fd, name);
	close(fd);
}

static void
ask_udp(const char *name)
{
	ck_assert_msg(daemon_ask_for(&dnsd, name, TYPE_A, &got), "%s", name);
	assert_truth(name);
}

/* Wait for the daemon to end a connection; messages are thrown away. */
static enum outcome
wait_for_end(int fd, unsigned within_ms)
{
	uint64_t end = stub_now_us() + within_ms * (uint64_t)1000;
	static uint8_t buf[65536];
	enum outcome outcome;

	do {
		outcome = read_bytes(fd, buf, sizeof(buf), end);
	} while (outcome == WHOLE);
	if (outcome == CUT && stub_now_us() >= end)
		return (SILENCE);
	return (outcome);
}

static void
assert_end(int fd, unsigned within_ms)
{
	enum outcome outcome = receive(fd, within_ms);

	ck_assert_msg(outcome == CLOSED, "%s instead of the end",
	    outcomes[outcome]);
}

/* The daemon has closed or reset it; a kernel may say either. */
static void
assert_gone(int fd)
{
	enum outcome outcome = wait_for_end(fd, DAEMON_PATIENCE_MS);

	ck_assert_msg(outcome != SILENCE, "the connection is still there");
	close(fd);
}

static void
assert_nothing_to_read(int fd)
{
	enum outcome outcome = receive(fd, 0);

	ck_assert_msg(outcome == SILENCE, "%s came", outcomes[outcome]);
}

/* Close such that the peer sees a reset and no port is kept waiting. */
static void
reset(int fd)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

/* Be slow: let time pass that a client takes. */
static void
dawdle(unsigned ms)
{
	uint64_t end = stub_now_us() + ms * (uint64_t)1000, now;

	while ((now = stub_now_us()) < end)
		poll(NULL, 0, (end - now + 999) / 1000);
}

static void
wait_for_question(const struct stub *stub, const char *name)
{
	uint64_t end = stub_now_us() + DAEMON_PATIENCE_MS * 1000;

	while (stub_asked(stub, name, TYPE_A) == 0) {
		ck_assert_msg(stub_now_us() < end, "%s is not asked", name);
		poll(NULL, 0, 1);
	}
}

/* An address of ::1 on this machine?  Says so where there is none. */
static bool
have_ipv6(void)
{
	int fd = client_open("::1", "::1", 53);

	if (fd == -1) {
		printf("no ::1 here: its part of the test is left out\n");
		return (false);
	}
	close(fd);
	return (true);
}

/*
 * What the daemon says of itself, and what the system says of it.
 */

static uint64_t
stat_of(const char *name)
{
	uint64_t value = daemon_stat(&dnsd, NULL, name);

	ck_assert_msg(value != DAEMON_STAT_NONE, "no counter %s", name);
	return (value);
}

static void
assert_stat(const char *name, uint64_t value)
{
	ck_assert(daemon_stat_is(&dnsd, NULL, name, value));
}

static uint64_t
stat_sum(enum metric first, enum metric last)
{
	uint64_t sum = 0;
	int i;

	for (i = first; i <= (int)last; i++)
		sum += stat_of(metrics_name(i));
	return (sum);
}

static uint64_t
closed_connections(void)
{
	return (stat_sum(METRIC_TCP_CLOSED_CLIENT, METRIC_TCP_CLOSED_LIMIT));
}

/* The sum of what went out or was dropped is what came in. */
static void
assert_queries_settled(void)
{
	uint64_t end = stub_now_us() + DAEMON_PATIENCE_MS * 1000;
	uint64_t queries, settled;

	do {
		queries = stat_of("queries");
		settled = stat_of("replies") +
		    stat_sum(METRIC_DROP_FIRST, METRIC_DROP_LAST);
		if (queries == settled)
			return;
		poll(NULL, 0, 20);
	} while (stub_now_us() < end);
	ck_abort_msg("%llu queries, but %llu replies and drops",
	    (unsigned long long)queries, (unsigned long long)settled);
}

/* And when all clients have gone, each connection was closed once. */
static void
assert_accounts_close(void)
{
	uint64_t end = stub_now_us() + DAEMON_PATIENCE_MS * 1000;
	uint64_t opened, closed;

	assert_queries_settled();
	do {
		opened = stat_of("tcp-connections");
		closed = closed_connections();
		if (opened == closed)
			return;
		poll(NULL, 0, 20);
	} while (stub_now_us() < end);
	ck_abort_msg("%llu connections, but %llu were closed",
	    (unsigned long long)opened, (unsigned long long)closed);
}

/* The stream's pid, when there is one and it is not the old one. */
static pid_t
stream_but(pid_t old)
{
	uint64_t end = stub_now_us() + DAEMON_PATIENCE_MS * 1000;
	pid_t pids[DAEMON_PROCESSES];

	while (daemon_children(dnsd.pid, "dnsd: stream", pids) != 1 ||
	    pids[0] == old) {
		ck_assert_msg(stub_now_us() < end, "there is no stream");
		poll(NULL, 0, 2);
	}
	return (pids[0]);
}

/* Descriptors that a process has open; -1: it can't be told here. */
static int
descriptors(pid_t pid)
{
	struct dirent *entry;
	char path[64];
	DIR *dir;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pid);
	if ((dir = opendir(path)) == NULL)
		return (-1);
	while ((entry = readdir(dir)) != NULL)
		n += entry->d_name[0] != '.';
	closedir(dir);
	return (n);
}

/* Memory of a process's own, in KB; -1: it can't be told here. */
static long
memory_kb(pid_t pid)
{
	char path[64], line[256];
	long kb = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
	if ((file = fopen(path, "r")) == NULL)
		return (-1);
	while (kb == -1 && fgets(line, sizeof(line), file) != NULL)
		sscanf(line, "RssAnon: %ld", &kb);
	fclose(file);
	return (kb);
}

static void
assert_descriptors(pid_t pid, int count)
{
	uint64_t end = stub_now_us() + DAEMON_PATIENCE_MS * 1000;
	int now;

	if (count == -1) {
		printf("descriptors can't be counted here: left out\n");
		return;
	}
	while ((now = descriptors(pid)) != count) {
		ck_assert_msg(stub_now_us() < end, "%d descriptors, not %d",
		    now, count);
		poll(NULL, 0, 5);
	}
}

static void
assert_memory(pid_t pid, long before)
{
	long now = memory_kb(pid);

	if (before == -1) {
		printf("memory can't be measured here: left out\n");
		return;
	}
	ck_assert_msg(now <= before + MEMORY_SLACK_KB * DAEMON_SLOWER,
	    "%ld KB of memory, %ld KB before", now, before);
}

/*
 * Queries and replies.
 */

START_TEST(misses_and_hits_are_answered)
{
	struct query mixed = { .name = "A.tEsT", .id = 77 };
	uint64_t queries;
	int fd;

	start("");
	queries = stat_of("queries");
	fd = dial();
	ask_on(fd, "a.test");
	ck_assert(got.flags & DNS_FLAG_RA);
	ck_assert(!(got.flags & DNS_FLAG_TC));
	ck_assert(!got.edns);
	ask_on(fd, "a.test");
	ask_query_on(fd, &mixed);
	ck_assert_uint_eq(got.id, 77);
	ck_assert_int_eq(memcmp(got.buf + DNS_HEADER_LEN, "\1A\4tEsT", 8), 0);
	ask_tcp("a.test");
	ask_udp("a.test");
	ask_udp("b.test");
	ask_on(fd, "b.test");
	ck_assert_uint_eq(stub_asked(up, "a.test", TYPE_A), 1);
	ck_assert_uint_eq(stub_asked(up, "b.test", TYPE_A), 1);
	close(fd);
	assert_stat("tcp-queries", 5);
	assert_stat("queries", queries + 7);
	assert_stat("hits", 5);
	assert_stat("misses", 2);
	assert_stat("tcp-connections", 2);
	assert_stat("tcp-closed-client", 2);
	assert_accounts_close();
}
END_TEST

START_TEST(negative_answers_and_failures_are_replies)
{
	struct query query = { .name = "nx.a.test" };
	int fd, i;

	start("");
	fd = dial();
	for (i = 0; i < 2; i++) {
		query.name = "nx.a.test";
		ask_query_on(fd, &query);
		ck_assert_uint_eq(got.rcode, DNS_RCODE_NXDOMAIN);
		query.name = "nodata.a.test";
		ask_query_on(fd, &query);
		ck_assert_uint_eq(got.rcode, 0);
		ck_assert_uint_eq(got.count[1], 0);
		query.name = "servfail.a.test";
		ask_query_on(fd, &query);
		ck_assert_uint_eq(got.rcode, DNS_RCODE_SERVFAIL);
	}
	close(fd);
	assert_accounts_close();
}
END_TEST

/* All in one segment; what is ready first comes first. */
START_TEST(replies_come_in_the_order_they_are_ready)
{
	static const char *names[] = { "delay-600.a.test",
	    "delay-300.a.test", "hit.test" };
	uint8_t buf[COUNT(names) * 1502];
	size_t len = 0, i;
	int fd;

	start("");
	ask_udp("hit.test");
	fd = dial();
	for (i = 0; i < COUNT(names); i++) {
		struct query query = { .name = names[i], .id = 1 + i };

		len += frame(buf + len, &query);
	}
	send_bytes(fd, buf, len);
	for (i = COUNT(names); i-- > 0;) {
		take_id(fd, 1 + i);
		assert_truth(names[i]);
	}
	assert_nothing_to_read(fd);
	close(fd);
	assert_accounts_close();
}
END_TEST

START_TEST(hundreds_of_pipelined_queries_get_a_reply_each)
{
	bool seen[501] = { false };
	char name[32];
	unsigned i;
	int fd;

	start("");
	fd = dial();
	/* 250 misses, each of them asked for twice. */
	for (i = 1; i <= 500; i++) {
		snprintf(name, sizeof(name), "n%u.test", i / 2);
		send_name(fd, name, i);
	}
	for (i = 1; i <= 500; i++) {
		take(fd);
		ck_assert_uint_le(got.id, 500);
		ck_assert_msg(!seen[got.id], "two replies to %u", got.id);
		seen[got.id] = true;
		snprintf(name, sizeof(name), "n%u.test", got.id / 2);
		assert_truth(name);
	}
	assert_nothing_to_read(fd);
	close(fd);
	assert_stat("tcp-queries", 500);
	assert_accounts_close();
}
END_TEST

/*
 * An answer that may not be kept can't be fetched from the cache when the
 * stream had no room for it at once: it is kept for it in some other way.
 */
START_TEST(burst_of_replies_asks_for_no_name_again)
{
	char name[48];
	unsigned i, again = 0;
	int fd;

	start("");
	fd = dial();
	for (i = 1; i <= 100; i++) {
		snprintf(name, sizeof(name), "delay-400.ttl-0.n%u.test", i);
		send_name(fd, name, i);
	}
	for (i = 1; i <= 100; i++)
		take(fd);
	for (i = 1; i <= 100; i++) {
		snprintf(name, sizeof(name), "delay-400.ttl-0.n%u.test", i);
		again += stub_asked(up, name, TYPE_A) > 1;
	}
	ck_assert_msg(again == 0, "%u of 100 names are asked for again",
	    again);
	close(fd);
	assert_accounts_close();
}
END_TEST

START_TEST(query_may_come_a_byte_at_a_time)
{
	struct query query = { .name = "bytes.test", .id = 4711 };
	uint8_t buf[1502];
	size_t len, i;
	int fd, round;

	start("");
	fd = dial();
	len = frame(buf, &query);
	for (round = 0; round < 2; round++) {
		for (i = 0; i < len; i++) {
			assert_nothing_to_read(fd);
			send_bytes(fd, buf + i, 1);
			dawdle(2);
		}
		take_id(fd, 4711);
		assert_truth("bytes.test");
	}
	close(fd);
	assert_stat("tcp-closed-slow", 0);
	assert_accounts_close();
}
END_TEST

/* One and a half messages, and the rest with half of the next. */
START_TEST(messages_may_be_cut_anywhere)
{
	struct query query = { .name = "cut.test", .id = 1 };
	uint8_t buf[3 * 1502];
	size_t one, i;
	int fd;

	start("");
	one = frame(buf, &query);
	memcpy(buf + one, buf, one);
	memcpy(buf + 2 * one, buf, one);
	ask_udp("cut.test");
	fd = dial();
	for (i = 1; i < 2 * one; i += 5) {
		send_bytes(fd, buf, i);
		dawdle(1);
		send_bytes(fd, buf + i, 3 * one - i);
		take_id(fd, 1);
		take_id(fd, 1);
		take_id(fd, 1);
	}
	close(fd);
	assert_accounts_close();
}
END_TEST

START_TEST(message_that_dribbles_too_long_is_given_up)
{
	struct query query = { .name = "dribble.test" };
	uint64_t began;
	uint8_t buf[1502];
	size_t len, i;
	int fd, good;

	start("-tcp-message 400ms");
	fd = dial();
	good = dial();
	len = frame(buf, &query);
	began = stub_now_us();
	for (i = 0; i < len; i++) {
		if (send(fd, buf + i, 1, MSG_NOSIGNAL) == -1 ||
		    receive(fd, 40) != SILENCE)
			break;
		if (i == 4)
			ask_on(good, "good.test");
	}
	ck_assert_msg(i < len, "all of it was taken");
	ck_assert_uint_ge(stub_now_us() - began, 400000);
	ck_assert_uint_le(stub_now_us() - began, 1500000);
	ask_on(good, "good.test");
	close(fd);
	close(good);
	assert_stat("tcp-closed-slow", 1);
	assert_accounts_close();
}
END_TEST

/* The time is for a message, not for a connection. */
START_TEST(every_message_has_its_own_time)
{
	struct query query = { .name = "half.test", .id = 9 };
	uint8_t buf[2 * 1502];
	size_t len, half;
	int fd, i;

	start("-tcp-message 900ms");
	len = frame(buf, &query);
	memcpy(buf + len, buf, len);
	half = len / 2;
	fd = dial();
	send_bytes(fd, buf, half);
	for (i = 0; i < 3; i++) {
		dawdle(400);
		/* The second half, and the first of the next. */
		send_bytes(fd, buf + half, len);
		take_id(fd, 9);
	}
	assert_gone(fd);
	assert_stat("tcp-closed-slow", 1);
	assert_accounts_close();
}
END_TEST

START_TEST(half_closed_connection_gets_all_its_replies)
{
	unsigned i, sum = 0;
	int fd;

	start("-tcp-queries 2");
	ask_udp("hit.test");
	fd = dial();
	send_name(fd, "delay-300.a.test", 1);
	send_name(fd, "hit.test", 2);
	/* More than may be in flight at once. */
	send_name(fd, "delay-200.b.test", 3);
	send_name(fd, "delay-100.c.test", 4);
	send_name(fd, "hit.test", 5);
	send_name(fd, "delay-100.d.test", 6);
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	for (i = 0; i < 6; i++) {
		take(fd);
		ck_assert_uint_eq(got.rcode, 0);
		ck_assert_uint_le(got.id, 6);
		sum += 1 << got.id;
	}
	ck_assert_uint_eq(sum, 126);
	assert_end(fd, DAEMON_PATIENCE_MS);
	close(fd);
	/* One that sent nothing, and one that sent half a query. */
	fd = dial();
	shutdown(fd, SHUT_WR);
	assert_end(fd, DAEMON_PATIENCE_MS);
	close(fd);
	fd = dial();
	send_bytes(fd, "\0\40abc", 5);
	shutdown(fd, SHUT_WR);
	assert_gone(fd);
	assert_stat("tcp-closed-client", 3);
	assert_accounts_close();
}
END_TEST

/* What it waits for may take long, and each turn would find it hung up. */
START_TEST(client_that_resets_after_its_end_is_dropped_at_once)
{
	int fd;

	start("-timeout 60s");
	fd = dial();
	send_name(fd, "silent.a.test", 1);
	shutdown(fd, SHUT_WR);
	dawdle(50);
	reset(fd);
	assert_stat("tcp-closed-client", 1);
}
END_TEST

/* Both wait for the one answer; neither is the other's retransmission. */
START_TEST(udp_and_tcp_from_one_port_are_two_clients)
{
	struct query query = { .name = "delay-300.a.test", .id = 5 };
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);
	int udp = -1, tcp, tries;
	char from[32];

	start("");
	for (tcp = -1, tries = 0; tcp == -1 && tries < 20; tries++) {
		udp = client_open(HOME, HOME, dnsd.port);
		ck_assert(getsockname(udp, (struct sockaddr *)&sin,
		    &len) == 0);
		snprintf(from, sizeof(from), HOME ":%u", ntohs(sin.sin_port));
		tcp = dial_at(from, HOME, dnsd.port, 0);
		if (tcp == -1)
			close(udp);	/* TCP has it in use; another */
	}
	ck_assert_msg(tcp != -1, "%s: %s", from, strerror(errno));
	client_send(udp, &query);
	wait_for_question(up, query.name);
	send_query(tcp, &query);
	ck_assert(client_receive(udp, &got, DAEMON_PATIENCE_MS));
	assert_truth(query.name);
	ck_assert_msg(receive(tcp, 2000) == WHOLE, "no reply by TCP");
	assert_truth(query.name);
	close(udp);
	reset(tcp);
	ck_assert_uint_eq(stub_asked(up, query.name, TYPE_A), 1);
	assert_accounts_close();
}
END_TEST

START_TEST(any_is_forwarded_by_tcp_and_truncated_by_udp)
{
	struct query query = { .name = "any.test", .type = DNS_TYPE_ANY };
	int fd;

	start("");
	ck_assert(daemon_ask(&dnsd, &query, &got));
	ck_assert(got.flags & DNS_FLAG_TC);
	ck_assert_uint_eq(stub_asked(up, "any.test", DNS_TYPE_ANY), 0);
	fd = dial();
	ask_query_on(fd, &query);
	ck_assert(!(got.flags & DNS_FLAG_TC));
	ck_assert_uint_eq(got.rcode, 0);
	ck_assert_uint_ge(got.count[1], 3);
	ck_assert_uint_eq(stub_asked(up, "any.test", DNS_TYPE_ANY), 1);
	ask_query_on(fd, &query);
	ck_assert_uint_ge(got.count[1], 3);
	ck_assert_uint_eq(stub_asked(up, "any.test", DNS_TYPE_ANY), 1);
	ck_assert(daemon_ask(&dnsd, &query, &got));
	ck_assert(got.flags & DNS_FLAG_TC);
	close(fd);
	assert_accounts_close();
}
END_TEST

/*
 * Large replies.
 */

/* Has got the records that the stub has for the question? */
static void
assert_same_as_stub(const struct query *query)
{
	struct query ask = *query;
	static struct reply ours;
	size_t i;
	int fd;

	/* As the daemon asks it. */
	ask.edns = strncmp(ask.name, "noedns.", 7) != 0;
	memcpy(&ours, &got, sizeof(ours));
	reply_parse(&ours);		/* its records point into it */
	fd = dial_at(HOME, HOME, up->port, 0);
	ck_assert(fd != -1);
	ask_query_on(fd, &ask);
	close(fd);
	ck_assert_uint_gt(got.records, 0);
	ck_assert_uint_eq(ours.records, got.records);
	ck_assert_uint_eq(ours.count[1], got.count[1]);
	for (i = 0; i < got.records; i++)
		ck_assert_msg(ours.record[i].rdata_len ==
		    got.record[i].rdata_len && memcmp(ours.record[i].rdata,
		    got.record[i].rdata, got.record[i].rdata_len) == 0,
		    "%s: record %zu is another", query->name, i);
}

START_TEST(replies_up_to_65535_bytes_are_whole)
{
	static const struct {
		const char	*name;
		size_t		 len;
		bool		 edns;
		uint16_t	 type;
	} cases[] = {
		{ "big-524.a.test", 513, false, TYPE_TXT },
		{ "big-1233.a.test", 1233, true, TYPE_TXT },
		{ "big-4096.a.test", 4096 - DNS_OPT_LEN, false, TYPE_TXT },
		{ "big-30000.tcpsplit.a.test", 30000, true, TYPE_TXT },
		{ "big-65535.a.test", 65535, true, TYPE_TXT },
		/* Four thousand records; sixteen bytes are not divided. */
		{ "big-65535.b.test", 65525, true, TYPE_A },
		{ "noedns.big-65535.a.test", 65535, false, TYPE_TXT },
	};
	struct query query = { .name = NULL };
	uint32_t asked;
	size_t i;
	int fd, round;

	start("-cache-memory 8388608");
	fd = dial();
	for (i = 0; i < COUNT(cases); i++) {
		query.name = cases[i].name;
		query.edns = cases[i].edns;
		query.type = cases[i].type;
		/* A miss, then a hit. */
		for (round = 0; round < 2; round++) {
			ask_query_on(fd, &query);
			ck_assert_msg(!(got.flags & DNS_FLAG_TC), "%s: TC",
			    query.name);
			ck_assert_msg(got.rcode == 0, "%s: rcode %u",
			    query.name, got.rcode);
			ck_assert_msg(got.len == cases[i].len ||
			    (query.type == TYPE_A && got.len > 65500),
			    "%s: %zu bytes, not %zu", query.name, got.len,
			    cases[i].len);
			ck_assert(got.edns == query.edns);
			if (round == 0)
				asked = stub_asked(up, query.name,
				    query.type);
			else
				ck_assert_uint_eq(stub_asked(up, query.name,
				    query.type), asked);
		}
		assert_same_as_stub(&query);
		/* What fits no datagram is still TC by UDP. */
		ck_assert(daemon_ask(&dnsd, &query, &got));
		ck_assert_msg(got.flags & DNS_FLAG_TC, "%s: no TC by UDP",
		    query.name);
		ck_assert_uint_eq(got.count[1], 0);
	}
	close(fd);
	assert_accounts_close();
}
END_TEST

START_TEST(client_that_gets_tc_comes_back_by_tcp)
{
	struct query query = { .name = "big-3000.a.test", .type = TYPE_TXT };
	int fd;

	start("");
	ck_assert(daemon_ask(&dnsd, &query, &got));
	ck_assert(got.flags & DNS_FLAG_TC);
	fd = dial();
	ask_query_on(fd, &query);
	ck_assert(!(got.flags & DNS_FLAG_TC));
	ck_assert_uint_eq(got.len, 3000 - DNS_OPT_LEN);
	ck_assert_uint_eq(stub_asked_tcp(up, query.name, TYPE_TXT), 1);
	close(fd);
}
END_TEST

/* It reads all the time, but has room for little. */
START_TEST(client_that_reads_slowly_gets_everything)
{
	struct query query = { .name = "big-60000.a.test", .type = TYPE_TXT,
	    .id = 1 };
	static uint8_t first[MESSAGE_MAX];
	size_t first_len;
	int fd, good, i;

	start("");
	good = dial();
	ask_query_on(good, &query);
	first_len = got.len;
	memcpy(first, got.buf, first_len);
	fd = dial_at(HOME, HOME, dnsd.port, 4096);
	ck_assert(fd != -1);
	for (i = 0; i < 100; i++)
		send_query(fd, &query);
	for (i = 0; i < 100; i++) {
		take(fd);
		ck_assert_uint_eq(got.len, first_len);
		/* The TTLs may have gone down meanwhile; the start is equal. */
		ck_assert_int_eq(memcmp(got.buf, first, DNS_HEADER_LEN), 0);
		ck_assert_int_eq(memcmp(got.buf + got.len - 500,
		    first + got.len - 500, 500), 0);
		if (i % 10 == 0) {
			ask_on(good, "beside.test");
			dawdle(5);
		}
	}
	assert_nothing_to_read(fd);
	assert_stat("tcp-closed-unread", 0);
	close(fd);
	close(good);
	assert_accounts_close();
}
END_TEST

/*
 * They come all at once, more than the kernel's buffers hold, and the client
 * is a little late; but it reads.
 */
START_TEST(client_that_reads_gets_all_its_large_misses)
{
	char name[48];
	int fd, i;

	start("-tcp-queries 60");
	fd = dial_at(HOME, HOME, dnsd.port, 4096);
	ck_assert(fd != -1);
	for (i = 0; i < 60; i++) {
		struct query query = { .name = name, .type = TYPE_TXT,
		    .id = 1 + i };

		snprintf(name, sizeof(name), "delay-200.big-60000.n%d.test",
		    i);
		send_query(fd, &query);
	}
	dawdle(1200);
	for (i = 0; i < 60; i++) {
		take(fd);
		ck_assert_uint_eq(got.rcode, 0);
		ck_assert_uint_eq(got.len, 60000 - DNS_OPT_LEN);
	}
	close(fd);
	assert_stat("tcp-closed-unread", 0);
	assert_accounts_close();
}
END_TEST

/*
 * edns-tcp-keepalive, RFC 7828.
 */

/* The value in got's OPT, its last record; NO_KEEPALIVE: there is none. */
static int
keepalive(void)
{
	const uint8_t *opt;

	if (!got.edns)
		return (NO_KEEPALIVE);
	opt = got.buf + got.len - DNS_OPT_LEN;
	if (opt[0] == 0 && dns_get16(opt + 1) == DNS_TYPE_OPT &&
	    dns_get16(opt + 9) == 0)
		return (NO_KEEPALIVE);
	opt -= 6;
	ck_assert_msg(opt[0] == 0 && dns_get16(opt + 1) == DNS_TYPE_OPT &&
	    dns_get16(opt + 9) == 6 && dns_get16(opt + 11) == KEEPALIVE &&
	    dns_get16(opt + 13) == 2, "the OPT is not as it should be");
	return (dns_get16(opt + 15));
}

START_TEST(keepalive_is_in_the_reply_exactly_if_asked_for)
{
	static const uint8_t asked[] = { 0, KEEPALIVE, 0, 0 };
	static const uint8_t cookie[] = { 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7,
	    8 };
	static const uint8_t both[] = { 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8,
	    0, KEEPALIVE, 0, 0 };
	struct {
		const char	*what;
		struct query	 query;
		unsigned	 rcode;
	} cases[] = {
		{ "miss", { .name = "a.test" }, 0 },
		{ "hit", { .name = "a.test" }, 0 },
		{ "NXDOMAIN", { .name = "nx.test" }, DNS_RCODE_NXDOMAIN },
		{ "servfail", { .name = "servfail.test" },
		    DNS_RCODE_SERVFAIL },
		{ "large", { .name = "big-40000.test", .type = TYPE_TXT },
		    0 },
		{ "version", { .name = "a.test", .edns_version = 1 }, 16 },
		{ "class", { .name = "a.test", .class = CLASS_CH },
		    DNS_RCODE_REFUSED },
		{ "no RD", { .name = "none.test", .no_rd = true },
		    DNS_RCODE_REFUSED },
	};
	struct query *query;
	char name[64];
	size_t i;
	int fd, round;

	start("-tcp-idle 12300ms");
	fd = dial();
	/* Each question is new to each round. */
	for (round = 0; round < 5; round++)
		for (i = 0; i < COUNT(cases); i++) {
			query = &cases[i].query;
			snprintf(name, sizeof(name), "%.*s.n%d.test",
			    (int)strcspn(query->name, "."), query->name,
			    round);
			query = &(struct query){ .name = name,
			    .type = cases[i].query.type,
			    .class = cases[i].query.class,
			    .no_rd = cases[i].query.no_rd,
			    .edns_version = cases[i].query.edns_version };
			query->edns = round > 0 || query->edns_version != 0;
			if (round == 2) {
				query->options = cookie;
				query->options_len = sizeof(cookie);
			} else if (round == 3) {
				query->options = asked;
				query->options_len = sizeof(asked);
			} else if (round == 4) {
				query->options = both;
				query->options_len = sizeof(both);
			}
			ask_query_on(fd, query);
			ck_assert_msg(got.rcode == cases[i].rcode,
			    "%s: rcode %u", cases[i].what, got.rcode);
			ck_assert(got.edns == query->edns);
			ck_assert_msg(keepalive() == (round >= 3 ? 123 :
			    NO_KEEPALIVE), "%s, round %d: %d", cases[i].what,
			    round, keepalive());
		}
	close(fd);
	assert_accounts_close();
}
END_TEST

START_TEST(keepalive_is_for_the_client_that_asked)
{
	static const uint8_t asked[] = { 0, KEEPALIVE, 0, 0 };
	struct query with = { .name = "delay-200.a.test", .edns = true,
	    .options = asked, .options_len = sizeof(asked) };
	struct query without = { .name = "delay-200.a.test", .edns = true };
	int one, two, udp;

	start("");
	one = dial();
	two = dial();
	udp = client_open(HOME, HOME, dnsd.port);
	send_query(one, &with);
	send_query(two, &without);
	client_send(udp, &with);
	take(one);
	ck_assert_int_eq(keepalive(), 100);
	take(two);
	ck_assert_int_eq(keepalive(), NO_KEEPALIVE);
	ck_assert(client_receive(udp, &got, DAEMON_PATIENCE_MS));
	ck_assert_int_eq(keepalive(), NO_KEEPALIVE);
	client_send(udp, &with);
	ck_assert(client_receive(udp, &got, DAEMON_PATIENCE_MS));
	ck_assert_int_eq(keepalive(), NO_KEEPALIVE);
	ck_assert_uint_eq(stub_asked(up, with.name, TYPE_A), 1);
	close(one);
	close(two);
	close(udp);
}
END_TEST

/* There is no room for it in a reply of 65,535 bytes. */
START_TEST(keepalive_never_makes_a_reply_too_long)
{
	static const uint8_t asked[] = { 0, KEEPALIVE, 0, 0 };
	struct query query = { .name = "big-65535.a.test", .edns = true,
	    .type = TYPE_TXT, .options = asked, .options_len = sizeof(asked) };
	int fd, i;

	start("");
	fd = dial();
	for (i = 0; i < 2; i++) {
		ask_query_on(fd, &query);
		ck_assert_uint_eq(got.len, 65535);
		ck_assert(!(got.flags & DNS_FLAG_TC));
	}
	query.name = "big-65529.a.test";
	for (i = 0; i < 2; i++) {
		ask_query_on(fd, &query);
		ck_assert_uint_eq(got.len, 65535);
		ck_assert_int_eq(keepalive(), 100);
	}
	close(fd);
}
END_TEST

/*
 * Bad input.
 */

/* Whoever else is there is served as ever. */
static void
assert_others_are_served(int fd)
{
	ask_on(fd, "hit.test");
	ask_udp("hit.test");
}

START_TEST(wrong_lengths_close_their_connection_alone)
{
	uint8_t buf[2 + 12] = { 0 };
	unsigned len;
	int fd, good, before;
	pid_t stream;

	start("");
	good = dial();
	assert_others_are_served(good);
	stream = stream_but(0);
	before = descriptors(stream);
	for (len = 0; len < DNS_HEADER_LEN; len++) {
		fd = dial();
		dns_put16(buf, len);
		send_bytes(fd, buf, 2 + len);
		assert_gone(fd);
		assert_others_are_served(good);
	}
	/* Longer than any question; the rest never comes. */
	fd = dial();
	send_bytes(fd, "\377\377abc", 5);
	shutdown(fd, SHUT_WR);
	assert_gone(fd);
	assert_others_are_served(good);
	assert_stat("tcp-closed-malformed", DNS_HEADER_LEN + 1);
	assert_descriptors(stream, before);
	close(good);
	assert_accounts_close();
}
END_TEST

START_TEST(length_and_then_silence_ends_in_time)
{
	static const struct {
		const char	*bytes;
		size_t		 len;
	} starts[] = {
		{ "\0", 1 }, { "\0\35", 2 }, { "\0\35abc", 5 },
		{ "\37\370abc", 5 }
	};
	int fd[COUNT(starts)], good, before;
	pid_t stream;
	size_t i;

	start("-tcp-message 300ms");
	good = dial();
	assert_others_are_served(good);
	stream = stream_but(0);
	before = descriptors(stream);
	for (i = 0; i < COUNT(starts); i++) {
		fd[i] = dial();
		send_bytes(fd[i], starts[i].bytes, starts[i].len);
	}
	assert_others_are_served(good);
	for (i = 0; i < COUNT(starts); i++)
		assert_gone(fd[i]);
	assert_stat("tcp-closed-slow", COUNT(starts));
	assert_others_are_served(good);
	assert_descriptors(stream, before);
	close(good);
	assert_accounts_close();
}
END_TEST

START_TEST(garbage_is_answered_or_closed)
{
	uint32_t random = 20260101;
	uint8_t buf[800];
	enum outcome outcome;
	unsigned round, replies;
	int fd, good, before;
	pid_t stream;
	size_t i;

	start("");
	good = dial();
	assert_others_are_served(good);
	stream = stream_but(0);
	before = descriptors(stream);
	for (round = 0; round < 60; round++) {
		for (i = 0; i < sizeof(buf); i++) {
			random = random * 1664525 + 1013904223;
			buf[i] = random >> 24;
		}
		/* Two of three have a length that is right; some, QR=0. */
		if (round % 3 != 0)
			dns_put16(buf, 12 + 10 * round);
		if (round % 3 == 2)
			buf[4] &= 0x07;
		fd = dial();
		send_bytes(fd, buf, sizeof(buf));
		shutdown(fd, SHUT_WR);
		for (replies = 0; (outcome = receive(fd,
		    DAEMON_PATIENCE_MS)) == WHOLE; replies++) {
			ck_assert(got.flags & DNS_FLAG_QR);
			ck_assert_uint_ne(got.rcode, 0);
		}
		ck_assert_msg(outcome == CLOSED || outcome == RESET,
		    "%s after %u replies", outcomes[outcome], replies);
		close(fd);
		if (round % 3 == 2)
			ck_assert_msg(replies > 0, "no reply to garbage %u",
			    round);
	}
	assert_others_are_served(good);
	ck_assert_int_eq(stream_but(0), stream);
	assert_descriptors(stream, before);
	close(good);
	assert_accounts_close();
}
END_TEST

START_TEST(response_instead_of_a_query_closes_the_connection)
{
	struct query query = { .name = "a.test", .flags = DNS_FLAG_QR };
	int fd, good, before;
	pid_t stream;

	start("");
	good = dial();
	assert_others_are_served(good);
	stream = stream_but(0);
	before = descriptors(stream);
	fd = dial();
	send_query(fd, &query);
	assert_end(fd, DAEMON_PATIENCE_MS);
	close(fd);
	assert_stat("drop-malformed", 1);
	assert_stat("tcp-closed-malformed", 1);
	ck_assert_uint_eq(stub_asked(up, "a.test", TYPE_A), 0);
	assert_others_are_served(good);
	assert_descriptors(stream, before);
	close(good);
	assert_accounts_close();
}
END_TEST

START_TEST(malformed_query_gets_an_error_and_the_connection_goes_on)
{
	struct query query = { .name = "two.test", .id = 3 };
	uint8_t buf[1502];
	size_t len;
	int fd;

	start("");
	fd = dial();
	/* Two questions, the second of them missing; then really two. */
	len = frame(buf, &query);
	buf[2 + 5] = 2;
	send_bytes(fd, buf, len);
	take_id(fd, 3);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_FORMERR);
	memcpy(buf + len, buf + 2 + DNS_HEADER_LEN, len - 2 - DNS_HEADER_LEN);
	dns_put16(buf, 2 * len - 4 - DNS_HEADER_LEN);
	send_bytes(fd, buf, 2 * len - 2 - DNS_HEADER_LEN);
	take_id(fd, 3);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_FORMERR);
	/* A header alone, and bytes behind the question. */
	send_bytes(fd, "\0\14\0\5\1\0\0\0\0\0\0\0\0\0", 14);
	take_id(fd, 5);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_FORMERR);
	len = frame(buf, &query);
	dns_put16(buf, len);
	send_bytes(fd, buf, len + 2);
	take_id(fd, 3);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_FORMERR);
	/* Another opcode, another class, no recursion. */
	query.flags = 2 << 11;
	ask_query_on(fd, &query);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_NOTIMP);
	query.flags = 0;
	query.class = CLASS_CH;
	ask_query_on(fd, &query);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_REFUSED);
	query.class = 0;
	query.no_rd = true;
	ask_query_on(fd, &query);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_REFUSED);
	ask_on(fd, "good.test");
	ck_assert_uint_eq(up->udp_queries, 1);
	close(fd);
	assert_stat("tcp-closed-malformed", 0);
	assert_accounts_close();
}
END_TEST

START_TEST(client_that_never_reads_is_closed_and_disturbs_nobody)
{
	struct query query = { .name = "big-60000.fat.test",
	    .type = TYPE_TXT };
	uint64_t end, now, slowest = 0;
	uint8_t buf[1502];
	int fd[8], good, before, sent;
	size_t i;
	long memory;
	pid_t stream;
	size_t len;

	start("");
	good = dial();
	ask_query_on(good, &query);
	ck_assert_uint_eq(got.rcode, 0);
	assert_others_are_served(good);
	stream = stream_but(0);
	before = descriptors(stream);
	memory = memory_kb(stream);
	len = frame(buf, &query);
	for (i = 0; i < COUNT(fd); i++) {
		fd[i] = dial_at(HOME, HOME, dnsd.port, 4096);
		ck_assert(fd[i] != -1);
		for (sent = 0; sent < 5000; sent++)
			if (send(fd[i], buf, len, MSG_DONTWAIT |
			    MSG_NOSIGNAL) != (ssize_t)len)
				break;
		ck_assert_int_ge(sent, 1000);
	}
	end = stub_now_us() + DAEMON_PATIENCE_MS * 1000;
	while (stat_of("tcp-closed-unread") < COUNT(fd)) {
		now = stub_now_us();
		ck_assert_msg(now < end, "it is not closed");
		assert_others_are_served(good);
		ask_tcp("hit.test");
		if (stub_now_us() - now > slowest)
			slowest = stub_now_us() - now;
	}
	/* A busy machine is slow, but not as slow as those clients. */
	ck_assert_msg(slowest < 1000000, "the others waited for %llu us",
	    (unsigned long long)slowest);
	for (i = 0; i < COUNT(fd); i++)
		assert_gone(fd[i]);
	assert_stat("tcp-closed-unread", COUNT(fd));
	assert_descriptors(stream, before);
	assert_memory(stream, memory);
	close(good);
	assert_accounts_close();
}
END_TEST

/* Replies that a client that has gone waited for. */
START_TEST(late_reply_for_a_client_that_left_goes_to_nobody)
{
	int fd, next, half;

	start("");
	fd = dial();
	ask_on(fd, "hit.test");
	send_name(fd, "delay-400.a.test", 1);
	wait_for_question(up, "delay-400.a.test");
	reset(fd);
	assert_stat("tcp-closed-client", 1);
	/* It is likely to get the place of the first. */
	next = dial();
	ask_on(next, "hit.test");
	assert_stat("drop-gone", 1);
	assert_nothing_to_read(next);
	ask_on(next, "delay-400.a.test");
	ck_assert_uint_eq(stub_asked(up, "delay-400.a.test", TYPE_A), 1);
	close(next);
	/* One that closes both ways without reading: no harm. */
	half = dial();
	send_name(half, "delay-100.b.test", 1);
	close(half);
	assert_accounts_close();
}
END_TEST

/*
 * Limits.
 */

START_TEST(longest_idle_connection_makes_room)
{
	int fd[5], i;

	start("-tcp-connections 4");
	for (i = 0; i < 4; i++) {
		fd[i] = dial();
		ask_on(fd[i], "hit.test");
		dawdle(3);
	}
	/* Now the second is idle longest, then the third. */
	ask_on(fd[0], "hit.test");
	fd[4] = dial();
	ask_on(fd[4], "hit.test");
	assert_gone(fd[1]);
	ask_on(fd[0], "hit.test");
	ask_on(fd[3], "hit.test");
	ask_on(fd[2], "hit.test");
	assert_stat("tcp-closed-limit", 1);
	for (i = 0; i < 5; i++)
		if (i != 1)
			close(fd[i]);
	assert_accounts_close();
}
END_TEST

START_TEST(busy_connections_are_never_closed_for_a_new_one)
{
	int fd[3], next;

	start("-tcp-connections 3");
	fd[0] = dial();
	send_name(fd[0], "delay-700.a.test", 1);
	fd[1] = dial();
	send_name(fd[1], "delay-900.b.test", 2);
	fd[2] = dial();
	send_bytes(fd[2], "\0\40abc", 5);	/* in the midst of a message */
	wait_for_question(up, "delay-700.a.test");
	wait_for_question(up, "delay-900.b.test");
	assert_stat("tcp-connections", 3);
	next = dial();
	assert_end(next, DAEMON_PATIENCE_MS);
	close(next);
	assert_stat("tcp-closed-limit", 1);
	take_id(fd[0], 1);
	assert_truth("delay-700.a.test");
	take_id(fd[1], 2);
	assert_truth("delay-900.b.test");
	/* Now there are idle ones. */
	next = dial();
	ask_on(next, "hit.test");
	assert_gone(fd[0]);
	close(fd[1]);
	assert_gone(fd[2]);
	close(next);
	assert_stat("tcp-closed-limit", 2);
	assert_accounts_close();
}
END_TEST

START_TEST(one_address_cannot_take_the_place_of_others)
{
	int old, fd[3], next;

	start("-tcp-connections 10 -tcp-per-client 2");
	old = dial_from("127.0.0.2");
	ask_on(old, "hit.test");
	dawdle(3);
	fd[0] = dial_from("127.0.0.3");
	ask_on(fd[0], "hit.test");
	dawdle(3);
	fd[1] = dial_from("127.0.0.3");
	ask_on(fd[1], "hit.test");
	dawdle(3);
	/* The first of the same address goes, not that of another. */
	fd[2] = dial_from("127.0.0.3");
	ask_on(fd[2], "hit.test");
	assert_gone(fd[0]);
	/* And when they are busy, the new one. */
	send_name(fd[1], "delay-500.a.test", 1);
	send_name(fd[2], "delay-500.b.test", 2);
	wait_for_question(up, "delay-500.a.test");
	wait_for_question(up, "delay-500.b.test");
	next = dial_from("127.0.0.3");
	assert_end(next, DAEMON_PATIENCE_MS);
	close(next);
	assert_stat("tcp-closed-limit", 2);
	next = dial_from("127.0.0.2");
	ask_on(next, "hit.test");
	close(next);
	ask_on(old, "hit.test");
	take_id(fd[1], 1);
	take_id(fd[2], 2);
	close(fd[1]);
	close(fd[2]);
	close(old);
	assert_accounts_close();
}
END_TEST

START_TEST(idle_connections_are_closed_in_time)
{
	uint64_t began;
	int fd, fresh, busy, active, i;

	start("-tcp-idle 700ms");
	busy = dial();
	fd = dial();
	active = dial();
	ask_on(fd, "hit.test");
	began = stub_now_us();
	send_name(busy, "delay-900.a.test", 1);
	fresh = dial();
	/* One that asks every 100 ms is not idle, nor one that waits. */
	for (i = 0; i < 8; i++) {
		ask_on(active, "hit.test");
		if (receive(fd, 100) != SILENCE)
			break;
	}
	ck_assert_int_ne(wait_for_end(fd, DAEMON_PATIENCE_MS), SILENCE);
	ck_assert_uint_ge(stub_now_us() - began, 690000);
	ck_assert_uint_le(stub_now_us() - began, 1600000);
	close(fd);
	assert_gone(fresh);
	ask_on(active, "hit.test");
	take_id(busy, 1);
	ask_on(busy, "hit.test");
	assert_stat("tcp-closed-idle", 2);
	close(busy);
	close(active);
	assert_accounts_close();
}
END_TEST

/* Of six queries two are asked at a time: three rounds of 200 ms. */
START_TEST(queries_beyond_the_limit_wait_their_turn)
{
	struct stub_query query;
	uint64_t at_us[6];
	unsigned i, sum = 0;
	char name[32];
	int fd;

	start("-tcp-queries 2");
	fd = dial();
	for (i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "delay-200.n%u.test", i);
		send_name(fd, name, 1 + i);
	}
	for (i = 0; i < 6; i++) {
		take(fd);
		ck_assert_uint_eq(got.rcode, 0);
		ck_assert_uint_le(got.id, 6);
		sum += 1 << got.id;
	}
	ck_assert_uint_eq(sum, 126);
	ck_assert_uint_eq(up->logged, 6);
	for (i = 0; i < 6; i++) {
		ck_assert(stub_last(up, 5 - i, &query));
		at_us[i] = query.at_us;
	}
	for (i = 2; i < 6; i++)
		ck_assert_msg(at_us[i] - at_us[i - 2] >= 199000,
		    "query %u came %llu us after query %u", i,
		    (unsigned long long)(at_us[i] - at_us[i - 2]), i - 2);
	ask_on(fd, "hit.test");
	close(fd);
	assert_accounts_close();
}
END_TEST

/*
 * The first question keeps the only worker till `timeout'; the second is too
 * old then.  By TCP nobody asks again: it is to be answered, or the
 * connection closed, and not only when it is idle too long.
 */
START_TEST(query_that_is_dropped_leaves_no_connection_waiting)
{
	int fd;

	start("-workers 1 -queries-per-worker 1 -timeout 2300ms "
	    "-tcp-idle 60s");
	fd = dial();
	send_name(fd, "silent.a.test", 1);
	wait_for_question(up, "silent.a.test");
	send_name(fd, "b.test", 2);
	shutdown(fd, SHUT_WR);
	take_id(fd, 1);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_SERVFAIL);
	ck_assert_msg(wait_for_end(fd, 2000) != SILENCE,
	    "neither a reply nor an end");
	close(fd);
	assert_accounts_close();
}
END_TEST

/*
 * Many.
 */

/* Ask for hits by UDP, a few at a time; none may be lost. */
static void
ask_udp_hits(unsigned count)
{
	struct query query = { .name = "hit.test" };
	unsigned sent = 0, received = 0;
	int fd;

	fd = client_open(HOME, HOME, dnsd.port);
	ck_assert(fd != -1);
	while (received < count) {
		while (sent < count && sent < received + 16) {
			query.id = 1 + sent++;
			client_send(fd, &query);
		}
		ck_assert_msg(client_receive(fd, &got, 3000),
		    "%u sent, %u answered", sent, received);
		ck_assert_uint_eq(got.rcode, 0);
		received++;
	}
	close(fd);
}

/* How many of these connections may this process open? */
static unsigned
may_open(unsigned wanted)
{
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur < wanted + 64) {
		limit.rlim_cur = wanted + 64;
		if (limit.rlim_max != RLIM_INFINITY &&
		    limit.rlim_cur > limit.rlim_max)
			limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
		getrlimit(RLIMIT_NOFILE, &limit);
	}
	if (limit.rlim_cur < wanted + 64) {
		wanted = limit.rlim_cur - 64;
		printf("no more than %u idle connections here\n", wanted);
	}
	return (wanted);
}

START_TEST(thousands_of_idle_connections_leave_udp_alone)
{
	static int fd[IDLE_CLIENTS];
	uint64_t began, alone_us, beside_us;
	unsigned count, i;
	char from[32];
	long memory;
	pid_t stream;
	int before;

	/* The daemon is to raise its limit itself. */
	start("-tcp-connections 6000 -tcp-idle 1m");
	count = may_open(IDLE_CLIENTS);
	ask_udp("hit.test");
	ask_tcp("hit.test");
	assert_stat("tcp-closed-client", 1);
	stream = stream_but(0);
	before = descriptors(stream);
	memory = memory_kb(stream);
	began = stub_now_us();
	ask_udp_hits(10000);
	alone_us = stub_now_us() - began;
	for (i = 0; i < count; i++) {
		snprintf(from, sizeof(from), "127.0.1.%u", 1 + i / 200);
		fd[i] = dial_from(from);
		/* A few of each hundred have begun to ask. */
		if (i % 100 == 99) {
			ask_on(fd[i], "hit.test");
			ask_udp_hits(50);
		}
	}
	assert_stat("tcp-connections", 1 + count);
	began = stub_now_us();
	ask_udp_hits(10000);
	beside_us = stub_now_us() - began;
	for (i = 0; i < count; i += 50)
		ask_on(fd[i], "hit.test");
	ck_assert_uint_eq(closed_connections(), 1);
	assert_stat("kernel-drops", 0);
	printf("%u idle connections: 10000 hits by UDP in %llu ms, alone in "
	    "%llu; memory %ld to %ld KB\n", count,
	    (unsigned long long)beside_us / 1000,
	    (unsigned long long)alone_us / 1000, memory, memory_kb(stream));
	if (before != -1)
		ck_assert_int_ge(descriptors(stream), before + (int)count);
	for (i = 0; i < count; i++)
		reset(fd[i]);
	assert_descriptors(stream, before);
	assert_accounts_close();
}
END_TEST

/* What the next batch's connections do, and how they end. */
static void
churn(unsigned from, unsigned count)
{
	struct query query = { .name = "hit.test" };
	int fd[BATCH];
	uint8_t buf[1502];
	char address[32];
	unsigned i;
	size_t len;

	snprintf(address, sizeof(address), "127.0.2.%u", 1 + from / BATCH %
	    200);
	len = frame(buf, &query);
	for (i = 0; i < count; i++) {
		fd[i] = dial_from(address);
		if (i % 8 == 5)
			send_bytes(fd[i], buf, len / 2);
		else if (i % 16 == 7)
			send_bytes(fd[i], "\0\1", 2);
		else if (i % 8 != 6)
			send_bytes(fd[i], buf, len);
	}
	for (i = 0; i < count; i++) {
		if (i % 8 == 5 || i % 8 == 6) {
			reset(fd[i]);
			continue;
		}
		if (i % 16 == 7) {
			assert_gone(fd[i]);
			continue;
		}
		take(fd[i]);
		ck_assert_uint_eq(got.rcode, 0);
		if (i % 16 == 4)
			close(fd[i]);
		else
			reset(fd[i]);
	}
}

/*
 * Two clients at a time make connections, up to a number and an end.  Returns
 * how many there were.
 */
static unsigned
churn_all(unsigned from, unsigned to, uint64_t end)
{
	_Atomic unsigned *count;
	unsigned at, total;
	pid_t pid[2], self = getpid();
	int i, status;

	count = mmap(NULL, sizeof(*count), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert(count != MAP_FAILED);
	*count = from;
	for (i = 0; i < 2; i++) {
		if ((pid[i] = fork()) != 0)
			continue;
		stub_die_with(self);
		while (stub_now_us() < end &&
		    (at = atomic_fetch_add(count, BATCH)) < to)
			churn(at, BATCH);
		_exit(0);
	}
	for (i = 0; i < 2; i++) {
		ck_assert(waitpid(pid[i], &status, 0) == pid[i]);
		ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
		    "a client failed");
	}
	total = *count < to ? *count : to;
	munmap((void *)(uintptr_t)count, sizeof(*count));
	return (total);
}

START_TEST(many_connections_leave_neither_descriptors_nor_memory)
{
	int fd[500], before;
	uint64_t began, accepted;
	unsigned count;
	char from[32];
	pid_t stream;
	long memory;
	size_t i;

	start("");
	ask_udp("hit.test");
	/* What a place takes when it is used, it keeps. */
	for (i = 0; i < COUNT(fd); i++) {
		snprintf(from, sizeof(from), "127.0.3.%zu", 1 + i / 100);
		fd[i] = dial_from(from);
		ask_on(fd[i], "hit.test");
	}
	for (i = 0; i < COUNT(fd); i++)
		reset(fd[i]);
	count = churn_all(0, CHURN_FIRST, UINT64_MAX);
	assert_accounts_close();
	stream = stream_but(0);
	before = descriptors(stream);
	memory = memory_kb(stream);
	began = stub_now_us();
	count = churn_all(count, CHURN, began + CHURN_US);
	assert_accounts_close();
	ck_assert_int_eq(stream_but(0), stream);
	assert_descriptors(stream, before);
	assert_memory(stream, memory);
	printf("%u connections in %llu ms: %d descriptors before, %d after; "
	    "memory %ld to %ld KB\n", count,
	    (unsigned long long)(stub_now_us() - began) / 1000, before,
	    descriptors(stream), memory, memory_kb(stream));
	ck_assert_uint_ge(count, 2 * CHURN_FIRST);
	/* One that is reset at once may never be accepted. */
	accepted = stat_of("tcp-connections") - COUNT(fd);
	ck_assert_uint_le(accepted, count);
	ck_assert_uint_ge(accepted, count - count / 4);
	assert_stat("tcp-closed-limit", 0);
}
END_TEST

/*
 * Life.
 */

START_TEST(killed_stream_is_replaced_and_nothing_else_notices)
{
	struct query query = { .name = "delay-900.late.test", .id = 8 };
	pid_t workers[DAEMON_PROCESSES], listeners[DAEMON_PROCESSES];
	pid_t now[DAEMON_PROCESSES], stream;
	int idle, busy, partial, next[3], udp;
	size_t i, nworkers, nlisteners;

	start("");
	ask_udp("hit.test");
	idle = dial();
	ask_on(idle, "hit.test");
	nworkers = daemon_children(dnsd.pid, "dnsd: worker", workers);
	nlisteners = daemon_children(dnsd.pid, "dnsd: listener", listeners);
	stream = stream_but(0);
	busy = dial();
	send_query(busy, &query);
	partial = dial();
	send_bytes(partial, "\0\40abc", 5);
	udp = client_open(HOME, HOME, dnsd.port);
	client_send(udp, &query);
	wait_for_question(up, query.name);
	ck_assert_int_eq(kill(stream, SIGKILL), 0);
	ask_udp("hit.test");
	for (i = 0; i < COUNT(next); i++) {
		next[i] = dial();
		ask_on(next[i], "hit.test");
	}
	assert_gone(idle);
	assert_gone(busy);
	assert_gone(partial);
	ck_assert(client_receive(udp, &got, DAEMON_PATIENCE_MS));
	ck_assert_uint_eq(got.id, 8);
	assert_truth(query.name);
	assert_stat("drop-gone", 1);
	for (i = 0; i < COUNT(next); i++) {
		assert_nothing_to_read(next[i]);
		ask_on(next[i], query.name);
		close(next[i]);
	}
	ck_assert_uint_eq(stub_asked(up, query.name, TYPE_A), 1);
	stream_but(stream);
	ck_assert_uint_eq(daemon_children(dnsd.pid, "dnsd: worker", now),
	    nworkers);
	ck_assert_int_eq(memcmp(now, workers, nworkers * sizeof(now[0])), 0);
	ck_assert_uint_eq(daemon_children(dnsd.pid, "dnsd: listener", now),
	    nlisteners);
	ck_assert_int_eq(memcmp(now, listeners, nlisteners * sizeof(now[0])),
	    0);
	close(udp);
	assert_queries_settled();
}
END_TEST

START_TEST(what_is_in_flight_is_answered_at_the_end)
{
	int idle, busy, partial;

	start("");
	idle = dial();
	ask_on(idle, "hit.test");
	partial = dial();
	send_bytes(partial, "\0\40abc", 5);
	busy = dial();
	send_name(busy, "delay-500.a.test", 1);
	send_name(busy, "delay-300.b.test", 2);
	wait_for_question(up, "delay-500.a.test");
	wait_for_question(up, "delay-300.b.test");
	assert_stat("tcp-connections", 3);
	kill(dnsd.pid, SIGTERM);
	assert_end(idle, 400);
	take_id(busy, 2);
	assert_truth("delay-300.b.test");
	take_id(busy, 1);
	assert_truth("delay-500.a.test");
	assert_end(busy, DAEMON_PATIENCE_MS);
	assert_gone(partial);
	ck_assert_int_eq(daemon_stop(&dnsd, 0, 2000), 0);
	ck_assert(dial_at(HOME, HOME, dnsd.port, 0) == -1);
	close(idle);
	close(busy);
}
END_TEST

START_TEST(idle_connections_do_not_delay_the_end)
{
	int fd[50], i;
	uint64_t began;

	start("");
	for (i = 0; i < 50; i++)
		fd[i] = dial();
	ask_on(fd[49], "hit.test");
	assert_stat("tcp-connections", 50);
	began = stub_now_us();
	ck_assert_int_eq(daemon_stop(&dnsd, SIGTERM, DAEMON_PATIENCE_MS), 0);
	ck_assert_msg(stub_now_us() - began < 500000, "it took %llu us",
	    (unsigned long long)(stub_now_us() - began));
	for (i = 0; i < 50; i++)
		assert_gone(fd[i]);
}
END_TEST

START_TEST(hangup_finishes_what_is_in_flight_and_goes_on)
{
	int idle, busy, next;
	pid_t stream;

	start("");
	idle = dial();
	ask_on(idle, "hit.test");
	stream = stream_but(0);
	busy = dial();
	send_name(busy, "delay-500.a.test", 1);
	wait_for_question(up, "delay-500.a.test");
	kill(dnsd.pid, SIGHUP);
	assert_end(idle, DAEMON_PATIENCE_MS);
	close(idle);
	next = dial();
	take_id(busy, 1);
	assert_truth("delay-500.a.test");
	assert_end(busy, DAEMON_PATIENCE_MS);
	close(busy);
	ask_on(next, "hit.test");
	ask_on(next, "delay-500.a.test");
	ck_assert_uint_eq(stub_asked(up, "delay-500.a.test", TYPE_A), 1);
	ck_assert_uint_eq(stub_asked(up, "hit.test", TYPE_A), 1);
	stream_but(stream);
	close(next);
	assert_accounts_close();
}
END_TEST

START_TEST(tcp_that_is_switched_off_refuses_connections)
{
	pid_t pids[DAEMON_PROCESSES];

	start("-tcp no");
	ck_assert_int_eq(dial_at(HOME, HOME, dnsd.port, 0), -1);
	ck_assert_int_eq(errno, ECONNREFUSED);
	ask_udp("a.test");
	ask_udp("a.test");
	ck_assert_uint_eq(daemon_children(dnsd.pid, "dnsd: stream", pids), 0);
	assert_stat("tcp-connections", 0);
}
END_TEST

START_TEST(clients_outside_allow_from_are_refused)
{
	enum outcome outcome;
	unsigned refused = 0, i;
	int fd;

	start("-allow-from 127.0.0.1/32");
	ask_tcp("a.test");
	fd = dial_from("127.0.0.9");
	send_name(fd, "a.test", 1);
	take_id(fd, 1);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_REFUSED);
	ck_assert_uint_eq(got.count[1], 0);
	send_name(fd, "b.test", 2);
	take_id(fd, 2);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_REFUSED);
	ck_assert_uint_eq(stub_asked(up, "b.test", TYPE_A), 0);
	/* More than so many a second get nothing. */
	for (i = 0; i < 60; i++) {
		struct query query = { .name = "a.test" };
		uint8_t buf[1502];
		size_t len = frame(buf, &query);

		if (send(fd, buf, len, MSG_NOSIGNAL) == -1)
			break;
	}
	while ((outcome = receive(fd, DAEMON_PATIENCE_MS)) == WHOLE) {
		ck_assert_uint_eq(got.rcode, DNS_RCODE_REFUSED);
		refused++;
	}
	ck_assert_msg(outcome == CLOSED || outcome == RESET, "%s after %u",
	    outcomes[outcome], refused);
	ck_assert_uint_lt(refused, 40);
	close(fd);
	ck_assert_uint_eq(stat_of("drop-denied"), 1);
	ask_tcp("a.test");
	assert_accounts_close();
}
END_TEST

START_TEST(every_address_of_the_list_serves_tcp)
{
	uint16_t second = daemon_free_port(), third = daemon_free_port();
	char options[128];
	bool ipv6 = have_ipv6();
	int fd;

	snprintf(options, sizeof(options), ipv6 ?
	    "-listen 127.0.0.2:%u,[::1]:%u" : "-listen 127.0.0.2:%u", second,
	    third);
	start(options);
	ask_tcp("a.test");
	ck_assert((fd = dial_at(HOME, "127.0.0.2", second, 0)) != -1);
	ask_on(fd, "a.test");
	ask_on(fd, "b.test");
	close(fd);
	if (ipv6) {
		ck_assert((fd = dial_at("::1", "::1", third, 0)) != -1);
		ask_on(fd, "a.test");
		ask_on(fd, "c.test");
		close(fd);
	}
	ck_assert_uint_eq(stub_asked(up, "a.test", TYPE_A), 1);
	assert_accounts_close();
}
END_TEST

START_TEST(wildcard_serves_tcp_of_both_families)
{
	char options[128];
	int fd, one, two;

	dnsd.port = daemon_free_port();
	snprintf(options, sizeof(options), "-listen :%u -tcp-per-client 1",
	    dnsd.port);
	start(options);
	one = dial_from("127.0.0.2");
	ask_on(one, "a.test");
	ck_assert((fd = dial_at(HOME, "127.0.0.5", dnsd.port, 0)) != -1);
	ask_on(fd, "b.test");
	if (have_ipv6()) {
		ck_assert((two = dial_at("::1", "::1", dnsd.port, 0)) != -1);
		ask_on(two, "a.test");
		ask_on(two, "c.test");
		close(two);
	}
	/* IPv4 clients have their own addresses here too. */
	ask_on(one, "a.test");
	ask_on(fd, "a.test");
	two = dial_from("127.0.0.2");
	ask_on(two, "a.test");
	assert_gone(one);
	close(two);
	close(fd);
	assert_accounts_close();
	daemon_stop(&dnsd, SIGTERM, DAEMON_PATIENCE_MS);
	dnsd.port = daemon_free_port();
	snprintf(options, sizeof(options), "-listen 0.0.0.0:%u", dnsd.port);
	start(options);
	ask_tcp("d.test");
}
END_TEST

/* All that can happen to a query and a connection, in one life. */
START_TEST(accounting_closes)
{
	static const uint8_t bad[] = { 0, 5, 1, 2, 3, 4, 5 };
	struct query response = { .name = "a.test", .flags = DNS_FLAG_QR };
	uint64_t queries;
	char name[32];
	int fd[20], i;

	start("-tcp-connections 10 -tcp-idle 300ms -tcp-message 200ms "
	    "-timeout 1s -tcp-queries 3");
	queries = stat_of("queries");
	for (i = 0; i < 20; i++) {
		fd[i] = dial();
		snprintf(name, sizeof(name), "delay-%d.n%d.test", 10 * i, i);
		if (i % 5 == 0)
			send_bytes(fd[i], bad, sizeof(bad));
		else if (i % 5 == 1)
			send_bytes(fd[i], bad, 1);
		else if (i % 5 == 2)
			send_query(fd[i], &response);
		else
			send_name(fd[i], name, 1);
		if (i % 5 == 3)
			reset(fd[i]);
		ask_udp(name);
	}
	for (i = 0; i < 20; i++)
		if (i % 5 != 3)
			assert_gone(fd[i]);
	assert_accounts_close();
	ck_assert_uint_eq(stat_of("tcp-connections"), 20);
	ck_assert_uint_ge(stat_of("tcp-closed-malformed"), 4);
	ck_assert_uint_ge(stat_of("tcp-closed-client"), 1);
	ck_assert_uint_gt(stat_of("queries"), queries + 20);
	assert_stat("waiting", 0);
	assert_stat("asking", 0);
}
END_TEST

/*
 * Upstreams that are bad at TCP.  The liar says TC to everything, and what it
 * does then over TCP is in the name's first label.
 */

enum fault {
	ACCEPTS_AND_CLOSES,
	READS_AND_CLOSES,
	RESETS,
	LENGTH_OF_ZERO,
	LENGTH_OF_FIVE,
	ENDS_IN_LENGTH,
	ENDS_IN_MESSAGE,
	LENGTH_TOO_HIGH,
	LENGTH_TOO_LOW,
	MUTE,
	STOPS_IN_LENGTH,
	STOPS_IN_MESSAGE,
	DRIBBLES,
	WRONG_ID,
	WRONG_QUESTION,
	NO_RESPONSE,
	TRUNCATED_AGAIN,
	GARBAGE,
	TCP_FAULTS
};

struct liar {
	char		 text[ADDR_TEXT_MAX];
	uint16_t	 port;
	_Atomic uint32_t connections[TCP_FAULTS];
};

static struct liar *liar;

/* A false answer with its length, but for the fault as it should be. */
static size_t
liar_reply(uint8_t out[600], const uint8_t *query, size_t len)
{
	static const uint8_t record[] = { 0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0, 0,
	    4, 9, 9, 9, 9 };
	size_t at = DNS_HEADER_LEN;

	while (at < len && query[at] != 0)
		at += 1 + query[at];
	at += 5;
	if (at > len || at > 500)
		return (0);
	memcpy(out + 2, query, at);
	dns_put16(out + 4, DNS_FLAG_QR | DNS_FLAG_RD | DNS_FLAG_RA);
	dns_put16(out + 8, 1);
	dns_put32(out + 10, 0);
	memcpy(out + 2 + at, record, sizeof(record));
	at += sizeof(record);
	dns_put16(out, at);
	return (2 + at);
}

/* Do what the label says, and stay till the daemon closes. */
static void
liar_act(int fd)
{
	uint8_t in[600], out[600];
	uint64_t end = stub_now_us() + DAEMON_PATIENCE_MS * 1000;
	size_t len, i;
	int fault;

	if (read_bytes(fd, in, 2, end) != WHOLE ||
	    (len = dns_get16(in)) < 20 || len > sizeof(in) ||
	    read_bytes(fd, in, len, end) != WHOLE)
		return;
	fault = (in[DNS_HEADER_LEN + 1] | 0x20) - 'a';
	len = liar_reply(out, in, len);
	if (len == 0 || fault < 0 || fault >= TCP_FAULTS)
		return;
	liar->connections[fault]++;
	switch (fault) {
	case READS_AND_CLOSES:
		return;
	case RESETS:
		reset(dup(fd));
		return;
	case LENGTH_OF_ZERO:
		dns_put16(out, 0);
		break;
	case LENGTH_OF_FIVE:
		dns_put16(out, 5);
		len = 7;
		break;
	case ENDS_IN_LENGTH:
		send(fd, out, 1, MSG_NOSIGNAL);
		return;
	case ENDS_IN_MESSAGE:
		send(fd, out, len - 1, MSG_NOSIGNAL);
		return;
	case LENGTH_TOO_HIGH:
		dns_put16(out, 65535);
		send(fd, out, len, MSG_NOSIGNAL);
		return;
	case LENGTH_TOO_LOW:
		dns_put16(out, len - 2 - 5);
		break;
	case MUTE:
		len = 0;
		break;
	case STOPS_IN_LENGTH:
		len = 1;
		break;
	case STOPS_IN_MESSAGE:
		len /= 2;
		break;
	case DRIBBLES:
		for (i = 0; i < len; i++) {
			if (send(fd, out + i, 1, MSG_NOSIGNAL) != 1)
				return;
			dawdle(100);
		}
		return;
	case WRONG_ID:
		out[2] ^= 1;
		break;
	case WRONG_QUESTION:
		out[2 + DNS_HEADER_LEN + 2] ^= 1;
		break;
	case NO_RESPONSE:
		out[4] &= 0x7f;
		break;
	case TRUNCATED_AGAIN:
		out[4] |= DNS_FLAG_TC >> 8;
		break;
	case GARBAGE:
		for (i = 2; i < len; i++)
			out[i] = i * 151;
		break;
	}
	send(fd, out, len, MSG_NOSIGNAL);
	read_bytes(fd, in, 1, end);
}

/* Say TC to all; each connection is a process. */
static void __attribute__((__noreturn__))
liar_serve(int udp, int tcp)
{
	struct pollfd pfd[2] = { { .fd = udp, .events = POLLIN },
	    { .fd = tcp, .events = POLLIN } };
	struct sockaddr_storage ss;
	uint8_t in[600], out[600];
	pid_t self = getpid();
	socklen_t ss_len;
	size_t len;
	ssize_t n;
	int fd;

	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		poll(pfd, 2, -1);
		ss_len = sizeof(ss);
		n = pfd[0].revents == 0 ? -1 : recvfrom(udp, in, sizeof(in),
		    MSG_DONTWAIT, (struct sockaddr *)&ss, &ss_len);
		if (n > DNS_HEADER_LEN &&
		    (len = liar_reply(out, in, n)) != 0) {
			out[4] |= DNS_FLAG_TC >> 8;
			sendto(udp, out + 2, len - 2, 0,
			    (struct sockaddr *)&ss, ss_len);
		}
		if (pfd[1].revents == 0 || (fd = accept(tcp, NULL, NULL)) ==
		    -1)
			continue;
		if (fork() == 0) {
			stub_die_with(self);
			liar_act(fd);
			_exit(0);
		}
		close(fd);
	}
}

/* It dies with the test.  backlog: of the TCP socket that is returned. */
static int
liar_start(int backlog, bool accepts)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	pid_t parent = getpid();
	int udp, tcp, tries;

	liar = mmap(NULL, sizeof(*liar), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert(liar != MAP_FAILED);
	for (tries = 0; tries < 20; tries++) {
		udp = socket(AF_INET, SOCK_DGRAM, 0);
		tcp = socket(AF_INET, SOCK_STREAM, 0);
		sin.sin_port = 0;
		ck_assert(bind(udp, (struct sockaddr *)&sin, len) == 0);
		getsockname(udp, (struct sockaddr *)&sin, &len);
		if (bind(tcp, (struct sockaddr *)&sin, len) == 0)
			break;
		close(udp);
		close(tcp);
	}
	ck_assert_int_lt(tries, 20);
	ck_assert_int_eq(listen(tcp, backlog), 0);
	liar->port = ntohs(sin.sin_port);
	snprintf(liar->text, sizeof(liar->text), HOME ":%u", liar->port);
	if (fork() == 0) {
		stub_die_with(parent);
		liar_serve(udp, accepts ? tcp : -1);
	}
	close(udp);
	fcntl(tcp, F_SETFD, FD_CLOEXEC);
	return (tcp);
}

static void
fault_name(char name[32], int fault)
{
	snprintf(name, 32, "%c-fault.test", 'a' + fault);
}

START_TEST(upstream_that_is_bad_at_tcp_costs_no_more_than_a_try)
{
	uint64_t began;
	char name[32];
	unsigned connections = 0;
	int fd, fault, n;

	close(liar_start(64, true));
	ck_assert(daemon_start(&dnsd, "-upstreams %s,%s -workers 4",
	    liar->text, other->text));
	fd = dial();
	began = stub_now_us();
	for (fault = 1; fault < TCP_FAULTS; fault++) {
		fault_name(name, fault);
		send_name(fd, name, fault);
	}
	for (n = 1; n < TCP_FAULTS; n++) {
		take(fd);
		fault_name(name, got.id);
		assert_truth(name);
	}
	/* Those that stall are waited for at the same time. */
	ck_assert_msg(stub_now_us() - began < 3500000, "it took %llu us",
	    (unsigned long long)(stub_now_us() - began));
	for (fault = 1; fault < TCP_FAULTS; fault++) {
		fault_name(name, fault);
		/* None, where a slow machine let the other answer first. */
		ck_assert_msg(liar->connections[fault] <= 1,
		    "%s: %u connections", name, liar->connections[fault]);
		connections += liar->connections[fault];
		ck_assert_uint_eq(stub_asked_tcp(other, name, TYPE_A), 0);
	}
	ck_assert_uint_ge(connections, TCP_FAULTS / 4);
	ck_assert_uint_ge(daemon_stat(&dnsd, liar->text, "errors"), 4);
	ck_assert(!daemon_logged(&dnsd, "died", 0));
	ask_on(fd, "good.test");
	close(fd);
	assert_accounts_close();
}
END_TEST

/* Its queue is full: it doesn't even answer a SYN. */
START_TEST(upstream_that_never_accepts_costs_no_more_than_a_try)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int filler[8], fd, i, tcp;
	struct pollfd pfd;
	uint64_t began;

	tcp = liar_start(0, false);
	sin.sin_port = htons(liar->port);
	for (i = 0; i < 8; i++) {
		filler[i] = socket(AF_INET, SOCK_STREAM, 0);
		fcntl(filler[i], F_SETFD, FD_CLOEXEC);
		fcntl(filler[i], F_SETFL, O_NONBLOCK);
		connect(filler[i], (struct sockaddr *)&sin, sizeof(sin));
		pfd = (struct pollfd){ .fd = filler[i], .events = POLLOUT };
		if (poll(&pfd, 1, 50) == 0)
			break;
	}
	if (i == 8)
		printf("a full queue accepts here: it stalls instead\n");
	ck_assert(daemon_start(&dnsd, "-upstreams %s,%s -workers 4",
	    liar->text, other->text));
	fd = dial();
	began = stub_now_us();
	ask_on(fd, "a.test");
	ck_assert_msg(stub_now_us() - began < 2500000, "it took %llu us",
	    (unsigned long long)(stub_now_us() - began));
	ck_assert_uint_eq(stub_asked(other, "a.test", TYPE_A), 1);
	close(fd);
	close(tcp);
	assert_accounts_close();
}
END_TEST

/* Nobody else is there to ask: the client is told, in time. */
START_TEST(only_upstream_that_is_bad_at_tcp_ends_in_a_reply)
{
	uint64_t began;
	char name[32];
	int fd, fault, n;

	close(liar_start(64, true));
	ck_assert(daemon_start(&dnsd, "-upstreams %s -workers 4 "
	    "-timeout 1500ms", liar->text));
	fd = dial();
	began = stub_now_us();
	for (fault = 1; fault < TCP_FAULTS; fault++) {
		fault_name(name, fault);
		send_name(fd, name, fault);
	}
	for (n = 1; n < TCP_FAULTS; n++) {
		take(fd);
		ck_assert_msg(got.rcode == DNS_RCODE_SERVFAIL ||
		    (got.flags & DNS_FLAG_TC), "fault %u: rcode %u", got.id,
		    got.rcode);
		ck_assert_uint_eq(got.count[1], 0);
	}
	ck_assert_msg(stub_now_us() - began < 3000000, "it took %llu us",
	    (unsigned long long)(stub_now_us() - began));
	ck_assert(!daemon_logged(&dnsd, "died", 0));
	close(fd);
	assert_accounts_close();
}
END_TEST

/*
 * The suite.
 */

static TCase *
new_case(Suite *suite, const char *name)
{
	TCase *tcase = tcase_create(name);

	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, set_up, tear_down);
	suite_add_tcase(suite, tcase);
	return (tcase);
}

static Suite *
stream_suite(void)
{
	Suite *suite = suite_create("stream");
	TCase *tcase;

	tcase = new_case(suite, "queries");
	tcase_add_test(tcase, misses_and_hits_are_answered);
	tcase_add_test(tcase, negative_answers_and_failures_are_replies);
	tcase_add_test(tcase, replies_come_in_the_order_they_are_ready);
	tcase_add_test(tcase, hundreds_of_pipelined_queries_get_a_reply_each);
	tcase_add_test(tcase, burst_of_replies_asks_for_no_name_again);
	tcase_add_test(tcase, query_may_come_a_byte_at_a_time);
	tcase_add_test(tcase, messages_may_be_cut_anywhere);
	tcase_add_test(tcase, message_that_dribbles_too_long_is_given_up);
	tcase_add_test(tcase, every_message_has_its_own_time);
	tcase_add_test(tcase, half_closed_connection_gets_all_its_replies);
	tcase_add_test(tcase,
	    client_that_resets_after_its_end_is_dropped_at_once);
	tcase_add_test(tcase, udp_and_tcp_from_one_port_are_two_clients);
	tcase_add_test(tcase, any_is_forwarded_by_tcp_and_truncated_by_udp);

	tcase = new_case(suite, "large");
	tcase_add_test(tcase, replies_up_to_65535_bytes_are_whole);
	tcase_add_test(tcase, client_that_gets_tc_comes_back_by_tcp);
	tcase_add_test(tcase, client_that_reads_slowly_gets_everything);
	tcase_add_test(tcase, client_that_reads_gets_all_its_large_misses);

	tcase = new_case(suite, "keepalive");
	tcase_add_test(tcase, keepalive_is_in_the_reply_exactly_if_asked_for);
	tcase_add_test(tcase, keepalive_is_for_the_client_that_asked);
	tcase_add_test(tcase, keepalive_never_makes_a_reply_too_long);

	tcase = new_case(suite, "bad input");
	tcase_add_test(tcase, wrong_lengths_close_their_connection_alone);
	tcase_add_test(tcase, length_and_then_silence_ends_in_time);
	tcase_add_test(tcase, garbage_is_answered_or_closed);
	tcase_add_test(tcase,
	    response_instead_of_a_query_closes_the_connection);
	tcase_add_test(tcase,
	    malformed_query_gets_an_error_and_the_connection_goes_on);
	tcase_add_test(tcase,
	    client_that_never_reads_is_closed_and_disturbs_nobody);
	tcase_add_test(tcase, late_reply_for_a_client_that_left_goes_to_nobody);

	tcase = new_case(suite, "limits");
	tcase_add_test(tcase, longest_idle_connection_makes_room);
	tcase_add_test(tcase, busy_connections_are_never_closed_for_a_new_one);
	tcase_add_test(tcase, one_address_cannot_take_the_place_of_others);
	tcase_add_test(tcase, idle_connections_are_closed_in_time);
	tcase_add_test(tcase, queries_beyond_the_limit_wait_their_turn);
	tcase_add_test(tcase,
	    query_that_is_dropped_leaves_no_connection_waiting);

	tcase = new_case(suite, "many");
	tcase_add_test(tcase, thousands_of_idle_connections_leave_udp_alone);
	tcase_add_test(tcase,
	    many_connections_leave_neither_descriptors_nor_memory);

	tcase = new_case(suite, "life");
	tcase_add_test(tcase,
	    killed_stream_is_replaced_and_nothing_else_notices);
	tcase_add_test(tcase, what_is_in_flight_is_answered_at_the_end);
	tcase_add_test(tcase, idle_connections_do_not_delay_the_end);
	tcase_add_test(tcase, hangup_finishes_what_is_in_flight_and_goes_on);
	tcase_add_test(tcase, tcp_that_is_switched_off_refuses_connections);
	tcase_add_test(tcase, clients_outside_allow_from_are_refused);
	tcase_add_test(tcase, every_address_of_the_list_serves_tcp);
	tcase_add_test(tcase, wildcard_serves_tcp_of_both_families);
	tcase_add_test(tcase, accounting_closes);

	tcase = new_case(suite, "upstreams");
	tcase_add_test(tcase,
	    upstream_that_is_bad_at_tcp_costs_no_more_than_a_try);
	tcase_add_test(tcase,
	    upstream_that_never_accepts_costs_no_more_than_a_try);
	tcase_add_test(tcase,
	    only_upstream_that_is_bad_at_tcp_ends_in_a_reply);
	return (suite);
}

int
main(void)
{
	SRunner *runner = srunner_create(stream_suite());
	int failed;

	daemon_dir_make();
	srunner_set_fork_status(runner, CK_FORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	daemon_dir_remove();
	return (failed == 0 ? 0 : 1);
}
