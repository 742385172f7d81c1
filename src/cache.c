/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * An LRU cache of byte strings in memory that it is given and that several
 * processes share.  It knows no DNS and reads no clock.
 *
 * The memory is a header and `shards' equal shards, one for each 1,024
 * entries or more.  The low bits of a key's hash choose the shard, the high
 * 32 bits, the tag, choose the bucket in it.  A shard is a head with its lock,
 * then
 *
 *	bucket[buckets]		the first entry of each chain
 *	entry[1 .. entries]	entry[0] and block[0] are never used, so
 *	block[1 .. blocks]	that 0 ends every list and zeroes are empty
 *
 * An entry's key and, right behind it, its value fill a chain of blocks.
 *
 *	Each entry is in one of three states: handed out never (its index is
 *	above entries_fresh), free (on the list free_entry, linked by chain), or
 *	in use: then it is on the LRU list once, and once in the chain of the
 *	bucket that its tag says.  Blocks are the same, by blocks_fresh and
 *	free_block; a block in use is in one entry's chain, which is
 *	ceil((key_len + value_len) / BLOCK_DATA) long.
 *
 *	0 <= used <= entries_fresh <= entries
 *	0 <= blocks_used <= blocks_fresh <= blocks
 *	the LRU list has `used' entries, newest to oldest by older, and back
 *	by newer; the ends are 0
 *	keys in use differ
 *
 * Everything behind a shard's lock is read and written under it.  Copies are
 * made under it too: no one ever looks at a value that may change.  A hit
 * moves its entry to the newest end, a store drops the oldest until there is
 * room.  When an owner died amid a change the shard is emptied, since a cache
 * may forget; so it is when a look-up meets an index that is out of range, or
 * a value whose sum is another than when it was stored.  A busy shard is a
 * miss for a look-up, and a store is skipped.
 */

#include <string.h>

#include "cache_shard.h"
#include "fault.h"

#define SHARD_ENTRIES	1024		/* a shard has as many, or more */
#define LOCK_WAITS	4		/* waits for a shard, of 5 ms */
#define SUM_FACTOR	0x9e3779b97f4a7c15	/* odd, its bits mixed */
#define BLOCKS_MIN	((CACHE_VALUE_MAX + KEY_MAX) / BLOCK_DATA + 1)

static bool		 copy_locked(const struct cache *,
			    const struct cache_shard *,
			    const struct cache_entry *, uint8_t *, size_t);
static void		 empty_locked(const struct cache *,
			    struct cache_shard *);
static bool		 key_equal_locked(const struct cache *,
			    const struct cache_shard *,
			    const struct cache_entry *, const uint8_t *);
static void		 lru_unlink_locked(struct cache_entry *,
			    struct cache_shard *, uint32_t);
static void		 lru_push_locked(struct cache_entry *,
			    struct cache_shard *, uint32_t);
static void		 remove_locked(const struct cache *,
			    struct cache_shard *, uint32_t);
static bool		 make_room_locked(const struct cache *,
			    struct cache_shard *, uint32_t);
static uint32_t		 entry_take_locked(const struct cache *,
			    struct cache_shard *);
static uint32_t		 block_take_locked(const struct cache *,
			    struct cache_shard *);
static uint32_t		 write_locked(const struct cache *,
			    struct cache_shard *, const uint8_t *, size_t,
			    const uint8_t *, size_t);

size_t
cache_size(uint32_t entries, size_t memory)
{
	struct cache cache;

	cache_geometry(&cache, entries, memory);
	return (segment_round(sizeof(cache)) +
	    cache.shards * cache.shard_size);
}

int
cache_format(struct cache *cache, uint32_t entries, size_t memory)
{
	uint32_t i;

	memset(cache, 0, sizeof(*cache));
	cache_geometry(cache, entries, memory);
	for (i = 0; i < cache->shards; i++) {
		if (segment_lock_init(&shard_of(cache, i)->lock) == -1)
			return (-1);
	}
	return (0);
}

void
cache_geometry(struct cache *cache, uint32_t entries, size_t memory)
{
	size_t index, share;

	cache->shards = 1;
	while (cache->shards < SHARDS_MAX &&
	    entries / (cache->shards * 2) >= SHARD_ENTRIES)
		cache->shards *= 2;
	cache->entries = (entries + cache->shards - 1) / cache->shards;
	cache->buckets = 1;
	while (cache->buckets < cache->entries)
		cache->buckets *= 2;
	cache->entries_at = segment_round(sizeof(struct cache_shard) +
	    cache->buckets * sizeof(uint32_t));
	cache->blocks_at = segment_round(cache->entries_at +
	    (cache->entries + (size_t)1) * sizeof(struct cache_entry));

	index = cache->blocks_at + sizeof(struct cache_block);
	share = memory / cache->shards;
	cache->blocks = 0;
	if (share > index)
		cache->blocks = (share - index) / sizeof(struct cache_block);
	if (cache->blocks < BLOCKS_MIN)
		cache->blocks = BLOCKS_MIN;
	cache->shard_size = segment_round(index +
	    (size_t)cache->blocks * sizeof(struct cache_block));
}

/*
 * Lock the shard of that hash, made whole if need be; NULL: it is busy.  This
 * process waits for one that is held only once till it is free again: a
 * listener must not lose 20 ms with each query of a shard whose holder stands
 * still.
 */
struct cache_shard *
cache_lock_shard(struct cache *cache, uint64_t hash)
{
	static uint64_t busy;		/* a bit for each shard */
	uint64_t number = hash & (cache->shards - 1);
	uint64_t bit = (uint64_t)1 << number;
	struct cache_shard *shard = shard_of(cache, number);
	enum segment_result result;
	int i;

	result = segment_lock_try(&shard->lock);
	for (i = 0; result == SEGMENT_BUSY && !(busy & bit) &&
	    i < LOCK_WAITS; i++)
		result = segment_lock_take(&shard->lock);
	busy = result == SEGMENT_BUSY ? busy | bit : busy & ~bit;
	switch (result) {
	case SEGMENT_BUSY:
		return (NULL);
	case SEGMENT_BROKEN:
		FAULT("cache.rebuild");
		empty_locked(cache, shard);
		segment_rebuilt(&shard->lock);
		break;
	case SEGMENT_LOCKED:
		break;
	}
	return (shard);
}

/* The buckets first: what no chain leads to can't be found any more. */
static void
empty_locked(const struct cache *cache, struct cache_shard *shard)
{
	memset(buckets_of(shard), 0, cache->buckets * sizeof(uint32_t));
	shard->newest = shard->oldest = 0;
	shard->free_entry = shard->free_block = 0;
	shard->entries_fresh = shard->blocks_fresh = 0;
	shard->blocks_used = 0;
	shard->used = 0;
}

/* Something is out of range that can't be: start with an empty shard. */
void
cache_mend_locked(const struct cache *cache, struct cache_shard *shard)
{
	segment_dirty(&shard->lock);
	empty_locked(cache, shard);
	atomic_fetch_add_explicit(&shard->lock.rebuilds, 1,
	    memory_order_relaxed);
	segment_clean(&shard->lock);
}

enum cache_result
cache_lookup(struct cache *cache, uint64_t hash, const uint8_t *key,
    size_t key_len, uint64_t now_ms, uint8_t *buf, size_t size, size_t *len)
{
	enum cache_result result = CACHE_MISS;
	struct cache_shard *shard;
	struct cache_entry *entry;
	uint32_t index;

	if ((shard = cache_lock_shard(cache, hash)) == NULL)
		return (CACHE_BUSY);
	index = cache_find_locked(cache, shard, hash >> 32, key, key_len);
	entry = &entries_of(cache, shard)[index];
	if (index == 0)
		goto drop;
	*len = entry->value_len;
	if (!copy_locked(cache, shard, entry, buf, size)) {
		cache_mend_locked(cache, shard);
		goto drop;
	}
	result = entry->expiry_ms > now_ms ? CACHE_HIT : CACHE_EXPIRED;
	if (result == CACHE_HIT && shard->newest != index) {
		segment_dirty(&shard->lock);
		lru_unlink_locked(entries_of(cache, shard), shard, index);
		FAULT("cache.touch");
		lru_push_locked(entries_of(cache, shard), shard, index);
		segment_clean(&shard->lock);
	}
drop:
	segment_lock_drop(&shard->lock);
	return (result);
}

/*
 * Copy at most size bytes of a value, of which all must be as it was stored.
 * False: it isn't.
 */
static bool
copy_locked(const struct cache *cache, const struct cache_shard *shard,
    const struct cache_entry *entry, uint8_t *buf, size_t size)
{
	static uint8_t whole[CACHE_VALUE_MAX];
	size_t len = entry->value_len;
	uint8_t *to = len <= size ? buf : whole;

	if (len > CACHE_VALUE_MAX || !cache_read_locked(cache, shard, entry,
	    entry->key_len, to, len) ||
	    entry->sum != cache_sum(to, len, entry->expiry_ms))
		return (false);
	if (to == whole)
		memcpy(buf, whole, size);
	return (true);
}

int
cache_store(struct cache *cache, uint64_t hash, const uint8_t *key,
    size_t key_len, uint64_t expiry_ms, const uint8_t *value,
    size_t value_len)
{
	uint32_t blocks = blocks_for(key_len + value_len);
	uint32_t tag = hash >> 32, index, *bucket;
	struct cache_shard *shard;
	struct cache_entry *entry;

	if (cache->entries == 0 || key_len == 0 || key_len > KEY_MAX ||
	    value_len > CACHE_VALUE_MAX)
		return (-1);
	if ((shard = cache_lock_shard(cache, hash)) == NULL)
		return (-1);
	index = cache_find_locked(cache, shard, tag, key, key_len);

	segment_dirty(&shard->lock);
	if (index != 0)
		remove_locked(cache, shard, index);
	if (!make_room_locked(cache, shard, blocks))
		empty_locked(cache, shard);
	FAULT("cache.room");
	index = entry_take_locked(cache, shard);
	entry = &entries_of(cache, shard)[index];
	entry->expiry_ms = expiry_ms;
	entry->tag = tag;
	entry->key_len = key_len;
	entry->value_len = value_len;
	entry->block = write_locked(cache, shard, key, key_len, value,
	    value_len);
	entry->sum = cache_sum(value, value_len, expiry_ms);
	bucket = &buckets_of(shard)[tag & (cache->buckets - 1)];
	entry->chain = *bucket;
	*bucket = index;
	FAULT("cache.linked");
	lru_push_locked(entries_of(cache, shard), shard, index);
	shard->used++;
	segment_clean(&shard->lock);

	segment_lock_drop(&shard->lock);
	return (0);
}

/* The entry of a key, or 0. */
uint32_t
cache_find_locked(const struct cache *cache, struct cache_shard *shard,
    uint32_t tag, const uint8_t *key, size_t key_len)
{
	const struct cache_entry *entry;
	uint32_t index, steps = 0;

	index = buckets_of(shard)[tag & (cache->buckets - 1)];
	for (; index != 0; index = entry->chain) {
		if (index > cache->entries || steps++ > cache->entries) {
			cache_mend_locked(cache, shard);
			return (0);
		}
		entry = &entries_of(cache, shard)[index];
		if (entry->tag == tag && entry->key_len == key_len &&
		    key_equal_locked(cache, shard, entry, key))
			break;
	}
	return (index);
}

static bool
key_equal_locked(const struct cache *cache, const struct cache_shard *shard,
    const struct cache_entry *entry, const uint8_t *key)
{
	const struct cache_block *blocks = blocks_of(cache, shard);
	uint32_t block = entry->block;
	size_t left = entry->key_len, n;

	for (; left > 0; left -= n, key += n) {
		if (block == 0 || block > cache->blocks)
			return (false);
		n = left < BLOCK_DATA ? left : BLOCK_DATA;
		if (memcmp(blocks[block].data, key, n) != 0)
			return (false);
		block = blocks[block].next;
	}
	return (true);
}

bool
cache_read_locked(const struct cache *cache, const struct cache_shard *shard,
    const struct cache_entry *entry, size_t skip, uint8_t *buf, size_t len)
{
	const struct cache_block *blocks = blocks_of(cache, shard);
	uint32_t block = entry->block;
	size_t n;

	while (len > 0) {
		if (block == 0 || block > cache->blocks)
			return (false);
		if (skip >= BLOCK_DATA)
			skip -= BLOCK_DATA;
		else {
			n = BLOCK_DATA - skip;
			if (n > len)
				n = len;
			memcpy(buf, blocks[block].data + skip, n);
			buf += n;
			len -= n;
			skip = 0;
		}
		block = blocks[block].next;
	}
	return (true);
}

static void
lru_unlink_locked(struct cache_entry *entries, struct cache_shard *shard,
    uint32_t index)
{
	struct cache_entry *entry = &entries[index];

	if (entry->newer != 0)
		entries[entry->newer].older = entry->older;
	else
		shard->newest = entry->older;
	if (entry->older != 0)
		entries[entry->older].newer = entry->newer;
	else
		shard->oldest = entry->newer;
}

static void
lru_push_locked(struct cache_entry *entries, struct cache_shard *shard,
    uint32_t index)
{
	entries[index].newer = 0;
	entries[index].older = shard->newest;
	if (shard->newest != 0)
		entries[shard->newest].newer = index;
	else
		shard->oldest = index;
	shard->newest = index;
}

/* Take an entry out of its lists, and free it and its blocks. */
static void
remove_locked(const struct cache *cache, struct cache_shard *shard,
    uint32_t index)
{
	struct cache_entry *entries = entries_of(cache, shard);
	struct cache_entry *entry = &entries[index];
	struct cache_block *blocks = blocks_of(cache, shard);
	uint32_t *link, count, last = entry->block, i;

	link = &buckets_of(shard)[entry->tag & (cache->buckets - 1)];
	while (*link != index && *link != 0)
		link = &entries[*link].chain;
	*link = entry->chain;
	lru_unlink_locked(entries, shard, index);

	count = blocks_for((size_t)entry->key_len + entry->value_len);
	for (i = 1; i < count; i++)
		last = blocks[last].next;
	blocks[last].next = shard->free_block;
	shard->free_block = entry->block;
	shard->blocks_used -= count;
	entry->chain = shard->free_entry;
	shard->free_entry = index;
	shard->used--;
}

/* Put out the oldest until one entry and so many blocks are to be had. */
static bool
make_room_locked(const struct cache *cache, struct cache_shard *shard,
    uint32_t blocks)
{
	while (shard->used >= cache->entries ||
	    cache->blocks - shard->blocks_used < blocks) {
		if (shard->oldest == 0 || shard->oldest > cache->entries)
			return (false);
		remove_locked(cache, shard, shard->oldest);
		shard->evictions++;
	}
	return (true);
}

static uint32_t
entry_take_locked(const struct cache *cache, struct cache_shard *shard)
{
	uint32_t index = shard->free_entry;

	if (index == 0)
		return (++shard->entries_fresh);
	shard->free_entry = entries_of(cache, shard)[index].chain;
	return (index);
}

static uint32_t
block_take_locked(const struct cache *cache, struct cache_shard *shard)
{
	uint32_t index = shard->free_block;

	shard->blocks_used++;
	if (index == 0)
		return (++shard->blocks_fresh);
	shard->free_block = blocks_of(cache, shard)[index].next;
	return (index);
}

/* Fill a chain of blocks with key and value.  Returns its first block. */
static uint32_t
write_locked(const struct cache *cache, struct cache_shard *shard,
    const uint8_t *key, size_t key_len, const uint8_t *value,
    size_t value_len)
{
	struct cache_block *blocks = blocks_of(cache, shard);
	uint32_t first = 0, block, *link = &first;
	size_t room, n;

	while (key_len + value_len > 0) {
		block = block_take_locked(cache, shard);
		n = key_len < BLOCK_DATA ? key_len : BLOCK_DATA;
		memcpy(blocks[block].data, key, n);
		key += n;
		key_len -= n;
		room = BLOCK_DATA - n;
		if (room > value_len)
			room = value_len;
		memcpy(blocks[block].data + n, value, room);
		value += room;
		value_len -= room;
		*link = block;
		link = &blocks[block].next;
	}
	*link = 0;
	return (first);
}

/*
 * A sum that damage changes: it is no defence against who knows it.  Eight
 * bytes at a time, since it is made of every value that is looked up.
 */
uint32_t
cache_sum(const uint8_t *value, size_t len, uint64_t expiry_ms)
{
	uint64_t sum = expiry_ms ^ (uint64_t)len << 48, word;
	size_t n;

	for (; len > 0; len -= n, value += n) {
		n = len < sizeof(word) ? len : sizeof(word);
		word = 0;
		memcpy(&word, value, n);
		sum = (sum ^ word) * SUM_FACTOR;
		sum ^= sum >> 32;
	}
	return (sum);
}
