/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * What passes over one connection of the stream.
 *
 *	in[0 .. in_len)		has been read and not yet served: at most one
 *				message is incomplete, at its end
 *	out[out_at .. out_len)	has been answered and not yet taken by the
 *				kernel; while there is any, nothing is read
 *	in_flight		queries that wait for a worker's reply
 *
 * Messages are served while limits allow, and the poller looks for what can be
 * done next.  A client that lets too much gather in out is dropped.
 */

#include <sys/socket.h>

#include <errno.h>
#include <string.h>

#include "dns.h"
#include "stream_connection.h"

#define SPILL_MAX	(64 << 20)	/* bytes in out, of all clients */

static void	read_some(struct stream *, struct connection *);
static bool	serve_message(struct stream *, struct connection *, uint8_t *,
		    size_t);
static bool	spill(struct stream *, struct connection *, const uint8_t *,
		    size_t);
static void	flush(struct stream *, struct connection *);

void
stream_ready(struct stream *stream, struct connection *connection,
    unsigned events)
{
	if (events & POLLER_OUT)
		flush(stream, connection);
	else if (events & POLLER_IN)
		read_some(stream, connection);
	else	/* a reset, after the end perhaps: no reply will reach it */
		stream_drop(stream, connection, METRIC_TCP_CLOSED_CLIENT);
}

static void
read_some(struct stream *stream, struct connection *connection)
{
	ssize_t n;

	n = recv(connection->fd, connection->in + connection->in_len,
	    IN_MAX - connection->in_len, 0);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == -1) {
		stream_drop(stream, connection, METRIC_TCP_CLOSED_CLIENT);
		return;
	}
	if (n == 0)
		connection->ended = true;
	connection->in_len += n;
	connection->touched_ms = stream->now_ms;
	stream_serve(stream, connection);
}

void
stream_serve(struct stream *stream, struct connection *connection)
{
	size_t at = 0, len;
	uint8_t *in = connection->in;
	bool again = connection->held;	/* the first message is counted */

	connection->held = false;
	while (connection->in_len - at >= 2 && connection->out_len == 0 &&
	    connection->in_flight < stream->server->options.tcp_queries &&
	    (!stream->ending || again)) {
		len = dns_get16(in + at);
		if (len < DNS_HEADER_LEN || len > IN_MAX - 2) {
			stream_drop(stream, connection,
			    METRIC_TCP_CLOSED_MALFORMED);
			return;
		}
		if (connection->in_len - at - 2 < len)
			break;
		if (!again) {
			metrics_add(stream->metrics, METRIC_QUERIES, 1);
			metrics_add(stream->metrics, METRIC_TCP_QUERIES, 1);
		}
		again = false;
		if (!serve_message(stream, connection, in + at + 2, len))
			return;
		if (connection->held)
			break;
		at += 2 + len;
		connection->began_ms = 0;
	}
	connection->held |= again;
	memmove(in, in + at, connection->in_len - at);
	connection->in_len -= at;
	if (connection->in_len > 0 && connection->began_ms == 0)
		connection->began_ms = stream->now_ms;
	stream_settle(stream, connection);
}

/* False: the connection is gone. */
static bool
serve_message(struct stream *stream, struct connection *connection,
    uint8_t *message, size_t len)
{
	struct pending_waiter waiter = {
		.client = connection->client,
		.socket = stream->server->sockets + stream->number,
		.connection = connection - stream->connection,
		.generation = connection->generation,
	};

	switch (client_answer(&stream->answer, message, len, &waiter)) {
	case CLIENT_REPLY:
		stream_reply(stream, connection, stream->answer.reply,
		    stream->answer.reply_len, stream->answer.keepalive);
		break;
	case CLIENT_WAITS:
		connection->in_flight++;
		break;
	case CLIENT_BUSY:
		connection->held = stream->held = true;
		break;
	case CLIENT_DROPPED:
		if (stream->answer.dropped == METRIC_DROP_MALFORMED)
			stream_drop(stream, connection,
			    METRIC_TCP_CLOSED_MALFORMED);
		else if (stream->answer.dropped == METRIC_DROP_DENIED)
			stream_drop(stream, connection,
			    METRIC_TCP_CLOSED_LIMIT);
		break;
	}
	return (connection->fd != -1);
}

void
stream_reply(struct stream *stream, struct connection *connection,
    uint8_t *message, size_t len, bool keepalive)
{
	uint8_t *from = message - 2;
	ssize_t n = 0;

	if (keepalive)
		len = dns_keepalive_append(message, len,
		    stream->server->options.tcp_idle / 100);
	dns_put16(from, len);
	len += 2;
	if (connection->out_len == 0)
		n = send(connection->fd, from, len,
		    MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n == -1 && errno != EAGAIN && errno != EINTR) {
		metrics_add(stream->metrics, METRIC_WRITE_ERRORS, 1);
		metrics_add(stream->metrics, METRIC_DROP_WRITE, 1);
		stream_drop(stream, connection, METRIC_TCP_CLOSED_CLIENT);
		return;
	}
	if (n == -1)
		n = 0;
	if (len > (size_t)n && !spill(stream, connection, from + n, len - n)) {
		metrics_add(stream->metrics, METRIC_DROP_WRITE, 1);
		stream_drop(stream, connection, METRIC_TCP_CLOSED_UNREAD);
		return;
	}
	metrics_add(stream->metrics, METRIC_REPLIES, 1);
	if (n > 0)
		connection->touched_ms = stream->now_ms;
}

/* Keep bytes for later.  False: there is no room. */
static bool
spill(struct stream *stream, struct connection *connection,
    const uint8_t *from, size_t len)
{
	size_t at = connection->out_at;

	if (len > stream->out_max - connection->out_len && at > 0) {
		memmove(connection->out, connection->out + at,
		    connection->out_len - at);
		connection->out_at = 0;
		connection->out_len -= at;
		stream->spilled -= at;
	}
	if (len > stream->out_max - connection->out_len ||
	    stream->spilled + len > SPILL_MAX)
		return (false);
	if (connection->out_len == 0)
		connection->touched_ms = stream->now_ms;
	memcpy(connection->out + connection->out_len, from, len);
	connection->out_len += len;
	stream->spilled += len;
	connection->has_spilled = true;
	return (true);
}

/* Write what was kept. */
static void
flush(struct stream *stream, struct connection *connection)
{
	ssize_t n;

	n = send(connection->fd, connection->out + connection->out_at,
	    connection->out_len - connection->out_at,
	    MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == -1) {
		stream_drop(stream, connection, METRIC_TCP_CLOSED_CLIENT);
		return;
	}
	connection->touched_ms = stream->now_ms;
	connection->out_at += n;
	if (connection->out_at == connection->out_len) {
		stream->spilled -= connection->out_len;
		connection->out_at = connection->out_len = 0;
		stream_serve(stream, connection);
	}
}

void
stream_settle(struct stream *stream, struct connection *connection)
{
	unsigned events = 0;

	if (connection->ended && !connection->held &&
	    connection->in_flight == 0 && connection->out_len == 0) {
		stream_drop(stream, connection, METRIC_TCP_CLOSED_CLIENT);
		return;
	}
	if (connection->out_len > 0)
		events = POLLER_OUT;
	else if (!connection->ended && connection->in_len < IN_MAX &&
	    connection->in_flight < stream->server->options.tcp_queries)
		events = POLLER_IN;
	if (events == connection->events)
		return;
	poller_change(stream->poller, connection->fd, events,
	    connection - stream->connection);
	connection->events = events;
	if (connection->began_ms != 0)
		connection->began_ms = stream->now_ms;	/* we kept it waiting */
}
