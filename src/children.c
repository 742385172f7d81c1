/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The master's children: start them, bury them, watch them, end them.
 *
 * One that was killed from outside is started again at once; one that died of
 * a fault after a pause that doubles; one that exits with SERVER_EXIT_CONFIG
 * never.  Its successor learns from the slot whether it was a fault.
 *
 * One that hangs still holds what it holds, so it is killed.  All that is read
 * of the segment is atomics, in the slots and of the pending table.
 *
 * After a restart in place the workers of the image before serve on, and are
 * replaced some at a time, so that there is always one to ask.  Children of
 * that image that have no slot here are strangers.
 */

#include <sys/wait.h>

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "child.h"
#include "children.h"
#include "death.h"
#include "log.h"
#include "mono.h"
#include "pending.h"
#include "strangers.h"
#include "watchdog.h"

#define BACKOFF_FIRST_MS	10
#define BACKOFF_MAX_MS		10000
#define HEALTHY_MS		60000	/* then the pause begins anew */
#define WATCH_MS		100	/* between two looks */
#define REPEAT_MS		50	/* SIGTERM, till a child is gone */
#define LISTENER_END_MS		3000	/* so long it may take to end */
#define SPARE_END_MS		3000	/* beyond timeout, for the others */
#define REPLACED_SHARE		4	/* of the workers 1/4 at a time */
#define NAME_BYTES		(64 + ADDR_TEXT_MAX)	/* of a child */

struct child {
	pid_t		 pid;		/* 0: not running */
	uint64_t	 started_ms;
	uint64_t	 start_ms;	/* when to start it */
	uint64_t	 pause_ms;	/* before the start after a fault */
	uint64_t	 ending_ms;	/* since when told to end; 0: not */
	bool		 old;		/* a worker of the image before */
	struct watch	 watch;
};

static struct server	*server;
static void		(*enter_child)(void);
static struct child	*children;	/* by slot */
static unsigned		 stream;	/* the slot of that which serves */
static unsigned		 first_worker;
static unsigned		 total;

static void	replace_some(uint64_t);
static void	end(unsigned, uint64_t);
static void	start(unsigned);
static void	bury(unsigned, int, uint64_t);
static void	bury_faulted(unsigned, int, uint64_t);
static const char *describe(unsigned, char *);
static uint64_t	end_limit_ms(unsigned);
static void	press(unsigned, uint64_t);
static bool	is_spare_stream(unsigned);
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
	if (pid == 0) {
		enter_child();
		child_run(server, index, describe(index, name));
	}
	if (pid == -1) {
		slot->state = SLOT_EMPTY;
		log_error("cannot start %s: %s", describe(index, name),
		    strerror(errno));
		child->start_ms = now_ms + BACKOFF_MAX_MS;
		return;
	}
	child->pid = pid;
	child->watch = (struct watch){ .still_ms = now_ms };
	child->started_ms = now_ms;
	child->ending_ms = 0;
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
				strangers_bury(pid);
			continue;
		}
		if (WIFSTOPPED(status))
			children[i].watch.stopped_ms = now_ms;
		else if (WIFCONTINUED(status))
			children[i].watch.stopped_ms = 0;
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
	} else if (death_is_fault(status))
		bury_faulted(index, status, now_ms);
	else if (!asked)
		log_warn("%s %s and is started again", describe(index, name),
		    death_describe(status));
}

static void
bury_faulted(unsigned index, int status, uint64_t now_ms)
{
	struct child *child = &children[index];
	char name[NAME_BYTES];

	server->slots[index].faulted = 1;
	if (child->pause_ms == 0 || now_ms > child->started_ms + HEALTHY_MS)
		child->pause_ms = BACKOFF_FIRST_MS;
	else if (child->pause_ms < BACKOFF_MAX_MS / 2)
		child->pause_ms *= 2;
	else
		child->pause_ms = BACKOFF_MAX_MS;
	child->start_ms = now_ms + child->pause_ms;
	death_report_fault(describe(index, name), status, child->pause_ms,
	    now_ms);
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
	bool hangs;
	unsigned i;

	if (now_ms < watched_ms + WATCH_MS)
		return;
	watched_ms = now_ms;
	strangers_press(now_ms);
	for (i = 0; i < total; i++) {
		if (children[i].pid == 0)
			continue;
		hangs = watchdog_hangs(&children[i].watch, &server->slots[i],
		    children[i].pid, now_ms);
		if (children[i].ending_ms != 0 && !hangs)
			press(i, now_ms);
		else if (children[i].ending_ms != 0)
			kill(children[i].pid, SIGKILL);
		else if (hangs) {
			log_error("%s makes no progress and is killed",
			    describe(i, name));
			kill(children[i].pid, SIGKILL);
			children[i].ending_ms = now_ms;
		}
	}
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
	strangers_init(restart->pids, now_ms + server->options.timeout +
	    SPARE_END_MS);
	for (i = 0; i < restart->pids; i++) {
		if (pids[i] <= 0)
			continue;
		if (kept && i < total) {
			children[i].pid = pids[i];
			children[i].watch.still_ms = now_ms;
			children[i].started_ms = now_ms;
			children[i].old = same && i >= first_worker &&
			    pending_worker_ready(server->pending,
			    i - first_worker);
			if (!children[i].old)
				end(i, now_ms);
		} else
			strangers_add(pids[i], i >= restart->firsts);
	}
	strangers_press(now_ms);
	/* While the old stream finishes, the new one serves. */
	if (server->streams != 0 && children[stream].pid != 0)
		stream++;
}

unsigned
children_pids(pid_t **pids)
{
	unsigned others = strangers_count(), i;

	*pids = calloc(total + others + 1, sizeof(**pids));
	if (*pids == NULL)
		return (0);
	for (i = 0; i < total; i++)
		(*pids)[i] = children[i].pid;
	strangers_pids(*pids + total);
	return (total + others);
}

bool
children_fault_often(uint64_t now_ms)
{
	return (death_faults_often(now_ms));
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
			strangers_press(now_ms);
		if (alive == 0 && (to != total || strangers_count() == 0))
			return;
		if (now_ms >= told_ms + REPEAT_MS)
			told_ms = now_ms;
		wait(told_ms + REPEAT_MS - now_ms);
	}
}
