/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The poller's quiet descriptors, by Linux's epoll.  It forgets one by itself
 * when it is closed.
 */

#include <sys/epoll.h>

#include "poller.h"
#include "quiet.h"

#define READY_MAX	64		/* told of at once */

static int	control(int, int, int, unsigned, uint32_t);

int
quiet_new(void)
{
	return (epoll_create1(EPOLL_CLOEXEC));
}

static int
control(int quiet, int what, int fd, unsigned events, uint32_t tag)
{
	struct epoll_event event = {
		.events = (events & POLLER_IN ? EPOLLIN : 0) |
		    (events & POLLER_OUT ? EPOLLOUT : 0),
		.data.u64 = (uint64_t)events << 32 | tag,
	};

	return (epoll_ctl(quiet, what, fd, &event));
}

int
quiet_add(int quiet, int fd, unsigned events, uint32_t tag)
{
	return (control(quiet, EPOLL_CTL_ADD, fd, events, tag));
}

int
quiet_change(int quiet, int fd, unsigned events, uint32_t tag)
{
	return (control(quiet, EPOLL_CTL_MOD, fd, events, tag));
}

int
quiet_wait(int quiet, struct poller_event *event, int max, int timeout_ms,
    const sigset_t *mask)
{
	struct epoll_event ready[READY_MAX];
	uint32_t what;
	int i, n;

	if (max > READY_MAX)
		max = READY_MAX;
	n = epoll_pwait(quiet, ready, max, timeout_ms, mask);
	for (i = 0; i < n; i++) {
		what = ready[i].events;
		event[i].tag = ready[i].data.u64;
		event[i].events = (what & EPOLLIN ? POLLER_IN : 0) |
		    (what & EPOLLOUT ? POLLER_OUT : 0);
		if (what & (EPOLLERR | EPOLLHUP))
			event[i].events |= ready[i].data.u64 >> 32;
	}
	return (n < 0 ? 0 : n);
}
