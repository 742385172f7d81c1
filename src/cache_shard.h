/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef CACHE_SHARD_H
#define CACHE_SHARD_H

/* What cache.c and cache_whole.c know of a cache, and no one else. */

#include <stdbool.h>

#include "cache.h"
#include "segment.h"

#define SHARDS_MAX	64		/* as many as bits in a word */
#define BLOCK_DATA	60		/* a block is a cache line */
#define KEY_MAX		258

struct cache_entry {
	/* Protected by the shard's lock. */
	uint64_t		 expiry_ms;
	uint32_t		 tag;
	uint32_t		 chain;		/* next in bucket, or free */
	uint32_t		 newer;
	uint32_t		 older;
	uint32_t		 block;		/* the first */
	uint32_t		 sum;		/* of value, length, expiry */
	uint32_t		 value_len;
	uint16_t		 key_len;
};

struct cache_block {
	/* Protected by the shard's lock. */
	uint32_t		 next;
	uint8_t			 data[BLOCK_DATA];
};

struct cache_shard {
	struct segment_lock	 lock;

	/* Protected by the shard's lock; the atomic ones are counted by all. */
	uint32_t		 newest;
	uint32_t		 oldest;
	uint32_t		 free_entry;
	uint32_t		 free_block;
	uint32_t		 entries_fresh;
	uint32_t		 blocks_fresh;
	uint32_t		 blocks_used;
	_Atomic uint32_t	 used;
	_Atomic uint64_t	 evictions;
};

struct cache {
	/* Set before fork. */
	uint32_t		 shards;
	uint32_t		 entries;	/* of a shard, as these two */
	uint32_t		 blocks;
	uint32_t		 buckets;	/* a power of two */
	size_t			 shard_size;
	size_t			 entries_at;	/* offsets in a shard */
	size_t			 blocks_at;
};

static inline struct cache_shard *
shard_of(const struct cache *cache, uint32_t shard)
{
	return ((struct cache_shard *)((uintptr_t)cache +
	    segment_round(sizeof(*cache)) + shard * cache->shard_size));
}

static inline uint32_t *
buckets_of(const struct cache_shard *shard)
{
	return ((uint32_t *)((uintptr_t)shard + sizeof(*shard)));
}

static inline struct cache_entry *
entries_of(const struct cache *cache, const struct cache_shard *shard)
{
	return ((struct cache_entry *)((uintptr_t)shard + cache->entries_at));
}

static inline struct cache_block *
blocks_of(const struct cache *cache, const struct cache_shard *shard)
{
	return ((struct cache_block *)((uintptr_t)shard + cache->blocks_at));
}

static inline uint32_t
blocks_for(size_t len)
{
	return ((len + BLOCK_DATA - 1) / BLOCK_DATA);
}

/* How a cache of that size is divided, all but its shards themselves. */
void	 cache_geometry(struct cache *cache, uint32_t entries, size_t memory);

/* The shard of a hash, locked and whole, or NULL: it is busy. */
struct cache_shard *cache_lock_shard(struct cache *cache, uint64_t hash);

/* Empty a shard that is not whole. */
void	 cache_mend_locked(const struct cache *cache,
	    struct cache_shard *shard);

/* The entry of a key, or 0. */
uint32_t cache_find_locked(const struct cache *cache,
	    struct cache_shard *shard, uint32_t tag, const uint8_t *key,
	    size_t key_len);

/*
 * Copy len bytes of an entry's key and value, those behind the first skip.
 * False: its chain of blocks makes no sense.
 */
bool	 cache_read_locked(const struct cache *cache,
	    const struct cache_shard *shard, const struct cache_entry *entry,
	    size_t skip, uint8_t *buf, size_t len);

/* The sum of a value and its expiry, by which damage is seen. */
uint32_t cache_sum(const uint8_t *value, size_t len, uint64_t expiry_ms);

#endif
