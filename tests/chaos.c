/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Bad luck, on purpose: dnsd under load while its processes are killed,
 * stopped and restarted, its upstreams fall silent and its system calls fail.
 * Every reply is checked for truth against an oracle upstream (oracle.c) by a
 * client that believes nothing (load.c).
 *
 *	chaos [-seed n] [-seconds n] [-rate n] [-rows T1,T5]
 *
 * A row is a daemon of its own, one kind of bad luck, and gates: figures with
 * a bound.  All the luck comes from the seed, so that the same seed does the
 * same again, as far as the scheduler lets it.  Each row is bounded in time;
 * whatever happens to this program, all that it started dies with it.
 *
 * Whether a gate on time is met depends on the machine too: client, oracle
 * and daemon share it.  So each row that has one measures the same load
 * without bad luck first, and the rate is lowered till the machine bears it.
 */

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <netinet/in.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "dns.h"
#include "load.h"
#include "oracle.h"
#include "stub.h"

#define SECONDS		240		/* of a whole run, about */
#define RATE		20000		/* queries/s, if the machine can */
#define RATE_MIN	1000
#define HOT		2000		/* names */
#define WORKERS		32
#define TIMEOUT_MS	2000		/* dnsd's own */
#define BATCH		32		/* datagrams in a listener's hands */
#define ANY_IMBALANCE	UINT64_MAX
#define MEMORY_KB	8192		/* so much growth is no leak */
#define TEXT		8192

struct row {
	const char	*id;
	const char	*title;
	void		(*run)(void);
};

/* What all the processes of a daemon hold. */
struct usage {
	size_t		 processes;
	uint64_t	 fds;
	uint64_t	 kb;		/* of their own memory */
};

/* Counters of the daemon's, as its log has them. */
struct stats {
	uint64_t	 queries, replies, drops, kernel_drops, hits;
	uint64_t	 cache_rebuilds, pending_rebuilds;
	uint64_t	 waiting;	/* and asking and queued */
};

static struct daemon	 daemon_;
static uint16_t		 port;
static struct oracle	*oracle, *second;
static struct load	*load;
static uint64_t		 seed, luck;
static unsigned		 seconds = SECONDS, rate = RATE;
static struct usage	 at_first;
static char		 config[256], pidfile[256];
static volatile sig_atomic_t interrupted;

/* The row that runs. */
static char		 report[TEXT];
static unsigned		 gates, gates_failed;
static bool		 skipped, died;
static uint64_t		 kills, listener_kills;
static uint64_t		 tcp_asked, tcp_retried, tcp_lost, tcp_wrong;

static void	row_t1(void);
static void	row_t5(void);
static void	row_t6(void);
static void	row_t8(void);
static void	row_t10(void);
static void	row_t11(void);
static void	row_t12(void);
static void	row_t16(void);
static void	row_t17(void);
static void	row_t18(void);
static void	row_t19(void);
static void	row_all(void);

static const struct row rows[] = {
	{ "T1", "processes killed every 20 ms", row_t1 },
	{ "T5", "a quarter of the workers and a listener stopped", row_t5 },
	{ "T6", "system calls fail", row_t6 },
	{ "T8", "the master killed, and started again", row_t8 },
	{ "T10", "SIGTERM under load", row_t10 },
	{ "T11", "SIGHUP every 100 ms, every other one in vain", row_t11 },
	{ "T12", "restarts in place under load", row_t12 },
	{ "T16", "all upstream is silent", row_t16 },
	{ "T17", "the first upstream dead, the second slow", row_t17 },
	{ "T18", "water torture", row_t18 },
	{ "T19", "overload", row_t19 },
	{ "ALL", "everything together", row_all },
};
#define ROWS	(sizeof(rows) / sizeof(rows[0]))

static bool	read_arguments(int, char **, const char **);
static bool	is_chosen(const char *, const char *);
static bool	run_row(const struct row *);
static void	calibrate(void);
static void	interrupt(int);
static void	say(const char *, ...)
		    __attribute__((__format__(__printf__, 1, 2)));
static bool	gate(const char *, double, const char *, char, double);
static bool	begin(const char *, const char *, ...)
		    __attribute__((__format__(__printf__, 2, 3)));
static void	write_config(const char *, ...)
		    __attribute__((__format__(__printf__, 1, 2)));
static void	write_config_args(const char *, va_list)
		    __attribute__((__format__(__printf__, 1, 0)));
static void	warm(void);
static void	finish(uint64_t);
static void	end_daemon(unsigned);
static void	mix(unsigned, unsigned, unsigned, unsigned, unsigned,
		    unsigned);
static void	run_load(unsigned, unsigned);
static void	gate_load(const char *);
static uint64_t	lost(void);
static uint64_t	retried(void);
static uint64_t	servfails(void);
static double	hit_ms(unsigned);
static double	bound_of(const double *, double);
static double	median(const double *);
static void	take_stats(struct stats *, bool);
static void	say_books(void);
static void	say_drops(void);
static uint64_t	last_stat(const char *, const char *);
static unsigned	count_logged(const char *);
static void	say_last_words(void);
static char	*read_log(void);
static void	measure(struct usage *);
static void	measure_process(struct usage *, pid_t);
static pid_t	pick(const char *);
static void	kill_one(const char *);
static void	kill_some(unsigned);
static void	ask_tcp(void);
static int	ask_tcp_once(const uint8_t *, size_t);
static bool	exchange_tcp(int, const uint8_t *, size_t, uint8_t *, size_t *);
static bool	restart(const char *);
static bool	copy(const char *, const char *);
static bool	write_file(const char *, const char *);
static void	pause_ms(unsigned);
static unsigned	scaled(unsigned);
static bool	over(uint64_t);
static uint64_t	after_ms(unsigned);

int
main(int argc, char **argv)
{
	const char *chosen = "";
	unsigned passed = 0, failed = 0, left_out = 0;
	size_t i;

	seed = arc4random();
	if (!read_arguments(argc, argv, &chosen)) {
		fprintf(stderr, "usage: chaos [-seed n] [-seconds n] "
		    "[-rate n] [-rows T1,T5,...]\n");
		return (2);
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGINT, interrupt);
	signal(SIGTERM, interrupt);
	signal(SIGHUP, interrupt);
	signal(SIGPIPE, SIG_IGN);
	alarm(3 * seconds + 300);
	luck = seed;
	daemon_dir_make();
	snprintf(config, sizeof(config), "%s/dnsd.conf", daemon_dir());
	snprintf(pidfile, sizeof(pidfile), "%s/chaos.pid", daemon_dir());
	port = daemon_free_port();
	oracle = oracle_start(seed);
	second = oracle_start(seed);
	load = oracle == NULL ? NULL : load_new(oracle);
	if (load == NULL || second == NULL) {
		perror("chaos");
		return (1);
	}
	load->port = port;
	load->hot = HOT;
	load->seed = seed;
	printf("seed %llu, about %u s\n", (unsigned long long)seed, seconds);
	calibrate();
	for (i = 0; i < ROWS && !interrupted; i++) {
		if (!is_chosen(chosen, rows[i].id))
			continue;
		if (run_row(&rows[i]))
			passed++;
		else if (skipped)
			left_out++;
		else
			failed++;
	}
	oracle_stop(oracle);
	oracle_stop(second);
	daemon_dir_remove();
	if (interrupted)
		printf("interrupted\n");
	if (left_out != 0)
		printf("%u SKIPPED\n", left_out);
	printf("%u passed, %u failed\n", passed, failed);
	return (failed != 0 || passed == 0 || interrupted);
}

/* An empty value stands for the default. */
static bool
read_arguments(int argc, char **argv, const char **chosen)
{
	int i;

	for (i = 1; i < argc; i += 2) {
		if (i + 1 == argc)
			return (false);
		if (strcmp(argv[i], "-rows") == 0)
			*chosen = argv[i + 1];
		else if (strcmp(argv[i], "-seed") == 0) {
			if (argv[i + 1][0] != '\0')
				seed = strtoull(argv[i + 1], NULL, 10);
		} else if (strcmp(argv[i], "-rate") == 0) {
			if (argv[i + 1][0] != '\0')
				rate = strtoul(argv[i + 1], NULL, 10);
		} else if (strcmp(argv[i], "-seconds") == 0) {
			if (argv[i + 1][0] != '\0')
				seconds = strtoul(argv[i + 1], NULL, 10);
		} else
			return (false);
	}
	return (seconds > 0 && seconds <= 86400 && rate > 0);
}

static bool
is_chosen(const char *chosen, const char *id)
{
	size_t len = strlen(id);
	const char *at = chosen;

	if (*chosen == '\0')
		return (true);
	while (*at != '\0') {
		if (strncasecmp(at, id, len) == 0 &&
		    (at[len] == ',' || at[len] == '\0'))
			return (true);
		at += strcspn(at, ",");
		at += *at == ',';
	}
	return (false);
}

static bool
run_row(const struct row *row)
{
	uint64_t start_us = stub_now_us();
	bool passed;

	report[0] = '\0';
	gates = gates_failed = 0;
	skipped = died = false;
	kills = listener_kills = 0;
	tcp_asked = tcp_retried = tcp_lost = tcp_wrong = 0;
	oracle->silent = second->silent = 0;
	oracle->delay_ms = second->delay_ms = 0;
	row->run();
	died |= daemon_.pid != 0 && daemon_gone(daemon_.pid);
	if (daemon_.pid != 0)
		daemon_stop(&daemon_, SIGKILL, TIMEOUT_MS);
	if (died)
		say_last_words();
	passed = gates_failed == 0 && gates > 0 && !interrupted;
	printf("%s %s: %s, %.1f s\n%s", row->id, skipped ? "SKIPPED" :
	    passed ? "pass" : "FAIL", row->title,
	    (stub_now_us() - start_us) / 1e6, report);
	return (passed);
}

/* Lower the rate till hits at that rate get through. */
static void
calibrate(void)
{
	if (!begin("", "%s", ""))
		exit(1);
	mix(800, 200, 0, 0, 0, 0);
	for (;;) {
		run_load(rate, 1500);
		if ((retried() == 0 && lost() == 0 && hit_ms(500) < 1 &&
		    load->packets * 1e6 / load->took_us > rate * 0.95) ||
		    rate / 2 < RATE_MIN)
			break;
		rate /= 2;
	}
	printf("%u queries/s; undisturbed, hits within %.2f ms (50 %%), "
	    "%.2f ms (99 %%)\n", rate, hit_ms(500), hit_ms(990));
	daemon_stop(&daemon_, SIGTERM, 2 * TIMEOUT_MS);
}

static void
interrupt(int signo)
{
	(void)signo;
	interrupted = 1;
}

/* Add to the row's report. */
static void
say(const char *format, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	strlcat(report, "    ", sizeof(report));
	strlcat(report, line, sizeof(report));
	strlcat(report, "\n", sizeof(report));
}

/* A figure and its bound: '<' at most, '>' at least, '=' exactly. */
static bool
gate(const char *what, double measured, const char *unit, char kind,
    double bound)
{
	bool met = kind == '<' ? measured <= bound :
	    kind == '>' ? measured >= bound : measured == bound;

	gates++;
	gates_failed += !met;
	say("%s%s: %.10g%s (%s%.10g)", met ? "" : "FAIL ", what, measured,
	    unit, kind == '<' ? "<= " : kind == '>' ? ">= " : "", bound);
	return (met);
}

/* Start a daemon with further lines of configuration, and warm it. */
static bool
begin(const char *options, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	write_config_args(format, ap);
	va_end(ap);
	memset(&daemon_, 0, sizeof(daemon_));
	daemon_.port = port;
	if (!daemon_start(&daemon_, "-listen 127.0.0.1:%u -config %s "
	    "-pidfile %s %s", port, config, pidfile, options)) {
		gate("starts", 0, "", '=', 1);
		return (false);
	}
	if (!daemon_logged(&daemon_, " serves ", DAEMON_PATIENCE_MS))
		say("not all processes run");
	warm();
	measure(&at_first);
	return (true);
}

static void
write_config(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	write_config_args(format, ap);
	va_end(ap);
}

/* What is not in format has the values that most rows share. */
static void
write_config_args(const char *format, va_list ap)
{
	char text[2048], temporary[300];
	size_t len;

	len = vsnprintf(text, sizeof(text), format, ap);
	if (strstr(text, "upstreams") == NULL)
		len += snprintf(text + len, sizeof(text) - len,
		    "upstreams 127.0.0.1:%u\n", oracle->port);
	if (strstr(text, "timeout") == NULL)
		len += snprintf(text + len, sizeof(text) - len,
		    "timeout %ums\n", TIMEOUT_MS);
	if (strstr(text, "workers") == NULL)
		len += snprintf(text + len, sizeof(text) - len,
		    "workers %u\n", WORKERS);
	if (strstr(text, "cache-size") == NULL)
		snprintf(text + len, sizeof(text) - len,
		    "cache-size 50000\n");
	snprintf(temporary, sizeof(temporary), "%s.new", config);
	if (!write_file(temporary, text) || rename(temporary, config) == -1)
		perror(config);
}

/* Every hot name into the cache. */
static void
warm(void)
{
	load->in_turn = true;
	load->rate = 4000;
	load_begin(load);
	waitpid(load->pid, NULL, 0);
	load->in_turn = false;
	if (load->kind[ORACLE_HOT].answered != HOT || load->wrong != 0)
		say("only %llu of %u hot names answered",
		    (unsigned long long)load->kind[ORACLE_HOT].answered, HOT);
}

/*
 * What holds at the end of every row: nothing waits, all that was held is
 * given back, the daemon ends in order, and its books balance, but for what
 * was in the hands of those that were killed.
 */
static void
finish(uint64_t imbalance_max)
{
	uint64_t end_us = after_ms(3 * TIMEOUT_MS);
	struct usage now;
	struct stats stats;
	int64_t imbalance;

	do {
		pause_ms(50);
		measure(&now);
		take_stats(&stats, true);
	} while ((stats.waiting != 0 || now.fds != at_first.fds ||
	    now.processes != at_first.processes) && stub_now_us() < end_us &&
	    !interrupted);
	gate("questions that still wait", stats.waiting, "", '=', 0);
	gate("processes", now.processes, "", '=', at_first.processes);
	gate("descriptors", now.fds, "", '=', at_first.fds);
	gate("memory growth", now.kb > at_first.kb ? now.kb - at_first.kb : 0,
	    " KB", '<', MEMORY_KB);
	say("locks rebuilt: cache %llu, pending %llu",
	    (unsigned long long)stats.cache_rebuilds,
	    (unsigned long long)stats.pending_rebuilds);
	end_daemon(TIMEOUT_MS + 1000);
	take_stats(&stats, false);
	imbalance = stats.queries - stats.replies - stats.drops;
	if (imbalance_max == ANY_IMBALANCE)
		return;
	say("queries %llu, replies %llu, drops %llu, of the kernel %llu",
	    (unsigned long long)stats.queries,
	    (unsigned long long)stats.replies,
	    (unsigned long long)stats.drops,
	    (unsigned long long)stats.kernel_drops);
	if (stats.drops != 0)
		say_drops();
	gate("queries unaccounted for", imbalance < 0 ? -imbalance :
	    imbalance, "", '<', imbalance_max);
}

/* SIGTERM: exit status 0 in time, and no process stays. */
static void
end_daemon(unsigned within_ms)
{
	pid_t pids[DAEMON_PROCESSES];
	size_t n, i, left = 0;
	uint64_t start_us;
	int status;

	if (daemon_.pid == 0)
		return;
	n = daemon_children(daemon_.pid, NULL, pids);
	daemon_mark(&daemon_);
	start_us = stub_now_us();
	status = daemon_stop(&daemon_, SIGTERM, 4 * within_ms);
	died = !gate("exit status", status, "", '=', 0);
	if (died)
		daemon_print_log(&daemon_);
	gate("time to stop", (stub_now_us() - start_us) / 1000, " ms", '<',
	    within_ms);
	for (i = 0; i < n; i++)
		left += !daemon_gone(pids[i]);
	gate("processes left", left, "", '=', 0);
}

/* Shares of 1000 for each kind of name. */
static void
mix(unsigned hot, unsigned fresh, unsigned slow, unsigned fail,
    unsigned silent, unsigned victim)
{
	load->share[ORACLE_HOT] = hot;
	load->share[ORACLE_NEW] = fresh;
	load->share[ORACLE_SLOW] = slow;
	load->share[ORACLE_FAIL] = fail;
	load->share[ORACLE_SILENT] = silent;
	load->share[ORACLE_VICTIM] = victim;
}

static void
run_load(unsigned queries, unsigned ms)
{
	load->rate = queries;
	load_begin(load);
	pause_ms(ms);
	load_end(load);
}

/* What holds for every load that all is well with at last. */
static void
gate_load(const char *name)
{
	static const char *const kinds[ORACLE_KINDS] = { "hot names",
	    "new names", "slow names", "failing names", "silent names",
	    "a victim's names" };
	const struct load_kind *kind;
	int i;

	say("%s: %llu packets, %.0f/s; hits within %.2f ms (50 %%), "
	    "%.2f ms (99 %%), %.0f ms (all)", name,
	    (unsigned long long)load->packets,
	    load->took_us == 0 ? 0 : load->packets * 1e6 / load->took_us,
	    hit_ms(500), hit_ms(990),
	    load->kind[ORACLE_HOT].max_us / 1000.0);
	for (i = 0; i < ORACLE_KINDS; i++) {
		kind = &load->kind[i];
		if (i != ORACLE_SILENT && kind->retried + kind->lost != 0)
			say("%s: %llu asked, %llu asked again, %llu SERVFAIL, "
			    "%llu lost", kinds[i],
			    (unsigned long long)kind->sent,
			    (unsigned long long)kind->retried,
			    (unsigned long long)kind->servfail,
			    (unsigned long long)kind->lost);
	}
	gate("wrong answers", load->wrong, "", '=', 0);
	gate("SERVFAIL for live names", servfails(), "", '=', 0);
	gate("lost after a retry", lost(), "", '=', 0);
	if (load->stall_us > 100000)
		say("the client itself had no CPU for %llu ms",
		    (unsigned long long)load->stall_us / 1000);
	gate("longest time without any reply", load->gap_us / 1000, " ms",
	    '<', 1000);
}

static uint64_t
lost(void)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < ORACLE_KINDS; i++)
		sum += i == ORACLE_SILENT ? 0 : load->kind[i].lost;
	return (sum);
}

static uint64_t
retried(void)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < ORACLE_KINDS; i++)
		sum += i == ORACLE_SILENT ? 0 : load->kind[i].retried;
	return (sum);
}

/* A victim's names are to get it when every worker is full. */
static uint64_t
servfails(void)
{
	return (load->kind[ORACLE_HOT].servfail +
	    load->kind[ORACLE_NEW].servfail +
	    load->kind[ORACLE_SLOW].servfail);
}

static double
hit_ms(unsigned per_mille)
{
	return (load_within_us(load, ORACLE_HOT, per_mille) / 1000.0);
}

/* Ask for the counters, or read those of the daemon's last words. */
static void
take_stats(struct stats *stats, bool ask)
{
	char *log;

	memset(stats, 0, sizeof(*stats));
	if (ask && daemon_.pid != 0) {
		daemon_mark(&daemon_);
		kill(daemon_.pid, SIGUSR1);
	}
	if (!daemon_logged(&daemon_, "pending-rebuilds=", 2000))
		return;
	log = read_log();
	stats->queries = last_stat(log, "queries");
	stats->replies = last_stat(log, "replies");
	stats->drops = last_stat(log, "drops");
	stats->kernel_drops = last_stat(log, "kernel-drops");
	stats->hits = last_stat(log, "hits");
	stats->cache_rebuilds = last_stat(log, "cache-rebuilds");
	stats->pending_rebuilds = last_stat(log, "pending-rebuilds");
	stats->waiting = last_stat(log, "asking") + last_stat(log, "queued") +
	    last_stat(log, "waiting");
	free(log);
}

/* Whether the daemon's books agree with the load's, amid a row. */
static void
say_books(void)
{
	struct stats stats;

	take_stats(&stats, true);
	say("so far: queries %llu, replies %llu, drops %llu, of the kernel "
	    "%llu", (unsigned long long)stats.queries,
	    (unsigned long long)stats.replies,
	    (unsigned long long)stats.drops,
	    (unsigned long long)stats.kernel_drops);
	if (stats.drops != 0)
		say_drops();
	gate("queries unaccounted for so far", (double)stats.queries -
	    stats.replies - stats.drops, "", '=', 0);
}

/* Why what was dropped was. */
static void
say_drops(void)
{
	static const char *const reasons[] = { "malformed", "port", "denied",
	    "queue", "stale", "duplicate", "busy", "write", "gone" };
	char *log = read_log(), text[256] = "drops:", name[32], one[64];
	uint64_t value;
	size_t i;

	for (i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		snprintf(name, sizeof(name), "drop-%s", reasons[i]);
		value = last_stat(log, name);
		if (value == 0)
			continue;
		snprintf(one, sizeof(one), " %s %llu", reasons[i],
		    (unsigned long long)value);
		strlcat(text, one, sizeof(text));
	}
	free(log);
	say("%s", text);
}

/* Of the whole daemon, not of an upstream. */
static uint64_t
last_stat(const char *log, const char *name)
{
	char token[64];
	const char *line, *end, *at;
	uint64_t value = 0;

	snprintf(token, sizeof(token), " %s=", name);
	for (line = log; (end = strchr(line, '\n')) != NULL; line = end + 1) {
		at = strstr(line, "stats: ");
		if (at == NULL || at > end || strncmp(at, "stats: upstream",
		    15) == 0)
			continue;
		at = strstr(at, token);
		if (at != NULL && at < end)
			value = strtoull(at + strlen(token), NULL, 10);
	}
	return (value);
}

static unsigned
count_logged(const char *text)
{
	char *log = read_log();
	const char *at;
	unsigned n = 0;

	for (at = log; (at = strstr(at, text)) != NULL; at++)
		n++;
	free(log);
	return (n);
}

/* The end of the log of a daemon that should not have ended. */
static void
say_last_words(void)
{
	char *log, *line, *last;
	size_t len;

	daemon_.mark = 0;
	log = read_log();
	len = strlen(log);
	line = log + (len > 600 ? len - 600 : 0);
	for (line = strtok_r(line, "\n", &last); line != NULL;
	    line = strtok_r(NULL, "\n", &last))
		say("| %s", line);
	free(log);
}

/* What was logged since the mark, to be freed. */
static char *
read_log(void)
{
	struct stat st;
	off_t size = 0;
	char *text;
	ssize_t n;

	if (fstat(daemon_.log, &st) == 0 && st.st_size > daemon_.mark)
		size = st.st_size - daemon_.mark;
	if ((text = malloc(size + 1)) == NULL)
		exit(1);
	n = pread(daemon_.log, text, size, daemon_.mark);
	text[n > 0 ? n : 0] = '\0';
	return (text);
}

static void
measure(struct usage *usage)
{
	pid_t pids[DAEMON_PROCESSES];
	size_t i, n;

	memset(usage, 0, sizeof(*usage));
	n = daemon_children(daemon_.pid, NULL, pids);
	measure_process(usage, daemon_.pid);
	for (i = 0; i < n; i++)
		measure_process(usage, pids[i]);
}

static void
measure_process(struct usage *usage, pid_t pid)
{
	char path[64], line[256];
	struct dirent *entry;
	unsigned long kb;
	FILE *file;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pid);
	if ((dir = opendir(path)) == NULL)
		return;
	usage->processes++;
	while ((entry = readdir(dir)) != NULL)
		usage->fds += entry->d_name[0] != '.';
	closedir(dir);
	snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
	if ((file = fopen(path, "r")) == NULL)
		return;
	while (fgets(line, sizeof(line), file) != NULL) {
		if (sscanf(line, "RssAnon: %lu", &kb) == 1)
			usage->kb += kb;
	}
	fclose(file);
}

/* A child whose title has the word, or 0. */
static pid_t
pick(const char *title)
{
	pid_t pids[DAEMON_PROCESSES];
	size_t n = 0;

	if (daemon_.pid != 0)
		n = daemon_children(daemon_.pid, title, pids);
	return (n == 0 ? 0 : pids[load_random(&luck, n)]);
}

static void
kill_one(const char *title)
{
	pid_t pid = pick(title);

	if (pid == 0)
		return;
	kill(pid, SIGKILL);
	kills++;
	listener_kills += strcmp(title, "listener") == 0;
}

/* Every 20 ms: mostly workers, now and then a listener or the stream. */
static void
kill_some(unsigned ms)
{
	uint64_t end_us = after_ms(ms);
	unsigned n, turn = 0;

	while (!over(end_us)) {
		n = load_random(&luck, 100);
		kill_one(n < 92 ? "worker" : n < 97 ? "listener" : "stream");
		if (++turn % 10 == 0)
			ask_tcp();
		pause_ms(20);
	}
}

/* A hot name by TCP; if the connection breaks, once more. */
static void
ask_tcp(void)
{
	uint8_t question[ORACLE_NAME_MAX + 4];
	size_t len;
	int result;

	len = oracle_name(question, ORACLE_HOT, load_random(&luck, HOT));
	dns_put16(question + len, 1);
	dns_put16(question + len + 2, DNS_CLASS_IN);
	tcp_asked++;
	result = ask_tcp_once(question, len + 4);
	if (result == 0) {
		tcp_retried++;
		pause_ms(50);
		result = ask_tcp_once(question, len + 4);
	}
	tcp_lost += result == 0;
	tcp_wrong += result == -1;
}

/* Returns 1 for the truth, 0 for no reply, -1 for a wrong one. */
static int
ask_tcp_once(const uint8_t *question, size_t len)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	uint8_t query[PIPE_BUF], reply[PIPE_BUF];
	size_t reply_len = sizeof(reply);
	uint16_t id = load_random(&luck, 65536);
	unsigned rcode;
	int fd, result = 0;

	sin.sin_port = htons(port);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return (0);
	memset(query, 0, 2 + DNS_HEADER_LEN);
	dns_put16(query, DNS_HEADER_LEN + len);
	dns_put16(query + 2, id);
	dns_put16(query + 4, DNS_FLAG_RD);
	dns_put16(query + 6, 1);
	memcpy(query + 2 + DNS_HEADER_LEN, question, len);
	if (connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0 &&
	    exchange_tcp(fd, query, 2 + DNS_HEADER_LEN + len, reply,
	    &reply_len))
		result = dns_get16(reply + 2) == id && load_is_true(oracle,
		    question, len, reply + 2, reply_len - 2, &rcode) &&
		    rcode == 0 ? 1 : -1;
	close(fd);
	return (result);
}

static bool
exchange_tcp(int fd, const uint8_t *query, size_t len, uint8_t *reply,
    size_t *reply_len)
{
	uint64_t end_us = after_ms(LOAD_RETRY_MS);
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	size_t at = 0;
	ssize_t n;

	if (send(fd, query, len, MSG_NOSIGNAL) != (ssize_t)len)
		return (false);
	while (at < 2 || at < 2 + (size_t)dns_get16(reply)) {
		if (stub_now_us() >= end_us || poll(&pfd, 1, 20) == -1)
			return (false);
		n = recv(fd, reply + at, *reply_len - at, MSG_DONTWAIT);
		if (n == 0 || (n == -1 && errno != EAGAIN))
			return (false);
		at += n > 0 ? n : 0;
	}
	*reply_len = at;
	return (true);
}

/* SIGHUP, till the log says what is to come of it. */
static bool
restart(const char *text)
{
	uint64_t end_us = after_ms(DAEMON_PATIENCE_MS);

	daemon_mark(&daemon_);
	kill(daemon_.pid, SIGHUP);
	while (!over(end_us)) {
		if (daemon_logged(&daemon_, text, 100))
			return (true);
	}
	return (false);
}

static bool
copy(const char *from, const char *to)
{
	char buf[65536], temporary[300];
	ssize_t n = -1;
	int in, out;

	snprintf(temporary, sizeof(temporary), "%s.new", to);
	in = open(from, O_RDONLY | O_CLOEXEC);
	out = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	while (in != -1 && out != -1 &&
	    (n = read(in, buf, sizeof(buf))) > 0 && write(out, buf, n) == n)
		continue;
	if (in != -1)
		close(in);
	if (out != -1)
		close(out);
	return (n == 0 && rename(temporary, to) == 0);
}

static bool
write_file(const char *path, const char *text)
{
	size_t len = strlen(text);
	bool written;
	int fd;

	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	if (fd == -1)
		return (false);
	written = write(fd, text, len) == (ssize_t)len;
	close(fd);
	return (written);
}

static void
pause_ms(unsigned ms)
{
	uint64_t end_us = after_ms(ms), now_us;

	while (!interrupted && (now_us = stub_now_us()) < end_us)
		poll(NULL, 0, (end_us - now_us + 999) / 1000);
}

/* A row's time, shortened or stretched as -seconds says. */
static unsigned
scaled(unsigned n)
{
	unsigned long s = (unsigned long)n * seconds / SECONDS;

	return (s == 0 ? 1 : s);
}

/* Also when the daemon is dead, or all is to end. */
static bool
over(uint64_t end_us)
{
	return (interrupted || daemon_.pid == 0 || daemon_gone(daemon_.pid) ||
	    stub_now_us() >= end_us);
}

static uint64_t
after_ms(unsigned ms)
{
	return (stub_now_us() + ms * (uint64_t)1000);
}

/* At full rate, and so slowly that each packet wakes someone. */
static void
row_t1(void)
{
	uint64_t first_kills;

	if (!begin("", "%s", ""))
		return;
	mix(780, 170, 40, 10, 0, 0);
	load->rate = rate;
	load_begin(load);
	kill_some(scaled(15000));
	load_end(load);
	first_kills = kills;
	say("%llu kills, %llu of listeners", (unsigned long long)kills,
	    (unsigned long long)listener_kills);
	gate_load("at full rate");
	gate("asked again", retried(), "", '<',
	    kills + BATCH * listener_kills);
	gate("waited over 2 s", load->kind[ORACLE_HOT].slow +
	    load->kind[ORACLE_NEW].slow + load->kind[ORACLE_SLOW].slow, "",
	    '=', 0);
	mix(300, 500, 200, 0, 0, 0);
	load->rate = 10;
	load_begin(load);
	kill_some(scaled(8000));
	load_end(load);
	say("%llu more kills", (unsigned long long)(kills - first_kills));
	gate("at 10/s, wrong answers", load->wrong, "", '=', 0);
	gate("at 10/s, lost after a retry", lost(), "", '=', 0);
	gate("at 10/s, asked again", retried(), "", '<', kills - first_kills);
	say("TCP: %llu asked, %llu asked again", (unsigned long long)tcp_asked,
	    (unsigned long long)tcp_retried);
	gate("TCP, wrong answers", tcp_wrong, "", '=', 0);
	gate("TCP, lost after a retry", tcp_lost, "", '=', 0);
	finish(kills + BATCH * listener_kills);
}

static void
row_t5(void)
{
	pid_t pids[DAEMON_PROCESSES];
	uint64_t end_us, stopped_us, found_us = 0;
	unsigned rounds = 0, alive;
	size_t n = 0, i, k;
	pid_t other;

	if (!begin("", "%s", ""))
		return;
	mix(780, 170, 40, 10, 0, 0);
	load->rate = rate;
	load_begin(load);
	end_us = after_ms(scaled(15000));
	while (!over(end_us)) {
		n = daemon_children(daemon_.pid, "worker", pids);
		for (i = 0; i < n / 4; i++) {
			k = i + load_random(&luck, n - i);
			other = pids[i];
			pids[i] = pids[k];
			pids[k] = other;
		}
		n = i;
		pids[n++] = pick("listener");
		for (i = 0; i < n; i++)
			kill(pids[i], SIGSTOP);
		stopped_us = stub_now_us();
		rounds++;
		do {
			pause_ms(5);
			for (alive = i = 0; i < n; i++)
				alive += !daemon_gone(pids[i]);
		} while (alive != 0 && !over(stopped_us + 2000000));
		if (stub_now_us() - stopped_us > found_us)
			found_us = stub_now_us() - stopped_us;
		for (i = 0; i < n; i++) {
			if (!daemon_gone(pids[i]))
				kill(pids[i], SIGCONT);
		}
		pause_ms(1000);
	}
	load_end(load);
	say("%u times %zu processes stopped", rounds, n);
	gate_load("stopped");
	gate("all of them replaced within", found_us / 1000, " ms", '<', 400);
	gate("hits asked again", load->kind[ORACLE_HOT].retried, "", '<',
	    rounds * BATCH);
	finish(rounds * (n + BATCH));
}

/* Each call of the way of a query, failing now and then. */
static void
row_t6(void)
{
	static const char *const faults[] = {
		"recvmmsg:error=EINTR", "recvmmsg:error=ENOMEM",
		"sendmmsg:error=ENOBUFS", "sendmmsg:error=EPERM",
		"sendmsg:error=ENOBUFS", "recvfrom:error=ENOMEM",
		"sendto:error=ENOBUFS", "sendto:error=EHOSTUNREACH",
		"socket:error=EMFILE", "socket:error=ENOMEM",
		"bind:error=EADDRINUSE", "connect:error=EPERM",
		"connect:error=EAGAIN", "epoll_ctl:error=ENOMEM",
		"epoll_pwait:error=EINTR", "ppoll:error=EINTR",
		"ppoll:error=ENOMEM", "futex:error=EINTR",
	};
	const char *real = getenv("DNSD");
	char wrapper[300], text[5120], program[4096];
	uint64_t wrong = 0, unanswered = 0, again = 0, deaths = 0, leaks = 0;
	uint64_t end_us;
	struct usage now;
	unsigned i, run = 0;

	if (system("strace -D -f -o /dev/null -e trace=none "
	    "true >/dev/null 2>&1") != 0) {
		say("strace is not there, or may not trace");
		skipped = true;
		return;
	}
	if (realpath(real == NULL ? "src/dnsd" : real, program) == NULL)
		return;
	snprintf(wrapper, sizeof(wrapper), "%s/traced", daemon_dir());
	for (i = 0; i < sizeof(faults) / sizeof(faults[0]) && !interrupted;
	    i++) {
		snprintf(text, sizeof(text), "#!/bin/sh\nexec strace -D -f "
		    "-qq -o /dev/null -e trace=%.*s -e inject=%s:"
		    "when=60+%u %s \"$@\"\n", (int)strcspn(faults[i], ":"),
		    faults[i], faults[i], 5 + load_random(&luck, 15),
		    program);
		if (!write_file(wrapper, text))
			break;
		setenv("DNSD", wrapper, 1);
		memset(&daemon_, 0, sizeof(daemon_));
		daemon_.port = port;
		write_config("workers 4\n");
		if (daemon_start(&daemon_, "-listen 127.0.0.1:%u -config %s "
		    "-pidfile %s -no-confine -listeners 1", port, config,
		    pidfile)) {
			run += daemon_logged(&daemon_, " serves ",
			    DAEMON_PATIENCE_MS);
			measure(&at_first);
			mix(300, 500, 190, 10, 0, 0);
			daemon_mark(&daemon_);
			run_load(200, scaled(1500));
			wrong += load->wrong;
			unanswered += lost();
			again += retried();
			deaths += count_logged("started again");
			end_us = after_ms(3 * TIMEOUT_MS);
			do {
				pause_ms(50);
				measure(&now);
			} while (now.fds > at_first.fds && !over(end_us));
			leaks += now.fds > at_first.fds;
			if (now.fds > at_first.fds || lost() != 0)
				say("%s: %llu unanswered, descriptors %llu, "
				    "then %llu", faults[i],
				    (unsigned long long)lost(),
				    (unsigned long long)at_first.fds,
				    (unsigned long long)now.fds);
			daemon_stop(&daemon_, SIGTERM, 4 * TIMEOUT_MS);
		} else
			say("does not start with %s", faults[i]);
	}
	if (real == NULL)
		unsetenv("DNSD");
	else
		setenv("DNSD", program, 1);
	unlink(wrapper);
	gate("calls with an error that were tried", run, "", '=', i);
	gate("wrong answers", wrong, "", '=', 0);
	gate("processes that died", deaths, "", '=', 0);
	gate("runs with more descriptors at the end", leaks, "", '=', 0);
	say("asked again: %llu", (unsigned long long)again);
	gate("lost after a retry", unanswered, "", '=', 0);
}

static void
row_t8(void)
{
	pid_t pids[DAEMON_PROCESSES];
	uint64_t killed_us, orphans_us = 0, took_us;
	unsigned times = scaled(20), i, at_once = 0, later = 0, left;
	size_t n, k;
	bool started;

	if (!begin("", "%s", ""))
		return;
	mix(780, 170, 40, 10, 0, 0);
	load->rate = rate / 4;
	load_begin(load);
	for (i = 0; i < 2 * times && !interrupted; i++) {
		pause_ms(load_random(&luck, 200));
		n = daemon_children(daemon_.pid, NULL, pids);
		killed_us = stub_now_us();
		daemon_stop(&daemon_, SIGKILL, TIMEOUT_MS);
		close(daemon_.log);
		/* Every other time at once: those left behind still die. */
		while (i % 2 == 0) {
			for (left = k = 0; k < n; k++)
				left += !daemon_gone(pids[k]);
			took_us = stub_now_us() - killed_us;
			if (took_us > orphans_us)
				orphans_us = took_us;
			if (left == 0 || took_us > 2000000)
				break;
			pause_ms(1);
		}
		memset(&daemon_, 0, sizeof(daemon_));
		daemon_.port = port;
		started = daemon_start(&daemon_, "-listen 127.0.0.1:%u "
		    "-config %s -pidfile %s", port, config, pidfile);
		at_once += started && i % 2 == 1;
		later += started && i % 2 == 0;
		if (started)
			continue;
		pause_ms(1000);
		memset(&daemon_, 0, sizeof(daemon_));
		daemon_.port = port;
		if (!daemon_start(&daemon_, "-listen 127.0.0.1:%u "
		    "-config %s -pidfile %s", port, config, pidfile))
			break;
	}
	load_end(load);
	gate("wrong answers", load->wrong, "", '=', 0);
	gate("children gone after", orphans_us / 1000, " ms", '<', 100);
	gate("started again then", later, "", '=', (i + 1) / 2);
	gate("started again at once", at_once, "", '=', i / 2);
	if (daemon_.pid == 0)
		return;
	daemon_logged(&daemon_, " serves ", DAEMON_PATIENCE_MS);
	warm();
	measure(&at_first);
	finish(0);
}

static void
row_t10(void)
{
	unsigned times = scaled(10), i;
	uint64_t lost_sum = 0, wrong = 0, unaccounted = 0, longest_us = 0;
	uint64_t idle_us = 0, start_us, took_us, beyond = 0;
	unsigned bad_status = 0;
	struct stats stats;
	int64_t imbalance;

	mix(780, 160, 60, 0, 0, 0);
	for (i = 0; i < times && !interrupted; i++) {
		if (!begin("", "%s", ""))
			return;
		load->rate = rate;
		load_begin(load);
		pause_ms(300 + load_random(&luck, 300));
		load->cut_us = stub_now_us();
		pause_ms(5);
		daemon_mark(&daemon_);
		start_us = stub_now_us();
		bad_status += daemon_stop(&daemon_, SIGTERM,
		    4 * TIMEOUT_MS) != 0;
		took_us = stub_now_us() - start_us;
		longest_us = took_us > longest_us ? took_us : longest_us;
		load_end(load);
		take_stats(&stats, false);
		imbalance = stats.queries - stats.replies - stats.drops;
		unaccounted += imbalance < 0 ? -imbalance : imbalance;
		lost_sum += lost();
		beyond += load->beyond;
		wrong += load->wrong;
		if (!begin("", "%s", ""))
			return;
		pause_ms(100);
		start_us = stub_now_us();
		bad_status += daemon_stop(&daemon_, SIGTERM,
		    4 * TIMEOUT_MS) != 0;
		took_us = stub_now_us() - start_us;
		idle_us = took_us > idle_us ? took_us : idle_us;
	}
	gate("exit status other than 0", bad_status, "", '=', 0);
	gate("slowest stop under load", longest_us / 1000, " ms", '<',
	    TIMEOUT_MS + 1000);
	gate("slowest stop when idle", idle_us / 1000, " ms", '<', 150);
	gate("wrong answers", wrong, "", '=', 0);
	gate("queries sent before and not answered", lost_sum, "", '=', 0);
	say("sent after it and not answered: %llu",
	    (unsigned long long)beyond);
	gate("queries unaccounted for", unaccounted, "", '=', 0);
}

static void
row_t11(void)
{
	static const char *const valid[] = { "timeout 3s\n", "",
	    "log-level debug\n", "stats-interval 30m\n",
	    "allow-from any\n", "queries-per-worker 128\n" };
	static const char *const invalid[] = { "timeout 0\n",
	    "no-such-word 1\n", "workers many\n", "listen nowhere\n",
	    "upstreams 127.0.0.1:0\n", "workers 0\n" };
	uint64_t end_us, asked;
	unsigned n = 0, done, refused;
	pid_t pid;

	if (!begin("", "%s", ""))
		return;
	pid = daemon_.pid;
	asked = oracle->asked[ORACLE_HOT];
	mix(780, 170, 40, 10, 0, 0);
	load->rate = rate;
	load_begin(load);
	daemon_mark(&daemon_);
	end_us = after_ms(scaled(15000));
	while (!over(end_us)) {
		write_config("%s", n % 2 == 0 ?
		    valid[load_random(&luck, sizeof(valid) /
		    sizeof(valid[0]))] : invalid[load_random(&luck,
		    sizeof(invalid) / sizeof(invalid[0]))]);
		kill(daemon_.pid, SIGHUP);
		n++;
		pause_ms(100);
	}
	write_config("%s", "");
	kill(pid, SIGHUP);
	pause_ms(500);
	load_end(load);
	done = count_logged("restarting in place");
	refused = count_logged("the old configuration goes on");
	say("%u SIGHUPs: %u restarts, %u refused", n + 1, done, refused);
	gate_load("under SIGHUP");
	gate("asked again", retried(), "", '=', 0);
	gate("restarts", done, "", '>', n / 4);
	gate("refusals", refused, "", '>', n / 4);
	gate("hot names asked upstream", oracle->asked[ORACLE_HOT] - asked,
	    "", '=', 0);
	gate("the same process", !daemon_gone(pid), "", '=', 1);
	finish(0);
}

static void
row_t12(void)
{
	static const char *const broken[] = { "garbage\n", "",
	    "#!/bin/sh\nexit 1\n", "#!/bin/sh\nkill -SEGV $$\n" };
	const char *real = getenv("DNSD");
	char program[4096], own[300], temporary[320];
	unsigned i, same = scaled(30), changed = scaled(10), done;
	unsigned spoiled = scaled(10);
	uint64_t asked;

	if (realpath(real == NULL ? "src/dnsd" : real, program) == NULL)
		return;
	snprintf(own, sizeof(own), "%s/dnsd", daemon_dir());
	snprintf(temporary, sizeof(temporary), "%s.broken", own);
	if (!copy(program, own))
		return;
	setenv("DNSD", own, 1);
	if (!begin("", "%s", ""))
		goto done;
	mix(780, 170, 40, 10, 0, 0);
	load->rate = rate;

	asked = oracle->asked[ORACLE_HOT];
	load_begin(load);
	for (i = done = 0; i < same && !over(UINT64_MAX); i++) {
		done += copy(program, own) && restart(" serves ");
		pause_ms(load_random(&luck, 200));
	}
	load_end(load);
	gate("restarts as it was", done, "", '=', same);
	gate_load("restarts");
	gate("asked again", retried(), "", '=', 0);
	gate("hot names asked upstream", oracle->asked[ORACLE_HOT] - asked,
	    "", '=', 0);

	asked = oracle->asked[ORACLE_HOT];
	load_begin(load);
	for (i = done = 0; i < spoiled && !over(UINT64_MAX); i++) {
		done += write_file(temporary, broken[i % 4]) &&
		    rename(temporary, own) == 0 &&
		    restart("the old configuration goes on");
		pause_ms(load_random(&luck, 100));
		done += copy(program, own) && restart(" serves ");
		pause_ms(load_random(&luck, 100));
	}
	load_end(load);
	gate("broken programs refused, and mended", done, "", '=',
	    2 * spoiled);
	gate_load("broken programs");
	gate("asked again", retried(), "", '=', 0);
	gate("hot names asked upstream", oracle->asked[ORACLE_HOT] - asked,
	    "", '=', 0);

	say_books();
	asked = oracle->asked[ORACLE_HOT];
	load_begin(load);
	changed += changed % 2;
	for (i = done = 0; i < changed && !over(UINT64_MAX); i++) {
		write_config("%s", i % 2 == 0 ? "cache-size 40000\n" : "");
		done += restart(" serves ");
		pause_ms(load_random(&luck, 300));
	}
	load_end(load);
	gate("restarts with another layout", done, "", '=', changed);
	gate_load("another layout");
	gate("asked again", retried(), "", '=', 0);
	gate("hot names asked upstream", oracle->asked[ORACLE_HOT] - asked,
	    "", '<', HOT * i / 100);
	finish(ANY_IMBALANCE);

done:
	if (real == NULL)
		unsetenv("DNSD");
	else
		setenv("DNSD", program, 1);
	unlink(own);
	unlink(temporary);
}

/*
 * Nobody answers; then some names are never answered, and others live.  As in
 * T18 the median of three turns counts.
 */
static void
row_t16(void)
{
	double quiet_ms[3], hit[3];
	struct load_kind *kind = load->kind;
	unsigned i;

	if (!begin("", "workers 128\n"))
		return;
	for (i = 0; i < 3; i++) {
		mix(800, 200, 0, 0, 0, 0);
		run_load(rate, scaled(1500));
		quiet_ms[i] = hit_ms(990);
		oracle->silent = 1;
		mix(800, 0, 0, 0, 200, 0);
		run_load(rate, scaled(3000));
		hit[i] = hit_ms(990);
		say("before: hits within %.2f ms (99 %%)", quiet_ms[i]);
		gate_load("silence");
		gate("hits asked again", kind[ORACLE_HOT].retried, "", '=',
		    0);
		say("silent names: %llu asked, %llu SERVFAIL, %llu nothing",
		    (unsigned long long)kind[ORACLE_SILENT].sent,
		    (unsigned long long)kind[ORACLE_SILENT].servfail,
		    (unsigned long long)kind[ORACLE_SILENT].lost);
		oracle->silent = 0;
		pause_ms(TIMEOUT_MS);
	}
	gate("hits within (99 %)", median(hit), " ms", '<',
	    bound_of(quiet_ms, 1));
	mix(800, 100, 0, 0, 100, 0);
	run_load(rate, scaled(6000));
	say("beside silent names, new live ones: %llu asked, %llu answered, "
	    "%llu SERVFAIL, %llu asked again, within %.1f ms (50 %%)",
	    (unsigned long long)kind[ORACLE_NEW].sent,
	    (unsigned long long)kind[ORACLE_NEW].answered,
	    (unsigned long long)kind[ORACLE_NEW].servfail,
	    (unsigned long long)kind[ORACLE_NEW].retried,
	    load_within_us(load, ORACLE_NEW, 500) / 1000.0);
	gate("wrong answers", load->wrong, "", '=', 0);
	gate("hits asked again", kind[ORACLE_HOT].retried, "", '=', 0);
	gate("live names answered", 100.0 * kind[ORACLE_NEW].answered /
	    (kind[ORACLE_NEW].sent + 1), " %", '>', 99);
	finish(0);
}

static void
row_t17(void)
{
	const struct load_kind *kind = &load->kind[ORACLE_NEW];
	uint64_t back_us, end_us, at[2], of[2];
	double used_ms = 1e6, quiet_ms, bound;

	if (!begin("", "upstreams 127.0.0.1:%u,127.0.0.1:%u\n", oracle->port,
	    second->port))
		return;
	mix(500, 0, 500, 0, 0, 0);
	run_load(rate / 20, 2000);
	quiet_ms = load_within_us(load, ORACLE_SLOW, 990) / 1000.0;
	bound = quiet_ms * 1.5 > 25 ? quiet_ms * 1.5 : 25;
	say("before: names that take %u ms within %.1f ms (99 %%)",
	    ORACLE_SLOW_MS, quiet_ms);
	second->delay_ms = ORACLE_SLOW_MS;
	mix(500, 500, 0, 0, 0, 0);
	oracle->silent = 1;
	run_load(rate / 20, 1500);
	gate_load("the first 1.5 s");
	gate("slowest new name", kind->max_us / 1000, " ms", '<', 450);
	run_load(rate / 20, scaled(5000));
	gate_load("later");
	gate("new names within (99 %)",
	    load_within_us(load, ORACLE_NEW, 990) / 1000.0, " ms", '<', bound);
	load->rate = rate / 20;
	load_begin(load);
	pause_ms(500);
	oracle->silent = 0;
	back_us = stub_now_us();
	end_us = after_ms(5000);
	while (!over(end_us)) {
		at[0] = oracle->queries;
		at[1] = second->queries;
		pause_ms(100);
		of[0] = oracle->queries - at[0];
		of[1] = second->queries - at[1];
		if (of[0] > 10 * of[1]) {
			used_ms = (stub_now_us() - back_us) / 1000;
			break;
		}
	}
	load_end(load);
	gate_load("back");
	gate("the first is used again after", used_ms, " ms", '<', 2000);
	finish(0);
}

/*
 * Hits beside random names of one zone, and of names of it that are never
 * answered; and, in turn, beside as many new names of all zones.  Of three
 * turns the median counts, since the machine is not the same from one second
 * to the next.
 */
static void
row_t18(void)
{
	const struct load_kind *hot = &load->kind[ORACLE_HOT];
	uint64_t hits = 0, sent = 0, wrong = 0, failed = 0, again = 0;
	double quiet_ms[3], hit[3];
	struct stats before, after;
	unsigned i;

	if (!begin("", "workers 128\ncache-size 10000\n"))
		return;
	for (i = 0; i < 3; i++) {
		mix(500, 500, 0, 0, 0, 0);
		run_load(rate, scaled(1500));
		quiet_ms[i] = hit_ms(990);
		take_stats(&before, true);
		mix(500, 0, 0, 0, 100, 400);
		run_load(rate, scaled(3000));
		take_stats(&after, true);
		hit[i] = hit_ms(990);
		say("beside other names: hits within %.2f ms (99 %%); beside "
		    "the victim's %.2f ms (99 %%), %llu of its names asked, "
		    "%llu answered", quiet_ms[i], hit[i],
		    (unsigned long long)load->kind[ORACLE_VICTIM].sent,
		    (unsigned long long)load->kind[ORACLE_VICTIM].answered);
		hits += after.hits - before.hits;
		sent += hot->sent;
		wrong += load->wrong;
		failed += hot->servfail;
		again += hot->retried;
	}
	gate("wrong answers", wrong, "", '=', 0);
	gate("SERVFAIL for hot names", failed, "", '=', 0);
	gate("hot names asked again", again, "", '=', 0);
	gate("hot names from the cache", 100.0 * hits / (sent + 1), " %", '>',
	    98);
	gate("hits within (99 %)", median(hit), " ms", '<',
	    bound_of(quiet_ms, 2));
	finish(0);
}

/*
 * What three turns may have as their median, in ms: as long as is always
 * right, or twice what it was without bad luck, or what it was once then.
 */
static double
bound_of(const double *quiet_ms, double always)
{
	double bound = 2 * median(quiet_ms);
	int i;

	for (i = 0; i < 3; i++) {
		if (bound < quiet_ms[i])
			bound = quiet_ms[i];
	}
	return (bound < always ? always : bound);
}

/* The middle one of three. */
static double
median(const double *of)
{
	double low = of[0] < of[1] ? of[0] : of[1];
	double high = of[0] < of[1] ? of[1] : of[0];

	return (of[2] < low ? low : of[2] > high ? high : of[2]);
}

/* Every packet is a reply, a drop or one of the kernel's. */
static void
row_t19(void)
{
	struct stats before, after;
	uint64_t queries, replies, drops, kernel;

	if (!begin("", "%s", ""))
		return;
	take_stats(&before, true);
	mix(700, 280, 20, 0, 0, 0);
	run_load(0, scaled(6000));
	pause_ms(TIMEOUT_MS / 2);
	take_stats(&after, true);
	queries = after.queries - before.queries;
	replies = after.replies - before.replies;
	drops = after.drops - before.drops;
	kernel = after.kernel_drops - before.kernel_drops;
	say("sent %llu, %.0f/s; replies %llu, %.0f/s; drops %llu; of the "
	    "kernel %llu; unread by us %llu",
	    (unsigned long long)load->packets,
	    load->packets * 1e6 / load->took_us,
	    (unsigned long long)replies, replies * 1e6 / load->took_us,
	    (unsigned long long)drops, (unsigned long long)kernel,
	    (unsigned long long)load->unread);
	gate("wrong answers", load->wrong, "", '=', 0);
	gate("sent - received - dropped by the kernel",
	    (double)load->packets - queries - kernel, "", '=', 0);
	gate("received - replies - drops",
	    (double)queries - replies - drops, "", '=', 0);
	gate("replies - received by us",
	    (double)replies - load->replies - load->unread, "", '=', 0);
	gate("longest time without any reply", load->gap_us / 1000, " ms",
	    '<', 1000);
	mix(800, 200, 0, 0, 0, 0);
	run_load(rate, 1000);
	gate_load("thereafter");
	finish(0);
}

static void
row_all(void)
{
	uint64_t end_us, unheard = oracle->unheard;
	unsigned n, stops = 0, hangups = 0, silences = 0;
	pid_t pid, stopped = 0, master;

	if (!begin("", "workers 64\n"))
		return;
	master = daemon_.pid;
	mix(785, 100, 50, 20, 5, 40);
	load->rate = rate;
	load_begin(load);
	end_us = after_ms(scaled(40000));
	while (!over(end_us)) {
		oracle->silent = 0;
		n = load_random(&luck, 100);
		if (n < 50)
			kill_one("worker");
		else if (n < 54)
			kill_one("listener");
		else if (n < 56)
			kill_one("stream");
		else if (n < 62 && (pid = pick(n < 61 ? "worker" :
		    "listener")) != 0) {
			kill(pid, SIGSTOP);
			stopped = pid;
			stops++;
		} else if (n < 64 && stopped != 0 && !daemon_gone(stopped)) {
			kill(stopped, SIGCONT);
			stopped = 0;
		} else if (n < 70) {
			write_config("workers 64\n%s", n < 67 ?
			    "timeout 3s\n" : "timeout 0\n");
			kill(master, SIGHUP);
			hangups++;
		} else if (n < 73) {
			oracle->silent = 1;
			silences++;
			pause_ms(100);
		} else if (n < 80)
			ask_tcp();
		pause_ms(30);
	}
	oracle->silent = 0;
	write_config("workers 64\n");
	kill(master, SIGHUP);
	pause_ms(1000);
	load_end(load);
	unheard = oracle->unheard - unheard;
	say("%llu kills, %llu of listeners; %u stops; %u SIGHUPs; %u times "
	    "no upstream for 100 ms, which left %llu of dnsd's queries unheard",
	    (unsigned long long)kills, (unsigned long long)listener_kills,
	    stops, hangups, silences, (unsigned long long)unheard);
	gate_load("together");
	gate("asked again", retried(), "", '<',
	    kills + stops + BATCH * (listener_kills + stops) + unheard);
	gate("TCP, wrong answers", tcp_wrong, "", '=', 0);
	gate("TCP, lost after a retry", tcp_lost, "", '=', 0);
	gate("the same process", !daemon_gone(master), "", '=', 1);
	finish(kills + stops + BATCH * (listener_kills + stops));
}
