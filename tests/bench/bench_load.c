/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The client of the bench: asks a server for names in one of four manners,
 * judges every answer, and prints one line of what became of the queries.
 *
 *	bench_load -port n [-mode hot | uniform | zipf | miss] [-names n]
 *	    [-filled] [-window n | -rate n] [-seconds n] [-count n]
 *	    [-warm n] [-sockets n] [-dead n] [-timeout-ms n] [-first n]
 *	    [-seed n] [-server pid,...] [-upstream-count file]
 *
 * With -window that many queries are kept under way, a closed loop; with
 * -rate that many leave each second whatever comes back, an open one.  First
 * comes what is not counted: hot and uniform ask each name till it has been
 * answered, unless they were -filled before, zipf asks -warm queries, and then
 * the load that will be measured goes on for a moment.  After -seconds, or
 * -count queries, what is under way is waited for.  -dead adds a stream of so
 * many queries a second for names that nobody answers, in sockets of their
 * own.
 *
 * The CPU time of the process trees in -server and the queries that the
 * upstream saw are read where the measured time begins and ends, so that cost
 * and hit ratio belong to it and nothing else.
 *
 * Client and upstream may share a processor, so a large window is not tended
 * for each reply: the client sleeps till some part of it has come back.
 * Latency is then that of a full window and tells of throughput.
 */

#include <sys/prctl.h>
#include <sys/resource.h>

#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "flight.h"
#include "names.h"
#include "plan.h"
#include "tree.h"

#define NS_PER_S	UINT64_C(1000000000)
#define NS_PER_US	1000
#define DEAD_SOCKETS	4
#define FILL_WINDOW	128		/* no socket buffer overflows */
#define FILL_NS		(120 * NS_PER_S)	/* at most */
#define RAMP_NS		(NS_PER_S / 4)	/* till the window is full */
#define WARM_NS		(20 * NS_PER_S)	/* at most */
#define LIFE_S		150		/* and what is measured */
#define SETTLE_NS	(NS_PER_S / 2)
#define EXPIRE_NS	(NS_PER_S / 200)
#define SLEEP_WINDOW	128		/* from which on replies may wait */
#define SLEEP_MIN_NS	20000
#define SLEEP_MAX_NS	500000
#define BURST		256		/* late queries that are made good */

/* What is going on. */
enum phase {
	PHASE_FILL,			/* each name till it is answered */
	PHASE_SETTLE,
	PHASE_MEASURE,
	PHASE_DRAIN,
	PHASE_END
};

/* What is read where the measured time begins and ends. */
struct reading {
	uint64_t	 ns;
	uint64_t	 replies;
	uint64_t	 cpu_ns;
	uint64_t	 own_cpu_ns;
	uint64_t	 upstream;
};

static struct plan	 plan;

/* Now. */
static enum phase	 phase;
static uint64_t		 phase_ns;	/* when it began */
static uint64_t		 asked;		/* in this phase */
static uint64_t		 dead_asked, dead_ns;
static uint32_t		 filled;	/* names asked at least once */
static uint32_t		*again;		/* names to be asked again */
static uint32_t		 again_n;
static unsigned		 turn_socket, dead_socket;
static uint64_t		 sleep_ns = SLEEP_MIN_NS;
static struct flight	 live, dead;
static struct pollfd	 pfd[FLIGHT_SOCKETS + DEAD_SOCKETS];
static struct reading	 at_start, at_end;

static void	 bound_life(void);
static void	 missed(uint32_t);
static void	 begin_phase(enum phase, uint64_t);
static void	 next_phase(uint64_t);
static void	 read_all(struct reading *);
static bool	 next_number(uint32_t *);
static void	 send_window(uint64_t);
static void	 send_paced(uint64_t);
static void	 send_dead(uint64_t);
static unsigned	 send_some(unsigned, unsigned);
static void	 wait_replies(uint64_t);
static void	 report(void);

int
main(int argc, char **argv)
{
	uint64_t now_ns, expire_ns = 0;
	unsigned n;

	plan_parse(&plan, argc, argv);
	names_init(plan.mode, plan.names, plan.first, plan.seed);
	if ((again = calloc(plan.names, sizeof(*again))) == NULL)
		err(1, "calloc");
	bound_life();
	flight_open(&live, pfd, plan.port, plan.sockets, "huzm"[plan.mode],
	    true, plan.timeout_ms);
	live.missed = missed;
	if (plan.dead_rate != 0)
		flight_open(&dead, pfd + plan.sockets, plan.port, DEAD_SOCKETS,
		    'd', false, 0);
	now_ns = wire_now_ns();
	begin_phase(plan.filled || plan.mode == NAMES_ZIPF ||
	    plan.mode == NAMES_MISS ? PHASE_SETTLE : PHASE_FILL, now_ns);
	while (phase != PHASE_END) {
		n = flight_collect(&live);
		if (dead.sockets != 0)
			flight_collect(&dead);
		now_ns = wire_now_ns();
		if (now_ns >= expire_ns) {
			flight_expire(&live);
			expire_ns = now_ns + EXPIRE_NS;
		}
		next_phase(now_ns);
		if (now_ns < phase_ns)
			now_ns = phase_ns;
		if (phase == PHASE_FILL || plan.rate == 0)
			send_window(now_ns);
		else
			send_paced(now_ns);
		if (dead.sockets != 0)
			send_dead(now_ns);
		if (n < plan.window / 10 && sleep_ns < SLEEP_MAX_NS)
			sleep_ns += sleep_ns / 8;
		else if (n > plan.window / 5 && sleep_ns > SLEEP_MIN_NS)
			sleep_ns -= sleep_ns / 8;
		wait_replies(now_ns);
	}
	report();
	return (live.wrong == 0 ? 0 : 1);
}

/* A load ends by itself, and with who started it. */
static void
bound_life(void)
{
	pid_t parent = getppid();

	alarm((unsigned)plan.seconds + LIFE_S);
	if (prctl(PR_SET_TIMERSLACK, 1) == -1 ||
	    prctl(PR_SET_PDEATHSIG, SIGKILL) == -1)
		err(1, "prctl");
	if (getppid() != parent)
		exit(1);
}

static void
missed(uint32_t number)
{
	if (phase == PHASE_FILL && again_n < plan.names)
		again[again_n++] = number;
}

static void
begin_phase(enum phase new, uint64_t now_ns)
{
	phase = new;
	phase_ns = now_ns;
	asked = 0;
}

static void
next_phase(uint64_t now_ns)
{
	uint64_t passed_ns = now_ns - phase_ns;

	switch (phase) {
	case PHASE_FILL:
		if (live.replies >= plan.names)
			begin_phase(PHASE_SETTLE, now_ns);
		else if (passed_ns > FILL_NS)
			errx(1, "%u names, but only %llu answers", plan.names,
			    (unsigned long long)live.replies);
		break;
	case PHASE_SETTLE:
		/* A sample of a known number begins with nothing under way. */
		if (plan.count != 0 ? live.under_way > 0 :
		    passed_ns < SETTLE_NS ||
		    (asked < plan.warm && passed_ns < WARM_NS))
			break;
		read_all(&at_start);
		live.counting = true;
		if (plan.dead_rate != 0) {
			dead.counting = true;
			dead_asked = 0;
			dead_ns = at_start.ns;
		}
		begin_phase(PHASE_MEASURE, at_start.ns);
		break;
	case PHASE_MEASURE:
		if (plan.count == 0 ? passed_ns < plan.seconds * NS_PER_S :
		    asked < plan.count || live.under_way > 0)
			break;
		read_all(&at_end);
		live.counting = dead.counting = false;
		begin_phase(PHASE_DRAIN, at_end.ns);
		break;
	case PHASE_DRAIN:
		if (live.under_way == 0)
			begin_phase(PHASE_END, now_ns);
		break;
	case PHASE_END:
		break;
	}
}

/* The time is the one that lies nearest to what is measured. */
static void
read_all(struct reading *reading)
{
	struct rusage usage;
	struct tree tree;

	reading->replies = live.replies;
	reading->ns = wire_now_ns();
	getrusage(RUSAGE_SELF, &usage);
	reading->own_cpu_ns = NS_PER_S * (usage.ru_utime.tv_sec +
	    usage.ru_stime.tv_sec) + NS_PER_US * (uint64_t)
	    (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
	if (plan.upstream != NULL)
		reading->upstream = plan.upstream->queries + plan.upstream->tcp;
	if (plan.roots_n == 0)
		return;
	tree_cpu(&tree, plan.roots, plan.roots_n);
	reading->cpu_ns = tree.cpu_ns;
	if (phase == PHASE_SETTLE)
		reading->ns = wire_now_ns();
}

/* Returns false if there is nothing to ask now. */
static bool
next_number(uint32_t *number)
{
	if (phase == PHASE_FILL) {
		if (again_n > 0)
			*number = again[--again_n];
		else if (filled < plan.names)
			*number = filled++;
		else
			return (false);
	} else if (phase == PHASE_DRAIN || phase == PHASE_END ||
	    (plan.count != 0 && (phase == PHASE_SETTLE || asked >= plan.count)))
		return (false);
	else
		*number = names_next();
	asked++;
	return (true);
}

/* Send up to n queries by a socket.  Returns how many there were. */
static unsigned
send_some(unsigned socket, unsigned n)
{
	uint32_t numbers[FLIGHT_BATCH];
	unsigned i;

	for (i = 0; i < n && i < FLIGHT_BATCH; i++)
		if (!next_number(&numbers[i]))
			break;
	if (i > 0)
		flight_send(&live, socket, numbers, i);
	return (i);
}

/* Each socket has its part of the window, which opens slowly. */
static void
send_window(uint64_t now_ns)
{
	uint64_t total = plan.window, part;
	unsigned i, under_way;

	if (phase == PHASE_FILL && total > FILL_WINDOW)
		total = FILL_WINDOW;
	else if (phase == PHASE_SETTLE && now_ns - phase_ns < RAMP_NS)
		total = total * (now_ns - phase_ns) / RAMP_NS;
	for (i = 0; i < plan.sockets; i++) {
		part = (total + i) / plan.sockets;
		while ((under_way = live.socket[i].under_way) < part)
			if (send_some(i, part - under_way) == 0)
				return;
	}
}

static void
send_paced(uint64_t now_ns)
{
	uint64_t due = (now_ns - phase_ns) * plan.rate / NS_PER_S + 1;
	unsigned n, burst = 0;

	while (asked < due && burst < BURST) {
		n = send_some(turn_socket, due - asked);
		if (n == 0)
			break;
		turn_socket = (turn_socket + 1) % plan.sockets;
		burst += n;
	}
}

static void
send_dead(uint64_t now_ns)
{
	static uint32_t number;
	uint64_t due = (now_ns - dead_ns) * plan.dead_rate / NS_PER_S;
	uint32_t name;
	unsigned burst;

	if (phase != PHASE_MEASURE)
		return;
	for (burst = 0; dead_asked < due && burst < BURST; burst++) {
		name = plan.first + number++;
		dead_asked++;
		flight_send(&dead, dead_socket, &name, 1);
		dead_socket = (dead_socket + 1) % DEAD_SOCKETS;
	}
}

/* Till a reply has come or something is due. */
static void
wait_replies(uint64_t now_ns)
{
	uint64_t wait_ns = EXPIRE_NS, due_ns;
	struct timespec ts = { 0 };
	bool paced = plan.rate != 0 && phase != PHASE_FILL &&
	    phase != PHASE_DRAIN;

	if (!paced && plan.window >= SLEEP_WINDOW) {
		ts.tv_nsec = sleep_ns;
		nanosleep(&ts, NULL);
	}
	if (paced) {
		due_ns = phase_ns + asked * NS_PER_S / plan.rate;
		wait_ns = due_ns > now_ns ? due_ns - now_ns : 0;
	}
	if (plan.dead_rate != 0 && phase == PHASE_MEASURE) {
		due_ns = dead_ns + (dead_asked + 1) * NS_PER_S / plan.dead_rate;
		if (due_ns < now_ns + wait_ns)
			wait_ns = due_ns > now_ns ? due_ns - now_ns : 0;
	}
	ts.tv_nsec = wait_ns < NS_PER_S ? wait_ns : NS_PER_S - 1;
	ppoll(pfd, plan.sockets + dead.sockets, &ts, NULL);
}

static void
report(void)
{
	double took = (at_end.ns - at_start.ns) / (double)NS_PER_S;
	uint64_t replies = at_end.replies - at_start.replies;
	uint64_t seen = at_end.upstream - at_start.upstream;
	double each = replies == 0 ? 0 : 1.0 / replies / NS_PER_US;

	printf("sent=%llu received=%llu lost=%llu failed=%llu wrong=%llu "
	    "late=%llu dead=%llu seconds=%.3f qps=%.0f p50=%.1f p99=%.1f "
	    "p99.9=%.1f", (unsigned long long)live.sent,
	    (unsigned long long)live.received, (unsigned long long)live.lost,
	    (unsigned long long)live.failed, (unsigned long long)live.wrong,
	    (unsigned long long)live.late, (unsigned long long)dead.sent,
	    took, replies / took, flight_within_us(&live, 0.5),
	    flight_within_us(&live, 0.99), flight_within_us(&live, 0.999));
	printf(" load_us=%.3f", each *
	    (at_end.own_cpu_ns - at_start.own_cpu_ns));
	if (plan.roots_n != 0)
		printf(" cpu=%.3f us=%.3f",
		    (at_end.cpu_ns - at_start.cpu_ns) / took / NS_PER_S,
		    each * (at_end.cpu_ns - at_start.cpu_ns));
	if (plan.upstream != NULL)
		printf(" upstream=%llu hits=%.4f", (unsigned long long)seen,
		    replies == 0 ? 0 : 1 - seen / (double)replies);
	printf("\n");
}
