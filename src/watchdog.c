/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Whether a process hangs: it has been stopped for PATIENCE_MS, or its beat
 * says that it has been at work on one thing for so long, or it waits though
 * its mailbox was written or its time has come.  One that only waits for a
 * processor is left alone.  All that is read of its slot is atomics.
 */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "slot.h"
#include "watchdog.h"

#define PATIENCE_MS	250	/* with one that makes no progress */
#define STARVED_MS	5000	/* without a processor, at most */

static uint64_t	processor_ms(pid_t);
static bool	is_runnable(pid_t);

bool
watchdog_hangs(struct watch *watch, const struct slot *slot, pid_t pid,
    uint64_t now_ms)
{
	uint32_t beat = slot->beat;

	if (watch->stopped_ms != 0 &&
	    now_ms >= watch->stopped_ms + PATIENCE_MS)
		return (true);
	if (slot->state != SLOT_RUNNING)
		return (false);
	if (beat != watch->beat) {
		watch->beat = beat;
		watch->still_ms = now_ms;
	}
	if (beat % 2 == 0 && !slot->rung && slot->due_ms >= now_ms)
		watch->still_ms = now_ms;	/* it waits, and rightly */
	if (now_ms == watch->still_ms) {
		watch->used_ms = 0;
		return (false);
	}
	if (watch->used_ms == 0)
		watch->used_ms = processor_ms(pid);
	if (now_ms < watch->still_ms + PATIENCE_MS)
		return (false);
	/* One that has had no processor can't have made progress. */
	return (now_ms >= watch->still_ms + STARVED_MS ||
	    !is_runnable(pid) ||
	    processor_ms(pid) >= watch->used_ms + PATIENCE_MS / 4);
}

/* The processor time of a process so far, in ms and never 0. */
static uint64_t
processor_ms(pid_t pid)
{
	struct timespec ts;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) != 0 ||
	    clock_gettime(clock, &ts) == -1)
		return (1);
	return (1 + (uint64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

/* Does it want a processor?  Where it can't be told, no. */
static bool
is_runnable(pid_t pid)
{
	char path[64], text[512];
	const char *state = NULL;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) == -1)
		return (false);
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n > 0) {
		text[n] = '\0';
		state = strrchr(text, ')');	/* behind the name */
	}
	return (state != NULL && strncmp(state, ") R", 3) == 0);
}
