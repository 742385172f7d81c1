/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef WORKER_H
#define WORKER_H

struct server;

/* Ask what comes to worker's mailbox till SIGTERM; then finish and return. */
void	 worker_run(const struct server *server, unsigned worker);

#endif
