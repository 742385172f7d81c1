/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The options, from the command line and from files that each test writes
 * for itself, so that no file of this machine has a part in it.
 */

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "options.h"

#define NELEMS(array)	(sizeof(array) / sizeof((array)[0]))
#define ARGS_MAX	12

static int	 take(const char *, ...);
static int	 take_list(char *[ARGS_MAX + 1], const char *, va_list);
static void	 file_write(const char *);
static char	*printed(const struct options *);
static const char *address(const struct options_addrs *, size_t);

static struct options	 options;	/* as read last */
static char		 error[OPTIONS_ERROR_MAX];
static char		 path[64];	/* of the file that was read last */

static void
file_write(const char *text)
{
	FILE *file;
	int fd;

	strlcpy(path, "/tmp/check_options.XXXXXXXXXX", sizeof(path));
	fd = mkstemp(path);
	ck_assert_int_ne(fd, -1);
	file = fdopen(fd, "w");
	ck_assert_ptr_nonnull(file);
	fputs(text, file);
	ck_assert_int_eq(fclose(file), 0);
}

/* Read a file of this text, and the arguments that follow, up to a NULL. */
static int
take(const char *text, ...)
{
	char *argv[ARGS_MAX + 1];
	va_list ap;
	int result;

	va_start(ap, text);
	result = take_list(argv, text, ap);
	va_end(ap);
	return (result);
}

static int
take_list(char *argv[ARGS_MAX + 1], const char *text, va_list ap)
{
	static const char *const first[] = { "dnsd", "-config", path };
	char *before[ARGS_MAX + 1];
	const char *arg;
	int argc, result;

	file_write(text);
	for (argc = 0; argc < 3; argc++)
		argv[argc] = strdup(first[argc]);
	while ((arg = va_arg(ap, const char *)) != NULL) {
		ck_assert_int_lt(argc, ARGS_MAX);
		argv[argc++] = strdup(arg);
	}
	argv[argc] = NULL;
	memcpy(before, argv, sizeof(*argv) * (size_t)(argc + 1));
	memset(&options, 0xa5, sizeof(options));
	memset(error, 0xa5, sizeof(error));
	result = options_read(&options, -1, argc, argv, error);
	unlink(path);
	ck_assert_int_eq(memcmp(before, argv, sizeof(*argv) *
	    (size_t)(argc + 1)), 0);
	while (argc > 0)
		free(argv[--argc]);
	if (result == -1) {
		ck_assert_ptr_nonnull(memchr(error, '\0', sizeof(error)));
		ck_assert_str_ne(error, "");
		ck_assert_ptr_null(strchr(error, '\n'));
	} else
		ck_assert_int_eq(result, 0);
	return (result);
}

/* What options_print() prints, to be freed. */
static char *
printed(const struct options *from)
{
	char *text = NULL;
	size_t size = 0;
	FILE *file;

	file = open_memstream(&text, &size);
	ck_assert_ptr_nonnull(file);
	options_print(from, file);
	ck_assert_int_eq(fclose(file), 0);
	return (text);
}

static const char *
address(const struct options_addrs *addrs, size_t i)
{
	static char text[ADDR_TEXT_MAX];

	ck_assert_uint_lt(i, addrs->count);
	return (addr_print(text, &addrs->addr[i]));
}

START_TEST(defaults_are_those_of_always)
{
	ck_assert_msg(take("", NULL) == 0, "%s", error);
	ck_assert_uint_eq(options.listen.count, 1);
	ck_assert_str_eq(address(&options.listen, 0), ":53");
	ck_assert_uint_eq(options.upstreams.count, 1);
	ck_assert_str_eq(address(&options.upstreams, 0), "1.1.1.1:53");
	ck_assert_uint_eq(options.workers, 128);
	ck_assert_uint_eq(options.queue_size, 256);
	ck_assert_uint_eq(options.cache_size, 10000);
	ck_assert_uint_eq(options.timeout, 5000);
	ck_assert_uint_eq(options.log_level, LOG_LEVEL_INFO);
	ck_assert_uint_eq(options.queries_per_worker, 128);
	ck_assert_uint_eq(options.stats_interval, 3600000);
	ck_assert_uint_eq(options.listeners, 0);
	ck_assert_uint_eq(options.cache_memory, 0);
	ck_assert_uint_eq(options.tcp, 1);
	ck_assert(!options.foreground);
	ck_assert(!options.check);
	ck_assert(!options.help);
	ck_assert(!options.version);
}
END_TEST

START_TEST(default_allows_what_is_near)
{
	static const struct {
		const char	*addr;
		bool		 allowed;
	} cases[] = {
		{ "127.0.0.1", true }, { "::1", true },
		{ "10.1.2.3", true }, { "172.31.255.255", true },
		{ "192.168.255.1", true }, { "100.64.0.1", true },
		{ "169.254.1.1", true }, { "fe80::1", true },
		{ "fd00::1", true }, { "fc00::1", true },
		{ "8.8.8.8", false }, { "172.32.0.1", false },
		{ "192.169.0.1", false }, { "100.128.0.1", false },
		{ "2606:4700::1", false }, { "fec0::1", false },
		{ "::2", false },
	};
	struct addr a;
	size_t i, j;
	bool allowed;

	ck_assert_int_eq(take("", NULL), 0);
	for (i = 0; i < NELEMS(cases); i++) {
		ck_assert_ptr_null(addr_parse(&a, cases[i].addr, 53));
		allowed = false;
		for (j = 0; j < options.allow_from.count; j++)
			if (addr_prefix_match(&options.allow_from.prefix[j],
			    &a))
				allowed = true;
		ck_assert_msg(allowed == cases[i].allowed, "%s",
		    cases[i].addr);
	}
}
END_TEST

START_TEST(option_is_written_in_four_ways)
{
	ck_assert_int_eq(take("", "-workers", "7", NULL), 0);
	ck_assert_uint_eq(options.workers, 7);
	ck_assert_int_eq(take("", "-workers=8", NULL), 0);
	ck_assert_uint_eq(options.workers, 8);
	ck_assert_int_eq(take("", "--workers", "9", NULL), 0);
	ck_assert_uint_eq(options.workers, 9);
	ck_assert_int_eq(take("", "--workers=10", NULL), 0);
	ck_assert_uint_eq(options.workers, 10);
}
END_TEST

START_TEST(every_option_is_set_on_the_command_line)
{
	ck_assert_msg(take("", "-listen=127.0.0.1:5353,[::1]:5353",
	    "-upstreams=9.9.9.9,[2606:4700:4700::1111]:853", "-workers=1",
	    "-queue-size=2", "-cache-size=3", "-timeout=4s",
	    "-log-level=debug", NULL) == 0, "%s", error);
	ck_assert_uint_eq(options.listen.count, 2);
	ck_assert_str_eq(address(&options.listen, 0), "127.0.0.1:5353");
	ck_assert_str_eq(address(&options.listen, 1), "[::1]:5353");
	ck_assert_uint_eq(options.upstreams.count, 2);
	ck_assert_str_eq(address(&options.upstreams, 0), "9.9.9.9:53");
	ck_assert_str_eq(address(&options.upstreams, 1),
	    "[2606:4700:4700::1111]:853");
	ck_assert_uint_eq(options.workers, 1);
	ck_assert_uint_eq(options.queue_size, 2);
	ck_assert_uint_eq(options.cache_size, 3);
	ck_assert_uint_eq(options.timeout, 4000);
	ck_assert_uint_eq(options.log_level, LOG_LEVEL_DEBUG);

	ck_assert_msg(take("", "-tcp=yes", "-allow-from=any",
	    "-cache-memory=1048576", "-listeners=4", "-queries-per-worker=5",
	    "-stats-interval=6s", "-chroot=/a", "-pidfile=/b", "-user=c",
	    NULL) == 0, "%s", error);
	ck_assert_uint_eq(options.allow_from.count, 1);
	ck_assert_uint_eq(options.tcp, 1);
	ck_assert_uint_eq(options.cache_memory, 1048576);
	ck_assert_uint_eq(options.listeners, 4);
	ck_assert_uint_eq(options.queries_per_worker, 5);
	ck_assert_uint_eq(options.stats_interval, 6000);
	ck_assert_str_eq(options.chroot, "/a");
	ck_assert_str_eq(options.pidfile, "/b");
	ck_assert_str_eq(options.user, "c");

	ck_assert_int_eq(take("", "-foreground", "-n", "-workers", "3",
	    NULL), 0);
	ck_assert(options.foreground);
	ck_assert(options.check);
	ck_assert_uint_eq(options.workers, 3);
	ck_assert_str_eq(options.config, path);
	ck_assert_int_eq(take("", "-h", NULL), 0);
	ck_assert(options.help);
	ck_assert_int_eq(take("", "--version", NULL), 0);
	ck_assert(options.version);
}
END_TEST

START_TEST(every_keyword_is_set_in_the_file)
{
	ck_assert_msg(take("tcp no\nlisten 127.0.0.1:5353, [::1]:5353\n"
	    "upstreams 9.9.9.9,8.8.8.8:5300\n"
	    "workers 1\nqueue-size 2\ncache-size 3\ntimeout 4s\n"
	    "log-level error\nallow-from 192.0.2.0/24, ::1\n"
	    "cache-memory 1048576\nlisteners 4\nqueries-per-worker 5\n"
	    "stats-interval 0s\nchroot /a b\npidfile /b\nuser c\n", NULL) == 0,
	    "%s", error);
	ck_assert_uint_eq(options.listen.count, 2);
	ck_assert_str_eq(address(&options.listen, 1), "[::1]:5353");
	ck_assert_uint_eq(options.upstreams.count, 2);
	ck_assert_str_eq(address(&options.upstreams, 1), "8.8.8.8:5300");
	ck_assert_uint_eq(options.tcp, 0);
	ck_assert_uint_eq(options.workers, 1);
	ck_assert_uint_eq(options.queue_size, 2);
	ck_assert_uint_eq(options.cache_size, 3);
	ck_assert_uint_eq(options.timeout, 4000);
	ck_assert_uint_eq(options.log_level, LOG_LEVEL_ERROR);
	ck_assert_uint_eq(options.allow_from.count, 2);
	ck_assert_uint_eq(options.cache_memory, 1048576);
	ck_assert_uint_eq(options.listeners, 4);
	ck_assert_uint_eq(options.queries_per_worker, 5);
	ck_assert_uint_eq(options.stats_interval, 0);
	ck_assert_str_eq(options.chroot, "/a b");
	ck_assert_str_eq(options.pidfile, "/b");
	ck_assert_str_eq(options.user, "c");
}
END_TEST

START_TEST(file_has_comments_and_blanks)
{
	ck_assert_msg(take("# A comment.\n\n  \t\n\t# workers 0\n"
	    "\tworkers \t 7 \t\n  queue-size 8# eight\r\n#\n"
	    "cache-size 9", NULL) == 0, "%s", error);
	ck_assert_uint_eq(options.workers, 7);
	ck_assert_uint_eq(options.queue_size, 8);
	ck_assert_uint_eq(options.cache_size, 9);
}
END_TEST

START_TEST(command_line_wins_over_the_file)
{
	ck_assert_int_eq(take("workers 7\nqueue-size 8\n"
	    "upstreams 8.8.8.8,8.8.4.4\nallow-from any\n", "-workers", "9",
	    "-upstreams=9.9.9.9", "-allow-from=::1", NULL), 0);
	ck_assert_uint_eq(options.workers, 9);
	ck_assert_uint_eq(options.queue_size, 8);
	ck_assert_uint_eq(options.upstreams.count, 1);
	ck_assert_str_eq(address(&options.upstreams, 0), "9.9.9.9:53");
	ck_assert_uint_eq(options.allow_from.count, 1);
}
END_TEST

START_TEST(last_of_two_on_the_command_line_wins)
{
	ck_assert_int_eq(take("", "-workers", "7", "-workers=8", NULL), 0);
	ck_assert_uint_eq(options.workers, 8);
	/* The file that take() wrote is not there any more, nor asked for. */
	ck_assert_int_eq(take("workers 7", "-config", "/dev/null", NULL), 0);
	ck_assert_uint_eq(options.workers, 128);
	ck_assert_str_eq(options.config, "/dev/null");
}
END_TEST

/* The value of an option may look like another option. */
START_TEST(value_is_not_taken_for_an_option)
{
	ck_assert_int_eq(take("", "-chroot", "-config", NULL), 0);
	ck_assert_str_eq(options.chroot, "-config");
	ck_assert_str_eq(options.config, path);
}
END_TEST

START_TEST(list_that_is_named_again_grows)
{
	ck_assert_int_eq(take("listen 127.0.0.1:1\nworkers 7\n"
	    "listen 127.0.0.1:2,127.0.0.1:3\nallow-from 10.0.0.0/8\n"
	    "allow-from ::1\nupstreams 8.8.8.8\nupstreams 9.9.9.9\n", NULL), 0);
	ck_assert_uint_eq(options.listen.count, 3);
	ck_assert_str_eq(address(&options.listen, 0), "127.0.0.1:1");
	ck_assert_str_eq(address(&options.listen, 1), "127.0.0.1:2");
	ck_assert_str_eq(address(&options.listen, 2), "127.0.0.1:3");
	ck_assert_uint_eq(options.allow_from.count, 2);
	ck_assert_uint_eq(options.upstreams.count, 2);
	ck_assert_str_eq(address(&options.upstreams, 0), "8.8.8.8:53");
	ck_assert_str_eq(address(&options.upstreams, 1), "9.9.9.9:53");
}
END_TEST

START_TEST(durations_have_units)
{
	static const struct {
		const char	*text;
		uint64_t	 ms;
	} cases[] = {
		{ "5s", 5000 }, { "400ms", 400 }, { "1m30s", 90000 },
		{ "1h", 3600000 }, { "1h1m1s1ms", 3661001 },
		{ "0s", 0 }, { "007s", 7000 }, { "168h", 604800000 },
	};
	size_t i;

	for (i = 0; i < NELEMS(cases); i++) {
		ck_assert_msg(take("", "-stats-interval", cases[i].text,
		    NULL) == 0, "%s", error);
		ck_assert_uint_eq(options.stats_interval, cases[i].ms);
	}
}
END_TEST

START_TEST(bad_duration_is_refused)
{
	static const char *const texts[] = {
		"5", "0", "", "s", "ms", "5x", "5 s", "5s ", "-5s", "+5s",
		"5ss", "5sm", "5s5", "1.5s", "5S", "0x5s", "5s,", "1h-1s",
		"99999999999999999999s", "18446744073709551616ms",
		"5124095576030431h",
	};
	size_t i;

	for (i = 0; i < NELEMS(texts); i++) {
		ck_assert_msg(take("", "-stats-interval", texts[i], NULL) ==
		    -1, "\"%s\"", texts[i]);
		ck_assert_msg(strstr(error, "stats-interval") != NULL, "%s",
		    error);
	}
	ck_assert_int_eq(take("", "-timeout", "5", NULL), -1);
	ck_assert_msg(strstr(error, "ms") != NULL, "%s", error);
}
END_TEST

START_TEST(error_in_the_file_tells_its_line)
{
	static const struct {
		const char	*text, *error;	/* behind the path */
	} cases[] = {
		{ "\n\n\n\n\n\n\n\n\n\n\nworkers 0\n",
		  ":12: workers: 0 is below 1" },
		{ "# Comments count.\n\nqueue-size 5\nworkers\t0",
		  ":4: workers: 0 is below 1" },
		{ "workers 0 # none\n", ":1: workers: 0 is below 1" },
	};
	char expected[OPTIONS_ERROR_MAX];
	size_t i;

	for (i = 0; i < NELEMS(cases); i++) {
		ck_assert_int_eq(take(cases[i].text, NULL), -1);
		snprintf(expected, sizeof(expected), "%s%s", path,
		    cases[i].error);
		ck_assert_str_eq(error, expected);
	}
}
END_TEST

START_TEST(bad_line_in_the_file_is_refused)
{
	static const struct {
		const char	*text;
		const char	*place;		/* behind the path */
		const char	*cause;
	} cases[] = {
		{ "wrokers 7\n", ":1: wrokers: ", "" },
		{ "workers 7\nport 53\n", ":2: port: ", "" },
		{ "Workers 7\n", ":1: Workers: ", "" },
		{ "-workers 7\n", ":1: -workers: ", "" },
		{ "workers=7\n", ":1: workers=7: ", "" },
		{ "foreground yes\n", ":1: foreground: ", "command line" },
		{ "config /x\n", ":1: config: ", "command line" },
		{ "n\n", ":1: n: ", "command line" },
		{ "workers\n", ":1: workers: ", "missing" },
		{ "workers # 7\n", ":1: workers: ", "missing" },
		{ "listen\n", ":1: listen: ", "missing" },
		{ "upstreams \t\n", ":1: upstreams: ", "missing" },
		{ "upstreams ,\n", ":1: upstreams: ", "missing" },
		{ "upstreams 1.1.1.1,\n", ":1: upstreams: ", "missing" },
		{ "upstreams ,1.1.1.1\n", ":1: upstreams: ", "missing" },
		{ "upstreams 1.1.1.1,,2.2.2.2\n", ":1: upstreams: ",
		  "missing" },
		{ "upstreams 1.1.1.1 2.2.2.2\n", ":1: upstreams: ",
		  "comma" },
		{ "upstreams dns.google\n", ":1: upstreams: ", "address" },
		{ "upstreams 1.1.1.1,localhost:53\n", ":1: upstreams: ",
		  "localhost" },
		{ "listen :0\n", ":1: listen: ", "port" },
		{ "listen 127.0.0.1:70000\n", ":1: listen: ", "port" },
		{ "upstreams 1.1.1.1:0\n", ":1: upstreams: ", "port" },
		{ "allow-from 10.0.0.0/33\n", ":1: allow-from: ",
		  "10.0.0.0/33" },
		{ "allow-from 10.0.0.0/8,everyone\n", ":1: allow-from: ",
		  "everyone" },
		{ "workers 7\nqueue-size 5\nworkers 7\n", ":3: workers: ",
		  "line 1" },
		{ "log-level info\nlog-level warn\n", ":2: log-level: ",
		  "line 1" },
		{ "timeout 5s\ntimeout 5s\n", ":2: timeout: ", "line 1" },
		{ "user a\nuser a\n", ":2: user: ", "line 1" },
		{ "workers 4097\n", ":1: workers: ", "above 4096" },
		{ "workers -1\n", ":1: workers: ", "below 1" },
		{ "workers seven\n", ":1: workers: ", "seven" },
		{ "workers 7 8\n", ":1: workers: ", "7 8" },
		{ "workers 7k\n", ":1: workers: ", "7k" },
		{ "workers 99999999999999999999\n", ":1: workers: ",
		  "above 4096" },
		{ "workers 18446744073709551617\n", ":1: workers: ",
		  "above 4096" },
		{ "timeout 1ms\n", ":1: timeout: ", "below 100ms" },
		{ "timeout 1h\n", ":1: timeout: ", "above 1m" },
		{ "timeout 5\n", ":1: timeout: ", "ms" },
		{ "tcp\n", ":1: tcp: ", "missing" },
		{ "tcp on\n", ":1: tcp: ", "on is neither yes nor no" },
		{ "tcp 1\n", ":1: tcp: ", "yes" },
		{ "log-level 3\n", ":1: log-level: ", "3" },
		{ "log-level INFO\n", ":1: log-level: ", "INFO" },
		{ "log-level verbose\n", ":1: log-level: ", "debug" },
	};
	size_t i, len;

	for (i = 0; i < NELEMS(cases); i++) {
		ck_assert_msg(take(cases[i].text, NULL) == -1, "%s",
		    cases[i].text);
		len = strlen(path);
		ck_assert_msg(strncmp(error, path, len) == 0, "%s", error);
		ck_assert_msg(strncmp(error + len, cases[i].place,
		    strlen(cases[i].place)) == 0, "%s", error);
		len += strlen(cases[i].place);
		ck_assert_msg(error[len] != '\0' && strstr(error + len,
		    cases[i].cause) != NULL, "%s: %s", cases[i].text, error);
	}
}
END_TEST

START_TEST(bad_command_line_is_refused)
{
	static const struct {
		const char	*args[3];
		const char	*name, *cause;
	} cases[] = {
		{ { "-wrokers", "7" }, "wrokers", "" },
		{ { "--wrokers=7" }, "wrokers", "" },
		{ { "-" }, "-", "" },
		{ { "--" }, "-", "" },
		{ { "-=7" }, "-", "" },
		{ { "serve" }, "serve", "" },
		{ { "-workers=7", "serve" }, "serve", "" },
		{ { "-workers" }, "workers", "missing" },
		{ { "-config" }, "config", "missing" },
		{ { "-workers=" }, "workers", "" },
		{ { "-workers", "0" }, "workers", "0 is below 1" },
		{ { "-workers=0" }, "workers", "0 is below 1" },
		{ { "-workers", "x" }, "workers", "x" },
		{ { "-foreground=no" }, "foreground", "" },
		{ { "-timeout", "5" }, "timeout", "ms" },
		{ { "-upstreams", "" }, "upstreams", "missing" },
		{ { "-upstreams=" }, "upstreams", "missing" },
		{ { "-upstreams", "," }, "upstreams", "missing" },
		{ { "-upstreams", "dns.google" }, "upstreams", "address" },
		{ { "-listen", "localhost:53" }, "listen", "address" },
		{ { "-listen", ":0" }, "listen", "port" },
		{ { "-listen", ":70000" }, "listen", "port" },
		{ { "-log-level", "loud" }, "log-level", "loud" },
		/* What can be seen in the whole only. */
		{ { "-upstreams", ":53" }, "upstreams", "address" },
		{ { "-listen=:5353", "-upstreams=127.0.0.1:5353" },
		  "upstreams", "127.0.0.1:5353" },
		{ { "-listen=[::1]:5353", "-upstreams=[::1]:5353" },
		  "upstreams", "[::1]:5353" },
	};
	size_t i;

	for (i = 0; i < NELEMS(cases); i++) {
		ck_assert_msg(take("", cases[i].args[0], cases[i].args[1],
		    NULL) == -1, "case %zu", i);
		ck_assert_msg(strstr(error, cases[i].name) != NULL,
		    "case %zu: %s", i, error);
		ck_assert_msg(strstr(error, cases[i].cause) != NULL,
		    "case %zu: %s", i, error);
	}
}
END_TEST

/* The same server on another port, or another address, is no loop. */
START_TEST(upstream_beside_a_listen_address_is_taken)
{
	ck_assert_msg(take("", "-listen=127.0.0.1:5353",
	    "-upstreams=127.0.0.1:5354,127.0.0.2:5353", NULL) == 0, "%s",
	    error);
}
END_TEST

START_TEST(lists_have_an_end)
{
	char text[4096];
	size_t i, len;

	len = strlcpy(text, "listen 127.0.0.1:5353\nupstreams 192.0.2.1",
	    sizeof(text));
	for (i = 2; i <= OPTIONS_ADDRS_MAX; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len,
		    ",192.0.2.%zu", i);
	ck_assert_msg(take(text, NULL) == 0, "%s", error);
	ck_assert_uint_eq(options.upstreams.count, OPTIONS_ADDRS_MAX);
	strlcat(text, ",192.0.2.100", sizeof(text));
	ck_assert_int_eq(take(text, NULL), -1);
	ck_assert_ptr_nonnull(strstr(error, "upstreams"));

	len = strlcpy(text, "allow-from 192.0.2.1", sizeof(text));
	for (i = 2; i <= OPTIONS_PREFIXES_MAX; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len,
		    "\nallow-from 192.0.2.%zu", i);
	ck_assert_msg(take(text, NULL) == 0, "%s", error);
	ck_assert_uint_eq(options.allow_from.count, OPTIONS_PREFIXES_MAX);
	strlcat(text, "\nallow-from 192.0.2.100\n", sizeof(text));
	ck_assert_int_eq(take(text, NULL), -1);
	ck_assert_ptr_nonnull(strstr(error, ":65: allow-from: "));
}
END_TEST

START_TEST(values_of_any_length_are_survived)
{
	static const char *const keywords[] = {
		"listen ", "workers ", "timeout ", "log-level ",
		"allow-from ", "pidfile ", "nothing", "",
	};
	char text[3000];
	size_t i;

	for (i = 0; i < NELEMS(keywords); i++) {
		memset(text, '1', sizeof(text));
		memcpy(text, keywords[i], strlen(keywords[i]));
		text[sizeof(text) - 1] = '\0';
		ck_assert_int_eq(take(text, NULL), -1);
		ck_assert_int_eq(strncmp(error, path, strlen(path)), 0);
	}
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	ck_assert_int_eq(take("", text, NULL), -1);
	text[0] = '-';
	ck_assert_int_eq(take("", text, NULL), -1);
	text[0] = '/';
	ck_assert_int_eq(take("", "-pidfile", text, NULL), -1);
	text[OPTIONS_TEXT_MAX] = '\0';
	ck_assert_int_eq(take("", "-pidfile", text, NULL), -1);
	text[OPTIONS_TEXT_MAX - 1] = '\0';
	ck_assert_int_eq(take("", "-pidfile", text, NULL), 0);
	ck_assert_str_eq(options.pidfile, text);
}
END_TEST

START_TEST(file_that_was_named_must_be_there)
{
	ck_assert_int_eq(take("", "-config", "/nonexistent/dnsd.conf", NULL),
	    -1);
	ck_assert_ptr_nonnull(strstr(error,
	    "/nonexistent/dnsd.conf: No such file or directory"));
	ck_assert_int_eq(take("", "-config", "/", NULL), -1);
	ck_assert_ptr_nonnull(strstr(error, "/: "));
}
END_TEST

START_TEST(options_are_read_twice)
{
	ck_assert_int_eq(take("listen 127.0.0.1:1\nqueue-size 5\n",
	    "-workers", "9", "-n", NULL), 0);
	ck_assert_int_eq(take("listen 127.0.0.1:2\n", "-workers", "9", "-n",
	    NULL), 0);
	ck_assert_uint_eq(options.workers, 9);
	ck_assert(options.check);
	ck_assert_uint_eq(options.listen.count, 1);
	ck_assert_str_eq(address(&options.listen, 0), "127.0.0.1:2");
	ck_assert_uint_eq(options.queue_size, 256);
	ck_assert_int_eq(take("workers 0", NULL), -1);
	ck_assert_int_eq(take("", NULL), 0);
	ck_assert_uint_eq(options.workers, 128);
	ck_assert(!options.check);
	ck_assert_uint_eq(options.listen.count, 1);
}
END_TEST

/* What is printed is a file that gives the same options. */
START_TEST(printed_options_are_read_back)
{
	static const char *const files[] = {
		"",
		"listen 127.0.0.1:5353,[::1]:5353\ntcp no\n"
		    "upstreams 9.9.9.9,[2606:4700:4700::1111]:853\n"
		    "workers 1\nqueue-size 0\ncache-size 0\n"
		    "timeout 1500ms\nlog-level warn\nallow-from any\n"
		    "cache-memory 1048576\nlisteners 4\n"
		    "queries-per-worker 5\nstats-interval 1h1m1s1ms\n"
		    "chroot /a b\npidfile /b\nuser c\n",
		"allow-from 10.0.0.0/8,192.0.2.1,::1,fc00::/7,0.0.0.0/0\n"
		    "stats-interval 0s\ntimeout 1m\nlog-level debug\n"
		    "listen :5353\nlisten 192.0.2.1:5353\n",
	};
	char *again, *text;
	struct options before;
	size_t i;

	for (i = 0; i < NELEMS(files); i++) {
		ck_assert_msg(take(files[i], NULL) == 0, "%s", error);
		before = options;
		text = printed(&options);
		ck_assert_msg(take(text, NULL) == 0, "%s", error);
		again = printed(&options);
		ck_assert_str_eq(text, again);
		ck_assert_uint_eq(options.timeout, before.timeout);
		ck_assert_uint_eq(options.stats_interval,
		    before.stats_interval);
		ck_assert_uint_eq(options.workers, before.workers);
		ck_assert_uint_eq(options.queue_size, before.queue_size);
		ck_assert_uint_eq(options.cache_size, before.cache_size);
		ck_assert_uint_eq(options.cache_memory, before.cache_memory);
		ck_assert_uint_eq(options.log_level, before.log_level);
		ck_assert_uint_eq(options.listeners, before.listeners);
		ck_assert_uint_eq(options.tcp, before.tcp);
		ck_assert_uint_eq(options.queries_per_worker,
		    before.queries_per_worker);
		ck_assert_mem_eq(&options.listen, &before.listen,
		    sizeof(before.listen));
		ck_assert_mem_eq(&options.upstreams, &before.upstreams,
		    sizeof(before.upstreams));
		ck_assert_mem_eq(&options.allow_from, &before.allow_from,
		    sizeof(before.allow_from));
		ck_assert_str_eq(options.chroot, before.chroot);
		ck_assert_str_eq(options.pidfile, before.pidfile);
		ck_assert_str_eq(options.user, before.user);
		free(text);
		free(again);
	}
}
END_TEST

START_TEST(printed_options_name_each_keyword_once)
{
	static const char *const keywords[] = {
		"listen", "upstreams", "workers", "queue-size", "cache-size",
		"timeout", "log-level", "allow-from", "cache-memory",
		"listeners", "queries-per-worker", "stats-interval",
		"chroot", "pidfile", "user",
	};
	char *line, *text;
	size_t count, i, len;

	ck_assert_int_eq(take("", NULL), 0);
	text = printed(&options);
	for (i = 0; i < NELEMS(keywords); i++) {
		count = 0;
		len = strlen(keywords[i]);
		for (line = text; *line != '\0'; line++) {
			if (strncmp(line, keywords[i], len) == 0 &&
			    line[len] == ' ')
				count++;
			line = strchr(line, '\n');
			ck_assert_ptr_nonnull(line);
		}
		ck_assert_msg(count == 1, "%s: %zu", keywords[i], count);
	}
	free(text);
}
END_TEST

START_TEST(usage_names_each_option)
{
	static const char *const names[] = {
		"-listen ", "-upstreams ", "-workers ", "-queue-size ",
		"-cache-size ", "-timeout ", "-log-level ", "-allow-from ",
		"-cache-memory ", "-listeners ", "-queries-per-worker ",
		"-stats-interval ", "-chroot ", "-pidfile ", "-user ",
		"-config ", "-foreground ", "-n ", "-h ", "-version ",
		"1.1.1.1:53", "10000", "128", "256", "5s", "info",
	};
	char *text = NULL;
	size_t i, size = 0;
	FILE *file;

	file = open_memstream(&text, &size);
	ck_assert_ptr_nonnull(file);
	options_usage(file);
	ck_assert_int_eq(fclose(file), 0);
	for (i = 0; i < NELEMS(names); i++)
		ck_assert_msg(strstr(text, names[i]) != NULL, "%s",
		    names[i]);
	free(text);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("options");
	TCase *tc;
	SRunner *sr;
	int failed;

	tc = tcase_create("values");
	tcase_add_test(tc, defaults_are_those_of_always);
	tcase_add_test(tc, default_allows_what_is_near);
	tcase_add_test(tc, option_is_written_in_four_ways);
	tcase_add_test(tc, every_option_is_set_on_the_command_line);
	tcase_add_test(tc, every_keyword_is_set_in_the_file);
	tcase_add_test(tc, file_has_comments_and_blanks);
	tcase_add_test(tc, command_line_wins_over_the_file);
	tcase_add_test(tc, last_of_two_on_the_command_line_wins);
	tcase_add_test(tc, value_is_not_taken_for_an_option);
	tcase_add_test(tc, list_that_is_named_again_grows);
	tcase_add_test(tc, durations_have_units);
	tcase_add_test(tc, options_are_read_twice);
	suite_add_tcase(s, tc);

	tc = tcase_create("errors");
	tcase_add_test(tc, bad_duration_is_refused);
	tcase_add_test(tc, error_in_the_file_tells_its_line);
	tcase_add_test(tc, bad_line_in_the_file_is_refused);
	tcase_add_test(tc, bad_command_line_is_refused);
	tcase_add_test(tc, upstream_beside_a_listen_address_is_taken);
	tcase_add_test(tc, lists_have_an_end);
	tcase_add_test(tc, values_of_any_length_are_survived);
	tcase_add_test(tc, file_that_was_named_must_be_there);
	suite_add_tcase(s, tc);

	tc = tcase_create("output");
	tcase_add_test(tc, printed_options_are_read_back);
	tcase_add_test(tc, printed_options_name_each_keyword_once);
	tcase_add_test(tc, usage_names_each_option);
	suite_add_tcase(s, tc);

	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return (failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}
