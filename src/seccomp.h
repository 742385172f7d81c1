/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef SECCOMP_H
#define SECCOMP_H

/*
 * From now on this process can make only the system calls that a listener, a
 * worker or the stream makes; any other ends it with SIGSYS.  It can't be
 * undone.  Returns 0, also where the system has no such thing, or -1 with
 * errno.
 */
int	 seccomp_confine(void);

#endif
