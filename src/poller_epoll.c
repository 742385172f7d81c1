/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Waiting for many descriptors, by Linux's epoll.  poller_poll.c does the
 * same by poll; configure chooses.
 */

#include <sys/epoll.h>

#include <stdlib.h>
#include <unistd.h>

#include "poller.h"

#define READY_MAX	64		/* told of at once */

struct poller {
	int			 fd;
	struct epoll_event	 ready[READY_MAX];
};

static int	control(struct poller *, int, int, unsigned, uint32_t);

struct poller *
poller_new(unsigned max)
{
	struct poller *poller;

	(void)max;		/* the kernel keeps them */
	poller = malloc(sizeof(*poller));
	if (poller == NULL)
		return (NULL);
	poller->fd = epoll_create1(EPOLL_CLOEXEC);
	if (poller->fd == -1) {
		free(poller);
		return (NULL);
	}
	return (poller);
}

void
poller_free(struct poller *poller)
{
	close(poller->fd);
	free(poller);
}

static int
control(struct poller *poller, int what, int fd, unsigned events,
    uint32_t tag)
{
	struct epoll_event event = {
		.events = (events & POLLER_IN ? EPOLLIN : 0) |
		    (events & POLLER_OUT ? EPOLLOUT : 0),
		.data.u64 = (uint64_t)events << 32 | tag,
	};

	return (epoll_ctl(poller->fd, what, fd, &event));
}

int
poller_add(struct poller *poller, int fd, unsigned events, uint32_t tag)
{
	return (control(poller, EPOLL_CTL_ADD, fd, events, tag));
}

int
poller_change(struct poller *poller, int fd, unsigned events, uint32_t tag)
{
	return (control(poller, EPOLL_CTL_MOD, fd, events, tag));
}

/* No one else holds the descriptor, so closing it ends the waiting. */
void
poller_close(struct poller *poller, int fd)
{
	(void)poller;
	close(fd);
}

int
poller_wait(struct poller *poller, struct poller_event *event, int max,
    int timeout_ms, const sigset_t *mask)
{
	uint32_t what;
	int i, n;

	if (max > READY_MAX)
		max = READY_MAX;
	n = epoll_pwait(poller->fd, poller->ready, max, timeout_ms, mask);
	for (i = 0; i < n; i++) {
		what = poller->ready[i].events;
		event[i].tag = poller->ready[i].data.u64;
		event[i].events = (what & EPOLLIN ? POLLER_IN : 0) |
		    (what & EPOLLOUT ? POLLER_OUT : 0);
		if (what & (EPOLLERR | EPOLLHUP))
			event[i].events |= poller->ready[i].data.u64 >> 32;
	}
	return (n < 0 ? 0 : n);
}
