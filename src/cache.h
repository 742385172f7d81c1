/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef CACHE_H
#define CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cache;

enum cache_result {
	CACHE_MISS,
	CACHE_HIT,
	CACHE_EXPIRED,	/* there, and copied, but its time is over */
	CACHE_BUSY	/* can't tell; to be taken as a miss */
};

struct cache_stats {
	uint64_t	 entries;
	uint64_t	 evictions;	/* entries put out to make room */
	uint64_t	 rebuilds;	/* shards emptied after a death */
};

/*
 * The bytes of segment that a cache of so many entries takes; memory is what
 * it should take, all told.  It takes more where memory would not hold the
 * entries' index and, in each shard, one value of CACHE_VALUE_MAX bytes.
 * entries 0: a cache that keeps nothing.
 */
#define CACHE_VALUE_MAX	(80 * 1024)
size_t	 cache_size(uint32_t entries, size_t memory);

/*
 * Make a cache in cache_size() bytes of zeroed memory that starts on a cache
 * line.  Done once, before the forks.  Returns 0, or -1 with errno.
 */
int	 cache_format(struct cache *cache, uint32_t entries, size_t memory);

/*
 * Take over the memory of a cache that other processes, all dead now, have
 * used: formatted for the same arguments.  Each shard's links are checked; one
 * that is not whole is emptied.  What is in an entry is checked when it is
 * looked up.  Returns 0, or -1 if it is no such cache.
 */
int	 cache_adopt(struct cache *cache, uint32_t entries, size_t memory);

/* Is it a cache that was formatted for these arguments? */
bool	 cache_is(const struct cache *cache, uint32_t entries, size_t memory);

/*
 * Carry over what has not expired from one cache to another, while both are in
 * use.  hash gives the caller's hash of a key for the other.  Returns how many
 * entries it was.
 */
typedef uint64_t cache_hash(const void *context, const uint8_t *key,
	    size_t key_len);
int	 cache_carry(struct cache *to, struct cache *from, uint64_t now_ms,
	    cache_hash *hash, const void *context);

/*
 * Look a key up.  hash is the caller's keyed hash of it.  A hit becomes the
 * most recently used entry of its shard.  At most size bytes of the value are
 * copied to buf; *len gets the whole length.  now and the expiry given to
 * cache_store() are milliseconds of one clock.
 */
enum cache_result cache_lookup(struct cache *cache, uint64_t hash,
	    const uint8_t *key, size_t key_len, uint64_t now_ms,
	    uint8_t *buf, size_t size, size_t *len);

/*
 * Store a value, in place of the one that the key has.  The least recently
 * used entries make room.  Returns 0, or -1: too large, or the shard is busy.
 */
int	 cache_store(struct cache *cache, uint64_t hash,
	    const uint8_t *key, size_t key_len, uint64_t expiry_ms,
	    const uint8_t *value, size_t value_len);

/* Counted without a lock: each figure is right, their moment may differ. */
void	 cache_count(const struct cache *cache, struct cache_stats *stats);

/*
 * For tests: 0 if every list, index and count is as the head comment of
 * cache.c says, else the number of the first rule that is broken.  No one
 * may be using the cache.
 */
int	 cache_check(const struct cache *cache);

#endif
