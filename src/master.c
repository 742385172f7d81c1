/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The master: bind, map, fork, wait, respawn, stop.  It parses no packet and
 * takes no lock, so nothing that comes by the network and no child that dies
 * can hold it up.
 *
 * Its signals are blocked but in ppoll, where it waits; what a handler notes
 * is cleared before it is acted on.  The one descriptor that it watches there
 * is the relay, by which the children hand it their log lines and say that
 * they run.
 *
 * A child that was killed from outside is started again at once, one that
 * died of a fault after a pause that doubles; one that exits with
 * SERVER_EXIT_CONFIG is not.  The master never exits because children die.
 */

#include <sys/resource.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <libutil.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "listener.h"
#include "log.h"
#include "master.h"
#include "mono.h"
#include "pending.h"
#include "privileges.h"
#include "server.h"
#include "stats.h"
#include "stream.h"
#include "worker.h"

#define BACKOFF_FIRST_MS	10
#define BACKOFF_MAX_MS		10000
#define HEALTHY_MS		60000	/* then the pause begins anew */
#define REPEAT_MS		50	/* SIGTERM, till a child is gone */
#define LISTENER_STOP_MS	1000	/* then it hangs */
#define READY_MS		10000	/* for all children to run at first */
#define DESCRIPTORS		1024	/* beside mailboxes and upstreams */

struct child {
	pid_t		 pid;		/* 0: not running */
	uint64_t	 started_ms;
	uint64_t	 start_ms;	/* when to start it; NEVER */
	uint64_t	 pause_ms;	/* before the start after a fault */
	uint64_t	 ending_ms;	/* since when told to end; 0: not */
};
#define NEVER	UINT64_MAX

static volatile sig_atomic_t got_child, got_stop, got_reload, got_stats;
static struct server	 server;
static struct child	*children;	/* by slot */
static unsigned		 first_worker;
static unsigned		 total;
static struct pidfh	*pidfile;
static pid_t		 pidfile_owner;
static int		 parent = -1;	/* who waits to hear that we serve */

static void	open_pidfile(void);
static void	remove_pidfile(void);
static void	raise_limit(void);
static void	become_daemon(void);
static void	hear_child(int, pid_t) __attribute__((__noreturn__));
static void	catch_signals(void);
static void	note(int);
static void	supervise(int, char **);
static bool	all_run(void);
static void	announce(void);
static void	start_due(uint64_t);
static void	start(unsigned);
static void	run_child(unsigned) __attribute__((__noreturn__));
static void	wait_for_news(uint64_t, uint64_t);
static uint64_t	next_due_ms(void);
static void	reap(bool);
static void	bury(unsigned, int, bool);
static bool	is_fault(int);
static const char *describe(unsigned);
static struct slot *slot_of(unsigned);
static void	reload(int, char **);
static void	warn_fixed(const struct options *, const struct options *);
static void	press_ending(uint64_t);
static void	stop_range(unsigned, unsigned, uint64_t);

int
master_run(const struct options *options, int argc, char **argv)
{
	const char *error;

	server.options = *options;
	setproctitle("master");
	raise_limit();
	error = privileges_prepare(&server.privileges, options->user,
	    options->chroot);
	if (error != NULL)
		fatal("user %s, chroot %s: %s", options->user,
		    options->chroot, error);
	open_pidfile();
	server_bind(&server);
	server_map(&server);
	first_worker = server.sockets + server.streams;
	total = first_worker + server.workers;
	if ((children = calloc(total, sizeof(*children))) == NULL)
		fatal("out of memory");
	if (!options->foreground)
		become_daemon();
	if (pidfile != NULL && pidfile_write(pidfile) == -1)
		fatal("cannot write pidfile %s: %s", options->pidfile,
		    strerror(errno));
	server.master = getpid();
	catch_signals();

	supervise(argc, argv);

	server.header->stopping = 1;
	stop_range(0, server.sockets, LISTENER_STOP_MS);
	stop_range(server.sockets, first_worker,
	    server.options.timeout + 1000);
	stop_range(first_worker, total, server.options.timeout + 1000);
	log_relay(server.relay[0]);
	stats_log(&server);
	log_info("stopped");
	return (0);
}

/* Before anything else is touched: one daemon at a time. */
static void
open_pidfile(void)
{
	const char *path = server.options.pidfile;
	pid_t other = 0;

	if (path[0] == '\0')
		return;
	pidfile = pidfile_open(path, 0644, &other);
	if (pidfile == NULL && errno == EEXIST)
		fatal("dnsd is running already with pid %ld (pidfile %s)",
		    (long)other, path);
	if (pidfile == NULL)
		fatal("cannot write pidfile %s: %s", path, strerror(errno));
	pidfile_owner = getpid();
	atexit(remove_pidfile);
}

static void
remove_pidfile(void)
{
	if (pidfile_owner == getpid())
		pidfile_remove(pidfile);
}

/* Each worker has two ends of a mailbox, open everywhere. */
static void
raise_limit(void)
{
	struct rlimit limit;
	rlim_t wanted = 2 * server.options.workers + DESCRIPTORS +
	    server.options.queries_per_worker * UPSTREAM_SOCKETS +
	    server.options.tcp_connections;

	if (getrlimit(RLIMIT_NOFILE, &limit) == -1 ||
	    limit.rlim_cur >= wanted)
		return;
	limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static void
become_daemon(void)
{
	const struct options *options = &server.options;
	int fd[2];
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC) == -1 || (pid = fork()) == -1)
		fatal("cannot become a daemon: %s", strerror(errno));
	if (pid != 0) {
		close(fd[1]);
		hear_child(fd[0], pid);
	}
	close(fd[0]);
	parent = fd[1];
	if (pidfile != NULL)
		pidfile_owner = getpid();
	setsid();
	if (options->pidfile[0] == '/' && options->config[0] == '/' &&
	    chdir("/") == -1)
		fatal("cannot change to /: %s", strerror(errno));
}

/* The parent's exit status is the daemon's word, or how it ended. */
static void
hear_child(int fd, pid_t pid)
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

static void
catch_signals(void)
{
	static const int caught[] = { SIGCHLD, SIGTERM, SIGINT, SIGHUP,
	    SIGUSR1 };
	struct sigaction action = { .sa_handler = note };
	sigset_t all;
	size_t i;

	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGABRT);
	sigprocmask(SIG_SETMASK, &all, NULL);
	sigfillset(&action.sa_mask);
	for (i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
		sigaction(caught[i], &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void
note(int signo)
{
	switch (signo) {
	case SIGCHLD:
		got_child = 1;
		break;
	case SIGHUP:
		got_reload = 1;
		break;
	case SIGUSR1:
		got_stats = 1;
		break;
	default:
		got_stop = 1;
	}
}

/* Until the end is asked for. */
static void
supervise(int argc, char **argv)
{
	uint64_t now = mono_ms(), began = now, stats_ms = now;
	bool serving = false;

	while (!got_stop) {
		if (got_child) {
			got_child = 0;
			reap(true);
		}
		if (got_reload) {
			got_reload = 0;
			reload(argc, argv);
		}
		now = mono_ms();
		if (got_stats || (server.options.stats_interval != 0 &&
		    now >= stats_ms + server.options.stats_interval)) {
			stats_ms = got_stats ? stats_ms : now;
			got_stats = 0;
			stats_log(&server);
		}
		start_due(now);
		press_ending(now);
		if (!serving && all_run()) {
			serving = true;
			announce();
		} else if (!serving && now > began + READY_MS)
			fatal("the processes do not start");
		wait_for_news(now, server.options.stats_interval == 0 ?
		    NEVER : stats_ms + server.options.stats_interval);
	}
}

static bool
all_run(void)
{
	unsigned i;

	for (i = 0; i < total; i++) {
		if (server.slots[i].state != SLOT_RUNNING)
			return (false);
	}
	return (true);
}

/* All serve: say so in the log, and to who started us. */
static void
announce(void)
{
	char text[ADDR_TEXT_MAX];
	unsigned each = server.sockets / server.options.listen.count, i;
	int null;

	if (parent != -1) {
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
	for (i = 0; i < server.options.listen.count; i++)
		log_info("dnsd %s serves %s with %u listeners and %u workers",
		    DNSD_VERSION, addr_print(text,
		    &server.options.listen.addr[i]), each, server.workers);
}

static void
start_due(uint64_t now)
{
	unsigned i;

	for (i = 0; i < total; i++) {
		if (children[i].pid == 0 && now >= children[i].start_ms)
			start(i);
	}
}

static void
start(unsigned index)
{
	struct child *child = &children[index];
	struct slot *slot = slot_of(index);
	pid_t pid;

	slot->state = SLOT_STARTING;
	child->started_ms = mono_ms();
	pid = fork();
	if (pid == 0)
		run_child(index);
	if (pid == -1) {
		slot->state = SLOT_EMPTY;
		log_error("cannot start %s: %s", describe(index),
		    strerror(errno));
		child->start_ms = child->started_ms + BACKOFF_MAX_MS;
		return;
	}
	child->pid = pid;
	child->ending_ms = 0;
}

static void
run_child(unsigned index)
{
	struct slot *slot = slot_of(index);

	pidfile_close(pidfile);	/* its lock would outlive the master */
	if (parent != -1)
		close(parent);
	close(server.relay[0]);
	log_open_relay(server.relay[1]);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGUSR1, SIG_IGN);
	setproctitle("%s", describe(index));
	privileges_drop(&server.privileges, server.master);
	slot->pid = getpid();
	slot->state = SLOT_RUNNING;
	send(server.relay[1], "\377", 1, MSG_DONTWAIT);
	if (index < server.sockets)
		listener_run(&server, index);
	else if (index < first_worker)
		stream_run(&server);
	else
		worker_run(&server, index - first_worker);
	_exit(0);
}

/* Wait for a signal, a line from a child, or what is due. */
static void
wait_for_news(uint64_t now, uint64_t limit_ms)
{
	struct pollfd pfd = { .fd = server.relay[0], .events = POLLIN };
	uint64_t due = next_due_ms();
	struct timespec timeout;
	sigset_t none;

	if (limit_ms < due)
		due = limit_ms;
	due = due > now ? due - now : 0;
	if (due > READY_MS)
		due = READY_MS;
	timeout.tv_sec = due / 1000;
	timeout.tv_nsec = due % 1000 * 1000000;
	sigemptyset(&none);
	if (ppoll(&pfd, 1, &timeout, &none) > 0)
		log_relay(server.relay[0]);
}

/* When the next child is to be started or pressed. */
static uint64_t
next_due_ms(void)
{
	uint64_t due = NEVER, at;
	unsigned i;

	for (i = 0; i < total; i++) {
		at = NEVER;
		if (children[i].pid == 0)
			at = children[i].start_ms;
		else if (children[i].ending_ms != 0)
			at = mono_ms() + REPEAT_MS;
		if (at < due)
			due = at;
	}
	return (due);
}

static void
reap(bool again)
{
	unsigned i;
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (i = 0; i < total && children[i].pid != pid; i++)
			;
		if (i < total)
			bury(i, status, again);
	}
}

/* A child is dead: clear its place, and see when it starts again. */
static void
bury(unsigned index, int status, bool again)
{
	struct child *child = &children[index];
	uint64_t now = mono_ms();
	bool asked = child->ending_ms != 0 || !again;

	child->pid = 0;
	child->ending_ms = 0;
	child->start_ms = now;
	slot_of(index)->state = SLOT_EMPTY;
	slot_of(index)->pid = 0;
	if (index >= first_worker)
		pending_worker_dead(server.pending, index - first_worker);
	if (asked)
		return;
	if (WIFEXITED(status) && WEXITSTATUS(status) == SERVER_EXIT_CONFIG) {
		child->start_ms = NEVER;
		log_error("%s can't run and is not started again",
		    describe(index));
		return;
	}
	if (is_fault(status)) {
		if (child->pause_ms == 0 ||
		    now > child->started_ms + HEALTHY_MS)
			child->pause_ms = BACKOFF_FIRST_MS;
		child->start_ms = now + child->pause_ms;
		if (child->pause_ms < BACKOFF_MAX_MS)
			child->pause_ms *= 2;
	}
	if (WIFSIGNALED(status))
		log_warn("%s died of signal %d (%s) and starts again in "
		    "%llu ms", describe(index), WTERMSIG(status),
		    strsignal(WTERMSIG(status)),
		    (unsigned long long)(child->start_ms - now));
	else
		log_warn("%s ended with status %d and starts again in "
		    "%llu ms", describe(index), WEXITSTATUS(status),
		    (unsigned long long)(child->start_ms - now));
}

/* Did it do it itself, or was it killed? */
static bool
is_fault(int status)
{
	if (WIFEXITED(status))
		return (WEXITSTATUS(status) != 0);
	switch (WTERMSIG(status)) {
	case SIGSEGV:
	case SIGBUS:
	case SIGABRT:
	case SIGFPE:
	case SIGILL:
	case SIGSYS:
		return (true);
	default:
		return (false);
	}
}

static const char *
describe(unsigned index)
{
	static char text[64 + ADDR_TEXT_MAX];
	char address[ADDR_TEXT_MAX];
	unsigned each = server.sockets / server.options.listen.count;

	if (index < server.sockets)
		snprintf(text, sizeof(text), "listener %s %u",
		    addr_print(address, &server.socket[index].addr),
		    index % each + 1);
	else if (index < first_worker)
		snprintf(text, sizeof(text), "stream");
	else
		snprintf(text, sizeof(text), "worker %u",
		    index - first_worker + 1);
	return (text);
}

static struct slot *
slot_of(unsigned index)
{
	return (&server.slots[index]);
}

/*
 * Read the options again.  If they are right the children are replaced, a
 * listener at once and a worker when it has finished what it asks; sockets and
 * cache stay.  If not, nothing changes.
 */
static void
reload(int argc, char **argv)
{
	static struct options options;
	char error[OPTIONS_ERROR_MAX];
	struct upstreams upstreams;
	unsigned i;

	if (options_read(&options, argc, argv, error) == -1) {
		log_error("%s; the old configuration goes on", error);
		return;
	}
	warn_fixed(&server.options, &options);
	upstream_assign(&upstreams, options.upstreams.addr,
	    options.upstreams.count, server.health, UPSTREAM_TABLE,
	    &server.upstreams);
	upstreams.timeout_us = options.timeout * 1000;
	server.upstreams = upstreams;
	server.options.upstreams = options.upstreams;
	server.options.timeout = options.timeout;
	server.options.allow_from = options.allow_from;
	server.options.stats_interval = options.stats_interval;
	server.options.tcp_connections = options.tcp_connections;
	server.options.tcp_per_client = options.tcp_per_client;
	server.options.tcp_idle = options.tcp_idle;
	server.options.tcp_message = options.tcp_message;
	server.options.tcp_queries = options.tcp_queries;
	server.options.log_level = options.log_level;
	log_set_level(options.log_level);
	for (i = 0; i < total; i++) {
		if (children[i].pid == 0)
			continue;
		children[i].ending_ms = mono_ms();
		kill(children[i].pid, SIGTERM);
	}
	log_info("configuration read again");
}

/* What the sockets or the segment were made from stays till a new start. */
static void
warn_fixed(const struct options *old, const struct options *new)
{
	const struct {
		const char	*name;
		bool		 changed;
	} fixed[] = {
		{ "listen", memcmp(&old->listen, &new->listen,
		    sizeof(old->listen)) != 0 },
		{ "listeners", old->listeners != new->listeners },
		{ "workers", old->workers != new->workers },
		{ "queries-per-worker",
		    old->queries_per_worker != new->queries_per_worker },
		{ "queue-size", old->queue_size != new->queue_size },
		{ "cache-size", old->cache_size != new->cache_size },
		{ "cache-memory", old->cache_memory != new->cache_memory },
		{ "tcp", old->tcp != new->tcp },
		{ "user", strcmp(old->user, new->user) != 0 },
		{ "chroot", strcmp(old->chroot, new->chroot) != 0 },
		{ "pidfile", strcmp(old->pidfile, new->pidfile) != 0 },
	};
	size_t i;

	for (i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
		if (fixed[i].changed)
			log_warn("%s: the change takes effect at the next "
			    "start", fixed[i].name);
	}
}

/* Who was told to end is told again, in case it was about to block. */
static void
press_ending(uint64_t now)
{
	struct child *child;
	uint64_t limit;
	unsigned i;

	for (i = 0; i < total; i++) {
		child = &children[i];
		if (child->pid == 0 || child->ending_ms == 0)
			continue;
		limit = i < server.sockets ? LISTENER_STOP_MS :
		    server.options.timeout + 1000;
		kill(child->pid, now > child->ending_ms + limit ? SIGKILL :
		    SIGTERM);
	}
}

/* End the children of a range of slots, by force after limit_ms. */
static void
stop_range(unsigned from, unsigned to, uint64_t limit_ms)
{
	uint64_t now = mono_ms(), began = now, told = 0;
	unsigned i, alive;

	for (;;) {
		got_child = 0;
		reap(false);
		now = mono_ms();
		alive = 0;
		for (i = from; i < to; i++) {
			if (children[i].pid == 0)
				continue;
			alive++;
			if (now >= told + REPEAT_MS)
				kill(children[i].pid, now > began + limit_ms ?
				    SIGKILL : SIGTERM);
		}
		if (alive == 0)
			return;
		if (now >= told + REPEAT_MS)
			told = now;
		wait_for_news(now, told + REPEAT_MS);
	}
}
