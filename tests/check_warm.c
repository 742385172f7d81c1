/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The warm start: what the cache takes over from processes that are gone, and
 * the segment-file by which a daemon hands it to the next one.
 */

#include <sys/mman.h>
#include <sys/stat.h>

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache.h"
#include "daemon.h"
#include "segment.h"
#include "stub.h"

#define ENTRIES		100
#define TYPE_A		1
#define FAR		1000000		/* an expiry, in ms */

static struct stub	*up;
static struct daemon	 dnsd;
static char		 path[256];
static struct cache	*cache;
static size_t		 size;

static void
set_up(void)
{
	up = stub_start("127.0.0.1", 0);
	ck_assert_msg(up != NULL, "stub: %s", strerror(errno));
	snprintf(path, sizeof(path), "%s/cache.%ld", daemon_dir(),
	    (long)getpid());
}

static void
tear_down(void)
{
	if (dnsd.pid != 0)
		daemon_stop(&dnsd, SIGTERM, 10000);
	stub_stop(up);
	unlink(path);
}

static void
start(const char *more)
{
	dnsd.port = 0;		/* any */
	ck_assert(daemon_start(&dnsd, "-upstreams %s -workers 2 "
	    "-segment-file %s %s", up->text, path, more));
}

/* Ask for a name; returns how often the upstream has been asked for it. */
static uint32_t
ask(const char *name)
{
	static struct reply reply;

	ck_assert(daemon_ask_for(&dnsd, name, TYPE_A, &reply));
	ck_assert_uint_eq(reply.rcode, 0);
	ck_assert_uint_ge(reply.records, 1);
	return (stub_asked(up, name, TYPE_A));
}

static void
make_cache(void)
{
	int fd;

	size = cache_size(ENTRIES, 0);
	cache = segment_map(size, &fd);
	ck_assert(cache != NULL);
	ck_assert_int_eq(cache_format(cache, ENTRIES, 0), 0);
}

/* Store, under its number, a value that can be told. */
static void
store(uint8_t number)
{
	uint8_t value[200];

	memset(value, number, sizeof(value));
	ck_assert_int_eq(cache_store(cache, number, &number, 1, FAR, value,
	    sizeof(value)), 0);
}

static enum cache_result
look_up(uint8_t number)
{
	uint8_t value[200];
	size_t len;

	return (cache_lookup(cache, number, &number, 1, 0, value,
	    sizeof(value), &len));
}

/* Where in the cache's memory a key and its value, all one byte, begin. */
static uint8_t *
find_value(uint8_t number)
{
	uint8_t *at = (uint8_t *)cache, *end = at + size - 40, wanted[40];

	memset(wanted, number, sizeof(wanted));
	for (; at < end; at++) {
		if (memcmp(at, wanted, sizeof(wanted)) == 0)
			return (at);
	}
	ck_abort_msg("value %u is nowhere", number);
	return (NULL);
}

START_TEST(whole_cache_is_taken_over)
{
	make_cache();
	store(7);
	store(9);
	ck_assert_int_eq(cache_adopt(cache, ENTRIES, 0), 0);
	ck_assert_int_eq(look_up(7), CACHE_HIT);
	ck_assert_int_eq(look_up(9), CACHE_HIT);
	store(8);
	ck_assert_int_eq(cache_check(cache), 0);
}
END_TEST

START_TEST(cache_of_another_size_is_not)
{
	make_cache();
	ck_assert_int_eq(cache_adopt(cache, ENTRIES + 1, 0), -1);
	ck_assert_int_eq(cache_adopt(cache, ENTRIES, 10000000), -1);
}
END_TEST

START_TEST(damaged_value_empties_its_shard)
{
	make_cache();
	store(7);
	store(9);
	find_value(7)[1] ^= 1;		/* the first is its key */
	ck_assert_int_eq(cache_adopt(cache, ENTRIES, 0), 0);
	ck_assert_int_eq(look_up(9), CACHE_HIT);
	ck_assert_int_eq(look_up(7), CACHE_MISS);
	ck_assert_int_eq(look_up(9), CACHE_MISS);
	ck_assert_int_eq(cache_check(cache), 0);
	store(7);
	ck_assert_int_eq(look_up(7), CACHE_HIT);
}
END_TEST

START_TEST(random_damage_is_never_served)
{
	uint8_t *bytes;
	uint8_t value[200], number;
	unsigned round, i;
	size_t len;

	for (round = 0; round < 300; round++) {
		make_cache();
		for (number = 1; number <= 50; number++)
			store(number);
		/* Behind the header, whose sizes cache_adopt() compares. */
		bytes = (uint8_t *)cache + 64;
		for (i = 0; i < 20; i++)
			bytes[arc4random_uniform(20000)] = arc4random();
		if (cache_adopt(cache, ENTRIES, 0) == -1)
			continue;
		ck_assert_int_eq(cache_check(cache), 0);
		for (number = 1; number <= 50; number++) {
			if (cache_lookup(cache, number, &number, 1, 0, value,
			    sizeof(value), &len) != CACHE_HIT)
				continue;
			ck_assert_uint_eq(len, sizeof(value));
			for (i = 0; i < len; i++)
				ck_assert_uint_eq(value[i], number);
		}
		munmap(cache, size);
	}
}
END_TEST

START_TEST(cache_outlives_a_stop)
{
	start("");
	ck_assert_uint_eq(ask("stop.test"), 1);
	ck_assert_int_eq(daemon_stop(&dnsd, SIGTERM, 5000), 0);
	start("");
	ck_assert(daemon_logged(&dnsd, "answers are kept", 0));
	ck_assert_uint_eq(ask("stop.test"), 1);
	ck_assert_uint_eq(daemon_stat(&dnsd, NULL, "hits"), 1);
}
END_TEST

START_TEST(cache_outlives_a_crash_of_the_master)
{
	start("");
	ck_assert_uint_eq(ask("crash.test"), 1);
	daemon_stop(&dnsd, SIGKILL, 5000);
	start("");
	ck_assert_uint_eq(ask("crash.test"), 1);
}
END_TEST

START_TEST(file_of_another_layout_is_emptied)
{
	start("");
	ck_assert_uint_eq(ask("layout.test"), 1);
	ck_assert_int_eq(daemon_stop(&dnsd, SIGTERM, 5000), 0);
	/* The same size of file, but another meaning. */
	start("-cache-memory 2560001");
	ck_assert_uint_eq(ask("layout.test"), 2);
	ck_assert_int_eq(daemon_stop(&dnsd, SIGTERM, 5000), 0);
	start("-cache-size 2000");
	ck_assert_uint_eq(ask("layout.test"), 3);
}
END_TEST

START_TEST(file_that_is_cut_short_is_made_anew)
{
	start("");
	ck_assert_uint_eq(ask("short.test"), 1);
	ck_assert_int_eq(daemon_stop(&dnsd, SIGTERM, 5000), 0);
	ck_assert_int_eq(truncate(path, 5000), 0);
	start("");
	ck_assert_uint_eq(ask("short.test"), 2);
	ck_assert_uint_eq(ask("short.test"), 2);
}
END_TEST

START_TEST(two_daemons_do_not_share_a_file)
{
	struct daemon first;

	start("");
	first = dnsd;
	start("");
	ck_assert(daemon_logged(&dnsd, "another dnsd uses it", 0));
	ck_assert_uint_eq(ask("two.test"), 1);
	ck_assert_int_eq(daemon_stop(&first, SIGTERM, 5000), 0);
}
END_TEST

START_TEST(planted_file_is_refused_and_left_alone)
{
	struct stat st;
	char other[300];
	int fd;

	snprintf(other, sizeof(other), "%s.other", path);
	ck_assert_int_eq(symlink(other, path), 0);
	start("");
	ck_assert(daemon_logged(&dnsd, "symbolic link", 0));
	ck_assert_uint_eq(ask("link.test"), 1);
	ck_assert_int_eq(daemon_stop(&dnsd, SIGTERM, 5000), 0);
	ck_assert_int_eq(lstat(other, &st), -1);
	unlink(path);

	fd = open(path, O_RDWR | O_CREAT, 0600);
	ck_assert_int_ne(fd, -1);
	ck_assert_int_eq(fchmod(fd, 0660), 0);
	close(fd);
	start("");
	ck_assert(daemon_logged(&dnsd, "not ours alone", 0));
	ck_assert_uint_eq(ask("mode.test"), 1);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_size, 0);
}
END_TEST

START_TEST(restart_in_place_keeps_the_file_in_use)
{
	start("");
	ck_assert_uint_eq(ask("again.test"), 1);
	daemon_mark(&dnsd);
	kill(dnsd.pid, SIGHUP);
	ck_assert(daemon_logged(&dnsd, "serves", 5000));
	ck_assert_uint_eq(ask("again.test"), 1);
	ck_assert_int_eq(daemon_stop(&dnsd, SIGTERM, 5000), 0);
	start("");
	ck_assert_uint_eq(ask("again.test"), 1);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("warm");
	TCase *tcase = tcase_create("cache");
	SRunner *runner;
	int failed;

	tcase_add_test(tcase, whole_cache_is_taken_over);
	tcase_add_test(tcase, cache_of_another_size_is_not);
	tcase_add_test(tcase, damaged_value_empties_its_shard);
	tcase_add_test(tcase, random_damage_is_never_served);
	tcase_set_timeout(tcase, 60);
	suite_add_tcase(suite, tcase);

	tcase = tcase_create("file");
	tcase_add_checked_fixture(tcase, set_up, tear_down);
	tcase_add_test(tcase, cache_outlives_a_stop);
	tcase_add_test(tcase, cache_outlives_a_crash_of_the_master);
	tcase_add_test(tcase, file_of_another_layout_is_emptied);
	tcase_add_test(tcase, file_that_is_cut_short_is_made_anew);
	tcase_add_test(tcase, two_daemons_do_not_share_a_file);
	tcase_add_test(tcase, planted_file_is_refused_and_left_alone);
	tcase_add_test(tcase, restart_in_place_keeps_the_file_in_use);
	tcase_set_timeout(tcase, 60);
	suite_add_tcase(suite, tcase);

	daemon_dir_make();
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	daemon_dir_remove();
	return (failed == 0 ? 0 : 1);
}
