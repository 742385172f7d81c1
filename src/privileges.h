/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef PRIVILEGES_H
#define PRIVILEGES_H

#include <sys/types.h>

#include <stdbool.h>

struct privileges {
	bool	 root;		/* there are privileges to drop */
	bool	 free;		/* for debugging: no chroot, no seccomp */
	bool	 spared;	/* the master is not to die for lack of memory */
	uid_t	 uid;
	gid_t	 gid;
	char	 chroot[256];
};

/*
 * Look up the user and make the empty directory, while files can be opened;
 * and ask the system to end a child rather than the master when it lacks
 * memory, unless somebody has decided otherwise.
 * user "" means _dnsd, or nobody where that isn't known.  Returns NULL, or
 * what is wrong (not to be freed).
 */
const char *privileges_prepare(struct privileges *privileges,
	    const char *user, const char *chroot, bool free);

/* When the system lacks memory, it is to end this process before any other. */
void	 privileges_die_first(void);

/*
 * In a child: become the user, in the empty directory, with no system calls
 * but those that are needed, for good; die with master.  Ends the process
 * where any step fails.
 */
void	 privileges_drop(const struct privileges *privileges, pid_t master);

#endif
