/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef PID_FILE_H
#define PID_FILE_H

#include <stdbool.h>

/*
 * One daemon at a time: lock the file at path ("": none), or end.  After a
 * restart in place (again) what goes wrong is logged, and it serves on.  The
 * file goes when the process that claimed it exits.
 */
void	 pid_file_claim(const char *path, bool again);

/* Write our pid into it.  What goes wrong is as above. */
void	 pid_file_write(bool again);

/* We are another process than that which claimed it, and its heir. */
void	 pid_file_inherit(void);

/* Let go of the lock; the file stays. */
void	 pid_file_release(void);

#endif
