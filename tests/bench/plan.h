/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef PLAN_H
#define PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "names.h"
#include "tree.h"
#include "wire.h"

/* What the client is to do, from its command line. */
struct plan {
	enum names_mode	 mode;
	uint16_t	 port;
	uint32_t	 names;
	bool		 filled;	/* hot names need not be asked first */
	uint64_t	 window;	/* queries under way, a closed loop */
	uint64_t	 rate;		/* queries a second; 0: closed */
	double		 seconds;
	uint64_t	 count;		/* queries in all; 0: for seconds */
	uint64_t	 warm;		/* queries that come before */
	unsigned	 sockets;
	uint64_t	 dead_rate;	/* of names that nobody answers */
	unsigned	 timeout_ms;
	uint32_t	 first;		/* new name */
	uint64_t	 seed;

	/* What is read beside, if roots_n is not 0, if upstream not NULL. */
	pid_t		 roots[TREE_ROOTS];
	unsigned	 roots_n;
	const struct wire_count *upstream;
};

/* Exits with a message if something is wrong. */
void	 plan_parse(struct plan *plan, int argc, char **argv);

#endif
