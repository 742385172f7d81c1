/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Faults on purpose, for tests: see fault.h.  The count of passages lies in
 * memory that all processes share, so that a fault that is to strike once
 * does not strike the successor too.
 */

#ifdef FAULTS

#include <sys/mman.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"

static char		 wanted[64];
static char		 action[16];
static bool		 always;
static atomic_int	*left;		/* passages till it strikes */

void
fault_init(void)
{
	const char *text = getenv("DNSD_FAULT");
	char last[16] = "";
	int n = 0;

	if (text == NULL ||
	    sscanf(text, "%63[^:]:%15[^:]:%d:%15s", wanted, action, &n,
	    last) < 2)
		return;
	always = strcmp(last, "always") == 0;
	left = mmap(NULL, sizeof(*left), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (left == MAP_FAILED)
		abort();
	*left = n;
}

void
fault_point(const char *label)
{
	int before;

	if (left == NULL || strcmp(label, wanted) != 0)
		return;
	before = atomic_fetch_sub(left, 1);
	if (before > 0 || (before < 0 && !always))
		return;
	if (strcmp(action, "kill") == 0)
		raise(SIGKILL);
	else if (strcmp(action, "stop") == 0)
		raise(SIGSTOP);
	else if (strcmp(action, "segv") == 0)
		raise(SIGSEGV);
	else if (strcmp(action, "loop") == 0)
		for (;;)
			;
}

#else

typedef int fault_none;	/* a file must not be empty */

#endif
