/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The master's children: start them, bury them, watch them, end them.
 *
 * One that was killed from outside is started again at once; one that died of
 * a fault after a pause that doubles; one that exits with SERVER_EXIT_CONFIG
 * never.  Its successor learns from the slot whether it was a fault.
 *
 * One that is stopped or hangs still holds what it holds, so it is killed: it
 * has been stopped for PATIENCE_MS, or its beat says that it has been at work
 * on one thing for so long, or it waits though its mailbox was written or its
 * time has come.  One that only waits for a processor is left alone.  All that
 * is read of the segment is atomics, in the slots and of the pending table.
 *
 * After a restart in place the workers of the image before serve on, and are
 * replaced some at a time, so that there is always one to ask.
 */

#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "children.h"
#include "listener.h"
#include "log.h"
#include "mono.h"
#include "pending.h"
#include "privileges.h"
#include "stream.h"
#include "worker.h"

#define BACKOFF_FIRST_MS	10
#define BACKOFF_MAX_MS		10000
#define HEALTHY_MS		60000	/* then the pause begins anew */
#define WATCH_MS		100	/* between two looks */
#define PATIENCE_MS		250	/* with one that makes no progress */
#define STARVED_MS		5000	/* without a processor, at most */
#define REPEAT_MS		50	/* SIGTERM, till a child is gone */
#define LISTENER_END_MS		3000	/* so long it may take to end */
#define SPARE_END_MS		3000	/* beyond timeout, for the others */
#define REPLACED_SHARE		4	/* of the workers 1/4 at a time */
#define OFTEN			4	/* within FAULTS_MS: start anew */
#define FAULTS_MS		60000
#define REPORT_MS		10000	/* in which faults are told of */
#define REPORTS			1	/* in full, and then their number */
#define NAME_BYTES		(64 + ADDR_TEXT_MAX)	/* of a child */

struct child {
	pid_t		 pid;		/* 0: not running */
	uint64_t	 started_ms;
	uint64_t	 start_ms;	/* when to start it */
	uint64_t	 pause_ms;	/* before the start after a fault */
	uint64_t	 ending_ms;	/* since when told to end; 0: not */
	uint64_t	 stopped_ms;	/* since when it is stopped; 0: not */
	uint64_t	 still_ms;	/* since when beat is the same */
	uint64_t	 used_ms;	/* of a processor, at that time */
	uint32_t	 beat;
	bool		 old;		/* a worker of the image before */
};

static struct server	*server;
static void		(*enter_child)(void);
static struct child	*children;	/* by slot */
static unsigned		 stream;	/* the slot of that which serves */
static unsigned		 first_worker;
static unsigned		 total;
static struct stranger {
	pid_t		 pid;
	bool		 last;		/* a worker: after the others */
}			*strangers;	/* of the image before, without slot */
static unsigned		 strangers_len;
static uint64_t		 strangers_ms;	/* since when they are to end */
static uint64_t		 faults_ms[OFTEN];	/* the last ones, in a ring */
static unsigned		 faults;
static unsigned		 reports;	/* of faults, since reported_ms */
static uint64_t		 reported_ms;

static void	replace_some(uint64_t);
static void	end(unsigned, uint64_t);
static void	start(unsigned);
static void	run(unsigned) __attribute__((__noreturn__));
static void	bury(unsigned, int, uint64_t);
static void	bury_faulted(unsigned, int, uint64_t);
static bool	is_fault(int);
static const char *describe_end(int);
static const char *describe(unsigned, char *);
static bool	hangs(unsigned, uint64_t);
static uint64_t	processor_ms(pid_t);
static bool	is_runnable(pid_t);
static uint64_t	end_limit_ms(unsigned);
static void	press(unsigned, uint64_t);
static bool	is_spare_stream(unsigned);
static unsigned	press_strangers(uint64_t);
static void	bury_stranger(pid_t);
static void	stop_range(unsigned, unsigned, void (*)(uint64_t));

void
children_init(struct server *srv, void (*enter)(void))
{
	server = srv;
	enter_child = enter;
	stream = server->sockets;
	first_worker = server->sockets + server->streams;
	total = first_worker + server->workers;
	children = calloc(total, sizeof(*children));
	if (children == NULL)
		fatal("out of memory");
}

void
children_start(uint64_t now_ms)
{
	unsigned i;

	for (i = 0; i < total; i++) {
		if (children[i].pid != 0 || now_ms < children[i].start_ms ||
		    is_spare_stream(i))
			continue;
		start(i);
		/* Where there are few processors, these can serve already. */
		if (i == first_worker)
			sched_yield();
	}
	replace_some(now_ms);
}

/*
 * Have more of the old workers end; never so many at once that new questions
 * find no one to ask them.
 */
static void
replace_some(uint64_t now_ms)
{
	unsigned amid = 0, i;

	for (i = first_worker; i < total; i++)
		amid += children[i].pid == 0 || children[i].ending_ms != 0 ||
		    !pending_worker_ready(server->pending, i - first_worker);
	for (i = first_worker; i < total &&
	    amid <= server->workers / REPLACED_SHARE; i++) {
		if (!children[i].old)
			continue;
		end(i, now_ms);
		amid++;
	}
}

/* Tell a child to finish what it has; a new one takes its place. */
static void
end(unsigned index, uint64_t now_ms)
{
	children[index].old = false;
	children[index].ending_ms = now_ms;
	kill(children[index].pid, SIGTERM);
}

static void
start(unsigned index)
{
	struct child *child = &children[index];
	struct slot *slot = &server->slots[index];
	uint64_t now_ms = mono_ms();
	char name[NAME_BYTES];
	pid_t pid;

	slot->state = SLOT_STARTING;
	slot->due_ms = CHILDREN_NEVER;
	pid = fork();
	if (pid == 0)
		run(index);
	if (pid == -1) {
		slot->state = SLOT_EMPTY;
		log_error("cannot start %s: %s", describe(index, name),
		    strerror(errno));
		child->start_ms = now_ms + BACKOFF_MAX_MS;
		return;
	}
	child->pid = pid;
	child->started_ms = child->still_ms = now_ms;
	child->ending_ms = child->stopped_ms = 0;
}

static void
run(unsigned index)
{
	struct slot *slot = &server->slots[index];
	char name[NAME_BYTES];

	enter_child();
	close(server->relay[0]);
	log_open_relay(server->relay[1]);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGUSR1, SIG_IGN);
	setproctitle("%s", describe(index, name));
	privileges_drop(&server->privileges, server->master);
	slot_works(slot);
	slot->state = SLOT_RUNNING;
	send(server->relay[1], "\377", 1, MSG_DONTWAIT);
	if (index < server->sockets)
		listener_run(server, index);
	else if (index < first_worker)
		stream_run(server, index - server->sockets);
	else
		worker_run(server, index - first_worker);
	_exit(0);
}

void
children_reap(void)
{
	uint64_t now_ms = mono_ms();
	unsigned i;
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED |
	    WCONTINUED)) > 0) {
		for (i = 0; i < total && children[i].pid != pid; i++)
			;
		if (i == total) {
			if (!WIFSTOPPED(status) && !WIFCONTINUED(status))
				bury_stranger(pid);
			continue;
		}
		if (WIFSTOPPED(status))
			children[i].stopped_ms = now_ms;
		else if (WIFCONTINUED(status))
			children[i].stopped_ms = 0;
		else
			bury(i, status, now_ms);
	}
}

/* A child is dead: clear its place, and see when it starts again. */
static void
bury(unsigned index, int status, uint64_t now_ms)
{
	struct child *child = &children[index];
	struct slot *slot = &server->slots[index];
	bool asked = child->ending_ms != 0;
	char name[NAME_BYTES];

	child->pid = 0;
	child->old = false;
	child->ending_ms = 0;
	child->start_ms = now_ms;
	slot->state = SLOT_EMPTY;
	if (index >= first_worker)
		pending_worker_dead(server->pending, index - first_worker);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SERVER_EXIT_CONFIG) {
		child->start_ms = CHILDREN_NEVER;
		log_error("%s can't run and is not started again",
		    describe(index, name));
	} else if (is_fault(status))
		bury_faulted(index, status, now_ms);
	else if (!asked)
		log_warn("%s %s and is started again", describe(index, name),
		    describe_end(status));
}

/* Many at once are told of in one line. */
static void
bury_faulted(unsigned index, int status, uint64_t now_ms)
{
	struct child *child = &children[index];
	char name[NAME_BYTES];

	server->slots[index].faulted = 1;
	faults_ms[faults++ % OFTEN] = now_ms;
	if (child->pause_ms == 0 || now_ms > child->started_ms + HEALTHY_MS)
		child->pause_ms = BACKOFF_FIRST_MS;
	else if (child->pause_ms < BACKOFF_MAX_MS / 2)
		child->pause_ms *= 2;
	else
		child->pause_ms = BACKOFF_MAX_MS;
	child->start_ms = now_ms + child->pause_ms;
	if (now_ms >= reported_ms + REPORT_MS) {
		if (reports > REPORTS)
			log_error("%u more processes died of faults",
			    reports - REPORTS);
		reported_ms = now_ms;
		reports = 0;
	}
	if (reports++ < REPORTS)
		log_error("%s %s and is started again in %llu ms",
		    describe(index, name), describe_end(status),
		    (unsigned long long)child->pause_ms);
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
describe_end(int status)
{
	static char text[64];

	if (WIFSIGNALED(status))
		snprintf(text, sizeof(text), "died of signal %d (%s)",
		    WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		snprintf(text, sizeof(text), "ended with status %d",
		    WEXITSTATUS(status));
	return (text);
}

/* Fill text, NAME_BYTES long, and return it. */
static const char *
describe(unsigned index, char *text)
{
	char address[ADDR_TEXT_MAX];
	unsigned each = server->sockets / server->options.listen.count;

	if (index < server->sockets)
		snprintf(text, NAME_BYTES, "listener %s %u",
		    addr_print(address, &server->socket[index].addr),
		    index % each + 1);
	else if (index < first_worker)
		snprintf(text, NAME_BYTES, "stream");
	else
		snprintf(text, NAME_BYTES, "worker %u",
		    index - first_worker + 1);
	return (text);
}

void
children_watch(uint64_t now_ms)
{
	static uint64_t watched_ms;
	char name[NAME_BYTES];
	unsigned i;

	if (now_ms < watched_ms + WATCH_MS)
		return;
	watched_ms = now_ms;
	press_strangers(now_ms);
	for (i = 0; i < total; i++) {
		if (children[i].pid == 0)
			continue;
		if (children[i].ending_ms != 0 && !hangs(i, now_ms))
			press(i, now_ms);
		else if (children[i].ending_ms != 0)
			kill(children[i].pid, SIGKILL);
		else if (hangs(i, now_ms)) {
			log_error("%s makes no progress and is killed",
			    describe(i, name));
			kill(children[i].pid, SIGKILL);
			children[i].ending_ms = now_ms;
		}
	}
}

/* Has it been stopped or stuck for longer than patience lasts? */
static bool
hangs(unsigned index, uint64_t now_ms)
{
	const struct slot *slot = &server->slots[index];
	struct child *child = &children[index];
	uint32_t beat = slot->beat;

	if (child->stopped_ms != 0 &&
	    now_ms >= child->stopped_ms + PATIENCE_MS)
		return (true);
	if (slot->state != SLOT_RUNNING)
		return (false);
	if (beat != child->beat) {
		child->beat = beat;
		child->still_ms = now_ms;
	}
	if (beat % 2 == 0 && !slot->rung && slot->due_ms >= now_ms)
		child->still_ms = now_ms;	/* it waits, and rightly */
	if (now_ms == child->still_ms) {
		child->used_ms = 0;
		return (false);
	}
	if (child->used_ms == 0)
		child->used_ms = processor_ms(child->pid);
	if (now_ms < child->still_ms + PATIENCE_MS)
		return (false);
	/* One that has had no processor can't have made progress. */
	return (now_ms >= child->still_ms + STARVED_MS ||
	    !is_runnable(child->pid) ||
	    processor_ms(child->pid) >= child->used_ms + PATIENCE_MS / 4);
}

/* The processor time of a process so far, in ms and never 0. */
static uint64_t
processor_ms(pid_t pid)
{
	struct timespec ts;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) != 0 ||
	    clock_gettime(clock, &ts) == -1)
		return (1);
	return (1 + (uint64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

/* Does it want a processor?  Where it can't be told, no. */
static bool
is_runnable(pid_t pid)
{
	char path[64], text[512];
	const char *state = NULL;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) == -1)
		return (false);
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n > 0) {
		text[n] = '\0';
		state = strrchr(text, ')');	/* behind the name */
	}
	return (state != NULL && strncmp(state, ") R", 3) == 0);
}

static uint64_t
end_limit_ms(unsigned index)
{
	return (index < server->sockets ? LISTENER_END_MS :
	    server->options.timeout + SPARE_END_MS);
}

/*
 * Tell it to end once more: a signal that came just before it blocked did not
 * wake it, and one that is stopped must go on to hear it.
 */
static void
press(unsigned index, uint64_t now_ms)
{
	const struct child *child = &children[index];

	kill(child->pid, now_ms > child->ending_ms + end_limit_ms(index) ?
	    SIGKILL : SIGTERM);
	kill(child->pid, SIGCONT);
}

uint64_t
children_due_ms(void)
{
	uint64_t due = CHILDREN_NEVER;
	unsigned i;

	for (i = 0; i < total; i++) {
		if (children[i].pid == 0 && children[i].start_ms < due &&
		    !is_spare_stream(i))
			due = children[i].start_ms;
	}
	return (due);
}

bool
children_run(bool all)
{
	unsigned i;

	for (i = 0; i < (all ? total : server->sockets); i++) {
		if (!is_spare_stream(i) && (children[i].old ||
		    children[i].ending_ms != 0 ||
		    server->slots[i].state != SLOT_RUNNING))
			return (false);
	}
	return (true);
}

/* Of the places for a stream one is not to be filled. */
static bool
is_spare_stream(unsigned index)
{
	return (index >= server->sockets && index < first_worker &&
	    index != stream);
}

void
children_take(const struct restart *restart, bool kept)
{
	const pid_t *pids = restart->pid;
	uint64_t now_ms = mono_ms();
	bool same = restart->sockets >= server->sockets;
	unsigned i;

	/* Who has other sockets in their places can't reply by the new ones. */
	for (i = 0; same && i < server->sockets; i++)
		same = restart->socket[i] == server->socket[i].fd;
	strangers = calloc(restart->pids + 1, sizeof(*strangers));
	if (strangers == NULL)
		fatal("out of memory");
	strangers_ms = now_ms;
	for (i = 0; i < restart->pids; i++) {
		if (pids[i] <= 0)
			continue;
		if (kept && i < total) {
			children[i].pid = pids[i];
			children[i].started_ms = now_ms;
			children[i].old = same && i >= first_worker &&
			    pending_worker_ready(server->pending,
			    i - first_worker);
			if (!children[i].old)
				end(i, now_ms);
		} else
			strangers[strangers_len++] = (struct stranger){
			    .pid = pids[i], .last = i >= restart->firsts };
	}
	press_strangers(now_ms);
	/* While the old stream finishes, the new one serves. */
	if (server->streams != 0 && children[stream].pid != 0)
		stream++;
}

unsigned
children_pids(pid_t **pids)
{
	unsigned i;

	*pids = calloc(total + strangers_len + 1, sizeof(**pids));
	if (*pids == NULL)
		return (0);
	for (i = 0; i < total; i++)
		(*pids)[i] = children[i].pid;
	for (i = 0; i < strangers_len; i++)
		(*pids)[total + i] = strangers[i].pid;
	return (total + strangers_len);
}

static void
bury_stranger(pid_t pid)
{
	unsigned i;

	for (i = 0; i < strangers_len && strangers[i].pid != pid; i++)
		;
	if (i < strangers_len)
		strangers[i] = strangers[--strangers_len];
}

/*
 * Workers end when no one is left who gives them questions.  Returns how many
 * strangers there still are.
 */
static unsigned
press_strangers(uint64_t now_ms)
{
	uint64_t end_ms = strangers_ms + server->options.timeout +
	    SPARE_END_MS;
	unsigned i, firsts = 0;

	for (i = 0; i < strangers_len; i++)
		firsts += !strangers[i].last;
	for (i = 0; i < strangers_len; i++) {
		if (strangers[i].last && firsts > 0)
			continue;
		kill(strangers[i].pid, now_ms > end_ms ? SIGKILL : SIGTERM);
		kill(strangers[i].pid, SIGCONT);
	}
	return (strangers_len);
}

bool
children_fault_often(uint64_t now_ms)
{
	return (faults >= OFTEN &&
	    now_ms < faults_ms[faults % OFTEN] + FAULTS_MS);
}

void
children_stop(void (*wait)(uint64_t))
{
	server->header->stopping = 1;
	stop_range(0, server->sockets, wait);
	stop_range(server->sockets, first_worker, wait);
	stop_range(first_worker, total, wait);
}

static void
stop_range(unsigned from, unsigned to, void (*wait)(uint64_t))
{
	uint64_t now_ms = mono_ms(), told_ms = 0;
	unsigned i, alive;

	for (i = from; i < to; i++)
		children[i].ending_ms = now_ms;
	for (;;) {
		children_reap();
		now_ms = mono_ms();
		alive = 0;
		for (i = from; i < to; i++) {
			if (children[i].pid == 0)
				continue;
			alive++;
			if (now_ms >= told_ms + REPEAT_MS)
				press(i, now_ms);
		}
		if (to == total && now_ms >= told_ms + REPEAT_MS)
			press_strangers(now_ms);
		if (alive == 0 && (to != total || strangers_len == 0))
			return;
		if (now_ms >= told_ms + REPEAT_MS)
			told_ms = now_ms;
		wait(told_ms + REPEAT_MS - now_ms);
	}
}
