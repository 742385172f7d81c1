/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * A listener: receive, look up, reply or hand over.  It blocks in nothing but
 * receive on its own socket, and never waits for an upstream, so cached
 * answers keep their speed whatever the workers wait for.
 *
 * What has come is taken as one batch; the replies that client.c can make at
 * once go out together at its end.  Every datagram ends as a reply, as a
 * counted drop, or as a waiter in the pending table, whose worker counts it.
 */

#include <sys/socket.h>

#include <errno.h>
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
#define VALUE_MAX	2048	/* a value whose reply fits DNS_UDP_MAX fits */

/* A datagram, and the reply to it, if it gets one at once. */
struct packet {
	struct sockaddr_storage	 from;
	struct server_control	 control;
	struct iovec		 in;
	struct iovec		 out;
	uint8_t			 query[QUERY_MAX];
	_Alignas(8) uint8_t	 reply[CLIENT_FRONT + VALUE_MAX + CLIENT_SPARE];
};

struct listener {
	const struct server_socket *socket;
	unsigned		 index;
	struct metrics		*metrics;
	struct client		 client;
};

static volatile sig_atomic_t stop;
static struct packet	 packets[BATCH];
static struct mmsghdr	 incoming[BATCH];
static struct mmsghdr	 outgoing[BATCH];

static void	stop_soon(int);
static void	prepare(const struct listener *);
static int	receive(const struct listener *, int);
static void	serve(struct listener *, int);
static void	send_replies(struct listener *, int);

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
		slot_waits(slot);
		n = receive(&listener, MSG_WAITFORONE);
		slot_works(slot);
		if (n > 0)
			serve(&listener, n);
		else if (errno != EINTR)
			metrics_add(listener.metrics, METRIC_HANDLER_ERRORS,
			    1);
	}
	/* What had come before the end is answered too, but no flood. */
	for (left = LAST_BATCHES; left > 0; left--) {
		if ((n = receive(&listener, MSG_DONTWAIT)) <= 0)
			break;
		serve(&listener, n);
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

static void
serve(struct listener *listener, int count)
{
	struct client *client = &listener->client;
	struct pending_waiter waiter = { .socket = listener->index };
	struct packet *packet;
	struct msghdr *in, *out;
	int i, replies = 0;

	FAULT("listener.batch");
	client->now_ms = mono_boot_ms();
	metrics_add(listener->metrics, METRIC_QUERIES, count);
	for (i = 0; i < count; i++) {
		packet = &packets[i];
		in = &incoming[i].msg_hdr;
		addr_from_sockaddr(&waiter.client, &packet->from);
		if (listener->socket->wildcard)
			server_get_local(in, &waiter.local);
		client->buf = packet->reply;
		if (client_answer(client, packet->query, incoming[i].msg_len,
		    &waiter) != CLIENT_REPLY)
			continue;
		packet->out.iov_base = client->reply;
		packet->out.iov_len = client->reply_len;
		out = &outgoing[replies++].msg_hdr;
		out->msg_name = in->msg_name;
		out->msg_namelen = in->msg_namelen;
		out->msg_iov = &packet->out;
		out->msg_iovlen = 1;
		server_set_local(out, &packet->control,
		    listener->socket->family, &waiter.local);
	}
	send_replies(listener, replies);
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
