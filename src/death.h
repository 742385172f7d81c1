/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef DEATH_H
#define DEATH_H

#include <stdbool.h>
#include <stdint.h>

/* Of a status of waitpid(): did it do it itself, or was it killed? */
bool	 death_is_fault(int status);

/* How it died, behind its name; good till the next call. */
const char *death_describe(int status);

/*
 * Count the fault of a child that is started again in pause_ms, and log it.
 * Many at once are told of in one line.  Times are mono_ms().
 */
void	 death_report_fault(const char *name, int status, uint64_t pause_ms,
	    uint64_t now_ms);

/* Have so many faults come that the master should start anew? */
bool	 death_faults_often(uint64_t now_ms);

#endif
