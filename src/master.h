/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef MASTER_H
#define MASTER_H

#include "options.h"

/*
 * Be the daemon: bind, map, fork, supervise, until SIGTERM or SIGINT.
 * Returns the exit status.  argc and argv are read again on SIGHUP.
 */
int	 master_run(const struct options *options, int argc, char **argv);

#endif
