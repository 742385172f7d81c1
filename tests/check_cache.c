/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The cache by itself, beside a simple model of it, and among processes that
 * are killed at their work.  Every value is made from its key's number and a
 * version, so that whoever reads one can tell if it is right.
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

#include "cache.h"
#include "segment.h"
#include "step.h"

#define KEY_MAX		258
#define CARRIED		5000		/* entries; several shards */
#define ROOM		400		/* bytes for each of them */
#define NEVER		UINT64_MAX	/* an expiry that doesn't come */
#define STORM_CHILDREN	4
#define STORM_KEYS	3000
#define STORM_KILLS	400
#define STORM_KILLS_MIN	20		/* however long they take */
#define STORM_MS	2000

/* What the children of a test tell it. */
struct told {
	_Atomic uint32_t	 wrong;		/* values, of any child */
	_Atomic uint32_t	 operations;
};

static struct cache *cache;
static size_t cache_bytes;
static size_t length_max = 200;	/* of the values that are made */
static struct told *told;
static void *saved;		/* what the acts begin with */
static struct step replace;	/* recorded */
static int death;		/* amid its change, if it dies there */
static uint64_t random_state = 1;
static uint32_t hash_shift;	/* another one, another hash */

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

static void
make(uint32_t entries, size_t memory)
{
	int fd;

	cache_bytes = cache_size(entries, memory);
	cache = segment_map(cache_bytes, &fd);
	ck_assert_ptr_nonnull(cache);
	close(fd);
	ck_assert_int_eq(cache_format(cache, entries, memory), 0);
	told = segment_map(sizeof(*told), &fd);
	ck_assert_ptr_nonnull(told);
	close(fd);
}

/* Keys of different lengths, some of more than one block. */
static size_t
key_make(uint8_t key[KEY_MAX], uint32_t n)
{
	size_t len = 5 + n % 90, i;

	for (i = 0; i < len; i++)
		key[i] = i < 4 ? n >> 8 * i : n + i;
	return (len);
}

static size_t
length_of(uint32_t n, uint8_t version)
{
	return (1 + (n * 37 + version * 101) % length_max);
}

static uint8_t
byte_of(uint32_t n, uint8_t version, size_t at)
{
	return (at == 0 ? version : n * 31 + version * 17 + at * 7 + at / 256);
}

static size_t
value_make(uint8_t value[CACHE_VALUE_MAX], uint32_t n, uint8_t version)
{
	size_t len = length_of(n, version), i;

	for (i = 0; i < len; i++)
		value[i] = byte_of(n, version, i);
	return (len);
}

static int
store(uint32_t n, uint8_t version)
{
	static uint8_t value[CACHE_VALUE_MAX];
	size_t value_len = value_make(value, n, version);
	uint8_t key[KEY_MAX];

	return (cache_store(cache, mix(n + hash_shift), key, key_make(key, n), NEVER,
	    value, value_len));
}

/* *version gets that of a hit; -1: the value is not one of this key. */
static enum cache_result
lookup(uint32_t n, int *version)
{
	static uint8_t value[CACHE_VALUE_MAX];
	enum cache_result result;
	uint8_t key[KEY_MAX];
	size_t len = 0, i;

	*version = -1;
	result = cache_lookup(cache, mix(n + hash_shift), key, key_make(key, n), 1, value,
	    sizeof(value), &len);
	if (result != CACHE_HIT || len != length_of(n, value[0]))
		return (result);
	for (i = 0; i < len; i++) {
		if (value[i] != byte_of(n, value[0], i))
			return (result);
	}
	*version = value[0];
	return (result);
}

static bool
has(uint32_t n, uint8_t version)
{
	int found;

	return (lookup(n, &found) == CACHE_HIT && found == version);
}

static bool
misses(uint32_t n)
{
	int found;

	return (lookup(n, &found) == CACHE_MISS);
}

static struct cache_stats
count(void)
{
	struct cache_stats stats;

	cache_count(cache, &stats);
	return (stats);
}

START_TEST(cache_gives_back_what_was_stored)
{
	static const size_t value_len[] = { 1, 2, 54, 55, 56, 59, 60, 61, 115,
	    120, 512, 1232, 4096, 16384, 65535, CACHE_VALUE_MAX - 1,
	    CACHE_VALUE_MAX };
	static const size_t key_len[] = { 4, 5, 59, 60, 61, 120, KEY_MAX };
	static uint8_t value[CACHE_VALUE_MAX], buf[CACHE_VALUE_MAX];
	uint8_t key[KEY_MAX];
	size_t i, k, v, len;

	make(8, 0);
	for (k = 0; k < sizeof(key_len) / sizeof(key_len[0]); k++) {
		for (v = 0; v < sizeof(value_len) / sizeof(value_len[0]); v++) {
			for (i = 0; i < key_len[k]; i++)
				key[i] = i * 3 + k;
			for (i = 0; i < value_len[v]; i++)
				value[i] = i * 7 + i / 256 + v;
			ck_assert_int_eq(cache_store(cache, k, key, key_len[k],
			    NEVER, value, value_len[v]), 0);
			memset(buf, 0, sizeof(buf));
			ck_assert_int_eq(cache_lookup(cache, k, key,
			    key_len[k], 0, buf, sizeof(buf), &len), CACHE_HIT);
			ck_assert_uint_eq(len, value_len[v]);
			ck_assert_mem_eq(buf, value, len);
			ck_assert_int_eq(cache_check(cache), 0);
		}
	}
}
END_TEST

START_TEST(cache_refuses_what_is_too_large_and_keeps_the_rest)
{
	static uint8_t value[CACHE_VALUE_MAX + 1];
	uint8_t key[KEY_MAX];

	make(8, 0);
	ck_assert_int_eq(store(1, 1), 0);
	ck_assert_int_eq(cache_store(cache, mix(2), key, key_make(key, 2),
	    NEVER, value, sizeof(value)), -1);
	ck_assert(misses(2));
	ck_assert(has(1, 1));
	ck_assert_int_eq(cache_check(cache), 0);
}
END_TEST

START_TEST(cache_keeps_an_empty_value)
{
	static const uint8_t key[5] = "empty";
	uint8_t buf[4] = { 1, 2, 3, 4 };
	size_t len = 99;

	make(8, 0);
	ck_assert_int_eq(cache_store(cache, 1, key, 5, NEVER, buf, 0), 0);
	ck_assert_int_eq(cache_lookup(cache, 1, key, 5, 0, buf, 4, &len),
	    CACHE_HIT);
	ck_assert_uint_eq(len, 0);
	ck_assert_uint_eq(buf[0], 1);
	ck_assert_int_eq(cache_check(cache), 0);
}
END_TEST

START_TEST(lookup_copies_a_part_and_tells_the_whole_length)
{
	static const size_t sizes[] = { 0, 1, 54, 55, 56, 60, 61, 500, 999,
	    1000, 1001, 2000 };
	static const uint8_t key[5] = "thing";
	uint8_t value[1000], buf[2001];
	size_t i, n, len;

	make(8, 0);
	for (i = 0; i < sizeof(value); i++)
		value[i] = i * 11 + i / 256;
	ck_assert_int_eq(cache_store(cache, 1, key, 5, NEVER, value,
	    sizeof(value)), 0);
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		memset(buf, 0xee, sizeof(buf));
		ck_assert_int_eq(cache_lookup(cache, 1, key, 5, 0, buf,
		    sizes[i], &len), CACHE_HIT);
		ck_assert_uint_eq(len, sizeof(value));
		n = sizes[i] < len ? sizes[i] : len;
		ck_assert(memcmp(buf, value, n) == 0);
		ck_assert_uint_eq(buf[n], 0xee);
	}
}
END_TEST

START_TEST(store_replaces_the_value_of_a_key)
{
	make(8, 0);
	ck_assert_int_eq(store(1, 1), 0);
	ck_assert_int_eq(store(2, 1), 0);
	ck_assert_int_eq(store(1, 2), 0);
	ck_assert(has(1, 2));
	ck_assert(has(2, 1));
	ck_assert_uint_eq(count().entries, 2);
	ck_assert_uint_eq(count().evictions, 0);
	ck_assert_int_eq(cache_check(cache), 0);
}
END_TEST

START_TEST(what_is_expired_is_copied_and_said_to_be_so)
{
	static const uint8_t key[5] = "brief";
	uint8_t buf[8];
	size_t len;

	make(8, 0);
	ck_assert_int_eq(cache_store(cache, 1, key, 5, 5000,
	    (const uint8_t *)"value", 5), 0);
	ck_assert_int_eq(cache_lookup(cache, 1, key, 5, 4999, buf, 8, &len),
	    CACHE_HIT);
	memset(buf, 0, sizeof(buf));
	ck_assert_int_eq(cache_lookup(cache, 1, key, 5, 5001, buf, 8, &len),
	    CACHE_EXPIRED);
	ck_assert_uint_eq(len, 5);
	ck_assert_mem_eq(buf, "value", 5);
	ck_assert_int_eq(cache_lookup(cache, 1, key, 5, NEVER - 1, buf, 8,
	    &len), CACHE_EXPIRED);

	/* A new value is alive again. */
	ck_assert_int_eq(cache_store(cache, 1, key, 5, 9000,
	    (const uint8_t *)"again", 5), 0);
	ck_assert_int_eq(cache_lookup(cache, 1, key, 5, 5001, buf, 8, &len),
	    CACHE_HIT);
	ck_assert_mem_eq(buf, "again", 5);
}
END_TEST

START_TEST(cache_evicts_least_recently_used)
{
	uint32_t n;

	make(4, 0);
	for (n = 1; n <= 4; n++)
		ck_assert_int_eq(store(n, 1), 0);
	ck_assert_uint_eq(count().entries, 4);
	ck_assert_uint_eq(count().evictions, 0);
	for (n = 5; n <= 7; n++) {
		ck_assert_int_eq(store(n, 1), 0);
		ck_assert_uint_eq(count().entries, 4);
		ck_assert_uint_eq(count().evictions, n - 4);
	}
	for (n = 1; n <= 3; n++)
		ck_assert(misses(n));
	for (n = 4; n <= 7; n++)
		ck_assert(has(n, 1));
	ck_assert_int_eq(cache_check(cache), 0);
}
END_TEST

START_TEST(hit_moves_to_the_front)
{
	uint32_t n;

	make(4, 0);
	for (n = 1; n <= 4; n++)
		ck_assert_int_eq(store(n, 1), 0);
	ck_assert(has(1, 1));		/* from the very end */
	ck_assert(has(3, 1));		/* from the middle */
	ck_assert(has(3, 1));		/* from the front */
	ck_assert_int_eq(store(5, 1), 0);
	ck_assert_int_eq(store(6, 1), 0);
	ck_assert(misses(2));
	ck_assert(misses(4));
	ck_assert(has(1, 1));
	ck_assert(has(3, 1));
	ck_assert(has(5, 1));
	ck_assert(has(6, 1));
	ck_assert_int_eq(cache_check(cache), 0);
}
END_TEST

START_TEST(replaced_value_moves_to_the_front)
{
	make(2, 0);
	ck_assert_int_eq(store(1, 1), 0);
	ck_assert_int_eq(store(2, 1), 0);
	ck_assert_int_eq(store(1, 2), 0);
	ck_assert_int_eq(store(3, 1), 0);
	ck_assert(misses(2));
	ck_assert(has(1, 2));
	ck_assert(has(3, 1));
}
END_TEST

START_TEST(what_is_expired_is_not_moved)
{
	uint8_t key[KEY_MAX], buf[1];
	size_t len;

	make(2, 0);
	ck_assert_int_eq(cache_store(cache, mix(1), key, key_make(key, 1),
	    1000, buf, 1), 0);
	ck_assert_int_eq(store(2, 1), 0);
	ck_assert_int_eq(cache_lookup(cache, mix(1), key, key_make(key, 1),
	    2000, buf, 1, &len), CACHE_EXPIRED);
	ck_assert_int_eq(store(3, 1), 0);
	ck_assert(misses(1));
	ck_assert(has(2, 1));
}
END_TEST

START_TEST(cache_of_one_entry_keeps_the_last)
{
	uint32_t n;

	make(1, 0);
	for (n = 1; n <= 10; n++) {
		ck_assert_int_eq(store(n, n), 0);
		ck_assert(has(n, n));
		ck_assert(misses(n - 1));
		ck_assert_int_eq(cache_check(cache), 0);
	}
	ck_assert_uint_eq(count().entries, 1);
	ck_assert_uint_eq(count().evictions, 9);
}
END_TEST

START_TEST(cache_of_no_entries_keeps_nothing)
{
	make(0, 0);
	store(1, 1);
	ck_assert(misses(1));
	store(2, 1);
	ck_assert(misses(2));
	ck_assert_uint_eq(count().entries, 0);
	ck_assert_int_eq(cache_check(cache), 0);

	make(0, 1 << 20);
	store(1, 1);
	ck_assert(misses(1));
}
END_TEST

START_TEST(keys_of_one_hash_are_told_apart)
{
	uint8_t key[KEY_MAX], value, buf[1];
	size_t len, key_len;
	unsigned i;

	make(64, 0);
	memset(key, 'k', sizeof(key));
	/* Of one length and another last byte; then each a part of the next. */
	for (i = 0; i < 40; i++) {
		key_len = i < 20 ? 200 : 180 - i;
		if (i < 20)
			key[199] = i;
		value = i;
		ck_assert_int_eq(cache_store(cache, 7, key, key_len, NEVER,
		    &value, 1), 0);
	}
	for (i = 0; i < 40; i++) {
		key_len = i < 20 ? 200 : 180 - i;
		if (i < 20)
			key[199] = i;
		ck_assert_int_eq(cache_lookup(cache, 7, key, key_len, 0, buf,
		    1, &len), CACHE_HIT);
		ck_assert_uint_eq(buf[0], i);
	}
	key[0] = 'K';
	ck_assert_int_eq(cache_lookup(cache, 7, key, 200, 0, buf, 1, &len),
	    CACHE_MISS);
	ck_assert_uint_eq(count().entries, 40);
	ck_assert_int_eq(cache_check(cache), 0);
}
END_TEST

START_TEST(one_value_of_the_largest_size_puts_out_all_others)
{
	static uint8_t value[CACHE_VALUE_MAX], buf[CACHE_VALUE_MAX];
	uint8_t key[KEY_MAX];
	size_t len;
	uint32_t n;

	make(100, 0);
	for (n = 1; n <= 50; n++)
		ck_assert_int_eq(store(n, 1), 0);
	memset(value, 'v', sizeof(value));
	ck_assert_int_eq(cache_store(cache, 1, key, KEY_MAX, NEVER, value,
	    sizeof(value)), 0);
	ck_assert_int_eq(cache_lookup(cache, 1, key, KEY_MAX, 0, buf,
	    sizeof(buf), &len), CACHE_HIT);
	ck_assert_mem_eq(value, buf, sizeof(buf));
	ck_assert_int_eq(cache_check(cache), 0);
	for (n = 1; n <= 50; n++)
		ck_assert_int_eq(store(n, 2), 0);
	for (n = 1; n <= 50; n++)
		ck_assert(has(n, 2));
	ck_assert_int_eq(cache_check(cache), 0);
}
END_TEST

START_TEST(cache_with_several_shards_holds_close_to_its_size)
{
	uint64_t entries;
	uint32_t n;

	length_max = 60;
	make(10000, 10000 * 256);
	ck_assert_uint_le(cache_bytes, 10000 * 256 + 4096);
	for (n = 0; n < 10000; n++)
		ck_assert(store(n, 1) == 0);
	ck_assert_uint_ge(count().entries, 9500);
	for (; n < 60000; n++)
		ck_assert(store(n, 1) == 0);
	entries = count().entries;
	ck_assert_uint_ge(entries, 9900);
	ck_assert_uint_le(entries, 10000);
	ck_assert_uint_eq(count().evictions, 60000 - entries);
	ck_assert_int_eq(cache_check(cache), 0);
	for (n = 59000; n < 60000; n++)
		ck_assert(has(n, 1));
}
END_TEST

/* A model of one shard: the numbers of its keys, the newest first. */
struct model {
	uint32_t	 n[100];
	uint8_t		 version[100];
	uint32_t	 used;
};

static uint32_t
model_find(const struct model *model, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < model->used && model->n[i] != n; i++)
		;
	return (i);
}

static void
model_front(struct model *model, uint32_t i, uint32_t n, uint8_t version)
{
	if (i == model->used)
		model->used++;
	for (; i > 0; i--) {
		model->n[i] = model->n[i - 1];
		model->version[i] = model->version[i - 1];
	}
	model->n[0] = n;
	model->version[0] = version;
}

/*
 * Where values compete for memory, how many entries are left says how many
 * of the oldest were put out.  No more than had to be: what is left and what
 * went last would not have fit.
 */
static void
random_run(uint32_t entries, size_t value_max, unsigned operations)
{
	struct model model = { .used = 0 };
	uint64_t evictions = 0;
	uint32_t n, i, left;
	size_t bytes;
	uint8_t version;
	int found;
	bool hit;

	length_max = value_max;
	make(entries, 0);
	while (operations-- > 0) {
		n = random_below(entries * 2);
		i = model_find(&model, n);
		if (random_below(3) != 0) {
			hit = lookup(n, &found) == CACHE_HIT;
			if (hit != (i < model.used))
				ck_abort_msg("key %u: hit %d", n, hit);
			if (hit && found != model.version[i])
				ck_abort_msg("key %u: wrong value", n);
			if (hit)
				model_front(&model, i, n, found);
			continue;
		}
		version = random_below(256);
		if (store(n, version) != 0)
			ck_abort_msg("key %u: not stored", n);
		model_front(&model, i, n, version);
		left = count().entries;
		if (left > entries || left > model.used || left == 0)
			ck_abort_msg("%u entries of %u", left, model.used);
		bytes = 0;
		for (i = 0; left < model.used && i <= left; i++)
			bytes += length_of(model.n[i], model.version[i]) + 160;
		if (left < model.used && left < entries &&
		    bytes < CACHE_VALUE_MAX)
			ck_abort_msg("%u of %u put out too early", left,
			    model.used);
		evictions += model.used - left;
		model.used = left;
		if (operations % 64 == 0)
			ck_assert_int_eq(cache_check(cache), 0);
	}
	ck_assert_int_eq(cache_check(cache), 0);
	ck_assert_uint_eq(count().evictions, evictions);
	ck_assert_uint_gt(evictions, 0);
	ck_assert_uint_eq(count().rebuilds, 0);
}

START_TEST(random_operations_agree_with_a_model)
{
	random_run(3, 100, 20000);
	random_run(50, 300, 60000);
	random_run(90, 2000, 60000);
}
END_TEST

START_TEST(random_operations_short_of_memory_agree_with_a_model)
{
	random_run(50, 10000, 30000);
	random_run(90, CACHE_VALUE_MAX, 6000);
}
END_TEST

/*
 * A stage is a cache and what the act will be called with, so that the act
 * itself is hardly more than the call.
 */
static struct {
	uint64_t	 hash;
	uint8_t		 key[KEY_MAX];
	size_t		 key_len;
	uint8_t		 value[CACHE_VALUE_MAX];
	size_t		 value_len;
} prop;

static void
prepare(uint32_t n, uint8_t version)
{
	prop.hash = mix(n);
	prop.key_len = key_make(prop.key, n);
	prop.value_len = value_make(prop.value, n, version);
}

/* Keys 1 to 4, the oldest first, in a cache that has room for no more. */
static void
stage_full(void)
{
	uint32_t n;

	length_max = 60;
	make(4, 0);
	for (n = 1; n <= 4; n++)
		ck_assert_int_eq(store(n, 1), 0);
}

static void
stage_insert(void)
{
	stage_full();
	prepare(5, 10);		/* two blocks, as the next */
}

static void
stage_replace(void)
{
	stage_full();
	prepare(2, 4);
}

static void
stage_touch_oldest(void)
{
	stage_full();
	prepare(1, 1);
}

static void
stage_touch_middle(void)
{
	stage_full();
	prepare(3, 1);
}

static void
stage_touch_newest(void)
{
	stage_full();
	prepare(4, 1);
}

static void
stage_miss(void)
{
	stage_full();
	prepare(9, 1);
}

/* Keys 1 to 4, and another that takes what memory they leave. */
static void
stage_short_of_memory(void)
{
	static uint8_t value[CACHE_VALUE_MAX];
	size_t size;
	uint32_t n;

	length_max = 100;
	for (size = CACHE_VALUE_MAX;; size -= 50) {
		make(16, 0);
		for (n = 1; n <= 3; n++)
			ck_assert_int_eq(store(n, 1), 0);
		ck_assert_int_eq(cache_store(cache, 1,
		    (const uint8_t *)"large", 5, NEVER, value, size), 0);
		ck_assert_int_eq(store(4, 1), 0);
		if (count().evictions == 0)
			break;
	}
	prepare(8, 51);		/* two blocks, where the oldest have one */
}

static void
act_store(void)
{
	cache_store(cache, prop.hash, prop.key, prop.key_len, NEVER,
	    prop.value, prop.value_len);
}

static void
act_lookup(void)
{
	size_t len;

	cache_lookup(cache, prop.hash, prop.key, prop.key_len, 1, prop.value,
	    sizeof(prop.value), &len);
}

/*
 * Somebody died; the next operation must work and leave the cache whole, and
 * what is in it must be right.  kept has a bit for each key that must be
 * there unless the shard was emptied.
 */
static bool
assert_usable(int after, unsigned kept)
{
	bool emptied;
	int version;
	uint32_t n;

	if (after % 2 == 0)
		ck_assert_msg(lookup(9, &version) == CACHE_MISS,
		    "no look-up after a death at instruction %d", after);
	else
		ck_assert_msg(store(2, 3) == 0,
		    "no store after a death at instruction %d", after);
	ck_assert_msg(cache_check(cache) == 0,
	    "rule %d is broken by a death at instruction %d",
	    cache_check(cache), after);
	emptied = count().rebuilds != 0;
	for (n = 1; n <= 9; n++) {
		switch (lookup(n, &version)) {
		case CACHE_HIT:
			ck_assert_msg(version != -1, "key %u has a wrong value "
			    "by a death at instruction %d", n, after);
			break;
		case CACHE_MISS:
			ck_assert_msg(emptied || (kept & 1 << n) == 0,
			    "key %u is lost by a death at instruction %d",
			    n, after);
			break;
		default:
			ck_abort_msg("key %u can't be looked up", n);
		}
	}
	for (n = 11; n <= 15; n++)
		ck_assert(store(n, 1) == 0 && has(n, 1));
	ck_assert_int_eq(cache_check(cache), 0);
	return (emptied);
}

static void
save(void)
{
	int fd;

	saved = segment_map(cache_bytes, &fd);
	ck_assert_ptr_nonnull(saved);
	close(fd);
	memcpy(saved, cache, cache_bytes);
}

static void
restore(void)
{
	memcpy(cache, saved, cache_bytes);
}

/*
 * Let a child die after each instruction of an act.  changes: the act is more
 * than looking, so that some of the deaths are amid the change.
 */
static void
die_at_every_instruction(const char *what, void (*stage)(void),
    void (*act)(void), unsigned kept, bool changes)
{
	struct step_deaths deaths = { .what = what, .stage = stage,
	    .save = save, .restore = restore, .act = act,
	    .settle = assert_usable, .arg = kept };

	if (!step_each(&deaths))
		return;
	ck_assert_int_gt(deaths.whole, 0);
	ck_assert_int_eq(deaths.rebuilt > 0, changes);
}

START_TEST(death_in_an_insert_leaves_a_cache_that_works)
{
	die_at_every_instruction("check_cache: insert that evicts",
	    stage_insert, act_store, 0x1c, true);
}
END_TEST

START_TEST(death_in_an_insert_short_of_memory_leaves_one_that_works)
{
	stage_short_of_memory();
	act_store();
	ck_assert_uint_ge(count().evictions, 2);
	die_at_every_instruction("check_cache: insert short of memory",
	    stage_short_of_memory, act_store, 0x10, true);
}
END_TEST

START_TEST(death_in_a_replace_leaves_a_cache_that_works)
{
	die_at_every_instruction("check_cache: replace", stage_replace,
	    act_store, 0x1e, true);
}
END_TEST

START_TEST(death_in_a_hit_leaves_a_cache_that_works)
{
	die_at_every_instruction("check_cache: hit of the oldest",
	    stage_touch_oldest, act_lookup, 0x1e, true);
	die_at_every_instruction("check_cache: hit in the middle",
	    stage_touch_middle, act_lookup, 0x1e, true);
}
END_TEST

START_TEST(death_in_a_look_up_that_changes_nothing_keeps_all)
{
	die_at_every_instruction("check_cache: hit of the newest",
	    stage_touch_newest, act_lookup, 0x1e, false);
	die_at_every_instruction("check_cache: miss", stage_miss, act_lookup,
	    0x1e, false);
}
END_TEST

/*
 * Find out where a replace can die so that the shard has to be emptied.
 * False: no process can be stepped here.
 */
static bool
find_death(void)
{
	int version;

	stage_replace();
	save();
	if (!step_record(&replace, act_store, "check_cache: recovering"))
		return (false);
	for (death = 50; death < replace.total; death += 25) {
		restore();
		step_kill(step_stop(&replace, death));
		ck_assert_int_ne(lookup(9, &version), CACHE_BUSY);
		if (count().rebuilds != 0)
			return (true);
	}
	ck_abort_msg("no death empties the shard");
	return (false);
}

/* What a replace leaves that died there. */
static void
stage_broken(void)
{
	stage_replace();
	step_kill(step_stop(&replace, death));
}

START_TEST(death_of_a_recoverer_leaves_a_cache_that_works)
{
	struct step_deaths rows[] = {
		{ .what = "check_cache: recovery in a look-up",
		    .act = act_lookup },
		{ .what = "check_cache: recovery in a store",
		    .act = act_store }
	};
	size_t i;

	if (!find_death())
		return;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		rows[i].stage = stage_broken;
		rows[i].save = save;
		rows[i].restore = restore;
		rows[i].settle = assert_usable;
		ck_assert(step_each(&rows[i]));
		ck_assert_int_eq(rows[i].whole, 0);
	}
}
END_TEST

START_TEST(stopped_owner_makes_a_shard_busy_and_no_more)
{
	struct cache_stats stats;
	int version;
	pid_t pid;

	if (!find_death())
		return;
	restore();
	pid = step_stop(&replace, death);
	ck_assert_int_eq(lookup(1, &version), CACHE_BUSY);
	ck_assert_int_eq(store(1, 1), -1);
	stats = count();
	ck_assert_uint_le(stats.entries, 4);
	step_kill(pid);
	ck_assert_int_eq(lookup(9, &version), CACHE_MISS);
	ck_assert_uint_eq(count().rebuilds, 1);
	ck_assert_int_eq(cache_check(cache), 0);
}
END_TEST

/* A child of the storm works till it is killed. */
static void
work(uint64_t seed)
{
	int version;
	uint32_t n;

	random_state = seed;
	for (;;) {
		n = random_below(STORM_KEYS);
		if (random_below(2) == 0) {
			if (lookup(n, &version) == CACHE_HIT && version == -1)
				told->wrong++;
		} else
			store(n, random_below(256));
		told->operations++;
	}
}

static pid_t
worker_start(uint64_t seed)
{
	pid_t pid = fork();

	ck_assert_int_ne(pid, -1);
	if (pid == 0)
		work(seed);
	return (pid);
}

START_TEST(storm_of_kills_leaves_a_cache_that_works)
{
	uint64_t deadline = clock_ms() + STORM_MS;
	struct timespec pause = { .tv_sec = 0 };
	pid_t pid[STORM_CHILDREN];
	uint32_t n, kills, before;
	int version;

	length_max = 400;
	make(2048, 0);
	fflush(NULL);
	for (n = 0; n < STORM_CHILDREN; n++)
		pid[n] = worker_start(mix(n));
	for (kills = 0; kills < STORM_KILLS_MIN || (kills < STORM_KILLS &&
	    clock_ms() < deadline); kills++) {
		pause.tv_nsec = random_below(3000000);
		nanosleep(&pause, NULL);
		n = random_below(STORM_CHILDREN);
		step_kill(pid[n]);
		pid[n] = worker_start(mix(kills + STORM_CHILDREN));
		n = random_below(STORM_KEYS);
		if (lookup(n, &version) == CACHE_HIT)
			ck_assert_int_ne(version, -1);
		store(n, 1);
	}

	/* Those that are left get on. */
	before = told->operations;
	deadline = clock_ms() + 10000;
	while (told->operations < before + 100 && clock_ms() < deadline)
		sched_yield();
	ck_assert_uint_ge(told->operations, before + 100);
	for (n = 0; n < STORM_CHILDREN; n++)
		step_kill(pid[n]);

	ck_assert_uint_eq(told->wrong, 0);
	for (n = 0; n < STORM_KEYS; n++) {
		switch (lookup(n, &version)) {
		case CACHE_HIT:
			ck_assert_int_ne(version, -1);
			break;
		case CACHE_MISS:
			break;
		default:
			ck_abort_msg("key %u can't be looked up", n);
		}
	}
	ck_assert_int_eq(cache_check(cache), 0);
	for (n = 0; n < 100; n++)
		ck_assert(store(n, 7) == 0 && has(n, 7));
	ck_assert_int_eq(cache_check(cache), 0);
}
END_TEST

/* The hash of a key in the cache that things are carried to. */
static uint64_t
hash_other(const void *context, const uint8_t *key, size_t key_len)
{
	uint32_t n;

	ck_assert_ptr_eq(context, &hash_shift);
	ck_assert_uint_ge(key_len, sizeof(n));
	n = key[0] | key[1] << 8 | key[2] << 16 | (uint32_t)key[3] << 24;
	return (mix(n + hash_shift));
}

/* Carry all from the cache to a new one, which becomes the cache. */
static int
carry(uint32_t entries, uint64_t now_ms)
{
	struct cache *from = cache;
	int carried;

	make(entries, entries * ROOM);
	hash_shift = 1000;
	carried = cache_carry(cache, from, now_ms, hash_other, &hash_shift);
	ck_assert_int_eq(cache_check(cache), 0);
	ck_assert_int_eq(cache_check(from), 0);
	return (carried);
}

START_TEST(all_is_carried_to_a_larger_cache)
{
	bool had[CARRIED];
	uint32_t n, all = 0;

	make(CARRIED, CARRIED * ROOM);
	for (n = 0; n < CARRIED; n++)
		ck_assert_int_eq(store(n, 3), 0);
	for (n = 0; n < CARRIED; n++)
		all += had[n] = has(n, 3);
	ck_assert_uint_ge(all, CARRIED * 9 / 10);
	ck_assert_int_eq(carry(2 * CARRIED, 1), all);
	for (n = 0; n < CARRIED; n++)
		ck_assert_msg(had[n] ? has(n, 3) : misses(n), "key %u", n);
}
END_TEST

START_TEST(what_was_used_last_is_carried_to_a_smaller_cache)
{
	uint32_t n, found = 0;

	make(CARRIED, CARRIED * ROOM);
	for (n = 0; n < CARRIED; n++)
		ck_assert_int_eq(store(n, 3), 0);
	carry(CARRIED / 20, 1);
	for (n = 0; n < CARRIED; n++) {
		if (misses(n))
			continue;
		ck_assert(has(n, 3));
		ck_assert_uint_ge(n, CARRIED * 9 / 10);
		found++;
	}
	ck_assert_uint_eq(found, CARRIED / 20);
}
END_TEST

START_TEST(what_has_expired_is_not_carried)
{
	uint8_t key[KEY_MAX];

	make(8, 0);
	ck_assert_int_eq(cache_store(cache, mix(1), key, key_make(key, 1),
	    4999, key, 4), 0);
	ck_assert_int_eq(cache_store(cache, mix(2), key, key_make(key, 2),
	    5001, key, 4), 0);
	ck_assert_int_eq(carry(8, 5000), 1);
	ck_assert(misses(1) && !misses(2));
}
END_TEST

/* It may have been written to by whoever broke into a process. */
START_TEST(nothing_wrong_is_carried_from_a_cache_that_is_damaged)
{
	struct cache *from;
	uint32_t n, round, right = 0;
	size_t bytes;
	int version;

	for (round = 0; round < 20; round++) {
		hash_shift = 0;
		make(CARRIED / 4, CARRIED / 4 * ROOM);
		for (n = 0; n < CARRIED / 4; n++)
			ck_assert_int_eq(store(n, 3), 0);
		from = cache;
		bytes = cache_bytes;
		/* Behind what cache_is() and the lock's own check tell of. */
		for (n = 0; n < 200; n++)
			((uint8_t *)from)[1024 + random_below(bytes - 1024)]
			    ^= 1 << random_below(8);
		make(CARRIED / 4, CARRIED / 4 * ROOM);
		hash_shift = 1000;
		cache_carry(cache, from, 1, hash_other, &hash_shift);
		ck_assert_int_eq(cache_check(cache), 0);
		for (n = 0; n < CARRIED / 4; n++) {
			if (lookup(n, &version) != CACHE_HIT)
				continue;
			ck_assert_int_eq(version, 3);
			right++;
		}
	}
	ck_assert_uint_ge(right, CARRIED / 4);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("cache");
	TCase *alone = tcase_create("alone"), *deaths = tcase_create("deaths");
	SRunner *runner;
	int failed;

	tcase_set_timeout(alone, 60);
	tcase_add_test(alone, cache_gives_back_what_was_stored);
	tcase_add_test(alone,
	    cache_refuses_what_is_too_large_and_keeps_the_rest);
	tcase_add_test(alone, cache_keeps_an_empty_value);
	tcase_add_test(alone, lookup_copies_a_part_and_tells_the_whole_length);
	tcase_add_test(alone, store_replaces_the_value_of_a_key);
	tcase_add_test(alone, what_is_expired_is_copied_and_said_to_be_so);
	tcase_add_test(alone, cache_evicts_least_recently_used);
	tcase_add_test(alone, hit_moves_to_the_front);
	tcase_add_test(alone, replaced_value_moves_to_the_front);
	tcase_add_test(alone, what_is_expired_is_not_moved);
	tcase_add_test(alone, cache_of_one_entry_keeps_the_last);
	tcase_add_test(alone, cache_of_no_entries_keeps_nothing);
	tcase_add_test(alone, keys_of_one_hash_are_told_apart);
	tcase_add_test(alone,
	    one_value_of_the_largest_size_puts_out_all_others);
	tcase_add_test(alone,
	    cache_with_several_shards_holds_close_to_its_size);
	tcase_add_test(alone, random_operations_agree_with_a_model);
	tcase_add_test(alone,
	    random_operations_short_of_memory_agree_with_a_model);
	tcase_add_test(alone, all_is_carried_to_a_larger_cache);
	tcase_add_test(alone,
	    what_was_used_last_is_carried_to_a_smaller_cache);
	tcase_add_test(alone, what_has_expired_is_not_carried);
	tcase_add_test(alone,
	    nothing_wrong_is_carried_from_a_cache_that_is_damaged);
	suite_add_tcase(suite, alone);

	tcase_set_timeout(deaths, 120);
	tcase_add_test(deaths, death_in_an_insert_leaves_a_cache_that_works);
	tcase_add_test(deaths,
	    death_in_an_insert_short_of_memory_leaves_one_that_works);
	tcase_add_test(deaths, death_in_a_replace_leaves_a_cache_that_works);
	tcase_add_test(deaths, death_in_a_hit_leaves_a_cache_that_works);
	tcase_add_test(deaths,
	    death_in_a_look_up_that_changes_nothing_keeps_all);
	tcase_add_test(deaths, death_of_a_recoverer_leaves_a_cache_that_works);
	tcase_add_test(deaths, stopped_owner_makes_a_shard_busy_and_no_more);
	tcase_add_test(deaths, storm_of_kills_leaves_a_cache_that_works);
	suite_add_tcase(suite, deaths);

	runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_FORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return (failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}
