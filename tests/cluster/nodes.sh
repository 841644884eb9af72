# Two nodes on one machine: network namespaces joined by virtual Ethernet, each with a
# host name and an address of its own; the disk is shared.
#
#   . tests/cluster/nodes.sh && trap remove_nodes EXIT && make_nodes
#   on_node 0 COMMAND...    # as root of node0, 192.0.2.1; node1 is 192.0.2.2
#
# It needs root and ip (Debian: iproute2).
nodes_prefix="metajax-$$" nodes_hosts=""

make_nodes() {
    local node
    nodes_hosts="$(mktemp)"
    printf '127.0.0.1 localhost\n192.0.2.1 node0\n192.0.2.2 node1\n' > "$nodes_hosts"
    chmod 644 "$nodes_hosts"
    for node in 0 1; do
        ip netns add "$nodes_prefix-$node"
    done
    ip link add eth0 netns "$nodes_prefix-0" type veth \
        peer name eth0 netns "$nodes_prefix-1"
    for node in 0 1; do
        ip -n "$nodes_prefix-$node" address add "192.0.2.$((node + 1))/24" dev eth0
        ip -n "$nodes_prefix-$node" link set eth0 up
        ip -n "$nodes_prefix-$node" link set lo up
    done
}

on_node() {
    local node="$1"
    shift
    nsenter --net="/run/netns/$nodes_prefix-$node" unshare --mount --uts bash -c '
        hostname "$0"
        mount --bind "$1" /etc/hosts
        shift
        exec "$@"' "node$node" "$nodes_hosts" "$@"
}

remove_nodes() {  # and what runs on them
    local node
    [ -n "$nodes_hosts" ] || return 0
    for node in 0 1; do
        ip netns pids "$nodes_prefix-$node" 2> /dev/null | xargs -r kill -KILL || true
        ip netns delete "$nodes_prefix-$node" 2> /dev/null || true
    done
    rm -f "$nodes_hosts"
}
