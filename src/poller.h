/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef POLLER_H
#define POLLER_H

#include <signal.h>
#include <stdint.h>

struct poller;

#define POLLER_IN	1
#define POLLER_OUT	2

struct poller_event {
	uint32_t	 tag;
	unsigned	 events;	/* of POLLER_IN and POLLER_OUT */
};

/*
 * A set of descriptors to wait for, at most max at a time.  Errors and
 * hang-ups show as what was waited for, even if that was nothing.  Returns
 * NULL with errno.
 */
struct poller	*poller_new(unsigned max);
void		 poller_free(struct poller *poller);

/* Wait for events on fd too; tag is handed back.  Returns 0, or -1: errno. */
int		 poller_add(struct poller *poller, int fd, unsigned events,
		    uint32_t tag);

/* Wait for other events on fd from now on.  Returns as poller_add(). */
int		 poller_change(struct poller *poller, int fd, unsigned events,
		    uint32_t tag);

/* Wait for fd no longer, and close it. */
void		 poller_close(struct poller *poller, int fd);

/*
 * Wait up to timeout_ms (-1: for ever) with the signal mask set to mask.
 * Returns how many of event's max were filled; 0 on time-out or a signal.
 */
int		 poller_wait(struct poller *poller, struct poller_event *event,
		    int max, int timeout_ms, const sigset_t *mask);

#endif
