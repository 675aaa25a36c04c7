#!/bin/sh
# Do the files here hold without the systems they are for? Needs root, mmdebstrap, systemd and python3-yaml (Debian), no
# container runtime and no cluster.
#   packaging/check.sh MODEL [FATHOM]
# - Dockerfile: a Debian root with the packages of its second stage and nothing else, FATHOM in it (built in a root made by
#   the first stage when none is given: many minutes), run by the user, command and health check that the file names;
# - fathom.yaml: the fields are those of the API, ports and probes agree with each other and with the program;
# - fathom@.service: systemd-analyze verify, and how exposed it leaves the service.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -lt 1 ] || [ ! -d "$1" ]; then
    echo "usage: packaging/check.sh MODEL [FATHOM]" >&2
    exit 2
fi
[ "$(id -u)" = 0 ] || { echo "packaging/check.sh: needs root, for chroot" >&2; exit 2; }
if [ -z "${FATHOM_CHECK_NS:-}" ]; then # mounts of its own, gone when it ends
    FATHOM_CHECK_NS=1 exec unshare -m -- sh "$0" "$@"
fi
for c in mmdebstrap systemd-analyze; do
    command -v $c > /dev/null || { echo "packaging/check.sh: needs $c" >&2; exit 2; }
done
model=$(cd "$1" && pwd)
binary=${2:-}
tmp=$(mktemp -d)
pid=""
trap '[ -z "$pid" ] || kill "$pid" 2> /dev/null || true; umount -l "$tmp"/*/proc 2> /dev/null || true; rm -rf --one-file-system "$tmp"' EXIT
die() { echo "FAILED: $*" >&2; exit 1; }
docker=$top/packaging/docker/Dockerfile
suite=$(sed -n 's/^FROM debian:\([a-z]*\)-slim$/\1/p' "$docker" | tail -n 1)
[ -n "$suite" ] || die "the Dockerfile names no Debian"
root() { # FOLDER PACKAGES
    set -- "$1" "$(echo "$2" | tr -s ' \n' ',')"
    mmdebstrap --quiet --variant=minbase ${2:+--include="$2"} "$suite" "$1"
    mount -t proc proc "$1/proc"
}

echo "== Dockerfile"
if [ -z "$binary" ]; then
    # shellcheck disable=SC2016
    want=$(sed -n 's/^build="\(.*\)"$/\1/p' "$top/tools/install-deps.sh")
    root "$tmp/build" "$want"
    mkdir "$tmp/build/src"
    git -C "$top" ls-files -z | (cd "$top" && xargs -0 tar cf -) | tar xf - -C "$tmp/build/src"
    steps=$(sed -n '/^ && cmake/,/^$/s/^ && //p' "$docker" | sed 's/ *\\$//' | paste -sd ';')
    [ -n "$steps" ] || die "the Dockerfile has no steps after the packages"
    chroot "$tmp/build" sh -c "set -e; cd /src; $(echo "$steps" | sed 's/;/; /g')"
    binary=$tmp/build/src/build/fathom
fi
packages=$(sed -n '/^FROM .*-slim$/,$p' "$docker" | sed -n '/apt-get install/,/&& rm/p' | sed 's/&& rm.*//; s/.*--no-install-recommends//; s/\\//g')
root "$tmp/run" "$packages"
install -m 755 "$binary" "$tmp/run/usr/bin/fathom"
cp -r "$model" "$tmp/run/model"
chmod -R a+rX "$tmp/run/model"
user=$(sed -n 's/^USER //p' "$docker")
in_root() { chroot --userspec="$user" "$tmp/run" env -i PATH=/usr/bin:/bin HOME=/tmp XDG_DATA_HOME=/tmp "$@"; }
missing=$(in_root ldd /usr/bin/fathom | grep 'not found' || true)
[ -z "$missing" ] || die "libraries that the image lacks: $missing"
args=$(sed -n 's/^CMD \[\(.*\)\]$/\1/p' "$docker" | tr -d '",')
# shellcheck disable=SC2086
in_root /usr/bin/fathom $args > "$tmp/log" 2> "$tmp/err" &
pid=$!
i=0
until grep -q 'is served at' "$tmp/err"; do
    kill -0 $pid 2> /dev/null || { cat "$tmp/err" >&2; pid=""; die "the program does not start in the image"; }
    i=$((i + 1))
    [ $i -lt 600 ] || die "the program does not start in a minute"
    sleep 0.1
done
health=$(sed -n 's/^ *CMD \["bash", "-c", "\(.*\)"\]$/\1/p' "$docker" | sed 's/\\\\/\\/g')
[ -n "$health" ] || die "the Dockerfile has no health check"
in_root bash -c "$health" || die "the health check says no of a server that runs"
child=$(tr -d ' ' < /proc/$pid/task/$pid/children)
kill -TERM "${child:-$pid}"
rc=0
wait $pid || rc=$?
pid=""
[ $rc = 0 ] || die "exit status $rc at SIGTERM"
! in_root bash -c "$health" 2> /dev/null || die "the health check says yes of a server that is gone"
du -sh --exclude=proc --exclude=model "$tmp/run" | sed 's/\t.*/ of root, model not counted/'

echo "== fathom.yaml"
python3 - "$top/packaging/kubernetes/fathom.yaml" <<'P'
import sys
import yaml

POD = "restartPolicy terminationGracePeriodSeconds automountServiceAccountToken securityContext containers volumes initContainers nodeSelector tolerations affinity"
CONTAINER = "name image imagePullPolicy command args env envFrom ports startupProbe livenessProbe readinessProbe lifecycle resources securityContext volumeMounts workingDir"
PROBE = "httpGet tcpSocket exec grpc initialDelaySeconds periodSeconds timeoutSeconds successThreshold failureThreshold terminationGracePeriodSeconds"
def keys(what, d, allowed, needed=""):
    assert set(d) <= set(allowed.split()), f"{what}: the API has no {set(d) - set(allowed.split())}"
    assert set(needed.split()) <= set(d), f"{what}: lacks {set(needed.split()) - set(d)}"

docs = {d["kind"]: d for d in yaml.safe_load_all(open(sys.argv[1]))}
dep, svc = docs["Deployment"], docs["Service"]
for d, version in ((dep, "apps/v1"), (svc, "v1")):
    keys(d["kind"], d, "apiVersion kind metadata spec", "apiVersion kind metadata spec")
    assert d["apiVersion"] == version
keys("spec", dep["spec"], "replicas selector strategy template minReadySeconds revisionHistoryLimit progressDeadlineSeconds", "selector template")
labels = dep["spec"]["template"]["metadata"]["labels"]
assert dep["spec"]["selector"]["matchLabels"].items() <= labels.items(), "the selector does not find the pods"
assert svc["spec"]["selector"].items() <= labels.items(), "the service does not find the pods"
keys("strategy", dep["spec"]["strategy"], "type rollingUpdate")
keys("rollingUpdate", dep["spec"]["strategy"]["rollingUpdate"], "maxUnavailable maxSurge")
pod = dep["spec"]["template"]["spec"]
keys("pod", pod, POD, "containers")
keys("pod.securityContext", pod["securityContext"], "runAsNonRoot runAsUser runAsGroup fsGroup seccompProfile supplementalGroups sysctls fsGroupChangePolicy")
for c in pod["containers"]:
    keys("container", c, CONTAINER, "name image ports startupProbe livenessProbe readinessProbe securityContext resources")
    ports = {p["name"]: p["containerPort"] for p in c["ports"]}
    for p in c["ports"]:
        keys("port", p, "name containerPort protocol hostPort hostIP", "containerPort")
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        keys(name, c[name], PROBE)
        keys(name + ".httpGet", c[name]["httpGet"], "path port host scheme httpHeaders", "path port")
        assert c[name]["httpGet"]["port"] in ports, f"{name}: no such port"
        assert c[name]["httpGet"]["path"] in ("/health", "/ready"), name
    assert c["readinessProbe"]["httpGet"]["path"] == "/ready"
    at = c["args"].index("--port")
    assert int(c["args"][at + 1]) in ports.values(), "the program listens elsewhere"
    assert all(isinstance(a, str) for a in c["args"]), "arguments must be texts"
    keys("container.securityContext", c["securityContext"], "allowPrivilegeEscalation readOnlyRootFilesystem capabilities privileged runAsUser runAsGroup runAsNonRoot seccompProfile procMount")
    assert c["securityContext"]["readOnlyRootFilesystem"] and not c["securityContext"]["allowPrivilegeEscalation"]
    mounts = {m["name"] for m in c["volumeMounts"]}
    assert mounts <= {v["name"] for v in pod["volumes"]}, "a mount without a volume"
    drain = int(c["args"][c["args"].index("--drain") + 1]) + int(c["lifecycle"]["preStop"]["exec"]["command"][1])
    assert drain < pod["terminationGracePeriodSeconds"], "killed before it has drained"
for p in svc["spec"]["ports"]:
    keys("service port", p, "name port targetPort protocol nodePort appProtocol", "port")
    assert p["targetPort"] in ports
print("the fields are those of the API, ports, probes, volumes and times agree")
P

echo "== fathom@.service"
install -D -m 755 "$binary" "$tmp/unit/usr/bin/fathom"
sed "s|/usr/bin/fathom|$tmp/unit/usr/bin/fathom|" "$top/packaging/systemd/fathom@.service" > "$tmp/fathom@check.service"
said=$(systemd-analyze verify --man=no "$tmp/fathom@check.service" 2>&1 | grep -F 'fathom@check' || true)
[ -z "$said" ] || die "$said"
echo "systemd-analyze verify has nothing to say"
echo ok
