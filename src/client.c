/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * What becomes of a client's packet, whichever way it came: the rules of who
 * is served and what is refused, then the cache, then the pending table.  It
 * sends nothing and waits for nothing.
 */

#include "answer.h"
#include "client.h"
#include "dns.h"
#include "fault.h"
#include "mono.h"

#define REFUSALS	10	/* a second to one network */
#define NETWORKS	256	/* counted apart */

static enum client_result drop(struct client *, enum metric);
static enum client_result refuse(struct client *, const struct dns_query *,
		    int, uint16_t);
static enum client_result look_up(struct client *, const struct dns_query *,
		    struct pending_waiter *);
static enum client_result hand_over(struct client *, const struct dns_query *,
		    struct pending_waiter *, uint64_t, const uint8_t *,
		    size_t);
static bool	allowed(const struct server *, const struct addr *);
static bool	may_refuse(const struct addr *, uint64_t);
static bool	never_a_client(uint16_t);

enum client_result
client_answer(struct client *client, const uint8_t *packet, size_t len,
    struct pending_waiter *waiter)
{
	struct dns_query query;
	int rcode;

	if (!client->stream && never_a_client(waiter->client.port))
		return (drop(client, METRIC_DROP_PORT));
	rcode = dns_query_parse(packet, len, &query);
	if (rcode == -1)
		return (drop(client, METRIC_DROP_MALFORMED));
	client->keepalive = query.keepalive;
	if (!allowed(client->server, &waiter->client)) {
		if (!may_refuse(&waiter->client, client->now_ms))
			return (drop(client, METRIC_DROP_DENIED));
		rcode = DNS_RCODE_REFUSED;
	}
	if (rcode != 0)
		return (refuse(client, &query, rcode, 0));
	if (!client->stream && query.type == DNS_TYPE_ANY)
		return (refuse(client, &query, 0, DNS_FLAG_TC));
	return (look_up(client, &query, waiter));
}

static enum client_result
drop(struct client *client, enum metric reason)
{
	metrics_add(&client->slot->metrics, reason, 1);
	client->dropped = reason;
	return (CLIENT_DROPPED);
}

/* A reply by rule: an error, or TC. */
static enum client_result
refuse(struct client *client, const struct dns_query *query, int rcode,
    uint16_t flags)
{
	metrics_add(&client->slot->metrics, METRIC_REFUSED, 1);
	client->reply = client->buf + CLIENT_FRONT;
	client->reply_len = dns_error_write(client->reply,
	    client->size - CLIENT_FRONT, query, rcode, flags);
	return (CLIENT_REPLY);
}

/* From the cache, or through a worker, later. */
static enum client_result
look_up(struct client *client, const struct dns_query *query,
    struct pending_waiter *waiter)
{
	const struct server *server = client->server;
	size_t limit = client->stream ? DNS_MESSAGE_MAX :
	    answer_udp_limit(query);
	size_t room = client->size - CLIENT_FRONT - CLIENT_SPARE;
	uint8_t key[DNS_KEY_MAX], *value = client->buf + CLIENT_FRONT;
	enum client_result result;
	size_t key_len, len;
	uint64_t hash;

	key_len = dns_key_write(key, query);
	hash = server_hash(server, key, key_len);
	if (server_lookup(server, hash, key, key_len, client->now_ms, value,
	    room, &len) == CACHE_HIT) {
		client->reply_len = answer_write(value, len < room ? len :
		    room, len, query, limit, client->now_ms, &client->reply);
		if (client->reply_len > 0) {
			metrics_add(&client->slot->metrics, METRIC_HITS, 1);
			return (CLIENT_REPLY);
		}
	}
	if (!(query->flags & DNS_FLAG_RD))
		return (refuse(client, query, DNS_RCODE_REFUSED, 0));
	result = hand_over(client, query, waiter, hash, key, key_len);
	if (result != CLIENT_BUSY)
		metrics_add(&client->slot->metrics, METRIC_MISSES, 1);
	return (result);
}

void
client_give_up(struct client *client)
{
	metrics_add(&client->slot->metrics, METRIC_MISSES, 1);
	drop(client, METRIC_DROP_BUSY);
}

static enum client_result
hand_over(struct client *client, const struct dns_query *query,
    struct pending_waiter *waiter, uint64_t hash, const uint8_t *key,
    size_t key_len)
{
	_Atomic uint32_t *wake = &client->slot->wake;
	enum pending_result result;

	waiter->id = query->id;
	waiter->flags = query->flags;
	waiter->edns_size = query->edns_size;
	waiter->edns = query->edns;
	waiter->keepalive = query->keepalive;
	waiter->dnssec_ok = query->dnssec_ok;
	dns_case_save(waiter->name_case, query->name, query->name_len);
	result = pending_join(client->server->pending, hash, key, key_len,
	    waiter, mono_ms(), wake);
	if (*wake != PENDING_NO_WORKER) {
		FAULT("client.wake");
		server_ring(client->server, *wake);
		*wake = PENDING_NO_WORKER;
	}
	switch (result) {
	case PENDING_JOINED:
		metrics_add(&client->slot->metrics, METRIC_COALESCED, 1);
		return (CLIENT_WAITS);
	case PENDING_DUPLICATE:
		return (drop(client, METRIC_DROP_DUPLICATE));
	case PENDING_CROWDED:
		metrics_add(&client->slot->metrics, METRIC_SERVFAIL, 1);
		return (refuse(client, query, DNS_RCODE_SERVFAIL, 0));
	case PENDING_FULL:
		return (drop(client, METRIC_DROP_QUEUE));
	case PENDING_BUSY:
		return (CLIENT_BUSY);
	default:
		return (CLIENT_WAITS);
	}
}

static bool
allowed(const struct server *server, const struct addr *client)
{
	const struct options_prefixes *allow = &server->options.allow_from;
	size_t i;

	for (i = 0; i < allow->count; i++) {
		if (addr_prefix_match(&allow->prefix[i], client))
			return (true);
	}
	return (false);
}

/* Has the client's network (/24 or /56) had few refusals this second? */
static bool
may_refuse(const struct addr *client, uint64_t now_ms)
{
	static struct {
		uint64_t	second;
		unsigned	count;
	} networks[NETWORKS];
	unsigned i, hash = 0, at;

	for (i = 0; i < (client->family == AF_INET ? 3 : 7); i++)
		hash = hash * 31 + client->ip[i];
	at = hash % NETWORKS;
	if (networks[at].second != now_ms / 1000) {
		networks[at].second = now_ms / 1000;
		networks[at].count = 0;
	}
	return (networks[at].count++ < REFUSALS);
}

/* echo, daytime, qotd and chargen answer whatever they are sent. */
static bool
never_a_client(uint16_t port)
{
	return (port == 0 || port == 7 || port == 13 || port == 17 ||
	    port == 19);
}
