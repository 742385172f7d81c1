/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * A table of pending questions looked at as a whole: counting, and checking
 * every rule of pending.c's head comment.
 */

#include <stdlib.h>
#include <string.h>

#include "pending_table.h"

static int	check_list(const struct pending *, const struct list *,
		    enum state, uint8_t *);
static bool	check_entry(const struct pending *, uint32_t, uint8_t *);

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
	return (nodes == entry->nodes && index == pending_find_locked(pending,
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
		if (word_state(word) != FREE)
			suffixes[entry_at(pending, i)->suffix]++;
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
