/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef LISTENER_H
#define LISTENER_H

struct server;

/* Serve the listening socket of that index till SIGTERM; then return. */
void	 listener_run(const struct server *server, unsigned index);

#endif
