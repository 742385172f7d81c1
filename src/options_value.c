/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The values of options, by kind: how each is written, checked against the
 * option's bounds, kept in struct options and printed.  It knows neither the
 * table nor where a value comes from: an error says only what is wrong.
 */

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "options_value.h"

static const char *const level_names[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARN] = "warn",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

static int	set_list(struct options *, const struct option *, const char *,
		    bool, char *);
static int	set_number(uint64_t *, const struct option *, const char *,
		    char *);
static int	set_duration(uint64_t *, const struct option *, const char *,
		    char *);
static int	set_level(uint64_t *, const char *, char *);
static int	set_yesno(uint64_t *, const char *, char *);
static int	fail(char *, const char *, ...)
		    __attribute__((__format__(__printf__, 2, 3)));
static void	print_duration(char *, size_t, uint64_t);

int
options_parse_value(struct options *options, const struct option *option,
    const char *value, bool append, char error[OPTIONS_ERROR_MAX])
{
	void *at = (char *)options + option->at;

	switch (option->kind) {
	case ADDRS:
	case PREFIXES:
		return (set_list(options, option, value, append, error));
	case NUMBER:
		return (set_number(at, option, value, error));
	case DURATION:
		return (set_duration(at, option, value, error));
	case LEVEL:
		return (set_level(at, value, error));
	case YESNO:
		return (set_yesno(at, value, error));
	case TEXT:
		if (strlcpy(at, value, OPTIONS_TEXT_MAX) >= OPTIONS_TEXT_MAX)
			return (fail(error, "is too long"));
		break;
	case FLAG:
		*(bool *)at = true;
		break;
	}
	return (0);
}

/* Addresses or networks, separated by commas, in place of what was there. */
static int
set_list(struct options *options, const struct option *option,
    const char *value, bool append, char *error)
{
	struct options_addrs *addrs = (void *)((char *)options + option->at);
	struct options_prefixes *prefixes = (void *)addrs;
	size_t *count = &addrs->count, len, max;
	const char *wrong;
	char item[ADDR_TEXT_MAX];

	_Static_assert(offsetof(struct options_addrs, count) ==
	    offsetof(struct options_prefixes, count), "one count for both");
	max = option->kind == ADDRS ? OPTIONS_ADDRS_MAX : OPTIONS_PREFIXES_MAX;
	if (!append)
		*count = 0;
	for (;;) {
		value += strspn(value, " \t");
		len = strcspn(value, ", \t");
		if (len == 0)
			return (fail(error, "an address is missing"));
		if (len >= sizeof(item))
			return (fail(error, "%s: not an IP address", value));
		if (*count == max)
			return (fail(error, "more than %zu", max));
		memcpy(item, value, len);
		item[len] = '\0';
		if (option->kind == ADDRS)
			wrong = addr_parse(&addrs->addr[*count], item,
			    OPTIONS_PORT);
		else
			wrong = addr_prefix_parse(&prefixes->prefix[*count],
			    item);
		if (wrong != NULL)
			return (fail(error, "%s: %s", item, wrong));
		(*count)++;
		value += len;
		value += strspn(value, " \t");
		if (*value == '\0')
			return (0);
		if (*value++ != ',')
			return (fail(error,
			    "addresses are separated by commas"));
	}
}

static int
set_number(uint64_t *at, const struct option *option, const char *value,
    char *error)
{
	const char *wrong;

	*at = strtonum(value, option->min, option->max, &wrong);
	if (wrong == NULL)
		return (0);
	if (value[strspn(value, "-0123456789")] != '\0' || errno == EINVAL)
		return (fail(error, "%s is not a number", value));
	if (value[0] == '-' || strcmp(wrong, "too small") == 0)
		return (fail(error, "%s is below %llu", value,
		    (unsigned long long)option->min));
	return (fail(error, "%s is above %llu", value,
	    (unsigned long long)option->max));
}

/* "1m30s": numbers, each with its unit, larger units first or not. */
static int
set_duration(uint64_t *at, const struct option *option, const char *value,
    char *error)
{
	static const struct {
		const char	*name;
		uint64_t	 ms;
	} units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 },
	    { "h", 3600000 } };
	const char *from = value, *unit;
	char bound[32];
	uint64_t sum = 0, number;
	size_t i, len;
	char *end;

	do {
		errno = 0;
		number = strtoull(from, &end, 10);
		len = strspn(end, "abcdefghijklmnopqrstuvwxyz");
		unit = end;
		for (i = 0; i < 4; i++) {
			if (strlen(units[i].name) == len &&
			    strncmp(units[i].name, unit, len) == 0)
				break;
		}
		if (!isdigit((unsigned char)*from) || i == 4)
			return (fail(error, "%s is not a duration with its "
			    "unit, like 5s, 400ms, 1m30s", value));
		if (errno != 0 || number > UINT32_MAX)
			number = UINT32_MAX;	/* above every bound */
		sum += number * units[i].ms;
		from = unit + len;
	} while (*from != '\0');
	*at = sum;
	if (sum < option->min) {
		print_duration(bound, sizeof(bound), option->min);
		return (fail(error, "%s is below %s", value, bound));
	}
	if (sum > option->max) {
		print_duration(bound, sizeof(bound), option->max);
		return (fail(error, "%s is above %s", value, bound));
	}
	return (0);
}

static int
set_level(uint64_t *at, const char *value, char *error)
{
	for (*at = 0; *at <= LOG_LEVEL_DEBUG; ++*at) {
		if (strcmp(level_names[*at], value) == 0)
			return (0);
	}
	return (fail(error, "%s is none of error, warn, info, debug", value));
}

static int
set_yesno(uint64_t *at, const char *value, char *error)
{
	*at = strcmp(value, "yes") == 0;
	if (*at == 0 && strcmp(value, "no") != 0)
		return (fail(error, "%s is neither yes nor no", value));
	return (0);
}

/* Say what is wrong with a value.  Returns -1. */
static int
fail(char *error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, OPTIONS_ERROR_MAX, fmt, ap);
	va_end(ap);
	return (-1);
}

void
options_print_value(const struct options *options,
    const struct option *option, FILE *to)
{
	const void *at = (const char *)options + option->at;
	const struct options_addrs *addrs = at;
	const struct options_prefixes *prefixes = at;
	uint64_t number = *(const uint64_t *)at;
	char text[ADDR_TEXT_MAX];
	size_t i;

	switch (option->kind) {
	case ADDRS:
		for (i = 0; i < addrs->count; i++)
			fprintf(to, "%s%s", i == 0 ? "" : ",",
			    addr_print(text, &addrs->addr[i]));
		break;
	case PREFIXES:
		for (i = 0; i < prefixes->count; i++)
			fprintf(to, "%s%s", i == 0 ? "" : ",",
			    addr_prefix_print(text, &prefixes->prefix[i]));
		break;
	case NUMBER:
		fprintf(to, "%llu", (unsigned long long)number);
		break;
	case DURATION:
		print_duration(text, sizeof(text), number);
		fprintf(to, "%s", text);
		break;
	case LEVEL:
		fprintf(to, "%s", level_names[number]);
		break;
	case YESNO:
		fprintf(to, "%s", number ? "yes" : "no");
		break;
	case TEXT:
		fprintf(to, "%s", (const char *)at);
		break;
	case FLAG:
		break;
	}
}

static void
print_duration(char *dst, size_t size, uint64_t ms)
{
	unsigned long long value = ms;

	if (ms % 1000 != 0)
		snprintf(dst, size, "%llums", value);
	else if (ms == 0 || ms % 60000 != 0)
		snprintf(dst, size, "%llus", value / 1000);
	else if (ms % 3600000 != 0)
		snprintf(dst, size, "%llum", value / 60000);
	else
		snprintf(dst, size, "%lluh", value / 3600000);
}
