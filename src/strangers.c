/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The strangers: children of the image before that have no slot in this one.
 * No one here gives them anything to do or watches them; they finish what they
 * have.  Workers end when no one is left who gives them questions.
 */

#include <signal.h>
#include <stdlib.h>

#include "log.h"
#include "strangers.h"

static struct stranger {
	pid_t		 pid;
	bool		 last;		/* a worker: after the others */
}			*strangers;
static unsigned		 len;
static uint64_t		 limit_ms;	/* then they are killed */

void
strangers_init(unsigned max, uint64_t end_ms)
{
	strangers = calloc(max + 1, sizeof(*strangers));
	if (strangers == NULL)
		fatal("out of memory");
	limit_ms = end_ms;
}

void
strangers_add(pid_t pid, bool last)
{
	strangers[len++] = (struct stranger){ .pid = pid, .last = last };
}

void
strangers_bury(pid_t pid)
{
	unsigned i;

	for (i = 0; i < len && strangers[i].pid != pid; i++)
		;
	if (i < len)
		strangers[i] = strangers[--len];
}

void
strangers_press(uint64_t now_ms)
{
	unsigned i, firsts = 0;

	for (i = 0; i < len; i++)
		firsts += !strangers[i].last;
	for (i = 0; i < len; i++) {
		if (strangers[i].last && firsts > 0)
			continue;
		/* One that is stopped must go on to hear it. */
		kill(strangers[i].pid, now_ms > limit_ms ? SIGKILL : SIGTERM);
		kill(strangers[i].pid, SIGCONT);
	}
}

unsigned
strangers_count(void)
{
	return (len);
}

void
strangers_pids(pid_t *pids)
{
	unsigned i;

	for (i = 0; i < len; i++)
		pids[i] = strangers[i].pid;
}
