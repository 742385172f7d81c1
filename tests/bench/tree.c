/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Process trees, as /proc shows them.  CPU time is in nanoseconds, from
 * schedstat of each thread: ticks of 10 ms are too coarse for a short run.
 * It is time on a processor, and so has in it what the kernel does for the
 * network while a process of the tree is at it; what the kernel puts off to
 * ksoftirqd is another process's.  Who wants that too names it as a root.
 */

#include <ctype.h>
#include <dirent.h>
#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tree.h"

struct process {
	pid_t		 pid;
	pid_t		 parent;
	bool		 inside;
};

static size_t	 list(struct process **);
static pid_t	 parent_of(pid_t);
static void	 mark(struct process *, size_t, const pid_t *, unsigned);
static void	 add_cpu(struct tree *, pid_t);
static uint64_t	 field_kb(pid_t, const char *, const char *);
static void	 count(struct tree *, const pid_t *, unsigned, bool);

unsigned
tree_parse(pid_t roots[TREE_ROOTS], const char *text)
{
	unsigned n = 0;
	char *end;

	do {
		if (n == TREE_ROOTS || !isdigit((unsigned char)*text))
			return (0);
		roots[n++] = strtol(text, &end, 10);
		text = end + 1;
	} while (*end == ',');
	return (*end == '\0' ? n : 0);
}

void
tree_cpu(struct tree *tree, const pid_t *roots, unsigned n)
{
	count(tree, roots, n, false);
}

void
tree_memory(struct tree *tree, const pid_t *roots, unsigned n)
{
	count(tree, roots, n, true);
}

static void
count(struct tree *tree, const pid_t *roots, unsigned n, bool memory)
{
	struct process *processes;
	size_t i, found;

	memset(tree, 0, sizeof(*tree));
	found = list(&processes);
	mark(processes, found, roots, n);
	for (i = 0; i < found; i++) {
		if (!processes[i].inside)
			continue;
		tree->processes++;
		add_cpu(tree, processes[i].pid);
		if (!memory)
			continue;
		tree->pss_kb += field_kb(processes[i].pid,
		    "smaps_rollup", "Pss:");
		tree->pte_kb += field_kb(processes[i].pid,
		    "status", "VmPTE:");
	}
	free(processes);
}

/* All processes.  The caller frees them. */
static size_t
list(struct process **processes)
{
	struct process *all = NULL;
	size_t n = 0, room = 0;
	struct dirent *entry;
	DIR *dir;

	if ((dir = opendir("/proc")) == NULL)
		err(1, "/proc");
	while ((entry = readdir(dir)) != NULL) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		if (n == room) {
			room = room == 0 ? 512 : 2 * room;
			all = realloc(all, room * sizeof(*all));
			if (all == NULL)
				err(1, "realloc");
		}
		all[n].pid = strtol(entry->d_name, NULL, 10);
		all[n].parent = parent_of(all[n].pid);
		all[n++].inside = false;
	}
	closedir(dir);
	*processes = all;
	return (n);
}

/* Returns 0 for a process that is gone. */
static pid_t
parent_of(pid_t pid)
{
	char path[64], line[512], *end;
	pid_t parent = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if ((file = fopen(path, "r")) == NULL)
		return (0);
	/* The name, in parentheses, may hold anything. */
	if (fgets(line, sizeof(line), file) != NULL &&
	    (end = strrchr(line, ')')) != NULL)
		sscanf(end + 1, " %*c %d", &parent);
	fclose(file);
	return (parent);
}

/* A child may be listed before its parent, so till nothing changes. */
static void
mark(struct process *processes, size_t found, const pid_t *roots, unsigned n)
{
	size_t i, j;
	bool changed;

	for (i = 0; i < found; i++)
		for (j = 0; j < n; j++)
			if (processes[i].pid == roots[j])
				processes[i].inside = true;
	do {
		changed = false;
		for (i = 0; i < found; i++) {
			if (processes[i].inside)
				continue;
			for (j = 0; j < found; j++)
				if (processes[j].inside &&
				    processes[j].pid == processes[i].parent)
					break;
			if (j < found)
				processes[i].inside = changed = true;
		}
	} while (changed);
}

static void
add_cpu(struct tree *tree, pid_t pid)
{
	struct dirent *entry;
	unsigned long long ns;
	char path[64];
	FILE *file;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	if ((dir = opendir(path)) == NULL)
		return;
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.10s/schedstat",
		    pid, entry->d_name);
		if ((file = fopen(path, "r")) == NULL)
			continue;
		if (fscanf(file, "%llu", &ns) == 1) {
			tree->cpu_ns += ns;
			tree->threads++;
		}
		fclose(file);
	}
	closedir(dir);
}

/* The number that follows a label at the start of a line. */
static uint64_t
field_kb(pid_t pid, const char *name, const char *label)
{
	unsigned long long kb = 0;
	char path[64], line[256];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	if ((file = fopen(path, "r")) == NULL)
		return (0);
	while (fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, label, strlen(label)) == 0) {
			kb = strtoull(line + strlen(label), NULL, 10);
			break;
		}
	fclose(file);
	return (kb);
}
