/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The master: bind, map, fork, wait, reload, stop.  It parses no packet and
 * takes no lock, so nothing that comes by the network and no child that dies
 * can hold it up; and it never exits because children die.
 *
 * Its signals are blocked but in ppoll, where it waits; what a handler notes
 * is cleared before it is acted on.  The one descriptor that it watches there
 * is the relay, by which the children hand it their log lines and say that
 * they run.  Ten times a second it looks whether they still do.
 */

#include <sys/resource.h>
#include <sys/wait.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "background.h"
#include "bind.h"
#include "children.h"
#include "fault.h"
#include "layout.h"
#include "log.h"
#include "master.h"
#include "mono.h"
#include "pid_file.h"
#include "privileges.h"
#include "restart.h"
#include "server.h"
#include "stats.h"

#define WATCH_MS		100
#define READY_MS		10000	/* for all children to run at first */
#define FAULTS_S		60	/* between restarts for faults */
#define DESCRIPTORS		1024	/* beside mailboxes and upstreams */

static volatile sig_atomic_t got_child, got_stop, got_reload, got_stats;
static struct server	 server;
static int		 faults_s;	/* when we restarted for faults */

static void	raise_limit(void);
static void	prepare_privileges(void);
static void	become_daemon(void);
static void	enter_child(void);
static void	catch_signals(void);
static void	note(int);
static void	supervise(int, char **);
static void	announce(void);
static void	wait_for_news(uint64_t);
static void	reload(int, char **);
static void	reload_checked(int, int, char **);
static bool	would_start(const struct options *);
static void	try_start(const struct options *)
		    __attribute__((__noreturn__));
static const char *hand_over(int, const int *, unsigned, char **);

int
master_run(const struct options *options, int argc, char **argv)
{
	struct restart restart;
	bool again;

	server.options = *options;
	argv[0] = strdup(argv[0]);	/* setproctitle writes over it */
	if (argv[0] == NULL)
		fatal("out of memory");
	again = restart_take(&restart);
	if (!again)
		closefrom(STDERR_FILENO + 1);	/* what our parent left open */
	restart_remember(argv[0]);
	if (again && !options->foreground)
		log_open_syslog();
	setproctitle("master");
	raise_limit();
	prepare_privileges();
	fault_init();
	pid_file_claim(options->pidfile, again);
	bind_all(&server, again ? &restart : NULL);
	layout_make(&server, again ? &restart : NULL);
	children_init(&server, enter_child);
	if (again)
		children_take(&restart, server.kept);
	else if (!options->foreground)
		become_daemon();
	pid_file_write(again);
	server.master = getpid();
	faults_s = restart.faults_s;
	restart_free(&restart);
	catch_signals();

	supervise(argc, argv);

	children_stop(wait_for_news);
	log_relay(server.relay[0]);
	stats_log(&server);
	log_info("stopped");
	return (0);
}

/* The master has both ends of each worker's mailbox. */
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
prepare_privileges(void)
{
	const struct options *options = &server.options;
	const char *error;

	error = privileges_prepare(&server.privileges, options->user,
	    options->chroot, options->no_confine);
	if (error != NULL)
		fatal("user %s, chroot %s: %s", options->user,
		    options->chroot, error);
}

static void
become_daemon(void)
{
	const struct options *options = &server.options;

	background_enter();
	pid_file_inherit();
	if (options->pidfile[0] == '/' && options->config[0] == '/' &&
	    chdir("/") == -1)
		fatal("cannot change to /: %s", strerror(errno));
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

/* In a child, as the first thing. */
static void
enter_child(void)
{
	pid_file_release();	/* its lock would outlive the master */
	background_leave();
}

/* Until the end is asked for. */
static void
supervise(int argc, char **argv)
{
	uint64_t now_ms = mono_ms(), began_ms = now_ms, stats_ms = now_ms;
	uint64_t due_ms;
	bool serving = false, late;

	while (!got_stop) {
		if (got_child) {
			got_child = 0;
			children_reap();
		}
		if (got_reload) {
			got_reload = 0;
			reload(argc, argv);
		}
		now_ms = mono_ms();
		if (got_stats || (server.options.stats_interval != 0 &&
		    now_ms >= stats_ms + server.options.stats_interval)) {
			stats_ms = got_stats ? stats_ms : now_ms;
			got_stats = 0;
			stats_log(&server);
		}
		children_watch(now_ms);
		if (children_fault_often(now_ms) &&
		    now_ms / 1000 >= (uint64_t)faults_s + FAULTS_S) {
			/* A new layout of memory and a new canary. */
			faults_s = now_ms / 1000;
			reload(argc, argv);
		}
		children_start(now_ms);
		late = now_ms > began_ms + READY_MS;
		if (!serving && children_run(!late)) {
			serving = true;
			announce();
		} else if (!serving && late && background_is_awaited())
			fatal("the listeners do not start");
		due_ms = children_due_ms();
		due_ms = due_ms > now_ms ? due_ms - now_ms : 0;
		wait_for_news(due_ms < WATCH_MS ? due_ms : WATCH_MS);
	}
}

/* All serve: say so in the log, and to who started us. */
static void
announce(void)
{
	char text[ADDR_TEXT_MAX];
	unsigned each = server.sockets / server.options.listen.count, i;

	background_serves();
	for (i = 0; i < server.options.listen.count; i++)
		log_info("dnsd %s serves %s with %u listeners and %u workers",
		    DNSD_VERSION, addr_print(text,
		    &server.options.listen.addr[i]), each, server.workers);
}

/* Wait for a signal or a line from a child. */
static void
wait_for_news(uint64_t limit_ms)
{
	struct pollfd pfd = { .fd = server.relay[0], .events = POLLIN };
	struct timespec timeout = { .tv_nsec = limit_ms * 1000000 };
	sigset_t none;

	sigemptyset(&none);
	if (ppoll(&pfd, 1, &timeout, &none) > 0)
		log_relay(server.relay[0]);
}

/*
 * Start anew in place.  If the configuration, the program or a new address is
 * not right, nothing changes but a line in the log.  What is right is done by
 * the next image, so this returns only if nothing was done.
 */
static void
reload(int argc, char **argv)
{
	int config = restart_copy(server.options.config);

	if (restart_check(config, argc, argv) == 0)
		reload_checked(config, argc, argv);
	if (config != -1)
		close(config);
}

static void
reload_checked(int config, int argc, char **argv)
{
	static struct options options;
	char wrong[OPTIONS_ERROR_MAX];
	const char *error;
	int more[2 * OPTIONS_ADDRS_MAX], bound;

	if (options_read(&options, config, argc, argv, wrong) == -1) {
		log_error("%s; the old configuration goes on", wrong);
		return;
	}
	if (!would_start(&options) ||
	    (bound = bind_more(&server, &options, more)) == -1)
		return;
	log_info("restarting in place");
	pid_file_release();		/* the next image claims it again */
	error = hand_over(config, more, bound, argv);
	log_error("cannot restart: %s; the old configuration goes on",
	    error);
	pid_file_claim(server.options.pidfile, true);
	pid_file_write(true);
	while (bound > 0)
		close(more[--bound]);
}

/*
 * Is there what the next image will need?  What it lacked would end it, and
 * with it the service, so a child takes all of that first.  False: it has said
 * why not.
 */
static bool
would_start(const struct options *options)
{
	int status;
	pid_t pid;

	if ((pid = fork()) == 0)
		try_start(options);
	if (pid == -1 || waitpid(pid, &status, 0) != pid ||
	    !WIFEXITED(status))
		log_error("cannot try to start; the old configuration goes "
		    "on");
	else if (WEXITSTATUS(status) == 0)
		return (true);
	return (false);
}

static void
try_start(const struct options *options)
{
	server.options = *options;
	log_set_last_words("; the old configuration goes on");
	raise_limit();
	prepare_privileges();
	privileges_die_first();
	bind_count(&server);
	layout_try(&server);
	_exit(0);
}

/* Exec with all that we have.  Returns if that fails: why. */
static const char *
hand_over(int config, const int *more, unsigned bound, char **argv)
{
	struct restart restart = { .config = config,
	    .segment = server.segment,
	    .relay = { server.relay[0], server.relay[1] },
	    .faults_s = faults_s };
	size_t listens = server.streams == 0 ? 0 :
	    server.options.listen.count;
	const char *error;
	unsigned i, n;

	restart.socket = calloc(server.sockets + listens + bound,
	    sizeof(int));
	restart.mailboxes = 2 * (server.workers + STREAMS);
	restart.mailbox = calloc(restart.mailboxes, sizeof(int));
	restart.firsts = server.sockets + server.streams;
	restart.pids = children_pids(&restart.pid);
	if (restart.socket == NULL || restart.mailbox == NULL ||
	    restart.pid == NULL)
		fatal("out of memory");
	for (i = 0; i < server.sockets; i++)
		restart.socket[restart.sockets++] = server.socket[i].fd;
	for (i = 0; i < listens; i++)
		restart.socket[restart.sockets++] = server.stream_socket[i];
	for (i = 0; i < bound; i++)
		restart.socket[restart.sockets++] = more[i];
	for (i = 0; i < server.workers; i++)
		memcpy(restart.mailbox + 2 * i, server.mailbox[i].end,
		    sizeof(server.mailbox[i].end));
	for (n = 0; n < STREAMS; n++, i++)
		memcpy(restart.mailbox + 2 * i, server.stream_mailbox[n].end,
		    sizeof(server.stream_mailbox[n].end));
	error = restart_exec(&restart, argv);
	restart_free(&restart);
	return (error);
}
