/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef OPTIONS_VALUE_H
#define OPTIONS_VALUE_H

/* What options.c and options_value.c know of an option, and no one else. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "options.h"

enum kind {
	ADDRS,
	PREFIXES,
	NUMBER,
	DURATION,
	LEVEL,
	YESNO,
	TEXT,
	FLAG		/* takes no value */
};

enum scope {
	ANYWHERE,
	HERE		/* on the command line only */
};

struct option {
	const char	*name;
	enum scope	 scope;
	enum kind	 kind;
	size_t		 at;		/* in struct options */
	const char	*standard;	/* the default */
	uint64_t	 min;
	uint64_t	 max;
	const char	*help;
};

/*
 * Set an option to a value; append adds to a list what else replaces it.
 * Returns 0, or -1 with what is wrong in error, without where that is.
 */
int	 options_parse_value(struct options *options,
	    const struct option *option, const char *value, bool append,
	    char error[OPTIONS_ERROR_MAX]);

/* Print an option's value, such that it can be parsed. */
void	 options_print_value(const struct options *options,
	    const struct option *option, FILE *to);

#endif
