/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Restart in place: the master becomes the program anew under the same pid,
 * so that a new configuration and a new binary are picked up while the
 * sockets stay bound, the segment stays filled and the children serve on.
 *
 * What is handed over goes by one environment variable, as numbers: which
 * descriptors are what, and the children's pids.  It is not read from the
 * segment, since children can write there and the master may be root.
 *
 * The configuration goes by another, as a copy of the file: what was checked
 * is what the next image reads, even if somebody writes the file meanwhile.
 */

#include <sys/mman.h>
#include <sys/stat.h>

#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "mono.h"
#include "restart.h"

#define VARIABLE	"DNSD_RESTART"
#define CONFIG		"DNSD_RESTART_CONFIG"
#define FORM		1	/* of the variable */
#define CHECK_MS	5000	/* for -n to have its say */
#define LINE_BYTES	512

static char		 program[4096];
static struct stat	 checked;	/* of the program that was checked */

static int	new_file(void);
static bool	is_checked(void);
static bool	announce_config(int);
static void	run_check(int, int, int, char *const *)
		    __attribute__((__noreturn__));
static int	read_line(int, char *, size_t);
static void	keep_open(const struct restart *, bool);
static void	keep(int, bool);
static char	*encode(const struct restart *);
static bool	decode(struct restart *, const char *);
static bool	decode_list(const char **, unsigned *, int **);
static bool	decode_unsigned(const char **, unsigned *);
static bool	decode_int(const char **, int *);

void
restart_remember(const char *argv0)
{
	ssize_t n;

	n = readlink("/proc/self/exe", program, sizeof(program) - 1);
	if (n > 0)
		program[n] = '\0';
	else if (realpath(argv0, program) == NULL)
		strlcpy(program, argv0, sizeof(program));
}

int
restart_copy(const char *path)
{
	struct stat st;
	char buf[4096];
	ssize_t n = -1;
	int from, to = -1;

	if ((from = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)) == -1)
		return (-1);
	/* The master must not wait for what a pipe may bring. */
	if (fstat(from, &st) == 0 && S_ISREG(st.st_mode) &&
	    (to = new_file()) != -1) {
		while ((n = read(from, buf, sizeof(buf))) > 0 &&
		    write(to, buf, n) == n)
			;
		if (n != 0)
			close(to);
	}
	close(from);
	return (n == 0 ? to : -1);
}

/* A file without a name, or -1. */
static int
new_file(void)
{
#ifdef HAVE_MEMFD_CREATE
	return (memfd_create("dnsd.conf", MFD_CLOEXEC));
#else
	char path[] = "/tmp/dnsd.XXXXXXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	if (fd != -1)
		unlink(path);
	return (fd);
#endif
}

/* Have the next image find the copy, if there is one. */
static bool
announce_config(int config)
{
	char text[16];

	if (config == -1)
		return (true);
	snprintf(text, sizeof(text), "%d", config);
	return (setenv(CONFIG, text, 1) == 0);
}

int
restart_config(void)
{
	const char *text = getenv(CONFIG);
	int config;

	if (text == NULL || !decode_int(&text, &config))
		return (-1);
	unsetenv(CONFIG);
	return (config);
}

int
restart_check(int config, int argc, char *const *argv)
{
	char line[LINE_BYTES];
	int fd[2], status;
	pid_t pid;

	memset(&checked, 0, sizeof(checked));
	stat(program, &checked);
	if (pipe2(fd, O_CLOEXEC) == -1 || (pid = fork()) == -1) {
		log_error("cannot check the configuration: %s",
		    strerror(errno));
		return (-1);
	}
	if (pid == 0)
		run_check(fd[1], config, argc, argv);
	close(fd[1]);
	if (read_line(fd[0], line, sizeof(line)) == -1)
		kill(pid, SIGKILL);
	close(fd[0]);
	if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	    WEXITSTATUS(status) == 0)
		return (0);
	log_error("%s; the old configuration goes on", line[0] != '\0' ?
	    line : "dnsd -n fails without a word");
	return (-1);
}

/* In a child: dnsd -n with the same arguments, its errors to fd. */
static void
run_check(int fd, int config, int argc, char *const *argv)
{
	const char **args = calloc(argc + 2, sizeof(*args));
	sigset_t none;
	int i, null;

	null = open("/dev/null", O_RDWR);
	if (args == NULL || null == -1 || !announce_config(config))
		_exit(1);
	keep(config, true);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	for (i = 0; i < argc; i++)
		args[i] = argv[i];
	args[argc] = "-n";
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(program, (char *const *)(uintptr_t)args);
	dprintf(fd, "cannot run %s: %s\n", program, strerror(errno));
	_exit(1);
}

/* Read the first line up to the end of all.  -1: it takes too long. */
static int
read_line(int fd, char *line, size_t size)
{
	uint64_t end_ms = mono_ms() + CHECK_MS, now_ms;
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	char rest[LINE_BYTES];
	size_t len = 0;
	ssize_t n = 1;

	line[0] = '\0';
	while (n > 0) {
		now_ms = mono_ms();
		if (now_ms >= end_ms || poll(&pfd, 1, end_ms - now_ms) <= 0)
			return (-1);
		if (len < size - 1) {
			n = read(fd, line + len, size - 1 - len);
			len += n > 0 ? n : 0;
			line[len] = '\0';
		} else
			n = read(fd, rest, sizeof(rest));
	}
	line[strcspn(line, "\n")] = '\0';
	return (0);
}

/* Another one may have come in its place while it was checked. */
static bool
is_checked(void)
{
	struct stat now;

	return (stat(program, &now) == 0 && now.st_dev == checked.st_dev &&
	    now.st_ino == checked.st_ino && now.st_size == checked.st_size &&
	    now.st_mtime == checked.st_mtime &&
	    now.st_ctime == checked.st_ctime);
}

const char *
restart_exec(struct restart *restart, char *const *argv)
{
	char *value = encode(restart);
	const char *error;

	if (value == NULL || setenv(VARIABLE, value, 1) == -1 ||
	    !announce_config(restart->config)) {
		free(value);
		return (strerror(ENOMEM));
	}
	keep_open(restart, true);
	error = "the program has just been replaced";
	if (is_checked()) {
		execv(program, argv);
		error = strerror(errno);
	}
	keep_open(restart, false);
	unsetenv(VARIABLE);
	unsetenv(CONFIG);
	free(value);
	return (error);
}

/* Shall the descriptors live through an exec? */
static void
keep_open(const struct restart *restart, bool open)
{
	unsigned i;

	keep(restart->config, open);
	keep(restart->segment, open);
	keep(restart->relay[0], open);
	keep(restart->relay[1], open);
	for (i = 0; i < restart->sockets; i++)
		keep(restart->socket[i], open);
	for (i = 0; i < restart->mailboxes; i++)
		keep(restart->mailbox[i], open);
}

static void
keep(int fd, bool open)
{
	if (fd != -1)
		fcntl(fd, F_SETFD, open ? 0 : FD_CLOEXEC);
}

/* "1 faults segment relay relay n socket ... n mailbox ... firsts n pid ..." */
static char *
encode(const struct restart *restart)
{
	char *text = NULL;
	size_t size;
	FILE *to;
	unsigned i;

	if ((to = open_memstream(&text, &size)) == NULL)
		return (NULL);
	fprintf(to, "%d %d %d %d %d %u", FORM, restart->faults_s,
	    restart->segment, restart->relay[0], restart->relay[1],
	    restart->sockets);
	for (i = 0; i < restart->sockets; i++)
		fprintf(to, " %d", restart->socket[i]);
	fprintf(to, " %u", restart->mailboxes);
	for (i = 0; i < restart->mailboxes; i++)
		fprintf(to, " %d", restart->mailbox[i]);
	fprintf(to, " %u %u", restart->firsts, restart->pids);
	for (i = 0; i < restart->pids; i++)
		fprintf(to, " %ld", (long)restart->pid[i]);
	if (fclose(to) != 0)
		return (NULL);
	return (text);
}

void
restart_free(struct restart *restart)
{
	free(restart->socket);
	free(restart->mailbox);
	free(restart->pid);
}

bool
restart_take(struct restart *restart)
{
	const char *value = getenv(VARIABLE);
	bool taken;

	memset(restart, 0, sizeof(*restart));
	restart->config = -1;
	if (value == NULL)
		return (false);
	taken = decode(restart, value);
	unsetenv(VARIABLE);
	if (!taken)
		return (false);
	keep_open(restart, false);
	return (true);
}

static bool
decode(struct restart *restart, const char *text)
{
	int version;

	_Static_assert(sizeof(pid_t) == sizeof(int), "a list of pids is ints");
	return (decode_int(&text, &version) && version == FORM &&
	    decode_int(&text, &restart->faults_s) &&
	    decode_int(&text, &restart->segment) &&
	    decode_int(&text, &restart->relay[0]) &&
	    decode_int(&text, &restart->relay[1]) &&
	    decode_list(&text, &restart->sockets, &restart->socket) &&
	    decode_list(&text, &restart->mailboxes, &restart->mailbox) &&
	    decode_unsigned(&text, &restart->firsts) &&
	    decode_list(&text, &restart->pids, &restart->pid));
}

static bool
decode_list(const char **text, unsigned *count, int **list)
{
	unsigned n, i;

	if (!decode_unsigned(text, &n) ||
	    (*list = calloc((size_t)n + 1, sizeof(**list))) == NULL)
		return (false);
	for (i = 0; i < n; i++) {
		if (!decode_int(text, &(*list)[i]))
			return (false);
	}
	*count = n;
	return (true);
}

static bool
decode_unsigned(const char **text, unsigned *number)
{
	int n;

	if (!decode_int(text, &n) || n < 0)
		return (false);
	*number = n;
	return (true);
}

static bool
decode_int(const char **text, int *number)
{
	char *end;

	*number = strtol(*text, &end, 10);
	if (end == *text)
		return (false);
	*text = end;
	return (true);
}
