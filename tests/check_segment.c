/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The segment's lock among real processes: what the next one is told when an
 * owner dies before, amid or after its writes, when a recoverer dies, and
 * when an owner is merely stopped.  Two words that must be equal stand for
 * the data; whoever writes them makes them differ for a moment.
 */

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "segment.h"
#include "step.h"

#define PROCESSES	3
#define ROUNDS		200000
#define WAITS		50
#define DEADLINE_MS	5000	/* for what takes microseconds */

struct shared {
	struct segment_lock	 lock;

	/* Protected by lock; equal while nobody changes them. */
	volatile uint32_t	 first;
	volatile uint32_t	 second;

	/* Atomic. */
	_Atomic uint32_t	 go;
	_Atomic uint32_t	 done;
	_Atomic uint32_t	 wrong;
};

enum moment {
	BEFORE_WRITES,
	AMID_WRITES,
	AFTER_WRITES,
	REBUILT			/* by one that had found it broken */
};

static struct shared *shared;
static struct shared *saved;

static uint64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((uint64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

static void
setup(void)
{
	int fd;

	shared = segment_map(sizeof(*shared), &fd);
	ck_assert_ptr_nonnull(shared);
	ck_assert_int_eq(segment_lock_init(&shared->lock), 0);
}

/* The two words differ for long enough to be caught at it. */
static void
change(void)
{
	volatile unsigned n;

	shared->first = shared->first + 1;
	for (n = 0; n < 10; n++)
		;
	shared->second = shared->second + 1;
}

/* Take a lock that is held, if at all, by one that will go on. */
static enum segment_result
take(void)
{
	uint64_t deadline = now_ms() + DEADLINE_MS;
	enum segment_result result;

	do
		result = segment_lock_take(&shared->lock);
	while (result == SEGMENT_BUSY && now_ms() < deadline);
	return (result);
}

/* What a good user does from the taking on, up to the moment. */
static void
act_until(enum moment moment)
{
	enum segment_result result = take();

	if (result == SEGMENT_BUSY)
		_exit(1);
	if (result == SEGMENT_BROKEN && moment == REBUILT) {
		shared->first = shared->second = 0;
		segment_rebuilt(&shared->lock);
	}
	if (moment == BEFORE_WRITES || moment == REBUILT)
		return;
	segment_dirty(&shared->lock);
	shared->first = shared->first + 1;
	if (moment == AMID_WRITES)
		return;
	shared->second = shared->second + 1;
	segment_clean(&shared->lock);
}

static pid_t
start(void)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	ck_assert_int_ne(pid, -1);
	return (pid);
}

static void
reap_killed(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void
die_holding(enum moment moment)
{
	pid_t pid = start();

	if (pid == 0) {
		act_until(moment);
		raise(SIGKILL);
	}
	reap_killed(pid);
}

/* The lock is free, its data are whole, and it goes on working. */
static void
assert_works(void)
{
	uint32_t before;

	ck_assert_int_eq(segment_lock_take(&shared->lock), SEGMENT_LOCKED);
	ck_assert_uint_eq(shared->first, shared->second);
	before = shared->first;
	segment_dirty(&shared->lock);
	change();
	segment_clean(&shared->lock);
	segment_lock_drop(&shared->lock);
	ck_assert_int_eq(segment_lock_take(&shared->lock), SEGMENT_LOCKED);
	ck_assert_uint_eq(shared->first, before + 1);
	ck_assert_uint_eq(shared->lock.dirty, 0);
	segment_lock_drop(&shared->lock);
}

START_TEST(map_is_zeroed_and_present)
{
	size_t page = sysconf(_SC_PAGESIZE), pages = 64, size, i;
	unsigned char there[64];
	struct stat st;
	uint8_t *map, *zeroes;
	int fd;

	size = pages * page;
	zeroes = calloc(1, size);
	map = segment_map(size, &fd);
	ck_assert_ptr_nonnull(map);
	memset(there, 0, sizeof(there));
	ck_assert_int_eq(mincore(map, size, (void *)there), 0);
	for (i = 0; i < pages; i++)
		ck_assert_msg(there[i] & 1, "page %zu is not present", i);
	ck_assert_mem_eq(map, zeroes, size);
	free(zeroes);
	ck_assert_uint_eq((uintptr_t)map % SEGMENT_ALIGN, 0);
	if (fd == -1)
		return;
	ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_ge(st.st_size, (off_t)size);
}
END_TEST

START_TEST(map_is_shared_with_a_child)
{
	size_t size = 3 * 4096 + 5;
	uint8_t *map;
	pid_t pid;
	int fd;

	map = segment_map(size, &fd);
	ck_assert_ptr_nonnull(map);
	map[0] = 7;
	pid = start();
	if (pid == 0) {
		map[size - 1] = map[0] + 1;
		raise(SIGKILL);
	}
	reap_killed(pid);
	ck_assert_uint_eq(map[size - 1], 8);
}
END_TEST

START_TEST(map_says_why_it_fails)
{
	int fd;

	errno = 0;
	ck_assert_ptr_null(segment_map((size_t)1 << 60, &fd));
	ck_assert_int_ne(errno, 0);
}
END_TEST

START_TEST(sizes_are_rounded_up_to_a_cache_line)
{
	static const struct {
		size_t	 size, rounded;
	} rows[] = {
		{ 0, 0 }, { 1, 64 }, { 63, 64 }, { 64, 64 }, { 65, 128 },
		{ 100000, 100032 }
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		ck_assert_uint_eq(segment_round(rows[i].size),
		    rows[i].rounded);
}
END_TEST

START_TEST(lock_excludes_other_processes)
{
	pid_t pid[PROCESSES];
	int status;
	size_t i;
	unsigned n;

	for (i = 0; i < PROCESSES; i++) {
		pid[i] = start();
		if (pid[i] != 0)
			continue;
		while (shared->go == 0)
			;
		for (n = 0; n < ROUNDS; n++) {
			if (take() != SEGMENT_LOCKED)
				_exit(1);
			if (shared->first != shared->second)
				shared->wrong++;
			segment_dirty(&shared->lock);
			change();
			segment_clean(&shared->lock);
			segment_lock_drop(&shared->lock);
		}
		_exit(0);
	}
	shared->go = 1;
	for (i = 0; i < PROCESSES; i++) {
		ck_assert_int_eq(waitpid(pid[i], &status, 0), pid[i]);
		ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	ck_assert_uint_eq(shared->wrong, 0);
	ck_assert_uint_eq(shared->first, PROCESSES * ROUNDS);
	ck_assert_uint_eq(shared->second, PROCESSES * ROUNDS);
	ck_assert_uint_eq(shared->lock.rebuilds, 0);
}
END_TEST

START_TEST(owner_that_died_before_its_writes_leaves_whole_data)
{
	die_holding(BEFORE_WRITES);
	ck_assert_int_eq(segment_lock_take(&shared->lock), SEGMENT_LOCKED);
	ck_assert_uint_eq(shared->first, 0);
	segment_lock_drop(&shared->lock);
	ck_assert_uint_eq(shared->lock.rebuilds, 0);
	assert_works();
}
END_TEST

START_TEST(owner_that_died_amid_its_writes_is_told_of)
{
	die_holding(AMID_WRITES);
	ck_assert_int_eq(segment_lock_take(&shared->lock), SEGMENT_BROKEN);
	ck_assert_uint_ne(shared->first, shared->second);
	shared->first = shared->second = 0;
	segment_rebuilt(&shared->lock);
	ck_assert_uint_eq(shared->lock.rebuilds, 1);
	segment_lock_drop(&shared->lock);
	assert_works();
	ck_assert_uint_eq(shared->lock.rebuilds, 1);
}
END_TEST

START_TEST(owner_that_died_after_its_writes_leaves_whole_data)
{
	die_holding(AFTER_WRITES);
	ck_assert_int_eq(segment_lock_take(&shared->lock), SEGMENT_LOCKED);
	ck_assert_uint_eq(shared->first, 1);
	ck_assert_uint_eq(shared->second, 1);
	segment_lock_drop(&shared->lock);
	ck_assert_uint_eq(shared->lock.rebuilds, 0);
	assert_works();
}
END_TEST

START_TEST(owner_that_exits_is_as_one_that_is_killed)
{
	pid_t pid = start();
	int status;

	if (pid == 0) {
		act_until(AMID_WRITES);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	ck_assert_int_eq(segment_lock_take(&shared->lock), SEGMENT_BROKEN);
	shared->first = shared->second = 0;
	segment_rebuilt(&shared->lock);
	segment_lock_drop(&shared->lock);
	assert_works();
}
END_TEST

START_TEST(lock_is_whole_again_and_again)
{
	unsigned i;

	for (i = 1; i <= 20; i++) {
		die_holding(AMID_WRITES);
		ck_assert_int_eq(segment_lock_take(&shared->lock),
		    SEGMENT_BROKEN);
		shared->first = shared->second = 0;
		segment_rebuilt(&shared->lock);
		segment_lock_drop(&shared->lock);
		ck_assert_uint_eq(shared->lock.rebuilds, i);
		assert_works();
		die_holding(BEFORE_WRITES);
		assert_works();
	}
}
END_TEST

START_TEST(recoverer_that_died_before_it_was_done_leaves_it_broken)
{
	unsigned i;

	die_holding(AMID_WRITES);
	for (i = 0; i < 3; i++)
		die_holding(BEFORE_WRITES);	/* it finds a broken one */
	ck_assert_uint_eq(shared->lock.rebuilds, 0);
	ck_assert_int_eq(segment_lock_take(&shared->lock), SEGMENT_BROKEN);
	shared->first = shared->second = 0;
	segment_rebuilt(&shared->lock);
	segment_lock_drop(&shared->lock);
	assert_works();
}
END_TEST

START_TEST(recoverer_that_died_after_it_was_done_leaves_whole_data)
{
	die_holding(AMID_WRITES);
	die_holding(REBUILT);
	ck_assert_uint_eq(shared->lock.rebuilds, 1);
	assert_works();
	ck_assert_uint_eq(shared->lock.rebuilds, 1);
}
END_TEST

START_TEST(rebuilt_lock_excludes_and_breaks_as_before)
{
	die_holding(AMID_WRITES);
	ck_assert_int_eq(segment_lock_take(&shared->lock), SEGMENT_BROKEN);
	shared->first = shared->second = 0;
	segment_rebuilt(&shared->lock);

	/* Still ours: another waits in vain, and dies without owning it. */
	{
		pid_t pid = start();
		int status;

		if (pid == 0)
			_exit(segment_lock_take(&shared->lock));
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFEXITED(status));
		ck_assert_int_eq(WEXITSTATUS(status), SEGMENT_BUSY);
	}
	segment_lock_drop(&shared->lock);
	die_holding(AMID_WRITES);
	ck_assert_int_eq(segment_lock_take(&shared->lock), SEGMENT_BROKEN);
}
END_TEST

/*
 * Robustness is no help against an owner that is stopped.  The wait for it
 * is short, but it is a wait: who holds a lock for a moment makes nobody busy.
 */
static void
stop_and_kill(enum moment moment, enum segment_result after)
{
	uint64_t began, took;
	int ready[2], status;
	char byte;
	pid_t pid;

	ck_assert_int_eq(pipe(ready), 0);
	pid = start();
	if (pid == 0) {
		act_until(moment);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	ck_assert_int_eq(kill(pid, SIGSTOP), 0);
	ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
	ck_assert(WIFSTOPPED(status));

	began = now_ms();
	ck_assert_int_eq(segment_lock_take(&shared->lock), SEGMENT_BUSY);
	took = now_ms() - began;
	ck_assert_uint_ge(took, 3);
	ck_assert_uint_lt(took, 1000);

	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	reap_killed(pid);
	ck_assert_int_eq(segment_lock_take(&shared->lock), after);
	if (after == SEGMENT_BROKEN) {
		shared->first = shared->second = 0;
		segment_rebuilt(&shared->lock);
	}
	segment_lock_drop(&shared->lock);
	assert_works();
	close(ready[0]);
	close(ready[1]);
}

START_TEST(stopped_owner_makes_the_lock_busy_until_it_is_killed)
{
	stop_and_kill(BEFORE_WRITES, SEGMENT_LOCKED);
	stop_and_kill(AMID_WRITES, SEGMENT_BROKEN);
	stop_and_kill(AFTER_WRITES, SEGMENT_LOCKED);
}
END_TEST

/*
 * One who waits is woken by the drop.  If the lock were not process-shared it
 * would sleep till its time is over.  Only a holder that the scheduler put
 * aside for long may make it busy here.
 */
START_TEST(dropped_lock_wakes_one_who_waits)
{
	struct timespec hold = { .tv_nsec = 500000 };
	unsigned i, woken = 0;
	int status;
	pid_t pid;

	pid = start();
	if (pid == 0) {
		for (i = 1; i <= WAITS; i++) {
			if (take() != SEGMENT_LOCKED)
				_exit(1);
			shared->go = i;
			nanosleep(&hold, NULL);
			segment_lock_drop(&shared->lock);
			while (shared->done != i)
				sched_yield();
		}
		_exit(0);
	}
	for (i = 1; i <= WAITS; i++) {
		while (shared->go != i)
			sched_yield();
		if (segment_lock_take(&shared->lock) == SEGMENT_LOCKED) {
			woken++;
			segment_lock_drop(&shared->lock);
		}
		shared->done = i;
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	ck_assert_uint_ge(woken, WAITS / 2);
}
END_TEST

START_TEST(stopped_owner_that_goes_on_drops_the_lock)
{
	pid_t pid = start();
	int status;

	if (pid == 0) {
		act_until(AMID_WRITES);
		raise(SIGSTOP);
		shared->second = shared->second + 1;
		segment_clean(&shared->lock);
		segment_lock_drop(&shared->lock);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
	ck_assert(WIFSTOPPED(status));
	ck_assert_int_eq(segment_lock_take(&shared->lock), SEGMENT_BUSY);
	ck_assert_int_eq(segment_lock_take(&shared->lock), SEGMENT_BUSY);
	ck_assert_int_eq(kill(pid, SIGCONT), 0);
	ck_assert_int_eq(take(), SEGMENT_LOCKED);
	ck_assert_uint_eq(shared->first, shared->second);
	segment_lock_drop(&shared->lock);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	ck_assert_uint_eq(shared->lock.rebuilds, 0);
	assert_works();
}
END_TEST

static void
save(void)
{
	int fd;

	saved = segment_map(sizeof(*saved), &fd);
	ck_assert_ptr_nonnull(saved);
	memcpy(saved, shared, sizeof(*saved));
}

static void
restore(void)
{
	memcpy(shared, saved, sizeof(*saved));
}

static void
setup_broken(void)
{
	setup();
	die_holding(AMID_WRITES);
}

/* A use of the lock from its taking to its drop. */
static void
act_use(void)
{
	if (segment_lock_take(&shared->lock) == SEGMENT_BROKEN) {
		shared->first = shared->second = 0;
		segment_rebuilt(&shared->lock);
	}
	segment_dirty(&shared->lock);
	change();
	segment_clean(&shared->lock);
	segment_lock_drop(&shared->lock);
}

static bool
settle(int after, unsigned arg)
{
	enum segment_result result = segment_lock_take(&shared->lock);

	(void)arg;
	ck_assert_msg(result != SEGMENT_BUSY,
	    "busy after a death at instruction %d", after);
	if (result == SEGMENT_BROKEN) {
		shared->first = shared->second = 0;
		segment_rebuilt(&shared->lock);
	}
	ck_assert_msg(shared->first == shared->second,
	    "broken and not told of at instruction %d", after);
	segment_lock_drop(&shared->lock);
	assert_works();
	return (result == SEGMENT_BROKEN);
}

/* Some of the deaths are amid the change, some are not. */
static void
die_at_every_instruction(const char *what, void (*stage)(void))
{
	struct step_deaths deaths = { .what = what, .stage = stage,
	    .save = save, .restore = restore, .act = act_use,
	    .settle = settle };

	if (!step_each(&deaths))
		return;
	ck_assert_int_gt(deaths.whole, 0);
	ck_assert_int_gt(deaths.rebuilt, 0);
}

START_TEST(death_at_any_instruction_leaves_a_lock_that_works)
{
	die_at_every_instruction("check_segment: use", setup);
}
END_TEST

START_TEST(death_of_a_recoverer_at_any_instruction_does_too)
{
	die_at_every_instruction("check_segment: use of a broken one",
	    setup_broken);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("segment");
	TCase *map = tcase_create("map"), *lock = tcase_create("lock");
	SRunner *runner;
	int failed;

	tcase_add_test(map, map_is_zeroed_and_present);
	tcase_add_test(map, map_is_shared_with_a_child);
	tcase_add_test(map, map_says_why_it_fails);
	tcase_add_test(map, sizes_are_rounded_up_to_a_cache_line);
	suite_add_tcase(suite, map);

	tcase_add_checked_fixture(lock, setup, NULL);
	tcase_set_timeout(lock, 60);
	tcase_add_test(lock, lock_excludes_other_processes);
	tcase_add_test(lock,
	    owner_that_died_before_its_writes_leaves_whole_data);
	tcase_add_test(lock, owner_that_died_amid_its_writes_is_told_of);
	tcase_add_test(lock,
	    owner_that_died_after_its_writes_leaves_whole_data);
	tcase_add_test(lock, owner_that_exits_is_as_one_that_is_killed);
	tcase_add_test(lock, lock_is_whole_again_and_again);
	tcase_add_test(lock,
	    recoverer_that_died_before_it_was_done_leaves_it_broken);
	tcase_add_test(lock,
	    recoverer_that_died_after_it_was_done_leaves_whole_data);
	tcase_add_test(lock, rebuilt_lock_excludes_and_breaks_as_before);
	tcase_add_test(lock,
	    stopped_owner_makes_the_lock_busy_until_it_is_killed);
	tcase_add_test(lock, dropped_lock_wakes_one_who_waits);
	tcase_add_test(lock, stopped_owner_that_goes_on_drops_the_lock);
	tcase_add_test(lock,
	    death_at_any_instruction_leaves_a_lock_that_works);
	tcase_add_test(lock,
	    death_of_a_recoverer_at_any_instruction_does_too);
	suite_add_tcase(suite, lock);

	runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_FORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return (failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}
