/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The structure of the table that pending.c's head comment describes: where
 * its parts lie, its lock, lists, chains and counts, and what is free in it.
 * Nothing is decided here.  An entry's word says where the entry belongs, a
 * node's owner word whose it is; so when an owner of the lock died, all else
 * is made anew from these.
 */

#include <string.h>

#include "fault.h"
#include "pending_table.h"

/*
 * Few workers may ask much at once, and all of them do not: the table would be
 * large for nothing.
 */
#define CAPACITY_MIN	4096	/* questions asked at once, or */
#define CAPACITY_EACH	32	/* so many a worker */
#define ENTRIES_SPARE	64	/* for those that take another's place */
#define NODES_MIN	4096

static void	geometry(struct pending *, const struct pending_limits *);
static void	rebuild_locked(struct pending *);
static bool	makes_sense(const struct pending *,
		    const struct pending_entry *);

size_t
pending_size(const struct pending_limits *limits)
{
	struct pending pending;

	geometry(&pending, limits);
	return (pending.size);
}

int
pending_format(struct pending *pending, const struct pending_limits *limits)
{
	geometry(pending, limits);
	return (segment_lock_init(&pending->lock));
}

static void
geometry(struct pending *pending, const struct pending_limits *limits)
{
	uint32_t most;

	pending->limits = *limits;
	most = limits->workers * CAPACITY_EACH;
	if (most < CAPACITY_MIN)
		most = CAPACITY_MIN;
	pending->capacity = limits->workers * limits->per_worker;
	if (pending->capacity > most)
		pending->capacity = most;
	pending->entries = pending->capacity + limits->queue + ENTRIES_SPARE;
	pending->nodes = pending->entries * 2;
	if (pending->nodes < NODES_MIN)
		pending->nodes = NODES_MIN;
	pending->buckets = 1;
	while (pending->buckets < pending->entries)
		pending->buckets *= 2;
	pending->workers_at = segment_round(sizeof(*pending) +
	    pending->buckets * sizeof(uint32_t));
	pending->entries_at = segment_round(pending->workers_at +
	    limits->workers * sizeof(struct pending_worker));
	pending->nodes_at = segment_round(pending->entries_at +
	    (pending->entries + (size_t)1) * sizeof(struct pending_entry));
	pending->size = segment_round(pending->nodes_at +
	    (pending->nodes + (size_t)1) * sizeof(struct pending_node));
}

/*
 * A holder that only waits for a processor is worth some patience; once that
 * was in vain, this process asks without waiting till the lock is free again.
 */
int
pending_lock_table(struct pending *pending, int waits)
{
	static bool stuck;
	enum segment_result result;
	int i;

	result = segment_lock_try(&pending->lock);
	for (i = 0; result == SEGMENT_BUSY && !stuck && i < waits; i++)
		result = segment_lock_take(&pending->lock);
	if (stuck != (result == SEGMENT_BUSY))	/* else the page stays shared */
		stuck = !stuck;
	switch (result) {
	case SEGMENT_BUSY:
		return (-1);
	case SEGMENT_BROKEN:
		FAULT("pending.rebuild");
		rebuild_locked(pending);
		segment_rebuilt(&pending->lock);
		break;
	case SEGMENT_LOCKED:
		break;
	}
	segment_dirty(&pending->lock);
	return (0);
}

void
pending_unlock_table(struct pending *pending)
{
	segment_clean(&pending->lock);
	segment_lock_drop(&pending->lock);
}

static void
rebuild_locked(struct pending *pending)
{
	struct pending_entry *entry;
	struct pending_node *node;
	uint64_t owner;
	uint32_t i;

	memset(pending->bucket, 0, pending->buckets * sizeof(uint32_t));
	memset(&pending->queue, 0, sizeof(pending->queue));
	memset(&pending->asking, 0, sizeof(pending->asking));
	memset(pending->suffixes, 0, sizeof(pending->suffixes));
	pending->free_entry = pending->free_node = 0;
	for (i = 0; i < pending->limits.workers; i++) {
		memset(&worker_at(pending, i)->given, 0, sizeof(struct list));
		worker_at(pending, i)->load = 0;
	}
	pending->in_hand = 0;
	if (pending->entries_fresh > pending->entries)
		pending->entries_fresh = pending->entries;
	if (pending->nodes_fresh > pending->nodes)
		pending->nodes_fresh = pending->nodes;
	for (i = 1; i <= pending->entries_fresh; i++) {
		entry = entry_at(pending, i);
		entry->first = 0;
		entry->nodes = 0;
		if (!makes_sense(pending, entry))
			entry->word = word_make(entry->word, FREE, 0);
		if (word_state(entry->word) == FREE) {
			entry->chain = pending->free_entry;
			pending->free_entry = i;
		} else
			pending_place_locked(pending, i);
	}
	for (i = 1; i <= pending->nodes_fresh; i++) {
		node = node_at(pending, i);
		owner = node->owner;
		entry = entry_at(pending, (uint32_t)owner);
		if (owner != 0 && (uint32_t)owner <= pending->entries_fresh &&
		    word_state(entry->word) != FREE &&
		    owner_make(entry->word, (uint32_t)owner) == owner) {
			node->next = entry->first;
			entry->first = i;
			entry->nodes++;
		} else {
			node->owner = 0;
			node->next = pending->free_node;
			pending->free_node = i;
		}
	}
}

/* Can an entry be placed?  What nobody should have written may be anything. */
static bool
makes_sense(const struct pending *pending, const struct pending_entry *entry)
{
	return (word_state(entry->word) <= ASKING &&
	    (word_state(entry->word) <= QUEUED ||
	    word_worker(entry->word) < pending->limits.workers) &&
	    entry->suffix < SUFFIXES && entry->key_len <= PENDING_KEY_MAX);
}

uint32_t
pending_find_locked(const struct pending *pending, uint64_t hash,
    const uint8_t *key, size_t key_len)
{
	const struct pending_entry *entry;
	uint32_t index;

	index = pending->bucket[hash & (pending->buckets - 1)];
	for (; index != 0; index = entry->chain) {
		entry = entry_at(pending, index);
		if (entry->hash == hash && entry->key_len == key_len &&
		    memcmp(entry->key, key, key_len) == 0)
			break;
	}
	return (index);
}

void
pending_free_locked(struct pending *pending, uint32_t index)
{
	struct pending_entry *entry = entry_at(pending, index);
	uint32_t *link, node, next;

	link = &pending->bucket[entry->hash & (pending->buckets - 1)];
	while (*link != index)
		link = &entry_at(pending, *link)->chain;
	*link = entry->chain;
	pending->suffixes[entry->suffix]--;
	pending_list_remove(pending, &pending->asking, index);
	for (node = entry->first; node != 0; node = next) {
		next = node_at(pending, node)->next;
		node_at(pending, node)->owner = 0;
		node_at(pending, node)->next = pending->free_node;
		pending->free_node = node;
	}
	entry->first = 0;
	entry->nodes = 0;
	entry->chain = pending->free_entry;
	pending->free_entry = index;
}

void
pending_entry_use_locked(struct pending *pending, uint32_t index)
{
	if (index == pending->free_entry)
		pending->free_entry = entry_at(pending, index)->chain;
	else
		pending->entries_fresh++;
}

void
pending_node_use_locked(struct pending *pending, uint32_t at, uint32_t index,
    const struct pending_waiter *waiter)
{
	struct pending_entry *entry = entry_at(pending, index);
	struct pending_node *node = node_at(pending, at);

	if (at == pending->free_node)
		pending->free_node = node->next;
	else
		pending->nodes_fresh++;
	node->waiter = *waiter;
	node->marked = 0;
	node->next = entry->first;
	node->owner = owner_make(entry->word, index);
	entry->first = at;
	entry->nodes++;
}

void
pending_place_locked(struct pending *pending, uint32_t index)
{
	struct pending_entry *entry = entry_at(pending, index);
	uint32_t *bucket = &pending->bucket[entry->hash &
	    (pending->buckets - 1)];

	entry->chain = *bucket;
	*bucket = index;
	pending->suffixes[entry->suffix]++;
	pending_list_insert(pending, list_of(pending, entry), index);
	if (word_state(entry->word) != QUEUED) {
		worker_at(pending, word_worker(entry->word))->load++;
		pending->in_hand++;
	}
}

/* Behind all that came before it: at the end, but for a rebuild. */
void
pending_list_insert(struct pending *pending, struct list *list, uint32_t index)
{
	struct pending_entry *entry = entry_at(pending, index);
	uint32_t prev = list->tail, next = 0;

	while (prev != 0 &&
	    entry_at(pending, prev)->listed_ms > entry->listed_ms) {
		next = prev;
		prev = entry_at(pending, prev)->prev;
	}
	entry->prev = prev;
	entry->next = next;
	if (prev != 0)
		entry_at(pending, prev)->next = index;
	else
		list->head = index;
	if (next != 0)
		entry_at(pending, next)->prev = index;
	else
		list->tail = index;
	list->count++;
}

void
pending_list_remove(struct pending *pending, struct list *list, uint32_t index)
{
	const struct pending_entry *entry = entry_at(pending, index);

	if (entry->prev != 0)
		entry_at(pending, entry->prev)->next = entry->next;
	else
		list->head = entry->next;
	if (entry->next != 0)
		entry_at(pending, entry->next)->prev = entry->prev;
	else
		list->tail = entry->prev;
	list->count--;
}
