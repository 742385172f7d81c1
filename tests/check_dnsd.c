/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The whole daemon, as its users and its upstreams see it: real processes,
 * sockets and signals on the loopback interface.  Each test has two stub
 * upstreams of its own, `up' and `other', and a daemon that it starts itself.
 * The names asked for tell the stub what to do; see stub.c.
 *
 * Times are asserted where they are what is promised.  A test that waits does
 * so for something to come about, but for the two that watch a TTL run down.
 */

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "dns.h"
#include "metrics.h"
#include "stub.h"

#define TYPE_A		1
#define TYPE_NS		2
#define TYPE_MX		15
#define TYPE_TXT	16
#define CLASS_CH	3
#define AT_ONCE_US	45000	/* sooner than any upstream is given up */
#define COUNT(array)	(sizeof(array) / sizeof((array)[0]))

static struct stub *up, *other;
static struct daemon dnsd;
static struct reply got;

static void
set_up(void)
{
	up = stub_start("127.0.0.1", 0);
	other = stub_start("127.0.0.1", 0);
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
static void __attribute__((__format__(__printf__, 1, 2)))
start(const char *fmt, ...)
{
	char options[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(options, sizeof(options), fmt, ap);
	va_end(ap);
	ck_assert(daemon_start(&dnsd, "-upstreams %s -workers 4 %s", up->text,
	    options));
}

static void
start_plain(void)
{
	ck_assert(daemon_start(&dnsd, "-upstreams %s -workers 4", up->text));
}

/* Start it with both. */
static void
start_both(const char *options)
{
	ck_assert(daemon_start(&dnsd, "-upstreams %s,%s -workers 4 %s",
	    up->text, other->text, options));
}

/* Ask with EDNS; the reply is in got. */
static void
ask(const char *name, uint16_t type)
{
	ck_assert_msg(daemon_ask_for(&dnsd, name, type, &got), "%s", name);
}

static void
ask_query(const struct query *query)
{
	ck_assert_msg(daemon_ask(&dnsd, query, &got), "%s", query->name);
}

/* Ask for the A record of a name, and see that the true one comes. */
static void
ask_truth(const char *name)
{
	uint8_t rdata[512];
	const struct record *record;
	size_t len;

	ask(name, TYPE_A);
	ck_assert_msg(got.rcode == 0 && got.records >= 1, "%s: rcode %u, "
	    "%zu records", name, got.rcode, got.records);
	len = stub_rdata(rdata, name, TYPE_A);
	record = &got.record[got.records - 1];
	ck_assert_msg(record->rdata_len == len &&
	    memcmp(record->rdata, rdata, len) == 0, "%s: wrong data", name);
}

/* Ask from one address another address; false: no reply. */
static bool
ask_at(const char *from, const char *to, uint16_t port, const char *name)
{
	struct query query = { .name = name, .id = 4711 };
	bool came;
	int fd;

	fd = client_open(from, to, port);
	ck_assert_msg(fd != -1, "%s to %s: %s", from, to, strerror(errno));
	client_send(fd, &query);
	came = client_receive(fd, &got, 3000);
	close(fd);
	return (came && got.id == 4711 && got.rcode == 0 && !got.malformed);
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

/* The sum of what went out or was dropped is what came in. */
static void
assert_accounts_close(void)
{
	uint64_t end = stub_now_us() + DAEMON_PATIENCE_MS * 1000;
	uint64_t queries, settled;
	int i;

	do {
		queries = daemon_stat(&dnsd, NULL, "queries");
		settled = daemon_stat(&dnsd, NULL, "replies");
		for (i = METRIC_DROP_FIRST; i <= METRIC_DROP_LAST; i++)
			settled += daemon_stat(&dnsd, NULL, metrics_name(i));
		if (queries == settled)
			return;
		poll(NULL, 0, 20);
	} while (stub_now_us() < end);
	ck_abort_msg("%llu queries, but %llu replies and drops",
	    (unsigned long long)queries, (unsigned long long)settled);
}

static void
write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
	fputs(text, file);
	fclose(file);
}

/* Wait for every one of the processes to be gone. */
static void
assert_gone(const pid_t *pids, size_t count, unsigned within_ms)
{
	uint64_t end = stub_now_us() + within_ms * (uint64_t)1000;
	size_t i;

	for (i = 0; i < count; i++)
		while (!daemon_gone(pids[i])) {
			ck_assert_msg(stub_now_us() < end,
			    "process %ld is still there", (long)pids[i]);
			poll(NULL, 0, 2);
		}
}

/* Wait for the master to have so many children of a title, none of old. */
static void
assert_replaced(const char *title, size_t count, const pid_t *old)
{
	uint64_t end = stub_now_us() + DAEMON_PATIENCE_MS * 1000;
	pid_t now[DAEMON_PROCESSES];
	size_t i, j, n, same;

	for (;;) {
		same = 0;
		n = daemon_children(dnsd.pid, title, now);
		for (i = 0; i < n; i++)
			for (j = 0; j < count; j++)
				same += now[i] == old[j];
		if (n == count && same == 0)
			return;
		ck_assert_msg(stub_now_us() < end, "%zu %ss, %zu old ones",
		    n, title, same);
		poll(NULL, 0, 5);
	}
}

/* Wait for a process to have so many children of a title. */
static void
wait_for_children(pid_t parent, const char *title, size_t count,
    pid_t pids[DAEMON_PROCESSES])
{
	uint64_t end = stub_now_us() + DAEMON_PATIENCE_MS * 1000;
	size_t n;

	while ((n = daemon_children(parent, title, pids)) != count) {
		ck_assert_msg(stub_now_us() < end, "%zu of %s, not %zu", n,
		    title == NULL ? "all" : title, count);
		poll(NULL, 0, 2);
	}
}

/* Wait for the stub to have had so many queries. */
static void
wait_for_queries(const struct stub *stub, uint64_t count)
{
	uint64_t end = stub_now_us() + DAEMON_PATIENCE_MS * 1000;

	while (stub->udp_queries < count) {
		ck_assert_msg(stub_now_us() < end, "%llu queries, not %llu",
		    (unsigned long long)stub->udp_queries,
		    (unsigned long long)count);
		poll(NULL, 0, 1);
	}
}

/*
 * Row 1: listening.
 */

START_TEST(every_address_of_the_list_is_served)
{
	uint16_t second = daemon_free_port(), third = daemon_free_port();
	bool ipv6 = have_ipv6();

	if (ipv6)
		start("-listen 127.0.0.2:%u,[::1]:%u", second, third);
	else
		start("-listen 127.0.0.2:%u", second);
	ck_assert(ask_at("127.0.0.1", "127.0.0.1", dnsd.port, "a.test"));
	ck_assert(ask_at("127.0.0.1", "127.0.0.2", second, "a.test"));
	ck_assert(ask_at("127.0.0.1", "127.0.0.2", second, "b.test"));
	if (ipv6) {
		ck_assert(ask_at("::1", "::1", third, "a.test"));
		ck_assert(ask_at("::1", "::1", third, "c.test"));
	}
}
END_TEST

START_TEST(wildcard_serves_both_families)
{
	dnsd.port = daemon_free_port();
	start("-listen :%u", dnsd.port);
	ck_assert(ask_at("127.0.0.1", "127.0.0.1", dnsd.port, "a.test"));
	if (have_ipv6()) {
		ck_assert(ask_at("::1", "::1", dnsd.port, "a.test"));
		ck_assert(ask_at("::1", "::1", dnsd.port, "b.test"));
	}
}
END_TEST

/* The client's socket is connected: it sees no reply from elsewhere. */
START_TEST(replies_leave_from_the_address_that_was_asked)
{
	dnsd.port = daemon_free_port();
	start("-listen :%u", dnsd.port);
	ck_assert(ask_at("127.0.0.1", "127.0.0.3", dnsd.port, "miss.test"));
	ck_assert(ask_at("127.0.0.1", "127.0.0.4", dnsd.port, "miss.test"));
	daemon_stop(&dnsd, SIGTERM, DAEMON_PATIENCE_MS);
	dnsd.port = daemon_free_port();
	start("-listen 0.0.0.0:%u", dnsd.port);
	ck_assert(ask_at("127.0.0.1", "127.0.0.3", dnsd.port, "miss.test"));
	ck_assert(ask_at("127.0.0.1", "127.0.0.4", dnsd.port, "miss.test"));
}
END_TEST

/*
 * Row 2: upstreams and failover.
 */

START_TEST(silent_first_upstream_costs_450_ms_at_most)
{
	up->mode = STUB_SILENT;
	start_both("");
	ask_truth("a.test");
	ck_assert_msg(got.took_us <= 450000, "took %llu us",
	    (unsigned long long)got.took_us);
	ck_assert_uint_eq(stub_asked(up, "a.test", TYPE_A), 1);
	ck_assert_uint_eq(stub_asked(other, "a.test", TYPE_A), 1);
}
END_TEST

START_TEST(silent_upstream_costs_nothing_after_three_losses)
{
	char name[64];
	int i, slow = 0;

	up->mode = STUB_SILENT;
	start_both("");
	for (i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "loss%d.test", i);
		ask_truth(name);
	}
	for (i = 0; i < 30; i++) {
		snprintf(name, sizeof(name), "later%d.test", i);
		ask_truth(name);
		slow += got.took_us > AT_ONCE_US;
	}
	/* A busy machine may be late itself, once. */
	ck_assert_int_le(slow, 1);
}
END_TEST

START_TEST(silent_upstream_is_used_again_once_it_replies)
{
	uint64_t end;
	char name[64];
	uint64_t before;
	int i = 0, run = 0;

	up->mode = STUB_SILENT;
	start_both("");
	for (i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "loss%d.test", i);
		ask_truth(name);
	}
	up->mode = STUB_NORMAL;
	end = stub_now_us() + 4000000;
	while (run < 5) {
		before = other->udp_queries;
		snprintf(name, sizeof(name), "again%d.test", i++);
		ask_truth(name);
		run = stub_asked(up, name, TYPE_A) == 1 &&
		    other->udp_queries == before ? run + 1 : 0;
		ck_assert_msg(stub_now_us() < end, "it is not used again");
		poll(NULL, 0, 10);
	}
}
END_TEST

START_TEST(bad_reply_goes_to_the_next_at_once)
{
	static const uint32_t modes[] = { STUB_SERVFAIL, STUB_REFUSED,
	    STUB_NOTIMP };
	char name[64];
	size_t i;

	start_both("");
	for (i = 0; i < COUNT(modes); i++) {
		up->mode = modes[i];
		snprintf(name, sizeof(name), "mode%zu.test", i);
		ask_truth(name);
		ck_assert_msg(got.took_us <= AT_ONCE_US, "mode %zu: %llu us",
		    i, (unsigned long long)got.took_us);
		ck_assert_uint_eq(stub_asked(other, name, TYPE_A), 1);
	}
}
END_TEST

START_TEST(closed_port_goes_to_the_next_at_once)
{
	ck_assert(daemon_start(&dnsd, "-workers 2 -upstreams 127.0.0.1:%u,%s",
	    daemon_free_port(), up->text));
	ask_truth("a.test");
	ck_assert_uint_le(got.took_us, AT_ONCE_US);
}
END_TEST

START_TEST(negative_answers_are_final)
{
	start_both("");
	ask("nx.a.test", TYPE_A);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_NXDOMAIN);
	ask("nodata.a.test", TYPE_A);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_NOERROR);
	ck_assert_uint_eq(got.count[1], 0);
	ck_assert_uint_eq(other->udp_queries, 0);
}
END_TEST

START_TEST(lost_packet_is_sent_again_to_a_single_upstream)
{
	start_plain();
	ask_truth("dropfirst.a.test");
	ck_assert_uint_eq(stub_asked(up, "dropfirst.a.test", TYPE_A), 2);
	ck_assert_uint_le(got.took_us, 1500000);
}
END_TEST

START_TEST(one_deadline_bounds_all_upstreams)
{
	up->mode = STUB_SILENT;
	other->mode = STUB_SILENT;
	start_both("-timeout 1s");
	ask("a.test", TYPE_A);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_SERVFAIL);
	ck_assert_uint_ge(got.took_us, 900000);
	ck_assert_uint_le(got.took_us, 1300000);
	ck_assert_uint_ge(stub_asked(up, "a.test", TYPE_A), 1);
	ck_assert_uint_ge(stub_asked(other, "a.test", TYPE_A), 1);
}
END_TEST

START_TEST(when_all_refuse_the_client_learns_it)
{
	up->mode = STUB_REFUSED;
	other->mode = STUB_REFUSED;
	start_both("-timeout 1s");
	ask("a.test", TYPE_A);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_REFUSED);
	ck_assert_uint_eq(got.count[1], 0);
	up->mode = STUB_SILENT;
	ask("b.test", TYPE_A);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_REFUSED);
	ck_assert_uint_le(got.took_us, 1300000);
}
END_TEST

START_TEST(no_upstream_at_all_means_servfail)
{
	ck_assert(daemon_start(&dnsd, "-workers 2 -timeout 1s "
	    "-upstreams 127.0.0.1:%u", daemon_free_port()));
	ask("a.test", TYPE_A);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_SERVFAIL);
	ck_assert_uint_le(got.took_us, 1300000);
}
END_TEST

START_TEST(recovered_upstream_serves_after_all_were_dead)
{
	uint64_t end;
	char name[64];
	int i;

	up->mode = STUB_SILENT;
	start("-timeout 300ms");
	for (i = 0; i < 5; i++) {
		snprintf(name, sizeof(name), "dead%d.test", i);
		ask(name, TYPE_A);
		ck_assert_uint_eq(got.rcode, DNS_RCODE_SERVFAIL);
	}
	up->mode = STUB_NORMAL;
	end = stub_now_us() + 1000000;
	do {
		ck_assert_msg(stub_now_us() < end, "still down");
		snprintf(name, sizeof(name), "back%d.test", i++);
		ask(name, TYPE_A);
	} while (got.rcode != DNS_RCODE_NOERROR);
	ask_truth("more.test");
	ck_assert_uint_le(got.took_us, AT_ONCE_US);
}
END_TEST

/*
 * Row 3: workers, queue, cache size.
 */

START_TEST(full_queue_drops_and_counts)
{
	struct query query = { .id = 1 };
	char name[64];
	int fd, i;

	up->mode = STUB_SILENT;
	start("-workers 1 -queries-per-worker 1 -queue-size 2");
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	for (i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "full%d.test", i);
		query.name = name;
		query.id++;
		client_send(fd, &query);
		wait_for_queries(up, 1);	/* one is asked, two may wait */
	}
	ck_assert(daemon_stat_is(&dnsd, NULL, "drop-queue", 3));
	up->mode = STUB_NORMAL;
	for (i = 0; i < 3; i++)
		ck_assert(client_receive(fd, &got, DAEMON_PATIENCE_MS));
	close(fd);
	assert_accounts_close();
}
END_TEST

START_TEST(queued_questions_are_asked_in_turn)
{
	struct query query = { .id = 1 };
	uint64_t start_us;
	char name[64];
	int fd, i;

	start("-workers 1 -queries-per-worker 1");
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	start_us = stub_now_us();
	for (i = 0; i < 5; i++) {
		snprintf(name, sizeof(name), "delay-100.turn%d.test", i);
		query.name = name;
		query.id = 100 + i;
		client_send(fd, &query);
	}
	for (i = 0; i < 5; i++) {
		ck_assert(client_receive(fd, &got, DAEMON_PATIENCE_MS));
		ck_assert_uint_eq(got.rcode, DNS_RCODE_NOERROR);
	}
	close(fd);
	ck_assert_uint_ge(stub_now_us() - start_us, 500000);
	ck_assert(daemon_stat_is(&dnsd, NULL, "drop-queue", 0));
}
END_TEST

START_TEST(worker_asks_many_questions_at_once)
{
	struct query query = { .id = 1 };
	uint64_t start_us;
	char name[64];
	int fd, i;

	start("-workers 1 -queries-per-worker 32");
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	start_us = stub_now_us();
	for (i = 0; i < 30; i++) {
		snprintf(name, sizeof(name), "delay-200.many%d.test", i);
		query.name = name;
		query.id = 100 + i;
		client_send(fd, &query);
	}
	for (i = 0; i < 30; i++)
		ck_assert(client_receive(fd, &got, DAEMON_PATIENCE_MS));
	close(fd);
	ck_assert_uint_le(stub_now_us() - start_us, 1000000);
}
END_TEST

START_TEST(least_recently_used_answer_is_evicted)
{
	start("-cache-size 4");
	ask_truth("a.test");
	ask_truth("b.test");
	ask_truth("c.test");
	ask_truth("d.test");
	ask_truth("a.test");
	ask_truth("e.test");
	ask_truth("a.test");
	ask_truth("c.test");
	ask_truth("d.test");
	ck_assert_uint_eq(up->udp_queries, 5);
	ask_truth("b.test");
	ck_assert_uint_eq(stub_asked(up, "b.test", TYPE_A), 2);
	ck_assert(daemon_stat_is(&dnsd, NULL, "evictions", 2));
	ck_assert(daemon_stat_is(&dnsd, NULL, "entries", 4));
}
END_TEST

START_TEST(log_level_says_what_is_logged)
{
	static const struct {
		const char	*level;
		bool		 info;
	} levels[] = { { "debug", true }, { "info", true }, { "warn", false },
	    { "error", false } };
	size_t i;

	for (i = 0; i < COUNT(levels); i++) {
		dnsd = (struct daemon){ 0 };
		start("-log-level %s", levels[i].level);
		ask_truth("a.test");
		ck_assert_int_eq(daemon_stop(&dnsd, SIGTERM,
		    DAEMON_PATIENCE_MS), 0);
		ck_assert_msg(daemon_logged(&dnsd, "stats:", 0) ==
		    levels[i].info, "%s", levels[i].level);
	}
}
END_TEST

/*
 * Row 4: types.
 */

START_TEST(every_type_passes_byte_for_byte_and_is_cached)
{
	static const char *types[] = { "A", "AAAA", "CNAME", "MX", "TXT",
	    "SRV", "NS", "PTR", "SOA", "CAA", "NAPTR", "HTTPS", "SVCB", "DS",
	    "DNSKEY", "RRSIG", "TYPE65534" };
	struct daemon direct = { .port = other->port };
	static struct reply truth;
	struct record *mine, *theirs;
	const char *name = "ttl-137.types.test";
	uint16_t type;
	size_t i, j;
	int round;

	start_plain();
	for (i = 0; i < COUNT(types); i++) {
		type = stub_type(types[i]);
		ck_assert(daemon_ask_for(&direct, name, type, &truth));
		for (round = 0; round < 3; round++) {
			ask(name, type);
			ck_assert_uint_eq(got.rcode, 0);
			ck_assert_uint_eq(got.records, truth.records);
			ck_assert_uint_ge(got.records, 1);
			for (j = 0; j < got.records; j++) {
				mine = &got.record[j];
				theirs = &truth.record[j];
				ck_assert_uint_eq(mine->type, type);
				ck_assert_uint_eq(mine->class, theirs->class);
				ck_assert_msg(mine->rdata_len ==
				    theirs->rdata_len && memcmp(mine->rdata,
				    theirs->rdata, mine->rdata_len) == 0,
				    "%s: other data", types[i]);
				ck_assert_uint_le(mine->ttl, 137);
				ck_assert_uint_ge(mine->ttl, 130);
			}
		}
		ck_assert_msg(stub_asked(up, name, type) == 1,
		    "%s is not cached", types[i]);
	}
}
END_TEST

/*
 * Row 5: what must not go wrong again.
 */

START_TEST(hit_carries_the_clients_own_id)
{
	struct query query = { .name = "a.test" };
	unsigned id;

	start_plain();
	for (id = 1; id < 20; id++) {
		query.id = id * 257;
		ask_query(&query);
		ck_assert_uint_eq(got.id, id * 257);
	}
	ck_assert_uint_eq(stub_asked(up, "a.test", TYPE_A), 1);
}
END_TEST

START_TEST(hit_echoes_the_letter_case_of_its_question)
{
	start_plain();
	/* The harness compares the questions byte for byte. */
	ask_truth("letter.CASE.test");
	ask_truth("LETTER.case.TEST");
	ask_truth("LeTtEr.CaSe.TeSt");
	ck_assert_uint_eq(stub_asked(up, "letter.case.test", TYPE_A), 1);
}
END_TEST

START_TEST(ttls_age_in_the_cache)
{
	uint64_t start_us;
	uint32_t ttl;

	start_plain();
	ask_truth("ttl-50.cname.cttl-90.a.test");
	ck_assert_uint_eq(got.record[0].ttl, 90);
	ck_assert_uint_eq(got.record[2].ttl, 50);
	start_us = stub_now_us();
	do {
		poll(NULL, 0, 50);
		ask_truth("ttl-50.cname.cttl-90.a.test");
		ttl = got.record[2].ttl;
		ck_assert_uint_eq(got.record[0].ttl, ttl + 40);
		ck_assert_msg(stub_now_us() < start_us + 4000000,
		    "the TTL stays %u", ttl);
	} while (ttl > 48);
	ck_assert_uint_ge(stub_now_us() - start_us, 900000);
	ck_assert_uint_eq(up->udp_queries, 1);
}
END_TEST

START_TEST(answers_go_when_their_time_is_over)
{
	/* The lowest TTL counts; so does the SOA's own TTL. */
	static const char *names[] = { "ttl-1.a.test", "cname.cttl-1.a.test",
	    "nx.soattl-1.soamin-60.a.test", "nx.soattl-60.soamin-1.a.test",
	    "nodata.soattl-1.soamin-60.a.test",
	    "cname.nodata.soattl-60.cttl-1.a.test",
	    "cname.nx.cttl-60.soattl-1.a.test" };
	uint64_t start_us;
	size_t i;

	start_plain();
	for (i = 0; i < COUNT(names); i++) {
		ask(names[i], TYPE_A);
		ask(names[i], TYPE_A);
		ck_assert_msg(stub_asked(up, names[i], TYPE_A) == 1,
		    "%s is not cached", names[i]);
	}
	start_us = stub_now_us();
	for (i = 0; i < COUNT(names); i++)
		while (stub_asked(up, names[i], TYPE_A) == 1) {
			ck_assert_msg(stub_now_us() < start_us + 2500000,
			    "%s is kept", names[i]);
			poll(NULL, 0, 50);
			ask(names[i], TYPE_A);
		}
}
END_TEST

START_TEST(negative_answers_and_chains_are_cached)
{
	static const struct {
		const char	*name;
		uint16_t	 rcode;
		uint32_t	 ttl;	/* of the last record */
	} cases[] = {
		{ "cname.a.test", DNS_RCODE_NOERROR, 300 },
		{ "cname-5.ttl-77.a.test", DNS_RCODE_NOERROR, 77 },
		{ "nodata.a.test", DNS_RCODE_NOERROR, 60 },
		{ "nx.a.test", DNS_RCODE_NXDOMAIN, 60 },
		{ "nx.soattl-30.soamin-900.b.test", DNS_RCODE_NXDOMAIN, 30 },
		{ "nx.soattl-900.soamin-30.c.test", DNS_RCODE_NXDOMAIN, 30 },
		{ "cname.nodata.a.test", DNS_RCODE_NOERROR, 60 },
		{ "cname.nx.a.test", DNS_RCODE_NXDOMAIN, 60 }
	};
	uint32_t ttl;
	size_t i;
	int round;

	start_plain();
	for (i = 0; i < COUNT(cases); i++) {
		for (round = 0; round < 2; round++) {
			ask(cases[i].name, TYPE_A);
			ck_assert_uint_eq(got.rcode, cases[i].rcode);
			ck_assert_uint_ge(got.records, 1);
			ttl = got.record[got.records - 1].ttl;
			ck_assert_msg(ttl <= cases[i].ttl &&
			    ttl + 5 >= cases[i].ttl, "%s: TTL %u",
			    cases[i].name, ttl);
		}
		ck_assert_msg(stub_asked(up, cases[i].name, TYPE_A) == 1,
		    "%s is not cached", cases[i].name);
	}
}
END_TEST

START_TEST(what_has_no_ttl_is_not_cached)
{
	static const struct {
		const char	*name;
		uint16_t	 type;
	} cases[] = { { "ttl-0.a.test", TYPE_A },
	    { "ttl-2147483648.a.test", TYPE_A },
	    { "ttl-4294967295.a.test", TYPE_A },
	    { "cname.cttl-0.a.test", TYPE_A }, { "nx.nosoa.a.test", TYPE_A },
	    { "nodata.nosoa.a.test", TYPE_A },
	    { "nx.soattl-0.a.test", TYPE_A }, { "nodata.soamin-0.a.test",
	    TYPE_MX } };
	uint64_t end;
	size_t i;

	start_plain();
	for (i = 0; i < COUNT(cases); i++) {
		/* A question just answered may still be joined. */
		end = stub_now_us() + 400000;
		do {
			ck_assert_msg(stub_now_us() < end, "%s is cached",
			    cases[i].name);
			ask(cases[i].name, cases[i].type);
		} while (stub_asked(up, cases[i].name, cases[i].type) < 2);
	}
}
END_TEST

START_TEST(nxdomain_holds_for_every_type_of_the_name)
{
	start_plain();
	ask("nx.a.test", TYPE_A);
	ask("nx.a.test", TYPE_MX);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_NXDOMAIN);
	ck_assert_uint_eq(stub_asked(up, "nx.a.test", TYPE_MX), 0);
	ask("nodata.a.test", TYPE_A);
	ask("nodata.a.test", TYPE_MX);
	ck_assert_uint_eq(stub_asked(up, "nodata.a.test", TYPE_MX), 1);
	ask("cname.nx.a.test", TYPE_A);
	ask("cname.nx.a.test", TYPE_MX);
	ck_assert_uint_eq(stub_asked(up, "cname.nx.a.test", TYPE_MX), 1);
}
END_TEST

START_TEST(servfail_is_kept_for_a_second)
{
	uint32_t first;
	uint64_t start_us;

	start("-timeout 1s");
	ask("servfail.a.test", TYPE_A);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_SERVFAIL);
	start_us = stub_now_us();
	first = stub_asked(up, "servfail.a.test", TYPE_A);
	ask("servfail.a.test", TYPE_A);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_SERVFAIL);
	ck_assert_uint_eq(stub_asked(up, "servfail.a.test", TYPE_A), first);
	while (stub_asked(up, "servfail.a.test", TYPE_A) == first) {
		ck_assert(stub_now_us() < start_us + 2000000);
		poll(NULL, 0, 20);
		ask("servfail.a.test", TYPE_A);
	}
	ck_assert_uint_ge(stub_now_us() - start_us, 900000);
}
END_TEST

START_TEST(reply_fits_what_the_client_takes)
{
	struct query query = { .name = "big-1200.a.test", .type = TYPE_TXT };

	start_plain();
	ask_query(&query);
	ck_assert(got.flags & DNS_FLAG_TC);
	ck_assert_uint_eq(got.count[1], 0);
	ck_assert_uint_le(got.len, 512);
	ck_assert(!got.edns);
	query.edns = true;
	query.edns_size = 600;
	ask_query(&query);
	ck_assert(got.flags & DNS_FLAG_TC);
	ck_assert_uint_le(got.len, 600);
	ck_assert(got.edns);
	query.edns_size = 1232;
	ask_query(&query);
	ck_assert(!(got.flags & DNS_FLAG_TC));
	ck_assert_uint_eq(got.len, 1200);
	/* A size below 512 means 512 (RFC 6891 6.2.3). */
	query.name = "big-500.a.test";
	query.edns_size = 100;
	ask_query(&query);
	ck_assert(!(got.flags & DNS_FLAG_TC));
	ck_assert_uint_eq(got.len, 500);
	ck_assert_uint_eq(up->udp_queries, 2);
}
END_TEST

START_TEST(upstream_sees_nothing_of_the_client)
{
	/* A client subnet, RFC 7871, and an option for local use. */
	static const uint8_t options[] = { 0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2,
	    0xfd, 0xe9, 0, 2, 1, 2 };
	struct query query = { .id = 0x1234, .edns = true, .edns_size = 4096,
	    .options = options, .options_len = sizeof(options) };
	static struct reply seen;
	struct stub_query sent;
	unsigned i, j, low = 0, same_id = 0, same_port = 0, mixed = 0;
	uint16_t ports[50];
	char name[64];

	start_plain();
	for (i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "abcdefghij.klmnopqrst%u.test",
		    i);
		query.name = name;
		ask_query(&query);
		ck_assert(stub_last(up, 0, &sent));
		memcpy(seen.buf, sent.bytes, sent.len);
		seen.len = sent.len;
		reply_parse(&seen);
		ck_assert(!seen.malformed);
		ck_assert_uint_eq(seen.count[0], 1);
		ck_assert(seen.flags & DNS_FLAG_RD);
		ck_assert(seen.edns);
		ck_assert_uint_eq(seen.edns_size, DNS_UDP_MAX);
		ck_assert(!seen.dnssec_ok);
		/* No room for an option. */
		ck_assert_uint_eq(sent.len, DNS_HEADER_LEN +
		    strlen(name) + 2 + 4 + DNS_OPT_LEN);
		same_id += seen.id == 0x1234;
		low += sent.port < 32768;
		ck_assert_uint_ge(sent.port, 1024);
		ports[i] = sent.port;
		for (j = 0; j < i; j++)
			same_port += ports[j] == sent.port;
		mixed += strncmp((const char *)sent.bytes + 13, "abcdefghij",
		    10) != 0;
	}
	/* Chance brings one of these in 10^6 runs or fewer. */
	ck_assert_uint_le(same_id, 2);
	ck_assert_uint_le(same_port, 3);
	ck_assert_uint_ge(low, 5);
	ck_assert_uint_ge(mixed, 40);
}
END_TEST

START_TEST(answers_with_and_without_dnssec_are_apart)
{
	struct query query = { .name = "a.test", .edns = true };
	static struct reply seen;
	struct stub_query sent;

	start_plain();
	ask_query(&query);
	ck_assert_uint_eq(got.records, 1);
	ck_assert(!got.dnssec_ok);
	query.dnssec_ok = true;
	ask_query(&query);
	ck_assert_uint_eq(got.records, 2);
	ck_assert(got.dnssec_ok);
	ck_assert(stub_last(up, 0, &sent));
	memcpy(seen.buf, sent.bytes, seen.len = sent.len);
	reply_parse(&seen);
	ck_assert(seen.dnssec_ok);
	query.dnssec_ok = false;
	ask_query(&query);
	ck_assert_uint_eq(got.records, 1);
	query.dnssec_ok = true;
	ask_query(&query);
	ck_assert_uint_eq(got.records, 2);
	ck_assert_uint_eq(up->udp_queries, 2);
	/* And so are those with CD, which goes to the upstream. */
	query.flags = DNS_FLAG_CD;
	ask_query(&query);
	ck_assert(got.flags & DNS_FLAG_CD);
	ck_assert_uint_eq(up->udp_queries, 3);
	ck_assert(stub_last(up, 0, &sent));
	ck_assert(dns_get16(sent.bytes + 2) & DNS_FLAG_CD);
}
END_TEST

START_TEST(flags_are_the_clients_own)
{
	struct query query = { .name = "ad.a.test" };

	start_plain();
	ask_query(&query);
	ck_assert_uint_eq(got.flags, DNS_FLAG_QR | DNS_FLAG_RD | DNS_FLAG_RA);
	ck_assert(!got.edns);
	query.flags = DNS_FLAG_AD;
	ask_query(&query);
	ck_assert_uint_eq(got.flags, DNS_FLAG_QR | DNS_FLAG_RD | DNS_FLAG_RA |
	    DNS_FLAG_AD);
	query.flags = 0;
	query.no_rd = true;
	ask_query(&query);
	ck_assert_uint_eq(got.flags, DNS_FLAG_QR | DNS_FLAG_RA);
	query.edns = query.dnssec_ok = true;
	query.no_rd = false;
	ask_query(&query);
	ck_assert(got.flags & DNS_FLAG_AD);
	ck_assert(got.edns);
}
END_TEST

/*
 * Upstreams that lie.
 */

START_TEST(only_the_true_reply_counts)
{
	static const char *lies[] = { "wrongid", "wrongquestion", "wrongtype",
	    "wrongcase", "wrongsource", "garbage", "query" };
	static const char *when[] = { "", "-once", "-only" };
	char name[64];
	size_t i, j;

	start("-timeout 3s");
	for (i = 0; i < COUNT(lies); i++)
		for (j = 0; j < COUNT(when); j++) {
			/* Nothing tells of a reply that never came. */
			if (strcmp(lies[i], "wrongsource") == 0 && j == 2)
				continue;
			snprintf(name, sizeof(name), "%s%s.abcdefgh.test",
			    lies[i], when[j]);
			ask_truth(name);
			/* A lost packet is sent again after a second. */
			ck_assert_msg(got.took_us < 1500000, "%s: %llu us",
			    name, (unsigned long long)got.took_us);
			if (j == 2)
				ck_assert_msg(stub_asked_tcp(up, name,
				    TYPE_A) == 1, "%s: not over TCP", name);
		}
	ck_assert_uint_ge(daemon_stat(&dnsd, up->text, "mismatches"), 18);
}
END_TEST

START_TEST(upstream_that_flattens_case_is_remembered)
{
	uint64_t before;
	char name[64];
	int i;

	up->flat = 1;
	start_plain();
	for (i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "first%d.abcdefghijkl.test", i);
		ask_truth(name);
	}
	before = up->tcp_queries;
	for (i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "then%d.abcdefghijkl.test", i);
		ask_truth(name);
		ck_assert_uint_eq(stub_asked(up, name, TYPE_A), 1);
		ck_assert_uint_le(got.took_us, AT_ONCE_US);
	}
	ck_assert_uint_eq(up->tcp_queries, before);
}
END_TEST

START_TEST(upstream_without_edns_is_asked_without)
{
	static const char *names[] = { "noedns.a.test", "noedns-bare.a.test",
	    "noedns-notimp.a.test" };
	size_t i;

	start_plain();
	for (i = 0; i < COUNT(names); i++) {
		ask_truth(names[i]);
		ck_assert_uint_le(got.took_us, AT_ONCE_US);
		ck_assert_uint_eq(stub_asked(up, names[i], TYPE_A), 2);
		ck_assert(got.edns);
	}
}
END_TEST

/* The client gets a failure or an empty answer that says TC, in time. */
START_TEST(broken_streams_end_in_a_reply)
{
	static const char *names[] = { "tc.tcpclose.a.test",
	    "tc.tcplong.a.test", "tc.tcpshort.a.test", "tc.tcpstall.a.test" };
	size_t i;

	start("-timeout 500ms");
	for (i = 0; i < COUNT(names); i++) {
		ask(names[i], TYPE_A);
		ck_assert_msg(got.rcode == DNS_RCODE_SERVFAIL ||
		    (got.flags & DNS_FLAG_TC), "%s", names[i]);
		ck_assert_uint_eq(got.count[1], 0);
		ck_assert_uint_le(got.took_us, 800000);
		ck_assert_uint_ge(stub_asked_tcp(up, names[i], TYPE_A), 1);
	}
	stub_set_tcp(up, false);
	ask("tc.refused.a.test", TYPE_A);
	ck_assert_uint_eq(got.count[1], 0);
	ck_assert_uint_le(got.took_us, 800000);
	stub_set_tcp(up, true);
	ask_truth("tc.tcpsplit.a.test");
}
END_TEST

/*
 * Row 6: counters.
 */

START_TEST(counters_tell_what_happened)
{
	static const char *present[] = { "handler-errors", "write-errors",
	    "entries", "evictions", "kernel-drops" };
	struct query malformed = { .name = "a.test", .flags = DNS_FLAG_QR };
	uint64_t queries, replies;
	size_t i;
	int fd;

	start("-timeout 500ms");
	queries = daemon_stat(&dnsd, NULL, "queries");
	replies = daemon_stat(&dnsd, NULL, "replies");
	ask_truth("a.test");
	ask_truth("a.test");
	ask_truth("a.test");
	ask_truth("wrongid.b.test");
	ask("silent.c.test", TYPE_A);
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	client_send(fd, &malformed);
	ck_assert(daemon_stat_is(&dnsd, NULL, "drop-malformed", 1));
	close(fd);
	ck_assert(daemon_stat_is(&dnsd, NULL, "queries", queries + 6));
	ck_assert(daemon_stat_is(&dnsd, NULL, "replies", replies + 5));
	ck_assert(daemon_stat_is(&dnsd, NULL, "hits", 2));
	ck_assert(daemon_stat_is(&dnsd, NULL, "misses", 3));
	ck_assert(daemon_stat_is(&dnsd, NULL, "coalesced", 0));
	ck_assert(daemon_stat_is(&dnsd, NULL, "servfail", 1));
	ck_assert(daemon_stat_is(&dnsd, up->text, "queries",
	    up->udp_queries + up->tcp_queries));
	ck_assert(daemon_stat_is(&dnsd, up->text, "replies", 2));
	ck_assert(daemon_stat_is(&dnsd, up->text, "mismatches", 1));
	ck_assert_uint_ge(daemon_stat(&dnsd, up->text, "timeouts"), 1);
	ck_assert_uint_lt(daemon_stat(&dnsd, up->text, "latency-us"),
	    1000000);
	for (i = 0; i < COUNT(present); i++)
		ck_assert_msg(daemon_stat(&dnsd, NULL, present[i]) !=
		    DAEMON_STAT_NONE, "no counter %s", present[i]);
	for (i = 0; i < METRIC_COUNT; i++)
		ck_assert_msg(daemon_stat(&dnsd, NULL, metrics_name(i)) !=
		    DAEMON_STAT_NONE, "no counter %s", metrics_name(i));
}
END_TEST

START_TEST(latency_is_what_the_upstream_took)
{
	uint64_t latency;
	int i;
	char name[64];

	up->delay_ms = 30;
	start_plain();
	for (i = 0; i < 5; i++) {
		snprintf(name, sizeof(name), "late%d.test", i);
		ask_truth(name);
	}
	latency = daemon_stat(&dnsd, up->text, "latency-us");
	ck_assert_uint_ge(latency, 5 * 30000);
	ck_assert_uint_le(latency, 5 * 60000);
}
END_TEST

START_TEST(counters_are_logged_in_the_interval)
{
	start("-stats-interval 1s");
	daemon_mark(&dnsd);
	ck_assert(daemon_logged(&dnsd, "stats:", 3000));
	daemon_mark(&dnsd);
	ck_assert(daemon_logged(&dnsd, "stats:", 3000));
}
END_TEST

/* Hits, misses, failures, malformed and dropped ones, all at once. */
START_TEST(accounting_closes)
{
	static const char *forms[] = { "hit", "new", "nx.gone",
	    "silent.dead", "servfail.bad", "delay-50.same" };
	struct query query = { .id = 1 };
	char name[64];
	size_t form;
	int fd, i;

	start("-workers 2 -queries-per-worker 4 -queue-size 8 -timeout 500ms");
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	for (i = 0; i < 3000; i++) {
		form = i % COUNT(forms);
		snprintf(name, sizeof(name), "%s%d.test", forms[form],
		    form == 0 || form == 5 ? 0 : i);
		query.name = name;
		query.id = 1 + i / 2;
		query.flags = i % 7 == 0 ? DNS_FLAG_QR : 0;
		query.class = i % 11 == 0 ? CLASS_CH : 0;
		client_send(fd, &query);
		if (i % 20 == 0)
			client_receive(fd, &got, 0);
	}
	assert_accounts_close();
	ck_assert_uint_gt(daemon_stat(&dnsd, NULL, "drop-queue"), 0);
	ck_assert_uint_gt(daemon_stat(&dnsd, NULL, "drop-malformed"), 0);
	close(fd);
}
END_TEST

/*
 * Row 7: large messages.
 */

START_TEST(large_answer_is_fetched_by_tcp_and_cached_whole)
{
	struct query small = { .name = "big-1232.a.test", .type = TYPE_TXT };

	start_plain();
	/* One that a client who takes less makes us fetch. */
	ask_query(&small);
	ck_assert(got.flags & DNS_FLAG_TC);
	small.name = "tc.big-1200.a.test";
	ask_query(&small);
	ck_assert(got.flags & DNS_FLAG_TC);
	ck_assert_uint_eq(stub_asked_tcp(up, small.name, TYPE_TXT), 1);
	ask("big-1232.a.test", TYPE_TXT);
	ck_assert(!(got.flags & DNS_FLAG_TC));
	ck_assert_uint_eq(got.len, 1232);
	ask("tc.big-1200.a.test", TYPE_TXT);
	ck_assert(!(got.flags & DNS_FLAG_TC));
	ck_assert_uint_eq(got.len, 1200);
	ck_assert_uint_eq(up->tcp_queries, 1);
	ck_assert_uint_eq(up->udp_queries, 2);
}
END_TEST

START_TEST(answers_up_to_65535_bytes_are_taken)
{
	static const char *names[] = { "big-1233.a.test", "big-4000.a.test",
	    "big-30000.tcpsplit.a.test", "big-65535.a.test" };
	struct query query = { .type = TYPE_TXT, .edns = true,
	    .edns_size = 65535 };
	size_t i;

	start_plain();
	for (i = 0; i < COUNT(names); i++) {
		query.name = names[i];
		ask_query(&query);
		ck_assert_uint_eq(got.rcode, 0);
		ck_assert(got.flags & DNS_FLAG_TC);
		ck_assert_uint_eq(got.count[1], 0);
		ck_assert_uint_le(got.len, DNS_UDP_MAX);
		ck_assert_uint_eq(stub_asked_tcp(up, names[i], TYPE_TXT), 1);
		ask_query(&query);
		ck_assert(got.flags & DNS_FLAG_TC);
		ck_assert_msg(stub_asked_tcp(up, names[i], TYPE_TXT) == 1,
		    "%s is not cached", names[i]);
	}
	ask_truth("a.test");
}
END_TEST

/*
 * Malformed queries, section 8 of the design.
 */

/* A query for a.test, type A: what the rows of the next tests change. */
#define HEADER(id, flags, qd, an, ns, ar) \
	(id), 0x11, (flags) >> 8, (flags) & 0xff, 0, (qd), 0, (an), 0, (ns), \
	0, (ar)
#define NAME	1, 'a', 4, 't', 'e', 's', 't', 0
#define OPT(version, length) \
	0, 0, 41, 0x04, 0xd0, 0, (version), 0, 0, 0, (length)

static const struct packet {
	const char	*what;
	int		 rcode;		/* -1: no reply */
	size_t		 len;
	uint8_t		 bytes[80];
} packets[] = {
	{ "nothing", -1, 0, { 0 } },
	{ "one byte", -1, 1, { 1 } },
	{ "a header but for a byte", -1, 11, { HEADER(1, 0x100, 1, 0, 0, 0) } },
	{ "a response", -1, 24,
	    { HEADER(2, 0x8180, 1, 0, 0, 0), NAME, 0, 1, 0, 1 } },
	{ "a bare header, a response", -1, 12,
	    { HEADER(2, 0x8180, 0, 0, 0, 0) } },
	{ "no question", 1, 12, { HEADER(3, 0x100, 0, 0, 0, 0) } },
	{ "no question but an OPT", 1, 23,
	    { HEADER(3, 0x100, 0, 0, 0, 1), OPT(0, 0) } },
	{ "two questions", 1, 36, { HEADER(4, 0x100, 2, 0, 0, 0),
	    NAME, 0, 1, 0, 1, NAME, 0, 1, 0, 1 } },
	{ "a question that isn't there", 1, 12,
	    { HEADER(5, 0x100, 1, 0, 0, 0) } },
	{ "a name that is cut off", 1, 17,
	    { HEADER(6, 0x100, 1, 0, 0, 0), 9, 'a', 'b', 'c', 'd' } },
	{ "a name without a type", 1, 20,
	    { HEADER(7, 0x100, 1, 0, 0, 0), NAME } },
	{ "half a class", 1, 23,
	    { HEADER(7, 0x100, 1, 0, 0, 0), NAME, 0, 1, 0 } },
	{ "a pointer to itself", 1, 18,
	    { HEADER(8, 0x100, 1, 0, 0, 0), 0xc0, 12, 0, 1, 0, 1 } },
	{ "a pointer into the header", 1, 20,
	    { HEADER(9, 0x100, 1, 0, 0, 0), 1, 'a', 0xc0, 4, 0, 1, 0, 1 } },
	{ "a label of an unknown kind", 1, 19,
	    { HEADER(10, 0x100, 1, 0, 0, 0), 0x41, 'a', 0, 0, 1, 0, 1 } },
	{ "a record that isn't there", 1, 24,
	    { HEADER(11, 0x100, 1, 0, 0, 1), NAME, 0, 1, 0, 1 } },
	{ "an OPT longer than the packet", 1, 35, { HEADER(12, 0x100, 1, 0, 0,
	    1), NAME, 0, 1, 0, 1, OPT(0, 20) } },
	{ "two OPTs", 1, 46, { HEADER(13, 0x100, 1, 0, 0, 2), NAME, 0, 1, 0,
	    1, OPT(0, 0), OPT(0, 0) } },
	{ "an OPT option that is cut off", 1, 39, { HEADER(13, 0x100, 1, 0, 0,
	    1), NAME, 0, 1, 0, 1, OPT(0, 4), 0, 10, 0, 8 } },
	{ "EDNS version 1", 16, 35, { HEADER(14, 0x100, 1, 0, 0, 1), NAME,
	    0, 1, 0, 1, OPT(1, 0) } },
	{ "EDNS version 255", 16, 35, { HEADER(14, 0x100, 1, 0, 0, 1), NAME,
	    0, 1, 0, 1, OPT(255, 0) } },
	{ "opcode IQUERY", 4, 24,
	    { HEADER(15, 0x0900, 1, 0, 0, 0), NAME, 0, 1, 0, 1 } },
	{ "opcode STATUS", 4, 12, { HEADER(16, 0x1000, 0, 0, 0, 0) } },
	{ "opcode NOTIFY", 4, 24,
	    { HEADER(17, 0x2000, 1, 0, 0, 0), NAME, 0, 6, 0, 1 } },
	{ "opcode UPDATE", 4, 24,
	    { HEADER(18, 0x2800, 1, 0, 0, 0), NAME, 0, 6, 0, 1 } },
	{ "opcode 15", 4, 24,
	    { HEADER(19, 0x7800, 1, 0, 0, 0), NAME, 0, 1, 0, 1 } },
	{ "class CH", 5, 24,
	    { HEADER(20, 0x100, 1, 0, 0, 0), NAME, 0, 16, 0, 3 } },
	{ "class HS", 5, 24,
	    { HEADER(21, 0x100, 1, 0, 0, 0), NAME, 0, 1, 0, 4 } },
	{ "class NONE", 5, 24,
	    { HEADER(22, 0x100, 1, 0, 0, 0), NAME, 0, 1, 0, 254 } },
	{ "class ANY", 5, 24,
	    { HEADER(23, 0x100, 1, 0, 0, 0), NAME, 0, 1, 0, 255 } },
	{ "class 0", 5, 24,
	    { HEADER(24, 0x100, 1, 0, 0, 0), NAME, 0, 1, 0, 0 } },
	{ "RD clear and not in the cache", 5, 24,
	    { HEADER(25, 0, 1, 0, 0, 0), NAME, 0, 1, 0, 1 } },
	{ "RD clear, with EDNS", 5, 35, { HEADER(26, 0, 1, 0, 0, 1), NAME,
	    0, 1, 0, 1, OPT(0, 0) } }
};

/* Class CH behind each packet: the first reply shows if it had one too. */
static void
check_packet(const struct packet *packet)
{
	struct query after = { .name = "after.test", .class = CLASS_CH,
	    .id = 0x4242 };
	uint16_t flags = dns_get16(packet->bytes + 2);
	int fd;

	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	send(fd, packet->bytes, packet->len, 0);
	client_send(fd, &after);
	ck_assert_msg(client_receive(fd, &got, DAEMON_PATIENCE_MS), "%s",
	    packet->what);
	if (packet->rcode == -1) {
		ck_assert_msg(got.id == 0x4242, "%s: a reply", packet->what);
		close(fd);
		return;
	}
	ck_assert_msg(got.id == dns_get16(packet->bytes), "%s: no reply",
	    packet->what);
	ck_assert_msg(!got.malformed, "%s: a malformed reply", packet->what);
	ck_assert_msg(got.rcode == packet->rcode, "%s: rcode %u",
	    packet->what, got.rcode);
	ck_assert_msg(got.len <= packet->len, "%s: %zu bytes for %zu",
	    packet->what, got.len, packet->len);
	ck_assert_msg((got.flags & DNS_FLAG_QR) &&
	    ((got.flags ^ flags) & (DNS_FLAG_OPCODE | DNS_FLAG_RD)) == 0,
	    "%s: flags %04x", packet->what, got.flags);
	ck_assert_msg(client_receive(fd, &got, DAEMON_PATIENCE_MS) &&
	    got.id == 0x4242, "%s: two replies", packet->what);
	close(fd);
}

START_TEST(malformed_queries_get_what_they_deserve)
{
	unsigned silent = 0;
	size_t i;

	start("-listeners 1");
	for (i = 0; i < COUNT(packets); i++) {
		check_packet(&packets[i]);
		silent += packets[i].rcode == -1;
	}
	ck_assert(daemon_stat_is(&dnsd, NULL, "drop-malformed", silent));
	ck_assert_uint_eq(up->udp_queries, 0);
	assert_accounts_close();
}
END_TEST

START_TEST(name_of_more_than_255_bytes_is_malformed)
{
	uint8_t buf[400] = { HEADER(30, 0x100, 1, 0, 0, 0) };
	size_t at = DNS_HEADER_LEN, i;
	int fd;

	start("-listeners 1");
	for (i = 0; i < 4; i++) {
		buf[at++] = 63;
		memset(buf + at, 'x', 63);
		at += 63;
	}
	memcpy(buf + at, "\0\0\1\0\1", 5);
	at += 5;
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	send(fd, buf, at, 0);
	ck_assert(client_receive(fd, &got, DAEMON_PATIENCE_MS));
	ck_assert_uint_eq(got.rcode, DNS_RCODE_FORMERR);
	/* And one of 255 is not. */
	at -= 5;
	buf[at - 64] = 61;
	memcpy(buf + at - 2, "\0\0\1\0\1", 5);
	at += 3;
	ck_assert_uint_eq(at - 4 - DNS_HEADER_LEN, DNS_NAME_MAX);
	send(fd, buf, at, 0);
	ck_assert(client_receive(fd, &got, DAEMON_PATIENCE_MS));
	ck_assert_uint_eq(got.rcode, DNS_RCODE_NOERROR);
	ck_assert_uint_eq(got.count[1], 1);
	close(fd);
}
END_TEST

START_TEST(root_and_single_labels_are_names)
{
	start_plain();
	ask(".", TYPE_NS);
	ck_assert_uint_eq(got.count[1], 2);
	ask(".", TYPE_NS);
	ck_assert_uint_eq(got.count[1], 2);
	ck_assert_uint_eq(stub_asked(up, ".", TYPE_NS), 1);
	ask_truth("localdomain");
}
END_TEST

START_TEST(recursion_not_desired_is_served_from_the_cache)
{
	struct query query = { .name = "a.test", .no_rd = true };

	start_plain();
	ask_query(&query);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_REFUSED);
	ck_assert_uint_eq(up->udp_queries, 0);
	ask_truth("a.test");
	ask_query(&query);
	ck_assert_uint_eq(got.rcode, DNS_RCODE_NOERROR);
	ck_assert_uint_eq(got.count[1], 1);
	ck_assert(!(got.flags & DNS_FLAG_RD));
}
END_TEST

START_TEST(any_over_udp_is_truncated)
{
	start_plain();
	ask("a.test", DNS_TYPE_ANY);
	ck_assert(got.flags & DNS_FLAG_TC);
	ck_assert_uint_eq(got.count[1], 0);
}
END_TEST

START_TEST(ports_that_no_client_uses_get_no_reply)
{
	static const char *from[] = { "127.0.0.5:7", "127.0.0.5:13",
	    "127.0.0.5:17", "127.0.0.5:19" };
	struct query query = { .name = "a.test", .class = CLASS_CH };
	size_t i;
	int fd;

	start_plain();
	for (i = 0; i < COUNT(from); i++) {
		fd = client_open(from[i], "127.0.0.1", dnsd.port);
		if (fd == -1 && errno == EACCES) {
			printf("not root: ports below 1024 are left out\n");
			return;
		}
		ck_assert(fd != -1);
		client_send(fd, &query);
		ck_assert(daemon_stat_is(&dnsd, NULL, "drop-port", i + 1));
		ck_assert(!client_receive(fd, &got, 0));
		close(fd);
	}
}
END_TEST

START_TEST(clients_outside_allow_from_are_refused_then_ignored)
{
	struct query query = { .name = "a.test", .id = 1 };
	int fd, i, replies = 0;

	start("-allow-from 127.0.0.2,10.0.0.0/8");
	ck_assert(ask_at("127.0.0.2", "127.0.0.1", dnsd.port, "a.test"));
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	for (i = 0; i < 200; i++, query.id++)
		client_send(fd, &query);
	ck_assert(daemon_stat(&dnsd, NULL, "drop-denied") !=
	    DAEMON_STAT_NONE);
	assert_accounts_close();
	while (client_receive(fd, &got, 0)) {
		ck_assert_uint_eq(got.rcode, DNS_RCODE_REFUSED);
		ck_assert_uint_eq(got.count[1], 0);
		replies++;
	}
	close(fd);
	ck_assert_int_ge(replies, 1);
	ck_assert_int_le(replies, 100);
	ck_assert_uint_ge(daemon_stat(&dnsd, NULL, "drop-denied"), 100);
	ck_assert_uint_eq(up->udp_queries, 1);
}
END_TEST

/*
 * Options and configuration.
 */

START_TEST(options_take_every_form)
{
	static const char *expected[] = { "workers 5\n", "queue-size 6\n",
	    "cache-size 7\n", "timeout 1500ms\n", "log-level debug\n",
	    "listen 0.0.0.0:54,127.0.0.1:5353,[::1]:53\n",
	    ("upstreams 1.1.1.1:53,[2606:4700:4700::1111]:53,"
	    "[2606:4700:4700::1001]:53,9.9.9.9:5353\n"),
	    "stats-interval 90s\n" };
	static char first[8192], second[8192];
	char path[256];
	size_t i;

	ck_assert_int_eq(daemon_run(first, sizeof(first), "-config /dev/null "
	    "-n -workers 5 --queue-size 6 -cache-size=7 --timeout=1s500ms "
	    "-stats-interval 1m30s -log-level debug "
	    "-listen 0.0.0.0:54,127.0.0.1:5353 -listen=[::1]:53 "
	    "-upstreams 1.1.1.1,[2606:4700:4700::1111]:53,"
	    "2606:4700:4700::1001,9.9.9.9:5353"), 0);
	for (i = 0; i < COUNT(expected); i++)
		ck_assert_msg(strstr(first, expected[i]) != NULL,
		    "no %sin:\n%s", expected[i], first);
	/* What -n prints is a configuration file that means the same. */
	snprintf(path, sizeof(path), "%s/printed.conf", daemon_dir());
	write_file(path, first);
	ck_assert_int_eq(daemon_run(second, sizeof(second), "-n -config %s",
	    path), 0);
	ck_assert_str_eq(first, second);
}
END_TEST

START_TEST(defaults_are_those_of_old)
{
	static const char *expected[] = { "listen :53\n",
	    "upstreams 1.1.1.1:53\n", "workers 128\n", "queue-size 256\n",
	    "cache-size 10000\n", "timeout 5s\n", "log-level info\n" };
	static char out[8192];
	size_t i;

	ck_assert_int_eq(daemon_run(out, sizeof(out), "-n -config /dev/null"),
	    0);
	for (i = 0; i < COUNT(expected); i++)
		ck_assert_msg(strstr(out, expected[i]) != NULL,
		    "no %sin:\n%s", expected[i], out);
}
END_TEST

START_TEST(help_and_version_are_printed)
{
	static const char *names[] = { "listen", "upstreams", "workers",
	    "queue-size", "cache-size", "timeout", "log-level", "foreground",
	    "config", "pidfile" };
	static char out[8192];
	size_t i;

	ck_assert_int_eq(daemon_run(out, sizeof(out), "-h"), 0);
	for (i = 0; i < COUNT(names); i++)
		ck_assert_msg(strstr(out, names[i]) != NULL, "%s", names[i]);
	ck_assert_int_eq(daemon_run(out, sizeof(out), "-version"), 0);
	ck_assert_msg(strstr(out, DNSD_VERSION) != NULL, "%s", out);
}
END_TEST

START_TEST(command_line_wins_over_the_file)
{
	char path[256];
	static char out[8192];

	snprintf(path, sizeof(path), "%s/order.conf", daemon_dir());
	write_file(path, "# A comment.\n\nworkers 7\t# and another\n"
	    "queue-size   9\nupstreams 192.0.2.9\n");
	ck_assert_int_eq(daemon_run(out, sizeof(out),
	    "-n -config %s -workers 8 -upstreams 192.0.2.8", path), 0);
	ck_assert(strstr(out, "workers 8\n") != NULL);
	ck_assert(strstr(out, "queue-size 9\n") != NULL);
	ck_assert(strstr(out, "upstreams 192.0.2.8:53\n") != NULL);
}
END_TEST

START_TEST(wrong_options_are_told_and_nothing_starts)
{
	static const struct {
		const char	*options;
		const char	*text[2];
	} cases[] = {
		{ "-frobnicate 1", { "frobnicate", "no such option" } },
		{ "frobnicate", { "frobnicate", "" } },
		{ "-workers", { "workers", "missing" } },
		{ "-workers 0", { "workers", "0 is below 1" } },
		{ "-workers many", { "workers", "many" } },
		{ "-workers 99999999", { "workers", "is above" } },
		{ "-workers -1", { "workers", "-1" } },
		{ "-timeout 5", { "timeout", "5" } },
		{ "-timeout 5parsecs", { "timeout", "5parsecs" } },
		{ "-log-level loud", { "log-level", "loud" } },
		{ "-listen 127.0.0.1:0", { "listen", "127.0.0.1:0" } },
		{ "-listen 127.0.0.1:70000", { "listen", "70000" } },
		{ "-listen localhost:5353", { "listen", "localhost" } },
		{ "-listen [::1:53", { "listen", "[::1:53" } },
		{ "-upstreams=", { "upstreams", "missing" } },
		{ "-upstreams :53", { "upstreams", ":53" } },
		{ "-upstreams dns.example", { "upstreams", "dns.example" } },
		{ "-upstreams 1.1.1.1:0", { "upstreams", "1.1.1.1:0" } },
		{ "-upstreams 1.1.1.1,,9.9.9.9", { "upstreams", "missing" } },
		{ "-listen 127.0.0.1:5399 -upstreams 127.0.0.1:5399",
		    { "upstreams", "127.0.0.1:5399" } },
		{ "-listen :5399 -upstreams 127.0.0.1:5399",
		    { "upstreams", "127.0.0.1:5399" } },
		{ "-allow-from 10.0.0.0/33", { "allow-from", "33" } },
		{ "-foreground=maybe", { "foreground", "" } }
	};
	static char out[8192];
	size_t i;

	for (i = 0; i < COUNT(cases); i++) {
		ck_assert_msg(daemon_run(out, sizeof(out), "-foreground "
		    "-config /dev/null %s", cases[i].options) == 2,
		    "%s: not exit status 2; %s", cases[i].options, out);
		ck_assert_msg(strstr(out, cases[i].text[0]) != NULL &&
		    strstr(out, cases[i].text[1]) != NULL, "%s: %s",
		    cases[i].options, out);
		ck_assert_msg(strchr(out, '\n') == out + strlen(out) - 1,
		    "%s: not one line: %s", cases[i].options, out);
	}
}
END_TEST

START_TEST(wrong_file_is_told_with_its_line)
{
	static const struct {
		const char	*text;
		const char	*error;
	} cases[] = {
		{ "workers 4\n# two\nworkers 0\n", ":3: workers: " },
		{ "\n\nworkers 0\n", ":3: workers: 0 is below 1" },
		{ "frobnicate 1\n", ":1: frobnicate: no such keyword" },
		{ "listen 127.0.0.1:5399\nlog-level loud\n",
		    ":2: log-level: loud" },
		{ "upstreams 1.1.1.1:99999\n", ":1: upstreams: " },
		{ "workers\n", ":1: workers: " },
		{ "foreground\n", ":1: foreground: " }
	};
	static char out[8192];
	char path[256], expected[512];
	size_t i;

	snprintf(path, sizeof(path), "%s/wrong.conf", daemon_dir());
	for (i = 0; i < COUNT(cases); i++) {
		write_file(path, cases[i].text);
		snprintf(expected, sizeof(expected), "%s%s", path,
		    cases[i].error);
		ck_assert_msg(daemon_run(out, sizeof(out),
		    "-foreground -config %s", path) == 2, "%s", out);
		ck_assert_msg(strstr(out, expected) != NULL, "no \"%s\" in: "
		    "%s", expected, out);
		ck_assert_int_eq(daemon_run(out, sizeof(out), "-n -config %s",
		    path), 2);
		ck_assert_msg(strstr(out, expected) != NULL, "%s", out);
	}
	ck_assert_int_eq(daemon_run(out, sizeof(out),
	    "-foreground -config %s/none.conf", daemon_dir()), 2);
	ck_assert(strstr(out, "none.conf") != NULL);
}
END_TEST

/*
 * Starting and stopping.
 */

START_TEST(port_in_use_is_told)
{
	static char out[8192];
	char expected[256], path[256];
	struct stat st;

	snprintf(expected, sizeof(expected), "cannot bind %s: %s; is another "
	    "DNS server", up->text, strerror(EADDRINUSE));
	snprintf(path, sizeof(path), "%s/in-use.pid", daemon_dir());
	ck_assert_int_eq(daemon_run(out, sizeof(out), "-foreground -config "
	    "/dev/null -listen %s -pidfile %s", up->text, path), 1);
	ck_assert_msg(strstr(out, expected) != NULL, "%s", out);
	ck_assert_int_eq(stat(path, &st), -1);
	/* Nor when it would go to the background. */
	ck_assert_int_eq(daemon_run(out, sizeof(out), "-config /dev/null "
	    "-listen %s -pidfile %s", up->text, path), 1);
	ck_assert_msg(strstr(out, expected) != NULL, "%s", out);
	ck_assert_int_eq(stat(path, &st), -1);
}
END_TEST

START_TEST(second_dnsd_on_the_same_port_is_refused)
{
	static char out[8192];

	start_plain();
	ck_assert_int_eq(daemon_run(out, sizeof(out), "-foreground -config "
	    "/dev/null -listen 127.0.0.1:%u -upstreams %s -workers 1 -chroot "
	    "%s/empty", dnsd.port, up->text, daemon_dir()), 1);
	ck_assert_msg(strstr(out, "cannot bind") != NULL, "%s", out);
	ask_truth("a.test");
}
END_TEST

START_TEST(second_instance_is_refused_by_the_pidfile)
{
	static char out[8192];
	char number[32], path[256];

	snprintf(path, sizeof(path), "%s/second.pid", daemon_dir());
	start("-pidfile %s", path);
	ck_assert_int_eq(daemon_run(out, sizeof(out), "-foreground -config "
	    "/dev/null -listen 127.0.0.1:%u -upstreams %s -workers 1 -chroot "
	    "%s/empty -pidfile %s", daemon_free_port(), up->text,
	    daemon_dir(), path), 1);
	snprintf(number, sizeof(number), "%ld", (long)dnsd.pid);
	ck_assert_msg(strstr(out, number) != NULL, "no %s in: %s", number,
	    out);
	ask_truth("a.test");
}
END_TEST

START_TEST(unwritable_pidfile_is_told)
{
	static char out[8192];
	int status;

	status = daemon_run(out, sizeof(out), "-foreground -config /dev/null "
	    "-listen 127.0.0.1:%u -upstreams %s -workers 1 -chroot %s/empty "
	    "-pidfile %s/no/such/dnsd.pid", daemon_free_port(), up->text,
	    daemon_dir(), daemon_dir());
	ck_assert_msg(status == 1 || status == 2, "exit status %d", status);
	ck_assert_msg(strstr(out, "/no/such/dnsd.pid: ") != NULL &&
	    strstr(out, strerror(ENOENT)) != NULL, "%s", out);
}
END_TEST

START_TEST(pidfile_holds_the_masters_pid_while_it_runs)
{
	char path[256], text[32] = "";
	FILE *file;

	snprintf(path, sizeof(path), "%s/holds.pid", daemon_dir());
	start("-pidfile %s", path);
	file = fopen(path, "r");
	ck_assert(file != NULL);
	ck_assert(fgets(text, sizeof(text), file) != NULL);
	fclose(file);
	ck_assert_int_eq(strtol(text, NULL, 10), dnsd.pid);
	ck_assert_int_eq(daemon_stop(&dnsd, SIGTERM, DAEMON_PATIENCE_MS), 0);
	ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

START_TEST(processes_have_titles)
{
	pid_t pids[DAEMON_PROCESSES];
	char title[64];

	start("-listeners 2");
	snprintf(title, sizeof(title), "dnsd: listener 127.0.0.1:%u",
	    dnsd.port);
	wait_for_children(dnsd.pid, title, 2, pids);
	wait_for_children(dnsd.pid, "dnsd: worker ", 4, pids);
	wait_for_children(dnsd.pid, NULL, 7, pids);
	wait_for_children(getpid(), "dnsd: master", 1, pids);
}
END_TEST

/* The best of three: the machine may be busy. */
START_TEST(idle_daemon_stops_within_150_ms)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGTERM };
	uint64_t best = UINT64_MAX, start_us;
	size_t i;

	for (i = 0; i < COUNT(signals); i++) {
		dnsd = (struct daemon){ 0 };
		start("-workers 32");
		ask_truth("a.test");
		start_us = stub_now_us();
		ck_assert_int_eq(daemon_stop(&dnsd, signals[i],
		    DAEMON_PATIENCE_MS), 0);
		start_us = stub_now_us() - start_us;
		best = start_us < best ? start_us : best;
		ck_assert(daemon_logged(&dnsd, "stats:", 0));
		ck_assert(daemon_logged(&dnsd, " queries=2 ", 0));
	}
	ck_assert_msg(best <= 150000 * DAEMON_SLOWER, "%llu us", (unsigned long long)best);
}
END_TEST

START_TEST(what_is_in_hand_is_finished_at_the_end)
{
	struct query query = { .name = "delay-400.a.test", .id = 99 };
	pid_t pids[DAEMON_PROCESSES];
	int fd;

	start("-listeners 2");
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	client_send(fd, &query);
	wait_for_queries(up, 1);
	wait_for_children(dnsd.pid, NULL, 7, pids);
	ck_assert_int_eq(daemon_stop(&dnsd, SIGTERM, 2000), 0);
	ck_assert(client_receive(fd, &got, 0));
	ck_assert_uint_eq(got.rcode, DNS_RCODE_NOERROR);
	ck_assert_uint_eq(got.id, 99);
	assert_gone(pids, 7, 0);
	close(fd);
}
END_TEST

START_TEST(the_end_comes_in_time_with_a_silent_upstream)
{
	struct query query = { .name = "a.test", .id = 99 };
	uint64_t start_us;
	int fd;

	up->mode = STUB_SILENT;
	start("-timeout 1s");
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	client_send(fd, &query);
	wait_for_queries(up, 1);
	start_us = stub_now_us();
	ck_assert_int_eq(daemon_stop(&dnsd, SIGTERM, DAEMON_PATIENCE_MS), 0);
	ck_assert_uint_le(stub_now_us() - start_us, 2000000);
	ck_assert(client_receive(fd, &got, 0));
	ck_assert_uint_eq(got.rcode, DNS_RCODE_SERVFAIL);
	close(fd);
}
END_TEST

START_TEST(daemon_goes_to_the_background_once_it_serves)
{
	static char out[8192];
	char path[256], text[32] = "";
	pid_t pid, pids[DAEMON_PROCESSES];
	FILE *file;

	dnsd.port = daemon_free_port();
	snprintf(path, sizeof(path), "%s/background.pid", daemon_dir());
	ck_assert_msg(daemon_run(out, sizeof(out), "-config /dev/null "
	    "-listen 127.0.0.1:%u -upstreams %s -workers 4 -listeners 2 "
	    "-chroot %s/empty -pidfile %s -segment-file none", dnsd.port,
	    up->text, daemon_dir(), path) == 0, "%s", out);
	/* It answers, so a lost packet is no excuse: ask once. */
	ask_truth("a.test");
	file = fopen(path, "r");
	ck_assert(file != NULL);
	ck_assert(fgets(text, sizeof(text), file) != NULL);
	fclose(file);
	pid = strtol(text, NULL, 10);
	ck_assert_int_gt(pid, 1);
	ck_assert(!daemon_gone(pid));
	ck_assert_int_ne(getsid(pid), getsid(0));
	wait_for_children(pid, NULL, 7, pids);
	kill(pid, SIGTERM);
	assert_gone(&pid, 1, DAEMON_PATIENCE_MS);
	assert_gone(pids, 7, 100);
	ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

START_TEST(listeners_are_as_many_as_the_processors_it_may_use)
{
	pid_t pids[DAEMON_PROCESSES];
	cpu_set_t all, one;
	int cpu = 0;

	ck_assert_int_eq(sched_getaffinity(0, sizeof(all), &all), 0);
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	ck_assert_int_eq(sched_setaffinity(0, sizeof(one), &one), 0);
	start("-listeners 0");
	wait_for_children(dnsd.pid, "dnsd: worker", 4, pids);	/* the last */
	ck_assert_uint_eq(daemon_children(dnsd.pid, "dnsd: listener", pids),
	    1);
	ck_assert_int_eq(sched_setaffinity(0, sizeof(all), &all), 0);
}
END_TEST

START_TEST(killed_children_are_replaced)
{
	static const int signals[] = { SIGKILL, SIGSEGV };
	pid_t listeners[DAEMON_PROCESSES], workers[DAEMON_PROCESSES];
	size_t i, j;
	char name[64];

	start("-listeners 2");
	for (i = 0; i < COUNT(signals); i++) {
		ask_truth("kept.test");
		wait_for_children(dnsd.pid, "dnsd: listener", 2, listeners);
		wait_for_children(dnsd.pid, "dnsd: worker", 4, workers);
		for (j = 0; j < 2; j++)
			kill(listeners[j], signals[i]);
		for (j = 0; j < 4; j++)
			kill(workers[j], signals[i]);
		assert_replaced("dnsd: listener", 2, listeners);
		assert_replaced("dnsd: worker", 4, workers);
		snprintf(name, sizeof(name), "new%zu.test", i);
		ask_truth(name);
		ask_truth("kept.test");
	}
	ck_assert_uint_eq(stub_asked(up, "kept.test", TYPE_A), 1);
	assert_accounts_close();
}
END_TEST

/* They hold the question: their successors ask it anew. */
START_TEST(killed_worker_loses_no_waiting_client)
{
	struct query query = { .name = "delay-300.a.test", .id = 1 };
	pid_t workers[DAEMON_PROCESSES];
	int fd, i;

	start_plain();
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	for (i = 0; i < 10; i++, query.id++)
		client_send(fd, &query);
	wait_for_queries(up, 1);
	ck_assert(daemon_stat_is(&dnsd, NULL, "coalesced", 9));
	wait_for_children(dnsd.pid, "dnsd: worker", 4, workers);
	for (i = 0; i < 4; i++)
		kill(workers[i], SIGKILL);
	for (i = 0; i < 10; i++) {
		ck_assert(client_receive(fd, &got, 3000));
		ck_assert_uint_eq(got.rcode, DNS_RCODE_NOERROR);
	}
	ck_assert_uint_ge(stub_asked(up, query.name, TYPE_A), 2);
	close(fd);
}
END_TEST

/* Whenever a worker dies, all that were asked get their answer. */
START_TEST(storm_of_killed_workers_loses_no_client)
{
	struct query query = { .id = 1 };
	pid_t workers[DAEMON_PROCESSES];
	uint64_t end = stub_now_us() + 15000000;
	int answered = 0, fd, i, sent = 0;
	bool seen[301] = { false };
	char name[48];
	size_t n;

	start("-timeout 10s");
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	for (i = 0; answered < 300; i++) {
		ck_assert_msg(stub_now_us() < end, "%d of %d answered",
		    answered, sent);
		for (; sent < 300 && sent < 3 * i; sent++) {
			snprintf(name, sizeof(name), "delay-30.storm%d.test",
			    sent);
			query.name = name;
			query.id = 1 + sent;
			client_send(fd, &query);
		}
		n = daemon_children(dnsd.pid, "dnsd: worker", workers);
		if (n > 0 && i < 120)
			kill(workers[arc4random_uniform(n)], SIGKILL);
		while (client_receive(fd, &got, 10)) {
			ck_assert_uint_eq(got.rcode, DNS_RCODE_NOERROR);
			ck_assert_uint_le(got.id, 300);
			/* One that died behind its reply has it sent again. */
			answered += !seen[got.id];
			seen[got.id] = true;
		}
	}
	close(fd);
}
END_TEST

/* What the listener has not taken waits in the socket that the master has. */
START_TEST(killed_listener_loses_no_queued_packet)
{
	struct query query = { .name = "hit.test", .id = 1 };
	pid_t listeners[DAEMON_PROCESSES];
	int fd, i;

	start("-listeners 1");
	ask_truth("hit.test");
	wait_for_children(dnsd.pid, "dnsd: listener", 1, listeners);
	daemon_freeze(listeners[0]);
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	for (i = 0; i < 50; i++, query.id++)
		client_send(fd, &query);
	kill(listeners[0], SIGKILL);
	for (i = 0; i < 50; i++)
		ck_assert_msg(client_receive(fd, &got, 2000), "%d of 50", i);
	close(fd);
}
END_TEST

START_TEST(nothing_is_left_after_the_masters_death)
{
	pid_t pids[DAEMON_PROCESSES];
	char path[256];

	snprintf(path, sizeof(path), "%s/death.pid", daemon_dir());
	start("-pidfile %s -workers 16 -listeners 2", path);
	ask_truth("a.test");
	wait_for_children(dnsd.pid, NULL, 19, pids);
	daemon_stop(&dnsd, SIGKILL, DAEMON_PATIENCE_MS);
	assert_gone(pids, 19, 2000);
	/* Neither port nor pidfile stands in the way of the next. */
	start("-pidfile %s -listen 127.0.0.1:%u", path, dnsd.port);
	ask_truth("a.test");
}
END_TEST

/*
 * SIGHUP and SIGUSR1.
 */

static void
write_config(const char *path, const struct stub *stub, const char *more)
{
	char text[512];

	snprintf(text, sizeof(text), "upstreams %s\nworkers 3\n%s",
	    stub->text, more);
	write_file(path, text);
}

START_TEST(hangup_reads_the_file_again_and_keeps_the_cache)
{
	uint64_t end = stub_now_us() + DAEMON_PATIENCE_MS * 1000;
	struct query query = { .name = "kept.test", .id = 1 };
	pid_t master, pids[DAEMON_PROCESSES];
	char name[32], path[256];
	int fd, i, lost = 0;

	snprintf(path, sizeof(path), "%s/hup.conf", daemon_dir());
	write_config(path, up, "");
	ck_assert(daemon_start(&dnsd, "-config %s", path));
	master = dnsd.pid;
	ask_truth("kept.test");
	write_config(path, other, "timeout 2s\n");
	kill(dnsd.pid, SIGHUP);
	/* All the while, nothing is lost. */
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	i = 0;
	do {
		ck_assert_msg(stub_now_us() < end, "the file is not read");
		query.id++;
		client_send(fd, &query);
		lost += !client_receive(fd, &got, 1000);
		snprintf(name, sizeof(name), "new%d.test", i++);
		ask_truth(name);
	} while (stub_asked(other, name, TYPE_A) == 0);
	for (i = 0; i < 20; i++) {
		query.id++;
		client_send(fd, &query);
		lost += !client_receive(fd, &got, 1000);
	}
	close(fd);
	ck_assert_int_eq(lost, 0);
	ck_assert_uint_eq(stub_asked(up, "kept.test", TYPE_A), 1);
	ck_assert_uint_eq(stub_asked(other, "kept.test", TYPE_A), 0);
	ck_assert(!daemon_gone(master));
	wait_for_children(master, "dnsd: worker", 3, pids);
	assert_accounts_close();
}
END_TEST

START_TEST(hangup_with_a_wrong_file_changes_nothing)
{
	pid_t before[DAEMON_PROCESSES];
	char path[256];
	size_t i;

	snprintf(path, sizeof(path), "%s/bad-hup.conf", daemon_dir());
	write_config(path, up, "");
	ck_assert(daemon_start(&dnsd, "-config %s -listeners 2", path));
	ask_truth("kept.test");
	wait_for_children(dnsd.pid, NULL, 6, before);
	write_config(path, other, "queue-size many\n");
	daemon_mark(&dnsd);
	kill(dnsd.pid, SIGHUP);
	ck_assert(daemon_logged(&dnsd, "bad-hup.conf:3: queue-size: many",
	    DAEMON_PATIENCE_MS));
	ask_truth("new.test");
	ask_truth("kept.test");
	ck_assert_uint_eq(stub_asked(up, "new.test", TYPE_A), 1);
	ck_assert_uint_eq(other->udp_queries, 0);
	for (i = 0; i < 5; i++)
		ck_assert(!daemon_gone(before[i]));
	/* And it can be mended. */
	write_config(path, other, "");
	kill(dnsd.pid, SIGHUP);
	for (i = 0; other->udp_queries == 0; i++) {
		snprintf(path, sizeof(path), "mended%zu.test", i);
		ck_assert_uint_lt(i, 1000);
		ask_truth(path);
		poll(NULL, 0, 5);
	}
}
END_TEST

START_TEST(hangup_keeps_questions_in_hand)
{
	struct query query = { .name = "delay-400.a.test", .id = 99 };
	int fd;

	start_plain();
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	client_send(fd, &query);
	wait_for_queries(up, 1);
	kill(dnsd.pid, SIGHUP);
	ck_assert(client_receive(fd, &got, 3000));
	ck_assert_uint_eq(got.rcode, DNS_RCODE_NOERROR);
	ck_assert_uint_eq(got.id, 99);
	close(fd);
}
END_TEST

/*
 * Shared memory: many clients, dead upstreams.
 */

START_TEST(hits_are_answered_while_every_worker_waits)
{
	struct query query = { .name = "silent.test", .id = 1 };
	uint64_t worst = 0;
	char name[64];
	int fd, i, late = 0;

	start("-workers 2 -queries-per-worker 4");
	ask_truth("hit.test");
	up->mode = STUB_SILENT;
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	for (i = 0; i < 100; i++, query.id++) {
		snprintf(name, sizeof(name), "dead%d.test", i);
		query.name = name;
		client_send(fd, &query);
	}
	wait_for_queries(up, 9);
	for (i = 0; i < 300; i++) {
		ask_truth("hit.test");
		late += got.took_us > 10000;
		worst = got.took_us > worst ? got.took_us : worst;
	}
	close(fd);
	ck_assert_msg(late <= 3, "%d late, the latest by %llu us", late,
	    (unsigned long long)worst);
	ck_assert_uint_eq(stub_asked(up, "hit.test", TYPE_A), 1);
}
END_TEST

START_TEST(fifty_clients_make_one_upstream_query)
{
	struct query query = { .name = "delay-200.one.test" };
	int fds[50], i;

	start("-listeners 4");
	for (i = 0; i < 50; i++) {
		fds[i] = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
		query.id = 1000 + i;
		query.name = i % 2 ? "delay-200.ONE.test" :
		    "delay-200.one.test";
		client_send(fds[i], &query);
	}
	for (i = 0; i < 50; i++) {
		ck_assert(client_receive(fds[i], &got, 3000));
		ck_assert_uint_eq(got.id, 1000 + i);
		ck_assert_uint_eq(got.count[1], 1);
		ck_assert(memcmp(got.buf + 23, i % 2 ? "ONE" : "one", 3) == 0);
		close(fds[i]);
	}
	ck_assert_uint_eq(stub_asked(up, "delay-200.one.test", TYPE_A), 1);
	ck_assert(daemon_stat_is(&dnsd, NULL, "coalesced", 49));
	assert_accounts_close();
}
END_TEST

START_TEST(retransmission_gets_one_reply)
{
	struct query query = { .name = "delay-200.a.test", .id = 7 };
	int fd, i;

	start_plain();
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	for (i = 0; i < 3; i++)
		client_send(fd, &query);
	ck_assert(client_receive(fd, &got, 3000));
	ck_assert(daemon_stat_is(&dnsd, NULL, "drop-duplicate", 2));
	ck_assert(!client_receive(fd, &got, 0));
	close(fd);
	assert_accounts_close();
}
END_TEST

/* Dead and live names in turn, each from a socket of its own; twice. */
static void
check_live_beside_dead(void)
{
	struct query query = { .id = 1 };
	uint64_t start_us, end;
	char name[64];
	int dead[100], live[100], i, round;

	for (round = 0; round < 2; round++) {
		start_us = stub_now_us();
		for (i = 0; i < 100; i++) {
			query.name = name;
			query.id++;
			dead[i] = client_open("127.0.0.1", "127.0.0.1",
			    dnsd.port);
			snprintf(name, sizeof(name), "silent.r%d-%d.test",
			    round, i);
			client_send(dead[i], &query);
			live[i] = client_open("127.0.0.1", "127.0.0.1",
			    dnsd.port);
			snprintf(name, sizeof(name), "live.r%d-%d.test",
			    round, i);
			client_send(live[i], &query);
		}
		for (i = 0; i < 100; i++) {
			ck_assert_msg(client_receive(live[i], &got, 500),
			    "round %d, live name %d: no reply", round, i);
			ck_assert_msg(got.rcode == DNS_RCODE_NOERROR,
			    "round %d, live name %d: rcode %u", round, i,
			    got.rcode);
			close(live[i]);
		}
		end = stub_now_us();
		ck_assert_msg(end - start_us <= 500000, "round %d: %llu us",
		    round, (unsigned long long)(end - start_us));
		for (i = 0; i < 100; i++) {
			ck_assert_msg(client_receive(dead[i], &got, 3000),
			    "round %d, dead name %d: no reply", round, i);
			ck_assert_uint_eq(got.rcode, DNS_RCODE_SERVFAIL);
			close(dead[i]);
		}
	}
}

START_TEST(live_names_beside_dead_ones_are_answered_at_once)
{
	start("-timeout 2s -workers 8");
	check_live_beside_dead();
	assert_accounts_close();
}
END_TEST

START_TEST(live_names_beside_dead_ones_with_two_upstreams)
{
	start_both("-timeout 2s -workers 8");
	check_live_beside_dead();
	assert_accounts_close();
}
END_TEST

/*
 * With no room at all, each new question puts one out that has been asked for
 * a second; the dead ones in the queue have theirs, and then the live ones
 * come.
 */
START_TEST(live_names_get_the_place_of_dead_ones)
{
	struct query query = { .id = 1 };
	bool answered = false;
	uint64_t end;
	char name[64];
	int fd, i;

	start("-timeout 10s -workers 1 -queries-per-worker 4 -queue-size 4");
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	query.name = name;
	for (i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "silent.dead%d.test", i);
		query.id++;
		client_send(fd, &query);
	}
	wait_for_queries(up, 4);
	end = stub_now_us() + 3500000;
	for (i = 0; !answered; i++) {
		ck_assert_msg(stub_now_us() < end, "they get no place");
		snprintf(name, sizeof(name), "live%d.test", i);
		query.id++;
		client_send(fd, &query);
		while (client_receive(fd, &got, 50))
			answered |= got.rcode == DNS_RCODE_NOERROR;
	}
	ask_truth("next.test");
	ck_assert_uint_le(got.took_us, AT_ONCE_US);
	close(fd);
}
END_TEST

/*
 * The suite.
 */

static TCase *
new_case(Suite *suite, const char *name)
{
	TCase *tcase = tcase_create(name);

	tcase_set_timeout(tcase, 30);
	tcase_add_checked_fixture(tcase, set_up, tear_down);
	suite_add_tcase(suite, tcase);
	return (tcase);
}

static Suite *
dnsd_suite(void)
{
	Suite *suite = suite_create("dnsd");
	TCase *tcase;

	tcase = new_case(suite, "listen");
	tcase_add_test(tcase, every_address_of_the_list_is_served);
	tcase_add_test(tcase, wildcard_serves_both_families);
	tcase_add_test(tcase, replies_leave_from_the_address_that_was_asked);

	tcase = new_case(suite, "upstreams");
	tcase_add_test(tcase, silent_first_upstream_costs_450_ms_at_most);
	tcase_add_test(tcase, silent_upstream_costs_nothing_after_three_losses);
	tcase_add_test(tcase, silent_upstream_is_used_again_once_it_replies);
	tcase_add_test(tcase, bad_reply_goes_to_the_next_at_once);
	tcase_add_test(tcase, closed_port_goes_to_the_next_at_once);
	tcase_add_test(tcase, negative_answers_are_final);
	tcase_add_test(tcase, lost_packet_is_sent_again_to_a_single_upstream);
	tcase_add_test(tcase, one_deadline_bounds_all_upstreams);
	tcase_add_test(tcase, when_all_refuse_the_client_learns_it);
	tcase_add_test(tcase, no_upstream_at_all_means_servfail);
	tcase_add_test(tcase, recovered_upstream_serves_after_all_were_dead);

	tcase = new_case(suite, "sizes");
	tcase_add_test(tcase, full_queue_drops_and_counts);
	tcase_add_test(tcase, queued_questions_are_asked_in_turn);
	tcase_add_test(tcase, worker_asks_many_questions_at_once);
	tcase_add_test(tcase, least_recently_used_answer_is_evicted);
	tcase_add_test(tcase, log_level_says_what_is_logged);

	tcase = new_case(suite, "answers");
	tcase_add_test(tcase, every_type_passes_byte_for_byte_and_is_cached);
	tcase_add_test(tcase, hit_carries_the_clients_own_id);
	tcase_add_test(tcase, hit_echoes_the_letter_case_of_its_question);
	tcase_add_test(tcase, ttls_age_in_the_cache);
	tcase_add_test(tcase, answers_go_when_their_time_is_over);
	tcase_add_test(tcase, negative_answers_and_chains_are_cached);
	tcase_add_test(tcase, what_has_no_ttl_is_not_cached);
	tcase_add_test(tcase, nxdomain_holds_for_every_type_of_the_name);
	tcase_add_test(tcase, servfail_is_kept_for_a_second);
	tcase_add_test(tcase, reply_fits_what_the_client_takes);
	tcase_add_test(tcase, upstream_sees_nothing_of_the_client);
	tcase_add_test(tcase, answers_with_and_without_dnssec_are_apart);
	tcase_add_test(tcase, flags_are_the_clients_own);
	tcase_add_test(tcase, large_answer_is_fetched_by_tcp_and_cached_whole);
	tcase_add_test(tcase, answers_up_to_65535_bytes_are_taken);

	tcase = new_case(suite, "lies");
	tcase_add_test(tcase, only_the_true_reply_counts);
	tcase_add_test(tcase, upstream_that_flattens_case_is_remembered);
	tcase_add_test(tcase, upstream_without_edns_is_asked_without);
	tcase_add_test(tcase, broken_streams_end_in_a_reply);

	tcase = new_case(suite, "counters");
	tcase_add_test(tcase, counters_tell_what_happened);
	tcase_add_test(tcase, latency_is_what_the_upstream_took);
	tcase_add_test(tcase, counters_are_logged_in_the_interval);
	tcase_add_test(tcase, accounting_closes);

	tcase = new_case(suite, "queries");
	tcase_add_test(tcase, malformed_queries_get_what_they_deserve);
	tcase_add_test(tcase, name_of_more_than_255_bytes_is_malformed);
	tcase_add_test(tcase, root_and_single_labels_are_names);
	tcase_add_test(tcase, recursion_not_desired_is_served_from_the_cache);
	tcase_add_test(tcase, any_over_udp_is_truncated);
	tcase_add_test(tcase, ports_that_no_client_uses_get_no_reply);
	tcase_add_test(tcase,
	    clients_outside_allow_from_are_refused_then_ignored);

	tcase = new_case(suite, "options");
	tcase_add_test(tcase, options_take_every_form);
	tcase_add_test(tcase, defaults_are_those_of_old);
	tcase_add_test(tcase, help_and_version_are_printed);
	tcase_add_test(tcase, command_line_wins_over_the_file);
	tcase_add_test(tcase, wrong_options_are_told_and_nothing_starts);
	tcase_add_test(tcase, wrong_file_is_told_with_its_line);

	tcase = new_case(suite, "life");
	tcase_add_test(tcase, port_in_use_is_told);
	tcase_add_test(tcase, second_dnsd_on_the_same_port_is_refused);
	tcase_add_test(tcase, second_instance_is_refused_by_the_pidfile);
	tcase_add_test(tcase, unwritable_pidfile_is_told);
	tcase_add_test(tcase, pidfile_holds_the_masters_pid_while_it_runs);
	tcase_add_test(tcase, processes_have_titles);
	tcase_add_test(tcase, idle_daemon_stops_within_150_ms);
	tcase_add_test(tcase, what_is_in_hand_is_finished_at_the_end);
	tcase_add_test(tcase, the_end_comes_in_time_with_a_silent_upstream);
	tcase_add_test(tcase, daemon_goes_to_the_background_once_it_serves);
	tcase_add_test(tcase,
	    listeners_are_as_many_as_the_processors_it_may_use);
	tcase_add_test(tcase, killed_children_are_replaced);
	tcase_add_test(tcase, killed_worker_loses_no_waiting_client);
	tcase_add_test(tcase, storm_of_killed_workers_loses_no_client);
	tcase_add_test(tcase, killed_listener_loses_no_queued_packet);
	tcase_add_test(tcase, nothing_is_left_after_the_masters_death);
	tcase_add_test(tcase, hangup_reads_the_file_again_and_keeps_the_cache);
	tcase_add_test(tcase, hangup_with_a_wrong_file_changes_nothing);
	tcase_add_test(tcase, hangup_keeps_questions_in_hand);

	tcase = new_case(suite, "load");
	tcase_add_test(tcase, hits_are_answered_while_every_worker_waits);
	tcase_add_test(tcase, fifty_clients_make_one_upstream_query);
	tcase_add_test(tcase, retransmission_gets_one_reply);
	tcase_add_test(tcase, live_names_beside_dead_ones_are_answered_at_once);
	tcase_add_test(tcase, live_names_beside_dead_ones_with_two_upstreams);
	tcase_add_test(tcase, live_names_get_the_place_of_dead_ones);
	return (suite);
}

int
main(void)
{
	SRunner *runner = srunner_create(dnsd_suite());
	int failed;

	daemon_dir_make();
	srunner_set_fork_status(runner, CK_FORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	daemon_dir_remove();
	return (failed == 0 ? 0 : 1);
}
