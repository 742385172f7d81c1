# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154	# run sets and uses them
# SPDX-License-Identifier: ISC
# Copyright (c) 2026 The PicoDNS authors
#
# The servers that run compares, and how each is set up for the work.
#
# command_* sets command, an array, and writes what the server
# reads below $home: address $port, upstream port $1, threads $2, entries of
# cache $3.  Where only bytes can be said, they were found by trial: as many
# as keep about that many answers of the bench.

command_echo()
{
	command=("$BENCH/bench_echo" -port "$port" -processes "$2")
}

command_dnsd()
{
	mkdir -p "$home/empty"
	: >"$home/dnsd.conf"
	command=("$DNSD" -foreground -config "$home/dnsd.conf"
	    -chroot "$home/empty" -listen "$address:$port"
	    -upstreams "$address:$1" -listeners "$2" -cache-size "$3")
}

command_dnsdist()
{
	local i

	cat >"$home/dnsdist.conf" <<-END
	setLocal("$address:$port", { reusePort = true })
	setSecurityPollSuffix("")
	setMaxUDPOutstanding(65535)
	newServer({ address = "$address:$1", sockets = 8 })
	getPool(""):setCache(newPacketCache($3, { maxTTL = 86400 }))
	END
	for ((i = 1; i < $2; i++)); do
		echo "addLocal(\"$address:$port\", { reusePort = true })"
	done >>"$home/dnsdist.conf"
	command=(dnsdist --supervised --disable-syslog
	    -C "$home/dnsdist.conf")
}

command_unbound()
{
	cat >"$home/unbound.conf" <<-END
	server:
	    directory: "$home"
	    chroot: ""
	    username: ""
	    pidfile: ""
	    use-syslog: no
	    do-daemonize: no
	    num-threads: $2
	    so-reuseport: yes
	    so-rcvbuf: 4m
	    so-sndbuf: 4m
	    interface: $address@$port
	    access-control: 127.0.0.0/8 allow
	    do-not-query-localhost: no
	    module-config: "iterator"
	    root-hints: "/dev/null"
	    outgoing-range: 8192
	    num-queries-per-thread: 4096
	    msg-cache-size: $(($3 * 265))
	    rrset-cache-size: $(($3 * 265))
	    msg-cache-slabs: $2
	    rrset-cache-slabs: $2
	    infra-cache-slabs: $2
	    key-cache-slabs: $2
	    minimal-responses: yes
	remote-control:
	    control-enable: no
	forward-zone:
	    name: "."
	    forward-addr: $address@$1
	END
	command=(unbound -d -p -c "$home/unbound.conf")
}

command_pdns()
{
	: >"$home/recursor.conf"
	command=(pdns_recursor --config-dir="$home" --socket-dir="$home"
	    --daemon=no --write-pid=no --quiet --loglevel=3
	    --local-address="$address" --local-port="$port"
	    --threads="$2" --reuseport=yes --pdns-distributes-queries=no
	    --forward-zones-recurse=".=$address:$1" --dont-query=
	    --dont-throttle-netmasks=127.0.0.0/8 --dnssec=off
	    --qname-minimization=no --max-mthreads=4096
	    --max-cache-entries="$3" --max-packetcache-entries="$3"
	    --serve-rfc1918=no --security-poll-suffix= --hint-file=no)
}

command_kresd()
{
	cat >"$home/kresd.conf" <<-END
	net.listen('$address', $port, { kind = 'dns' })
	trust_anchors.remove('.')
	modules.unload('priming')
	modules.unload('ta_update')
	modules.unload('ta_signal_query')
	modules.unload('detect_time_skew')
	cache.size = $(($3 * 130 + 1000000))
	policy.add(policy.all(policy.FORWARD('$address@$1')))
	END
	command=(kresd -n -q -c "$home/kresd.conf" "$home")
}

command_named()
{
	cat >"$home/named.conf" <<-END
	options {
		directory "$home";
		pid-file none;
		session-keyfile none;
		listen-on port $port { $address; };
		listen-on-v6 { none; };
		forwarders port $1 { $address; };
		forward only;
		recursion yes;
		allow-query { any; };
		allow-recursion { any; };
		recursive-clients 10000;
		dnssec-validation no;
		qname-minimization off;
		minimal-responses yes;
		empty-zones-enable no;
		fetches-per-server 0;
		fetches-per-zone 0;
		max-cache-size $(($3 * 320 + 4000000));
	};
	controls { };
	logging { category default { null; }; };
	END
	command=(named -f -n "$2" -c "$home/named.conf")
}

# A full cache is searched from end to end for each answer that comes, so that
# its manual warns of large ones.
command_dnsmasq()
{
	local entries=$3

	[ "$entries" -le 10000 ] || entries=10000
	command=(dnsmasq --keep-in-foreground --conf-file=/dev/null
	    --user= --group= --pid-file= --log-facility=/dev/null
	    --port="$port" --listen-address="$address" --bind-interfaces
	    --no-resolv --no-hosts --server="$address#$1"
	    --cache-size="$entries" --dns-forward-max=10000)
}

program_of()
{
	case $1 in
	echo) echo "$BENCH/bench_echo" ;;
	dnsd) echo "$DNSD" ;;
	pdns) echo pdns_recursor ;;
	*) echo "$1" ;;
	esac
}

version_of()
{
	case $1 in
	echo) echo "the limit" ;;
	dnsd) "$DNSD" -version 2>&1 | head -n 1 ;;
	dnsdist) dnsdist --version | awk 'NR == 1 { print $2 }' ;;
	unbound) unbound -V | awk 'NR == 1 { print $2 }' ;;
	pdns) pdns_recursor --version 2>&1 |
	    sed -n 's/.*Recursor \([0-9.]*\).*/\1/p' | head -n 1 ;;
	kresd) kresd --version | sed 's/.*version //' ;;
	named) named -v | awk '{ print $2 }' ;;
	dnsmasq) dnsmasq --version | awk 'NR == 1 { print $3 }' ;;
	esac
}
