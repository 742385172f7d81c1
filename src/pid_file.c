/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The pidfile, and the lock on it that tells whether a daemon runs already.
 * The lock lives as long as any process has the file open, so children let go
 * of it first of all.  Only its owner removes the file.
 */

#include <errno.h>
#include <libutil.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "pid_file.h"

#define TRIES		100		/* of 10 ms, after a restart */

static struct pidfh	*file;
static const char	*file_path;
static pid_t		 owner;		/* 0: nobody yet */

static void	remove_file(void);

void
pid_file_claim(const char *path, bool again)
{
	static const struct timespec pause = { .tv_nsec = 10000000 };
	pid_t other = 0;
	int i;

	if (path[0] == '\0')
		return;
	file_path = path;
	file = pidfile_open(path, 0644, &other);
	/* A child that was forked just before may not have let go yet. */
	for (i = 0; again && file == NULL && errno == EEXIST && i < TRIES;
	    i++) {
		nanosleep(&pause, NULL);
		file = pidfile_open(path, 0644, &other);
	}
	if (file == NULL && again) {
		log_error("cannot write pidfile %s: %s", path,
		    strerror(errno));
		return;
	}
	if (file == NULL && errno == EEXIST)
		fatal("dnsd is running already with pid %ld (pidfile %s)",
		    (long)other, path);
	if (file == NULL)
		fatal("cannot write pidfile %s: %s", path, strerror(errno));
	if (owner == 0)
		atexit(remove_file);
	owner = getpid();
}

static void
remove_file(void)
{
	if (file != NULL && owner == getpid())
		pidfile_remove(file);
}

void
pid_file_write(bool again)
{
	if (file == NULL || pidfile_write(file) == 0)
		return;
	if (!again)
		fatal("cannot write pidfile %s: %s", file_path,
		    strerror(errno));
	log_error("cannot write pidfile %s: %s", file_path, strerror(errno));
}

void
pid_file_inherit(void)
{
	if (file != NULL)
		owner = getpid();
}

/* A child writes nothing, or it would have a page of its own for it. */
void
pid_file_release(void)
{
	pidfile_close(file);
	if (owner == getpid())
		file = NULL;
}
