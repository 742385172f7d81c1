/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Waiting for many descriptors.  A descriptor is first watched by poll, which
 * costs a little at each wait but nothing to begin or to end; one that stays
 * quiet goes to the set of quiet ones, where there is such a thing, and costs
 * no more till it is ready.  So a socket that is soon answered never pays for
 * a place there, and one that waits long pays for one and a few waits.
 */

#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "poller.h"
#include "quiet.h"

#define YOUNG_MAX	256		/* the rest go to the quiet at once */
#define QUIET_WAITS	2		/* in which a young one may be quiet */

/* Of the arrays, 0 is the set of quiet ones, the rest are the young. */
struct poller {
	unsigned	 max;
	unsigned	 count;
	uint32_t	*tag;
	uint8_t		*waits;		/* in which it was quiet */
	struct pollfd	 fds[];
};

static short	to_poll(unsigned);
static unsigned	from_poll(short);
static unsigned	find(const struct poller *, int);
static void	drop(struct poller *, unsigned);
static int	take(struct poller *, struct poller_event *, int);

struct poller *
poller_new(unsigned max)
{
	struct poller *poller;
	int quiet = quiet_new();

	if (quiet != -1 && max > YOUNG_MAX)
		max = YOUNG_MAX;
	max++;
	poller = calloc(1, sizeof(*poller) + max * (sizeof(*poller->fds) +
	    sizeof(*poller->tag) + sizeof(*poller->waits)));
	if (poller == NULL) {
		if (quiet != -1)
			close(quiet);
		return (NULL);
	}
	poller->max = max;
	poller->count = 1;
	poller->tag = (uint32_t *)(poller->fds + max);
	poller->waits = (uint8_t *)(poller->tag + max);
	poller->fds[0].fd = quiet;	/* -1 is passed over */
	poller->fds[0].events = POLLIN;
	return (poller);
}

void
poller_free(struct poller *poller)
{
	if (poller->fds[0].fd != -1)
		close(poller->fds[0].fd);
	free(poller);
}

static short
to_poll(unsigned events)
{
	return ((events & POLLER_IN ? POLLIN : 0) |
	    (events & POLLER_OUT ? POLLOUT : 0));
}

static unsigned
from_poll(short events)
{
	return ((events & POLLIN ? POLLER_IN : 0) |
	    (events & POLLOUT ? POLLER_OUT : 0));
}

/* Where a descriptor is among the young; count: it isn't. */
static unsigned
find(const struct poller *poller, int fd)
{
	unsigned i;

	for (i = 1; i < poller->count && poller->fds[i].fd != fd; i++)
		;
	return (i);
}

static void
drop(struct poller *poller, unsigned i)
{
	poller->count--;
	poller->fds[i] = poller->fds[poller->count];
	poller->tag[i] = poller->tag[poller->count];
	poller->waits[i] = poller->waits[poller->count];
}

int
poller_add(struct poller *poller, int fd, unsigned events, uint32_t tag)
{
	unsigned i = poller->count;

	if (i == poller->max)
		return (quiet_add(poller->fds[0].fd, fd, events, tag));
	poller->fds[i].fd = fd;
	poller->fds[i].events = to_poll(events);
	poller->tag[i] = tag;
	poller->waits[i] = 0;
	poller->count++;
	return (0);
}

int
poller_change(struct poller *poller, int fd, unsigned events, uint32_t tag)
{
	unsigned i = find(poller, fd);

	if (i == poller->count)
		return (quiet_change(poller->fds[0].fd, fd, events, tag));
	poller->fds[i].events = to_poll(events);
	poller->tag[i] = tag;
	return (0);
}

/* No one else holds the descriptor, so the quiet lose it as it is closed. */
void
poller_close(struct poller *poller, int fd)
{
	unsigned i = find(poller, fd);

	if (i < poller->count)
		drop(poller, i);
	close(fd);
}

int
poller_wait(struct poller *poller, struct poller_event *event, int max,
    int timeout_ms, const sigset_t *mask)
{
	struct timespec timeout = { .tv_sec = timeout_ms / 1000,
	    .tv_nsec = timeout_ms % 1000 * 1000000L };
	int quiet = poller->fds[0].fd, n;

	if (quiet != -1 && poller->count == 1)
		return (quiet_wait(quiet, event, max, timeout_ms, mask));
	if (ppoll(poller->fds, poller->count,
	    timeout_ms < 0 ? NULL : &timeout, mask) == -1)
		return (0);
	n = take(poller, event, max);
	if (poller->fds[0].revents != 0 && n < max)
		n += quiet_wait(quiet, event + n, max - n, 0, mask);
	return (n);
}

/* The young that are ready; of the others, the oldest go to the quiet. */
static int
take(struct poller *poller, struct poller_event *event, int max)
{
	const struct pollfd *pfd;
	unsigned i = 1;
	short what;
	int n = 0;

	while (i < poller->count) {
		pfd = &poller->fds[i];
		what = pfd->revents;
		if (what != 0 && n < max) {
			if (what & (POLLERR | POLLHUP | POLLNVAL))
				what = pfd->events;
			event[n].tag = poller->tag[i];
			event[n++].events = from_poll(what);
			poller->waits[i] = 0;
		} else if (what == 0 && poller->waits[i] < QUIET_WAITS)
			poller->waits[i]++;
		else if (what == 0 && quiet_add(poller->fds[0].fd, pfd->fd,
		    from_poll(pfd->events), poller->tag[i]) == 0) {
			drop(poller, i);	/* another takes its place */
			continue;
		}
		i++;
	}
	return (n);
}
