/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef CHILDREN_H
#define CHILDREN_H

#include <stdbool.h>
#include <stdint.h>

#include "server.h"

#define CHILDREN_NEVER	UINT64_MAX

/*
 * The processes that serve, one for each slot: listeners, stream, workers.
 * enter is called in a new child before it gives up its privileges, to let go
 * of what is the master's alone.  Times are mono_ms().
 */
void	 children_init(struct server *server, void (*enter)(void));

/*
 * Start those that are due, and have some of the old ones end that are to be
 * replaced.
 */
void	 children_start(uint64_t now_ms);

/* Take note of all who have died; they become due again. */
void	 children_reap(void);

/*
 * Look at those who run, ten times a second: who hangs is killed, who was told
 * to end and is still there is told again, or killed when its time is over.
 */
void	 children_watch(uint64_t now_ms);

/* When children_start() has something to do next, or CHILDREN_NEVER. */
uint64_t children_due_ms(void);

/* Do all run that should, none of them old, or at least the listeners? */
bool	 children_run(bool all);

/*
 * Take over the children of the image before, and replace them: each ends when
 * it has finished.  If the segment was kept they are in their slots; else they
 * have none here.
 */
void	 children_take(const struct restart *restart, bool kept);

/* The pids of all, to be handed over.  Returns their number. */
unsigned children_pids(pid_t **pids);

/* Have so many faults come that the master should start anew? */
bool	 children_fault_often(uint64_t now_ms);

/*
 * End all and start none: listeners, then the stream, then the workers, each
 * when those before it have left it nothing more to come.  wait is called to
 * wait for a signal, for so many milliseconds at most.
 */
void	 children_stop(void (*wait)(uint64_t));

#endif
