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
 * When an owner of the lock died, all lists, chains and counts are made anew
 * from the state and owner words, whatever it did with the lock: so a link that
 * leads nowhere or round and round costs one process, which crashes or is
 * killed for making no progress, and the next finds the table whole.  A walk
 * that goes on meanwhile may miss nodes; pending_finish() finds those unmarked, and they
 * are walked again.  A listener stores whom it is about to wake before it
 * publishes an entry, so that its successor can ring again.
 *
 * Here is what listeners and workers do with the table.  What keeps it in
 * order is in pending_table.c, what looks at it as a whole in pending_check.c.
 */

#include <stdatomic.h>
#include <string.h>

#include "dns.h"
#include "fault.h"
#include "pending_table.h"

#define NODES_SHARE	4	/* of all nodes one entry may have 1/4 */
#define SCAN_MAX	64	/* nodes searched for a retransmission */
#define SUFFIX_SHARE	4	/* when all are full, one may have 1/4 */
#define SUFFIX_MIN	64	/* or so many */
#define LOCK_WAITS	16	/* waits for the lock, of 5 ms; but one */
#define JOIN_WAITS	1	/* if those who have their answers wait, too */
#define KEEPS_PLACE_MS	1000	/* so long a question keeps its place */
#define AGAIN_MS	250	/* before that, it is no retransmission */

static enum pending_result join_locked(struct pending *, uint32_t,
		    const struct pending_waiter *, uint64_t,
		    _Atomic uint32_t *);
static void	 ask_again_locked(struct pending_entry *, uint64_t,
		    _Atomic uint32_t *);
static enum pending_result begin_locked(struct pending *, uint64_t,
		    const uint8_t *, size_t, const struct pending_waiter *,
		    uint64_t, _Atomic uint32_t *);
static uint32_t	 suffix_of(const uint8_t *, size_t);
static uint32_t	 choose_worker_locked(const struct pending *);
static uint32_t	 oldest_gives_way_locked(struct pending *, uint64_t);
static void	 take_locked(struct pending *, uint32_t, uint32_t, uint64_t);

enum pending_result
pending_join(struct pending *pending, uint64_t hash, const uint8_t *key,
    size_t key_len, const struct pending_waiter *waiter, uint64_t now_ms,
    _Atomic uint32_t *wake)
{
	enum pending_result result;
	uint32_t index;

	atomic_store(wake, PENDING_NO_WORKER);
	if (pending_lock_table(pending, JOIN_WAITS) == -1)
		return (PENDING_BUSY);
	index = pending_find_locked(pending, hash, key, key_len);
	if (index != 0)
		result = join_locked(pending, index, waiter, now_ms, wake);
	else
		result = begin_locked(pending, hash, key, key_len, waiter,
		    now_ms, wake);
	pending_unlock_table(pending);
	return (result);
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
	pending_node_use_locked(pending, at, index, waiter);
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
	pending_entry_use_locked(pending, index);
	/* A new generation, still FREE; published after its first node. */
	entry->word += (uint64_t)1 << 32;
	pending_node_use_locked(pending, node, index, waiter);
	entry->word = word_make(entry->word, state, worker);
	FAULT("pending.published");
	pending_place_locked(pending, index);
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

	if (pending_lock_table(pending, LOCK_WAITS) == -1)
		return (-1);
	for (i = 1; i <= pending->entries_fresh; i++) {
		entry = entry_at(pending, i);
		if (word_state(entry->word) != ASKING ||
		    word_worker(entry->word) != worker)
			continue;
		pending_list_remove(pending, &pending->asking, i);
		entry->word = word_make(entry->word, GIVEN, worker);
		entry->must_end = 0;
		pending_list_insert(pending,
		    &worker_at(pending, worker)->given, i);
	}
	worker_at(pending, worker)->ready = 1;
	pending_unlock_table(pending);
	return (0);
}

/* Under the lock, if it is to be had: so no join is amid choosing it. */
void
pending_worker_stop(struct pending *pending, uint32_t worker)
{
	int locked = pending_lock_table(pending, LOCK_WAITS);

	worker_at(pending, worker)->ready = 0;
	if (locked == 0)
		pending_unlock_table(pending);
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

	if (pending_lock_table(pending, LOCK_WAITS) == -1)
		return (-1);
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
	pending_unlock_table(pending);
	return (taken);
}

static void
take_locked(struct pending *pending, uint32_t index, uint32_t worker,
    uint64_t now_ms)
{
	struct pending_entry *entry = entry_at(pending, index);

	pending_list_remove(pending, list_of(pending, entry), index);
	entry->listed_ms = now_ms;
	entry->again = AGAIN_NOT;
	entry->takes++;
	entry->word = word_make(entry->word, ASKING, worker);
	FAULT("pending.taken");
	pending_list_insert(pending, &pending->asking, index);
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

	if (pending_lock_table(pending, LOCK_WAITS) == -1)
		return (-1);
	if (pending_next(pending, index, 0) == 0) {
		result = 0;
			entry->word = word_make(entry->word, FREE, 0);
		FAULT("pending.freed");
		worker_at(pending, worker)->load--;
		pending->in_hand--;
		pending_free_locked(pending, index);
		}
	*more = self->given.head != 0 || pending->queue.head != 0;
	pending_unlock_table(pending);
	return (result);
}
