/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The places of the stream: who has a connection, and for how long.
 *
 * A connection is a place in a table, and a generation that changes with each
 * client that has the place: who names both can't mean another client.
 *
 * Every connection has limits in time and number, so that no client can keep
 * others out: see make_room() and expire().  A connection is looked after in
 * order of its place, ten times a second at most.
 */

#include <sys/mman.h>
#include <sys/socket.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "dns.h"
#include "stream_connection.h"

#define OUT_REPLIES	100	/* so many may wait to be taken, at most */
#define OUT_MIN		(136 * 1024)	/* two replies, in whole pages */
#define PAGE		4096
#define UNREAD_MS	2000	/* for a client to take what it asked for */
#define ACCEPTS		64	/* at once; then the others have their turn */

static uint8_t	*reserve(struct stream *);
static void	listen_to(struct stream *, unsigned);
static void	admit(struct stream *, int, const struct addr *);
static bool	make_room(struct stream *, const struct addr *);
static struct connection *free_place(struct stream *);
static void	expire(struct stream *, struct connection *);
static bool	is_idle(const struct connection *);

int
stream_make_places(struct stream *stream)
{
	uint8_t *buffers;
	uint32_t i;

	stream->places = stream->server->options.tcp_connections;
	stream->generation = arc4random();
	stream->connection = calloc(stream->places,
	    sizeof(*stream->connection));
	buffers = reserve(stream);
	if (stream->connection == NULL || buffers == NULL)
		return (-1);
	for (i = 0; i < stream->places; i++) {
		stream->connection[i].fd = -1;
		stream->connection[i].in = buffers;
		stream->connection[i].out = buffers + IN_MAX;
		buffers += IN_MAX + stream->out_max;
	}
	return (0);
}

/*
 * Room for what clients send and don't take.  Of all that is reserved here
 * only what they make us use is ever in memory; where the system doesn't
 * promise so much, a client may leave less.
 */
static uint8_t *
reserve(struct stream *stream)
{
	size_t replies = stream->server->options.tcp_queries;
	void *buffers;

	if (replies > OUT_REPLIES)
		replies = OUT_REPLIES;
	stream->out_max = replies * (2 + DNS_MESSAGE_MAX) / PAGE * PAGE;
	for (;;) {
		if (stream->out_max < OUT_MIN)
			stream->out_max = OUT_MIN;
		buffers = mmap(NULL, (size_t)stream->places *
		    (IN_MAX + stream->out_max), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (buffers != MAP_FAILED)
			return (buffers);
		if (stream->out_max == OUT_MIN)
			return (NULL);
		stream->out_max = stream->out_max / 2 / PAGE * PAGE;
	}
}

void
stream_accept(struct stream *stream, unsigned index)
{
	struct sockaddr_storage ss;
	struct addr client;
	socklen_t len;
	int fd, i;

	for (i = 0; i < ACCEPTS; i++) {
		len = sizeof(ss);
		fd = accept4(stream->server->stream_socket[index],
		    (struct sockaddr *)&ss, &len, SOCK_NONBLOCK |
		    SOCK_CLOEXEC);
		if (fd != -1) {
			addr_from_sockaddr(&client, &ss);
			admit(stream, fd, &client);
			continue;
		}
		if (errno == EAGAIN)
			return;
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
		    errno == ENOMEM) {
			metrics_add(stream->metrics, METRIC_HANDLER_ERRORS,
			    1);
			listen_to(stream, 0);
			return;
		}
	}
}

/* Look for new clients, or for none while there is no descriptor left. */
static void
listen_to(struct stream *stream, unsigned events)
{
	unsigned i;

	for (i = 0; i < stream->server->options.listen.count; i++)
		poller_change(stream->poller,
		    stream->server->stream_socket[i], events, TAG_SOCKET | i);
	stream->paused = events == 0;
}

static void
admit(struct stream *stream, int fd, const struct addr *client)
{
	struct connection *connection;
	uint8_t *in, *out;
	int on = 1;

	metrics_add(stream->metrics, METRIC_TCP_CONNECTIONS, 1);
	if (!make_room(stream, client)) {
		metrics_add(stream->metrics, METRIC_TCP_CLOSED_LIMIT, 1);
		close(fd);
		return;
	}
	connection = free_place(stream);
	in = connection->in;
	out = connection->out;
	if (poller_add(stream->poller, fd, POLLER_IN,
	    connection - stream->connection) == -1) {
		metrics_add(stream->metrics, METRIC_HANDLER_ERRORS, 1);
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	*connection = (struct connection){ .fd = fd,
	    .generation = ++stream->generation, .client = *client,
	    .touched_ms = stream->now_ms, .events = POLLER_IN, .in = in,
	    .out = out };
	stream->used++;
}

/*
 * Is there room for this client, in all and for its address?  If not, the
 * connection that is idle longest makes it.
 */
static bool
make_room(struct stream *stream, const struct addr *client)
{
	const struct options *options = &stream->server->options;
	struct connection *at, *idle = NULL, *idle_same = NULL;
	uint32_t i, same = 0;

	for (i = 0; i < stream->top; i++) {
		at = &stream->connection[i];
		if (at->fd == -1)
			continue;
		if (is_idle(at) && (idle == NULL ||
		    at->touched_ms < idle->touched_ms))
			idle = at;
		if (!addr_same_ip(&at->client, client))
			continue;
		same++;
		if (is_idle(at) && (idle_same == NULL ||
		    at->touched_ms < idle_same->touched_ms))
			idle_same = at;
	}
	if (same >= options->tcp_per_client)
		idle = idle_same;
	else if (stream->used < stream->places)
		return (true);
	if (idle == NULL)
		return (false);
	stream_drop(stream, idle, METRIC_TCP_CLOSED_LIMIT);
	return (true);
}

static struct connection *
free_place(struct stream *stream)
{
	uint32_t i;

	for (i = 0; stream->connection[i].fd != -1; i++)
		;
	if (i >= stream->top)
		stream->top = i + 1;
	return (&stream->connection[i]);
}

void
stream_sweep(struct stream *stream)
{
	uint32_t i;

	stream->swept_ms = stream->now_ms;
	if (stream->paused && !stream->ending)
		listen_to(stream, POLLER_IN);
	for (i = 0; i < stream->top; i++) {
		if (stream->connection[i].fd != -1)
			expire(stream, &stream->connection[i]);
	}
	while (stream->top > 0 && stream->connection[stream->top - 1].fd == -1)
		stream->top--;
}

static void
expire(struct stream *stream, struct connection *connection)
{
	const struct options *options = &stream->server->options;
	uint64_t silent = stream->now_ms - connection->touched_ms;

	if (connection->out_len > 0) {
		if (silent > UNREAD_MS)
			stream_drop(stream, connection,
			    METRIC_TCP_CLOSED_UNREAD);
	} else if (connection->in_flight > 0) {
		/* All replies should have come; a process must have died. */
		if (silent > options->timeout + options->tcp_idle)
			stream_drop(stream, connection, METRIC_TCP_CLOSED_IDLE);
	} else if (connection->began_ms != 0) {
		if (stream->now_ms > connection->began_ms +
		    options->tcp_message)
			stream_drop(stream, connection, METRIC_TCP_CLOSED_SLOW);
	} else if (silent > options->tcp_idle)
		stream_drop(stream, connection, METRIC_TCP_CLOSED_IDLE);
}

static bool
is_idle(const struct connection *connection)
{
	return (connection->in_len == 0 && connection->out_len == 0 &&
	    connection->in_flight == 0);
}

void
stream_drop(struct stream *stream, struct connection *connection,
    enum metric reason)
{
	metrics_add(stream->metrics, reason, 1);
	if (connection->held)
		metrics_add(stream->metrics, METRIC_DROP_GONE, 1);
	poller_close(stream->poller, connection->fd);
	connection->fd = -1;
	stream->used--;
	stream->spilled -= connection->out_len;
	if (connection->has_spilled)
		madvise(connection->in, IN_MAX + stream->out_max,
		    MADV_DONTNEED);
}
