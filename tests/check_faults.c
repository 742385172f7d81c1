/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Bad luck, as it comes to the whole daemon: processes are killed, stopped and
 * made to fault, the daemon is restarted in place and ended under load, and
 * what its children may do is tried out.  What must come of it is always the
 * same: every client that waits gets its answer, the answer is true, and the
 * daemon goes on.
 *
 * There are three groups: the life of processes, what children are confined
 * to, and the points in the source at which a process is made to die.  The
 * second says SKIPPED where it was not built in, the third where the points
 * were not.
 *
 * The load is a process of its own that asks at an even pace, remembers what
 * it asked, and compares every reply with the truth.  Where a time is promised
 * the best of three is asserted: a busy machine may be late itself.
 */

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#ifdef HAVE_SYS_PRCTL_H
#include <sys/prctl.h>
#include <sys/ptrace.h>
#endif

#include <netinet/in.h>

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache.h"
#include "daemon.h"
#include "dns.h"
#include "fault.h"
#include "metrics.h"
#include "pending.h"
#include "privileges.h"
#include "seccomp.h"
#include "segment.h"
#include "stub.h"

#define TYPE_A		1
#define CLASS_CH	3
#define REPLACED_MS	400	/* from a stop to the successor, promised */
#define STOP_SHORT_MS	100	/* a stop that is let pass */
#define STOP_LONG_MS	200	/* one that may be too long to be let pass */
#define SLOW_HIT_US	40000
#define CARRIED		20	/* answers, from one layout to the next */
#define LOAD_RING	32768	/* queries under way at once */
#define LOAD_SOCKETS	16
#define LOAD_HITS	50	/* names that are asked again and again */
#define LOAD_BURST	64
#define COUNT(array)	(sizeof(array) / sizeof((array)[0]))

static struct stub *up, *other;
static struct daemon dnsd;
static struct reply got;

static void
set_up(void)
{
	up = stub_start("127.0.0.1", 0);
	other = stub_start("127.0.0.1", 0);
	ck_assert_msg(up != NULL && other != NULL, "the stubs don't start");
}

static void
tear_down(void)
{
	daemon_stop(&dnsd, SIGKILL, DAEMON_PATIENCE_MS);
	stub_stop(up);
	stub_stop(other);
}

/* Start the daemon with up as its upstream; returns when all of it runs. */
static void __attribute__((__format__(__printf__, 1, 2)))
start(const char *fmt, ...)
{
	char options[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(options, sizeof(options), fmt, ap);
	va_end(ap);
	ck_assert(daemon_start(&dnsd, "-upstreams %s -listeners 2 -workers 4 "
	    "%s", up->text, options));
	ck_assert(daemon_logged(&dnsd, " serves ", DAEMON_PATIENCE_MS));
}

static uint64_t
now_ms(void)
{
	return (stub_now_us() / 1000);
}

/* Does a reply hold the true A record of the name? */
static bool
is_true(const struct reply *reply, const char *name)
{
	uint8_t rdata[512];
	const struct record *record;
	size_t len;

	if (reply->malformed || reply->rcode != 0 || reply->records == 0)
		return (false);
	len = stub_rdata(rdata, name, TYPE_A);
	record = &reply->record[reply->records - 1];
	return (record->rdata_len == len &&
	    memcmp(record->rdata, rdata, len) == 0);
}

static void
ask(const char *name)
{
	ck_assert_msg(daemon_ask_for(&dnsd, name, TYPE_A, &got), "%s", name);
}

static void
ask_truth(const char *name)
{
	ask(name);
	ck_assert_msg(is_true(&got, name), "%s: rcode %u, or wrong data",
	    name, got.rcode);
}

/* Ask at an address; false: no reply. */
static bool
ask_at(const char *address, uint16_t port, const char *name)
{
	struct query query = { .name = name, .id = 4711 };
	bool came;
	int fd;

	fd = client_open("127.0.0.1", address, port);
	ck_assert_int_ne(fd, -1);
	client_send(fd, &query);
	came = client_receive(fd, &got, 1000);
	close(fd);
	return (came && got.id == 4711 && is_true(&got, name));
}

/* Wait for the stub to have been asked so often. */
static void
wait_until_asked(const struct stub *stub, const char *name, uint32_t times)
{
	uint64_t end = now_ms() + DAEMON_PATIENCE_MS;

	while (stub_asked(stub, name, TYPE_A) < times) {
		ck_assert_msg(now_ms() < end, "%s is not asked", name);
		poll(NULL, 0, 1);
	}
}

/*
 * TCP.
 */

static int
tcp_open(uint16_t port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
	    .sin_port = htons(port),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd;

	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ne(fd, -1);
	if (connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == -1) {
		close(fd);
		return (-1);
	}
	return (fd);
}

static void
tcp_send(int fd, const char *name)
{
	struct query query = { .name = name, .id = 4711 };
	uint8_t buf[2 + 1500];
	size_t len;

	len = query_write(buf + 2, &query);
	dns_put16(buf, len);
	send(fd, buf, len + 2, MSG_NOSIGNAL);
}

/* Read one message.  False: the end of file, or nothing came in time. */
static bool
tcp_receive(int fd, struct reply *reply, unsigned within_ms)
{
	uint64_t end = now_ms() + within_ms, now;
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	static uint8_t buf[2 + 65535];
	size_t at = 0;
	ssize_t n;

	while (at < 2 || at < 2 + (size_t)dns_get16(buf)) {
		now = now_ms();
		if (now >= end || poll(&pfd, 1, end - now) <= 0)
			return (false);
		n = recv(fd, buf + at, at < 2 ? 2 - at :
		    2 + (size_t)dns_get16(buf) - at, MSG_DONTWAIT);
		if (n <= 0)
			return (false);
		at += n;
	}
	reply->len = at - 2;
	memcpy(reply->buf, buf + 2, at - 2);
	reply_parse(reply);
	return (true);
}

static bool
tcp_ask(uint16_t port, const char *name, unsigned within_ms)
{
	bool came;
	int fd;

	if ((fd = tcp_open(port)) == -1)
		return (false);
	tcp_send(fd, name);
	came = tcp_receive(fd, &got, within_ms);
	close(fd);
	return (came && got.id == 4711 && is_true(&got, name));
}

/*
 * Processes, by what the system tells of them.
 */

enum kin {
	BY_PARENT,
	BY_GROUP
};

/* Those of a parent or a group; state 0: in any but a zombie's. */
static size_t
find_processes(enum kin kin, pid_t value, char state,
    pid_t pids[DAEMON_PROCESSES])
{
	char path[280], text[512], is;
	const struct dirent *entry;
	long parent, group;
	const char *at;
	size_t found = 0;
	ssize_t n;
	DIR *proc;
	int fd;

	if ((proc = opendir("/proc")) == NULL)
		return (0);
	while (found < DAEMON_PROCESSES && (entry = readdir(proc)) != NULL) {
		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		if ((fd = open(path, O_RDONLY)) == -1)
			continue;
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
		text[n > 0 ? n : 0] = '\0';
		if ((at = strrchr(text, ')')) == NULL || sscanf(at + 1,
		    " %c %ld %ld", &is, &parent, &group) != 3)
			continue;
		if ((kin == BY_PARENT ? parent : group) != value)
			continue;
		if (state != 0 ? is == state : is != 'Z' && is != 'X')
			pids[found++] = strtol(entry->d_name, NULL, 10);
	}
	closedir(proc);
	return (found);
}

/* Processor time that a process has used, in microseconds. */
static uint64_t
processor_us(pid_t pid)
{
	unsigned long long ns = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%ld/schedstat", (long)pid);
	if ((file = fopen(path, "r")) == NULL)
		return (0);
	if (fscanf(file, "%llu", &ns) != 1)
		ns = 0;
	fclose(file);
	return (ns / 1000);
}

/* What a process has open: how many, and a sum over which sockets. */
struct holdings {
	unsigned	 count;
	unsigned	 sockets;
	uint64_t	 sum;
};

static struct holdings
holdings_of(pid_t pid)
{
	struct holdings holdings = { 0, 0, 0 };
	char path[320], target[256];
	const struct dirent *entry;
	ssize_t n;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pid);
	if ((dir = opendir(path)) == NULL)
		return (holdings);
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%ld/fd/%s", (long)pid,
		    entry->d_name);
		n = readlink(path, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
		holdings.count++;
		if (strncmp(target, "socket:[", 8) != 0)
			continue;
		holdings.sockets++;
		holdings.sum += strtoull(target + 8, NULL, 10);
	}
	closedir(dir);
	return (holdings);
}

/*
 * It holds what it held before, and the same sockets.  The line in the log may
 * come before it has closed what it used to get so far.
 */
static void
wait_for_holdings(pid_t pid, const struct holdings *before)
{
	uint64_t end = now_ms() + DAEMON_PATIENCE_MS;
	struct holdings now;

	for (;;) {
		now = holdings_of(pid);
		if (now.count == before->count &&
		    now.sockets == before->sockets && now.sum == before->sum)
			return;
		ck_assert_msg(now_ms() < end, "%u open, not %u; %u sockets, "
		    "not %u, or others", now.count, before->count,
		    now.sockets, before->sockets);
		poll(NULL, 0, 2);
	}
}

static void
wait_for_children(pid_t parent, const char *title, size_t count,
    pid_t pids[DAEMON_PROCESSES])
{
	uint64_t end = now_ms() + DAEMON_PATIENCE_MS;
	size_t n;

	while ((n = daemon_children(parent, title, pids)) != count) {
		ck_assert_msg(now_ms() < end, "%zu of %s, not %zu", n,
		    title == NULL ? "all" : title, count);
		poll(NULL, 0, 2);
	}
}

/*
 * Wait for the daemon to have so many children of a title, none of old.
 * Returns how many milliseconds that took.
 */
static uint64_t
wait_until_replaced(const char *title, size_t count, const pid_t *old,
    size_t old_count)
{
	uint64_t begin = now_ms();
	pid_t now[DAEMON_PROCESSES];
	size_t i, j, n, same;

	for (;;) {
		same = 0;
		n = daemon_children(dnsd.pid, title, now);
		for (i = 0; i < n; i++)
			for (j = 0; j < old_count; j++)
				same += now[i] == old[j];
		if (n == count && same == 0)
			return (now_ms() - begin);
		ck_assert_msg(now_ms() < begin + DAEMON_PATIENCE_MS,
		    "%zu %ss, %zu old ones", n, title == NULL ? "children" :
		    title, same);
		poll(NULL, 0, 2);
	}
}

static void
wait_until_gone(const pid_t *pids, size_t count, unsigned within_ms)
{
	uint64_t end = now_ms() + within_ms;
	size_t i;

	for (i = 0; i < count; i++)
		while (!daemon_gone(pids[i])) {
			ck_assert_msg(now_ms() < end,
			    "process %ld is still there", (long)pids[i]);
			poll(NULL, 0, 2);
		}
}

/*
 * The log and the files.
 */

/* How often is the text in what has been logged since daemon_mark()? */
static unsigned
count_logged(const struct daemon *daemon, const char *text)
{
	static char log[1 << 20];
	const char *at = log;
	unsigned n = 0;
	ssize_t len;

	len = pread(daemon->log, log, sizeof(log) - 1, daemon->mark);
	log[len > 0 ? len : 0] = '\0';
	while ((at = strstr(at, text)) != NULL) {
		n++;
		at += strlen(text);
	}
	return (n);
}

static void __attribute__((__format__(__printf__, 2, 3)))
write_file(const char *path, const char *fmt, ...)
{
	FILE *file = fopen(path, "w");
	va_list ap;

	ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
	va_start(ap, fmt);
	vfprintf(file, fmt, ap);
	va_end(ap);
	fclose(file);
}

/* Where a file of the test's is, as a string that stays. */
static const char *
file_named(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", daemon_dir(), name);
	return (path);
}

/* Start a daemon that reads a file, whose first text is given. */
static const char *
start_with_file(const char *text)
{
	const char *path = file_named("faults.conf");

	dnsd.port = daemon_free_port();
	write_file(path, "listen 127.0.0.1:%u\nlisteners 2\n%s", dnsd.port,
	    text);
	ck_assert(daemon_start(&dnsd, "-config %s", path));
	ck_assert(daemon_logged(&dnsd, " serves ", DAEMON_PATIENCE_MS));
	return (path);
}

/* Restart in place.  Returns when the new image says that it serves. */
static void
restart(void)
{
	bool serves;

	daemon_mark(&dnsd);
	kill(dnsd.pid, SIGHUP);
	serves = daemon_logged(&dnsd, " serves ", DAEMON_PATIENCE_MS);
	if (!serves)
		daemon_print_log(&dnsd);
	ck_assert_msg(serves, "it doesn't restart");
}

/* The same, and all children are new ones. */
static void
restart_wholly(size_t count_after)
{
	pid_t old[DAEMON_PROCESSES];
	size_t n;

	n = daemon_children(dnsd.pid, NULL, old);
	restart();
	wait_until_replaced(NULL, count_after, old, n);
}

/*
 * Load: see above.
 */

struct load {
	/* Set before it starts. */
	unsigned		 rate;		/* a second */
	unsigned		 miss_every;	/* each such one; 0: none */
	unsigned		 tries;
	unsigned		 patience_ms;	/* with each try */
	const char		*command;	/* a miss's name begins so */
	uint16_t		 port;
	pid_t			 pid;

	/* Atomic; the test writes. */
	_Atomic uint32_t	 stop;

	/* Atomic; the load writes. */
	_Atomic uint64_t	 sent;		/* queries, not datagrams */
	_Atomic uint64_t	 answered;
	_Atomic uint64_t	 failed;	/* of those, with SERVFAIL */
	_Atomic uint64_t	 again;		/* that were sent once more */
	_Atomic uint64_t	 lost;
	_Atomic uint64_t	 wrong;
	_Atomic uint64_t	 worst_us;
	_Atomic uint64_t	 slow_hits;	/* that took SLOW_HIT_US */
};

struct asked {
	bool		 waits;
	uint8_t		 tries;
	unsigned	 number;
	uint64_t	 first_us;
	uint64_t	 last_us;
};

static struct asked ring[LOAD_RING];

static void
load_name(const struct load *load, unsigned number, char name[64])
{
	if (load->miss_every != 0 && number % load->miss_every == 0)
		snprintf(name, 64, "%sm%u-%u.test", load->command == NULL ?
		    "" : load->command, load->port, number);
	else
		snprintf(name, 64, "hit%u.test", number % LOAD_HITS);
}

static void
load_send(struct load *load, const int *fds, unsigned number)
{
	struct asked *asked = &ring[number % LOAD_RING];
	struct query query = { .id = number % LOAD_RING + 1, .edns = true };
	char name[64];

	load_name(load, number, name);
	query.name = name;
	asked->last_us = stub_now_us();
	asked->tries++;
	client_send(fds[number % LOAD_SOCKETS], &query);
}

static void
load_ask(struct load *load, const int *fds, unsigned number)
{
	struct asked *asked = &ring[number % LOAD_RING];

	*asked = (struct asked){ .waits = true, .number = number,
	    .first_us = stub_now_us() };
	load_send(load, fds, number);
	load->sent++;
}

static void
load_hear(struct load *load, const struct reply *reply)
{
	struct asked *asked = &ring[(reply->id - 1) % LOAD_RING];
	uint8_t wire[255];
	char name[64];
	uint64_t took;
	size_t len;

	if (!asked->waits)
		return;		/* a second reply to it */
	load_name(load, asked->number, name);
	len = stub_name_write(wire, name);
	took = stub_now_us() - asked->first_us;
	if (reply->len < DNS_HEADER_LEN + len ||
	    memcmp(reply->buf + DNS_HEADER_LEN, wire, len) != 0) {
		load->wrong++;
		return;
	}
	if (reply->rcode == DNS_RCODE_SERVFAIL && !reply->malformed)
		load->failed++;
	else if (!is_true(reply, name))
		load->wrong++;
	asked->waits = false;
	load->answered++;
	if (took > load->worst_us)
		load->worst_us = took;
	load->slow_hits += took >= SLOW_HIT_US && strncmp(name, "hit", 3) == 0;
}

/* Ask again for what is overdue.  Returns the oldest that still waits. */
static unsigned
load_review(struct load *load, const int *fds, unsigned from, unsigned to)
{
	uint64_t now = stub_now_us(), patience_us;
	struct asked *asked;
	unsigned i;

	for (i = from; i < to; i++) {
		asked = &ring[i % LOAD_RING];
		/* Behind the last try it is not asked whether it was slow. */
		patience_us = load->patience_ms * (uint64_t)1000 *
		    (load->tries > 1 && asked->tries == load->tries ? 4 : 1);
		if (!asked->waits || now < asked->last_us + patience_us)
			continue;
		if (asked->tries < load->tries) {
			load->again++;
			load_send(load, fds, i);
		} else {
			asked->waits = false;
			load->lost++;
		}
	}
	while (from < to && !ring[from % LOAD_RING].waits)
		from++;
	return (from);
}

static void
load_run(struct load *load)
{
	static struct reply reply;
	struct pollfd pfd[LOAD_SOCKETS];
	int fds[LOAD_SOCKETS], size = 4 << 20;
	uint64_t begin_us = stub_now_us();
	unsigned i, next = 1, oldest = 1, burst;

	for (i = 0; i < LOAD_SOCKETS; i++) {
		fds[i] = client_open("127.0.0.1", "127.0.0.1", load->port);
		setsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
		pfd[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
	}
	while (!load->stop || oldest < next) {
		for (burst = 0; !load->stop && burst < LOAD_BURST &&
		    next < (stub_now_us() - begin_us) * load->rate / 1000000 &&
		    next - oldest < LOAD_RING - 1; burst++)
			load_ask(load, fds, next++);
		poll(pfd, LOAD_SOCKETS, 1);
		for (i = 0; i < LOAD_SOCKETS; i++)
			while (pfd[i].revents != 0 &&
			    client_receive(fds[i], &reply, 0))
				load_hear(load, &reply);
		oldest = load_review(load, fds, oldest, next);
	}
}

/* Fill the cache with what is to be hit, and begin. */
static struct load *
load_start(const struct load *how)
{
	struct load *load;
	char name[64];
	unsigned i;
	pid_t parent = getpid();

	load = mmap(NULL, sizeof(*load), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert(load != MAP_FAILED);
	memcpy(load, how, sizeof(*load));
	load->port = dnsd.port;
	if (load->tries == 0)
		load->tries = 1;
	if (load->patience_ms == 0)
		load->patience_ms = 4000;
	for (i = 0; i < LOAD_HITS && load->miss_every != 1; i++) {
		snprintf(name, sizeof(name), "hit%u.test", i);
		daemon_ask_for(&dnsd, name, TYPE_A, &got);
	}
	fflush(NULL);
	load->pid = fork();
	if (load->pid == 0) {
		stub_die_with(parent);
		load_run(load);
		_exit(0);
	}
	ck_assert_int_ne(load->pid, -1);
	return (load);
}

/* Wait for so many more queries to be sent. */
static void
load_go_on(const struct load *load, uint64_t more)
{
	uint64_t end = now_ms() + DAEMON_PATIENCE_MS, to = load->sent + more;

	while (load->sent < to) {
		ck_assert_msg(now_ms() < end, "the load doesn't go on");
		poll(NULL, 0, 2);
	}
}

/* End it, when the last query has been answered or given up. */
static void
load_stop(struct load *load)
{
	load->stop = 1;
	waitpid(load->pid, NULL, 0);
}

static void
load_print(const struct load *load, const char *what)
{
	printf("%s: %llu sent, %llu answered, %llu SERVFAIL, %llu sent "
	    "again, %llu lost, %llu wrong, slowest %llu us\n", what,
	    (unsigned long long)load->sent,
	    (unsigned long long)load->answered,
	    (unsigned long long)load->failed, (unsigned long long)load->again,
	    (unsigned long long)load->lost, (unsigned long long)load->wrong,
	    (unsigned long long)load->worst_us);
}

/* All were answered, and truly, at the first time of asking. */
static void
assert_nothing_lost(const struct load *load)
{
	/* The counters tell where they stayed. */
	if (load->lost > 0 && daemon_stat(&dnsd, NULL, "queries") > 0)
		daemon_print_log(&dnsd);
	ck_assert_uint_gt(load->sent, 0);
	ck_assert_uint_eq(load->wrong, 0);
	ck_assert_uint_eq(load->lost, 0);
	ck_assert_uint_eq(load->again, 0);
	ck_assert_uint_eq(load->failed, 0);
	ck_assert_uint_eq(load->answered, load->sent);
}

/*
 * Life: who is stopped, and who is killed.
 */

/* Stop the first child of a title, of so many, and see it replaced. */
static uint64_t
stop_and_time(const char *title, size_t count)
{
	pid_t pids[DAEMON_PROCESSES];

	wait_for_children(dnsd.pid, title, count, pids);
	daemon_mark(&dnsd);
	kill(pids[0], SIGSTOP);
	return (wait_until_replaced(title, count, pids, 1));
}

static void
assert_replaced_in_time(const char *title, size_t count)
{
	uint64_t best = UINT64_MAX, took;
	int i;

	for (i = 0; i < 3 && best > REPLACED_MS; i++) {
		took = stop_and_time(title, count);
		ck_assert(daemon_logged(&dnsd, "makes no progress", 100));
		best = took < best ? took : best;
	}
	printf("stopped %s: replaced after %llu ms\n", title,
	    (unsigned long long)best);
	ck_assert_uint_le(best, REPLACED_MS);
}

START_TEST(stopped_idle_worker_is_replaced_in_400_ms)
{
	start("-workers 4");
	assert_replaced_in_time("dnsd: worker", 4);
	ask_truth("a.test");
}
END_TEST

START_TEST(stopped_asking_worker_is_replaced_and_its_question_asked_again)
{
	struct query query = { .id = 7 };
	uint64_t best = UINT64_MAX, took;
	char name[64];
	int fd, i;

	start("-workers 1");
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	query.name = name;
	for (i = 0; i < 3 && best > REPLACED_MS; i++) {
		snprintf(name, sizeof(name), "delay-100.stopped%d.test", i);
		query.id++;
		client_send(fd, &query);
		wait_until_asked(up, name, 1);
		took = stop_and_time("dnsd: worker", 1);
		best = took < best ? took : best;
		ck_assert(client_receive(fd, &got, 3000));
		ck_assert_uint_eq(got.id, query.id);
		ck_assert(is_true(&got, name));
		ck_assert_uint_eq(stub_asked(up, name, TYPE_A), 2);
	}
	close(fd);
	printf("stopped asking worker: replaced after %llu ms\n",
	    (unsigned long long)best);
	ck_assert_uint_le(best, REPLACED_MS);
}
END_TEST

START_TEST(stopped_listener_is_replaced_in_400_ms)
{
	start("-listeners 2");
	assert_replaced_in_time("dnsd: listener", 2);
	ask_truth("a.test");
}
END_TEST

/* Sixteen clients: the kernel gives each to one of two listeners. */
START_TEST(hits_go_on_beside_a_stopped_listener_and_none_is_lost)
{
	struct query query = { .name = "hit.test", .id = 1 };
	pid_t pids[DAEMON_PROCESSES];
	int fd[16], i, at_once = 0, later = 0;
	uint64_t begin;

	start("-listeners 2");
	ask_truth("hit.test");
	wait_for_children(dnsd.pid, "dnsd: listener", 2, pids);
	for (i = 0; i < 16; i++)
		fd[i] = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	daemon_freeze(pids[0]);
	begin = now_ms();
	for (i = 0; i < 16; i++)
		client_send(fd[i], &query);
	for (i = 0; i < 16; i++)
		if (client_receive(fd[i], &got, i == 0 ? 100 : 5)) {
			ck_assert(is_true(&got, query.name));
			at_once++;
			close(fd[i]);
			fd[i] = -1;
		}
	if (now_ms() < begin + STOP_LONG_MS)
		ck_assert_int_lt(at_once, 16);
	ck_assert_int_gt(at_once, 0);
	for (i = 0; i < 16; i++)
		if (fd[i] != -1) {
			later += client_receive(fd[i], &got, 3000);
			ck_assert(is_true(&got, query.name));
			close(fd[i]);
		}
	ck_assert_int_eq(at_once + later, 16);
}
END_TEST

START_TEST(who_goes_on_in_time_is_left_alone)
{
	static const char *const titles[] = { "dnsd: worker",
	    "dnsd: listener", "dnsd: stream" };
	static const size_t counts[] = { 4, 2, 1 };
	pid_t before[DAEMON_PROCESSES], after[DAEMON_PROCESSES];
	uint64_t begin, stopped;
	size_t i;
	int k;

	start("-workers 4");
	for (i = 0; i < COUNT(titles); i++) {
		for (k = 0; k < 10; k++) {
			wait_for_children(dnsd.pid, titles[i], counts[i],
			    before);
			begin = now_ms();
			daemon_freeze(before[0]);
			poll(NULL, 0, STOP_SHORT_MS);
			kill(before[0], SIGCONT);
			stopped = now_ms() - begin;
			/* It may not be killed by what the past has left. */
			for (begin = now_ms(); now_ms() < begin + 400;)
				poll(NULL, 0, 20);
			if (stopped < STOP_LONG_MS)
				break;	/* else this machine was too slow */
		}
		ck_assert_int_lt(k, 10);
		wait_for_children(dnsd.pid, titles[i], counts[i], after);
		ck_assert_msg(memcmp(before, after,
		    counts[i] * sizeof(pid_t)) == 0, "a %s was killed that "
		    "went on after %llu ms", titles[i],
		    (unsigned long long)stopped);
	}
	ask_truth("a.test");
}
END_TEST

START_TEST(stopped_stream_is_replaced_in_400_ms)
{
	start("-workers 4");
	assert_replaced_in_time("dnsd: stream", 1);
	ck_assert(tcp_ask(dnsd.port, "a.test", 3000));
}
END_TEST

/* Who connects meanwhile waits in the master's socket. */
START_TEST(connections_to_a_stopped_stream_are_served)
{
	pid_t pids[DAEMON_PROCESSES];

	start("-workers 4");
	wait_for_children(dnsd.pid, "dnsd: stream", 1, pids);
	daemon_freeze(pids[0]);
	ck_assert(tcp_ask(dnsd.port, "a.test", 3000));
	ck_assert(daemon_gone(pids[0]));
}
END_TEST

START_TEST(killed_asking_worker_has_its_question_asked_again)
{
	struct query query = { .name = "delay-200.a.test", .id = 7 };
	pid_t pids[DAEMON_PROCESSES];
	int fd, tcp;

	start("-workers 1");
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	tcp = tcp_open(dnsd.port);
	tcp_send(tcp, query.name);
	client_send(fd, &query);
	wait_until_asked(up, query.name, 1);
	ck_assert(daemon_stat_is(&dnsd, NULL, "coalesced", 1));
	wait_for_children(dnsd.pid, "dnsd: worker", 1, pids);
	daemon_mark(&dnsd);
	kill(pids[0], SIGKILL);
	ck_assert(client_receive(fd, &got, 3000));
	ck_assert(got.id == 7 && is_true(&got, query.name));
	ck_assert(tcp_receive(tcp, &got, 3000));
	ck_assert(is_true(&got, query.name));
	ck_assert_uint_eq(stub_asked(up, query.name, TYPE_A), 2);
	ck_assert(daemon_logged(&dnsd, "worker 1 died of signal 9", 100));
	close(tcp);
	close(fd);
}
END_TEST

START_TEST(worker_that_faults_while_idle_is_replaced)
{
	pid_t pids[DAEMON_PROCESSES];

	start("-workers 1");
	ask_truth("a.test");
	wait_for_children(dnsd.pid, "dnsd: worker", 1, pids);
	daemon_mark(&dnsd);
	kill(pids[0], SIGSEGV);
	wait_until_replaced("dnsd: worker", 1, pids, 1);
#ifndef __SANITIZE_ADDRESS__	/* which has a way of its own to die of it */
	ck_assert(daemon_logged(&dnsd, "worker 1 died of signal 11", 1000));
#endif
	ask_truth("a.test");
	ask_truth("b.test");
}
END_TEST

/* It had the question, but it was not at work on it. */
START_TEST(worker_that_faults_while_it_waits_blames_no_question)
{
	struct query query = { .name = "delay-200.a.test", .id = 7 };
	pid_t pids[DAEMON_PROCESSES];
	int fd;

	start("-workers 1");
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	client_send(fd, &query);
	wait_until_asked(up, query.name, 1);
	wait_for_children(dnsd.pid, "dnsd: worker", 1, pids);
	kill(pids[0], SIGSEGV);
	ck_assert(client_receive(fd, &got, 3000));
	ck_assert(is_true(&got, query.name));
	close(fd);
}
END_TEST

START_TEST(all_128_children_killed_at_once_run_again_within_a_second)
{
	pid_t pids[DAEMON_PROCESSES];
	uint64_t best = UINT64_MAX, cpu, took;
	int k;
	size_t i;

	start("-listeners 2 -workers 125");
	for (k = 0; k < 3 && best > 1000 * DAEMON_SLOWER; k++) {
		ask_truth("kept.test");
		wait_for_children(dnsd.pid, NULL, 128, pids);
		cpu = processor_us(dnsd.pid);
		for (i = 0; i < 128; i++)
			kill(pids[i], SIGKILL);
		took = wait_until_replaced("dnsd: ", 128, pids, 128);
		best = took < best ? took : best;
		ask_truth("kept.test");
		cpu = processor_us(dnsd.pid) - cpu;
		printf("128 killed: all run after %llu ms, %llu us of "
		    "processor time of the master\n",
		    (unsigned long long)took, (unsigned long long)cpu);
		ck_assert_uint_le(cpu, 400000 * DAEMON_SLOWER);
	}
	ck_assert_uint_le(best, 1000 * DAEMON_SLOWER);
	ck_assert_uint_eq(stub_asked(up, "kept.test", TYPE_A), 1);
	ck_assert_uint_eq(find_processes(BY_PARENT, dnsd.pid, 'Z', pids), 0);
}
END_TEST

/* Nor does the master spin afterwards, or ever. */
START_TEST(master_of_128_idle_children_takes_little_time)
{
	uint64_t begin, cpu;

	start("-listeners 2 -workers 125");
	begin = now_ms();
	cpu = processor_us(dnsd.pid);
	while (now_ms() < begin + 1000)
		poll(NULL, 0, 100);
	cpu = processor_us(dnsd.pid) - cpu;
	printf("idle master: %llu us of processor time in %llu ms\n",
	    (unsigned long long)cpu, (unsigned long long)(now_ms() - begin));
	ck_assert_uint_le(cpu, (now_ms() - begin) * 1000 / 100);
}
END_TEST

/*
 * Life: restart in place.
 */

START_TEST(restart_keeps_pid_cache_sockets_and_counters)
{
	uint64_t end = now_ms() + 5000, hits, queries;
	struct holdings before;
	char text[32] = "";
	pid_t pid, old[DAEMON_PROCESSES];
	uint32_t ttl;
	FILE *file;

	start("-pidfile %s", file_named("restart.pid"));
	pid = dnsd.pid;
	do {
		ask_truth("kept.test");
		ttl = got.record[0].ttl;
		ck_assert_msg(now_ms() < end, "the TTL doesn't age");
		poll(NULL, 0, 50);
	} while (ttl == 300);
	queries = daemon_stat(&dnsd, NULL, "queries");
	hits = daemon_stat(&dnsd, NULL, "hits");
	before = holdings_of(pid);
	ck_assert_uint_eq(daemon_children(pid, NULL, old), 7);
	restart_wholly(7);

	ck_assert(!daemon_gone(pid));
	ask_truth("kept.test");
	ck_assert_uint_le(got.record[0].ttl, ttl);
	ck_assert_uint_eq(stub_asked(up, "kept.test", TYPE_A), 1);
	ck_assert_uint_eq(daemon_stat(&dnsd, NULL, "queries"), queries + 1);
	ck_assert_uint_eq(daemon_stat(&dnsd, NULL, "hits"), hits + 1);
	wait_for_holdings(pid, &before);
	file = fopen(file_named("restart.pid"), "r");
	ck_assert(file != NULL && fgets(text, sizeof(text), file) != NULL);
	fclose(file);
	ck_assert_int_eq(strtol(text, NULL, 10), pid);
	/* It is still the master of its children. */
	ck_assert_int_eq(daemon_stop(&dnsd, SIGTERM, 2000), 0);
	ck_assert_int_eq(access(file_named("restart.pid"), F_OK), -1);
}
END_TEST

START_TEST(ten_restarts_under_load_lose_nothing)
{
	const struct load how = { .rate = 5000, .miss_every = 5 };
	struct load *load;
	uint64_t before;
	int i;

	/* A queue that holds what a busy machine lets gather. */
	start("-workers 8 -queue-size 8192");
	load = load_start(&how);
	load_go_on(load, 500);
	before = up->udp_queries;
	for (i = 0; i < 10; i++) {
		restart_wholly(11);
		load_go_on(load, 300);
	}
	load_stop(load);
	load_print(load, "ten restarts");
	assert_nothing_lost(load);
	ck_assert_uint_gt(up->udp_queries, before);
	ck_assert_uint_eq(stub_asked(up, "hit7.test", TYPE_A), 1);
}
END_TEST

/* The segment has another layout then: old and new run side by side. */
START_TEST(restarts_with_other_numbers_of_workers_lose_nothing)
{
	const struct load how = { .rate = 2000, .miss_every = 3 };
	const char *path;
	struct load *load;
	char text[128];
	int i;

	snprintf(text, sizeof(text), "upstreams %s\nworkers 4\n"
	    "queue-size 8192\n", up->text);
	path = start_with_file(text);
	load = load_start(&how);
	load_go_on(load, 200);
	for (i = 0; i < 6; i++) {
		write_file(path, "listen 127.0.0.1:%u\nlisteners 2\n"
		    "upstreams %s\nqueue-size 8192\nworkers %d\n",
		    dnsd.port, up->text, i % 2 == 0 ? 6 : 4);
		restart_wholly(i % 2 == 0 ? 9 : 7);
		load_go_on(load, 200);
	}
	load_stop(load);
	load_print(load, "six restarts with another layout");
	assert_nothing_lost(load);
}
END_TEST

START_TEST(restart_makes_changed_options_take_effect)
{
	pid_t pids[DAEMON_PROCESSES];
	uint16_t second = daemon_free_port();
	struct query query = { .name = "kept.test", .id = 1 };
	uint64_t end;
	const char *path;
	char text[128];
	int fd;

	snprintf(text, sizeof(text), "upstreams %s\nworkers 3\n", up->text);
	path = start_with_file(text);
	ask_truth("kept.test");

	/* Upstreams alone: the cache is kept. */
	write_file(path, "listen 127.0.0.1:%u\nlisteners 2\nupstreams %s\n"
	    "workers 3\n", dnsd.port, other->text);
	restart_wholly(6);
	ask_truth("kept.test");
	ask_truth("new.test");
	ck_assert_uint_eq(stub_asked(up, "kept.test", TYPE_A), 1);
	ck_assert_uint_eq(stub_asked(up, "new.test", TYPE_A), 0);
	ck_assert_uint_eq(stub_asked(other, "kept.test", TYPE_A), 0);
	ck_assert_uint_eq(stub_asked(other, "new.test", TYPE_A), 1);

	/* Addresses and workers. */
	write_file(path, "listen 127.0.0.1:%u\nlisten 127.0.0.2:%u\n"
	    "listeners 2\nupstreams %s\nworkers 5\n", dnsd.port, second,
	    other->text);
	restart_wholly(10);
	ck_assert_uint_eq(daemon_children(dnsd.pid, "dnsd: worker", pids), 5);
	ck_assert(ask_at("127.0.0.2", second, "second.test"));
	ck_assert(ask_at("127.0.0.1", dnsd.port, "second.test"));

	/* And one address less: nobody is there any more. */
	write_file(path, "listen 127.0.0.1:%u\nlisteners 2\nupstreams %s\n"
	    "workers 5\n", dnsd.port, other->text);
	restart_wholly(8);
	end = now_ms() + DAEMON_PATIENCE_MS;
	fd = client_open("127.0.0.1", "127.0.0.2", second);
	do {
		ck_assert_msg(now_ms() < end, "the socket is still bound");
		client_send(fd, &query);
		errno = 0;
	} while (client_receive(fd, &got, 50) || errno != ECONNREFUSED);
	close(fd);
	ck_assert(ask_at("127.0.0.1", dnsd.port, "third.test"));
	ck_assert_int_eq(tcp_open(second), -1);
}
END_TEST

START_TEST(restart_makes_a_changed_log_level_take_effect)
{
	pid_t pids[DAEMON_PROCESSES], old[DAEMON_PROCESSES];
	const char *path;
	char text[128];
	size_t n;

	snprintf(text, sizeof(text), "upstreams %s\nworkers 3\n", up->text);
	path = start_with_file(text);
	write_file(path, "listen 127.0.0.1:%u\nlisteners 2\nupstreams %s\n"
	    "workers 3\nlog-level error\n", dnsd.port, up->text);
	n = daemon_children(dnsd.pid, NULL, old);
	daemon_mark(&dnsd);
	kill(dnsd.pid, SIGHUP);
	wait_until_replaced(NULL, 6, old, n);
	/* A worker that is seen to be replaced came after the counters. */
	kill(dnsd.pid, SIGUSR1);
	wait_for_children(dnsd.pid, "dnsd: worker", 3, pids);
	kill(pids[0], SIGKILL);
	wait_until_replaced("dnsd: worker", 3, pids, 1);
	ck_assert_uint_eq(count_logged(&dnsd, "stats:"), 0);
	ck_assert_uint_eq(count_logged(&dnsd, " serves "), 0);
	ck_assert_uint_eq(count_logged(&dnsd, "died of"), 0);

	write_file(path, "listen 127.0.0.1:%u\nlisteners 2\nupstreams %s\n"
	    "workers 3\n", dnsd.port, up->text);
	restart_wholly(6);
	ck_assert_uint_ge(daemon_stat(&dnsd, NULL, "queries"), 1);
}
END_TEST

START_TEST(restart_with_another_layout_carries_the_answers_over)
{
	static const char *const rows[] = { "workers 3\ncache-size 500\n",
	    "workers 5\n", "workers 5\nqueue-size 50\n", "workers 5\n" };
	uint16_t more = daemon_free_port();
	char second[32];
	const char *path;
	char text[256], name[32];
	size_t i, k;

	snprintf(text, sizeof(text), "upstreams %s\nworkers 3\n", up->text);
	path = start_with_file(text);
	for (k = 0; k < CARRIED; k++) {
		snprintf(name, sizeof(name), "kept-%zu.test", k);
		ask_truth(name);
	}
	for (i = 0; i < COUNT(rows); i++) {
		snprintf(second, sizeof(second), ",127.0.0.1:%u", more);
		write_file(path, "listen 127.0.0.1:%u%s\nlisteners 2\n"
		    "upstreams %s\n%s", dnsd.port,
		    i == COUNT(rows) - 1 ? second : "", up->text, rows[i]);
		restart();
		ck_assert_msg(count_logged(&dnsd, "20 answers are carried "
		    "over") == 1, "row %zu", i);
		for (k = 0; k < CARRIED; k++) {
			snprintf(name, sizeof(name), "kept-%zu.test", k);
			ask_truth(name);
			ck_assert_uint_eq(stub_asked(up, name, TYPE_A), 1);
		}
	}
}
END_TEST

/* What is to be restarted can't be: one line says so, and nothing changes. */
static void
assert_no_change(const char *said)
{
	pid_t before[DAEMON_PROCESSES], after[DAEMON_PROCESSES];
	struct holdings had = holdings_of(dnsd.pid);
	uint64_t end = now_ms() + DAEMON_PATIENCE_MS;
	size_t n;

	n = daemon_children(dnsd.pid, NULL, before);
	daemon_mark(&dnsd);
	kill(dnsd.pid, SIGHUP);
	ck_assert_msg(daemon_logged(&dnsd, "the old configuration goes on",
	    DAEMON_PATIENCE_MS), "nothing is said");
	ck_assert_msg(count_logged(&dnsd, said) == 1, "not said: %s", said);
	ask_truth("kept.test");
	/* What tried and said so may not be gone yet. */
	while (daemon_children(dnsd.pid, NULL, after) != n) {
		ck_assert_msg(now_ms() < end, "there are more than %zu", n);
		poll(NULL, 0, 2);
	}
	ck_assert(memcmp(before, after, n * sizeof(pid_t)) == 0);
	wait_for_holdings(dnsd.pid, &had);
	/* The counters come behind, so all that was said is there. */
	daemon_stat(&dnsd, NULL, "queries");
}

START_TEST(restart_with_a_wrong_file_changes_nothing)
{
	static const struct {
		const char	*text;
		const char	*said;
	} rows[] = {
		{ "workers none\n", "faults.conf:5: workers: none" },
		{ "listen 127.0.0.1\nfrobnicate 2\n",
		    "faults.conf:6: frobnicate" },
		{ "listen 192.0.2.77:20053\n", "cannot bind 192.0.2.77:" },
		{ "workers 300\n", "cannot make a mailbox: " },
		{ "user no-such-user\n", "user no-such-user, " },
	};
	struct rlimit few = { 600, 600 };
	const char *path;
	char text[256];
	off_t mark;
	size_t i;

	snprintf(text, sizeof(text), "upstreams %s\n", up->text);
	path = start_with_file(text);
	ask_truth("kept.test");
	ck_assert_int_eq(prlimit(dnsd.pid, RLIMIT_NOFILE, &few, NULL), 0);
	for (i = 0; i < COUNT(rows) - (geteuid() != 0); i++) {
		write_file(path, "listen 127.0.0.1:%u\nlisteners 2\n"
		    "upstreams %s\n\n%s", dnsd.port, up->text,
		    rows[i].text);
		daemon_mark(&dnsd);
		mark = dnsd.mark;
		assert_no_change(rows[i].said);
		dnsd.mark = mark;
		/* One line, but for the counters. */
		ck_assert_msg(count_logged(&dnsd, " dnsd: ") -
		    count_logged(&dnsd, "stats:") == 1, "row %zu", i);
	}
	ck_assert_uint_eq(stub_asked(up, "kept.test", TYPE_A), 1);
	/* And it can be mended. */
	write_file(path, "listen 127.0.0.1:%u\nlisteners 2\nupstreams %s\n",
	    dnsd.port, other->text);
	restart();
	ask_truth("mended.test");
}
END_TEST

/* What was found right is what is done, whatever the file says by then. */
START_TEST(file_that_is_spoilt_during_a_restart_does_no_harm)
{
	const char *path;
	char text[256], next[PATH_MAX];
	pid_t master;
	int i;

	snprintf(text, sizeof(text), "upstreams %s\n", up->text);
	path = start_with_file(text);
	snprintf(next, sizeof(next), "%s.next", path);
	master = dnsd.pid;
	for (i = 0; i < 60; i++) {
		write_file(next, "listen 127.0.0.1:%u\nlisteners 2\n"
		    "upstreams %s\n", dnsd.port, up->text);
		ck_assert_int_eq(rename(next, path), 0);
		ck_assert_int_eq(kill(master, SIGHUP), 0);
		poll(NULL, 0, i % 20);
		write_file(next, "timeout 0\n");
		ck_assert_int_eq(rename(next, path), 0);
		ask_truth("spoilt.test");
		ck_assert(!daemon_gone(master));
	}
	ck_assert_uint_gt(count_logged(&dnsd, "restarting in place"), 0);
}
END_TEST

static void
copy_file(const char *from, const char *to)
{
	static char buf[1 << 16];
	int in, out;
	ssize_t n;

	in = open(from, O_RDONLY);
	out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0755);
	ck_assert_msg(in != -1 && out != -1, "%s: %s", from, strerror(errno));
	while ((n = read(in, buf, sizeof(buf))) > 0)
		ck_assert_int_eq(write(out, buf, n), n);
	close(in);
	close(out);
}

START_TEST(restart_with_a_broken_program_changes_nothing)
{
	static const struct {
		const char	*text;	/* NULL: there is none */
		mode_t		 mode;
		const char	*said;
	} rows[] = {
		{ "this is no program\n", 0755, "cannot run " },
		{ "", 0755, "cannot run " },
		{ NULL, 0, "cannot run " },
		{ "\177ELF\002\001\001 and no more", 0755, "cannot run " },
		{ "#!/bin/sh\necho broken >&2\nexit 3\n", 0755, "broken" },
		{ "#!/bin/sh\nexit 3\n", 0755, "fails" },
		{ "#!/bin/sh\nkill -9 $$\n", 0755, "fails" },
	};
	const char *dnsd_real = getenv("DNSD");
	char copy[256], next[256], late[256];
	off_t mark;
	size_t i;

	strlcpy(copy, file_named("dnsd-copy"), sizeof(copy));
	strlcpy(next, file_named("dnsd-next"), sizeof(next));
	if (dnsd_real == NULL)
		dnsd_real = "src/dnsd";
	copy_file(dnsd_real, copy);
	setenv("DNSD", copy, 1);
	start("-workers 3");
	ask_truth("kept.test");
	for (i = 0; i < COUNT(rows); i++) {
		if (rows[i].text != NULL) {
			write_file(next, "%s", rows[i].text);
			chmod(next, rows[i].mode);
			ck_assert_int_eq(rename(next, copy), 0);
		} else
			unlink(copy);
		daemon_mark(&dnsd);
		mark = dnsd.mark;
		assert_no_change(rows[i].said);
		dnsd.mark = mark;
		ck_assert_msg(count_logged(&dnsd, " dnsd: ") -
		    count_logged(&dnsd, "stats:") == 1, "row %zu", i);
	}
	/* One that is right, but another is in its place by then. */
	strlcpy(late, file_named("dnsd-late"), sizeof(late));
	write_file(late, "this is no program\n");
	chmod(late, 0755);
	write_file(next, "#!/bin/sh\nmv '%s' '%s'\n", late, copy);
	chmod(next, 0755);
	ck_assert_int_eq(rename(next, copy), 0);
	assert_no_change("the program has just been replaced");
	ck_assert_uint_eq(stub_asked(up, "kept.test", TYPE_A), 1);
	/* A good one is taken again, twice over. */
	copy_file(dnsd_real, next);
	ck_assert_int_eq(rename(next, copy), 0);
	restart_wholly(6);
	copy_file(dnsd_real, next);
	ck_assert_int_eq(rename(next, copy), 0);
	restart_wholly(6);
	ask_truth("kept.test");
	ck_assert_uint_eq(stub_asked(up, "kept.test", TYPE_A), 1);
}
END_TEST

START_TEST(question_in_hand_is_answered_over_a_restart)
{
	struct query query = { .name = "delay-300.a.test", .id = 7 };
	struct query second = { .name = "delay-400.b.test", .id = 8 };
	const char *path;
	char text[128];
	int fd, tcp;

	snprintf(text, sizeof(text), "upstreams %s\nworkers 4\n", up->text);
	path = start_with_file(text);
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	tcp = tcp_open(dnsd.port);
	client_send(fd, &query);
	tcp_send(tcp, query.name);
	wait_until_asked(up, query.name, 1);
	ck_assert(daemon_stat_is(&dnsd, NULL, "coalesced", 1));
	restart();
	ck_assert(client_receive(fd, &got, 3000));
	ck_assert(got.id == 7 && is_true(&got, query.name));
	ck_assert_msg(tcp_receive(tcp, &got, 3000), "no reply by TCP");
	ck_assert(is_true(&got, query.name));
	close(tcp);

	/* The same into another layout of memory. */
	tcp = tcp_open(dnsd.port);
	client_send(fd, &second);
	tcp_send(tcp, second.name);
	wait_until_asked(up, second.name, 1);
	write_file(path, "listen 127.0.0.1:%u\nlisteners 2\nupstreams %s\n"
	    "workers 6\n", dnsd.port, up->text);
	restart();
	ck_assert(client_receive(fd, &got, 3000));
	ck_assert(got.id == 8 && is_true(&got, second.name));
	ck_assert_msg(tcp_receive(tcp, &got, 3000), "no reply by TCP");
	ck_assert(is_true(&got, second.name));
	close(tcp);
	close(fd);
}
END_TEST

/* However often those who ask it are replaced. */
START_TEST(question_that_nobody_answers_ends_in_time_over_restarts)
{
	struct query query = { .name = "silent.a.test", .id = 7 };
	uint64_t start, took;
	char text[128];
	int fd;

	snprintf(text, sizeof(text), "upstreams %s\nworkers 4\ntimeout 1s\n",
	    up->text);
	start_with_file(text);
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	start = now_ms();
	client_send(fd, &query);
	wait_until_asked(up, query.name, 1);
	do {
		ck_assert_msg(now_ms() < start + 6000, "it has no end");
		restart();
	} while (!client_receive(fd, &got, 100));
	took = now_ms() - start;
	ck_assert_uint_eq(got.rcode, DNS_RCODE_SERVFAIL);
	ck_assert_uint_ge(took, 900);
	ck_assert(daemon_stat_is(&dnsd, NULL, "asking", 0));
	close(fd);
}
END_TEST

/* The old stream still waits for an answer; others are served meanwhile. */
START_TEST(tcp_is_served_while_an_old_connection_is_finished)
{
	uint64_t begin;
	int tcp;

	start("-workers 4 -timeout 3s");
	tcp = tcp_open(dnsd.port);
	tcp_send(tcp, "silent.test");
	wait_until_asked(up, "silent.test", 1);
	restart();
	begin = now_ms();
	ck_assert(tcp_ask(dnsd.port, "a.test", 5000));
	ck_assert_msg(now_ms() < begin + 1000, "served after %llu ms only",
	    (unsigned long long)(now_ms() - begin));
	ck_assert(tcp_receive(tcp, &got, 5000));
	ck_assert_uint_eq(got.rcode, DNS_RCODE_SERVFAIL);
	close(tcp);
}
END_TEST

/* The same for workers: each of them still has a name that is dead. */
START_TEST(misses_are_answered_while_every_old_worker_finishes)
{
	struct query query = { .id = 1 };
	uint64_t begin;
	char name[32];
	int fd, i;

	start("-workers 2 -timeout 3s");
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	query.name = name;
	for (i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "silent.dead%d.test", i);
		query.id++;
		client_send(fd, &query);
		wait_until_asked(up, name, 1);
	}
	restart();
	begin = now_ms();
	ask_truth("a.test");
	ck_assert_msg(now_ms() < begin + 1000, "answered after %llu ms only",
	    (unsigned long long)(now_ms() - begin));
	close(fd);
}
END_TEST

START_TEST(twenty_restarts_leave_nothing_behind)
{
	pid_t pids[DAEMON_PROCESSES];
	struct holdings before;
	int i;

	start("-workers 4");
	ask_truth("a.test");
	restart_wholly(7);
	before = holdings_of(dnsd.pid);
	for (i = 0; i < 20; i++)
		restart_wholly(7);
	ask_truth("a.test");
	wait_for_holdings(dnsd.pid, &before);
	ck_assert_uint_eq(find_processes(BY_PARENT, dnsd.pid, 'Z', pids), 0);
	ck_assert_uint_eq(find_processes(BY_PARENT, dnsd.pid, 0, pids), 7);
	ck_assert_uint_eq(stub_asked(up, "a.test", TYPE_A), 1);
}
END_TEST

START_TEST(second_hangup_during_the_first_ones_drain_is_done_too)
{
	struct query query = { .name = "delay-600.a.test", .id = 7 };
	pid_t old[DAEMON_PROCESSES];
	size_t n;
	int fd;

	start("-workers 4");
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	client_send(fd, &query);
	wait_until_asked(up, query.name, 1);
	n = daemon_children(dnsd.pid, NULL, old);
	restart();
	restart();
	ck_assert(client_receive(fd, &got, 3000));
	ck_assert(got.id == 7 && is_true(&got, query.name));
	wait_until_replaced(NULL, 7, old, n);
	ck_assert_uint_eq(find_processes(BY_PARENT, dnsd.pid, 'Z', old), 0);
	ask_truth("b.test");
	close(fd);
}
END_TEST

START_TEST(hangups_in_a_volley_and_one_to_end_are_done)
{
	int i;

	start("-workers 4");
	ask_truth("a.test");
	for (i = 0; i < 50; i++) {
		kill(dnsd.pid, SIGHUP);
		kill(dnsd.pid, SIGCHLD);
		kill(dnsd.pid, SIGPIPE);
		poll(NULL, 0, i % 3);
	}
	ask_truth("a.test");
	ask_truth("b.test");
	ck_assert_uint_eq(stub_asked(up, "a.test", TYPE_A), 1);
	kill(dnsd.pid, SIGHUP);
	ck_assert_int_eq(daemon_stop(&dnsd, SIGTERM, 7000), 0);
}
END_TEST

/*
 * Life: the end.
 */

START_TEST(end_under_load_answers_what_was_accepted)
{
	const struct load how = { .rate = 5000, .miss_every = 5,
	    .command = "delay-50.", .patience_ms = 1000 };
	uint64_t begin, took, queries, replies;
	pid_t pids[DAEMON_PROCESSES];
	struct load *load;
	size_t n;

	start("-workers 8 -timeout 2s");
	load = load_start(&how);
	load_go_on(load, 2000);
	n = daemon_children(dnsd.pid, NULL, pids);
	daemon_mark(&dnsd);
	begin = now_ms();
	ck_assert_int_eq(daemon_stop(&dnsd, SIGTERM, 3000), 0);
	took = now_ms() - begin;
	load_stop(load);
	load_print(load, "end under load");
	wait_until_gone(pids, n, 0);
	ck_assert(daemon_logged(&dnsd, "stats:", 0));
	ck_assert_uint_eq(count_logged(&dnsd, " drops=0 "), 1);
	queries = replies = 0;
	{
		static char log[1 << 16];
		ssize_t len = pread(dnsd.log, log, sizeof(log) - 1,
		    dnsd.mark);
		const char *at;

		log[len > 0 ? len : 0] = '\0';
		if ((at = strstr(log, " queries=")) != NULL)
			queries = strtoull(at + 9, NULL, 10);
		if ((at = strstr(log, " replies=")) != NULL)
			replies = strtoull(at + 9, NULL, 10);
	}
	printf("end under load: %llu accepted, %llu replies, after %llu ms\n",
	    (unsigned long long)queries, (unsigned long long)replies,
	    (unsigned long long)took);
	ck_assert_uint_eq(queries, replies);
	ck_assert_uint_gt(queries, 0);
	ck_assert_uint_eq(load->wrong, 0);
	ck_assert_uint_eq(load->failed, 0);
	/* Besides the load, the hits were asked for, and the first reply. */
	ck_assert_uint_ge(load->answered + LOAD_HITS + 1, replies);
}
END_TEST

/* At random moments, those of starting and restarting among them. */
START_TEST(master_killed_twenty_times_leaves_nothing_and_starts_again)
{
	pid_t pids[DAEMON_PROCESSES];
	uint64_t begin, took, worst = 0;
	uint16_t port = daemon_free_port();
	int i, late = 0;
	size_t n, k, left;

	setpgid(0, 0);		/* our children, and theirs */
	stub_stop(up);
	up = stub_start("127.0.0.1", 0);
	for (i = 0; i < 20; i++) {
		dnsd = (struct daemon){ .port = port };
		ck_assert_msg(daemon_start(&dnsd, "-listen 127.0.0.1:%u "
		    "-upstreams %s -workers 16 -listeners 2 -pidfile %s",
		    port, up->text, file_named("killed.pid")),
		    "it doesn't start after %d deaths", i);
		if (i % 2 == 0)
			ask_truth("a.test");
		if (i % 4 == 1)
			kill(dnsd.pid, SIGHUP);
		poll(NULL, 0, arc4random_uniform(30));
		daemon_stop(&dnsd, SIGKILL, DAEMON_PATIENCE_MS);
		begin = now_ms();
		do {
			n = find_processes(BY_GROUP, getpgrp(), 0, pids);
			for (left = k = 0; k < n; k++)
				left += pids[k] != getpid() &&
				    pids[k] != up->pid &&
				    pids[k] != other->pid;
			took = now_ms() - begin;
			ck_assert_msg(took < 2000, "%zu are left", left);
		} while (left > 0);
		worst = took > worst ? took : worst;
		late += took > 100 * DAEMON_SLOWER;
	}
	printf("master killed 20 times: all gone after %llu ms at worst\n",
	    (unsigned long long)worst);
	ck_assert_int_le(late, 1);
	dnsd = (struct daemon){ .port = port };
	start("-listen 127.0.0.1:%u -pidfile %s", port,
	    file_named("killed.pid"));
	ask_truth("a.test");
}
END_TEST

/*
 * Confinement.
 */

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED
#endif

#if defined(HAVE_LINUX_SECCOMP_H) && !defined(FAULTS) && \
    !defined(SANITIZED) && (defined(__x86_64__) || defined(__aarch64__))
#define CONFINED
#endif

#ifdef CONFINED

#define EXIT_DONE	0	/* what a confined child says of its attempt */
#define EXIT_REFUSED	1
#define EXIT_OTHER	2
#define EXIT_SETUP	3

/* The value of "name:" in /proc/PID/status, as a string. */
static const char *
status_of(pid_t pid, const char *name)
{
	static char line[512];
	char path[64];
	size_t len = strlen(name);
	FILE *file;
	bool found = false;

	snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
	if ((file = fopen(path, "r")) == NULL)
		return ("");
	while (!found && fgets(line, sizeof(line), file) != NULL)
		found = strncmp(line, name, len) == 0 && line[len] == ':';
	fclose(file);
	if (!found)
		return ("");
	line[strcspn(line, "\n")] = '\0';
	return (line + len + 1 + strspn(line + len + 1, " \t"));
}

static const char *const kinds[] = { "dnsd: listener", "dnsd: stream",
	"dnsd: worker" };

/* Who takes over one child shall not have the mail of the others. */
START_TEST(child_has_no_mailboxes_but_those_it_needs)
{
	static const unsigned most[] = { 100 + 20, 100 + 20, 20 };
	pid_t pids[DAEMON_PROCESSES];
	size_t i;

	start("-workers 100");
	for (i = 0; i < COUNT(kinds); i++) {
		ck_assert_uint_ge(daemon_children(dnsd.pid, kinds[i], pids),
		    1);
		ck_assert_uint_le(holdings_of(pids[0]).count, most[i]);
	}
}
END_TEST

START_TEST(every_kind_of_child_is_confined)
{
	pid_t pids[DAEMON_PROCESSES];
	unsigned long uid[4], gid[4];
	struct holdings holdings;
	char path[64], text[256];
	struct dirent *entry;
	struct stat st;
	size_t i;
	DIR *dir;
	int k;

	start("-pidfile %s", file_named("confined.pid"));
	ck_assert_str_eq(status_of(dnsd.pid, "Seccomp"), "0");
	for (i = 0; i < COUNT(kinds); i++) {
		ck_assert_uint_ge(daemon_children(dnsd.pid, kinds[i], pids),
		    1);
		ck_assert_str_eq(status_of(pids[0], "Seccomp"), "2");
		ck_assert_str_eq(status_of(pids[0], "NoNewPrivs"), "1");
		holdings = holdings_of(pids[0]);
		ck_assert_uint_gt(holdings.count, 0);
		if (geteuid() != 0)
			continue;
		ck_assert_int_eq(sscanf(status_of(pids[0], "Uid"),
		    "%lu %lu %lu %lu", &uid[0], &uid[1], &uid[2], &uid[3]),
		    4);
		ck_assert_int_eq(sscanf(status_of(pids[0], "Gid"),
		    "%lu %lu %lu %lu", &gid[0], &gid[1], &gid[2], &gid[3]),
		    4);
		for (k = 0; k < 4; k++)
			ck_assert(uid[k] != 0 && gid[k] != 0);
		ck_assert_str_eq(status_of(pids[0], "Groups"), "");
		ck_assert_uint_eq(strtoull(status_of(pids[0], "CapEff"), NULL,
		    16), 0);
		ck_assert_uint_eq(strtoull(status_of(pids[0], "CapPrm"), NULL,
		    16), 0);

		snprintf(path, sizeof(path), "/proc/%ld/root",
		    (long)pids[0]);
		k = readlink(path, text, sizeof(text) - 1);
		ck_assert_int_gt(k, 0);
		text[k] = '\0';
		ck_assert_str_eq(text, file_named("empty"));
		ck_assert_int_eq(stat(path, &st), 0);
		ck_assert(st.st_uid == 0 &&
		    (st.st_mode & (S_IWGRP | S_IWOTH)) == 0);
		ck_assert((dir = opendir(path)) != NULL);
		for (k = 0; (entry = readdir(dir)) != NULL;)
			k += strcmp(entry->d_name, ".") != 0 &&
			    strcmp(entry->d_name, "..") != 0;
		closedir(dir);
		ck_assert_int_eq(k, 0);
	}
	if (geteuid() != 0)
		fprintf(stderr, "check_faults: SKIPPED, not run as root: "
		    "users and root directories of children\n");
}
END_TEST

/* Its lock would outlive the master. */
START_TEST(no_child_holds_the_pidfile)
{
	pid_t pids[DAEMON_PROCESSES];
	char path[320], target[256];
	const struct dirent *entry;
	size_t i, n;
	ssize_t len;
	DIR *dir;

	start("-pidfile %s", file_named("held.pid"));
	n = daemon_children(dnsd.pid, NULL, pids);
	ck_assert_uint_eq(n, 7);
	for (i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pids[i]);
		ck_assert((dir = opendir(path)) != NULL);
		while ((entry = readdir(dir)) != NULL) {
			if (entry->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "/proc/%ld/fd/%s",
			    (long)pids[i], entry->d_name);
			len = readlink(path, target, sizeof(target) - 1);
			target[len > 0 ? len : 0] = '\0';
			ck_assert_msg(strstr(target, "held.pid") == NULL &&
			    strcmp(target, "/") != 0, "a child has %s open",
			    target);
		}
		closedir(dir);
	}
}
END_TEST

/*
 * What is tried: 0 or above means that it was possible.  Only calls that do
 * no harm when they succeed.
 */

static long
try_open(void)
{
	return (syscall(SYS_openat, AT_FDCWD, "/", O_RDONLY));
}

static long
try_create(void)
{
	return (syscall(SYS_openat, AT_FDCWD, "x", O_CREAT | O_WRONLY, 0600));
}

static long
try_stat(void)
{
	struct stat st;

	return (stat("/", &st));
}

static long
try_execve(void)
{
	char *const none[] = { NULL };

	return (syscall(SYS_execve, "/bin/true", none, none));
}

static long
try_execveat(void)
{
	char *const none[] = { NULL };

	return (syscall(SYS_execveat, AT_FDCWD, "/bin/true", none, none, 0));
}

static long
try_ptrace(void)
{
	return (ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

static long
try_ptrace_master(void)
{
	return (ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
}

static long
try_setuid(void)
{
	return (syscall(SYS_setuid, 0));
}

static long
try_setresuid(void)
{
	return (syscall(SYS_setresuid, 0, 0, 0));
}

static long
try_setgid(void)
{
	return (syscall(SYS_setgid, 0));
}

static long
try_fork(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return (pid);
}

static long
try_unix_socket(void)
{
	return (socket(AF_UNIX, SOCK_DGRAM, 0));
}

static long
try_netlink_socket(void)
{
	return (socket(AF_NETLINK, SOCK_RAW, 0));
}

static long
try_packet_socket(void)
{
	return (socket(AF_PACKET, SOCK_RAW, 0));
}

static long
try_socketpair(void)
{
	int fd[2];

	return (socketpair(AF_UNIX, SOCK_DGRAM, 0, fd));
}

static long
try_mmap_exec(void)
{
	return (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE |
	    MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0);
}

static long
try_mprotect_exec(void)
{
	void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE |
	    MAP_ANONYMOUS, -1, 0);

	return (at == MAP_FAILED ? -2 : mprotect(at, 4096, PROT_READ |
	    PROT_EXEC));
}

static long
try_kill_master(void)
{
	return (kill(getppid(), 0));
}

static long
try_tgkill_master(void)
{
	return (syscall(SYS_tgkill, getppid(), getppid(), 0));
}

static long
try_prctl(void)
{
	return (prctl(PR_SET_PDEATHSIG, 0));
}

static long
try_prlimit(void)
{
	struct rlimit limit;

	return (getrlimit(RLIMIT_NOFILE, &limit));
}

static long
try_unlink(void)
{
	return (unlink("no-such-file"));
}

static long
try_listen(void)
{
	return (listen(socket(AF_INET, SOCK_STREAM, 0), 1));
}

static long
try_ioctl(void)
{
	return (syscall(SYS_ioctl, STDERR_FILENO, 0x5401, NULL));
}

static long
try_memfd(void)
{
	return (syscall(SYS_memfd_create, "x", 0));
}

static long
try_process_vm_readv(void)
{
	return (syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0));
}

static long
try_unshare(void)
{
	return (syscall(SYS_unshare, 0));
}

static long
try_io_uring(void)
{
	return (syscall(425, 1, NULL));
}

#ifdef __x86_64__
/* The calls of the x32 ABI have the same architecture, and a bit more. */
static long
try_x32(void)
{
	return (syscall(0x40000000 + SYS_openat, AT_FDCWD, "/", O_RDONLY));
}

/* Those of 32-bit programs have other numbers: 20 is getpid, write here. */
static long
try_i386(void)
{
	long result;

	__asm__ volatile("int $0x80" : "=a" (result) : "0" (20L) : "memory",
	    "r8", "r9", "r10", "r11");
	return (result);
}
#endif

/* A kernel without such calls answers all of them with SIGSEGV. */
static bool
has_i386(void)
{
	bool has = false;
#ifdef __x86_64__
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	ck_assert_int_ne(pid, -1);
	if (pid == 0)
		_exit(try_i386() >= 0 ? EXIT_DONE : EXIT_OTHER);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	has = WIFEXITED(status);
#endif
	return (has);
}

static const struct attempt {
	const char	*name;
	long		(*act)(void);
} attempts[] = {
	{ "open", try_open },
	{ "create", try_create },
	{ "stat", try_stat },
	{ "execve", try_execve },
	{ "execveat", try_execveat },
	{ "ptrace", try_ptrace },
	{ "ptrace of the master", try_ptrace_master },
	{ "setuid", try_setuid },
	{ "setresuid", try_setresuid },
	{ "setgid", try_setgid },
	{ "fork", try_fork },
	{ "socket of AF_UNIX", try_unix_socket },
	{ "socket of AF_NETLINK", try_netlink_socket },
	{ "socket of AF_PACKET", try_packet_socket },
	{ "socketpair", try_socketpair },
	{ "mmap with PROT_EXEC", try_mmap_exec },
	{ "mprotect with PROT_EXEC", try_mprotect_exec },
	{ "kill", try_kill_master },
	{ "tgkill of another process", try_tgkill_master },
	{ "prctl", try_prctl },
	{ "getrlimit", try_prlimit },
	{ "unlink", try_unlink },
	{ "listen", try_listen },
	{ "ioctl", try_ioctl },
	{ "memfd_create", try_memfd },
	{ "process_vm_readv", try_process_vm_readv },
	{ "unshare", try_unshare },
	{ "io_uring_setup", try_io_uring },
#ifdef __x86_64__
	{ "openat of x32", try_x32 },
	{ "getpid of i386", try_i386 },
#endif
};

/* As the daemon's children do it, or by the list of calls alone. */
static void
confine(bool wholly)
{
	struct privileges privileges;

	if (wholly) {
		if (privileges_prepare(&privileges, "nobody",
		    file_named("confined"), false) != NULL)
			_exit(EXIT_SETUP);
		privileges_drop(&privileges, getppid());
	} else if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 ||
	    seccomp_confine() == -1)
		_exit(EXIT_SETUP);
}

/* Returns the status of a confined child that acts. */
static int
act_confined(bool wholly, long (*act)(void))
{
	int status;
	long result;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	ck_assert_int_ne(pid, -1);
	if (pid == 0) {
		confine(wholly);
		result = act();
		_exit(result >= 0 ? EXIT_DONE : errno == EPERM ? EXIT_REFUSED :
		    EXIT_OTHER);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return (status);
}

START_TEST(confined_child_can_do_nothing_else)
{
	const struct attempt *attempt = &attempts[_i];
	int status, wholly;

	if (strstr(attempt->name, "i386") != NULL && !has_i386()) {
		fprintf(stderr, "check_faults: SKIPPED, the kernel has no "
		    "%s\n", attempt->name);
		return;
	}
	for (wholly = 0; wholly < 2; wholly++) {
		status = act_confined(wholly, attempt->act);
		ck_assert_msg(!WIFEXITED(status) ||
		    WEXITSTATUS(status) != EXIT_SETUP, "it is not confined");
		ck_assert_msg((WIFSIGNALED(status) &&
		    WTERMSIG(status) == SIGSYS) || (WIFEXITED(status) &&
		    WEXITSTATUS(status) == EXIT_REFUSED),
		    "%s is %s (status %x)", attempt->name,
		    WIFEXITED(status) && WEXITSTATUS(status) == EXIT_DONE ?
		    "possible" : "not refused", status);
	}
}
END_TEST

/* A raw socket is one of the Internet, but an ordinary user gets none. */
static long
try_raw_socket(void)
{
	return (socket(AF_INET, SOCK_RAW, IPPROTO_UDP));
}

static long
write_a_file(void)
{
	static const char text[] = "x";

	/* Descriptor 9 is a file: see below. */
	signal(SIGXFSZ, SIG_IGN);
	return (write(9, text, 1) == 1 ? 0 : -1);
}

START_TEST(confined_child_gets_no_raw_socket_and_writes_no_file)
{
	int fd, status;

	status = act_confined(true, try_raw_socket);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), EXIT_REFUSED);
	fd = open(file_named("none-writes"), O_RDWR | O_CREAT | O_TRUNC,
	    0666);
	ck_assert_int_ne(fd, -1);
	ck_assert_int_eq(dup2(fd, 9), 9);
	status = act_confined(true, write_a_file);
	ck_assert_int_eq(lseek(fd, 0, SEEK_END), 0);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), EXIT_OTHER);
	close(9);
	close(fd);
}
END_TEST

/* Talk to oneself by UDP, wait, look at the clock, take memory. */
static long
do_what_is_allowed(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct timespec now, pause = { .tv_nsec = 1000 };
	socklen_t len = sizeof(sin);
	struct pollfd pfd;
	uint32_t random;
	sigset_t none;
	char *memory, byte;
	int fd;

	if ((fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
	    0)) == -1 || bind(fd, (struct sockaddr *)&sin, sizeof(sin)) == -1)
		return (-1);
	close(fd);
	if ((fd = socket(AF_INET, SOCK_DGRAM, 0)) == -1)
		return (-1);
	/* getsockname() isn't needed: a port is chosen. */
	do {
		sin.sin_port = htons(1024 + arc4random_uniform(64000));
	} while (bind(fd, (struct sockaddr *)&sin, len) == -1 &&
	    errno == EADDRINUSE);
	if (connect(fd, (struct sockaddr *)&sin, len) == -1 ||
	    send(fd, "x", 1, 0) != 1)
		return (-1);
	pfd = (struct pollfd){ .fd = fd, .events = POLLIN };
	if (poll(&pfd, 1, 1000) != 1 || recv(fd, &byte, 1, 0) != 1 ||
	    byte != 'x')
		return (-1);
	close(fd);
	sigemptyset(&none);
	if (sigprocmask(SIG_BLOCK, &none, NULL) == -1 ||
	    signal(SIGTERM, SIG_IGN) == SIG_ERR ||
	    clock_gettime(CLOCK_MONOTONIC, &now) == -1 ||
	    nanosleep(&pause, NULL) == -1)
		return (-1);
	arc4random_buf(&random, sizeof(random));
	memory = malloc(1 << 22);
	if (memory == NULL)
		return (-1);
	memset(memory, 1, 1 << 22);
	free(memory);
	return (0);
}

START_TEST(confined_child_can_do_its_work)
{
	int status, wholly;

	for (wholly = 0; wholly < 2; wholly++) {
		status = act_confined(wholly, do_what_is_allowed);
		ck_assert_msg(WIFEXITED(status) &&
		    WEXITSTATUS(status) == EXIT_DONE, "status %x", status);
	}
}
END_TEST

static long
abort_at_once(void)
{
	signal(SIGABRT, SIG_DFL);
	abort();
}

/* abort() is how libraries report what they find: it must be seen as such. */
START_TEST(confined_child_can_abort)
{
	int status = act_confined(true, abort_at_once);

	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGABRT);
}
END_TEST

#else

START_TEST(children_are_not_confined_in_this_build)
{
	fprintf(stderr, "check_faults: SKIPPED, not built in: what children "
	    "are confined to\n");
}
END_TEST

#endif

/*
 * The points at which a process can be made to die.  Each label of the source
 * is a row; see every_label_is_in_the_table.
 */

enum where {
	IN_LISTENER,
	IN_WORKER,
	IN_EITHER,
	IN_STREAM,
	BEFORE_ANY,		/* at the start of a process */
	IN_REBUILD		/* after another death; no daemon */
};

static const struct point {
	const char	*label;
	enum where	 where;
	const char	*rebuilt;	/* a counter that tells of it */
} points[] = {
	{ "client.wake", IN_LISTENER, NULL },
	{ "listener.batch", IN_LISTENER, NULL },
	{ "stream.mail", IN_STREAM, NULL },
	{ "cache.rebuild", IN_REBUILD, NULL },
	{ "cache.touch", IN_EITHER, "cache-rebuilds" },
	{ "cache.room", IN_WORKER, "cache-rebuilds" },
	{ "cache.linked", IN_WORKER, "cache-rebuilds" },
	{ "worker.started", BEFORE_ANY, NULL },
	{ "worker.answered", IN_WORKER, NULL },
	{ "worker.replied", IN_WORKER, NULL },
	{ "pending.rebuild", IN_REBUILD, NULL },
	{ "pending.published", IN_LISTENER, "pending-rebuilds" },
	{ "pending.taken", IN_WORKER, "pending-rebuilds" },
	{ "pending.freed", IN_WORKER, "pending-rebuilds" },
};

static bool
is_in_table(const char *label, size_t len)
{
	size_t i;

	for (i = 0; i < COUNT(points); i++)
		if (strlen(points[i].label) == len &&
		    strncmp(points[i].label, label, len) == 0)
			return (true);
	return (false);
}

/* Look at every file; the definition of FAULT() has no quotation mark. */
static unsigned
find_labels(const char *path, bool found[COUNT(points)])
{
	static char text[1 << 18];
	unsigned n = 0;
	size_t i, len;
	char *at = text;
	FILE *file;

	ck_assert_msg((file = fopen(path, "r")) != NULL, "%s", path);
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	while ((at = strstr(at, "FAULT(\"")) != NULL) {
		at += strlen("FAULT(\"");
		len = strcspn(at, "\"");
		ck_assert_msg(is_in_table(at, len), "%.*s is not in the table",
		    (int)len, at);
		for (i = 0; i < COUNT(points); i++)
			if (strlen(points[i].label) == len &&
			    strncmp(points[i].label, at, len) == 0)
				found[i] = true;
		n++;
	}
	return (n);
}

START_TEST(every_label_is_in_the_table)
{
	const char *srcdir = getenv("srcdir");
	bool found[COUNT(points)] = { false };
	const struct dirent *entry;
	char path[512];
	size_t i, len;
	unsigned n = 0;
	DIR *dir;

	if (srcdir == NULL) {
		fprintf(stderr, "check_faults: SKIPPED, srcdir is not set: "
		    "the comparison with the labels of the source\n");
		return;
	}
	snprintf(path, sizeof(path), "%s/src", srcdir);
	ck_assert_msg((dir = opendir(path)) != NULL, "%s", path);
	while ((entry = readdir(dir)) != NULL) {
		len = strlen(entry->d_name);
		if (len < 2 || strcmp(entry->d_name + len - 2, ".c") != 0)
			continue;
		snprintf(path, sizeof(path), "%s/src/%s", srcdir,
		    entry->d_name);
		n += find_labels(path, found);
	}
	closedir(dir);
	ck_assert_uint_gt(n, 0);
	for (i = 0; i < COUNT(points); i++)
		ck_assert_msg(found[i], "%s is no longer in the source",
		    points[i].label);
}
END_TEST

#ifdef FAULTS

static const char *const actions[] = { "kill", "stop", "segv" };
#define STRUCK_STOP	1

static void __attribute__((__format__(__printf__, 1, 2)))
set_fault(const char *fmt, ...)
{
	char text[64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	setenv("DNSD_FAULT", text, 1);
}

/* A little of everything, till the fault has struck and is healed. */
static void
strike(const struct point *point, size_t action)
{
	static const char *const said[] = { "died of signal 9",
	    "makes no progress", "died of signal 11" };
	/* Clients ask again after a second, once. */
	const struct load how = { .rate = 400, .miss_every = 3, .tries = 2,
	    .patience_ms = 900 };
	uint64_t end = now_ms() + DAEMON_PATIENCE_MS;
	struct load *load;
	char name[64];
	int i, tcp_failed = 0, tcp_lost = 0;
	bool struck = false;

	set_fault("%s:%s%s", point->label, actions[action],
	    point->where == BEFORE_ANY ? "" : ":60");
	if (point->where == IN_STREAM)
		set_fault("%s:%s:2", point->label, actions[action]);
	dnsd = (struct daemon){ 0 };
	ck_assert(daemon_start(&dnsd, "-upstreams %s -listeners 2 -workers 3",
	    up->text));
	unsetenv("DNSD_FAULT");
	load = load_start(&how);
	for (i = 0; !struck || i < 5; i++) {
		struck = count_logged(&dnsd, said[action]) > 0;
		ck_assert_msg(now_ms() < end, "it never came there");
		snprintf(name, sizeof(name), "tcp%d-%s-%s.test", i,
		    actions[action], point->label);
		/* Who loses the connection makes another. */
		if (tcp_ask(dnsd.port, name, 900) ||
		    tcp_ask(dnsd.port, name, 4000))
			continue;
		if (got.rcode == DNS_RCODE_SERVFAIL)
			tcp_failed++;
		else
			tcp_lost++;
	}
	load_go_on(load, 80);
	load_stop(load);
	snprintf(name, sizeof(name), "%s:%s", point->label, actions[action]);
	load_print(load, name);
	ck_assert_msg(load->wrong == 0, "%s: wrong answers", name);
	ck_assert_msg(load->lost == 0, "%s: %llu clients lost", name,
	    (unsigned long long)load->lost);
	ck_assert_msg(tcp_lost == 0, "%s: %d lost by TCP", name, tcp_lost);
	/* A fault condemns one question, which one client has asked. */
	ck_assert_msg(load->failed + tcp_failed <= (action == 2 ? 1 : 0),
	    "%s: %llu SERVFAIL", name, (unsigned long long)load->failed +
	    tcp_failed);
	/* The batch of a dead listener. */
	ck_assert_msg(load->again <= 32, "%s: %llu had to ask again", name,
	    (unsigned long long)load->again);
	if (point->rebuilt != NULL)
		ck_assert_msg(daemon_stat(&dnsd, NULL, point->rebuilt) >= 1,
		    "%s: no %s", name, point->rebuilt);
	dnsd.mark = 0;
	ck_assert_uint_eq(count_logged(&dnsd, "makes no progress"),
	    action == STRUCK_STOP);
	ck_assert_uint_eq(count_logged(&dnsd, " died of signal"),
	    action != STRUCK_STOP);
	/* Nothing stays behind. */
	ck_assert(daemon_stat_is(&dnsd, NULL, "asking", 0));
	ck_assert(daemon_stat_is(&dnsd, NULL, "queued", 0));
	ck_assert(daemon_stat_is(&dnsd, NULL, "waiting", 0));
	ask_truth("afterwards.test");
	ck_assert_int_eq(daemon_stop(&dnsd, SIGTERM, 7000), 0);
}

START_TEST(fault_at_a_point_loses_no_client)
{
	const struct point *point = &points[_i / COUNT(actions)];

	if (point->where != IN_REBUILD)
		strike(point, _i % COUNT(actions));
}
END_TEST

/* Hits don't feel it, and misses wait till it is killed, but are not lost. */
START_TEST(worker_that_stops_with_the_table_locked_costs_no_one_an_answer)
{
	const struct load how = { .rate = 4000, .miss_every = 4,
	    .patience_ms = 3000 };
	uint64_t end = now_ms() + DAEMON_PATIENCE_MS;
	struct load *load;
	char name[64];
	int tcp = 0, i;

	set_fault("%s:stop:400", _i == 0 ? "pending.taken" : "pending.freed");
	ck_assert(daemon_start(&dnsd, "-upstreams %s -listeners 2 -workers 3",
	    up->text));
	unsetenv("DNSD_FAULT");
	load = load_start(&how);
	for (i = 0; count_logged(&dnsd, "makes no progress") == 0; i++) {
		ck_assert_msg(now_ms() < end, "it never came there");
		snprintf(name, sizeof(name), "by-tcp-%d.test", i);
		tcp += !tcp_ask(dnsd.port, name, 4000);
	}
	load_go_on(load, 1000);
	load_stop(load);
	load_print(load, "the table is locked for a while");
	assert_nothing_lost(load);
	ck_assert_int_eq(tcp, 0);
	ck_assert_uint_eq(daemon_stat(&dnsd, NULL, "drop-busy"), 0);
	ck_assert_msg(load->slow_hits <= 20, "%llu slow hits",
	    (unsigned long long)load->slow_hits);
}
END_TEST

/* One that loops is as one that is stopped. */
START_TEST(who_loops_is_killed)
{
	static const char *const labels[] = { "listener.batch",
	    "worker.answered", "stream.mail" };
	struct query query = { .name = "a.test", .id = 7 };
	uint64_t end = now_ms() + 3000;
	bool came = false;
	int fd;

	set_fault("%s:loop", labels[_i]);
	ck_assert(daemon_start(&dnsd, "-upstreams %s -listeners 1 -workers 1",
	    up->text) || _i == 0);
	unsetenv("DNSD_FAULT");
	if (_i == 2) {
		tcp_ask(dnsd.port, "a.test", 1000);
		ck_assert(tcp_ask(dnsd.port, "b.test", 3000));
	}
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	while (!came) {
		ck_assert_msg(now_ms() < end, "no reply");
		client_send(fd, &query);
		came = client_receive(fd, &got, 1000);
	}
	ck_assert(is_true(&got, "a.test"));
	dnsd.mark = 0;
	ck_assert_uint_eq(count_logged(&dnsd, "makes no progress"), 1);
	close(fd);
}
END_TEST

START_TEST(question_that_kills_its_worker_kills_no_other)
{
	struct query query = { .name = "delay-100.innocent.test", .id = 7 };
	int fd;

	set_fault("worker.answered:segv");
	start("-workers 1");
	unsetenv("DNSD_FAULT");
	daemon_mark(&dnsd);
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	client_send(fd, &query);
	ask("victim.test");
	ck_assert_uint_eq(got.rcode, DNS_RCODE_SERVFAIL);
	ck_assert_uint_le(got.took_us, 2000000);
	ck_assert(client_receive(fd, &got, 3000));
	ck_assert_msg(is_true(&got, query.name), "others suffer from it");
	close(fd);
	ask("victim.test");
	ck_assert_uint_eq(got.rcode, DNS_RCODE_SERVFAIL);
	ask_truth("other.test");
	ck_assert_uint_eq(stub_asked(up, "victim.test", TYPE_A), 1);
	ck_assert_uint_eq(count_logged(&dnsd, "died of signal"), 1);
	/* Once, and the question in hex. */
	ck_assert_uint_eq(count_logged(&dnsd, "over victim.test. type 1 "
	    "(0676696374696d0474657374"), 1);
	ck_assert_uint_ge(daemon_stat(&dnsd, NULL, "servfail"), 1);
}
END_TEST

/* Each kills one, the master starts anew in place, and no list is lost. */
START_TEST(questions_that_kill_are_each_asked_once)
{
	char name[32];
	int i, k;

	set_fault("worker.answered:segv:0:always");
	start("-workers 4");
	daemon_mark(&dnsd);
	for (i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "victim%d.test", i);
		for (k = 0; k < 2; k++) {
			ask(name);
			ck_assert_uint_eq(got.rcode, DNS_RCODE_SERVFAIL);
		}
		ck_assert_uint_eq(stub_asked(up, name, TYPE_A), 1);
	}
	ck_assert(daemon_logged(&dnsd, "restarting in place",
	    DAEMON_PATIENCE_MS));
	ck_assert_uint_eq(count_logged(&dnsd, "restarting in place"), 1);
	ck_assert_uint_le(count_logged(&dnsd, "died of signal"), 6);
	ask("victim0.test");
	ck_assert_uint_eq(got.rcode, DNS_RCODE_SERVFAIL);
	ck_assert_uint_eq(stub_asked(up, "victim0.test", TYPE_A), 1);
	unsetenv("DNSD_FAULT");
}
END_TEST

/* A worker was killed over it, not by it; then one faults elsewhere. */
START_TEST(question_of_a_killed_worker_is_not_blamed_later)
{
	struct query query = { .name = "delay-300.a.test", .id = 7 };
	pid_t pids[DAEMON_PROCESSES];
	int fd;

	set_fault("worker.answered:kill");
	start("-workers 1");
	unsetenv("DNSD_FAULT");
	fd = client_open("127.0.0.1", "127.0.0.1", dnsd.port);
	client_send(fd, &query);
	wait_until_asked(up, query.name, 2);
	wait_for_children(dnsd.pid, "dnsd: worker", 1, pids);
	kill(pids[0], SIGSEGV);
	ck_assert(client_receive(fd, &got, 3000));
	ck_assert_msg(is_true(&got, query.name), "rcode %u", got.rcode);
	close(fd);
}
END_TEST

/* The first four workers run; whoever comes later dies, till the restart. */
START_TEST(hits_are_answered_while_all_workers_fault)
{
	pid_t pids[DAEMON_PROCESSES];
	int i;

	set_fault("worker.started:segv:4:always");
	start("-workers 4");
	ask_truth("hit.test");
	wait_for_children(dnsd.pid, "dnsd: worker", 4, pids);
	daemon_mark(&dnsd);
	for (i = 0; i < 4; i++)
		kill(pids[i], SIGKILL);
	for (i = 0; i < 200; i++)
		ask_truth("hit.test");
	/* The new image has four that run again. */
	ck_assert(daemon_logged(&dnsd, "restarting in place", 3000));
	ask_truth("new.test");
	ck_assert_uint_eq(stub_asked(up, "hit.test", TYPE_A), 1);
	unsetenv("DNSD_FAULT");
}
END_TEST

/*
 * Two deaths: one amid a change, the next of whoever makes it whole.  Both are
 * children here, so that each has a fault of its own.
 */
static struct cache *cache;
static struct pending *table;

static void
store_one(void)
{
	cache_store(cache, 1, (const uint8_t *)"key", 3, UINT64_MAX,
	    (const uint8_t *)"value", 5);
}

static void
join_one(void)
{
	static struct pending_waiter waiter = { .id = 1 };
	static _Atomic uint32_t wake;

	pending_join(table, 1, (const uint8_t *)"key", 3, &waiter, 1, &wake);
}

/* Returns a child that acts with a fault, when that has struck. */
static pid_t
act_with(const char *fault, void (*act)(void), int expected)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	ck_assert_int_ne(pid, -1);
	if (pid == 0) {
		setenv("DNSD_FAULT", fault, 1);
		fault_init();
		act();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
	if (expected == SIGSTOP)
		ck_assert_msg(WIFSTOPPED(status), "%s: not stopped", fault);
	else
		ck_assert_msg(WIFSIGNALED(status) &&
		    WTERMSIG(status) == expected, "%s: not struck", fault);
	return (pid);
}

START_TEST(death_of_who_rebuilds_is_made_good_by_the_next)
{
	static const int signals[] = { SIGKILL, SIGSTOP, SIGSEGV };
	struct pending_limits limits = { 1, 1, 8, 1 };
	struct cache_stats cached;
	struct pending_stats pended;
	char fault[64], buf[16];
	size_t i, len;
	pid_t pid;
	int fd;

	for (i = 0; i < COUNT(actions); i++) {
		cache = segment_map(cache_size(16, 0), &fd);
		close(fd);
		ck_assert_int_eq(cache_format(cache, 16, 0), 0);
		act_with("cache.linked:kill", store_one, SIGKILL);
		snprintf(fault, sizeof(fault), "cache.rebuild:%s",
		    actions[i]);
		pid = act_with(fault, store_one, signals[i]);
		if (signals[i] == SIGSTOP) {
			ck_assert_int_eq(cache_lookup(cache, 1,
			    (const uint8_t *)"key", 3, 1, (uint8_t *)buf,
			    sizeof(buf), &len), CACHE_BUSY);
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
		}
		ck_assert_int_eq(cache_lookup(cache, 1,
		    (const uint8_t *)"key", 3, 1, (uint8_t *)buf, sizeof(buf),
		    &len), CACHE_MISS);
		store_one();
		ck_assert_int_eq(cache_lookup(cache, 1,
		    (const uint8_t *)"key", 3, 1, (uint8_t *)buf, sizeof(buf),
		    &len), CACHE_HIT);
		cache_count(cache, &cached);
		ck_assert_uint_eq(cached.rebuilds, 1);
		ck_assert_int_eq(cache_check(cache), 0);

		table = segment_map(pending_size(&limits), &fd);
		close(fd);
		ck_assert_int_eq(pending_format(table, &limits), 0);
		act_with("pending.published:kill", join_one, SIGKILL);
		snprintf(fault, sizeof(fault), "pending.rebuild:%s",
		    actions[i]);
		pid = act_with(fault, join_one, signals[i]);
		if (signals[i] == SIGSTOP) {
			ck_assert_int_eq(pending_worker_start(table, 0), -1);
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
		}
		ck_assert_int_eq(pending_worker_start(table, 0), 0);
		ck_assert_int_eq(pending_check(table), 0);
		pending_count(table, &pended);
		ck_assert_uint_eq(pended.rebuilds, 1);
		/* It was published: it is asked. */
		ck_assert_uint_eq(pended.queued, 1);
		ck_assert_uint_eq(pended.waiters, 1);
	}
}
END_TEST

/*
 * A daemon whose workers all fault at once, each time.  It is started before
 * the tests, and looked at when they are done.
 */
#define FAULTING_WORKERS	16
#define FAULTING_FOR_MS		12500

static struct daemon faulting;
static struct stub *faulting_up;
static uint64_t faulting_since_ms;

static void
start_faulting(void)
{
	set_fault("worker.started:segv:0:always");
	faulting_up = stub_start("127.0.0.1", 0);
	if (faulting_up == NULL || !daemon_start(&faulting,
	    "-upstreams %s -listeners 2 -workers %d", faulting_up->text,
	    FAULTING_WORKERS))
		faulting.pid = 0;
	faulting_since_ms = now_ms();
	unsetenv("DNSD_FAULT");
}

static void
stop_faulting(void)
{
	daemon_stop(&faulting, SIGTERM, 3000);
	stub_stop(faulting_up);
}

/* What a process and those of its children that died have used. */
static uint64_t
ticks_of_all(pid_t pid)
{
	unsigned long u = 0, s = 0, cu = 0, cs = 0;
	char path[64], text[1024];
	const char *at;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	if ((file = fopen(path, "r")) == NULL)
		return (0);
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	if ((at = strrchr(text, ')')) == NULL || sscanf(at + 1, " %*c %*d %*d "
	    "%*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %lu %lu", &u, &s, &cu,
	    &cs) != 4)
		return (0);
	return (u + s + cu + cs);
}

START_TEST(daemon_whose_workers_all_fault_stays_and_is_quiet)
{
	struct query query = { .name = "a.test", .class = CLASS_CH };
	uint64_t begin, ticks, took;
	unsigned lines, allowed;

	ck_assert_msg(faulting.pid != 0, "it does not start");
	while (now_ms() < faulting_since_ms + FAULTING_FOR_MS)
		poll(NULL, 0, 50);
	faulting.mark = 0;
	lines = count_logged(&faulting, "\n");
	took = now_ms() - faulting_since_ms;
	allowed = 10 + 3 * (took / 10000);
	printf("all workers fault: %u lines in %llu ms\n", lines,
	    (unsigned long long)took);
	ck_assert_msg(!daemon_gone(faulting.pid), "it has given up");
	ck_assert(daemon_ask(&faulting, &query, &got));
	ck_assert_uint_eq(got.rcode, DNS_RCODE_REFUSED);
	begin = now_ms();
	ticks = ticks_of_all(faulting.pid);
	while (now_ms() < begin + 1500)
		poll(NULL, 0, 100);
	ticks = ticks_of_all(faulting.pid) - ticks;
	printf("all workers fault: %llu ticks of processor time in 1.5 s\n",
	    (unsigned long long)ticks);
	ck_assert_uint_le(ticks, 4);
	ck_assert_msg(lines <= allowed, "%u lines, not %u", lines, allowed);
}
END_TEST

#else

START_TEST(points_for_faults_are_not_in_this_build)
{
	fprintf(stderr, "check_faults: SKIPPED, not built with "
	    "--enable-faults: deaths at chosen points\n");
}
END_TEST

#endif

/*
 * The suite.
 */

static TCase *
new_case(Suite *suite, const char *name)
{
	TCase *tcase = tcase_create(name);

	tcase_set_timeout(tcase, 30);
	tcase_add_checked_fixture(tcase, set_up, tear_down);
	suite_add_tcase(suite, tcase);
	return (tcase);
}

static void
add_life(Suite *suite)
{
	TCase *tcase;

	tcase = new_case(suite, "deaths");
	tcase_add_test(tcase, stopped_idle_worker_is_replaced_in_400_ms);
	tcase_add_test(tcase,
	    stopped_asking_worker_is_replaced_and_its_question_asked_again);
	tcase_add_test(tcase, stopped_listener_is_replaced_in_400_ms);
	tcase_add_test(tcase,
	    hits_go_on_beside_a_stopped_listener_and_none_is_lost);
	tcase_add_test(tcase, who_goes_on_in_time_is_left_alone);
	tcase_add_test(tcase, stopped_stream_is_replaced_in_400_ms);
	tcase_add_test(tcase, connections_to_a_stopped_stream_are_served);
	tcase_add_test(tcase,
	    killed_asking_worker_has_its_question_asked_again);
	tcase_add_test(tcase, worker_that_faults_while_idle_is_replaced);
	tcase_add_test(tcase,
	    worker_that_faults_while_it_waits_blames_no_question);
	tcase_add_test(tcase,
	    all_128_children_killed_at_once_run_again_within_a_second);
	tcase_add_test(tcase, master_of_128_idle_children_takes_little_time);

	tcase = new_case(suite, "restart");
	tcase_add_test(tcase, restart_keeps_pid_cache_sockets_and_counters);
	tcase_add_test(tcase, ten_restarts_under_load_lose_nothing);
	tcase_add_test(tcase,
	    restarts_with_other_numbers_of_workers_lose_nothing);
	tcase_add_test(tcase, restart_makes_changed_options_take_effect);
	tcase_add_test(tcase,
	    restart_makes_a_changed_log_level_take_effect);
	tcase_add_test(tcase,
	    restart_with_another_layout_carries_the_answers_over);
	tcase_add_test(tcase, restart_with_a_wrong_file_changes_nothing);
	tcase_add_test(tcase,
	    file_that_is_spoilt_during_a_restart_does_no_harm);
	tcase_add_test(tcase, restart_with_a_broken_program_changes_nothing);
	tcase_add_test(tcase, question_in_hand_is_answered_over_a_restart);
	tcase_add_test(tcase,
	    question_that_nobody_answers_ends_in_time_over_restarts);
	tcase_add_test(tcase,
	    tcp_is_served_while_an_old_connection_is_finished);
	tcase_add_test(tcase,
	    misses_are_answered_while_every_old_worker_finishes);
	tcase_add_test(tcase, twenty_restarts_leave_nothing_behind);
	tcase_add_test(tcase,
	    second_hangup_during_the_first_ones_drain_is_done_too);
	tcase_add_test(tcase, hangups_in_a_volley_and_one_to_end_are_done);

	tcase = new_case(suite, "end");
	tcase_add_test(tcase, end_under_load_answers_what_was_accepted);
	tcase_add_test(tcase,
	    master_killed_twenty_times_leaves_nothing_and_starts_again);
}

static void
add_confinement(Suite *suite)
{
	TCase *tcase = new_case(suite, "confinement");

#ifdef CONFINED
	tcase_add_test(tcase, child_has_no_mailboxes_but_those_it_needs);
	tcase_add_test(tcase, every_kind_of_child_is_confined);
	tcase_add_test(tcase, no_child_holds_the_pidfile);
	tcase = tcase_create("calls");
	suite_add_tcase(suite, tcase);
	tcase_add_loop_test(tcase, confined_child_can_do_nothing_else, 0,
	    COUNT(attempts));
	tcase_add_test(tcase,
	    confined_child_gets_no_raw_socket_and_writes_no_file);
	tcase_add_test(tcase, confined_child_can_do_its_work);
	tcase_add_test(tcase, confined_child_can_abort);
#else
	tcase_add_test(tcase, children_are_not_confined_in_this_build);
#endif
}

static void
add_points(Suite *suite)
{
	TCase *tcase = new_case(suite, "points");

	tcase_add_test(tcase, every_label_is_in_the_table);
#ifdef FAULTS
	tcase_add_loop_test(tcase, fault_at_a_point_loses_no_client, 0,
	    COUNT(points) * COUNT(actions));
	tcase_add_loop_test(tcase,
	    worker_that_stops_with_the_table_locked_costs_no_one_an_answer, 0,
	    2);
	tcase_add_loop_test(tcase, who_loops_is_killed, 0, 3);
	tcase_add_test(tcase, question_that_kills_its_worker_kills_no_other);
	tcase_add_test(tcase, questions_that_kill_are_each_asked_once);
	tcase_add_test(tcase,
	    question_of_a_killed_worker_is_not_blamed_later);
	tcase_add_test(tcase, hits_are_answered_while_all_workers_fault);
	tcase_add_test(tcase,
	    death_of_who_rebuilds_is_made_good_by_the_next);
	tcase_add_test(tcase,
	    daemon_whose_workers_all_fault_stays_and_is_quiet);
#else
	tcase_add_test(tcase, points_for_faults_are_not_in_this_build);
#endif
}

int
main(void)
{
	Suite *suite = suite_create("faults");
	SRunner *runner;
	int failed;

	add_life(suite);
	add_confinement(suite);
	add_points(suite);
	runner = srunner_create(suite);
	daemon_dir_make();
#ifdef FAULTS
	start_faulting();
#endif
	srunner_set_fork_status(runner, CK_FORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
#ifdef FAULTS
	stop_faulting();
#endif
	daemon_dir_remove();
	return (failed == 0 ? 0 : 1);
}
