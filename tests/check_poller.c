/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Waiting for many descriptors.  Each test is done with descriptors that were
 * just added, and with such as have been quiet for so many waits that they
 * are watched in the other way, where there is another.
 */

#include <sys/socket.h>

#include <check.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "poller.h"

#define MANY		400		/* more than are young */
#define LONG_AGO	20		/* waits, till all are quiet */
#define EVENTS		64

static struct poller	*poller;
static struct poller_event event[EVENTS];
static sigset_t		 none;
static int		 pair[MANY][2];	/* watched, and its other end */

static void
setup(void)
{
	sigemptyset(&none);
	poller = poller_new(MANY);
	ck_assert_ptr_ne(poller, NULL);
}

static void
teardown(void)
{
	poller_free(poller);
}

static int
wait_now(void)
{
	return (poller_wait(poller, event, EVENTS, 0, &none));
}

static void
grow_old(void)
{
	int i;

	for (i = 0; i < LONG_AGO; i++)
		ck_assert_int_eq(wait_now(), 0);
}

/* Watch n pairs for input; their tags are their numbers. */
static void
add(unsigned n)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair[i]),
		    0);
		ck_assert_int_eq(poller_add(poller, pair[i][0], POLLER_IN, i),
		    0);
	}
}

static void
put(unsigned i)
{
	ck_assert_int_eq(write(pair[i][1], "", 1), 1);
}

static void
get(unsigned i)
{
	char byte;

	ck_assert_int_eq(read(pair[i][0], &byte, 1), 1);
}

START_TEST(ready_descriptor_is_told_of_till_it_is_read)
{
	int i;

	add(3);
	if (_i == 1)
		grow_old();
	put(1);
	for (i = 0; i < LONG_AGO; i++) {
		ck_assert_int_eq(wait_now(), 1);
		ck_assert_uint_eq(event[0].tag, 1);
		ck_assert_uint_eq(event[0].events, POLLER_IN);
	}
	get(1);
	ck_assert_int_eq(wait_now(), 0);
}
END_TEST

START_TEST(young_and_quiet_are_told_of_together)
{
	bool seen[3] = { false };
	int i;

	add(2);
	grow_old();
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair[2]), 0);
	ck_assert_int_eq(poller_add(poller, pair[2][0], POLLER_IN, 2), 0);
	for (i = 0; i < 3; i++)
		put(i);
	ck_assert_int_eq(wait_now(), 3);
	for (i = 0; i < 3; i++)
		seen[event[i].tag] = true;
	ck_assert(seen[0] && seen[1] && seen[2]);
	/* Never more than there is room for. */
	ck_assert_int_eq(poller_wait(poller, event, 2, 0, &none), 2);
	ck_assert_int_eq(poller_wait(poller, event, 1, 0, &none), 1);
}
END_TEST

START_TEST(other_events_can_be_waited_for)
{
	add(1);
	if (_i == 1)
		grow_old();
	ck_assert_int_eq(poller_change(poller, pair[0][0],
	    POLLER_IN | POLLER_OUT, 7), 0);
	ck_assert_int_eq(wait_now(), 1);
	ck_assert_uint_eq(event[0].tag, 7);
	ck_assert_uint_eq(event[0].events, POLLER_OUT);
	put(0);
	ck_assert_int_eq(wait_now(), 1);
	ck_assert_uint_eq(event[0].events, POLLER_IN | POLLER_OUT);
	ck_assert_int_eq(poller_change(poller, pair[0][0], 0, 7), 0);
	ck_assert_int_eq(wait_now(), 0);
	ck_assert_int_eq(poller_change(poller, STDIN_FILENO, POLLER_IN, 0),
	    -1);
}
END_TEST

START_TEST(hang_up_shows_as_what_was_waited_for)
{
	int i;

	add(1);
	if (_i == 1)
		grow_old();
	close(pair[0][1]);
	ck_assert_int_eq(wait_now(), 1);
	ck_assert_uint_eq(event[0].events, POLLER_IN);
	ck_assert_int_eq(poller_change(poller, pair[0][0], 0, 5), 0);
	for (i = 0; i < LONG_AGO; i++) {
		ck_assert_int_eq(wait_now(), 1);
		ck_assert_uint_eq(event[0].tag, 5);
		ck_assert_uint_eq(event[0].events, 0);
	}
}
END_TEST

START_TEST(closed_descriptor_is_waited_for_no_longer)
{
	int other;

	add(3);
	other = pair[0][0];
	if (_i == 1)
		grow_old();
	put(0);
	put(2);
	poller_close(poller, other);
	ck_assert_int_eq(wait_now(), 1);
	ck_assert_uint_eq(event[0].tag, 2);
	/* Another one gets its number. */
	ck_assert_int_eq(dup2(pair[1][0], other), other);
	ck_assert_int_eq(poller_add(poller, other, POLLER_IN, 9), 0);
	get(2);
	put(1);
	ck_assert_int_eq(wait_now(), 2);
	ck_assert_uint_eq(event[0].tag + event[1].tag, 1 + 9);
}
END_TEST

START_TEST(each_of_many_is_told_of)
{
	unsigned told = 0, i;
	bool seen[MANY] = { false };
	int n;

	add(MANY);
	if (_i == 1)
		grow_old();
	for (i = 0; i < MANY; i++)
		put(i);
	while (told < MANY) {
		n = wait_now();
		ck_assert_int_ge(n, 1);
		for (i = 0; i < (unsigned)n; i++) {
			ck_assert(!seen[event[i].tag]);
			seen[event[i].tag] = true;
			get(event[i].tag);
			poller_close(poller, pair[event[i].tag][0]);
			told++;
		}
	}
	ck_assert_int_eq(wait_now(), 0);
}
END_TEST

static volatile sig_atomic_t caught;

static void
catch_it(int signo)
{
	(void)signo;
	caught = 1;
}

START_TEST(signal_that_waits_ends_the_waiting)
{
	struct sigaction action = { .sa_handler = catch_it };
	sigset_t blocked;

	caught = 0;
	add(1);
	if (_i == 1)
		grow_old();
	sigaction(SIGUSR1, &action, NULL);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	raise(SIGUSR1);
	ck_assert_int_eq(caught, 0);
	ck_assert_int_eq(poller_wait(poller, event, EVENTS, -1, &none), 0);
	ck_assert_int_eq(caught, 1);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("poller");
	TCase *tc = tcase_create("young and quiet");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, ready_descriptor_is_told_of_till_it_is_read,
	    0, 2);
	tcase_add_test(tc, young_and_quiet_are_told_of_together);
	tcase_add_loop_test(tc, other_events_can_be_waited_for, 0, 2);
	tcase_add_loop_test(tc, hang_up_shows_as_what_was_waited_for, 0, 2);
	tcase_add_loop_test(tc, closed_descriptor_is_waited_for_no_longer, 0,
	    2);
	tcase_add_loop_test(tc, each_of_many_is_told_of, 0, 2);
	tcase_add_loop_test(tc, signal_that_waits_ends_the_waiting, 0, 2);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return (failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}
