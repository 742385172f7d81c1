/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The table of pending questions by itself, beside a model of it, and among
 * listeners and workers that are killed at their work.  A question is a
 * number, and so is a client; from both all that the table is given of them
 * is made, so that whoever takes something out can tell if it is right.
 *
 * No worker is ever waited for here.  A bell stands for a mailbox: a worker
 * looks for questions when it starts, when its bell was rung and when it has
 * finished one, as the real one does.
 */

#include <sys/wait.h>

#include <check.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "pending_table.h"
#include "segment.h"
#include "step.h"

#define PATIENCE_MS	1000	/* so long a question keeps its place */
#define AGAIN_MS	250	/* from then on a client asks again */
#define WORKERS_MAX	8
#define HAND_MAX	64	/* questions that a worker has in hand */
#define CLIENTS_MAX	512	/* of a test that counts replies by client */
#define STRIDE		7	/* from a rebuilder's death to the next */
#define STALE_WAKE	77	/* what an earlier join may have left */
#define NO_RESULT	-2	/* of an act that was not done */
#define NEW_QUESTION	9	/* that of an act, which nobody else asks */

#define STORM_LISTENERS	2
#define STORM_WORKERS	3
#define STORM_NAMES	200
#define STORM_CLIENTS	120000	/* of each listener */
#define STORM_KILLS	400
#define STORM_KILLS_MIN	20		/* however long they take */
#define STORM_MS	2000
#define SETTLE_MS	10000	/* far more than it takes */

/* What a worker knows itself and loses with its life. */
struct hand {
	uint32_t	 index[HAND_MAX];
	int		 count;
};

/* What the children of a test tell it. */
struct told {
	_Atomic uint32_t	 wake;		/* the acting listener's */
	_Atomic int		 result;	/* of the act */
};

static struct pending *pending;
static size_t pending_bytes;
static struct pending_limits limits;
static struct told *told;
static struct step last_join;		/* of a full table, recorded */
static int death;			/* amid its change, if it dies there */
static _Atomic uint32_t first_wake = PENDING_NO_WORKER;	/* of who did */
static _Atomic uint32_t wake;		/* that of the test, a listener */
static bool bell[WORKERS_MAX];
static bool more;			/* pending_finish() says so */
static struct hand hand[WORKERS_MAX];
static unsigned replied[CLIENTS_MAX];
static bool joined[CLIENTS_MAX];	/* a reply is owed, or was sent */
static unsigned new_answered;		/* how often NEW_QUESTION was */
static uint64_t now = 5000;		/* ms */
static uint64_t random_state = 1;

/* Scatter the bits of a number. */
static uint64_t
mix(uint64_t x)
{
	unsigned i;

	for (i = 0; i < 3; i++) {
		x = (x + 0x632be59bd9b4e019) * 0x2545f4914f6cdd1d;
		x ^= x >> 31;
	}
	return (x);
}

/* The same numbers at every run. */
static uint32_t
random_below(uint32_t bound)
{
	random_state++;
	return (mix(random_state) % bound);
}

static uint64_t
clock_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((uint64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

/* A table, and the first `started' workers at work. */
static void
make(uint32_t workers, uint32_t per_worker, uint32_t queue,
    uint32_t preferred, uint32_t started)
{
	uint32_t i;
	int fd;

	limits = (struct pending_limits){ .workers = workers,
	    .per_worker = per_worker, .queue = queue, .preferred = preferred };
	pending_bytes = pending_size(&limits);
	pending = segment_map(pending_bytes, &fd);
	ck_assert_ptr_nonnull(pending);
	ck_assert_int_eq(pending_format(pending, &limits), 0);
	close(fd);
	told = segment_map(sizeof(*told), &fd);
	ck_assert_ptr_nonnull(told);
	close(fd);
	memset(bell, 0, sizeof(bell));
	memset(hand, 0, sizeof(hand));
	memset(replied, 0, sizeof(replied));
	memset(joined, 0, sizeof(joined));
	for (i = 0; i < started; i++)
		ck_assert_int_eq(pending_worker_start(pending, i), 0);
	ck_assert_int_eq(pending_check(pending), 0);
}

static size_t
key_make(uint8_t key[PENDING_KEY_MAX], uint32_t question)
{
	size_t len = 5 + question % 40, i;

	for (i = 0; i < len; i++)
		key[i] = i < 4 ? question >> 8 * i : question + i;
	return (len);
}

/* The number of a question that was taken; UINT32_MAX: its key is wrong. */
static uint32_t
question_of(uint32_t index)
{
	uint8_t key[PENDING_KEY_MAX];
	const uint8_t *is;
	uint32_t question;
	size_t len;

	is = pending_key(pending, index, &len);
	question = is[0] | is[1] << 8 | is[2] << 16 | (uint32_t)is[3] << 24;
	if (len != key_make(key, question) || memcmp(is, key, len) != 0 ||
	    pending_hash(pending, index) != mix(question))
		return (UINT32_MAX);
	return (question);
}

static struct pending_waiter
waiter_make(uint32_t client)
{
	struct pending_waiter waiter;

	memset(&waiter, 0, sizeof(waiter));
	waiter.client = (struct addr){ .family = AF_INET,
	    .ip = { 10, client >> 16, client >> 8, client },
	    .port = 1024 + client % 60000 };
	waiter.local = (struct addr){ .family = AF_INET6,
	    .ip = { 0xfd, client }, .port = 53 };
	waiter.socket = client % 7;
	waiter.id = client * 31;
	waiter.flags = client * 5;
	waiter.edns_size = 512 + client % 4000;
	waiter.edns = client & 1;
	waiter.dnssec_ok = client & 2;
	waiter.name_case[client % 32] = client;
	return (waiter);
}

/* The number of a client that waits; UINT32_MAX: it is not as it was given. */
static uint32_t
client_of(uint32_t at)
{
	const struct pending_waiter *is = pending_waiter(pending, at);
	struct pending_waiter waiter;
	uint32_t client;

	client = (uint32_t)is->client.ip[1] << 16 | is->client.ip[2] << 8 |
	    is->client.ip[3];
	waiter = waiter_make(client);
	if (!addr_equal(&is->client, &waiter.client) ||
	    !addr_equal(&is->local, &waiter.local) ||
	    is->socket != waiter.socket || is->id != waiter.id ||
	    is->flags != waiter.flags || is->edns_size != waiter.edns_size ||
	    is->edns != waiter.edns || is->dnssec_ok != waiter.dnssec_ok ||
	    memcmp(is->name_case, waiter.name_case,
	    sizeof(waiter.name_case)) != 0)
		return (UINT32_MAX);
	return (client);
}

static enum pending_result
join_as(uint32_t question, uint32_t client, _Atomic uint32_t *to_wake)
{
	struct pending_waiter waiter = waiter_make(client);
	uint8_t key[PENDING_KEY_MAX];
	size_t len = key_make(key, question);

	return (pending_join(pending, mix(question), key, len, &waiter, now,
	    to_wake));
}

static void
ring(_Atomic uint32_t *to_wake)
{
	if (*to_wake < WORKERS_MAX)
		bell[*to_wake] = true;
}

static enum pending_result
join(uint32_t question, uint32_t client)
{
	enum pending_result result;

	wake = STALE_WAKE;
	result = join_as(question, client, &wake);
	ck_assert_msg(wake == PENDING_NO_WORKER || wake < limits.workers,
	    "wake is %u", wake);
	ring(&wake);
	if (client < CLIENTS_MAX && (result == PENDING_GIVEN ||
	    result == PENDING_QUEUED || result == PENDING_JOINED))
		joined[client] = true;
	return (result);
}

/* Take questions into a worker's hand.  Returns how many. */
static int
take(uint32_t worker, uint32_t max)
{
	struct hand *h = &hand[worker];
	int n;

	if (max > (uint32_t)(HAND_MAX - h->count))
		max = HAND_MAX - h->count;
	n = pending_take(pending, worker, max, now, h->index + h->count);
	ck_assert_int_ge(n, 0);
	ck_assert_int_le(n, max);
	h->count += n;
	return (n);
}

/* Take the one question that there must be for a worker. */
static uint32_t
take_one(uint32_t worker)
{
	uint32_t index;

	ck_assert_int_eq(pending_take(pending, worker, 1, now, &index), 1);
	return (index);
}

/* Reply to all who wait for a question, and free it. */
static void
answer(uint32_t worker, uint32_t index)
{
	uint32_t at, client;
	int left;

	ck_assert_uint_ne(question_of(index), UINT32_MAX);
	new_answered += question_of(index) == NEW_QUESTION;
	do {
		for (at = pending_next(pending, index, 0); at != 0;
		    at = pending_next(pending, index, at)) {
			client = client_of(at);
			ck_assert_uint_lt(client, CLIENTS_MAX);
			replied[client]++;
			pending_mark(pending, at);
		}
		left = pending_finish(pending, worker, index, &more);
		ck_assert_int_ne(left, -1);
	} while (left == 1);
}

/* Let those who know of work do it, till there is none that they know of. */
static void
drain(void)
{
	uint32_t w;
	bool some;

	do {
		some = false;
		for (w = 0; w < limits.workers; w++) {
			if (bell[w]) {
				bell[w] = false;
				some |= take(w, HAND_MAX) > 0;
			}
			while (hand[w].count > 0) {
				answer(w, hand[w].index[--hand[w].count]);
				take(w, 1);
				some = true;
			}
		}
	} while (some);
}

static void
restart(uint32_t worker)
{
	hand[worker].count = 0;
	ck_assert_int_eq(pending_worker_start(pending, worker), 0);
	bell[worker] = true;
}

static struct pending_stats
count(void)
{
	struct pending_stats stats;

	pending_count(pending, &stats);
	return (stats);
}

static void
assert_empty(void)
{
	struct pending_stats stats = count();

	ck_assert_uint_eq(stats.asking, 0);
	ck_assert_uint_eq(stats.queued, 0);
	ck_assert_uint_eq(stats.waiters, 0);
	ck_assert_int_eq(pending_check(pending), 0);
}

START_TEST(question_is_given_taken_and_finished)
{
	uint32_t index, at;

	make(4, 2, 8, 2, 4);
	ck_assert_int_eq(join(1, 11), PENDING_GIVEN);
	ck_assert_uint_eq(wake, 0);
	ck_assert_uint_eq(count().asking, 1);
	ck_assert_uint_eq(count().waiters, 1);
	now += 7;
	index = take_one(0);
	ck_assert_uint_eq(question_of(index), 1);
	ck_assert_uint_eq(pending_since_ms(pending, index), now - 7);
	ck_assert(!pending_must_end(pending, index));
	ck_assert_int_eq(pending_finish(pending, 0, index, &more), 1);
	at = pending_next(pending, index, 0);
	ck_assert_uint_ne(at, 0);
	ck_assert_uint_eq(client_of(at), 11);
	ck_assert_uint_eq(pending_next(pending, index, at), 0);
	pending_mark(pending, at);
	ck_assert_uint_eq(pending_next(pending, index, 0), 0);
	ck_assert_int_eq(pending_check(pending), 0);
	ck_assert_int_eq(pending_finish(pending, 0, index, &more), 0);
	assert_empty();

	/* It is a new question afterwards. */
	ck_assert_int_eq(join(1, 11), PENDING_GIVEN);
	ck_assert_uint_eq(pending_since_ms(pending, take_one(0)), now);
}
END_TEST

START_TEST(clients_of_one_question_wait_together)
{
	uint32_t index, client, at;
	unsigned n = 0;

	make(4, 2, 8, 2, 4);
	ck_assert_int_eq(join(1, 0), PENDING_GIVEN);
	for (client = 1; client < 25; client++)
		ck_assert_int_eq(join(1, client), PENDING_JOINED);
	ck_assert_uint_eq(wake, PENDING_NO_WORKER);
	index = take_one(0);
	for (; client < 50; client++)
		ck_assert_int_eq(join(1, client), PENDING_JOINED);
	ck_assert_uint_eq(count().asking, 1);
	ck_assert_uint_eq(count().waiters, 50);
	for (at = pending_next(pending, index, 0); at != 0;
	    at = pending_next(pending, index, at))
		n++;
	ck_assert_uint_eq(n, 50);
	answer(0, index);
	for (client = 0; client < 50; client++)
		ck_assert_uint_eq(replied[client], 1);
	ck_assert_int_eq(take(0, 8), 0);
	assert_empty();
}
END_TEST

START_TEST(client_that_comes_during_the_replies_gets_one)
{
	uint32_t index, at;

	make(1, 2, 8, 1, 1);
	join(1, 1);
	join(1, 2);
	index = take_one(0);
	at = pending_next(pending, index, 0);
	pending_mark(pending, at);
	ck_assert_int_eq(join(1, 3), PENDING_JOINED);	/* amid the walk */
	at = pending_next(pending, index, at);
	ck_assert_uint_ne(at, 0);
	pending_mark(pending, at);
	ck_assert_uint_eq(pending_next(pending, index, at), 0);
	ck_assert_int_eq(join(1, 4), PENDING_JOINED);	/* and behind it */
	ck_assert_int_eq(pending_finish(pending, 0, index, &more), 1);
	answer(0, index);
	ck_assert_uint_eq(replied[1] + replied[2], 0);
	ck_assert_uint_eq(replied[3], 1);
	ck_assert_uint_eq(replied[4], 1);
	assert_empty();
}
END_TEST

START_TEST(retransmission_adds_no_second_waiter)
{
	struct pending_waiter waiter = waiter_make(1);
	uint8_t key[PENDING_KEY_MAX];
	size_t len = key_make(key, 1);

	make(2, 2, 8, 1, 2);
	ck_assert_int_eq(join(1, 1), PENDING_GIVEN);
	ck_assert_int_eq(join(1, 2), PENDING_JOINED);
	ck_assert_int_eq(join(1, 1), PENDING_DUPLICATE);
	ck_assert_uint_eq(wake, PENDING_NO_WORKER);
	ck_assert_int_eq(join(1, 2), PENDING_DUPLICATE);
	ck_assert_uint_eq(count().waiters, 2);

	/* Another ID, port, address or question is no retransmission. */
	waiter.id++;
	ck_assert_int_eq(pending_join(pending, mix(1), key, len, &waiter, now,
	    &wake), PENDING_JOINED);
	waiter = waiter_make(1);
	waiter.client.port++;
	ck_assert_int_eq(pending_join(pending, mix(1), key, len, &waiter, now,
	    &wake), PENDING_JOINED);
	waiter = waiter_make(1);
	waiter.client.ip[0]++;
	ck_assert_int_eq(pending_join(pending, mix(1), key, len, &waiter, now,
	    &wake), PENDING_JOINED);
	ck_assert_uint_eq(count().waiters, 5);
	ck_assert_int_eq(join(2, 1), PENDING_GIVEN);
	ck_assert_int_eq(pending_check(pending), 0);
}
END_TEST

/* The packet to the upstream may be lost: its worker hears of it, once. */
START_TEST(worker_is_told_once_that_a_client_asks_again)
{
	uint32_t index;

	make(2, 2, 8, 1, 2);
	ck_assert_int_eq(join(1, 1), PENDING_GIVEN);
	now += AGAIN_MS;
	ck_assert_int_eq(join(1, 1), PENDING_DUPLICATE);
	ck_assert_uint_eq(wake, PENDING_NO_WORKER);	/* not yet asked */
	index = take_one(0);
	now += AGAIN_MS - 1;
	ck_assert_int_eq(join(1, 1), PENDING_DUPLICATE);
	ck_assert_uint_eq(wake, PENDING_NO_WORKER);	/* too soon */
	ck_assert(!pending_asked_again(pending, index));
	now++;
	ck_assert_int_eq(join(1, 1), PENDING_DUPLICATE);
	ck_assert_uint_eq(wake, 0);
	ck_assert(pending_asked_again(pending, index));
	ck_assert(!pending_asked_again(pending, index));
	now += AGAIN_MS;
	ck_assert_int_eq(join(1, 1), PENDING_DUPLICATE);
	ck_assert_uint_eq(wake, PENDING_NO_WORKER);	/* twice */
	ck_assert(!pending_asked_again(pending, index));
	ck_assert_uint_eq(count().waiters, 1);
}
END_TEST

START_TEST(questions_of_one_hash_are_told_apart)
{
	struct pending_waiter waiter = waiter_make(1);
	uint8_t key[PENDING_KEY_MAX];
	const uint8_t *is;
	size_t i, len;

	make(1, 32, 8, 1, 1);
	memset(key, 'k', sizeof(key));
	for (i = 0; i < 20; i++) {
		if (i < 10)
			key[PENDING_KEY_MAX - 1] = i;
		ck_assert_int_eq(pending_join(pending, 9, key,
		    PENDING_KEY_MAX - (i < 10 ? 0 : i), &waiter, now, &wake),
		    PENDING_GIVEN);
	}
	ck_assert_int_eq(take(0, 32), 20);
	for (i = 0; i < 20; i++) {
		is = pending_key(pending, hand[0].index[i], &len);
		ck_assert_uint_eq(len, PENDING_KEY_MAX - (i < 10 ? 0 : i));
		if (i < 10)
			ck_assert_uint_eq(is[PENDING_KEY_MAX - 1], i);
	}
	ck_assert_int_eq(pending_check(pending), 0);
}
END_TEST

START_TEST(preferred_workers_are_filled_evenly_then_the_next_in_order)
{
	static const uint32_t order[] = { 0, 1, 2, 0, 1, 2, 3, 3, 4, 4 };
	uint32_t question;
	size_t i;
	int had;

	make(5, 2, 2, 3, 5);
	for (i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		question = i + 1;
		ck_assert_int_eq(join(question, 1), PENDING_GIVEN);
		had = hand[order[i]].count;
		ck_assert_msg(take(order[i], 8) == 1,
		    "question %u is not with worker %u", question, order[i]);
		ck_assert_uint_eq(question_of(hand[order[i]].index[had]),
		    question);
	}
	ck_assert_int_eq(join(20, 1), PENDING_QUEUED);
	ck_assert_uint_eq(wake, PENDING_NO_WORKER);

	/* Who has finished is the least busy. */
	answer(1, hand[1].index[--hand[1].count]);
	ck_assert_int_eq(take(1, 1), 1);
	answer(1, hand[1].index[--hand[1].count]);
	answer(4, hand[4].index[--hand[4].count]);
	ck_assert_int_eq(join(21, 1), PENDING_GIVEN);
	ck_assert_uint_eq(wake, 1);
	ck_assert_int_eq(join(22, 1), PENDING_GIVEN);
	ck_assert_uint_eq(wake, 4);
	ck_assert_int_eq(pending_check(pending), 0);
}
END_TEST

START_TEST(worker_is_rung_only_if_it_has_nothing_to_take)
{
	make(2, 4, 8, 1, 2);
	ck_assert_int_eq(join(1, 1), PENDING_GIVEN);
	ck_assert_uint_eq(wake, 0);
	ck_assert_int_eq(join(2, 1), PENDING_GIVEN);
	ck_assert_uint_eq(wake, PENDING_NO_WORKER);
	ck_assert_int_eq(take(0, 1), 1);
	ck_assert_int_eq(join(3, 1), PENDING_GIVEN);
	ck_assert_uint_eq(wake, PENDING_NO_WORKER);
	ck_assert_int_eq(take(0, 8), 2);
	ck_assert_int_eq(join(4, 1), PENDING_GIVEN);
	ck_assert_uint_eq(wake, 0);
	ck_assert_int_eq(join(5, 1), PENDING_GIVEN);
	ck_assert_uint_eq(wake, 1);
}
END_TEST

START_TEST(worker_that_is_not_started_or_has_stopped_gets_nothing)
{
	make(4, 2, 8, 2, 0);
	ck_assert_int_eq(join(1, 1), PENDING_QUEUED);
	ck_assert_uint_eq(wake, PENDING_NO_WORKER);
	ck_assert_int_eq(take(2, 8), 0);

	/* One that starts finds what is queued. */
	restart(3);
	ck_assert_int_eq(take(3, 8), 1);
	ck_assert_int_eq(join(2, 1), PENDING_GIVEN);
	ck_assert_uint_eq(wake, 3);

	/* One that has stopped takes what was its own, and no more. */
	pending_worker_stop(pending, 3);
	ck_assert_int_eq(join(3, 1), PENDING_QUEUED);
	ck_assert_int_eq(take(3, 8), 1);
	ck_assert_int_eq(join(1, 2), PENDING_JOINED);
	answer(3, hand[3].index[--hand[3].count]);
	answer(3, hand[3].index[--hand[3].count]);
	ck_assert_int_eq(take(3, 8), 0);
	ck_assert_uint_eq(count().asking, 0);
	ck_assert_uint_eq(count().queued, 1);
	ck_assert_int_eq(pending_check(pending), 0);

	/* One that is dead gets nothing until it is replaced. */
	restart(0);
	ck_assert_int_eq(take(0, 8), 1);
	pending_worker_dead(pending, 0);
	ck_assert_int_eq(join(4, 1), PENDING_QUEUED);
	restart(0);
	ck_assert_int_eq(take(0, 8), 2);
	ck_assert_int_eq(pending_check(pending), 0);
}
END_TEST

START_TEST(queue_is_first_in_first_out_and_full_above_its_size)
{
	uint32_t question, index;

	make(2, 1, 5, 1, 2);
	ck_assert_int_eq(join(1, 1), PENDING_GIVEN);
	ck_assert_int_eq(join(2, 1), PENDING_GIVEN);
	for (question = 3; question < 8; question++)
		ck_assert_int_eq(join(question, 1), PENDING_QUEUED);
	ck_assert_int_eq(join(8, 1), PENDING_FULL);
	ck_assert_uint_eq(wake, PENDING_NO_WORKER);
	ck_assert_int_eq(join(7, 2), PENDING_JOINED);
	ck_assert_uint_eq(count().queued, 5);
	ck_assert_int_eq(pending_check(pending), 0);

	index = take_one(1);
	ck_assert_uint_eq(question_of(index), 2);
	ck_assert_int_eq(take(1, 8), 0);	/* it is full itself */
	for (question = 3; question < 8; question++) {
		answer(1, index);
		index = take_one(1);
		ck_assert_uint_eq(question_of(index), question);
	}
	answer(1, index);
	ck_assert_uint_eq(replied[2], 1);
	ck_assert_int_eq(take(1, 8), 0);
	answer(0, take_one(0));
	assert_empty();
}
END_TEST

/* Each of them may have 256, but all together no more than 4,096. */
START_TEST(what_all_workers_ask_at_once_is_bounded)
{
	uint32_t q, index[256];

	make(20, 256, 8, 1, 20);
	for (q = 0; q < 4096; q++)
		ck_assert_int_eq(join(q, 1), PENDING_GIVEN);
	ck_assert_int_eq(join(q, 1), PENDING_QUEUED);
	ck_assert_int_eq(pending_check(pending), 0);
	ck_assert_int_eq(pending_take(pending, 19, 256, now, index), 0);
	ck_assert_int_eq(pending_take(pending, 0, 256, now, index), 256);
	pending_mark(pending, pending_next(pending, index[0], 0));
	ck_assert_int_eq(pending_finish(pending, 0, index[0], &more), 0);
	ck_assert(more);
	ck_assert_int_eq(pending_take(pending, 19, 256, now, index), 1);
	ck_assert_int_eq(pending_check(pending), 0);
}
END_TEST

START_TEST(take_gives_no_more_than_asked_for)
{
	uint32_t question, index[8] = { 0 };

	make(1, 4, 8, 1, 1);
	for (question = 1; question <= 8; question++)
		join(question, 1);
	ck_assert_int_eq(pending_take(pending, 0, 0, now, index), 0);
	ck_assert_int_eq(pending_take(pending, 0, 3, now, index), 3);
	ck_assert_uint_eq(index[3], 0);
	ck_assert_uint_eq(question_of(index[0]), 1);
	ck_assert_uint_eq(question_of(index[2]), 3);
	ck_assert_int_eq(pending_take(pending, 0, 8, now, index), 1);
	ck_assert_uint_eq(question_of(index[0]), 4);
	ck_assert_int_eq(pending_take(pending, 0, 8, now, index), 0);
	ck_assert_int_eq(pending_check(pending), 0);
}
END_TEST

START_TEST(question_asked_for_longest_makes_room_when_the_queue_is_full)
{
	make(2, 2, 1, 1, 2);
	ck_assert_int_eq(join(1, 1), PENDING_GIVEN);
	ck_assert_int_eq(take(0, 8), 1);
	now += 10;
	ck_assert_int_eq(join(2, 1), PENDING_GIVEN);
	ck_assert_int_eq(join(3, 1), PENDING_GIVEN);
	ck_assert_int_eq(take(1, 8), 1);
	now += 10;
	ck_assert_int_eq(take(0, 8), 1);
	ck_assert_int_eq(join(4, 1), PENDING_GIVEN);	/* never taken */
	ck_assert_int_eq(join(5, 1), PENDING_QUEUED);

	/* Nobody has had a second yet. */
	now += PATIENCE_MS - 21;
	ck_assert_int_eq(join(6, 1), PENDING_FULL);
	ck_assert(!pending_must_end(pending, hand[0].index[0]));

	/* Then the oldest goes, for one other; and then the next. */
	now += 2;
	ck_assert_int_eq(join(6, 1), PENDING_QUEUED);
	ck_assert_uint_eq(wake, 0);
	ck_assert(pending_must_end(pending, hand[0].index[0]));
	ck_assert(!pending_must_end(pending, hand[1].index[0]));
	ck_assert_int_eq(join(7, 1), PENDING_FULL);
	now += 10;
	ck_assert_int_eq(join(7, 1), PENDING_QUEUED);
	ck_assert_uint_eq(wake, 1);
	ck_assert(pending_must_end(pending, hand[1].index[0]));
	ck_assert(!pending_must_end(pending, hand[0].index[1]));
	ck_assert_int_eq(join(8, 1), PENDING_FULL);
	ck_assert_int_eq(pending_check(pending), 0);

	/* Whoever has given way is answered, and its place is used. */
	answer(0, hand[0].index[0]);
	ck_assert_uint_eq(question_of(take_one(0)), 5);
	ck_assert(!pending_must_end(pending, hand[0].index[1]));
	ck_assert_int_eq(pending_check(pending), 0);
}
END_TEST

START_TEST(worker_that_is_replaced_gets_its_questions_again)
{
	uint32_t client, question, at;

	make(2, 8, 8, 1, 1);
	for (question = 1; question <= 4; question++) {
		for (client = 0; client < 5; client++)
			join(question, question * 10 + client);
		if (question == 3)
			ck_assert_int_eq(take(0, 8), 3);
	}
	/* One client of question 2 has its reply already. */
	at = pending_next(pending, hand[0].index[1], 0);
	replied[client_of(at)]++;
	pending_mark(pending, at);

	restart(0);
	ck_assert_int_eq(pending_check(pending), 0);
	ck_assert_uint_eq(count().asking, 4);
	ck_assert_int_eq(join(1, 15), PENDING_JOINED);
	ck_assert_int_eq(join(9, 90), PENDING_GIVEN);
	drain();
	for (question = 1; question <= 4; question++) {
		for (client = 0; client < 5; client++)
			ck_assert_uint_eq(replied[question * 10 + client], 1);
	}
	ck_assert_uint_eq(replied[15], 1);
	ck_assert_uint_eq(replied[90], 1);
	assert_empty();
}
END_TEST

START_TEST(replaced_worker_takes_nothing_from_others)
{
	make(3, 2, 8, 3, 3);
	join(1, 1);
	join(2, 2);
	ck_assert_int_eq(take(0, 8), 1);
	ck_assert_int_eq(take(1, 8), 1);
	restart(2);
	ck_assert_int_eq(take(2, 8), 0);
	restart(1);
	ck_assert_int_eq(take(0, 8), 0);
	ck_assert_int_eq(take(1, 8), 1);
	ck_assert_uint_eq(question_of(hand[1].index[0]), 2);
	ck_assert_int_eq(pending_check(pending), 0);
}
END_TEST

START_TEST(one_question_cannot_use_up_all_places)
{
	enum pending_result result = PENDING_GIVEN;
	uint32_t client, at;

	make(1, 2, 8, 1, 1);
	for (client = 0; client < 100000; client++) {
		result = join(1, client);
		if (result == PENDING_FULL)
			break;
	}
	ck_assert_int_eq(result, PENDING_FULL);
	ck_assert_uint_ge(client, 512);
	ck_assert_uint_eq(count().waiters, client);
	ck_assert_int_eq(pending_check(pending), 0);
	ck_assert_int_eq(join(2, 1), PENDING_GIVEN);
	ck_assert_int_eq(join(2, 2), PENDING_JOINED);
	ck_assert_int_eq(take(0, 2), 2);
	for (at = pending_next(pending, hand[0].index[0], 0); at != 0;
	    at = pending_next(pending, hand[0].index[0], at))
		pending_mark(pending, at);
	ck_assert_int_eq(pending_finish(pending, 0, hand[0].index[0],
	    &more), 0);
	answer(0, hand[0].index[1]);
	assert_empty();
}
END_TEST

START_TEST(all_places_can_be_used_again_and_again)
{
	uint32_t round, question;

	make(4, 4, 10, 2, 4);
	for (round = 0; round < 50; round++) {
		for (question = 0; question < 16; question++)
			ck_assert(join(question, round) == PENDING_GIVEN);
		for (; question < 26; question++)
			ck_assert(join(question, round) == PENDING_QUEUED);
		ck_assert(join(question, round) == PENDING_FULL);
		ck_assert_int_eq(pending_check(pending), 0);
		drain();
		ck_assert_uint_eq(replied[round], 26);
		assert_empty();
	}
}
END_TEST

/*
 * The model: what is known of each question, by its number.
 */
#define MODEL_QUESTIONS	30
#define MODEL_CLIENTS	40

struct model {
	enum state	 state;
	uint32_t	 worker;
	uint32_t	 index;		/* while ASKING */
	uint64_t	 listed;	/* when it came to its list, ms */
	bool		 must_end;
	bool		 again;		/* its worker was told once */
	uint8_t		 waits[MODEL_CLIENTS];	/* 1; 2 has its reply */
};

static struct model model[MODEL_QUESTIONS];
static bool model_ready[WORKERS_MAX];

static uint32_t
model_count(int state, uint32_t worker)
{
	uint32_t q, n = 0;

	for (q = 0; q < MODEL_QUESTIONS; q++)
		n += model[q].state == (unsigned)state &&
		    (state == QUEUED || model[q].worker == worker);
	return (n);
}

static uint32_t
model_load(uint32_t worker)
{
	return (model_count(GIVEN, worker) + model_count(ASKING, worker));
}

/* Who must be chosen for a new question. */
static uint32_t
model_choice(void)
{
	uint32_t best = PENDING_NO_WORKER, w;

	for (w = 0; w < limits.workers; w++) {
		if (!model_ready[w] || model_load(w) >= limits.per_worker)
			continue;
		if (best == PENDING_NO_WORKER || (w < limits.preferred &&
		    model_load(w) < model_load(best)))
			best = w;
	}
	return (best);
}

/*
 * Has the question asked for longest been told to end?  Where some have been
 * asked for equally long it is any of them.  NULL: none has had its time.
 */
static struct model *
model_gives_way(void)
{
	struct model *oldest = NULL, *m;

	for (m = model; m < model + MODEL_QUESTIONS; m++) {
		if (m->state != ASKING || m->must_end ||
		    m->listed + PATIENCE_MS > now)
			continue;
		if (oldest == NULL || m->listed < oldest->listed ||
		    (m->listed == oldest->listed &&
		    pending_must_end(pending, m->index)))
			oldest = m;
	}
	if (oldest != NULL && !pending_must_end(pending, oldest->index))
		ck_abort_msg("the oldest question was not told to end");
	return (oldest);
}

static void
model_join(uint32_t question, uint32_t client)
{
	struct model *m = &model[question], *oldest;
	enum pending_result is = join(question, client), want;
	uint32_t want_wake = PENDING_NO_WORKER, worker;

	if (m->state != FREE) {
		want = m->waits[client] != 0 ? PENDING_DUPLICATE :
		    PENDING_JOINED;
		if (want == PENDING_JOINED)
			m->waits[client] = 1;
		else if (m->state == ASKING && !m->again &&
		    now >= m->listed + AGAIN_MS) {
			m->again = true;
			want_wake = m->worker;
		}
	} else if ((worker = model_choice()) != PENDING_NO_WORKER) {
		want = PENDING_GIVEN;
		if (model_count(GIVEN, worker) == 0)
			want_wake = worker;
		*m = (struct model){ .state = GIVEN, .worker = worker,
		    .listed = now };
		m->waits[client] = 1;
	} else {
		want = PENDING_QUEUED;
		if (model_count(QUEUED, 0) >= limits.queue) {
			if ((oldest = model_gives_way()) == NULL)
				want = PENDING_FULL;
			else {
				oldest->must_end = true;
				want_wake = oldest->worker;
			}
		}
		if (want == PENDING_QUEUED) {
			*m = (struct model){ .state = QUEUED, .listed = now };
			m->waits[client] = 1;
		}
	}
	if (is != want || wake != want_wake)
		ck_abort_msg("join is %d, wake %u, not %d, %u", is, wake,
		    want, want_wake);
}

/* The first of a list: any of those that came to it first. */
static uint64_t
model_first(int state, uint32_t worker)
{
	uint64_t first = UINT64_MAX;
	uint32_t q;

	for (q = 0; q < MODEL_QUESTIONS; q++) {
		if (model[q].state == (unsigned)state &&
		    (state == QUEUED || model[q].worker == worker) &&
		    model[q].listed < first)
			first = model[q].listed;
	}
	return (first);
}

static void
model_take(uint32_t worker, uint32_t max)
{
	uint32_t given = model_count(GIVEN, worker), want, room, question;
	uint32_t index[HAND_MAX];
	struct model *m;
	int state, n, i;

	want = given < max ? given : max;
	if (model_ready[worker]) {
		room = limits.per_worker - model_load(worker);
		if (room > max - want)
			room = max - want;
		if (room > model_count(QUEUED, 0))
			room = model_count(QUEUED, 0);
		want += room;
	}
	n = pending_take(pending, worker, max, now, index);
	if (n < 0 || (uint32_t)n != want)
		ck_abort_msg("worker %u takes %d, not %u", worker, n, want);
	for (i = 0; i < n; i++) {
		question = question_of(index[i]);
		ck_assert(question < MODEL_QUESTIONS);
		m = &model[question];
		state = (uint32_t)i < given ? GIVEN : QUEUED;
		if (m->state != (unsigned)state ||
		    (state == GIVEN && m->worker != worker) ||
		    m->listed != model_first(state, worker))
			ck_abort_msg("worker %u takes question %u out of turn",
			    worker, question);
		m->state = ASKING;
		m->worker = worker;
		m->index = index[i];
		m->listed = now;
		m->again = false;
	}
}

/* Reply to some of those who wait for a question, or to all, and finish. */
static void
model_reply(struct model *m, bool all)
{
	bool missed = false;
	uint32_t at, client, q;

	for (at = pending_next(pending, m->index, 0); at != 0;
	    at = pending_next(pending, m->index, at)) {
		client = client_of(at);
		if (client >= MODEL_CLIENTS || m->waits[client] != 1)
			ck_abort_msg("client %u does not wait", client);
		if (all || random_below(2) == 0) {
			pending_mark(pending, at);
			m->waits[client] = 2;
		}
	}
	if (pending_must_end(pending, m->index) != m->must_end)
		ck_abort_msg("must_end is not %d", m->must_end);
	for (client = 0; client < MODEL_CLIENTS; client++)
		missed |= m->waits[client] == 1;
	if (pending_finish(pending, m->worker, m->index, &more) != missed)
		ck_abort_msg("finish is not %d", missed);
	if (more != (model_count(GIVEN, m->worker) +
	    model_count(QUEUED, 0) > 0))
		ck_abort_msg("finish says %d of more to take", more);
	if (!missed) {
		q = m - model;
		model[q] = (struct model){ .state = FREE };
	}
}

static void
model_restart(uint32_t worker)
{
	uint32_t q;

	ck_assert(pending_worker_start(pending, worker) == 0);
	for (q = 0; q < MODEL_QUESTIONS; q++) {
		if (model[q].state == ASKING && model[q].worker == worker) {
			model[q].state = GIVEN;
			model[q].must_end = false;
		}
	}
	model_ready[worker] = true;
}

/* Join for a name that is unlike all others but for its zone. */
static enum pending_result
join_name(uint32_t number, const char *zone)
{
	struct pending_waiter waiter = waiter_make(number);
	uint8_t key[PENDING_KEY_MAX];
	size_t zone_len = strlen(zone);
	_Atomic uint32_t ring;

	key[0] = 4;
	memcpy(key + 1, &number, 4);
	key[5] = zone_len;
	memcpy(key + 6, zone, zone_len);
	memcpy(key + 6 + zone_len, "\007example\0\0\1\0", 12);
	return (pending_join(pending, mix(number), key, 18 + zone_len,
	    &waiter, now, &ring));
}

START_TEST(one_suffix_takes_no_more_than_its_share_of_full_workers)
{
	uint32_t i;

	make(10, 32, 100, 2, 10);
	/* As long as there is room it may have it all. */
	for (i = 0; i < 320; i++)
		ck_assert_int_eq(join_name(i, "victim"), PENDING_GIVEN);
	ck_assert_int_eq(join_name(1000, "victim"), PENDING_CROWDED);
	ck_assert_int_eq(join_name(1001, "others"), PENDING_QUEUED);
	ck_assert_int_eq(pending_check(pending), 0);
	/* Who asks what is pending already is no new question. */
	ck_assert_int_eq(join_name(0, "victim"), PENDING_DUPLICATE);
}
END_TEST

START_TEST(random_operations_agree_with_a_model)
{
	unsigned operations, gave_way = 0, asking, queued, waiters;
	uint32_t dice, worker, q, c;

	make(4, 3, 5, 2, 0);
	for (operations = 0; operations < 100000; operations++) {
		now += random_below(4) == 0 ? random_below(80) : 1;
		worker = random_below(4);
		q = random_below(MODEL_QUESTIONS);
		dice = random_below(100);
		if (dice < 1)
			model_restart(worker);
		else if (dice < 2) {
			pending_worker_stop(pending, worker);
			model_ready[worker] = false;
		} else if (dice < 25)
			model_take(worker, random_below(6));
		else if (dice < 40) {
			if (model[q].state == ASKING)
				model_reply(&model[q], random_below(4) != 0);
		} else {
			model_join(q, random_below(MODEL_CLIENTS));
			gave_way += wake != PENDING_NO_WORKER &&
			    model[q].state == QUEUED;
		}
		if (operations % 50 != 0)
			continue;
		ck_assert_int_eq(pending_check(pending), 0);
		asking = queued = waiters = 0;
		for (q = 0; q < MODEL_QUESTIONS; q++) {
			queued += model[q].state == QUEUED;
			asking += model[q].state == GIVEN ||
			    model[q].state == ASKING;
			for (c = 0; c < MODEL_CLIENTS; c++)
				waiters += model[q].waits[c] != 0;
		}
		ck_assert_uint_eq(count().asking, asking);
		ck_assert_uint_eq(count().queued, queued);
		ck_assert_uint_eq(count().waiters, waiters);
	}
	ck_assert_uint_gt(gave_way, 0);
	ck_assert_uint_eq(count().rebuilds, 0);
}
END_TEST

/*
 * Acts.  Two workers of which 1 is the one that acts; clients 1 to 99 have
 * joined before, client 100 is the one that acts.
 */
#define ACTOR_WORKER	1
#define ACTOR_CLIENT	100

static uint8_t act_key[PENDING_KEY_MAX];
static size_t act_key_len;
static uint64_t act_hash;
static struct pending_waiter act_waiter;

static void
prepare(uint32_t question)
{
	act_key_len = key_make(act_key, question);
	act_hash = mix(question);
	act_waiter = waiter_make(ACTOR_CLIENT);
}

/*
 * Five questions of the two workers, with two clients each: 1 and 3 taken by
 * worker 0, 2 taken by worker 1, who has replied to both, 4 taken by worker 1,
 * who has replied to one, 5 given to worker 0; and 6 to 8, queued.
 */
static void
stage(void)
{
	uint32_t question, at;

	now = 5000;
	make(2, 3, 4, 2, 2);
	for (question = 1; question <= 4; question++) {
		now++;
		ck_assert_int_eq(join(question, 2 * question), PENDING_GIVEN);
		join(question, 2 * question + 1);
	}
	ck_assert_int_eq(take(0, 3), 2);
	ck_assert_int_eq(take(1, 3), 2);
	bell[0] = bell[1] = false;
	ck_assert_int_eq(join(5, 10), PENDING_GIVEN);
	ck_assert_uint_eq(wake, 0);
	join(5, 11);
	while ((at = pending_next(pending, hand[1].index[0], 0)) != 0) {
		replied[client_of(at)]++;
		pending_mark(pending, at);
	}
	at = pending_next(pending, hand[1].index[1], 0);
	replied[client_of(at)]++;
	pending_mark(pending, at);
	prepare(NEW_QUESTION);
}

/*
 * Worker 0 has two in hand, worker 1 none: it will look for the next one only
 * if it is rung.
 */
static void
stage_idle(void)
{
	now = 5000;
	make(2, 3, 4, 2, 1);
	ck_assert_int_eq(join(1, 1), PENDING_GIVEN);
	ck_assert_int_eq(join(2, 2), PENDING_GIVEN);
	ck_assert_int_eq(take(0, 3), 2);
	bell[0] = false;
	ck_assert_int_eq(pending_worker_start(pending, 1), 0);
	prepare(NEW_QUESTION);
}

/* Both workers full, and three queued. */
static void
stage_full(void)
{
	uint32_t question;

	stage();
	ck_assert_int_eq(join(12, 12), PENDING_GIVEN);
	bell[1] = false;
	ck_assert_int_eq(take(1, 1), 1);
	for (question = 6; question <= 8; question++) {
		now++;
		ck_assert_int_eq(join(question, 2 * question + 1),
		    PENDING_QUEUED);
	}
}

/* The queue as well; but question 1 has been asked for long enough. */
static void
stage_to_give_way(void)
{
	stage_full();
	ck_assert_int_eq(join(20, 20), PENDING_QUEUED);
	now += PATIENCE_MS;
}

/* Worker 1 has finished question 2, and three are queued. */
static void
stage_take(void)
{
	stage_full();
	answer(1, hand[1].index[0]);
	hand[1].index[0] = hand[1].index[--hand[1].count];
}

static void
stage_take_given(void)
{
	stage();
	ck_assert_int_eq(join(12, 12), PENDING_GIVEN);
	ck_assert_uint_eq(wake, 1);
	bell[1] = false;		/* it looks now, in the act */
}

static void
stage_join(void)
{
	stage();
	prepare(4);
}

static void
act_join(void)
{
	told->result = pending_join(pending, act_hash, act_key, act_key_len,
	    &act_waiter, now, &told->wake);
}

static void
act_take(void)
{
	uint32_t index[HAND_MAX];

	told->result = pending_take(pending, ACTOR_WORKER, 8, now, index);
}

static void
act_finish(void)
{
	told->result = pending_finish(pending, ACTOR_WORKER,
	    hand[ACTOR_WORKER].index[0],
	    &more);
}

static void
act_start(void)
{
	told->result = pending_worker_start(pending, ACTOR_WORKER);
}

static void
act_stop(void)
{
	pending_worker_stop(pending, ACTOR_WORKER);
	told->result = 0;
}

/*
 * The actor died.  Its successor settles its debts, and somebody else goes on
 * before or after that.  In the end everybody who waits has one reply, and
 * nothing was asked that nobody waited for.  Returns if the table had to be
 * rebuilt.
 */
static bool
settle(int after, unsigned was_worker)
{
	uint32_t c;

	ring(&first_wake);
	if (after % 3 == 0)
		ck_assert_int_ne(join(30, 30), PENDING_BUSY);
	if (was_worker)
		restart(ACTOR_WORKER);
	else
		ring(&told->wake);
	if (after % 3 == 1)
		ck_assert_int_ne(join(30, 30), PENDING_BUSY);
	else if (after % 3 == 2) {
		bell[0] = false;
		take(0, HAND_MAX);
	}
	ck_assert_msg(pending_check(pending) == 0,
	    "rule %d is broken by a death at instruction %d",
	    pending_check(pending), after);
	drain();
	for (c = 0; c < ACTOR_CLIENT; c++) {
		if (replied[c] != joined[c])
			ck_abort_msg("client %u has %u replies after a death "
			    "at instruction %d", c, replied[c], after);
	}
	ck_assert_uint_le(replied[ACTOR_CLIENT], 1);
	ck_assert_msg(new_answered == 0 || replied[ACTOR_CLIENT] == 1,
	    "a question is asked for nobody after a death at instruction %d",
	    after);
	if (!was_worker && told->result >= 0 &&
	    told->result <= PENDING_JOINED)
		ck_assert_uint_eq(replied[ACTOR_CLIENT], 1);
	assert_empty();
	ck_assert_int_eq(join(31, 31), PENDING_GIVEN);
	drain();
	ck_assert_uint_eq(replied[31], 1);
	return (count().rebuilds != 0);
}

/* Before an act: the table, and what its processes know themselves. */
static struct {
	void		*table;
	bool		 bell[WORKERS_MAX];
	struct hand	 hand[WORKERS_MAX];
	unsigned	 replied[CLIENTS_MAX];
	bool		 joined[CLIENTS_MAX];
	uint64_t	 now;
} saved;

static void
save(void)
{
	int fd;

	saved.table = segment_map(pending_bytes, &fd);
	ck_assert_ptr_nonnull(saved.table);
	close(fd);
	memcpy(saved.table, pending, pending_bytes);
	memcpy(saved.bell, bell, sizeof(bell));
	memcpy(saved.hand, hand, sizeof(hand));
	memcpy(saved.replied, replied, sizeof(replied));
	memcpy(saved.joined, joined, sizeof(joined));
	saved.now = now;
}

static void
restore(void)
{
	memcpy(pending, saved.table, pending_bytes);
	memcpy(bell, saved.bell, sizeof(bell));
	memcpy(hand, saved.hand, sizeof(hand));
	memcpy(replied, saved.replied, sizeof(replied));
	memcpy(joined, saved.joined, sizeof(joined));
	now = saved.now;
	new_answered = 0;
	told->wake = PENDING_NO_WORKER;
	told->result = NO_RESULT;
}

/*
 * Let an actor die after each instruction of an act.  Some of the deaths are
 * amid the change, some are not.  want is what the act returns when nobody
 * dies.
 */
static void
die_at_every_instruction(const char *what, void (*stage_act)(void),
    void (*act)(void), bool was_worker, int want)
{
	struct step_deaths deaths = { .what = what, .stage = stage_act,
	    .save = save, .restore = restore, .act = act, .settle = settle,
	    .arg = was_worker };

	if (!step_each(&deaths))
		return;
	ck_assert_int_eq(told->result, want);
	ck_assert_int_gt(deaths.whole, 0);
	ck_assert_int_gt(deaths.rebuilt, 0);
}

START_TEST(death_in_a_join_of_a_new_question_loses_no_one)
{
	die_at_every_instruction("check_pending: join",
	    stage, act_join, false, PENDING_GIVEN);
}
END_TEST

/* Whoever rings for the dead one, or comes after it: the worker hears of it. */
START_TEST(death_in_a_join_does_not_leave_a_worker_asleep)
{
	die_at_every_instruction("check_pending: join that wakes",
	    stage_idle, act_join, false, PENDING_GIVEN);
}
END_TEST

START_TEST(death_in_a_join_of_the_queue_loses_no_one)
{
	die_at_every_instruction("check_pending: join of the queue",
	    stage_full, act_join, false, PENDING_QUEUED);
}
END_TEST

START_TEST(death_in_a_join_that_another_gives_way_to_loses_no_one)
{
	die_at_every_instruction("check_pending: join in another's place",
	    stage_to_give_way, act_join, false, PENDING_QUEUED);
}
END_TEST

START_TEST(death_in_a_join_of_a_pending_question_loses_no_one)
{
	die_at_every_instruction("check_pending: join of a pending question",
	    stage_join, act_join, false, PENDING_JOINED);
}
END_TEST

START_TEST(death_in_a_take_loses_no_one)
{
	die_at_every_instruction("check_pending: take from the queue",
	    stage_take, act_take, true, 1);
	die_at_every_instruction("check_pending: take of a given question",
	    stage_take_given, act_take, true, 1);
}
END_TEST

START_TEST(death_in_a_finish_loses_no_one)
{
	die_at_every_instruction("check_pending: finish",
	    stage, act_finish, true, 0);
}
END_TEST

START_TEST(death_in_a_start_loses_no_one)
{
	die_at_every_instruction("check_pending: start",
	    stage_full, act_start, true, 0);
}
END_TEST

/*
 * Find out where a join can die so that the table has to be rebuilt.  False:
 * no process can be stepped here.
 */
static bool
find_death(void)
{
	stage_full();
	save();
	if (!step_record(&last_join, act_join, "check_pending: rebuilding"))
		return (false);
	for (death = 50; death < last_join.total; death += 25) {
		restore();
		step_kill(step_stop(&last_join, death));
		ck_assert_int_eq(take(0, 0), 0);
		if (count().rebuilds != 0)
			return (true);
	}
	ck_abort_msg("no death makes the table be rebuilt");
	return (false);
}

/* What a join leaves that died there. */
static void
stage_broken(void)
{
	stage_full();
	told->wake = PENDING_NO_WORKER;
	step_kill(step_stop(&last_join, death));
	first_wake = told->wake;
}

/* Let joins die till one has died amid a change, and the table be rebuilt. */
static void
break_table(void)
{
	struct step step;
	int after;

	save();
	ck_assert(step_record(&step, act_join, "check_pending: rebuilding"));
	for (after = 50; count().rebuilds == 0; after += 10) {
		restore();
		ck_assert_int_lt(after, step.total);
		step_kill(step_stop(&step, after));
		ck_assert_int_eq(take(0, 0), 0);
	}
	ck_assert_int_eq(pending_check(pending), 0);
	step_forget(&step);
}

/*
 * The rebuild is the same whoever makes it: one dies after every instruction
 * of it and of what comes next, the others at a stride.
 */
START_TEST(death_of_a_recoverer_loses_no_one)
{
	struct step_deaths rows[] = {
		{ .what = "check_pending: rebuild in a join",
		    .act = act_join },
		{ .what = "check_pending: rebuild in a take",
		    .act = act_take, .arg = true },
		{ .what = "check_pending: rebuild in a finish",
		    .act = act_finish, .arg = true },
		{ .what = "check_pending: rebuild in a start",
		    .act = act_start, .arg = true },
		{ .what = "check_pending: rebuild in a stop",
		    .act = act_stop, .arg = true }
	};
	size_t i;

	if (!find_death())
		return;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		rows[i].stage = stage_broken;
		rows[i].save = save;
		rows[i].restore = restore;
		rows[i].settle = settle;
		rows[i].stride = i == 0 ? 1 : STRIDE;
		ck_assert(step_each(&rows[i]));
		ck_assert_int_eq(rows[i].whole, 0);
	}
}
END_TEST

/*
 * A worker that looks for its questions while another process rebuilds the
 * table may be told that the table is busy, but never that there are none: it
 * would go to sleep, and nobody would ring it again.
 */
START_TEST(take_is_not_deceived_by_a_rebuild)
{
	int after, n = 0, busy = 0;
	struct step rebuild;
	uint32_t index[8];
	pid_t pid = -1;

	if (!find_death())
		return;
	stage_broken();
	save();
	ck_assert(step_record(&rebuild, act_join, "check_pending: rebuild"));
	/* Go to where the rebuilder has the lock. */
	for (after = 50; n != -1; after += 10) {
		if (pid != -1)
			step_kill(pid);
		restore();
		pid = step_stop(&rebuild, after);
		n = pending_take(pending, 0, 8, now, index);
		ck_assert_int_ne(n, 0);
	}
	/* And on, to where it has dropped it. */
	for (; n == -1; busy++) {
		step_on(pid, 40);
		n = pending_take(pending, 0, 8, now, index);
	}
	step_kill(pid);
	step_forget(&rebuild);
	ck_assert_int_gt(busy, 3);
	ck_assert_msg(n == 1, "the rebuild hides a question: %d", n);
}
END_TEST

/* Let a process die that holds the lock and has changed nothing. */
static void
die_with_lock(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		pending_lock_table(pending, 1);
		raise(SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
}

/* Whoever walks it is killed; then it is whole, and all is there. */
START_TEST(chain_that_goes_round_costs_one_process)
{
	uint32_t index, n;
	pid_t pid;

	make(1, 8, 8, 1, 1);
	ck_assert_int_eq(join(1, 1), PENDING_GIVEN);
	ck_assert_int_eq(join(2, 2), PENDING_GIVEN);
	for (index = 1; index <= 2; index++)
		entry_at(pending, index)->chain = index;
	pid = fork();
	if (pid == 0) {
		/* Of the same bucket as an other, in the end. */
		for (index = 3; ; index++)
			join_as(index, index, &told->wake);
	}
	/* It stands still in there when the lock is held for long. */
	for (n = 0; n < 10; n++)
		n = join_as(100, 100, &wake) == PENDING_BUSY ? n : 0;
	step_kill(pid);
	ck_assert_int_ne(join_as(100, 100, &wake), PENDING_BUSY);
	ck_assert_uint_eq(count().rebuilds, 1);
	ck_assert_int_eq(pending_check(pending), 0);
	ck_assert_int_eq(join(1, 1), PENDING_DUPLICATE);
	ck_assert_int_eq(join(2, 2), PENDING_DUPLICATE);
}
END_TEST

START_TEST(whatever_links_and_counts_are_the_states_tell_all)
{
	uint32_t n, i, *word;
	int round;

	for (round = 0; round < 200; round++) {
		make(3, 8, 20, 1, 3);
		for (n = 0; n < 40; n++)
			join(n % 30, n + 1);
		take(0, 5);
		/* All behind the lock, and the links of entries and nodes. */
		for (i = 0; i < 30; i++) {
			word = (uint32_t *)&pending->queue;
			word[random_below((SUFFIXES * sizeof(uint32_t) +
			    (uintptr_t)pending->suffixes -
			    (uintptr_t)word) / sizeof(uint32_t))] =
			    mix(round * 1000 + i);
			pending->bucket[random_below(pending->buckets)] =
			    random_below(50);
			entry_at(pending, 1 + random_below(30))->chain =
			    random_below(50);
			entry_at(pending, 1 + random_below(30))->next =
			    random_below(50);
			entry_at(pending, 1 + random_below(30))->prev =
			    mix(i);
			node_at(pending, 1 + random_below(40))->next =
			    random_below(50);
		}
		pending->entries_fresh = pending->entries + round % 2;
		die_with_lock();
		ck_assert_int_ne(join(99, 99), PENDING_BUSY);
		ck_assert_int_eq(pending_check(pending), 0);
		drain();
		ck_assert_int_eq(pending_check(pending), 0);
	}
}
END_TEST

START_TEST(entries_that_make_no_sense_are_freed)
{
	struct pending_entry *entry;
	uint32_t n;

	make(2, 8, 8, 1, 2);
	for (n = 1; n <= 6; n++)
		ck_assert_int_eq(join(n, n), PENDING_GIVEN);
	for (n = 1; n <= 4; n++) {
		entry = entry_at(pending, n);
		if (n == 1)
			entry->word |= 0x77;
		else if (n == 2)
			entry->word |= (uint64_t)9999 << 8;
		else if (n == 3)
			entry->suffix = 1 << 30;
		else
			entry->key_len = 1 << 30;
	}
	die_with_lock();
	ck_assert_int_eq(join(5, 5), PENDING_DUPLICATE);
	ck_assert_int_eq(pending_check(pending), 0);
	ck_assert_uint_eq(count().asking, 2);
	ck_assert_int_eq(join(1, 1), PENDING_GIVEN);
}
END_TEST

START_TEST(queue_keeps_its_order_over_a_rebuild)
{
	uint32_t question, i;

	if (!find_death())
		return;
	/* Free the places of eight questions in another order. */
	make(1, 8, 16, 1, 1);
	for (i = 0; i < 8; i++)
		join(i, 1);
	ck_assert_int_eq(take(0, 8), 8);
	for (i = 0; i < 8; i++)
		answer(0, hand[0].index[i * 3 % 8]);
	hand[0].count = 0;
	pending_worker_stop(pending, 0);
	for (question = 1; question <= 8; question++) {
		now++;
		ck_assert_int_eq(join(question, 2), PENDING_QUEUED);
	}
	now++;
	prepare(9);
	break_table();
	restart(0);
	ck_assert_int_eq(take(0, 8), 8);
	for (i = 0; i < 8; i++)
		ck_assert_uint_eq(question_of(hand[0].index[i]), i + 1);
}
END_TEST

START_TEST(oldest_still_gives_way_after_a_rebuild)
{
	uint32_t i;

	if (!find_death())
		return;
	make(1, 8, 0, 1, 1);
	for (i = 0; i < 8; i++)
		join(i, 1);
	ck_assert_int_eq(take(0, 8), 8);
	for (i = 0; i < 7; i++)
		answer(0, hand[0].index[i * 3 % 8]);
	hand[0].count = 0;
	for (i = 10; i < 17; i++) {	/* the freed places, the other way */
		now += 10;
		ck_assert_int_eq(join(i, 1), PENDING_GIVEN);
		ck_assert_int_eq(take(0, 1), 1);
	}
	prepare(10);			/* one that is being asked */
	break_table();
	now += PATIENCE_MS - 60;	/* enough for two of the eight */
	ck_assert_int_eq(join(20, 1), PENDING_QUEUED);
	ck_assert_int_eq(join(21, 1), PENDING_QUEUED);
	ck_assert_int_eq(join(22, 1), PENDING_FULL);
	ck_assert(pending_must_end(pending, hand[0].index[0]));
	ck_assert(!pending_must_end(pending, hand[0].index[1]));
}
END_TEST

START_TEST(stopped_owner_makes_the_table_busy_and_no_more)
{
	uint32_t index[8];
	pid_t pid;

	if (!find_death())
		return;
	restore();
	pid = step_stop(&last_join, death);
	ck_assert_int_eq(join(40, 40), PENDING_BUSY);
	ck_assert_uint_eq(wake, PENDING_NO_WORKER);
	ck_assert_int_eq(pending_take(pending, 0, 8, now, index), -1);
	ck_assert_int_eq(pending_finish(pending, 1, hand[1].index[0],
	    &more), -1);
	ck_assert_int_eq(pending_worker_start(pending, 1), -1);
	ck_assert_uint_eq(count().asking, 6);
	step_kill(pid);
	settle(0, false);
	ck_assert_uint_eq(count().rebuilds, 1);
}
END_TEST

/*
 * The storm.  Listeners ask at random, each client one question; workers reply
 * at once.  What a process tells of itself is written before it acts on it.
 */
struct storm {
	_Atomic uint32_t	 bell[STORM_WORKERS];
	_Atomic uint32_t	 wake[STORM_LISTENERS];
	_Atomic uint32_t	 next[STORM_LISTENERS];	/* client */
	_Atomic uint32_t	 wrong;
	_Atomic uint8_t		 question[STORM_LISTENERS * STORM_CLIENTS];
	_Atomic bool		 joined[STORM_LISTENERS * STORM_CLIENTS];
	_Atomic bool		 replied[STORM_LISTENERS * STORM_CLIENTS];
};

static struct storm *storm;

static void
storm_ring(uint32_t listener)
{
	if (storm->wake[listener] < STORM_WORKERS)
		storm->bell[storm->wake[listener]] = 1;
	storm->wake[listener] = PENDING_NO_WORKER;
}

static void
storm_listener(uint32_t listener)
{
	enum pending_result result;
	uint32_t client, question;

	storm_ring(listener);
	while (storm->next[listener] < STORM_CLIENTS) {
		client = storm->next[listener]++;
		client += listener * STORM_CLIENTS;
		question = random_below(STORM_NAMES);
		storm->question[client] = question;
		now = clock_ms();
		result = join_as(question, client, &storm->wake[listener]);
		if (result == PENDING_GIVEN || result == PENDING_QUEUED ||
		    result == PENDING_JOINED)
			storm->joined[client] = true;
		else if (result == PENDING_DUPLICATE)
			storm->wrong++;
		else
			sched_yield();
		storm_ring(listener);
	}
	for (;;)
		pause();
}

/* Reply to all; false if the table is busy. */
static bool
storm_answer(uint32_t worker, uint32_t index)
{
	uint32_t at, client;
	int left;

	do {
		for (at = pending_next(pending, index, 0); at != 0;
		    at = pending_next(pending, index, at)) {
			client = client_of(at);
			if (client >= STORM_LISTENERS * STORM_CLIENTS ||
			    storm->question[client] != question_of(index))
				storm->wrong++;
			else
				storm->replied[client] = true;
			pending_mark(pending, at);
		}
		left = pending_finish(pending, worker, index, &more);
	} while (left == 1);
	return (left == 0);
}

static void
storm_worker(uint32_t worker)
{
	const struct timespec nap = { .tv_nsec = 50000 };
	struct hand *h = &hand[worker];
	int n;

	h->count = 0;
	while (pending_worker_start(pending, worker) == -1)
		;
	storm->bell[worker] = 1;
	for (;;) {
		if (h->count > 0) {
			if (storm_answer(worker, h->index[h->count - 1])) {
				h->count--;
				storm->bell[worker] = 1;
			}
		}
		if (atomic_exchange(&storm->bell[worker], 0)) {
			n = pending_take(pending, worker,
			    limits.per_worker - h->count, clock_ms(),
			    h->index + h->count);
			if (n == -1)
				storm->bell[worker] = 1;
			else
				h->count += n;
		} else if (h->count == 0)
			nanosleep(&nap, NULL);
	}
}

/* Listeners come first, as the slots of the daemon do. */
static pid_t
storm_start(uint32_t slot, uint64_t seed)
{
	pid_t pid = fork();

	ck_assert_int_ne(pid, -1);
	if (pid != 0)
		return (pid);
	random_state = mix(seed);
	if (slot < STORM_LISTENERS)
		storm_listener(slot);
	storm_worker(slot - STORM_LISTENERS);
	_exit(0);
}

START_TEST(storm_of_kills_loses_no_one)
{
	uint32_t i, kills, replies = 0, lost = 0;
	pid_t pid[STORM_LISTENERS + STORM_WORKERS];
	uint64_t deadline = clock_ms() + STORM_MS;
	struct timespec nap = { .tv_sec = 0 };
	int fd;

	make(STORM_WORKERS, 4, 16, 2, 0);
	storm = segment_map(sizeof(*storm), &fd);
	ck_assert_ptr_nonnull(storm);
	for (i = 0; i < STORM_LISTENERS; i++)
		storm->wake[i] = PENDING_NO_WORKER;
	fflush(NULL);
	for (i = 0; i < STORM_LISTENERS + STORM_WORKERS; i++)
		pid[i] = storm_start(i, i);
	for (kills = 0; kills < STORM_KILLS_MIN || (kills < STORM_KILLS &&
	    clock_ms() < deadline); kills++) {
		nap.tv_nsec = random_below(3000000);
		nanosleep(&nap, NULL);
		i = random_below(STORM_LISTENERS + STORM_WORKERS);
		step_kill(pid[i]);
		if (i >= STORM_LISTENERS)
			pending_worker_dead(pending, i - STORM_LISTENERS);
		pid[i] = storm_start(i, 100 + kills);
	}

	/* The listeners go, and ring a last time; all must be replied to. */
	for (i = 0; i < STORM_LISTENERS; i++) {
		step_kill(pid[i]);
		storm_ring(i);
	}
	nap.tv_nsec = 1000000;
	deadline = clock_ms() + SETTLE_MS;
	while (count().waiters > 0 && clock_ms() < deadline)
		nanosleep(&nap, NULL);
	for (i = 0; i < STORM_WORKERS; i++)
		step_kill(pid[STORM_LISTENERS + i]);
	for (i = 0; i < STORM_LISTENERS * STORM_CLIENTS; i++) {
		replies += storm->replied[i];
		lost += storm->joined[i] && !storm->replied[i];
	}
	ck_assert_uint_gt(replies, 100);
	ck_assert_uint_eq(lost, 0);
	ck_assert_uint_eq(storm->wrong, 0);

	/* The last workers may have died in the middle of something. */
	memset(hand, 0, sizeof(hand));
	for (i = 0; i < STORM_WORKERS; i++)
		restart(i);
	drain();
	assert_empty();
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("pending");
	TCase *alone = tcase_create("alone"), *deaths = tcase_create("deaths");
	SRunner *runner;
	int failed;

	tcase_set_timeout(alone, 60);
	tcase_add_test(alone, question_is_given_taken_and_finished);
	tcase_add_test(alone, clients_of_one_question_wait_together);
	tcase_add_test(alone, client_that_comes_during_the_replies_gets_one);
	tcase_add_test(alone, retransmission_adds_no_second_waiter);
	tcase_add_test(alone, worker_is_told_once_that_a_client_asks_again);
	tcase_add_test(alone, questions_of_one_hash_are_told_apart);
	tcase_add_test(alone,
	    preferred_workers_are_filled_evenly_then_the_next_in_order);
	tcase_add_test(alone,
	    worker_is_rung_only_if_it_has_nothing_to_take);
	tcase_add_test(alone,
	    worker_that_is_not_started_or_has_stopped_gets_nothing);
	tcase_add_test(alone,
	    queue_is_first_in_first_out_and_full_above_its_size);
	tcase_add_test(alone, what_all_workers_ask_at_once_is_bounded);
	tcase_add_test(alone, take_gives_no_more_than_asked_for);
	tcase_add_test(alone,
	    question_asked_for_longest_makes_room_when_the_queue_is_full);
	tcase_add_test(alone,
	    worker_that_is_replaced_gets_its_questions_again);
	tcase_add_test(alone, replaced_worker_takes_nothing_from_others);
	tcase_add_test(alone, one_question_cannot_use_up_all_places);
	tcase_add_test(alone, all_places_can_be_used_again_and_again);
	tcase_add_test(alone,
	    one_suffix_takes_no_more_than_its_share_of_full_workers);
	tcase_add_test(alone, random_operations_agree_with_a_model);
	suite_add_tcase(suite, alone);

	tcase_set_timeout(deaths, 120);
	tcase_add_test(deaths, death_in_a_join_of_a_new_question_loses_no_one);
	tcase_add_test(deaths,
	    death_in_a_join_does_not_leave_a_worker_asleep);
	tcase_add_test(deaths, death_in_a_join_of_the_queue_loses_no_one);
	tcase_add_test(deaths,
	    death_in_a_join_that_another_gives_way_to_loses_no_one);
	tcase_add_test(deaths,
	    death_in_a_join_of_a_pending_question_loses_no_one);
	tcase_add_test(deaths, death_in_a_take_loses_no_one);
	tcase_add_test(deaths, death_in_a_finish_loses_no_one);
	tcase_add_test(deaths, death_in_a_start_loses_no_one);
	tcase_add_test(deaths, death_of_a_recoverer_loses_no_one);
	tcase_add_test(deaths, take_is_not_deceived_by_a_rebuild);
	tcase_add_test(deaths, chain_that_goes_round_costs_one_process);
	tcase_add_test(deaths,
	    whatever_links_and_counts_are_the_states_tell_all);
	tcase_add_test(deaths, entries_that_make_no_sense_are_freed);
	tcase_add_test(deaths, queue_keeps_its_order_over_a_rebuild);
	tcase_add_test(deaths, oldest_still_gives_way_after_a_rebuild);
	tcase_add_test(deaths, stopped_owner_makes_the_table_busy_and_no_more);
	tcase_add_test(deaths, storm_of_kills_loses_no_one);
	suite_add_tcase(suite, deaths);

	runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_FORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return (failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}
