/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * What comes of a question: the value out of which each client's reply is
 * made, and what of it the cache keeps, and for how long.  It is stored before
 * anyone is replied to, so who asks later finds it.  Nothing here sends or
 * waits.
 */

#include <stdio.h>
#include <string.h>

#include "cache.h"
#include "dns.h"
#include "log.h"
#include "mono.h"
#include "outcome.h"
#include "server.h"
#include "upstream.h"

#define CONDEMNED_MS	60000
#define FAILED_FOR_MS	10000		/* an older failure is forgotten */

static void	store(const struct outcome *, const struct server *,
		    const uint8_t *, size_t, uint64_t);

bool
outcome_recall(struct outcome *outcome, const struct server *server,
    uint32_t index)
{
	const uint8_t *key;
	size_t key_len;

	key = pending_key(server->pending, index, &key_len);
	outcome->for_late = true;
	return (server_lookup(server, pending_hash(server->pending, index),
	    key, key_len, mono_boot_ms(), outcome->value.bytes,
	    ANSWER_VALUE_MAX, &outcome->len) == CACHE_HIT &&
	    outcome->len <= ANSWER_VALUE_MAX);
}

void
outcome_answer(struct outcome *outcome, const struct server *server,
    struct upstream_exchange *exchange)
{
	uint64_t now_ms = mono_boot_ms();
	uint8_t key[DNS_KEY_MAX];
	struct dns_reply reply;

	outcome->len = answer_pack(outcome->value.bytes, exchange->reply,
	    exchange->reply_len, now_ms, &reply);
	outcome->for_late = reply.storable;
	if (!reply.storable)
		return;
	memcpy(key, exchange->key, exchange->key_len);
	if (reply.nxdomain_whole)	/* RFC 2308 5: for every type */
		dns_key_set_type(key, exchange->key_len, 0);
	store(outcome, server, key, exchange->key_len,
	    now_ms + (uint64_t)reply.lifetime * 1000);
}

void
outcome_failure(struct outcome *outcome, const struct server *server,
    uint32_t index, const struct upstream_exchange *exchange)
{
	struct answer_value *head = &outcome->value.head;

	outcome_give_up(outcome, server, index);
	if (exchange->truncated)
		head->flags = DNS_FLAG_TC;
	else if (exchange->rcode == DNS_RCODE_SERVFAIL)
		store(outcome, server, exchange->key, exchange->key_len,
		    head->stored_ms + head->failed_s * 1000);
	else
		head->flags = exchange->rcode;
}

/* It will be kept for longer if the last failure is not long ago. */
void
outcome_give_up(struct outcome *outcome, const struct server *server,
    uint32_t index)
{
	struct answer_value *head = &outcome->value.head;
	uint64_t now_ms = mono_boot_ms();
	const uint8_t *key;
	size_t key_len, len;
	unsigned before = 0;

	key = pending_key(server->pending, index, &key_len);
	if (cache_lookup(server->cache, pending_hash(server->pending, index),
	    key, key_len, now_ms, outcome->value.bytes, sizeof(*head),
	    &len) == CACHE_EXPIRED &&
	    now_ms < head->stored_ms + FAILED_FOR_MS)
		before = head->failed_s;
	outcome->len = answer_pack_failure(head, now_ms, before);
	outcome->for_late = true;
}

void
outcome_condemn(struct outcome *outcome, const struct server *server,
    uint32_t index, unsigned worker)
{
	char text[DNS_NAME_TEXT_MAX], hex[2 * DNS_KEY_MAX + 1];
	const uint8_t *key;
	size_t key_len, i;

	key = pending_key(server->pending, index, &key_len);
	for (i = 0; i < key_len; i++)
		snprintf(hex + 2 * i, 3, "%02x", key[i]);
	log_error("worker %u died of a fault over %s type %u (%s); it gets "
	    "SERVFAIL for %u s", worker + 1,
	    dns_name_print(text, key, dns_key_name_len(key_len)),
	    dns_key_type(key, key_len), hex, CONDEMNED_MS / 1000);
	outcome_give_up(outcome, server, index);
	store(outcome, server, key, key_len,
	    outcome->value.head.stored_ms + CONDEMNED_MS);
}

static void
store(const struct outcome *outcome, const struct server *server,
    const uint8_t *key, size_t key_len, uint64_t expiry_ms)
{
	cache_store(server->cache, server_hash(server, key, key_len), key,
	    key_len, expiry_ms, outcome->value.bytes, outcome->len);
}
