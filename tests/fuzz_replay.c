/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Give every file of a directory, $CORPUS or the argument, to the fuzzer's
 * entry, so that "make check" runs what fuzzing has found without a fuzzer.
 */

#include <dirent.h>
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INPUT_MAX	(1 << 20)

int		 LLVMFuzzerTestOneInput(const uint8_t *, size_t);
static unsigned	 replay_directory(const char *);
static void	 replay_file(const char *);

int
main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : getenv("CORPUS");
	unsigned files;

	if (path == NULL)
		errx(1, "usage: check_fuzz directory, or set CORPUS");
	files = replay_directory(path);
	if (files == 0)
		errx(1, "%s: no files", path);
	printf("%s: %u inputs\n", path, files);
	return (0);
}

static unsigned
replay_directory(const char *path)
{
	const struct dirent *entry;
	unsigned files = 0;
	DIR *dir;

	if ((dir = opendir(path)) == NULL || chdir(path) == -1)
		err(1, "%s", path);
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		replay_file(entry->d_name);
		files++;
	}
	closedir(dir);
	return (files);
}

static void
replay_file(const char *name)
{
	static uint8_t data[INPUT_MAX];
	uint8_t *input;
	FILE *file;
	size_t len;

	if ((file = fopen(name, "r")) == NULL)
		err(1, "%s", name);
	len = fread(data, 1, sizeof(data), file);
	if (ferror(file))
		err(1, "%s", name);
	if (len == sizeof(data))
		errx(1, "%s: too long", name);
	fclose(file);

	/* If it aborts, the last line tells which it was. */
	printf("%s\n", name);
	fflush(stdout);
	if ((input = malloc(len + 1)) == NULL)
		err(1, NULL);
	memcpy(input, data, len);
	LLVMFuzzerTestOneInput(input, len);
	free(input);
}
