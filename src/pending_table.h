/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef PENDING_TABLE_H
#define PENDING_TABLE_H

/*
 * What pending.c, pending_table.c and pending_check.c know of a table, and no
 * one else.  Its layout and its rules are in pending.c's head comment.
 */

#include <stddef.h>
#include <stdint.h>

#include "pending.h"
#include "segment.h"

#define SUFFIXES	1024	/* that are counted apart */

enum state {
	FREE,
	QUEUED,
	GIVEN,
	ASKING
};

/* A client that waits has asked once more; its worker is told once. */
enum again {
	AGAIN_NOT,
	AGAIN_ASKED,
	AGAIN_TOLD
};

struct pending_entry {
	/* Atomic: generation << 32 | worker << 8 | state. */
	_Atomic uint64_t	 word;
	/* Atomic. */
	_Atomic uint32_t	 first;		/* node, the newest */
	_Atomic uint32_t	 must_end;
	_Atomic uint32_t	 again;		/* enum again */
	_Atomic uint32_t	 takes;		/* over 1: its worker died */

	/* Protected by the lock. */
	uint32_t		 chain;		/* of the bucket, or free */
	uint32_t		 next;		/* of the list it is on */
	uint32_t		 prev;
	uint32_t		 nodes;
	uint64_t		 listed_ms;	/* when it came on its list */

	/* Written under the lock while FREE; then only read. */
	uint64_t		 hash;
	uint64_t		 since_ms;
	uint32_t		 suffix;	/* which of suffixes[] */
	uint32_t		 key_len;
	uint8_t			 key[PENDING_KEY_MAX];
};

struct pending_node {
	/* Atomic: generation << 32 | entry; 0: free. */
	_Atomic uint64_t	 owner;
	/* Atomic: the entry's list, or the free list. */
	_Atomic uint32_t	 next;
	/* Atomic: has its reply. */
	_Atomic uint32_t	 marked;
	/* Written under the lock while free; then read by the worker. */
	struct pending_waiter	 waiter;
};

/* A list of entries in the order of listed_ms. */
struct list {
	uint32_t		 head;
	uint32_t		 tail;
	uint32_t		 count;
};

struct pending_worker {
	/* Protected by the lock. */
	struct list		 given;
	uint32_t		 load;
	/* Atomic: it takes questions. */
	_Atomic uint32_t	 ready;
};

struct pending {
	/* Set before fork. */
	struct pending_limits	 limits;
	uint32_t		 capacity;
	uint32_t		 entries;
	uint32_t		 nodes;
	uint32_t		 buckets;	/* a power of two */
	size_t			 workers_at;	/* offsets */
	size_t			 entries_at;
	size_t			 nodes_at;
	size_t			 size;

	struct segment_lock	 lock;

	/* Protected by the lock. */
	struct list		 queue;
	struct list		 asking;
	uint32_t		 in_hand;
	uint32_t		 free_entry;
	uint32_t		 free_node;
	_Atomic uint32_t	 entries_fresh;	/* handed out ever, so many */
	_Atomic uint32_t	 nodes_fresh;
	uint32_t		 suffixes[SUFFIXES];	/* entries of each */
	uint32_t		 bucket[];
};

static inline struct pending_worker *
worker_at(const struct pending *pending, uint32_t worker)
{
	return ((struct pending_worker *)((uintptr_t)pending +
	    pending->workers_at) + worker);
}

static inline struct pending_entry *
entry_at(const struct pending *pending, uint32_t index)
{
	return ((struct pending_entry *)((uintptr_t)pending +
	    pending->entries_at) + index);
}

static inline struct pending_node *
node_at(const struct pending *pending, uint32_t index)
{
	return ((struct pending_node *)((uintptr_t)pending +
	    pending->nodes_at) + index);
}

/* The word with another state and worker. */
static inline uint64_t
word_make(uint64_t word, enum state state, uint32_t worker)
{
	return ((word & ~(uint64_t)UINT32_MAX) | worker << 8 | state);
}

static inline enum state
word_state(uint64_t word)
{
	return (word & 0xff);
}

static inline uint32_t
word_worker(uint64_t word)
{
	return ((uint32_t)word >> 8);
}

/* What a node of the entry that has this word says of its owner. */
static inline uint64_t
owner_make(uint64_t word, uint32_t index)
{
	return ((word & ~(uint64_t)UINT32_MAX) | index);
}

/* The list that an entry's word says. */
static inline struct list *
list_of(struct pending *pending, const struct pending_entry *entry)
{
	switch (word_state(entry->word)) {
	case GIVEN:
		return (&worker_at(pending, word_worker(entry->word))->given);
	case ASKING:
		return (&pending->asking);
	default:
		return (&pending->queue);
	}
}

/* The entry, or node, that would be used next; 0: none is left. */
static inline uint32_t
entry_peek_locked(const struct pending *pending)
{
	if (pending->free_entry != 0)
		return (pending->free_entry);
	return (pending->entries_fresh < pending->entries ?
	    pending->entries_fresh + 1 : 0);
}

static inline uint32_t
node_peek_locked(const struct pending *pending)
{
	if (pending->free_node != 0)
		return (pending->free_node);
	return (pending->nodes_fresh < pending->nodes ?
	    pending->nodes_fresh + 1 : 0);
}

/*
 * Lock the table, made whole if need be, waiting at most so many times 5 ms.
 * Returns 0, or -1: it is busy.
 */
int	 pending_lock_table(struct pending *pending, int waits);
void	 pending_unlock_table(struct pending *pending);

/* The entry of a question, or 0. */
uint32_t pending_find_locked(const struct pending *pending, uint64_t hash,
	    const uint8_t *key, size_t key_len);

/* Use the entry that was peeked at. */
void	 pending_entry_use_locked(struct pending *pending, uint32_t index);

/* Make the node that was peeked at, with waiter in it, an entry's newest. */
void	 pending_node_use_locked(struct pending *pending, uint32_t at,
	    uint32_t index, const struct pending_waiter *waiter);

/* Put an entry where its word says: bucket, list, its worker's load. */
void	 pending_place_locked(struct pending *pending, uint32_t index);

/* Take an entry that is FREE by its word out of all lists, with its nodes. */
void	 pending_free_locked(struct pending *pending, uint32_t index);

void	 pending_list_insert(struct pending *pending, struct list *list,
	    uint32_t index);
void	 pending_list_remove(struct pending *pending, struct list *list,
	    uint32_t index);

#endif
