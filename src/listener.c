/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * A listener: receive, look up, reply or hand over.  It blocks in nothing but
 * receive on its own socket, and never waits for an upstream, so cached
 * answers keep their speed whatever the workers wait for.
 *
 * What has come is taken as one batch; the replies that can be made at once go
 * out together at its end.  Every datagram ends as a reply, as a counted drop,
 * or as a waiter in the pending table, whose worker counts it.
 */

#include <sys/socket.h>

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "answer.h"
#include "dns.h"
#include "listener.h"
#include "mono.h"
#include "server.h"

#define BATCH		32
#define QUERY_MAX	2048	/* longer ones are cut, and so malformed */
#define VALUE_MAX	2048	/* a value whose reply fits DNS_UDP_MAX fits */
#define REFUSALS	10	/* a second to one network */
#define NETWORKS	256	/* counted apart; a power of two */

/* A datagram, and the reply to it, if it gets one at once. */
struct packet {
	struct sockaddr_storage	 from;
	union server_control	 control;
	struct iovec		 in;
	struct iovec		 out;
	uint8_t			 query[QUERY_MAX];
	_Alignas(8) uint8_t	 value[VALUE_MAX + ANSWER_SPARE];
};

struct listener {
	const struct server	*server;
	const struct server_socket *socket;
	unsigned		 index;
	struct slot		*slot;
	struct metrics		*metrics;
	uint64_t		 now_ms;
};

static volatile sig_atomic_t stop;
static struct packet	 packets[BATCH];
static struct mmsghdr	 incoming[BATCH];
static struct mmsghdr	 outgoing[BATCH];

static void	stop_soon(int);
static void	prepare(const struct listener *);
static int	receive(const struct listener *, int);
static void	serve(struct listener *, int);
static size_t	answer(struct listener *, struct packet *,
		    const struct msghdr *, size_t);
static size_t	answer_question(struct listener *, struct packet *,
		    const struct msghdr *, const struct addr *,
		    const struct dns_query *);
static void	hand_over(struct listener *, const struct msghdr *,
		    const struct addr *, const struct dns_query *, uint64_t,
		    const uint8_t *, size_t);
static size_t	refuse(struct listener *, struct packet *,
		    const struct dns_query *, int, uint16_t);
static bool	allowed(const struct listener *, const struct addr *);
static bool	may_refuse(const struct addr *, uint64_t);
static bool	never_a_client(uint16_t);
static void	send_replies(struct listener *, int);

void
listener_run(const struct server *server, unsigned index)
{
	struct sigaction action = { .sa_handler = stop_soon };
	struct listener listener = {
		.server = server,
		.socket = &server->socket[index],
		.index = index,
		.slot = server_listener_slot(server, index),
	};
	sigset_t none;
	int n;

	/*
	 * Without SA_RESTART, receive is interrupted.  A signal that comes
	 * just before it is not lost: the master repeats it.
	 */
	sigaction(SIGTERM, &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);

	listener.metrics = &listener.slot->metrics;
	if (listener.slot->wake < server->workers)
		server_ring(server, listener.slot->wake);
	prepare(&listener);
	while (!stop) {
		n = receive(&listener, MSG_WAITFORONE);
		if (n > 0)
			serve(&listener, n);
		else if (errno != EINTR)
			metrics_add(listener.metrics, METRIC_HANDLER_ERRORS,
			    1);
	}
	/* What had come before the end is answered too, within reason. */
	for (n = BATCH; n == BATCH; )
		if ((n = receive(&listener, MSG_DONTWAIT)) > 0)
			serve(&listener, n);
}

static void
stop_soon(int signo)
{
	(void)signo;
	stop = 1;
}

static void
prepare(const struct listener *listener)
{
	struct packet *packet;
	struct msghdr *msg;
	int i;

	for (i = 0; i < BATCH; i++) {
		packet = &packets[i];
		packet->in.iov_base = packet->query;
		packet->in.iov_len = QUERY_MAX;
		msg = &incoming[i].msg_hdr;
		msg->msg_name = &packet->from;
		msg->msg_iov = &packet->in;
		msg->msg_iovlen = 1;
		if (listener->socket->wildcard)
			msg->msg_control = &packet->control;
	}
}

/* Take a batch of datagrams.  Returns how many, or -1 with errno. */
static int
receive(const struct listener *listener, int flags)
{
	bool wildcard = listener->socket->wildcard;
	int i;

	for (i = 0; i < BATCH; i++) {
		incoming[i].msg_hdr.msg_namelen = sizeof(packets[i].from);
		if (wildcard)
			incoming[i].msg_hdr.msg_controllen =
			    sizeof(packets[i].control);
	}
	return (recvmmsg(listener->socket->fd, incoming, BATCH, flags, NULL));
}

static void
serve(struct listener *listener, int count)
{
	struct msghdr *in, *out;
	struct packet *packet;
	struct addr local;
	int i, replies = 0;
	size_t len;

	listener->now_ms = mono_boot_ms();
	metrics_add(listener->metrics, METRIC_QUERIES, count);
	for (i = 0; i < count; i++) {
		packet = &packets[i];
		in = &incoming[i].msg_hdr;
		len = answer(listener, packet, in, incoming[i].msg_len);
		if (len == 0)
			continue;
		packet->out.iov_len = len;
		out = &outgoing[replies++].msg_hdr;
		out->msg_name = in->msg_name;
		out->msg_namelen = in->msg_namelen;
		out->msg_iov = &packet->out;
		out->msg_iovlen = 1;
		if (listener->socket->wildcard) {
			server_get_local(in, &local);
			server_set_local(out, &packet->control,
			    listener->socket->family, &local);
		}
	}
	send_replies(listener, replies);
}

/* Make the reply to a packet.  Returns its length, 0: none now. */
static size_t
answer(struct listener *listener, struct packet *packet,
    const struct msghdr *msg, size_t len)
{
	struct dns_query query;
	struct addr client;
	int rcode;

	addr_from_sockaddr(&client, &packet->from);
	if (never_a_client(client.port)) {
		metrics_add(listener->metrics, METRIC_DROP_PORT, 1);
		return (0);
	}
	rcode = dns_query_parse(packet->query, len, &query);
	if (rcode == -1) {
		metrics_add(listener->metrics, METRIC_DROP_MALFORMED, 1);
		return (0);
	}
	if (!allowed(listener, &client)) {
		if (may_refuse(&client, listener->now_ms))
			return (refuse(listener, packet, &query,
			    DNS_RCODE_REFUSED, 0));
		metrics_add(listener->metrics, METRIC_DROP_DENIED, 1);
		return (0);
	}
	if (rcode != 0)
		return (refuse(listener, packet, &query, rcode, 0));
	if (query.type == DNS_TYPE_ANY)		/* RFC 8482: not over UDP */
		return (refuse(listener, packet, &query, 0, DNS_FLAG_TC));
	return (answer_question(listener, packet, msg, &client, &query));
}

/* From the cache, or through a worker, later. */
static size_t
answer_question(struct listener *listener, struct packet *packet,
    const struct msghdr *msg, const struct addr *client,
    const struct dns_query *query)
{
	const struct server *server = listener->server;
	uint8_t key[DNS_KEY_MAX], *reply;
	size_t key_len, value_len, have, len;
	uint64_t hash;

	key_len = dns_key_write(key, query);
	hash = server_hash(server, key, key_len);
	if (server_lookup(server, hash, key, key_len, listener->now_ms,
	    packet->value, VALUE_MAX, &value_len) == CACHE_HIT) {
		have = value_len < VALUE_MAX ? value_len : VALUE_MAX;
		len = answer_write(packet->value, have, value_len, query,
		    answer_udp_limit(query), listener->now_ms, &reply);
		if (len > 0) {
			metrics_add(listener->metrics, METRIC_HITS, 1);
			packet->out.iov_base = reply;
			return (len);
		}
	}
	if (!(query->flags & DNS_FLAG_RD))
		return (refuse(listener, packet, query, DNS_RCODE_REFUSED,
		    0));
	metrics_add(listener->metrics, METRIC_MISSES, 1);
	hand_over(listener, msg, client, query, hash, key, key_len);
	return (0);
}

static void
hand_over(struct listener *listener, const struct msghdr *msg,
    const struct addr *client, const struct dns_query *query, uint64_t hash,
    const uint8_t *key, size_t key_len)
{
	static const enum metric counted_as[] = {
		[PENDING_JOINED] = METRIC_COALESCED,
		[PENDING_DUPLICATE] = METRIC_DROP_DUPLICATE,
		[PENDING_FULL] = METRIC_DROP_QUEUE,
		[PENDING_BUSY] = METRIC_DROP_BUSY,
	};
	struct slot *slot = listener->slot;
	struct pending_waiter waiter = {
		.client = *client,
		.socket = listener->index,
		.id = query->id,
		.flags = query->flags,
		.edns_size = query->edns_size,
		.edns = query->edns,
		.dnssec_ok = query->dnssec_ok,
	};
	enum pending_result result;

	if (listener->socket->wildcard)
		server_get_local(msg, &waiter.local);
	dns_case_save(waiter.name_case, query->name, query->name_len);
	result = pending_join(listener->server->pending, hash, key, key_len,
	    &waiter, mono_ms(), &slot->wake);
	if (slot->wake != PENDING_NO_WORKER) {
		server_ring(listener->server, slot->wake);
		slot->wake = PENDING_NO_WORKER;
	}
	if (result != PENDING_GIVEN && result != PENDING_QUEUED)
		metrics_add(listener->metrics, counted_as[result], 1);
}

/* A reply by rule: an error, or TC.  Returns its length. */
static size_t
refuse(struct listener *listener, struct packet *packet,
    const struct dns_query *query, int rcode, uint16_t flags)
{
	metrics_add(listener->metrics, METRIC_REFUSED, 1);
	packet->out.iov_base = packet->value;
	return (dns_error_write(packet->value, VALUE_MAX, query, rcode,
	    flags));
}

static bool
allowed(const struct listener *listener, const struct addr *client)
{
	const struct options_prefixes *allow =
	    &listener->server->options.allow_from;
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

/* One reply that can't be sent is counted, and the others go on. */
static void
send_replies(struct listener *listener, int count)
{
	int sent = 0, n;

	while (sent < count) {
		n = sendmmsg(listener->socket->fd, outgoing + sent,
		    count - sent, MSG_DONTWAIT);
		if (n > 0) {
			metrics_add(listener->metrics, METRIC_REPLIES, n);
			sent += n;
		} else if (errno != EINTR) {
			metrics_add(listener->metrics, METRIC_WRITE_ERRORS,
			    1);
			metrics_add(listener->metrics, METRIC_DROP_WRITE, 1);
			sent++;
		}
	}
}
