/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The stream: DNS over TCP (RFC 7766) for all clients, in one process that
 * waits for nothing but its poller.  It looks in the cache as a listener
 * does; a miss goes to the pending table as a waiter, whose reply comes back
 * by the mailbox.
 *
 * A connection is a place in a table, and a generation that changes with each
 * client that has the place: a reply names both, and one for a client that
 * has gone is dropped and counted.
 *
 *	in[0 .. in_len)		has been read and not yet served: at most one
 *				message is incomplete, at its end
 *	out[out_at .. out_len)	has been answered and not yet taken by the
 *				kernel; while there is any, nothing is read
 *	in_flight		queries that wait for a worker's reply
 *
 * Every connection has limits in time and number, so that no client can keep
 * others out: see expire().  A connection is looked after in order of its
 * place, ten times a second at most.
 */

#include <sys/mman.h>
#include <sys/socket.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "dns.h"
#include "fault.h"
#include "log.h"
#include "mono.h"
#include "poller.h"
#include "server.h"
#include "stream.h"

#define EVENTS		64
#define IN_MAX		8192	/* no question is as long as that */
#define OUT_REPLIES	100	/* so many may wait to be taken, at most */
#define OUT_MIN		(136 * 1024)	/* two replies, in whole pages */
#define SPILL_MAX	(64 << 20)	/* bytes that may, of all clients */
#define PAGE		4096
#define SWEEP_MS	100
#define HELD_MS		5	/* till a busy table is tried again */
#define UNREAD_MS	2000	/* for a client to take what it asked for */
#define LAST_MS		2000	/* beyond timeout, at the end */
#define ACCEPTS		64	/* at once; then the others have their turn */
#define REPLIES		64
#define TAG_MAILBOX	UINT32_MAX
#define TAG_SOCKET	0x80000000U

struct connection {
	int		 fd;		/* -1: the place is free */
	uint32_t	 generation;
	struct addr	 client;
	uint64_t	 touched_ms;	/* a byte came or went */
	uint64_t	 began_ms;	/* the incomplete message; 0: none */
	unsigned	 events;	/* that the poller looks for */
	unsigned	 in_flight;
	bool		 ended;		/* the client sends no more */
	bool		 held;		/* a message waits for the table */
	bool		 has_spilled;	/* out has been used */
	size_t		 in_len;
	size_t		 out_at;
	size_t		 out_len;
	uint8_t		*in;		/* IN_MAX bytes */
	uint8_t		*out;		/* out_max bytes */
};

/* In front of a reply in the mailbox. */
struct envelope {
	uint32_t	 connection;
	uint32_t	 generation;
	uint16_t	 keepalive;
	uint16_t	 length;	/* room for the stream to write it */
};

struct stream {
	const struct server	*server;
	unsigned		 number;
	int			 mailbox;
	struct metrics		*metrics;
	struct poller		*poller;
	struct client		 answer;
	uint32_t		 places;
	uint32_t		 used;
	uint32_t		 top;		/* no place above is in use */
	uint32_t		 generation;
	uint64_t		 now_ms;	/* mono_ms() */
	uint64_t		 swept_ms;
	bool			 paused;	/* no descriptor for accept */
	bool			 held;		/* a connection is */
	size_t			 out_max;
	size_t			 spilled;	/* the sum of all out_len */
	struct connection	*connection;
};

static volatile sig_atomic_t stop;
static _Alignas(8) uint8_t answer_buf[CLIENT_FRONT + CACHE_VALUE_MAX +
    CLIENT_SPARE];
static _Alignas(8) uint8_t mail_buf[sizeof(struct envelope) +
    DNS_MESSAGE_MAX + CLIENT_SPARE];

static void	stop_soon(int);
static void	prepare(struct stream *);
static uint8_t	*reserve(struct stream *);
static void	turn(struct stream *, const sigset_t *);
static void	listen_to(struct stream *, unsigned);
static void	accept_some(struct stream *, unsigned);
static void	admit(struct stream *, int, const struct addr *);
static bool	make_room(struct stream *, const struct addr *);
static struct connection *free_place(struct stream *);
static void	ready(struct stream *, struct connection *, unsigned);
static void	read_some(struct stream *, struct connection *);
static void	serve(struct stream *, struct connection *);
static bool	serve_message(struct stream *, struct connection *, uint8_t *,
		    size_t);
static void	serve_held(struct stream *);
static void	open_mail(struct stream *);
static void	deliver(struct stream *, struct envelope *, size_t);
static void	reply(struct stream *, struct connection *, uint8_t *, size_t,
		    bool);
static bool	spill(struct stream *, struct connection *, const uint8_t *,
		    size_t);
static void	flush(struct stream *, struct connection *);
static void	settle(struct stream *, struct connection *);
static void	sweep(struct stream *);
static void	expire(struct stream *, struct connection *);
static bool	is_idle(const struct connection *);
static void	drop(struct stream *, struct connection *, enum metric);

void
stream_run(const struct server *server, unsigned number)
{
	struct sigaction action = { .sa_handler = stop_soon };
	struct stream stream = { .server = server, .number = number,
	    .mailbox = server->stream_mailbox[number].end[MAIL_OWNER] };
	uint64_t end_ms;
	unsigned i;
	sigset_t none;

	sigaction(SIGTERM, &action, NULL);
	sigemptyset(&none);
	prepare(&stream);
	while (!stop)
		turn(&stream, &none);

	/* No more clients and no more queries; who waits gets its reply. */
	end_ms = mono_ms() + server->options.timeout + LAST_MS;
	for (i = 0; i < server->options.listen.count; i++)
		poller_close(stream.poller, server->stream_socket[i]);
	do {
		for (i = 0; i < stream.top; i++) {
			if (stream.connection[i].fd == -1)
				continue;
			stream.connection[i].ended = true;
			settle(&stream, &stream.connection[i]);
		}
		if (stream.used > 0)
			turn(&stream, &none);
	} while (stream.used > 0 && mono_ms() < end_ms);
}

static void
stop_soon(int signo)
{
	(void)signo;
	stop = 1;
}

static void
prepare(struct stream *stream)
{
	const struct server *server = stream->server;
	const struct options *options = &server->options;
	uint8_t *buffers;
	unsigned i;

	stream->answer = (struct client){ .server = server,
	    .slot = server_stream_slot(server, stream->number),
	    .stream = true, .buf = answer_buf, .size = sizeof(answer_buf) };
	stream->metrics = &stream->answer.slot->metrics;
	stream->places = options->tcp_connections;
	stream->generation = arc4random();
	stream->connection = calloc(stream->places,
	    sizeof(*stream->connection));
	buffers = reserve(stream);
	stream->poller = poller_new(stream->places +
	    options->listen.count + 1);
	if (stream->connection == NULL || buffers == NULL ||
	    stream->poller == NULL ||
	    poller_add(stream->poller, stream->mailbox, POLLER_IN,
	    TAG_MAILBOX) == -1)
		fatal("stream: %s", strerror(errno));
	for (i = 0; i < stream->places; i++) {
		stream->connection[i].fd = -1;
		stream->connection[i].in = buffers;
		stream->connection[i].out = buffers + IN_MAX;
		buffers += IN_MAX + stream->out_max;
	}
	for (i = 0; i < options->listen.count; i++) {
		if (poller_add(stream->poller, server->stream_socket[i],
		    POLLER_IN, TAG_SOCKET | i) == -1)
			fatal("stream: %s", strerror(errno));
	}
	if (stream->answer.slot->wake < server->workers)
		server_ring(server, stream->answer.slot->wake);
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

/* Wait once, and do what there is to do. */
static void
turn(struct stream *stream, const sigset_t *mask)
{
	struct poller_event event[EVENTS];
	struct connection *connection;
	int i, n;

	slot_waits(stream->answer.slot);
	n = poller_wait(stream->poller, event, EVENTS, stream->held ?
	    HELD_MS : stream->used > 0 || stream->paused ? SWEEP_MS : -1,
	    mask);
	slot_works(stream->answer.slot);
	stream->now_ms = mono_ms();
	stream->answer.now_ms = mono_boot_ms();
	for (i = 0; i < n; i++) {
		if (event[i].tag == TAG_MAILBOX)
			open_mail(stream);
		else if (event[i].tag & TAG_SOCKET)
			accept_some(stream, event[i].tag & ~TAG_SOCKET);
		else {
			connection = &stream->connection[event[i].tag];
			if (connection->fd != -1)
				ready(stream, connection, event[i].events);
		}
	}
	if (stream->held)
		serve_held(stream);
	if (stream->now_ms >= stream->swept_ms + SWEEP_MS)
		sweep(stream);
}

/* Try again what found the pending table busy. */
static void
serve_held(struct stream *stream)
{
	uint32_t i;

	stream->held = false;
	for (i = 0; i < stream->top; i++) {
		if (stream->connection[i].fd != -1 &&
		    stream->connection[i].held)
			serve(stream, &stream->connection[i]);
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
accept_some(struct stream *stream, unsigned index)
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
	drop(stream, idle, METRIC_TCP_CLOSED_LIMIT);
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

static void
ready(struct stream *stream, struct connection *connection, unsigned events)
{
	if (events & POLLER_OUT)
		flush(stream, connection);
	else
		read_some(stream, connection);
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
		drop(stream, connection, METRIC_TCP_CLOSED_CLIENT);
		return;
	}
	if (n == 0)
		connection->ended = true;
	connection->in_len += n;
	connection->touched_ms = stream->now_ms;
	serve(stream, connection);
}

/* Serve the messages that are there whole, as far as limits allow. */
static void
serve(struct stream *stream, struct connection *connection)
{
	size_t at = 0, len;
	uint8_t *in = connection->in;

	connection->held = false;
	while (connection->in_len - at >= 2 && connection->out_len == 0 &&
	    connection->in_flight < stream->server->options.tcp_queries &&
	    !stop) {
		len = dns_get16(in + at);
		if (len < DNS_HEADER_LEN || len > IN_MAX - 2) {
			drop(stream, connection, METRIC_TCP_CLOSED_MALFORMED);
			return;
		}
		if (connection->in_len - at - 2 < len)
			break;
		if (!serve_message(stream, connection, in + at + 2, len))
			return;
		if (connection->held)
			break;
		at += 2 + len;
		connection->began_ms = 0;
	}
	memmove(in, in + at, connection->in_len - at);
	connection->in_len -= at;
	if (connection->in_len > 0 && connection->began_ms == 0)
		connection->began_ms = stream->now_ms;
	settle(stream, connection);
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
	enum client_result result;

	result = client_answer(&stream->answer, message, len, &waiter);
	if (result == CLIENT_BUSY) {
		connection->held = stream->held = true;
		return (true);
	}
	metrics_add(stream->metrics, METRIC_QUERIES, 1);
	metrics_add(stream->metrics, METRIC_TCP_QUERIES, 1);
	switch (result) {
	case CLIENT_REPLY:
		reply(stream, connection, stream->answer.reply,
		    stream->answer.reply_len, stream->answer.keepalive);
		break;
	case CLIENT_WAITS:
		connection->in_flight++;
		break;
	default:
		if (stream->answer.dropped == METRIC_DROP_MALFORMED)
			drop(stream, connection, METRIC_TCP_CLOSED_MALFORMED);
		else if (stream->answer.dropped == METRIC_DROP_DENIED)
			drop(stream, connection, METRIC_TCP_CLOSED_LIMIT);
		break;
	}
	return (connection->fd != -1);
}

/* Take the workers' replies. */
static void
open_mail(struct stream *stream)
{
	struct envelope envelope;
	ssize_t n;
	int i;

	for (i = 0; i < REPLIES; i++) {
		n = recv(stream->mailbox, mail_buf,
		    sizeof(envelope) + DNS_MESSAGE_MAX, MSG_DONTWAIT);
		if (n < (ssize_t)sizeof(envelope) + DNS_HEADER_LEN)
			return;
		FAULT("stream.mail");
		memcpy(&envelope, mail_buf, sizeof(envelope));
		deliver(stream, &envelope, n - sizeof(envelope));
	}
}

static void
deliver(struct stream *stream, struct envelope *envelope, size_t len)
{
	struct connection *connection;

	connection = &stream->connection[envelope->connection];
	if (envelope->connection >= stream->places || connection->fd == -1 ||
	    connection->generation != envelope->generation) {
		metrics_add(stream->metrics, METRIC_DROP_GONE, 1);
		return;
	}
	if (connection->in_flight > 0)
		connection->in_flight--;
	reply(stream, connection, mail_buf + sizeof(*envelope), len,
	    envelope->keepalive);
	if (connection->fd != -1)
		serve(stream, connection);	/* what the limit held up */
}

/*
 * Write a reply, its length in the two bytes before it.  What the kernel does
 * not take is kept; a client that lets too much of it gather is dropped.
 */
static void
reply(struct stream *stream, struct connection *connection, uint8_t *message,
    size_t len, bool keepalive)
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
		drop(stream, connection, METRIC_TCP_CLOSED_CLIENT);
		return;
	}
	if (n == -1)
		n = 0;
	if (len > (size_t)n && !spill(stream, connection, from + n, len - n)) {
		metrics_add(stream->metrics, METRIC_DROP_WRITE, 1);
		drop(stream, connection, METRIC_TCP_CLOSED_UNREAD);
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
		drop(stream, connection, METRIC_TCP_CLOSED_CLIENT);
		return;
	}
	connection->touched_ms = stream->now_ms;
	connection->out_at += n;
	if (connection->out_at == connection->out_len) {
		stream->spilled -= connection->out_len;
		connection->out_at = connection->out_len = 0;
		serve(stream, connection);
	}
}

/* Look for what can be done next; close what has nothing more to come. */
static void
settle(struct stream *stream, struct connection *connection)
{
	unsigned events = 0;

	if (connection->ended && !connection->held &&
	    connection->in_flight == 0 && connection->out_len == 0) {
		drop(stream, connection, METRIC_TCP_CLOSED_CLIENT);
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

static void
sweep(struct stream *stream)
{
	uint32_t i;

	stream->swept_ms = stream->now_ms;
	if (stream->paused && !stop)
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
			drop(stream, connection, METRIC_TCP_CLOSED_UNREAD);
	} else if (connection->in_flight > 0) {
		/* All replies should have come; a process must have died. */
		if (silent > options->timeout + options->tcp_idle)
			drop(stream, connection, METRIC_TCP_CLOSED_IDLE);
	} else if (connection->began_ms != 0) {
		if (stream->now_ms > connection->began_ms +
		    options->tcp_message)
			drop(stream, connection, METRIC_TCP_CLOSED_SLOW);
	} else if (silent > options->tcp_idle)
		drop(stream, connection, METRIC_TCP_CLOSED_IDLE);
}

static bool
is_idle(const struct connection *connection)
{
	return (connection->in_len == 0 && connection->out_len == 0 &&
	    connection->in_flight == 0);
}

static void
drop(struct stream *stream, struct connection *connection,
    enum metric reason)
{
	metrics_add(stream->metrics, reason, 1);
	poller_close(stream->poller, connection->fd);
	connection->fd = -1;
	stream->used--;
	stream->spilled -= connection->out_len;
	if (connection->has_spilled)
		madvise(connection->in, IN_MAX + stream->out_max,
		    MADV_DONTNEED);
}

int
stream_hand_reply(const struct server *server,
    const struct pending_waiter *waiter, const uint8_t *message, size_t len)
{
	struct envelope envelope = {
		.connection = waiter->connection,
		.generation = waiter->generation,
		.keepalive = waiter->keepalive,
	};
	struct iovec iov[2] = {
		{ .iov_base = &envelope, .iov_len = sizeof(envelope) },
		{ .iov_base = (void *)(uintptr_t)message, .iov_len = len },
	};
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };

	const struct server_mailbox *mailbox =
	    &server->stream_mailbox[waiter->socket - server->sockets];

	if (sendmsg(mailbox->end[MAIL_OTHERS], &msg,
	    MSG_DONTWAIT | MSG_NOSIGNAL) == -1)
		return (-1);
	return (0);
}
