/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Where there is no set for the poller's quiet descriptors: all stay young.
 */

#include <errno.h>

#include "poller.h"
#include "quiet.h"

int
quiet_new(void)
{
	errno = ENOSYS;
	return (-1);
}

int
quiet_add(int quiet, int fd, unsigned events, uint32_t tag)
{
	(void)quiet;
	(void)fd;
	(void)events;
	(void)tag;
	errno = ENOSPC;
	return (-1);
}

int
quiet_change(int quiet, int fd, unsigned events, uint32_t tag)
{
	(void)quiet;
	(void)fd;
	(void)events;
	(void)tag;
	errno = ENOENT;
	return (-1);
}

int
quiet_wait(int quiet, struct poller_event *event, int max, int timeout_ms,
    const sigset_t *mask)
{
	(void)quiet;
	(void)event;
	(void)max;
	(void)timeout_ms;
	(void)mask;
	return (0);
}
