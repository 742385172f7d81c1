/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Where the system can't confine a process to some system calls, or must not:
 * a sanitizer makes calls of its own.
 */

#include "seccomp.h"

int
seccomp_confine(void)
{
	return (0);
}
