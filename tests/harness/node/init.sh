#!/usr/bin/env bash
# The first process of a node: makes private mount, process and cgroup namespaces look like a machine to containerd and the
# kubelet, and runs both. When one of them ends, the node ends; when this process ends, the kernel kills all others in it.
#
#     init.sh RUN NODE PROGRAMS KUBELET NAME [REFERENCE ARCHIVE]...
#
# RUN     the directory of the test run, all of the disk that stays writable
# NODE    the node's directory in it, with containerd.toml, kubelet.yaml and kubeconfig
# KUBELET the program; PROGRAMS is a search path in front of the usual one, with containerd, its shim and runc, or empty
# NAME    the node's name
# ARCHIVE is imported before the kubelet starts; REFERENCE is what deploy/image.sh printed for it
set -euo pipefail
run=$1 node=$2 programs=$3 kubelet=$4 name=$5
shift 5
export PATH=${programs:+$programs:}$PATH
cd "$node"

mount --make-rprivate /
mount --bind "$run" "$run"
mount -o remount,bind,ro /
# Paths that are wired into the programs: shims listen in /run/containerd, the kubelet keeps sockets in /var/lib/kubelet and
# links to logs in /var/log/containers.
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mount --bind "$node/log" /var/log
# All that looks at it then believes in cgroup v2, and with containerd's disable_cgroup nobody needs a controller of it.
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# The kubelet sets these, and they are the whole machine's: it finds them as it wants them, and leaves them alone.
while read -r setting value; do
    echo "$value" >"$node/${setting##*/}"
    mount --bind "$node/${setting##*/}" "/proc/sys/$setting"
done <<'SETTINGS'
vm/overcommit_memory 1
kernel/panic 10
kernel/panic_on_oops 1
SETTINGS

containerd --config containerd.toml &
ctr() { command ctr --address "$node/containerd.sock" --namespace k8s.io "$@"; }
for _ in {1..300}; do
    if ctr version >/dev/null 2>&1; then break; fi
    sleep 0.1
done
while [ $# -gt 0 ]; do
    # Under the name with the digest too, as deploy/README.md has it.
    ctr images import --snapshotter native --base-name "${1%%:*}" --digests "$2"
    shift 2
done

"$kubelet" --config=kubelet.yaml --kubeconfig=kubeconfig --root-dir="$node/kubelet" --cert-dir="$node/kubelet/pki" \
    --hostname-override="$name" --v=2 &
wait -n
