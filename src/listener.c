/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * A listener: receive, look up, reply or hand over.  It waits for nothing but
 * its own socket, 5 ms at most while something is kept aside, and never for an
 * upstream, so cached answers keep their speed whatever the workers wait for.
 *
 * What has come is taken as one batch; the replies that client.c can make at
 * once go out together at its end.  Every datagram ends as a reply, as a
 * counted drop, or as a waiter in the pending table, whose worker counts it.
 * What finds the table held by a process that stands still is kept aside till
 * the table is free again, in the order in which it came.
 */

#include <sys/socket.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#include "client.h"
#include "fault.h"
#include "listener.h"
#include "mono.h"
#include "server.h"

#define BATCH		32
#define LAST_BATCHES	1000	/* at the end; more than a queue holds */
#define QUERY_MAX	2048	/* longer ones are cut, and so malformed */
#define KEPT		1024	/* queries that may be kept aside */
#define KEPT_QUERY_MAX	512	/* longer ones are not */
#define KEPT_MS		5	/* till the table is tried again */
#define VALUE_MAX	2048	/* a value whose reply fits DNS_UDP_MAX fits */

/* A datagram, and the reply to it, if it gets one at once. */
struct packet {
	struct sockaddr_storage	 from;
	socklen_t		 from_len;
	struct server_control	 control;
	struct iovec		 in;
	struct iovec		 out;
	uint8_t			 query[QUERY_MAX];
	_Alignas(8) uint8_t	 reply[CLIENT_FRONT + VALUE_MAX + CLIENT_SPARE];
};

/* A query that is kept aside. */
struct kept {
	struct addr		 client;
	struct addr		 local;
	size_t			 len;
	uint8_t			 query[KEPT_QUERY_MAX];
};

struct listener {
	const struct server_socket *socket;
	unsigned		 index;
	struct metrics		*metrics;
	struct client		 client;
	unsigned		 kept_first;	/* in a ring */
	unsigned		 kept_end;
	int			 replies;	/* of this batch */
};

static volatile sig_atomic_t stop;
static struct packet	 packets[BATCH];
static struct mmsghdr	 incoming[BATCH];
static struct mmsghdr	 outgoing[BATCH];
static struct kept	 kept[KEPT];

static void	stop_soon(int);
static void	prepare(const struct listener *);
static int	receive(const struct listener *, int);
static void	wait_a_little(const struct listener *);
static void	serve(struct listener *, int);
static void	serve_kept(struct listener *);
static bool	serve_one(struct listener *, struct packet *, size_t,
		    struct pending_waiter *);
static void	keep(struct listener *, const struct packet *, size_t,
		    const struct pending_waiter *);
static void	send_replies(struct listener *);

void
listener_run(const struct server *server, unsigned index)
{
	struct sigaction action = { .sa_handler = stop_soon };
	struct slot *slot = server_listener_slot(server, index);
	struct listener listener = {
		.socket = &server->socket[index],
		.index = index,
		.metrics = &slot->metrics,
		.client = { .server = server, .slot = slot,
		    .size = sizeof(packets[0].reply) },
	};
	sigset_t none;
	bool some_kept;
	int left, n;

	/*
	 * Without SA_RESTART, receive is interrupted.  A signal that comes
	 * just before it is not lost: the master repeats it.
	 */
	sigaction(SIGTERM, &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);

	if (slot->wake < server->workers)
		server_ring(server, slot->wake);
	prepare(&listener);
	while (!stop) {
		some_kept = listener.kept_first != listener.kept_end;
		if (some_kept)
			wait_a_little(&listener);
		slot_waits(slot);
		n = receive(&listener, some_kept ? MSG_DONTWAIT :
		    MSG_WAITFORONE);
		slot_works(slot);
		if (n > 0)
			serve(&listener, n);
		else if (errno != EINTR && errno != EAGAIN)
			metrics_add(listener.metrics, METRIC_HANDLER_ERRORS,
			    1);
		if (some_kept)
			serve_kept(&listener);
	}
	/* What had come before the end is answered too, but no flood. */
	for (left = LAST_BATCHES; left > 0; left--) {
		if ((n = receive(&listener, MSG_DONTWAIT)) <= 0)
			break;
		serve(&listener, n);
	}
	while (listener.kept_first != listener.kept_end) {
		wait_a_little(&listener);
		serve_kept(&listener);
	}
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

/* Till a datagram comes, or the table may be free. */
static void
wait_a_little(const struct listener *listener)
{
	struct pollfd pfd = { .fd = listener->socket->fd, .events = POLLIN };

	slot_waits(listener->client.slot);
	poll(&pfd, 1, KEPT_MS);
	slot_works(listener->client.slot);
}

static void
serve(struct listener *listener, int count)
{
	struct pending_waiter waiter = { .socket = listener->index };
	struct packet *packet;
	size_t len;
	int i;

	FAULT("listener.batch");
	listener->client.now_ms = mono_boot_ms();
	metrics_add(listener->metrics, METRIC_QUERIES, count);
	for (i = 0; i < count; i++) {
		packet = &packets[i];
		packet->from_len = incoming[i].msg_hdr.msg_namelen;
		len = incoming[i].msg_len;
		addr_from_sockaddr(&waiter.client, &packet->from);
		if (listener->socket->wildcard)
			server_get_local(&incoming[i].msg_hdr, &waiter.local);
		if (!serve_one(listener, packet, len, &waiter))
			keep(listener, packet, len, &waiter);
	}
	send_replies(listener);
}

/* False: the table is held. */
static bool
serve_one(struct listener *listener, struct packet *packet, size_t len,
    struct pending_waiter *waiter)
{
	struct client *client = &listener->client;
	enum client_result result;
	struct msghdr *out;

	client->buf = packet->reply;
	result = client_answer(client, packet->query, len, waiter);
	if (result != CLIENT_REPLY)
		return (result != CLIENT_BUSY);
	packet->out.iov_base = client->reply;
	packet->out.iov_len = client->reply_len;
	out = &outgoing[listener->replies++].msg_hdr;
	out->msg_name = &packet->from;
	out->msg_namelen = packet->from_len;
	out->msg_iov = &packet->out;
	out->msg_iovlen = 1;
	server_set_local(out, &packet->control, listener->socket->family,
	    &waiter->local);
	return (true);
}

static void
keep(struct listener *listener, const struct packet *packet, size_t len,
    const struct pending_waiter *waiter)
{
	struct kept *one = &kept[listener->kept_end % KEPT];

	if (len > KEPT_QUERY_MAX ||
	    listener->kept_end - listener->kept_first == KEPT) {
		client_give_up(&listener->client);
		return;
	}
	one->client = waiter->client;
	one->local = waiter->local;
	one->len = len;
	memcpy(one->query, packet->query, len);
	listener->kept_end++;
}

/* The oldest first, as long as the table is free. */
static void
serve_kept(struct listener *listener)
{
	struct pending_waiter waiter = { .socket = listener->index };
	static struct packet spare, *packet = &spare;
	const struct kept *one;

	listener->client.now_ms = mono_boot_ms();
	while (listener->kept_first != listener->kept_end) {
		one = &kept[listener->kept_first % KEPT];
		waiter.client = one->client;
		waiter.local = one->local;
		packet->from_len = addr_to_sockaddr(&one->client,
		    listener->socket->family, &packet->from);
		memcpy(packet->query, one->query, one->len);
		if (!serve_one(listener, packet, one->len, &waiter))
			break;
		listener->kept_first++;
		send_replies(listener);
	}
}

/* One reply that can't be sent is counted, and the others go on. */
static void
send_replies(struct listener *listener)
{
	int count = listener->replies, sent = 0, n;

	listener->replies = 0;
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
