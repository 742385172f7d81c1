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
	int		 config;	/* see restart_copy() */
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
 * Copy the configuration file for the next image.  Returns a descriptor (close
 * on exec), or -1: there is none to be read.  The next image gets it, or -1,
 * from restart_config(), once.
 */
int	 restart_copy(const char *path);
int	 restart_config(void);

/*
 * Run this program with -n, the copied configuration and the arguments.
 * Returns 0 if it finds nothing wrong; else logs what and returns -1.
 */
int	 restart_check(int config, int argc, char *const *argv);

/*
 * Become the program that was checked last.  Returns only if that failed, and
 * then all is as it was: why (not to be freed).
 */
const char *restart_exec(struct restart *restart, char *const *argv);

/* Free the arrays. */
void	 restart_free(struct restart *restart);

/* Did an image before this one hand something over?  If so, take it. */
bool	 restart_take(struct restart *restart);

#endif
