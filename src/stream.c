/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The stream: DNS over TCP (RFC 7766) for all clients, in one process that
 * waits for nothing but its poller.  It looks in the cache as a listener
 * does; a miss goes to the pending table as a waiter, whose reply comes back
 * by the mailbox.  A reply there names a connection and its generation; one
 * for a client that has gone is dropped and counted.
 *
 * The loop and the mailbox are here, who is connected in stream_places.c, what
 * passes over a connection in stream_connection.c.
 */

#include <sys/socket.h>

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "dns.h"
#include "fault.h"
#include "log.h"
#include "mono.h"
#include "stream_connection.h"

#define EVENTS		64
#define SWEEP_MS	100
#define HELD_MS		5	/* till a busy table is tried again */
#define LAST_MS		2000	/* beyond timeout, at the end */
#define REPLIES		64

/* In front of a reply in the mailbox. */
struct envelope {
	uint32_t	 connection;
	uint32_t	 generation;
	uint16_t	 keepalive;
	uint16_t	 length;	/* room for the stream to write it */
};

static volatile sig_atomic_t stop;
static _Alignas(8) uint8_t answer_buf[CLIENT_FRONT + CACHE_VALUE_MAX +
    CLIENT_SPARE];
static _Alignas(8) uint8_t mail_buf[sizeof(struct envelope) +
    DNS_MESSAGE_MAX + CLIENT_SPARE];

static void	stop_soon(int);
static void	prepare(struct stream *);
static void	turn(struct stream *, const sigset_t *);
static void	serve_held(struct stream *);
static void	open_mail(struct stream *);
static void	deliver(struct stream *, struct envelope *, size_t);

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
			stream_settle(&stream, &stream.connection[i]);
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
	unsigned i;

	stream->answer = (struct client){ .server = server,
	    .slot = server_stream_slot(server, stream->number),
	    .stream = true, .buf = answer_buf, .size = sizeof(answer_buf) };
	stream->metrics = &stream->answer.slot->metrics;
	if (stream_make_places(stream) == -1)
		fatal("stream: %s", strerror(errno));
	stream->poller = poller_new(stream->places +
	    options->listen.count + 1);
	if (stream->poller == NULL || poller_add(stream->poller,
	    stream->mailbox, POLLER_IN, TAG_MAILBOX) == -1)
		fatal("stream: %s", strerror(errno));
	for (i = 0; i < options->listen.count; i++) {
		if (poller_add(stream->poller, server->stream_socket[i],
		    POLLER_IN, TAG_SOCKET | i) == -1)
			fatal("stream: %s", strerror(errno));
	}
	if (stream->answer.slot->wake < server->workers)
		server_ring(server, stream->answer.slot->wake);
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
	stream->ending = stop;
	stream->now_ms = mono_ms();
	stream->answer.now_ms = mono_boot_ms();
	for (i = 0; i < n; i++) {
		if (event[i].tag == TAG_MAILBOX)
			open_mail(stream);
		else if (event[i].tag & TAG_SOCKET)
			stream_accept(stream, event[i].tag & ~TAG_SOCKET);
		else {
			connection = &stream->connection[event[i].tag];
			if (connection->fd != -1)
				stream_ready(stream, connection,
				    event[i].events);
		}
	}
	if (stream->held)
		serve_held(stream);
	if (stream->now_ms >= stream->swept_ms + SWEEP_MS)
		stream_sweep(stream);
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
			stream_serve(stream, &stream->connection[i]);
	}
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
	stream_reply(stream, connection, mail_buf + sizeof(*envelope), len,
	    envelope->keepalive);
	/* Serve what the limit held up. */
	if (connection->fd != -1)
		stream_serve(stream, connection);
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
