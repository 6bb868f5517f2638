#!/bin/sh
# shellcheck disable=SC1091,SC2154,SC2086,SC2046,SC2317
# ccnode-device as in the chart's container: with the capabilities of the kernel argument kt.caps alone, and with
# each of them taken away. One line of its answers per line, "worker NAME: {…}". The test is test_capabilities.py.
. /payload/lib.sh
mkdir -p /run /lib64
only() { # only CAPS COMMAND…
    list='-all'
    for c in $(echo "$1" | tr , ' '); do list="$list,+$c"; done
    shift
    /payload/setpriv --bounding-set="$list" "$@"
}
less() { echo ",$KT_caps," | sed "s/,$1,/,/; s/^,//; s/,\$//"; }
run() { # run NAME CAPS TARGET STEPS…
    name=$1 caps=$2 target=$3
    shift 3
    for step in "$@"; do echo "$step"; done | ASAN_OPTIONS=detect_leaks=0 only "$caps" /payload/ccnode-device "$target" 2>&1 |
        while IFS= read -r line; do echo "worker $name: $line"; done
}
bindv $G
bindv $W
# somebody else's process, as a virtual machine of another user: it holds the switch
/payload/setpriv --reuid 1000 --regid 1000 --clear-groups sleep 100000 3<>/dev/vfio/$(basename $(readlink /sys/bus/pci/devices/$W/iommu_group)) &
holder=$!
until [ "$(cat /proc/$holder/comm)" = sleep ]; do sleep 0.1; done # before that it is still root's
echo "worker holder: $holder"
each() { # each FUNCTION: with all, then without each
    "$1" all "$KT_caps"
    for cap in $(echo "$KT_caps" | tr , ' '); do "$1" "$cap" "$(less "$cap")"; done
}
mode=off
switch() {
    if [ $mode = on ]; then mode=off; else mode=on; fi
    run "$1" "$2" $G query unbind wake "stage $mode" "check-staged $mode" reset wait-boot "verify $mode" sleep "bind auto"
}
holders() { run "$1-holders" "$2" node holders; }
module() {
    modprobe -r vfio-pci
    run "$1-module" "$2" node "load-module vfio-pci"
    modprobe vfio-pci
}
each holders
kill $holder
each switch
# the rest of what a worker may have to do is tried with all of them
run all-rest "$KT_caps" $G "reset sbr" wait-boot remove
run all-rest "$KT_caps" node rescan
run all-rest "$KT_caps" $G "bind auto" query
each module
bindv $G
echo integrity >/sys/kernel/security/lockdown
switch all-lockdown "$KT_caps"
exit 0
