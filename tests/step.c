/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Stops a child after any one instruction of what it does, so that a test can
 * let one die at each.
 *
 * An act is made once step by step, and where the child is after each of its
 * instructions is written down.  Another child of the same parent that makes
 * the same act from the same state takes the same way.  To be stopped after
 * instruction n it runs to a breakpoint there, if it does not come by before.
 * If it does, it is first stopped somewhere behind the last time that it does,
 * in the same manner.  So a stop costs as much wherever it is, but for loops,
 * which cost a stop each time round.  In the end the child must be where the
 * first one was; if it isn't, it is counted, and another is stepped all the
 * way.
 *
 * An instruction that repeats itself, to fill or copy memory, is a place
 * before it, one after each of the first times round, and one after it.
 *
 * The deaths of one act are shared out among as many processes as there are
 * processors.  Each has a state of its own, and brings it back from a copy,
 * with the mutex in it: one that nobody holds, or whose owner has died, is
 * no more than its bytes.
 *
 * A breakpoint is written into text, which a child has a copy of as soon as
 * it is written to.  Where nobody has said below what one looks like, and
 * under a sanitizer, which makes ten instructions of one, children die after
 * some of the instructions only, evenly spread.
 */

#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <check.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "step.h"

#define EXIT_NO_TRACE	77	/* of a child that may not be traced */
#define STEPS_MAX	400000	/* instructions of one act */
#define REPEATS		8	/* of an instruction that are places */
#define BUCKETS		65536	/* of places, by their address */
#define VIA_MAX		256	/* places tried to stop at on the way */
#define PROCESSES_MAX	8	/* that share the deaths out */
#define SOME_DEATHS	100	/* about so many, where it can't be all */

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED	true
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED	true
#endif
#ifndef SANITIZED
#define SANITIZED	false
#endif

/* What a child tells its tracer. */
struct told {
	_Atomic uint32_t	 begun;		/* the act */
	_Atomic uint32_t	 done;
};

/* Where a child is that goes step by step. */
struct walk {
	pid_t			 pid;
	uintptr_t		 pc;
	int			 repeats;	/* of the instruction there */
};

/* What came of the deaths, of all processes. */
struct sum {
	_Atomic int		 whole;
	_Atomic int		 rebuilt;
	_Atomic int		 astray;
};

static struct told *told;

static void	*shared_memory(size_t);
static int	 processors(void);
static void	 stay_on_processor(int);
static pid_t	 start(void (*)(void));
static int	 step_once(pid_t);
static void	 walk_start(struct walk *, pid_t);
static void	 walk_on(struct walk *);
static void	 plan(struct step_place *, int, int *);
static bool	 go_to(const struct step *, pid_t, int);
static void	 die(const struct step_deaths *, struct step *, int, int,
		    struct sum *);
static void	 end_with_tracer(pid_t);
static uintptr_t where(pid_t);
static bool	 run_to(pid_t, uintptr_t);

/*
 * What is different from machine to machine: where a stopped process is, and
 * how to let it run to a place.
 */
#if defined(__linux__) && defined(__x86_64__)
#include <sys/user.h>

#define BREAKPOINTS	true
#define INT3		0xcc

/* What is stopped must not outlive a test that is broken off. */
static void
end_with_tracer(pid_t pid)
{
	ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)PTRACE_O_EXITKILL);
}

static uintptr_t
where(pid_t pid)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) == -1)
		ck_abort_msg("a child has no registers");
	return (regs.rip);
}

/* False: it stopped for another reason, or did not come by. */
static bool
run_to(pid_t pid, uintptr_t pc)
{
	struct user_regs_struct regs;
	int status;
	long text;

	errno = 0;
	text = ptrace(PTRACE_PEEKTEXT, pid, (void *)pc, NULL);
	if (errno != 0 || ptrace(PTRACE_POKETEXT, pid, (void *)pc,
	    (void *)((text & ~0xffL) | INT3)) == -1)
		return (false);
	if (ptrace(PTRACE_CONT, pid, NULL, NULL) == -1 ||
	    waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) ||
	    WSTOPSIG(status) != SIGTRAP)
		return (false);
	/* It is behind the breakpoint; go back to what was there. */
	if (ptrace(PTRACE_POKETEXT, pid, (void *)pc, (void *)text) == -1 ||
	    ptrace(PTRACE_GETREGS, pid, NULL, &regs) == -1)
		return (false);
	regs.rip--;
	return (regs.rip == pc &&
	    ptrace(PTRACE_SETREGS, pid, NULL, &regs) == 0);
}
#else
#define BREAKPOINTS	false

static void
end_with_tracer(pid_t pid)
{
	(void)pid;
}

static uintptr_t
where(pid_t pid)
{
	(void)pid;
	return (0);
}

static bool
run_to(pid_t pid, uintptr_t pc)
{
	(void)pid;
	(void)pc;
	return (false);
}
#endif

static void *
shared_memory(size_t size)
{
	void *memory;

	memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(memory, MAP_FAILED);
	return (memory);
}

/*
 * Tracer and child take turns: on one processor that is twice as fast as on
 * two.
 */
#ifdef CPU_SET
static cpu_set_t may_use;

/* How many we may use, or might before we stayed on one. */
static int
processors(void)
{
	int n;

	if (CPU_COUNT(&may_use) == 0)
		sched_getaffinity(0, sizeof(may_use), &may_use);
	n = CPU_COUNT(&may_use);
	return (n < 1 ? 1 : n < PROCESSES_MAX ? n : PROCESSES_MAX);
}

static void
stay_on_processor(int n)
{
	cpu_set_t set;
	int cpu;

	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &may_use) && n-- == 0) {
			CPU_ZERO(&set);
			CPU_SET(cpu, &set);
			sched_setaffinity(0, sizeof(set), &set);
		}
	}
}
#else
static int
processors(void)
{
	return (1);
}

static void
stay_on_processor(int n)
{
	(void)n;
}
#endif

/* Fork a child that stops before it acts.  -1: it can't be traced. */
static pid_t
start(void (*act)(void))
{
	int status;
	pid_t pid;

	if (told == NULL)
		told = shared_memory(sizeof(*told));
	told->begun = told->done = 0;
	if ((pid = fork()) == -1)
		ck_abort_msg("fork");
	if (pid == 0) {
		if (ptrace(PT_TRACE_ME, 0, NULL, 0) == -1)
			_exit(EXIT_NO_TRACE);
		raise(SIGSTOP);
		told->begun = 1;
		act();
		told->done = 1;
		for (;;)
			raise(SIGSTOP);
	}
	if (waitpid(pid, &status, 0) != pid)
		ck_abort_msg("waitpid");
	if (!WIFSTOPPED(status))
		return (-1);
	end_with_tracer(pid);
	return (pid);
}

static int
step_once(pid_t pid)
{
	int status;

	if (ptrace(PT_STEP, pid, (void *)1, 0) == -1 ||
	    waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return (-1);
	return (0);
}

/* Step to where the act begins. */
static void
walk_start(struct walk *walk, pid_t pid)
{
	while (!told->begun) {
		if (step_once(pid) == -1)
			ck_abort_msg("a child can't be stepped any more");
	}
	*walk = (struct walk){ .pid = pid, .pc = where(pid) };
}

/* Step to the next place. */
static void
walk_on(struct walk *walk)
{
	uintptr_t pc;

	do {
		if (step_once(walk->pid) == -1)
			ck_abort_msg("a child can't be stepped any more");
		pc = where(walk->pid);
		walk->repeats = BREAKPOINTS && pc == walk->pc ?
		    walk->repeats + 1 : 0;
		walk->pc = pc;
	} while (walk->repeats > REPEATS);
}

bool
step_record(struct step *step, void (*act)(void), const char *what)
{
	struct step_place *at;
	struct walk walk;
	int n = 0, *bucket;
	pid_t pid;

	*step = (struct step){ .act = act };
	if (processors() > 1)
		stay_on_processor(0);
	fflush(NULL);
	if ((pid = start(act)) == -1) {
		fprintf(stderr, "%s: SKIPPED, no process can be stepped "
		    "here\n", what);
		return (false);
	}
	at = calloc(STEPS_MAX, sizeof(*at));
	bucket = calloc(BUCKETS, sizeof(*bucket));
	ck_assert(at != NULL && bucket != NULL);
	walk_start(&walk, pid);
	at[0] = (struct step_place){ .pc = walk.pc, .via = -1, .stops = 1 };
	while (!told->done && n + 1 < STEPS_MAX) {
		walk_on(&walk);
		at[++n].pc = walk.pc;
		plan(at, n, bucket);
	}
	ck_assert_msg(told->done, "%s: %d instructions and no end", what, n);
	step_kill(pid);
	free(bucket);
	step->at = realloc(at, (n + (size_t)1) * sizeof(*at));
	step->total = n;
	return (true);
}

void
step_forget(struct step *step)
{
	free(step->at);
	step->at = NULL;
}

/*
 * How a child gets to place n with the fewest stops: by a run from some place
 * behind the last that has the same address, since a breakpoint would stop it
 * at that one, or by a step from it.  0 ends a chain: the first place is on
 * none, and no child comes there again.
 */
static void
plan(struct step_place *at, int n, int *bucket)
{
	int *head = &bucket[at[n].pc % BUCKETS], last = *head, i;

	while (last != 0 && at[last].pc != at[n].pc)
		last = at[last].chain;
	at[n].chain = *head;
	*head = n;
	at[n].via = n - 1;
	at[n].stops = at[n - 1].stops + 1;
	if (last == 0) {
		at[n].via = -1;
		at[n].stops = 1;
	}
	for (i = last + 1; last != 0 && i < n && i - last < VIA_MAX; i++) {
		if (at[i].stops + 1 < at[n].stops) {
			at[n].via = i;
			at[n].stops = at[i].stops + 1;
		}
	}
}

/* Bring a child that hasn't begun its act to a place. */
static bool
go_to(const struct step *step, pid_t pid, int n)
{
	if (n == -1)
		return (true);
	if (!go_to(step, pid, step->at[n].via))
		return (false);
	if (n > 0 && step->at[n].pc == step->at[n - 1].pc)
		return (step_once(pid) == 0);
	return (run_to(pid, step->at[n].pc));
}

pid_t
step_stop(struct step *step, int after)
{
	pid_t pid = start(step->act);
	struct walk walk;

	if (BREAKPOINTS) {
		if (go_to(step, pid, after) &&
		    where(pid) == step->at[after].pc)
			return (pid);
		step->astray++;
		step_kill(pid);
		pid = start(step->act);
	}
	for (walk_start(&walk, pid); after > 0 && !told->done; after--)
		walk_on(&walk);
	return (pid);
}

void
step_on(pid_t pid, int instructions)
{
	while (instructions-- > 0 && !told->done) {
		if (step_once(pid) == -1)
			ck_abort_msg("a child can't be stepped any more");
	}
}

void
step_kill(pid_t pid)
{
	int status;

	if (kill(pid, SIGKILL) == -1 || waitpid(pid, &status, 0) != pid ||
	    !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		ck_abort_msg("a child can't be killed");
}

bool
step_each(struct step_deaths *deaths)
{
	int stride = deaths->stride > 0 ? deaths->stride : 1;
	int processes = processors(), failed = 0, status, i;
	pid_t pid[PROCESSES_MAX];
	struct step step;
	struct sum *sum;

	/* What is bound at its first call is bound before the act is made. */
	deaths->stage();
	deaths->act();
	deaths->stage();
	if (!step_record(&step, deaths->act, deaths->what))
		return (false);
	if (!BREAKPOINTS || SANITIZED)
		stride += step.total / SOME_DEATHS;
	sum = shared_memory(sizeof(*sum));
	for (i = 0; i < processes; i++) {
		stay_on_processor(i);
		if ((pid[i] = fork()) == -1)
			ck_abort_msg("fork");
		if (pid[i] == 0) {
			told = NULL;
			deaths->stage();
			deaths->save();
			die(deaths, &step, i * stride, processes * stride,
			    sum);
			_exit(0);
		}
	}
	for (i = 0; i < processes; i++) {
		if (waitpid(pid[i], &status, 0) != pid[i] || status != 0)
			failed++;
	}
	/* What failed was said by the one that it failed in. */
	ck_assert_msg(failed == 0, "%s: failed", deaths->what);
	deaths->whole = sum->whole;
	deaths->rebuilt = sum->rebuilt;
	if (stride == 1)
		fprintf(stderr, "%s: killed after each of %d instructions",
		    deaths->what, step.total);
	else
		fprintf(stderr, "%s: killed after every %d. of %d "
		    "instructions", deaths->what, stride, step.total);
	fprintf(stderr, ", rebuilt after %d; %d went astray\n", sum->rebuilt,
	    sum->astray);
	ck_assert_int_le(sum->astray * 20, sum->whole + sum->rebuilt);
	munmap(sum, sizeof(*sum));
	step_forget(&step);
	return (true);
}

/* The deaths after `first' instructions, and each so many later. */
static void
die(const struct step_deaths *deaths, struct step *step, int first,
    int stride, struct sum *sum)
{
	int n;

	for (n = first; n <= step->total; n += stride) {
		deaths->restore();
		step_kill(step_stop(step, n));
		if (deaths->settle(n, deaths->arg))
			sum->rebuilt++;
		else
			sum->whole++;
	}
	sum->astray += step->astray;
}
