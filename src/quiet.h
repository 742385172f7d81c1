/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef QUIET_H
#define QUIET_H

#include <signal.h>
#include <stdint.h>

struct poller_event;

/*
 * The set of the poller's quiet descriptors, a descriptor itself, which poll
 * finds readable if one of them is ready.  quiet_new() returns -1 where there
 * is no such thing, or errno tells; with -1 for a set, the others fail.
 */
int	 quiet_new(void);

/* Events and tag are the poller's.  Returns 0, or -1: errno. */
int	 quiet_add(int quiet, int fd, unsigned events, uint32_t tag);
int	 quiet_change(int quiet, int fd, unsigned events, uint32_t tag);

/* As poller_wait(), for these alone. */
int	 quiet_wait(int quiet, struct poller_event *event, int max,
	    int timeout_ms, const sigset_t *mask);

#endif
