/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef BIND_H
#define BIND_H

#include "server.h"

/* Set how many sockets and streams the server's options ask for. */
void	 bind_count(struct server *server);

/*
 * Bind every listen address, or use what an earlier image handed over; taken
 * is NULL where there was none.  Ends the process with a clear line where it
 * fails.
 */
void	 bind_all(struct server *server, const struct restart *taken);

/*
 * Bind what options would listen on and server does not, into socket (room
 * for 2 * OPTIONS_ADDRS_MAX), to be handed over.  Returns how many, or -1 if
 * one can't be bound, which is logged.
 */
int	 bind_more(const struct server *server, const struct options *options,
	    int *socket);

#endif
