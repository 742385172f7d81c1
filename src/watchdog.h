/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef WATCHDOG_H
#define WATCHDOG_H

#include <sys/types.h>

#include <stdbool.h>
#include <stdint.h>

struct slot;

/*
 * What was seen of a process so far; times are mono_ms().  stopped_ms is for
 * the caller to keep, and still_ms is for it to set when the process starts.
 */
struct watch {
	uint64_t	 stopped_ms;	/* since when it is stopped; 0: not */
	uint64_t	 still_ms;	/* since when beat is the same */
	uint64_t	 used_ms;	/* of a processor, at that time */
	uint32_t	 beat;
};

/*
 * Has the process in that slot been stopped or stuck for longer than patience
 * lasts?  To be asked several times within that.
 */
bool	 watchdog_hangs(struct watch *watch, const struct slot *slot,
	    pid_t pid, uint64_t now_ms);

#endif
