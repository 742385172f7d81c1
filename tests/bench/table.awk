# SPDX-License-Identifier: ISC
# Copyright (c) 2026 The PicoDNS authors
#
# The table of run, from two files: the results, a row, server, round and
# value a line, and the metrics, what is shown and how it is compared:
#
#	row|label|better is less, more or -|limit: echoes, zipf or -

function median(key,    n, i, j, v, a) {
	n = split(values[key], a, ",")
	for (i = 2; i <= n; i++) {
		v = a[i] + 0
		for (j = i - 1; j > 0 && a[j] + 0 > v; j--)
			a[j + 1] = a[j]
		a[j + 1] = v
	}
	if (n == 0)
		return ""
	if (n % 2 == 1)
		return a[(n + 1) / 2] + 0
	return (a[n / 2] + a[n / 2 + 1]) / 2
}

function add(key, value) {
	# To name an element is to make it.
	if (key in values)
		values[key] = values[key] "," value
	else
		values[key] = value
}

function show(v) {
	if (v == "")
		return "-"
	if (v >= 100000)
		return sprintf("%.0fk", v / 1000)
	if (v >= 100 || v <= -100)
		return sprintf("%.0f", v)
	return sprintf(v >= 10 ? "%.1f" : "%.2f", v)
}

# The median of the ratios of dnsd to another in the same rounds.
function ratio(metric, base, target, by,    r, d, m, key) {
	key = "ratio " metric " " target
	for (r = 1; r <= rounds; r++) {
		if (!((metric, "dnsd", r) in result) ||
		    !((base, target, r) in result))
			continue
		m = by
		if (by == "zipf")
			m = 2 - result["zipf.hits", "dnsd", r] / 100
		else if (metric ~ /qps/)
			m = 1 / by
		d = result[base, target, r] * m
		if (d > 0)
			add(key, result[metric, "dnsd", r] / d)
	}
	return (key in values) ? show(median(key)) : "-"
}

BEGIN {
	n_targets = split(targets, target, ",")
	printf "%-22s", ""
	for (i = 1; i <= n_targets; i++)
		printf "%8s", target[i]
	printf "%7s%7s\n", "/limit", "/best"
}

FILENAME ~ /results$/ {
	split($0, f, " ")
	result[f[1], f[2], f[3]] = f[4]
	add(f[1] " " f[2], f[4])
	seen[f[1]] = 1
	if (f[3] > rounds)
		rounds = f[3]
	next
}

{
	split($0, f, "|")
	metric = f[1]
	if (!(metric in seen))
		next
	printf "%-22s", f[2]
	best = ""
	for (i = 1; i <= n_targets; i++) {
		v = median(metric " " target[i])
		printf "%8s", show(v)
		if (v == "" || target[i] == "echo" ||
		    target[i] == "dnsd" || f[3] == "-")
			continue
		if (best == "" || (f[3] == "less" && v < least) ||
		    (f[3] == "more" && v > least)) {
			best = target[i]
			least = v
		}
	}
	base = metric
	if (metric ~ /^(miss20.*|zipf|hot|grow.*)\.us$/ ||
	    metric ~ /^grow/)
		base = "hot.us"
	else if (metric ~ /qps$/)
		base = "hot.qps"
	else if (metric ~ /^syscalls/)
		base = "syscalls.hit"
	printf "%7s%7s\n",
	    f[4] == "-" ? "-" : ratio(metric, base, "echo", f[4]),
	    best == "" ? "-" : ratio(metric, metric, best, 1)
}
