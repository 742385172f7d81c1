/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Waiting for many descriptors, by poll, where there is no epoll.
 */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "poller.h"

struct poller {
	unsigned	 max;
	unsigned	 count;
	uint32_t	*tag;		/* of each of fds */
	struct pollfd	 fds[];
};

static short	to_poll(unsigned);
static unsigned	find(const struct poller *, int);

struct poller *
poller_new(unsigned max)
{
	struct poller *poller;

	poller = calloc(1, sizeof(*poller) + max *
	    (sizeof(poller->fds[0]) + sizeof(poller->tag[0])));
	if (poller == NULL)
		return (NULL);
	poller->max = max;
	poller->tag = (uint32_t *)(poller->fds + max);
	return (poller);
}

void
poller_free(struct poller *poller)
{
	free(poller);
}

static short
to_poll(unsigned events)
{
	return ((events & POLLER_IN ? POLLIN : 0) |
	    (events & POLLER_OUT ? POLLOUT : 0));
}

static unsigned
find(const struct poller *poller, int fd)
{
	unsigned i;

	for (i = 0; i < poller->count && poller->fds[i].fd != fd; i++)
		;
	return (i);
}

int
poller_add(struct poller *poller, int fd, unsigned events, uint32_t tag)
{
	if (poller->count == poller->max) {
		errno = ENOSPC;
		return (-1);
	}
	poller->fds[poller->count].fd = fd;
	poller->fds[poller->count].events = to_poll(events);
	poller->tag[poller->count++] = tag;
	return (0);
}

int
poller_change(struct poller *poller, int fd, unsigned events, uint32_t tag)
{
	unsigned i = find(poller, fd);

	if (i == poller->count) {
		errno = ENOENT;
		return (-1);
	}
	poller->fds[i].events = to_poll(events);
	poller->tag[i] = tag;
	return (0);
}

void
poller_close(struct poller *poller, int fd)
{
	unsigned i = find(poller, fd);

	if (i < poller->count) {
		poller->count--;
		poller->fds[i] = poller->fds[poller->count];
		poller->tag[i] = poller->tag[poller->count];
	}
	close(fd);
}

int
poller_wait(struct poller *poller, struct poller_event *event, int max,
    int timeout_ms, const sigset_t *mask)
{
	struct timespec timeout = { .tv_sec = timeout_ms / 1000,
	    .tv_nsec = timeout_ms % 1000 * 1000000L };
	unsigned i;
	short what;
	int n = 0;

	if (ppoll(poller->fds, poller->count,
	    timeout_ms < 0 ? NULL : &timeout, mask) <= 0)
		return (0);
	for (i = 0; i < poller->count && n < max; i++) {
		what = poller->fds[i].revents;
		if (what == 0)
			continue;
		if (what & (POLLERR | POLLHUP | POLLNVAL))
			what = poller->fds[i].events;
		event[n].tag = poller->tag[i];
		event[n++].events = (what & POLLIN ? POLLER_IN : 0) |
		    (what & POLLOUT ? POLLER_OUT : 0);
	}
	return (n);
}
