/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * A worker: take, ask, store, reply to all.  It blocks in its poller alone,
 * over its mailbox and the sockets of the questions that it is asking, and
 * gets SIGTERM nowhere else.  A byte in the mailbox says only that there is
 * something in the pending table; what, the table knows.
 *
 * Each question in hand has a place.  It is ended in this order: the answer is
 * stored, every waiter is replied to and marked, the entry is freed, and the
 * sockets are closed.  So who asks meanwhile finds either the entry or the
 * answer, and a worker that dies on the way leaves its successor all that is
 * still to be done.
 */

#include <sys/mman.h>
#include <sys/socket.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "dns.h"
#include "fault.h"
#include "log.h"
#include "mono.h"
#include "outcome.h"
#include "reply.h"
#include "server.h"
#include "upstream.h"
#include "worker.h"

#define EVENTS		64
#define BUSY_MS		5		/* until a busy table is tried again */
#define QUEUED_MAX_US	2000000		/* then its client has asked again */
#define HAND_OVER_MS	700		/* to finish, when it is replaced */
#define NEVER		UINT64_MAX
#define TAG_MAILBOX	UINT32_MAX
#define TAG_SHIFT	8		/* the place; below it, the socket */

/* A place for a question. */
struct place {
	uint32_t		 index;		/* in the table; 0: free */
	bool			 ended;		/* but the table was busy */
	bool			 asking;	/* the exchange has begun */
	struct upstream_exchange exchange;
};

struct worker {
	const struct server	*server;
	unsigned		 number;
	struct slot		*slot;
	struct metrics		*metrics;
	struct poller		*poller;
	uint32_t		 blamed;	/* it killed our predecessor */
	unsigned		 places;
	unsigned		 used;
	bool			 look;		/* there may be more to take */
	bool			 probing;
	struct place		*place;		/* and one for a probe */
	uint8_t			*streams;	/* of each place, a buffer */
	uint64_t		*due_us;	/* of each place, or NEVER */
};

static volatile sig_atomic_t stop;
static uint8_t		 datagram[DNS_MESSAGE_MAX];
static struct outcome	 outcome;	/* of the question that now ends */

static void	stop_soon(int);
static void	prepare(struct worker *);
static void	turn(struct worker *, const sigset_t *);
static int	next_wake_ms(const struct worker *);
static void	look_after(struct worker *, struct place *, uint64_t);
static void	note_due(struct worker *, const struct place *, uint64_t);
static void	take(struct worker *);
static void	begin(struct worker *, uint32_t);
static void	ask(struct worker *, struct place *, uint64_t);
static void	step(struct worker *, struct place *, enum upstream_status);
static void	give_up(struct worker *, struct place *);
static void	drop_all(struct worker *, struct place *, enum metric);
static void	end(struct worker *, struct place *);
static void	leave(struct worker *, struct place *);

void
worker_run(const struct server *server, unsigned number)
{
	struct sigaction action = { .sa_handler = stop_soon };
	struct slot *slot = server_worker_slot(server, number);
	struct worker worker = {
		.server = server,
		.number = number,
		.slot = slot,
		.metrics = &slot->metrics,
		.blamed = slot->faulted ? slot->in_hand : 0,
		.places = server->options.queries_per_worker,
	};
	uint64_t end_ms;
	sigset_t none;

	slot->in_hand = 0;
	sigaction(SIGTERM, &action, NULL);
	sigemptyset(&none);
	prepare(&worker);
	while (pending_worker_start(server->pending, number) == -1)
		poll(NULL, 0, BUSY_MS);
	FAULT("worker.started");
	worker.look = true;
	take(&worker);
	slot->faulted = 0;
	worker.blamed = 0;
	while (!stop)
		turn(&worker, &none);

	/* At the end of all, the queue is to be emptied too. */
	if (!server->header->stopping)
		pending_worker_stop(server->pending, number);
	end_ms = mono_ms() + HAND_OVER_MS;
	worker.look = true;
	take(&worker);
	while (worker.used > 0 || worker.look) {
		/* Who takes my place takes what I have, too: it is waiting. */
		if (!server->header->stopping && mono_ms() >= end_ms)
			break;
		turn(&worker, &none);
	}
}

static void
stop_soon(int signo)
{
	(void)signo;
	stop = 1;
}

static void
prepare(struct worker *worker)
{
	size_t heads = (worker->places + 1) * sizeof(*worker->place);
	void *pages;
	unsigned i;

	worker->poller = poller_new((worker->places + 1) * UPSTREAM_SOCKETS +
	    1);
	/* Only those take memory that are used, and most workers use none. */
	pages = mmap(NULL, heads + worker->places * UPSTREAM_STREAM_MAX,
	    PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	worker->due_us = calloc(worker->places, sizeof(*worker->due_us));
	if (worker->poller == NULL || pages == MAP_FAILED ||
	    worker->due_us == NULL || poller_add(worker->poller,
	    worker->server->mailbox[worker->number].end[MAIL_OWNER], POLLER_IN,
	    TAG_MAILBOX) == -1)
		fatal("worker %u: %s", worker->number, strerror(errno));
	worker->place = pages;
	worker->streams = (uint8_t *)pages + heads;
	for (i = 0; i < worker->places; i++)
		worker->due_us[i] = NEVER;
}

/* Wait once, and do what there is to do. */
static void
turn(struct worker *worker, const sigset_t *mask)
{
	struct poller_event event[EVENTS];
	struct server_mailbox *mailbox =
	    &worker->server->mailbox[worker->number];
	struct place *place, *probe = &worker->place[worker->places];
	uint64_t now_us;
	unsigned i, socket;
	bool rung = false;
	int timeout_ms, k, n;
	char byte;

	timeout_ms = next_wake_ms(worker);
	worker->slot->due_ms = timeout_ms == -1 ? UINT64_MAX :
	    mono_ms() + timeout_ms;
	slot_waits(worker->slot);
	n = poller_wait(worker->poller, event, EVENTS, timeout_ms, mask);
	slot_works(worker->slot);
	now_us = mono_us();
	for (k = 0; k < n; k++) {
		if (event[k].tag == TAG_MAILBOX) {
			worker->slot->rung = 0;
			worker->look = rung = true;
			continue;
		}
		place = &worker->place[event[k].tag >> TAG_SHIFT];
		socket = event[k].tag & ((1 << TAG_SHIFT) - 1);
		if (place == probe) {
			worker->probing = upstream_ready(&probe->exchange,
			    socket, datagram, now_us) == UPSTREAM_WAITING;
			if (!worker->probing)
				upstream_cancel(&probe->exchange);
		} else if (place->index != 0 && !place->ended) {
			worker->slot->in_hand = place->index;
			step(worker, place, upstream_ready(&place->exchange,
			    socket, datagram, now_us));
			worker->slot->in_hand = 0;
			note_due(worker, place, now_us);
		}
	}
	if (worker->probing && now_us >= probe->exchange.wake_us)
		worker->probing = upstream_due(&probe->exchange, now_us) ==
		    UPSTREAM_WAITING;
	for (i = 0; i < worker->places && worker->used > 0; i++) {
		place = &worker->place[i];
		if (worker->due_us[i] > now_us && !(rung && place->index != 0))
			continue;
		look_after(worker, place, now_us);
		note_due(worker, place, now_us);
	}
	if (worker->look)
		take(worker);
	/* Last, since it holds up who asks; who came meanwhile rings again. */
	if (rung)
		recv(mailbox->end[MAIL_OWNER], &byte, 1, MSG_DONTWAIT);
}

/* For how long nothing is to be done but what the poller tells. */
static int
next_wake_ms(const struct worker *worker)
{
	uint64_t now_us = mono_us(), wake_us = NEVER;
	unsigned i;

	if (stop || (worker->look && worker->used < worker->places))
		return (BUSY_MS);
	if (worker->probing)
		wake_us = worker->place[worker->places].exchange.wake_us;
	for (i = 0; i < worker->places && worker->used > 0; i++) {
		if (worker->due_us[i] < wake_us)
			wake_us = worker->due_us[i];
	}
	if (wake_us == NEVER)
		return (-1);
	return (wake_us <= now_us ? 0 : (wake_us - now_us + 999) / 1000);
}

/* What no socket tells: deadlines, wishes of others, what was put off. */
static void
look_after(struct worker *worker, struct place *place, uint64_t now_us)
{
	uint32_t index = place->index;
	int more;

	if (place->ended) {
		more = pending_finish(worker->server->pending, worker->number,
		    index, &worker->look);
		if (more == -1)
			return;
		leave(worker, place);
		if (more == 1)
			begin(worker, index);	/* who came late */
	} else if (pending_must_end(worker->server->pending, index))
		give_up(worker, place);
	else if (pending_asked_again(worker->server->pending, index))
		step(worker, place, upstream_again(&place->exchange, now_us));
	else if (now_us >= place->exchange.wake_us)
		step(worker, place, upstream_due(&place->exchange, now_us));
}

/* When is a place to be looked after, if nothing comes before? */
static void
note_due(struct worker *worker, const struct place *place, uint64_t now_us)
{
	uint64_t *due_us = &worker->due_us[place - worker->place];

	if (place->index == 0)
		*due_us = NEVER;
	else if (place->ended)
		*due_us = now_us + BUSY_MS * 1000;
	else
		*due_us = place->exchange.wake_us;
}

/* Take as many questions as there are free places. */
static void
take(struct worker *worker)
{
	uint32_t index[256];
	unsigned room;
	int i, n;

	while (worker->look && worker->used < worker->places) {
		room = worker->places - worker->used;
		if (room > sizeof(index) / sizeof(index[0]))
			room = sizeof(index) / sizeof(index[0]);
		n = pending_take(worker->server->pending, worker->number,
		    room, mono_ms(), index);
		if (n == -1)
			return;		/* busy: look again soon */
		worker->look = false;
		for (i = 0; i < n; i++)
			begin(worker, index[i]);
	}
}

/* Give a question a place. */
static void
begin(struct worker *worker, uint32_t index)
{
	struct place *place = worker->place;
	uint64_t now_us = mono_us();

	while (place->index != 0)
		place++;
	place->index = index;
	place->ended = false;
	worker->used++;
	ask(worker, place, now_us);
	note_due(worker, place, now_us);
}

/* Ask a question, unless its answer has come into the cache meanwhile. */
static void
ask(struct worker *worker, struct place *place, uint64_t now_us)
{
	const struct server *server = worker->server;
	uint32_t index = place->index, number = place - worker->place;
	const uint8_t *key;
	uint64_t since_us = pending_since_ms(server->pending, index) * 1000;
	uint64_t end_us = now_us + server->upstreams.timeout_us;
	size_t key_len;

	if (index == worker->blamed) {
		outcome_condemn(&outcome, server, index, worker->number);
		metrics_add(worker->metrics, METRIC_SERVFAIL, 1);
		end(worker, place);
		return;
	}
	if (pending_takes(server->pending, index) > 1) {
		/* Of all who take it, or it would outlive them without end. */
		end_us = since_us + server->upstreams.timeout_us;
	} else if (now_us > since_us + QUEUED_MAX_US) {
		drop_all(worker, place, METRIC_DROP_STALE);
		return;
	}
	if (outcome_recall(&outcome, server, index)) {
		end(worker, place);
		return;
	}
	key = pending_key(server->pending, index, &key_len);
	place->asking = true;
	step(worker, place, upstream_start(&place->exchange,
	    &server->upstreams, worker->poller, number << TAG_SHIFT, key,
	    key_len, worker->streams + (size_t)number * UPSTREAM_STREAM_MAX,
	    now_us, end_us));
	/* By the exchange's copy: the question may be another's by now. */
	if (!worker->probing)
		worker->probing = upstream_probe(
		    &worker->place[worker->places].exchange,
		    &server->upstreams, worker->poller,
		    (uint32_t)worker->places << TAG_SHIFT,
		    place->exchange.key, place->exchange.key_len, now_us) ==
		    UPSTREAM_WAITING;
}

static void
step(struct worker *worker, struct place *place, enum upstream_status status)
{
	if (status == UPSTREAM_WAITING)
		return;
	if (status == UPSTREAM_ANSWERED) {
		FAULT("worker.answered");
		outcome_answer(&outcome, worker->server, &place->exchange);
	} else {
		outcome_failure(&outcome, worker->server, place->index,
		    &place->exchange);
		metrics_add(worker->metrics, METRIC_SERVFAIL, 1);
	}
	end(worker, place);
}

/* Others need the place. */
static void
give_up(struct worker *worker, struct place *place)
{
	upstream_cancel(&place->exchange);
	outcome_give_up(&outcome, worker->server, place->index);
	metrics_add(worker->metrics, METRIC_SERVFAIL, 1);
	end(worker, place);
}

/*
 * Too late for an answer: by UDP the client has asked again or gone.  By TCP
 * it waits for what it asked, and is told.
 */
static void
drop_all(struct worker *worker, struct place *place, enum metric reason)
{
	outcome_give_up(&outcome, worker->server, place->index);
	reply_streams(worker->server, worker->metrics, place->index,
	    outcome.value.bytes, outcome.len, reason);
	place->ended = true;	/* look_after() frees it */
}

/*
 * Reply to all who wait, with the outcome, and free the question.  What may
 * not be kept is not for those either who came when it was there already.
 */
static void
end(struct worker *worker, struct place *place)
{
	uint32_t index = place->index;
	int more;

	do {
		more = -1;
		if (reply_all(worker->server, worker->metrics, index,
		    outcome.value.bytes, outcome.len))
			more = pending_finish(worker->server->pending,
			    worker->number, index, &worker->look);
	} while (more == 1 && outcome.for_late);
	if (place->asking)
		upstream_cancel(&place->exchange);
	place->asking = false;
	if (more == -1) {
		place->ended = true;
		return;
	}
	leave(worker, place);
	if (more == 1)
		begin(worker, index);
}

static void
leave(struct worker *worker, struct place *place)
{
	place->index = 0;
	worker->used--;
}
