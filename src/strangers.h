/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef STRANGERS_H
#define STRANGERS_H

#include <sys/types.h>

#include <stdbool.h>
#include <stdint.h>

/*
 * To be called first, if there may be any: room for max of them, who have till
 * end_ms to end by themselves.  Times are mono_ms().
 */
void	 strangers_init(unsigned max, uint64_t end_ms);

/* Add one; last: a worker, to end after the others. */
void	 strangers_add(pid_t pid, bool last);

/* That process is dead, whether it was one of them or not. */
void	 strangers_bury(pid_t pid);

/* Tell those to end whose turn it is, or kill them when their time is over. */
void	 strangers_press(uint64_t now_ms);

/* How many there still are, and their pids, for which there must be room. */
unsigned strangers_count(void);
void	 strangers_pids(pid_t *pids);

#endif
