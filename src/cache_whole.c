/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * What is done with a cache as a whole: taking over what dead processes left,
 * carrying the entries to another cache, counting, and checking every rule of
 * cache.c's head comment.
 */

#include <stdlib.h>
#include <string.h>

#include "cache_shard.h"

/* An entry, outside its cache. */
struct copy {
	uint64_t	 expiry_ms;
	size_t		 key_len;
	size_t		 value_len;
	uint8_t		 key[KEY_MAX];
	uint8_t		 value[CACHE_VALUE_MAX];
};

static uint32_t	*list_shard(struct cache *, uint32_t, uint32_t *);
static bool	 copy_entry(struct cache *, uint32_t, uint32_t,
		    struct copy *);
static int	 check_shard(const struct cache *,
		    const struct cache_shard *);

int
cache_adopt(struct cache *cache, uint32_t entries, size_t memory)
{
	struct cache_shard *shard;
	bool whole;
	uint32_t i;

	if (!cache_is(cache, entries, memory))
		return (-1);
	for (i = 0; i < cache->shards; i++) {
		shard = shard_of(cache, i);
		whole = shard->lock.dirty == 0 &&
		    check_shard(cache, shard) == 0;
		memset(&shard->lock, 0, sizeof(shard->lock));
		if (segment_lock_init(&shard->lock) == -1)
			return (-1);
		if (!whole)
			cache_mend_locked(cache, shard);
	}
	return (0);
}

bool
cache_is(const struct cache *cache, uint32_t entries, size_t memory)
{
	struct cache expected;

	memset(&expected, 0, sizeof(expected));
	cache_geometry(&expected, entries, memory);
	return (memcmp(&expected, cache, sizeof(expected)) == 0);
}

/*
 * The lists are taken first, and the entries then, by age over all shards: so
 * those that were used last are stored last and are there at the end, however
 * few find room.
 */
int
cache_carry(struct cache *to, struct cache *from, uint64_t now_ms,
    cache_hash *hash, const void *context)
{
	uint32_t *list[SHARDS_MAX] = { NULL }, count[SHARDS_MAX];
	struct copy *copy = malloc(sizeof(*copy));
	uint32_t oldest = 0, i, age;
	int carried = 0;

	for (i = 0; i < from->shards; i++) {
		list[i] = list_shard(from, i, &count[i]);
		if (count[i] > oldest)
			oldest = count[i];
	}
	for (age = oldest; age > 0 && copy != NULL; age--) {
		for (i = 0; i < from->shards; i++) {
			if (age > count[i] ||
			    !copy_entry(from, i, list[i][age - 1], copy) ||
			    copy->expiry_ms <= now_ms)
				continue;
			carried += cache_store(to, hash(context, copy->key,
			    copy->key_len), copy->key, copy->key_len,
			    copy->expiry_ms, copy->value, copy->value_len) ==
			    0;
		}
	}
	for (i = 0; i < from->shards; i++)
		free(list[i]);
	free(copy);
	return (carried);
}

/* The entries of a shard, the newest first.  *count gets how many. */
static uint32_t *
list_shard(struct cache *cache, uint32_t number, uint32_t *count)
{
	struct cache_shard *shard;
	uint32_t *list = calloc(cache->entries + (size_t)1, sizeof(*list));
	uint32_t index;

	*count = 0;
	if (list == NULL || (shard = cache_lock_shard(cache, number)) == NULL)
		return (list);
	for (index = shard->newest; index != 0 && index <= cache->entries &&
	    *count < cache->entries;
	    index = entries_of(cache, shard)[index].older)
		list[(*count)++] = index;
	segment_lock_drop(&shard->lock);
	return (list);
}

/* False: the entry is gone meanwhile, or the shard is busy. */
static bool
copy_entry(struct cache *cache, uint32_t number, uint32_t index,
    struct copy *copy)
{
	struct cache_shard *shard = cache_lock_shard(cache, number);
	const struct cache_entry *entry;
	bool whole;

	if (shard == NULL)
		return (false);
	entry = &entries_of(cache, shard)[index];
	copy->expiry_ms = entry->expiry_ms;
	copy->key_len = entry->key_len;
	copy->value_len = entry->value_len;
	whole = copy->key_len <= KEY_MAX &&
	    copy->value_len <= CACHE_VALUE_MAX &&
	    cache_read_locked(cache, shard, entry, 0, copy->key,
	    copy->key_len) &&
	    cache_read_locked(cache, shard, entry, copy->key_len, copy->value,
	    copy->value_len) &&
	    cache_find_locked(cache, shard, entry->tag, copy->key,
	    copy->key_len) == index && entry->sum == cache_sum(copy->value,
	    copy->value_len, copy->expiry_ms);
	segment_lock_drop(&shard->lock);
	return (whole);
}

void
cache_count(const struct cache *cache, struct cache_stats *stats)
{
	const struct cache_shard *shard;
	uint32_t i;

	memset(stats, 0, sizeof(*stats));
	for (i = 0; i < cache->shards; i++) {
		shard = shard_of(cache, i);
		stats->entries += shard->used;
		stats->evictions += shard->evictions;
		stats->rebuilds += shard->lock.rebuilds;
	}
}

static int
check_shard(const struct cache *cache, const struct cache_shard *shard)
{
	const struct cache_entry *entries = entries_of(cache, shard);
	const struct cache_block *blocks = blocks_of(cache, shard);
	uint8_t *seen = calloc(1, (size_t)cache->entries + cache->blocks + 2);
	uint8_t *used = seen + cache->entries + 1;
	uint32_t index, newer = 0, count = 0, held = 0, i, bucket, block;
	int rule = 0;

	if (seen == NULL)
		return (-1);
	if (shard->entries_fresh > cache->entries ||
	    shard->blocks_fresh > cache->blocks)
		rule = 1;
	for (index = shard->newest; index != 0 && rule == 0;
	    newer = index, index = entries[index].older) {
		if (index > shard->entries_fresh || seen[index]++ != 0 ||
		    entries[index].newer != newer) {
			rule = 2;
			break;
		}
		if (entries[index].key_len > KEY_MAX ||
		    entries[index].value_len > CACHE_VALUE_MAX) {
			rule = 2;
			break;
		}
		count++;
		block = entries[index].block;
		for (i = blocks_for((size_t)entries[index].key_len +
		    entries[index].value_len); i > 0; i--) {
			if (block == 0 || block > shard->blocks_fresh ||
			    used[block]++ != 0) {
				rule = 3;
				break;
			}
			held++;
			block = blocks[block].next;
		}
		if (block != 0 && rule == 0)
			rule = 4;
	}
	if (rule == 0 && (shard->oldest != newer || shard->used != count))
		rule = 5;
	if (rule == 0 && shard->blocks_used != held)
		rule = 6;
	for (bucket = 0; bucket < cache->buckets && rule == 0; bucket++) {
		for (index = buckets_of(shard)[bucket]; index != 0;
		    index = entries[index].chain) {
			if (index > shard->entries_fresh ||
			    seen[index]++ != 1 || bucket !=
			    (entries[index].tag & (cache->buckets - 1))) {
				rule = 7;
				break;
			}
			count--;
		}
	}
	if (rule == 0 && count != 0)
		rule = 8;
	count = shard->used;
	for (index = shard->free_entry; index != 0 && rule == 0;
	    index = entries[index].chain, count++) {
		if (index > shard->entries_fresh || seen[index]++ != 0)
			rule = 9;
	}
	for (block = shard->free_block; block != 0 && rule == 0;
	    block = blocks[block].next, held++) {
		if (block > shard->blocks_fresh || used[block]++ != 0)
			rule = 10;
	}
	if (rule == 0 && (count != shard->entries_fresh ||
	    held != shard->blocks_fresh))
		rule = 11;
	free(seen);
	return (rule);
}

int
cache_check(const struct cache *cache)
{
	uint32_t i;
	int rule;

	for (i = 0; i < cache->shards; i++) {
		if ((rule = check_shard(cache, shard_of(cache, i))) != 0)
			return (rule);
	}
	return (0);
}
