/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The options.  One table holds each option's name, kind, default, bounds and
 * help; the command line, the configuration file, the usage text and -n all
 * come from it, so an option is one row.  What is done by kind is done in
 * options_value.c.
 *
 * The order is: defaults, file, command line; the later wins.  A list that is
 * named again in the same place is appended to; another option named twice in
 * the file is an error.  A value is checked where it stands, so that the error
 * can tell the line.
 */

#include <sys/types.h>

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "options.h"
#include "options_value.h"

#define TABLE_LEN	(sizeof(table) / sizeof(table[0]))
#define NEARBY		"127.0.0.0/8,::1,10.0.0.0/8,172.16.0.0/12," \
    "192.168.0.0/16,100.64.0.0/10,169.254.0.0/16,fe80::/10,fc00::/7"

/* Where options come from, and which of the table were named there. */
struct source {
	const char	*file;		/* NULL: the command line */
	unsigned	 line;
	unsigned	 seen[32];	/* the line, or 1 */
	char		*error;
};

#define AT(member)	offsetof(struct options, member)

static const struct option table[] = {
	{ "listen", ANYWHERE, ADDRS, AT(listen), ":53", 0, 0,
	    "addresses to serve; :53 is every address" },
	{ "upstreams", ANYWHERE, ADDRS, AT(upstreams), "1.1.1.1:53", 0, 0,
	    "servers to ask, the preferred first" },
	{ "workers", ANYWHERE, NUMBER, AT(workers), "128", 1, 4096,
	    "processes that ask upstreams" },
	{ "queue-size", ANYWHERE, NUMBER, AT(queue_size), "256", 0, 65536,
	    "questions that may wait for a worker" },
	{ "cache-size", ANYWHERE, NUMBER, AT(cache_size), "10000", 0, 100000000,
	    "answers to keep" },
	{ "timeout", ANYWHERE, DURATION, AT(timeout), "5s", 100, 60000,
	    "for one question, over all upstreams" },
	{ "log-level", ANYWHERE, LEVEL, AT(log_level), "info", 0, 0,
	    "error, warn, info or debug" },
	{ "allow-from", ANYWHERE, PREFIXES, AT(allow_from), NEARBY, 0, 0,
	    "networks that are served, or any" },
	{ "cache-memory", ANYWHERE, NUMBER, AT(cache_memory),
	    "0", 0, 1ULL << 40,
	    "bytes for the cache; 0: 176 an answer" },
	{ "listeners", ANYWHERE, NUMBER, AT(listeners), "0", 0, 64,
	    "processes that serve an address; 0: one a CPU" },
	{ "queries-per-worker", ANYWHERE, NUMBER, AT(queries_per_worker),
	    "128", 1, 256,
	    "questions that a worker asks at once" },
	{ "stats-interval", ANYWHERE, DURATION, AT(stats_interval),
	    "1h", 0, 604800000,
	    "between counters in the log; 0s: never" },
	{ "tcp", ANYWHERE, YESNO, AT(tcp), "yes", 0, 0,
	    "serve TCP too: yes or no" },
	{ "tcp-connections", ANYWHERE, NUMBER, AT(tcp_connections),
	    "1024", 1, 65536,
	    "TCP connections in all" },
	{ "tcp-per-client", ANYWHERE, NUMBER, AT(tcp_per_client),
	    "256", 1, 65536,
	    "TCP connections of one address" },
	{ "tcp-idle", ANYWHERE, DURATION, AT(tcp_idle), "10s", 100, 3600000,
	    "for a connection without a query" },
	{ "tcp-message", ANYWHERE, DURATION, AT(tcp_message),
	    "2s", 100, 60000,
	    "for a message to come whole" },
	{ "tcp-queries", ANYWHERE, NUMBER, AT(tcp_queries), "100", 1, 65536,
	    "queries of a connection that wait at once" },
	{ "chroot", ANYWHERE, TEXT, AT(chroot), DNSD_RUNDIR "/dnsd", 0, 0,
	    "empty directory that root's children live in" },
	{ "pidfile", ANYWHERE, TEXT, AT(pidfile), "", 0, 0,
	    "default " DNSD_RUNDIR "/dnsd.pid, none in the foreground" },
	{ "segment-file", ANYWHERE, TEXT, AT(segment_file), "", 0, 0,
	    "keeps the cache; default " DNSD_RUNDIR "/dnsd.cache, none in the "
	    "foreground" },
	{ "user", ANYWHERE, TEXT, AT(user), DNSD_USER, 0, 0,
	    "user that root's children become" },
	{ "config", HERE, TEXT, AT(config), DNSD_CONFIG, 0, 0,
	    "file to read options from" },
	{ "foreground", HERE, FLAG, AT(foreground), NULL, 0, 0,
	    "stay in the foreground, log to stderr" },
	{ "no-confine", HERE, FLAG, AT(no_confine), NULL, 0, 0,
	    "for debugging: no chroot and no seccomp" },
	{ "n", HERE, FLAG, AT(check), NULL, 0, 0,
	    "check, print what is in force, and exit" },
	{ "h", HERE, FLAG, AT(help), NULL, 0, 0,
	    "print this and exit" },
	{ "help", HERE, FLAG, AT(help), NULL, 0, 0, NULL },
	{ "version", HERE, FLAG, AT(version), NULL, 0, 0,
	    "print the version and exit" },
};
_Static_assert(TABLE_LEN <= sizeof(((struct source *)0)->seen) /
    sizeof(unsigned), "a place for each option in struct source");
_Static_assert(OPTIONS_ADDRS_MAX <= 16, "upstream.h counts on it");

static int	read_arguments(struct options *, int, char *const *, bool,
		    struct source *);
static int	read_file(struct options *, struct source *, int, bool);
static int	read_line(struct options *, char *, struct source *);
static const struct option *find(const char *);
static int	set(struct options *, const struct option *, const char *,
		    struct source *);
static int	fail(struct source *, const struct option *, const char *, ...)
		    __attribute__((__format__(__printf__, 3, 4)));
static int	check_whole(const struct options *, char *);

int
options_read(struct options *options, int config, int argc,
    char *const *argv, char error[OPTIONS_ERROR_MAX])
{
	struct source defaults = { .error = error };
	struct source look = { .error = error };
	struct source file = { .error = error };
	struct source line = { .error = error };
	struct options first;
	size_t i;

	memset(options, 0, sizeof(*options));
	error[0] = '\0';
	for (i = 0; i < TABLE_LEN; i++) {
		if (table[i].standard != NULL && set(options, &table[i],
		    table[i].standard, &defaults) == -1)
			return (-1);
	}
	/* The command line first says which file to read. */
	first = *options;
	if (read_arguments(&first, argc, argv, true, &look) == -1)
		return (-1);
	if (first.help || first.version) {
		*options = first;
		return (0);
	}
	file.file = first.config;
	if (read_file(options, &file, config,
	    strcmp(first.config, DNSD_CONFIG) != 0) == -1 ||
	    read_arguments(options, argc, argv, false, &line) == -1)
		return (-1);
	if (options->pidfile[0] == '\0' && !options->foreground)
		strlcpy(options->pidfile, DNSD_RUNDIR "/dnsd.pid",
		    sizeof(options->pidfile));
	if (options->segment_file[0] == '\0' && !options->foreground)
		strlcpy(options->segment_file, DNSD_RUNDIR "/dnsd.cache",
		    sizeof(options->segment_file));
	return (check_whole(options, error));
}

/* Read "-name value", "-name=value", and both with two dashes. */
static int
read_arguments(struct options *options, int argc, char *const *argv,
    bool here_only, struct source *source)
{
	const struct option *option;
	const char *value;
	char name[64];
	int i;

	for (i = 1; i < argc; i++) {
		if (argv[i][0] != '-' || argv[i][1] == '\0') {
			snprintf(source->error, OPTIONS_ERROR_MAX,
			    "dnsd: %s: not an option", argv[i]);
			return (-1);
		}
		strlcpy(name, argv[i] + (argv[i][1] == '-' ? 2 : 1),
		    sizeof(name));
		name[strcspn(name, "=")] = '\0';
		value = strchr(argv[i], '=');
		if ((option = find(name)) == NULL) {
			snprintf(source->error, OPTIONS_ERROR_MAX,
			    "dnsd: -%s: no such option; dnsd -h lists them",
			    name);
			return (-1);
		}
		if (option->kind == FLAG) {
			if (value != NULL)
				return (fail(source, option,
				    "takes no value"));
			value = "";
		} else if (value != NULL)
			value++;
		else if ((value = argv[++i]) == NULL)
			return (fail(source, option, "a value is missing"));
		if (here_only && option->scope != HERE)
			continue;
		if (set(options, option, value, source) == -1)
			return (-1);
	}
	return (0);
}

/*
 * Read the configuration file, if there is one or it must_exist; or what
 * stands for it, from a descriptor.
 */
static int
read_file(struct options *options, struct source *source, int config,
    bool must_exist)
{
	char *line = NULL;
	size_t size = 0;
	int result = 0;
	FILE *file;

	if (config == -1)
		file = fopen(source->file, "re");
	else if ((file = fdopen(dup(config), "r")) != NULL)
		rewind(file);
	if (file == NULL) {
		if (errno == ENOENT && !must_exist)
			return (0);
		snprintf(source->error, OPTIONS_ERROR_MAX, "dnsd: %s: %s",
		    source->file, strerror(errno));
		return (-1);
	}
	errno = 0;
	while (result == 0 && getline(&line, &size, file) != -1) {
		source->line++;
		result = read_line(options, line, source);
	}
	if (result == 0 && ferror(file)) {
		snprintf(source->error, OPTIONS_ERROR_MAX, "dnsd: %s: %s",
		    source->file, strerror(errno));
		result = -1;
	}
	free(line);
	fclose(file);
	return (result);
}

/* Read "name value" with an optional # comment. */
static int
read_line(struct options *options, char *line, struct source *source)
{
	const struct option *option;
	char *name, *value, *end;

	line[strcspn(line, "#\n")] = '\0';
	name = line + strspn(line, " \t\r");
	if (*name == '\0')
		return (0);
	value = name + strcspn(name, " \t\r");
	if (*value != '\0')
		*value++ = '\0';
	value += strspn(value, " \t\r");
	for (end = value + strlen(value); end > value &&
	    isspace((unsigned char)end[-1]); end--)
		end[-1] = '\0';
	option = find(name);
	if (option == NULL || option->scope == HERE) {
		snprintf(source->error, OPTIONS_ERROR_MAX, "%s:%u: %s: %s",
		    source->file, source->line, name, option == NULL ?
		    "no such keyword" : "only for the command line");
		return (-1);
	}
	if (*value == '\0')
		return (fail(source, option, "a value is missing"));
	return (set(options, option, value, source));
}

static const struct option *
find(const char *name)
{
	size_t i;

	for (i = 0; i < TABLE_LEN; i++) {
		if (strcmp(table[i].name, name) == 0)
			return (&table[i]);
	}
	return (NULL);
}

static int
set(struct options *options, const struct option *option, const char *value,
    struct source *source)
{
	unsigned *seen = &source->seen[option - table];
	bool again = *seen != 0;
	char why[OPTIONS_ERROR_MAX];

	if (again && source->file != NULL && option->kind != ADDRS &&
	    option->kind != PREFIXES)
		return (fail(source, option, "is on line %u already", *seen));
	*seen = source->line == 0 ? 1 : source->line;
	if (options_parse_value(options, option, value, again, why) == -1)
		return (fail(source, option, "%s", why));
	return (0);
}

/* Say what is wrong with an option, and where.  Returns -1. */
static int
fail(struct source *source, const struct option *option, const char *fmt, ...)
{
	va_list ap;
	int len;

	if (source->file != NULL)
		len = snprintf(source->error, OPTIONS_ERROR_MAX, "%s:%u: %s: ",
		    source->file, source->line, option->name);
	else
		len = snprintf(source->error, OPTIONS_ERROR_MAX, "dnsd: -%s: ",
		    option->name);
	if (len < 0 || len >= OPTIONS_ERROR_MAX)
		return (-1);
	va_start(ap, fmt);
	vsnprintf(source->error + len, OPTIONS_ERROR_MAX - len, fmt, ap);
	va_end(ap);
	return (-1);
}

/* What can only be said of all options together. */
static int
check_whole(const struct options *options, char *error)
{
	const struct options_addrs *listen = &options->listen;
	const struct options_addrs *upstreams = &options->upstreams;
	char text[ADDR_TEXT_MAX];
	size_t i, k;

	for (i = 0; i < upstreams->count; i++) {
		if (addr_is_any(&upstreams->addr[i])) {
			snprintf(error, OPTIONS_ERROR_MAX, "dnsd: upstreams: "
			    "%s: an IP address is missing",
			    addr_print(text, &upstreams->addr[i]));
			return (-1);
		}
		for (k = 0; k < listen->count; k++) {
			if (!addr_reaches(&upstreams->addr[i], &listen->addr[k]))
				continue;
			snprintf(error, OPTIONS_ERROR_MAX, "dnsd: upstreams: "
			    "%s is an address that dnsd itself listens on",
			    addr_print(text, &upstreams->addr[i]));
			return (-1);
		}
		for (k = 0; k < i; k++) {
			if (!addr_equal(&upstreams->addr[i],
			    &upstreams->addr[k]))
				continue;
			snprintf(error, OPTIONS_ERROR_MAX, "dnsd: upstreams: "
			    "%s is given twice",
			    addr_print(text, &upstreams->addr[i]));
			return (-1);
		}
	}
	for (i = 0; i < listen->count; i++) {
		for (k = 0; k < i; k++) {
			if (!addr_equal(&listen->addr[i], &listen->addr[k]))
				continue;
			snprintf(error, OPTIONS_ERROR_MAX, "dnsd: listen: "
			    "%s is given twice",
			    addr_print(text, &listen->addr[i]));
			return (-1);
		}
	}
	return (0);
}

void
options_print(const struct options *options, FILE *to)
{
	const struct option *option;
	size_t i;

	for (i = 0; i < TABLE_LEN; i++) {
		option = &table[i];
		if (option->scope == HERE || (option->kind == TEXT &&
		    ((const char *)options)[option->at] == '\0'))
			continue;
		fprintf(to, "%s ", option->name);
		options_print_value(options, option, to);
		fputc('\n', to);
	}
}

void
options_usage(FILE *to)
{
	const struct option *option;
	size_t i;

	fprintf(to, "usage: dnsd [-name value] ...\n");
	for (i = 0; i < TABLE_LEN; i++) {
		option = &table[i];
		if (option->help == NULL)
			continue;
		fprintf(to, "  -%-20s %s", option->name, option->help);
		if (option->kind != FLAG && option->kind != PREFIXES &&
		    option->standard[0] != '\0')
			fprintf(to, " (%s)", option->standard);
		fputc('\n', to);
	}
}
