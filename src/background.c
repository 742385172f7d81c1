/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Becoming a daemon.  Who starts it shall know from the exit status that it
 * answers, so the first process waits at a pipe till the daemon says so or is
 * gone; till then errors go to the terminal.
 */

#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "background.h"
#include "log.h"

static int	parent = -1;		/* the pipe to who waits */

static void	wait_for_word(int, pid_t) __attribute__((__noreturn__));

void
background_enter(void)
{
	int fd[2];
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC) == -1 || (pid = fork()) == -1)
		fatal("cannot become a daemon: %s", strerror(errno));
	if (pid != 0) {
		close(fd[1]);
		wait_for_word(fd[0], pid);
	}
	close(fd[0]);
	parent = fd[1];
	setsid();
}

static void
wait_for_word(int fd, pid_t pid)
{
	int status;
	char byte;

	if (read(fd, &byte, 1) == 1)
		_exit(0);
	if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	    WEXITSTATUS(status) != 0)
		_exit(WEXITSTATUS(status));
	_exit(1);
}

bool
background_is_awaited(void)
{
	return (parent != -1);
}

void
background_serves(void)
{
	int null, i;

	if (parent == -1)
		return;
	log_open_syslog();
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (i = 0; i < 3 && null != -1; i++)
		dup2(null, i);
	if (null > 2)
		close(null);
	if (write(parent, "", 1) == -1)
		log_warn("who started us is gone");
	close(parent);
	parent = -1;
}

void
background_leave(void)
{
	if (parent != -1)
		close(parent);
}
