/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef STREAM_CONNECTION_H
#define STREAM_CONNECTION_H

/* What stream.c, stream_places.c and stream_connection.c know of a stream. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client.h"
#include "poller.h"
#include "server.h"
#include "stream.h"

#define IN_MAX		8192	/* no question is as long as that */

/* What the poller hands back, if not a connection's place. */
#define TAG_MAILBOX	UINT32_MAX
#define TAG_SOCKET	0x80000000U	/* with its index */

struct connection {
	int		 fd;		/* -1: the place is free */
	uint32_t	 generation;
	struct addr	 client;
	uint64_t	 touched_ms;	/* a byte came or went */
	uint64_t	 began_ms;	/* the incomplete message; 0: none */
	unsigned	 events;	/* that the poller looks for */
	unsigned	 in_flight;
	bool		 ended;		/* the client sends no more */
	bool		 held;		/* the first message, counted, waits
					   for the pending table */
	bool		 has_spilled;	/* out has been used */
	size_t		 in_len;
	size_t		 out_at;
	size_t		 out_len;
	uint8_t		*in;		/* IN_MAX bytes */
	uint8_t		*out;		/* out_max bytes */
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
	bool			 ending;	/* SIGTERM has come */
	bool			 paused;	/* no descriptor for accept */
	bool			 held;		/* a connection is */
	size_t			 out_max;
	size_t			 spilled;	/* the sum of all out_len */
	struct connection	*connection;
};

/* stream_places.c */

/* Make the table of connections.  Returns 0, or -1 with errno. */
int	 stream_make_places(struct stream *stream);

/* Take the clients that have come to the listening socket of that index. */
void	 stream_accept(struct stream *stream, unsigned index);

/* Close connections whose time is over; look for new clients again. */
void	 stream_sweep(struct stream *stream);

/* Close a connection, and count why. */
void	 stream_drop(struct stream *stream, struct connection *connection,
	    enum metric reason);

/*
 * stream_connection.c; after each of these the connection may be closed, and
 * its fd -1.
 */

/* Read or write, since the poller has these events. */
void	 stream_ready(struct stream *stream, struct connection *connection,
	    unsigned events);

/* Serve the messages that are there whole, as far as limits allow. */
void	 stream_serve(struct stream *stream, struct connection *connection);

/*
 * Write a reply, its length in the two bytes before it; with keepalive it gets
 * longer (RFC 7828).  What the kernel does not take is kept; a client that lets
 * too much of it gather is dropped.
 */
void	 stream_reply(struct stream *stream, struct connection *connection,
	    uint8_t *message, size_t len, bool keepalive);

/* Look for what can be done next; close what has nothing more to come. */
void	 stream_settle(struct stream *stream, struct connection *connection);

#endif
