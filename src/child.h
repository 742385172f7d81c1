/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef CHILD_H
#define CHILD_H

struct server;

/*
 * Be a child, of the kind that the slot with this index is for, to its end.
 * title is what it shows as.
 */
void	 child_run(const struct server *server, unsigned index,
	    const char *title) __attribute__((__noreturn__));

#endif
