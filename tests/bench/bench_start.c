/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * How long a server takes to start: from exec to the first true answer.
 *
 *	bench_start -port n command ...
 *
 * The command is run, a query is sent every half millisecond till one is
 * answered, and the server is ended with SIGTERM.  It prints both times; the
 * second is from the signal till the process is gone.
 */

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <netinet/in.h>

#include <err.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "wire.h"

#define NS_PER_S	UINT64_C(1000000000)
#define EVERY_NS	500000
#define START_NS	(20 * NS_PER_S)
#define STOP_NS		(10 * NS_PER_S)
#define REPLY_MAX	512

static int	 open_socket(uint16_t);
static pid_t	 start(char **);
static bool	 is_answered(int, uint8_t *, uint64_t);
static bool	 stop(pid_t);

int
main(int argc, char **argv)
{
	uint8_t query[WIRE_QUERY_LEN];
	uint64_t began_ns, answered_ns, now_ns, next_ns;
	uint16_t id = 0;
	pid_t pid;
	int fd;

	if (argc < 4 || strcmp(argv[1], "-port") != 0) {
		fprintf(stderr, "usage: bench_start -port n command ...\n");
		return (2);
	}
	fd = open_socket(wire_number(argv[2], 1024, 65535));
	prctl(PR_SET_TIMERSLACK, 1);
	wire_query_init(query, 'h', false);
	began_ns = next_ns = now_ns = wire_now_ns();
	pid = start(argv + 3);
	while (!is_answered(fd, query, next_ns)) {
		now_ns = wire_now_ns();
		if (now_ns > began_ns + START_NS ||
		    waitpid(pid, NULL, WNOHANG) != 0) {
			stop(pid);
			errx(1, "%s: no answer", argv[3]);
		}
		wire_query_set(query, id++, 0);
		send(fd, query, sizeof(query), 0);
		next_ns = now_ns + EVERY_NS;
	}
	answered_ns = wire_now_ns();
	if (!stop(pid))
		errx(1, "%s: does not end", argv[3]);
	printf("start=%.2f stop=%.2f\n", (answered_ns - began_ns) / 1e6,
	    (wire_now_ns() - answered_ns) / 1e6);
	return (0);
}

static int
open_socket(uint16_t port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	int fd;

	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1)
		err(1, "socket");
	sin.sin_port = htons(port);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == -1)
		err(1, "connect");
	return (fd);
}

static pid_t
start(char **command)
{
	pid_t pid;

	pid = fork();
	if (pid == -1)
		err(1, "fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		/* The time is all that goes to our output. */
		dup2(STDERR_FILENO, STDOUT_FILENO);
		execvp(command[0], command);
		err(1, "%s", command[0]);
	}
	return (pid);
}

/* Has a true answer come, till then?  A port that is closed yet tells so. */
static bool
is_answered(int fd, uint8_t *query, uint64_t till_ns)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	uint8_t reply[REPLY_MAX];
	uint64_t now_ns;
	struct timespec wait = { 0 };
	ssize_t n;

	while ((now_ns = wire_now_ns()) < till_ns) {
		wait.tv_nsec = till_ns - now_ns;
		if (ppoll(&pfd, 1, &wait, NULL) <= 0)
			continue;
		n = recv(fd, reply, sizeof(reply), 0);
		if (n > 0 && wire_reply_judge(reply, n, query) == WIRE_TRUE)
			return (true);
	}
	return (false);
}

/* Returns false if it had to be killed. */
static bool
stop(pid_t pid)
{
	uint64_t till_ns = wire_now_ns() + STOP_NS;
	pid_t gone;

	kill(pid, SIGTERM);
	while ((gone = waitpid(pid, NULL, WNOHANG)) == 0 &&
	    wire_now_ns() < till_ns)
		usleep(200);
	if (gone != 0)
		return (true);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return (false);
}
