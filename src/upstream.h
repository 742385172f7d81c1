/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef UPSTREAM_H
#define UPSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dns.h"
#include "health.h"
#include "poller.h"

#define UPSTREAM_SOCKETS	3	/* open at once for one question */

enum upstream_status {
	UPSTREAM_WAITING,	/* until a socket is ready or wake_us comes */
	UPSTREAM_ANSWERED,	/* reply and reply_len hold a true answer */
	UPSTREAM_FAILED		/* rcode says with what to answer */
};

/* One packet or connection on its way. */
struct upstream_try {
	int		 fd;		/* -1: not in use */
	uint8_t		 upstream;	/* index */
	bool		 tcp;
	bool		 edns;
	bool		 flat;		/* name sent in lower case */
	bool		 counted;	/* as lost, already */
	uint16_t	 id;
	uint8_t		 name[DNS_NAME_MAX];	/* its case as sent */
	uint64_t	 sent_us;
};

/* One question being asked.  All but the last members are its module's. */
struct upstream_exchange {
	const struct upstreams	*upstreams;
	struct poller		*poller;
	uint32_t		 tag;
	uint8_t			 key[DNS_KEY_MAX];
	size_t			 key_len;
	uint64_t		 end_us;	/* the whole must be over */
	uint64_t		 next_us;	/* the next try is due */
	uint8_t			 order[UPSTREAM_MAX];
	uint8_t			 step;		/* tries of the order made */
	uint8_t			 more;		/* granted behind the order */
	uint8_t			 tolerated;	/* mismatches let pass */
	/* A bit for each upstream. */
	uint16_t		 no_tcp;	/* its TCP failed */
	uint16_t		 flat;		/* asked in lower case */
	uint16_t		 no_edns;	/* refuses EDNS */
	uint16_t		 spent;		/* gave a bad reply: not again */
	unsigned		 current;	/* the newest of tries */
	struct upstream_try	 tries[UPSTREAM_SOCKETS];

	/* A stream's reply as it comes in: 2 bytes of length, the message. */
	uint8_t			*stream;	/* UPSTREAM_STREAM_MAX bytes */
	size_t			 stream_len;
	bool			 stream_sent;	/* the request is */

	/* For the caller. */
	uint64_t		 wake_us;	/* when to call upstream_due() */
	uint16_t		 rcode;		/* FAILED: of the last bad reply */
	bool			 truncated;	/* FAILED: a reply had TC */
	uint8_t			*reply;		/* valid till the next call */
	size_t			 reply_len;
};

#define UPSTREAM_STREAM_MAX	(2 + DNS_MESSAGE_MAX)

/*
 * Begin to ask the question of key; at end_us it has failed.  Sockets are
 * added to poller under tag plus 0 to UPSTREAM_SOCKETS - 1.  stream is
 * UPSTREAM_STREAM_MAX bytes that are the exchange's till its end.
 */
enum upstream_status upstream_start(struct upstream_exchange *exchange,
	    const struct upstreams *upstreams, struct poller *poller,
	    uint32_t tag, const uint8_t *key, size_t key_len,
	    uint8_t *stream, uint64_t now_us, uint64_t end_us);

/*
 * If an upstream that is down is to be tried again, ask it alone, once, this
 * live question; its reply brings it up.  The answer is nobody's.  FAILED:
 * there is none.
 */
enum upstream_status upstream_probe(struct upstream_exchange *exchange,
	    const struct upstreams *upstreams, struct poller *poller,
	    uint32_t tag, const uint8_t *key, size_t key_len,
	    uint64_t now_us);

/*
 * A socket is ready.  buf, DNS_MESSAGE_MAX bytes, is where a datagram is
 * received to; exchange->reply may point into it afterwards.
 */
enum upstream_status upstream_ready(struct upstream_exchange *exchange,
	    unsigned socket, uint8_t *buf, uint64_t now_us);

/* wake_us has come. */
enum upstream_status upstream_due(struct upstream_exchange *exchange,
	    uint64_t now_us);

/* A client has asked once more: make a try now, or soon after the newest. */
enum upstream_status upstream_again(struct upstream_exchange *exchange,
	    uint64_t now_us);

/*
 * Close what is open.  After ANSWERED that is the caller's to do, who may
 * reply first; after FAILED it has been done.
 */
void	 upstream_cancel(struct upstream_exchange *exchange);

#endif
