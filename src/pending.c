/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The questions that are being asked, the clients that wait for each, and the
 * queue of those that no worker has room for.  It makes fifty clients that ask
 * one new name one upstream query, across all processes.
 *
 * The table is a head, then bucket[], worker[], entry[1 .. entries] and
 * node[1 .. nodes]; index 0 ends every list.  An entry is a question.  Its
 * state word says all that matters of it, and changes in one store:
 *
 *	FREE -> QUEUED -> ASKING(worker) -> FREE
 *	FREE -> GIVEN(worker) -> ASKING(worker) -> FREE
 *	ASKING(worker) -> GIVEN(worker)		when a worker is replaced
 *
 * with a generation that grows whenever an entry is used anew.  A node is a
 * client that waits; its owner word holds the entry's index and generation,
 * and a node whose owner is FREE or of another generation is free.  What is
 * in an entry or a node is written before the word that publishes it.
 *
 *	every entry in use is in the chain of the bucket that its hash says,
 *	and on one list: the queue (QUEUED), its worker's given list (GIVEN),
 *	or the asking list (ASKING), each in order of arrival
 *	suffixes[s] = entries in use whose name ends in the suffix s
 *	load[w] = entries that are GIVEN or ASKING by w <= per_worker
 *	in_hand = the sum of load[] <= capacity
 *	every node in use is once on the list of its owner, newest first
 *
 * One lock protects the table.  Without it the worker that asks an entry may
 * read its question, walk its nodes and mark them as replied to; only it does,
 * and what it reads stays till it calls pending_finish().  New nodes come at
 * the front, so a walk sees a list that is whole.
 *
 * When an owner of the lock died amid a change, all lists, chains and counts
 * are made anew from the state and owner words.  A walk that goes on
 * meanwhile may miss nodes; pending_finish() finds those unmarked, and they
 * are walked again.  A listener stores whom it is about to wake before it
 * publishes an entry, so that its successor can ring again.
 */

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "dns.h"
#include "fault.h"
#include "pending.h"
#include "segment.h"

/*
 * Few workers may ask much at once, and all of them do not: the table would be
 * large for nothing.
 */
#define CAPACITY_MIN	4096	/* questions asked at once, or */
#define CAPACITY_EACH	32	/* so many a worker */
#define ENTRIES_SPARE	64	/* for those that take another's place */
#define NODES_MIN	4096
#define NODES_SHARE	4	/* of all nodes one entry may have 1/4 */
#define SCAN_MAX	64	/* nodes searched for a retransmission */
#define SUFFIXES	1024	/* that are counted apart */
#define SUFFIX_SHARE	4	/* when all are full, one may have 1/4 */
#define SUFFIX_MIN	64	/* or so many */
#define LOCK_WAITS	16	/* waits for the lock, of 5 ms; but one */
#define JOIN_WAITS	1	/* if those who have their answers wait, too */
#define KEEPS_PLACE_MS	1000	/* so long a question keeps its place */
#define AGAIN_MS	250	/* before that, it is no retransmission */

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

static void		 geometry(struct pending *,
			    const struct pending_limits *);
static struct pending_worker *worker_at(const struct pending *, uint32_t);
static struct pending_entry *entry_at(const struct pending *, uint32_t);
static struct pending_node *node_at(const struct pending *, uint32_t);
static uint64_t		 word_make(uint64_t, enum state, uint32_t);
static enum state	 word_state(uint64_t);
static uint32_t		 word_worker(uint64_t);
static uint64_t		 owner_make(uint64_t, uint32_t);
static int		 lock_table(struct pending *, int);
static void		 rebuild_locked(struct pending *);
static uint32_t		 find_locked(const struct pending *, uint64_t,
			    const uint8_t *, size_t);
static enum pending_result join_locked(struct pending *, uint32_t,
			    const struct pending_waiter *, uint64_t,
			    _Atomic uint32_t *);
static void		 ask_again_locked(struct pending_entry *, uint64_t,
			    _Atomic uint32_t *);
static enum pending_result begin_locked(struct pending *, uint64_t,
			    const uint8_t *, size_t,
			    const struct pending_waiter *, uint64_t,
			    _Atomic uint32_t *);
static uint32_t		 suffix_of(const uint8_t *, size_t);
static uint32_t		 choose_worker_locked(const struct pending *);
static uint32_t		 oldest_gives_way_locked(struct pending *, uint64_t);
static void		 take_locked(struct pending *, uint32_t, uint32_t,
			    uint64_t);
static void		 free_locked(struct pending *, uint32_t);
static uint32_t		 entry_peek_locked(const struct pending *);
static uint32_t		 node_peek_locked(const struct pending *);
static void		 entry_use_locked(struct pending *, uint32_t);
static void		 node_use_locked(struct pending *, uint32_t,
			    uint32_t, const struct pending_waiter *);
static void		 place_locked(struct pending *, uint32_t);
static struct list	*list_of(struct pending *,
			    const struct pending_entry *);
static void		 list_insert(struct pending *, struct list *,
			    uint32_t);
static void		 list_remove(struct pending *, struct list *,
			    uint32_t);

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

static struct pending_worker *
worker_at(const struct pending *pending, uint32_t worker)
{
	return ((struct pending_worker *)((uintptr_t)pending +
	    pending->workers_at) + worker);
}

static struct pending_entry *
entry_at(const struct pending *pending, uint32_t index)
{
	return ((struct pending_entry *)((uintptr_t)pending +
	    pending->entries_at) + index);
}

static struct pending_node *
node_at(const struct pending *pending, uint32_t index)
{
	return ((struct pending_node *)((uintptr_t)pending +
	    pending->nodes_at) + index);
}

/* The word with another state and worker. */
static uint64_t
word_make(uint64_t word, enum state state, uint32_t worker)
{
	return ((word & ~(uint64_t)UINT32_MAX) | worker << 8 | state);
}

static enum state
word_state(uint64_t word)
{
	return (word & 0xff);
}

static uint32_t
word_worker(uint64_t word)
{
	return ((uint32_t)word >> 8);
}

/* What a node of the entry that has this word says of its owner. */
static uint64_t
owner_make(uint64_t word, uint32_t index)
{
	return ((word & ~(uint64_t)UINT32_MAX) | index);
}

/*
 * Returns 0 with the table locked and whole, or -1: busy.  A holder that only
 * waits for a processor is worth some patience; once that was in vain, this
 * process asks without waiting till the lock is free again.
 */
static int
lock_table(struct pending *pending, int waits)
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
	return (0);
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
	for (i = 1; i <= pending->entries_fresh; i++) {
		entry = entry_at(pending, i);
		entry->first = 0;
		entry->nodes = 0;
		if (word_state(entry->word) == FREE) {
			entry->chain = pending->free_entry;
			pending->free_entry = i;
		} else
			place_locked(pending, i);
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

enum pending_result
pending_join(struct pending *pending, uint64_t hash, const uint8_t *key,
    size_t key_len, const struct pending_waiter *waiter, uint64_t now_ms,
    _Atomic uint32_t *wake)
{
	enum pending_result result;
	uint32_t index;

	atomic_store(wake, PENDING_NO_WORKER);
	if (lock_table(pending, JOIN_WAITS) == -1)
		return (PENDING_BUSY);
	index = find_locked(pending, hash, key, key_len);
	if (index != 0)
		result = join_locked(pending, index, waiter, now_ms, wake);
	else
		result = begin_locked(pending, hash, key, key_len, waiter,
		    now_ms, wake);
	segment_lock_drop(&pending->lock);
	return (result);
}

static uint32_t
find_locked(const struct pending *pending, uint64_t hash, const uint8_t *key,
    size_t key_len)
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

/* Append a client to a question that is pending. */
static enum pending_result
join_locked(struct pending *pending, uint32_t index,
    const struct pending_waiter *waiter, uint64_t now_ms,
    _Atomic uint32_t *wake)
{
	struct pending_entry *entry = entry_at(pending, index);
	const struct pending_node *node;
	uint32_t at, steps = 0;

	for (at = entry->first; at != 0 && steps++ < SCAN_MAX;
	    at = node->next) {
		node = node_at(pending, at);
		if (node->waiter.id == waiter->id &&
		    node->waiter.socket == waiter->socket &&
		    node->waiter.connection == waiter->connection &&
		    node->waiter.generation == waiter->generation &&
		    addr_equal(&node->waiter.client, &waiter->client)) {
			ask_again_locked(entry, now_ms, wake);
			return (PENDING_DUPLICATE);
		}
	}
	at = node_peek_locked(pending);
	if (at == 0 || entry->nodes >= pending->nodes / NODES_SHARE)
		return (PENDING_FULL);
	segment_dirty(&pending->lock);
	node_use_locked(pending, at, index, waiter);
	segment_clean(&pending->lock);
	return (PENDING_JOINED);
}

/* The packet to the upstream may be lost, or the reply. */
static void
ask_again_locked(struct pending_entry *entry, uint64_t now_ms,
    _Atomic uint32_t *wake)
{
	if (word_state(entry->word) != ASKING || entry->again != AGAIN_NOT ||
	    now_ms < entry->listed_ms + AGAIN_MS)
		return;
	atomic_store(wake, word_worker(entry->word));
	entry->again = AGAIN_ASKED;
}

/* Make an entry for a new question. */
static enum pending_result
begin_locked(struct pending *pending, uint64_t hash, const uint8_t *key,
    size_t key_len, const struct pending_waiter *waiter, uint64_t now_ms,
    _Atomic uint32_t *wake)
{
	struct pending_entry *entry;
	uint32_t index, node, worker, ring = PENDING_NO_WORKER;
	enum state state = GIVEN;
	uint32_t suffix = suffix_of(key, key_len);

	index = entry_peek_locked(pending);
	node = node_peek_locked(pending);
	if (index == 0 || node == 0)
		return (PENDING_FULL);
	worker = choose_worker_locked(pending);
	if (worker == PENDING_NO_WORKER) {
		state = QUEUED;
		worker = 0;
		if (pending->suffixes[suffix] >= SUFFIX_MIN &&
		    pending->suffixes[suffix] >= pending->capacity /
		    SUFFIX_SHARE)
			return (PENDING_CROWDED);
		if (pending->queue.count >= pending->limits.queue) {
			ring = oldest_gives_way_locked(pending, now_ms);
			if (ring == PENDING_NO_WORKER)
				return (PENDING_FULL);
		}
	} else if (worker_at(pending, worker)->given.head == 0)
		ring = worker;
	atomic_store(wake, ring);

	segment_dirty(&pending->lock);
	entry = entry_at(pending, index);
	entry->hash = hash;
	entry->suffix = suffix;
	entry->key_len = key_len;
	memcpy(entry->key, key, key_len);
	entry->since_ms = entry->listed_ms = now_ms;
	entry->first = 0;
	entry->nodes = 0;
	entry->must_end = 0;
	entry->takes = 0;
	entry_use_locked(pending, index);
	/* A new generation, still FREE; published after its first node. */
	entry->word += (uint64_t)1 << 32;
	node_use_locked(pending, node, index, waiter);
	entry->word = word_make(entry->word, state, worker);
	FAULT("pending.published");
	place_locked(pending, index);
	segment_clean(&pending->lock);
	return (state == GIVEN ? PENDING_GIVEN : PENDING_QUEUED);
}

/*
 * Random names of one zone, asked to wear its servers out, have a suffix in
 * common: they must leave room for others.  FNV-1a, since what a collision
 * brings, whoever makes it has already.
 */
static uint32_t
suffix_of(const uint8_t *key, size_t key_len)
{
	uint32_t hash = 2166136261U;
	size_t at;

	for (at = dns_key_suffix(key, key_len); at + 3 < key_len; at++)
		hash = (hash ^ key[at]) * 16777619U;
	return (hash % SUFFIXES);
}

/* The least busy of the preferred ones; else the next that has room. */
static uint32_t
choose_worker_locked(const struct pending *pending)
{
	const struct pending_limits *limits = &pending->limits;
	const struct pending_worker *worker;
	uint32_t best = PENDING_NO_WORKER, lowest = limits->per_worker, i;

	if (pending->in_hand >= pending->capacity)
		return (PENDING_NO_WORKER);
	for (i = 0; i < limits->workers; i++) {
		if (i >= limits->preferred && best != PENDING_NO_WORKER)
			break;
		worker = worker_at(pending, i);
		if (worker->ready && worker->load < lowest) {
			best = i;
			lowest = worker->load;
		}
	}
	return (best);
}

/*
 * The question asked for longest is to end, if it has had its time.  Returns
 * its worker, or PENDING_NO_WORKER.
 */
static uint32_t
oldest_gives_way_locked(struct pending *pending, uint64_t now_ms)
{
	struct pending_entry *entry;
	uint32_t index;

	for (index = pending->asking.head; index != 0; index = entry->next) {
		entry = entry_at(pending, index);
		if (entry->listed_ms + KEEPS_PLACE_MS > now_ms)
			break;
		if (entry->must_end)
			continue;
		entry->must_end = 1;
		return (word_worker(entry->word));
	}
	return (PENDING_NO_WORKER);
}

int
pending_worker_start(struct pending *pending, uint32_t worker)
{
	struct pending_entry *entry;
	uint32_t i;

	if (lock_table(pending, LOCK_WAITS) == -1)
		return (-1);
	segment_dirty(&pending->lock);
	for (i = 1; i <= pending->entries_fresh; i++) {
		entry = entry_at(pending, i);
		if (word_state(entry->word) != ASKING ||
		    word_worker(entry->word) != worker)
			continue;
		list_remove(pending, &pending->asking, i);
		entry->word = word_make(entry->word, GIVEN, worker);
		entry->must_end = 0;
		list_insert(pending, &worker_at(pending, worker)->given, i);
	}
	worker_at(pending, worker)->ready = 1;
	segment_clean(&pending->lock);
	segment_lock_drop(&pending->lock);
	return (0);
}

/* Under the lock, if it is to be had: so no join is amid choosing it. */
void
pending_worker_stop(struct pending *pending, uint32_t worker)
{
	int locked = lock_table(pending, LOCK_WAITS);

	worker_at(pending, worker)->ready = 0;
	if (locked == 0)
		segment_lock_drop(&pending->lock);
}

void
pending_worker_dead(struct pending *pending, uint32_t worker)
{
	worker_at(pending, worker)->ready = 0;
}

bool
pending_worker_ready(const struct pending *pending, uint32_t worker)
{
	return (worker_at(pending, worker)->ready != 0);
}

int
pending_take(struct pending *pending, uint32_t worker, uint32_t max,
    uint64_t now_ms, uint32_t *index)
{
	struct pending_worker *self = worker_at(pending, worker);
	int taken = 0;

	if (lock_table(pending, LOCK_WAITS) == -1)
		return (-1);
	segment_dirty(&pending->lock);
	for (; max > 0 && self->given.head != 0; max--) {
		index[taken] = self->given.head;
		take_locked(pending, index[taken++], worker, now_ms);
	}
	for (; max > 0 && pending->queue.head != 0 && self->ready &&
	    self->load < pending->limits.per_worker &&
	    pending->in_hand < pending->capacity; max--) {
		index[taken] = pending->queue.head;
		self->load++;
		pending->in_hand++;
		take_locked(pending, index[taken++], worker, now_ms);
	}
	segment_clean(&pending->lock);
	segment_lock_drop(&pending->lock);
	return (taken);
}

static void
take_locked(struct pending *pending, uint32_t index, uint32_t worker,
    uint64_t now_ms)
{
	struct pending_entry *entry = entry_at(pending, index);

	list_remove(pending, list_of(pending, entry), index);
	entry->listed_ms = now_ms;
	entry->again = AGAIN_NOT;
	entry->takes++;
	entry->word = word_make(entry->word, ASKING, worker);
	FAULT("pending.taken");
	list_insert(pending, &pending->asking, index);
}

const uint8_t *
pending_key(const struct pending *pending, uint32_t index, size_t *key_len)
{
	*key_len = entry_at(pending, index)->key_len;
	return (entry_at(pending, index)->key);
}

uint64_t
pending_hash(const struct pending *pending, uint32_t index)
{
	return (entry_at(pending, index)->hash);
}

uint64_t
pending_since_ms(const struct pending *pending, uint32_t index)
{
	return (entry_at(pending, index)->since_ms);
}

unsigned
pending_takes(const struct pending *pending, uint32_t index)
{
	return (entry_at(pending, index)->takes);
}

bool
pending_must_end(const struct pending *pending, uint32_t index)
{
	return (entry_at(pending, index)->must_end);
}

bool
pending_asked_again(struct pending *pending, uint32_t index)
{
	uint32_t asked = AGAIN_ASKED;

	return (atomic_compare_exchange_strong(&entry_at(pending,
	    index)->again, &asked, AGAIN_TOLD));
}

uint32_t
pending_next(const struct pending *pending, uint32_t index, uint32_t waiter)
{
	if (waiter == 0)
		waiter = entry_at(pending, index)->first;
	else
		waiter = node_at(pending, waiter)->next;
	while (waiter != 0 && node_at(pending, waiter)->marked)
		waiter = node_at(pending, waiter)->next;
	return (waiter);
}

const struct pending_waiter *
pending_waiter(const struct pending *pending, uint32_t waiter)
{
	return (&node_at(pending, waiter)->waiter);
}

void
pending_mark(struct pending *pending, uint32_t waiter)
{
	node_at(pending, waiter)->marked = 1;
}

int
pending_finish(struct pending *pending, uint32_t worker, uint32_t index,
    bool *more)
{
	const struct pending_worker *self = worker_at(pending, worker);
	struct pending_entry *entry = entry_at(pending, index);
	int result = 1;

	if (lock_table(pending, LOCK_WAITS) == -1)
		return (-1);
	if (pending_next(pending, index, 0) == 0) {
		result = 0;
		segment_dirty(&pending->lock);
		entry->word = word_make(entry->word, FREE, 0);
		FAULT("pending.freed");
		worker_at(pending, worker)->load--;
		pending->in_hand--;
		free_locked(pending, index);
		segment_clean(&pending->lock);
	}
	*more = self->given.head != 0 || pending->queue.head != 0;
	segment_lock_drop(&pending->lock);
	return (result);
}

/* Take an entry that is FREE by its word out of all lists, with its nodes. */
static void
free_locked(struct pending *pending, uint32_t index)
{
	struct pending_entry *entry = entry_at(pending, index);
	uint32_t *link, node, next;

	link = &pending->bucket[entry->hash & (pending->buckets - 1)];
	while (*link != index)
		link = &entry_at(pending, *link)->chain;
	*link = entry->chain;
	pending->suffixes[entry->suffix]--;
	list_remove(pending, &pending->asking, index);
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

/* The entry, or node, that would be used next; 0: none is left. */
static uint32_t
entry_peek_locked(const struct pending *pending)
{
	if (pending->free_entry != 0)
		return (pending->free_entry);
	return (pending->entries_fresh < pending->entries ?
	    pending->entries_fresh + 1 : 0);
}

static uint32_t
node_peek_locked(const struct pending *pending)
{
	if (pending->free_node != 0)
		return (pending->free_node);
	return (pending->nodes_fresh < pending->nodes ?
	    pending->nodes_fresh + 1 : 0);
}

static void
entry_use_locked(struct pending *pending, uint32_t index)
{
	if (index == pending->free_entry)
		pending->free_entry = entry_at(pending, index)->chain;
	else
		pending->entries_fresh++;
}

/* Make a node the newest of an entry. */
static void
node_use_locked(struct pending *pending, uint32_t at, uint32_t index,
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

/* Put an entry where its word says: bucket, list, its worker's load. */
static void
place_locked(struct pending *pending, uint32_t index)
{
	struct pending_entry *entry = entry_at(pending, index);
	uint32_t *bucket = &pending->bucket[entry->hash &
	    (pending->buckets - 1)];

	entry->chain = *bucket;
	*bucket = index;
	pending->suffixes[entry->suffix]++;
	list_insert(pending, list_of(pending, entry), index);
	if (word_state(entry->word) != QUEUED) {
		worker_at(pending, word_worker(entry->word))->load++;
		pending->in_hand++;
	}
}

static struct list *
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

/* Behind all that came before it: at the end, but for a rebuild. */
static void
list_insert(struct pending *pending, struct list *list, uint32_t index)
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

static void
list_remove(struct pending *pending, struct list *list, uint32_t index)
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

void
pending_count(const struct pending *pending, struct pending_stats *stats)
{
	uint32_t i;

	memset(stats, 0, sizeof(*stats));
	for (i = 1; i <= pending->entries_fresh; i++) {
		switch (word_state(entry_at(pending, i)->word)) {
		case FREE:
			break;
		case QUEUED:
			stats->queued++;
			break;
		default:
			stats->asking++;
		}
	}
	for (i = 1; i <= pending->nodes_fresh; i++) {
		if (node_at(pending, i)->owner != 0)
			stats->waiters++;
	}
	stats->rebuilds = pending->lock.rebuilds;
}

/* Walk a list, marking its entries in seen.  Returns its length, or -1. */
static int
check_list(const struct pending *pending, const struct list *list,
    enum state state, uint8_t *seen)
{
	const struct pending_entry *entry;
	uint32_t index, prev = 0, count = 0;

	for (index = list->head; index != 0; index = entry->next) {
		entry = entry_at(pending, index);
		if (index > pending->entries_fresh || seen[index]++ != 0 ||
		    entry->prev != prev || word_state(entry->word) != state)
			return (-1);
		prev = index;
		count++;
	}
	return (list->tail == prev && list->count == count ? (int)count : -1);
}

/* Does an entry hold nodes that are its own, and is it in its bucket? */
static bool
check_entry(const struct pending *pending, uint32_t index, uint8_t *seen)
{
	const struct pending_entry *entry = entry_at(pending, index);
	uint32_t at, nodes = 0;

	for (at = entry->first; at != 0; at = node_at(pending, at)->next) {
		if (at > pending->nodes_fresh || seen[at]++ != 0 ||
		    node_at(pending, at)->owner !=
		    owner_make(entry->word, index))
			return (false);
		nodes++;
	}
	return (nodes == entry->nodes && index == find_locked(pending,
	    entry->hash, entry->key, entry->key_len));
}

int
pending_check(const struct pending *pending)
{
	uint8_t *entries = calloc(1, pending->entries + (size_t)1);
	uint8_t *nodes = calloc(1, pending->nodes + (size_t)1);
	uint32_t *load = calloc(pending->limits.workers, sizeof(*load));
	uint32_t *suffixes = calloc(SUFFIXES, sizeof(*suffixes));
	uint32_t i, index, used = 0, in_hand = 0;
	uint64_t word;
	int n, rule = 0;

	n = check_list(pending, &pending->queue, QUEUED, entries);
	if (n == -1)
		rule = 1;
	used += n;
	n = check_list(pending, &pending->asking, ASKING, entries);
	if (n == -1)
		rule = 2;
	used += n;
	for (i = 0; i < pending->limits.workers && rule == 0; i++) {
		n = check_list(pending, &worker_at(pending, i)->given, GIVEN,
		    entries);
		if (n == -1)
			rule = 3;
		used += n;
	}
	for (i = 1; i <= pending->entries_fresh && rule == 0; i++) {
		word = entry_at(pending, i)->word;
		if ((word_state(word) != FREE) != entries[i])
			rule = 4;
		else if (entries[i] && !check_entry(pending, i, nodes))
			rule = 5;
		suffixes[entry_at(pending, i)->suffix] +=
		    word_state(word) != FREE;
		if (word_state(word) == GIVEN || word_state(word) == ASKING)
			load[word_worker(word)]++;
	}
	for (i = 0; i < pending->limits.workers && rule == 0; i++) {
		if (load[i] != worker_at(pending, i)->load ||
		    load[i] > pending->limits.per_worker)
			rule = 6;
		in_hand += load[i];
	}
	if (rule == 0 && (in_hand != pending->in_hand ||
	    in_hand > pending->capacity))
		rule = 6;
	for (index = pending->free_entry; index != 0 && rule == 0;
	    index = entry_at(pending, index)->chain, used++) {
		if (index > pending->entries_fresh || entries[index]++ != 0)
			rule = 7;
	}
	if (rule == 0 && used != pending->entries_fresh)
		rule = 8;
	for (i = 1; i <= pending->nodes_fresh && rule == 0; i++) {
		if ((node_at(pending, i)->owner != 0) != nodes[i])
			rule = 9;
	}
	for (index = pending->free_node; index != 0 && rule == 0;
	    index = node_at(pending, index)->next) {
		if (index > pending->nodes_fresh || nodes[index]++ != 0)
			rule = 10;
	}
	for (i = 1; i <= pending->nodes_fresh && rule == 0; i++) {
		if (nodes[i] != 1)
			rule = 11;
	}
	if (rule == 0 && memcmp(suffixes, pending->suffixes,
	    sizeof(pending->suffixes)) != 0)
		rule = 12;
	free(entries);
	free(nodes);
	free(suffixes);
	free(load);
	return (rule);
}
