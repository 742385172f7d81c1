/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef CLIENT_H
#define CLIENT_H

#include "answer.h"
#include "pending.h"
#include "server.h"

/* Room in front of a value (a stream's length, a question) and behind it. */
#define CLIENT_LENGTH	8		/* for a stream's, kept free */
#define CLIENT_FRONT	(CLIENT_LENGTH + ANSWER_FRONT)
#define CLIENT_SPARE	24

enum client_result {
	CLIENT_REPLY,	/* it is made, and to be sent now */
	CLIENT_WAITS,	/* a worker will reply */
	CLIENT_BUSY,	/* can't tell now: give it again soon, or up */
	CLIENT_DROPPED	/* counted; there is no reply */
};

/* Who serves, and the reply if there is one. */
struct client {
	const struct server	*server;
	struct slot		*slot;
	bool			 stream;	/* TCP: no limit but 65,535 */
	uint64_t		 now_ms;	/* mono_boot_ms() */

	/*
	 * buf has size bytes, aligned as a struct answer_value.  A reply made
	 * in it has CLIENT_LENGTH bytes in front of it that are free.
	 */
	uint8_t			*buf;
	size_t			 size;
	uint8_t			*reply;
	size_t			 reply_len;
	bool			 keepalive;	/* RFC 7828: it asks for it */
	enum metric		 dropped;	/* why */
};

/*
 * Say what becomes of a packet that a client sent.  waiter holds the client's
 * address, where the reply is to leave from, and the socket (or connection);
 * the rest of it is filled in here.  A packet has been counted as a query
 * before; a drop is counted here, a reply by who sends it, and CLIENT_BUSY
 * nowhere yet.
 */
enum client_result client_answer(struct client *client, const uint8_t *packet,
	    size_t len, struct pending_waiter *waiter);

/* Count as dropped what was CLIENT_BUSY. */
void	 client_give_up(struct client *client);

#endif
