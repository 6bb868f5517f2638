#!/bin/sh
# shellcheck disable=SC1091,SC2154,SC2086
# A PCI device goes and comes. Who looks through a host root of another name, in another network namespace, is told by the kernel.
. /payload/lib.sh
mkdir -p /tmp/host/sys /tmp/host/dev /tmp/other/sys/bus/pci/devices
mount --bind /sys /tmp/host/sys
mount --bind /dev /tmp/host/dev
watch() { # NAME COMMAND...
    n=$1
    shift
    "$@" >/tmp/watch.$n 2>&1 &
    pid=$!
    for _ in $(seq 2400); do
        grep -q ready /tmp/watch.$n && break
        usleep 50000
    done
}
now() {
    read u _ </proc/uptime
    echo "@ now $1 $u"
}
noticed() { # until the pod has been told of something new, or never will; then time enough for what must not come
    for _ in $(seq 1200); do
        [ "$(grep -c change /tmp/watch.pod)" -gt "$told" ] && break
        usleep 50000
    done
    usleep 2000000
    told=$(grep -c change /tmp/watch.pod)
}
watch other hotplug_watch /tmp/other
watch pod unshare -n hotplug_watch /tmp/host
now forge
nsenter -t $pid -n hotplug_watch --forge && echo "@ forged"
usleep 2000000
told=$(grep -c change /tmp/watch.pod)
now remove
echo 1 >$D/remove
noticed
now rescan
echo 1 >/sys/bus/pci/rescan
noticed
now end
for n in pod other; do sed "s/^/@ $n /" /tmp/watch.$n; done
