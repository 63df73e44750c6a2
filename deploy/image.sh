#!/usr/bin/env bash
# Makes a container image of a binary and the C library's files that it needs, and nothing else: no shell, no package manager.
#
#     deploy/image.sh BINARY REFERENCE OUT.tar
#
# OUT.tar is an OCI archive of one layer: `ctr -n k8s.io images import OUT.tar` takes it, and so do skopeo, crane and podman.
# It takes neither root nor a container engine. The same binary on the same system gives the same bytes, so the digest that it
# prints can be compared. For a dynamically linked binary, the image contains the C library of this system: make it again
# when that is updated.
set -euo pipefail
export LC_ALL=C
umask 022

fail() {
    printf 'error: %s\nhint:  %s\n' "$1" "$2" >&2
    exit 2
}

# Go's name of the architecture, from the machine number in the ELF header.
architecture() {
    [ "$(od -An -c -N4 "$1" | tr -d ' ')" = '177ELF' ] || fail "$1 is no program" 'build one: cargo build --release --locked'
    case $(od -An -tu2 -j18 -N2 "$1" | tr -d ' ') in
        62) echo amd64 ;;
        183) echo arm64 ;;
        *) fail "$1 is for a machine that is not known here" 'build it for x86-64 or for 64-bit ARM' ;;
    esac
}

# The files that the loader maps, the loader included, one a line; none for a static binary.
libraries() {
    local listed
    if ! listed=$(ldd "$1" 2>&1); then
        case $listed in
            *'not a dynamic executable'*) return ;;
            *) fail "ldd does not understand $1: $listed" 'make the image on a system like the one it was built for' ;;
        esac
    fi
    case $listed in
        *'not found'*) fail "a library that $1 needs is not here: $listed" 'make the image where the binary was built' ;;
    esac
    grep -o '/[^ ]*' <<<"$listed" || true
}

# A file in the layer, under the path that it has on this system, links followed.
add() {
    install -D -m "$1" "$2" "$work/layer$3"
}

archive() {
    tar --directory "$1" --create --file "$2" --format ustar --sort name --mtime @0 --owner 0 --group 0 --numeric-owner .
}

digest() {
    sha256sum <"$1" | cut -d ' ' -f 1
}

# Puts a file among the blobs, and prints how another one points to it.
blob() {
    cp "$2" "$work/image/blobs/sha256/$(digest "$2")"
    printf '"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%s' "$1" "$(digest "$2")" "$(stat -c %s "$2")"
}

[ $# -eq 3 ] || fail 'three arguments are needed' 'deploy/image.sh target/release/claviger localhost/claviger:0.1.0 claviger.tar'
binary=$1 reference=$2 out=$3
[ -f "$binary" ] && [ -r "$binary" ] || fail "$binary is no file that can be read" 'build it first: cargo build --release --locked'
# Without a host the kubelet would take it for an image of docker.io, and with a digest nobody could know it yet.
[[ $reference =~ ^(localhost|[a-z0-9-]+(\.[a-z0-9-]+)+|[a-z0-9.-]+:[0-9]+)(/[a-z0-9._-]+)+:[A-Za-z0-9_][A-Za-z0-9._-]*$ ]] ||
    fail "$reference is not HOST/NAME:TAG" 'for an image that is in no registry: localhost/claviger:0.1.0'
machine=$(architecture "$binary")
files=$(libraries "$binary")
name=$(basename "$binary")
[[ $name =~ ^[A-Za-z0-9._-]+$ ]] || fail "the name of $binary is not of letters, digits, dots, dashes" 'call it claviger'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The places where the static pod mounts the host's directories: the root file system is read-only there.
mkdir -p "$work/layer/run/claviger" "$work/layer/var/lib/claviger" "$work/image/blobs/sha256"
add 0755 "$binary" "/usr/local/bin/$name"
while read -r file; do
    [ -z "$file" ] || add 0755 "$file" "$file"
done <<<"$files"

archive "$work/layer" "$work/layer.tar"
printf '{"architecture":"%s","os":"linux","config":{"Env":["PATH=/usr/local/bin"],"Entrypoint":["/usr/local/bin/%s"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$machine" "$name" "$(digest "$work/layer.tar")" >"$work/config"
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{%s},"layers":[{%s}]}' \
    "$(blob config.v1+json "$work/config")" "$(blob layer.v1.tar "$work/layer.tar")" >"$work/manifest"
printf '{"schemaVersion":2,"manifests":[{%s,"annotations":{"io.containerd.image.name":"%s"}}]}' \
    "$(blob manifest.v1+json "$work/manifest")" "$reference" >"$work/image/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' >"$work/image/oci-layout"
archive "$work/image" "$work/out.tar"
# Into a name of its own first: what is there under the final name is whole.
cp "$work/out.tar" "$out.part" 2>/dev/null || fail "$out cannot be written" 'name a file in a directory that is there and yours'
mv "$out.part" "$out"
printf '%s@sha256:%s\n' "$reference" "$(digest "$work/manifest")"
