#!/bin/sh
# SPDX-License-Identifier: ISC
# Copyright (c) 2026 The PicoDNS authors
#
# dnsd among programs that we did not write: knotd or named serves a signed
# zone with every type that we care for, unbound forwards to it, and dig, kdig
# and drill ask the same question of the server and of dnsd in front of it.
# Each answer must be the same record by record; asked again it must be the
# same with TTLs that went down.  In the end dnsperf counts lost queries.
#
# Everything runs on loopback, on ports above 20000, in a directory that goes
# away.  A program that isn't there is said aloud as SKIP.
#
#	DNSD=path	the program under test
#	REAL_SECONDS=60	for dnsperf over UDP, half of that over TCP
#	REAL_AUTH=	knotd or named; the default is the first of them
#	REAL_KEEP=	set: leave the directory

set -u
LC_ALL=C; export LC_ALL

DNSD=${DNSD:-src/dnsd}
seconds=${REAL_SECONDS:-60}
zone=zone.example
passed=0
failed=0
pids=
dir=
unbound_pid=
address=127.0.0.1

ok() { passed=$((passed + 1)); echo "ok $*"; }
not_ok() { failed=$((failed + 1)); echo "not ok $*"; }
skip() { echo "SKIP $*"; }
have() { command -v "$1" >/dev/null 2>&1; }

# check status what: by the status of the command before.
check()
{
	if [ "$1" -eq 0 ]; then
		shift; ok "$@"
	else
		shift; not_ok "$@"
	fi
}

finish()
{
	status=$?
	trap - EXIT HUP INT TERM
	for pid in $pids; do
		kill -TERM "$pid" 2>/dev/null
	done
	for pid in $pids; do
		wait "$pid" 2>/dev/null
	done
	if [ -n "$dir" ] && [ -z "${REAL_KEEP:-}" ]; then
		rm -rf "$dir"
	fi
	exit "$status"
}

give_up()
{
	not_ok "$*"
	echo "$passed passed, $failed failed"
	exit 1
}

# The end of one of our processes, at most ten seconds away.
stop()
{
	kill -TERM "$1" 2>/dev/null
	tries=0
	while kill -0 "$1" 2>/dev/null && [ "$tries" -lt 100 ]; do
		tries=$((tries + 1))
		sleep 0.1
	done
	[ "$tries" -lt 100 ] || kill -KILL "$1" 2>/dev/null
	wait "$1" 2>/dev/null
	status=$?
	rest=
	for pid in $pids; do
		[ "$pid" = "$1" ] || rest="$rest $pid"
	done
	pids=$rest
	return "$status"
}

port_is_taken()
{
	if have ss; then
		ss -Hlntu 2>/dev/null
	elif have sockstat; then
		sockstat -l 2>/dev/null
	else
		netstat -an 2>/dev/null
	fi | grep -q "[:.]$1[[:space:]]"
}

# Set port to one that nobody has, each time another.
next_port=$((20000 + $$ % 9000))
free_port()
{
	while next_port=$((next_port + 1)); port_is_taken "$next_port"; do
		[ "$next_port" -lt 32000 ] || give_up "no free port"
	done
	port=$next_port
}

# wait_answer port name pid: till a server answers, but for 15 s at most.
wait_answer()
{
	tries=0
	while [ "$tries" -lt 75 ]; do
		kill -0 "$3" 2>/dev/null || return 1
		# Not one of the questions, which shall be misses at first.
		if dig @$address -p "$1" +tries=1 +time=1 "ns2.$2" A 2>/dev/null |
		    grep -q 'status: NOERROR'; then
			return 0
		fi
		tries=$((tries + 1))
		sleep 0.2
	done
	return 1
}

# The zone.

# txt_record name strings: a record of that many strings of 200 letters.
txt_record()
{
	awk -v name="$1" -v n="$2" 'BEGIN {
		printf "%s TXT", name
		for (i = 1; i <= n; i++) {
			s = sprintf("%d:", i)
			while (length(s) < 200)
				s = s substr("abcdefghijklmnopqrstuvwxyz", \
				    (length(s) + i) % 26 + 1, 1)
			printf " \"%s\"", s
		}
		printf "\n"
	}'
}

write_zone()
{
	cat <<-END
	\$ORIGIN $zone.
	\$TTL 3600
	@ SOA ns1 hostmaster 1 3600 600 86400 300
	@ NS ns1
	@ NS ns2
	@ CAA 0 issue "ca.example; account=12"
	@ CAA 128 iodef "mailto:security@$zone"
	@ HTTPS 1 . alpn=h2,h3 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1
	ns1 A 192.0.2.1
	ns1 AAAA 2001:db8::1
	ns2 A 192.0.2.2
	a 300 A 192.0.2.10
	a 300 A 192.0.2.11
	a 300 A 192.0.2.12
	aaaa AAAA 2001:db8::10
	aaaa AAAA 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff
	alias 120 CNAME alias2
	alias2 CNAME a
	broken CNAME nowhere
	empty CNAME mx
	mx MX 10 mail
	mx MX 20 mail2
	mail A 192.0.2.25
	mail2 A 192.0.2.26
	txt TXT "v=spf1 -all" "second string" ""
	txt TXT "a \"quote\", a \\\\backslash, \\000\\001\\127\\255; done"
	_sip._udp SRV 10 60 5060 a
	_sip._udp SRV 20 0 5060 mail
	sub NS ns.sub
	ns.sub A 127.83.83.83
	sub DS 12345 13 2 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
	ptr PTR a
	naptr NAPTR 100 10 "u" "E2U+sip" "!^.*\$!sip:info@$zone!" .
	naptr NAPTR 100 20 "s" "SIP+D2U" "" _sip._udp
	svc HTTPS 1 a alpn=h3 port=8443
	svc HTTPS 2 mail key65400=abc
	_dns SVCB 1 a alpn=dot port=853
	_dns SVCB 0 mail
	unknown TYPE65534 \\# 10 000102030405feff0d0a
	unknown TYPE65534 \\# 0
	MiXeD A 192.0.2.77
	short 2 A 192.0.2.3
	*.wild 1 A 192.0.2.99
	END
	txt_record fits 4
	txt_record big 7
	txt_record huge 25
}

# What is asked: name and type.  The last ones are NODATA and NXDOMAIN.
questions()
{
	cat <<-END
	a.$zone A
	aaaa.$zone AAAA
	alias.$zone CNAME
	alias.$zone A
	alias.$zone AAAA
	broken.$zone A
	empty.$zone A
	mx.$zone MX
	txt.$zone TXT
	fits.$zone TXT
	_sip._udp.$zone SRV
	$zone NS
	ptr.$zone PTR
	$zone SOA
	$zone CAA
	naptr.$zone NAPTR
	$zone HTTPS
	svc.$zone HTTPS
	_dns.$zone SVCB
	sub.$zone DS
	$zone DNSKEY
	a.$zone RRSIG
	unknown.$zone TYPE65534
	mIxEd.ZoNe.eXaMpLe A
	name.wild.$zone A
	a.$zone MX
	wild.$zone A
	nosuch.$zone A
	no.such.name.$zone TXT
	END
}

# The servers.  Each start_* leaves its port in port and its pid in pid.

start_knotd()
{
	mkdir "$dir/knot"
	write_zone >"$dir/knot/$zone.zone"
	cat >"$dir/knot/knot.conf" <<-END
	server:
	    rundir: "$dir/knot"
	    listen: $address@$1
	    udp-workers: 1
	    tcp-workers: 1
	    background-workers: 1
	log:
	  - target: stderr
	    any: warning
	database:
	    storage: "$dir/knot"
	policy:
	  - id: here
	    algorithm: ecdsap256sha256
	    zsk-lifetime: 0
	zone:
	  - domain: $zone
	    storage: "$dir/knot"
	    file: $zone.zone
	    zonefile-sync: -1
	    dnssec-signing: on
	    dnssec-policy: here
	END
	knotd -c "$dir/knot/knot.conf" >"$dir/knot.log" 2>&1 </dev/null &
	pid=$!
}

start_named()
{
	mkdir "$dir/named"
	write_zone >"$dir/named/$zone.zone"
	cat >"$dir/named/named.conf" <<-END
	options {
		directory "$dir/named";
		pid-file none;
		session-keyfile none;
		listen-on port $1 { $address; };
		listen-on-v6 { none; };
		recursion no;
		notify no;
		minimal-any no;
		dnssec-validation no;
	};
	controls { };
	zone "$zone" {
		type primary;
		file "$zone.zone";
		dnssec-policy default;
		inline-signing yes;
	};
	END
	named -g -n 1 -c "$dir/named/named.conf" >"$dir/named.log" 2>&1 \
	    </dev/null &
	pid=$!
}

# unbound asks the authoritative server at port $2, and no one else.
start_unbound()
{
	cat >"$dir/unbound.conf" <<-END
	server:
	    directory: "$dir"
	    chroot: ""
	    username: ""
	    pidfile: ""
	    use-syslog: no
	    do-daemonize: no
	    num-threads: 1
	    interface: $address@$1
	    access-control: 127.0.0.0/8 allow
	    do-not-query-localhost: no
	    module-config: "iterator"
	    root-hints: "/dev/null"
	    qname-minimisation: no
	remote-control:
	    control-enable: no
	stub-zone:
	    name: "$zone."
	    stub-addr: $address@$2
	END
	unbound -d -p -c "$dir/unbound.conf" >"$dir/unbound.log" 2>&1 \
	    </dev/null &
	pid=$!
}

# start_dnsd port upstream_port: and wait till it answers.
start_dnsd()
{
	mkdir -p "$dir/empty"
	: >"$dir/dnsd.conf"
	"$DNSD" -foreground -config "$dir/dnsd.conf" -chroot "$dir/empty" \
	    -listen "$address:$1" -upstreams "$address:$2" \
	    >>"$dir/dnsd.log" 2>&1 </dev/null &
	pid=$!
	pids="$pids $pid"
	dnsd_pid=$pid
	if ! wait_answer "$1" "$zone" "$pid"; then
		sed 's/^/# /' "$dir/dnsd.log"
		give_up "dnsd starts"
	fi
}

# SIGTERM: exit status 0, and what came in went out.
stop_dnsd()
{
	stop "$dnsd_pid"
	check $? "dnsd $1 ends with status 0 at SIGTERM"
	grep 'stats: queries=' "$dir/dnsd.log" | tail -n 1 |
	    tr ' ' '\n' >"$dir/stats"
	awk -F= '
	{ n[$1] = $2 }
	END {
		print "# " n["queries"] " queries, " n["replies"] \
		    " replies, " n["drops"] " dropped, " n["hits"] " hits"
		exit (n["queries"] > 0 &&
		    n["queries"] == n["replies"] + n["drops"] ? 0 : 1)
	}' "$dir/stats"
	check $? "dnsd $1 accounts for every query"
}

# Clients.

# ask tool port name type: all sections as the tool prints them.
ask()
{
	case $1 in
	dig)
		dig @$address -p "$2" +tries=1 +time=5 +nocookie +ignore \
		    "$3" "$4"
		;;
	dig-dnssec)
		dig @$address -p "$2" +tries=1 +time=5 +nocookie +ignore \
		    +dnssec "$3" "$4"
		;;
	kdig)
		kdig @$address -p "$2" +retry=0 +time=5 +ignore "$3" "$4"
		;;
	drill)
		drill -p "$2" "$3" @$address "$4"
		;;
	esac
}

# Reduce a reply to its rcode and its sorted records: "section|owner|class|
# type|data|TTL" each.  Owners are compared without regard to case: it is the
# question's, and where a server writes it out it may not be ours.
records()
{
	awk '
	/^;; .*(status|rcode): / {
		match($0, /(status|rcode): [A-Z]+/)
		split(substr($0, RSTART, RLENGTH), part, " ")
		print "0|rcode|" part[2] "|||0"
	}
	/^;; Truncated/ || /^;;.* [Ff]lags:.* tc[ ;]/ {
		truncated = 1
	}
	/^;;.*ANSWER SECTION/ { section = 1 }
	/^;;.*AUTHORITY SECTION/ { section = 2 }
	/^;;.*ADDITIONAL SECTION/ { section = 3 }
	/^;/ || NF < 5 { next }
	{
		data = $5
		for (i = 6; i <= NF; i++)
			data = data " " $i
		print section "|" tolower($1) "|" $3 "|" $4 "|" data "|" $2
	}
	END {
		if (truncated)
			print "0|truncated||||0"
	}' | sort
}

# compare mode one two: is two the same as one?  Its TTLs may be lower, but
# not zero; mode "aged": at least one must be; mode "over": they may be any.
# Prints what is wrong.
compare()
{
	sed 's/|[0-9]*$//' "$2" >"$dir/one"
	sed 's/|[0-9]*$//' "$3" >"$dir/two"
	if ! [ -s "$2" ]; then
		echo "# no reply from the server"
		return 1
	fi
	if ! diff "$dir/one" "$dir/two" >"$dir/diff"; then
		sed -n '1,20s/^/# /p' "$dir/diff"
		return 1
	fi
	sed 's/.*|//' "$2" >"$dir/one"
	sed 's/.*|//' "$3" >"$dir/two"
	paste "$dir/one" "$dir/two" | awk -v mode="$1" '
	mode != "over" && ($2 > $1 || $1 > 0 && $2 < 1) {
		print "# TTL " $1 " became " $2
		bad = 1
	}
	$1 > 0 { ttls++ }
	$2 < $1 { lower++ }
	END {
		if (mode == "aged" && ttls > 0 && lower == 0) {
			print "# no TTL went down"
			bad = 1
		}
		exit (bad)
	}'
}

# mode_of name mode: how to compare it.  What expires after a second may have
# done so between any two queries.
mode_of()
{
	case $1 in
	*.wild.*) echo over ;;
	*) echo "$2" ;;
	esac
}

# compare_all tool server_port dnsd_port what: every question, as a miss and,
# when at least a second has gone by, as a hit.
compare_all()
{
	n=0
	questions >"$dir/questions"
	while read -r name type; do
		n=$((n + 1))
		ask "$1" "$2" "$name" "$type" 2>/dev/null |
		    records >"$dir/$n.direct"
		ask "$1" "$3" "$name" "$type" 2>/dev/null |
		    records >"$dir/$n.miss"
		compare "$(mode_of "$name" miss)" "$dir/$n.direct" \
		    "$dir/$n.miss"
		check $? "$4 $1 $name $type: the same records"
	done <"$dir/questions"
	sleep 1.1
	n=0
	while read -r name type; do
		n=$((n + 1))
		ask "$1" "$3" "$name" "$type" 2>/dev/null |
		    records >"$dir/$n.hit"
		compare "$(mode_of "$name" aged)" "$dir/$n.miss" "$dir/$n.hit"
		check $? "$4 $1 $name $type: the same again, its TTL lower"
	done <"$dir/questions"
}

# What one reply looks like: "rcode flags... size=bytes answers=n".
shape()
{
	dig @$address -p "$dnsd_port" +tries=1 +time=5 +nocookie +ignore "$@" \
	    2>&1 | awk '
	/^;; .*status: / {
		match($0, /status: [A-Z]+/)
		rcode = substr($0, RSTART + 8, RLENGTH - 8)
	}
	/^;; flags:/ {
		tc = / tc[ ;]/ ? " tc" : ""
		match($0, /ANSWER: [0-9]+/)
		answers = substr($0, RSTART + 8, RLENGTH - 8)
	}
	/^; EDNS: version: / { edns = " edns" }
	/^;; MSG SIZE/ { size = $NF }
	END { print rcode tc edns, "answers=" answers, "size=" size + 0 }'
}

# expect what pattern limit dig_arguments: rcode and flags, and the size.
expect()
{
	what=$1
	pattern=$2
	limit=$3
	shift 3
	got=$(shape "$@")
	size=${got##*size=}
	# shellcheck disable=SC2254	# it is a pattern
	case $got in
	$pattern)
		[ "$size" -gt 0 ] && [ "$size" -le "$limit" ]
		check $? "$what"
		[ "$size" -le "$limit" ] || echo "# $got, over $limit bytes"
		;;
	*)
		not_ok "$what"
		echo "# $got"
		;;
	esac
}

serves_tcp()
{
	dig @$address -p "$dnsd_port" +tcp +tries=1 +time=2 a.$zone A \
	    2>/dev/null | grep -q 'status: NOERROR'
}

edns_and_sizes()
{
	fits=fits.$zone
	big=big.$zone
	huge=huge.$zone
	expect "an answer of 900 bytes to +bufsize=512: TC, empty" \
	    'NOERROR tc edns answers=0 *' 512 +bufsize=512 $fits TXT
	expect "an answer of 900 bytes to +noedns: TC, empty" \
	    'NOERROR tc answers=0 *' 512 +noedns $fits TXT
	expect "an answer of 900 bytes to +bufsize=1232: whole" \
	    'NOERROR edns answers=1 *' 1232 +bufsize=1232 $fits TXT
	expect "an answer of 900 bytes to +bufsize=4096: whole" \
	    'NOERROR edns answers=1 *' 1232 +bufsize=4096 $fits TXT
	expect "an answer of 900 bytes to +bufsize=100: as 512" \
	    'NOERROR tc edns answers=0 *' 512 +bufsize=100 $fits TXT
	for try in miss hit; do
		expect "an answer of 1,400 bytes to +bufsize=4096: TC ($try)" \
		    'NOERROR tc edns answers=0 *' 1232 +bufsize=4096 $big TXT
		expect "an answer of 5,000 bytes to +bufsize=8192: TC ($try)" \
		    'NOERROR tc edns answers=0 *' 1232 +bufsize=8192 $huge TXT
		expect "an answer of 5,000 bytes to +noedns: TC ($try)" \
		    'NOERROR tc answers=0 *' 512 +noedns $huge TXT
	done
	expect "no OPT to a client without EDNS" \
	    'NOERROR answers=3 *' 512 +noedns a.$zone A
	expect "an OPT to a client with EDNS" \
	    'NOERROR edns answers=3 *' 512 +edns=0 a.$zone A
	expect "RRSIGs only to +dnssec" \
	    'NOERROR edns answers=4 *' 1232 +dnssec a.$zone A
	expect "EDNS version 1: BADVERS" \
	    'BADVERS edns answers=0 *' 512 +edns=1 +noednsnegotiation a.$zone A
	expect "class CH: REFUSED" \
	    'REFUSED* answers=0 *' 512 -c CH -t TXT version.bind
	expect "opcode STATUS: NOTIMP" \
	    'NOTIMP* answers=0 *' 512 +opcode=status a.$zone A
	expect "ANY: TC" \
	    'NOERROR tc edns answers=0 *' 512 +notcp a.$zone ANY
	expect "+norecurse, in the cache: the answer" \
	    'NOERROR edns answers=3 *' 512 +norecurse a.$zone A
	expect "+norecurse, not in the cache: REFUSED" \
	    'REFUSED edns answers=0 *' 512 +norecurse new.wild.$zone A
	expect "+cdflag: the answer" \
	    'NOERROR edns answers=3 *' 512 +cdflag a.$zone A

	if ! serves_tcp; then
		skip "TCP: this dnsd does not serve it"
		return
	fi
	for name in $big $huge a.$zone; do
		for p in "$auth_port" "$dnsd_port"; do
			dig @$address -p "$p" +tcp +tries=1 +time=5 \
			    +nocookie "$name" TXT 2>/dev/null |
			    records >"$dir/tcp.$p"
		done
		compare miss "$dir/tcp.$auth_port" "$dir/tcp.$dnsd_port"
		check $? "over TCP dig $name TXT: the same records"
	done
}

# load mode seconds: dnsperf over udp or tcp.  Three of four queries are for
# what is in the cache or soon will be, the fourth is for a name that was not
# asked before, or not for long.
load()
{
	questions | grep -v -i mixed >"$dir/questions"
	awk -v zone="$zone" '
	{ q[NR] = $0 }
	END {
		for (i = 1; i <= 40000; i++)
			if (i % 4 == 0)
				print "n" i ".wild." zone " A"
			else
				print q[i % NR + 1]
	}' "$dir/questions" >"$dir/queries"
	dnsperf -s $address -p "$dnsd_port" -d "$dir/queries" -l "$2" \
	    -m "$1" -c 20 -t 5 -e >"$dir/dnsperf" 2>&1
	check $? "dnsperf runs over $1 for $2 s"
	grep -E 'Queries|Response codes|Average Lat' "$dir/dnsperf" |
	    sed 's/^ */# /'
	sent=$(awk '/Queries sent:/ { print $3 }' "$dir/dnsperf")
	lost=$(awk '/Queries lost:/ { print $3 }' "$dir/dnsperf")
	[ "${sent:-0}" -ge $(($2 * 100)) ]
	check $? "dnsperf sent ${sent:-no} queries"
	# A datagram may be lost in a socket's buffer, whatever dnsd does; its
	# own books are closed at its end.
	most=0
	[ "$1" != udp ] || most=$((${sent:-0} / 1000000))
	[ "${lost:--1}" -ge 0 ] && [ "$lost" -le "$most" ]
	check $? "dnsperf lost ${lost:-nobody knows how many} queries"
	! grep 'Response codes:' "$dir/dnsperf" |
	    grep -qE 'SERVFAIL|REFUSED|FORMERR|NOTIMP'
	check $? "dnsperf saw NOERROR and NXDOMAIN only"
}

# It begins.

case $DNSD in
/*) ;;
*) DNSD=$PWD/$DNSD ;;
esac
[ -x "$DNSD" ] || give_up "no program at $DNSD"
if ! have dig; then
	skip "all: no dig"
	echo "0 passed, 0 failed"
	exit 77
fi

auth=${REAL_AUTH:-}
if [ -z "$auth" ]; then
	if have knotd; then
		auth=knotd
	elif have named; then
		auth=named
	else
		skip "all: neither knotd nor named"
		echo "0 passed, 0 failed"
		exit 77
	fi
fi

trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
dir=$(mktemp -d "${TMPDIR:-/tmp}/dnsd-real.XXXXXX") || exit 1

free_port
auth_port=$port
"start_$auth" "$auth_port"
pids="$pids $pid"
if ! wait_answer "$auth_port" "$zone" "$pid"; then
	sed 's/^/# /' "$dir"/*.log
	give_up "$auth starts"
fi

# Signing may go on for a moment after the first answer.
tries=0
until dig @$address -p "$auth_port" +dnssec +tries=1 +time=1 "a.$zone" A |
    grep -q 'RRSIG'; do
	tries=$((tries + 1))
	[ "$tries" -lt 50 ] || give_up "$auth signs its zone"
	sleep 0.2
done

free_port
dnsd_port=$port
start_dnsd "$dnsd_port" "$auth_port"
compare_all dig "$auth_port" "$dnsd_port" "$auth"
compare_all dig-dnssec "$auth_port" "$dnsd_port" "$auth"
edns_and_sizes
stop_dnsd "before $auth"
for tool in kdig drill; do
	if ! have $tool; then
		skip "$tool: not there"
		continue
	fi
	free_port
	dnsd_port=$port
	start_dnsd "$dnsd_port" "$auth_port"
	compare_all $tool "$auth_port" "$dnsd_port" "$auth"
	stop_dnsd "asked by $tool"
done

if have unbound; then
	free_port
	unbound_port=$port
	start_unbound "$unbound_port" "$auth_port"
	pids="$pids $pid"
	unbound_pid=$pid
	if ! wait_answer "$unbound_port" "$zone" "$pid"; then
		sed 's/^/# /' "$dir/unbound.log"
		give_up "unbound starts"
	fi
	free_port
	dnsd_port=$port
	start_dnsd "$dnsd_port" "$unbound_port"
	compare_all dig "$unbound_port" "$dnsd_port" unbound
	compare_all dig-dnssec "$unbound_port" "$dnsd_port" unbound
	stop_dnsd "before unbound"
	stop "$unbound_pid"
else
	skip "unbound: not there"
fi

if have dnsperf; then
	free_port
	dnsd_port=$port
	start_dnsd "$dnsd_port" "$auth_port"
	load udp "$seconds"
	if serves_tcp; then
		load tcp $(((seconds + 1) / 2))
	else
		skip "dnsperf over TCP: this dnsd does not serve it"
	fi
	stop_dnsd "after dnsperf"
else
	skip "dnsperf: not there"
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
