/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/* The log, with a pipe in the place of stderr. */

#include <sys/socket.h>

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

#define NELEMS(array)	(sizeof(array) / sizeof((array)[0]))
#define FLOOD		100000	/* lines, more than any socket holds */
#define PREFIX_MAX	64	/* what stands before a line */

static void	 stderr_catch(void);
static const char *stderr_text(void);
static size_t	 lines_in(const char *);
static void	 relay_open(int [2]);
static void	 relay_to_stderr(int);
static unsigned	 relay_flood(void);
static unsigned	 relay_drain(int);

static int	 caught;	/* the read end of the pipe that is stderr */
static int	 stderr_before;

/* Later writes to stderr are there for stderr_text(). */
static void
stderr_catch(void)
{
	int fds[2];

	fflush(stderr);
	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_ne(fcntl(fds[0], F_SETFL, O_NONBLOCK), -1);
	stderr_before = dup(STDERR_FILENO);
	ck_assert_int_ne(stderr_before, -1);
	ck_assert_int_ne(dup2(fds[1], STDERR_FILENO), -1);
	close(fds[1]);
	caught = fds[0];
	log_open_stderr();
}

/* What was written since the last call. */
static const char *
stderr_text(void)
{
	static char text[65536];
	ssize_t n;

	fflush(stderr);
	n = read(caught, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	return (text);
}

static size_t
lines_in(const char *text)
{
	size_t lines = 0;

	for (; *text != '\0'; text++)
		if (*text == '\n')
			lines++;
	return (lines);
}

/* Lines go to fds[0] from now on and come out of fds[1]. */
static void
relay_open(int fds[2])
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
	log_open_relay(fds[0]);
}

/* As the master does it, whose own lines go to stderr. */
static void
relay_to_stderr(int fd)
{
	log_open_stderr();
	log_relay(fd);
}

/* Fill the relay.  Returns how many lines were written. */
static unsigned
relay_flood(void)
{
	unsigned i;

	for (i = 0; i < FLOOD; i++)
		log_info("line %u", i);
	return (FLOOD);
}

/* Empty the relay without writing it.  Returns how many lines there were. */
static unsigned
relay_drain(int fd)
{
	char buf[LOG_LINE_MAX + PREFIX_MAX];
	unsigned lines = 0;

	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		lines++;
	return (lines);
}

START_TEST(level_selects_lines)
{
	static const struct {
		enum log_level	 level;
		bool		 error, warn, info, debug;
	} cases[] = {
		{ LOG_LEVEL_ERROR, true, false, false, false },
		{ LOG_LEVEL_WARN, true, true, false, false },
		{ LOG_LEVEL_INFO, true, true, true, false },
		{ LOG_LEVEL_DEBUG, true, true, true, true },
	};
	const char *text;
	size_t i;

	stderr_catch();
	for (i = 0; i < NELEMS(cases); i++) {
		log_set_level(cases[i].level);
		log_error("alpha %d", 1);
		log_warn("bravo %d", 2);
		log_info("charlie %d", 3);
		log_debug("delta %d", 4);
		text = stderr_text();
		ck_assert_int_eq(strstr(text, "alpha 1\n") != NULL,
		    cases[i].error);
		ck_assert_int_eq(strstr(text, "bravo 2\n") != NULL,
		    cases[i].warn);
		ck_assert_int_eq(strstr(text, "charlie 3\n") != NULL,
		    cases[i].info);
		ck_assert_int_eq(strstr(text, "delta 4\n") != NULL,
		    cases[i].debug);
		ck_assert_uint_eq(lines_in(text), i + 1);
		ck_assert(log_is_on(LOG_LEVEL_ERROR));
		ck_assert_int_eq(log_is_on(LOG_LEVEL_WARN), cases[i].warn);
		ck_assert_int_eq(log_is_on(LOG_LEVEL_INFO), cases[i].info);
		ck_assert_int_eq(log_is_on(LOG_LEVEL_DEBUG),
		    cases[i].debug);
	}
}
END_TEST

START_TEST(default_level_is_info)
{
	stderr_catch();
	log_debug("delta");
	ck_assert_str_eq(stderr_text(), "");
	log_info("charlie");
	ck_assert_ptr_ne(strstr(stderr_text(), "charlie\n"), NULL);
	ck_assert(log_is_on(LOG_LEVEL_INFO));
	ck_assert(!log_is_on(LOG_LEVEL_DEBUG));
}
END_TEST

START_TEST(line_tells_its_level)
{
	stderr_catch();
	log_error("alpha");
	ck_assert_ptr_ne(strstr(stderr_text(), "error"), NULL);
	log_warn("bravo");
	ck_assert_ptr_ne(strstr(stderr_text(), "warn"), NULL);
	log_info("charlie");
	ck_assert_ptr_ne(strstr(stderr_text(), "info"), NULL);
}
END_TEST

START_TEST(control_bytes_are_escaped)
{
	static const struct {
		const char	*text, *line;
	} cases[] = {
		{ "a\033[2Jb", "a\\027[2Jb\n" },
		{ "a\nb", "a\\010b\n" },
		{ "a\r\nb\n", "a\\013\\010b\\010\n" },
		{ "a\001b\037c", "a\\001b\\031c\n" },
		{ "a\177b", "a\\127b\n" },
		{ "a\233b", "a\\155b\n" },
		{ "a b~", "a b~\n" },
		{ "100%d %s %n", "100%d %s %n\n" },
	};
	const char *text;
	size_t i;

	stderr_catch();
	for (i = 0; i < NELEMS(cases); i++) {
		log_info("%s", cases[i].text);
		text = stderr_text();
		ck_assert_uint_eq(lines_in(text), 1);
		ck_assert_msg(strstr(text, cases[i].line) != NULL,
		    "case %zu: %s", i, text);
	}
}
END_TEST

START_TEST(long_lines_are_cut)
{
	static const char fills[] = { 'x', '\001' };
	static char text[5000];
	const char *line;
	size_t i;

	stderr_catch();
	for (i = 0; i < NELEMS(fills); i++) {
		memset(text, fills[i], sizeof(text) - 1);
		log_info("begin %s end", text);
		line = stderr_text();
		ck_assert_uint_eq(lines_in(line), 1);
		ck_assert_uint_le(strlen(line), LOG_LINE_MAX + PREFIX_MAX);
		ck_assert_uint_ge(strlen(line), LOG_LINE_MAX - 10);
		ck_assert_ptr_ne(strstr(line, "begin "), NULL);
		ck_assert_ptr_eq(strstr(line, "end"), NULL);
		ck_assert_int_eq(line[strlen(line) - 1], '\n');
	}
}
END_TEST

/* An escape that is cut in two would be another byte's. */
START_TEST(escapes_are_never_cut_in_two)
{
	char text[LOG_LINE_MAX + 1];
	const char *end, *line;
	size_t len;

	stderr_catch();
	for (len = LOG_LINE_MAX - 10; len <= LOG_LINE_MAX; len++) {
		memset(text, 'x', len);
		text[len - 4] = '\033';
		text[len - 1] = '\033';
		text[len] = '\0';
		log_info("%s", text);
		line = stderr_text();
		end = strrchr(line, '\\');
		if (end != NULL)
			ck_assert_msg(strncmp(end, "\\027", 4) == 0,
			    "%zu bytes: %s", len, end);
	}
}
END_TEST

START_TEST(errno_is_left_alone)
{
	stderr_catch();
	errno = ENOTTY;
	log_error("alpha");
	ck_assert_int_eq(errno, ENOTTY);
	log_debug("delta");
	ck_assert_int_eq(errno, ENOTTY);
}
END_TEST

START_TEST(fatal_exits_with_status_1)
{
	fatal("cannot go on: %s", "a cause");
}
END_TEST

START_TEST(fatal_writes_its_line)
{
	const char *text;

	stderr_catch();
	if (fork() == 0)
		fatal("cannot go on: %s", "a cause");
	do {
		text = stderr_text();
	} while (*text == '\0');
	ck_assert_ptr_ne(strstr(text, "cannot go on: a cause\n"), NULL);
}
END_TEST

START_TEST(relayed_lines_are_written_by_the_master)
{
	const char *text;
	int fds[2];

	stderr_catch();
	relay_open(fds);
	log_error("alpha");
	log_warn("bravo\n");
	log_info("charlie");
	ck_assert_str_eq(stderr_text(), "");
	relay_to_stderr(fds[1]);
	text = stderr_text();
	ck_assert_uint_eq(lines_in(text), 3);
	ck_assert_ptr_ne(strstr(text, "alpha\n"), NULL);
	ck_assert_ptr_ne(strstr(text, "bravo\\010\n"), NULL);
	ck_assert_ptr_ne(strstr(text, "charlie\n"), NULL);
	ck_assert(strstr(text, "alpha") < strstr(text, "bravo"));
	ck_assert(strstr(text, "bravo") < strstr(text, "charlie"));
}
END_TEST

START_TEST(relayed_lines_keep_their_level)
{
	const char *text;
	int fds[2];

	stderr_catch();
	relay_open(fds);
	log_error("alpha");
	relay_to_stderr(fds[1]);
	text = stderr_text();
	ck_assert_ptr_ne(strstr(text, "error"), NULL);
	ck_assert_ptr_eq(strstr(text, "info"), NULL);
}
END_TEST

START_TEST(longest_line_is_relayed_whole)
{
	static char direct[LOG_LINE_MAX * 2], text[LOG_LINE_MAX * 2];
	const char *relayed;
	int fds[2];

	stderr_catch();
	memset(text, 'x', sizeof(text) - 1);
	log_info("%s", text);
	ck_assert_uint_lt(strlcpy(direct, stderr_text(), sizeof(direct)),
	    sizeof(direct));
	relay_open(fds);
	log_info("%s", text);
	relay_to_stderr(fds[1]);
	relayed = stderr_text();
	ck_assert_uint_eq(lines_in(relayed), 1);
	/* The stamps before the two may differ. */
	ck_assert_str_eq(strchr(relayed, 'x'), strchr(direct, 'x'));
}
END_TEST

START_TEST(empty_relay_does_not_wait)
{
	int fds[2];

	stderr_catch();
	relay_open(fds);
	relay_to_stderr(fds[1]);
	ck_assert_str_eq(stderr_text(), "");
}
END_TEST

/* A child may have fallen into the wrong hands. */
START_TEST(relayed_bytes_are_escaped_again)
{
	static const char *const forged[] = {
		"\001a\033[2Jb\nc", "\002\n\r\033", "a\033b", "\377\033",
		"\n", "\001",
	};
	const char *at, *text;
	size_t i;
	int fds[2];

	stderr_catch();
	relay_open(fds);
	for (i = 0; i < NELEMS(forged); i++)
		ck_assert_int_ne(send(fds[0], forged[i], strlen(forged[i]), 0),
		    -1);
	relay_to_stderr(fds[1]);
	text = stderr_text();
	ck_assert_uint_le(lines_in(text), NELEMS(forged));
	for (at = text; *at != '\0'; at++)
		ck_assert_msg(*at == '\n' ||
		    ((unsigned char)*at >= 0x20 && (unsigned char)*at < 0x7f),
		    "a byte of value %d", *at);
}
END_TEST

START_TEST(full_relay_is_counted_and_told_later)
{
	char told[32];
	const char *text;
	unsigned lost, written;
	int fds[2];

	stderr_catch();
	relay_open(fds);
	written = relay_flood();
	lost = written - relay_drain(fds[1]);
	ck_assert_uint_gt(lost, 0);
	ck_assert_uint_lt(lost, written);
	log_info("charlie");
	relay_to_stderr(fds[1]);
	text = stderr_text();
	snprintf(told, sizeof(told), " %u ", lost);
	ck_assert_msg(strstr(text, told) != NULL, "not %u: %s", lost, text);
	ck_assert_ptr_ne(strstr(text, "charlie\n"), NULL);
	log_open_relay(fds[0]);
	log_info("delta");
	relay_to_stderr(fds[1]);
	text = stderr_text();
	ck_assert_uint_eq(lines_in(text), 1);	/* told once */
}
END_TEST

START_TEST(relay_without_a_master_is_survived)
{
	int fds[2];

	relay_open(fds);
	close(fds[1]);
	log_error("alpha");
	log_error("bravo");
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("log");
	TCase *tc;
	SRunner *sr;
	int failed;

	tc = tcase_create("lines");
	tcase_add_test(tc, level_selects_lines);
	tcase_add_test(tc, default_level_is_info);
	tcase_add_test(tc, line_tells_its_level);
	tcase_add_test(tc, control_bytes_are_escaped);
	tcase_add_test(tc, long_lines_are_cut);
	tcase_add_test(tc, escapes_are_never_cut_in_two);
	tcase_add_test(tc, errno_is_left_alone);
	tcase_add_exit_test(tc, fatal_exits_with_status_1, 1);
	tcase_add_test(tc, fatal_writes_its_line);
	suite_add_tcase(s, tc);

	tc = tcase_create("relay");
	tcase_add_test(tc, relayed_lines_are_written_by_the_master);
	tcase_add_test(tc, relayed_lines_keep_their_level);
	tcase_add_test(tc, longest_line_is_relayed_whole);
	tcase_add_test(tc, empty_relay_does_not_wait);
	tcase_add_test(tc, relayed_bytes_are_escaped_again);
	tcase_add_test(tc, full_relay_is_counted_and_told_later);
	tcase_add_test(tc, relay_without_a_master_is_survived);
	suite_add_tcase(s, tc);

	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return (failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}
