/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef RESTART_H
#define RESTART_H

#include <sys/types.h>

#include <stdbool.h>

/*
 * What the master's image hands to the next one: descriptors and the
 * processes that serve.  Arrays are allocated; a descriptor of -1 and a pid
 * of 0 are none.
 */
struct restart {
	int		 segment;
	int		 relay[2];
	unsigned	 sockets;	/* that are bound, UDP and TCP */
	int		*socket;
	unsigned	 mailboxes;	/* descriptors, owner and others */
	int		*mailbox;
	unsigned	 firsts;	/* of the pids: not workers */
	unsigned	 pids;		/* by slot, then those without one */
	pid_t		*pid;
	int		 faults_s;	/* restarted for faults: mono seconds */
};

/* Where this program is: to be called before anything changes directory. */
void	 restart_remember(const char *argv0);

/*
 * Run this program with -n and the arguments.  Returns 0 if it finds nothing
 * wrong; else logs what and returns -1.
 */
int	 restart_check(int argc, char *const *argv);

/*
 * Become the program again, whatever it is by now.  Returns only if that
 * failed, with errno, and then all is as it was.
 */
void	 restart_exec(struct restart *restart, char *const *argv);

/* Free the arrays. */
void	 restart_free(struct restart *restart);

/* Did an image before this one hand something over?  If so, take it. */
bool	 restart_take(struct restart *restart);

#endif
