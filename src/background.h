/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef BACKGROUND_H
#define BACKGROUND_H

#include <stdbool.h>

/*
 * Go on as a daemon, in a new process.  The old one waits to hear whether the
 * new one serves, and exits with 0 if so, else as that does.
 */
void	 background_enter(void);

/* Does anyone wait to hear? */
bool	 background_is_awaited(void);

/*
 * We serve: from now on the log goes to syslog, and who waits is told.  Does
 * nothing if no one waits.
 */
void	 background_serves(void);

/* In a child, which has nothing to tell. */
void	 background_leave(void);

#endif
